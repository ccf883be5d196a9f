/** Offsets and their changes compared with the local times of `Intl`, step by step. */
import { describe, expect, test } from 'vitest';
import { changes, firstShown, isTimezone, offsetAt, unseenLocal, zoneOf } from '../../src/core/zone.ts';
import { readClocks } from './oracle.ts';

const soak = Boolean(process.env.ESCAPEMENT_SOAK);
const at = (iso: string) => Date.parse(iso);
const inYear = (timezone: string, year: number) => changes(timezone, Date.UTC(year, 0, 1), Date.UTC(year + 1, 0, 1));

describe('the offset changes of a zone', () => {
  test('Berlin puts its clocks forward in March and back in October', () => {
    expect(inYear('Europe/Berlin', 2026)).toEqual([
      { at: at('2026-03-29T01:00:00Z'), offsetBefore: 3_600_000, offsetAfter: 7_200_000 },
      { at: at('2026-10-25T01:00:00Z'), offsetBefore: 7_200_000, offsetAfter: 3_600_000 },
    ]);
  });

  test('the window includes its start and excludes its end', () => {
    const change = at('2026-03-29T01:00:00Z');
    expect(changes('Europe/Berlin', change, change + 1)).toHaveLength(1);
    expect(changes('Europe/Berlin', change - 1, change)).toEqual([]);
    expect(changes('Europe/Berlin', change + 1, change + 1_000)).toEqual([]);
  });

  test.each<[string, number, string[]]>([
    ['UTC', 2026, []],
    ['Etc/GMT+2', 2026, []],
    ['Asia/Tokyo', 2026, []],
    ['Australia/Lord_Howe', 2026, ['2026-04-04T15:00:00.000Z', '2026-10-03T15:30:00.000Z']],
    // Summer time, Ramadan, summer time again.
    [
      'Africa/Cairo',
      2014,
      ['2014-05-15T22:00:00.000Z', '2014-06-26T21:00:00.000Z', '2014-07-31T22:00:00.000Z', '2014-09-25T21:00:00.000Z'],
    ],
    ['Africa/Casablanca', 2025, ['2025-02-23T02:00:00.000Z', '2025-04-06T02:00:00.000Z']],
    // A week of summer time: the shortest on record.
    ['America/Recife', 2000, ['2000-02-27T02:00:00.000Z', '2000-10-08T03:00:00.000Z', '2000-10-15T02:00:00.000Z']],
    ['Pacific/Apia', 2011, ['2011-04-02T14:00:00.000Z', '2011-09-24T14:00:00.000Z', '2011-12-30T10:00:00.000Z']],
    ['Africa/Monrovia', 1972, ['1972-01-07T00:44:30.000Z']],
  ])('%s in %i', (timezone, year, expected) => {
    expect(inYear(timezone, year).map((change) => new Date(change.at).toISOString())).toEqual(expected);
  });
});

describe('the offset at an instant', () => {
  test.each<[string, number]>([
    ['Europe/Berlin', 2026],
    ['Australia/Lord_Howe', 2026],
    ['Pacific/Chatham', 2026],
    ['Antarctica/Troll', 2026],
    ['Africa/Cairo', 2014],
    ['Africa/El_Aaiun', 1976],
    ['Africa/El_Aaiun', 2025],
    ['Africa/Tunis', 1943],
    ['Asia/Gaza', 2040],
    ['America/Recife', 2000],
    ['America/Argentina/Tucuman', 2004],
    ['Pacific/Apia', 2011],
    ['Pacific/Kwajalein', 1993],
    ['Antarctica/Casey', 2020],
    ['Europe/Dublin', 1968],
    ['Europe/Dublin', 2037],
    ['America/Havana', 2100],
    ['Europe/Amsterdam', 1937],
    ['America/Anchorage', 1867],
    ['Asia/Manila', 1844],
  ])('%s in %i matches the local clock every 20 minutes', (timezone, year) => {
    const stepMs = 1_200_000;
    const clocks = readClocks(timezone, Date.UTC(year, 0, 1), Date.UTC(year + 1, 0, 1), stepMs, 0);
    const wrong = [...clocks.walls.keys()]
      .map((i) => [clocks.fromAt + i * stepMs, clocks.walls[i] as number] as const)
      .filter(([instant, wall]) => wall - instant !== offsetAt(timezone, instant));
    expect(wrong).toEqual([]);
  });

  const temporal = typeof Temporal === 'object';
  test.skipIf(!temporal)(
    'in every zone, the changes match Temporal',
    () => {
      const [from, to] = soak ? [1850, 2100] : [2013, 2016];
      for (const timezone of Intl.supportedValuesOf('timeZone')) {
        const expected: number[] = [];
        let when = Temporal.Instant.from(`${from}-01-01T00:00Z`).toZonedDateTimeISO(timezone);
        for (;;) {
          const next = when.getTimeZoneTransition('next');
          if (!next || next.epochMilliseconds >= Date.UTC(to, 0, 1)) break;
          expected.push(next.epochMilliseconds);
          when = next;
        }
        const found = changes(timezone, Date.UTC(from, 0, 1) + 1, Date.UTC(to, 0, 1)).map((change) => change.at);
        if (found.join() !== expected.join()) expect([timezone, found]).toEqual([timezone, expected]);
      }
    },
    120_000,
  );

  test('is correct in the distant past and future, and at the limits of Date', () => {
    expect(offsetAt('Europe/Berlin', at('9999-07-01T00:00:00Z'))).toBe(7_200_000);
    expect(offsetAt('Europe/Berlin', at('0099-07-01T00:00:00Z'))).toBe((53 * 60 + 28) * 1_000);
    expect(offsetAt('Asia/Tokyo', 8_640_000_000_000_000)).toBe(32_400_000);
    expect(offsetAt('Asia/Tokyo', -8_640_000_000_000_000)).toBe(33_539_000);
  });

  test('is correct between seconds before 1970', () => {
    expect(offsetAt('America/New_York', -1.5)).toBe(-18_000_000);
    const change = at('1969-10-26T06:00:00Z');
    expect([change - 1, change].map((instant) => offsetAt('America/New_York', instant))).toEqual([-14_400_000, -18_000_000]);
  });
});

describe('the first instant that shows a local time', () => {
  const local = (iso: string) => Date.parse(`${iso}Z`);
  const shown = (timezone: string, iso: string) => new Date(firstShown(zoneOf(timezone), local(iso))).toISOString();

  test('that occurs once, twice, or never', () => {
    expect(shown('Europe/Berlin', '2026-06-01T12:00:00')).toBe('2026-06-01T10:00:00.000Z');
    expect(shown('Europe/Berlin', '2026-10-25T02:30:00')).toBe('2026-10-25T00:30:00.000Z');
    expect(shown('Europe/Berlin', '2026-03-29T02:30:00')).toBe('2026-03-29T01:00:00.000Z');
    expect(shown('Pacific/Apia', '2011-12-30T12:00:00')).toBe('2011-12-30T10:00:00.000Z');
  });

  test('that has not occurred yet is after the latest one that has', () => {
    const unseen = (timezone: string, iso: string) => new Date(unseenLocal(zoneOf(timezone), at(iso))).toISOString().slice(0, 19);
    expect(unseen('Europe/Berlin', '2026-06-01T10:00:00Z')).toBe('2026-06-01T12:00:01');
    expect(unseen('Europe/Berlin', '2026-06-01T09:59:59.999Z')).toBe('2026-06-01T12:00:00');
    expect(unseen('Europe/Berlin', '2026-10-25T01:30:00Z')).toBe('2026-10-25T03:00:00');
    expect(unseen('Europe/Berlin', '2026-10-25T02:00:00Z')).toBe('2026-10-25T03:00:01');
  });
});

describe('names of zones', () => {
  test.each([
    'UTC',
    'utc',
    'Europe/Berlin',
    'europe/BERLIN',
    'Etc/GMT+2',
    'America/Argentina/Buenos_Aires',
    'EST5EDT',
    'CET',
    'Zulu',
    'nz-chat',
  ])('%s is accepted', (name) => {
    expect(isTimezone(name)).toBe(true);
    expect(() => offsetAt(name, 0)).not.toThrow();
  });

  test('are case-insensitive', () => {
    expect(inYear('europe/berlin', 2026)).toEqual(inYear('Europe/Berlin', 2026));
  });

  test.each(['', ' ', '+02:00', '-05', 'UTC+2', 'Europe/Berlino', 'Europe/Berlin ', 'Etc/GMT+99', null, undefined, 2, {}])(
    '%j is rejected',
    (name) => {
      expect(isTimezone(name)).toBe(false);
    },
  );

  test.each('BST IST CST ECT AST MIT PST JST ACT AEDT SST VST bst SystemV/AST4ADT'.split(' '))(
    'do not include the abbreviation %s, even where Intl accepts it',
    (name) => {
      expect(isTimezone(name)).toBe(false);
    },
  );

  test('include every zone that Intl lists', () => {
    expect(Intl.supportedValuesOf('timeZone').filter((name) => !isTimezone(name))).toEqual([]);
  });

  test('an invalid name throws', () => {
    expect(() => offsetAt('Europe/Berlino', 0)).toThrow(RangeError);
  });
});

test('exceeding the cache gives the same results', () => {
  const names = Intl.supportedValuesOf('timeZone').slice(0, 36);
  const years = (name: string) => Array.from({ length: 60 }, (_, i) => offsetAt(name, Date.UTC(1990 + i, 6, 1)));
  const [first = ''] = names;
  const before = years(first);
  for (const name of names) years(name);
  expect(years(first)).toEqual(before);
});
