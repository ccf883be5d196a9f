/** Stores that commands use instead of the module's: with `--postgres`, and during a simulation. */
import { randomBytes } from 'node:crypto';
import type { StoreSource } from 'escapement';
import { placeOn } from '../src/place.ts';
import type { Application } from './config.ts';
import { CommandError } from './io.ts';

/** The options that select where the jobs are. */
export interface Place {
  readonly postgres?: string;
  readonly schema?: string;
}

/** @throws CommandError if a schema is given without a database */
export async function placed(place: Place): Promise<StoreSource | undefined> {
  const { postgres: connectionString, schema } = place;
  if (connectionString === undefined) {
    if (schema !== undefined) throw new CommandError('--schema needs --postgres <url>');
    return undefined;
  }
  const { postgres } = await import('escapement/postgres');
  return postgres({ connectionString, ...(schema === undefined ? {} : { schema }) });
}

/** Runs the application on the database of `--postgres`, if given. */
export async function putOn(application: Pick<Application, 'tasks'>, place: Place): Promise<void> {
  const source = await placed(place);
  if (source) placeOn(application.tasks, source);
}

/** @throws CommandError if the database has no tables of Escapement, because opening the store would create them */
export async function requireTables({ postgres: connectionString, schema = 'escapement' }: Place): Promise<void> {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString });
  client.on('error', () => {});
  await client.connect().catch((error: Error & { code?: string }) => {
    const name = error.code === '3D000' ? /"(.+)"/.exec(error.message)?.[1] : undefined;
    throw new CommandError(
      name === undefined
        ? `the connection to the database failed: ${error.message || error.code}`
        : `${error.message}; create it: createdb ${name}, or CREATE DATABASE in psql`,
    );
  });
  try {
    const { rows } = await client.query('SELECT to_regclass($1) AS found', [`"${schema}".jobs`]);
    if (rows[0]?.found == null)
      throw new CommandError(
        `the schema ${schema} of this database has no Escapement tables; give the schema passed to postgres({ schema })`,
      );
  } finally {
    await client.end();
  }
}

export interface TemporaryStore {
  readonly store: StoreSource;
  /** Drops the schema. */
  end(): Promise<void>;
}

/** @throws CommandError if the text is not a PostgreSQL URL */
export async function temporaryStore(url: string): Promise<TemporaryStore> {
  if (!/^postgres(ql)?:\/\//.test(url)) throw new CommandError('--store: give a URL that begins with postgres://');
  const schema = `escapement_simulation_${randomBytes(6).toString('hex')}`;
  const { postgres } = await import('escapement/postgres');
  const end = async () => {
    const { default: pg } = await import('pg');
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
    await client.end();
  };
  return { store: postgres({ connectionString: url, schema }), end };
}
