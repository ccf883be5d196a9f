/** Real processes on one file, killed with SIGKILL. `npm run test:soak` runs longer versions. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { createTasks, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { selectCounts } from '../../src/stores/sqlite/counts.ts';
import { migrations } from '../../src/stores/sqlite/schema.ts';

const app = fileURLToPath(new URL('./fixtures/app.ts', import.meta.url));
const soak = Boolean(process.env.ESCAPEMENT_SOAK);

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
let file: string;
let log: string;
let tasks: Tasks;
let children: ChildProcess[] = [];

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
  file = join(folder, 'jobs.db');
  log = join(folder, 'log.txt');
  tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }), logger: quiet });
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
  await tasks.close();
});

/** The standard error output of each process. */
const complaints = new WeakMap<ChildProcess, string>();

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [app, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  child.stderr?.on('data', (chunk) => complaints.set(child, `${complaints.get(child) ?? ''}${chunk}`));
  return child;
}
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const ended = (child: ChildProcess) =>
  new Promise((resolve) => (child.exitCode !== null || child.signalCode ? resolve(null) : child.once('exit', resolve)));
/** Rejects if the process exits before it has reported that it is up. */
const startedUp = (child: ChildProcess) =>
  new Promise((resolve, reject) => {
    child.stdout?.once('data', resolve);
    child.once('exit', () => reject(new Error(`the process ended before it was up: ${complaints.get(child) ?? ''}`)));
  });
const counts = async () => (await tasks.queues.list())[0]?.counts;
const logged = () =>
  (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []).map(
    (line) => line.split(' ').map(Number) as [number, number, number],
  );
const define = () => tasks.define('append', { retry: { backoff: 10 }, run: (_: number) => {} });

test('killed workers lose no job, and few jobs run twice', async () => {
  const jobs = soak ? 12_000 : 1_000;
  const job = define();
  await job.enqueueMany(Array.from({ length: jobs }, (_, n) => n));
  // Enough work for as long as workers are killed, on any machine.
  const takes = soak ? '90' : '100';
  const workers = Array.from({ length: soak ? 4 : 3 }, () => start('worker', file, log, takes));
  await Promise.all(workers.map(startedUp));
  let kills = 0;
  while (kills < (soak ? 200 : 3)) {
    // Some jobs run between any two kills.
    const { successful } = (await counts()) ?? { successful: 0 };
    await expect.poll(async () => (await counts())?.successful, { interval: 20 }).toBeGreaterThan(successful + 20);
    const victim = Math.floor(Math.random() * workers.length);
    workers[victim]?.kill('SIGKILL');
    kills += 1;
    workers[victim] = start('worker', file, log, takes);
  }
  for (const worker of workers) worker.kill('SIGKILL');
  kills += workers.length;
  expect((await counts())?.successful).toBeLessThan(jobs);
  await Promise.all(workers.map(ended));
  // These workers' clock is past every lease, so the test need not wait for orphans.
  const last = [start('worker', file, log, '2', '40000'), start('worker', file, log, '2', '40000')];
  await expect.poll(async () => (await counts())?.successful, { timeout: 150_000, interval: 100 }).toBe(jobs);
  for (const worker of last) worker.kill('SIGTERM');
  await Promise.all(last.map(ended));

  const numbers = logged().map(([n]) => n);
  expect(new Set(numbers).size).toBe(jobs);
  expect(numbers.length - jobs).toBeLessThanOrEqual(kills * 5);
  const db = new Database(file);
  expect(db.prepare("SELECT count(*) AS n FROM escapement_jobs WHERE state = 'running' OR lease_until IS NOT NULL").get()).toEqual({
    n: 0,
  });
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
  const counted = db.prepare('SELECT state, count(*) AS count FROM escapement_jobs GROUP BY state').all();
  expect(db.prepare(`SELECT state, sum(count) AS count FROM (${selectCounts}) GROUP BY state ORDER BY state`).all()).toEqual(counted);
  db.close();
});

test('every enqueue that was acknowledged to a killed producer is stored', async () => {
  define();
  await tasks.open();
  const told: string[] = [];
  for (let i = 0; i < (soak ? 25 : 3); i++) {
    const producer = start('producer', file);
    let text = '';
    producer.stdout?.on('data', (chunk) => (text += chunk));
    await startedUp(producer);
    const lines = 5 + Math.floor(Math.random() * 60);
    await expect.poll(() => text.split('\n').length, { interval: 1 }).toBeGreaterThan(lines);
    producer.kill('SIGKILL');
    await new Promise((resolve) => producer.once('close', resolve));
    // The last line may be incomplete.
    told.push(...text.split('\n').slice(0, -1));
  }
  expect(told.length).toBeGreaterThan(15);
  const db = new Database(file);
  const there = new Set(
    db
      .prepare<[], { id: string }>('SELECT id FROM escapement_jobs')
      .all()
      .map(({ id }) => id),
  );
  expect(told.filter((id) => !there.has(id))).toEqual([]);
  db.close();
});

test('processes that start together on a new file create its tables once, claim every job once, and none starves', async () => {
  const workers = Array.from({ length: soak ? 12 : 3 }, () => start('worker', file, log));
  await Promise.all(workers.map(startedUp));
  const numbers = Array.from({ length: soak ? 3_000 : 300 }, (_, n) => n);
  await define().enqueueMany(numbers);
  await expect.poll(async () => (await counts())?.successful, { timeout: 150_000, interval: 100 }).toBe(numbers.length);
  const lines = logged();
  expect(lines.map(([n]) => n).sort((a, b) => a - b)).toEqual(numbers);
  for (const { pid } of workers) expect(lines.filter(([, by]) => by === pid).length).toBeGreaterThan(0);
  expect((await tasks.workers.list()).map(({ pid }) => pid).sort()).toEqual(workers.map(({ pid }) => pid).sort());
  for (const worker of workers) worker.kill('SIGTERM');
  await Promise.all(workers.map(ended));
  expect(workers.map(({ exitCode }) => exitCode)).toEqual(workers.map(() => 0));
  // A lock held by others is not an error that users see.
  expect(workers.map((worker) => complaints.get(worker) ?? '')).toEqual(workers.map(() => ''));
});

/** A file from an older version: the first migrations, and a job. */
function oldFile(version: number): void {
  const db = new Database(file);
  db.exec('CREATE TABLE escapement_migrations (version INTEGER PRIMARY KEY NOT NULL, checksum TEXT NOT NULL) STRICT');
  for (const [i, sql] of migrations.slice(0, version).entries()) {
    db.exec(sql);
    db.prepare('INSERT INTO escapement_migrations VALUES (?, ?)').run(i + 1, createHash('sha256').update(sql).digest('hex'));
  }
  db.exec(
    `INSERT INTO escapement_jobs (id, task, queue, state, priority, input, due_at, enqueued_at, attempt, max_attempts, claim, losses)
     VALUES ('019b7600-0000-7000-8000-000000000001', 'append', 'default', 'scheduled', 0, '7', 1, 1, 0, 3, 0, 0);
     INSERT INTO escapement_queues VALUES ('default', NULL);
     INSERT INTO escapement_counts VALUES ('default', 'scheduled', 1)`,
  );
  // The latest migration, which notes that the job is counted, has run already.
  if (version === migrations.length) db.exec("INSERT INTO escapement_counts VALUES ('', 'counted', 1)");
  db.close();
}

/** Migrations never change, so only the soak test kills a process inside each; other runs test the first and the latest. */
const versions = migrations.map((_, i) => i + 1).filter((version) => soak || version === 1 || version > migrations.length - 3);

test.each(versions)('a process killed inside migration %i leaves a file that the next process migrates', async (version) => {
  if (version > 1) oldFile(version - 1);
  const before = existsSync(file) ? version - 1 : 0;
  const killed = start('migrator', file, String(version));
  await ended(killed);
  expect(killed.signalCode).toBe('SIGKILL');
  const db = new Database(file, { readonly: true });
  const tables = db.prepare("SELECT name FROM sqlite_schema WHERE name LIKE 'escapement_%'").all().length;
  if (before === 0) expect(tables).toBe(0);
  else expect(db.prepare('SELECT count(*) AS n FROM escapement_migrations').get()).toEqual({ n: before });
  db.close();
  const ran: number[] = [];
  const append = tasks.define('append', { run: (n: number) => void ran.push(n) });
  if (before === 0) await append.enqueue(7);
  await tasks.worker().start();
  await expect.poll(() => ran).toEqual([7]);
});

test('workers wait for space on a full disk, log it once, and continue', async () => {
  const job = tasks.define('bulky', { retry: { backoff: 10 }, run: (_: string) => 'x'.repeat(20_000) });
  await tasks.open();
  const workers = [0, 1].map(() => {
    const child = spawn(process.execPath, [app, 'bulky', file, log, '0'], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    children.push(child);
    return { child, stderr: '' };
  });
  for (const worker of workers) worker.child.stderr?.on('data', (chunk) => (worker.stderr += chunk));
  await Promise.all(workers.map(({ child }) => startedUp(child)));
  const ask = (child: ChildProcess, message: object) =>
    new Promise<Record<string, unknown>>((resolve) => {
      child.once('message', (answer) => resolve(answer as Record<string, unknown>));
      child.send(message);
    });
  await job.enqueueMany(Array.from({ length: 200 }, () => 'z'));
  await expect.poll(async () => (await counts())?.successful, { timeout: 60_000 }).toBe(200);
  // The page limit is the current number of pages: the disk is full, for both.
  for (const { child } of workers) await ask(child, { pages: 1 });

  const refused = await ask((workers[0] as (typeof workers)[0]).child, { enqueue: 1_000 });
  expect(refused).toMatchObject({ name: 'StoreError', code: 'ESCAPEMENT_STORE', kind: 'full' });
  expect(refused.message).toMatch(/jobs\.db: no space left on the device \(SQLITE_FULL/);
  expect(await counts()).toMatchObject({ ready: 0, running: 0, successful: 200 });

  await job.enqueueMany(Array.from({ length: 100 }, () => 'z'));
  const fullAt = performance.now();
  const complaintsOf = ({ stderr }: { stderr: string }) =>
    stderr.split('\n').filter((line) => line.includes('the store is failing')).length;
  await expect.poll(() => Math.min(...workers.map(complaintsOf)), { timeout: 60_000 }).toBeGreaterThan(0);
  if (soak) await wait(62_000);
  const during = await counts();
  expect(during).toMatchObject({ failed: 0, cancelled: 0 });
  expect(during?.successful).toBeLessThan(300);
  // At most one more every half minute, however long this has taken.
  const most = 1 + Math.floor((performance.now() - fullAt) / 30_000);
  for (const worker of workers) expect(complaintsOf(worker)).toBeLessThanOrEqual(most);
  for (const { child } of workers) await ask(child, { pages: 1_000_000 });
  await expect.poll(async () => (await counts())?.successful, { timeout: 150_000, interval: 100 }).toBe(300);
  const db = new Database(file);
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
  db.close();
});

test('processes that share a schedule enqueue one job per second, even when they are killed', async () => {
  const workers = Array.from({ length: soak ? 8 : 3 }, () => start('ticker', file));
  await Promise.all(workers.map(startedUp));
  const db = new Database(file);
  const fired = () => db.prepare("SELECT count(*) FROM escapement_jobs WHERE schedule = 'each-second'").pluck().get() as number;
  for (let kills = 0; kills < (soak ? 12 : 2); kills++) {
    const before = fired();
    await expect.poll(fired, { interval: 100 }).toBeGreaterThan(before + (soak ? 4 : 1));
    const victim = kills % workers.length;
    workers[victim]?.kill('SIGKILL');
    workers[victim] = start('ticker', file);
  }
  for (const worker of workers) worker.kill('SIGTERM');
  await Promise.all(workers.map(ended));
  const made = db
    .prepare<[], { at: number }>("SELECT scheduled_at AS at FROM escapement_jobs WHERE schedule = 'each-second' ORDER BY scheduled_at")
    .all()
    .map(({ at }) => at);
  const first = made[0] as number;
  expect(made.length).toBeGreaterThan(soak ? 55 : 3);
  expect(made).toEqual(made.map((_, i) => first + i * 1_000));
  expect(db.prepare('SELECT runs FROM escapement_schedules').get()).toEqual({ runs: made.length });
  db.close();
});

/** A process that is suspended during a write blocks all others, because SQLite's lock is held until it resumes or exits. */
function stopOutsideOfWrites(process: ChildProcess, file: string): void {
  const db = new Database(file, { timeout: 5_000 });
  db.exec('BEGIN IMMEDIATE');
  process.kill('SIGSTOP');
  db.exec('ROLLBACK');
  db.close();
}

test('a suspended process whose job was taken over gets a LeaseLostError, and changes nothing', async () => {
  const first = start('worker', file, log, '60000');
  await startedUp(first);
  const result = await define().enqueue(1);
  await expect.poll(async () => (await result.refresh()).status, { timeout: 30_000 }).toBe('running');
  stopOutsideOfWrites(first, file);
  // Its clock is past the lease, so the test need not wait for the orphan.
  const second = start('worker', file, log, '10', '40000');
  await expect.poll(async () => (await result.refresh()).status, { timeout: 60_000 }).toBe('successful');
  const settled = { at: result.finishedAt, workers: result.workerIds };
  first.kill('SIGCONT');
  // The first worker's task is aborted before it can append; the second one's appends.
  const lines = () => readFileSync(log, 'utf8').trim().split('\n');
  await expect.poll(lines, { timeout: 60_000 }).toEqual([`1 ${second.pid} 2`, `1 ${first.pid} aborted by LeaseLostError`]);
  await result.refresh();
  expect({ at: result.finishedAt, workers: result.workerIds }).toEqual(settled);
  expect(result).toMatchObject({ status: 'successful', attempts: 2 });
  expect(result.errors.map(({ name }) => name)).toEqual(['LeaseLostError']);
});

test('a job that runs in another process is cancelled there', async () => {
  const worker = start('worker', file, log, '600000');
  await startedUp(worker);
  const result = await define().enqueue(1);
  await expect.poll(async () => (await result.refresh()).status, { timeout: 30_000 }).toBe('running');
  await result.cancel('no longer wanted');
  await expect.poll(async () => (await result.refresh()).status, { timeout: 60_000 }).toBe('cancelled');
  expect(result).toMatchObject({ reason: 'no longer wanted', attempts: 1, workerIds: [expect.any(String)] });
  await expect.poll(() => readFileSync(log, 'utf8'), { timeout: 30_000 }).toBe(`1 ${worker.pid} aborted by CancelledError\n`);
});

test.runIf(soak)('a process that was suspended for longer than its lease gets a LeaseLostError, and changes nothing', async () => {
  const first = start('worker', file, log, '60000');
  await startedUp(first);
  const result = await define().enqueue(1);
  await expect.poll(async () => (await result.refresh()).status, { timeout: 30_000 }).toBe('running');
  stopOutsideOfWrites(first, file);
  const second = start('worker', file, log, '10');
  await startedUp(second);
  await wait(40_000);
  expect((await result.refresh()).status).toBe('successful');
  const settled = { at: result.finishedAt, workers: result.workerIds };
  first.kill('SIGCONT');
  await wait(6_000);
  await result.refresh();
  expect({ at: result.finishedAt, workers: result.workerIds }).toEqual(settled);
  expect(result).toMatchObject({ status: 'successful', attempts: 2 });
  expect(result.errors.map(({ name }) => name)).toEqual(['LeaseLostError']);
  // The first worker's task was aborted before it could append; the second one's appended.
  expect(readFileSync(log, 'utf8').trim().split('\n')).toEqual([`1 ${second.pid} 2`, `1 ${first.pid} aborted by LeaseLostError`]);
});
