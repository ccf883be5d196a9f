/** Law 2 and the method `settle`: what a worker's outcome changes, and what a stale one must not change. */
import assert from 'node:assert/strict';
import { settled } from '../../core/job.ts';
import { logBlob } from '../../core/log.ts';
import type { Settlement } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import {
  amend,
  broken,
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
  leaseMs,
  leavesAsIs,
  lost,
  many,
  recordOf,
  released,
  rowOf,
  settle,
  snoozed,
  t0,
  wanted,
} from './kit.ts';

const fence = cases(2, {
  'an outcome of an older claim is stale and changes nothing': async (store, job) => {
    await insert(store, job());
    const old = await claimOne(store, t0, { worker: 'w1' });
    await settle(store, released(old, t0 + 1));
    await claimOne(store, t0 + 2, { worker: 'w2' });
    assert.deepEqual(await leavesAsIs(store, [old.id], () => settle(store, done(old, t0 + 3, '"zombie"'))), ['stale']);
  },
  'an outcome of a claim that was never made is stale and changes nothing': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    for (const claim of [0, 2, 99]) {
      assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, done({ ...row, claim }, t0 + 1))), ['stale']);
    }
  },
  'an outcome for a queued job is stale and changes nothing': async (store, job) => {
    const queued = job();
    await insert(store, queued);
    assert.deepEqual(await leavesAsIs(store, [queued.id], () => settle(store, done(queued, t0 + 1))), ['stale']);
  },
  'a different outcome for a finished job is stale and changes nothing': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await settle(store, done(row, t0 + 1));
    for (const other of [gaveUp(row, t0 + 1), done(row, t0 + 2), lost(row, t0 + 1), failed(row, t0 + 1, 5)]) {
      assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, other)), ['stale']);
    }
  },
  'an outcome for a job that does not exist is stale': async (store, job) => {
    assert.deepEqual(await settle(store, done({ ...job(), claim: 1 }, t0)), ['stale']);
  },
  'a zombie cannot finish a job that it lost and that is queued': async (store, job) => {
    await insert(store, job());
    const zombie = await claimOne(store, t0);
    await settle(store, lost(zombie, t0 + leaseMs));
    assert.deepEqual(await leavesAsIs(store, [zombie.id], () => settle(store, done(zombie, t0 + leaseMs + 1))), ['stale']);
  },
  'a zombie cannot finish a job that it lost and that runs elsewhere': async (store, job) => {
    await insert(store, job());
    const zombie = await claimOne(store, t0, { worker: 'w1' });
    await settle(store, lost(zombie, t0 + leaseMs));
    const successor = await claimOne(store, t0 + leaseMs, { worker: 'w2' });
    assert.deepEqual(await leavesAsIs(store, [zombie.id], () => settle(store, done(zombie, t0 + leaseMs + 1))), ['stale']);
    assert.deepEqual(await settle(store, done(successor, t0 + leaseMs + 2, '"heir"')), ['settled']);
    assert.equal((await rowOf(store, successor.id)).returnValue, '"heir"');
  },
  'if two janitors settle an orphan as lost, the later one is stale': async (store, job) => {
    await insert(store, job());
    const orphan = await claimOne(store, t0);
    assert.deepEqual(await settle(store, lost(orphan, t0 + leaseMs)), ['settled']);
    assert.deepEqual(await leavesAsIs(store, [orphan.id], () => settle(store, lost(orphan, t0 + leaseMs + 1))), ['stale']);
    assert.equal((await rowOf(store, orphan.id)).losses, 1);
  },
  'a lease that was renewed after it had been found overdue is not lost': async (store, job) => {
    await insert(store, job());
    const late = await claimOne(store, t0);
    assert.equal((await store.overdue({ now: t0 + leaseMs, limit: 10 })).length, 1);
    await store.renew([late], { now: t0 + leaseMs + 1, leaseUntil: t0 + 2 * leaseMs });
    assert.deepEqual(await leavesAsIs(store, [late.id], () => settle(store, lost(late, t0 + leaseMs))), ['stale']);
    assert.deepEqual(await settle(store, lost(late, t0 + 2 * leaseMs)), ['settled']);
  },
  'a worker only settles its own job': async (store, job) => {
    await insert(store, job(), job());
    const [mine, theirs] = [await claimOne(store, t0, { worker: 'w1', limit: 1 }), await claimOne(store, t0, { worker: 'w2' })];
    await settle(store, released(theirs, t0 + 1));
    const again = await claimOne(store, t0 + 1, { worker: 'w2' });
    assert.equal(again.claim, 2);
    assert.deepEqual(await leavesAsIs(store, idsOf([mine, theirs]), () => settle(store, done({ ...again, claim: mine.claim }, t0 + 2))), [
      'stale',
    ]);
  },
  'the holder can settle after its lease has expired, as long as the job was not taken': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.deepEqual(await settle(store, done(row, t0 + 100 * leaseMs)), ['settled']);
  },
  'stale outcomes in a batch do not affect the others, and the answers are in order': async (store, job) => {
    await insert(store, ...many(4, job));
    const [a, b, c, d] = await claim(store, t0);
    assert.ok(a && b && c && d);
    await settle(store, done(b, t0 + 1));
    const before = structuredClone(await store.get([b.id]));
    const missing = { ...a, id: idOf(999) };
    const answers = await settle(
      store,
      done(a, t0 + 2),
      gaveUp(b, t0 + 2),
      failed(c, t0 + 2),
      done(missing, t0 + 2),
      done({ ...d, claim: 7 }, t0 + 2),
    );
    assert.deepEqual(answers, ['settled', 'stale', 'settled', 'stale', 'stale']);
    assert.deepEqual(await store.get([b.id]), before);
    const rows = await Promise.all([a, c, d].map(({ id }) => rowOf(store, id)));
    assert.deepEqual(
      rows.map(({ status }) => status),
      ['successful', 'queued', 'running'],
    );
  },
  'the first of two outcomes for a claim in a batch is applied': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.deepEqual(await settle(store, done(row, t0 + 1, '1'), gaveUp(row, t0 + 1)), ['settled', 'stale']);
    assert.equal((await rowOf(store, row.id)).returnValue, '1');
  },
  'of many concurrent settlements of one claim, one is applied': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => settle(store, done(row, t0 + i, String(i)))));
    assert.equal(answers.flat().filter((answer) => answer === 'settled').length, 1);
    const record = await recordOf(store, row.id);
    assert.equal(record.job.finishedAt, record.attempts[0]?.endedAt);
  },
});

/** Every outcome, each of a first attempt. */
const outcomes: Readonly<Record<string, (row: Parameters<typeof done>[0]) => Settlement>> = {
  successful: (row) => ({ ...done(row, t0 + 5, '{"sent":1}'), progress: { fraction: 0.5, message: 'half', at: t0 + 4 } }),
  'failed and retried': (row) => failed(row, t0 + 5, 60_000),
  'failed for good': (row) => gaveUp(row, t0 + 5),
  snoozed: (row) => snoozed(row, t0 + 5, 60_000),
  cancelled: (row) => cancelled(row, t0 + 5, 'no longer wanted'),
  lost: (row) => lost(row, t0 + leaseMs),
  released: (row) => released(row, t0 + 5),
};

const applies = cases(
  'settle',
  Object.fromEntries(
    Object.entries(outcomes).map(([word, outcome]) => [
      `an attempt that was ${word} leaves the row and the attempt as core makes them, and repeating it changes nothing`,
      async (store, job) => {
        await insert(store, job({ progress: { fraction: 0.1, message: null, at: t0 } }));
        const row = await claimOne(store, t0);
        const settlement = outcome(row);
        assert.deepEqual(await settle(store, settlement), ['settled']);
        const record = await recordOf(store, row.id);
        assert.deepEqual(record.job, settled(row, settlement));
        const attempt = { attempt: 1, claim: 1, worker: 'w1', startedAt: t0 };
        assert.deepEqual(record.attempts, [
          { ...attempt, endedAt: settlement.settledAt, outcome: settlement.outcome, error: settlement.error },
        ]);
        assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, settlement)), ['settled']);
      },
    ]),
  ),
);

const repeats = cases('settle', {
  'the answers are the rows that the settlements left, even after a concurrent cancel, and when sent again': async (store, job) => {
    await insert(store, ...many(4, job));
    const [a, b, c, d] = await claim(store, t0);
    assert.ok(a && b && c && d);
    await amend(store, c, { cancelRequested: 'stop' });
    const settlements = [done(a, t0 + 5, '1'), failed(b, t0 + 5, 1_000), failed(c, t0 + 5, 1_000), gaveUp(d, t0 + 5)];
    const { settled } = await store.settle(settlements, { now: t0 + 5 });
    assert.deepEqual(settled, await Promise.all([a, b, c, d].map(({ id }) => rowOf(store, id))));
    assert.deepEqual(
      settled.map((row) => row?.status),
      ['successful', 'queued', 'cancelled', 'failed'],
    );
    assert.deepEqual((await store.settle(settlements, { now: t0 + 6 })).settled, settled);
  },
  'an empty array of settlements has no answers': async (store) => {
    assert.deepEqual(await store.settle([], { now: t0 }), { settled: [], dependents: [], claimed: [] });
  },
  'a settlement repeated after another worker has claimed the job gets the same answer and changes nothing': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0, { worker: 'w1' });
    const settlement = failed(row, t0 + 1);
    assert.deepEqual(await settle(store, settlement), ['settled']);
    await claimOne(store, t0 + 2, { worker: 'w2' });
    assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, settlement)), ['settled']);
  },
  'a settlement repeated after the job was cancelled gets the same answer': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const settlement = failed(row, t0 + 1, 1_000);
    await settle(store, settlement);
    await amend(store, await rowOf(store, row.id), { status: 'cancelled', finishedAt: t0 + 2, reason: 'stop' }, t0 + 2);
    assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, settlement)), ['settled']);
  },
  'an error is stored as recorded, whatever its text': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const error = { name: 'Ошибка', message: `it's "so"; DROP TABLE jobs; -- 💥 % \\ \u2400`, stack: `${'at x\n'.repeat(5_000)}` };
    await settle(store, { ...gaveUp(row, t0 + 1), error });
    assert.deepEqual((await recordOf(store, row.id)).attempts[0]?.error, error);
  },
  'an attempt number that was given back is used again': async (store, job) => {
    await insert(store, job());
    await settle(store, snoozed(await claimOne(store, t0), t0, 5));
    const again = await claimOne(store, t0 + 5);
    assert.deepEqual([again.attempt, again.claim, again.startedAt, again.lastAttemptedAt], [1, 2, t0, t0 + 5]);
  },
  'a job that would run again is cancelled if that was requested, and a repeated settlement gets the same answer': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await amend(store, row, { cancelRequested: 'changed my mind' });
    const settlement = failed(row, t0 + 5, 1_000);
    assert.deepEqual(await settle(store, settlement), ['cancelled']);
    const { job: after, attempts } = await recordOf(store, row.id);
    assert.deepEqual([after.status, after.reason, after.finishedAt, after.cancelRequested], ['cancelled', 'changed my mind', t0 + 5, null]);
    assert.deepEqual([attempts[0]?.outcome, attempts[0]?.error], ['failed', broken]);
    assert.deepEqual(await leavesAsIs(store, [row.id], () => settle(store, settlement)), ['cancelled']);
    assert.deepEqual(await claim(store, t0 + 1_000_000), []);
  },
  'a job that has succeeded is successful even if cancellation was requested': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await amend(store, row, { cancelRequested: 'too late' });
    assert.deepEqual(await settle(store, done(row, t0 + 5)), ['settled']);
    assert.equal((await rowOf(store, row.id)).status, 'successful');
  },
  'settles and claims in one call': async (store, job) => {
    const [first, second] = [job(), job()];
    await insert(store, first, second);
    const row = await claimOne(store, t0, { limit: 1 });
    const { settled, claimed } = await store.settle([done(row, t0 + 1)], {
      now: t0 + 1,
      claim: wanted(t0 + 1, { limit: 1, worker: 'w2' }),
    });
    assert.deepEqual(settled, [await rowOf(store, row.id)]);
    assert.deepEqual(claimed, [await rowOf(store, second.id)]);
    assert.deepEqual([claimed[0]?.worker, claimed[0]?.leaseUntil], ['w2', t0 + 1 + leaseMs]);
  },
  'the claim of a settle sees the jobs that it has queued again, if they are due': async (store, job) => {
    await insert(store, ...many(3, job));
    const [a, b, c] = await claim(store, t0);
    assert.ok(a && b && c);
    const now = t0 + leaseMs;
    const { claimed } = await store.settle([released(a, now), failed(b, now, 1), lost(c, now)], { now, claim: wanted(now) });
    assert.deepEqual(
      claimed.map(({ id, claim }) => [id, claim]),
      [
        [a.id, 2],
        [c.id, 2],
      ],
    );
  },
  'a settle without a claim claims nothing, and one with only stale outcomes still claims': async (store, job) => {
    await insert(store, job(), job());
    const row = await claimOne(store, t0, { limit: 1 });
    assert.deepEqual((await store.settle([done(row, t0)], { now: t0 })).claimed, []);
    const { settled, claimed } = await store.settle([gaveUp(row, t0)], { now: t0, claim: wanted(t0) });
    assert.deepEqual([settled, claimed.length], [[null], 1]);
  },
  'a thousand outcomes are settled in one call': async (store, job) => {
    await insert(store, ...many(1_000, job));
    const rows = await claim(store, t0, { limit: 1_000 });
    const answers = await settle(store, ...rows.map((row) => done(row, t0 + 1)));
    assert.deepEqual(new Set(answers), new Set(['settled']));
    assert.equal(answers.length, 1_000);
  },
});

const countsOf = async (store: Store) => (await store.stats({ now: t0 }))[0]?.counts;

const prunes = cases('settle', {
  'a settlement with prune deletes the job, and has the same answer as any other': async (store, job) => {
    await insert(store, ...many(4, job));
    const rows = await claim(store, t0, { limit: 3 });
    const [a, b, c] = rows;
    assert.ok(a && b && c);
    await store.saveBlobs(a, [{ name: 'x', bytes: new Uint8Array([1]) }]);
    await store.saveSteps(a, [{ name: 's', kind: 'step', value: '1', attempt: 1, at: t0 }]);
    const outcomes = [{ ...done(a, t0 + 1, '"a"'), prune: true as const }, done(b, t0 + 1), { ...done(c, t0 + 1), prune: true as const }];
    const { settled: answers, claimed } = await store.settle(outcomes, { now: t0 + 1, claim: wanted(t0 + 1) });
    assert.deepEqual(
      answers,
      rows.map((row, i) => settled(row, outcomes[i] as Settlement)),
    );
    assert.equal(claimed.length, 1);
    assert.deepEqual(
      (await store.get(idsOf(rows))).map((record) => record?.job.id ?? null),
      [null, b.id, null],
    );
    assert.deepEqual([(await store.getBlobs([a.id], 'x'))[0], (await store.getSteps([a.id]))[0]], [null, []]);
    const counts = await countsOf(store);
    assert.deepEqual([counts?.successful, counts?.running, counts?.ready], [1, 1, 0]);
    // Its id is free again.
    await insert(store, { ...job(), id: a.id });
    assert.deepEqual((await recordOf(store, a.id)).attempts, []);
  },
  'a settlement with prune also deletes earlier attempts and log lines': async (store, job) => {
    await insert(store, job());
    const first = await claimOne(store, t0);
    await settle(store, { ...failed(first, t0), log: ['1'] });
    const row = await claimOne(store, t0);
    assert.deepEqual(await settle(store, { ...done(row, t0 + 1), prune: true, log: ['2'] }), ['settled']);
    await insert(store, { ...job(), id: row.id });
    const again = await claimOne(store, t0 + 2);
    assert.deepEqual(
      [again.claim, (await recordOf(store, row.id)).attempts.length, (await store.getBlobs([row.id], logBlob))[0]],
      [1, 1, null],
    );
  },
  'a settlement with prune deletes a row that was changed while it ran, but not one that was claimed again': async (store, job) => {
    await insert(store, job(), job());
    const [a, b] = await claim(store, t0);
    assert.ok(a && b);
    await store.renew([a], { now: t0 + 1, leaseUntil: t0 + 2 * leaseMs });
    await settle(store, lost(b, t0 + leaseMs));
    const successor = await claimOne(store, t0 + leaseMs);
    const outcomes = [a, b].map((row) => ({ ...done(row, t0 + leaseMs + 1), prune: true as const }));
    assert.deepEqual(await settle(store, ...outcomes), ['settled', 'stale']);
    assert.deepEqual([(await store.get([a.id]))[0], (await rowOf(store, b.id)).claim], [null, successor.claim]);
    assert.deepEqual(await settle(store, ...outcomes), ['stale', 'stale']);
  },
  'a settlement that does not finish the job deletes nothing': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    await settle(store, { ...failed(row, t0 + 1), prune: true });
    assert.equal((await rowOf(store, row.id)).status, 'queued');
  },
});

export const settling = [...fence, ...applies, ...repeats, ...prunes];
