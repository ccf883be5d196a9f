/** Concurrent batches of unique jobs from several processes do not deadlock. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Job, Settlement } from '../../src/core/types.ts';
import type { Uniqueness } from '../../src/core/unique.ts';
import type { Store } from '../../src/ports/store.ts';
import { postgres } from '../../src/stores/postgres/index.ts';
import { claim, done, failed, jobMaker, settle, t0 } from '../../src/testing/conformance/kit.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

/** A separate database, because deadlocks are counted per database. */
const database = `unique_deadlocks_${process.pid}`;
const batches = 60;
const atOnce = 4;
let admin: pg.Pool;
let url: string;

beforeAll(async () => {
  const given = await postgresUrl();
  admin = new pg.Pool({ connectionString: given, max: 1 });
  await admin.query(`CREATE DATABASE ${database}`);
  const of = new URL(given);
  of.pathname = database;
  url = of.href;
});

afterAll(async () => {
  await admin?.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
  await admin?.end();
});

/** Statistics are complete once the connections have ended. */
async function deadlocks(): Promise<number> {
  await expect
    .poll(async () => (await admin.query('SELECT 1 FROM pg_stat_activity WHERE datname = $1', [database])).rows.length, { timeout: 30_000 })
    .toBe(0);
  const { rows } = await admin.query('SELECT deadlocks FROM pg_stat_database WHERE datname = $1', [database]);
  return Number(rows[0].deadlocks);
}

type Insert = (store: Store, pool: pg.Pool, jobs: readonly Job[], now: number) => Promise<unknown>;

const plainly: Insert = async (store, _, jobs, now) => store.insert(jobs, { now });

const inTransaction: Insert = async (store, pool, jobs, now) => {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await store.insert(jobs, { now, transaction: client });
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
};

type Settle = (job: Job, at: number) => Settlement;
/** Every other attempt fails, so that its job takes its key again. */
const failedOnce: Settle = (job, at) => (job.attempt === 1 ? failed(job, at) : done(job, at));

type Case = readonly [name: string, insert: Insert, rule: (now: number) => Partial<Uniqueness>, end?: Settle];
const cases: readonly Case[] = [
  ['that are skipped', plainly, () => ({})],
  ['that are skipped, in transactions of the application', inTransaction, () => ({})],
  ['that replace jobs which wait', plainly, () => ({ while: ['queued'], onConflict: 'replace' })],
  ['that replace jobs which are tried again', inTransaction, () => ({ while: ['queued'], onConflict: 'replace' }), failedOnce],
  ['whose windows end continuously', inTransaction, (now) => ({ untilAt: now + 2 })],
];

test.for(cases)(
  'batches %s, in opposite orders and while a worker settles jobs',
  { timeout: 60_000 },
  async ([name, insert, rule, end = done]) => {
    const schema = `s${cases.findIndex(([one]) => one === name)}`;
    const before = await deadlocks();
    const pools = [1, 2, 3].map(() => new pg.Pool({ connectionString: url, max: 2 * atOnce }));
    const stores: Store[] = [];
    for (const pool of pools) stores.push(await postgres({ pool, schema }).open({ alone: true }));
    const [one, two, worker] = stores as [Store, Store, Store];
    for (const store of stores) await store.migrate();
    const make = jobMaker();
    let now = t0;
    let left = 2 * atOnce;
    const jobs = () =>
      Array.from({ length: 10 }, (_, n) => {
        const unique: Uniqueness = { key: `mail ${n}`, while: ['queued', 'running'], untilAt: null, onConflict: 'skip', maxWaitMs: null };
        return make({ unique: { ...unique, ...rule(now) } });
      });
    const enqueue = async (store: Store, pool: pg.Pool, isReversed: boolean) => {
      try {
        for (let n = 0; n < batches; n++) {
          now += 1;
          await insert(store, pool, isReversed ? jobs().toReversed() : jobs(), now);
        }
      } finally {
        left -= 1;
      }
    };
    const run = async () => {
      while (left > 0) await settle(worker, ...(await claim(worker, now)).map((job) => end(job, now)));
    };
    const callers = Array.from({ length: atOnce }, () => [
      enqueue(one, pools[0] as pg.Pool, false),
      enqueue(two, pools[1] as pg.Pool, true),
    ]).flat();
    const ends = await Promise.allSettled([...callers, run()]);
    for (const pool of pools) await pool.end();
    expect(ends.filter(({ status }) => status === 'rejected')).toEqual([]);
    // A claim and a settlement may still deadlock; then the settlement is repeated.
    if (end === done) expect((await deadlocks()) - before).toBe(0);
  },
);
