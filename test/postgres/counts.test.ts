/** The number of finished jobs, stored as a sum of changes. */
import pg from 'pg';
import { expect, test } from 'vitest';
import { postgres } from '../../src/stores/postgres/index.ts';
import { claim, done, insert, jobMaker, settle, t0, worker } from '../../src/testing/conformance/kit.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

test('worker heartbeats sum thousands of count changes, also concurrently', async () => {
  const schema = `counts_${process.pid}`;
  const pool = new pg.Pool({ connectionString: await postgresUrl(), max: 4 });
  const store = await postgres({ pool, schema }).open({ alone: true });
  await store.migrate();
  const rows = async () => Number((await pool.query(`SELECT count(*) AS n FROM ${schema}.finished`)).rows[0].n);
  try {
    const job = jobMaker();
    await insert(store, job(), job());
    await settle(store, ...(await claim(store, t0)).map((one) => done(one, t0)));
    const before = await store.stats({ now: t0 });
    expect(before).toMatchObject([{ counts: { successful: 2 } }]);
    // As many jobs that finished and were deleted.
    await pool.query(`INSERT INTO ${schema}.finished SELECT 'default', 'successful', 1 - 2 * (n % 2) FROM generate_series(1, 2000) n`);
    expect(await store.stats({ now: t0 })).toEqual(before);
    await Promise.all([1, 2, 3].map((n) => store.saveWorker(worker({ id: `w${n}` }), { forgetBefore: 0 })));
    await store.saveWorker(worker({ id: 'w4' }), { forgetBefore: 0 });
    expect(await rows()).toBeLessThan(10);
    expect(await store.stats({ now: t0 })).toEqual(before);
    // A few changes are not summed.
    const few = await rows();
    await store.saveWorker(worker({ id: 'w4' }), { forgetBefore: 0 });
    expect(await rows()).toBe(few);
    // The sums are removed with the jobs.
    expect(await store.prune({ status: 'successful', finishedBefore: t0 + 1, limit: 10 })).toBe(2);
    expect(await store.stats({ now: t0 })).toEqual([]);
  } finally {
    await pool.query(`DROP SCHEMA ${schema} CASCADE`);
    await pool.end();
  }
});
