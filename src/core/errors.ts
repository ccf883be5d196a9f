/**
 * Every error that Escapement throws or records. Each has a literal `code` to switch on, and a brand that still works when a process loads
 * two copies of the package. Messages say where the error is, what was expected, what was received, and what to do.
 */

const brand = Symbol.for('escapement.error');

/** The base class of this package's errors. Across copies of the package, use {@link isEscapementError} instead of `instanceof`. */
export class EscapementError extends Error {
  /** A stable identifier, for example `'ESCAPEMENT_CONFIG'`. */
  readonly code: string = 'ESCAPEMENT';
  readonly [brand]: string = 'error';
  // Each class has a literal name, so minifiers do not change it. Classes derived by applications use their own names.
  static override readonly name: string = 'EscapementError';
  override get name(): string {
    return this.constructor.name;
  }
}

/** True for any error of this package, including errors from another copy of it. */
export function isEscapementError(value: unknown): value is EscapementError {
  return typeof value === 'object' && value !== null && brand in value;
}

/** One fault in a configuration: its path, the expected value, the actual value, and a suggestion if there is a close match. */
export interface ConfigFault {
  /** The path as written in code: `queues.mail.concurrency`. */
  readonly path: string;
  /** The expected value, for example `a duration such as '30s'`. */
  readonly expected: string;
  /** The actual value, formatted for messages. */
  readonly got: string;
  /** The closest existing name, if one is close. */
  readonly didYouMean?: string;
}

/** Invalid options. Carries all faults that were found, not only the first. */
export class ConfigError extends EscapementError {
  static override readonly name: string = 'ConfigError';
  override readonly code = 'ESCAPEMENT_CONFIG';
  /** All faults; the message lists them as well. */
  declare readonly faults: readonly ConfigFault[];
  constructor(what: string, faults: readonly ConfigFault[]) {
    const lines = faults.map(
      (f) => `${f.path}: expected ${f.expected}, got ${f.got}${f.didYouMean ? ` (did you mean ${f.didYouMean}?)` : ''}`,
    );
    super(lines.length === 1 ? `${what}: ${lines[0]}` : `${what}:\n${lines.map((line) => `  - ${line}`).join('\n')}`);
    Object.defineProperty(this, 'faults', { value: faults });
    pointAtCaller(this, 'code');
  }
}

/** Number of stack frames searched for the caller of this package. */
const maxCallDepth = 20;

/**
 * Makes an error point at the caller: its stack starts where this package was called, because the frames inside the package are of no use.
 * The given properties are hidden from Node's error output, because the message already contains them.
 */
function pointAtCaller(error: EscapementError, ...properties: string[]): void {
  const limit = Error.stackTraceLimit;
  // The caller may be deeper in the stack than the default limit.
  if (limit >= 1) {
    Error.stackTraceLimit = limit + maxCallDepth;
    Error.captureStackTrace(error);
    Error.stackTraceLimit = limit;
  }
  const { stack } = error;
  if (stack !== undefined)
    Object.defineProperty(error, 'stack', { value: withoutOwnFrames(stack, limit), writable: true, configurable: true });
  for (const key of [...properties, brand]) Object.defineProperty(error, key, { enumerable: false });
}

/** This package's folder; undefined in an application's bundle, where files can no longer be told apart. */
const ownFolder = /^(file:.*\/)(?:core\/errors\.[jt]s|escapement-core\.js)$/.exec(import.meta.url ?? '')?.[1];

/** Removes this package's frames from the top of a stack and limits it to `maxFrames` frames. Returns the whole stack if it has no other frames. */
function withoutOwnFrames(stack: string, maxFrames: number): string {
  const lines = stack.split('\n');
  const first = lines.findIndex((line) => /^ {4}at /.test(line));
  if (first < 0) return stack;
  const folder = ownFolder;
  // Frames without a file, such as Array.map, belong to their callers.
  const isOwn = (line: string) =>
    folder === undefined ||
    line.includes(folder) ||
    line.includes(decodeURI(folder.replace('file://', ''))) ||
    line.endsWith('(<anonymous>)');
  const foreign = lines.findIndex((line, i) => i >= first && /^ {4}at /.test(line) && !isOwn(line));
  const from = foreign < 0 ? first : foreign;
  return [...lines.slice(0, first), ...lines.slice(from, from + maxFrames)].join('\n');
}

/** An invalid input, return value or argument. `path` names the offending value. */
export class InputError extends EscapementError {
  static override readonly name: string = 'InputError';
  override readonly code = 'ESCAPEMENT_INPUT';
  readonly path: string | undefined;
  constructor(message: string, options?: ErrorOptions & { path?: string }) {
    super(message, options);
    this.path = options?.path;
    pointAtCaller(this, 'code', 'path');
  }
}

/** No task with this name is defined. */
export class UnknownTaskError extends EscapementError {
  static override readonly name: string = 'UnknownTaskError';
  override readonly code = 'ESCAPEMENT_UNKNOWN_TASK';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    pointAtCaller(this, 'code');
  }
}

/** A task or schedule with this name already exists. */
export class DuplicateTaskError extends EscapementError {
  static override readonly name: string = 'DuplicateTaskError';
  override readonly code = 'ESCAPEMENT_DUPLICATE_TASK';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    pointAtCaller(this, 'code');
  }
}

/** Another job holds the unique key of the job to be enqueued, and its task has `onConflict: 'reject'`. */
export class DuplicateJobError extends EscapementError {
  static override readonly name: string = 'DuplicateJobError';
  override readonly code = 'ESCAPEMENT_DUPLICATE_JOB';
  /** The id of the job that holds the key. */
  readonly id: string;
  constructor(message: string, options: ErrorOptions & { id: string }) {
    super(message, options);
    this.id = options.id;
    pointAtCaller(this, 'code', 'id');
  }
}

/** No job has this id. Finished jobs are deleted after their retention. */
export class ResultNotFoundError extends EscapementError {
  static override readonly name: string = 'ResultNotFoundError';
  override readonly code = 'ESCAPEMENT_RESULT_NOT_FOUND';
}

/** The job with this id belongs to a different task (DEP 14: a task's `get_result` checks this). */
export class ResultMismatchError extends EscapementError {
  static override readonly name: string = 'ResultMismatchError';
  override readonly code = 'ESCAPEMENT_RESULT_MISMATCH';
}

/** `returnValue` was read before the job succeeded, or `wait` timed out. */
export class ResultNotReadyError extends EscapementError {
  static override readonly name: string = 'ResultNotReadyError';
  override readonly code = 'ESCAPEMENT_RESULT_NOT_READY';
}

/** A workflow cannot be enqueued because its parts depend on each other in a cycle or use several backends, or because it was awaited. */
export class WorkflowError extends EscapementError {
  static override readonly name: string = 'WorkflowError';
  override readonly code = 'ESCAPEMENT_WORKFLOW';
}

/** A store operation failed. `transient`: retrying may help, and the engine's loops do so. */
export class StoreError extends EscapementError {
  static override readonly name: string = 'StoreError';
  override readonly code = 'ESCAPEMENT_STORE';
  readonly transient: boolean;
  /** The kind of failure in one word: `busy`, `failing`, `full`, `unsupported`, `closed` … */
  readonly kind: string;
  constructor(message: string, options: ErrorOptions & { kind: string; transient?: boolean }) {
    super(message, options);
    this.kind = options.kind;
    this.transient = options.transient ?? false;
  }
}

/** A store's schema cannot be migrated, or is newer than this version supports. */
export class MigrationError extends StoreError {
  static override readonly name: string = 'MigrationError';
}

/** The abort reason of an attempt's signal, or the error that the engine records when an attempt is ended from outside. */
export class AttemptError extends EscapementError {
  static override readonly name: string = 'AttemptError';
  override readonly code: string = 'ESCAPEMENT_ATTEMPT';
}

/** The attempt exceeded its task's `timeout`. */
export class TimeoutError extends AttemptError {
  static override readonly name: string = 'TimeoutError';
  override readonly code = 'ESCAPEMENT_TIMEOUT';
}

/** The job was cancelled while it was running. */
export class CancelledError extends AttemptError {
  static override readonly name: string = 'CancelledError';
  override readonly code = 'ESCAPEMENT_CANCELLED';
}

/** The worker no longer holds the job: its lease has ended, so another worker may run it. The result of this attempt is discarded. */
export class LeaseLostError extends AttemptError {
  static override readonly name: string = 'LeaseLostError';
  override readonly code = 'ESCAPEMENT_LEASE_LOST';
}

/** The attempt ended early because its job is sleeping or waiting for a signal. The job occupies no worker, and runs again later. */
export class SuspendedError extends AttemptError {
  static override readonly name: string = 'SuspendedError';
  override readonly code = 'ESCAPEMENT_SUSPENDED';
}

/** The worker is stopping and its grace period has ended. */
export class ShutdownError extends AttemptError {
  static override readonly name: string = 'ShutdownError';
  override readonly code = 'ESCAPEMENT_SHUTDOWN';
}

/** Throw this from a task to fail the job immediately, without further attempts. */
export class PermanentError extends EscapementError {
  static override readonly name: string = 'PermanentError';
  override readonly code: string = 'ESCAPEMENT_PERMANENT';
  override readonly [brand] = 'permanent';
}

/**
 * Throw this from a task to fail the attempt and delay the next one by at least `after`, for example as a server requested. The task's
 * backoff applies if it is longer.
 * @example throw new RetryAfterError('429 Too Many Requests', { after: '5m', cause: error });
 */
export class RetryAfterError extends EscapementError {
  static override readonly name: string = 'RetryAfterError';
  override readonly code = 'ESCAPEMENT_RETRY_AFTER';
  /** A duration such as `'5m'`, or milliseconds. An invalid one has no effect. */
  readonly after: string | number;
  constructor(message: string, options: { readonly after: string | number; readonly cause?: unknown }) {
    super(message, 'cause' in options ? { cause: options.cause } : {});
    this.after = options.after;
  }
}

/** In a simulation: an attempt waits on something outside virtual time, and the real-time limit for that has been reached. */
export class SimulationStalledError extends EscapementError {
  static override readonly name: string = 'SimulationStalledError';
  override readonly code = 'ESCAPEMENT_SIMULATION_STALLED';
}

/** In a simulation: jobs remain, but nothing is in flight and no timer will start them. */
export class SimulationDeadlockError extends EscapementError {
  static override readonly name: string = 'SimulationDeadlockError';
  override readonly code = 'ESCAPEMENT_SIMULATION_DEADLOCK';
}

/** In a simulation: virtual time passed its limit while jobs were unfinished. */
export class SimulationRunawayError extends EscapementError {
  static override readonly name: string = 'SimulationRunawayError';
  override readonly code = 'ESCAPEMENT_SIMULATION_RUNAWAY';
}

/** An exploration found a run in which the application breaks. */
export class ExplorationError extends EscapementError {
  static override readonly name: string = 'ExplorationError';
  override readonly code = 'ESCAPEMENT_EXPLORATION';
  /** The value of ESCAPEMENT_REPLAY that replays the run. */
  readonly replay: string;
  readonly seed: number;
  constructor(message: string, replay: string, seed: number, options?: ErrorOptions) {
    super(message, options);
    this.replay = replay;
    this.seed = seed;
  }
}

/** In a simulation: incorrect use, or unfinished work when it ended. */
export class SimulationError extends EscapementError {
  static override readonly name: string = 'SimulationError';
  override readonly code = 'ESCAPEMENT_SIMULATION';
}
