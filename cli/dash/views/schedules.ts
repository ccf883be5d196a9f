/** The view of schedules: the rule, the zone, the next occurrence and the last job. */
import { plural } from '../../format.ts';
import { instantText, shortDuration, wallTime } from '../../time.ts';
import type { ScheduleItem, State } from '../state.ts';
import {
  blank,
  type Column,
  emptyLine,
  filled,
  type Line,
  line,
  margin,
  rule,
  type Span,
  since,
  span,
  table,
  until,
  windowOf,
} from '../text.ts';
import { marks } from '../theme.ts';

export function schedules(state: State, wide: number, high: number): readonly Line[] {
  const { schedules: items } = state.data;
  const { now, rowsDown } = state;
  if (items.length === 0) return [blank, emptyLine(state, 'no schedules are defined')];
  const foot = high >= 10 ? 4 : 0;
  const columns: Column<ScheduleItem>[] = [
    { title: 'schedule', maxWidth: wide >= 110 ? 32 : 16, cut: 'middle', cell: ({ name }) => span(name) },
    { title: 'when', grows: true, drop: 3, cell: ({ words }) => span(wordsShort(words), 'calm') },
    { title: 'zone', drop: wide >= 110 ? 2 : 9, maxWidth: 20, cell: ({ zone }) => span(zone, 'dim') },
    { title: 'next in', align: 'right', minWidth: 7, cell: (one) => nextSpan(one, now) },
    { title: 'last', minWidth: 8, drop: 4, cell: (one) => lastSpan(one, now) },
    { title: '0     6     12    18    ', drop: 5, cell: ({ hours }) => span('─'.repeat(hours.length)) },
  ];
  const { head, rows } = table(columns, items, wide, ({ state: standing }, i) =>
    margin(
      i === rowsDown.schedules,
      standing === 'paused' ? span(marks.paused.glyph, 'warn') : standing === 'held' ? span(marks.waiting.glyph, 'warn') : undefined,
    ),
  );
  const { from, to } = windowOf(items.length, rowsDown.schedules, Math.max(1, high - 1 - foot));
  const drawn = rows.map((row, i) => withStrip(row, items[i] as ScheduleItem)).slice(from, to);
  const chosen = items[rowsDown.schedules];
  return [head, ...drawn, ...(foot > 0 && chosen ? [rule(wide), ...chosenLines(chosen, state, wide)] : [])];
}

/** The description without the zone, which has a separate column. */
function wordsShort(words: string): string {
  return words.replace(/ \([A-Za-z]+(?:\/[\w/+-]+)?\)$/, '');
}

function nextSpan({ state, nextAt, clocks }: ScheduleItem, now: number): Span {
  if (state !== 'active') return span(state, state === 'ended' ? 'dim' : 'warn');
  return span(`${clocks === null ? '' : '⚠ '}${nextAt === null ? '' : until(nextAt, now)}`, clocks === null ? 'text' : 'warn');
}

function lastSpan({ last }: ScheduleItem, now: number): Span {
  if (!last) return span('·', 'dim');
  const { glyph, role } = marks[last.status];
  return span(`${glyph} ${last.tookMs === null ? since(last.at, now) : shortDuration(last.tookMs)}`, role);
}

/** Adds the strip of the local day, with past and upcoming jobs of each hour. */
function withStrip(row: Line, { hours, hour }: ScheduleItem): Line {
  const place = row.spans.findLast(({ text }) => text.includes('──'));
  if (!place) return row;
  const cells = hours.map((cell, i): Span => {
    if (cell === 'coming') return span(marks.scheduled.glyph, i === hour ? 'accent' : 'calm');
    if (cell !== null) return span(marks[cell].glyph, marks[cell].role);
    return i === hour ? span('┼', 'accent') : span('─', 'rule');
  });
  return { ...row, spans: row.spans.flatMap((one) => (one === place ? [span('  '), ...cells] : [one])) };
}

function chosenLines(one: ScheduleItem, { now }: State, wide: number): readonly Line[] {
  const { words, task, queue, runs, next, zone, clocks, why } = one;
  const facts = `runs ${task} in queue ${queue}, ${plural(runs, 'time')} so far`;
  const fives = next.slice(0, 5).map((at, i) => {
    const before = next[i - 1];
    const { date, time } = wallTime(at, zone);
    // Show each day once.
    return before !== undefined && wallTime(before, zone).date === date ? time : instantText(at, zone);
  });
  return [
    filled(line('   ', span(words, 'strong'), span(`   ${facts}`, 'dim')), wide),
    filled(line('   ', span('next  ', 'dim'), span(fives.length === 0 ? 'none' : fives.join(' · '))), wide),
    filled(
      line(
        '   ',
        why !== null
          ? span(why, 'warn')
          : clocks !== null
            ? span(`⚠ ${clocks}`, 'warn')
            : span(next[0] === undefined ? '' : `in ${until(next[0], now)}`, 'dim'),
      ),
      wide,
    ),
  ];
}
