/** Jobs in the application's own transactions, committed and rolled back, with each driver. */

import { drizzle } from 'drizzle-orm/node-postgres';
import { createTasks, type Tasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import postgresJs from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { postgresUrl } from '../stores/postgres-server.ts';

const schema = `transactions_${process.pid}`;
let pool: pg.Pool;
let tasks: Tasks;

beforeAll(async () => {
  pool = new pg.Pool({ connectionString: await postgresUrl(), max: 3 });
  await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  tasks = createTasks({ backend: postgres({ pool, schema }), logger: { debug() {}, info() {}, warn() {}, error() {} } });
  await tasks.open();
  await pool.query(`CREATE TABLE ${schema}.users (name text PRIMARY KEY)`);
});

afterAll(async () => {
  await tasks?.close();
  await pool?.end();
});

class Undone extends Error {}

/** Runs a transaction with a driver; rolls back if the function throws. */
type Transact = (fn: (transaction: unknown, insert: (name: string) => Promise<unknown>) => Promise<void>) => Promise<unknown>;

const drivers: Record<string, Transact> = {
  async pg(fn) {
    const client = await pool.connect();
    try {
      await client.query('BEGIN');
      await fn(client, (name) => client.query(`INSERT INTO ${schema}.users VALUES ($1)`, [name]));
      await client.query('COMMIT');
    } catch (error) {
      await client.query('ROLLBACK');
      throw error;
    } finally {
      client.release();
    }
  },
  async 'postgres.js'(fn) {
    const sql = postgresJs(await postgresUrl(), { max: 1 });
    try {
      await sql.begin((transaction) => fn(transaction, (name) => transaction.unsafe(`INSERT INTO ${schema}.users VALUES ($1)`, [name])));
    } finally {
      await sql.end();
    }
  },
  'Drizzle on pg': (fn) =>
    drizzle(pool).transaction((tx) => fn(tx, (name) => tx.execute(`INSERT INTO ${schema}.users VALUES ('${name}')`))),
  Kysely: (fn) =>
    new Kysely<Record<string, { name: string }>>({ dialect: new PostgresDialect({ pool }) })
      .transaction()
      .execute((trx) => fn(trx, (name) => trx.withSchema(schema).insertInto('users').values({ name }).execute())),
  /** The methods of Prisma's client in a transaction. */
  async Prisma(fn) {
    const client = await pool.connect();
    const $queryRawUnsafe = async (text: string, ...values: unknown[]) => (await client.query(text, values)).rows;
    const $executeRawUnsafe = async (text: string, ...values: unknown[]) => (await client.query(text, values)).rowCount;
    try {
      await client.query('BEGIN');
      await fn({ $queryRawUnsafe, $executeRawUnsafe }, (name) => $executeRawUnsafe(`INSERT INTO ${schema}.users VALUES ($1)`, name));
      await client.query('COMMIT');
    } catch (error) {
      await client.query('ROLLBACK');
      throw error;
    } finally {
      client.release();
    }
  },
};

describe.each(Object.entries(drivers))('%s', (driver, transact) => {
  const names = () =>
    pool.query(`SELECT name FROM ${schema}.users ORDER BY name`).then(({ rows }) => rows.map(({ name }) => name as string));
  const name = (what: string) => `${driver} ${what}`;

  test('a job exists once its transaction has committed, together with the other changes', async () => {
    const task = define();
    let ids: string[] = [];
    await transact(async (transaction, insert) => {
      await insert(name('ada'));
      const one = await task.enqueue({ user: 'ada' }, { transaction });
      const many = await task.enqueueMany([{ user: "it's" }, { user: '$1 \u0000 \ud800' }], { transaction });
      ids = [one, ...many].map(({ id }) => id);
      await expect(tasks.getResult(one.id)).rejects.toThrow(/no job/i);
    });
    const found = await Promise.all(ids.map((id) => tasks.getResult(id)));
    expect(found.map(({ input }) => input)).toEqual([{ user: 'ada' }, { user: "it's" }, { user: '$1 \u0000 \ud800' }]);
    expect(await names()).toContain(name('ada'));
  });

  test('a transaction that was rolled back leaves nothing', async () => {
    const task = define();
    let id = '';
    const undone = transact(async (transaction, insert) => {
      await insert(name('bob'));
      ({ id } = await task.using({ tags: ['x'], runAfter: '1h' }).enqueue({ user: 'bob' }, { transaction }));
      throw new Undone();
    });
    await expect(undone).rejects.toThrow(Undone);
    await expect(tasks.getResult(id)).rejects.toThrow(/no job/i);
    expect(await names()).not.toContain(name('bob'));
  });

  test('a unique enqueue resolves to the job that holds the key', async () => {
    const task = tasks.define(`unique-${driver.replaceAll(/\W/g, '')}`, {
      unique: { key: ({ user }: { user: string }) => user },
      run: async (_: { user: string }) => {},
    });
    const first = await task.enqueue({ user: 'a' });
    await transact(async (transaction) => {
      const second = await task.enqueue({ user: 'a' }, { transaction });
      const third = await task.enqueue({ user: 'b' }, { transaction });
      expect([second.id, second.duplicate]).toEqual([first.id, true]);
      expect(third.duplicate).toBe(false);
    });
  });

  test('a rejected call does not affect concurrent calls in the same transaction', async () => {
    const unique = tasks.define(`once-${driver.replaceAll(/\W/g, '')}`, { unique: {}, run: (_: number) => {} });
    const plain = tasks.define(`plain-${driver.replaceAll(/\W/g, '')}`, (_: number) => {});
    const strict = tasks.define(`strict-${driver.replaceAll(/\W/g, '')}`, { unique: { onConflict: 'reject' }, run: (_: number) => {} });
    await strict.enqueue(1);
    let ends: PromiseSettledResult<unknown>[] = [];
    await transact(async (transaction, insert) => {
      const enqueues = [unique.enqueue(1, { transaction }), strict.enqueue(1, { transaction }), plain.enqueue(2, { transaction })];
      ends = await Promise.allSettled([
        ...enqueues,
        insert(`beside ${driver}`),
        unique.enqueue(2, { transaction }),
        strict.enqueue(1, { transaction }),
      ]);
    });
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
    const found = await tasks.jobs.list({ status: 'ready', limit: 500 });
    expect(found.items.filter(({ task }) => [unique.name, plain.name].includes(task))).toHaveLength(3);
    expect((await pool.query(`SELECT 1 FROM ${schema}.users WHERE name = $1`, [`beside ${driver}`])).rowCount).toBe(1);
  });

  test('an attempt completes with the transaction of its effects, or continues if it rolls back', async () => {
    let tries = 0;
    const task = tasks.define(`complete-${driver.replaceAll(/\W/g, '')}`, {
      retry: { backoff: 1 },
      run: async (_: void, ctx) => {
        tries += 1;
        await transact(async (transaction, insert) => {
          await insert(name('effect'));
          await ctx.complete('done', { transaction });
          if (tries === 1) throw new Undone();
        });
      },
    });
    const worker = tasks.worker();
    await worker.start();
    const result = await task.enqueue();
    await result.wait({ timeout: '30s' });
    await worker.stop();
    expect([result.returnValue, result.attempts, tries]).toEqual(['done', 2, 2]);
    expect((await names()).filter((one) => one === name('effect'))).toHaveLength(1);
  });

  function define() {
    return tasks.define(`welcome-${driver.replaceAll(/\W/g, '')}-${++defined}`, async (_: { user: string }) => {});
  }
});

let defined = 0;

test('an invalid transaction is rejected, and the error says what to pass', async () => {
  const task = tasks.define('refused', async () => {});
  const refusal = (transaction: unknown) => Promise.resolve().then(() => task.enqueue(undefined, { transaction }));
  await expect(refusal(pool)).rejects.toThrow(/got a pool: take a client with pool.connect\(\)/);
  await expect(refusal(drizzle(pool))).rejects.toThrow(/pass the `tx` of db.transaction\(\)/);
  await expect(refusal({})).rejects.toThrow(/expected a pg client with an open transaction/);
  const client = await pool.connect();
  await expect(refusal(client)).rejects.toThrow(/run client.query\('BEGIN'\) first/);
  client.release();
});

test('workers are notified of a job when its transaction commits', async () => {
  const started = Promise.withResolvers<void>();
  const task = tasks.define('told', async () => started.resolve());
  const other = createTasks({ backend: postgres({ connectionString: await postgresUrl(), schema, pollMs: 60_000 }) });
  other.define('told', async () => started.resolve());
  const worker = other.worker();
  await worker.start();
  // The worker's connection listens before it reports so.
  await expect
    .poll(async () => (await pool.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN escapement%'")).rowCount)
    .toBeGreaterThan(0);
  const client = await pool.connect();
  await client.query('BEGIN');
  await task.enqueue(undefined, { transaction: client });
  await client.query('COMMIT');
  client.release();
  await started.promise;
  await other.close();
});
