/**
 * Which jobs a claim takes, and in which order, and the queries that look for ready and scheduled jobs. `work.ts` marks them as running.
 *
 * A claim first marks due jobs as ready, in claim order (law 4). It marks a limited number at a time, because a hundred thousand jobs due
 * at the same instant would hold the lock for a second. If some are left over, only jobs that come before all of those may be claimed; the
 * next claim, which `nextDueAt` requests immediately, marks the next ones. A caller whose clock is behind leaves jobs alone that others
 * have marked as ready, and skips them.
 */
import type { Database, Statement } from 'better-sqlite3';
import { agingOf, Gate, gateOf, noLimits, type RunningCount, taskOfGate } from '../../core/gate.ts';
import { comesBefore } from '../../core/job.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { Counts } from './counts.ts';
import { hasMore, plainRows, type ReadyRow, type SqliteRow, selectJob, selectReady } from './rows.ts';

/** Selects the jobs that a caller may claim. */
export type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues' | 'limits'>;

/**
 * The latest due time of a job that was marked as ready by any handle of this process. For a clock that is behind, some of these jobs may
 * not be due.
 */
export interface Horizon {
  readyUntil: number;
}

type Place = Pick<SqliteRow, 'n' | 'priority' | 'dueAt' | 'id'>;
interface Due extends Place {
  readonly queue: string;
  readonly retried: number;
}

/** Maximum number of jobs that a claim marks as ready, which takes a few milliseconds. */
const stageAtOnce = 1_000;
/** How many gates a sweep checks, and how many jobs of one gate it unblocks. */
const gatesAtOnce = 32;
const maxUnblocked = 1_000;
/** How many keys of a task share its limit: finding them takes a few milliseconds. */
const maxKeys = 1_000;
/** Larger than the number of task and queue combinations in use at a time. */
const maxStatements = 100;

/** The distinct priorities of scheduled jobs, highest first; takes one index step per priority. */
export const scheduledPriorities = `WITH RECURSIVE step (priority) AS (
    SELECT max(priority) FROM escapement_jobs INDEXED BY escapement_scheduled WHERE state = 'scheduled'
    UNION ALL
    SELECT (SELECT max(j.priority) FROM escapement_jobs j INDEXED BY escapement_scheduled WHERE j.state = 'scheduled' AND j.priority < step.priority)
    FROM step WHERE step.priority IS NOT NULL
  )`;
/** The distinct priorities of a queue's ready jobs; takes one index step per priority. A queue has few priorities but may have a million jobs. */
export const readyPriorities = `WITH RECURSIVE step (queue, priority) AS (
    SELECT given.name, (SELECT max(priority) FROM escapement_jobs WHERE state = 'ready' AND blocked_by IS NULL AND queue = given.name) FROM (SELECT ? AS name) given
    UNION ALL
    SELECT step.queue, (SELECT max(priority) FROM escapement_jobs j WHERE state = 'ready' AND j.blocked_by IS NULL AND j.queue = step.queue AND j.priority < step.priority)
    FROM step WHERE step.priority IS NOT NULL
  ) SELECT priority FROM step WHERE priority IS NOT NULL`;
const isDue = "j.state = 'scheduled' AND j.priority = step.priority AND j.due_at <= ?";

// `+due_at` keeps the planner from choosing an index on the due time over the claim order. The task names are part of the text, the queue is in
// a subquery, and `+?` hides the limit from the planner, here as in all statements: SQLite prepares a statement again on every call, which takes
// ten times as long as a claim, if a value that the planner has looked at is bound again.
const candidate = (queue: string, tasks: readonly string[]) =>
  `WHERE state = 'ready' AND blocked_by IS NULL AND queue = ${queue} AND +due_at <= ? AND task IN (${tasks.map(quote).join(', ')})
   AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?) ORDER BY priority DESC, due_at, id LIMIT +?`;

/**
 * Statements for the best ready jobs of one queue; for those of several queues, with up to `limit` jobs from each; and for the queues whose
 * first jobs are the best.
 */
interface Candidates {
  readonly ofOne: Statement<[string, number, number, number], ReadyRow>;
  readonly ofSeveral: Statement<[string, number, number, number, number], SqliteRow>;
  readonly queues: Statement<[string, number, number, number, number], { queue: string }>;
  /** The jobs of one queue and priority that are due before an instant. */
  readonly aged: Statement<[string, number, number, number, number], SqliteRow>;
}

export class Claims {
  readonly #db: Database;
  readonly #counts: Counts;
  readonly #horizon: Horizon;
  readonly #perTasks = new WeakMap<readonly string[], Candidates>();
  /** The first and the last queue with ready jobs, by name; null if none has any. */
  readonly #readyRange: Statement<[], { first: string | null; last: string | null }>;
  readonly #isPaused: Statement<[string], unknown>;
  readonly #anyScheduled: Statement<[], unknown>;
  readonly #readyQueues: Statement<[], { queue: string }>;
  readonly #duePriorities: Statement<[number], { priority: number }>;
  readonly #due: Statement<[number, number, number], Due>;
  readonly #stage: Statement<[string]>;
  readonly #rows: Statement<[string], SqliteRow>;
  readonly #parts = new Map<string, readonly string[]>();
  #sweptTo = '';
  readonly #running: Statement<[], RunningCount>;
  readonly #rate: Statement<[string], { arrivalAt: number }>;
  readonly #saveRate: Statement<[string, number]>;
  readonly #forgetRates: Statement<[number]>;
  readonly #block: Statement<[string, number]>;
  readonly #unblock: Statement<[string, number]>;
  readonly #anyBlocked: Statement<[], unknown>;
  readonly #nextGate: Statement<[string], { name: string | null }>;
  readonly #nextKey: Statement<[string, string, string], { queue: string; key: string; dueAt: number }>;
  readonly #paused: Statement<[], { name: string }>;
  readonly #priorities: Statement<[string], { priority: number }>;
  readonly #nextDue = new Map<string, Statement<[number, number], { at: number | null }>>();

  constructor(db: Database, counts: Counts, horizon: Horizon) {
    this.#horizon = horizon;
    this.#db = db;
    this.#counts = counts;
    this.#running = db.prepare(
      `SELECT queue, task, concurrency_key AS concurrencyKey, count(*) AS count FROM escapement_jobs INDEXED BY escapement_leases
       WHERE state = 'running' GROUP BY queue, task, concurrency_key`,
    );
    this.#rate = db.prepare('SELECT arrival_at AS arrivalAt FROM escapement_rates WHERE name = ?');
    this.#saveRate = db.prepare('INSERT OR REPLACE INTO escapement_rates VALUES (?, ?)');
    this.#forgetRates = db.prepare('DELETE FROM escapement_rates WHERE arrival_at < ?');
    this.#block = db.prepare('UPDATE escapement_jobs SET blocked_by = ? WHERE n = ?');
    this.#unblock = db.prepare(
      `UPDATE escapement_jobs SET blocked_by = NULL WHERE n IN
         (SELECT n FROM escapement_jobs WHERE blocked_by = (SELECT ?) ORDER BY priority DESC, due_at, id LIMIT +?)`,
    );
    this.#anyBlocked = db.prepare('SELECT 1 FROM escapement_jobs INDEXED BY escapement_blocked WHERE blocked_by IS NOT NULL LIMIT 1');
    this.#nextGate = db.prepare('SELECT min(blocked_by) AS name FROM escapement_jobs WHERE blocked_by > ?');
    this.#nextKey = db.prepare(
      `SELECT queue, concurrency_key AS key, due_at AS dueAt FROM escapement_jobs INDEXED BY escapement_keys
       WHERE task = (SELECT ?) AND (queue, concurrency_key) > ((SELECT ?), (SELECT ?)) AND concurrency_key IS NOT NULL AND state IN ('ready', 'scheduled')
       ORDER BY queue, concurrency_key, due_at LIMIT 1`,
    );
    this.#paused = db.prepare('SELECT name FROM escapement_queues WHERE paused = 1');
    this.#priorities = db.prepare(readyPriorities);
    const ready = "FROM escapement_jobs INDEXED BY escapement_ready WHERE state = 'ready' AND blocked_by IS NULL";
    this.#readyRange = db.prepare(
      `SELECT (SELECT queue ${ready} ORDER BY queue LIMIT 1) AS first, (SELECT queue ${ready} ORDER BY queue DESC LIMIT 1) AS last`,
    );
    this.#isPaused = db.prepare('SELECT 1 FROM escapement_queues WHERE name = (SELECT ?) AND paused = 1');
    this.#anyScheduled = db.prepare("SELECT 1 FROM escapement_jobs INDEXED BY escapement_scheduled WHERE state = 'scheduled' LIMIT 1");
    // One index step for each queue that has a ready job.
    this.#readyQueues = db.prepare(
      `WITH RECURSIVE step (queue) AS (
         SELECT min(queue) FROM escapement_jobs INDEXED BY escapement_ready WHERE state = 'ready' AND blocked_by IS NULL
         UNION ALL
         SELECT (SELECT min(j.queue) FROM escapement_jobs j INDEXED BY escapement_ready
            WHERE j.state = 'ready' AND j.blocked_by IS NULL AND j.queue > step.queue)
         FROM step WHERE step.queue IS NOT NULL
       ) SELECT queue FROM step WHERE queue IS NOT NULL AND NOT EXISTS (SELECT 1 FROM escapement_queues WHERE name = step.queue AND paused = 1)`,
    );
    this.#duePriorities = db.prepare(
      `${scheduledPriorities} SELECT priority FROM step
       WHERE priority IS NOT NULL AND EXISTS (SELECT 1 FROM escapement_jobs j INDEXED BY escapement_scheduled WHERE ${isDue})`,
    );
    this.#due = db.prepare(
      `SELECT n, id, priority, due_at AS dueAt, queue, attempt > 0 AS retried FROM escapement_jobs INDEXED BY escapement_scheduled
       WHERE state = 'scheduled' AND priority = (SELECT ?) AND due_at <= (SELECT ?) ORDER BY due_at, id LIMIT +?`,
    );
    this.#rows = db.prepare(`${selectJob} WHERE n IN (SELECT value FROM json_each(?))`);
    this.#stage = db.prepare("UPDATE escapement_jobs SET state = 'ready' WHERE n IN (SELECT value FROM json_each(?))");
  }

  /** Marks due jobs as ready, then returns the rows of the best ready jobs, up to `limit`. Call it in a write transaction. */
  take(served: Served, now: number, limit: number): SqliteRow[] {
    const last = this.#stageDue(now, Math.max(limit, stageAtOnce));
    const rows = this.#candidates(served, now, limit);
    return last ? rows.filter((row) => !comesBefore(last, row)) : rows;
  }

  /** The gate for a caller with these limits, at this instant. */
  gate(served: Served, now: number, slots = 1): Gate {
    const keys = (task: string) => this.#dueKeys(served, task, now);
    return new Gate(served.limits ?? noLimits, this.#running.all(), now, (name) => this.#rate.get(name)?.arrivalAt, { slots, keys });
  }

  /** The keys of a task for which there are due jobs in the caller's queues. */
  *#dueKeys(served: Served, task: string, now: number): Iterable<string> {
    const paused = new Set(this.#paused.all().map(({ name }) => name));
    let [queue, key] = ['', ''];
    for (let i = 0; i < maxKeys; i++) {
      const next = this.#nextKey.get(task, queue, key);
      if (!next) return;
      ({ queue, key } = next);
      if (next.dueAt <= now && isServed(served, queue) && !paused.has(queue)) yield key;
    }
  }

  /** The jobs in queues with aging that have been due for at least the aging time, oldest first. Call it in a write transaction. */
  aged(served: Served, now: number, limit: number): SqliteRow[] {
    const aging = agingOf(served.limits ?? noLimits).filter(([queue]) => isServed(served, queue));
    if (aging.length === 0 || served.tasks.length === 0) return [];
    this.#stageDue(now, Math.max(limit, stageAtOnce));
    const open = new Set(this.#servedQueues(served));
    const { aged } = this.#statements(served.tasks);
    return aging.flatMap(([queue, agingMs]) => {
      if (!open.has(queue)) return [];
      const rows = this.#priorities.all(queue).flatMap(({ priority }) => aged.all(queue, priority, now - agingMs, now, limit));
      return rows.sort((a, b) => a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1)).slice(0, limit);
    });
  }

  /** The tasks and queues that a caller serves, without those that a gate has closed. */
  open({ tasks, queues, excludeQueues = [], limits }: Served, gate: Gate): Served {
    const openTasks = tasks.filter((task) => !limits?.tasks[task] || gate.taskClosedUntil(task) === null);
    const closedQueues = Object.keys(limits?.queues ?? {}).filter((queue) => gate.queueClosedUntil(queue) !== null);
    return {
      tasks: openTasks.length === tasks.length ? tasks : this.#part(openTasks),
      queues,
      excludeQueues: closedQueues.length === 0 ? excludeQueues : [...excludeQueues, ...closedQueues],
    };
  }

  /** Returns the same array for the same tasks: statements are cached by array. */
  #part(tasks: readonly string[]): readonly string[] {
    const key = tasks.join(' ');
    let part = this.#parts.get(key);
    if (!part) {
      if (this.#parts.size >= maxStatements) this.#parts.clear();
      part = tasks;
      this.#parts.set(key, part);
    }
    return part;
  }

  /** Unblocks the first blocked jobs of a gate, in claim order. */
  unblock(gate: string, count = 1): number {
    return this.#unblock.run(gate, Math.min(count, maxUnblocked)).changes;
  }

  /** True if any job is blocked. In most stores, none is. */
  hasBlocked(): boolean {
    return this.#anyBlocked.get() !== undefined;
  }

  /**
   * Unblocks jobs whose gates have room, for a caller that found nothing else to claim. Each sweep checks a limited number of gates and
   * continues where the previous one stopped. Returns true if it unblocked a job.
   */
  sweep({ tasks }: Served, gate: Gate): boolean {
    let count = 0;
    for (const name of this.#blockedGates(tasks)) {
      const free = gate.freeAt(name);
      if (free > 0) count += this.unblock(name, free);
      this.#sweptTo = name;
    }
    return count > 0;
  }

  *#blockedGates(tasks: readonly string[]): Iterable<string> {
    let after = this.#sweptTo;
    let isRound = after === '';
    for (let i = 0; i < gatesAtOnce; i++) {
      const name = this.#nextGate.get(after)?.name ?? null;
      if (name === null && isRound) {
        this.#sweptTo = '';
        return;
      }
      if (name === null) {
        isRound = true;
        after = '';
        continue;
      }
      after = name;
      if (tasks.includes(taskOfGate(name))) yield name;
    }
  }

  /** Excludes ready jobs from claims until their gates have room. */
  block(rows: readonly SqliteRow[]): void {
    for (const row of rows) this.#block.run(gateOf(row), row.n);
  }

  saveRates(changed: ReadonlyMap<string, number>): void {
    for (const [name, arrivalAt] of changed) this.#saveRate.run(name, arrivalAt);
  }

  /** Rates in the past do not affect later ones. */
  forgetRates(before: number): void {
    this.#forgetRates.run(before);
  }

  /** The earliest due time of a job that the caller may claim; `now` if one is ready. */
  nextDueAt(requested: Served, now: number): number | null {
    if (requested.tasks.length === 0 || requested.queues?.length === 0) return null;
    const hasBlocked = this.hasBlocked();
    if (!requested.limits && !hasBlocked) return this.#nextDueAt(requested, now);
    const gate = this.gate(requested, now);
    if (hasBlocked) for (const name of this.#blockedGates(requested.tasks)) if (gate.freeAt(name) > 0) return now;
    const open = this.open(requested, gate);
    const openAt = this.#nextDueAt(open, now);
    if (openAt === now) return now;
    // Closed queues and tasks matter if they have due jobs when they open, or jobs that become due later.
    const at = Math.min(
      openAt ?? Number.POSITIVE_INFINITY,
      this.#opensAt(requested, open, gate, now),
      this.#nextScheduled(requested, now, true) ?? Number.POSITIVE_INFINITY,
    );
    return at === Number.POSITIVE_INFINITY ? null : at;
  }

  /** The earliest time at which a closed queue or task with a due job opens without outside action. */
  #opensAt(requested: Served, open: Served, gate: Gate, now: number): number {
    let opensAt = Number.POSITIVE_INFINITY;
    const check = (served: Served, at: number) => {
      if (at < opensAt && this.#nextDueAt(served, now) === now) opensAt = at;
    };
    const closedTasks = requested.tasks.filter((task) => !open.tasks.includes(task));
    for (const task of closedTasks) check({ ...open, tasks: this.#part([task]) }, gate.taskClosedUntil(task) ?? now);
    for (const queue of Object.keys(requested.limits?.queues ?? {})) {
      const at = gate.queueClosedUntil(queue);
      if (at === null || !isServed(requested, queue)) continue;
      check({ tasks: open.tasks, queues: [queue] }, at);
      for (const task of closedTasks)
        check({ tasks: this.#part([task]), queues: [queue] }, Math.max(at, gate.taskClosedUntil(task) ?? now));
    }
    return opensAt;
  }

  #nextDueAt(served: Served, now: number): number | null {
    if (served.tasks.length === 0) return null;
    if (this.#candidates(served, now, 1).length > 0) return now;
    const next = this.#nextScheduled(served, now);
    return next === null ? null : Math.max(next, now);
  }

  /** @param isLater consider only jobs that are not due yet */
  #nextScheduled(served: Served, now: number, isLater = false): number | null {
    const at = this.#anyScheduled.get() ? (this.#nextDueOf('scheduled', served, isLater).get(now, now)?.at ?? null) : null;
    // A worker whose clock is ahead may have marked the job as ready.
    const ready = now < this.#horizon.readyUntil ? (this.#nextDueOf('ready', served, isLater).get(now, now)?.at ?? null) : null;
    return at === null || ready === null ? (at ?? ready) : Math.min(at, ready);
  }

  /** For tests of the query plan. */
  static sql(tasks: readonly string[]): string {
    return `${selectReady} ${candidate('(SELECT ?)', tasks)}`;
  }

  /** Returns the last job that was marked as ready if more are due. */
  #stageDue(now: number, limit: number): Place | undefined {
    const priorities = this.#anyScheduled.get() ? this.#duePriorities.all(now) : [];
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

  #candidates(served: Served, now: number, limit: number): SqliteRow[] {
    if (limit <= 0 || served.tasks.length === 0) return [];
    const statements = this.#statements(served.tasks);
    let queues = this.#servedQueues(served);
    // The best jobs are in the queues with the best first jobs.
    if (queues.length > limit) queues = statements.queues.all(JSON.stringify(queues), now, now, 1, limit).map(({ queue }) => queue);
    const [only] = queues;
    if (only === undefined) return [];
    if (queues.length === 1) return this.#whole(statements.ofOne.all(only, now, now, limit), only);
    return statements.ofSeveral.all(JSON.stringify(queues), now, now, limit, limit);
  }

  #whole(rows: readonly ReadyRow[], queue: string): SqliteRow[] {
    const plain = plainRows(rows, queue);
    const keys = rows.filter(hasMore).map(([n]) => n);
    if (keys.length === 0) return plain;
    const found = new Map(this.#rows.all(JSON.stringify(keys)).map((row) => [row.n, row]));
    return plain.map((row) => found.get(row.n) ?? row);
  }

  #servedQueues(served: Served): string[] {
    const { first = null, last } = this.#readyRange.get() ?? {};
    if (first === null) return [];
    // Usually there is one, and a recursive query takes three times as long to find that out.
    const queues = first === last ? (this.#isPaused.get(first) ? [] : [first]) : this.#readyQueues.all().map(({ queue }) => queue);
    return queues.filter((name) => isServed(served, name));
  }

  #statements(tasks: readonly string[]): Candidates {
    let statements = this.#perTasks.get(tasks);
    if (!statements) {
      const best = `(SELECT n FROM escapement_jobs ${candidate('q.value', tasks)})`;
      const bestOf = (what: string, which: string) =>
        `SELECT ${what} FROM json_each(?) q CROSS JOIN escapement_jobs j WHERE j.n ${which} ${best} ORDER BY j.priority DESC, j.due_at, j.id LIMIT +?`;
      statements = {
        ofOne: this.#db.prepare<[string, number, number, number], ReadyRow>(Claims.sql(tasks)).raw(),
        ofSeveral: this.#db.prepare(`${selectJob} WHERE n IN (${bestOf('j.n', 'IN')}) ORDER BY priority DESC, due_at, id`),
        queues: this.#db.prepare(bestOf('j.queue', '=')),
        aged: this.#db.prepare(
          `${selectJob} WHERE state = 'ready' AND blocked_by IS NULL AND queue = (SELECT ?) AND priority = (SELECT ?) AND due_at <= (SELECT ?)
           AND task IN (${tasks.map(quote).join(', ')}) AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?)
           ORDER BY due_at, id LIMIT +?`,
        ),
      };
      this.#perTasks.set(tasks, statements);
    }
    return statements;
  }

  #nextDueOf(
    state: 'scheduled' | 'ready',
    { tasks, queues, excludeQueues }: Served,
    isLater: boolean,
  ): Statement<[number, number], { at: number | null }> {
    const names = (list: readonly string[]) => list.map(quote).join(', ');
    const served = `task IN (${names(tasks)}) ${queues ? `AND queue IN (${names(queues)})` : ''}
      ${excludeQueues?.length ? `AND queue NOT IN (${names(excludeQueues)})` : ''}
      AND queue NOT IN (SELECT name FROM escapement_queues WHERE paused = 1)
      AND (due_at > ? ${isLater ? 'AND ? > 0' : 'OR expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?'})`;
    const sql =
      state === 'ready'
        ? `SELECT min(due_at) AS at FROM escapement_jobs WHERE state = 'ready' AND blocked_by IS NULL AND ${served}`
        : `${scheduledPriorities} SELECT min((SELECT due_at FROM escapement_jobs j INDEXED BY escapement_scheduled
             WHERE state = 'scheduled' AND j.priority = step.priority AND ${served} ORDER BY due_at LIMIT 1)) AS at
           FROM step WHERE priority IS NOT NULL`;
    let statement = this.#nextDue.get(sql);
    if (!statement) {
      if (this.#nextDue.size >= maxStatements) this.#nextDue.clear();
      statement = this.#db.prepare(sql);
      this.#nextDue.set(sql, statement);
    }
    return statement;
  }
}

function isServed({ queues, excludeQueues }: Served, queue: string): boolean {
  return (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue);
}

/** Quotes a text for SQL. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
