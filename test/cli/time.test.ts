import { expect, test } from 'vitest';
import { duration, instant, when } from '../../cli/arguments.ts';
import { exactDuration, instantText, localIso, shortDuration, untilText, wallTime } from '../../cli/time.ts';

test.each([
  ['7d', 604_800_000],
  ['1.5h', 5_400_000],
  ['250ms', 250],
])('the option value %s is a duration of %i ms', (text, ms) => {
  expect(duration(text)).toBe(ms);
});

test.each(['7', '1d 12h', '-1d', '600w'])('the option value %s is not a duration', (text) => {
  expect(() => duration(text)).toThrow(/^Give a duration such as/);
});

test.each([
  ['2026-03-28T00:00:00Z', Date.UTC(2026, 2, 28)],
  ['2026-03-28T01:00+01:00', Date.UTC(2026, 2, 28)],
  ['2028-02-29T00:00:00Z', Date.UTC(2028, 1, 29)],
])('the option value %s is the instant %i', (text, at) => {
  expect(instant(text)).toBe(at);
  expect(when(text)).toEqual(new Date(at));
});

test.each([
  '2026-03-28',
  '2026-03-28T00:00:00',
  'tomorrow',
  '2026-02-30T00:00:00Z',
  '2026-02-30T00:00:00+02:00',
  '2026-13-01T00:00:00Z',
  '2026-03-28T24:61:00Z',
])('the option value %s is not an instant', (text) => {
  expect(() => instant(text)).toThrow(/^Give an instant with its offset/);
  expect(() => when(text)).toThrow(/or an instant with its offset/);
});

test.each([
  [0, '0'],
  [350, '350ms'],
  [1_234, '1.2s'],
  [9_949, '9.9s'],
  [9_950, '10s'],
  [45_000, '45s'],
  [59_600, '1m00s'],
  [842_000, '14m02s'],
  [20_820_000, '5h47m'],
  [601_200_000, '6d23h'],
  [34_560_000_000, '400d'],
])('shortDuration(%i) is %s, in at most six columns', (ms, text) => {
  expect(shortDuration(ms)).toBe(text);
  expect(text.length).toBeLessThanOrEqual(6);
});

test.each([
  [0, '0s'],
  [604_800_000, '7d'],
  [129_600_000, '1d 12h'],
  [5_400_000, '1h 30m'],
  [1_005, '1s 5ms'],
])('exactDuration(%i) is %s', (ms, text) => {
  expect(exactDuration(ms)).toBe(text);
});

test('local time uses the UTC offset of its day', () => {
  const before = Date.parse('2026-03-28T08:00:00Z');
  expect(instantText(before, 'Europe/Berlin')).toBe('Sat 2026-03-28 09:00 +01:00');
  expect(instantText(before + 86_400_000, 'Europe/Berlin')).toBe('Sun 2026-03-29 10:00 +02:00');
  expect(instantText(before)).toBe('Sat 2026-03-28 08:00 UTC');
  expect(wallTime(before + 5_000, 'Asia/Kolkata')).toEqual({ weekday: 'Sat', date: '2026-03-28', time: '13:30:05', offset: '+05:30' });
});

test('a printed local time can be parsed', () => {
  const at = Date.parse('2026-03-29T01:00:00Z');
  expect(localIso(at, 'Europe/Berlin')).toBe('2026-03-29T03:00:00+02:00');
  expect(localIso(at + 5_000)).toBe('2026-03-29T01:00:05Z');
  expect(Date.parse(localIso(at, 'Australia/Lord_Howe'))).toBe(at);
});

test('a reached instant is shown as due', () => {
  expect([untilText(5, 5), untilText(4, 5), untilText(10_800_005, 5)]).toEqual(['due', 'due', 'in 3h00m']);
});
