import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Keeper, KeeperOptions } from '../../src/ports/store.ts';
import { ThreadKeeper } from '../../src/stores/keeper.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'escapement-keeper-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A file with one job that `w1` runs, and functions that read and set the end of its lease. */
async function running(name: string) {
  const file = join(folder, `${name}.db`);
  const tasks = createTasks({ backend: sqlite({ file }) });
  const result = await tasks.define('task', () => {}).enqueue();
  await tasks.close();
  const db = new Database(file);
  const leaseUntil = () => db.prepare('SELECT lease_until FROM escapement_jobs WHERE id = ?').pluck().get(result.id) as number;
  const lease = (ms: number) =>
    db.prepare("UPDATE escapement_jobs SET state = 'running', last_worker = 'w1', claim = 1, lease_until = ?").run(Date.now() + ms);
  return { file, db, leaseUntil, lease };
}

const store = new URL('../../src/stores/sqlite/store.ts', import.meta.url).href;
function keeperOf(file: string, options: KeeperOptions, patienceMs: number) {
  return new ThreadKeeper({ baseUrl: store, place: () => file }, options, patienceMs);
}

/** Blocks this thread until the condition holds; returns false after half a minute. */
function blockUntil(condition: () => boolean): boolean {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 3_000; i++) {
    if (condition()) return true;
    Atomics.wait(sleeper, 0, 0, 10);
  }
  return false;
}

test('a helper thread renews leases while the event loop is blocked', async () => {
  const { file, db, leaseUntil, lease } = await running('blocked');
  lease(60_000);
  const before = leaseUntil();
  const keeper = keeperOf(file, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  keeper.begun();
  expect(blockUntil(() => leaseUntil() > before)).toBe(true);
  keeper.close();
  db.close();
});

// An open connection would keep a deleted log in use.
test.skipIf(process.platform !== 'linux')('the helper thread closes its connection when the event loop turns again', async () => {
  const { file, db, leaseUntil, lease } = await running('turning');
  lease(60_000);
  const linkOf = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  };
  const connections = () => readdirSync('/proc/self/fd').filter((fd) => linkOf(fd) === `${file}-wal`).length;
  const before = leaseUntil();
  const keeper = keeperOf(file, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  keeper.begun();
  expect(blockUntil(() => leaseUntil() > before)).toBe(true);
  expect(connections()).toBe(2);
  keeper.rest();
  await expect.poll(connections, { timeout: 30_000 }).toBe(1);
  keeper.close();
  db.close();
});

test('leases of other workers and leases that have ended are not renewed', async () => {
  const { file, db, leaseUntil, lease } = await running('others');
  const own = await running('own');
  lease(-1_000);
  own.lease(60_000);
  const before = [leaseUntil(), own.leaseUntil()] as const;
  const passed = keeperOf(file, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  const other = keeperOf(own.file, { worker: 'w2', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  const third = await running('third');
  third.lease(60_000);
  const begun = third.leaseUntil();
  const last = keeperOf(third.file, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  for (const keeper of [passed, other, last]) keeper.begun();
  // After three renewals of the last one, the others have had their chance.
  for (let seen = begun, i = 0; i < 3; i++, seen = third.leaseUntil()) expect(blockUntil(() => third.leaseUntil() > seen)).toBe(true);
  expect([leaseUntil(), own.leaseUntil()]).toEqual(before);
  for (const keeper of [passed, other, last]) keeper.close();
  for (const one of [db, own.db, third.db]) one.close();
});

test('renewal stops after its limit', async () => {
  const { file, db, leaseUntil, lease } = await running('limit');
  const second = await running('unlimited');
  lease(60_000);
  second.lease(60_000);
  const keeper = keeperOf(file, { worker: 'w1', leaseMs: 120_000, limitMs: 150, blocked() {} }, 50);
  const beside = keeperOf(second.file, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50);
  keeper.begun();
  beside.begun();
  let renewals = 0;
  const ends = new Set<number>();
  const isOver = () => {
    ends.add(leaseUntil());
    const seen = second.leaseUntil();
    if (!ends.has(-seen)) renewals += 1;
    ends.add(-seen);
    return renewals > 12;
  };
  expect(blockUntil(isOver)).toBe(true);
  expect([...ends].filter((end) => end > 0).length).toBeLessThanOrEqual(3);
  for (const one of [keeper, beside]) one.close();
  for (const one of [db, second.db]) one.close();
});

test('a blocked event loop is reported with its duration', async () => {
  const { file, db, lease } = await running('told');
  lease(60_000);
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let keeper: Keeper | undefined;
  const told = new Promise<number>((blocked) => {
    keeper = keeperOf(file, { worker: 'w1', leaseMs: 30_000, limitMs: 60_000, blocked }, 50);
    keeper.begun();
    Atomics.wait(sleeper, 0, 0, 1_200);
  });
  expect(await told).toBeGreaterThanOrEqual(50);
  keeper?.close();
  db.close();
});

test('the exit of the process ends helper threads, even while they load', async () => {
  const { file, db, leaseUntil, lease } = await running('exit');
  const beside = await running('beside the exit');
  lease(60_000);
  beside.lease(60_000);
  const atExit = () => process.listeners('exit').filter(({ name }) => name === 'closeAtExit');
  const [ending, other] = [file, beside.file].map((path) =>
    keeperOf(path, { worker: 'w1', leaseMs: 120_000, limitMs: 60_000, blocked() {} }, 50),
  );
  ending?.begun();
  expect(blockUntil(() => leaseUntil() > Date.now() + 70_000)).toBe(true);
  for (const listener of atExit()) listener(0);
  expect(atExit()).toEqual([]);
  const last = leaseUntil();
  other?.begun();
  // After three renewals of the other one, the first would have had its chance.
  for (let seen = beside.leaseUntil(), i = 0; i < 3; i++, seen = beside.leaseUntil())
    expect(blockUntil(() => beside.leaseUntil() > seen)).toBe(true);
  expect(leaseUntil()).toBe(last);
  other?.close();
  for (const one of [db, beside.db]) one.close();
});
