/** Rows of `jobs` as objects whose keys are columns, for statements that take many of them as one JSON text. */
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

/** What a transaction knows of a job: its row, with the changes that it has made. */
export interface Entry {
  readonly job: Job;
  readonly attempt: Attempt | undefined;
  readonly uniqueKey: string | null;
  readonly blockedBy: string | null;
}

const all = { ...fixed, ...changing, ...last };
/** The columns of a job, named like its fields. */
export const jobColumns: string = `blocked_by AS "blockedBy", ${pairs(all)
  .map(([field, column]) => `${column} AS "${field}"`)
  .join(', ')}`;
/** The columns that an insert writes. */
export const insertedColumns: readonly string[] = [...pairs({ ...fixed, ...changing }).map(([, column]) => column), 'unique_while'];
/** The columns that a change writes. */
export const changedColumns: readonly string[] = [...pairs({ ...changing, ...last }).map(([, column]) => column), 'blocked_by'];
/** What is written at insert, and changed by hand alone. */
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

/** A row of a claim: what most jobs have, and the whole row as JSON where it has more. */
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
  /** Null: with this claim. */
  startedAt: number | null,
  /** Where the row is, until it is changed again. */
  place: string,
  whole: string | null,
];

/** @param faults receives the names of columns that cannot be read */
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

/** A row whose keys are columns, with its fields. */
function rowOf(columns: Readonly<Record<string, unknown>>): JobRow {
  const row: Record<string, unknown> = { blockedBy: columns.blocked_by };
  for (const [field, column] of pairs(all)) row[field] = columns[column];
  return row as unknown as JobRow;
}

/** A claimed job, and its columns that cannot be read. */
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

/** A settlement, and where the row is. */
export type Ending = Settlement & { readonly place: string };

/** What settles plain successes: those whose jobs are kept, then those whose jobs are deleted, each in the order of their ids, as everywhere. */
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

/** An array of texts as the server reads it; the driver takes longer. */
function textsOf(values: readonly string[]): Value {
  return values.every((value) => /^[\w.:/-]+$/.test(value)) ? `{"${values.join('","')}"}` : values.map(clean);
}

/** The ids, places and claims of rows. */
function placesOf(ending: readonly Ending[]): readonly Value[] {
  if (ending.length === 0) return ['{}', '{}', '{}'];
  const places = `{"${ending.map(({ place }) => place).join('","')}"}`;
  return [textsOf(ending.map(({ id }) => id)), places, `{${ending.map(({ claim }) => claim).join()}}`];
}

/** Texts of which all are often null: what is missing at the end is null. */
function orEmpty(values: readonly (string | null)[]): Value {
  return values.every((value) => value === null) ? [] : values;
}
