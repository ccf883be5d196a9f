/** Runs a load on a real server, with each worker and the producer in a separate process, and measures what `model.ts` predicts. */
import { type ChildProcess, fork } from 'node:child_process';
import pg from 'pg';
import { createTasks } from '../../dist/src/index.js';
import { postgres } from '../../dist/src/stores/postgres/index.js';
import { serverCpu } from '../server-cpu.ts';
import type { Load } from './model.ts';

export interface Measured {
  readonly jobs: number;
  readonly arrivals: number;
  readonly serviceMs: number;
  readonly utilization: number;
  readonly waitMs: { readonly p50: number; readonly p95: number };
  /** CPU time per job, in microseconds: of all workers, of the server, of the process that enqueues. */
  readonly cpu: { readonly node: number; readonly server: number; readonly enqueue: number };
}

/** A process's final message: its CPU time in microseconds, and how long its functions ran. */
type Told = { readonly ready: true } | { readonly cpu: number; readonly ran: number; readonly busyMs: number };

const schema = 'bench_plan';
/** Excluded from the measurement: connections, plans and just-in-time compilation. */
const warmUpMs = 3_000;
const silent = { debug() {}, info() {}, warn() {}, error: (fields: object, message: string) => console.error(message, fields) };
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const exponential = (mean: number) => -Math.log(1 - Math.random()) * mean;
const open = (url: string) => createTasks({ backend: postgres({ connectionString: url, schema }), logger: silent });

if (process.send && process.argv[2] === '--load') await child(process.argv[3] ?? '', JSON.parse(process.argv[4] ?? '{}'));

interface ChildOptions extends Load {
  /** 0: the process enqueues. */
  readonly slots: number;
}

async function child(url: string, { arrivals, serviceMs, variation, slots }: ChildOptions): Promise<void> {
  const tasks = open(url);
  await tasks.open();
  let [ran, busyMs] = [0, 0];
  const serve = tasks.define('serve', async () => {
    const since = performance.now();
    await wait(variation === 0 ? serviceMs : exponential(serviceMs));
    ran += 1;
    busyMs += performance.now() - since;
  });
  if (slots > 0) await tasks.worker({ concurrency: slots }).start();
  let [before, isOver] = [process.cpuUsage(), false];
  process.on('message', (message) => {
    if (message === 'measure') [before, ran, busyMs] = [process.cpuUsage(), 0, 0];
    else {
      const { user, system } = process.cpuUsage(before);
      isOver = true;
      process.send?.({ cpu: user + system, ran, busyMs } satisfies Told, () => process.exit());
    }
  });
  process.send?.({ ready: true } satisfies Told);
  if (slots > 0) return;
  for (let at = performance.now(); !isOver; ) {
    at += exponential(1_000 / arrivals);
    const earlyMs = at - performance.now();
    if (earlyMs > 1) await wait(earlyMs);
    void serve.enqueue();
  }
}

/** @param processes the slots of each worker process */
export async function measure(url: string, load: Load, processes: readonly number[], forMs: number): Promise<Measured> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  // The server may stop while the pool closes.
  pool.on('error', () => {});
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  const tasks = open(url);
  await tasks.open();
  await tasks.close();
  const { rows } = await pool.query("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer AS postmaster");
  const [{ postmaster }] = rows as [{ postmaster: number }];
  const workers = await Promise.all(processes.map((slots) => start(url, { ...load, slots })));
  const producer = await start(url, { ...load, slots: 0 });
  const all = [...workers, producer];
  await wait(warmUpMs);
  const [serverBefore, fromAt] = [serverCpu(postmaster), Date.now()];
  for (const one of all) one.send('measure');
  await wait(forMs);
  const untilAt = Date.now();
  const server = serverCpu(postmaster) - serverBefore;
  const enqueue = await stop(producer);
  const told = await Promise.all(workers.map(stop));
  const { rows: waits } = await pool.query(
    `SELECT count(*)::integer AS jobs,
      percentile_cont(0.5) WITHIN GROUP (ORDER BY last_attempted_at - enqueued_at) AS p50,
      percentile_cont(0.95) WITHIN GROUP (ORDER BY last_attempted_at - enqueued_at) AS p95
    FROM ${schema}.jobs WHERE enqueued_at BETWEEN $1 AND $2 AND last_attempted_at IS NOT NULL`,
    [fromAt, untilAt],
  );
  const [{ jobs, p50, p95 }] = waits as [{ jobs: number; p50: number; p95: number }];
  await pool.query(`DROP SCHEMA ${schema} CASCADE`);
  await pool.end();
  const sum = (of: (one: { cpu: number; ran: number; busyMs: number }) => number) => told.reduce((total, one) => total + of(one), 0);
  const ran = sum((one) => one.ran);
  const slots = processes.reduce((total, count) => total + count, 0);
  return {
    jobs,
    arrivals: (jobs * 1_000) / (untilAt - fromAt),
    serviceMs: sum(({ busyMs }) => busyMs) / ran,
    utilization: sum(({ busyMs }) => busyMs) / (untilAt - fromAt) / slots,
    waitMs: { p50, p95 },
    cpu: { node: sum(({ cpu }) => cpu) / ran, server: server / jobs, enqueue: enqueue.cpu / jobs },
  };
}

function start(url: string, options: ChildOptions): Promise<ChildProcess> {
  const one = fork(import.meta.filename, ['--load', url, JSON.stringify(options)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  return new Promise((resolve, reject) => {
    one.once('message', () => resolve(one));
    one.once('exit', (code) => reject(new Error(`a process exited with code ${code}`)));
  });
}

function stop(one: ChildProcess): Promise<Exclude<Told, { ready: true }>> {
  return new Promise((resolve) => {
    one.once('message', (told) => resolve(told as Exclude<Told, { ready: true }>));
    one.send('stop');
  });
}
