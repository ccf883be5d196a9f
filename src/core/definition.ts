/** A task's definition with all options parsed, and the context passed to its function. The engine uses these; `options.ts` makes them. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Backoff, BackoffInput } from './backoff.ts';
import type { Duration } from './duration.ts';
import type { Rate } from './gate.ts';
import type { IfStorable, Settled, Stored } from './json.ts';
import type { OwnRetention } from './types.ts';
import type { HoldingStatus, OnConflict } from './unique.ts';

/** Writes lines to an attempt's log. Fields must be plain data. */
export interface TaskLog {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** The metadata of a job, for its task to read and change. */
export interface TaskMetadata {
  get(key: string): unknown;
  /**
   * Changes the metadata of the job. The change is saved within seconds, and at the latest with the outcome. Later attempts see it.
   * @param value plain data; undefined removes the key. The metadata may have at most 16 KiB of JSON.
   * @throws InputError if it cannot be stored
   */
  set(key: string, value: unknown): void;
}

/** The argument of a step's function. */
export interface StepContext {
  /** The job's id and the step's name. It is the same every time this step runs, so it can serve as an idempotency key. */
  readonly id: string;
  /** 1 for the first try of this step in this attempt of the job. */
  readonly attempt: number;
  /** Aborts when the attempt ends or the step times out. */
  readonly signal: AbortSignal;
}

/** Options of a step. @typeParam T what its function returns */
export interface StepOptions<T = never> {
  /** Distinguishes steps that run in parallel under one name: a number, or a string of at most 200 characters. */
  key?: string | number;
  /**
   * Retries within the attempt. An error after the last try fails the attempt; the job's next attempt resumes at this step.
   * @default one try
   */
  retry?: { maxAttempts?: number; backoff?: BackoffInput };
  /** Time limit for one try. @default none */
  timeout?: Duration;
  /**
   * Undoes the step if the job fails for good or is cancelled after the step has run. The steps of a job are undone in reverse order, each
   * once. A compensation that fails is retried with the delays of the task's retries, up to ten times. The job ends when all steps are
   * undone.
   * @param value what the step returned
   */
  compensate?: (value: T, step: StepContext) => unknown;
}

/** Options of a wait for a signal. */
export interface WaitOptions<Schema extends StandardSchemaV1 | undefined = undefined> {
  /** How long to wait for the signal. @default forever */
  timeout?: Duration;
  /** Parses the data of the signal. */
  schema?: Schema;
}

/** The second argument of a task's function: the current attempt. `Result` is the caller's view of the job. */
export interface TaskContext<Result = unknown, Workflow = unknown> {
  /** The job's id. */
  readonly id: string;
  readonly task: string;
  /** 1 for the first attempt. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** The schedule that enqueued the job and its occurrence, or null. */
  readonly schedule: string | null;
  readonly scheduledAt: Date | null;
  /** The job as callers see it: a snapshot from the start of the attempt. */
  readonly result: Result;
  /** The workflow that the job is part of, or null. */
  readonly workflow: Workflow;
  /**
   * Aborts with a TimeoutError, CancelledError, LeaseLostError or ShutdownError as its reason. Pass it to everything you wait for. After
   * one of the first three, the attempt has ended, and whatever the function returns or throws is ignored. After a ShutdownError, the
   * function has 4 s more: a return value counts as usual, and any error returns the job to the queue without using up an attempt.
   */
  readonly signal: AbortSignal;
  /** Writes to the application's logger, and to the job's log: the latest 100 lines are kept with the job, see `result.logs`. */
  readonly log: TaskLog;
  /** The job's metadata. */
  readonly metadata: TaskMetadata;
  /** The current time of the engine's clock. */
  now(): Date;
  /**
   * Waits. Rejects with the signal's reason when it aborts. Between steps, the end of a sleep is recorded with the job, and a sleep of more
   * than 30 s gives up the worker's slot: the function then starts from the top and sleeps until the recorded instant. In a job that has
   * not used a step, the attempt keeps waiting.
   */
  sleep(duration: Duration): Promise<void>;
  /**
   * Reports the attempt's progress.
   * @param fraction 0 … 1; values outside are clamped and non-numbers are ignored, each with one warning per task
   */
  progress(fraction: number, message?: string): void;
  /**
   * Records the job as successful in the application's own transaction, so that the effect and the outcome commit together or not at all.
   * The function's return value is ignored afterwards. If the transaction does not commit, the attempt fails.
   * @param options.transaction a better-sqlite3 database with an open transaction, on the store's file
   * @returns nothing on SQLite, which is synchronous; a promise on an asynchronous store: await it before you commit
   * @throws LeaseLostError if another worker holds the job; let it fail the transaction
   */
  complete<Value>(
    value: Value & IfStorable<Settled<Value>, Stored<Settled<Value>>>,
    options: { readonly transaction: unknown },
  ): void | Promise<void>;
  /** The bytes stored under this name, either when the job was enqueued or by `saveBlob`; null if there are none. */
  blob(name: string): Promise<Uint8Array | null>;
  /**
   * Stores bytes with the job before it ends. A later attempt reads them with `blob`. They are deleted with the job.
   * @param name 1 to 128 characters: letters, digits and _ . : / -
   * @throws LeaseLostError if another worker has the job
   */
  saveBlob(name: string, bytes: Uint8Array): Promise<void>;
  /**
   * Runs `fn` once in the lifetime of the job and records what it returns. When the job runs again, after a failure, a lost worker or a
   * sleep, the task's function starts from the top, and this returns the recorded value without running `fn`. The code around a step has no
   * other restrictions. Repeated names are numbered in order: `name`, `name#2`.
   * @param fn must return plain JSON data
   * @throws what `fn` throws, after the tries of `options.retry`
   * @example const charge = await ctx.step('charge', ({ id }) => stripe.charge(order, { idempotencyKey: id }));
   */
  step<T>(name: string, fn: (step: StepContext) => T, options?: StepOptions<Awaited<T>>): Promise<Awaited<T>>;
  /**
   * Waits for `tasks.signal(name)`. Signals may be sent before the wait begins: they are kept until a job reads them. The job gives up its
   * slot while it waits, and its function then starts from the top, so put side effects in steps.
   * @returns the data of the signal (true if it was sent without data); null after the timeout
   */
  waitFor<Schema extends StandardSchemaV1 | undefined = undefined>(
    name: string,
    options?: WaitOptions<Schema>,
  ): Promise<(Schema extends StandardSchemaV1 ? StandardSchemaV1.InferOutput<Schema> : unknown) | null>;
  /**
   * Waits for something outside the process. In a simulation, virtual time stands still until it is done. Otherwise this just calls `fn`.
   */
  external<T>(label: string, fn: () => Promise<T>): Promise<T>;
}

/** The application's function that derives a key from the parsed input; null: all inputs have the same key. */
export type KeyOf = ((input: unknown) => unknown) | null;

/** A task's parsed `unique` option. */
export interface UniqueRule {
  /** A string is the key itself. Null: the whole input is the key. */
  readonly key: string | KeyOf;
  readonly withinMs: number | null;
  readonly while: readonly HoldingStatus[];
  readonly onConflict: OnConflict;
  readonly waitMs: number | null;
  readonly maxWaitMs: number | null;
}

/** Where a task's function runs, if not in the thread of its worker. */
export interface Isolation {
  readonly in: 'thread' | 'process';
  /** The URL of the module that defines the task. */
  readonly module: string;
}

/** A task with all options parsed. */
export interface Definition {
  readonly name: string;
  readonly backend: string;
  readonly queue: string;
  readonly priority: number;
  readonly schema: StandardSchemaV1 | null;
  readonly maxAttempts: number;
  readonly backoff: Backoff;
  /** Returns false for an error that fails the job immediately. May throw. */
  readonly retryable: ((error: unknown) => boolean) | null;
  readonly timeoutMs: number | null;
  readonly expires: Duration | null;
  readonly tags: readonly string[];
  /** Null: only the application's retention applies. */
  readonly retention: OwnRetention | null;
  readonly unique: UniqueRule | null;
  /** `limit` null: only the shares of the keys limit it. */
  readonly concurrency: { readonly limit: number | null; readonly key: KeyOf; readonly shareOf: ((key: string) => number) | null } | null;
  readonly rate: (Rate & { readonly key: KeyOf }) | null;
  /** Null: it runs in the thread of its worker. */
  readonly isolate: Isolation | null;
  readonly run: (input: unknown, context: TaskContext) => unknown;
}

/** A function that only ignores its parameters takes no input. A parameter with a default counts, although `length` is 0. */
export function takesParameter(run: Definition['run']): boolean {
  return run.length > 0 && !/^(?:async\s+)?(?:function\s*)?[\w$]*\s*\(?\s*_/.test(Function.prototype.toString.call(run));
}

/** True if the task's jobs have an input. */
export function takesInput({ schema, run }: Definition): boolean {
  return schema !== null || takesParameter(run);
}
