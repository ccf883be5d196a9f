/**
 * PostgreSQL: how fast processes drain 20,000 no-op jobs, beside graphile-worker (local queue and batching) on the same server, run alternately:
 * `npm install --no-save graphile-worker@0.18`, then `node bench/drain.ts [PROCESSES] [ROUNDS] [CONCURRENCY …]`. Prints jobs a second, the ratio, and
 * CPU time of Node.js and the server for each job. Needs a server: `ESCAPEMENT_TEST_POSTGRES=postgres://…`, or one is started from npm, with fsync.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter } from 'node:events';
import pg from 'pg';
import { createTasks } from '../dist/src/index.js';
import { postgres } from '../dist/src/stores/postgres/index.js';
import { startPostgres } from '../test/setup/postgres.ts';
import { serverCpu } from './server-cpu.ts';

const jobs = 20_000;
const silent = { debug() {}, info() {}, warn() {}, error: (fields: object, message: string) => console.error(message, fields) };
const graphile = 'graphile-worker';

/** What the child tells: it is ready; so many jobs are done; the CPU time that they took, in microseconds. */
type Told = { readonly ready: true } | { readonly done: number } | { readonly cpu: number };

/** In a process of its own: waits for `go`, and works until it is stopped. */
async function work(url: string, schema: string, concurrency: number): Promise<void> {
  let [done, isTold] = [0, true];
  const ended = () => {
    done += 1;
    if (!isTold) return;
    isTold = false;
    setImmediate(() => {
      isTold = true;
      process.send?.({ done } satisfies Told);
    });
  };
  const start = concurrency > 0 ? await ours(url, schema, concurrency, ended) : await theirs(url, schema, ended);
  let before: NodeJS.CpuUsage;
  process.on('message', async (message) => {
    if (message === 'go') {
      before = process.cpuUsage();
      await start();
      return;
    }
    const { user, system } = process.cpuUsage(before);
    process.send?.({ cpu: user + system } satisfies Told, () => process.exit());
  });
  process.send?.({ ready: true } satisfies Told);
}

async function ours(url: string, schema: string, concurrency: number, ended: () => void): Promise<() => Promise<void>> {
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }), logger: silent });
  await tasks.open();
  tasks.define('noop', async (_: { n: number }) => {});
  tasks.on('successful', ended);
  const worker = tasks.worker({ concurrency });
  return () => worker.start();
}

async function theirs(url: string, schema: string, ended: () => void): Promise<() => Promise<void>> {
  const { run, Logger } = await import(graphile);
  const events = new EventEmitter().on('job:success', ended);
  const worker = { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  const logger = new Logger(() => () => {});
  return () =>
    run({ connectionString: url, schema, taskList: { noop: async () => {} }, events, logger, noHandleSignals: true, preset: { worker } });
}

const pool = new pg.Pool({ max: 2 });
pool.on('error', () => {});

async function fill(url: string, schema: string, isOurs: boolean): Promise<void> {
  if (isOurs) {
    const tasks = createTasks({ backend: postgres({ connectionString: url, schema }), logger: silent });
    const noop = tasks.define('noop', async (_: { n: number }) => {});
    for (let i = 0; i < jobs; i += 1_000) await noop.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ n: i + n })));
    return tasks.close();
  }
  const { makeWorkerUtils } = await import(graphile);
  const utils = await makeWorkerUtils({ connectionString: url, schema });
  await utils.migrate();
  await pool.query(
    `SELECT ${schema}.add_jobs(array(SELECT ('noop', json_build_object('n', n), NULL, NULL, NULL, NULL, NULL, NULL)::${schema}.job_spec FROM generate_series(1, ${jobs}) n))`,
  );
  await utils.release();
}

interface Drained {
  readonly rate: number;
  readonly node: number;
  readonly server: number;
}

/** @param concurrency 0: graphile-worker */
async function drain(url: string, postmaster: number, processes: number, concurrency: number): Promise<Drained> {
  const schema = 'bench_drain';
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await fill(url, schema, concurrency > 0);
  const done = new Map<ChildProcess, number>();
  const all = Promise.withResolvers<void>();
  const cpus: Promise<number>[] = [];
  const children = await Promise.all(
    Array.from({ length: processes }, () => {
      const child = fork(import.meta.filename, ['--work', url, schema, String(concurrency)], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      return new Promise<ChildProcess>((ready) => {
        const cpu = Promise.withResolvers<number>();
        cpus.push(cpu.promise);
        child.on('message', (told: Told) => {
          if ('ready' in told) ready(child);
          else if ('cpu' in told) cpu.resolve(told.cpu);
          else done.set(child, told.done);
          if ([...done.values()].reduce((sum, count) => sum + count, 0) >= jobs) all.resolve();
        });
      });
    }),
  );
  await pool.query('CHECKPOINT');
  const [before, since] = [serverCpu(postmaster), performance.now()];
  for (const child of children) child.send('go');
  await all.promise;
  const ms = performance.now() - since;
  const server = (serverCpu(postmaster) - before) / jobs;
  for (const child of children) child.send('stop');
  const node = (await Promise.all(cpus)).reduce((sum, cpu) => sum + cpu, 0) / jobs;
  await pool.query(`DROP SCHEMA ${schema} CASCADE`);
  return { rate: (jobs / ms) * 1_000, node, server };
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

async function main([processes = 1, rounds = 3, ...concurrencies]: number[]): Promise<void> {
  const given = process.env.ESCAPEMENT_TEST_POSTGRES;
  const started = given ? undefined : await startPostgres(['fsync=on', 'synchronous_commit=on', 'full_page_writes=on', 'max_wal_size=2GB']);
  const url = given ?? (started?.url as string);
  pool.options.connectionString = url;
  const { rows } = await pool.query(`SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer AS pid`);
  const isThere = await import(graphile).then(
    () => true,
    () => false,
  );
  const sides = [...(isThere ? [0] : []), ...(concurrencies.length > 0 ? concurrencies : [100, 500])];
  const drained = new Map<number, Drained[]>(sides.map((side) => [side, []]));
  for (let round = 0; round < rounds; round++)
    for (const side of sides) drained.get(side)?.push(await drain(url, rows[0].pid, processes, side));
  const of = (side: number, field: keyof Drained) => median((drained.get(side) ?? []).map((one) => one[field]));
  for (const side of sides) {
    const name = side === 0 ? 'graphile-worker' : `escapement, concurrency ${side}`;
    const ratio = isThere ? `${(of(side, 'rate') / of(0, 'rate')).toFixed(2)} ×` : '';
    const cpu = `Node.js ${of(side, 'node').toFixed(0)} µs, PostgreSQL ${of(side, 'server').toFixed(0)} µs a job`;
    console.log(`${name.padEnd(30)} ${processes} proc.  ${String(Math.round(of(side, 'rate'))).padStart(6)}/s  ${ratio}  ${cpu}`);
  }
  await pool.end();
  await started?.stop();
}

const [flag, url = '', schema = '', concurrency = ''] = process.argv.slice(2);
if (flag === '--work') await work(url, schema, Number(concurrency));
else await main(process.argv.slice(2).map(Number));
