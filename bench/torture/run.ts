/**
 * Tortures a queue and checks what its clients observed. Several processes enqueue and work on jobs. They are killed with SIGKILL, paused
 * with SIGSTOP, and, on servers, all their connections are terminated. It then reports:
 *
 * - lost: jobs that were acknowledged to a client and never ended
 * - stuck: jobs that have not ended after the faults stopped, when none has ended for two minutes
 * - again: jobs that began after the queue had acknowledged their end to a worker
 * - twice at once: jobs that began while another process, which was neither killed nor paused in the meantime, was still running them
 * - over the limit: with a limit of one at a time, jobs that began while another one was running in such a process
 * - failed: jobs that were given up although their function never failed
 * - ended twice: jobs whose end was acknowledged twice
 * - not enqueued: jobs that began without having been enqueued
 * - uncaught, died: errors that would have ended a process, and processes that ended on their own
 *
 * Each of these is a violation, except that a job that was killed three times in a row may be given up. Jobs that ran twice because a
 * worker died are not: every queue runs jobs at least once.
 *
 * Run: `npm run torture -- --store sqlite --for 10m`. Options: `--store` sqlite, postgres, pg-boss, graphile-worker (both must be
 * installed), bullmq (used as documented) or escapement-bullmq; `--for` (1m), `--processes` (4), `--url` of a PostgreSQL or Redis server
 * (default: one is started; Redis with a log that is on disk before it answers). In runs of less than a minute, faults are more frequent,
 * and jobs are shorter.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { appendFileSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import { startPostgres } from '../../test/setup/postgres.ts';
import { startRedis } from '../../test/setup/redis.ts';
import { check, type Harm, type Line } from './check.ts';
import { queues } from './queues.ts';

/** All processes of a machine share this clock. What `performance.timeOrigin` gives differs between them by 12 ms on a busy machine. */
const now = () => Number(process.hrtime.bigint() / 1_000n) / 1_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** Longer than the longest job and its worker's lease. */
const stuckAfterMs = 120_000;
/** Above this number, clients wait for jobs to end before they enqueue more. */
const mostUnfinished = 1_000;
/** The duration of the longest jobs. */
const longMs = 40_000;
const between = (low: number, high: number) => low + Math.random() * (high - low);

if (process.send) await client(process.argv.slice(2));
else await torture();

/** One process: it enqueues, works, and logs what it observes line by line, so that the lines survive SIGKILL. */
async function client([store = '', at = '', log = '', slots = '', pace = '1']: readonly string[]): Promise<void> {
  const fd = openSync(log, 'a');
  const note = (what: string, ids: string) => writeSync(fd, `${now()} ${what} ${ids}\n`);
  // Cut connections concern the queue, not this process.
  process.on('uncaughtException', (error) => note('uncaught', String(error.message).replaceAll(/\s/g, '_')));
  const queue = await queues[store]?.({ at, concurrency: Number(slots) });
  if (!queue) throw new Error(`unknown queue ${store}`);
  await queue.work(
    async (id) => {
      note('begun', id);
      await wait(Number(id.split('-').at(-1)));
      note('ended', id);
    },
    (id) => note('settled', id),
  );
  let [isEnqueueing, isFull] = [true, false];
  let refused: readonly string[] = [];
  process.on('message', () => {
    isEnqueueing = false;
  });
  for (let n = 0; ; n++) {
    await wait(between(50, 500));
    // No more than a slow machine can run.
    if (n % 10 === 0) isFull = (await queue.unfinished().catch(() => 0)) > mostUnfinished;
    if (!isEnqueueing || isFull) continue;
    // A failed enqueue may have succeeded anyway. If the queue supports ids, it is repeated until it is acknowledged.
    const ids = refused.length > 0 ? refused : newIds(n, Number(pace));
    note('asked', ids.join(' '));
    try {
      await queue.enqueue(ids);
      note('acknowledged', ids.join(' '));
      refused = [];
    } catch {
      if (queue.hasIds) refused = ids;
    }
  }
}

/** Ids that encode the kind of the job and its duration. */
function newIds(n: number, pace: number): string[] {
  return Array.from({ length: 1 + Math.floor(between(0, 12)) }, (_, i) => {
    const [kind, ms] = i === 0 ? ['one', between(0, 100)] : Math.random() < 0.02 ? ['long', longMs * pace] : ['any', between(0, 300)];
    return `${kind}-${process.pid}-${n}-${i}-${Math.round(ms as number)}`;
  });
}

async function torture(): Promise<void> {
  const { values } = parseArgs({
    options: {
      store: { type: 'string', default: 'sqlite' },
      for: { type: 'string', default: '1m' },
      processes: { type: 'string', default: '4' },
      url: { type: 'string' },
    },
  });
  const { store } = values;
  const minutes = /^(\d+)([sm])$/.exec(values.for);
  if (!minutes || !(store in queues)) {
    console.error(`usage: npm run torture -- --store ${Object.keys(queues).join('|')} --for 10m`);
    process.exit(2);
  }
  const forMs = Number(minutes[1]) * (minutes[2] === 'm' ? 60_000 : 1_000);
  const pace = Math.min(1, forMs / 60_000);
  const folder = mkdtempSync(join(tmpdir(), 'escapement-torture-'));
  const server = await serverOf(store, values.url);
  const at = server?.url ?? join(folder, 'jobs.db');
  const queue = await queues[store]?.({ at, concurrency: 1 });
  if (!queue) throw new Error('unreachable');
  await queue.unfinished();

  const harms: Harm[] = [];
  const did = { kills: 0, pauses: 0, cuts: 0 };
  let started = 0;
  const start = () =>
    fork(fileURLToPath(import.meta.url), [store, at, join(folder, `log-${++started}`), started % 4 === 0 ? '250' : '8', String(pace)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
  const died: string[] = [];
  const nameOf = new Map<ChildProcess, string>();
  const begin = () => {
    const child = start();
    nameOf.set(child, `log-${started}`);
    child.on('exit', (code, signal) => {
      if (signal !== 'SIGKILL') died.push(`died: ${nameOf.get(child)}, exit code ${code}`);
    });
    return child;
  };
  const processes = Array.from({ length: Number(values.processes) }, begin);
  const any = () => Math.floor(between(0, processes.length));
  const until = performance.now() + forMs;
  const isOver = () => performance.now() > until;
  const every = async (low: number, high: number, act: () => void | Promise<void>) => {
    for (;;) {
      await wait(Math.min(between(low, high) * pace, Math.max(0, until - performance.now())));
      if (isOver()) return;
      await act();
    }
  };
  const kill = () => {
    const i = any();
    const child = processes[i] as ChildProcess;
    harms.push({ process: nameOf.get(child) ?? '', from: now(), to: Number.POSITIVE_INFINITY });
    child.kill('SIGKILL');
    did.kills += 1;
    processes[i] = begin();
  };
  const pause = async () => {
    const child = processes[any()] as ChildProcess;
    const harm: Harm = { process: nameOf.get(child) ?? '', from: now(), to: Number.POSITIVE_INFINITY };
    harms.push(harm);
    child.kill('SIGSTOP');
    did.pauses += 1;
    await wait(between(1_000, 45_000) * pace);
    child.kill('SIGCONT');
    // The process takes a while to notice.
    harm.to = now() + 2_000;
  };
  const cut = async () => {
    await server?.cut().catch(() => {});
    did.cuts += 1;
  };
  const progress = setInterval(() => {
    if (process.stderr.isTTY)
      process.stderr.write(`\r${Math.max(0, Math.round((until - performance.now()) / 1_000))} s left, ${did.kills} kills `);
  }, 1_000);
  await Promise.all([every(1_000, 8_000, kill), every(20_000, 60_000, pause), server ? every(3_000, 15_000, cut) : undefined]);
  clearInterval(progress);

  // The faults have stopped; the remaining jobs must end.
  for (const child of processes) child.send('enough');
  let left = Number.POSITIVE_INFINITY;
  let [zeros, progressAt] = [0, performance.now()];
  while (zeros < 3 && performance.now() - progressAt < stuckAfterMs) {
    await wait(1_000);
    const count = await queue.unfinished().catch(() => left);
    zeros = count === 0 ? zeros + 1 : 0;
    if (count < left) progressAt = performance.now();
    left = count;
  }
  const failed = await queue.failed();
  await wait(500);
  for (const child of processes) child.kill('SIGKILL');
  await queue.close();
  await server?.stop();

  const found = check(linesOf(folder), harms, { failed, left, hasLimit: queue.hasLimit });
  console.log(
    `${store}: ${values.processes} processes for ${values.for}, ${did.kills} kills, ${did.pauses} pauses, ${did.cuts} times all connections terminated`,
  );
  console.table({ ...found.table, died: died.length });
  const violations = [...died, ...found.violations];
  if (violations.length > 0) {
    for (const line of violations.slice(0, 20)) console.log(line);
    appendFileSync(join(folder, 'harms.json'), JSON.stringify(harms));
    console.log(`the processes' logs are in ${folder}`);
    process.exitCode = 1;
  } else rmSync(folder, { recursive: true });
}

/** The server of a queue. */
interface Server {
  readonly url: string;
  /** Terminates all connections except its own. */
  cut(): Promise<unknown>;
  stop(): Promise<void>;
}

async function serverOf(store: string, url: string | undefined): Promise<Server | undefined> {
  if (store === 'sqlite') return undefined;
  return store.endsWith('bullmq') ? onRedis(url) : onPostgres(store, url);
}

async function onPostgres(store: string, given: string | undefined): Promise<Server> {
  const server = given ? undefined : await startPostgres(['fsync=on', 'synchronous_commit=on']);
  const url = given ?? server?.url ?? '';
  const admin = new pg.Pool({ connectionString: url, max: 1 });
  admin.on('error', () => {});
  if (store === 'postgres') await admin.query('DROP SCHEMA IF EXISTS torture CASCADE');
  const others = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()';
  const stop = async () => {
    await admin.end();
    await server?.stop();
  };
  return { url, cut: () => admin.query(others), stop };
}

async function onRedis(given: string | undefined): Promise<Server> {
  const server = given ? undefined : await startRedis(['--appendonly', 'yes', '--appendfsync', 'always']);
  const url = given ?? `redis://127.0.0.1:${server?.port}`;
  const admin = new Redis(url);
  admin.on('error', () => {});
  const stop = async () => {
    admin.disconnect();
    await server?.stop();
  };
  return { url, cut: () => admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'), stop };
}

function linesOf(folder: string): Line[] {
  const lines = readdirSync(folder)
    .filter((name) => name.startsWith('log-'))
    .flatMap((name) =>
      readFileSync(join(folder, name), 'utf8')
        .split('\n')
        // The last line of a killed process may be incomplete.
        .slice(0, -1)
        .map((line): Line => {
          const [at, what = '', ...ids] = line.split(' ');
          return { at: Number(at), what, ids, process: name };
        }),
    );
  return lines.sort((a, b) => a.at - b.at);
}
