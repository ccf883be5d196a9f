/** One job: what was asked, what happened on every attempt, what comes next? */

import { plural } from '../../format.ts';
import { exactDuration, shortDuration } from '../../time.ts';
import { shownTries } from '../select.ts';
import type { JobDetail, State, Try } from '../state.ts';
import { blank, clockTime, dayTime, ends, filled, type Line, line, rule, type Span, since, span, statusSpan, until } from '../text.ts';
import { marks, type Role } from '../theme.ts';
import { shortId } from './jobs.ts';

export function job(state: State, wide: number, high: number): readonly Line[] {
  const { job: detail } = state.data;
  const id = state.jobId === null ? '' : shortId(state.jobId);
  if (!detail) return [blank, line(span(`   job ${id} is being read`, 'dim'))];
  if (detail === 'gone') return [blank, line(span(`   job ${id} is not there: deleted, pruned, or not enqueued yet`, 'dim'))];
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
  return [
    ends(
      [span(' '), statusSpan(status, ''), span(' '), span(task, 'strong'), span(`  #${wide >= 100 ? id : shortId(id)}`, 'dim')],
      [span(`${status}  `, marks[status].role), span(`attempt ${attempts} of ${maxAttempts} `)],
      wide,
    ),
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

function bodyLines(detail: JobDetail, state: State, wide: number): Line[] {
  const lines: Line[] = [...block('input', detail.input, wide)];
  if (detail.returned) lines.push(...block('returned', detail.returned, wide));
  if (detail.progress !== null) lines.push(titled('progress', [span(detail.progress, 'busy')], wide));
  if (detail.reason !== null) lines.push(titled('reason', [span(detail.reason, 'warn')], wide));
  lines.push(rule(wide));
  if (detail.tries.length === 0) lines.push(line(span('   no attempt yet', 'dim')));
  for (const one of shownTries(detail, state.stacks)) lines.push(...tryLines(one, state, wide));
  lines.push(...nextLines(detail, state, wide));
  if (detail.log.length > 0) {
    lines.push(rule(wide));
    detail.log.forEach(({ at, level, text }, i) => {
      lines.push(
        titled(
          i === 0 ? 'log' : '',
          [span(`${clockTime(at, state.zone)}  `, 'dim'), span(text, level === 'error' ? 'bad' : level === 'warn' ? 'warn' : 'text')],
          wide,
        ),
      );
    });
  }
  return lines;
}

const titleWide = 10;

function titled(title: string, spans: readonly Span[], wide: number): Line {
  return filled(line(span(` ${title.padEnd(titleWide)}`, 'dim'), ...spans), wide);
}

function block(title: string, texts: readonly string[], wide: number): Line[] {
  return texts.map((text, i) => titled(i === 0 ? title : '', jsonSpans(text), wide));
}

/** A line of JSON: its key apart from its value. */
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

function tryLines({ attempt, worker, startedAt, endedAt, outcome, error, frames }: Try, { now, zone }: State, wide: number): Line[] {
  const { glyph, role } = outcomeMarks[outcome] ?? { glyph: '·', role: 'dim' };
  const took = shortDuration((endedAt ?? now) - startedAt);
  const left = [
    span(`   ${String(attempt).padStart(3)}  `),
    span(worker.slice(-12).padEnd(worker.length > 4 ? 13 : 5), 'dim'),
    span(dayTime(startedAt, now, zone).padEnd(10), 'dim'),
    span(took.padStart(6)),
    span(`  ${glyph} `, role),
    span(outcome === 'failed' ? '' : `${outcome}  `, role),
  ];
  return [
    filled(line(...left, span(error ?? '', role)), wide),
    ...frames.map((text) => filled(line(span(`${' '.repeat(9)}${text}`, 'dim')), wide)),
  ];
}

/** What comes next, and the waits after it if that fails too. */
function nextLines(detail: JobDetail, { now, zone }: State, wide: number): Line[] {
  const { status, attempts, maxAttempts, dueAt, waits } = detail;
  if (status !== 'retrying' && status !== 'scheduled' && status !== 'ready') return [];
  const when = status === 'ready' ? 'ready, waits for a worker' : `in ${until(dueAt, now)}  (${dayTime(dueAt, now, zone)})`;
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

/** To the second, from a second on. */
function roundMs(ms: number): number {
  return ms < 1_000 ? ms : Math.round(ms / 1_000) * 1_000;
}
