/**
 * Every error that Escapement throws or records. Each has a literal `code` to switch on and a brand that survives two copies of the
 * package in one process; messages say where, what was expected, what was got, and what to do.
 */

const brand = Symbol.for('escapement.error');

/** The base of all errors of this package. Use {@link isEscapementError} rather than `instanceof` across package copies. */
export class EscapementError extends Error {
  /** A stable identifier, for example `'ESCAPEMENT_CONFIG'`. */
  readonly code: string = 'ESCAPEMENT';
  readonly [brand]: string = 'error';
  // Each class has a literal name, which a bundler that shortens names leaves alone; classes that applications derive go by their own.
  static override readonly name: string = 'EscapementError';
  override get name(): string {
    return this.constructor.name;
  }
}

/** True for any error of this package, also one that another copy of it made. */
export function isEscapementError(value: unknown): value is EscapementError {
  return typeof value === 'object' && value !== null && brand in value;
}

/** One fault in a configuration: where it is, what belongs there, what was found, and, where a guess is good, what was meant. */
export interface ConfigFault {
  /** Where, as one would write it: `queues.mail.concurrency`. */
  readonly path: string;
  /** What belongs there, for example `a duration such as '30s'`. */
  readonly expected: string;
  /** What was found, printed for a person. */
  readonly got: string;
  /** The nearest thing that exists, if one is near. */
  readonly didYouMean?: string;
}

/** Options that cannot be used. Carries every fault that was found, not only the first. */
export class ConfigError extends EscapementError {
  static override readonly name: string = 'ConfigError';
  override readonly code = 'ESCAPEMENT_CONFIG';
  /** Each of them; the message has them all. */
  declare readonly faults: readonly ConfigFault[];
  constructor(what: string, faults: readonly ConfigFault[]) {
    const lines = faults.map(
      (f) => `${f.path}: expected ${f.expected}, got ${f.got}${f.didYouMean ? ` (did you mean ${f.didYouMean}?)` : ''}`,
    );
    super(lines.length === 1 ? `${what}: ${lines[0]}` : `${what}:\n${lines.map((line) => `  - ${line}`).join('\n')}`);
    Object.defineProperty(this, 'faults', { value: faults });
    tellCaller(this, 'code');
  }
}

/** So many frames of this package are looked through for its caller. */
const deepestCall = 20;

/**
 * Makes an error one about what the caller did. Where it was made is of no use then: the stack begins where this package was called. Its message says it all:
 * nothing more is printed where Node prints an error with its properties.
 */
function tellCaller(error: EscapementError, ...properties: string[]): void {
  const limit = Error.stackTraceLimit;
  // The caller may stand below more frames of this package than are kept.
  if (limit >= 1) {
    Error.stackTraceLimit = limit + deepestCall;
    Error.captureStackTrace(error);
    Error.stackTraceLimit = limit;
  }
  const { stack } = error;
  if (stack !== undefined)
    Object.defineProperty(error, 'stack', { value: withoutOwnFrames(stack, limit), writable: true, configurable: true });
  for (const key of [...properties, brand]) Object.defineProperty(error, key, { enumerable: false });
}

/** Where this package stands; undefined in a bundle, where its files are no longer told apart. */
const ownFolder = /^(file:.*\/)core\/errors\.[jt]s$/.exec(import.meta.url ?? '')?.[1];

/** A stack without the frames of this package above the first one of somebody else, and at most so many frames; whole where there is none. */
function withoutOwnFrames(stack: string, most: number): string {
  const lines = stack.split('\n');
  const first = lines.findIndex((line) => /^ {4}at /.test(line));
  if (first < 0) return stack;
  const folder = ownFolder;
  // Frames without a file, as of Array.map, belong to those that call.
  const isOwn = (line: string) =>
    folder === undefined ||
    line.includes(folder) ||
    line.includes(decodeURI(folder.replace('file://', ''))) ||
    line.endsWith('(<anonymous>)');
  const foreign = lines.findIndex((line, i) => i >= first && /^ {4}at /.test(line) && !isOwn(line));
  const from = foreign < 0 ? first : foreign;
  return [...lines.slice(0, first), ...lines.slice(from, from + most)].join('\n');
}

/** An input, a return value or an argument that cannot be accepted as it is. `path` names the offending value. */
export class InputError extends EscapementError {
  static override readonly name: string = 'InputError';
  override readonly code = 'ESCAPEMENT_INPUT';
  readonly path: string | undefined;
  constructor(message: string, options?: ErrorOptions & { path?: string }) {
    super(message, options);
    this.path = options?.path;
    tellCaller(this, 'code', 'path');
  }
}

/** A task name that nobody defined here. */
export class UnknownTaskError extends EscapementError {
  static override readonly name: string = 'UnknownTaskError';
  override readonly code = 'ESCAPEMENT_UNKNOWN_TASK';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    tellCaller(this, 'code');
  }
}

/** A task or schedule name that is taken. */
export class DuplicateTaskError extends EscapementError {
  static override readonly name: string = 'DuplicateTaskError';
  override readonly code = 'ESCAPEMENT_DUPLICATE_TASK';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    tellCaller(this, 'code');
  }
}

/** No job has this id, or no longer: finished jobs are pruned after their retention. */
export class ResultNotFoundError extends EscapementError {
  static override readonly name: string = 'ResultNotFoundError';
  override readonly code = 'ESCAPEMENT_RESULT_NOT_FOUND';
}

/** The job with this id belongs to another task than the one that was asked (DEP 14: a task's `get_result` checks its own). */
export class ResultMismatchError extends EscapementError {
  static override readonly name: string = 'ResultMismatchError';
  override readonly code = 'ESCAPEMENT_RESULT_MISMATCH';
}

/** `returnValue` was read before the job was successful, or `wait` ran out of time. */
export class ResultNotReadyError extends EscapementError {
  static override readonly name: string = 'ResultNotReadyError';
  override readonly code = 'ESCAPEMENT_RESULT_NOT_READY';
}

/** The store could not do what was asked. `transient`: trying again may help; the engine's loops then do so themselves. */
export class StoreError extends EscapementError {
  static override readonly name: string = 'StoreError';
  override readonly code = 'ESCAPEMENT_STORE';
  readonly transient: boolean;
  /** What went wrong in one word: `busy`, `failing`, `full`, `unsupported`, `closed` … */
  readonly kind: string;
  constructor(message: string, options: ErrorOptions & { kind: string; transient?: boolean }) {
    super(message, options);
    this.kind = options.kind;
    this.transient = options.transient ?? false;
  }
}

/** The schema of a store cannot be brought up to date, or is newer than this version knows. */
export class MigrationError extends StoreError {
  static override readonly name: string = 'MigrationError';
}

/** What an attempt's signal carries as its reason, or what the engine records when an attempt did not end by itself. */
export class AttemptError extends EscapementError {
  static override readonly name: string = 'AttemptError';
  override readonly code: string = 'ESCAPEMENT_ATTEMPT';
}

/** The attempt ran longer than its task's `timeout`. */
export class TimeoutError extends AttemptError {
  static override readonly name: string = 'TimeoutError';
  override readonly code = 'ESCAPEMENT_TIMEOUT';
}

/** Someone cancelled the job while it ran. */
export class CancelledError extends AttemptError {
  static override readonly name: string = 'CancelledError';
  override readonly code = 'ESCAPEMENT_CANCELLED';
}

/** The worker no longer holds the job: its lease passed, so another may run it. Whatever the attempt still does counts for nothing. */
export class LeaseLostError extends AttemptError {
  static override readonly name: string = 'LeaseLostError';
  override readonly code = 'ESCAPEMENT_LEASE_LOST';
}

/** The worker is stopping and its grace time is over. */
export class ShutdownError extends AttemptError {
  static override readonly name: string = 'ShutdownError';
  override readonly code = 'ESCAPEMENT_SHUTDOWN';
}

/** Throw this from a task to fail the job at once, whatever attempts are left. */
export class PermanentError extends EscapementError {
  static override readonly name: string = 'PermanentError';
  override readonly code: string = 'ESCAPEMENT_PERMANENT';
  override readonly [brand] = 'permanent';
}

/**
 * Throw this from a task to fail the attempt and have the next one wait at least `after`, as a server asked for; the task's backoff holds if it is longer.
 * @example throw new RetryAfterError('429 Too Many Requests', { after: '5m', cause: error });
 */
export class RetryAfterError extends EscapementError {
  static override readonly name: string = 'RetryAfterError';
  override readonly code = 'ESCAPEMENT_RETRY_AFTER';
  /** A duration, for example `'5m'`, or milliseconds. One that cannot be read changes nothing. */
  readonly after: string | number;
  constructor(message: string, options: { readonly after: string | number; readonly cause?: unknown }) {
    super(message, 'cause' in options ? { cause: options.cause } : {});
    this.after = options.after;
  }
}

/** In a simulation: an attempt waits on something outside virtual time, and the real-time budget for that is used up. */
export class SimulationStalledError extends EscapementError {
  static override readonly name: string = 'SimulationStalledError';
  override readonly code = 'ESCAPEMENT_SIMULATION_STALLED';
}

/** In a simulation: jobs are left, but nothing is in flight and no timer will ever start them. */
export class SimulationDeadlockError extends EscapementError {
  static override readonly name: string = 'SimulationDeadlockError';
  override readonly code = 'ESCAPEMENT_SIMULATION_DEADLOCK';
}

/** In a simulation: virtual time ran past the bound and jobs are still unfinished. */
export class SimulationRunawayError extends EscapementError {
  static override readonly name: string = 'SimulationRunawayError';
  override readonly code = 'ESCAPEMENT_SIMULATION_RUNAWAY';
}

/** An exploration has found a course of things under which the application breaks. */
export class ExplorationError extends EscapementError {
  static override readonly name: string = 'ExplorationError';
  override readonly code = 'ESCAPEMENT_EXPLORATION';
  /** The value of ESCAPEMENT_REPLAY that plays it again. */
  readonly replay: string;
  readonly seed: number;
  constructor(message: string, replay: string, seed: number, options?: ErrorOptions) {
    super(message, options);
    this.replay = replay;
    this.seed = seed;
  }
}

/** In a simulation: a misuse, or work that was left behind when it ended. */
export class SimulationError extends EscapementError {
  static override readonly name: string = 'SimulationError';
  override readonly code = 'ESCAPEMENT_SIMULATION';
}
