/** Where claims start: jobs skipped because they were locked are found after the lock is released. */
import pg from 'pg';
import { expect, test, vi } from 'vitest';
import { postgres } from '../../src/stores/postgres/index.ts';
import { claim, idsOf, insert, jobMaker, many, t0, wanted } from '../../src/testing/conformance/kit.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

test('a job that was locked during a claim is due soon after, even if its lock ends without a change', async () => {
  const schema = `lines_${process.pid}`;
  const pool = new pg.Pool({ connectionString: await postgresUrl(), max: 4 });
  const store = await postgres({ pool, schema }).open({ alone: false });
  await store.migrate();
  const unlisten = store.listen?.(() => {});
  const other = await pool.connect();
  try {
    // From here on, notifications arrive.
    await vi.waitFor(() => expect(store.pollMs).toBe(8_000), { timeout: 30_000 });
    const jobs = many(4, jobMaker());
    await insert(store, ...jobs);
    const { tasks } = wanted(t0);
    await other.query('BEGIN');
    await other.query(`SELECT 1 FROM ${schema}.jobs WHERE id = ANY ($1) FOR UPDATE`, [idsOf(jobs.slice(0, 2))]);
    expect(idsOf(await claim(store, t0))).toEqual(idsOf(jobs.slice(2)));
    expect(await claim(store, t0)).toEqual([]);
    // Polled at increasing intervals.
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) waits.push(((await store.nextDueAt({ now: t0, tasks })).jobAt ?? 0) - t0);
    expect(waits).toEqual([50, 100, 200, 400, 800, 1_000, 1_000]);
    await other.query('ROLLBACK');
    expect(idsOf(await claim(store, t0))).toEqual(idsOf(jobs.slice(0, 2)));
    expect((await store.nextDueAt({ now: t0 + 1, tasks })).jobAt).toBe(null);
    // Earlier rows are not read again.
    await pool.query(`UPDATE ${schema}.jobs SET state = 'queued' WHERE id = $1`, [jobs[0]?.id]);
    expect((await store.nextDueAt({ now: t0 + 2, tasks })).jobAt).toBe(null);
  } finally {
    unlisten?.();
    other.release();
    await store.close();
    await pool.query(`DROP SCHEMA ${schema} CASCADE`);
    await pool.end();
  }
});
