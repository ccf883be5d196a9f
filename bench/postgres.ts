/**
 * PostgreSQL: drain, enqueue and pick-up through the whole engine, compared with bare SQL on the same server. Needs a server:
 * `ESCAPEMENT_TEST_POSTGRES=postgres://…`; otherwise one from npm is started, with fsync.
 */
import pg from 'pg';
import { createTasks } from '../dist/src/index.js';
import { postgres } from '../dist/src/stores/postgres/index.js';
import { startPostgres } from '../test/setup/postgres.ts';

const silent = { debug() {}, info() {}, warn() {}, error: (fields: object, message: string) => console.error(message, fields) };
const jobs = 20_000;
const started = process.env.ESCAPEMENT_TEST_POSTGRES
  ? undefined
  : await startPostgres(['fsync=on', 'synchronous_commit=on', 'full_page_writes=on']);
const connectionString = process.env.ESCAPEMENT_TEST_POSTGRES ?? started?.url ?? '';
const pool = new pg.Pool({ connectionString, max: 4 });
pool.on('error', () => {});
let runs = 0;

async function fresh() {
  const schema = `bench_${++runs}`;
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  const tasks = createTasks({ backend: postgres({ connectionString, schema }), logger: silent });
  await tasks.open();
  return {
    tasks,
    drop: async () => {
      await tasks.close();
      await pool.query(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
}

const perSecond = (count: number, since: number) => Math.round((count / (performance.now() - since)) * 1_000);
const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number;
const quantile = (values: number[], q: number) => values.toSorted((a, b) => a - b)[Math.floor(values.length * q)] as number;

async function drain(concurrency: number): Promise<number> {
  const { tasks, drop } = await fresh();
  let done = 0;
  const all = Promise.withResolvers<void>();
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  tasks.on('successful', () => {
    if (++done === jobs) all.resolve();
  });
  for (let i = 0; i < jobs; i += 1_000) await noop.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ n: i + n })));
  const worker = tasks.worker({ concurrency });
  const since = performance.now();
  await worker.start();
  await all.promise;
  const rate = perSecond(jobs, since);
  await worker.stop();
  await drop();
  return rate;
}

async function bulk(): Promise<number> {
  const { tasks, drop } = await fresh();
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  const since = performance.now();
  for (let i = 0; i < jobs; i += 1_000) await noop.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ n: i + n })));
  const rate = perSecond(jobs, since);
  await drop();
  return rate;
}

async function single(inFlight: number, count: number): Promise<number> {
  const { tasks, drop } = await fresh();
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  const since = performance.now();
  let left = count;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (left-- > 0) await noop.enqueue({ n: left });
    }),
  );
  const rate = perSecond(count, since);
  await drop();
  return rate;
}

async function pickUp(): Promise<[number, number]> {
  const { tasks, drop } = await fresh();
  const other = createTasks({ backend: postgres({ connectionString, schema: `bench_${runs}` }), logger: silent });
  let began = 0;
  let wake: () => void = () => {};
  other.define('noop', async (_: { n: number }) => {
    began = performance.now();
    wake();
  });
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  const worker = other.worker({ concurrency: 10 });
  await worker.start();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const times: number[] = [];
  for (let i = 0; i < 300; i++) {
    const since = performance.now();
    const started = new Promise<void>((resolve) => {
      wake = resolve;
    });
    await noop.enqueue({ n: i });
    await started;
    times.push(began - since);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await worker.stop();
  await other.close();
  await drop();
  return [median(times), quantile(times, 0.99)];
}

async function bare(): Promise<void> {
  const client = await pool.connect();
  let since = performance.now();
  for (let i = 0; i < 3_000; i++) await client.query({ name: 'one', text: 'SELECT 1' });
  console.log(`bare: SELECT 1                      ${perSecond(3_000, since)}/s`);
  await client.query('CREATE TABLE IF NOT EXISTS bare_jobs (id text PRIMARY KEY, state text, due_at bigint)');
  since = performance.now();
  for (let i = 0; i < 1_000; i++)
    await client.query({ name: 'insert', text: 'INSERT INTO bare_jobs VALUES ($1, $2, 0)', values: [`a${i}`, 'queued'] });
  console.log(`bare: insert one by one             ${perSecond(1_000, since)}/s`);
  since = performance.now();
  for (let k = 0; k < 20; k++) {
    const ids = Array.from({ length: 1_000 }, (_, i) => `b${k}.${i}`);
    await client.query("INSERT INTO bare_jobs SELECT id, 'queued', 0 FROM unnest($1::text[]) id", [ids]);
  }
  console.log(`bare: insert 1,000 by unnest        ${perSecond(20_000, since)}/s`);
  await client.query('DROP TABLE bare_jobs');
  client.release();
}

const only = process.argv[2];
const wants = (name: string) => only === undefined || only === name;
if (wants('bare')) await bare();
if (wants('drain'))
  for (const concurrency of [10, 100, 500])
    console.log(
      `drain ${jobs}, concurrency ${String(concurrency).padEnd(4)}      ${median([await drain(concurrency), await drain(concurrency), await drain(concurrency)])}/s`,
    );
if (wants('enqueue')) {
  console.log(`enqueue 1,000 per call              ${median([await bulk(), await bulk(), await bulk()])}/s`);
  for (const inFlight of [1, 10, 100])
    console.log(
      `enqueue, ${String(inFlight).padStart(3)} in flight             ${await single(inFlight, inFlight === 1 ? 1_000 : 5_000)}/s`,
    );
}
if (wants('pick-up')) {
  const [p50, p99] = await pickUp();
  console.log(`pick-up in another process's worker p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
}
await pool.end();
await started?.stop();
