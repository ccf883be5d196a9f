/**
 * Tortures a queue, and checks what its clients saw. Several processes enqueue jobs and work on them; they are killed with SIGKILL, paused with
 * SIGSTOP, and, on PostgreSQL, all their connections are terminated. Afterwards:
 *
 * - lost: jobs that were acknowledged to a client, and never ended
 * - stuck: jobs that have not ended although nothing has gone wrong for a long time
 * - again: jobs that began after the queue had acknowledged their end to a worker
 * - twice at once: jobs that began while another process, which was neither killed nor paused meanwhile, still ran them
 * - beside: with a limit of one at a time, jobs that began while another one ran in such a process
 * - failed: jobs that were given up although their function never failed
 * - uncaught: errors that would have ended the process
 *
 * Each of them is a violation, except that a job that was killed three times in a row may be given up. Jobs that ran twice because a worker died
 * are not: every queue runs jobs at least once.
 *
 * Run: `npm run torture -- --store sqlite --for 10m`. Options: `--store` sqlite, postgres, pg-boss or graphile-worker (the last two have to be
 * installed), `--for` (1m), `--processes` (4), `--url` of a PostgreSQL server (default: one is started).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { appendFileSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { startPostgres } from '../../test/setup/postgres.ts';
import { queues } from './queues.ts';

const now = () => Math.round((performance.timeOrigin + performance.now()) * 1_000) / 1_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const between = (low: number, high: number) => low + Math.random() * (high - low);

if (process.send) await client(process.argv[2] ?? '', process.argv[3] ?? '', process.argv[4] ?? '');
else await torture();

/** One process: it enqueues, works, and writes down what it sees, line by line, so that the lines survive SIGKILL. */
async function client(store: string, at: string, log: string): Promise<void> {
  const fd = openSync(log, 'a');
  const note = (what: string, ids: string) => writeSync(fd, `${now()} ${what} ${ids}\n`);
  // Connections that are cut concern the queue, not this process.
  process.on('uncaughtException', (error) => note('uncaught', String(error.message).replaceAll(/\s/g, '_')));
  const queue = await queues[store]?.({ at, concurrency: 8 });
  if (!queue) throw new Error(`no queue is called ${store}`);
  await queue.work(
    async (id) => {
      note('begun', id);
      await wait(Number(id.split('-').at(-1)));
      note('ended', id);
    },
    (id) => note('settled', id),
  );
  let isEnqueueing = true;
  process.on('message', () => {
    isEnqueueing = false;
  });
  for (let n = 0; ; n++) {
    await wait(between(50, 500));
    if (!isEnqueueing) continue;
    const ids = Array.from({ length: 1 + Math.floor(between(0, 12)) }, (_, i) => {
      const [kind, ms] = i === 0 ? ['one', between(0, 100)] : Math.random() < 0.02 ? ['long', 40_000] : ['any', between(0, 300)];
      return `${kind}-${process.pid}-${n}-${i}-${Math.round(ms as number)}`;
    });
    try {
      await queue.enqueue(ids);
      note('acknowledged', ids.join(' '));
    } catch {
      note('refused', ids.join(' '));
    }
  }
}

interface Line {
  readonly at: number;
  readonly what: string;
  readonly ids: readonly string[];
  readonly process: string;
}

/** Something that was done to a process, and for how long. */
interface Harm {
  readonly process: string;
  readonly from: number;
  to: number;
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
  const folder = mkdtempSync(join(tmpdir(), 'escapement-torture-'));
  const server = store === 'sqlite' || values.url ? undefined : await startPostgres(['fsync=on', 'synchronous_commit=on']);
  const at = store === 'sqlite' ? join(folder, 'jobs.db') : (values.url ?? server?.url ?? '');
  const admin = store === 'sqlite' ? undefined : new pg.Pool({ connectionString: at, max: 1 });
  admin?.on('error', () => {});
  if (store === 'postgres') await admin?.query('DROP SCHEMA IF EXISTS torture CASCADE');
  const queue = await queues[store]?.({ at, concurrency: 1 });
  if (!queue) throw new Error('unreachable');
  await queue.unfinished();

  const harms: Harm[] = [];
  const did = { kills: 0, pauses: 0, cuts: 0 };
  let started = 0;
  const start = () =>
    fork(fileURLToPath(import.meta.url), [store, at, join(folder, `log-${++started}`)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const nameOf = new Map<ChildProcess, string>();
  const begin = () => {
    const child = start();
    nameOf.set(child, `log-${started}`);
    return child;
  };
  const processes = Array.from({ length: Number(values.processes) }, begin);
  const any = () => Math.floor(between(0, processes.length));
  const until = performance.now() + forMs;
  const isOver = () => performance.now() > until;
  const every = async (low: number, high: number, act: () => void | Promise<void>) => {
    for (;;) {
      await wait(Math.min(between(low, high), Math.max(0, until - performance.now())));
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
    await wait(between(1_000, 45_000));
    child.kill('SIGCONT');
    // It takes a while until it has noticed.
    harm.to = now() + 2_000;
  };
  const cut = async () => {
    const mine = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()';
    await admin?.query(mine).catch(() => {});
    did.cuts += 1;
  };
  const progress = setInterval(() => {
    if (process.stderr.isTTY)
      process.stderr.write(`\r${Math.max(0, Math.round((until - performance.now()) / 1_000))} s left, ${did.kills} kills `);
  }, 1_000);
  await Promise.all([every(1_000, 8_000, kill), every(20_000, 60_000, pause), admin ? every(3_000, 15_000, cut) : undefined]);
  clearInterval(progress);

  // Nothing goes wrong any more; what is left is to end.
  for (const child of processes) child.send('enough');
  const graceMs = 240_000;
  const healed = performance.now();
  let left = Number.POSITIVE_INFINITY;
  for (let zeros = 0; zeros < 3 && performance.now() - healed < graceMs; await wait(1_000)) {
    left = await queue.unfinished().catch(() => Number.POSITIVE_INFINITY);
    zeros = left === 0 ? zeros + 1 : 0;
  }
  const failed = await queue.failed();
  await wait(500);
  for (const child of processes) child.kill('SIGKILL');
  await queue.close();
  await admin?.end();
  await server?.stop();

  const found = check(linesOf(folder), harms, failed, left, queue.hasLimit);
  console.log(
    `${store}: ${values.processes} processes for ${values.for}, ${did.kills} kills, ${did.pauses} pauses, ${did.cuts} times all connections cut`,
  );
  console.table(found.table);
  if (found.violations.length > 0) {
    for (const line of found.violations.slice(0, 20)) console.log(line);
    appendFileSync(join(folder, 'harms.json'), JSON.stringify(harms));
    console.log(`what the processes saw is in ${folder}`);
    process.exitCode = 1;
  } else rmSync(folder, { recursive: true });
}

function linesOf(folder: string): Line[] {
  const lines = readdirSync(folder)
    .filter((name) => name.startsWith('log-'))
    .flatMap((name) =>
      readFileSync(join(folder, name), 'utf8')
        .split('\n')
        // The last line of a process that was killed may be cut.
        .slice(0, -1)
        .map((line): Line => {
          const [at, what = '', ...ids] = line.split(' ');
          return { at: Number(at), what, ids, process: name };
        }),
    );
  return lines.sort((a, b) => a.at - b.at);
}

function check(
  lines: readonly Line[],
  harms: readonly Harm[],
  failed: readonly { id: string; why: string }[],
  left: number,
  hasLimit: boolean,
) {
  const acknowledged = new Set<string>();
  const ended = new Map<string, number>();
  const settledAt = new Map<string, number>();
  /** The runs that have begun and not ended, by job. */
  const running = new Map<string, { readonly process: string; readonly at: number }>();
  const violations: string[] = [];
  const counts = { again: 0, 'twice at once': 0, beside: 0, uncaught: 0 };
  let runs = 0;
  const violated = (kind: keyof typeof counts, text: string) => {
    counts[kind] += 1;
    violations.push(`${kind}: ${text}`);
  };
  /** A process that is killed or paused no longer holds what it ran: its lease ends, and others take over. */
  const isSound = (process: string, from: number, to: number) =>
    !harms.some((harm) => harm.process === process && harm.from <= to && harm.to >= from);
  let holder: { readonly id: string; readonly process: string; readonly at: number } | undefined;
  for (const { at, what, ids, process } of lines) {
    const [id = ''] = ids;
    if (what === 'uncaught') violated('uncaught', `${process}: ${id}`);
    else if (what === 'acknowledged') for (const one of ids) acknowledged.add(one);
    else if (what === 'settled') settledAt.set(id, Math.min(settledAt.get(id) ?? Number.POSITIVE_INFINITY, at));
    else if (what === 'begun') {
      runs += 1;
      const settled = settledAt.get(id);
      if (settled !== undefined && settled < at)
        violated('again', `${id} began ${Math.round(at - settled)} ms after its end was acknowledged`);
      const other = running.get(id);
      if (other && other.process !== process && isSound(other.process, other.at, at))
        violated('twice at once', `${id} began in ${process} while it ran in ${other.process} since ${Math.round(at - other.at)} ms`);
      running.set(id, { process, at });
      if (hasLimit && id.startsWith('one')) {
        if (holder && holder.id !== id && isSound(holder.process, holder.at, at))
          violated('beside', `${id} began in ${process} while ${holder.id} ran in ${holder.process}`);
        holder = { id, process, at };
      }
    } else if (what === 'ended') {
      ended.set(id, (ended.get(id) ?? 0) + 1);
      if (running.get(id)?.process === process) running.delete(id);
      if (holder?.id === id && holder.process === process) holder = undefined;
    }
  }
  const givenUp = new Set(failed.map(({ id }) => id));
  const poisoned = failed.filter(({ why }) => why === 'poisoned').length;
  const lost = [...acknowledged].filter((id) => !ended.has(id) && !givenUp.has(id));
  for (const id of lost) violations.push(`lost: ${id}`);
  for (const { id, why } of failed) if (why !== 'poisoned') violations.push(`failed: ${id} (${why})`);
  if (left > 0) violations.push(`stuck: ${left} jobs have not ended`);
  const table = {
    acknowledged: acknowledged.size,
    runs,
    'more than once': [...ended.values()].filter((count) => count > 1).length,
    lost: lost.length,
    stuck: left,
    ...counts,
    failed: failed.length - poisoned,
    'given up after three kills': poisoned,
  };
  return { violations, table };
}
