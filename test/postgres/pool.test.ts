/** The application's own pool. */
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import pg from 'pg';
import { expect, test } from 'vitest';
import { postgresUrl } from '../stores/postgres-server.ts';

test('notifications work with a pool whose password is not in a URL', async () => {
  const { hostname: host, port, username: user, password, pathname } = new URL(await postgresUrl());
  const application_name = `pool_${process.pid}`;
  const database = pathname.slice(1);
  const pool = new pg.Pool({ host, port: Number(port), user, password, database, max: 2, application_name });
  pool.on('error', () => {});
  const tasks = createTasks({ backend: postgres({ pool, schema: application_name }) });
  tasks.define('task', () => {});
  await tasks.worker().start();
  const listening = async () =>
    (await pool.query('SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND query LIKE $2', [application_name, 'LISTEN %']))
      .rowCount;
  await expect.poll(listening).toBe(1);
  await tasks.close();
  await pool.end();
});
