/**
 * Transactions of the application. A `pg` client, postgres.js, Drizzle, Kysely and Prisma are recognized by their shapes. Values are bound
 * as text and results are read as one JSON text, so that an application's type settings for its driver have no effect.
 */
import { show } from '../../core/duration.ts';
import { DuplicateJobError, InputError } from '../../core/errors.ts';
import type { Session, Value } from './session.ts';

type RunQuery = (text: string, values: readonly Value[]) => Promise<readonly unknown[]>;

interface Answer {
  readonly answer: string;
}

class GuestSession implements Session {
  readonly #runQuery: RunQuery;

  constructor(runQuery: RunQuery) {
    this.#runQuery = runQuery;
  }

  async rows<Row>(sql: string, values: readonly Value[] = []): Promise<Row[]> {
    const text = `WITH answer AS (${sql}) SELECT coalesce(json_agg(answer), '[]'::json)::text AS answer FROM answer`;
    const [row] = (await this.#runQuery(text, values)) as readonly Answer[];
    return JSON.parse(row?.answer ?? '[]') as Row[];
  }

  async run(sql: string, values: readonly Value[] = []): Promise<void> {
    await this.#runQuery(sql, values);
  }

  async script(sql: string): Promise<void> {
    await this.#runQuery(sql, []);
  }
}

/** The parts of the drivers that are used. */
interface Shapes {
  readonly query?: (text: string, values: unknown[]) => Promise<{ readonly rows: unknown[] }>;
  readonly getTransactionStatus?: () => string | null;
  readonly totalCount?: unknown;
  readonly unsafe?: (text: string, values: unknown[]) => Promise<unknown[]>;
  readonly savepoint?: unknown;
  readonly session?: { readonly client?: unknown };
  readonly rollback?: unknown;
  readonly isTransaction?: boolean;
  readonly executeQuery?: (query: object) => Promise<{ readonly rows: unknown[] }>;
  readonly $queryRawUnsafe?: (text: string, ...values: unknown[]) => Promise<unknown[]>;
  readonly $executeRawUnsafe?: (text: string, ...values: unknown[]) => Promise<unknown>;
  readonly $transaction?: unknown;
  readonly $connect?: unknown;
}

const expected =
  'a pg client with an open transaction, the transaction of postgres.js, Drizzle or Kysely, or the client that Prisma passes to $transaction()';

/**
 * Returns a session for the application's transaction.
 * @throws InputError if the driver is unknown, or the client is not in a transaction
 */
export function guestSession(transaction: unknown): Session {
  const given = transaction as Shapes | null | undefined;
  if (given === null || (typeof given !== 'object' && typeof given !== 'function')) throw refused(`got ${show(transaction)}`);
  if (typeof given.$queryRawUnsafe === 'function') return prisma(given);
  if (typeof given.executeQuery === 'function') return kysely(given);
  if (given.session?.client !== undefined && typeof given.query !== 'function') return drizzle(given);
  if (typeof given.unsafe === 'function') return postgresJs(given);
  if (typeof given.query === 'function') return pg(given);
  // Drizzle's transactions have a relational `query` object.
  if (given.session?.client !== undefined) return drizzle(given);
  throw refused(`got ${show(transaction)}`);
}

function refused(why: string): InputError {
  return new InputError(`transaction: expected ${expected}; ${why}`);
}

function pg(client: Shapes): Session {
  if (client.totalCount !== undefined)
    throw refused('got a pool: take a client with pool.connect(), begin a transaction on it, and pass the client');
  if (client.getTransactionStatus?.() === 'I') throw refused("the client has no open transaction; run client.query('BEGIN') first");
  return new GuestSession(async (text, values) => (await client.query?.(text, [...values]))?.rows ?? []);
}

function postgresJs(sql: Shapes): Session {
  if (typeof sql.savepoint !== 'function')
    throw refused('got a client without a transaction: pass the `sql` that sql.begin() gives to its function');
  return new GuestSession(async (text, values) => (await sql.unsafe?.(text, [...values])) ?? []);
}

function drizzle(tx: Shapes): Session {
  const client = tx.session?.client as Shapes;
  if (typeof tx.rollback !== 'function') throw refused('got a database without a transaction: pass the `tx` of db.transaction()');
  return typeof client.unsafe === 'function' ? postgresJs(client) : pg(client);
}

function kysely(trx: Shapes): Session {
  if (trx.isTransaction !== true) throw refused('got a database without a transaction: pass the `trx` of db.transaction().execute()');
  return new GuestSession(async (sql, values) => {
    const query = { kind: 'RawNode', sqlFragments: [sql], parameters: [] };
    const compiled = { sql, query, parameters: [...values], queryId: { queryId: 'escapement' } };
    return (await trx.executeQuery?.(compiled))?.rows ?? [];
  });
}

function prisma(client: Shapes): Session {
  if (client.$transaction !== undefined || client.$connect !== undefined)
    throw refused('got a client without a transaction: pass the client that $transaction() gives to its function');
  return new GuestSession(async (text, values) => {
    // Prisma may refuse to run a statement that returns no rows as a query.
    if (/^\s*(SELECT|WITH)/i.test(text)) return (await client.$queryRawUnsafe?.(text, ...values)) ?? [];
    await client.$executeRawUnsafe?.(text, ...values);
    return [];
  });
}

/** The latest call on each transaction of the application. */
const turns = new WeakMap<object, Promise<unknown>>();
/** Drizzle's nested transactions share their client. */
export type Transaction = object & { readonly session?: { readonly client?: object } };

/** Serializes calls on one transaction: rolling back to a savepoint undoes everything that came after it. */
export function inTurn<T>(transaction: Transaction, fn: () => Promise<T>): Promise<T> {
  const client = transaction.session?.client ?? transaction;
  const before = turns.get(client);
  const turn = before === undefined ? fn() : before.then(fn, fn);
  turns.set(client, turn);
  return turn;
}

/**
 * @param isSingle if another job holds the key, a refused insert of one job has changed nothing, so statements that the application ran
 * since then are kept
 */
export async function inSavepoint<T>(session: Session, fn: () => Promise<T>, isSingle: boolean): Promise<T> {
  await session.script('SAVEPOINT escapement');
  let value: T;
  try {
    value = await fn();
  } catch (error) {
    const isRefusal = isSingle && error instanceof DuplicateJobError;
    await session.script(`${isRefusal ? 'RELEASE' : 'ROLLBACK TO'} SAVEPOINT escapement`).catch(() => {});
    throw error;
  }
  await session.script('RELEASE SAVEPOINT escapement');
  return value;
}
