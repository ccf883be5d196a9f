/** Law 3, limits: running jobs are counted in the rows, whichever worker claimed them, and a job beyond a limit does not delay others. */
import assert from 'node:assert/strict';
import type { Limits, Rate } from '../../core/gate.ts';
import type { Job } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import { amend, cases, claim, done, failed, gaveUp, idsOf, insert, lost, many, rowOf, settle, t0, tasks } from './kit.ts';

const byKey = (concurrency: number, rest: object = {}): Limits => ({
  queues: {},
  tasks: { mail: { concurrency, concurrencyByKey: true, ...rest } },
});
const ofQueue = (concurrency: number): Limits => ({ queues: { default: { concurrency } }, tasks: {} });
const rated = (rate: Rate, rateByKey = false): Limits => ({ queues: {}, tasks: { mail: { rate, rateByKey } } });
const nextAt = async (store: Store, now: number, limits: Limits) => (await store.nextDueAt({ now, tasks, limits })).jobAt;
const end = (store: Store, job: Job | undefined, at = t0) => settle(store, done(job as Job, at));

const shared = (shareOf: (key: string) => number = () => 1, rest: object = {}): Limits => ({
  queues: {},
  tasks: { mail: { concurrencyByKey: true, shareOf, ...rest } },
});
const keysOf = (jobs: readonly Job[]) => {
  const counts: Record<string, number> = {};
  for (const { concurrencyKey } of jobs) counts[concurrencyKey ?? ''] = (counts[concurrencyKey ?? ''] ?? 0) + 1;
  return counts;
};
/** Claims repeatedly, like a worker whenever `nextDueAt` reports a due job, until nothing is due. */
async function claimAll(store: Store, slots: number, limits: Limits, now = t0): Promise<Job[]> {
  const jobs: Job[] = [];
  for (let i = 0; i < 50 && jobs.length < slots; i++) {
    jobs.push(...(await claim(store, now, { limits, limit: slots - jobs.length })));
    if ((await nextAt(store, now, limits)) !== now) break;
  }
  return jobs;
}

export const limits = cases(3, {
  'with fair shares, keys take turns, however many jobs one of them has': async (store, job) => {
    const [flood, few] = [many(40, job, { concurrencyKey: 'a' }), many(3, job, { concurrencyKey: 'b' })];
    await insert(store, ...flood, ...few);
    const first = await claimAll(store, 8, shared());
    assert.deepEqual(keysOf(first), { a: 5, b: 3 }, 'slots that one key does not need go to the other');
    await end(
      store,
      first.find(({ concurrencyKey }) => concurrencyKey === 'a'),
    );
    await insert(store, ...many(3, job, { concurrencyKey: 'c' }));
    assert.deepEqual(keysOf(await claimAll(store, 1, shared())), { c: 1 }, 'a free slot goes to the key with the fewest running jobs');
    for (const row of first.filter(({ concurrencyKey }) => concurrencyKey === 'b')) await end(store, row);
    assert.deepEqual(keysOf(await claimAll(store, 3, shared())), { a: 1, c: 2 });
    assert.equal((await claimAll(store, 100, shared())).length, 34, 'and nothing is left over');
  },
  'slots are shared by weight, and no key exceeds its own limit': async (store, job) => {
    await insert(store, ...many(30, job, { concurrencyKey: 'a' }), ...many(30, job, { concurrencyKey: 'b' }));
    const weights = shared((key) => (key === 'a' ? 3 : 1));
    assert.deepEqual(keysOf(await claimAll(store, 8, weights)), { a: 6, b: 2 });
    assert.deepEqual(
      keysOf(
        await claimAll(
          store,
          4,
          shared(() => 1, { concurrency: 4 }),
        ),
      ),
      { b: 2 },
    );
  },
  'a key whose jobs the caller may not claim does not delay others': async (store, job) => {
    await insert(store, ...many(3, job, { concurrencyKey: 'a', queue: 'other' }), ...many(2, job, { concurrencyKey: 'b', dueAt: t0 + 9 }));
    await insert(store, ...many(4, job, { concurrencyKey: 'c' }));
    await store.saveQueue({ name: 'other', paused: true }, { now: t0 });
    assert.deepEqual(keysOf(await claimAll(store, 4, shared())), { c: 4 });
  },
  'in a queue with aging, jobs that have been due for that long come first': async (store, job) => {
    const aging: Limits = { queues: { default: { agingMs: 1_000 } }, tasks: {} };
    const [low, urgent] = [many(3, job, { priority: -10 }), many(3, job, { priority: 10, dueAt: t0 + 500 })];
    const other = job({ queue: 'other', priority: -20 });
    await insert(store, ...urgent, ...low, other);
    assert.deepEqual(idsOf(await claim(store, t0 + 999, { limits: aging, limit: 1 })), [urgent[0]?.id]);
    const late = await claim(store, t0 + 1_000, { limits: aging, limit: 4 });
    assert.deepEqual(idsOf(late), [...idsOf(low), urgent[1]?.id]);
    assert.deepEqual(idsOf(await claim(store, t0 + 1_000, { limits: aging })), [urgent[2]?.id, other.id]);
  },
  'the limit of a queue applies across all workers, and no worker is woken until a job ends': async (store, job) => {
    const jobs = many(5, job);
    await insert(store, ...jobs, job({ queue: 'other', priority: -1 }));
    const first = await claim(store, t0, { limits: ofQueue(2), worker: 'a' });
    assert.deepEqual(idsOf(first), [...idsOf(jobs.slice(0, 2)), first[2]?.id]);
    assert.equal(first[2]?.queue, 'other');
    assert.deepEqual(await claim(store, t0, { limits: ofQueue(2), worker: 'b' }), []);
    assert.equal(await nextAt(store, t0, ofQueue(2)), null);
    await end(store, first[0]);
    assert.equal(await nextAt(store, t0, ofQueue(2)), t0);
    assert.deepEqual(idsOf(await claim(store, t0, { limits: ofQueue(2), worker: 'b' })), [jobs[2]?.id]);
    // A new limit applies immediately.
    assert.equal((await claim(store, t0, { limits: ofQueue(4) })).length, 2);
  },
  'a limit without a key counts the whole task, and settling frees a slot for the claim in the same call': async (store, job) => {
    const whole: Limits = { queues: {}, tasks: { mail: { concurrency: 1 } } };
    const jobs = many(3, job, { concurrencyKey: 'k' });
    await insert(store, ...jobs, job({ task: 'report', priority: -5 }));
    const [first, report] = await claim(store, t0, { limits: whole });
    assert.deepEqual([first?.id, report?.task], [jobs[0]?.id, 'report']);
    const options = { worker: 'w1', limit: 5, leaseUntil: t0 + 9, tasks, limits: whole };
    const { claimed } = await store.settle([failed(first as Job, t0, 60_000)], { now: t0, claim: options });
    assert.deepEqual(idsOf(claimed), [jobs[1]?.id]);
  },
  'the limit applies to each key; a key at its limit does not delay others': async (store, job) => {
    const full = many(1_200, job, { concurrencyKey: 'full', priority: 9 });
    await store.insert(full, { now: t0 });
    const others = [job({ concurrencyKey: 'a' }), job({ concurrencyKey: null }), job({ task: 'report' })];
    await insert(store, ...others);
    const [held] = await claim(store, t0, { limits: byKey(1), limit: 1 });
    const found: string[] = [];
    // A claim passes over at most a thousand jobs; the next one continues.
    for (let i = 0; i < 2; i++) found.push(...idsOf(await claim(store, t0, { limits: byKey(1) })));
    assert.deepEqual(found, idsOf(others));
    assert.equal(await nextAt(store, t0, byKey(1)), null);
    await end(store, held);
    assert.equal(await nextAt(store, t0, byKey(1)), t0);
    assert.deepEqual(idsOf(await claim(store, t0, { limits: byKey(1) })), [full[1]?.id]);
    const [stats] = await store.stats({ now: t0 });
    assert.deepEqual([stats?.counts.ready, stats?.counts.running, stats?.oldestReadyAt], [1_198, 4, t0]);
  },
  'when a key has room again, its first job in order is claimed, even if it was inserted later': async (store, job) => {
    const jobs = many(3, job, { concurrencyKey: 'k' });
    await insert(store, ...jobs);
    let [held] = await claim(store, t0, { limits: byKey(1) });
    const best = job({ concurrencyKey: 'k', priority: 5 });
    await insert(store, best);
    for (const expected of [best, jobs[1], jobs[2]]) {
      await end(store, held);
      [held] = await claim(store, t0, { limits: byKey(1) });
      assert.equal(held?.id, expected?.id);
    }
  },
  'if the running job of a key fails, is lost or succeeds, the next one runs; a late outcome frees no slot': async (store, job) => {
    await insert(store, ...many(4, job, { concurrencyKey: 'k', maxAttempts: 1 }));
    let [held] = await claim(store, t0, { limits: byKey(1), leaseUntil: t0 + 10 });
    for (const outcome of [gaveUp, lost, done]) {
      const late = held as Job;
      assert.deepEqual(await claim(store, t0 + 10, { limits: byKey(1) }), []);
      await settle(store, outcome(late, t0 + 10));
      const next = await claim(store, t0 + 10, { limits: byKey(1), leaseUntil: t0 + 10 });
      assert.equal(next.length, 1);
      await store.settle([done({ ...late, claim: late.claim + 5 }, t0 + 11)], { now: t0 + 11 });
      assert.deepEqual(await claim(store, t0 + 11, { limits: byKey(1) }), []);
      held = next[0];
    }
  },
  'if the next job of a key is cancelled, deleted or moved, the one after it takes its place': async (store, job) => {
    const jobs = many(5, job, { concurrencyKey: 'k' });
    await insert(store, ...jobs);
    const [held] = await claim(store, t0, { limits: byKey(1) });
    assert.deepEqual(await claim(store, t0, { limits: byKey(1) }), []);
    await end(store, held);
    await amend(store, jobs[1] as Job, { status: 'cancelled', finishedAt: t0 });
    await amend(store, jobs[2] as Job, null);
    await amend(store, jobs[3] as Job, { dueAt: t0 + 60_000 });
    assert.deepEqual(idsOf(await claim(store, t0, { limits: byKey(1) })), [jobs[4]?.id]);
  },
  'a raised or removed limit applies to waiting jobs': async (store, job) => {
    await insert(store, ...many(9, job, { concurrencyKey: 'k' }));
    assert.equal((await claim(store, t0, { limits: byKey(1) })).length, 1);
    assert.equal((await claim(store, t0, { limits: byKey(1) })).length, 0);
    assert.equal(await nextAt(store, t0, byKey(3)), t0);
    assert.equal((await claim(store, t0, { limits: byKey(3) })).length, 2);
    assert.equal((await store.nextDueAt({ now: t0, tasks })).jobAt, t0);
    assert.equal((await claim(store, t0)).length, 6);
  },
  'a blocked job is listed, expires and is cancelled like a ready job': async (store, job) => {
    const jobs = many(3, job, { concurrencyKey: 'k', expiresAt: t0 + 50 });
    await insert(store, ...jobs);
    await claim(store, t0, { limits: byKey(1) });
    const { items } = await store.list({ status: ['ready'] }, { now: t0, limit: 9 });
    assert.equal(items.length, 2);
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 50, limit: 9 })), idsOf(jobs.slice(1)));
    assert.equal((await amend(store, jobs[1] as Job, { status: 'cancelled', finishedAt: t0 }))?.status, 'cancelled');
  },
  'after its burst, a rate spreads starts evenly, and nextDueAt returns the next start': async (store, job) => {
    const rate = { limit: 10, perMs: 10_000, burst: 3 };
    await insert(store, ...many(6, job));
    assert.equal((await claim(store, t0, { limits: rated(rate) })).length, 3);
    for (const at of [t0 + 1_000, t0 + 2_000]) {
      assert.equal(await nextAt(store, at - 1_000, rated(rate)), at);
      assert.deepEqual(await claim(store, at - 1, { limits: rated(rate) }), []);
      assert.equal((await claim(store, at, { limits: rated(rate), worker: `w${at}` })).length, 1);
    }
    // A quiet period restores the burst, but no more than that.
    await insert(store, ...many(6, job));
    assert.equal((await claim(store, t0 + 600_000, { limits: rated(rate) })).length, 3);
  },
  'a rate by key defers each job that exceeds it to the earliest allowed instant, and does not delay other keys': async (store, job) => {
    const rate = { limit: 1, perMs: 1_000, burst: 1 };
    const jobs = many(4, job, { rateKey: 'k' });
    await insert(store, ...jobs, job({ rateKey: 'other', priority: -1 }));
    assert.deepEqual(
      (await claim(store, t0, { limits: rated(rate, true) })).map(({ rateKey }) => rateKey),
      ['k', 'other'],
    );
    const dues = await Promise.all(jobs.slice(1).map(async ({ id }) => (await rowOf(store, id)).dueAt - t0));
    assert.deepEqual(dues, [1_000, 2_000, 3_000]);
    assert.equal(await nextAt(store, t0, rated(rate, true)), t0 + 1_000);
    for (const [i, at] of [1_000, 2_000, 3_000].entries())
      assert.deepEqual(idsOf(await claim(store, t0 + at, { limits: rated(rate, true) })), [jobs[i + 1]?.id]);
  },
  'the rate of a queue applies to all of its tasks': async (store, job) => {
    const slow: Limits = { queues: { default: { rate: { limit: 1, perMs: 1_000, burst: 1 } } }, tasks: {} };
    await insert(store, job(), job({ task: 'report' }), job({ queue: 'other' }));
    assert.deepEqual(
      (await claim(store, t0, { limits: slow })).map(({ task, queue }) => `${task} ${queue}`),
      ['mail default', 'mail other'],
    );
    assert.equal(await nextAt(store, t0, slow), t0 + 1_000);
    assert.equal((await claim(store, t0 + 1_000, { limits: slow })).length, 1);
  },
});
