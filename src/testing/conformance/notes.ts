/** The notes of an attempt: log lines and metadata, which are saved with a renewal or a settlement, and only under its claim. */
import assert from 'node:assert/strict';
import { lineText, logBlob, maxLogBytes, readLog } from '../../core/log.ts';
import type { Store } from '../../ports/store.ts';
import { cases, claim, claimOne, done, failed, insert, leaseMs, lost, rowOf, settle, t0 } from './kit.ts';

const line = (n: number, claimNumber = 1, message = `line ${n}`): string =>
  lineText({ at: t0 + n, level: 'info', message, fields: null, attempt: claimNumber, claim: claimNumber, n });

async function logOf(store: Store, id: string): Promise<string[]> {
  const [bytes] = await store.getBlobs([id], logBlob);
  return readLog(bytes).map(({ message }) => message);
}

export const notes = cases('notes', {
  'log lines are stored with renewals and settlements, in order': async (store, job) => {
    await insert(store, job(), job());
    const [row, other] = await claim(store, t0);
    assert.ok(row && other);
    const held = [{ ...row, log: [line(0), line(1)] }, other].map(({ id, claim: number, ...more }) => ({
      id,
      claim: number,
      ...('log' in more ? { log: more.log } : {}),
    }));
    assert.deepEqual(await store.renew(held, { now: t0 + 2, leaseUntil: t0 + leaseMs + 2 }), [{ kind: 'held' }, { kind: 'held' }]);
    assert.deepEqual(await logOf(store, row.id), ['line 0', 'line 1']);
    await settle(store, { ...done(row, t0 + 3), log: [line(2)] }, done(other, t0 + 3));
    assert.deepEqual(await logOf(store, row.id), ['line 0', 'line 1', 'line 2']);
    assert.deepEqual(await logOf(store, other.id), []);
  },
  'log lines that are sent twice are stored once; later attempts append to the log': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const renew = (...log: string[]) => store.renew([{ id: row.id, claim: row.claim, log }], { now: t0 + 1, leaseUntil: t0 + leaseMs + 1 });
    await renew(line(0));
    await renew(line(0), line(1));
    await settle(store, { ...failed(row, t0 + 2), log: [line(2)] });
    await settle(store, { ...failed(row, t0 + 2), log: [line(2)] });
    const again = await claimOne(store, t0 + 3);
    await settle(store, { ...done(again, t0 + 4), log: [line(0, again.claim, 'again')] });
    assert.deepEqual(await logOf(store, row.id), ['line 0', 'line 1', 'line 2', 'again']);
  },
  'the latest log lines are kept, up to the limits': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    const many = Array.from({ length: 120 }, (_, n) => line(n));
    await store.renew([{ id: row.id, claim: row.claim, log: many }], { now: t0 + 1, leaseUntil: t0 + leaseMs });
    const kept = await logOf(store, row.id);
    assert.deepEqual([kept.length, kept[0], kept.at(-1)], [100, 'line 20', 'line 119']);
    const long = Array.from({ length: 20 }, (_, i) => line(200 + i, 1, 'x'.repeat(1_900)));
    await settle(store, { ...done(row, t0 + 2), log: long });
    const [bytes] = await store.getBlobs([row.id], logBlob);
    assert.ok(bytes && bytes.length <= maxLogBytes, `${bytes?.length} bytes`);
    assert.ok((await logOf(store, row.id)).length > 5);
  },
  'metadata sent with a renewal or a settlement replaces the stored metadata': async (store, job) => {
    const row = job({ metadata: { tenant: 'a' } });
    await insert(store, row);
    const held = await claimOne(store, t0);
    await store.renew([{ id: row.id, claim: held.claim, metadata: { tenant: 'a', step: 1 } }], { now: t0 + 1, leaseUntil: t0 + leaseMs });
    assert.deepEqual((await rowOf(store, row.id)).metadata, { tenant: 'a', step: 1 });
    const [settled] = (await store.settle([{ ...failed(held, t0 + 2), metadata: { step: 2 } }], { now: t0 + 2 })).settled;
    assert.deepEqual(settled?.metadata, { step: 2 });
    assert.deepEqual((await rowOf(store, row.id)).metadata, { step: 2 });
    await settle(store, done(await claimOne(store, t0 + 3), t0 + 4));
    assert.deepEqual((await rowOf(store, row.id)).metadata, { step: 2 });
  },
  'a claim that does not hold the job cannot store log lines or metadata': async (store, job) => {
    await insert(store, job());
    const first = await claimOne(store, t0, { leaseUntil: t0 + 10 });
    await settle(store, lost(first, t0 + 10));
    const second = await claimOne(store, t0 + 11);
    const stale = { id: first.id, claim: first.claim, log: [line(0)], metadata: { stale: true } };
    assert.deepEqual(await store.renew([stale], { now: t0 + 12, leaseUntil: t0 + leaseMs }), [{ kind: 'lost' }]);
    await settle(store, { ...done(first, t0 + 12), log: [line(0)], metadata: { stale: true } });
    assert.deepEqual(await logOf(store, first.id), []);
    assert.deepEqual((await rowOf(store, first.id)).metadata, second.metadata);
  },
});
