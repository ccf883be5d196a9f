/**
 * Formats text for a terminal: aligned columns, readable numbers, charts of block characters, and text without control characters. Pure.
 * Colour is applied last, when widths are final.
 */
import { stripVTControlCharacters } from 'node:util';

/** The width of all output, regardless of the terminal: the same run prints the same bytes everywhere. */
export const lineWidth = 100;

/**
 * Makes text safe for one line of a terminal: removes escape sequences, control and direction characters, and lone surrogates.
 * @param text any text from outside, such as an error, a reason or a name
 */
export function clean(text: string): string {
  return (
    stripVTControlCharacters(text.toWellFormed())
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these characters are removed
      .replace(/ *[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+ */g, ' ')
      .trim()
  );
}

/** Splits text into lines and makes each safe. Empty lines are dropped. */
export function cleanLines(text: string): string[] {
  return text
    .split(/\r\n|[\n\r\u2028\u2029]/)
    .map((line) => (/^\s*/.exec(line)?.[0] ?? '').replace(/[^ ]/g, ' ') + clean(line))
    .filter((line) => line.trim() !== '');
}

/** Escapes control characters in a JSON text, so that it is safe to print and remains equivalent. */
export function escapeUnsafe(text: string): string {
  const unsafe = /[\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;
  return text.replace(unsafe, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** One JSON document. */
export function json(value: unknown): string {
  return escapeUnsafe(JSON.stringify(value, null, 2));
}

let segmenter: Intl.Segmenter | undefined;

/** Created on first use, because that takes longer than loading most of the program. */
function graphemes(text: string): Iterable<{ readonly segment: string }> {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return segmenter.segment(text);
}

// Unicode East_Asian_Width W and F, by block; ambiguous ones are narrow, as in most terminals.
const wide: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1b000, 0x1b2ff],
  [0x1f200, 0x1f2ff],
  [0x20000, 0x3fffd],
];

/** The number of terminal columns of a text. */
export function width(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: plain ASCII needs no segmenting
  if (/^[\u0000-\u007f]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of graphemes(text)) columns += graphemeWidth(segment);
  return columns;
}

function graphemeWidth(grapheme: string): number {
  const code = grapheme.codePointAt(0) ?? 0;
  if (/^[\p{Mn}\p{Me}\p{Cf}]+$/u.test(grapheme)) return 0;
  if (/\p{Emoji_Presentation}|\ufe0f/u.test(grapheme)) return 2;
  return wide.some(([from, to]) => code >= from && code <= to) ? 2 : 1;
}

export function padEnd(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - width(text)));
}

export function padStart(text: string, columns: number): string {
  return ' '.repeat(Math.max(0, columns - width(text))) + text;
}

/** Cuts text to `columns` and marks the cut with `…`: at the end, or in the middle if both ends matter. */
export function shorten(text: string, columns: number, where: 'end' | 'middle' = 'end'): string {
  if (width(text) <= columns) return text;
  const parts = [...graphemes(text)].map(({ segment }) => segment);
  const tailColumns = where === 'middle' ? Math.floor((columns - 1) / 2) : 0;
  const head = take(parts, columns - 1 - tailColumns);
  const tail = take(parts.reverse(), tailColumns).reverse();
  return `${head.join('')}…${tail.join('')}`;
}

function take(parts: readonly string[], columns: number): string[] {
  const taken: string[] = [];
  let left = columns;
  for (const part of parts) {
    left -= graphemeWidth(part);
    if (left < 0) break;
    taken.push(part);
  }
  return taken;
}

/** `1,234,567`; independent of the locale. */
export function count(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 job`, `2 jobs`, `1,000 jobs`. */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Rounds a number to two significant digits. */
export function roughly(value: number): string {
  if (!Number.isFinite(value)) return '∞';
  if (value < 100) return value < 10 ? String(Math.round(value * 10) / 10) : count(value);
  const size = 10 ** (Math.floor(Math.log10(value)) - 1);
  return count(Math.round(value / size) * size);
}

/** The styles of text on a terminal with colour. */
export type Mark = 'bold' | 'dim' | 'red' | 'green' | 'yellow';
export type Paint = (mark: Mark | undefined, text: string) => string;

const codes: Record<Mark, readonly [number, number]> = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39] };

/** @param on false to return text unchanged */
export function painter(on: boolean): Paint {
  return (mark, text) => (on && mark && text !== '' ? `\u001b[${codes[mark][0]}m${text}\u001b[${codes[mark][1]}m` : text);
}

/** True for a terminal, unless NO_COLOR is set (https://no-color.org). */
export function wantsColour(output: { readonly isTTY: boolean }, env: Readonly<Record<string, string | undefined>>): boolean {
  return output.isTTY && !env.NO_COLOR && env.TERM !== 'dumb';
}

/** A cell; numbers are formatted as counts, zero as a dim dot. */
export type Cell = string | number | { readonly text: string | number; readonly mark: Mark | undefined };

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/**
 * Lays out rows in aligned columns, two spaces apart.
 * @param rows a null row is a horizontal rule
 */
export function table(columns: readonly Column[], rows: readonly (readonly Cell[] | null)[], paint: Paint): string[] {
  const titled = columns.some(({ title }) => title !== '');
  const texts = rows.map((row) => row?.map(cellText) ?? null);
  const widths = columns.map(({ title }, i) => Math.max(width(title), ...texts.map((row) => width(row?.[i] ?? ''))));
  const set = (text: string, i: number, mark: Mark | undefined) => {
    const columns_ = widths[i] ?? 0;
    if (columns[i]?.align === 'right') return ' '.repeat(columns_ - width(text)) + paint(mark, text);
    return paint(mark, text) + ' '.repeat(columns_ - width(text));
  };
  const rule = paint('dim', '─'.repeat(widths.reduce((sum, columns_) => sum + columns_ + 2, -2)));
  const lines = titled ? [columns.map(({ title }, i) => set(title, i, 'dim')).join('  ')] : [];
  rows.forEach((row, r) => {
    const text = texts[r];
    lines.push(row && text ? row.map((cell, i) => set(text[i] ?? '', i, markOf(cell))).join('  ') : rule);
  });
  return lines.map((line) => line.trimEnd());
}

function cellText(cell: Cell): string {
  const text = typeof cell === 'object' ? cell.text : cell;
  return typeof text === 'number' ? (text === 0 ? '·' : count(text)) : text;
}

function markOf(cell: Cell): Mark | undefined {
  if (cell === 0) return 'dim';
  if (typeof cell !== 'object') return undefined;
  return cell.text === 0 ? 'dim' : cell.mark;
}

const blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** A bar chart with one character per value: a dot for zero, eight heights up to `max`, a space for undefined. */
export function bars(values: readonly (number | undefined)[], max: number): string {
  return values.map((value) => (value === undefined ? ' ' : value === 0 ? '·' : blocks[level(value, max)])).join('');
}

function level(value: number, max: number): number {
  return Math.min(blocks.length, Math.ceil((value / max) * blocks.length)) - 1;
}

/** The legend of the heights: `▁ 1–5  ▄ 16–20  █ 36–41`; at most three of the heights that whole numbers reach. */
export function scale(max: number): string {
  const ranges: string[] = [];
  blocks.forEach((block, index) => {
    const from = Math.floor((index * max) / blocks.length) + 1;
    const to = Math.floor(((index + 1) * max) / blocks.length);
    if (from <= to) ranges.push(`${block} ${from === to ? count(to) : `${count(from)}–${count(to)}`}`);
  });
  const middle = Math.floor((ranges.length - 1) / 2);
  return (ranges.length <= 3 ? ranges : ranges.filter((_, i) => i === 0 || i === middle || i === ranges.length - 1)).join('  ');
}
