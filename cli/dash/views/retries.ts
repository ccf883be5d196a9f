/** The view of jobs that will be retried: one row each, on a common time axis that starts now. */
import { shortDuration } from '../../time.ts';
import type { JobItem, State } from '../state.ts';
import {
  blank,
  type Column,
  dayTime,
  emptyLine,
  filled,
  type Line,
  line,
  margin,
  rule,
  type Span,
  span,
  table,
  until,
  windowOf,
} from '../text.ts';
import { shortId } from './jobs.ts';

const minuteMs = 60_000;
const spans: readonly number[] = [1, 2, 5, 10, 30, 60, 120, 360, 720, 1_440, 2_880, 10_080, 43_200].map((minutes) => minutes * minuteMs);

export function retries(state: State, wide: number, high: number): readonly Line[] {
  const { retries: items } = state.data;
  const { now, rowsDown } = state;
  if (items.length === 0) return [blank, emptyLine(state, 'no jobs are waiting for a retry')];
  const foot = high >= 10 ? 4 : 0;
  const { from, to } = windowOf(items.length, rowsDown.retries, Math.max(1, high - 1 - foot));
  const shown = items.slice(from, to);
  const spanMs = axisOf(shown, now);
  const axisWide = Math.max(0, wide - (wide >= 60 ? 51 : 36) + (wide >= 60 ? 4 : 0));
  const columns: Column<JobItem>[] = [
    { title: 'task', minWidth: 18, maxWidth: wide >= 120 ? 32 : 18, cut: 'middle', cell: ({ task }) => span(task) },
    { title: 'job', drop: 2, cell: ({ id }) => span(shortId(id), 'dim') },
    {
      title: 'tries',
      align: 'right',
      cell: ({ attempts, maxAttempts }) => span(`${attempts}/${maxAttempts}`, attempts + 1 >= maxAttempts ? 'bad' : 'dim'),
    },
    { title: 'in', align: 'right', minWidth: 6, cell: ({ dueAt }) => span(until(dueAt, now), 'warn') },
    { title: axisTitle(spanMs, axisWide), maxWidth: 400, drop: 1, cell: () => span('─'.repeat(axisWide)) },
  ];
  const { head, rows } = table(columns, shown, wide, ({ id }, i) =>
    margin(i + from === rowsDown.retries, state.selected.has(id) ? span('◆', 'key') : undefined),
  );
  const drawn = rows.map((row, i) => withAxis(row, shown[i] as JobItem, now, spanMs, axisWide));
  const chosen = items[rowsDown.retries];
  return [head, ...drawn, ...(foot > 0 && chosen ? [rule(wide), ...chosenLines(chosen, state, wide)] : [])];
}

/** The length of the time axis, which covers the latest next attempt. */
function axisOf(items: readonly JobItem[], now: number): number {
  const furthest = Math.max(0, ...items.map(({ dueAt }) => dueAt - now));
  return spans.find((ms) => ms >= furthest) ?? Math.max(furthest, 1);
}

function axisTitle(spanMs: number, wide: number): string {
  if (wide < 8) return '';
  const right = `+${shortDuration(spanMs).replace(/(?:00[ms]|00h)$/, '')}`;
  const middle = `+${shortDuration(spanMs / 2).replace(/(?:00[ms]|00h)$/, '')}`;
  const half = Math.floor(wide / 2);
  const left = 'now'.padEnd(Math.max(4, half));
  return wide < 24 ? `now${right.padStart(wide - 3)}` : `${left}${middle}`.padEnd(wide - right.length) + right;
}

/** Marks the next attempt on the axis, and the later ones if each fails. */
function withAxis(row: Line, job: JobItem, now: number, spanMs: number, wide: number): Line {
  const last = row.spans.findLast(({ text }) => text.includes('──'));
  if (!last || wide < 8) return row;
  const cells: Span[] = Array.from({ length: wide }, () => span('─', 'rule'));
  const put = (at: number, one: Span) => {
    const place = Math.floor((Math.max(0, at - now) / spanMs) * (wide - 1));
    if (place < wide) cells[place] = one;
  };
  let at = job.dueAt;
  for (const [i, ms] of (job.waits ?? []).entries()) {
    at += ms;
    if (at - now > spanMs) break;
    const isLast = i === (job.waits?.length ?? 0) - 1;
    put(at, isLast ? span('✗', 'bad') : span('·', 'warn'));
  }
  put(job.dueAt, span('↻', 'warn'));
  return { ...row, spans: row.spans.flatMap((one) => (one === last ? [span('  '), ...merged(cells)] : [one])) };
}

function merged(cells: readonly Span[]): Span[] {
  const joined: Span[] = [];
  for (const cell of cells) {
    const before = joined.at(-1);
    if (before && before.role === cell.role) joined[joined.length - 1] = { ...before, text: before.text + cell.text };
    else joined.push(cell);
  }
  return joined;
}

function chosenLines(job: JobItem, { now, zone }: State, wide: number): readonly Line[] {
  const waits = job.waits ?? [];
  const lastAt = job.dueAt + waits.reduce((sum, ms) => sum + ms, 0);
  const gone = waits.length === 0 ? 'the next attempt is the last' : `last attempt by ${dayTime(lastAt, now, zone)}, if all fail`;
  return [
    filled(line('   ', span(job.error ?? job.reason ?? 'no error recorded', 'bad')), wide),
    filled(
      line(
        '   ',
        span(
          `next attempt ${dayTime(job.dueAt, now, zone)}   ${job.attempts} of ${job.maxAttempts} used   ${job.waits === null ? '' : gone}`,
          'dim',
        ),
      ),
      wide,
    ),
  ];
}
