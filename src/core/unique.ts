/**
 * Unique jobs: which job holds a key, and what an enqueue does when another job holds it already. Pure; stores keep at most one holder of each
 * key, by a unique index where they have one.
 */
import { latestInstant } from './duration.ts';
import type { Job, StoredStatus } from './types.ts';

/** The statuses that `unique.while` takes. `queued` includes scheduled, ready and retrying jobs, and those that wait for others. */
export type HoldingStatus = 'queued' | 'running' | 'successful' | 'failed' | 'cancelled';
export const holdingStatuses: readonly HoldingStatus[] = ['queued', 'running', 'successful', 'failed', 'cancelled'];

/** What an enqueue does when another job holds its key. */
export type OnConflict = 'skip' | 'replace' | 'reject';

/** What a job carries of its task's `unique`. */
export interface Uniqueness {
  /** The task's name and the key: keys of different tasks never conflict. */
  readonly key: string;
  /** The job holds the key in these statuses. */
  readonly while: readonly HoldingStatus[];
  /** The job holds the key until this instant; null: no end. */
  readonly untilAt: number | null;
  readonly onConflict: OnConflict;
  /** With `replace`: the standing job is never delayed beyond this long after it was enqueued; null: no bound. */
  readonly maxWaitMs: number | null;
}

/** The statuses that hold a key unless the task says otherwise. */
export function defaultWhile(onConflict: OnConflict, hasWindow: boolean): readonly HoldingStatus[] {
  // A running job has read its input: replacing that would lose the change, so the next enqueue makes another job.
  if (onConflict === 'replace') return ['queued'];
  return hasWindow ? ['queued', 'running', 'successful'] : ['queued', 'running'];
}

/** The key that a job in this status holds, or null. The end of its window counts when another job asks for the key. */
export function heldKey({ unique, status }: Pick<Job, 'unique' | 'status'>): string | null {
  return unique?.while.includes(holding(status)) ? unique.key : null;
}

function holding(status: StoredStatus): HoldingStatus {
  return status === 'waiting' ? 'queued' : status;
}

/** True if the job that holds a key still keeps others from it. */
export function isStanding({ unique }: Pick<Job, 'unique'>, now: number): boolean {
  return (unique?.untilAt ?? latestInstant) > now;
}

/** What the error of a refused duplicate says. */
export function duplicateOf(job: Job, holder: Job): [message: string, options: { id: string }] {
  const key = job.unique?.key.slice(job.task.length + 1);
  return [`${job.task} is unique by ${key}, and job ${holder.id}, which is ${holder.status}, holds this key`, { id: holder.id }];
}

/** The fields that a `replace` changes. */
export type Replacement = Pick<Job, 'input' | 'priority' | 'dueAt' | 'runAfter' | 'expiresAt'>;

/**
 * What an enqueue that replaces changes of the standing job: it takes the new input, priority and times. Its due time never moves beyond
 * `maxWait` after it was first enqueued. Undefined: the job has started meanwhile, and stays as it is.
 */
export function replacement(standing: Job, job: Job): Replacement | undefined {
  if (standing.status !== 'queued' && standing.status !== 'waiting') return undefined;
  const maxWaitMs = job.unique?.maxWaitMs ?? null;
  const bound = maxWaitMs === null ? latestInstant : standing.enqueuedAt + maxWaitMs;
  const { input, priority, runAfter, expiresAt } = job;
  return { input, priority, runAfter, expiresAt, dueAt: Math.min(job.dueAt, Math.max(bound, job.enqueuedAt)) };
}
