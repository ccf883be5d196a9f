/**
 * The engine's connection. It is opened once, checked and migrated, and runs one write at a time. SQLite is synchronous, and so is this
 * file, unless another process holds the lock: then the write is retried a little later without blocking the event loop.
 */
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Sqlite, { type Database, type Statement } from 'better-sqlite3';
import { StoreError } from '../../core/errors.ts';
import { systemClock } from '../../ports/clock.ts';
import type { Awaitable } from '../../ports/store.ts';
import { checkFileSystem } from './file-systems.ts';
import { Files } from './files.ts';
import { isMigrated, migrate } from './schema.ts';

/** Where `sqlite()` finds its rows. */
export interface Place {
  /** An absolute path, or `:memory:`. */
  readonly file: string;
  /** A handle of the application. The engine opens its own connection to the same file; only a `:memory:` database is shared. */
  readonly database: Database | undefined;
  readonly synchronous: 'FULL' | 'NORMAL';
  readonly allowFuse: boolean;
}

/** The first SQLite version without a bug that can corrupt a WAL database with two writers (fixed in 3.51.3). */
const oldestSqlite = [3, 51, 3] as const;
/** SQLite itself does not wait for locks, because that would block the event loop. A write is first retried on the next turns of the event loop … */
const busyTurns = 40;
/** … and then after pauses, up to this many refusals, about ten seconds. */
const maxRefusals = 2_000;
const longestPauseMs = 10;

/** A write that is waiting for the lock. */
interface Waiting {
  run(): void;
  reject(error: unknown): void;
  /** The number of refusals when it was called. */
  readonly since: number;
}

/** The length of the write-ahead log is checked after this number of commits. */
const checkEveryCommits = 500;
/** Sixteen times SQLite's default limit. */
const largeLogBytes = 67_108_864;

export class Connection {
  readonly #place: Place;
  #db: Database;
  #begin: Statement | undefined;
  #commit: Statement | undefined;
  /** The path of the file with links resolved; empty in memory. */
  readonly path: string;
  /** No other connection can see these rows. */
  readonly isPrivate: boolean;
  /** The application's handle. */
  readonly lent: Database | undefined;
  readonly #shared: boolean;
  #closed = false;
  /** In call order; no write overtakes another. */
  #waiting: Waiting[] = [];
  #refusals = 0;
  #commitsUntilCheck = checkEveryCommits;
  #warned = false;
  /** Set once the database is in WAL mode and migrated; undefined in memory. */
  #files: Files | undefined;
  /** Called when the database was reopened, which invalidates statements prepared on the old handle. */
  onReopen: () => void = () => {};

  constructor(place: Place) {
    this.#place = place;
    this.isPrivate = place.file === ':memory:' || place.file === '';
    this.lent = place.database;
    this.#shared = this.isPrivate && place.database !== undefined;
    this.#db = this.#shared ? withNumbers(place.database as Database) : open(place);
    try {
      this.path = pathOf(this.#db);
      checkVersion(this.#db, 'better-sqlite3');
      if (place.database && !this.isPrivate) checkHandle(place.database);
      if (!this.#shared) configure(this.#db, place);
    } catch (error) {
      if (!this.#shared) this.#db.close();
      throw storeError(error, place.file);
    }
  }

  get db(): Database {
    return this.#db;
  }

  /** Switches to WAL and migrates the schema if necessary. Processes that start at the same time take turns. */
  prepare(file: string): Awaitable<void> {
    return this.#orWait(() => {
      if (!this.isPrivate && this.db.pragma('journal_mode', { simple: true }) !== 'wal') {
        const mode = this.db.pragma('journal_mode = WAL', { simple: true });
        if (mode !== 'wal') {
          throw new StoreError(
            `${file} cannot be switched to WAL (its journal mode is ${mode}); put it on a local file system that has shared memory`,
            { kind: 'unsupported' },
          );
        }
      }
      // Checking first avoids the write lock.
      if (!isMigrated(this.db)) this.#transact(() => migrate(this.db));
      if (!this.isPrivate) this.#files ??= new Files(this.path);
    });
  }

  /** Runs `fn` in one write transaction, immediately if the lock is free. */
  write<T>(fn: () => T): Awaitable<T> {
    const transaction = () => this.#transact(fn);
    return this.#waiting.length > 0 ? this.#wait(transaction) : this.#orWait(transaction);
  }

  /** In WAL mode a read needs no lock and does not wait for writers. */
  read<T>(fn: () => T): Awaitable<T> {
    return this.#orWait(fn);
  }

  close(): void {
    if (!this.#shared && this.db.open) this.db.close();
    this.#closed = true;
  }

  /**
   * Reopens the database if its files are no longer those of the connection.
   * @throws StoreError of kind `replaced` if that is not possible now
   */
  checkFiles(): void {
    const files = this.#files;
    const change = files && (this.db.open ? files.change() : 'log replaced');
    if (!change) return;
    if (change === 'file deleted') throw this.#replaced('the database file was deleted; restart the process. Nothing was written');
    if (this.db.open) {
      process.emitWarning(`${this.path}: ${warningOf[change]}`, { type: 'EscapementWarning', code: 'ESCAPEMENT_FILE_REPLACED' });
      // Everything it committed was in the file before the log was deleted, so closing writes nothing.
      if (change === 'log replaced') this.db.close();
      else files.keepingNew(() => this.db.close());
    }
    if (change === 'log replaced' && files.isOldLogInUse) {
      throw this.#replaced(
        'another connection of this process still uses the deleted log; close it, or restart the process. Nothing was written',
      );
    }
    try {
      this.#db = open(this.#place, true);
      this.#begin = undefined;
      this.#commit = undefined;
      configure(this.#db, this.#place);
      // Opens the log.
      this.#db.prepare('SELECT count(*) FROM sqlite_master').get();
    } catch (error) {
      throw this.error(error);
    }
    this.#files = new Files(this.path);
    this.onReopen();
  }

  #replaced(why: string): StoreError {
    return new StoreError(`${this.path}: ${why}`, { kind: 'replaced', transient: true });
  }

  /** Converts an error of this connection, or of another one to the same file, to an error of the engine. */
  error(error: unknown, waited = false): unknown {
    if (codeOf(error) === 'SQLITE_ERROR' && /no such (table|column)|no column named/.test((error as Error).message)) {
      try {
        isMigrated(this.db);
      } catch (newer) {
        if (newer instanceof StoreError) return newer;
      }
    }
    return storeError(error, this.path || this.db.name, waited);
  }

  #transact<T>(fn: () => T): T {
    const { db } = this;
    this.#begin ??= db.prepare('BEGIN IMMEDIATE');
    this.#commit ??= db.prepare('COMMIT');
    this.#begin.run();
    let value: T;
    try {
      value = fn();
      this.#commit.run();
    } catch (error) {
      // On a full disk or an I/O error, SQLite has already rolled back.
      if (db.inTransaction) db.exec('ROLLBACK');
      throw error;
    }
    // The log was deleted since the last check, so others will never see the commit.
    if (this.#files?.logChange())
      throw this.#replaced('the write-ahead log was deleted during a commit, which other connections may never see; repeat the operation');
    // The transaction is committed: from here on nothing may look like a failure, or the work would be repeated.
    if (--this.#commitsUntilCheck <= 0) this.#checkLog();
    return value;
  }

  /**
   * A reader that holds a snapshot keeps the write-ahead log from being reset, so it grows without bound. Our own reads end immediately, so
   * the reader is elsewhere. It cannot be ended from here, but a warning can be logged.
   */
  #checkLog(): void {
    this.#commitsUntilCheck = checkEveryCommits;
    if (this.isPrivate) return;
    let state: { log: number; checkpointed: number } | undefined;
    try {
      [state] = this.db.pragma('wal_checkpoint(NOOP)') as { log: number; checkpointed: number }[];
    } catch {
      // The transaction is committed, whatever the state of the log.
      return;
    }
    if (!state) return;
    const bytes = state.log * (this.db.pragma('page_size', { simple: true }) as number);
    const large = bytes > largeLogBytes;
    if (large && state.checkpointed < state.log && !this.#warned) {
      const megabytes = Math.round(bytes / 1e6);
      process.emitWarning(
        `the write-ahead log of ${this.db.name} has grown to ${megabytes} MB, because a connection keeps a read transaction open; end that transaction before the disk fills up`,
        { type: 'EscapementWarning', code: 'ESCAPEMENT_LONG_READER' },
      );
    }
    this.#warned = large;
  }

  #orWait<T>(fn: () => T): Awaitable<T> {
    try {
      return this.#attempt(fn);
    } catch (error) {
      if (!isBusy(error)) throw this.error(error);
      return this.#wait(fn);
    }
  }

  #wait<T>(fn: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ run: () => resolve(this.#attempt(fn)), reject, since: this.#refusals });
      if (this.#waiting.length === 1) void this.#serve();
    });
  }

  /**
   * Retries the first waiting write until the lock is free, then continues with the next. Writes that have waited too long fail, wherever
   * they are in the queue.
   */
  async #serve(): Promise<void> {
    for (let tries = 0; this.#waiting.length > 0; ) {
      await pause(tries);
      const next = this.#waiting[0] as Waiting;
      try {
        next.run();
        this.#waiting.shift();
        tries = 0;
      } catch (error) {
        if (isBusy(error)) {
          tries += 1;
          this.#refusals += 1;
          this.#giveUp(this.error(error, true));
        } else {
          this.#waiting.shift();
          next.reject(this.error(error));
        }
      }
    }
  }

  #giveUp(error: unknown): void {
    const isLate = ({ since }: Waiting) => this.#refusals - since >= maxRefusals;
    for (const { reject } of this.#waiting.filter(isLate)) reject(error);
    this.#waiting = this.#waiting.filter((one) => !isLate(one));
  }

  #attempt<T>(fn: () => T): T {
    if (this.#closed || (!this.db.open && !this.#files)) throw new StoreError('the store is closed', { kind: 'closed' });
    this.checkFiles();
    // A shared handle may be in a transaction of the application, which the engine must not join.
    if (this.#shared && this.db.inTransaction) throw busy;
    return fn();
  }
}

const busy = new StoreError('the database is in a transaction of the application', { kind: 'busy', transient: true });

/**
 * Uses real time even in a simulation, because another process holds the lock. The pauses differ, so that two waiting processes do not keep
 * colliding.
 */
function pause(tries: number): Promise<void> {
  if (tries < busyTurns) return new Promise<void>((done) => systemClock.soon(done));
  return new Promise<void>((done) => void systemClock.at(systemClock.now() + 1 + ((tries * 7) % longestPauseMs), done));
}

function isBusy(error: unknown): boolean {
  return error === busy || codeOf(error).startsWith('SQLITE_BUSY') || codeOf(error).startsWith('SQLITE_LOCKED');
}

/** Checks the code, because the application's copy of better-sqlite3 has its own error class. */
function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && code.startsWith('SQLITE_') ? code : '';
}

/** Converts errors of SQLite to errors of the engine. */
export function storeError(error: unknown, file: string, waited = false): unknown {
  const code = codeOf(error);
  if (code === '') return error;
  const { message } = error as Error;
  const of = (kind: string, what: string, transient = false) =>
    new StoreError(`${file}: ${what} (${code}: ${message})`, { kind, transient, cause: error });
  if (code === 'SQLITE_BUSY_SNAPSHOT') {
    return of('busy', 'the transaction started with a read, and others have written since; start it with .immediate() and retry', true);
  }
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    return of('busy', waited ? 'another process has held the lock for too long' : 'another connection is writing', true);
  }
  if (code.startsWith('SQLITE_FULL')) return of('full', 'no space left on the device', true);
  if (code.startsWith('SQLITE_IOERR')) return of('failing', 'disk I/O error', true);
  if (code === 'SQLITE_CONSTRAINT_PRIMARYKEY' || code === 'SQLITE_CONSTRAINT_UNIQUE')
    return of('conflict', 'a row with this id already exists');
  if (code.startsWith('SQLITE_CONSTRAINT') || code === 'SQLITE_MISMATCH' || code === 'SQLITE_TOOBIG') {
    return of('invalid', 'a row cannot be stored');
  }
  if (code.startsWith('SQLITE_NOTADB')) return of('corrupt', 'this file is not a SQLite database');
  if (code.startsWith('SQLITE_CORRUPT')) return of('corrupt', 'the database is damaged; restore it from a backup');
  if (code.startsWith('SQLITE_READONLY')) return of('readonly', 'the file or its folder is not writable');
  if (code === 'SQLITE_ERROR' && /no such table: escapement_/.test(message)) {
    return of('unmigrated', 'the tables do not exist yet; call and await tasks.open() first, or run `escapement migrate`');
  }
  return of('failing', 'the statement failed');
}

/** @param fileMustExist false: creates the file if it does not exist */
function open({ file, allowFuse }: Place, fileMustExist = false): Database {
  if (file !== ':memory:' && file !== '') checkFile(file, allowFuse);
  try {
    return new Sqlite(file, { fileMustExist });
  } catch (error) {
    throw storeError(error, file);
  }
}

function configure(db: Database, { synchronous }: Place): void {
  db.pragma('busy_timeout = 0');
  db.pragma(`synchronous = ${synchronous}`);
  db.pragma(`journal_size_limit = ${largeLogBytes}`);
  // Statements that change many rows keep the old pages until they end, by default in a file.
  db.pragma('temp_store = MEMORY');
}

const warningOf = {
  'log replaced':
    'its write-ahead log was deleted by another process, because a second copy of SQLite in this process (node:sqlite, or another version of better-sqlite3) opened and closed the file, which released the locks of this one. The file is being opened again. Use only one copy of SQLite per process to open it',
  'file replaced': 'the file was replaced while it was open. The new file is being opened. Stop all processes before replacing a database',
} as const;

/** The path of a handle's file as SQLite resolved it on opening: absolute, without links. */
export function pathOf(db: Pick<Database, 'prepare'>): string {
  const rows = db.prepare('PRAGMA database_list').all() as { name: string; file: string }[];
  return rows.find(({ name }) => name === 'main')?.file ?? '';
}

/** The application's handle, with statements that return numbers regardless of its settings (`defaultSafeIntegers`). */
export function withNumbers(db: Database): Database {
  return Object.create(db, { prepare: { value: (sql: string) => db.prepare(sql).safeIntegers(false) } }) as Database;
}

function checkFile(file: string, allowFuse: boolean): void {
  const path = existing(file);
  if (path !== undefined && statSync(path).isDirectory()) {
    throw new StoreError(`${file} is a folder; specify a file in it, such as ${resolve(file, 'tasks.db')}`, { kind: 'unsupported' });
  }
  const folder = dirname(path ?? resolve(file));
  if (!isWritable(folder)) {
    throw new StoreError(
      `${file}: the folder ${folder} does not exist or is not writable; SQLite creates two more files next to the database`,
      { kind: 'readonly' },
    );
  }
  if (path !== undefined && !isWritable(path)) {
    throw new StoreError(`${file} is not writable for this user; workers and processes that enqueue jobs write to it`, {
      kind: 'readonly',
    });
  }
  checkFileSystem(file, folder, allowFuse);
}

/** The resolved path of the file, if it exists. */
function existing(file: string): string | undefined {
  try {
    return realpathSync(file);
  } catch {
    return undefined;
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The application's handle writes the same log, so its SQLite must be recent enough and should be the same copy. */
function checkHandle(database: Database): void {
  checkVersion(database, "the application's better-sqlite3");
  if ((database as object) instanceof Sqlite) return;
  process.emitWarning(
    `the database given to sqlite() was opened by another copy of better-sqlite3. When it is closed, this process loses its locks on ${database.name}. Install one version of better-sqlite3 for the application and Escapement, or keep the handle open until the process ends`,
    { type: 'EscapementWarning', code: 'ESCAPEMENT_OTHER_SQLITE' },
  );
}

function checkVersion(db: Database, name: string): void {
  const { version } = db.prepare<[], { version: string }>('SELECT sqlite_version() AS version').get() as { version: string };
  const found = version.split('.').map(Number);
  for (let i = 0; i < oldestSqlite.length; i++) {
    const difference = (found[i] ?? 0) - (oldestSqlite[i] as number);
    if (difference > 0) return;
    if (difference < 0) {
      throw new StoreError(
        `${name} has SQLite ${version}, which can corrupt a WAL database with two writers; update to SQLite ${oldestSqlite.join('.')} or later`,
        { kind: 'unsupported' },
      );
    }
  }
}
