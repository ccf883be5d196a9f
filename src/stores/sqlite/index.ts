/** `escapement/sqlite`: keeps jobs in a SQLite file, for any number of processes on one machine. */
import '../../ports/node-version.ts';
import { resolve } from 'node:path';
import type { Database } from 'better-sqlite3';
import { show } from '../../core/duration.ts';
import { ConfigError, type ConfigFault } from '../../core/errors.ts';
import type { StoreSource } from '../../ports/store.ts';
import { Connection, type Place, pathOf } from './connection.ts';
import { SqliteStore } from './store.ts';

/** The part of a better-sqlite3 database that the store uses. */
export interface SqliteHandle {
  /** The path of its file. */
  readonly name: string;
  readonly inTransaction: boolean;
  prepare(sql: string): unknown;
}

/** Options of `sqlite`: a file, or a better-sqlite3 database whose file is used. */
export interface SqliteOptions {
  /** The path of the file, which is created if it does not exist. `':memory:'` keeps everything in memory. */
  file?: string;
  /**
   * The application's own database. The engine opens its own connection to the same file; a `:memory:` database is shared. Jobs enqueued in
   * your transactions are as durable as your handle makes them. The default of better-sqlite3 is `NORMAL`; to change it:
   * `db.pragma('synchronous = FULL')`.
   */
  database?: SqliteHandle;
  /**
   * `FULL`: an acknowledged enqueue survives a power failure. `NORMAL`: it survives a crash of the process, but the most recent commits
   * before a power failure or a crash of the operating system may be lost; the file stays intact.
   * @default 'FULL'
   */
  synchronous?: 'FULL' | 'NORMAL';
  /**
   * Allows a file on a FUSE file system of a local disk, such as ntfs-3g, if the kernel reports it as one. FUSE file systems of a network
   * or a virtual machine's host (sshfs, s3fs, virtiofs …) are always refused, because SQLite corrupts files there.
   * @default false
   */
  allowFuse?: boolean;
}

/**
 * Keeps jobs in a SQLite file. Nothing is opened before `tasks.open()` or the first use.
 * @throws ConfigError with all faults of the options
 * @example createTasks({ backend: sqlite({ file: 'tasks.db' }) })
 */
export function sqlite(options: SqliteOptions): StoreSource {
  const place = read(options);
  return {
    kind: 'store',
    name: 'sqlite',
    shared: place.file !== ':memory:',
    ...(place.file === ':memory:' ? {} : { file: place.file }),
    open: () => new SqliteStore(new Connection(place), place.file),
  };
}

function read(options: SqliteOptions): Place {
  const faults: ConfigFault[] = [];
  if (typeof options === 'string') {
    const expected = `an object: sqlite({ file: ${show(options)} })`;
    throw new ConfigError('Invalid options for sqlite()', [{ path: 'options', expected, got: show(options) }]);
  }
  if (typeof (options as { prepare?: unknown } | undefined)?.prepare === 'function') {
    const expected = 'an object: sqlite({ database: db })';
    throw new ConfigError('Invalid options for sqlite()', [{ path: 'options', expected, got: show(options) }]);
  }
  const { file, database, synchronous = 'FULL', allowFuse = false, ...rest } = options ?? {};
  for (const key of Object.keys(rest)) {
    faults.push({
      path: `sqlite().${key}`,
      expected: 'one of file, database, synchronous, allowFuse',
      got: key,
      ...(/^(path|filename|name|url|db)$/i.test(key) ? { didYouMean: 'file' } : {}),
    });
  }
  if ((file === undefined) === (database === undefined))
    faults.push({ path: 'sqlite()', expected: 'either file or database', got: show(options) });
  if (file !== undefined && (typeof file !== 'string' || file === ''))
    faults.push({ path: 'sqlite().file', expected: 'a path', got: show(file) });
  if (database !== undefined && (typeof database?.prepare !== 'function' || typeof database?.name !== 'string')) {
    faults.push({ path: 'sqlite().database', expected: 'a better-sqlite3 database', got: show(database) });
  }
  if (synchronous !== 'FULL' && synchronous !== 'NORMAL')
    faults.push({ path: 'sqlite().synchronous', expected: "'FULL' or 'NORMAL'", got: show(synchronous) });
  if (typeof allowFuse !== 'boolean') faults.push({ path: 'sqlite().allowFuse', expected: 'true or false', got: show(allowFuse) });
  // Resolved now, because the working directory may be different when the file is opened.
  let path = file ?? '';
  try {
    if (faults.length === 0 && database) path = pathOf(database as Database) || ':memory:';
  } catch (error) {
    faults.push({ path: 'sqlite().database', expected: 'an open better-sqlite3 database', got: String(error) });
  }
  if (faults.length > 0) throw new ConfigError('Invalid options for sqlite()', faults);
  const isPath = path !== ':memory:';
  return { file: isPath ? resolve(path) : path, database: database as Database | undefined, synchronous, allowFuse };
}
