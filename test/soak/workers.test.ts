/**
 * Four workers on one file for an hour (`ESCAPEMENT_SOAK_MINUTES`). They are killed, the clock is set an hour forward and back, and threads
 * are blocked. Every acknowledged job has run, has ended, and is counted once.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { createTasks, StoreError } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { expect, test } from 'vitest';

const minutes = Number(process.env.ESCAPEMENT_SOAK_MINUTES ?? 60);
const app = fileURLToPath(new URL('./app.ts', import.meta.url));
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const between = (low: number, high: number) => low + Math.floor(Math.random() * (high - low));

test('four killed workers lose nothing, whatever the clock is set to', { timeout: (minutes + 30) * 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-soak-'));
  const [file, log] = [join(folder, 'jobs.db'), join(folder, 'log.txt')];
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }), logger: quiet });
  const define = (name: string) => tasks.define(name, (_: number) => {});
  const kinds = { quick: define('quick'), slow: define('slow'), fails: define('fails'), blocks: define('blocks') };
  await tasks.open();

  const clock = join(folder, 'clock');
  const setClockTo = (ahead: number) => {
    const fd = openSync(clock, 'a+');
    closeSync(fd);
    const open = openSync(clock, 'r+');
    writeSync(open, new Float64Array([ahead]), 0, 8, 0);
    closeSync(open);
  };
  setClockTo(0);
  let [kills, steps, stops, refused] = [0, 0, 0, 0];
  const start = () => fork(app, [file, log, clock], { stdio: 'ignore' });
  const workers: ChildProcess[] = Array.from({ length: 4 }, start);
  const setClock = (to: number) => {
    setClockTo(to);
    steps += 1;
  };
  const acknowledged: { name: keyof typeof kinds; n: number; id: string }[] = [];
  let n = 0;
  const until = performance.now() + minutes * 60_000;
  const isOver = () => performance.now() > until;

  const enqueueing = async () => {
    while (!isOver()) {
      for (const [name, count] of [
        ['quick', between(1, 60)],
        ['slow', between(0, 8)],
        ['fails', between(0, 8)],
        ['blocks', between(0, 40) === 0 ? 1 : 0],
      ] as const) {
        const inputs = Array.from({ length: count }, () => ++n);
        try {
          const results = await kinds[name].enqueueMany(inputs);
          for (const [i, { id }] of results.entries()) acknowledged.push({ name, n: inputs[i] as number, id });
        } catch (error) {
          // A process that was suspended during a write holds the lock until it resumes: nothing was acknowledged.
          if (!(error instanceof StoreError && error.transient)) throw error;
          refused += 1;
        }
      }
      await wait(between(50, 400));
    }
  };
  const killing = async () => {
    while (!isOver()) {
      await wait(between(3_000, 15_000));
      const victim = between(0, 4);
      workers[victim]?.kill('SIGKILL');
      kills += 1;
      workers[victim] = start();
    }
  };
  const stopping = async () => {
    while (!isOver()) {
      await wait(between(40_000, 90_000));
      const worker = workers[between(0, 4)];
      worker?.kill('SIGSTOP');
      stops += 1;
      await wait(between(1_000, 45_000));
      worker?.kill('SIGCONT');
    }
  };
  const stepping = async () => {
    while (!isOver()) {
      await wait(between(30_000, 120_000));
      setClock([0, 3_600_000, -3_600_000, 45_000, -45_000][between(0, 5)] as number);
    }
  };
  await Promise.all([enqueueing(), killing(), stopping(), stepping()]);
  // Past every instant that a fast clock may have given a job.
  setClock(3 * 3_600_000);
  const db = new Database(file);
  const left = () =>
    db.prepare("SELECT count(*) FROM escapement_jobs WHERE state NOT IN ('successful', 'failed') AND schedule IS NULL").pluck().get();
  await expect.poll(left, { timeout: 20 * 60_000, interval: 500 }).toBe(0);
  for (const worker of workers) worker.kill('SIGKILL');

  // Jobs that were killed three times in a row are failed, as documented.
  const given = db.prepare("SELECT reason, count(*) AS n FROM escapement_jobs WHERE state = 'failed' GROUP BY reason").all() as {
    reason: string;
    n: number;
  }[];
  expect(given.filter(({ reason }) => reason !== 'poisoned')).toEqual([]);
  const poisoned = given[0]?.n ?? 0;
  expect(poisoned).toBeLessThanOrEqual(kills / 10);

  const there = new Set(db.prepare('SELECT id FROM escapement_jobs').pluck().all());
  expect(acknowledged.filter(({ id }) => !there.has(id))).toEqual([]);
  const runs = new Map<string, number>();
  for (const line of readFileSync(log, 'utf8').trim().split('\n')) runs.set(line, (runs.get(line) ?? 0) + 1);
  expect(acknowledged.filter(({ name, n }) => !runs.has(`${name} ${n}`))).toEqual([]);
  const twice = acknowledged.filter(({ name, n }) => (runs.get(`${name} ${n}`) ?? 0) > (name === 'fails' ? 1 + (n % 4) : 1)).length;
  expect(twice).toBeLessThanOrEqual((kills + stops) * 10);
  expect(
    db.prepare('SELECT schedule, scheduled_at FROM escapement_jobs WHERE schedule IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1').all(),
  ).toEqual([]);
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
  db.close();
  await tasks.close();
  rmSync(folder, { recursive: true });
  console.log(
    `${acknowledged.length} jobs, ${kills} kills, ${stops} stops, ${steps} steps of the clock, ${refused} refused enqueues in ${minutes} min: none lost, ${twice} run twice, ${poisoned} given up after three kills`,
  );
});
