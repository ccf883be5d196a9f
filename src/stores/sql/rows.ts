/**
 * Shared by the stores on SQL databases: the columns of a job, and the conversion between table rows and rows of the port. A damaged column
 * must not affect other rows: it is read as if it were empty, and callers that need its name can ask for it.
 */
import type { Outcome } from '../../core/decide.ts';
import type { RecordedError } from '../../core/failure.ts';
import { pruneAt } from '../../core/job.ts';
import { frozen } from '../../core/json.ts';
import type { Attempt, Job, JobRecord, Overrides, StoredStatus, WorkerRow } from '../../core/types.ts';
import type { Uniqueness } from '../../core/unique.ts';
import type { Part } from '../../core/workflow.ts';

/** A job's row, with columns named after the job's fields. */
export interface JobRow extends Omit<Job, 'status' | 'worker' | 'progress' | 'tags' | 'metadata' | 'overrides' | 'unique' | 'part'> {
  /** Some stores distinguish queued jobs that are due. */
  readonly state: StoredStatus | 'scheduled' | 'ready';
  readonly progress: string | null;
  readonly tags: string | null;
  readonly metadata: string | null;
  readonly overrides: string | null;
  readonly unique: string | null;
  readonly part: string | null;
  /** The unique key, while the job holds it. */
  readonly uniqueKey: string | null;
  /** The gate whose limit keeps a ready job from being claimed; null if not blocked. */
  readonly blockedBy: string | null;
  readonly lastAttempt: number | null;
  readonly lastWorker: string | null;
  readonly lastEndedAt: number | null;
  readonly lastOutcome: Attempt['outcome'];
  readonly lastError: string | null;
}

/** The columns of a row that are not fields of the job. */
export interface ExtraColumns {
  readonly state: JobRow['state'];
  readonly uniqueKey: string | null;
}
/** A column and its value for a job. */
type Column = readonly [name: string, of: (job: Job, extra: ExtraColumns) => string | number | null];
const jsonOf = (value: object | null) => (value === null ? null : JSON.stringify(value));

/** By field: the columns written on insert. Only an edit changes some of them. */
const fixedColumns = {
  id: ['id', (job) => job.id],
  task: ['task', (job) => job.task],
  queue: ['queue', (job) => job.queue],
  input: ['input', (job) => job.input],
  enqueuedAt: ['enqueued_at', (job) => job.enqueuedAt],
  runAfter: ['run_after', (job) => job.runAfter],
  tags: ['tags', ({ tags }) => (tags.length === 0 ? null : JSON.stringify(tags))],
  metadata: ['metadata', ({ metadata }) => textOf(metadata)],
  schedule: ['schedule', (job) => job.schedule],
  scheduledAt: ['scheduled_at', (job) => job.scheduledAt],
  overrides: ['overrides', ({ overrides }) => jsonOf(overrides)],
  unique: ['uniqueness', ({ unique }) => jsonOf(unique)],
  concurrencyKey: ['concurrency_key', (job) => job.concurrencyKey],
  rateKey: ['rate_key', (job) => job.rateKey],
  enqueuedBy: ['enqueued_by', (job) => job.enqueuedBy],
  workflow: ['workflow', (job) => job.workflow],
  part: ['part', ({ part }) => jsonOf(part)],
} as const satisfies Readonly<Record<string, Column>>;

/** By field: the columns that change. */
const changingColumns = {
  state: ['state', (_, { state }) => state],
  priority: ['priority', (job) => job.priority],
  dueAt: ['due_at', (job) => job.dueAt],
  expiresAt: ['expires_at', (job) => job.expiresAt],
  attempt: ['attempt', (job) => job.attempt],
  maxAttempts: ['max_attempts', (job) => job.maxAttempts],
  claim: ['claim', (job) => job.claim],
  leaseUntil: ['lease_until', (job) => job.leaseUntil],
  losses: ['losses', (job) => job.losses],
  startedAt: ['started_at', (job) => job.startedAt],
  lastAttemptedAt: ['last_attempted_at', (job) => job.lastAttemptedAt],
  finishedAt: ['finished_at', (job) => job.finishedAt],
  cancelRequested: ['cancel_requested', (job) => job.cancelRequested],
  returnValue: ['return_value', (job) => job.returnValue],
  reason: ['reason', (job) => job.reason],
  progress: ['progress', ({ progress }) => jsonOf(progress)],
  pruneAt: ['prune_at', pruneAt],
  uniqueKey: ['unique_key', (_, { uniqueKey }) => uniqueKey],
  awaits: ['awaits', (job) => job.awaits],
} as const satisfies Readonly<Record<string, Column>>;

const insertedColumns = { ...fixedColumns, ...changingColumns };
const namesOf = (columns: Readonly<Record<string, Column>>) =>
  Object.fromEntries(Object.entries(columns).map(([field, [name]]) => [field, name]));
export const fixed: Readonly<Record<string, string>> = namesOf(fixedColumns);
export const changing: Readonly<Record<string, string>> = namesOf(changingColumns);

export const last = {
  lastAttempt: 'last_attempt',
  lastWorker: 'last_worker',
  lastEndedAt: 'last_ended_at',
  lastOutcome: 'last_outcome',
  lastError: 'last_error',
} as const;

export const pairs = (columns: Record<string, string>) => Object.entries(columns);

const insertedValues = Object.values<Column>(insertedColumns);
const changingValues = Object.values<Column>(changingColumns);

/** The values of `fixed` and `changing` for an insert, in order. */
export function insertValues(job: Job, extra: ExtraColumns): unknown[] {
  return insertedValues.map(([, of]) => of(job, extra));
}

/** The values of `changing`, in order. */
export function changes(job: Job, extra: ExtraColumns): unknown[] {
  return changingValues.map(([, of]) => of(job, extra));
}

/** The same values, keyed by column. */
export function insertedRow(job: Job, extra: ExtraColumns): Record<string, unknown> {
  return Object.fromEntries(insertedValues.map(([name, of]) => [name, of(job, extra)]));
}

export function changedRow(job: Job, extra: ExtraColumns): Record<string, unknown> {
  return Object.fromEntries(changingValues.map(([name, of]) => [name, of(job, extra)]));
}

/**
 * The values of a job that sets only what most jobs set: id, task, queue, input, enqueue time, state, priority, due time and number of
 * attempts. Undefined if the job sets more.
 */
export function plainValues(job: Job, state: JobRow['state']): unknown[] | undefined {
  const {
    runAfter,
    expiresAt,
    tags,
    schedule,
    scheduledAt,
    overrides,
    unique,
    concurrencyKey,
    rateKey,
    enqueuedBy,
    workflow,
    part,
    progress,
    reason,
  } = job;
  const more =
    runAfter ??
    expiresAt ??
    schedule ??
    scheduledAt ??
    overrides ??
    unique ??
    concurrencyKey ??
    rateKey ??
    enqueuedBy ??
    workflow ??
    part ??
    progress ??
    reason;
  if (
    more !== null ||
    tags.length > 0 ||
    textOf(job.metadata) !== null ||
    job.status !== 'queued' ||
    job.claim !== 0 ||
    job.attempt !== 0 ||
    job.losses !== 0
  )
    return undefined;
  const { awaits, cancelRequested, returnValue, finishedAt, startedAt, lastAttemptedAt, leaseUntil } = job;
  if ((awaits ?? cancelRequested ?? returnValue ?? finishedAt ?? startedAt ?? lastAttemptedAt ?? leaseUntil) !== null) return undefined;
  return [job.id, job.task, job.queue, job.input, job.enqueuedAt, state, job.priority, job.dueAt, job.maxAttempts];
}

export const noTags: readonly string[] = Object.freeze([]);
export const noMetadata: Readonly<Record<string, unknown>> = Object.freeze({});

/** @param faults receives the names of unreadable columns */
export function jobOf(row: JobRow, faults?: string[]): Job {
  return {
    id: row.id,
    task: row.task,
    queue: row.queue,
    status: row.state === 'scheduled' || row.state === 'ready' ? 'queued' : row.state,
    priority: row.priority,
    input: row.input,
    dueAt: row.dueAt,
    enqueuedAt: row.enqueuedAt,
    runAfter: row.runAfter,
    expiresAt: row.expiresAt,
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    claim: row.claim,
    worker: row.state === 'running' ? row.lastWorker : null,
    leaseUntil: row.leaseUntil,
    losses: row.losses,
    startedAt: row.startedAt,
    lastAttemptedAt: row.lastAttemptedAt,
    finishedAt: row.finishedAt,
    cancelRequested: row.cancelRequested,
    returnValue: row.returnValue,
    reason: row.reason,
    progress: read(row.progress, 'progress', isProgress, null, faults),
    tags: read(row.tags, 'tags', isTags, noTags, faults),
    metadata: read(row.metadata, 'metadata', isObject, noMetadata, faults),
    schedule: row.schedule,
    scheduledAt: row.scheduledAt,
    overrides: read(row.overrides, 'overrides', isOverrides, null, faults),
    unique: read(row.unique, 'uniqueness', isUniqueness, null, faults),
    concurrencyKey: row.concurrencyKey,
    rateKey: row.rateKey,
    enqueuedBy: row.enqueuedBy,
    awaits: row.awaits,
    workflow: row.workflow,
    part: read(row.part, 'part', isPart, null, faults),
  };
}

/** A row of the table of earlier attempts. */
export interface AttemptRow extends Omit<Attempt, 'error'> {
  readonly job: string;
  readonly error: string | null;
}

export function attemptOf({ attempt, claim, worker, startedAt, endedAt, outcome, error }: AttemptRow): Attempt {
  return { attempt, claim, worker, startedAt, endedAt, outcome, error: errorOf(error) };
}

/** The latest attempt, which is stored in the job's own row. */
export function lastAttemptOf(row: JobRow): Attempt | undefined {
  if (row.lastAttempt === null || row.lastWorker === null || row.lastAttemptedAt === null) return undefined;
  return {
    attempt: row.lastAttempt,
    claim: row.claim,
    worker: row.lastWorker,
    startedAt: row.lastAttemptedAt,
    endedAt: row.lastEndedAt,
    outcome: row.lastOutcome,
    error: errorOf(row.lastError),
  };
}

export function recordOf(row: JobRow, earlier: readonly Attempt[]): JobRecord {
  const latest = lastAttemptOf(row);
  return { job: jobOf(row), attempts: latest ? [...earlier, latest] : earlier };
}

/** The worker in a row; undefined if it cannot be read. The worker's next heartbeat rewrites it. */
export function workerOf(text: string): WorkerRow | undefined {
  return read<WorkerRow | undefined>(text, 'row', isWorker, undefined);
}

const unreadableError: RecordedError = frozen({
  name: 'StoreError',
  message: 'the stored record of this error cannot be read',
  stack: '',
});

function errorOf(text: string | null): RecordedError | null {
  return text === null ? null : read<RecordedError>(text, 'error', isError, unreadableError);
}

function read<T>(text: string | null, column: string, fits: (value: unknown) => boolean, otherwise: T, faults?: string[]): T {
  if (text === null) return otherwise;
  // Most rows have neither tags nor metadata.
  const known = text === '[]' ? noTags : text === '{}' ? noMetadata : undefined;
  if (known !== undefined && fits(known)) return known as T;
  try {
    const value: unknown = JSON.parse(text);
    if (fits(value)) return frozen(value as T);
  } catch {
    // Not valid JSON.
  }
  faults?.push(column);
  return otherwise;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTags(value: unknown): boolean {
  return Array.isArray(value) && value.every((tag) => typeof tag === 'string');
}

function isProgress(value: unknown): boolean {
  return isObject(value) && typeof value.fraction === 'number' && typeof value.at === 'number';
}

function isError(value: unknown): boolean {
  if (!isObject(value) || (value.errors !== undefined && !Array.isArray(value.errors))) return false;
  return [value.name, value.message, value.stack].every((text) => typeof text === 'string');
}

function isWorker(value: unknown): boolean {
  return isObject(value) && typeof value.id === 'string' && Array.isArray(value.tasks) && isObject(value.schedules);
}

function isUniqueness(value: unknown): value is Uniqueness {
  return isObject(value) && typeof value.key === 'string' && Array.isArray(value.while);
}

function isPart(value: unknown): value is Part {
  return isObject(value) && typeof value.key === 'string' && (typeof value.fill === 'string' || Array.isArray(value.fill));
}

/** The numbers required in each stored backoff. Without them there is no next due time. */
const backoffNumbers: Readonly<Record<string, readonly string[]>> = {
  exponential: ['initialMs', 'factor', 'maxMs', 'jitter'],
  linear: ['initialMs', 'stepMs', 'maxMs', 'jitter'],
  list: ['jitter'],
};

function isOverrides(value: unknown): value is Overrides {
  if (!isObject(value)) return false;
  const { timeoutMs = 1, backoff = { kind: 'list', delaysMs: [0], jitter: 0 }, retention = {} } = value;
  if (typeof timeoutMs !== 'number' || !isObject(backoff) || !isObject(retention)) return false;
  if (!Object.values(retention).every((ms) => ms === null || typeof ms === 'number')) return false;
  const { kind, delaysMs } = backoff;
  const numbers = typeof kind === 'string' ? backoffNumbers[kind] : undefined;
  if (!numbers?.every((name) => typeof backoff[name] === 'number')) return false;
  return kind !== 'list' || (Array.isArray(delaysMs) && delaysMs.every((ms) => typeof ms === 'number'));
}

/** An object as text; null if it is empty. */
export function textOf(value: Readonly<Record<string, unknown>>): string | null {
  for (const _ in value) return JSON.stringify(value);
  return Object.keys(value).length === 0 ? null : JSON.stringify(value);
}

/** The outcome of an attempt whose job cannot be read. @param columns the columns with invalid JSON */
export function unreadable(job: Job, columns: readonly string[]): Outcome {
  const message = `job ${job.id} cannot be read from the store: invalid JSON in ${columns.join(', ')}; it was changed outside Escapement`;
  return { kind: 'failed', error: { name: 'StoreError', message, stack: '' }, thrown: undefined, permanent: true };
}
