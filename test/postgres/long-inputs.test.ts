/** More inputs than fit in one statement. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Store } from '../../src/ports/store.ts';
import { maxTextLength } from '../../src/stores/postgres/chunks.ts';
import { postgres } from '../../src/stores/postgres/index.ts';
import { idsOf, jobMaker, many, refuses, t0 } from '../../src/testing/conformance/kit.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

const schema = `long_inputs_${process.pid}`;
const input = JSON.stringify('x'.repeat(1_000_000));
const count = 20;
const make = jobMaker();
let pool: pg.Pool;
let store: Store;
/** The lengths of the statements' parameters. */
const lengths: number[] = [];

beforeAll(async () => {
  pool = new pg.Pool({ connectionString: await postgresUrl(), max: 4 });
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...given: unknown[]) => unknown;
    client.query = ((...given: unknown[]) => {
      const [config, values = config.values ?? []] = given as [{ values?: unknown[] }, unknown[]?];
      lengths.push(values.flat().reduce((sum: number, value) => sum + (typeof value === 'string' ? value.length : 0), 0));
      return query(...given);
    }) as never;
  });
  store = await postgres({ pool, schema }).open({ alone: true });
  await store.migrate();
});

afterAll(async () => {
  await pool?.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await pool?.end();
});

async function stored(ids: readonly string[]): Promise<number> {
  const { rows } = await pool.query(`SELECT count(*) AS n FROM ${schema}.jobs WHERE id = ANY ($1) AND input = $2`, [ids, input]);
  return Number(rows[0].n);
}

const unique = (n: number) => ({ key: `mail ${n}`, while: ['queued'], untilAt: null, onConflict: 'replace', maxWaitMs: null }) as const;

test('concurrent enqueues are split into several statements', async () => {
  lengths.length = 0;
  const jobs = many(count, make, { input });
  await Promise.all(jobs.map((job) => store.insert([job], { now: t0 })));
  expect(Math.max(...lengths)).toBeLessThanOrEqual(maxTextLength);
  expect(await stored(idsOf(jobs))).toBe(count);
});

test.for([
  ['plain jobs', () => many(count, make, { input })],
  ['jobs with tags', () => many(count, make, { input, tags: ['long'] })],
  ['unique jobs', () => Array.from({ length: count }, (_, n) => make({ input, unique: unique(n) }))],
] as const)('%s of one enqueue are inserted by several statements, all or none', async ([, jobsOf]) => {
  lengths.length = 0;
  const jobs = jobsOf();
  // The last one has a taken id.
  const taken = make();
  await store.insert([taken], { now: t0 });
  await refuses('conflict', () =>
    store.insert([...jobs.slice(0, -1), { ...(jobs.at(-1) as (typeof jobs)[0]), id: taken.id }], { now: t0 }),
  );
  expect(await stored(idsOf(jobs))).toBe(0);
  await store.insert(jobs, { now: t0 });
  expect(await stored(idsOf(jobs))).toBe(count);
  expect(Math.max(...lengths)).toBeLessThan(1.1 * maxTextLength);
});

test("long inputs are updated, and inserted in the application's transaction", async () => {
  const before = Array.from({ length: count }, (_, n) => make({ unique: { ...unique(n), key: `mail r${n}` } }));
  const after = Array.from({ length: count }, (_, n) => make({ input, unique: { ...unique(n), key: `mail r${n}` } }));
  await store.insert(before, { now: t0 });
  const others = many(count, make, { input });
  const client = await pool.connect();
  lengths.length = 0;
  try {
    await client.query('BEGIN');
    const answers = await store.insert(after, { now: t0, transaction: client });
    expect(answers?.map((record) => record?.job)).toEqual(before.map((job) => ({ ...job, input })));
    await store.insert(others, { now: t0, transaction: client });
    await client.query('COMMIT');
  } finally {
    client.release();
  }
  expect(await stored(idsOf([...before, ...others]))).toBe(2 * count);
  expect(Math.max(...lengths)).toBeLessThan(1.1 * maxTextLength);
});
