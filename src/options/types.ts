/** The options of jobs and tasks: their types and defaults. */
import type { BackoffInput } from '../core/backoff.ts';
import type { Duration, Instant } from '../core/duration.ts';
import type { EventMap } from '../core/events.ts';
import type { HoldingStatus, OnConflict } from '../core/unique.ts';

/** When and how often a failed attempt is retried. */
export interface RetryOptions {
  /** Maximum number of attempts, including the first: 1 … 10,000. @default 20 */
  maxAttempts?: number;
  /** The delays between attempts. @default exponential(): 1 s × 2, up to 24 h, plus 0 … 20 % */
  backoff?: BackoffInput;
  /** Errors for which this returns true fail the job immediately. */
  unless?: (error: unknown) => boolean;
  /** Only errors for which this returns true are retried. */
  only?: (error: unknown) => boolean;
}

/** Options that a task's definition sets for its jobs. `using` and schedules can override each of them. */
export interface JobOptions {
  /** @default 'default' */
  queue?: string;
  /** −100 … 100, larger first (DEP 14). @default 0 */
  priority?: number;
  retry?: RetryOptions;
  /**
   * Time limit for one attempt. After that its signal aborts and it fails with a TimeoutError.
   * @default none
   */
  timeout?: Duration;
  /**
   * A job that has not started within this time after `runAfter` (or after enqueue), or by this instant, is cancelled with reason
   * `expired`.
   * @default never
   */
  expires?: Duration | Instant;
  /**
   * Labels to find jobs by.
   * @default []
   */
  tags?: readonly string[];
  /**
   * How long a finished job is kept. Statuses without a value use the application's retention. A job keeps the value it was enqueued with.
   * @default the application's retention
   */
  retention?: RetentionOptions;
  /** The alias of the backend. @default 'default' */
  backend?: string;
}

/** Where a task's function runs. */
export interface IsolateOptions {
  in: 'thread' | 'process';
  /** The URL of the module that defines the task at its top level, `import.meta.url` there. @default the module that calls `define` */
  module?: string | URL;
}

/** Which jobs of a task count as the same, and what an enqueue does if such a job exists already. */
export interface UniqueOptions<Input = unknown> {
  /** The key, or a function that computes it from the parsed input. @default the whole input, regardless of the order of its properties */
  key?: string | ((input: Input) => string | number);
  /** A job holds its key for this long after it was enqueued, and no longer. @default as long as it is in one of the statuses of `while` */
  within?: Duration;
  /**
   * The statuses in which a job holds its key. `queued` includes scheduled, ready and retrying jobs.
   * @default ['queued', 'running']; with `within` also 'successful'; with `replace` only ['queued']
   */
  while?: readonly HoldingStatus[];
  /**
   * `skip`: enqueue creates no job and resolves to the existing one, with `duplicate` set. `replace`: the same, and the existing job takes
   * the new input, priority and times. `reject`: enqueue throws a DuplicateJobError.
   * @default 'skip'
   */
  onConflict?: OnConflict;
  /** With `replace`, to debounce: jobs without a `runAfter` are due this long after the latest enqueue. @default due immediately */
  wait?: Duration;
  /** With `replace`: the job is due at the latest this long after its first enqueue. @default no limit */
  maxWait?: Duration;
}

/** How many jobs may run at a time, across all workers of the store. */
export interface ConcurrencyOptions<Input = unknown> {
  /** 1 … 100,000. Optional with `fair`. */
  limit?: number;
  /** Applies the limit to the jobs of each key separately. @default all jobs of the task share one key */
  key?: (input: Input) => string | number;
  /**
   * Lets the keys take turns: while several keys have due jobs, a free slot goes to the key with the fewest running jobs, regardless of how
   * many are waiting. A function returns the weight of a key, greater than 0: a key of weight 2 gets twice as much as one of weight 1. Any
   * other value counts as 1.
   * @default false: first come, first served
   */
  fair?: boolean | ((key: string) => number);
}

/**
 * How many jobs may start per period, across all workers of the store (the generic cell rate algorithm). A job that exceeds the rate
 * becomes due when the rate allows it.
 */
export interface RateOptions<Input = unknown> {
  /** 1 … 1,000,000. */
  limit: number;
  per: Duration;
  /** How many may start at once after a quiet period; the others are evenly spaced. @default the limit */
  burst?: number;
  /** Applies the rate to the jobs of each key separately. @default all jobs of the task share one key */
  key?: (input: Input) => string | number;
}

/** The options of a task that limit its jobs. */
export interface LimitOptions<Input = unknown> {
  unique?: UniqueOptions<Input>;
  concurrency?: ConcurrencyOptions<Input>;
  rate?: RateOptions<Input>;
}

/** Listeners for a task's own events. */
export interface TaskListeners {
  /**
   * Called after a job of the task was recorded as successful, in the process that ran it. Errors are logged. It is not called if that
   * process dies first, so put anything that must happen in the task, in a step.
   */
  onSuccess?: ((event: EventMap['successful']) => unknown) | undefined;
  /** Called after a job of the task failed for good, in the process that recorded it. Errors are logged. */
  onFailure?: ((event: EventMap['failed']) => unknown) | undefined;
}

/** The limits of a queue, across all workers of the store. */
export interface QueueOptions {
  /** The maximum number of its jobs that run at a time. @default no limit */
  concurrency?: number;
  /** How many of its jobs may start per period. @default no limit */
  rate?: Omit<RateOptions, 'key'>;
  /**
   * A job that has been due for this long starts before all jobs of the queue that have not, regardless of priority, so that jobs of the
   * lowest priority run too.
   * @default never: a job waits as long as there are jobs of higher priority
   */
  aging?: Duration;
}

/** Options of `using`: every option of a task except `run` and `input`, and options for individual jobs. */
export interface UsingOptions extends JobOptions {
  /** The earliest start: a duration from now, or an instant. A number is milliseconds from now. */
  runAfter?: Duration | Instant;
  /**
   * A custom job id: 1 to 128 letters, digits and _ . : / -, starting with a letter or digit. Enqueueing the same id again creates no job
   * and returns the existing one, as long as it is kept.
   * @default a UUIDv7
   */
  id?: string;
  /** Replaces the task's `unique`. @default the task's */
  unique?: UniqueOptions<never>;
  /** Plain data for the application, stored with the job. */
  metadata?: Readonly<Record<string, unknown>>;
}

/** How long finished jobs are kept. */
export interface RetentionOptions {
  /**
   * With 0, a job is deleted in the transaction that records its success, unless it is part of a workflow, belongs to a schedule, or is
   * unique; those jobs are deleted within the hour. The results of deleted jobs cannot be read.
   * @default '24h'
   */
  successful?: Duration | 'forever';
  /** @default '7d' */
  failed?: Duration | 'forever';
  /** @default '7d' */
  cancelled?: Duration | 'forever';
}

/** Options of `edit` for a queued job; omitted properties stay as they are. */
export interface EditOptions<Input = unknown> {
  /** Must match the task's schema. */
  input?: Input;
  /** The earliest start: a duration from now, or an instant. A job that waits for a retry is retried then. */
  runAfter?: Duration | Instant;
  /** When the job is cancelled if it has not started: a duration after it is due, or an instant. */
  expires?: Duration | Instant;
  queue?: string;
  /** −100 … 100, larger first. */
  priority?: number;
}
