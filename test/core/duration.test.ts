import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { durationMs, formatDuration, instantMs, parseDuration, parseInstant, parseWhen, show } from '../../src/core/duration.ts';
import { ConfigError } from '../../src/core/errors.ts';
import { exact } from '../../src/testing/record.ts';

test.each([
  ['250ms', 250],
  ['30s', 30_000],
  ['5m', 300_000],
  ['2h', 7_200_000],
  ['1d', 86_400_000],
  ['1w', 604_800_000],
  ['1.5h', 5_400_000],
  ['0s', 0],
  [1234, 1234],
  [0, 0],
  [1.4, 1],
])('%s is %d ms', (duration, ms) => {
  expect(parseDuration(duration)).toBe(ms);
});

test.each([
  '',
  '5',
  '5 m',
  '5 minutes',
  '1h30m',
  '-5s',
  '5S',
  's',
  '1e3s',
  '.5s',
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  9e15,
  null,
  {},
  [],
  '99999999999999w',
])('%s is not a duration', (value) => {
  expect(parseDuration(value)).toBeUndefined();
});

test.each([
  ['2026-03-28T00:00:00Z', Date.UTC(2026, 2, 28)],
  ['2026-03-28T01:00:00+01:00', Date.UTC(2026, 2, 28)],
  ['2026-03-28T00:00Z', Date.UTC(2026, 2, 28)],
  [new Date(5), 5],
  [12, 12],
  [{ epochMilliseconds: 7 }, 7],
])('%s is an instant', (value, at) => {
  expect(parseInstant(value)).toBe(at);
});

test.each(['2026-03-28', '2026-03-28T00:00:00', 'tomorrow', '', new Date('x'), Number.NaN, null, undefined, 9e15, '2026-13-01T00:00:00Z'])(
  '%s is not an instant',
  (value) => {
    expect(parseInstant(value)).toBeUndefined();
  },
);

test('a number is a duration where both are accepted', () => {
  expect(parseWhen(5_000, 1_000)).toBe(6_000);
  expect(parseWhen('2h', 1_000)).toBe(7_201_000);
  expect(parseWhen(new Date(9), 1_000)).toBe(9);
  expect(parseWhen('2026-01-01T00:00:00Z', 0)).toBe(Date.UTC(2026, 0, 1));
  expect(parseWhen('soon', 0)).toBeUndefined();
  expect(parseWhen(-5, 0)).toBeUndefined();
});

test('errors name the path, what was expected, and what was received', () => {
  expect(() => durationMs('5 minutes' as never, 'retry.initial')).toThrow(ConfigError);
  expect(() => durationMs('5 minutes' as never, 'retry.initial')).toThrow(/retry\.initial: expected a duration .* got "5 minutes"/);
  expect(() => instantMs('2026-03-28T00:00:00', 'startAt')).toThrow(/startAt: expected an instant/);
});

describe('readable durations', () => {
  test.each([
    [0, '0ms', '0s'],
    [250, '250ms', '250ms'],
    [1_500, '1.5s', '1.5s'],
    [60_000, '1m', '1m'],
    [65_000, '1m 5s', '1m 5s'],
    [3_600_000, '1h', '1h'],
    [90_061_001, '1d 1h', '1d 1h 1m 1.001s'],
    [-5_000, '-5s', '-5s'],
  ])('%d ms', (ms, short, long) => {
    expect(formatDuration(ms)).toBe(short);
    expect(exact(ms)).toBe(long);
  });

  test('exact durations are lossless', () => {
    const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
    fc.assert(
      fc.property(fc.nat({ max: 10 ** 12 }), (ms) => {
        const sum = exact(ms)
          .split(' ')
          .reduce((total, part) => {
            const [, number = '', name = ''] = /^([\d.]+)(\w+)$/.exec(part) ?? [];
            return total + Number(number) * unit[name as keyof typeof unit];
          }, 0);
        expect(Math.round(sum)).toBe(ms);
      }),
    );
  });
});

test('formatting a value never throws, and fits on one line', () => {
  fc.assert(
    fc.property(
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSparseArray: true }),
      (value) => {
        const text = show(value);
        expect(text.length).toBeLessThanOrEqual(80);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
        expect(text).not.toMatch(/[\u0000-\u001f]/);
      },
    ),
  );
});
