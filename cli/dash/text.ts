/**
 * Builds the lines of the views: pieces of text with a role, cut and padded to columns. Widths are measured by `format`, so that wide
 * characters, emoji and combining marks align. No control characters leave this module.
 */
import type { Status } from 'escapement';
import { count, padEnd, padStart, shorten, width } from '../format.ts';
import { shortDuration, wallTime } from '../time.ts';
import { parts } from './prompt.ts';
import { isRead, type State } from './state.ts';
import { marks, type Role } from './theme.ts';

export interface Span {
  readonly text: string;
  readonly role: Role;
}

/** A line of the screen. */
export interface Line {
  readonly spans: readonly Span[];
  /** True if the cursor is on it. */
  readonly inverse?: boolean;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
const unsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** A piece of text. Text from outside is cleaned where it is read; this is the last safeguard. */
export function span(text: string, role: Role = 'text'): Span {
  return { text: text.replace(unsafe, ' '), role };
}

export function line(...spans: readonly (Span | string)[]): Line {
  return { spans: spans.map((one) => (typeof one === 'string' ? span(one) : one)) };
}

export const blank: Line = { spans: [] };

export function widthOf(spans: readonly Span[]): number {
  return spans.reduce((sum, { text }) => sum + width(text), 0);
}

/** Fits a line to exactly `wide` columns: longer text ends with `…`, shorter text is padded with spaces. */
export function filled({ spans, ...rest }: Line, columns: number): Line {
  const kept: Span[] = [];
  let left = columns;
  for (const one of spans) {
    if (left <= 0) break;
    const wide = width(one.text);
    const text = wide <= left ? one.text : shorten(one.text, left);
    kept.push(text === one.text ? one : { ...one, text });
    left -= width(text);
    if (wide > left + width(text)) break;
  }
  if (left > 0) kept.push(span(' '.repeat(left)));
  return { ...rest, spans: kept };
}

/** A line with left- and right-aligned parts. If both do not fit, the left part is cut; if too little of it would be left, the right part is dropped. */
export function ends(left: readonly Span[], right: readonly Span[], columns: number): Line {
  const gap = columns - widthOf(left) - widthOf(right);
  if (gap >= 1) return { spans: [...left, span(' '.repeat(gap)), ...right] };
  const room = columns - widthOf(right) - 1;
  return room < minLeft ? filled({ spans: left }, columns) : { spans: [...filled({ spans: left }, room).spans, span(' '), ...right] };
}

const minLeft = 20;

/** Wraps a text between words. Text beyond `maxLines` lines is cut off. */
export function wrapped(text: string, columns: number, maxLines: number): string[] {
  const lines = [''];
  for (const word of text.split(/ +/)) {
    const before = lines.at(-1) ?? '';
    const longer = before === '' ? word : `${before} ${word}`;
    // The last line takes the remaining text, which is cut off.
    if (before === '' || lines.length === maxLines || width(longer) <= columns) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((one) => shorten(one, columns));
}

/** The line of an empty view. It says that there is nothing only after the view's data was read. */
export function emptyLine(state: State, text: string, role: Role = 'dim'): Line {
  return isRead(state) ? line(span(`   ${text}`, role)) : line(span('   loading …', 'dim'));
}

/** Wraps a whole text between words, and within words that are longer than a line. */
export function folded(text: string, columns: number): string[] {
  const max = Math.max(1, columns);
  const lines: string[] = [];
  let line = '';
  let wide = 0;
  for (const part of parts(text)) {
    const more = width(part);
    if (wide + more > max && line !== '') {
      const space = line.lastIndexOf(' ');
      // Do not break within the indentation.
      const broken = part !== ' ' && space > 0 && line.slice(0, space).trim() !== '';
      lines.push(broken ? line.slice(0, space) : line);
      line = broken ? line.slice(space + 1) : '';
      wide = width(line);
      if (part === ' ') continue;
    }
    line += part;
    wide += more;
  }
  return [...lines, line];
}

export function rule(columns: number): Line {
  return line(span('─'.repeat(Math.max(0, columns)), 'rule'));
}

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly align?: 'right';
  /** The bounds of its width, which follows its cells. */
  readonly minWidth?: number;
  readonly maxWidth?: number;
  /** Takes the remaining width; several such columns share it. */
  readonly grows?: boolean;
  /** Narrow screens drop the columns with the highest number first. A column without a number is never dropped. */
  readonly drop?: number;
  /** Where text that is too long is cut. */
  readonly cut?: 'middle';
  readonly cell: (row: Row) => Span | string;
}

/** Lays out a table: a line of titles and a line for each row, with two spaces between columns. */
export interface Table {
  readonly head: Line;
  readonly rows: readonly Line[];
}

/** @param margin the two columns before each row, which show the cursor */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  wide: number,
  margin: (row: Row, i: number) => Line,
): Table {
  const cells = rows.map((row) => columns.map(({ cell }) => toSpan(cell(row))));
  const own = columns.map(({ title, minWidth = 0, maxWidth = 60 }, c) =>
    Math.min(maxWidth, Math.max(minWidth, width(title), ...cells.map((row) => width(row[c]?.text ?? '')))),
  );
  const shown = columns.map((_, c) => c).filter((c) => own[c] !== 0);
  const needed = () => 1 + shown.reduce((sum, c) => sum + (columns[c]?.grows ? Math.min(own[c] ?? 0, 12) : (own[c] ?? 0)) + 2, 0);
  while (needed() > wide) {
    const worst = shown.reduce((found, c) => ((columns[c]?.drop ?? 0) > (columns[found]?.drop ?? 0) ? c : found), shown[0] ?? 0);
    if (!columns[worst]?.drop) break;
    shown.splice(shown.indexOf(worst), 1);
  }
  const growing = shown.filter((c) => columns[c]?.grows);
  const fixed = shown.reduce((sum, c) => sum + (columns[c]?.grows ? 0 : (own[c] ?? 0)) + 2, 1);
  const each = Math.max(1, Math.floor((wide - fixed - 1) / Math.max(1, growing.length)));
  const size = (c: number) => (columns[c]?.grows ? each : (own[c] ?? 0));
  const set = (row: readonly Span[]) =>
    shown.flatMap((c, i) => {
      const { align, cut } = columns[c] as Column<Row>;
      const { text, role } = row[c] ?? span('');
      const short = shorten(text, size(c), cut ?? 'end');
      return [span(`${i === 0 ? '' : '  '}${align === 'right' ? padStart(short, size(c)) : padEnd(short, size(c))}`, role)];
    });
  return {
    head: line('   ', ...set(columns.map(({ title }) => span(title, 'title')))),
    rows: cells.map((row, i) => {
      const { spans, ...rest } = margin(rows[i] as Row, i);
      return filled({ ...rest, spans: [...spans, ...set(row)] }, wide);
    }),
  };
}

function toSpan(cell: Span | string): Span {
  return typeof cell === 'string' ? span(cell) : cell;
}

/** The three columns before a row: the cursor and a mark. */
export function margin(here: boolean, mark: Span = span(' ')): Line {
  return here ? { spans: [span('▸', 'accent'), mark, span(' ')], inverse: true } : { spans: [span(' '), mark, span(' ')] };
}

/** A count; zero is a dim dot. */
export function number(value: number, role: Role = 'text'): Span {
  return value === 0 ? span('·', 'dim') : span(count(value), role);
}

export function statusSpan(status: Status, text: string = status): Span {
  const { glyph, role } = marks[status];
  return span(text === '' ? glyph : `${glyph} ${text}`, role);
}

/** The time until an instant: `7s`, or `due`. */
export function until(at: number, now: number): string {
  return at <= now ? 'due' : wholeSeconds(Math.max(1_000, at - now));
}

export function since(at: number | null, now: number): string {
  if (at === null) return '';
  const ms = now - at;
  return ms < 1_000 ? 'now' : wholeSeconds(ms);
}

/** Without tenths of a second, which change too fast to read. */
function wholeSeconds(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  return seconds < 10 ? `${seconds}s` : shortDuration(seconds * 1_000);
}

/** `03:12:40` in a zone. */
export function clockTime(at: number, zone: string): string {
  const { time } = wallTime(at, zone);
  return time.length === 5 ? `${time}:00` : time;
}

/** `03:12:40`; on another day of this week `Wed 08:00`, else `04-29 08:00`. */
export function dayTime(at: number, now: number, zone: string): string {
  const [then, today] = [wallTime(at, zone), wallTime(now, zone)];
  if (then.date === today.date) return clockTime(at, zone);
  const near = Math.abs(at - now) < 6 * 86_400_000;
  return `${near ? then.weekday : then.date.slice(5)} ${then.time.slice(0, 5)}`;
}

/** `03:12:40`; on another day `Wed 08:00:12` or `04-29 08:00:12`. With seconds, for comparing instants. */
export function dayClockTime(at: number, now: number, zone: string): string {
  const [day, minute] = dayTime(at, now, zone).split(' ');
  return minute === undefined ? clockTime(at, zone) : `${day} ${clockTime(at, zone)}`;
}

/** The visible rows of a list, which include the row of the cursor and move as little as possible. */
export function windowOf(total: number, at: number, height: number): { readonly from: number; readonly to: number } {
  if (total <= height) return { from: 0, to: total };
  const from = Math.min(Math.max(0, at - Math.floor(height / 2)), total - height);
  return { from, to: from + height };
}
