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
   * The longest time for one attempt. After that its signal aborts and it fails with a TimeoutError.
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
  /** The module that defines the task at its top level: `import.meta.url` there. @default the module that calls `define` */
  module?: string | URL;
}

/** Which jobs of a task count as the same, and what an enqueue does when there is one already. */
export interface UniqueOptions<Input = unknown> {
  /** Makes the key of an input, as the schema has parsed it; or the key itself. @default the whole input, whatever the order of its properties */
  key?: string | ((input: Input) => string | number);
  /** A job keeps others away for this long after it was enqueued, and no longer. @default as long as it is in one of the statuses of `while` */
  within?: Duration;
  /**
   * The statuses in which a job keeps others away. `queued` includes scheduled, ready and retrying jobs.
   * @default ['queued', 'running']; with `within` also 'successful'; with `replace` ['queued'] alone
   */
  while?: readonly HoldingStatus[];
  /**
   * `skip`: enqueue makes no job and resolves to the one that is there, with `duplicate` set. `replace`: so too, and that job takes the new input,
   * priority and times. `reject`: enqueue throws a DuplicateJobError. @default 'skip'
   */
  onConflict?: OnConflict;
  /** With `replace`, to debounce: jobs without a `runAfter` are due this long after the latest enqueue. @default due at once */
  wait?: Duration;
  /** With `replace`: the job is due at the latest this long after its first enqueue. @default no bound */
  maxWait?: Duration;
}

/** How many jobs may run at a time, over all workers of the store. */
export interface ConcurrencyOptions<Input = unknown> {
  /** 1 … 100,000. May be left out with `fair`. */
  limit?: number;
  /** The limit holds for the jobs of each key by itself. @default all jobs of the task have one key */
  key?: (input: Input) => string | number;
  /**
   * The keys take turns: while several have jobs that are due, a free place goes to the key with the fewest running jobs, however many the others
   * have waiting. A function gives a key its weight, more than 0: a key of weight 2 gets twice as much as one of weight 1.
   * Anything else counts as 1.
   * @default false: first come, first served
   */
  fair?: boolean | ((key: string) => number);
}

/** How many jobs may start within a time, over all workers of the store (the generic cell rate algorithm). A job beyond the rate is due when it fits. */
export interface RateOptions<Input = unknown> {
  /** 1 … 1,000,000. */
  limit: number;
  per: Duration;
  /** How many may start at once after a quiet time; the others are spread evenly. @default the limit */
  burst?: number;
  /** The rate holds for the jobs of each key by itself. @default all jobs of the task have one key */
  key?: (input: Input) => string | number;
}

/** The options of a task that count its jobs. */
export interface LimitOptions<Input = unknown> {
  unique?: UniqueOptions<Input>;
  concurrency?: ConcurrencyOptions<Input>;
  rate?: RateOptions<Input>;
}

/** Listeners of a task's own events. */
export interface TaskListeners {
  /**
   * Called after a job of the task was recorded as successful, in the process that ran it. Errors are logged. It is not called if that process dies
   * first; what must happen belongs in the task, in a step.
   */
  onSuccess?: ((event: EventMap['successful']) => unknown) | undefined;
  /** Called after a job of the task failed for good, in the process that recorded it. Errors are logged. */
  onFailure?: ((event: EventMap['failed']) => unknown) | undefined;
}

/** The limits of a queue, over all workers of the store. */
export interface QueueOptions {
  /** The number of its jobs that may run at a time. @default no limit */
  concurrency?: number;
  /** The number of its jobs that may start within a time. @default no limit */
  rate?: Omit<RateOptions, 'key'>;
  /**
   * A job that has been due for this long starts before all jobs of the queue that have not, whatever their priorities, so that jobs of the lowest
   * priority run too.
   * @default never: a job waits for as long as there are jobs of higher priority
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
   * @default a UUID of version 7
   */
  id?: string;
  /** Instead of the task's. @default the task's */
  unique?: UniqueOptions<never>;
  /** Plain data for the application, stored with the job. */
  metadata?: Readonly<Record<string, unknown>>;
}

/** How long finished jobs are kept. */
export interface RetentionOptions {
  /**
   * With 0, a job is deleted in the transaction that records its success, unless it is part of a workflow, a schedule's, or unique: those are
   * deleted within the hour. Its result cannot be read then.
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
