/**
 * Claiming, and the queries that look for ready and scheduled jobs.
 *
 * A claim first marks due jobs as ready, in claim order (law 4). It marks a limited number at a time, because a hundred thousand jobs due
 * at the same instant would hold the lock for a second. If some are left over, only jobs that come before all of those may be claimed; the
 * next claim, which `nextDueAt` requests immediately, marks the next ones. A caller whose clock is behind leaves jobs alone that others
 * have marked as ready, and skips them.
 */
import type { Database, Statement } from 'better-sqlite3';
import { comesBefore } from '../../core/job.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { Counts } from './counts.ts';
import { type JobRow, selectJob } from './rows.ts';

/** Selects the jobs that a caller may claim. */
export type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues'>;

/**
 * The latest due time of a job that was marked as ready by any handle of this process. For a clock that is behind, some of these jobs may
 * not be due.
 */
export interface Horizon {
  readyUntil: number;
}

type Place = Pick<JobRow, 'n' | 'priority' | 'dueAt' | 'id'>;
interface Due extends Place {
  readonly queue: string;
  readonly retried: number;
}

/** Maximum number of jobs that a claim marks as ready, which takes a few milliseconds. */
const stageAtOnce = 1_000;
/** More than the number of combinations of tasks and queues in use at a time. */
const mostStatements = 100;

/** The distinct priorities of scheduled jobs, highest first; takes one index step per priority. */
export const scheduledPriorities = `WITH RECURSIVE step (priority) AS (
    SELECT max(priority) FROM escapement_jobs INDEXED BY escapement_scheduled WHERE state = 'scheduled'
    UNION ALL
    SELECT (SELECT max(j.priority) FROM escapement_jobs j INDEXED BY escapement_scheduled WHERE j.state = 'scheduled' AND j.priority < step.priority)
    FROM step WHERE step.priority IS NOT NULL
  )`;
const isDue = "j.state = 'scheduled' AND j.priority = step.priority AND j.due_at <= ?";

// `+due_at` keeps the planner from choosing an index on the due time over the claim order. The task names are part of the text, and the
// queue is in a subquery, because SQLite prepares a statement again on every call if values bound to an index change.
const candidate = (queue: string, tasks: readonly string[]) =>
  `WHERE state = 'ready' AND queue = ${queue} AND +due_at <= ? AND task IN (${tasks.map(quote).join(', ')})
   AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?) ORDER BY priority DESC, due_at, id LIMIT ?`;

/**
 * Statements for the best ready jobs of one queue; for those of several queues, with up to `limit` jobs from each; and for the queues whose
 * first jobs are the best.
 */
interface Candidates {
  readonly ofOne: Statement<[string, number, number, number], JobRow>;
  readonly ofSeveral: Statement<[string, number, number, number, number], JobRow>;
  readonly queues: Statement<[string, number, number, number, number], { queue: string }>;
}

export class Claims {
  readonly #db: Database;
  readonly #counts: Counts;
  readonly #horizon: Horizon;
  readonly #perTasks = new WeakMap<readonly string[], Candidates>();
  readonly #readyQueues: Statement<[], { queue: string }>;
  readonly #duePriorities: Statement<[number], { priority: number }>;
  readonly #due: Statement<[number, number, number], Due>;
  readonly #stage: Statement<[string]>;
  readonly #nextDue = new Map<string, Statement<[number, number], { at: number | null }>>();

  constructor(db: Database, counts: Counts, horizon: Horizon) {
    this.#horizon = horizon;
    this.#db = db;
    this.#counts = counts;
    // One index step for each queue that has a ready job.
    this.#readyQueues = db.prepare(
      `WITH RECURSIVE step (queue) AS (
         SELECT min(queue) FROM escapement_jobs INDEXED BY escapement_ready WHERE state = 'ready'
         UNION ALL
         SELECT (SELECT min(j.queue) FROM escapement_jobs j INDEXED BY escapement_ready WHERE j.state = 'ready' AND j.queue > step.queue)
         FROM step WHERE step.queue IS NOT NULL
       ) SELECT queue FROM step WHERE queue IS NOT NULL AND NOT EXISTS (SELECT 1 FROM escapement_queues WHERE name = step.queue AND paused = 1)`,
    );
    this.#duePriorities = db.prepare(
      `${scheduledPriorities} SELECT priority FROM step
       WHERE priority IS NOT NULL AND EXISTS (SELECT 1 FROM escapement_jobs j INDEXED BY escapement_scheduled WHERE ${isDue})`,
    );
    this.#due = db.prepare(
      `SELECT n, id, priority, due_at AS dueAt, queue, attempt > 0 AS retried FROM escapement_jobs INDEXED BY escapement_scheduled
       WHERE state = 'scheduled' AND priority = (SELECT ?) AND due_at <= (SELECT ?) ORDER BY due_at, id LIMIT ?`,
    );
    this.#stage = db.prepare("UPDATE escapement_jobs SET state = 'ready' WHERE n IN (SELECT value FROM json_each(?))");
  }

  /** Marks due jobs as ready, then returns the rows of the best ready jobs, up to `limit`. Call it in a write transaction. */
  take(served: Served, now: number, limit: number): JobRow[] {
    const last = this.#stageDue(now, Math.max(limit, stageAtOnce));
    const rows = this.#candidates(served, now, limit);
    return last ? rows.filter((row) => !comesBefore(last, row)) : rows;
  }

  /** The earliest due time of a job that the caller may claim; `now` if one is ready. */
  nextDueAt(served: Served, now: number): number | null {
    if (served.tasks.length === 0 || served.queues?.length === 0) return null;
    if (this.#candidates(served, now, 1).length > 0) return now;
    const at = this.#nextDueOf('scheduled', served).get(now, now)?.at ?? null;
    // Workers whose clocks are ahead may have marked it as ready.
    const ready = now < this.#horizon.readyUntil ? (this.#nextDueOf('ready', served).get(now, now)?.at ?? null) : null;
    const next = at === null || ready === null ? (at ?? ready) : Math.min(at, ready);
    return next === null ? null : Math.max(next, now);
  }

  /** For tests of the query plan. */
  static sql(tasks: readonly string[]): string {
    return `${selectJob} ${candidate('(SELECT ?)', tasks)}`;
  }

  /** Returns the last job that was marked as ready if more are due. */
  #stageDue(now: number, limit: number): Place | undefined {
    const priorities = this.#duePriorities.all(now);
    if (priorities.length === 0) return undefined;
    const due: Due[] = [];
    for (const { priority } of priorities) if (due.length <= limit) due.push(...this.#due.all(priority, now, limit + 1 - due.length));
    const staged = due.slice(0, limit);
    for (const { queue, retried, dueAt } of staged) {
      this.#counts.add(queue, retried ? 'retrying' : 'scheduled', -1);
      this.#counts.add(queue, 'ready', 1);
      this.#horizon.readyUntil = Math.max(this.#horizon.readyUntil, dueAt);
    }
    this.#stage.run(JSON.stringify(staged.map(({ n }) => n)));
    return due.length > limit ? staged.at(-1) : undefined;
  }

  #candidates(served: Served, now: number, limit: number): JobRow[] {
    if (limit <= 0 || served.tasks.length === 0) return [];
    const statements = this.#statements(served.tasks);
    let queues = this.#servedQueues(served);
    // The best jobs are in the queues with the best first jobs.
    if (queues.length > limit) queues = statements.queues.all(JSON.stringify(queues), now, now, 1, limit).map(({ queue }) => queue);
    const [only] = queues;
    if (only === undefined) return [];
    if (queues.length === 1) return statements.ofOne.all(only, now, now, limit);
    return statements.ofSeveral.all(JSON.stringify(queues), now, now, limit, limit);
  }

  #servedQueues({ queues, excludeQueues }: Served): string[] {
    return this.#readyQueues
      .all()
      .map(({ queue }) => queue)
      .filter((name) => (queues?.includes(name) ?? true) && !excludeQueues?.includes(name));
  }

  #statements(tasks: readonly string[]): Candidates {
    let statements = this.#perTasks.get(tasks);
    if (!statements) {
      const best = `(SELECT n FROM escapement_jobs ${candidate('q.value', tasks)})`;
      const bestOf = (what: string, which: string) =>
        `SELECT ${what} FROM json_each(?) q CROSS JOIN escapement_jobs j WHERE j.n ${which} ${best} ORDER BY j.priority DESC, j.due_at, j.id LIMIT ?`;
      statements = {
        ofOne: this.#db.prepare(Claims.sql(tasks)),
        ofSeveral: this.#db.prepare(`${selectJob} WHERE n IN (${bestOf('j.n', 'IN')}) ORDER BY priority DESC, due_at, id`),
        queues: this.#db.prepare(bestOf('j.queue', '=')),
      };
      this.#perTasks.set(tasks, statements);
    }
    return statements;
  }

  #nextDueOf(state: 'scheduled' | 'ready', { tasks, queues, excludeQueues }: Served): Statement<[number, number], { at: number | null }> {
    const names = (list: readonly string[]) => list.map(quote).join(', ');
    const served = `task IN (${names(tasks)}) ${queues ? `AND queue IN (${names(queues)})` : ''}
      ${excludeQueues?.length ? `AND queue NOT IN (${names(excludeQueues)})` : ''}
      AND queue NOT IN (SELECT name FROM escapement_queues WHERE paused = 1)
      AND (due_at > ? OR expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?)`;
    const sql =
      state === 'ready'
        ? `SELECT min(due_at) AS at FROM escapement_jobs WHERE state = 'ready' AND ${served}`
        : `${scheduledPriorities} SELECT min((SELECT due_at FROM escapement_jobs j INDEXED BY escapement_scheduled
             WHERE state = 'scheduled' AND j.priority = step.priority AND ${served} ORDER BY due_at LIMIT 1)) AS at
           FROM step WHERE priority IS NOT NULL`;
    let statement = this.#nextDue.get(sql);
    if (!statement) {
      if (this.#nextDue.size >= mostStatements) this.#nextDue.clear();
      statement = this.#db.prepare(sql);
      this.#nextDue.set(sql, statement);
    }
    return statement;
  }
}

/** Quotes a text for SQL. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
