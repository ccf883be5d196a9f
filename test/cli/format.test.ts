import { describe, expect, test } from 'vitest';
import {
  bars,
  clean,
  cleanLines,
  count,
  padEnd,
  padStart,
  painter,
  plural,
  roughly,
  scale,
  shorten,
  table,
  wantsColour,
  width,
} from '../../cli/format.ts';

const plain = painter(false);

test.each([
  ['as it is', 'as it is'],
  ['\u001b[31mred\u001b[0m', 'red'],
  ['\u001b]0;a title\u0007text', 'text'],
  ['a\u0007b', 'a b'],
  ['a \u0000\u0001 b', 'a b'],
  ['one\r\ntwo', 'one two'],
  ['right\u202eleft\u2066', 'right left'],
  ['\u009b2Jgone', 'gone'],
  ['half \ud800 pair', 'half \ufffd pair'],
  ['  山田 太郎  ', '山田 太郎'],
])('clean(%j) is %j', (text, expected) => {
  expect(clean(text)).toBe(expected);
});

test('cleanLines keeps lines and their indentation, and drops empty lines', () => {
  expect(cleanLines('one\n  two\u0007\r\n\n\tthree')).toEqual(['one', '  two', ' three']);
});

test.each([
  ['', 0],
  ['abc', 3],
  ['Zoë', 3],
  ['e\u0301', 1],
  ['山田', 4],
  ['김서연', 6],
  ['ｱ', 1],
  ['Ａ', 2],
  ['🌻', 2],
  ['👨‍👩‍👧', 2],
  ['▁█·─', 4],
  ['\u200b', 0],
])('%j takes %i columns', (text, columns) => {
  expect(width(text)).toBe(columns);
});

test.each([
  ['short', 10, 'end', 'short'],
  ['a long text', 6, 'end', 'a lon…'],
  ['a long text', 6, 'middle', 'a l…xt'],
  ['山田太郎', 6, 'end', '山田…'],
  ['山田太郎', 5, 'end', '山田…'],
  ['billing.invoice.reminder', 15, 'middle', 'billing…eminder'],
] as const)('shorten(%j, %i, %j) is %j', (text, columns, where, expected) => {
  expect(shorten(text, columns, where)).toBe(expected);
  expect(width(shorten(text, columns, where))).toBeLessThanOrEqual(columns);
});

test('padding counts columns, not characters', () => {
  expect(padEnd('山', 4)).toBe('山  ');
  expect(padStart('山', 4)).toBe('  山');
  expect(padStart('long', 2)).toBe('long');
});

test.each([
  [0, '0'],
  [999, '999'],
  [1_000, '1,000'],
  [1_234_567, '1,234,567'],
])('count(%i) is %s', (value, text) => {
  expect(count(value)).toBe(text);
});

test.each([
  [0.04, '0'],
  [3.14, '3.1'],
  [42.4, '42'],
  [671_234, '670,000'],
  [1_250_000, '1,300,000'],
  [Number.POSITIVE_INFINITY, '∞'],
])('roughly(%d) is %s', (value, text) => {
  expect(roughly(value)).toBe(text);
});

test('a count of one uses the singular', () => {
  expect([plural(0, 'job'), plural(1, 'job'), plural(2_000, 'job')]).toEqual(['0 jobs', '1 job', '2,000 jobs']);
});

describe('table', () => {
  const columns = [{ title: 'task' }, { title: 'jobs', align: 'right' as const }, { title: 'last' }];

  test('aligns text left and numbers right, whatever their width', () => {
    const rows = [['mail', 1_204, 'a'], ['山田', 7, 'b'], null, ['total', 0, '']];
    expect(table(columns, rows, plain)).toEqual([
      'task    jobs  last', //
      'mail   1,204  a',
      '山田       7  b',
      '──────────────────',
      'total      ·',
    ]);
  });

  test('has the same width with and without colour', () => {
    const rows = [['a', { text: 3, mark: 'red' as const }, 'x']];
    const coloured = table(columns, rows, painter(true));
    expect(coloured[1]).toContain('\u001b[31m3\u001b[39m');
    expect(coloured.map(clean)).toEqual(table(columns, rows, plain).map(clean));
  });
});

test('bars draw a dot for zero, a space outside the range, and eight heights up to the maximum', () => {
  expect(bars([undefined, 0, 1, 2, 3, 4, 5, 6, 7, 8], 8)).toBe(' ·▁▂▃▄▅▆▇█');
  expect(bars([1, 50, 100], 100)).toBe('▁▄█');
  expect(bars([0, 0], 0)).toBe('··');
});

test.each([
  [0, ''],
  [1, '█ 1'],
  [2, '▄ 1  █ 2'],
  [8, '▁ 1  ▄ 4  █ 8'],
  [41, '▁ 1–5  ▄ 16–20  █ 36–41'],
  [80_000, '▁ 1–10,000  ▄ 30,001–40,000  █ 70,001–80,000'],
])('scale(%i) is %j', (max, text) => {
  expect(scale(max)).toBe(text);
});

test('the scale matches the heights of the bars', () => {
  for (let max = 1; max <= 60; max++) {
    for (const [, block, from, to] of scale(max).matchAll(/(\S) (\d+)(?:–(\d+))?/g)) {
      expect(bars([Number(from), Number(to ?? from)], max), `max ${max}`).toBe(`${block}${block}`);
    }
  }
});

test.each([
  [true, {}, true],
  [false, {}, false],
  [true, { NO_COLOR: '1' }, false],
  [true, { NO_COLOR: '' }, true],
  [true, { TERM: 'dumb' }, false],
])('on a terminal (%j) with %j, colour is %j', (isTTY, env, expected) => {
  expect(wantsColour({ isTTY }, env)).toBe(expected);
});
