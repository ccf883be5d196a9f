/** A task that blocks its worker's event loop: its leases are renewed meanwhile, and nothing runs twice. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { KeeperOptions } from '../../src/ports/store.ts';
import { ThreadKeeper } from '../../src/stores/keeper.ts';
import { keeperPlace } from '../../src/stores/postgres/keeper-place.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

const store = new URL('../../src/stores/postgres/store.ts', import.meta.url).href;
const fixture = fileURLToPath(new URL('./fixtures/blocks.ts', import.meta.url));
const place = { pool: undefined, prepare: true, listen: false, pollMs: 1_000, max: 1 };
let admin: pg.Pool;
let schemas = 0;

beforeAll(async () => {
  admin = new pg.Pool({ connectionString: await postgresUrl(), max: 1 });
});
afterAll(() => admin.end());

/** Two jobs that `w1` and `w2` run, and the ends of their leases. */
async function running() {
  const schema = `keeper_${process.pid}_${++schemas}`;
  const connectionString = await postgresUrl();
  const tasks = createTasks({ backend: postgres({ connectionString, schema }) });
  await tasks.define('task', (_: number) => {}).enqueueMany([1, 2, 3]);
  await tasks.close();
  const sql = `UPDATE ${schema}.jobs SET state = 'running', claim = 1, last_worker = w.worker,
    lease_until = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + w.ms
    FROM (VALUES ('1', 'w1', 20000), ('2', 'w2', 20000), ('3', 'w1', -5000)) w(input, worker, ms) WHERE jobs.input = w.input`;
  await admin.query(sql);
  const leases = async () => {
    const { rows } = await admin.query(`SELECT lease_until FROM ${schema}.jobs ORDER BY input`);
    return rows.map((row) => Number(row.lease_until));
  };
  const keeper = (options: Partial<KeeperOptions> = {}) =>
    new ThreadKeeper(
      { baseUrl: store, place: () => keeperPlace({ ...place, connectionString, schema }) },
      { worker: 'w1', leaseMs: 60_000, limitMs: 60_000, blocked() {}, ...options },
      300,
    );
  return { schema, leases, keeper };
}

/** Blocks this thread. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const connections = async () =>
  (await admin.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'escapement keeper'")).rows.length;

test("a helper thread renews its worker's open leases while the event loop is blocked", async () => {
  const { leases, keeper } = await running();
  const before = await leases();
  const thread = keeper();
  thread.begun();
  expect(await connections()).toBe(0);
  // Waits until the thread has started and renewed, on any machine.
  for (let i = 0; i < 30 && (await leases())[0] === before[0]; i++) block(1_000);
  const [own = 0, other, ended] = await leases();
  expect(own).toBeGreaterThan((before[0] ?? 0) + 30_000);
  expect([other, ended]).toEqual(before.slice(1));
  // The thread disconnects once the event loop turns again.
  await expect.poll(connections).toBe(0);
  thread.close();
});

test("a row locked by an application's transaction does not prevent renewal of the others", async () => {
  const { schema, leases, keeper } = await running();
  await admin.query(`UPDATE ${schema}.jobs SET last_worker = 'w1'`);
  const before = await leases();
  const client = await admin.connect();
  await client.query(`BEGIN; SELECT 1 FROM ${schema}.jobs WHERE input = '1' FOR UPDATE`);
  const look = new pg.Client({ connectionString: await postgresUrl() });
  await look.connect();
  const seen = async () =>
    (await look.query(`SELECT lease_until FROM ${schema}.jobs ORDER BY input`)).rows.map((row) => Number(row.lease_until));
  const thread = keeper();
  thread.begun();
  for (let i = 0; i < 30 && (await seen())[1] === before[1]; i++) block(1_000);
  expect((await seen())[1]).toBeGreaterThan(before[1] ?? 0);
  thread.close();
  await client.query('ROLLBACK');
  client.release();
  expect((await leases())[0]).toBe(before[0]);
  await look.end();
});

test('a job that blocks its worker for longer than a lease runs once', async () => {
  const schema = `keeper_${process.pid}_${++schemas}`;
  const url = await postgresUrl();
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }) });
  const blocks = tasks.define('blocks', async () => '');
  await tasks.open();
  const children = [0, 1].map((n) => fork(fixture, [url, schema, `w${n}`], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }));
  try {
    const result = await blocks.enqueue();
    await result.wait({ timeout: '2m' });
    expect([result.status, result.attempts, result.workerIds.length]).toEqual(['successful', 1, 1]);
    expect(result.returnValue).toBe('blocked for 40 s');
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await tasks.close();
  }
});

test('a pool with a password function, which no thread can call', () => {
  const pool = new pg.Pool({ host: '127.0.0.1', password: async () => 'secret' });
  expect(() => keeperPlace({ ...place, connectionString: undefined, pool: pool as never, schema: 'jobs' })).toThrow(/is a function/);
  const named = new pg.Pool({ host: '127.0.0.1', port: 1, password: 'secret', max: 3, ssl: { key: 'key' } });
  expect(keeperPlace({ ...place, connectionString: undefined, pool: named as never, schema: 'jobs' })).toEqual({
    schema: 'jobs',
    client: { host: '127.0.0.1', port: 1, password: 'secret', ssl: { key: 'key' } },
  });
});
