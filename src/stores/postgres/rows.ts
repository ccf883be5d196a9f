/** Converts rows of `jobs` to objects keyed by column, for statements that take many rows as one JSON text. */
import type { Attempt, Job, Settlement } from '../../core/types.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import {
  changedRow as changed,
  changing,
  fixed,
  insertedRow as inserted,
  type JobRow,
  jobOf,
  last,
  lastAttemptOf,
  noMetadata,
  noTags,
  pairs,
} from '../sql/rows.ts';
import { clean, type Value } from './session.ts';

/** A job's row with the changes made so far in the transaction. */
export interface Entry {
  readonly job: Job;
  readonly attempt: Attempt | undefined;
  readonly uniqueKey: string | null;
  readonly blockedBy: string | null;
}

const all = { ...fixed, ...changing, ...last };
/** The columns of a job, aliased to its field names. */
export const jobColumns: string = `blocked_by AS "blockedBy", ${pairs(all)
  .map(([field, column]) => `${column} AS "${field}"`)
  .join(', ')}`;
/** The columns written by an insert. */
export const insertedColumns: readonly string[] = [...pairs({ ...fixed, ...changing }).map(([, column]) => column), 'unique_while'];
/** The columns written by a change. */
export const changedColumns: readonly string[] = [...pairs({ ...changing, ...last }).map(([, column]) => column), 'blocked_by'];
/** Columns that are written on insert and changed only by edits. */
export const editedColumns = ['queue', 'input', 'run_after'] as const;

export function entryOf(row: JobRow): Entry {
  return { job: jobOf(row), attempt: lastAttemptOf(row), uniqueKey: row.uniqueKey, blockedBy: row.blockedBy };
}

/** The columns of a new job. */
export function insertedRow(job: Job, uniqueKey: string | null): object {
  return { ...inserted(job, { state: job.status, uniqueKey }), unique_while: job.unique && ` ${job.unique.while.join(' ')} ` };
}

/** The columns of a changed job. */
export function changedRow({ job, attempt, uniqueKey, blockedBy }: Entry): object {
  return {
    id: job.id,
    blocked_by: blockedBy,
    ...changed(job, { state: job.status, uniqueKey }),
    last_attempt: attempt?.attempt ?? null,
    last_worker: attempt?.worker ?? null,
    last_ended_at: attempt?.endedAt ?? null,
    last_outcome: attempt?.outcome ?? null,
    last_error: attempt?.error ? JSON.stringify(attempt.error) : null,
  };
}

/** A row of a claim: the columns that most jobs use, and the whole row as JSON if the job uses others. */
export type ClaimedRow = readonly [
  id: string,
  task: string,
  queue: string,
  priority: number,
  input: string | null,
  dueAt: number,
  enqueuedAt: number,
  attempt: number,
  maxAttempts: number,
  claim: number,
  /** Null: the job starts with this claim. */
  startedAt: number | null,
  /** The row's physical location (ctid), valid until the row is changed again. */
  place: string,
  whole: string | null,
];

/** @param faults receives the names of unreadable columns */
export function claimedJobOf(row: ClaimedRow, { worker, leaseUntil }: ClaimOptions, now: number, faults: string[]): Job {
  const whole = row[12];
  if (whole !== null) return jobOf(rowOf(JSON.parse(whole) as Record<string, unknown>), faults);
  return {
    id: row[0],
    task: row[1],
    queue: row[2],
    status: 'running',
    priority: row[3],
    input: row[4],
    dueAt: row[5],
    enqueuedAt: row[6],
    runAfter: null,
    expiresAt: null,
    attempt: row[7],
    maxAttempts: row[8],
    claim: row[9],
    worker,
    leaseUntil,
    losses: 0,
    startedAt: row[10] ?? now,
    lastAttemptedAt: now,
    finishedAt: null,
    cancelRequested: null,
    returnValue: null,
    reason: null,
    progress: null,
    tags: noTags,
    metadata: noMetadata,
    schedule: null,
    scheduledAt: null,
    overrides: null,
    unique: null,
    concurrencyKey: null,
    rateKey: null,
    enqueuedBy: null,
    awaits: null,
    workflow: null,
    part: null,
  };
}

/** Converts an object keyed by column to a row keyed by field. */
function rowOf(columns: Readonly<Record<string, unknown>>): JobRow {
  const row: Record<string, unknown> = { blockedBy: columns.blocked_by };
  for (const [field, column] of pairs(all)) row[field] = columns[column];
  return row as unknown as JobRow;
}

/** A claimed job with the names of its unreadable columns. */
export interface Unreadable {
  readonly job: Job;
  readonly faults: readonly string[];
}

export function readClaimed(row: ClaimedRow, options: ClaimOptions & { now: number }, unreadables: Unreadable[]): Job {
  const faults: string[] = [];
  const job = claimedJobOf(row, options, options.now, faults);
  if (faults.length > 0) unreadables.push({ job, faults });
  return job;
}

/** A settlement and the location of the row. */
export type Ending = Settlement & { readonly place: string };

/**
 * The arguments for settling plain successes: first the jobs that are kept, then the jobs that are deleted, each sorted by id, the global
 * lock order.
 */
export function endingValues(endings: readonly Ending[]): readonly Value[] {
  const sorted = endings.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const hasPruned = sorted.some(({ prune }) => prune);
  const kept = hasPruned ? sorted.filter(({ prune }) => !prune) : sorted;
  const pruned = hasPruned ? sorted.filter(({ prune }) => prune) : [];
  return [
    ...placesOf(kept),
    `{${kept.map(({ settledAt }) => settledAt).join()}}`,
    orEmpty(kept.map(({ returnValue }) => returnValue)),
    orEmpty(kept.map(({ progress }) => progress && JSON.stringify(progress))),
    ...placesOf(pruned),
  ];
}

/** Serializes a text array for the server. The driver is slower. */
function textsOf(values: readonly string[]): Value {
  return values.every((value) => /^[\w.:/-]+$/.test(value)) ? `{"${values.join('","')}"}` : values.map(clean);
}

/** The ids, locations and claims of rows. */
function placesOf(ending: readonly Ending[]): readonly Value[] {
  if (ending.length === 0) return ['{}', '{}', '{}'];
  const places = `{"${ending.map(({ place }) => place).join('","')}"}`;
  return [textsOf(ending.map(({ id }) => id)), places, `{${ending.map(({ claim }) => claim).join()}}`];
}

/** An array of texts that are often all null: trailing nulls are omitted. */
function orEmpty(values: readonly (string | null)[]): Value {
  return values.every((value) => value === null) ? [] : values;
}
