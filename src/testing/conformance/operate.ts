/** The methods for operators and maintenance: `amend`, `prune`, `saveQueue`, `saveWorker`. */
import assert from 'node:assert/strict';
import { latestInstant } from '../../core/duration.ts';
import type { Job } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import {
  amend,
  cancelled,
  cases,
  claim,
  claimOne,
  done,
  failed,
  gaveUp,
  idOf,
  idsOf,
  insert,
  leavesAsIs,
  type MakeJob,
  many,
  recordOf,
  rowOf,
  schedule,
  settle,
  t0,
  worker,
} from './kit.ts';

const amends = cases('amend', {
  'a row that is as expected is changed only in the given fields': async (store, job) => {
    const row = job({ tags: ['x'], expiresAt: t0 + 900 });
    await insert(store, row);
    const set = {
      priority: 9,
      dueAt: t0 + 100,
      expiresAt: null,
      maxAttempts: 7,
      losses: 2,
      progress: { fraction: 0.5, message: null, at: t0 },
    };
    assert.deepEqual(await amend(store, row, set), { ...row, ...set });
    assert.deepEqual(await rowOf(store, row.id), { ...row, ...set });
  },
  'a job with a new input, queue and due time is claimed and counted accordingly': async (store, job) => {
    const [row, other] = [job({ dueAt: t0 + 900, runAfter: t0 + 900 }), job({ queue: 'slow' })];
    await insert(store, row, other);
    const set = { input: '{"to":"bob"}', queue: 'slow', runAfter: t0 + 5, dueAt: t0 + 5 };
    assert.deepEqual(await amend(store, row, set), { ...row, ...set });
    assert.deepEqual(await rowOf(store, row.id), { ...row, ...set });
    assert.deepEqual(idsOf((await store.list({ queue: 'slow' }, { now: t0, limit: 10 })).items.map((item) => item.job)), [
      other.id,
      row.id,
    ]);
    assert.deepEqual(await claim(store, t0 + 5, { queues: ['default'] }), []);
    assert.deepEqual(await store.nextDueAt({ now: t0, tasks: ['mail'], queues: ['default'] }), { jobAt: null, overdueAt: null });
    assert.deepEqual(idsOf(await claim(store, t0 + 5, { queues: ['slow'] })), [other.id, row.id]);
    const counted = (await store.stats({ now: t0 + 5 })).filter(({ counts }) => Object.values(counts).some((count) => count > 0));
    assert.deepEqual(
      counted.map(({ name, counts }) => [name, counts.running]),
      [['slow', 2]],
    );
    const edited = await rowOf(store, row.id);
    assert.deepEqual([edited.input, edited.queue], ['{"to":"bob"}', 'slow']);
  },
  'a row with a different status or claim number is not changed, and the answer is null': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    for (const expected of [
      { ...row, status: 'queued' as const },
      { ...row, claim: 0 },
      { ...row, claim: 2 },
    ]) {
      assert.equal(await leavesAsIs(store, [row.id], () => amend(store, expected, { priority: 9 })), null);
    }
  },
  'the answer for a job that does not exist is null': async (store, job) => {
    assert.equal(await amend(store, job(), { priority: 9 }), null);
    assert.deepEqual(await store.amend([], { now: t0 }), { amended: [], dependents: [] });
  },
  'rows of a batch that are as expected are changed, with answers in order': async (store, job) => {
    const [a, b, c] = [job(), job(), job()];
    await insert(store, a, b, c);
    const expect = { status: 'queued', claim: 0 } as const;
    const { amended: answers } = await store.amend(
      [
        { id: c.id, expect, set: { priority: 3 } },
        { id: idOf(999), expect, set: { priority: 3 } },
        { id: a.id, expect: { ...expect, claim: 1 }, set: { priority: 3 } },
        { id: b.id, expect, set: { reason: 'because' } },
      ],
      { now: t0 },
    );
    assert.deepEqual(answers, [{ ...c, priority: 3 }, null, null, { ...b, reason: 'because' }]);
    assert.deepEqual(await rowOf(store, a.id), a);
  },
  'the second of two amendments of a row in a batch sees the result of the first': async (store, job) => {
    const row = job();
    await insert(store, row);
    const expect = { status: 'queued', claim: 0 } as const;
    const stop = { status: 'cancelled', finishedAt: t0, reason: 'first' } as const;
    const { amended: answers } = await store.amend(
      [
        { id: row.id, expect, set: stop },
        { id: row.id, expect, set: { ...stop, reason: 'second' } },
      ],
      { now: t0 },
    );
    assert.deepEqual(answers, [{ ...row, ...stop }, null]);
    assert.deepEqual(await rowOf(store, row.id), { ...row, ...stop });
  },
  'a queued job that is cancelled cannot be claimed, and is not overdue': async (store, job) => {
    const [now, later] = [job({ expiresAt: t0 + 5 }), job({ dueAt: t0 + 10 })];
    await insert(store, now, later);
    for (const row of [now, later]) await amend(store, row, { status: 'cancelled', finishedAt: t0, reason: 'expired' });
    assert.deepEqual(await claim(store, t0 + 100), []);
    assert.deepEqual(await store.overdue({ now: t0 + 100, limit: 10 }), []);
    assert.deepEqual(await store.nextDueAt({ now: t0, tasks: ['mail'] }), { jobAt: null, overdueAt: null });
  },
  'of a concurrent cancel and claim, one wins': async (store, job) => {
    const jobs = many(20, job);
    await insert(store, ...jobs);
    const stop = jobs.map(async (row) => amend(store, row, { status: 'cancelled', finishedAt: t0, reason: 'stop' }));
    const [taken, ...stopped] = await Promise.all([claim(store, t0, { limit: 10 }), ...stop]);
    const stoppedIds = stopped.flatMap((row) => row?.id ?? []);
    assert.deepEqual([...idsOf(taken), ...stoppedIds].sort(), [...new Set([...idsOf(taken), ...stoppedIds])].sort());
    for (const row of taken) assert.equal((await rowOf(store, row.id)).status, 'running');
  },
  'a failed job that is queued again runs again, and keeps its history': async (store, job) => {
    await insert(store, job({ maxAttempts: 1 }));
    await settle(store, gaveUp(await claimOne(store, t0), t0 + 1));
    const over = await rowOf(store, idOf(1));
    const again = { status: 'queued', dueAt: t0 + 50, maxAttempts: 2, losses: 0, finishedAt: null, reason: null } as const;
    assert.deepEqual(await amend(store, over, again, t0 + 50), { ...over, ...again });
    const row = await claimOne(store, t0 + 50);
    assert.deepEqual([row.attempt, row.claim, row.startedAt], [2, 2, t0]);
    const { attempts } = await recordOf(store, row.id);
    assert.deepEqual(
      attempts.map(({ claim, outcome }) => [claim, outcome]),
      [
        [1, 'failed'],
        [2, null],
      ],
    );
    assert.deepEqual(await settle(store, done(row, t0 + 51)), ['settled']);
  },
  'a job that was queued again is no longer pruned': async (store, job) => {
    await insert(store, job());
    await settle(store, gaveUp(await claimOne(store, t0), t0 + 1));
    await amend(store, await rowOf(store, idOf(1)), { status: 'queued', dueAt: t0 + 5, finishedAt: null });
    assert.equal(await store.prune({ status: 'failed', finishedBefore: t0 + 100, limit: 10 }), 0);
    await claimOne(store, t0 + 5);
  },
  'a changed due time takes effect, whether later or now': async (store, job) => {
    const [later, sooner] = [job(), job({ dueAt: t0 + 1_000_000 })];
    await insert(store, later, sooner);
    await store.nextDueAt({ now: t0, tasks: ['mail'] });
    await amend(store, later, { dueAt: t0 + 100 });
    await amend(store, sooner, { dueAt: t0 });
    assert.deepEqual(idsOf(await claim(store, t0)), [sooner.id]);
    assert.deepEqual(idsOf(await claim(store, t0 + 100)), [later.id]);
  },
  'an expiry that is removed or set takes effect': async (store, job) => {
    const [kept, gone] = [job({ expiresAt: t0 + 50 }), job()];
    await insert(store, kept, gone);
    await amend(store, kept, { expiresAt: null });
    await amend(store, gone, { expiresAt: t0 + 60 });
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 70, limit: 10 })), [gone.id]);
    assert.deepEqual(idsOf(await claim(store, t0 + 70)), [kept.id]);
  },
  'a waiting job that is released is claimed': async (store, job) => {
    const row = job({ status: 'waiting' });
    await insert(store, row);
    await amend(store, row, { status: 'queued', dueAt: t0 + 5 }, t0 + 5);
    assert.deepEqual(idsOf(await claim(store, t0 + 5)), [row.id]);
  },
  'progress is stored with the running row, and kept by its settlement': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const progress = { fraction: 0.25, message: 'a quarter', at: t0 + 5 };
    assert.deepEqual(await amend(store, row, { progress }), { ...row, progress });
    await settle(store, done(row, t0 + 6));
    assert.deepEqual((await rowOf(store, row.id)).progress, progress);
  },
});

const deletes = cases('amend', {
  'a deleted row and its attempts are gone everywhere, and the answer is the row as it was': async (store, job) => {
    const row = job();
    await insert(store, row);
    const held = await claimOne(store, t0);
    await settle(store, failed(held, t0 + 1, 50));
    const retrying = await rowOf(store, row.id);
    assert.deepEqual(await amend(store, retrying, null), retrying);
    assert.deepEqual(await store.get([row.id]), [null]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 10 })).items, []);
    assert.deepEqual(await store.stats({ now: t0 }), []);
    assert.deepEqual(await claim(store, t0 + 100), []);
    assert.deepEqual(await store.nextDueAt({ now: t0, tasks: ['mail'] }), { jobAt: null, overdueAt: null });
    assert.deepEqual(await settle(store, failed(held, t0 + 1, 50)), ['stale']);
    assert.equal(await amend(store, retrying, null), null);
    await insert(store, row);
    assert.deepEqual(await store.get([row.id]), [{ job: row, attempts: [] }]);
  },
  'rows of every state are deleted if they are as expected, and no others': async (store, job) => {
    const [ready, later, expiring, waiting] = [
      job(),
      job({ dueAt: t0 + 50 }),
      job({ expiresAt: t0 + 50, dueAt: t0 + 60 }),
      job({ status: 'waiting' }),
    ];
    const [over, running] = [job({ priority: 2 }), job({ priority: 1 })];
    await insert(store, ready, later, expiring, waiting, over, running);
    await settle(store, gaveUp(await claimOne(store, t0, { limit: 1 }), t0 + 1));
    const held = await claimOne(store, t0, { limit: 1 });
    assert.equal(await amend(store, running, null), null);
    for (const row of [ready, later, expiring, waiting, await rowOf(store, over.id)]) assert.deepEqual(await amend(store, row, null), row);
    assert.deepEqual(idsOf((await store.list({}, { now: t0, limit: 10 })).items.map((record) => record.job)), [running.id]);
    assert.deepEqual(await store.overdue({ now: t0 + 100, limit: 10 }), []);
    assert.equal(await store.prune({ status: 'failed', finishedBefore: t0 + 100, limit: 10 }), 0);
    assert.deepEqual(await settle(store, done(held, t0 + 2)), ['settled']);
  },
  'the occurrence of a deleted job is free, and its schedule no longer waits for it': async (store, job) => {
    const row = job({ schedule: 'nightly', scheduledAt: t0 });
    await insert(store, row);
    await store.saveSchedule(schedule({ overlap: 'queue-one', heldAt: t0 + 1, nextAt: t0 + 100 }), { expect: null });
    const due = async () => (await store.dueSchedules({ now: t0 + 2, limit: 10, computes: [] })).due.length;
    assert.equal(await due(), 0);
    await amend(store, row, null);
    assert.equal(await due(), 1);
    await insert(store, job({ schedule: 'nightly', scheduledAt: t0 }));
  },
  'a changed priority takes effect among ready jobs and among those that are due later': async (store, job) => {
    const [first, second] = [job(), job()];
    const [third, fourth] = [job({ dueAt: t0 + 10 }), job({ dueAt: t0 + 10 })];
    await insert(store, first, second, third, fourth);
    for (const row of [second, fourth]) await amend(store, row, { priority: 5 });
    assert.deepEqual(idsOf(await claim(store, t0)), [second.id, first.id]);
    assert.deepEqual(idsOf(await claim(store, t0 + 10)), [fourth.id, third.id]);
  },
});

/** Successful jobs that finished at these instants, settled in this order. */
async function finished(store: Store, job: MakeJob, ...instants: readonly number[]): Promise<readonly Job[]> {
  await insert(store, ...many(instants.length, job));
  const rows = await claim(store, t0);
  for (const [i, at] of instants.entries()) await settle(store, done(rows[i] as Job, at));
  return rows;
}

const prunes = cases('prune', {
  'deletes jobs that finished before the instant, but not at it': async (store, job) => {
    const rows = await finished(store, job, t0 + 1, t0 + 2, t0 + 3);
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 2, limit: 10 }), 1);
    const records = await store.get(idsOf(rows));
    assert.deepEqual(
      records.map((record) => record?.job.finishedAt ?? null),
      [null, t0 + 2, t0 + 3],
    );
  },
  'only deletes jobs of the given status': async (store, job) => {
    await insert(store, ...many(5, job));
    const [a, b, c, d] = await claim(store, t0, { limit: 4 });
    assert.ok(a && b && c && d);
    await settle(store, done(a, t0), gaveUp(b, t0), cancelled(c, t0, 'stop'), failed(d, t0, 0));
    const statuses = async () => (await store.list({}, { now: t0, limit: 10 })).items.map((record) => record.job.status).reverse();
    assert.equal(await store.prune({ status: 'failed', finishedBefore: t0 + 1, limit: 10 }), 1);
    assert.deepEqual(await statuses(), ['successful', 'cancelled', 'queued', 'queued']);
    assert.equal(await store.prune({ status: 'cancelled', finishedBefore: t0 + 1, limit: 10 }), 1);
    assert.deepEqual(await statuses(), ['successful', 'queued', 'queued']);
  },
  'deletes up to the limit, oldest first, and returns the number': async (store, job) => {
    const rows = await finished(store, job, t0 + 1, t0 + 2, t0 + 3, t0 + 4);
    const prune = (limit: number) => store.prune({ status: 'successful', finishedBefore: t0 + 4, limit });
    assert.equal(await prune(2), 2);
    assert.deepEqual(
      (await store.get(idsOf(rows))).map((record) => record === null),
      [true, true, false, false],
    );
    assert.deepEqual([await prune(2), await prune(2)], [1, 0]);
  },
  'the oldest job is the one that finished first, whatever the order of settlements': async (store, job) => {
    const rows = await finished(store, job, t0 + 300, t0 + 100, t0 + 200);
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 250, limit: 1 }), 1);
    assert.deepEqual(
      (await store.get(idsOf(rows))).map((record) => record === null),
      [false, true, false],
    );
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 250, limit: 10 }), 1);
  },
  'a job that finishes and moves to another queue in one step is counted there, also when it is queued again': async (store, job) => {
    const row = job();
    await insert(store, row);
    const moved = await amend(store, row, { status: 'cancelled', finishedAt: t0, queue: 'bulk' });
    const counts = async () => (await store.stats({ now: t0 })).map(({ name, counts: { cancelled: over, ready } }) => [name, over, ready]);
    const present = async () => (await counts()).filter(([, over, ready]) => over !== 0 || ready !== 0);
    assert.deepEqual(await present(), [['bulk', 1, 0]]);
    await amend(store, moved as Job, { status: 'queued', finishedAt: null, queue: 'default' });
    assert.deepEqual(await present(), [['default', 0, 1]]);
  },
  'a job with its own retention is only pruned by that; one without a value for its outcome by the default': async (store, job) => {
    const retention = { successfulMs: 10, failedMs: null };
    await insert(store, job({ overrides: { retention } }), job({ overrides: { retention } }), job({ overrides: { retention } }), job());
    const [a, b, c, d] = await claim(store, t0);
    assert.ok(a && b && c && d);
    await settle(store, done(a, t0 + 100), gaveUp(b, t0 + 100), cancelled(c, t0 + 100, 'stop'), done(d, t0 + 100));
    const prune = async (finishedBefore: number, own: 'left' | 'only') => {
      let count = 0;
      for (const status of ['successful', 'failed', 'cancelled'] as const)
        count += await store.prune({ status, finishedBefore, own, limit: 10 });
      return count;
    };
    const left = async () => (await store.get(idsOf([a, b, c, d]))).map((record) => record !== null);
    assert.equal(await prune(t0 + 110, 'only'), 0);
    assert.equal(await prune(t0 + 1_000, 'left'), 2);
    assert.deepEqual(await left(), [true, true, false, false]);
    assert.equal(await prune(t0 + 111, 'only'), 1);
    assert.deepEqual(await left(), [false, true, false, false]);
    assert.equal(await prune(latestInstant, 'only'), 0);
    assert.equal(await store.prune({ status: 'failed', finishedBefore: t0 + 101, limit: 10 }), 1);
  },
  'both kinds are pruned in order of finish; own retentions in order of their end': async (store, job) => {
    const own = (successfulMs: number) => job({ overrides: { retention: { successfulMs } } });
    const rows = [own(90), job(), own(10), job()];
    await insert(store, ...rows);
    for (const [i, row] of (await claim(store, t0)).entries()) await settle(store, done(row, t0 + i));
    const left = async () => (await store.get(idsOf(rows))).map((record) => record !== null);
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 1_000, own: 'only', limit: 1 }), 1);
    assert.deepEqual(await left(), [true, true, false, true]);
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 1_000, limit: 2 }), 2);
    assert.deepEqual(await left(), [false, false, false, true]);
  },
  'a job cancelled by hand or inserted as finished has its own retention; one that is queued again has none': async (store, job) => {
    const overrides = { retention: { cancelledMs: 5 } };
    const [a, b] = [job({ overrides }), job({ overrides, status: 'cancelled', finishedAt: t0 })];
    await insert(store, a, b);
    await amend(store, a, { status: 'cancelled', finishedAt: t0, reason: 'stop' });
    await amend(store, b, { status: 'queued', finishedAt: null });
    const prune = (finishedBefore: number) => store.prune({ status: 'cancelled', finishedBefore, own: 'only', limit: 10 });
    assert.deepEqual([await prune(t0 + 5), await prune(t0 + 6)], [0, 1]);
    assert.deepEqual(await store.get([a.id]), [null]);
    assert.equal((await store.get([b.id]))[0]?.job.status, 'queued');
  },
  'a pruned job and its attempts are gone everywhere': async (store, job) => {
    const row = job();
    await insert(store, row);
    const held = await claimOne(store, t0);
    await settle(store, done(held, t0 + 1));
    await store.prune({ status: 'successful', finishedBefore: t0 + 2, limit: 10 });
    assert.deepEqual(await store.get([row.id]), [null]);
    assert.deepEqual((await store.list({}, { now: t0, limit: 10 })).items, []);
    assert.deepEqual(await store.stats({ now: t0 }), []);
    assert.deepEqual(await settle(store, done(held, t0 + 1)), ['stale']);
    await insert(store, row);
    assert.deepEqual(await store.get([row.id]), [{ job: row, attempts: [] }]);
  },
  'running and queued jobs are never pruned': async (store, job) => {
    await insert(store, ...many(3, job));
    await claim(store, t0, { limit: 1 });
    for (const status of ['successful', 'failed', 'cancelled'] as const) {
      assert.equal(await store.prune({ status, finishedBefore: t0 * 2, limit: 10 }), 0);
    }
    assert.equal((await store.list({}, { now: t0, limit: 10 })).items.length, 3);
  },
});

const queues = cases('saveQueue', {
  'a pause does not affect running jobs: they are renewed and settled': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    assert.deepEqual(await store.renew([row], { now: t0, leaseUntil: t0 + 99 }), [{ kind: 'held' }]);
    assert.deepEqual(await settle(store, failed(row, t0)), ['settled']);
    assert.deepEqual(await claim(store, t0), []);
  },
  'pausing is idempotent': async (store, job) => {
    await insert(store, job());
    for (const paused of [true, true, false]) await store.saveQueue({ name: 'default', paused }, { now: t0 });
    assert.equal((await store.stats({ now: t0 })).length, 1);
    await claimOne(store, t0);
  },
});

const workers = cases('saveWorker', {
  'the last saved entry of a worker is kept; workers are listed by start, then by id': async (store) => {
    const full = worker({
      id: 'a',
      startedAt: t0 + 5,
      queues: ['ä'],
      excludeQueues: ['b'],
      schedules: { nightly: 'h' },
      state: 'stopping',
      running: 3,
    });
    for (const row of [full, worker({ id: 'c' }), worker({ id: 'b' }), { ...full, running: 2, heartbeatAt: t0 + 9 }])
      await store.saveWorker(row, { forgetBefore: 0 });
    assert.deepEqual(await store.listWorkers(), [worker({ id: 'b' }), worker({ id: 'c' }), { ...full, running: 2, heartbeatAt: t0 + 9 }]);
  },
  'workers whose last heartbeat is before an instant are removed': async (store) => {
    await store.saveWorker(worker({ id: 'old', heartbeatAt: t0 - 1 }), { forgetBefore: 0 });
    await store.saveWorker(worker({ id: 'kept' }), { forgetBefore: 0 });
    await store.saveWorker(worker({ id: 'new', heartbeatAt: t0 + 1 }), { forgetBefore: t0 });
    assert.deepEqual(
      (await store.listWorkers()).map(({ id }) => id),
      ['kept', 'new'],
    );
  },
});

export const operating = [...amends, ...deletes, ...prunes, ...queues, ...workers];
