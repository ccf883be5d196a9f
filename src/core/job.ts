/** Values derived from a job's row, and the only function that applies a settlement to it. Pure. */
import { latestInstant } from './duration.ts';
import type { Amendment, Attempt, DepStatus, Job, JobRecord, Overrides, Settlement, Status } from './types.ts';
import type { Uniqueness } from './unique.ts';
import type { Part } from './workflow.ts';

/** The fields of a new job, except its id and enqueue time. */
export interface JobRequest {
  readonly task: string;
  readonly queue: string;
  readonly priority: number;
  /** Encoded; null if there is no input. */
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
  readonly workflow?: string | null;
  readonly part?: Part | null;
  /** True if it waits for other jobs of its workflow. */
  readonly isWaiting?: boolean;
}

/** The row of a job that is being enqueued. */
export function newJob(request: JobRequest, id: string, now: number): Job {
  return {
    id,
    task: request.task,
    queue: request.queue,
    status: request.isWaiting ? 'waiting' : 'queued',
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
    awaits: null,
    workflow: request.workflow ?? null,
    part: request.part ?? null,
  };
}

/** The status that users see at an instant. */
export function visibleStatus(job: Job, now: number): Status {
  if (job.status !== 'queued') return job.status;
  if (job.attempt > 0 && job.dueAt > now) return 'retrying';
  return job.dueAt > now ? 'scheduled' : 'ready';
}

/** The status in DEP 14's terms. */
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

/** True if the job has reached a final status. */
export function isFinished(job: Pick<Job, 'status'>): boolean {
  return job.status === 'successful' || job.status === 'failed' || job.status === 'cancelled';
}

/**
 * When the job's own retention ends; the latest possible instant if it is kept forever. Null: the job has no retention for its outcome, so
 * the application's applies; or it has not finished.
 */
export function pruneAt({ status, finishedAt, overrides }: Pick<Job, 'status' | 'finishedAt' | 'overrides'>): number | null {
  if (finishedAt === null || (status !== 'successful' && status !== 'failed' && status !== 'cancelled')) return null;
  const keepMs = overrides?.retention?.[`${status}Ms`];
  if (keepMs === undefined) return null;
  return keepMs === null ? latestInstant : Math.min(finishedAt + keepMs, latestInstant);
}

/** A generated id: UUIDv7. */
const generatedId = /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[\da-f]{4}-[\da-f]{12}$/;

/**
 * True if nothing is kept of a successful job, so that it is deleted together with its outcome. Jobs whose rows are still needed are left
 * to the next pruning: other jobs, schedules and unique keys may depend on a row, and an enqueue with an id chosen by the application may
 * be repeated.
 * @param keepMs the application's retention of successful jobs
 */
export function isGoneAtOnce({ id, overrides, workflow, schedule, unique }: Job, keepMs: number): boolean {
  const own = overrides?.retention?.successfulMs;
  return (own === undefined ? keepMs : own) === 0 && workflow === null && schedule === null && unique === null && generatedId.test(id);
}

/** When the job last changed: it was enqueued, an attempt started or ended, or it finished. */
export function changedAt({ job, attempts }: JobRecord): number {
  return Math.max(job.enqueuedAt, job.lastAttemptedAt ?? 0, attempts.at(-1)?.endedAt ?? 0, job.finishedAt ?? 0);
}

/** True for a job that did not start before its expiry. It is no longer claimed, and the janitor cancels it. */
export function isExpired(job: Job, now: number): boolean {
  return job.expiresAt !== null && job.startedAt === null && job.expiresAt <= now;
}

/** Law 4: the order in which due jobs are claimed: priority, due time, id. */
export function comesBefore(a: Pick<Job, 'priority' | 'dueAt' | 'id'>, b: Pick<Job, 'priority' | 'dueAt' | 'id'>): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority;
  if (a.dueAt !== b.dueAt) return a.dueAt < b.dueAt;
  return a.id < b.id;
}

/** The row of a job that a worker has just claimed. The new claim number fences off previous holders. */
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
    awaits: null,
  };
}

/**
 * The row after a settlement. The caller has checked the fencing token. If the job would run again but cancellation has been requested in
 * the meantime, it is cancelled here: the worker that decided did not know, and a cancellation must not be lost to a race.
 */
export function settled(job: Job, s: Settlement): Job {
  const wanted = s.status === 'queued' ? job.cancelRequested : null;
  // Its next attempt undoes its steps first.
  const undoes = wanted !== null && s.undoes === true;
  const cancelled = wanted !== null && !undoes;
  const finished = s.status !== 'queued' || cancelled;
  return {
    ...job,
    status: cancelled ? 'cancelled' : s.status,
    attempt: s.attempt,
    losses: s.losses,
    dueAt: undoes ? s.settledAt : s.dueAt,
    worker: null,
    leaseUntil: null,
    cancelRequested: undoes ? wanted : null,
    finishedAt: finished ? s.settledAt : null,
    returnValue: s.returnValue,
    reason: cancelled ? job.cancelRequested : s.reason,
    progress: s.progress ?? job.progress,
    metadata: s.metadata ?? job.metadata,
    awaits: finished || undoes ? null : (s.awaits ?? null),
  };
}

/**
 * True if a settlement may not change a job: another claim holds the job, or the settlement reports a lost lease that has not ended. The
 * job may have been found overdue some time ago, and its worker may have renewed the lease since.
 */
export function isFenced(job: Pick<Job, 'claim' | 'leaseUntil'>, s: Settlement): boolean {
  return job.claim !== s.claim || (s.outcome === 'lost' && (job.leaseUntil ?? 0) > s.settledAt);
}

/**
 * Maximum number of attempts that a store keeps per job; the latest are kept. A job that polls with `snooze` adds one every few seconds,
 * for days.
 */
export const maxAttemptsKept = 200;

/** Attempts as shown in lists. Only the latest one has its stack, because a stack can take 64 KiB and a page can have a thousand jobs. */
export function withoutOldStacks(attempts: readonly Attempt[]): readonly Attempt[] {
  return attempts.map((attempt, i) =>
    attempt.error === null || i === attempts.length - 1 ? attempt : { ...attempt, error: { ...attempt.error, stack: '' } },
  );
}

/** The attempt's row after a settlement. */
export function ended(attempt: Attempt, s: Settlement): Attempt {
  return { ...attempt, endedAt: s.settledAt, outcome: s.outcome, error: s.error };
}

/** True if this settlement has been applied before. The first answer may be lost, so sending a settlement again must be harmless. */
export function alreadySettled(attempt: Attempt | undefined, s: Settlement): boolean {
  return attempt?.claim === s.claim && attempt.outcome === s.outcome && attempt.endedAt === s.settledAt;
}

/** The row after an amendment, or undefined if the row is no longer as expected. A deleted row is returned as it was. */
export function amended(job: Job, a: Amendment): Job | undefined {
  return job.status === a.expect.status && job.claim === a.expect.claim ? { ...job, ...a.set } : undefined;
}

/** Handles the arrival of a signal: returns the row of a job that waits for it, now due; undefined if the job does not wait for it. */
export function signalled(job: Job, name: string, now: number): Job | undefined {
  return job.status === 'queued' && job.awaits === name && job.dueAt > now ? { ...job, dueAt: now } : undefined;
}
