/** The tests' PostgreSQL server, and stores on it. */
import { connect } from 'node:net';
import type { StoreSource } from 'escapement';
import { type PostgresOptions, postgres } from 'escapement/postgres';
import pg from 'pg';
import { asOwnWork } from '../../src/ports/clock.ts';

let url: Promise<string> | undefined;

export function postgresUrl(): Promise<string> {
  const given = process.env.ESCAPEMENT_TEST_POSTGRES;
  // A port, if `npm run test:real-code` has started the server.
  const named = given && /^\d+$/.test(given) ? `postgres://postgres@127.0.0.1:${given}/postgres` : given;
  url ??= named ? Promise.resolve(named) : askForUrl();
  return url;
}

async function askForUrl(): Promise<string> {
  const socket = connect(Number(process.env.ESCAPEMENT_POSTGRES_DOOR), '127.0.0.1');
  let text = '';
  for await (const part of socket) text += String(part);
  if (!text.startsWith('postgres:')) throw new Error(text);
  return text;
}

const tables = ['jobs', 'attempts', 'steps', 'blobs', 'signals', 'rates', 'queues', 'workers', 'schedules', 'edges', 'finished'];
let sources = 0;

/** A store in a separate schema, emptied on open. It has one pool, which stays open until the process exits. */
export function emptyPostgres(
  options: Omit<PostgresOptions, 'schema' | 'connectionString' | 'pool'> & { max?: number; alone?: boolean; url?: () => string } = {},
): StoreSource {
  const { alone = true, max = 4, url: through, ...rest } = options;
  const schema = `test_${process.pid}_${++sources}`;
  const prepare = () =>
    asOwnWork(async () => {
      const pool = new pg.Pool({
        connectionString: through ? through() : await postgresUrl(),
        max,
        allowExitOnIdle: true,
        idleTimeoutMillis: 0,
      });
      await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      return pool;
    });
  let prepared: Promise<pg.Pool> | undefined;
  return {
    kind: 'store',
    name: 'postgres',
    async open() {
      prepared ??= prepare();
      const pool = await prepared;
      const store = await postgres({ pool, schema, ...rest }).open({ alone });
      await store.migrate();
      await asOwnWork(() => pool.query(tables.map((table) => `DELETE FROM ${schema}.${table}`).join('; ')));
      return store;
    },
  };
}
