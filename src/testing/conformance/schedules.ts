/** Law 6: schedules move by compare-and-set, and an occurrence makes its jobs once. */
import assert from 'node:assert/strict';
import type { Job } from '../../core/types.ts';
import type { Advance, Store } from '../../ports/store.ts';
import { cases, claim, done, idsOf, insert, leavesAsIs, refuses, schedule, settle, t0 } from './kit.ts';

const minute = 60_000;

/** From revision 1, at `t0`, to a minute later. */
function advance(jobs: readonly Job[], overrides: Partial<Advance> = {}): Advance {
  return { name: 'nightly', revision: 1, lastAt: t0, nextAt: t0 + minute, jobs, ...overrides };
}

async function save(store: Store, ...rows: readonly Parameters<typeof schedule>[0][]): Promise<void> {
  for (const row of rows) assert.equal(await store.saveSchedule(schedule(row), { expect: null }), true);
}

const occurrences = cases(6, {
  'an advance moves the schedule and inserts its jobs': async (store, job) => {
    await save(store, {});
    const fired = job({ task: 'report', schedule: 'nightly', scheduledAt: t0 });
    assert.deepEqual(await store.advanceSchedules([advance([fired])], { now: t0 }), [true]);
    assert.deepEqual(await store.listSchedules(), [schedule({ revision: 2, lastAt: t0, nextAt: t0 + minute })]);
    assert.deepEqual(await store.get([fired.id]), [{ job: fired, attempts: [] }]);
    assert.deepEqual(idsOf(await claim(store, t0)), [fired.id]);
  },
  'of two advances from one revision the second loses, and its jobs do not exist': async (store, job) => {
    await save(store, {});
    const [mine, theirs] = [job(), job()];
    assert.deepEqual(await store.advanceSchedules([advance([mine])], { now: t0 }), [true]);
    assert.deepEqual(await store.advanceSchedules([advance([theirs], { nextAt: t0 + 99 * minute })], { now: t0 }), [false]);
    assert.deepEqual(await store.get([theirs.id]), [null]);
    assert.deepEqual(await store.listSchedules(), [schedule({ revision: 2, lastAt: t0, nextAt: t0 + minute })]);
  },
  'of many that advance from one revision at once, one wins': async (store, job) => {
    await save(store, {});
    const jobs = Array.from({ length: 8 }, () => job());
    const answers = await Promise.all(jobs.map((fired) => store.advanceSchedules([advance([fired])], { now: t0 })));
    assert.equal(answers.flat().filter((won) => won).length, 1);
    assert.equal((await store.list({}, { now: t0, limit: 100 })).items.length, 1);
  },
  'an advance from an older or a later revision loses': async (store, job) => {
    await save(store, { revision: 5 });
    for (const revision of [4, 6, 0])
      assert.deepEqual(await store.advanceSchedules([advance([job()], { revision })], { now: t0 }), [false]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 100 })).items, []);
  },
  'an advance of a schedule that does not exist loses': async (store, job) => {
    assert.deepEqual(await store.advanceSchedules([advance([job()])], { now: t0 }), [false]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 100 })).items, []);
  },
  'schedules of one batch win and lose each by itself, answered in order': async (store, job) => {
    await save(store, { name: 'a' }, { name: 'b', revision: 7 }, { name: 'c' });
    const [a, b, c] = [job(), job(), job()];
    const batch = [advance([a], { name: 'a' }), advance([b], { name: 'b' }), advance([c], { name: 'c' })];
    assert.deepEqual(await store.advanceSchedules(batch, { now: t0 }), [true, false, true]);
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
  'one name twice in a batch advances once': async (store, job) => {
    await save(store, {});
    assert.deepEqual(await store.advanceSchedules([advance([job()]), advance([job()])], { now: t0 }), [true, false]);
    assert.equal((await store.list({}, { now: t0, limit: 100 })).items.length, 1);
  },
  'an advance inserts all jobs that it brings, or none': async (store, job) => {
    await save(store, {});
    const jobs = [job({ scheduledAt: t0 - minute }), job({ scheduledAt: t0 })];
    await store.advanceSchedules([advance(jobs)], { now: t0 });
    assert.deepEqual(await store.get(idsOf(jobs)), [
      { job: jobs[0], attempts: [] },
      { job: jobs[1], attempts: [] },
    ]);
    assert.deepEqual(await store.advanceSchedules([advance([], { revision: 2, nextAt: null })], { now: t0 }), [true]);
  },
  'an advance whose job is there already is refused as a conflict, and neither moves the schedule nor touches the job': async (
    store,
    job,
  ) => {
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
  'a schedule is kept as it was saved': async (store) => {
    const cron = { kind: 'cron', expression: '0 9 * * 1-5', timezone: 'Australia/Lord_Howe', startAt: t0 - 5, endAt: t0 + 5 } as const;
    const overrides = { backoff: { kind: 'exponential', initialMs: 1, factor: 1.5, maxMs: 9, jitter: 0 } } as const;
    const metadata = JSON.parse('{"__proto__":{"a":"ß"},"n":[null]}');
    const words = { tags: ['ä', 'b'], input: '{"x":"\\u0000"}', hash: 'ß', metadata, overrides };
    const full = schedule({ name: 'full', priority: -100, expiresMs: 5, trigger: cron, lastAt: t0 - 1, ...words });
    await save(store, full, {});
    assert.deepEqual(await store.listSchedules(), [full, schedule()]);
  },
  'a schedule that is there is not saved as a new one': async (store) => {
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
  'a schedule is not replaced from a stale revision, nor one that does not exist from any': async (store) => {
    await save(store, { revision: 2 });
    assert.equal(await store.saveSchedule(schedule({ revision: 2, hash: 'b2' }), { expect: 1 }), false);
    assert.equal(await store.saveSchedule(schedule({ name: 'other' }), { expect: 1 }), false);
    assert.deepEqual(await store.listSchedules(), [schedule({ revision: 2 })]);
  },
  'whoever saves after an advance from what they read before it is too late': async (store) => {
    await save(store, {});
    await store.advanceSchedules([advance([])], { now: t0 });
    assert.equal(await store.saveSchedule(schedule({ revision: 2 }), { expect: 1 }), false);
    assert.equal(await store.saveSchedule(schedule({ revision: 3 }), { expect: 2 }), true);
  },
  'of many that save one new schedule at once, one wins': async (store) => {
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
  'a dropped schedule is gone, its jobs are not, and it can be saved anew': async (store, job) => {
    await save(store, {});
    const fired = job({ schedule: 'nightly', scheduledAt: t0 });
    await store.advanceSchedules([advance([fired])], { now: t0 });
    assert.deepEqual([await store.dropSchedule('nightly'), await store.dropSchedule('nightly')], [true, false]);
    assert.deepEqual(await store.listSchedules(), []);
    assert.deepEqual(await store.advanceSchedules([advance([job()], { revision: 2 })], { now: t0 }), [false]);
    const [row] = await claim(store, t0);
    assert.equal(row?.id, fired.id);
    assert.deepEqual(await settle(store, done(row, t0)), ['settled']);
    await save(store, {});
  },
  'a schedule is due at its instant, and not before': async (store) => {
    await save(store, { nextAt: t0 + 100 });
    assert.deepEqual(await store.dueSchedules({ now: t0 + 99, limit: 10 }), []);
    assert.deepEqual(await store.dueSchedules({ now: t0 + 100, limit: 10 }), [schedule({ nextAt: t0 + 100 })]);
  },
  'a paused schedule and one that has come to its end are never due': async (store) => {
    await save(store, { name: 'paused', paused: true }, { name: 'ended', nextAt: null });
    assert.deepEqual(await store.dueSchedules({ now: t0 * 2, limit: 10 }), []);
  },
  'an advanced schedule is due again at its next instant': async (store) => {
    await save(store, {});
    await store.advanceSchedules([advance([])], { now: t0 });
    assert.deepEqual(await store.dueSchedules({ now: t0 + minute - 1, limit: 10 }), []);
    assert.equal((await store.dueSchedules({ now: t0 + minute, limit: 10 })).length, 1);
  },
  'due schedules come earliest first, at most the limit': async (store) => {
    await save(
      store,
      { name: 'a', nextAt: t0 + 3 },
      { name: 'b', nextAt: t0 + 1 },
      { name: 'c', nextAt: t0 + 2 },
      { name: 'd', nextAt: t0 + 9 },
    );
    const names = async (limit: number) => (await store.dueSchedules({ now: t0 + 5, limit })).map(({ name }) => name);
    assert.deepEqual(await names(10), ['b', 'c', 'a']);
    assert.deepEqual(await names(2), ['b', 'c']);
  },
});

export const schedules = [...occurrences, ...rows];
