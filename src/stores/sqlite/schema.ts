/**
 * The tables, as migrations. Each is applied once, in order, in one transaction, and never changed afterwards; its checksum is stored with
 * it.
 *
 * A queued job is `scheduled` until the `now` of a claim has passed its due time, then `ready`. Each state has its own index, because
 * future jobs in the index of ready jobs make claims eight times slower. Callers do not see this staging. The latest attempt is stored in
 * the job's own row and moves to `escapement_attempts` when the job is claimed again, so a job that succeeds at once writes no other row.
 * `escapement_counts` holds the number of jobs per queue and state, so that a million rows never have to be counted: `counts.ts`.
 */
import { createHash } from 'node:crypto';
import type { Database } from 'better-sqlite3';
import { MigrationError } from '../../core/errors.ts';

/** Ids that are not UUIDv7, or whose timestamp is after the year 2526. All other ids sort in enqueue order. */
export const ownId = "(id >= '1' OR id NOT GLOB '????????-????-7???-????-????????????')";
export const timedId = "id < '1' AND id GLOB '????????-????-7???-????-????????????'";

export const migrations: readonly string[] = [
  `
  CREATE TABLE escapement_jobs (
    id TEXT PRIMARY KEY NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    input TEXT,
    due_at INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    run_after INTEGER,
    expires_at INTEGER,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    worker TEXT,
    lease_until INTEGER,
    losses INTEGER NOT NULL,
    started_at INTEGER,
    last_attempted_at INTEGER,
    finished_at INTEGER,
    cancel_requested TEXT,
    return_value TEXT,
    reason TEXT,
    progress TEXT,
    tags TEXT,
    metadata TEXT,
    schedule TEXT,
    scheduled_at INTEGER,
    overrides TEXT,
    last_attempt INTEGER,
    last_worker TEXT,
    last_ended_at INTEGER,
    last_outcome TEXT,
    last_error TEXT
  ) STRICT, WITHOUT ROWID;

  CREATE INDEX escapement_ready ON escapement_jobs (queue, priority DESC, due_at, id, task) WHERE state = 'ready';
  CREATE INDEX escapement_scheduled ON escapement_jobs (due_at, queue, task) WHERE state = 'scheduled';
  CREATE INDEX escapement_leases ON escapement_jobs (lease_until) WHERE state = 'running';
  CREATE INDEX escapement_expiries ON escapement_jobs (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'ready');
  CREATE INDEX escapement_finished ON escapement_jobs (state, finished_at) WHERE state IN ('successful', 'failed', 'cancelled');
  CREATE INDEX escapement_by_schedule ON escapement_jobs (schedule, id) WHERE schedule IS NOT NULL;

  CREATE TABLE escapement_attempts (
    job TEXT NOT NULL,
    claim INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,
    error TEXT,
    PRIMARY KEY (job, claim)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE escapement_queues (name TEXT PRIMARY KEY NOT NULL, paused INTEGER) STRICT, WITHOUT ROWID;
  CREATE TABLE escapement_counts (queue TEXT NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (queue, state)) STRICT, WITHOUT ROWID;

  CREATE TABLE escapement_schedules (
    name TEXT PRIMARY KEY NOT NULL,
    revision INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    next_at INTEGER,
    last_at INTEGER,
    row TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX escapement_due_schedules ON escapement_schedules (next_at) WHERE next_at IS NOT NULL AND paused = 0;

  CREATE TABLE escapement_workers (id TEXT PRIMARY KEY NOT NULL, started_at INTEGER NOT NULL, heartbeat_at INTEGER NOT NULL, row TEXT NOT NULL) STRICT, WITHOUT ROWID;
  `,
  // Schedules with their own options. Existing rows came from code, and are saved again when a worker starts.
  `
  DROP TABLE escapement_schedules;
  CREATE TABLE escapement_schedules (
    name TEXT PRIMARY KEY NOT NULL,
    source TEXT NOT NULL,
    revision INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    computed INTEGER NOT NULL,
    next_at INTEGER,
    occurrence_at INTEGER,
    last_at INTEGER,
    held_at INTEGER,
    runs INTEGER NOT NULL,
    row TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX escapement_due_schedules ON escapement_schedules (next_at, computed, name) WHERE next_at IS NOT NULL AND paused = 0;
  CREATE INDEX escapement_held_schedules ON escapement_schedules (name) WHERE held_at IS NOT NULL AND paused = 0;
  CREATE INDEX escapement_schedules_by_source ON escapement_schedules (source);

  CREATE UNIQUE INDEX escapement_occurrences ON escapement_jobs (schedule, scheduled_at) WHERE schedule IS NOT NULL;
  CREATE INDEX escapement_open_by_schedule ON escapement_jobs (schedule, id)
    WHERE schedule IS NOT NULL AND state IN ('waiting', 'scheduled', 'ready', 'running');
  `,
  // In claim order, so that due jobs can be marked as ready in that order, some at a time. Queues are found through their jobs.
  `
  DROP INDEX escapement_scheduled;
  CREATE INDEX escapement_scheduled ON escapement_jobs (priority DESC, due_at, id, queue, task, attempt) WHERE state = 'scheduled';
  DELETE FROM escapement_queues WHERE paused IS NULL;
  `,
  // Jobs that were attempted and wait for another attempt, by the end of the last one, so that recent changes are found without reading all
  // jobs.
  `
  CREATE INDEX escapement_ended ON escapement_jobs (last_ended_at) WHERE last_ended_at IS NOT NULL AND state IN ('scheduled', 'ready');
  `,
  // Jobs with ids chosen by the application, by enqueue time, because these ids do not sort by it.
  `
  CREATE INDEX escapement_own_ids ON escapement_jobs (enqueued_at) WHERE ${ownId};
  `,
  // When a finished job's own retention ends. It comes before the finish time, so that each kind is pruned without reading the other; only
  // jobs with their own retention are in a second index. There is no list of states, because SQLite would not recognise that one of them is
  // in it.
  `
  ALTER TABLE escapement_jobs ADD COLUMN prune_at INTEGER;
  DROP INDEX escapement_finished;
  CREATE INDEX escapement_finished ON escapement_jobs (state, prune_at, finished_at) WHERE finished_at IS NOT NULL;
  CREATE INDEX escapement_own_retention ON escapement_jobs (state, finished_at) WHERE prune_at IS NOT NULL;
  `,
  // Jobs with an integer key: index entries are small, and a claim or an outcome finds its row without comparing texts. The worker of a
  // running job is that of its last attempt.
  `
  CREATE TABLE escapement_new_jobs (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    input TEXT,
    due_at INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    run_after INTEGER,
    expires_at INTEGER,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    lease_until INTEGER,
    losses INTEGER NOT NULL,
    started_at INTEGER,
    last_attempted_at INTEGER,
    finished_at INTEGER,
    cancel_requested TEXT,
    return_value TEXT,
    reason TEXT,
    progress TEXT,
    tags TEXT,
    metadata TEXT,
    schedule TEXT,
    scheduled_at INTEGER,
    overrides TEXT,
    last_attempt INTEGER,
    last_worker TEXT,
    last_ended_at INTEGER,
    last_outcome TEXT,
    last_error TEXT,
    prune_at INTEGER
  ) STRICT;
  INSERT INTO escapement_new_jobs
    SELECT NULL, id, task, queue, state, priority, input, due_at, enqueued_at, run_after, expires_at, attempt, max_attempts, claim, lease_until,
      losses, started_at, last_attempted_at, finished_at, cancel_requested, return_value, reason, progress, tags, metadata, schedule,
      scheduled_at, overrides, last_attempt, last_worker, last_ended_at, last_outcome, last_error, prune_at
    FROM escapement_jobs ORDER BY id;
  DROP TABLE escapement_jobs;
  ALTER TABLE escapement_new_jobs RENAME TO escapement_jobs;
  CREATE INDEX escapement_ready ON escapement_jobs (queue, priority DESC, due_at, id, task) WHERE state = 'ready';
  CREATE INDEX escapement_scheduled ON escapement_jobs (priority DESC, due_at, id, queue, task, attempt) WHERE state = 'scheduled';
  CREATE INDEX escapement_leases ON escapement_jobs (lease_until) WHERE state = 'running';
  CREATE INDEX escapement_expiries ON escapement_jobs (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'ready');
  CREATE INDEX escapement_ended ON escapement_jobs (last_ended_at) WHERE last_ended_at IS NOT NULL AND state IN ('scheduled', 'ready');
  CREATE INDEX escapement_finished ON escapement_jobs (state, prune_at, finished_at) WHERE finished_at IS NOT NULL;
  CREATE INDEX escapement_own_retention ON escapement_jobs (state, finished_at) WHERE prune_at IS NOT NULL;
  CREATE INDEX escapement_own_ids ON escapement_jobs (enqueued_at) WHERE ${ownId};
  CREATE INDEX escapement_by_schedule ON escapement_jobs (schedule, id) WHERE schedule IS NOT NULL;
  CREATE UNIQUE INDEX escapement_occurrences ON escapement_jobs (schedule, scheduled_at) WHERE schedule IS NOT NULL;
  CREATE INDEX escapement_open_by_schedule ON escapement_jobs (schedule, id)
    WHERE schedule IS NOT NULL AND state IN ('waiting', 'scheduled', 'ready', 'running');
  `,
  // Bytes stored with jobs. Keyed by row number, because an index that contains large values is slow.
  `
  CREATE TABLE escapement_blobs (job TEXT NOT NULL, name TEXT NOT NULL, bytes BLOB NOT NULL, UNIQUE (job, name)) STRICT;
  `,
  // Unique jobs, limits, and who enqueued a job. A ready job whose key is full is blocked by its gate, and is not in the index of ready
  // jobs.
  `
  ALTER TABLE escapement_jobs ADD COLUMN uniqueness TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN unique_key TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN concurrency_key TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN rate_key TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN enqueued_by TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN blocked_by TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN awaits TEXT;
  CREATE UNIQUE INDEX escapement_unique_keys ON escapement_jobs (unique_key) WHERE unique_key IS NOT NULL;
  CREATE INDEX escapement_enqueued_by ON escapement_jobs (enqueued_by, id) WHERE enqueued_by IS NOT NULL;
  DROP INDEX escapement_ready;
  CREATE INDEX escapement_ready ON escapement_jobs (queue, priority DESC, due_at, id, task) WHERE state = 'ready' AND blocked_by IS NULL;
  CREATE INDEX escapement_blocked ON escapement_jobs (blocked_by, priority DESC, due_at, id) WHERE blocked_by IS NOT NULL;
  CREATE INDEX escapement_blocked_by_queue ON escapement_jobs (queue, due_at) WHERE blocked_by IS NOT NULL;
  DROP INDEX escapement_leases;
  CREATE INDEX escapement_leases ON escapement_jobs (lease_until, queue, task, concurrency_key) WHERE state = 'running';
  CREATE INDEX escapement_awaiting ON escapement_jobs (awaits) WHERE awaits IS NOT NULL;
  CREATE TABLE escapement_steps (
    n INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (job, name)
  ) STRICT;
  CREATE TABLE escapement_signals (n INTEGER PRIMARY KEY, name TEXT NOT NULL, data TEXT, sent_at INTEGER NOT NULL) STRICT;
  CREATE INDEX escapement_signals_by_name ON escapement_signals (name, n);
  CREATE TABLE escapement_rates (name TEXT PRIMARY KEY NOT NULL, arrival_at REAL NOT NULL) STRICT, WITHOUT ROWID;
  `,
  // If keys share a limit, the keys of due jobs are found with one index step each. Workflows: an edge gets its parent's value once the
  // parent has ended and lets the child proceed. The child's input is made of these values, and the parents may be pruned before it runs.
  `
  ALTER TABLE escapement_jobs ADD COLUMN workflow TEXT;
  ALTER TABLE escapement_jobs ADD COLUMN part TEXT;
  CREATE INDEX escapement_by_workflow ON escapement_jobs (workflow, n) WHERE workflow IS NOT NULL;
  CREATE TABLE escapement_edges (n INTEGER PRIMARY KEY, parent TEXT NOT NULL, child TEXT NOT NULL, value TEXT) STRICT;
  CREATE INDEX escapement_edges_by_parent ON escapement_edges (parent, child);
  CREATE INDEX escapement_edges_by_child ON escapement_edges (child, n);
  CREATE INDEX escapement_open_edges ON escapement_edges (child) WHERE value IS NULL;
  CREATE INDEX escapement_keys ON escapement_jobs (task, queue, concurrency_key, due_at)
    WHERE concurrency_key IS NOT NULL AND state IN ('ready', 'scheduled');
  `,
  // The key of the last counted job: single enqueues do not write the counts.
  `
  INSERT INTO escapement_counts SELECT '', 'counted', max(n) FROM escapement_jobs HAVING max(n) IS NOT NULL;
  `,
];

const checksums: string[] = [];

function checksumOf(i: number): string {
  checksums[i] ??= createHash('sha256')
    .update(migrations[i] as string)
    .digest('hex');
  return checksums[i];
}

/** The error for a schema that is newer, either on opening or while this process is running. */
const newer = (version: number) =>
  new MigrationError(
    `the database has schema version ${version}, but this version of escapement only supports ${migrations.length}: a newer version has opened it. Update escapement in this process.`,
    { kind: 'newer' },
  );

/**
 * The schema that the migrations produce on an empty database, known once they have run. It is then created directly, in a fifth of the
 * time.
 */
let current: string | undefined;

/**
 * Migrates the schema. The caller holds the write lock, so processes that start at the same time take turns.
 * @throws MigrationError if a newer version wrote the file, or its migrations do not match the known ones
 */
export function migrate(db: Database): void {
  db.exec('CREATE TABLE IF NOT EXISTS escapement_migrations (version INTEGER PRIMARY KEY NOT NULL, checksum TEXT NOT NULL) STRICT');
  const from = applied(db) + 1;
  const isNew = from === 1 && partsOf(db).length === 0;
  if (isNew && current !== undefined) db.exec(current);
  const insert = db.prepare('INSERT INTO escapement_migrations VALUES (?, ?)');
  for (const [i, sql] of migrations.entries()) {
    if (i + 1 < from) continue;
    if (!isNew || current === undefined) db.exec(sql);
    insert.run(i + 1, checksumOf(i));
  }
  if (isNew) current ??= partsOf(db).join(';\n');
}

/** The statements that create the existing tables and indexes, except for the table of migrations. */
function partsOf(db: Database): string[] {
  const parts = `SELECT sql FROM sqlite_schema
    WHERE tbl_name LIKE 'escapement\\_%' ESCAPE '\\' AND tbl_name <> 'escapement_migrations' AND sql IS NOT NULL ORDER BY rowid`;
  return db.prepare<[], string>(parts).pluck().all();
}

/**
 * True if the schema exists and is up to date. Read-only.
 * @throws MigrationError like `migrate`
 */
export function isMigrated(db: Database): boolean {
  const table = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'escapement_migrations'").get();
  return table !== undefined && applied(db) === migrations.length;
}

/** The number of applied migrations. */
function applied(db: Database): number {
  const rows = db
    .prepare<[], { version: number; checksum: string }>('SELECT version, checksum FROM escapement_migrations ORDER BY version')
    .all();
  const latest = rows.at(-1)?.version ?? 0;
  if (latest > migrations.length) throw newer(latest);
  for (const [i, { version, checksum: found }] of rows.entries()) {
    if (version === i + 1 && found === checksumOf(i)) continue;
    throw new MigrationError(
      `migration ${i + 1} of the database does not match this version of escapement; the schema was changed by hand or by a custom build`,
      { kind: 'changed' },
    );
  }
  return rows.length;
}
