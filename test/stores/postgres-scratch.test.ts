import { describe, test, afterAll } from 'vitest';
import pg from 'pg';
import { conformance } from '../../src/testing/conformance.ts';
import { postgres } from '../../src/stores/postgres/index.ts';

const connectionString = 'postgres://postgres@127.0.0.1:54871/postgres';
const pool = new pg.Pool({ connectionString, max: 4 });
let done: Promise<void> | undefined;
const open = async () => {
  const store = await postgres({ pool, schema: 'scratch' }).open({ alone: true });
  done ??= pool.query('DROP SCHEMA IF EXISTS scratch CASCADE').then(() => {});
  await done;
  await store.migrate();
  await pool.query(['jobs', 'attempts', 'steps', 'blobs', 'signals', 'rates', 'queues', 'workers', 'schedules'].map((t) => `DELETE FROM scratch.${t}`).join(';'));
  return store;
};
afterAll(() => pool.end());
conformance('postgres', open, { describe, test });
