/** Claiming and what it looks for: the statements over ready and scheduled jobs. */
import type { Database, Statement } from 'better-sqlite3';
import { comesBefore } from '../../core/job.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { Counts } from './counts.ts';
import { type JobRow, selectJob } from './rows.ts';

/** Which jobs a caller may claim. */
export type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues'>;

// `+due_at` keeps the planner from choosing the due time over the order; names stand in the text, because a bound queue makes it plan anew
// at every call.
const candidate = (queue: string, tasks: readonly string[]) =>
  `WHERE state = 'ready' AND queue = ${quote(queue)} AND +due_at <= ? AND task IN (${tasks.map(quote).join(', ')})
   AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?) ORDER BY priority DESC, due_at, id LIMIT ?`;

/** The latest due time of a job that was made ready, by any handle of this process: for a clock that is behind, some may not be due. */
export interface Horizon {
  readyUntil: number;
}

export class Claims {
  readonly #db: Database;
  readonly #counts: Counts;
  readonly #perQueue = new WeakMap<readonly string[], Map<string, Statement<[number, number, number], JobRow>>>();
  readonly #queues: Statement<[], { name: string }>;
  readonly #someScheduled: Statement<[number], unknown>;
  readonly #scheduledDue: Statement<[number], { queue: string; retried: number; count: number }>;
  readonly #stage: Statement<[number]>;
  readonly #readyUndue: Statement<[number], { queue: string; retried: number; count: number }>;
  readonly #unstage: Statement<[number]>;
  readonly #nextScheduled = new Map<string, Statement<[], { dueAt: number }>>();
  readonly #horizon: Horizon;

  constructor(db: Database, counts: Counts, horizon: Horizon) {
    this.#horizon = horizon;
    this.#db = db;
    this.#counts = counts;
    this.#queues = db.prepare('SELECT name FROM escapement_queues WHERE paused IS NOT 1');
    this.#someScheduled = db.prepare("SELECT 1 FROM escapement_jobs WHERE state = 'scheduled' AND due_at <= ? LIMIT 1");
    const grouped = 'SELECT queue, attempt > 0 AS retried, count(*) AS count FROM escapement_jobs';
    this.#scheduledDue = db.prepare(`${grouped} WHERE state = 'scheduled' AND due_at <= ? GROUP BY queue, retried`);
    this.#stage = db.prepare("UPDATE escapement_jobs SET state = 'ready' WHERE state = 'scheduled' AND due_at <= ?");
    this.#readyUndue = db.prepare(`${grouped} WHERE state = 'ready' AND due_at > ? GROUP BY queue, retried`);
    this.#unstage = db.prepare("UPDATE escapement_jobs SET state = 'scheduled' WHERE state = 'ready' AND due_at > ?");
  }

  /** True if some job is still to be made ready, or back, at this instant. */
  isBehind(now: number): boolean {
    return now < this.#horizon.readyUntil || this.#someScheduled.get(now) !== undefined;
  }

  /** Makes ready what is due, and takes back what is not due for a clock that is behind. In a write transaction. */
  stage(now: number): void {
    if (now < this.#horizon.readyUntil) {
      for (const { queue, retried, count } of this.#readyUndue.all(now)) {
        this.#counts.add(queue, 'ready', -count);
        this.#counts.add(queue, retried ? 'retrying' : 'scheduled', count);
      }
      this.#unstage.run(now);
    }
    if (this.#someScheduled.get(now) !== undefined) {
      for (const { queue, retried, count } of this.#scheduledDue.all(now)) {
        this.#counts.add(queue, retried ? 'retrying' : 'scheduled', -count);
        this.#counts.add(queue, 'ready', count);
      }
      this.#stage.run(now);
    }
    this.#horizon.readyUntil = now;
  }

  /** The best ready jobs, at most `limit`, as rows. */
  candidates(served: Served, now: number, limit: number): JobRow[] {
    if (limit <= 0 || served.tasks.length === 0) return [];
    const queues = this.#servedQueues(served);
    const found: JobRow[] = [];
    for (const queue of queues) found.push(...this.#statement(queue, served.tasks).all(now, now, limit));
    if (queues.length > 1) found.sort((a, b) => (comesBefore(a, b) ? -1 : 1));
    return found.length > limit ? found.slice(0, limit) : found;
  }

  /** The earliest due time of a job that the caller may claim; `now` if one is ready. The caller has made ready what is due. */
  nextDueAt(served: Served, now: number): number | null {
    if (this.candidates(served, now, 1).length > 0) return now;
    const queues = this.#servedQueues(served);
    if (queues.length === 0 || served.tasks.length === 0) return null;
    const sql = `SELECT due_at AS dueAt FROM escapement_jobs WHERE state = 'scheduled' AND queue IN (${queues.map(quote).join(', ')})
      AND task IN (${served.tasks.map(quote).join(', ')}) ORDER BY due_at LIMIT 1`;
    let statement = this.#nextScheduled.get(sql);
    if (!statement) {
      if (this.#nextScheduled.size > 100) this.#nextScheduled.clear();
      statement = this.#db.prepare(sql);
      this.#nextScheduled.set(sql, statement);
    }
    return statement.get()?.dueAt ?? null;
  }

  /** For tests of the query plan. */
  static sql(queue: string, tasks: readonly string[]): string {
    return `${selectJob} ${candidate(queue, tasks)}`;
  }

  #servedQueues({ queues, excludeQueues }: Served): string[] {
    return this.#queues
      .all()
      .map(({ name }) => name)
      .filter((name) => (queues?.includes(name) ?? true) && !excludeQueues?.includes(name));
  }

  #statement(queue: string, tasks: readonly string[]): Statement<[number, number, number], JobRow> {
    let statements = this.#perQueue.get(tasks);
    if (!statements) {
      statements = new Map();
      this.#perQueue.set(tasks, statements);
    }
    let statement = statements.get(queue);
    if (!statement) {
      statement = this.#db.prepare(Claims.sql(queue, tasks));
      statements.set(queue, statement);
    }
    return statement;
  }
}

/** A text as SQL writes it. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
