/**
 * Prepares statements on first use: a store has a hundred, most handles use a dozen, and preparing all takes longer than opening a file.
 */
import type { Database, Statement } from 'better-sqlite3';

/** The methods of a statement that the store uses. */
class Prepared implements Pick<Statement<unknown[], unknown>, 'source' | 'run' | 'get' | 'all'> {
  readonly source: string;
  readonly #db: Database;
  #isRaw = false;
  #statement: Statement<unknown[], unknown> | undefined;

  constructor(db: Database, source: string) {
    this.#db = db;
    this.source = source;
  }

  get #ready(): Statement<unknown[], unknown> {
    if (!this.#statement) {
      const statement = this.#db.prepare<unknown[], unknown>(this.source);
      this.#statement = this.#isRaw ? statement.raw() : statement;
    }
    return this.#statement;
  }

  /** Returns rows as arrays. */
  raw(): this {
    this.#isRaw = true;
    return this;
  }

  run(...values: unknown[]) {
    return this.#ready.run(...values);
  }

  get(...values: unknown[]) {
    return this.#ready.get(...values);
  }

  all(...values: unknown[]) {
    return this.#ready.all(...values);
  }
}

/** The handle, with statements that are prepared on first use. */
export function preparedLate(db: Database): Database {
  return Object.create(db, { prepare: { value: (sql: string) => new Prepared(db, sql) } }) as Database;
}
