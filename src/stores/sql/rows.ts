/**
 * What the stores on SQL databases share: the columns of a job, and the conversion of table rows to rows of the port and back. A damaged column must not affect other rows: it is read as if it were empty, and
 * callers that need to know can ask for its name.
 */
import type { RecordedError } from '../../core/failure.ts';
import { pruneAt } from '../../core/job.ts';
import { frozen } from '../../core/json.ts';
import type { Attempt, Job, JobRecord, Overrides, StoredStatus, WorkerRow } from '../../core/types.ts';
import type { Uniqueness } from '../../core/unique.ts';
import type { Part } from '../../core/workflow.ts';

/** A row of a job, with its columns named like a job's fields. */
export interface JobRow extends Omit<Job, 'status' | 'worker' | 'progress' | 'tags' | 'metadata' | 'overrides' | 'unique' | 'part'> {
  /** Some stores tell queued jobs that are due from others. */
  readonly state: StoredStatus | 'scheduled' | 'ready';
  readonly progress: string | null;
  readonly tags: string | null;
  readonly metadata: string | null;
  readonly overrides: string | null;
  readonly unique: string | null;
  readonly part: string | null;
  /** The unique key, while the job holds it. */
  readonly uniqueKey: string | null;
  /** The gate whose limit keeps a ready job from being claimed; null: none does. */
  readonly blockedBy: string | null;
  readonly lastAttempt: number | null;
  readonly lastWorker: string | null;
  readonly lastEndedAt: number | null;
  readonly lastOutcome: Attempt['outcome'];
  readonly lastError: string | null;
}

/** Field and column of values that are written on insert; only an edit changes some of them. */
export const fixed = {
  id: 'id',
  task: 'task',
  queue: 'queue',
  input: 'input',
  enqueuedAt: 'enqueued_at',
  runAfter: 'run_after',
  tags: 'tags',
  metadata: 'metadata',
  schedule: 'schedule',
  scheduledAt: 'scheduled_at',
  overrides: 'overrides',
  unique: 'uniqueness',
  concurrencyKey: 'concurrency_key',
  rateKey: 'rate_key',
  enqueuedBy: 'enqueued_by',
  workflow: 'workflow',
  part: 'part',
} as const;

/** Field and column of values that change. */
export const changing = {
  state: 'state',
  priority: 'priority',
  dueAt: 'due_at',
  expiresAt: 'expires_at',
  attempt: 'attempt',
  maxAttempts: 'max_attempts',
  claim: 'claim',
  leaseUntil: 'lease_until',
  losses: 'losses',
  startedAt: 'started_at',
  lastAttemptedAt: 'last_attempted_at',
  finishedAt: 'finished_at',
  cancelRequested: 'cancel_requested',
  returnValue: 'return_value',
  reason: 'reason',
  progress: 'progress',
  pruneAt: 'prune_at',
  uniqueKey: 'unique_key',
  awaits: 'awaits',
} as const;

export const last = {
  lastAttempt: 'last_attempt',
  lastWorker: 'last_worker',
  lastEndedAt: 'last_ended_at',
  lastOutcome: 'last_outcome',
  lastError: 'last_error',
} as const;

export const pairs = (columns: Record<string, string>) => Object.entries(columns);
/** The values of an insert of `fixed` and `changing`, in order. */
export function insertValues(job: Job, state: JobRow['state'], uniqueKey: string | null): unknown[] {
  return [
    job.id,
    job.task,
    job.queue,
    job.input,
    job.enqueuedAt,
    job.runAfter,
    job.tags.length === 0 ? null : JSON.stringify(job.tags),
    textOf(job.metadata),
    job.schedule,
    job.scheduledAt,
    job.overrides === null ? null : JSON.stringify(job.overrides),
    job.unique === null ? null : JSON.stringify(job.unique),
    job.concurrencyKey,
    job.rateKey,
    job.enqueuedBy,
    job.workflow,
    job.part === null ? null : JSON.stringify(job.part),
    ...changes(job, state, uniqueKey),
  ];
}

/**
 * The values of a job of which little is given, as of most: id, task, queue, input, enqueue time, state, priority, due time and number of
 * attempts. Undefined: the job has more.
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

/** The values of `changing`, in order. */
export function changes(job: Job, state: JobRow['state'], uniqueKey: string | null): unknown[] {
  return [
    state,
    job.priority,
    job.dueAt,
    job.expiresAt,
    job.attempt,
    job.maxAttempts,
    job.claim,
    job.leaseUntil,
    job.losses,
    job.startedAt,
    job.lastAttemptedAt,
    job.finishedAt,
    job.cancelRequested,
    job.returnValue,
    job.reason,
    job.progress === null ? null : JSON.stringify(job.progress),
    pruneAt(job),
    uniqueKey,
    job.awaits,
  ];
}

export const noTags: readonly string[] = Object.freeze([]);
export const noMetadata: Readonly<Record<string, unknown>> = Object.freeze({});

/** @param faults receives the names of columns that cannot be read */
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

/** A row of the earlier attempts. */
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

/** The worker of a row, or undefined if it cannot be read; its next heartbeat writes it again. */
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

/** The numbers required in each stored backoff. If one is missing, there would be no next due time. */
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

/** An object as text; null: it is empty. */
export function textOf(value: Readonly<Record<string, unknown>>): string | null {
  for (const _ in value) return JSON.stringify(value);
  return Object.keys(value).length === 0 ? null : JSON.stringify(value);
}
