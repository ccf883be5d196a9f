/** Laws 1, 3 and 4: which jobs a worker gets, when, and in which order. */
import assert from 'node:assert/strict';
import { claimed } from '../../core/job.ts';
import type { Job } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import {
  amend,
  cases,
  claim,
  claimOne,
  done,
  failed,
  idsOf,
  insert,
  leaseMs,
  lost,
  many,
  recordOf,
  released,
  rowOf,
  settle,
  snoozed,
  t0,
  tasks,
} from './kit.ts';

const oneLease = cases(1, {
  'two claims never return one job': async (store, job) => {
    await insert(store, ...many(3, job));
    const first = await claim(store, t0, { worker: 'w1', limit: 2 });
    const second = await claim(store, t0, { worker: 'w2' });
    assert.deepEqual(idsOf([...first, ...second]).sort(), [...new Set(idsOf([...first, ...second]))].sort());
    assert.deepEqual([first.length, second.length], [2, 1]);
  },
  'a claimed job cannot be claimed again, not even by the same worker': async (store, job) => {
    await insert(store, job());
    await claimOne(store, t0);
    assert.deepEqual(await claim(store, t0, { worker: 'w2' }), []);
    assert.deepEqual(await claim(store, t0 + 1), []);
  },
  'a job whose lease has expired is not claimed until it has been settled as lost': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const late = t0 + 10 * leaseMs;
    assert.deepEqual(await claim(store, late, { worker: 'w2' }), []);
    await settle(store, lost(row, late));
    assert.equal((await claimOne(store, late, { worker: 'w2' })).worker, 'w2');
  },
  'a finished job is never claimed again': async (store, job) => {
    await insert(store, job());
    await settle(store, done(await claimOne(store, t0), t0 + 1));
    assert.deepEqual(await claim(store, t0 + 1_000_000), []);
  },
  'a waiting job is not claimed': async (store, job) => {
    await insert(store, job({ status: 'waiting' }));
    assert.deepEqual(await claim(store, t0 + 1_000_000), []);
  },
  'four workers claiming at once get every job exactly once': async (store, job) => {
    const jobs = many(120, job);
    await insert(store, ...jobs);
    const batches = Array.from({ length: 32 }, (_, i) => claim(store, t0, { worker: `w${i % 4}`, limit: 5 }));
    const got = (await Promise.all(batches)).flat();
    assert.deepEqual(idsOf(got).sort(), idsOf(jobs));
  },
  'four workers that settle and claim at once finish every job exactly once': async (store, job) => {
    const jobs = many(60, job);
    await insert(store, ...jobs);
    const counts = await Promise.all(['w1', 'w2', 'w3', 'w4'].map((worker) => work(store, worker)));
    assert.equal(
      counts.reduce((a, b) => a + b),
      jobs.length,
    );
    for (const record of await store.get(idsOf(jobs))) {
      assert.equal(record?.job.status, 'successful');
      assert.equal(record.attempts.length, 1);
    }
  },
  'a claim stores and returns the row as claimed() makes it': async (store, job) => {
    const fresh = job({ tags: ['a'], metadata: { by: 'ada' }, expiresAt: t0 + 500 });
    await insert(store, fresh);
    const row = await claimOne(store, t0 + 5);
    assert.deepEqual(row, claimed(fresh, 'w1', t0 + 5, t0 + 5 + leaseMs));
    assert.deepEqual(await rowOf(store, fresh.id), row);
  },
  'the claim number increases with every claim, even if the attempt was given back': async (store, job) => {
    await insert(store, job());
    let row = await claimOne(store, t0);
    let now = t0;
    for (const [i, end] of [released, snoozed, lost, failed].entries()) {
      now += leaseMs;
      await settle(store, end(row, now, 0));
      row = await claimOne(store, now);
      assert.equal(row.claim, i + 2);
    }
  },
  'a claim opens an attempt, and the settlement closes it': async (store, job) => {
    const { id } = job();
    await insert(store, job({ id }));
    const row = await claimOne(store, t0 + 5, { worker: 'w7' });
    const open = { attempt: 1, claim: 1, worker: 'w7', startedAt: t0 + 5, endedAt: null, outcome: null, error: null };
    assert.deepEqual((await recordOf(store, id)).attempts, [open]);
    const end = failed(row, t0 + 9);
    await settle(store, end);
    assert.deepEqual((await recordOf(store, id)).attempts, [{ ...open, endedAt: t0 + 9, outcome: 'failed', error: end.error }]);
  },
  'only the latest 200 attempts of a job are kept': async (store, job) => {
    const { id } = job();
    await insert(store, job({ id }));
    for (let n = 1; n <= 205; n++) await settle(store, snoozed(await claimOne(store, t0 + n), t0 + n, 0));
    const { attempts } = await recordOf(store, id);
    assert.deepEqual([attempts.length, attempts[0]?.claim, attempts.at(-1)?.claim], [200, 6, 205]);
  },
  'attempts are kept oldest first, including those that were given back': async (store, job) => {
    const { id } = job();
    await insert(store, job({ id }));
    await settle(store, released(await claimOne(store, t0, { worker: 'w1' }), t0 + 1));
    await settle(store, lost(await claimOne(store, t0 + 2, { worker: 'w2' }), t0 + 2 + leaseMs));
    await claimOne(store, t0 + 4 + leaseMs, { worker: 'w3' });
    assert.deepEqual(
      (await recordOf(store, id)).attempts.map((a) => [a.attempt, a.claim, a.worker, a.outcome]),
      [
        [1, 1, 'w1', 'released'],
        [1, 2, 'w2', 'lost'],
        [2, 3, 'w3', null],
      ],
    );
  },
});

/** Works like a worker with two slots until no jobs are left. */
async function work(store: Store, worker: string): Promise<number> {
  let held = await claim(store, t0, { worker, limit: 2 });
  let finished = 0;
  while (held.length > 0) {
    const { settled, claimed: next } = await store.settle(
      held.map((row) => done(row, t0)),
      { now: t0, claim: { worker, limit: 2, leaseUntil: t0 + leaseMs, tasks: ['mail'] } },
    );
    finished += settled.filter((job) => job !== null).length;
    held = next;
  }
  return finished;
}

const onlyClaimable = cases(3, {
  'a job is not claimed a millisecond before it is due': async (store, job) => {
    await insert(store, job({ dueAt: t0 + 100 }));
    assert.deepEqual(await claim(store, t0 + 99), []);
  },
  'a job is claimed at the instant at which it is due': async (store, job) => {
    await insert(store, job({ dueAt: t0 + 100 }));
    await claimOne(store, t0 + 100);
  },
  'a retry is not claimed before its delay is over': async (store, job) => {
    await insert(store, job());
    await settle(store, failed(await claimOne(store, t0), t0 + 10, 1_000));
    assert.deepEqual(await claim(store, t0 + 1_009), []);
    await claimOne(store, t0 + 1_010);
  },
  'an expired job is not claimed': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    assert.deepEqual(await claim(store, t0 + 51), []);
  },
  'a job is expired at the instant of its expiry': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    assert.deepEqual(await claim(store, t0 + 50), []);
  },
  'a job is claimed a millisecond before its expiry': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    await claimOne(store, t0 + 49);
  },
  'a job that has started before does not expire': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    await settle(store, failed(await claimOne(store, t0), t0 + 10, 1_000));
    await claimOne(store, t0 + 1_010);
  },
  'nothing is claimed from a paused queue, but everything else is': async (store, job) => {
    const open = job({ queue: 'open' });
    await insert(store, job({ queue: 'shut', priority: 100 }), open);
    await store.saveQueue({ name: 'shut', paused: true }, { now: t0 });
    assert.deepEqual(idsOf(await claim(store, t0)), [open.id]);
  },
  'a queue that is paused before its first job is paused': async (store, job) => {
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    await insert(store, job());
    assert.deepEqual(await claim(store, t0), []);
  },
  'a paused queue stays paused for a worker that names it': async (store, job) => {
    await insert(store, job());
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    assert.deepEqual(await claim(store, t0, { queues: ['default'] }), []);
  },
  'jobs of a resumed queue are claimed': async (store, job) => {
    await insert(store, job());
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    await claim(store, t0);
    await store.saveQueue({ name: 'default', paused: false }, { now: t0 + 1 });
    await claimOne(store, t0 + 1);
  },
  'jobs of tasks that the worker does not know are left alone': async (store, job) => {
    const known = job({ task: 'report' });
    await insert(store, job({ task: 'mail', priority: 100 }), known);
    assert.deepEqual(idsOf(await claim(store, t0, { tasks: ['report', 'never'] })), [known.id]);
    assert.deepEqual(await claim(store, t0, { tasks: [] }), []);
  },
  'a worker that names queues only gets jobs of those': async (store, job) => {
    const jobs = ['a', 'b', 'c'].map((queue) => job({ queue }));
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0, { queues: ['c', 'a'] })), idsOf(jobs.filter(({ queue }) => queue !== 'b')));
  },
  'a worker with an empty list of queues gets nothing': async (store, job) => {
    await insert(store, job());
    assert.deepEqual(await claim(store, t0, { queues: [] }), []);
  },
  'a worker that excludes queues only gets jobs of the others': async (store, job) => {
    const jobs = ['a', 'b', 'c'].map((queue) => job({ queue }));
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0, { excludeQueues: ['c', 'a'] })), idsOf(jobs.filter(({ queue }) => queue === 'b')));
  },
  'a queue both named and excluded is excluded, and excluding none excludes none': async (store, job) => {
    const jobs = ['a', 'b'].map((queue) => job({ queue }));
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0, { queues: ['a', 'b'], excludeQueues: ['b'] })), idsOf(jobs.slice(0, 1)));
    assert.deepEqual(idsOf(await claim(store, t0, { excludeQueues: [] })), idsOf(jobs.slice(1)));
  },
  'a limit of 0 claims nothing': async (store, job) => {
    await insert(store, job());
    assert.deepEqual(await claim(store, t0, { limit: 0 }), []);
  },
  'the limit applies to all queues and tasks together': async (store, job) => {
    for (const queue of ['a', 'b']) for (const task of ['mail', 'report']) await insert(store, ...many(5, job, { queue, task }));
    const sizes: number[] = [];
    for (let i = 0; i < 4; i++) sizes.push((await claim(store, t0, { limit: 7 })).length);
    assert.deepEqual(sizes, [7, 7, 6, 0]);
  },
  'a worker whose clock is behind gets nothing that is not due by its own clock': async (store, job) => {
    const [early, late] = [job({ priority: 1 }), job({ dueAt: t0 + 100 })];
    await insert(store, early, late);
    assert.deepEqual(idsOf(await claim(store, t0 + 200, { limit: 1 })), [early.id]);
    assert.deepEqual(await claim(store, t0 + 99, { worker: 'w2' }), []);
    assert.deepEqual(idsOf(await claim(store, t0 + 100, { worker: 'w2' })), [late.id]);
  },
  'a job that is not due for a clock that is behind does not hide a due one of lower priority': async (store, job) => {
    const [due, notDue] = [job(), job({ dueAt: t0 + 100, priority: 50 })];
    await insert(store, due, notDue);
    assert.deepEqual(await claim(store, t0 + 200, { limit: 0 }), []);
    await store.nextDueAt({ now: t0 + 200, tasks: ['mail'] });
    assert.deepEqual(idsOf(await claim(store, t0 + 1)), [due.id]);
  },
  'a job that has expired for a fast clock can still be claimed with a slow one': async (store, job) => {
    await insert(store, job({ expiresAt: t0 + 50 }));
    assert.deepEqual(await claim(store, t0 + 60, { worker: 'ahead' }), []);
    await claimOne(store, t0 + 40, { worker: 'behind' });
  },
});

const order = cases(4, {
  'a higher priority comes first, whatever its due time and id': async (store, job) => {
    const jobs = [-100, 0, 7, 100].map((priority, i) => job({ priority, dueAt: t0 - 10 + i }));
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf(jobs).reverse());
  },
  'within a priority, the earlier due time comes first, whatever its id': async (store, job) => {
    const jobs = [5, 3, 9, 1].map((ago) => job({ dueAt: t0 - ago }));
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf(sorted(jobs)));
  },
  'within a priority and due time, the lower id comes first, whatever the order of insertion': async (store, job) => {
    const jobs = many(6, job);
    await insert(store, ...[4, 0, 5, 2, 1, 3].map((i) => jobs[i] as Job));
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf(jobs));
  },
  'the order holds across queues and tasks': async (store, job) => {
    const jobs: Job[] = [];
    for (let i = 0; i < 36; i++) {
      jobs.push(
        job({ queue: 'abc'.charAt(i % 3), task: i % 2 ? 'mail' : 'report', priority: ((i * 7) % 5) - 2, dueAt: t0 - ((i * 11) % 4) }),
      );
    }
    await insert(store, ...jobs);
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf(sorted(jobs)));
  },
  'a limit picks the first jobs in order, also from a subset of the queues': async (store, job) => {
    const jobs = Array.from({ length: 20 }, (_, i) => job({ queue: i % 2 ? 'a' : 'b', priority: (i * 3) % 7 }));
    await insert(store, ...jobs);
    const best = sorted(jobs.filter(({ queue }) => queue === 'a'));
    assert.deepEqual(idsOf(await claim(store, t0, { queues: ['a'], limit: 3 })), idsOf(best.slice(0, 3)));
    assert.deepEqual(idsOf(await claim(store, t0, { queues: ['a'], limit: 3 })), idsOf(best.slice(3, 6)));
  },
  'a retried job is ordered by its new due time': async (store, job) => {
    const [first, second, third] = [job({ dueAt: t0 }), job({ dueAt: t0 + 5 }), job({ dueAt: t0 + 20 })];
    await insert(store, first, second, third);
    await settle(store, failed(await claimOne(store, t0), t0 + 1, 9));
    assert.deepEqual(idsOf(await claim(store, t0 + 20)), idsOf([second, first, third]));
  },
  'a job that is given back keeps its due time and thus its position': async (store, job) => {
    const [first, second] = [job({ dueAt: t0 }), job({ dueAt: t0 + 5 })];
    await insert(store, first, second);
    await settle(store, released(await claimOne(store, t0), t0 + 6));
    assert.deepEqual(idsOf(await claim(store, t0 + 6)), idsOf([first, second]));
  },
  'a changed priority changes the order, both before and after the due time': async (store, job) => {
    const [a, b, c] = [job(), job(), job({ dueAt: t0 + 10 })];
    await insert(store, a, b, c);
    await store.nextDueAt({ now: t0, tasks: ['mail'] });
    await amend(store, b, { priority: 5 });
    await amend(store, c, { priority: 9 });
    assert.deepEqual(idsOf(await claim(store, t0 + 10)), idsOf([c, b, a]));
  },
  'the order holds for more queues than are claimed from at a time': async (store, job) => {
    const jobs = Array.from({ length: 120 }, (_, i) =>
      job({ queue: `q${(i * 7) % 40}`, priority: (i * 3) % 4, dueAt: t0 - ((i * 13) % 9) }),
    );
    await insert(store, ...jobs);
    const took: string[] = [];
    for (const limit of [1, 5, 30, 84]) took.push(...idsOf(await claim(store, t0, { limit })));
    assert.deepEqual(took, idsOf(sorted(jobs)));
  },
  'thousands of jobs due at the same instant are claimed in order': async (store, job) => {
    const queues = ['a', 'b', 'shut'];
    const jobs = Array.from({ length: 3_000 }, (_, i) =>
      job({ queue: queues[i % 3] as string, priority: ((i * 7) % 5) - 2, dueAt: t0 + 1 + ((i * 11) % 4) }),
    );
    await insert(store, ...jobs);
    await store.saveQueue({ name: 'shut', paused: true }, { now: t0 });
    const now = t0 + 10;
    const took: string[] = [];
    // A store may mark them as ready in parts; while more are due, it reports so.
    while ((await store.nextDueAt({ now, tasks })).jobAt === now) took.push(...idsOf(await claim(store, now, { limit: 70 })));
    assert.deepEqual(took, idsOf(sorted(jobs.filter(({ queue }) => queue !== 'shut'))));
  },
  'jobs that no worker may claim do not hide others that are due later': async (store, job) => {
    const others = [
      ...many(1_500, job, { queue: 'shut', priority: 9, dueAt: t0 + 1 }),
      ...many(1_500, job, { task: 'strange', dueAt: t0 + 1 }),
    ];
    const jobs = [job({ dueAt: t0 + 1 }), job({ dueAt: t0 + 2 }), job({ queue: 'b', dueAt: t0 + 2 })];
    await insert(store, ...others, ...jobs);
    await store.saveQueue({ name: 'shut', paused: true }, { now: t0 });
    const took: string[] = [];
    while ((await store.nextDueAt({ now: t0 + 2, tasks })).jobAt === t0 + 2) took.push(...idsOf(await claim(store, t0 + 2, { limit: 1 })));
    assert.deepEqual(took, idsOf(jobs));
  },
});

/** Law 4, written independently of the store's own function. */
function sorted(jobs: readonly Job[]): Job[] {
  return [...jobs].sort((a, b) => b.priority - a.priority || a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1));
}

export const claims = [...oneLease, ...onlyClaimable, ...order];
