/** Aliases on two PostgreSQL servers and a SQLite file. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { createTasks, StoreError, type Tasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { sqlite } from 'escapement/sqlite';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { startPostgres, type TestServer } from '../setup/postgres.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

let folder: string;
let other: TestServer;
let tasks: Tasks;
let schemas = 0;
let schema: string;
const file = () => join(folder, `${schema}.db`);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'escapement-aliases-'));
  other = await startPostgres();
});
afterAll(async () => {
  await other?.stop();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  schema = `aliases_${process.pid}_${++schemas}`;
  tasks = createTasks({
    backends: {
      default: postgres({ connectionString: await postgresUrl(), schema }),
      bulk: postgres({ connectionString: other.url, schema }),
      local: sqlite({ file: file() }),
    },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
});
afterEach(() => tasks.close());

/** A task on each backend, and workers that run its jobs. */
async function start() {
  const here = tasks.define('here', async () => 'here');
  const there = tasks.define('there', { backend: 'bulk', run: async () => 'there' });
  const beside = tasks.define('beside', { backend: 'local', run: async () => 'beside' });
  for (const backend of ['default', 'bulk', 'local']) await tasks.worker({ backend }).start();
  return { here, there, beside };
}

async function tasksOn(connectionString: string): Promise<string[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  const { rows } = await client.query(`SELECT task FROM ${schema}.jobs ORDER BY task`);
  await client.end();
  return rows.map(({ task }) => task as string);
}

test('jobs of each alias are on its server, and its workers run them', async () => {
  const { here, there, beside } = await start();
  const results = [await here.enqueue(), await there.enqueue(), await beside.enqueue(), await here.using({ backend: 'bulk' }).enqueue()];
  for (const result of results) await result.wait({ timeout: '30s' });
  expect(results.map(({ returnValue, backend }) => [returnValue, backend])).toEqual([
    ['here', 'default'],
    ['there', 'bulk'],
    ['beside', 'local'],
    ['here', 'bulk'],
  ]);
  expect(await tasksOn(await postgresUrl())).toEqual(['here']);
  expect(await tasksOn(other.url)).toEqual(['here', 'there']);
  const db = new Database(file(), { readonly: true });
  expect(db.prepare('SELECT task FROM escapement_jobs').pluck().all()).toEqual(['beside']);
  db.close();
  for (const [alias, names] of [
    ['default', ['here']],
    ['bulk', ['here', 'there']],
    ['local', ['beside']],
  ] as const)
    expect((await tasks.backend(alias).jobs.list()).items.map(({ task }) => task).sort()).toEqual(names);
});

test('a server that is down delays only its own jobs', async () => {
  const { here, there, beside } = await start();
  await (await there.enqueue()).wait({ timeout: '30s' });
  await other.halt();
  try {
    await expect(there.enqueue()).rejects.toThrow(StoreError);
    for (const result of [await here.enqueue(), await beside.enqueue()])
      expect((await result.wait({ timeout: '30s' })).status).toBe('successful');
  } finally {
    await other.resume();
  }
  await expect
    .poll(() =>
      there.enqueue().then(
        ({ backend }) => backend,
        () => 'down',
      ),
    )
    .toBe('bulk');
  await expect.poll(async () => (await tasks.backend('bulk').jobs.list({ status: 'successful' })).items.length).toBeGreaterThanOrEqual(2);
});
