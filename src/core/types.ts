/**
 * The rows that stores keep, and the words for their states. A row is immutable: a change is a new row, so what a store hands out can be
 * kept and compared. All instants are epoch milliseconds (`…At`), all lengths of time milliseconds (`…Ms`).
 */
import type { Backoff } from './backoff.ts';
import type { RecordedError } from './failure.ts';
import type { SunTrigger } from './sun.ts';
import type { Uniqueness } from './unique.ts';

/** The six states that a store keeps. */
export type StoredStatus = 'waiting' | 'queued' | 'running' | 'successful' | 'failed' | 'cancelled';
/** The states that people see: `scheduled`, `ready` and `retrying` are read off `queued` by its due time and attempt. */
export type Status = 'waiting' | 'scheduled' | 'ready' | 'retrying' | 'running' | 'successful' | 'failed' | 'cancelled';
/** The four states of DEP 14. */
export type DepStatus = 'READY' | 'RUNNING' | 'SUCCESSFUL' | 'FAILED';

/** How far an attempt says that it has come. */
export interface Progress {
  /** From 0 to 1. */
  readonly fraction: number;
  readonly message: string | null;
  readonly at: number;
}

/** One job: one enqueued call of a task, one row. */
export interface Job {
  /** UUID version 7: in one process, ids are in enqueue order. Or what the application gave, of letters, digits and _ . : / -. */
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  readonly status: StoredStatus;
  /** −100 … 100, larger first. */
  readonly priority: number;
  /** Encoded by `core/json`; null: none was given. */
  readonly input: string | null;
  /** When it may be claimed. */
  readonly dueAt: number;
  readonly enqueuedAt: number;
  /** The due time that was asked for, if one was. */
  readonly runAfter: number | null;
  /** Not started by then: cancelled. */
  readonly expiresAt: number | null;
  /** Attempts used, the running one included. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** The fencing number: grows with every claim, never shrinks. 0: never claimed. */
  readonly claim: number;
  /** The worker that holds the lease. */
  readonly worker: string | null;
  /** The instant from which the job is an orphan; exclusive, so at this instant the lease is over. */
  readonly leaseUntil: number | null;
  /** Leases lost in a row, without an outcome in between. */
  readonly losses: number;
  readonly startedAt: number | null;
  readonly lastAttemptedAt: number | null;
  readonly finishedAt: number | null;
  /** A running job that someone wants cancelled: its worker is told at the next renewal. */
  readonly cancelRequested: string | null;
  readonly returnValue: string | null;
  /** Why it ended as it did, in a word or a sentence: `expired`, `poisoned`, what cancel was given. */
  readonly reason: string | null;
  readonly progress: Progress | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly schedule: string | null;
  readonly scheduledAt: number | null;
  /** What this job wants otherwise than its task's definition says. */
  readonly overrides: Overrides | null;
  /** Null: any number of jobs may be like this one. */
  readonly unique: Uniqueness | null;
  /** The key under which its task's `concurrency` is counted; null: the task's jobs are counted together. */
  readonly concurrencyKey: string | null;
  /** The key under which its task's `rate` is counted; null: the task's jobs are counted together. */
  readonly rateKey: string | null;
  /** The job whose attempt enqueued this one; null: none did. */
  readonly enqueuedBy: string | null;
}

/** Options that a job carries itself: those that `using` gave it, and its task's retention. Plain data: functions could not be stored. */
export interface Overrides {
  readonly timeoutMs?: number;
  readonly backoff?: Backoff;
  readonly retention?: OwnRetention;
}

/** How long a job is kept once it has finished, by how it ended; null: forever. What is left out is the application's to say. */
export interface OwnRetention {
  readonly successfulMs?: number | null;
  readonly failedMs?: number | null;
  readonly cancelledMs?: number | null;
}

/** How an attempt ended. `released`: given back by a worker that stopped. */
export type AttemptOutcome = 'successful' | 'failed' | 'snoozed' | 'cancelled' | 'lost' | 'released';

/** One try at a job, written by claim and settle. Snoozed and released ones have given their number back. */
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

/** What a store does to a row when an attempt ends; made by `decide`, applied by every store's `settle` alone. */
export interface Settlement {
  readonly id: string;
  /** The fence: applied only while the row is running under this claim. */
  readonly claim: number;
  readonly outcome: AttemptOutcome;
  readonly error: RecordedError | null;
  readonly settledAt: number;
  readonly status: 'queued' | 'successful' | 'failed' | 'cancelled';
  readonly attempt: number;
  readonly losses: number;
  /** When the row may be claimed again; meaningful for `queued`. */
  readonly dueAt: number;
  readonly returnValue: string | null;
  readonly reason: string | null;
  /** The progress last reported, if it was. */
  readonly progress: Progress | null;
  /** Asks whether this was applied, in a transaction of the application's that may not have committed; applies nothing. */
  readonly confirm?: true;
}

/** A change by an operator, or by the engine outside an attempt: applied only while the row has this status and claim number. */
export interface Amendment {
  readonly id: string;
  readonly expect: { readonly status: StoredStatus; readonly claim: number };
  /** Null: the row is deleted, with its attempts. */
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

/**
 * What changed, as far as the store knows; nothing more than a reason to look. An empty hint: anything may have changed.
 */
export interface Hint {
  /** A job is queued and due at this instant. */
  readonly dueAt?: number;
  /** A lease that ends, or a job that expires, at this instant; `by` holds it. */
  readonly overdueAt?: number;
  readonly by?: string;
  /** A running job is wanted cancelled. */
  readonly cancelled?: true;
  /** A schedule is due at this instant. */
  readonly scheduleAt?: number;
  /** These jobs are over. */
  readonly finished?: true;
  /** With `finished`: the earliest `pruneAt` of these jobs, if one has any. */
  readonly pruneAt?: number;
  /** A worker has come or gone, or declares other schedules. */
  readonly workers?: true;
}

/** A schedule's row. `revision` is the compare-and-set: whoever advances it from the revision that they read has won the occurrence. */
export interface ScheduleRow {
  readonly name: string;
  /** `code`: brought by workers from what `tasks.schedule` defines. `store`: saved at run time. */
  readonly source: 'code' | 'store';
  readonly task: string;
  readonly queue: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly expiresMs: number | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly overrides: Overrides | null;
  /** Encoded input of every job; null: none. */
  readonly input: string | null;
  /** True: code computes the input of each occurrence; only workers with that code fire the schedule. */
  readonly computed: boolean;
  readonly trigger: Trigger;
  /** No occurrence before this. */
  readonly startAt: number | null;
  /** No occurrence after this. */
  readonly endAt: number | null;
  /** No more jobs than this. */
  readonly maxRuns: number | null;
  readonly jitterMs: number;
  readonly missed: Missed;
  readonly overlap: Overlap;
  /** False: it never fires; it was defined so. */
  readonly enabled: boolean;
  /** When it fires next: the coming occurrence and its jitter. Null: none is left. */
  readonly nextAt: number | null;
  /** The coming occurrence. */
  readonly occurrenceAt: number | null;
  /** The occurrence that fired last, or was passed over. */
  readonly lastAt: number | null;
  /** An occurrence that waits for the jobs before it to end. */
  readonly heldAt: number | null;
  /** How many occurrences have made a job. */
  readonly runs: number;
  readonly paused: boolean;
  /** Why, in a sentence. */
  readonly pausedBecause: string | null;
  readonly revision: number;
  /** Tells a changed definition from an unchanged one. */
  readonly hash: string;
  /** The latest definitions by their hash, and when each was first seen: of those that live workers declare, the one first seen last holds. */
  readonly seen: Readonly<Record<string, number>>;
  /** Since when no live worker has declared it. */
  readonly undeclaredAt: number | null;
}

/** When a schedule fires. */
export type Trigger = SingleTrigger | { readonly kind: 'any'; readonly of: readonly SingleTrigger[] };
export type SingleTrigger =
  | { readonly kind: 'cron'; readonly expression: string; readonly timezone: string }
  | { readonly kind: 'every'; readonly everyMs: number; readonly anchorAt: number }
  | { readonly kind: 'at'; readonly at: number }
  | ({ readonly kind: 'sun' } & SunTrigger);

/** What is done about occurrences that passed while no scheduler ran. */
export interface Missed {
  /** Later than this, an occurrence is not caught up; null: however late. */
  readonly graceMs: number | null;
  readonly catchUp: 'latest' | 'none' | 'all';
  /** With `all`: at most so many, the latest. */
  readonly limit: number;
}

/** What is done about an occurrence whose predecessor has not finished. */
export type Overlap = 'allow' | 'skip' | 'queue-one' | 'cancel-running';

/** A worker's entry in the registry: who is there, and when it was last heard of. */
export interface WorkerRow {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** The version of this package that it runs. */
  readonly version: string;
  /** Null: all. */
  readonly queues: readonly string[] | null;
  readonly excludeQueues: readonly string[] | null;
  /** The names of the tasks that it knows. */
  readonly tasks: readonly string[];
  /** The schedules that its code defines: the hash of each by its name. */
  readonly schedules: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Attempts in flight at the last heartbeat. */
  readonly running: number;
  readonly state: 'running' | 'stopping' | 'stopped';
  readonly startedAt: number;
  readonly heartbeatAt: number;
}

/** A queue's own row: it exists once someone has paused or resumed it. */
export interface QueueRow {
  readonly name: string;
  readonly paused: boolean;
}
