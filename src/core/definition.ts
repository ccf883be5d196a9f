/** A task's definition with all options parsed, and the context passed to its function. The engine uses these; `options.ts` makes them. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Backoff } from './backoff.ts';
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

/** The second argument of a task's function: the current attempt. `Result` is the caller's view of the job. */
export interface TaskContext<Result = unknown> {
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
  /**
   * Aborts with a TimeoutError, CancelledError, LeaseLostError or ShutdownError as its reason. Pass it to everything you wait for. After
   * one of the first three, the attempt has ended, and whatever the function returns or throws is ignored. After a ShutdownError, the
   * function has 4 s more: a return value counts as usual, and any error returns the job to the queue without using up an attempt.
   */
  readonly signal: AbortSignal;
  readonly log: TaskLog;
  /** The current time of the engine's clock. */
  now(): Date;
  /** Waits. Rejects with the signal's reason when the signal aborts. */
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
  /** The bytes that the job was enqueued with under this name, or that `saveBlob` kept; null: there are none. */
  blob(name: string): Promise<Uint8Array | null>;
  /**
   * Keeps bytes beside the job, before it ends: a later attempt reads them with `blob`. They are deleted with the job.
   * @param name 1 to 128 characters: letters, digits and _ . : / -
   * @throws LeaseLostError when another worker has the job
   */
  saveBlob(name: string, bytes: Uint8Array): Promise<void>;
  /** Waits on something outside the process. In a simulation, virtual time stands still until it is done; otherwise this just calls `fn`. */
  external<T>(label: string, fn: () => Promise<T>): Promise<T>;
}

/** The application's function that makes a key of an input as the schema has parsed it; null: all inputs have one key. */
export type KeyOf = ((input: unknown) => unknown) | null;

/** A task's `unique`, read. */
export interface UniqueRule {
  /** A text: the key itself. Null: the whole input is the key. */
  readonly key: string | KeyOf;
  readonly withinMs: number | null;
  readonly while: readonly HoldingStatus[];
  readonly onConflict: OnConflict;
  readonly waitMs: number | null;
  readonly maxWaitMs: number | null;
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
  readonly concurrency: { readonly limit: number; readonly key: KeyOf } | null;
  readonly rate: (Rate & { readonly key: KeyOf }) | null;
  readonly run: (input: unknown, context: TaskContext) => unknown;
}
