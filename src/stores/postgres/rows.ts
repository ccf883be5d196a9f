/** Rows of `jobs` as objects whose keys are columns, for statements that take many of them as one JSON text. */
import { pruneAt } from '../../core/job.ts';
import type { Attempt, Job } from '../../core/types.ts';
import { changing, fixed, type JobRow, jobOf, last, lastAttemptOf, pairs } from '../sql/rows.ts';

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
  return {
    id: job.id,
    task: job.task,
    queue: job.queue,
    input: job.input,
    enqueued_at: job.enqueuedAt,
    run_after: job.runAfter,
    tags: job.tags.length === 0 ? null : JSON.stringify(job.tags),
    metadata: Object.keys(job.metadata).length === 0 ? null : JSON.stringify(job.metadata),
    schedule: job.schedule,
    scheduled_at: job.scheduledAt,
    overrides: job.overrides && JSON.stringify(job.overrides),
    uniqueness: job.unique && JSON.stringify(job.unique),
    unique_while: job.unique && ` ${job.unique.while.join(' ')} `,
    concurrency_key: job.concurrencyKey,
    rate_key: job.rateKey,
    enqueued_by: job.enqueuedBy,
    workflow: job.workflow,
    part: job.part && JSON.stringify(job.part),
    ...changesOf(job, uniqueKey),
  };
}

/** The columns of a changed job. */
export function changedRow({ job, attempt, uniqueKey, blockedBy }: Entry): object {
  return {
    id: job.id,
    blocked_by: blockedBy,
    ...changesOf(job, uniqueKey),
    last_attempt: attempt?.attempt ?? null,
    last_worker: attempt?.worker ?? null,
    last_ended_at: attempt?.endedAt ?? null,
    last_outcome: attempt?.outcome ?? null,
    last_error: attempt?.error ? JSON.stringify(attempt.error) : null,
  };
}

function changesOf(job: Job, uniqueKey: string | null): object {
  return {
    state: job.status,
    priority: job.priority,
    due_at: job.dueAt,
    expires_at: job.expiresAt,
    attempt: job.attempt,
    max_attempts: job.maxAttempts,
    claim: job.claim,
    lease_until: job.leaseUntil,
    losses: job.losses,
    started_at: job.startedAt,
    last_attempted_at: job.lastAttemptedAt,
    finished_at: job.finishedAt,
    cancel_requested: job.cancelRequested,
    return_value: job.returnValue,
    reason: job.reason,
    progress: job.progress && JSON.stringify(job.progress),
    prune_at: pruneAt(job),
    unique_key: uniqueKey,
    awaits: job.awaits,
  };
}
