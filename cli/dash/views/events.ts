/** The view of events, latest first. */
import { plural } from '../../format.ts';
import { shownEvents } from '../select.ts';
import type { EventItem, State } from '../state.ts';
import { blank, type Column, dayTime, emptyLine, filled, type Line, line, margin, type Span, span, table, windowOf } from '../text.ts';
import { type Mark, marks } from '../theme.ts';
import { shortId } from './jobs.ts';

const eventMarks: Readonly<Record<string, Mark>> = {
  enqueued: marks.ready,
  scheduled: marks.scheduled,
  started: marks.running,
  successful: marks.successful,
  retrying: marks.retrying,
  failed: marks.failed,
  cancelled: marks.cancelled,
  deleted: marks.cancelled,
  requeued: marks.ready,
  snoozed: marks.snoozed,
  orphaned: { glyph: '✗', role: 'bad' },
  discarded: { glyph: '✗', role: 'warn' },
  storeFailing: { glyph: '✗', role: 'bad' },
  printed: { glyph: '›', role: 'calm' },
  logged: { glyph: '›', role: 'calm' },
  skipped: { glyph: '⊘', role: 'warn' },
};

export function events(state: State, wide: number, high: number): readonly Line[] {
  const items = shownEvents(state);
  const head =
    high >= 5
      ? [
          filled(
            line(
              '   ',
              span(state.eventText === '' ? 'no filter' : `/ ${state.eventText}`, state.eventText === '' ? 'dim' : 'strong'),
              span(`   ${plural(items.length, 'event')}`, 'dim'),
            ),
            wide,
          ),
        ]
      : [];
  if (items.length === 0) {
    const none = state.eventText.trim() === '' ? 'no events yet' : 'no matching events';
    return [...head, blank, emptyLine(state, none)];
  }
  const { from, to } = windowOf(items.length, state.rowsDown.events, Math.max(1, high - 1 - head.length));
  const shown = items.slice(from, to);
  const columns: Column<EventItem>[] = [
    { title: 'when', cell: ({ at }) => span(dayTime(at, state.now, state.zone), 'dim') },
    { title: 'what', minWidth: 12, cell: ({ type }) => typeSpan(type) },
    { title: 'task', minWidth: 16, maxWidth: wide >= 120 ? 32 : 18, cut: 'middle', cell: ({ task }) => span(task) },
    { title: 'job', minWidth: 7, drop: 3, cell: ({ job }) => span(job === '' ? '' : shortId(job), 'dim') },
    { title: 'worker', maxWidth: 16, minWidth: 6, cut: 'middle', drop: 4, cell: ({ worker }) => span(worker, 'dim') },
    { title: '', grows: true, drop: 2, cell: ({ type, text }) => span(text, type === 'failed' || type === 'retrying' ? 'bad' : 'calm') },
  ];
  const { head: titles, rows } = table(columns, shown, wide, (_, i) => margin(i + from === state.rowsDown.events));
  return [...head, titles, ...rows];
}

function typeSpan(type: string): Span {
  const { glyph, role } = eventMarks[type] ?? { glyph: '·', role: 'dim' };
  return span(`${glyph} ${type}`, role);
}
