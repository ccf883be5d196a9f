/** Law 5: at most one job holds a unique key, also under concurrent inserts; windows, statuses and conflicts as defined in `core/unique`. */
import assert from 'node:assert/strict';
import { isEscapementError } from '../../core/errors.ts';
import type { Job } from '../../core/types.ts';
import type { Uniqueness } from '../../core/unique.ts';
import type { Taken } from '../../ports/store.ts';
import {
  amend,
  cancelled,
  cases,
  claim,
  claimOne,
  done,
  failed,
  gaveUp,
  idsOf,
  insert,
  leavesAsIs,
  lost,
  many,
  refuses,
  rowOf,
  settle,
  snoozed,
  t0,
} from './kit.ts';

/** Unique by the key `mail a`, unless overridden. */
function by(overrides: Partial<Uniqueness> = {}): { unique: Uniqueness } {
  return { unique: { key: 'mail a', while: ['queued', 'running'], untilAt: null, onConflict: 'skip', maxWaitMs: null, ...overrides } };
}
const ids = (taken: Taken | undefined) => taken?.map((record) => record?.job.id ?? null);
const rejected = (error: unknown) => isEscapementError(error) && error.code === 'ESCAPEMENT_DUPLICATE_JOB';

export const unique = cases(5, {
  'a second job with a held key is skipped, and the first is returned': async (store, job) => {
    const [first, second, other] = [job(by()), job({ ...by(), input: '"other"' }), job(by({ key: 'mail b' }))];
    assert.deepEqual(await store.insert([first], { now: t0 }), [null]);
    assert.deepEqual(await store.insert([second, other], { now: t0 }), [{ job: first, attempts: [] }, null]);
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf([first, other]));
  },
  'of fifty concurrent inserts, one succeeds, and all return its job': async (store, job) => {
    const jobs = many(50, job, by());
    const answers = await Promise.all(jobs.map(async (row) => store.insert([row], { now: t0 })));
    const inserted = jobs.filter((_, i) => answers[i]?.[0] === null);
    assert.equal(inserted.length, 1);
    assert.ok(answers.every((taken) => (taken?.[0]?.job.id ?? inserted[0]?.id) === inserted[0]?.id));
    assert.equal((await claim(store, t0)).length, 1);
  },
  'if two jobs in a batch have the same key, the first is returned for the second': async (store, job) => {
    const [a, b] = [job(by()), job(by())];
    assert.deepEqual(ids(await store.insert([a, b], { now: t0 })), [null, a.id]);
    assert.deepEqual(await store.get([b.id]), [null]);
  },
  'if two jobs are settled together and the window of one has ended, the first of them holds the key': async (store, job) => {
    const [first, second] = [job(by({ while: ['queued'] })), job(by({ untilAt: t0 + 10 }))];
    await insert(store, first);
    const one = await claimOne(store, t0);
    await insert(store, second);
    const two = await claimOne(store, t0);
    assert.deepEqual(await settle(store, snoozed(one, t0 + 20, 5), snoozed(two, t0 + 20, 5)), ['settled', 'settled']);
    assert.deepEqual(ids(await store.insert([job(by())], { now: t0 + 20 })), [first.id]);
  },
  'a key is held through retries, snoozes and lost leases, and never conflicts with itself': async (store, job) => {
    const first = job({ ...by(), maxAttempts: 9 });
    await insert(store, first);
    for (const end of [failed, (row: Job, at: number) => snoozed(row, at, 0), lost]) {
      const row = await claimOne(store, t0, { leaseUntil: t0 });
      assert.deepEqual(ids(await store.insert([job(by())], { now: t0 })), [first.id]);
      assert.deepEqual(await settle(store, end(row, t0)), ['settled']);
      assert.deepEqual(ids(await store.insert([job(by())], { now: t0 })), [first.id]);
    }
  },
  'the key is free when the job ends, whatever its outcome': async (store, job) => {
    for (const end of [done, gaveUp, (row: Job, at: number) => cancelled(row, at, 'no')]) {
      await insert(store, job(by()));
      await settle(store, end(await claimOne(store, t0), t0));
    }
    const last = job(by());
    assert.deepEqual(await store.insert([last], { now: t0 }), [null]);
    await amend(store, last, { status: 'cancelled', finishedAt: t0 });
    const deleted = job(by());
    assert.deepEqual(await store.insert([deleted], { now: t0 }), [null]);
    await amend(store, deleted, null);
    assert.deepEqual(await store.insert([job(by())], { now: t0 }), [null]);
  },
  'a window continues after a success, and ends at its instant': async (store, job) => {
    const window = () => by({ while: ['queued', 'running', 'successful'], untilAt: t0 + 1_000 });
    const first = job(window());
    await insert(store, first);
    await settle(store, done(await claimOne(store, t0), t0));
    assert.deepEqual(ids(await store.insert([job(window())], { now: t0 + 999 })), [first.id]);
    const second = job(by({ untilAt: t0 + 9_000 }));
    assert.deepEqual(await store.insert([second], { now: t0 + 1_000 }), [null]);
    assert.deepEqual(ids(await store.insert([job(window())], { now: t0 + 1_000 })), [second.id]);
  },
  'a job whose window has ended continues without its key': async (store, job) => {
    const first = job(by({ untilAt: t0 + 1_000 }));
    await insert(store, first);
    const row = await claimOne(store, t0);
    const second = job(by());
    assert.deepEqual(await store.insert([second], { now: t0 + 1_000 }), [null]);
    assert.deepEqual(await settle(store, failed(row, t0 + 1_001)), ['settled']);
    assert.deepEqual(ids(await store.insert([job(by())], { now: t0 + 1_002 })), [second.id]);
    assert.equal((await claim(store, t0 + 1_002)).length, 2);
  },
  'pruning frees the key': async (store, job) => {
    await insert(store, job(by({ while: ['queued', 'running', 'successful'] })));
    await settle(store, done(await claimOne(store, t0), t0));
    await store.prune({ status: 'successful', finishedBefore: t0 + 1, limit: 1 });
    assert.deepEqual(await store.insert([job(by())], { now: t0 + 1 }), [null]);
  },
  'a key that is held only while its job is queued is free once the job runs, and a retry takes it again if it is free': async (
    store,
    job,
  ) => {
    const queued = () => by({ while: ['queued'] });
    const first = job(queued());
    await insert(store, first);
    const row = await claimOne(store, t0);
    const second = job(queued());
    assert.deepEqual(await store.insert([second], { now: t0 }), [null]);
    await settle(store, failed(row, t0));
    assert.deepEqual(ids(await store.insert([job(queued())], { now: t0 })), [second.id]);
    const rows = await claim(store, t0);
    assert.equal(rows.length, 2);
    await settle(store, failed(rows[0] as Job, t0));
    assert.deepEqual(ids(await store.insert([job(queued())], { now: t0 })), [rows[0]?.id]);
  },
  'reject: the whole batch is rejected with a DuplicateJobError that names the holder': async (store, job) => {
    const first = job(by());
    await insert(store, first);
    const [a, b] = [job(), job(by({ onConflict: 'reject' }))];
    await leavesAsIs(store, idsOf([first, a, b]), () =>
      assert.rejects(
        async () => store.insert([a, b], { now: t0 }),
        (error: Error & { id?: string }) => rejected(error) && error.id === first.id,
      ),
    );
    await assert.rejects(async () => store.insert(many(2, job, by({ key: 'mail c', onConflict: 'reject' })), { now: t0 }), rejected);
  },
  'replace: the waiting job takes the new input, priority and times, and keeps its id and its enqueue time': async (store, job) => {
    const replacing = by({ while: ['queued'], onConflict: 'replace', maxWaitMs: 5_000 });
    const first = job({ ...replacing, dueAt: t0 + 1_000, runAfter: t0 + 1_000 });
    await insert(store, first);
    const wants = { input: '"new"', priority: 7, runAfter: t0 + 3_000, expiresAt: t0 + 90_000 };
    const expected = { ...first, ...wants, dueAt: t0 + 3_000 };
    const answer = await store.insert([job({ ...replacing, ...wants, dueAt: t0 + 3_000, enqueuedAt: t0 + 2_000 })], { now: t0 + 2_000 });
    assert.deepEqual(answer, [{ job: expected, attempts: [] }]);
    assert.deepEqual(await rowOf(store, first.id), expected);
    assert.deepEqual(await claim(store, t0 + 2_999), []);
    // No later than maxWait after its first enqueue.
    await store.insert([job({ ...replacing, dueAt: t0 + 7_000, runAfter: t0 + 7_000, enqueuedAt: t0 + 2_999 })], { now: t0 + 2_999 });
    assert.equal((await rowOf(store, first.id)).dueAt, t0 + 5_000);
    assert.deepEqual(idsOf(await claim(store, t0 + 5_000)), [first.id]);
    assert.deepEqual(await store.insert([job({ ...replacing, dueAt: t0 + 9_000 })], { now: t0 + 5_000 }), [null]);
  },
  'a job is not queued again if another job holds its key, and the answer is that job': async (store, job) => {
    const first = job(by());
    await insert(store, first);
    await settle(store, gaveUp(await claimOne(store, t0), t0));
    const second = job(by());
    await insert(store, second);
    const failure = await rowOf(store, first.id);
    const again = { status: 'queued', finishedAt: null, maxAttempts: 9 } as const;
    assert.deepEqual(await amend(store, failure, again), second);
    assert.deepEqual(await rowOf(store, first.id), failure);
    await settle(store, done(await claimOne(store, t0), t0));
    assert.equal((await amend(store, failure, again))?.status, 'queued');
    assert.deepEqual(ids(await store.insert([job(by())], { now: t0 })), [first.id]);
  },
  'an existing id is a conflict for a unique job, too': async (store, job) => {
    const first = job(by());
    await insert(store, first);
    await refuses('conflict', () => store.insert([{ ...first, unique: by({ key: 'mail z' }).unique }], { now: t0 }));
  },
});
