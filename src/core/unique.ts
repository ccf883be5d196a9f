/**
 * Unique jobs: which job holds a key, and what an enqueue does if another job already holds it. Pure. Stores keep at most one holder per
 * key, enforced by a unique index if they have one.
 */
import { latestInstant } from './duration.ts';
import type { Job, StoredStatus } from './types.ts';

/** The statuses that `unique.while` accepts. `queued` includes scheduled, ready and retrying jobs, and jobs that wait for others. */
export type HoldingStatus = 'queued' | 'running' | 'successful' | 'failed' | 'cancelled';
export const holdingStatuses: readonly HoldingStatus[] = ['queued', 'running', 'successful', 'failed', 'cancelled'];

/** What an enqueue does if another job holds its key. */
export type OnConflict = 'skip' | 'replace' | 'reject';

/** The part of its task's `unique` that a job carries. */
export interface Uniqueness {
  /** Task name and key: keys of different tasks never conflict. */
  readonly key: string;
  /** The job holds the key in these statuses. */
  readonly while: readonly HoldingStatus[];
  /** The job holds the key until this instant; null: no end. */
  readonly untilAt: number | null;
  readonly onConflict: OnConflict;
  /** With `replace`: the maximum time after its enqueue by which the existing job is delayed; null: unlimited. */
  readonly maxWaitMs: number | null;
}

/** The statuses that hold a key unless the task says otherwise. */
export function defaultWhile(onConflict: OnConflict, hasWindow: boolean): readonly HoldingStatus[] {
  // A running job has already read its input. Replacing it would lose the change, so the next enqueue creates another job.
  if (onConflict === 'replace') return ['queued'];
  return hasWindow ? ['queued', 'running', 'successful'] : ['queued', 'running'];
}

/** The key that a job in this status holds, or null. The end of its window is checked when another job requests the key. */
export function heldKey({ unique, status }: Pick<Job, 'unique' | 'status'>): string | null {
  return unique?.while.includes(holding(status)) ? unique.key : null;
}

function holding(status: StoredStatus): HoldingStatus {
  return status === 'waiting' ? 'queued' : status;
}

/** True if the holder of a key still keeps other jobs from taking it. */
export function isStanding({ unique }: Pick<Job, 'unique'>, now: number): boolean {
  return (unique?.untilAt ?? latestInstant) > now;
}

/** The message and options of the error for a rejected duplicate. */
export function duplicateOf(job: Job, holder: Job): [message: string, options: { id: string }] {
  const key = job.unique?.key.slice(job.task.length + 1);
  return [`${job.task} is unique by ${key}; job ${holder.id}, which is ${holder.status}, holds this key`, { id: holder.id }];
}

/** The fields that a `replace` changes. */
export type Replacement = Pick<Job, 'input' | 'priority' | 'dueAt' | 'runAfter' | 'expiresAt'>;

/**
 * What an enqueue with `replace` changes in the existing job: its input, priority and times. Its due time never moves beyond `maxWait`
 * after it was first enqueued. Undefined: the job has started in the meantime and is left unchanged.
 */
export function replacement(standing: Job, job: Job): Replacement | undefined {
  if (standing.status !== 'queued' && standing.status !== 'waiting') return undefined;
  const maxWaitMs = job.unique?.maxWaitMs ?? null;
  const bound = maxWaitMs === null ? latestInstant : standing.enqueuedAt + maxWaitMs;
  const { input, priority, runAfter, expiresAt } = job;
  return { input, priority, runAfter, expiresAt, dueAt: Math.min(job.dueAt, Math.max(bound, job.enqueuedAt)) };
}
