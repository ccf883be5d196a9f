/**
 * Converts between BullMQ jobs and Escapement rows. Data that BullMQ has a field for is stored there: the task is the job's name, the input
 * is in its data, and its id, time, delay, priority, return value and log have their own fields. The rest is stored in the data as well,
 * under `escapement`. A job that another program has added without it can be read too: all of its data is the input.
 */

import { ended, isExpired, newJob } from '../core/job.ts';
import { decode } from '../core/json.ts';
import type { Attempt, Job, JobRecord, Overrides, Progress, Settlement } from '../core/types.ts';

/** The maximum number of attempts kept per job; the latest are kept. They are read whenever the job is. */
export const maxStored = 50;

/** The data that BullMQ has no field for. */
export interface Kept {
  readonly maxAttempts?: number;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly overrides?: Overrides;
  readonly runAfter?: number;
  readonly expiresAt?: number;
  readonly enqueuedBy?: string;
  /** Distinguishes two enqueues of the same id. */
  readonly nonce?: string;
  /** When it may run again; omitted until an attempt has ended. */
  readonly dueAt?: number;
  /** How many of its runs were given back, because of a snooze or a worker that stopped. */
  readonly givenBack?: number;
  /** How many of its runs have a known outcome. Later runs were lost, except one that is running or was successful. */
  readonly settledRuns?: number;
  readonly losses?: number;
  readonly startedAt?: number;
  readonly attempts?: readonly Attempt[];
  /** True if it returned null. BullMQ does not distinguish that from returning nothing. */
  readonly returnsNull?: true;
  /** How it ended, unless it was successful. */
  readonly end?: { readonly status: 'failed' | 'cancelled'; readonly reason: string | null; readonly at: number };
}

export interface Data {
  readonly input?: unknown;
  readonly escapement: Kept;
}

/**
 * The latest run of its task. A worker that has received a job may die before it begins the run, or may never learn that it holds the job.
 */
export interface Begun {
  /** The number of runs, including this one. */
  readonly runs: number;
  /** The value of `Source.started` in this run. */
  readonly claim: number;
  readonly worker: string;
  readonly at: number;
}

/** A job as stored by BullMQ. */
export interface Source {
  readonly id: string;
  readonly queue: string;
  readonly name: string;
  readonly data: unknown;
  readonly timestamp: number;
  /** The largest value runs last. */
  readonly priority: number;
  readonly attempts: number;
  /** How often a worker has received it. */
  readonly started: number;
  readonly begun: Begun | null;
  readonly processedOn: number | null;
  readonly processedBy: string | null;
  readonly finishedOn: number | null;
  /** JSON; null if it has not returned. */
  readonly returned: string | null;
  readonly failedReason: string | null;
  readonly progress: unknown;
  readonly isLocked: boolean;
  readonly cancel: { readonly reason: string; readonly at: number } | null;
  /** True if it was cancelled while no worker held it. */
  readonly isCancelled: boolean;
}

/** BullMQ does not allow `:` in names and ids, or numeric ids. Escapement's contain neither `~` nor `!`. */
export function foreignId(id: string): string {
  return (/^-?\d+$/.test(id) ? `!${id}` : id).replaceAll(':', '~');
}
/** The ids that a job may have in BullMQ, which numbers the jobs that other programs add without an id. */
export function foreignIds(id: string): readonly string[] {
  const foreign = foreignId(id);
  return foreign.startsWith('!') ? [foreign, id] : [foreign];
}
export function ownId(foreign: string): string {
  return foreign.replace(/^!/, '').replaceAll('~', ':');
}

/** In BullMQ the smallest priority comes first, and jobs without one come before all others, so every job gets one. */
export function foreignPriority(priority: number): number {
  return 101 - priority;
}
function ownPriority(foreign: number): number {
  return foreign === 0 ? 100 : Math.max(-100, Math.min(100, 101 - foreign));
}

export function dataOf(data: unknown): Data {
  const kept = (data as Partial<Data> | null | undefined)?.escapement;
  return typeof kept === 'object' && kept !== null ? (data as Data) : { ...(data === undefined ? {} : { input: data }), escapement: {} };
}

/** The data of a new job. */
export function newData(job: Job, nonce: string | undefined): Data {
  const { maxAttempts, tags, metadata, overrides, runAfter, expiresAt, enqueuedBy } = job;
  return {
    ...(job.input === null ? {} : { input: decode(job.input) }),
    escapement: {
      maxAttempts,
      ...(tags.length > 0 ? { tags } : {}),
      ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
      ...(overrides ? { overrides } : {}),
      ...(runAfter === null ? {} : { runAfter }),
      ...(expiresAt === null ? {} : { expiresAt }),
      ...(enqueuedBy === null ? {} : { enqueuedBy }),
      ...(nonce === undefined ? {} : { nonce }),
    },
  };
}

/** @param now a job that has not started by its expiry is reported as cancelled from then on, although it is still in its queue */
export function recordOf(source: Source, now: number): JobRecord {
  const { input, escapement: kept } = dataOf(source.data);
  const { started, finishedOn, begun } = source;
  const runs = begun?.runs ?? 0;
  const attempt = Math.max(0, runs - (kept.givenBack ?? 0));
  const startedAt = kept.startedAt ?? begun?.at ?? null;
  const isOpen = isRunning(source) || (finishedOn !== null && !kept.end);
  const request = {
    task: source.name,
    queue: source.queue,
    priority: ownPriority(source.priority),
    input: input === undefined ? null : JSON.stringify(input),
    runAfter: kept.runAfter ?? null,
    expiresAt: kept.expiresAt ?? null,
    maxAttempts: kept.maxAttempts ?? Math.max(1, source.attempts),
    tags: kept.tags ?? [],
    metadata: kept.metadata ?? {},
    schedule: null,
    scheduledAt: null,
    overrides: kept.overrides ?? null,
    enqueuedBy: kept.enqueuedBy ?? null,
  };
  const row: Job = {
    ...newJob(request, source.id, source.timestamp),
    attempt,
    claim: started,
    losses: (kept.losses ?? 0) + Math.max(0, runs - (kept.settledRuns ?? 0) - (isOpen ? 1 : 0)),
    startedAt,
    lastAttemptedAt: begun?.at ?? null,
    dueAt: kept.dueAt ?? kept.runAfter ?? source.timestamp,
    progress: progressOf(source.progress),
  };
  const job = { ...row, ...stateOf(source, row, kept, now) };
  const attempts = [...(kept.attempts ?? [])];
  if (isOpen) attempts.push(latest(source, attempt));
  return { job, attempts };
}

function stateOf(source: Source, row: Job, kept: Kept, now: number): Partial<Job> {
  const { finishedOn, cancel, returned, begun, isLocked, isCancelled } = source;
  if (finishedOn !== null) {
    if (returned !== null && !kept.end) {
      const isNothing = returned === 'null' && !kept.returnsNull;
      return { status: 'successful', finishedAt: finishedOn, returnValue: isNothing ? null : returned };
    }
    const { status, reason, at } = kept.end ?? { status: 'failed', reason: source.failedReason, at: finishedOn };
    return { status, reason, finishedAt: at };
  }
  // Held by a worker, whether its run has begun or not.
  if (isLocked && !isCancelled)
    return {
      status: 'running',
      worker: isRunning(source) ? (begun?.worker ?? null) : source.processedBy,
      cancelRequested: cancel?.reason ?? null,
    };
  if (cancel) return { status: 'cancelled', reason: cancel.reason, finishedAt: cancel.at };
  if (isExpired(row, now)) return { status: 'cancelled', reason: 'expired', finishedAt: row.expiresAt };
  return {};
}

/** True if the worker that holds it has begun to run it. */
function isRunning({ isLocked, isCancelled, begun, started }: Source): boolean {
  return isLocked && !isCancelled && begun?.claim === started;
}

/** Stands for a worker that BullMQ does not report. */
export const unknownWorker = 'unknown';

/** The attempt that is running or was successful. Its outcome is in BullMQ's own fields. */
function latest({ started, begun, processedOn, processedBy, finishedOn, timestamp, returned }: Source, attempt: number): Attempt {
  return {
    attempt: Math.max(1, attempt),
    claim: started,
    worker: begun?.worker ?? processedBy ?? unknownWorker,
    startedAt: begun?.at ?? processedOn ?? timestamp,
    endedAt: finishedOn,
    outcome: finishedOn === null ? null : returned === null ? 'failed' : 'successful',
    error: null,
  };
}

/**
 * The kept data after runs were lost.
 * @param runs the number of runs before the one that has begun
 * @param isOver whether the job may not run again; the run that has begun is then given back
 */
export function keptLost(kept: Kept, lost: readonly Attempt[], runs: number, losses: number, isOver: boolean): Kept {
  const [first] = lost;
  return {
    ...kept,
    ...(isOver ? { settledRuns: runs + 1, givenBack: (kept.givenBack ?? 0) + 1 } : { settledRuns: runs }),
    losses,
    attempts: [...(kept.attempts ?? []), ...lost].slice(-maxStored),
    ...(first ? { startedAt: kept.startedAt ?? first.startedAt } : {}),
  };
}

/** The kept data after an attempt has ended. @param runs the number of runs, including this one */
export function keptAfter(kept: Kept, attempt: Attempt, s: Settlement, runs: number): Kept {
  const { losses: _, ...others } = keptEnd(kept, s);
  const givenBack = (kept.givenBack ?? 0) + (s.attempt < attempt.attempt ? 1 : 0);
  return {
    ...others,
    settledRuns: runs,
    startedAt: kept.startedAt ?? attempt.startedAt,
    attempts: [...(kept.attempts ?? []), ended(attempt, s)].slice(-maxStored),
    ...(givenBack > 0 ? { givenBack } : {}),
    ...(s.losses > 0 ? { losses: s.losses } : {}),
    ...(s.metadata ? { metadata: s.metadata } : {}),
  };
}

/** The kept data of a job that ends, or is returned to the queue, without running. */
export function keptEnd({ end: _, ...kept }: Kept, { status, reason, settledAt: at, dueAt }: Settlement): Kept {
  return status === 'failed' || status === 'cancelled' ? { ...kept, end: { status, reason, at } } : { ...kept, dueAt };
}

/** The kept data of a job that an operator runs again. Its losses are reset. */
export function keptAgain({ end: _, losses: __, ...kept }: Kept, runs: number, set: { dueAt?: number; maxAttempts?: number }): Kept {
  return {
    ...kept,
    settledRuns: runs,
    ...(set.dueAt === undefined ? {} : { dueAt: set.dueAt }),
    ...(set.maxAttempts === undefined ? {} : { maxAttempts: set.maxAttempts }),
  };
}

function progressOf(value: unknown): Progress | null {
  const { fraction, message, at } = (typeof value === 'object' && value !== null ? value : {}) as Partial<Progress>;
  return typeof fraction === 'number' && typeof at === 'number' ? { fraction, message: message ?? null, at } : null;
}

/** Builds a source from the fields of the job's hash, or from those that BullMQ passes to a worker. */
export function sourceOf(queue: string, foreign: string, hash: Readonly<Record<string, string>>, isLocked: boolean): Source {
  const number = (field: string) => (hash[field] === undefined ? null : Number(hash[field]));
  return {
    id: ownId(foreign),
    queue,
    name: hash.name ?? '',
    data: parsed(hash.data),
    timestamp: number('timestamp') ?? 0,
    priority: number('priority') ?? 0,
    attempts: (parsed(hash.opts) as { attempts?: number } | undefined)?.attempts ?? 0,
    started: number('ats') ?? 0,
    begun: begunOf(hash[begunField]),
    processedOn: number('processedOn'),
    processedBy: hash.pb ?? null,
    finishedOn: number('finishedOn'),
    returned: hash.returnvalue ?? null,
    failedReason: hash.failedReason ?? null,
    progress: parsed(hash.progress),
    isLocked,
    cancel: (parsed(hash[cancelField]) as Source['cancel'] | undefined) ?? null,
    isCancelled: hash[cancelledField] !== undefined,
  };
}

/** The field where a worker records the latest run of a job: number of runs, claim, worker and time. */
export const begunField = 'escapement:begun';

export function begunOf(text: string | undefined): Begun | null {
  const [runs, claim, worker = unknownWorker, at] = text ? text.split(' ') : [];
  return runs === undefined ? null : { runs: Number(runs), claim: Number(claim), worker, at: Number(at) };
}

/** The state of a job in one word, used to count states that BullMQ does not distinguish. */
export const stateField = 'escapement:state';

/** The field for cancellation requests. It is separate because a worker that saves the data of its job must not overwrite it. */
export const cancelField = 'escapement:cancel';
/** Set together with `cancelField` if no worker held the job. The next worker then only removes the job from its queue. */
export const cancelledField = 'escapement:cancelled';

export function parsed(text: string | undefined | null): unknown {
  if (text === undefined || text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
