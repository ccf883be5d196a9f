/**
 * The effect of a long-running transaction on a queue: it keeps every dead row, which slows down reads that pass over them. Enqueues and
 * drains 800 jobs per second, first alone, then alongside a held snapshot, and prints both. `node bench/pinned.ts [SECONDS]` (60; alone at
 * most 60).
 */
import pg from 'pg';
import { createTasks } from '../dist/src/index.js';
import { postgres } from '../dist/src/stores/postgres/index.js';
import { startPostgres } from '../test/setup/postgres.ts';

const seconds = Number(process.argv[2] ?? 60);
const perSecond = 800;
const silent = { debug() {}, info() {}, warn() {}, error: (fields: object, message: string) => console.error(message, fields) };
const server = await startPostgres(['fsync=on', 'synchronous_commit=on', 'autovacuum_naptime=5s']);
const pool = new pg.Pool({ connectionString: server.url, max: 2 });
pool.on('error', () => {});
const producer = createTasks({ backend: postgres({ connectionString: server.url, schema: 'pinned' }), logger: silent });
const consumer = createTasks({ backend: postgres({ connectionString: server.url, schema: 'pinned' }), logger: silent });
await producer.open();

let done = 0;
let waits: number[] = [];
const job = producer.define('job', async (_: { at: number }) => {});
consumer.define('job', async ({ at }: { at: number }) => {
  waits.push(performance.now() - at);
  done += 1;
});
const worker = consumer.worker({ concurrency: 50 });
await worker.start();

const quantile = (values: readonly number[], q: number) => values.toSorted((a, b) => a - b)[Math.floor(values.length * q)] ?? 0;

interface Reads {
  readonly read: number;
  readonly fetched: number;
  readonly dead: number;
}
async function reads(): Promise<Reads> {
  const { rows } = await pool.query(
    `SELECT (SELECT idx_tup_read::float8 FROM pg_stat_user_indexes WHERE schemaname = 'pinned' AND indexrelname = 'jobs_queued') AS read,
      (SELECT idx_tup_fetch::float8 FROM pg_stat_user_indexes WHERE schemaname = 'pinned' AND indexrelname = 'jobs_queued') AS fetched,
      (SELECT n_dead_tup::float8 FROM pg_stat_user_tables WHERE schemaname = 'pinned' AND relname = 'jobs') AS dead`,
  );
  return rows[0] as Reads;
}

async function measure(label: string, seconds: number): Promise<void> {
  const window = seconds > 120 ? 60 : 15;
  for (let left = seconds; left > 0; left -= window) {
    const windowMs = Math.min(window, left) * 1_000;
    const before = await reads();
    const startedAt = performance.now();
    const doneBefore = done;
    waits = [];
    let made = 0;
    while (performance.now() - startedAt < windowMs) {
      const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
      if (due > made) {
        const at = performance.now();
        await job.enqueueMany(Array.from({ length: due - made }, () => ({ at })));
        made = due;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const took = (performance.now() - startedAt) / 1_000;
    const after = await reads();
    const passed = (after.read - before.read - (after.fetched - before.fetched)) / Math.max(1, done - doneBefore);
    console.log(
      `${label.padEnd(16)} ${String(Math.round((done - doneBefore) / took)).padStart(5)} jobs/s  wait p50 ${quantile(waits, 0.5).toFixed(1)} ms, p95 ${quantile(waits, 0.95).toFixed(1)} ms  dead rows ${after.dead}  dead entries passed per job ${passed.toFixed(1)}`,
    );
  }
}

await measure('alone', Math.min(60, seconds));
const holder = new pg.Client({ connectionString: server.url });
holder.on('error', () => {});
await holder.connect();
await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
await holder.query('SELECT count(*) FROM pg_class');
await measure('snapshot held', seconds);
await holder.query('ROLLBACK');
await holder.end();
await worker.stop({ timeout: 1_000 });
await producer.close();
await consumer.close();
await pool.end();
await server.stop();
process.exit(0);
