/** Law 6: schedules advance by compare-and-set, and an occurrence creates its jobs once. */
import assert from 'node:assert/strict';
import type { Job } from '../../core/types.ts';
import type { Advance, Store } from '../../ports/store.ts';
import { advanceOf, cases, claim, done, failed, idsOf, insert, leavesAsIs, refuses, schedule, settle, t0 } from './kit.ts';

const minute = 60_000;

/** From revision 1, at `t0`, to one minute later. */
function advance(jobs: readonly Job[], overrides: Partial<Advance> = {}, times: Partial<Advance['times']> = {}): Advance {
  return advanceOf({ jobs, ...overrides }, times);
}
const moved = { revision: 2, lastAt: t0, nextAt: t0 + minute, occurrenceAt: t0 + minute, runs: 1 } as const;
const due = async (store: Store, now: number, limit = 10, computes: readonly string[] = []) =>
  (await store.dueSchedules({ now, limit, computes })).due.map(({ row }) => row);

async function save(store: Store, ...rows: readonly Parameters<typeof schedule>[0][]): Promise<void> {
  for (const row of rows) assert.equal(await store.saveSchedule(schedule(row), { expect: null }), true);
}

const occurrences = cases(6, {
  'an advance moves the schedule and inserts its jobs': async (store, job) => {
    await save(store, {});
    const fired = job({ task: 'report', schedule: 'nightly', scheduledAt: t0 });
    assert.deepEqual(await store.advanceSchedules([advance([fired])], { now: t0 }), [[fired]]);
    assert.deepEqual(await store.listSchedules(), [schedule(moved)]);
    assert.deepEqual(await store.get([fired.id]), [{ job: fired, attempts: [] }]);
    assert.deepEqual(idsOf(await claim(store, t0)), [fired.id]);
  },
  'the second of two advances from one revision loses, and its jobs do not exist': async (store, job) => {
    await save(store, {});
    const [mine, theirs] = [job(), job()];
    assert.deepEqual(await store.advanceSchedules([advance([mine])], { now: t0 }), [[mine]]);
    assert.deepEqual(await store.advanceSchedules([advance([theirs], {}, { nextAt: t0 + 99 * minute })], { now: t0 }), [null]);
    assert.deepEqual(await store.get([theirs.id]), [null]);
    assert.deepEqual(await store.listSchedules(), [schedule(moved)]);
  },
  'of many concurrent advances from one revision, one wins': async (store, job) => {
    await save(store, {});
    const jobs = Array.from({ length: 8 }, () => job());
    const answers = await Promise.all(jobs.map((fired) => store.advanceSchedules([advance([fired])], { now: t0 })));
    assert.equal(answers.flat().filter((won) => won !== null).length, 1);
    assert.equal((await store.list({}, { now: t0, limit: 100 })).items.length, 1);
  },
  'an advance from an older or later revision loses': async (store, job) => {
    await save(store, { revision: 5 });
    for (const revision of [4, 6, 0]) assert.deepEqual(await store.advanceSchedules([advance([job()], { revision })], { now: t0 }), [null]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 100 })).items, []);
  },
  'an advance of a schedule that does not exist loses': async (store, job) => {
    assert.deepEqual(await store.advanceSchedules([advance([job()])], { now: t0 }), [null]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 100 })).items, []);
  },
  'schedules of a batch win and lose independently, with answers in order': async (store, job) => {
    await save(store, { name: 'a' }, { name: 'b', revision: 7 }, { name: 'c' });
    const [a, b, c] = [job(), job(), job()];
    const batch = [advance([a], { name: 'a' }), advance([b], { name: 'b' }), advance([c], { name: 'c' })];
    assert.deepEqual(await store.advanceSchedules(batch, { now: t0 }), [[a], null, [c]]);
    const found = await store.get(idsOf([a, b, c]));
    assert.deepEqual(
      found.map((record) => record !== null),
      [true, false, true],
    );
    const rows = await store.listSchedules();
    assert.deepEqual(
      rows.map(({ revision }) => revision),
      [2, 7, 2],
    );
  },
  'a schedule that is in a batch twice advances once': async (store, job) => {
    await save(store, {});
    const [first, second] = [job(), job()];
    assert.deepEqual(await store.advanceSchedules([advance([first]), advance([second])], { now: t0 }), [[first], null]);
    assert.equal((await store.list({}, { now: t0, limit: 100 })).items.length, 1);
  },
  'an advance inserts all of its jobs or none': async (store, job) => {
    await save(store, {});
    const jobs = [job({ scheduledAt: t0 - minute }), job({ scheduledAt: t0 })];
    await store.advanceSchedules([advance(jobs)], { now: t0 });
    assert.deepEqual(await store.get(idsOf(jobs)), [
      { job: jobs[0], attempts: [] },
      { job: jobs[1], attempts: [] },
    ]);
    assert.deepEqual(await store.advanceSchedules([advance([], { revision: 2 }, { nextAt: null })], { now: t0 }), [[]]);
  },
  'an occurrence that has a job creates no other': async (store, job) => {
    await save(store, {});
    const of = (scheduledAt: number) => job({ schedule: 'nightly', scheduledAt });
    const [first, again, next] = [of(t0), of(t0), of(t0 + 1)];
    await store.advanceSchedules([advance([first])], { now: t0 });
    assert.deepEqual(await store.advanceSchedules([advance([again, next], { revision: 2 })], { now: t0 }), [[next]]);
    assert.deepEqual(await store.get([again.id]), [null]);
    await leavesAsIs(store, [first.id], () => refuses('conflict', () => insert(store, of(t0))));
    const [row] = await claim(store, t0);
    await settle(store, done(row as Job, t0));
    assert.deepEqual(await store.advanceSchedules([advance([of(t0)], { revision: 3 })], { now: t0 }), [[]]);
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 1, limit: 10 }), 1);
    const recreated = of(t0);
    assert.deepEqual(await store.advanceSchedules([advance([recreated], { revision: 4 })], { now: t0 }), [[recreated]]);
  },
  'an advance whose job already exists is refused as a conflict, and changes neither the schedule nor the job': async (store, job) => {
    await save(store, {});
    const taken = job();
    await insert(store, taken);
    const fresh = job();
    const attempt = async () => store.advanceSchedules([advance([fresh, { ...taken, input: '"other"' }])], { now: t0 });
    await leavesAsIs(store, idsOf([taken, fresh]), () => refuses('conflict', attempt));
    assert.deepEqual(await store.listSchedules(), [schedule()]);
  },
});

const rows = cases('schedules', {
  'a schedule is stored as saved': async (store) => {
    const cron = { kind: 'cron', expression: '0 9 * * 1-5', timezone: 'Australia/Lord_Howe' } as const;
    const overrides = { backoff: { kind: 'exponential', initialMs: 1, factor: 1.5, maxMs: 9, jitter: 0 } } as const;
    const metadata = JSON.parse('{"__proto__":{"a":"ß"},"n":[null]}');
    const words = { tags: ['ä', 'b'], input: '{"x":"\\u0000"}', hash: 'ß', metadata, overrides };
    const sun = { kind: 'sun', event: 'dusk', latitude: -33.5, longitude: 151.25 } as const;
    const trigger = { kind: 'any', of: [cron, sun, { kind: 'at', at: t0 }] } as const;
    const times = { startAt: t0 - 5, endAt: t0 + 5, nextAt: t0 + 1, lastAt: t0 - 1, heldAt: t0 - 2, maxRuns: 7, runs: 3, jitterMs: 8 };
    const rules = { missed: { graceMs: null, catchUp: 'all', limit: 7 }, overlap: 'queue-one', enabled: false, computed: true } as const;
    const kept = { source: 'store', pausedBecause: 'ä', undeclaredAt: t0, seen: { b: 1, ß: 2 } } as const;
    const full = schedule({ name: 'full', priority: -100, expiresMs: 5, trigger, ...times, ...rules, ...kept, ...words });
    await save(store, full, {});
    assert.deepEqual(await store.listSchedules(), [full, schedule()]);
  },
  'an existing schedule is not saved as a new one': async (store) => {
    await save(store, {});
    assert.equal(await store.saveSchedule(schedule({ hash: 'b2' }), { expect: null }), false);
    assert.deepEqual(await store.listSchedules(), [schedule()]);
  },
  'a schedule is replaced from the revision that was read': async (store) => {
    await save(store, {});
    const next = schedule({ revision: 2, hash: 'b2', nextAt: null, paused: true });
    assert.equal(await store.saveSchedule(next, { expect: 1 }), true);
    assert.deepEqual(await store.listSchedules(), [next]);
  },
  'a schedule is not replaced from a stale revision, and a missing one from no revision': async (store) => {
    await save(store, { revision: 2 });
    assert.equal(await store.saveSchedule(schedule({ revision: 2, hash: 'b2' }), { expect: 1 }), false);
    assert.equal(await store.saveSchedule(schedule({ name: 'other' }), { expect: 1 }), false);
    assert.deepEqual(await store.listSchedules(), [schedule({ revision: 2 })]);
  },
  'saving a schedule as read before an advance fails': async (store) => {
    await save(store, {});
    await store.advanceSchedules([advance([])], { now: t0 });
    assert.equal(await store.saveSchedule(schedule({ revision: 2 }), { expect: 1 }), false);
    assert.equal(await store.saveSchedule(schedule({ revision: 3 }), { expect: 2 }), true);
  },
  'of many concurrent saves of a new schedule, one wins': async (store) => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => store.saveSchedule(schedule({ hash: String(i) }), { expect: null })),
    );
    assert.equal(answers.filter((won) => won).length, 1);
    assert.equal((await store.listSchedules()).length, 1);
  },
  'schedules are listed by name': async (store) => {
    await save(store, { name: 'c' }, { name: 'a' }, { name: 'b' });
    assert.deepEqual(
      (await store.listSchedules()).map(({ name }) => name),
      ['a', 'b', 'c'],
    );
  },
  'a dropped schedule is gone but its jobs are kept, and it can be saved again': async (store, job) => {
    await save(store, {});
    const fired = job({ schedule: 'nightly', scheduledAt: t0 });
    await store.advanceSchedules([advance([fired])], { now: t0 });
    assert.deepEqual([await store.dropSchedule('nightly'), await store.dropSchedule('nightly')], [true, false]);
    assert.deepEqual(await store.listSchedules(), []);
    assert.deepEqual(await store.advanceSchedules([advance([job()], { revision: 2 })], { now: t0 }), [null]);
    const [row] = await claim(store, t0);
    assert.equal(row?.id, fired.id);
    assert.deepEqual(await settle(store, done(row, t0)), ['settled']);
    await save(store, {});
  },
  'a schedule is due at its instant, and not before': async (store) => {
    await save(store, { nextAt: t0 + 100 });
    assert.deepEqual(await due(store, t0 + 99), []);
    assert.deepEqual(await due(store, t0 + 100), [schedule({ nextAt: t0 + 100 })]);
  },
  'a paused schedule and one that has ended are never due': async (store) => {
    await save(store, { name: 'paused', paused: true }, { name: 'ended', nextAt: null });
    assert.deepEqual(await due(store, t0 * 2), []);
  },
  'an advanced schedule is due again at its next instant': async (store) => {
    await save(store, {});
    await store.advanceSchedules([advance([])], { now: t0 });
    assert.deepEqual(await due(store, t0 + minute - 1), []);
    assert.equal((await due(store, t0 + minute)).length, 1);
  },
  'schedules are listed by name, and filtered by names and by source': async (store) => {
    await save(store, { name: 'a' }, { name: 'b', source: 'store' }, { name: 'c' });
    const names = async (options?: Parameters<Store['listSchedules']>[0]) => (await store.listSchedules(options)).map(({ name }) => name);
    assert.deepEqual(await names({ names: ['c', 'x', 'a', 'a'] }), ['a', 'c']);
    assert.deepEqual([await names({ source: 'code' }), await names({ source: 'store' })], [['a', 'c'], ['b']]);
    assert.deepEqual(await names({ names: ['a', 'b'], source: 'store' }), ['b']);
    assert.deepEqual(await names({ names: [] }), []);
  },
  'the next instant to check is that of the schedules that are not due': async (store) => {
    await save(store, { name: 'a' }, { name: 'b', nextAt: t0 + 9 }, { name: 'c', nextAt: t0 + 4, computed: true });
    const nextAt = async (now: number, computes: readonly string[] = []) => (await store.dueSchedules({ now, limit: 10, computes })).nextAt;
    assert.deepEqual([await nextAt(t0), await nextAt(t0, ['c']), await nextAt(t0 + 9)], [t0 + 9, t0 + 4, null]);
  },
  'a schedule with a computed input is due only for workers with that code': async (store) => {
    await save(store, { name: 'a', computed: true }, { name: 'b' });
    const names = async (...computes: string[]) => (await due(store, t0, 10, computes)).map(({ name }) => name);
    assert.deepEqual([await names(), await names('x'), await names('a')], [['b'], ['b'], ['a', 'b']]);
  },
  'due schedules include their unfinished jobs, oldest first, unless overlap is allowed': async (store, job) => {
    await save(store, { name: 'skips', overlap: 'skip' }, { name: 'allows' });
    const of = (schedule: string) => Array.from({ length: 5 }, (_, i) => job({ schedule, scheduledAt: t0 - 5 + i, dueAt: t0 + (i % 2) }));
    const [mine, theirs] = [of('skips'), of('allows')];
    await insert(store, ...mine, ...theirs, job());
    const [running, over] = await claim(store, t0);
    assert.ok(running && over && running.schedule === 'skips' && over.schedule === 'skips');
    await settle(store, done(over, t0));
    const open = async () =>
      Object.fromEntries(
        (await store.dueSchedules({ now: t0, limit: 10, computes: [] })).due.map((one) => [one.row.name, idsOf(one.open)]),
      );
    assert.deepEqual(await open(), { allows: [], skips: idsOf(mine.filter(({ id }) => id !== over.id)) });
  },
  'a schedule that holds an occurrence is due when its jobs have finished, and is reported as holding until then': async (store, job) => {
    await save(
      store,
      { overlap: 'queue-one', nextAt: t0 + minute, heldAt: t0 - 1 },
      { name: 'paused', heldAt: t0, nextAt: null, paused: true },
    );
    await insert(store, job({ schedule: 'nightly', scheduledAt: t0 - minute }), job({ schedule: 'other', scheduledAt: t0 }));
    const state = async () => {
      const answer = await store.dueSchedules({ now: t0, limit: 10, computes: [] });
      return [answer.due.map(({ row }) => row.name), answer.nextAt, answer.holding];
    };
    assert.deepEqual(await state(), [[], t0 + minute, true]);
    const [row] = await claim(store, t0);
    assert.deepEqual(await state(), [[], t0 + minute, true]);
    await settle(store, failed(row as Job, t0, 5_000));
    assert.deepEqual(await state(), [[], t0 + minute, true]);
    const [again] = (await claim(store, t0 + 5_000)).filter(({ schedule: of }) => of === 'nightly');
    await settle(store, done(again as Job, t0 + 5_000));
    assert.deepEqual(await state(), [['nightly'], t0 + minute, true]);
    await store.advanceSchedules(
      [advance([job({ schedule: 'nightly', scheduledAt: t0 - 1 })], {}, { nextAt: t0 + minute, heldAt: null })],
      { now: t0 },
    );
    assert.deepEqual(await state(), [[], t0 + minute, false]);
  },
  'due schedules are returned earliest first, up to the limit': async (store) => {
    await save(
      store,
      { name: 'a', nextAt: t0 + 3 },
      { name: 'b', nextAt: t0 + 1 },
      { name: 'c', nextAt: t0 + 2 },
      { name: 'd', nextAt: t0 + 9 },
    );
    const names = async (limit: number) => (await due(store, t0 + 5, limit)).map(({ name }) => name);
    assert.deepEqual(await names(10), ['b', 'c', 'a']);
    assert.deepEqual(await names(2), ['b', 'c']);
  },
});

export const schedules = [...occurrences, ...rows];
