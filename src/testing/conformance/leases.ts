/** Law 7: a lease ends at its instant, `renew` extends it, and `overdue` finds leases that have ended. */
import assert from 'node:assert/strict';
import {
  amend,
  cases,
  claim,
  claimOne,
  done,
  failed,
  idOf,
  idsOf,
  insert,
  leaseMs,
  leavesAsIs,
  lost,
  many,
  rowOf,
  settle,
  t0,
} from './kit.ts';

const end = t0 + leaseMs;
const all = { limit: 100 };

export const leases = cases(7, {
  'a lease has not ended a millisecond before its end': async (store, job) => {
    await insert(store, job());
    await claimOne(store, t0);
    assert.deepEqual(await store.overdue({ now: end - 1, ...all }), []);
  },
  'a lease has ended at its end, and the row of the orphan is returned': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.deepEqual(await store.overdue({ now: end, ...all }), [row]);
    assert.deepEqual(await store.overdue({ now: end + 1_000_000, ...all }), [row]);
  },
  'looking for overdue jobs changes nothing': async (store, job) => {
    await insert(store, job(), job({ expiresAt: t0 + 1, dueAt: t0 + 5 }));
    const { id } = await claimOne(store, t0);
    await leavesAsIs(store, [id], async () => store.overdue({ now: end, ...all }));
    assert.equal((await store.overdue({ now: end, ...all })).length, 2);
    assert.equal((await store.overdue({ now: end, ...all })).length, 2);
  },
  'a queued, finished or waiting job is not an orphan': async (store, job) => {
    await insert(store, job(), job(), job({ status: 'waiting' }));
    await settle(store, done(await claimOne(store, t0, { limit: 1 }), t0 + 1));
    assert.deepEqual(await store.overdue({ now: end * 2, ...all }), []);
  },
  'a job that was settled as lost is no longer an orphan': async (store, job) => {
    await insert(store, job());
    await settle(store, lost(await claimOne(store, t0), end));
    assert.deepEqual(await store.overdue({ now: end, ...all }), []);
  },
  'a renewed lease ends at its new end, and not before': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.deepEqual(await store.renew([row], { now: t0 + 10, leaseUntil: end + 500 }), [{ kind: 'held' }]);
    assert.deepEqual(await store.overdue({ now: end + 499, ...all }), []);
    assert.deepEqual(idsOf(await store.overdue({ now: end + 500, ...all })), [row.id]);
  },
  'renewing changes only the end of the lease': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await store.renew([row], { now: t0 + 10, leaseUntil: end + 500 });
    assert.deepEqual(await rowOf(store, row.id), { ...row, leaseUntil: end + 500 });
  },
  'a lease that has expired but was not settled can be renewed': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.deepEqual(await store.renew([row], { now: end + 10, leaseUntil: end + 500 }), [{ kind: 'held' }]);
    assert.deepEqual(await store.overdue({ now: end + 10, ...all }), []);
  },
  'the lease of a finished job is lost, and stays lost': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await settle(store, done(row, t0 + 1));
    const renew = async () => store.renew([row], { now: t0 + 2, leaseUntil: end + 500 });
    assert.deepEqual(await leavesAsIs(store, [row.id], renew), [{ kind: 'lost' }]);
  },
  'the lease of a job that went back to its queue is lost': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await settle(store, lost(row, end));
    const renew = async () => store.renew([row], { now: end, leaseUntil: end + 500 });
    assert.deepEqual(await leavesAsIs(store, [row.id], renew), [{ kind: 'lost' }]);
  },
  'the lease of a job that another worker has claimed is lost, and the other worker keeps its lease': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0, { worker: 'w1' });
    await settle(store, lost(row, end));
    await claimOne(store, end, { worker: 'w2' });
    const renew = async () => store.renew([row], { now: end, leaseUntil: end + 999_999 });
    assert.deepEqual(await leavesAsIs(store, [row.id], renew), [{ kind: 'lost' }]);
  },
  'the lease of a job that never existed is lost': async (store) => {
    assert.deepEqual(await store.renew([{ id: idOf(1), claim: 1 }], { now: t0, leaseUntil: end }), [{ kind: 'lost' }]);
  },
  'a renewal reports a requested cancellation, and the holder keeps the job': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await amend(store, row, { cancelRequested: 'ada said so' });
    assert.deepEqual(await store.renew([row], { now: t0 + 1, leaseUntil: end + 500 }), [{ kind: 'cancelled', reason: 'ada said so' }]);
    assert.deepEqual(await store.overdue({ now: end + 499, ...all }), []);
  },
  'a requested cancellation only applies to the current attempt': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await amend(store, row, { cancelRequested: 'stop' });
    await settle(store, failed(row, t0 + 1));
    await amend(store, await rowOf(store, row.id), { status: 'queued', finishedAt: null, reason: null });
    const again = await claimOne(store, t0 + 1);
    assert.deepEqual(await store.renew([again], { now: t0 + 2, leaseUntil: end }), [{ kind: 'held' }]);
  },
  'many leases are renewed in one call, with answers in order': async (store, job) => {
    await insert(store, ...many(3, job));
    const [a, b, c] = await claim(store, t0);
    assert.ok(a && b && c);
    await settle(store, done(b, t0 + 1));
    await amend(store, c, { cancelRequested: 'stop' });
    const answers = await store.renew([c, { id: idOf(99), claim: 1 }, b, a], { now: t0 + 2, leaseUntil: end });
    assert.deepEqual(
      answers.map(({ kind }) => kind),
      ['cancelled', 'lost', 'lost', 'held'],
    );
    assert.deepEqual(await store.renew([], { now: t0, leaseUntil: end }), []);
  },
  'a queued job is overdue at its expiry, and not before': async (store, job) => {
    const row = job({ expiresAt: t0 + 50 });
    await insert(store, row);
    assert.deepEqual(await store.overdue({ now: t0 + 49, ...all }), []);
    assert.deepEqual(await store.overdue({ now: t0 + 50, ...all }), [row]);
  },
  'a scheduled job that expires before it is due is overdue at its expiry': async (store, job) => {
    const row = job({ dueAt: t0 + 100, expiresAt: t0 + 50 });
    await insert(store, row);
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 50, ...all })), [row.id]);
  },
  'a job that started in time is not overdue at its expiry, neither while it runs nor while it waits for a retry': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    const row = await claimOne(store, t0);
    assert.deepEqual(await store.overdue({ now: t0 + 60, ...all }), []);
    await settle(store, failed(row, t0 + 70, 1_000));
    assert.deepEqual(await store.overdue({ now: t0 + 2_000, ...all }), []);
  },
  'overdue jobs in a paused queue are found too': async (store, job) => {
    await insert(store, job(), job({ expiresAt: t0 + 50 }));
    await claimOne(store, t0, { limit: 1 });
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    assert.equal((await store.overdue({ now: end, ...all })).length, 2);
  },
  'orphans and expired jobs are returned together, earliest first, up to the limit': async (store, job) => {
    const jobs = [job(), job({ expiresAt: t0 + 200, queue: 'x' }), job(), job({ expiresAt: t0 + 400, queue: 'x' }), job()];
    await insert(store, ...jobs);
    for (const leaseUntil of [t0 + 500, t0 + 100, t0 + 300]) await claimOne(store, t0, { queues: ['default'], limit: 1, leaseUntil });
    const order = [2, 1, 4, 3, 0].map((i) => jobs[i]?.id);
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 500, limit: 10 })), order);
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 500, limit: 3 })), order.slice(0, 3));
    assert.deepEqual(idsOf(await store.overdue({ now: t0 + 399, limit: 10 })), order.slice(0, 3));
  },
});
