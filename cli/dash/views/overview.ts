/** The overview: warnings, queues, upcoming jobs and latest failures. */
import { bars, count, padEnd, plural, shorten, width } from '../../format.ts';
import type { Coming, Failure, QueueItem, State } from '../state.ts';
import {
  blank,
  type Column,
  dayTime,
  emptyLine,
  ends,
  filled,
  type Line,
  line,
  margin,
  number,
  type Span,
  since,
  span,
  table,
  until,
  widthOf,
  windowOf,
} from '../text.ts';
import { marks } from '../theme.ts';

export function overview(state: State, wide: number, high: number): readonly Line[] {
  const { queues } = state.data;
  if (queues.length === 0) return [blank, emptyLine(state, 'no jobs yet'), blank, ...belowLines(state, wide, Math.max(1, high - 3))];
  const warnings = [...unknownLines(state, wide), ...fullLines(state, wide)].slice(0, high >= 12 ? 3 : 0);
  const below = high >= 12 ? Math.max(6, Math.min(high - queues.length - warnings.length - 4, Math.floor(high / 2))) : 0;
  return [
    ...queueLines(state, wide, high - below - warnings.length),
    ...warnings,
    ...(below > 0 ? [blank, ...belowLines(state, wide, below - 1)] : []),
  ];
}

/** Jobs that no worker can run: a deployment may be missing. */
function unknownLines({ data }: State, wide: number): readonly Line[] {
  return data.unknown.map(({ task, jobs }) =>
    filled(line(span(` ⚠ no live worker can run ${task}: ${plural(jobs, 'ready job')}`, 'warn')), wide),
  );
}

/** Keys whose limits are full. Only their jobs wait. */
function fullLines({ data }: State, wide: number): readonly Line[] {
  if (data.full.length === 0) return [];
  return [filled(line(span(shorten(` at their limit: ${data.full.join(', ')}`, wide - 1), 'dim')), wide)];
}

function queueLines(state: State, wide: number, high: number): readonly Line[] {
  const { now, data, rowsDown } = state;
  const minutes = wide >= 104 ? 30 : wide >= 90 ? 15 : wide >= 78 ? 10 : 0;
  const max = Math.max(1, ...data.queues.flatMap((queue) => queue.minutes));
  const columns: Column<QueueItem>[] = [
    { title: 'queue', maxWidth: wide >= 120 ? 32 : 16, cut: 'middle', cell: ({ name }) => span(name) },
    { title: 'ready', align: 'right', minWidth: 5, cell: ({ counts }) => number(counts.ready, 'accent') },
    { title: 'running', align: 'right', minWidth: 7, cell: running },
    { title: 'sched', align: 'right', minWidth: 5, drop: 3, cell: ({ counts }) => number(counts.scheduled + counts.waiting) },
    { title: 'retry', align: 'right', minWidth: 5, cell: ({ counts }) => number(counts.retrying, 'warn') },
    { title: 'failed', align: 'right', minWidth: 6, cell: ({ counts }) => number(counts.failed, 'bad') },
    { title: 'done', align: 'right', minWidth: 6, drop: wide >= 100 ? 4 : 9, cell: ({ counts }) => number(counts.successful, 'good') },
    {
      title: 'oldest',
      align: 'right',
      minWidth: 6,
      drop: 2,
      cell: ({ oldestReadyAt }) => (oldestReadyAt === null ? span('·', 'dim') : span(since(oldestReadyAt, now))),
    },
    { title: 'per min', align: 'right', minWidth: 7, drop: 5, cell: ({ perMinute }) => number(perMinute) },
    ...(minutes === 0
      ? []
      : [
          {
            title: `last ${minutes} min`,
            drop: 6,
            minWidth: minutes,
            cell: (queue: QueueItem) => span(bars(queue.minutes.slice(-minutes), max), 'busy'),
          },
        ]),
  ];
  const { from, to } = windowOf(data.queues.length, rowsDown.overview, Math.max(1, high - 1));
  const { head, rows } = table(columns, data.queues, wide, ({ paused }, i) =>
    margin(i === rowsDown.overview, paused ? span(marks.paused.glyph, marks.paused.role) : undefined),
  );
  return [head, ...rows.slice(from, to)];
}

function running({ counts, slots }: QueueItem): Span {
  if (slots === null) return counts.running === 0 ? span('·', 'dim') : span(String(counts.running), 'busy');
  return span(`${counts.running}/${slots}`, counts.running > 0 ? 'busy' : 'dim');
}

function belowLines(state: State, wide: number, high: number): readonly Line[] {
  const half = Math.floor((wide - 2) * (wide >= 100 ? 0.5 : 0.4));
  const next = comingLines(state, half, high);
  const failures = failureLines(state, wide - half - 2, high);
  return Array.from({ length: Math.max(next.length, failures.length) }, (_, i) => {
    const left = filled(next[i] ?? blank, half);
    return { spans: [...left.spans, span('  '), ...(failures[i] ?? blank).spans] };
  });
}

function comingLines(state: State, wide: number, high: number): readonly Line[] {
  const { coming } = state.data;
  const title = line(span(' Next', 'strong'));
  if (coming.length === 0) return [title, emptyLine(state, 'nothing scheduled')];
  const shown = coming.slice(0, high - 1);
  // A narrow screen shows only the time until then.
  const texts = shown.map((one) => (state.columns >= 100 ? `${dayTime(one.at, state.now, state.zone)} ` : ''));
  const longest = Math.max(...texts.map((text) => text.length));
  return [title, ...shown.map((one, i) => comingLine(one, (texts[i] ?? '').padEnd(longest), state.now, wide))];
}

/** Keeps the time until then visible: drops the note first, then cuts the name. */
function comingLine({ at, status, name, note }: Coming, when: string, now: number, wide: number): Line {
  const { glyph, role } = marks[status];
  const left = [span(`   ${when}`, 'dim'), span(`${glyph} `, role)];
  const right = span(`${until(at, now)} `.padStart(8), 'calm');
  const room = Math.max(1, wide - widthOf([...left, right]) - 1);
  const text =
    name.length + note.length + 2 <= room
      ? [span(name), span(note === '' ? '' : `  ${note}`, 'dim')]
      : [span(shorten(name, room, 'middle'))];
  return ends([...left, ...text], [right], wide);
}

function failureLines(state: State, wide: number, high: number): readonly Line[] {
  const { failures } = state.data;
  const title = line(span(' Latest failures', 'strong'));
  if (failures.length === 0) return [title, emptyLine(state, 'none')];
  const shown = failures.slice(0, high - 1);
  const longest = Math.min(wide >= 60 ? 24 : 15, Math.max(...shown.map(({ task }) => width(task))));
  const texts = shown.map((job) => dayTime(job.finishedAt ?? job.lastAttemptedAt ?? job.enqueuedAt, state.now, state.zone));
  const day = Math.max(...texts.map((text) => text.length));
  return [title, ...shown.map((job, i) => failureLine(job, (texts[i] ?? '').padEnd(day), longest, state, wide))];
}

function failureLine(job: Failure, when: string, taskWide: number, { now, zone }: State, wide: number): Line {
  const { glyph, role } = marks[job.status];
  const left = [
    span(`   ${when}`, 'dim'),
    span(` ${glyph} `, role),
    span(padEnd(shorten(job.task, taskWide, 'middle'), taskWide)),
    span('  '),
  ];
  const retryText = job.status === 'retrying' && wide >= 60 ? ` → ${dayTime(job.dueAt, now, zone)} ` : '';
  const times = job.times === 1 ? '' : ` ×${count(job.times)}`;
  const room = Math.max(1, wide - widthOf(left) - times.length - retryText.length);
  const error = job.error ?? job.reason ?? '';
  // Drop the error's class on narrow screens.
  const text = wide >= 60 ? error : error.replace(/^\w*Error: /, '');
  return filled({ spans: [...left, span(shorten(text, room), 'calm'), span(times, 'strong'), span(retryText, 'warn')] }, wide);
}
