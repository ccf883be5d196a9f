/** The methods that tell sleeping loops when to wake: `nextDueAt` and `listen`. */
import assert from 'node:assert/strict';
import type { Job } from '../../core/types.ts';
import type { Hint, NextDue, Store } from '../../ports/store.ts';
import {
  advanceOf,
  amend,
  cases,
  claim,
  claimOne,
  done,
  failed,
  idOf,
  insert,
  leaseMs,
  many,
  rowOf,
  schedule,
  settle,
  t0,
  tasks,
  worker,
} from './kit.ts';

const ask = { tasks };

async function next(store: Store, now: number, overrides: Partial<Parameters<Store['nextDueAt']>[0]> = {}): Promise<NextDue> {
  return store.nextDueAt({ now, ...ask, ...overrides });
}

const nextDue = cases('nextDueAt', {
  "returns the earliest end of a finished job's own retention": async (store, job) => {
    const own = (successfulMs: number | null) => job({ overrides: { retention: { successfulMs } } });
    await insert(store, own(90), own(10), own(null), job());
    const rows = await claim(store, t0);
    assert.equal((await next(store, t0)).pruneAt, undefined);
    for (const row of rows) await settle(store, done(row, t0 + 1));
    assert.equal((await next(store, t0)).pruneAt, t0 + 11);
    await store.prune({ status: 'successful', finishedBefore: t0 + 12, own: 'only', limit: 10 });
    assert.equal((await next(store, t0)).pruneAt, t0 + 91);
  },
  'an empty store has no next instant': async (store) => {
    assert.deepEqual(await next(store, t0), { jobAt: null, overdueAt: null });
  },
  'the earliest due time of the queued jobs': async (store, job) => {
    await insert(
      store,
      job({ dueAt: t0 + 300, priority: 50 }),
      job({ dueAt: t0 + 100 }),
      job({ dueAt: t0 + 200, queue: 'x', task: 'report' }),
    );
    assert.equal((await next(store, t0)).jobAt, t0 + 100);
    await claimOne(store, t0 + 100);
    assert.equal((await next(store, t0 + 100)).jobAt, t0 + 200);
  },
  'for a ready job: now, or its due time': async (store, job) => {
    await insert(store, job({ dueAt: t0 - 100 }), job({ dueAt: t0 + 100 }));
    const { jobAt } = await next(store, t0);
    assert.ok(jobAt !== null && jobAt <= t0, `expected an instant in the past, got ${jobAt}`);
    await claimOne(store, t0);
    assert.equal((await next(store, t0)).jobAt, t0 + 100);
  },
  'a retry counts at the end of its delay': async (store, job) => {
    await insert(store, job());
    await settle(store, failed(await claimOne(store, t0), t0 + 1, 1_000));
    assert.equal((await next(store, t0 + 1)).jobAt, t0 + 1_001);
  },
  'paused queues, unknown tasks and other queues do not count': async (store, job) => {
    await insert(
      store,
      job({ dueAt: t0 + 1, queue: 'paused' }),
      job({ dueAt: t0 + 2, task: 'unknown' }),
      job({ dueAt: t0 + 3, queue: 'a' }),
      job({ dueAt: t0 + 4, queue: 'b' }),
      job({ dueAt: t0 + 5, queue: 'c' }),
    );
    await store.saveQueue({ name: 'paused', paused: true }, { now: t0 });
    // Once while all of them are scheduled, and once while all of them are due.
    for (const [now, ready] of [
      [t0, false],
      [t0 + 10, true],
    ] as const) {
      const at = async (overrides: Parameters<typeof next>[2]) => {
        const { jobAt } = await next(store, now, overrides);
        return ready ? jobAt !== null && jobAt <= now : jobAt;
      };
      const sees = (instant: number) => ready || instant;
      const none = ready ? false : null;
      assert.equal(await at({}), sees(t0 + 3));
      assert.equal(await at({ excludeQueues: ['a'] }), sees(t0 + 4));
      assert.equal(await at({ queues: ['c', 'paused'] }), sees(t0 + 5));
      assert.equal(await at({ queues: ['b', 'c'], excludeQueues: ['b'] }), sees(t0 + 5));
      assert.equal(await at({ queues: ['paused'] }), none);
      assert.equal(await at({ queues: [] }), none);
      assert.equal(await at({ tasks: ['report'] }), none);
      assert.equal(await at({ tasks: [] }), none);
      assert.equal(await at({ tasks: ['unknown'], excludeQueues: [] }), sees(t0 + 2));
    }
  },
  "a job that is no longer due by the caller's clock still counts": async (store, job) => {
    await insert(store, job({ dueAt: t0 + 100 }));
    await claim(store, t0 + 200, { limit: 0 });
    await next(store, t0 + 200);
    assert.equal((await next(store, t0)).jobAt, t0 + 100);
  },
  'running, waiting, finished and expired jobs are no reason to wake for a claim': async (store, job) => {
    await insert(store, job(), job());
    const [row] = await claim(store, t0);
    assert.ok(row);
    await settle(store, done(row, t0));
    await insert(store, job({ status: 'waiting' }), job({ expiresAt: t0 + 50 }));
    assert.equal((await next(store, t0 + 50)).jobAt, null);
  },
  'if a store reports a ready job, it can be claimed': async (store, job) => {
    await insert(
      store,
      job({ expiresAt: t0 + 5 }),
      job({ dueAt: t0 + 30 }),
      job({ queue: 'x', dueAt: t0 + 20 }),
      job({ task: 'other', dueAt: t0 + 1 }),
    );
    await store.saveQueue({ name: 'x', paused: true }, { now: t0 });
    for (const now of [t0 + 5, t0 + 20, t0 + 30, t0 + 30]) {
      const { jobAt } = await next(store, now);
      assert.equal((await claim(store, now)).length > 0, jobAt !== null && jobAt <= now);
    }
  },
  'the earliest end of a lease': async (store, job) => {
    await insert(store, job(), job());
    const first = await claimOne(store, t0, { limit: 1, leaseUntil: t0 + 100 });
    await claimOne(store, t0, { leaseUntil: t0 + 200 });
    assert.equal((await next(store, t0)).overdueAt, t0 + 100);
    await store.renew([first], { now: t0, leaseUntil: t0 + 300 });
    assert.equal((await next(store, t0)).overdueAt, t0 + 200);
    await settle(store, done(first, t0));
    assert.equal((await next(store, t0 + 1_000)).overdueAt, t0 + 200);
  },
  'the earliest expiry of a job that has not started': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 300 }), job({ expiresAt: t0 + 200, dueAt: t0 + 100 }));
    assert.equal((await next(store, t0)).overdueAt, t0 + 200);
    const row = await claimOne(store, t0);
    await settle(store, failed(row, t0 + 1, 1_000));
    assert.equal((await next(store, t0 + 1)).overdueAt, t0 + 200);
    await settle(store, failed(await claimOne(store, t0 + 100), t0 + 101, 1_000));
    assert.equal((await next(store, t0 + 101)).overdueAt, null);
  },
  'leases and expiries together, whatever the caller can claim': async (store, job) => {
    await insert(store, job({ task: 'unknown', queue: 'x', expiresAt: t0 + 40_000 }), job({ queue: 'paused' }));
    await claimOne(store, t0);
    await store.saveQueue({ name: 'paused', paused: true }, { now: t0 });
    assert.equal((await next(store, t0, { tasks: [], queues: ['other'] })).overdueAt, t0 + leaseMs);
    await settle(store, done(await rowOf(store, idOf(2)), t0));
    assert.equal((await next(store, t0, { tasks: [], queues: ['other'] })).overdueAt, t0 + 40_000);
  },
  'the earliest schedule that is neither paused nor ended': async (store) => {
    const at = async () => (await store.dueSchedules({ now: t0, limit: 10, computes: [] })).nextAt;
    const rows = [
      schedule({ name: 'paused', nextAt: t0 + 1, paused: true }),
      schedule({ name: 'ended', nextAt: null }),
      schedule({ name: 'late', nextAt: t0 + 9 }),
      schedule({ name: 'soon', nextAt: t0 + 5 }),
    ];
    for (const row of rows.slice(0, 2)) await store.saveSchedule(row, { expect: null });
    assert.equal(await at(), null);
    for (const row of rows.slice(2)) await store.saveSchedule(row, { expect: null });
    assert.equal(await at(), t0 + 5);
    await store.advanceSchedules([advanceOf({ name: 'soon' }, { lastAt: t0 + 5, nextAt: t0 + 20 })], { now: t0 + 5 });
    assert.equal(await at(), t0 + 9);
    await store.dropSchedule('late');
    assert.equal(await at(), t0 + 20);
  },
});

/** Long enough for a hint from another process. Only a failing store reaches it. */
const patienceMs = 2_000;

/**
 * Does something, and waits for a hint that gives a reason to look: an empty one, or one that `serves` accepts. A store that cannot listen
 * is polled instead.
 */
async function hinted(store: Store, action: () => Promise<unknown>, serves: (hint: Hint) => boolean): Promise<void> {
  if (!store.listen) {
    assert.ok(Number.isFinite(store.pollMs), 'a store that sends no hints must be polled');
    return;
  }
  const hints: Hint[] = [];
  const matched = Promise.withResolvers<void>();
  const stop = store.listen((hint) => {
    hints.push(hint);
    if (Object.keys(hint).length === 0 || serves(hint)) matched.resolve();
  });
  const timer = setTimeout(
    () => matched.reject(new assert.AssertionError({ message: `no matching hint among ${JSON.stringify(hints)}` })),
    patienceMs,
  );
  try {
    await action();
    await matched.promise;
  } finally {
    clearTimeout(timer);
    stop();
  }
}

/** For hints that only a store without polling must send. */
async function hintedUnlessPolled(...[store, action, serves]: Parameters<typeof hinted>): Promise<void> {
  if (!Number.isFinite(store.pollMs)) await hinted(store, action, serves);
}

const dueBy = (instant: number) => (hint: Hint) => hint.dueAt !== undefined && hint.dueAt <= instant;

const hints = cases('listen', {
  'an insert sends a hint': async (store, job) => {
    await hinted(store, () => insert(store, job({ dueAt: t0 + 100 }), job({ dueAt: t0 + 50 })), dueBy(t0 + 50));
  },
  'a job that is queued again sends a hint': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await hinted(store, () => settle(store, failed(row, t0 + 1, 500)), dueBy(t0 + 501));
  },
  'a finished job that is queued again by hand sends a hint': async (store, job) => {
    await insert(store, job());
    await settle(store, done(await claimOne(store, t0), t0 + 1));
    const row = await rowOf(store, idOf(1));
    await hinted(store, () => amend(store, row, { status: 'queued', dueAt: t0 + 5, finishedAt: null }), dueBy(t0 + 5));
  },
  'a requested cancellation of a running job sends a hint': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await hinted(
      store,
      () => amend(store, row, { cancelRequested: 'stop' }),
      (hint) => hint.cancelled === true,
    );
  },
  'without polling, a finished job sends a hint': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await hintedUnlessPolled(
      store,
      () => settle(store, done(row, t0 + 1)),
      (hint) => hint.finished === true,
    );
  },
  'without polling, a deleted job sends the hint of a finished one': async (store, job) => {
    const row = job();
    await insert(store, row);
    await hintedUnlessPolled(
      store,
      () => amend(store, row, null),
      (hint) => hint.finished === true,
    );
  },
  "without polling, the end of a finished job's own retention is in the hint": async (store, job) => {
    await insert(store, ...many(2, job, { overrides: { retention: { successfulMs: 7 } } }));
    const [a, b] = await claim(store, t0);
    assert.ok(a && b);
    const ends = (hint: Hint) => hint.pruneAt !== undefined && hint.pruneAt <= t0 + 8;
    await hintedUnlessPolled(store, () => settle(store, done(a, t0 + 1)), ends);
    await settle(store, failed(b, t0, 1));
    const row = (await store.get([b.id]))[0]?.job as Job;
    await hintedUnlessPolled(store, () => amend(store, row, { status: 'successful', finishedAt: t0 + 1 }), ends);
  },
  'without polling, a resumed queue sends a hint': async (store, job) => {
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    await insert(store, job());
    await hintedUnlessPolled(store, async () => store.saveQueue({ name: 'default', paused: false }, { now: t0 }), dueBy(t0));
  },
  'without polling, a saved schedule sends a hint': async (store) => {
    await hintedUnlessPolled(
      store,
      async () => store.saveSchedule(schedule({ nextAt: t0 + 7 }), { expect: null }),
      (hint) => hint.scheduleAt !== undefined && hint.scheduleAt <= t0 + 7,
    );
  },
  'without polling, a new lease sends a hint with its end': async (store, job) => {
    await insert(store, job());
    await hintedUnlessPolled(
      store,
      () => claim(store, t0),
      (hint) => hint.overdueAt !== undefined && hint.overdueAt <= t0 + leaseMs,
    );
  },
  'without polling, a worker that starts, stops or declares other schedules sends a hint': async (store) => {
    const changed = (hint: Hint) => hint.workers === true;
    const save = (overrides: Partial<Parameters<typeof worker>[0]>) => async () =>
      store.saveWorker(worker({ id: 'w1', heartbeatAt: t0, ...overrides }), { forgetBefore: 0 });
    await hintedUnlessPolled(store, save({}), changed);
    await hintedUnlessPolled(store, save({ schedules: { nightly: 'a1' } }), changed);
    await hintedUnlessPolled(store, save({ schedules: { nightly: 'a1' }, state: 'stopped' }), changed);
  },
  'without polling, the jobs of a schedule send a hint': async (store, job) => {
    await store.saveSchedule(schedule(), { expect: null });
    const advance = advanceOf({ jobs: [job({ dueAt: t0 + 3 })] });
    await hintedUnlessPolled(store, async () => store.advanceSchedules([advance], { now: t0 }), dueBy(t0 + 3));
  },
  'a removed listener gets no hints, and the others still do': async (store, job) => {
    if (!store.listen) return;
    let received = 0;
    const stop = store.listen(() => {
      received += 1;
    });
    await hinted(store, () => insert(store, job()), dueBy(t0));
    assert.ok(received > 0);
    stop();
    stop();
    // An earlier hint may still be in transit; nothing may arrive after the next hint.
    await hinted(store, () => insert(store, job()), dueBy(t0));
    const before = received;
    await hinted(store, () => insert(store, job()), dueBy(t0));
    assert.equal(received, before);
  },
});

export const waking = [...nextDue, ...hints];
