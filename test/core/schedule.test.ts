import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CodeSchedule,
  fire,
  fireAt,
  latestOccurrence,
  nextOccurrence,
  pausedRow,
  resumedRow,
  type ScheduleDefinition,
  scheduleRow,
  synchronised,
  textHash,
  undeclared,
  undeclaredRow,
} from '../../src/core/schedule.ts';
import type { ScheduleRow, SingleTrigger, Trigger, WorkerRow } from '../../src/core/types.ts';

const t0 = Date.UTC(2026, 0, 1);
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const cron = (expression: string, timezone = 'UTC') => ({ kind: 'cron', expression, timezone }) as const;

function definition(overrides: Partial<ScheduleDefinition> = {}): ScheduleDefinition {
  return {
    name: 'nightly',
    source: 'code',
    task: 'report',
    queue: 'default',
    priority: 0,
    maxAttempts: 3,
    expiresMs: null,
    tags: [],
    metadata: {},
    overrides: null,
    input: null,
    computed: false,
    trigger: cron('* * * * *'),
    startAt: null,
    endAt: null,
    maxRuns: null,
    jitterMs: 0,
    missed: { graceMs: hour, catchUp: 'latest', limit: 100 },
    overlap: 'allow',
    enabled: true,
    ...overrides,
  };
}
const row = (overrides: Partial<ScheduleDefinition> = {}, now = t0): ScheduleRow =>
  scheduleRow(definition(overrides), 'h1', undefined, now);
const instants = (of: readonly number[]) => of.map((at) => new Date(at).toISOString().slice(0, 19));

describe('occurrences', () => {
  const singles: fc.Arbitrary<SingleTrigger> = fc.oneof(
    fc
      .constantFrom('* * * * *', '*/7 * * * *', '30 2 * * *', '0 9 1,15 * *', '0 0 * * 1-5', '15,45 */3 * * *')
      .chain((expression) => fc.constantFrom('UTC', 'Europe/Berlin', 'Australia/Lord_Howe').map((timezone) => cron(expression, timezone))),
    fc
      .record({ everyMs: fc.integer({ min: 1_000, max: 3 * day }), offset: fc.integer({ min: -day, max: day }) })
      .map(({ everyMs, offset }) => ({
        kind: 'every' as const,
        everyMs,
        anchorAt: t0 + offset,
      })),
    fc.integer({ min: -day, max: day }).map((offset) => ({ kind: 'at' as const, at: t0 + offset })),
    fc.constantFrom('sunrise' as const, 'noon' as const).map((event) => ({ kind: 'sun' as const, event, latitude: 52.5, longitude: 13.4 })),
  );
  const triggers: fc.Arbitrary<Trigger> = fc.oneof(
    singles,
    fc.array(singles, { minLength: 1, maxLength: 3 }).map((of) => ({ kind: 'any' as const, of })),
  );
  const limits = fc
    .option(fc.integer({ min: -2 * day, max: 2 * day }), { nil: null })
    .map((offset) => (offset === null ? null : t0 + offset));

  test('latest() returns the last occurrence that next() reaches in a span, for any trigger', () => {
    fc.assert(
      fc.property(
        triggers,
        limits,
        limits,
        fc.integer({ min: 0, max: 3 * day }),
        fc.integer({ min: 0, max: 12 * hour }),
        (trigger, startAt, endAt, offset, span) => {
          const times = { trigger, startAt, endAt };
          const after = t0 - day + offset;
          let last: number | null = null;
          for (let at = nextOccurrence(times, after); at !== null && at <= after + span; at = nextOccurrence(times, at)) {
            if (at <= (last ?? after)) expect.unreachable(`${at} comes after ${last ?? after}`);
            last = at;
          }
          expect(latestOccurrence(times, after, after + span)).toBe(last);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  test('triggers that coincide are one occurrence', () => {
    const times = {
      trigger: { kind: 'any', of: [cron('0 * * * *'), cron('*/30 * * * *'), { kind: 'at', at: t0 + hour }] },
      startAt: null,
      endAt: null,
    } as const;
    const found: number[] = [];
    for (let at = nextOccurrence(times, t0); found.length < 4 && at !== null; at = nextOccurrence(times, at)) found.push(at);
    expect(found.map((at) => (at - t0) / minute)).toEqual([30, 60, 90, 120]);
  });

  test('an interval never drifts: it is counted from its anchor', () => {
    const every = row({ trigger: { kind: 'every', everyMs: 7 * minute, anchorAt: null } });
    const { times } = fire(every, t0 + 7 * minute + 59_000, 0);
    expect(times.nextAt).toBe(t0 + 14 * minute);
  });
});

describe('jitter', () => {
  test('is constant per occurrence, bounded, and preserves the order', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('* * * * *', '*/5 * * * *', '0 0 * * *'),
        fc.integer({ min: 0, max: 2 * day }),
        fc.string(),
        (expression, jitterMs, name) => {
          const times = { name, trigger: cron(expression), startAt: null, endAt: null, jitterMs };
          let before = Number.NEGATIVE_INFINITY;
          for (let at = nextOccurrence(times, t0), i = 0; at !== null && i < 20; at = nextOccurrence(times, at), i++) {
            const fires = fireAt(times, at);
            expect(fires).toBe(fireAt(times, at));
            expect(fires).toBeGreaterThanOrEqual(at);
            expect(fires).toBeLessThanOrEqual(at + jitterMs);
            expect(fires).toBeGreaterThan(before);
            before = fires;
          }
        },
      ),
    );
  });

  test('covers the whole range, and differs between schedules', () => {
    const draws = Array.from({ length: 1_000 }, (_, i) => fireAt({ ...row({ jitterMs: 30_000 }), name: `s${i}` }, t0) - t0);
    expect(Math.min(...draws)).toBeLessThan(500);
    expect(Math.max(...draws)).toBeGreaterThan(29_500);
    expect(draws.reduce((sum, draw) => sum + draw, 0) / 1_000).toBeGreaterThan(13_500);
    expect(draws.reduce((sum, draw) => sum + draw, 0) / 1_000).toBeLessThan(16_500);
    expect(textHash('')).toMatch(/^[0-9a-f]{13}$/);
    expect(new Set(Array.from({ length: 10_000 }, (_, i) => textHash(`${i}`))).size).toBe(10_000);
  });

  test('an occurrence is not due before its jitter has elapsed', () => {
    const jittered = row({ trigger: cron('*/10 * * * *'), jitterMs: 9 * minute });
    const first = jittered.nextAt as number;
    expect(jittered.occurrenceAt).toBe(t0 + 10 * minute);
    const late = fire(jittered, t0 + 20 * minute, 0);
    expect(late.occurrences).toEqual([t0 + 10 * minute]);
    expect(late.times.occurrenceAt).toBe(t0 + 20 * minute);
    expect(fire(jittered, first, 0).times.nextAt).toBe(fireAt(jittered, t0 + 20 * minute));
  });
});

describe('missed occurrences', () => {
  const down = (missed: ScheduleDefinition['missed'], ms: number, more: Partial<ScheduleDefinition> = {}) => {
    const before = row({ missed, ...more });
    return fire(before, (before.nextAt as number) + ms, 0);
  };
  const latest = { graceMs: hour, catchUp: 'latest', limit: 100 } as const;

  test('with latest, the most recent one runs if it is within its grace', () => {
    const firing = down(latest, 10 * minute + 1);
    expect(instants(firing.occurrences)).toEqual(['2026-01-01T00:11:00']);
    expect(firing.skipped).toEqual([{ reason: 'missed', count: 10 }]);
    expect(firing.times).toMatchObject({ nextAt: t0 + 12 * minute, lastAt: t0 + 11 * minute, runs: 1 });
    expect(down({ ...latest, graceMs: 500 }, 10 * minute + 501).occurrences).toEqual([]);
    expect(down(latest, hour + 1, { trigger: cron('0 0 * * *') }).occurrences).toEqual([]);
    expect(down(latest, hour, { trigger: cron('0 0 * * *') }).occurrences).toHaveLength(1);
  });

  test('with all, they run oldest first, the most recent ones up to the limit', () => {
    const all = { graceMs: null, catchUp: 'all', limit: 4 } as const;
    expect(instants(down(all, 2 * minute).occurrences)).toEqual(['2026-01-01T00:01:00', '2026-01-01T00:02:00', '2026-01-01T00:03:00']);
    const many = down(all, 30 * day);
    expect(many.occurrences).toHaveLength(4);
    expect(many.occurrences.at(-1)).toBe(many.times.lastAt);
    expect(many.skipped).toEqual([{ reason: 'missed', count: 1_000 }]);
    expect(down({ ...all, graceMs: minute }, 10 * minute).occurrences).toHaveLength(2);
    for (const limit of [100, 900, 2_000])
      expect(down({ ...all, limit }, 2 * hour, { trigger: cron('* * * * * *') }).skipped).toEqual([{ reason: 'missed', count: 1_000 }]);
  });

  test('with none, those more than a minute late are skipped', () => {
    const none = { graceMs: hour, catchUp: 'none', limit: 100 } as const;
    expect(down(none, 59_000).occurrences).toHaveLength(1);
    expect(down(none, 61_000, { trigger: cron('0 0 * * *') }).occurrences).toEqual([]);
    expect(instants(down(none, 5 * minute + 30_000).occurrences)).toEqual(['2026-01-01T00:06:00']);
  });

  test('a month of minutes, or of seconds, is skipped at once', () => {
    for (const expression of ['* * * * *', '* * * * * *']) {
      const firing = down(latest, 30 * day, { trigger: cron(expression, 'Europe/Berlin') });
      expect(firing.occurrences).toHaveLength(1);
    }
  });

  test('endAt and maxRuns end the schedule', () => {
    const two = row({ maxRuns: 2 });
    const first = fire(two, t0 + minute, 0);
    const second = fire({ ...two, ...first.times }, t0 + 2 * minute, 0);
    expect([first.times.nextAt, second.times.nextAt, second.times.runs]).toEqual([t0 + 2 * minute, null, 2]);
    const ending = row({ endAt: t0 + 90_000 });
    expect(fire(ending, t0 + minute, 0).times).toMatchObject({ nextAt: null, occurrenceAt: null });
    const all = row({ maxRuns: 2, missed: { graceMs: null, catchUp: 'all', limit: 100 } });
    expect(fire(all, t0 + hour, 0).occurrences).toHaveLength(2);
  });
});

describe('overlap', () => {
  const due = (overlap: ScheduleDefinition['overlap'], open: number, more: Partial<ScheduleRow> = {}, now = t0 + minute) =>
    fire({ ...row({ overlap, missed: { graceMs: null, catchUp: 'all', limit: 100 } }), ...more }, now, open);

  test('allow runs the occurrence; skip drops it', () => {
    expect(due('allow', 3).occurrences).toHaveLength(1);
    expect(due('skip', 0).occurrences).toHaveLength(1);
    expect(due('skip', 1)).toMatchObject({
      occurrences: [],
      skipped: [{ reason: 'overlap', count: 1 }],
      times: { nextAt: t0 + 2 * minute, runs: 0 },
    });
    expect(due('skip', 0, {}, t0 + 3 * minute)).toMatchObject({ occurrences: [t0 + minute], skipped: [{ reason: 'overlap', count: 2 }] });
  });

  test('queue-one holds the first occurrence, and drops later ones', () => {
    const held = due('queue-one', 1);
    expect(held).toMatchObject({ occurrences: [], skipped: [], times: { heldAt: t0 + minute, runs: 0 } });
    const third = due('queue-one', 1, { heldAt: t0 }, t0 + minute);
    expect(third).toMatchObject({ occurrences: [], times: { heldAt: t0 }, skipped: [{ reason: 'overlap', count: 1 }] });
    const released = due('queue-one', 0, { ...held.times }, t0 + minute + 1);
    expect(released).toMatchObject({ occurrences: [t0 + minute], times: { heldAt: null, nextAt: t0 + 2 * minute, runs: 1 } });
    const both = due('queue-one', 0, { heldAt: t0 }, t0 + minute);
    expect(both).toMatchObject({ occurrences: [t0], times: { heldAt: t0 + minute, runs: 1 } });
  });

  test('cancel-running cancels the running job, and holds the latest occurrence', () => {
    const first = due('cancel-running', 2);
    expect(first).toMatchObject({ occurrences: [], cancels: true, times: { heldAt: t0 + minute } });
    const second = due('cancel-running', 1, { ...first.times }, t0 + 2 * minute);
    expect(second).toMatchObject({ cancels: true, times: { heldAt: t0 + 2 * minute }, skipped: [{ reason: 'overlap', count: 1 }] });
    expect(due('cancel-running', 0)).toMatchObject({ occurrences: [t0 + minute], cancels: false });
  });

  test('with cancel-running, a newer occurrence replaces the held one', () => {
    const firing = due('cancel-running', 0, { heldAt: t0 }, t0 + minute);
    expect(firing).toMatchObject({
      occurrences: [t0 + minute],
      cancels: false,
      times: { heldAt: null },
      skipped: [{ reason: 'overlap', count: 1 }],
    });
  });

  test('a held occurrence counts towards maxRuns', () => {
    const held = due('queue-one', 1, { maxRuns: 1 });
    expect(held.times).toMatchObject({ heldAt: t0 + minute, nextAt: null, runs: 0 });
    expect(due('queue-one', 0, { maxRuns: 1, ...held.times }).times).toMatchObject({ heldAt: null, nextAt: null, runs: 1 });
  });
});

describe('definitions and rows', () => {
  test('changes to other options keep the next occurrence; changed times recompute it', () => {
    const monthly = row({ trigger: cron('0 0 1 * *') });
    const later = t0 + 20 * day;
    expect(scheduleRow(definition({ trigger: cron('0 0 1 * *'), input: '1' }), 'h2', { ...monthly, revision: 4 }, later)).toMatchObject({
      nextAt: monthly.nextAt,
      input: '1',
      revision: 5,
      seen: { h1: t0, h2: later },
    });
    // Even if it has passed meanwhile: it is then caught up or missed.
    expect(scheduleRow(definition({ trigger: cron('0 0 1 * *'), input: '1' }), 'h2', monthly, t0 + 40 * day).nextAt).toBe(monthly.nextAt);
    const hourly = scheduleRow(definition({ trigger: cron('0 * * * *') }), 'h2', monthly, later + 1);
    expect(hourly.nextAt).toBe(later + hour);
    const every = row({ trigger: { kind: 'every', everyMs: hour, anchorAt: null } });
    expect(
      scheduleRow(definition({ trigger: { kind: 'every', everyMs: hour, anchorAt: null }, input: '1' }), 'h2', every, t0 + 90).nextAt,
    ).toBe(t0 + hour);
  });

  test('setting the clock back repeats no occurrence, even if the definition changes meanwhile', () => {
    const fired = { ...row(), ...fire(row(), t0 + minute, 0).times };
    const changed = scheduleRow(definition({ trigger: cron('*/1 * * * *') }), 'h2', fired, t0 - 10 * minute);
    expect(changed.nextAt).toBe(t0 + 2 * minute);
  });

  test('a disabled or exhausted schedule never fires; an instant that has just passed does', () => {
    expect(row({ enabled: false }).nextAt).toBeNull();
    const ended = { ...row({ maxRuns: 1 }), runs: 1, nextAt: null, occurrenceAt: null };
    expect(scheduleRow(definition({ maxRuns: 1, input: '2' }), 'h2', ended, t0 + day).nextAt).toBeNull();
    expect(scheduleRow(definition({ maxRuns: 2 }), 'h2', ended, t0 + day).nextAt).toBe(t0 + day + minute);
    expect(row({ trigger: { kind: 'at', at: t0 - 30 * minute } }).nextAt).toBe(t0 - 30 * minute);
    expect(row({ trigger: { kind: 'at', at: t0 - 61 * minute } }).nextAt).toBeNull();
  });

  test('raising maxRuns or endAt keeps a due occurrence', () => {
    const stored = row({ trigger: cron('0 9 * * *'), maxRuns: 10 });
    for (const more of [{ maxRuns: 20 }, { maxRuns: 10, endAt: t0 + 300 * day }, { maxRuns: 10, priority: 5 }])
      expect(scheduleRow(definition({ trigger: cron('0 9 * * *'), ...more }), 'h2', stored, t0 + 9 * hour + 10 * minute).nextAt).toBe(
        t0 + 9 * hour,
      );
    expect(scheduleRow(definition({ trigger: cron('0 9 * * *'), endAt: t0 + hour }), 'h2', stored, t0).nextAt).toBeNull();
  });

  test('a paused schedule skips a single instant, and a disabled one holds no occurrence', () => {
    const once = pausedRow(row({ trigger: { kind: 'at', at: t0 + 10 * minute } }), 'wait');
    expect(resumedRow(once, t0 + 30 * minute).nextAt).toBeNull();
    const held = { ...row({ overlap: 'queue-one' }), heldAt: t0 };
    expect(scheduleRow(definition({ overlap: 'queue-one', enabled: false }), 'h2', held, t0).heldAt).toBeNull();
    expect(scheduleRow(definition({ overlap: 'queue-one', input: '1' }), 'h2', held, t0).heldAt).toBe(t0);
  });

  test('an interval keeps its anchor at any position among several triggers', () => {
    const every = { kind: 'every', everyMs: day, anchorAt: null } as const;
    const before = row({ trigger: { kind: 'any', of: [every, cron('0 5 * * *')] } });
    const after = scheduleRow(definition({ trigger: { kind: 'any', of: [cron('0 5 * * *'), every] } }), 'h2', before, t0 + 6 * hour);
    expect(after.nextAt).toBe(t0 + day);
  });

  test('occurrences during a pause are skipped', () => {
    const paused = pausedRow(row(), 'holidays');
    expect(paused).toMatchObject({ paused: true, pausedBecause: 'holidays', revision: 2 });
    expect(resumedRow(paused, t0 + day)).toMatchObject({ paused: false, pausedBecause: null, nextAt: t0 + day + minute, revision: 3 });
  });
});

describe('several versions', () => {
  const code = (hash: string, input: string): CodeSchedule => ({ definition: definition({ input }), hash, compute: undefined });
  const worker = (hash: string) => ({ schedules: { nightly: hash } }) as unknown as WorkerRow;
  const [v1, v2] = [code('h1', '1'), code('h2', '2')];

  test('the most recently added definition wins while a live worker declares it, and does not flap', () => {
    const first = synchronised(v1, undefined, [], t0) as ScheduleRow;
    expect(synchronised(v1, first, [worker('h1')], t0 + 1)).toBeNull();
    const second = synchronised(v2, first, [worker('h1'), worker('h2')], t0 + hour) as ScheduleRow;
    expect(second).toMatchObject({ input: '2', hash: 'h2', seen: { h1: t0, h2: t0 + hour } });
    for (const now of [t0 + 2 * hour, t0 + day]) {
      expect(synchronised(v1, second, [worker('h1'), worker('h2')], now)).toBeNull();
      expect(synchronised(v2, second, [worker('h1'), worker('h2')], now)).toBeNull();
    }
    const back = synchronised(v1, second, [worker('h1')], t0 + 2 * day) as ScheduleRow;
    expect(back).toMatchObject({ input: '1', hash: 'h1', seen: { h1: t0, h2: t0 + hour } });
    // Rolled forward again: it was added later than the other.
    expect(synchronised(v2, back, [worker('h1'), worker('h2')], t0 + 3 * day)).toMatchObject({ hash: 'h2' });
  });

  test('if two were first seen at the same instant, exactly one wins', () => {
    const first = synchronised(v1, undefined, [], t0) as ScheduleRow;
    const both = synchronised(v2, first, [worker('h1'), worker('h2')], t0) as ScheduleRow;
    const live = [worker('h1'), worker('h2')];
    expect([synchronised(v1, both, live, t0 + 1), synchronised(v2, both, live, t0 + 1)]).toEqual([null, null]);
    const other = { ...both, hash: 'h1', input: '1' };
    expect(synchronised(v1, other, live, t0 + 1)).toBeNull();
    expect(synchronised(v2, other, live, t0 + 1)).toMatchObject({ hash: 'h2' });
  });

  test('an undeclared schedule is paused after a minute, and resumes when it is declared again', () => {
    const first = synchronised(v1, undefined, [], t0) as ScheduleRow;
    const noticed = undeclaredRow(first, t0 + hour) as ScheduleRow;
    expect(noticed.undeclaredAt).toBe(t0 + hour);
    expect(undeclaredRow(noticed, t0 + hour + minute - 1)).toBeNull();
    const paused = undeclaredRow(noticed, t0 + hour + minute) as ScheduleRow;
    expect(paused).toMatchObject({ paused: true, pausedBecause: undeclared });
    expect(undeclaredRow(paused, t0 + 9 * day)).toBeNull();
    expect(synchronised(v1, noticed, [], t0 + 2 * hour)).toMatchObject({ undeclaredAt: null, paused: false });
    expect(synchronised(v1, paused, [], t0 + 9 * day)).toMatchObject({ undeclaredAt: null, paused: false, nextAt: t0 + 9 * day + minute });
    expect(synchronised(v2, paused, [], t0 + 9 * day)).toMatchObject({ hash: 'h2', paused: false, nextAt: t0 + 9 * day + minute });
    // After a short gap the next occurrence is kept although it has passed, and the rule for missed ones applies.
    expect(synchronised(v1, paused, [], t0 + 5 * hour)).toMatchObject({ paused: false, nextAt: first.nextAt });
    // A manual pause remains.
    expect(synchronised(v1, pausedRow(first, 'holidays'), [], t0 + hour)).toBeNull();
    expect(undeclaredRow(row({ source: 'store' }), t0 + 9 * day)).toBeNull();
  });
});

test('the stored occurrence wins: a value computed with other time zone data fires, and the next ones follow from it', () => {
  const nightly = row({ trigger: cron('0 3 * * *', 'Europe/Berlin') });
  // A machine with another time zone rule has stored the occurrence an hour earlier.
  const other = { ...nightly, nextAt: (nightly.nextAt as number) - hour, occurrenceAt: (nightly.occurrenceAt as number) - hour };
  const firing = fire(other, other.nextAt, 0);
  expect(firing.occurrences).toEqual([other.occurrenceAt]);
  expect(firing.times.nextAt).toBe(nightly.nextAt);
  expect(fire({ ...other, ...firing.times }, nightly.nextAt as number, 0).occurrences).toEqual([nightly.nextAt]);
});

test('a monthly schedule fires although every process restarts daily with a new version', () => {
  let stored = row({ trigger: cron('0 0 1 * *') });
  const first = stored.nextAt;
  for (let at = t0 + day; at < (first as number); at += day) {
    const changed = synchronised(
      { definition: definition({ trigger: cron('0 0 1 * *'), input: String(at) }), hash: `h${at}`, compute: undefined },
      stored,
      [],
      at,
    );
    stored = changed as ScheduleRow;
    expect(stored.nextAt).toBe(first);
  }
  expect(fire(stored, first as number, 0).occurrences).toEqual([Date.UTC(2026, 1, 1)]);
});
