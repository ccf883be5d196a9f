/** Bytes stored with jobs: `insert` with blobs, `saveBlobs`, `getBlobs`. They are added and deleted with their job. */
import assert from 'node:assert/strict';
import type { Store } from '../../ports/store.ts';
import { amend, cases, claim, claimOne, done, failed, idOf, insert, lost, refuses, rowOf, settle, t0 } from './kit.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

async function blobOf(store: Store, id: string, name: string): Promise<number[] | null> {
  const [found] = await store.getBlobs([id], name);
  return found ? [...found] : null;
}

export const blobs = cases('getBlobs', {
  'the blobs of a job are stored byte for byte, and are separate from those of other jobs': async (store, job) => {
    const all = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
    const [row, other] = [job(), job()];
    const own = [
      { job: row.id, name: 'a', bytes: all },
      { job: row.id, name: 'empty', bytes: bytes() },
      { job: other.id, name: 'a', bytes: bytes(2) },
    ];
    await store.insert([row, other], { now: t0, blobs: own });
    const found = await store.getBlobs([other.id, idOf(900), row.id], 'a');
    assert.deepEqual(
      found.map((blob) => blob && Buffer.from(blob)),
      [Buffer.from([2]), null, Buffer.from(all)],
    );
    assert.deepEqual(await blobOf(store, row.id, 'empty'), []);
    assert.equal(await blobOf(store, row.id, 'b'), null);
  },
  'changing the given bytes later does not change the stored blob': async (store, job) => {
    const row = job();
    const given = bytes(1, 2);
    await store.insert([row], { now: t0, blobs: [{ job: row.id, name: 'a', bytes: given }] });
    given[0] = 9;
    const [read] = await store.getBlobs([row.id], 'a');
    if (read) read[1] = 9;
    assert.deepEqual(await blobOf(store, row.id, 'a'), [1, 2]);
  },
  'a rejected insert stores no blobs': async (store, job) => {
    const [row, next] = [job(), job()];
    await insert(store, row);
    const given = [row, next].map(({ id }) => ({ job: id, name: 'a', bytes: bytes(1) }));
    await refuses('conflict', () => store.insert([next, row], { now: t0, blobs: given }));
    assert.deepEqual([await blobOf(store, row.id, 'a'), await blobOf(store, next.id, 'a')], [null, null]);
  },
  'once: if a job is skipped, so are its blobs': async (store, job) => {
    const row = job();
    await store.insert([row], { now: t0, once: true, blobs: [{ job: row.id, name: 'a', bytes: bytes(1) }] });
    const other = job();
    const given = [row, other].map(({ id }) => ({ job: id, name: 'a', bytes: bytes(7) }));
    await store.insert([row, other], { now: t0, once: true, blobs: given });
    assert.deepEqual([await blobOf(store, row.id, 'a'), await blobOf(store, other.id, 'a')], [[1], [7]]);
  },
  'a running job can add and replace blobs under its claim': async (store, job) => {
    const row = job();
    await store.insert([row], { now: t0, blobs: [{ job: row.id, name: 'a', bytes: bytes(1) }] });
    const held = await claimOne(store, t0);
    const isSaved = await store.saveBlobs(held, [
      { name: 'a', bytes: bytes(2) },
      { name: 'b', bytes: bytes(3) },
    ]);
    assert.equal(isSaved, true);
    await settle(store, failed(held, t0 + 1));
    assert.deepEqual([await blobOf(store, row.id, 'a'), await blobOf(store, row.id, 'b')], [[2], [3]]);
  },
  'blobs from a claim that does not hold the job are rejected': async (store, job) => {
    const row = job();
    await insert(store, row);
    const save = (claimNumber: number) => store.saveBlobs({ id: row.id, claim: claimNumber }, [{ name: 'a', bytes: bytes(1) }]);
    assert.equal(await save(0), false);
    const held = await claimOne(store, t0, { leaseUntil: t0 + 10 });
    await settle(store, lost(held, t0 + 10));
    assert.equal(await save(1), false);
    const [again] = await claim(store, t0 + 11);
    assert.equal(await save(1), false);
    assert.ok(again);
    await settle(store, done(again, t0 + 12));
    assert.equal(await save(2), false);
    assert.equal(await store.saveBlobs({ id: idOf(900), claim: 1 }, [{ name: 'a', bytes: bytes(1) }]), false);
    assert.equal(await blobOf(store, row.id, 'a'), null);
  },
  'blobs are deleted with their job, and only with it': async (store, job) => {
    const [pruned, deleted, kept] = [job(), job({ dueAt: t0 + 100 }), job({ dueAt: t0 + 100 })];
    const given = [pruned, deleted, kept].map(({ id }) => ({ job: id, name: 'a', bytes: bytes(1) }));
    await store.insert([pruned, deleted, kept], { now: t0, blobs: given });
    await settle(store, done(await claimOne(store, t0), t0 + 1));
    await store.prune({ status: 'successful', finishedBefore: t0 + 2, limit: 10 });
    await amend(store, await rowOf(store, deleted.id), null);
    const left = await store.getBlobs([pruned.id, deleted.id, kept.id], 'a');
    assert.deepEqual(
      left.map((blob) => blob !== null),
      [false, false, true],
    );
    await store.insert([{ ...pruned }], { now: t0 });
    assert.equal(await blobOf(store, pruned.id, 'a'), null);
  },
  'blobs do not change the row of their job': async (store, job) => {
    const row = job();
    await store.insert([row], { now: t0, blobs: [{ job: row.id, name: 'a', bytes: bytes(1) }] });
    assert.deepEqual(await store.get([row.id]), [{ job: row, attempts: [] }]);
    assert.deepEqual(await rowOf(store, row.id), row);
  },
});
