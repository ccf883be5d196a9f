/** Cron: the cases of fixtures/cron (computed by hand from each zone's changes), the errors and their messages, and the cost. */
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkCron, describeCron, latestCron, nextCron } from '../../src/core/cron.ts';
import { ConfigError, type ConfigFault } from '../../src/core/errors.ts';

interface Case {
  readonly id: string;
  readonly expr: string;
  readonly tz: string;
  /** Inclusive. */
  readonly from: string;
  /** Exclusive. */
  readonly to: string;
  readonly expected: readonly string[];
}

const folder = new URL('../../fixtures/cron/', import.meta.url);
const files = readdirSync(folder).filter((file) => file.endsWith('.json'));
const at = (iso: string) => Date.parse(iso);
const iso = (instant: number | null) => (instant === null ? null : new Date(instant).toISOString().replace('.000Z', 'Z'));
const dayMs = 86_400_000;
const now = at('2026-01-01T00:00:00Z');

describe.each(files)('%s', (file) => {
  const { cases } = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as { cases: Case[] };

  test.each(cases)('$id: $expr in $tz', ({ expr, tz, from, to, expected }) => {
    const found: (string | null)[] = [];
    for (let next = nextCron(expr, tz, at(from) - 1_000); next !== null && next < at(to); next = nextCron(expr, tz, next))
      found.push(iso(next));
    expect(found).toEqual(expected);
  });

  test.each(cases)('$id, backwards', ({ expr, tz, from, to, expected }) => {
    const found: (string | null)[] = [];
    const after = at(from) - 1_000;
    for (let latest = latestCron(expr, tz, after, at(to) - 1_000); latest !== null; latest = latestCron(expr, tz, after, latest - 1_000))
      found.unshift(iso(latest));
    expect(found).toEqual(expected);
  });
});

describe('the next occurrence', () => {
  test('is after the given instant, in whole seconds', () => {
    const nine = at('2026-01-01T09:00:00Z');
    expect(nextCron('0 9 * * *', 'UTC', nine - 1)).toBe(nine);
    expect(nextCron('0 9 * * *', 'UTC', nine)).toBe(nine + dayMs);
    expect(nextCron('* * * * * *', 'UTC', nine + 1)).toBe(nine + 1_000);
    expect(nextCron('* * * * * *', 'UTC', -1_500)).toBe(-1_000);
    expect(nextCron('0 9 * * *', 'Europe/Berlin', nine + 0.5)).toBe(at('2026-01-02T08:00:00Z'));
  });

  test('accepts zone names in any case', () => {
    expect(nextCron('0 9 * * *', 'europe/berlin', now)).toBe(at('2026-01-01T08:00:00Z'));
  });

  test.each([
    ['@yearly', '2027-01-01T00:00:00Z'],
    ['@annually', '2027-01-01T00:00:00Z'],
    ['@monthly', '2026-02-01T00:00:00Z'],
    ['@weekly', '2026-01-04T00:00:00Z'],
    ['@daily', '2026-01-02T00:00:00Z'],
    ['@Midnight', '2026-01-02T00:00:00Z'],
    [' @hourly ', '2026-01-01T01:00:00Z'],
  ])('%s', (nickname, expected) => {
    expect(iso(nextCron(nickname, 'UTC', now))).toBe(expected);
  });

  test('may be decades or more than a century away, or not exist', () => {
    expect(iso(nextCron('0 0 29 2 +MON', 'UTC', now))).toBe('2044-02-29T00:00:00Z');
    // From one leap Monday to the next across 1900, which was not a leap year.
    expect(iso(nextCron('0 0 29 2 +MON', 'UTC', at('1892-03-01T00:00:00Z')))).toBe('1904-02-29T00:00:00Z');
    expect(nextCron('0 0 30 2 *', 'UTC', now)).toBeNull();
    expect(nextCron('0 0 31 4,6,9,11 *', 'Europe/Berlin', now)).toBeNull();
    expect(latestCron('0 0 30 2 *', 'UTC', 0, now)).toBeNull();
  });

  test('does not exist if an interval matches only times that the zone always skips', () => {
    // The last Sunday of March, from 02:00 to 03:00.
    expect(nextCron('*/5 2 * 3 +SUNL', 'Europe/Berlin', now)).toBeNull();
    expect(iso(nextCron('5 2 * 3 +SUNL', 'Europe/Berlin', now))).toBe('2026-03-29T01:00:00Z');
  });

  test('does not exist after the last instant of Date', () => {
    expect(nextCron('0 0 1 1 *', 'UTC', 8_640_000_000_000_000)).toBeNull();
    expect(nextCron('* * * * *', 'Europe/Berlin', 8_640_000_000_000_000)).toBeNull();
  });
});

describe('the latest occurrence', () => {
  test('is after the first instant and not after the second', () => {
    const nine = at('2026-01-01T09:00:00Z');
    expect(latestCron('0 9 * * *', 'UTC', nine - 1, nine)).toBe(nine);
    expect(latestCron('0 9 * * *', 'UTC', nine, nine)).toBeNull();
    expect(latestCron('0 9 * * *', 'UTC', nine, nine + dayMs - 1)).toBeNull();
    expect(latestCron('0 9 * * *', 'UTC', nine, nine - 1)).toBeNull();
    expect(latestCron('0 9 * * *', 'UTC', Number.NEGATIVE_INFINITY, nine)).toBe(nine);
    expect(latestCron('*/5 2 * 3 +SUNL', 'Europe/Berlin', at('2000-01-01T00:00:00Z'), now)).toBeNull();
  });
});

const faultsOf = (expression: unknown, timezone: unknown = 'UTC') => {
  const faults: ConfigFault[] = [];
  checkCron(expression, timezone, now, faults);
  return faults;
};
const messageOf = (expression: unknown, timezone?: unknown) => new ConfigError('Invalid schedule', faultsOf(expression, timezone)).message;

describe('errors in an expression', () => {
  test.each<[string, string]>([
    ['61 * * * *', 'cron: expected minute to be 0-59, got 61'],
    ['* 24 * * *', 'cron: expected hour to be 0-23, got 24'],
    ['* * 0 * *', 'cron: expected day-of-month to be 1-31, L, L-3, LW or 15W, got 0'],
    ['* * 32W * *', 'cron: expected day-of-month to be 1-31, L, L-3, LW or 15W, got 32W'],
    ['* * * 13 *', 'cron: expected month to be 1-12 or JAN-DEC, got 13'],
    ['* * * * 8', 'cron: expected day-of-week to be 0-7 or SUN-SAT, also as MON#2 or FRIL, got 8'],
    ['60 * * * * *', 'cron: expected second to be 0-59, got 60'],
    ['0 60 * * * *', 'cron: expected minute to be 0-59, got 60'],
    ['1-0 * * * *', 'cron: expected minute to be 0-59, got 1-0 (the range covers the whole field; write *)'],
    ['60/5 * * * *', 'cron: expected minute to be 0-59, got 60/5'],
    ['0/0 * * * *', 'cron: expected minute to be 0-59, got 0/0'],
    ['* 22-2/25 * * *', 'cron: expected hour to be 0-23, got 22-2/25 (a step is from 1 to 24)'],
    ['* 22-24 * * *', 'cron: expected hour to be 0-23, got 22-24'],
    ['? * * * *', 'cron: expected minute to be 0-59, got ? (? stands for day-of-month or day-of-week)'],
    ['0 12 * * ? *', 'six fields begin with the second and have no year: for AWS'],
    ['H * * * *', "cron: expected minute to be 0-59, got H (write a value instead of H, and spread the load by the schedule's `jitter`)"],
    ['H(0-29)/10 R * * *', 'got R (write a value instead of R'],
    ['* * * FOO *', 'cron: expected month to be 1-12 or JAN-DEC, got FOO'],
    ['* * L-0 * *', 'cron: expected day-of-month'],
    ['* * L-31 * *', 'cron: expected day-of-month'],
    ['0 0 L-30 2 *', 'an expression that fires'],
    ['* * * * L', 'cron: expected day-of-week'],
    ['* * * * MON#6', 'cron: expected day-of-week'],
    ['* * * * SUN-SUN', 'cron: expected day-of-week'],
    ['* * * * TUE-MON', 'cron: expected day-of-week'],
    ['* * * * * * 2026', "cron: expected a cron expression of 5 fields, or 6 with leading seconds, such as '0 9 * * MON-FRI'"],
    ['* * * * * * 2026', 'a seventh field, for years, can only be *: use `startAt` and `endAt`'],
    ['TZ=Europe/Berlin 0 9 * * *', "for TZ=, set the schedule's `timezone`"],
    ['CRON_TZ=UTC 0 9 * * *', "for TZ=, set the schedule's `timezone`"],
    ['cron(0 12 * * ? *)', 'for cron(…), give only the fields'],
    ['rate(5 minutes)', "for rate(…), use `every: '5m'`"],
    ['@every 5m', "for @every, use `every: '5m'`"],
    ['@reboot', 'for @reboot, enqueue the task where your program starts'],
    ['* * * *', 'with 4 fields'],
    ['daily', 'with 1 field'],
    ['', 'cron: expected a cron expression'],
    ['  ', 'cron: expected a cron expression'],
    ['@reboot', 'cron: expected one of @yearly, @annually'],
    ['@fortnightly', 'cron: expected one of @yearly, @annually'],
    ['@daily 5', 'cron: expected one of @yearly, @annually'],
    ['0 0 30 2 *', 'cron: expected an expression that fires, got "0 0 30 2 *", which never does'],
    [`${'0,'.repeat(600)}0 * * * *`, 'cron: expected at most 1000 characters, got 1209'],
  ])('%s', (expression, message) => {
    expect(messageOf(expression)).toContain(message);
  });

  test.each([undefined, null, 5, {}, []])('%j is not an expression', (expression) => {
    expect(messageOf(expression)).toContain('cron: expected a cron expression of 5 fields');
  });

  test('name every invalid field, and the zone', () => {
    expect(faultsOf('61 25 * * 9', '+02:00').map(({ path, expected }) => `${path} ${expected.split(' ')[0]}`)).toEqual([
      'timezone an',
      'cron minute',
      'cron hour',
      'cron day-of-week',
    ]);
  });

  test.each([
    '0 9 * * MON-FRI',
    '*/10 * * * * *',
    '0 0 L,15 jan-mar ?',
    '0 0 LW * *',
    '0 12 15W * +1-5',
    '@Daily',
    ' 0  9 * * 7 ',
    '0 0 12 ? * * *',
  ])('%s is valid', (expression) => {
    expect(faultsOf(expression)).toEqual([]);
  });

  test('are returned without throwing; every valid expression has a next occurrence', () => {
    const piece = fc.constantFrom(
      '*',
      '?',
      '0',
      '5',
      '31',
      '59',
      '-',
      ',',
      '/',
      '#',
      'L',
      'W',
      '+',
      '@',
      'MON',
      'SUN',
      'JAN',
      '7',
      ' ',
      '.',
      '1-5',
    );
    const written = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 24 }).map((pieces) => pieces.join('')),
    );
    const field = fc.array(piece, { minLength: 1, maxLength: 4 }).map((pieces) => pieces.join('').replaceAll(' ', ''));
    const fields = fc.array(field, { minLength: 4, maxLength: 7 }).map((all) => all.join(' '));
    fc.assert(
      fc.property(fc.oneof(written, fields), (expression) => {
        if (faultsOf(expression).length === 0) expect(nextCron(expression, 'UTC', now)).toBeGreaterThan(now);
        expect(typeof describeCron(expression)).toBe('string');
      }),
      { numRuns: 2_000, seed: 7 },
    );
  });
});

describe('the description of an expression', () => {
  test.each([
    ['0 9 * * MON-FRI', 'At 09:00, Monday through Friday'],
    ['30 22 * * *', 'At 22:30'],
    ['*/10 * * * * *', 'Every 10 seconds'],
    ['@hourly', 'Every hour'],
    ['0 0 L * *', 'At 00:00, on the last day of the month'],
    ['0 0 * * FRI#L', 'At 00:00, on the last Friday of the month'],
    ['0 0 13 * FRI', 'At 00:00, on day 13 of the month, and on Friday'],
    ['0 0 13 * +FRI', 'At 00:00, on day 13 of the month, only on Friday'],
  ])('%s', (expression, words) => {
    expect(describeCron(expression)).toBe(words);
  });

  test('is the expression itself if it cannot be described', () => {
    expect(describeCron('nonsense')).toBe('nonsense');
    expect(describeCron('')).toBe('');
  });
});

// A walk over every occurrence or every day would not end; `bench/cron.ts` has the figures.
describe('long spans are skipped', () => {
  test('the latest in a thousand years of seconds', () => {
    const until = at('2026-04-15T12:00:00.500Z');
    expect(latestCron('* * * * * *', 'Europe/Berlin', until - 365_000 * dayMs, until)).toBe(at('2026-04-15T12:00:00Z'));
  });

  test('an expression that never occurs is rejected', () => {
    for (let i = 0; i < 100; i++) expect(faultsOf('0 0 30 2 *', 'Europe/Berlin')).toHaveLength(1);
    expect(faultsOf('0 0 31 11 *', 'UTC')).toHaveLength(1);
  });

  test('a thousand leap days: ten times the 97 of 400 years, then thirty more, one of them not in 6100', () => {
    let next: number | null = now;
    for (let i = 0; i < 1_000; i++) next = nextCron('0 0 29 2 *', 'UTC', next as number);
    expect(iso(next)).toBe('6148-02-29T00:00:00Z');
  });
});

describe('equivalent notations', () => {
  test.each<[string, string]>([
    ['5/15 * * * *', '5-59/15 * * * *'],
    ['0/15 0 * * * *', '0-59/15 0 * * * *'],
    ['0 0/2 * * *', '0 0-23/2 * * *'],
    ['0 0 1/10 * *', '0 0 1-31/10 * *'],
    ['0 0 1 2/5 *', '0 0 1 2-12/5 *'],
    ['0 0 1 FEB/5 *', '0 0 1 2-12/5 *'],
    ['0 0 * * 1/2', '0 0 * * 1-6/2'],
    ['0 0 * * SUN/3', '0 0 * * 0,3,6'],
    ['0 0 * * 7/2', '0 0 * * 7'],
    ['50-10/5 * * * *', '50,55,0,5,10 * * * *'],
    ['0 22-2 * * *', '0 22,23,0,1,2 * * *'],
    ['0 22-2/2 * * *', '0 22,0,2 * * *'],
    ['0 12,22-1 * * *', '0 12,22,23,0,1 * * *'],
    ['0 0 28-3 * *', '0 0 28,29,30,31,1,2,3 * *'],
    ['0 0 1 NOV-FEB *', '0 0 1 11,12,1,2 *'],
    ['0 0 * * FRI-MON', '0 0 * * 5,6,0,1'],
    ['0 0 * * 6-1', '0 0 * * 6,0,1'],
    ['0 0 * * 7-2', '0 0 * * 0,1,2'],
    ['0 0 * * 7-3/2', '0 0 * * 0,2'],
    ['0 0 * * 7-7', '0 0 * * 0'],
    ['0 0 * * FRI-SUN', '0 0 * * 5,6,0'],
    ['0 0 * * MON-SUN', '0 0 * * *'],
    ['0 0 13 * +FRI-SUN', '0 0 13 * +5,6,0'],
    ['0 9 * * monday-Friday', '0 9 * * MON-FRI'],
    ['0 9 * * mondayL', '0 9 * * MONL'],
    ['0 9 * * wednesday#2,SUNDAY', '0 9 * * WED#2,SUN'],
    ['0 9 1 january,September *', '0 9 1 1,9 *'],
    ['0 9 1 may *', '0 9 1 5 *'],
    ['0 0 9 * * 1-5 *', '0 0 9 * * 1-5'],
    ['0 0 9 L * ? ?', '0 0 9 L * *'],
  ])('%s as %s', (other, plain) => {
    expect(faultsOf(other)).toEqual([]);
    for (const timezone of ['UTC', 'America/Los_Angeles', 'Australia/Lord_Howe']) {
      let [a, b] = [now, now];
      for (let i = 0; i < 300; i++) {
        [a, b] = [nextCron(other, timezone, a) ?? 0, nextCron(plain, timezone, b) ?? 0];
        if (a !== b) expect([timezone, iso(a)]).toEqual([timezone, iso(b)]);
      }
      expect(latestCron(other, timezone, now, b - 1)).toBe(latestCron(plain, timezone, now, b - 1));
    }
    expect(describeCron(other)).not.toBe(other);
  });

  test('days before the last day are counted in each month', () => {
    const days = (expression: string) => {
      const found: string[] = [];
      for (let next = nextCron(expression, 'UTC', now); found.length < 4; next = nextCron(expression, 'UTC', next as number))
        found.push((iso(next) as string).slice(5, 10));
      return found;
    };
    expect(days('0 0 L-3 * *')).toEqual(['01-28', '02-25', '03-28', '04-27']);
    expect(days('0 0 l-29 * *')).toEqual(['01-02', '03-02', '04-01', '05-02']);
    expect(days('0 0 L-1,L,15 * *')).toEqual(['01-15', '01-30', '01-31', '02-15']);
    expect(days('0 0 L-3 2 +WED')).toEqual(['02-25', '02-25', '02-25', '02-26']);
  });

  test('a stepped start and a wrapping range are fixed times: skipped times run once, repeated times run once', () => {
    const day = (expression: string, from: string, count: number) => {
      const found: string[] = [];
      let next = at(from);
      while (found.length < count) {
        next = nextCron(expression, 'America/Los_Angeles', next) as number;
        found.push((iso(next) as string).slice(11, 16));
      }
      return found.join(' ');
    };
    // 02:00 is skipped: it runs at 03:00, which is 10:00 UTC.
    expect(day('0 0/2 * * *', '2017-03-12T07:30:00Z', 3)).toBe('08:00 10:00 11:00');
    expect(day('0 */2 * * *', '2017-03-12T07:30:00Z', 3)).toBe('08:00 11:00 13:00');
    // 01:00 is repeated.
    expect(day('0 22-2 * * *', '2017-11-05T06:30:00Z', 4)).toBe('07:00 08:00 10:00 06:00');
    expect(day('0 22-2 * * * *', '2017-11-05T06:59:30Z', 2)).toBe(day('0 22,23,0,1,2 * * * *', '2017-11-05T06:59:30Z', 2));
  });
});
