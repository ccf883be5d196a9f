/** The view of a job: its input, its attempts, and what happens next. */

import { plural, shorten, width } from '../../format.ts';
import { exactDuration, shortDuration } from '../../time.ts';
import type { Attempt, JobDetail, State } from '../state.ts';
import {
  blank,
  dayClockTime,
  dayTime,
  ends,
  filled,
  folded,
  type Line,
  line,
  rule,
  type Span,
  since,
  span,
  statusSpan,
  until,
  widthOf,
} from '../text.ts';
import { marks, type Role } from '../theme.ts';
import { shortId } from './jobs.ts';

export function job(state: State, wide: number, high: number): readonly Line[] {
  const { job: detail } = state.data;
  const id = state.jobId === null ? '' : shortId(state.jobId);
  if (!detail) return [blank, line(span(`   loading job ${id}`, 'dim'))];
  if (detail === 'gone') return [blank, line(span(`   job ${id} not found: deleted, pruned, or not enqueued yet`, 'dim'))];
  const head = headLines(detail, state, wide);
  const body = bodyLines(detail, state, wide);
  const room = Math.max(1, high - head.length);
  const from = Math.min(state.rowsDown.job, Math.max(0, body.length - room));
  const shown = body.slice(from, from + room);
  const left = body.length - from - room;
  if (left > 0 && shown.length > 1) shown[shown.length - 1] = line(span(`   ↓ ${plural(left + 1, 'more line')}`, 'dim'));
  return [...head, ...shown];
}

function headLines(detail: JobDetail, { now }: State, wide: number): readonly Line[] {
  const { status, task, id, attempts, maxAttempts, queue, priority, tags, schedule } = detail;
  const facts = [
    `queue ${queue}`,
    `priority ${priority}`,
    ...(tags.length > 0 ? [`tags ${tags.join(', ')}`] : []),
    ...(schedule === null ? [] : [`schedule ${schedule}`]),
  ];
  const left = [span(' '), statusSpan(status, ''), span(' ')];
  const number = span(`  #${wide >= 100 ? id : shortId(id)}`, 'dim');
  const right = [span(`${status}  `, marks[status].role), span(`attempt ${attempts} of ${maxAttempts} `)];
  // The name is cut first.
  const room = wide - widthOf([...left, number, ...right]) - 1;
  return [
    ends([...left, span(shorten(task, Math.max(8, room), 'middle'), 'strong'), number], right, wide),
    filled(
      line(
        '   ',
        span(facts.join('   '), 'dim'),
        span(`   enqueued ${since(detail.enqueuedAt, now)} ago`.replace('now ago', 'now'), 'dim'),
      ),
      wide,
    ),
    rule(wide),
  ];
}

/** The lines below the header: status, input, and every attempt. */
export function bodyLines(detail: JobDetail, state: State, wide: number): Line[] {
  const { now, zone, stacks } = state;
  const lines: Line[] = [];
  if (detail.status !== 'successful' && detail.fault.length > 0) lines.push(...block('error', detail.fault, stacks, wide, faultSpans));
  if (detail.reason !== null) lines.push(...block('reason', [detail.reason], stacks, wide, (text) => [span(text, 'warn')]));
  if (detail.progress !== null) lines.push(titled('progress', [span(detail.progress, 'busy')], wide));
  for (const [title, text] of detail.facts) lines.push(titled(title, [span(text)], wide));
  if (lines.length > 0) lines.push(rule(wide));
  lines.push(...block('input', detail.input, stacks, wide, jsonSpans));
  if (detail.returned) lines.push(...block('returned', detail.returned, stacks, wide, jsonSpans));
  lines.push(rule(wide));
  if (detail.history.length === 0) lines.push(line(span('   no attempt yet', 'dim')));
  for (const one of shownAttempts(detail, stacks)) lines.push(...attemptLines(one, state, wide));
  lines.push(...nextLines(detail, state, wide));
  if (detail.steps.length > 0) lines.push(rule(wide), ...stepLines(detail, state, wide));
  if (detail.log.length > 0) {
    lines.push(rule(wide));
    const times = detail.log.map(({ at }) => dayClockTime(at, now, zone));
    const longest = Math.max(...times.map((text) => text.length));
    detail.log.forEach(({ level, text }, i) => {
      const role = level === 'error' ? 'bad' : level === 'warn' ? 'warn' : 'text';
      const when = (times[i] ?? '').padEnd(longest);
      const pieces = stacks ? folded(text, wide - titleWide - longest - 4) : [text];
      pieces.forEach((piece, p) => {
        const before = p === 0 ? when : ' '.repeat(longest);
        lines.push(titled(i === 0 && p === 0 ? 'log' : '', [span(`${before}  `, 'dim'), span(piece, role)], wide));
      });
    });
  }
  if (detail.tree.length > 0) lines.push(rule(wide), ...treeLines(detail, stacks, wide));
  return lines;
}

/** Its recorded steps, oldest first. */
function stepLines({ steps }: JobDetail, { now, zone }: State, wide: number): Line[] {
  const times = steps.map(({ at }) => dayClockTime(at, now, zone));
  const longest = Math.max(...times.map((text) => text.length));
  return steps.map(({ name, text }, i) =>
    titled(i === 0 ? 'steps' : '', [span(`${(times[i] ?? '').padEnd(longest)}  `, 'dim'), span(name), span(`  ${text}`, 'dim')], wide),
  );
}

/** The tree of jobs: the lines around the job's own if collapsed, all of them if expanded. */
function treeLines({ tree }: JobDetail, open: boolean, wide: number): Line[] {
  const own = Math.max(
    0,
    tree.findIndex(({ isThis }) => isThis),
  );
  const from = open ? 0 : Math.max(0, Math.min(own - 2, tree.length - foldedLines));
  const shown = open ? tree : tree.slice(from, from + foldedLines);
  const lines = shown.map(({ lead, text, status, isThis }, i) =>
    titled(
      i === 0 ? 'jobs' : '',
      [
        span(lead, 'dim'),
        ...(status === null ? [] : [span(`${marks[status].glyph} `, marks[status].role)]),
        span(text, isThis ? 'strong' : 'text'),
      ],
      wide,
    ),
  );
  const more = tree.length - shown.length;
  return more === 0 ? lines : [...lines, titled('', [span(`▸ ${plural(more, 'more line')}, ⏎ expands`, 'dim')], wide)];
}

/** The attempts whose stacks are expanded. */
function shownAttempts({ history }: JobDetail, stacks: boolean): readonly Attempt[] {
  const last = history.findLastIndex(({ error }) => error !== null);
  return stacks ? history : history.map((one, i) => (i === last || one.frames.length === 0 ? one : { ...one, frames: [] }));
}

const titleWide = 10;

function titled(title: string, spans: readonly Span[], wide: number): Line {
  return filled(line(span(` ${title.padEnd(titleWide)}`, 'dim'), ...spans), wide);
}

/** The number of lines of an error or of JSON that are shown when collapsed. */
const foldedLines = 6;

/** All lines if expanded or short; otherwise the first lines and the number of the others. */
function block(title: string, texts: readonly string[], open: boolean, wide: number, spansOf: (text: string) => Span[]): Line[] {
  const pieces = texts.flatMap((text) => folded(text, wide - titleWide - 2));
  const shown = open || pieces.length <= foldedLines ? pieces : pieces.slice(0, foldedLines - 1);
  const lines = shown.map((text, i) => titled(i === 0 ? title : '', spansOf(text), wide));
  const more = pieces.length - shown.length;
  return more === 0 ? lines : [...lines, titled('', [span(`▸ ${plural(more, 'more line')}, ⏎ expands`, 'dim')], wide)];
}

function faultSpans(text: string): Span[] {
  return [span(text, 'bad')];
}

/** A line of JSON, with different styles for key and value. */
function jsonSpans(text: string): Span[] {
  const [, indent = '', key, value = ''] = /^(\s*)("(?:[^"\\]|\\.)*"):\s?(.*)$/.exec(text) ?? [];
  return key === undefined ? [span(text)] : [span(indent), span(key.slice(1, -1), 'dim'), span('  '), span(value)];
}

const outcomeMarks: Readonly<Record<string, { readonly glyph: string; readonly role: Role }>> = {
  successful: marks.successful,
  failed: marks.failed,
  cancelled: marks.cancelled,
  snoozed: marks.snoozed,
  running: marks.running,
  lost: { glyph: '✗', role: 'bad' },
  released: { glyph: '↩', role: 'calm' },
};

function attemptLines(one: Attempt, { now, zone, stacks }: State, wide: number): Line[] {
  const { attempt, worker, startedAt, endedAt, outcome, error, frames } = one;
  const { glyph, role } = outcomeMarks[outcome] ?? { glyph: '·', role: 'dim' };
  const took = shortDuration((endedAt ?? now) - startedAt);
  const left = [
    span(`   ${String(attempt).padStart(3)}  `),
    span(worker.slice(-12).padEnd(worker.length > 4 ? 13 : 5), 'dim'),
    span(dayClockTime(startedAt, now, zone).padEnd(10), 'dim'),
    span(took.padStart(6)),
    span(`  ${glyph} `, role),
    span(outcome === 'failed' ? '' : `${outcome}  `, role),
  ];
  const under = ' '.repeat(9);
  const whole = stacks && error !== null && width(error) > wide - widthOf(left);
  return [
    filled(line(...left, span(error ?? '', role)), wide),
    ...(whole ? folded(error, wide - under.length).map((text) => filled(line(span(under), span(text, role)), wide)) : []),
    ...frames.flatMap((text) => {
      const place = text.startsWith('at ') || text.startsWith('▸');
      const pieces = stacks ? folded(text, wide - under.length) : [text];
      return pieces.map((piece) => filled(line(span(under), span(piece, place ? 'dim' : 'bad')), wide));
    }),
  ];
}

/** The next attempt, and the delays after it if it fails too. */
function nextLines(detail: JobDetail, { now, zone }: State, wide: number): Line[] {
  const { status, attempts, maxAttempts, dueAt, waits } = detail;
  if (status !== 'retrying' && status !== 'scheduled' && status !== 'ready') return [];
  const when = status === 'ready' ? 'ready, waiting for a worker' : `in ${until(dueAt, now)}  (${dayTime(dueAt, now, zone)})`;
  const spans = [span(`   ${String(attempts + 1).padStart(3)}  `), span(`${marks[status].glyph} ${when}`, marks[status].role)];
  if (maxAttempts === attempts + 1) spans.push(span('   the last attempt', 'warn'));
  const lines = [filled(line(...spans), wide)];
  if (waits && waits.length > 0) {
    const shown = waits.slice(0, 12).map((ms) => exactDuration(roundMs(ms)));
    const text = `${shown.join(' ▸ ')}${waits.length > 12 ? ` ▸ … ${waits.length - 12} more` : ''}`;
    lines.push(filled(line(span(`        backoff, if it fails again: `, 'dim'), span(text), span(' ▸ failed', 'bad')), wide));
  }
  return lines;
}

/** Whole seconds from one second up. */
function roundMs(ms: number): number {
  return ms < 1_000 ? ms : Math.round(ms / 1_000) * 1_000;
}
