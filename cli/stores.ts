/** The store of `escapement simulate --store`: a schema of a PostgreSQL database, for the time of the simulation. */
import { randomBytes } from 'node:crypto';
import type { StoreSource } from 'escapement';
import { CommandError } from './io.ts';

export interface TemporaryStore {
  readonly store: StoreSource;
  /** Drops the schema. */
  end(): Promise<void>;
}

/** @throws CommandError if the text is no URL of PostgreSQL */
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
