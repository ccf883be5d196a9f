/**
 * The rows that stores keep, and their states. Rows are immutable: a change produces a new row, so rows that a store returns can be kept
 * and compared. Instants are in epoch milliseconds (`…At`), durations in milliseconds (`…Ms`).
 */
import type { Backoff } from './backoff.ts';
import type { RecordedError } from './failure.ts';
import type { SunTrigger } from './sun.ts';
import type { Uniqueness } from './unique.ts';
import type { Part } from './workflow.ts';

/** The six states that a store keeps. */
export type StoredStatus = 'waiting' | 'queued' | 'running' | 'successful' | 'failed' | 'cancelled';
/** The states that users see. `scheduled`, `ready` and `retrying` are derived from `queued` by due time and attempt. */
export type Status = 'waiting' | 'scheduled' | 'ready' | 'retrying' | 'running' | 'successful' | 'failed' | 'cancelled';
/** The four states of DEP 14. */
export type DepStatus = 'READY' | 'RUNNING' | 'SUCCESSFUL' | 'FAILED';

/** An attempt's reported progress. */
export interface Progress {
  /** From 0 to 1. */
  readonly fraction: number;
  readonly message: string | null;
  readonly at: number;
}

/** One job: one enqueued call of a task, one row. */
export interface Job {
  /** A UUIDv7, in enqueue order within a process, or an id chosen by the application: letters, digits and _ . : / -. */
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  readonly status: StoredStatus;
  /** −100 … 100, larger first. */
  readonly priority: number;
  /** Encoded by `core/json`; null if there is no input. */
  readonly input: string | null;
  /** When the job may be claimed. */
  readonly dueAt: number;
  readonly enqueuedAt: number;
  /** The requested due time, if any. */
  readonly runAfter: number | null;
  /** A job that has not started by this instant is cancelled. */
  readonly expiresAt: number | null;
  /** Number of attempts used, including the running one. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** The fencing token: increases with every claim, never decreases. 0: never claimed. */
  readonly claim: number;
  /** The worker that holds the lease. */
  readonly worker: string | null;
  /** When the job becomes an orphan. Exclusive: at this instant the lease has ended. */
  readonly leaseUntil: number | null;
  /** Leases lost in a row, with no outcome in between. */
  readonly losses: number;
  readonly startedAt: number | null;
  readonly lastAttemptedAt: number | null;
  readonly finishedAt: number | null;
  /**
   * The reason given when cancellation of a running job was requested. Its worker learns of it at the next renewal. For a queued job: its
   * next attempt undoes its steps and cancels it.
   */
  readonly cancelRequested: string | null;
  readonly returnValue: string | null;
  /** Why the job ended as it did: `expired`, `poisoned`, or the reason passed to cancel. */
  readonly reason: string | null;
  readonly progress: Progress | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly schedule: string | null;
  readonly scheduledAt: number | null;
  /** Options of this job that override its task's definition. */
  readonly overrides: Overrides | null;
  /** Null if the job is not unique. */
  readonly unique: Uniqueness | null;
  /** The key under which its task's `concurrency` counts the job; null: all jobs of the task are counted together. */
  readonly concurrencyKey: string | null;
  /** The key under which its task's `rate` counts the job; null: all jobs of the task are counted together. */
  readonly rateKey: string | null;
  /** The job whose attempt enqueued this one; null if none did. */
  readonly enqueuedBy: string | null;
  /** The name of the signal that it waits for until `dueAt`; null if it waits for none. */
  readonly awaits: string | null;
  /** The id of its workflow; null if it has none. */
  readonly workflow: string | null;
  readonly part: Part | null;
}

/** A job's record of a step's result, the end of a sleep, or a signal, kept between attempts. */
export interface Step {
  /** Unique within the job. */
  readonly name: string;
  readonly kind: 'step' | 'sleep' | 'signal';
  /**
   * JSON: the return value of the step, the instant at which the sleep ends, or `WaitState` of `core/steps`. Null: the step returned
   * nothing.
   */
  readonly value: string | null;
  /** The attempt that recorded it. */
  readonly attempt: number;
  readonly at: number;
}

/** A signal that is kept until a job reads it. */
export interface Signal {
  readonly name: string;
  /** JSON; null if there is no data. */
  readonly data: string | null;
  readonly sentAt: number;
}

/**
 * Options stored with a job: those passed to `using`, and its task's retention. They are plain data, because functions cannot be stored.
 */
export interface Overrides {
  readonly timeoutMs?: number;
  readonly backoff?: Backoff;
  readonly retention?: OwnRetention;
}

/** How long a finished job is kept, by outcome. Null means forever. Omitted values come from the application. */
export interface OwnRetention {
  readonly successfulMs?: number | null;
  readonly failedMs?: number | null;
  readonly cancelledMs?: number | null;
}

/** How an attempt ended. `released`: returned to the queue by a stopping worker. */
export type AttemptOutcome = 'successful' | 'failed' | 'snoozed' | 'cancelled' | 'lost' | 'released';

/** One attempt at a job, written by claim and settle. Snoozed and released attempts do not count: the next one gets the same number. */
export interface Attempt {
  readonly attempt: number;
  readonly claim: number;
  readonly worker: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly outcome: AttemptOutcome | null;
  readonly error: RecordedError | null;
}

/** A job with its attempts, oldest first. */
export interface JobRecord {
  readonly job: Job;
  readonly attempts: readonly Attempt[];
}

/** How a store changes a row when an attempt ends. Made by `decide`; applied only by the store's `settle`. */
export interface Settlement {
  readonly id: string;
  /** The fencing token. The settlement applies only while the row is running under this claim. */
  readonly claim: number;
  readonly outcome: AttemptOutcome;
  readonly error: RecordedError | null;
  readonly settledAt: number;
  readonly status: 'queued' | 'successful' | 'failed' | 'cancelled';
  readonly attempt: number;
  readonly losses: number;
  /** When the row may be claimed again; used for `queued` only. */
  readonly dueAt: number;
  readonly returnValue: string | null;
  readonly reason: string | null;
  /** The last reported progress, if any. */
  readonly progress: Progress | null;
  /** Lines to add to the job's log, see `core/log`. */
  readonly log?: readonly string[];
  /** Replaces the job's metadata. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** For a job that is queued again: the signal that ends its wait early. */
  readonly awaits?: string;
  /**
   * Deletes the job if this settlement finishes it, because nothing of it is kept. A part of a workflow stays: others depend on its row.
   */
  readonly prune?: true;
  /** The job has steps to undo: if cancellation was requested, it is queued anyway, and its next attempt undoes them. */
  readonly undoes?: true;
  /** Asks whether this settlement was applied in a transaction of the application that may not have committed. Changes nothing. */
  readonly confirm?: true;
}

/** A change made by an operator, or by the engine outside an attempt. It applies only while the row has this status and claim number. */
export interface Amendment {
  readonly id: string;
  readonly expect: { readonly status: StoredStatus; readonly claim: number };
  /** Null deletes the row and its attempts. */
  readonly set: Partial<
    Pick<
      Job,
      | 'status'
      | 'dueAt'
      | 'expiresAt'
      | 'priority'
      | 'maxAttempts'
      | 'losses'
      | 'finishedAt'
      | 'reason'
      | 'cancelRequested'
      | 'progress'
      | 'input'
      | 'queue'
      | 'runAfter'
    >
  > | null;
}

/** What changed, as far as the store knows. A hint is only a reason to look. An empty hint means that anything may have changed. */
export interface Hint {
  /** A job is queued and due at this instant. */
  readonly dueAt?: number;
  /** A lease ends or a job expires at this instant. `by` is the worker that holds the lease. */
  readonly overdueAt?: number;
  readonly by?: string;
  /** Cancellation of a running job was requested. */
  readonly cancelled?: true;
  /** A schedule is due at this instant. */
  readonly scheduleAt?: number;
  /** Jobs have finished. */
  readonly finished?: true;
  /** Set with `finished`: the earliest `pruneAt` of these jobs, if any. */
  readonly pruneAt?: number;
  /** A worker started or stopped, or declares different schedules. */
  readonly workers?: true;
}

/** A schedule's row. `revision` is used for compare-and-set: the worker that advances it from the revision it read fires the occurrence. */
export interface ScheduleRow {
  readonly name: string;
  /** `code`: declared by workers from `tasks.schedule` calls. `store`: saved at run time. */
  readonly source: 'code' | 'store';
  readonly task: string;
  readonly queue: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly expiresMs: number | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly overrides: Overrides | null;
  /** The encoded input of every job, or null. */
  readonly input: string | null;
  /** True: code computes the input of each occurrence, and only workers with that code fire the schedule. */
  readonly computed: boolean;
  readonly trigger: Trigger;
  /** No occurrence before this instant. */
  readonly startAt: number | null;
  /** No occurrence after this instant. */
  readonly endAt: number | null;
  /** Maximum number of jobs. */
  readonly maxRuns: number | null;
  readonly jitterMs: number;
  readonly missed: Missed;
  readonly overlap: Overlap;
  /** False: defined as disabled, so the schedule never fires. */
  readonly enabled: boolean;
  /** When the schedule fires next: the next occurrence plus its jitter. Null: none is left. */
  readonly nextAt: number | null;
  /** The next occurrence. */
  readonly occurrenceAt: number | null;
  /** The last occurrence that fired or was skipped. */
  readonly lastAt: number | null;
  /** An occurrence that waits for earlier jobs to finish. */
  readonly heldAt: number | null;
  /** Number of occurrences that have created a job. */
  readonly runs: number;
  readonly paused: boolean;
  /** The reason, as a sentence. */
  readonly pausedBecause: string | null;
  readonly revision: number;
  /** Identifies a definition; changes when the definition changes. */
  readonly hash: string;
  /** The latest definitions by hash, and when each was first seen. Among those that live workers declare, the one first seen last applies. */
  readonly seen: Readonly<Record<string, number>>;
  /** The time since which no live worker has declared it. */
  readonly undeclaredAt: number | null;
}

/** When a schedule fires. */
export type Trigger = SingleTrigger | { readonly kind: 'any'; readonly of: readonly SingleTrigger[] };
export type SingleTrigger =
  | { readonly kind: 'cron'; readonly expression: string; readonly timezone: string }
  | { readonly kind: 'every'; readonly everyMs: number; readonly anchorAt: number }
  | { readonly kind: 'at'; readonly at: number }
  | ({ readonly kind: 'sun' } & SunTrigger);

/** How to handle occurrences that passed while no scheduler was running. */
export interface Missed {
  /** Occurrences later than this are not caught up. Null: no limit. */
  readonly graceMs: number | null;
  readonly catchUp: 'latest' | 'none' | 'all';
  /** Maximum number of occurrences with `all`; the latest are kept. */
  readonly limit: number;
}

/** How to handle an occurrence while an earlier one has not finished. */
export type Overlap = 'allow' | 'skip' | 'queue-one' | 'cancel-running';

/** A worker's entry in the registry, with its last heartbeat. */
export interface WorkerRow {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** The version of this package that the worker runs. */
  readonly version: string;
  /** Null means all queues. */
  readonly queues: readonly string[] | null;
  readonly excludeQueues: readonly string[] | null;
  /** The tasks that the worker knows. */
  readonly tasks: readonly string[];
  /** The schedules that its code defines: name to hash. */
  readonly schedules: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Attempts in flight at the last heartbeat. */
  readonly running: number;
  readonly state: 'running' | 'stopping' | 'stopped';
  readonly startedAt: number;
  readonly heartbeatAt: number;
}

/** A queue's row. It exists once the queue has been paused or resumed. */
export interface QueueRow {
  readonly name: string;
  readonly paused: boolean;
}
