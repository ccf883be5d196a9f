/**
 * PostgreSQL: how fast processes drain no-op jobs, compared with graphile-worker (local queue and batching) and pg-boss (batches, in bursts)
 * on the same server, and BullMQ on Redis, run alternately: `npm install --no-save graphile-worker@0.18 pg-boss@12`, then `node
 * bench/drain.ts [PROCESSES] [ROUNDS] [CONCURRENCY …] [--jobs N]`, by default 20,000 jobs. Each concurrency runs twice: with finished jobs
 * kept, and with finished jobs deleted, as graphile-worker does. Prints jobs per second, the ratio to graphile-worker, and CPU time of
 * Node.js and the server per job. Queues that are not installed are skipped. Needs a server: `ESCAPEMENT_TEST_POSTGRES=postgres://…`;
 * otherwise one from npm is started, with fsync.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { createTasks } from '../dist/src/index.js';
import { postgres } from '../dist/src/stores/postgres/index.js';
import { startPostgres } from '../test/setup/postgres.ts';
import { redisServer, startRedis } from '../test/setup/redis.ts';
import { serverCpu } from './server-cpu.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { jobs: { type: 'string', default: '20000' }, work: { type: 'boolean' } },
});
/** A multiple of a thousand. */
const jobs = Number(options.jobs);
const silent = { debug() {}, info() {}, warn() {}, error: (fields: object, message: string) => console.error(message, fields) };
/** The queue under test: another queue, or Escapement with a number of slots, followed by `!` if finished jobs are deleted. */
type Side = string;
const graphile = 'graphile-worker';
const boss = 'pg-boss';
const redis = 'bullmq';

/** A message from the child: it is ready; the number of jobs done; the CPU time that they took, in microseconds. */
type Told = { readonly ready: true } | { readonly done: number } | { readonly cpu: number };

/** Runs in a separate process: waits for `go`, and works until it is stopped. */
async function work(url: string, schema: string, side: Side): Promise<void> {
  let [done, isNotified] = [0, true];
  const ended = () => {
    done += 1;
    if (!isNotified) return;
    isNotified = false;
    setImmediate(() => {
      isNotified = true;
      process.send?.({ done } satisfies Told);
    });
  };
  const start = await (peers[side]?.ready ?? ours)(url, schema, ended, side);
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

type Start = () => Promise<unknown>;

async function ours(url: string, schema: string, ended: () => void, side: Side): Promise<Start> {
  const retention = side.endsWith('!') ? { successful: 0 } : {};
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }), logger: silent, retention });
  await tasks.open();
  tasks.define('noop', async (_: { n: number }) => {});
  tasks.on('successful', ended);
  const worker = tasks.worker({ concurrency: Number.parseInt(side, 10) });
  return async () => worker.start();
}

async function fillOurs(url: string, schema: string): Promise<void> {
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }), logger: silent });
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  for (let i = 0; i < jobs; i += 1_000) await noop.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ n: i + n })));
  await tasks.close();
}

interface Peer {
  fill(url: string, schema: string): Promise<unknown>;
  ready(url: string, schema: string, ended: () => void): Promise<Start>;
}

const load = (name: string) => import(name);
const batches = Array.from({ length: jobs / 1_000 }, (_, i) => Array.from({ length: 1_000 }, (_, n) => ({ n: 1_000 * i + n })));

/** Each configured for speed as its documentation recommends. */
const peers: Readonly<Record<string, Peer>> = {
  [graphile]: {
    async fill(url, schema) {
      const utils = await (await load(graphile)).makeWorkerUtils({ connectionString: url, schema });
      await utils.migrate();
      await pool.query(
        `SELECT ${schema}.add_jobs(array(SELECT ('noop', json_build_object('n', n), NULL, NULL, NULL, NULL, NULL, NULL)::${schema}.job_spec FROM generate_series(1, ${jobs}) n))`,
      );
      await utils.release();
    },
    async ready(url, schema, ended) {
      const { run, Logger } = await load(graphile);
      const events = new EventEmitter().on('job:success', ended);
      const worker = { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
      const logger = new Logger(() => () => {});
      return () =>
        run({
          connectionString: url,
          schema,
          taskList: { noop: async () => {} },
          events,
          logger,
          noHandleSignals: true,
          preset: { worker },
        });
    },
  },
  [boss]: {
    async fill(url, schema) {
      const queue = new (await load(boss)).PgBoss({ connectionString: url, schema });
      await queue.start();
      await queue.createQueue('noop');
      for (const batch of batches)
        await queue.insert(
          'noop',
          batch.map((data) => ({ data })),
        );
      await queue.stop({ graceful: false });
    },
    async ready(url, schema, ended) {
      const queue = new (await load(boss)).PgBoss({ connectionString: url, schema, supervise: false, schedule: false });
      await queue.start();
      const options = { batchSize: 500, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true, localConcurrency: 2 };
      return () =>
        queue.work('noop', options, async (batch: readonly unknown[]) => {
          for (const _ of batch) ended();
        });
    },
  },
  [redis]: {
    async fill(url) {
      const queue = new (await load(redis)).Queue('noop', { connection: { url } });
      for (const batch of batches) await queue.addBulk(batch.map((data) => ({ name: 'noop', data })));
      await queue.close();
    },
    async ready(url, _schema, ended) {
      const { Worker } = await load(redis);
      const options = { connection: { url }, concurrency: 100, autorun: false, removeOnComplete: { count: 0 } };
      const worker = new Worker('noop', async () => {}, options).on('completed', ended);
      return async () => void worker.run();
    },
  },
};

const pool = new pg.Pool({ max: 2 });
pool.on('error', () => {});

interface Drained {
  readonly rate: number;
  readonly node: number;
  readonly server: number;
}

async function drain(url: string, postmaster: number, processes: number, side: Side): Promise<Drained> {
  const schema = 'bench_drain';
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await (peers[side]?.fill ?? fillOurs)(url, schema);
  const done = new Map<ChildProcess, number>();
  const all = Promise.withResolvers<void>();
  const cpus: Promise<number>[] = [];
  const children = await Promise.all(
    Array.from({ length: processes }, () => {
      const child = fork(import.meta.filename, ['--work', url, schema, side], {
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
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  return { rate: (jobs / ms) * 1_000, node, server };
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

async function main([processes = 1, rounds = 3, ...concurrencies]: number[]): Promise<void> {
  const given = process.env.ESCAPEMENT_TEST_POSTGRES;
  const started = given ? undefined : await startPostgres(['fsync=on', 'synchronous_commit=on', 'full_page_writes=on', 'max_wal_size=2GB']);
  const url = given ?? (started?.url as string);
  pool.options.connectionString = url;
  const { rows } = await pool.query(`SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer AS pid`);
  const onRedis = redisServer ? await startRedis() : undefined;
  const isThere = (name: string) =>
    load(name).then(
      () => name !== redis || onRedis !== undefined,
      () => false,
    );
  const slots = concurrencies.length > 0 ? concurrencies : [100, 500];
  const sides: Side[] = [];
  for (const name of Object.keys(peers)) if (await isThere(name)) sides.push(name);
  for (const count of slots) sides.push(`${count}`, `${count}!`);
  const drained = new Map<Side, Drained[]>(sides.map((side) => [side, []]));
  for (let round = 0; round < rounds; round++) {
    for (const side of sides) {
      const at = side === redis ? `redis://127.0.0.1:${onRedis?.port}` : url;
      drained.get(side)?.push(await drain(at, rows[0].pid, processes, side));
    }
  }
  const of = (side: Side, field: keyof Drained) => median((drained.get(side) ?? []).map((one) => one[field]));
  for (const side of sides) {
    const name = peers[side] ? side : `escapement, concurrency ${Number.parseInt(side, 10)}${side.endsWith('!') ? ', deleted' : ''}`;
    const ratio = drained.has(graphile) ? `${(of(side, 'rate') / of(graphile, 'rate')).toFixed(2)} ×` : '';
    const cpu = `Node.js ${of(side, 'node').toFixed(0)} µs${side === redis ? '' : `, PostgreSQL ${of(side, 'server').toFixed(0)} µs`} per job`;
    console.log(`${name.padEnd(39)} ${processes} proc.  ${String(Math.round(of(side, 'rate'))).padStart(6)}/s  ${ratio}  ${cpu}`);
  }
  await onRedis?.stop();
  await pool.end();
  await started?.stop();
}

if (options.work) await work(...(positionals as [url: string, schema: string, side: Side]));
else await main(positionals.map(Number));
