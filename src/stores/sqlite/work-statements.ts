/** The statements of `work.ts` on one handle. */
import type { Database, Statement } from 'better-sqlite3';
import type { Signal, Step } from '../../core/types.ts';
import type { AttemptRow } from '../sql/rows.ts';
import { editJob, insertJob, insertPlainJob, type SqliteRow, selectJob, updateJob } from './rows.ts';

type Values = unknown[];

/** A finished job and its size. */
export interface Prunable {
  readonly id: string;
  readonly queue: string;
  readonly claim: number;
  readonly bytes: number;
}

interface PruneValues {
  readonly status: string;
  readonly before: number;
  readonly limit: number;
}

/** Selects finished jobs with a status and with `at` before a given instant, using an index that starts with these columns. */
const finishedJobs = (at: string, order: string) => `
  SELECT n, id, queue, claim, finished_at, ${['input', 'return_value', 'metadata', 'last_error'].map((column) => `coalesce(octet_length(${column}), 0)`).join(' + ')}
    + CASE WHEN claim > 1 THEN (SELECT coalesce(sum(octet_length(error)), 0) FROM escapement_attempts WHERE job = j.id) ELSE 0 END
    + (SELECT coalesce(sum(octet_length(bytes)), 0) FROM escapement_blobs WHERE job = j.id) AS bytes
  FROM escapement_jobs j WHERE state = :status AND finished_at IS NOT NULL AND ${at} < :before ORDER BY ${order}, n LIMIT +:limit`;
const withoutOwn = finishedJobs('prune_at IS NULL AND finished_at', 'finished_at');
const withOwn = finishedJobs('prune_at IS NOT NULL AND finished_at', 'finished_at');

interface Success {
  readonly n: number;
  readonly at: number;
  readonly value: string | null;
  readonly progress: string | null;
  readonly pruneAt: number | null;
}

/**
 * A statement on the rows with given keys. Jobs that were enqueued together have consecutive keys, and a range of keys needs neither
 * parsing nor looking up.
 */
class KeyedStatement {
  readonly #range: Statement<Values>;
  readonly #list: Statement<Values>;

  /** @param sql ends where the condition on the keys follows */
  constructor(db: Database, sql: string) {
    this.#range = db.prepare(`${sql} n BETWEEN ? AND ?`);
    this.#list = db.prepare(`${sql} n IN (SELECT value FROM json_each(?))`);
  }

  /** Returns the number of changed rows. */
  run(keys: readonly number[], ...values: Values): number {
    const first = keys[0] as number;
    const isRange = keys.every((key, i) => key === first + i);
    const { changes } = isRange
      ? this.#range.run(...values, first, first + keys.length - 1)
      : this.#list.run(...values, JSON.stringify(keys));
    return changes;
  }
}

export interface WorkStatements {
  readonly lock: Statement<[]>;
  readonly savepoint: Statement<[]>;
  readonly release: Statement<[]>;
  readonly insert: Statement<Values>;
  readonly insertPlain: Statement<Values>;
  readonly claim: KeyedStatement;
  readonly renew: Statement<Values, { cancelRequested: string | null }>;
  readonly update: Statement<Values>;
  readonly edit: Statement<[string, string | null, number | null, number]>;
  readonly settle: Statement<Values>;
  /** The most common outcome, which changes few columns. */
  readonly succeed: Statement<[Success]>;
  /** The same for several jobs whose rows are known. */
  readonly succeedAll: KeyedStatement;
  readonly pruneAll: KeyedStatement;
  readonly holder: Statement<[string], SqliteRow>;
  readonly releaseKeys: Statement<[string]>;
  readonly keepAttempt: Statement<Values>;
  readonly dropAttempts: Statement<[string, number]>;
  readonly attempt: Statement<[string, number], AttemptRow>;
  /** The statements for pruning, by `PruneOptions.own`. */
  readonly finished: Readonly<Record<'left' | 'only' | 'both', Statement<[PruneValues], Prunable>>>;
  readonly prune: Statement<[string]>;
  readonly pruneAttempts: Statement<[string]>;
  readonly pruneBlobs: Statement<[string]>;
  readonly saveStep: Statement<Values>;
  readonly steps: Statement<[string], Step & { readonly job: string }>;
  readonly pruneSteps: Statement<[string]>;
  readonly sendSignal: Statement<[string, string | null, number]>;
  readonly hasSignal: Statement<[string], unknown>;
  readonly takeSignal: Statement<[string], Signal>;
  readonly awaiting: Statement<[string], SqliteRow>;
  readonly setMetadata: Statement<[string | null, string]>;
  readonly keepBlob: Statement<[string, string, Uint8Array]>;
  readonly blob: Statement<[string, string], { bytes: Buffer }>;
  readonly saveQueue: Statement<[string, number]>;
  readonly worker: Statement<[string], { row: string }>;
  readonly saveWorker: Statement<Values>;
  readonly forgetWorkers: Statement<[number]>;
}

export function workStatements(db: Database): WorkStatements {
  return {
    lock: db.prepare('DELETE FROM escapement_migrations WHERE version IS NULL'),
    savepoint: db.prepare('SAVEPOINT escapement_part'),
    release: db.prepare('RELEASE escapement_part'),
    insert: db.prepare(insertJob),
    insertPlain: db.prepare(insertPlainJob),
    claim: new KeyedStatement(
      db,
      `UPDATE escapement_jobs SET state = 'running', attempt = attempt + 1, claim = claim + 1, last_worker = ?, lease_until = ?,
       started_at = coalesce(started_at, ?), last_attempted_at = ?, last_attempt = attempt + 1,
       last_ended_at = NULL, last_outcome = NULL, last_error = NULL WHERE`,
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
    succeedAll: new KeyedStatement(
      db,
      `UPDATE escapement_jobs SET state = 'successful', lease_until = NULL, losses = 0, finished_at = ?, cancel_requested = NULL,
       return_value = ?, reason = NULL, progress = coalesce(?, progress), last_ended_at = ?, last_outcome = 'successful', last_error = NULL
       WHERE state = 'running' AND claim = ? AND queue = ? AND`,
    ),
    pruneAll: new KeyedStatement(db, `DELETE FROM escapement_jobs WHERE state = 'running' AND claim = ? AND queue = ? AND`),
    holder: db.prepare(`${selectJob} WHERE unique_key = ?`),
    releaseKeys: db.prepare('UPDATE escapement_jobs SET unique_key = NULL WHERE n IN (SELECT value FROM json_each(?))'),
    keepAttempt: db.prepare('INSERT OR REPLACE INTO escapement_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)'),
    dropAttempts: db.prepare('DELETE FROM escapement_attempts WHERE job = ? AND claim <= ?'),
    attempt: db.prepare(
      'SELECT job, claim, attempt, worker, started_at AS startedAt, ended_at AS endedAt, outcome, error FROM escapement_attempts WHERE job = ? AND claim = ?',
    ),
    finished: {
      left: db.prepare(withoutOwn),
      only: db.prepare(finishedJobs('prune_at', 'prune_at, finished_at')),
      both: db.prepare(`SELECT * FROM (${withoutOwn}) UNION ALL SELECT * FROM (${withOwn}) ORDER BY finished_at, n LIMIT +:limit`),
    },
    prune: db.prepare('DELETE FROM escapement_jobs WHERE id IN (SELECT value FROM json_each(?))'),
    pruneAttempts: db.prepare('DELETE FROM escapement_attempts WHERE job = ?'),
    saveStep: db.prepare(
      `INSERT INTO escapement_steps (job, name, kind, value, attempt, at) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (job, name) DO UPDATE SET kind = excluded.kind, value = excluded.value, attempt = excluded.attempt, at = excluded.at`,
    ),
    steps: db.prepare(
      'SELECT job, name, kind, value, attempt, at FROM escapement_steps WHERE job IN (SELECT value FROM json_each(?)) ORDER BY n',
    ),
    pruneSteps: db.prepare('DELETE FROM escapement_steps WHERE job IN (SELECT value FROM json_each(?))'),
    sendSignal: db.prepare('INSERT INTO escapement_signals (name, data, sent_at) VALUES (?, ?, ?)'),
    hasSignal: db.prepare('SELECT 1 FROM escapement_signals WHERE name = ? LIMIT 1'),
    takeSignal: db.prepare(
      `DELETE FROM escapement_signals WHERE n = (SELECT n FROM escapement_signals WHERE name = (SELECT ?) ORDER BY n LIMIT 1)
       RETURNING name, data, sent_at AS sentAt`,
    ),
    awaiting: db.prepare(`${selectJob} WHERE awaits = (SELECT ?) ORDER BY n`),
    pruneBlobs: db.prepare('DELETE FROM escapement_blobs WHERE job IN (SELECT value FROM json_each(?))'),
    setMetadata: db.prepare('UPDATE escapement_jobs SET metadata = ? WHERE id = ?'),
    keepBlob: db.prepare('INSERT INTO escapement_blobs VALUES (?, ?, ?) ON CONFLICT (job, name) DO UPDATE SET bytes = excluded.bytes'),
    blob: db.prepare('SELECT bytes FROM escapement_blobs WHERE job = ? AND name = ?'),
    saveQueue: db.prepare('INSERT INTO escapement_queues VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused'),
    worker: db.prepare('SELECT row FROM escapement_workers WHERE id = ?'),
    saveWorker: db.prepare('INSERT OR REPLACE INTO escapement_workers VALUES (?, ?, ?, ?)'),
    forgetWorkers: db.prepare('DELETE FROM escapement_workers WHERE heartbeat_at < ?'),
  };
}
