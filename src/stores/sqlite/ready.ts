/**
 * The store's operations on one handle, either the engine's or one of the application's: claim, settle, amend, insert, prune. They run
 * inside a transaction that the caller has started, and write their changes to the counts before it commits.
 */
import type { Database, Statement } from 'better-sqlite3';
import { defaultBackoff } from '../../core/backoff.ts';
import { repeated } from '../../core/changes.ts';
import { decide, type Outcome } from '../../core/decide.ts';
import { amended, claimed, isFenced, mostAttempts, pruneAt, settled } from '../../core/job.ts';
import type { Amendment, Attempt, Job, Settlement } from '../../core/types.ts';
import type { Advance, ClaimOptions, Held, PruneOptions, RenewAnswer, Taken } from '../../ports/store.ts';
import { Claims, type Horizon } from './claims.ts';
import { Counts, countedAs, stateOf } from './counts.ts';
import { Reads } from './reads.ts';
import {
  type AttemptRow,
  attemptOf,
  changes,
  editJob,
  insertJob,
  insertValues,
  type JobRow,
  jobOf,
  lastAttemptOf,
  updateJob,
} from './rows.ts';
import { Schedules } from './schedules.ts';

type Values = unknown[];

/** A finished job and its size. */
interface Prunable {
  readonly id: string;
  readonly queue: string;
  readonly claim: number;
  readonly bytes: number;
}

/** How many were deleted, and whether more remain because of their size. */
export interface Pruned {
  readonly count: number;
  readonly more: boolean;
}

/** A prune transaction deletes at most this much, plus one row. */
const mostPrunedBytes = 4_000_000;

/** The statements on one handle and the operations that use them. Everything runs inside a transaction that the caller has started. */
export class Ready {
  readonly counts: Counts;
  readonly claims: Claims;
  readonly reads: Reads;
  readonly schedules: Schedules;
  readonly statements: Statements;
  readonly #db: Database;
  readonly #horizon: Horizon;

  constructor(db: Database, horizon: Horizon) {
    this.#db = db;
    this.#horizon = horizon;
    this.counts = new Counts(db);
    this.claims = new Claims(db, this.counts, horizon);
    this.reads = new Reads(db, horizon);
    this.schedules = new Schedules(db);
    this.statements = prepare(db);
  }

  /** Runs `fn` and writes its changes to the counts; discards them if it throws. */
  counted<T>(fn: () => T): T {
    try {
      const value = fn();
      this.counts.save();
      return value;
    } catch (error) {
      this.counts.forget();
      throw error;
    }
  }

  /**
   * Takes the write lock if the transaction does not have it. A transaction that reads first may be refused the lock if others have written
   * since.
   */
  lock(): void {
    this.statements.lock.run();
  }

  /** Runs `fn` in a savepoint, so that it can fail without affecting the rest of the transaction. Returns the error, if any. */
  inSavepoint(fn: () => void): { readonly error: unknown } | undefined {
    this.#db.exec('SAVEPOINT escapement_part');
    try {
      this.counted(fn);
      this.#db.exec('RELEASE escapement_part');
      return undefined;
    } catch (error) {
      // On a full disk or an I/O error, SQLite has rolled back the whole transaction.
      if (!this.#db.inTransaction) throw error;
      this.#db.exec('ROLLBACK TO escapement_part; RELEASE escapement_part');
      return { error };
    }
  }

  /** @param once skips jobs whose ids exist already, and returns the existing ones */
  insert(jobs: readonly Job[], now: number, once = false): Taken | undefined {
    if (!once) {
      this.#insert(jobs, now);
      return undefined;
    }
    return jobs.map((job) => {
      const [there = null] = this.reads.get([job.id]);
      if (!there) this.#insert([job], now);
      return there;
    });
  }

  #insert(jobs: readonly Job[], now: number): void {
    for (const job of jobs) {
      const state = stateOf(job, now);
      this.statements.insert.run(...insertValues(job, state));
      this.counts.add(job.queue, state, 1);
      this.#madeReady(job, now);
    }
  }

  /** @param quarantined receives the jobs that cannot be read: they fail here with a reason, so that the jobs after them run */
  claim(options: ClaimOptions & { now: number }, quarantined: Job[]): readonly Job[] {
    if (options.limit <= 0) return [];
    const rows = this.claims.take(options, options.now, options.limit);
    if (rows.length === 0) return [];
    for (const row of rows) if (row.claim > 0) this.#keepAttempt(row);
    const keys = JSON.stringify(rows.map(({ n }) => n));
    const { worker, leaseUntil, now } = options;
    this.statements.claim.run(worker, leaseUntil, now, now, keys);
    const jobs: Job[] = [];
    const failures: Settlement[] = [];
    for (const row of rows) {
      this.counts.add(row.queue, 'ready', -1);
      this.counts.add(row.queue, 'running', 1);
      const faults: string[] = [];
      const job = claimed(jobOf(row, faults), worker, now, leaseUntil);
      if (faults.length === 0) jobs.push(job);
      else failures.push(decide(job, defaultBackoff, unreadable(job, faults), now, 0));
    }
    if (failures.length > 0) this.settle(failures, now, quarantined);
    return jobs;
  }

  renew({ id, claim, progress }: Held, leaseUntil: number): RenewAnswer {
    const row = this.statements.renew.get(leaseUntil, progress ? JSON.stringify(progress) : null, id, claim);
    if (!row) return { kind: 'lost' };
    return row.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: row.cancelRequested };
  }

  /** @param changed receives the rows of the settlements that were applied */
  settle(settlements: readonly Settlement[], now: number, changed: Job[]): (Job | null)[] {
    const rows = new Map(this.reads.rows(settlements.map(({ id }) => id)).map((row) => [row.id, row]));
    // If several settlements are for one job, each sees the row that the previous one left.
    const isRepeated = rows.size < settlements.length;
    return settlements.map((settlement) => {
      const row = rows.get(settlement.id);
      if (!row) return null;
      if (row.state !== 'running' || isFenced(row, settlement)) return this.#repeated(row, settlement);
      if (settlement.confirm) return null;
      const job = settled(jobOf(row), settlement);
      const state = stateOf(job, now);
      this.#madeReady(job, now);
      this.#settle(row, job, state, settlement);
      this.#count(row, state, job.attempt);
      if (isRepeated) for (const after of this.reads.rows([job.id])) rows.set(job.id, after);
      changed.push(job);
      return job;
    });
  }

  #settle({ n, attempt, dueAt }: JobRow, job: Job, state: JobRow['state'], { outcome, settledAt, error }: Settlement): void {
    if (outcome === 'successful' && job.attempt === attempt && job.dueAt === dueAt) {
      const progress = job.progress && JSON.stringify(job.progress);
      this.statements.succeed.run({ n, at: settledAt, value: job.returnValue, progress, pruneAt: pruneAt(job) });
    } else this.statements.settle.run(...changes(job, state), settledAt, outcome, error && JSON.stringify(error), n);
  }

  amend(amendment: Amendment, now: number): Job | null {
    const [row] = this.reads.rows([amendment.id]);
    const job = row && amended(jobOf(row), amendment);
    if (!row || !job) return null;
    if (amendment.set === null) {
      this.counts.add(row.queue, countedAs(row.state, row.attempt), -1);
      if (row.claim > 1) this.statements.pruneAttempts.run(row.id);
      this.statements.prune.run(JSON.stringify([row.id]));
      return job;
    }
    const state = stateOf(job, now);
    this.#madeReady(job, now);
    this.statements.update.run(...changes(job, state), row.n);
    const { input, queue, runAfter } = amendment.set;
    // Large inputs are not rewritten with every change.
    if (input !== undefined || queue !== undefined || runAfter !== undefined)
      this.statements.edit.run(job.queue, job.input, job.runAfter, row.n);
    this.#count(row, state, job.attempt, job.queue);
    return job;
  }

  /** Deletes no more at a time than takes a few milliseconds: many rows, or a few large ones. */
  prune({ status, finishedBefore, limit, own }: PruneOptions): Pruned {
    const finished = this.statements.finished[own ?? 'both'].all({ status, before: finishedBefore, limit });
    let bytes = 0;
    let count = 0;
    while (count < finished.length && bytes < mostPrunedBytes) bytes += (finished[count++] as Prunable).bytes;
    const pruned = finished.slice(0, count);
    for (const { id, queue, claim } of pruned) {
      this.counts.add(queue, status, -1);
      if (claim > 1) this.statements.pruneAttempts.run(id);
    }
    this.statements.prune.run(JSON.stringify(pruned.map(({ id }) => id)));
    // Nothing is left to prune: remove the counts of queues that have no jobs.
    if (count < limit && count === finished.length) this.counts.forgetEmpty();
    return { count, more: count < finished.length };
  }

  /** Returns the jobs that it inserted; null if another scheduler was faster. */
  advance(advance: Advance, now: number): readonly Job[] | null {
    if (!this.schedules.advance(advance)) return null;
    const jobs = advance.jobs.filter((job) => !this.schedules.isTaken(job));
    this.insert(jobs, now);
    return jobs;
  }

  #madeReady({ status, dueAt }: Job, now: number): void {
    if (status === 'queued' && dueAt <= now && dueAt > this.#horizon.readyUntil) this.#horizon.readyUntil = dueAt;
  }

  /** Moves the latest attempt out of the job's row to make room for the next. */
  #keepAttempt(row: JobRow): void {
    const attempt = lastAttemptOf(row);
    if (!attempt) return;
    const { worker, startedAt, endedAt, outcome } = attempt;
    this.statements.keepAttempt.run(row.id, attempt.claim, attempt.attempt, worker, startedAt, endedAt, outcome, row.lastError);
    // The attempt that starts now reaches the limit.
    if (attempt.claim >= mostAttempts) this.statements.dropAttempts.run(row.id, attempt.claim + 1 - mostAttempts);
  }

  #repeated(row: JobRow, settlement: Settlement): Job | null {
    const attempt = row.claim === settlement.claim ? lastAttemptOf(row) : this.#earlier(row.id, settlement.claim);
    return repeated(jobOf(row), attempt, settlement);
  }

  #earlier(id: string, claim: number): Attempt | undefined {
    const row = this.statements.attempt.get(id, claim);
    return row && attemptOf(row);
  }

  #count(before: JobRow, state: JobRow['state'], attempt: number, queue = before.queue): void {
    this.counts.add(before.queue, countedAs(before.state, before.attempt), -1);
    this.counts.add(queue, countedAs(state, attempt), 1);
  }
}

function unreadable(job: Job, columns: readonly string[]): Outcome {
  const message = `job ${job.id} cannot be read from the store: invalid JSON in ${columns.join(', ')}; it was changed outside Escapement`;
  return { kind: 'failed', error: { name: 'StoreError', message, stack: '' }, thrown: undefined, permanent: true };
}

interface PruneValues {
  readonly status: string;
  readonly before: number;
  readonly limit: number;
}

/** Selects finished jobs of a status whose instant `at` is before another, using an index that starts with these columns. */
const finishedJobs = (at: string, order: string) => `
  SELECT n, id, queue, claim, finished_at, ${['input', 'return_value', 'metadata', 'last_error'].map((column) => `coalesce(octet_length(${column}), 0)`).join(' + ')}
    + CASE WHEN claim > 1 THEN (SELECT coalesce(sum(octet_length(error)), 0) FROM escapement_attempts WHERE job = j.id) ELSE 0 END AS bytes
  FROM escapement_jobs j WHERE state = :status AND finished_at IS NOT NULL AND ${at} < :before ORDER BY ${order}, n LIMIT :limit`;
const withoutOwn = finishedJobs('prune_at IS NULL AND finished_at', 'finished_at');
const withOwn = finishedJobs('prune_at IS NOT NULL AND finished_at', 'finished_at');

interface Success {
  readonly n: number;
  readonly at: number;
  readonly value: string | null;
  readonly progress: string | null;
  readonly pruneAt: number | null;
}

interface Statements {
  readonly lock: Statement<[]>;
  readonly insert: Statement<Values>;
  readonly claim: Statement<Values>;
  readonly renew: Statement<Values, { cancelRequested: string | null }>;
  readonly update: Statement<Values>;
  readonly edit: Statement<[string, string | null, number | null, number]>;
  readonly settle: Statement<Values>;
  /** The most common outcome, which changes few columns. */
  readonly succeed: Statement<[Success]>;
  readonly keepAttempt: Statement<Values>;
  readonly dropAttempts: Statement<[string, number]>;
  readonly attempt: Statement<[string, number], AttemptRow>;
  /** The statements for pruning, by `PruneOptions.own`. */
  readonly finished: Readonly<Record<'left' | 'only' | 'both', Statement<[PruneValues], Prunable>>>;
  readonly prune: Statement<[string]>;
  readonly pruneAttempts: Statement<[string]>;
  readonly saveQueue: Statement<[string, number]>;
  readonly worker: Statement<[string], { row: string }>;
  readonly saveWorker: Statement<Values>;
  readonly forgetWorkers: Statement<[number]>;
}

function prepare(db: Database): Statements {
  return {
    lock: db.prepare('DELETE FROM escapement_migrations WHERE version IS NULL'),
    insert: db.prepare(insertJob),
    claim: db.prepare(
      `UPDATE escapement_jobs SET state = 'running', attempt = attempt + 1, claim = claim + 1, last_worker = ?, lease_until = ?,
       started_at = coalesce(started_at, ?), last_attempted_at = ?, cancel_requested = NULL, last_attempt = attempt + 1,
       last_ended_at = NULL, last_outcome = NULL, last_error = NULL WHERE n IN (SELECT value FROM json_each(?))`,
    ),
    renew: db.prepare(
      `UPDATE escapement_jobs SET lease_until = ?, progress = coalesce(?, progress) WHERE id = ? AND claim = ? AND state = 'running'
       RETURNING cancel_requested AS cancelRequested`,
    ),
    update: db.prepare(updateJob),
    edit: db.prepare(editJob),
    settle: db.prepare(updateJob.replace(' WHERE n = ?', ', last_ended_at = ?, last_outcome = ?, last_error = ? WHERE n = ?')),
    succeed: db.prepare(
      `UPDATE escapement_jobs SET state = 'successful', lease_until = NULL, losses = 0, finished_at = :at, cancel_requested = NULL,
       return_value = :value, reason = NULL, progress = :progress, prune_at = :pruneAt, last_ended_at = :at, last_outcome = 'successful',
       last_error = NULL WHERE n = :n`,
    ),
    keepAttempt: db.prepare('INSERT OR REPLACE INTO escapement_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)'),
    dropAttempts: db.prepare('DELETE FROM escapement_attempts WHERE job = ? AND claim <= ?'),
    attempt: db.prepare(
      'SELECT job, claim, attempt, worker, started_at AS startedAt, ended_at AS endedAt, outcome, error FROM escapement_attempts WHERE job = ? AND claim = ?',
    ),
    finished: {
      left: db.prepare(withoutOwn),
      only: db.prepare(finishedJobs('prune_at', 'prune_at, finished_at')),
      both: db.prepare(`SELECT * FROM (${withoutOwn}) UNION ALL SELECT * FROM (${withOwn}) ORDER BY finished_at, n LIMIT :limit`),
    },
    prune: db.prepare('DELETE FROM escapement_jobs WHERE id IN (SELECT value FROM json_each(?))'),
    pruneAttempts: db.prepare('DELETE FROM escapement_attempts WHERE job = ?'),
    saveQueue: db.prepare('INSERT INTO escapement_queues VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused'),
    worker: db.prepare('SELECT row FROM escapement_workers WHERE id = ?'),
    saveWorker: db.prepare('INSERT OR REPLACE INTO escapement_workers VALUES (?, ?, ?, ?)'),
    forgetWorkers: db.prepare('DELETE FROM escapement_workers WHERE heartbeat_at < ?'),
  };
}
