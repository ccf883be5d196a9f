/**
 * The engine's connections, from its own pool or the application's. Each call takes at most one client, so a pool of one is enough, and
 * leaves no session state behind, so a pooler may sit in between. Connections that fail are closed, and the pool opens new ones.
 */
import { createHash } from 'node:crypto';
import { ConfigError, isEscapementError, StoreError } from '../../core/errors.ts';
import { asOwnWork, systemClock, type Timer } from '../../ports/clock.ts';
import { ServerClock } from './server-clock.ts';
import type { Session, Value } from './session.ts';

/** The methods of a `pg` client that the store uses. */
export interface PgClient {
  query(config: {
    text: string;
    values?: unknown[];
    name?: string;
    types?: { getTypeParser(oid: number, format?: string): (value: string) => unknown };
    rowMode?: 'array';
  }): Promise<{ rows: unknown[] }>;
  on(event: 'error', listener: (error: Error) => void): unknown;
}
export interface PgPoolClient extends PgClient {
  release(error?: Error | boolean): void;
}

/** The methods of a `pg` pool that the store uses. */
export interface PgPool {
  connect(): Promise<PgPoolClient>;
  end(): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'connect' | 'acquire', listener: (client: PgClient) => void): unknown;
  readonly options?: object;
}

/** The options of a `pg` client that the store reads. */
export interface PgClientOptions {
  readonly connectionString?: string | undefined;
  /** May be a function, for example one that requests a token from a cloud provider. */
  readonly password?: unknown;
  readonly ssl?: unknown;
}

/** A client that can LISTEN. */
export interface PgListener extends PgClient {
  connect(): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  on(event: 'notification', listener: (message: { channel: string; payload?: string | undefined }) => void): unknown;
}

export interface Place {
  readonly connectionString: string | undefined;
  readonly pool: PgPool | undefined;
  /** The unquoted name of the schema. */
  readonly schema: string;
  readonly prepare: boolean;
  readonly listen: boolean;
  readonly pollMs: number;
  /** The size of the engine's own pool. */
  readonly max: number;
}

/** Time limits for statements of a worker's rounds and for upkeep statements. A connection that exceeds its limit is closed. */
export const hotMs = 10_000;
export const maintenanceMs = 30_000;
const connectMs = 10_000;
/** A timer that fires later than this was delayed by a blocked event loop. Calls get this much extra time after that. */
const blockedFromMs = 500;
const afterBlockMs = 2_000;
const maxTries = 10;
/** With more lanes, claims contend with each other. */
const maxLanes = 2;
const oldestVersion = 140_000;
/** In other encodings the database may refuse a character of an outcome, which could then never be recorded. */
const encodings: readonly string[] = ['UTF8', 'SQL_ASCII'];
/** Synchronized clocks differ by less. */
const warnFromMs = 1_000;

/** Type parsers for this store only. The parsers of the application's pool stay as they are. */
const parsers: Readonly<Record<number, (value: string) => unknown>> = {
  16: (value) => value === 't',
  17: bytesOf,
  20: Number,
  21: Number,
  23: Number,
  700: Number,
  701: Number,
};
/** Parses bytes in either output format. The database or the role sets `bytea_output`. */
function bytesOf(value: string): Buffer {
  if (value.startsWith('\\x')) return Buffer.from(value.slice(2), 'hex');
  const plain = value.replaceAll(/\\(\\|[0-7]{3})/g, (_, code: string) =>
    code === '\\' ? code : String.fromCharCode(Number.parseInt(code, 8)),
  );
  return Buffer.from(plain, 'latin1');
}
const asText = (value: string) => value;
const types = { getTypeParser: (oid: number) => parsers[oid] ?? asText };

const known = new WeakSet<object>();

/** An error on an idle client must not end the process. */
function tame(client: { on(event: 'error', listener: (error: Error) => void): unknown }): void {
  if (known.has(client)) return;
  known.add(client);
  client.on('error', () => {});
}

/** The same for a pool and its clients, including a client that is just being handed out. */
function tameAll(pool: PgPool): void {
  if (known.has(pool)) return;
  tame(pool);
  pool.on('connect', tame);
  pool.on('acquire', tame);
}

const names = new Map<string, string>();

/** The name of a prepared statement. */
function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `escapement_${createHash('sha256').update(text).digest('hex').slice(0, 20)}`;
    names.set(text, name);
  }
  return name;
}

class ClientSession implements Session {
  readonly #client: PgClient;
  readonly #prepare: boolean;

  constructor(client: PgClient, prepare: boolean) {
    this.#client = client;
    this.#prepare = prepare;
  }

  async rows<Row>(text: string, values: readonly Value[] = []): Promise<Row[]> {
    const { rows } = await this.#client.query({ text, values: [...values], types, ...(this.#prepare ? { name: nameOf(text) } : {}) });
    return rows as Row[];
  }

  /** Returns the rows as arrays, which is faster for many rows. */
  async arrays<Row>(text: string, values: readonly Value[]): Promise<Row[]> {
    const name = this.#prepare ? { name: nameOf(text) } : {};
    const { rows } = await this.#client.query({ text, values: [...values], types, rowMode: 'array', ...name });
    return rows as Row[];
  }

  async run(text: string, values: readonly Value[] = []): Promise<void> {
    await this.rows(text, values);
  }

  async script(text: string): Promise<void> {
    await this.#client.query({ text });
  }
}

export class Connection {
  readonly place: Place;
  #pool: PgPool | undefined;
  #Client: (new (options: object) => PgListener) | undefined;
  #closed = false;
  #opening: Promise<void> | undefined;

  readonly #inTurn: boolean;

  /** @param inTurn whether calls run one after another, in the order in which they were made */
  constructor(place: Place, inTurn = false) {
    this.place = place;
    this.#inTurn = inTurn;
  }

  /** The maximum number of connections that a worker uses at a time for claims and settlements. One is left for everything else. */
  get lanes(): number {
    if (this.#inTurn) return 1;
    const max = this.place.pool ? ((this.place.pool.options as { max?: number } | undefined)?.max ?? 10) : this.place.max;
    return Math.max(1, Math.min(maxLanes, max - 1));
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Opens the first connection and checks the server. */
  async open(): Promise<void> {
    this.#opening ??= this.#open();
    try {
      await this.#opening;
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
  }

  async #open(): Promise<void> {
    if (!this.#pool) {
      if (this.place.pool) this.#lend(this.place.pool);
      else await this.#connect();
    }
    const [server] = await this.query<{ version: number; encoding: string }>(
      "SELECT current_setting('server_version_num')::integer AS version, current_setting('server_encoding') AS encoding",
    );
    if (server && server.version < oldestVersion) {
      throw new StoreError(`postgres() needs PostgreSQL 14 or later; the server is ${server.version / 10_000}`, { kind: 'unsupported' });
    }
    if (server && !encodings.includes(server.encoding)) {
      throw new StoreError(
        `postgres() needs a database with the encoding UTF8; this one has ${server.encoding}. Create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`,
        { kind: 'unsupported' },
      );
    }
    if (this.#inTurn) return;
    await this.#clock.measure();
    warnOfSkew(this.#clock.aheadMs);
  }

  readonly #clock = new ServerClock(() =>
    this.read(async (session) => {
      const before = systemClock.monotonic();
      const [row] = await session.rows<{ at: number }>('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS at');
      return { serverAt: (row as { at: number }).at, tookMs: systemClock.monotonic() - before };
    }),
  );

  /** How far the server's clock is ahead of this machine's. */
  get aheadMs(): number {
    return this.#inTurn || this.#closed ? 0 : this.#clock.aheadMs;
  }

  #lend(pool: PgPool): void {
    tameAll(pool);
    this.#pool = pool;
    this.#Client = (pool as { readonly Client?: new (options: object) => PgListener }).Client;
  }

  async #connect(): Promise<void> {
    const pg = await loadPg();
    this.#Client = pg.Client;
    this.#pool = this.#newPool(pg.Pool);
  }

  #Pool: (new (options: object) => PgPool) | undefined;

  #newPool(Pool: new (options: object) => PgPool): PgPool {
    this.#Pool = Pool;
    const { connectionString, max } = this.place;
    // Idle connections stay open because workers use them every second. They do not keep the process alive.
    const pool = new Pool({
      connectionString,
      max,
      idleTimeoutMillis: 0,
      allowExitOnIdle: true,
      keepAlive: true,
      fallback_application_name: 'escapement',
    });
    tameAll(pool);
    return pool;
  }

  /** A separate connection that can LISTEN, or undefined if none can be created. */
  listener(): PgListener | undefined {
    const options = clientOptions(this.place);
    if (!this.#Client || !options) return undefined;
    const client = new this.#Client({ ...options, keepAlive: true, fallback_application_name: 'escapement listener' });
    tame(client);
    return client;
  }

  /** Runs one statement in its own transaction. */
  query<Row>(text: string, values: readonly Value[] = [], ms = hotMs): Promise<Row[]> {
    return this.#retried(() => this.#with(ms, (session) => session.rows<Row>(text, values)));
  }

  /** The same, with rows as arrays. */
  arrays<Row>(text: string, values: readonly Value[]): Promise<Row[]> {
    return this.#retried(() => this.#with(hotMs, (session) => session.arrays<Row>(text, values)));
  }

  /** Runs a transaction, and repeats it after a serialization failure or a deadlock. */
  transact<T>(fn: (session: Session) => Promise<T>, ms = hotMs): Promise<T> {
    return this.#retried(() =>
      this.#with(ms, async (session) => {
        await session.script(`BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = ${ms}`);
        let value: T;
        try {
          value = await fn(session);
        } catch (error) {
          if (isLost(error)) throw error;
          await session.script('ROLLBACK').catch((failure) => {
            throw isLost(failure) ? failure : error;
          });
          throw error;
        }
        await session.script('COMMIT');
        return value;
      }),
    );
  }

  /** Runs several reads on one client. */
  read<T>(fn: (session: Session) => Promise<T>, ms = hotMs): Promise<T> {
    return this.#retried(() => this.#with(ms, fn));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.place.pool) await this.#pool?.end();
  }

  async #retried<T>(fn: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await fn();
      } catch (error) {
        if (!hasLostRace(error) || tries === maxTries) throw this.error(error);
      }
    }
  }

  #with<T>(ms: number, fn: (session: ClientSession) => Promise<T>): Promise<T> {
    if (!this.#inTurn) return asOwnWork(() => this.#on(ms, fn));
    const turn = this.#last.then(() => asOwnWork(() => this.#on(ms, fn)));
    this.#last = turn.catch(() => {});
    return turn;
  }
  #last: Promise<unknown> = Promise.resolve();

  async #on<T>(ms: number, fn: (session: ClientSession) => Promise<T>): Promise<T> {
    if (this.#closed || !this.#pool) throw new StoreError('the store is not open; call and await tasks.open() first', { kind: 'closed' });
    const client = await acquire(this.#pool);
    let broken: Error | undefined;
    let isReleased = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      client.release(broken);
    };
    const timer = unlessBlocked(ms + 1_000, () => {
      broken = new StoreError(`the database did not answer within ${ms / 1_000} s`, { kind: 'busy', transient: true });
      release();
    });
    try {
      return await fn(new ClientSession(client, this.place.prepare));
    } catch (error) {
      if (broken) throw broken;
      if (isLost(error)) broken = error as Error;
      if (codeOf(error) === '25006') {
        // The server has become a replica. Reconnecting may reach the new primary.
        broken = error as Error;
        this.#reconnect();
      }
      throw error;
    } finally {
      timer.cancel();
      release();
    }
  }

  /** Drops all connections. */
  #reconnect(): void {
    if (this.place.pool || !this.#Pool || !this.#pool) return;
    const old = this.#pool;
    this.#pool = this.#newPool(this.#Pool);
    old.end().catch(() => {});
  }

  /** Converts an error of the driver or the server to an error of the engine. */
  error(error: unknown): unknown {
    return storeError(error, this.place.schema);
  }
}

/** The options for another client that connects to the same server; undefined if the application's pool does not expose them. */
export function clientOptions({ pool, connectionString }: Place): PgClientOptions | undefined {
  if (!pool) return { connectionString };
  const options: PgClientOptions | undefined = pool.options;
  // A pool makes its password non-enumerable.
  return options && { ...options, ...('password' in options && { password: options.password }) };
}

/** The engine follows the server's clock. The rest of the process, including its logs, does not. */
function warnOfSkew(aheadMs: number): void {
  if (Math.abs(aheadMs) < warnFromMs) return;
  process.emitWarning(
    `the clock of this machine is ${Math.abs(aheadMs)} ms ${aheadMs < 0 ? 'ahead of' : 'behind'} that of the database; jobs follow the database's clock. Synchronize the clocks, for example with NTP`,
    { type: 'EscapementWarning', code: 'ESCAPEMENT_CLOCK_SKEW' },
  );
}

/** Answers that arrive while the event loop is blocked are not read until it is free, so they get some extra time after that. */
function unlessBlocked(ms: number, fn: () => void): Timer {
  const dueAt = systemClock.monotonic() + ms;
  let timer = systemClock.after(ms, () => {
    if (systemClock.monotonic() - dueAt < blockedFromMs) fn();
    else timer = systemClock.after(afterBlockMs, fn);
  });
  return { cancel: () => timer.cancel() };
}

/** Thrown in a transaction that has lost a race. The transaction starts over. */
export class Retry extends Error {}

async function acquire(pool: PgPool): Promise<PgPoolClient> {
  const connecting = pool.connect();
  return new Promise((resolve, reject) => {
    let isLate = false;
    const timer = unlessBlocked(connectMs, () => {
      isLate = true;
      reject(new StoreError(`no connection to the database within ${connectMs / 1_000} s`, { kind: 'busy', transient: true }));
    });
    connecting.then(
      (client) => {
        timer.cancel();
        if (isLate) client.release();
        else resolve(client);
      },
      (error) => {
        timer.cancel();
        reject(error);
      },
    );
  });
}

function hasLostRace(error: unknown): boolean {
  const code = codeOf(error);
  if (code === '23505') return (error as { constraint?: string }).constraint === 'jobs_unique_keys';
  return error instanceof Retry || code === '40P01' || code === '40001';
}

interface Pg {
  readonly Pool: new (options: object) => PgPool;
  readonly Client: new (options: object) => PgListener;
}

async function loadPg(): Promise<Pg> {
  try {
    const loaded = (await import('pg')) as unknown as { readonly default: Pg };
    return loaded.default;
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new ConfigError('postgres() needs the package pg', [
      { path: 'pg', expected: 'the package to be installed: npm install pg', got: 'no such package' },
    ]);
  }
}

export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

const lostCodes = /^(08...|57P0[1-5]|ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ENOENT)$/;
const lostMessages =
  /Connection terminated|Client has encountered a connection error|not queryable|timeout exceeded when trying to connect/i;

/** True if the connection is lost or no longer usable. */
export function isLost(error: unknown): boolean {
  const code = codeOf(error);
  if (code !== undefined && lostCodes.test(code)) return true;
  if (error instanceof AggregateError) return error.errors.some(isLost);
  return error instanceof Error && !isEscapementError(error) && lostMessages.test(error.message);
}

function storeError(error: unknown, schema: string): unknown {
  if (isEscapementError(error)) return error;
  if (error instanceof Retry) {
    return new StoreError('the change conflicted with concurrent changes too often; try again', { kind: 'busy', transient: true });
  }
  const code = codeOf(error) ?? '';
  const message = error instanceof Error && error.message !== '' ? error.message : String(code || error);
  const as = (text: string, kind: string, transient: boolean) => new StoreError(text, { kind, transient, cause: error });
  if (code === '23505') {
    const { constraint } = error as { constraint?: string };
    const what = constraint === 'jobs_occurrences' ? 'the occurrence of a schedule already has a job' : 'a job with this id already exists';
    return as(what, 'conflict', false);
  }
  if (isLost(error)) return as(`the connection to the database failed: ${message}`, 'failing', true);
  if (code === '57014') return as(`a statement took too long: ${message}`, 'busy', true);
  if (code === '53100') return as(`the disk of the database is full: ${message}`, 'full', true);
  if (/^(53|55P03|40)/.test(code)) return as(`the database is busy: ${message}`, 'busy', true);
  if (code === '25006') return as(`the database is read-only, as after a failover: ${message}`, 'failing', true);
  if (code === '3D000') {
    const name = /"(.+)"/.exec(message)?.[1];
    return as(`${message}; create it: createdb ${name ?? 'NAME'}, or CREATE DATABASE in psql`, 'closed', false);
  }
  if (/^28/.test(code))
    return as(`the database refused the connection: ${message}; check the user and password in its URL`, 'closed', false);
  if (code === '42P01' || code === '3F000' || code === '42883') {
    return as(
      `the schema ${schema} is not migrated; call and await tasks.open() first, or run escapement migrate: ${message}`,
      'closed',
      false,
    );
  }
  if (/^22/.test(code)) return as(`the database rejected a value: ${message}`, 'invalid', false);
  return as(`the database failed: ${message}`, 'failing', false);
}
