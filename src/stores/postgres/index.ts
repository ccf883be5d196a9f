/** `escapement/postgres`: keeps jobs in a PostgreSQL schema, for any number of processes on any number of machines. */
import '../../ports/node-version.ts';
import { show } from '../../core/duration.ts';
import { ConfigError, type ConfigFault } from '../../core/errors.ts';
import type { StoreSource } from '../../ports/store.ts';
import { Connection, type PgPool, type Place } from './connection.ts';
import { PostgresStore } from './store.ts';

/** The part of a `pg` pool that the store uses. */
export interface PostgresPool {
  connect(): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** Options of `postgres`: either a connection string or a pool of the package `pg`. */
export interface PostgresOptions {
  /** `postgres://user:password@host:5432/database`. Missing settings are read from the environment, as `pg` does. */
  connectionString?: string;
  /** The application's own pool. `tasks.close()` does not close it. A pool of one is enough. */
  pool?: PostgresPool;
  /**
   * The schema that holds the tables. It is created if it does not exist. Applications that share a database each use their own schema.
   * @default 'escapement'
   */
  schema?: string;
  /**
   * Whether to use prepared statements. Set it to false for poolers that do not support them in transaction mode, such as PgBouncer before
   * 1.21.
   * @default true
   */
  prepare?: boolean;
  /**
   * Whether to wake workers of other processes with NOTIFY, and to keep a listening connection open while workers run in this process. Set
   * it to false for poolers in transaction mode; workers then find new jobs by polling.
   * @default true
   */
  listen?: boolean;
  /**
   * How often workers poll for jobs that were not announced by a notification, in milliseconds: 100 … 60,000. While the listening
   * connection is alive, they poll at most every 8 s.
   * @default 1_000
   */
  pollMs?: number;
  /**
   * Size of the engine's own pool when `connectionString` is given: 1 … 100.
   * @default 10
   */
  max?: number;
}

const optionNames = ['connectionString', 'pool', 'schema', 'prepare', 'listen', 'pollMs', 'max'];

/**
 * Keeps jobs in a PostgreSQL database, version 14 or later. Requires the package `pg`. Nothing is opened before `tasks.open()` or the first
 * use.
 * @throws ConfigError with all faults of the options
 * @example createTasks({ backend: postgres({ connectionString: process.env.DATABASE_URL }) })
 */
export function postgres(options: PostgresOptions): StoreSource {
  const place = read(options);
  return {
    kind: 'store',
    name: 'postgres',
    shared: true,
    open: ({ alone = false } = {}) => new PostgresStore(new Connection(place, alone), { alone }),
  };
}

function read(options: PostgresOptions): Place {
  const faults: ConfigFault[] = [];
  const fault = (path: string, expected: string, got: unknown) => faults.push({ path: `postgres()${path}`, expected, got: show(got) });
  if (typeof options === 'string') fault('', `an object: postgres({ connectionString: ${show(options)} })`, options);
  else if (typeof (options as { connect?: unknown } | undefined)?.connect === 'function')
    fault('', 'an object: postgres({ pool })', options);
  if (faults.length > 0) throw new ConfigError('Invalid options for postgres()', faults);
  const { connectionString, pool, schema = 'escapement', prepare = true, listen = true, pollMs = 1_000, max = 10, ...rest } = options ?? {};
  for (const key of Object.keys(rest)) {
    faults.push({
      path: `postgres().${key}`,
      expected: `one of ${optionNames.join(', ')}`,
      got: key,
      ...(/^(url|uri|dsn|connection|database)$/i.test(key) ? { didYouMean: 'connectionString' } : {}),
    });
  }
  if (connectionString === undefined && pool === undefined) {
    if ('connectionString' in (options ?? {}))
      fault('.connectionString', 'a URL such as postgres://user@host/database; is its environment variable set?', undefined);
    else fault('', 'connectionString, a URL such as postgres://user@host/database, or pool', options);
  } else if (connectionString !== undefined && pool !== undefined) fault('', 'connectionString or pool, not both', Object.keys(options));
  if (connectionString !== undefined && (typeof connectionString !== 'string' || connectionString === ''))
    fault('.connectionString', 'a URL such as postgres://user@host/database', connectionString);
  else if (connectionString !== undefined && /^(?!postgres(ql)?:|socket:)\w+:\/\//.test(connectionString))
    fault('.connectionString', 'a URL that begins with postgres://', `${connectionString.split(':')[0]}://…`);
  if (pool !== undefined && (typeof pool?.connect !== 'function' || typeof (pool as { query?: unknown }).query !== 'function'))
    fault('.pool', 'a Pool of the package pg', pool);
  if (typeof schema !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(schema) || /^pg_/i.test(schema))
    fault('.schema', 'a name of up to 63 letters, digits and underscores that does not begin with pg_', schema);
  if (typeof prepare !== 'boolean') fault('.prepare', 'true or false', prepare);
  if (typeof listen !== 'boolean') fault('.listen', 'true or false', listen);
  if (typeof pollMs !== 'number' || !(pollMs >= 100 && pollMs <= 60_000)) fault('.pollMs', 'milliseconds from 100 to 60000', pollMs);
  if (!Number.isInteger(max) || max < 1 || max > 100) fault('.max', 'a whole number from 1 to 100', max);
  if (max !== 10 && pool !== undefined) fault('.max', 'it to be omitted with pool, which has its own size', max);
  if (faults.length > 0) throw new ConfigError('Invalid options for postgres()', faults);
  return { connectionString, pool: pool as PgPool | undefined, schema, prepare, listen, pollMs, max };
}
