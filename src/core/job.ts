/** What can be read off a job's row, and the one function that applies a settlement to it. Pure. */
import { latestInstant } from './duration.ts';
import type { Amendment, Attempt, DepStatus, Job, JobRecord, Overrides, Settlement, Status } from './types.ts';
import type { Uniqueness } from './unique.ts';

/** What makes a new job, beside its id and the instant. */
export interface JobRequest {
  readonly task: string;
  readonly queue: string;
  readonly priority: number;
  /** Encoded; null: none was given. */
  readonly input: string | null;
  readonly runAfter: number | null;
  readonly expiresAt: number | null;
  readonly maxAttempts: number;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly schedule: string | null;
  readonly scheduledAt: number | null;
  readonly overrides: Overrides | null;
  readonly unique?: Uniqueness | null;
  readonly concurrencyKey?: string | null;
  readonly rateKey?: string | null;
  readonly enqueuedBy?: string | null;
}

/** The row of a job that is enqueued now. */
export function newJob(request: JobRequest, id: string, now: number): Job {
  return {
    id,
    task: request.task,
    queue: request.queue,
    status: 'queued',
    priority: request.priority,
    input: request.input,
    dueAt: request.runAfter ?? now,
    enqueuedAt: now,
    runAfter: request.runAfter,
    expiresAt: request.expiresAt,
    attempt: 0,
    maxAttempts: request.maxAttempts,
    claim: 0,
    worker: null,
    leaseUntil: null,
    losses: 0,
    startedAt: null,
    lastAttemptedAt: null,
    finishedAt: null,
    cancelRequested: null,
    returnValue: null,
    reason: null,
    progress: null,
    tags: request.tags,
    metadata: request.metadata,
    schedule: request.schedule,
    scheduledAt: request.scheduledAt,
    overrides: request.overrides,
    unique: request.unique ?? null,
    concurrencyKey: request.concurrencyKey ?? null,
    rateKey: request.rateKey ?? null,
    enqueuedBy: request.enqueuedBy ?? null,
  };
}

/** The state that people see at an instant. */
export function visibleStatus(job: Job, now: number): Status {
  if (job.status !== 'queued') return job.status;
  if (job.attempt > 0 && job.dueAt > now) return 'retrying';
  return job.dueAt > now ? 'scheduled' : 'ready';
}

/** The state in DEP 14's four words. */
export function depStatus(status: Status): DepStatus {
  switch (status) {
    case 'running':
      return 'RUNNING';
    case 'successful':
      return 'SUCCESSFUL';
    case 'failed':
    case 'cancelled':
      return 'FAILED';
    default:
      return 'READY';
  }
}

/** True once nothing will happen to the job by itself any more. */
export function isFinished(job: Pick<Job, 'status'>): boolean {
  return job.status === 'successful' || job.status === 'failed' || job.status === 'cancelled';
}

/**
 * When the retention that a finished job carries ends; the latest instant there is if it is kept forever. Null: the job carries none for how it
 * ended, so the application's retention holds; or it has not finished.
 */
export function pruneAt({ status, finishedAt, overrides }: Pick<Job, 'status' | 'finishedAt' | 'overrides'>): number | null {
  if (finishedAt === null || (status !== 'successful' && status !== 'failed' && status !== 'cancelled')) return null;
  const keepMs = overrides?.retention?.[`${status}Ms`];
  if (keepMs === undefined) return null;
  return keepMs === null ? latestInstant : Math.min(finishedAt + keepMs, latestInstant);
}

/** When something last happened to a job: it was enqueued, an attempt began or ended, or it was finished. */
export function changedAt({ job, attempts }: JobRecord): number {
  return Math.max(job.enqueuedAt, job.lastAttemptedAt ?? 0, attempts.at(-1)?.endedAt ?? 0, job.finishedAt ?? 0);
}

/** True when the time to start is over for a job that never started: it is not claimed any more, and the janitor cancels it. */
export function isExpired(job: Job, now: number): boolean {
  return job.expiresAt !== null && job.startedAt === null && job.expiresAt <= now;
}

/** Law 4: the order in which due jobs are claimed: priority, due time, id. */
export function comesBefore(a: Pick<Job, 'priority' | 'dueAt' | 'id'>, b: Pick<Job, 'priority' | 'dueAt' | 'id'>): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority;
  if (a.dueAt !== b.dueAt) return a.dueAt < b.dueAt;
  return a.id < b.id;
}

/** The row of a job that a worker has just claimed. The claim number is what fences off everyone who held it before. */
export function claimed(job: Job, worker: string, now: number, leaseUntil: number): Job {
  return {
    ...job,
    status: 'running',
    attempt: job.attempt + 1,
    claim: job.claim + 1,
    worker,
    leaseUntil,
    startedAt: job.startedAt ?? now,
    lastAttemptedAt: now,
    cancelRequested: null,
  };
}

/**
 * The row after a settlement. The caller has checked the fence. A job that would run again although someone has asked meanwhile for it to
 * be cancelled is cancelled here: the worker that decided did not know, and a cancel must not be lost to a race.
 */
export function settled(job: Job, s: Settlement): Job {
  const cancelled = s.status === 'queued' && job.cancelRequested !== null;
  const finished = s.status !== 'queued' || cancelled;
  return {
    ...job,
    status: cancelled ? 'cancelled' : s.status,
    attempt: s.attempt,
    losses: s.losses,
    dueAt: s.dueAt,
    worker: null,
    leaseUntil: null,
    cancelRequested: null,
    finishedAt: finished ? s.settledAt : null,
    returnValue: s.returnValue,
    reason: cancelled ? job.cancelRequested : s.reason,
    progress: s.progress ?? job.progress,
  };
}

/**
 * True if a settlement may not change a job: another claim holds it, or it says that a lease was lost which is not over. Whoever found it
 * overdue may have been told of it late, and its worker may have renewed it meanwhile.
 */
export function isFenced(job: Pick<Job, 'claim' | 'leaseUntil'>, s: Settlement): boolean {
  return job.claim !== s.claim || (s.outcome === 'lost' && (job.leaseUntil ?? 0) > s.settledAt);
}

/**
 * How many attempts of a job a store keeps: the latest. A job that polls something by `snooze` has one more every few seconds, for days.
 */
export const mostAttempts = 200;

/** Attempts as a list shows them: only the latest with its stack, for a stack may be of 64 KiB, and a page has a thousand jobs. */
export function withoutOldStacks(attempts: readonly Attempt[]): readonly Attempt[] {
  return attempts.map((attempt, i) =>
    attempt.error === null || i === attempts.length - 1 ? attempt : { ...attempt, error: { ...attempt.error, stack: '' } },
  );
}

/** The attempt's row after a settlement. */
export function ended(attempt: Attempt, s: Settlement): Attempt {
  return { ...attempt, endedAt: s.settledAt, outcome: s.outcome, error: s.error };
}

/** True if this settlement has been applied before: its first answer was lost, and asking again is harmless. */
export function alreadySettled(attempt: Attempt | undefined, s: Settlement): boolean {
  return attempt?.claim === s.claim && attempt.outcome === s.outcome && attempt.endedAt === s.settledAt;
}

/** The row after an amendment, or undefined when it no longer is as expected. One that is deleted is told as it was. */
export function amended(job: Job, a: Amendment): Job | undefined {
  return job.status === a.expect.status && job.claim === a.expect.claim ? { ...job, ...a.set } : undefined;
}
