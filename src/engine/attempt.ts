/**
 * One attempt at a job, from claim to settlement. It reads as: read the input, run the task under one signal, classify what came of it,
 * decide what that means for the job. The first thing that ends an attempt wins: its function, its timeout, a cancel, the loss of its lease
 * or the worker's stop; what the function does afterwards counts for nothing, so a function that ignores its signal cannot hold the engine.
 */
import { type Backoff, defaultBackoff } from '../core/backoff.ts';
import { checkBlob } from '../core/blobs.ts';
import { decide, type Outcome } from '../core/decide.ts';
import type { Definition } from '../core/definition.ts';
import { type Duration, formatDuration, isThenable, show } from '../core/duration.ts';
import {
  type AttemptError,
  CancelledError,
  InputError,
  isEscapementError,
  LeaseLostError,
  PermanentError,
  ShutdownError,
  TimeoutError,
  UnknownTaskError,
} from '../core/errors.ts';
import type { LogLevel } from '../core/events.ts';
import { cut, isPermanentError, maxTextBytes, recordError } from '../core/failure.ts';
import { decode, encode } from '../core/json.ts';
import { type Cancel, isSnooze, cancel as makeCancel, snooze as makeSnooze, type Snooze, steering } from '../core/outcomes.ts';
import type { Job, Progress, Settlement } from '../core/types.ts';
import type { Scope, Timer } from '../ports/clock.ts';
import type { Awaitable, Store } from '../ports/store.ts';
import { Context } from './context.ts';
import { type Host, told } from './host.ts';
import { parseInput } from './input.ts';
import { scope } from './scope.ts';

/** What ended the attempt before its function did: the error that its signal carries, and what becomes of the job; null: nothing, the job is not ours any more. */
interface Interruption {
  readonly error: AttemptError;
  readonly outcome: Outcome | null;
}

/** The tasks that were warned of. */
const warned = new WeakSet<Definition>();

/** Who runs the attempt, and hears of it. */
export interface AttemptRunner {
  /**
   * @param settlement what to tell the store; null: nothing
   * @param otherwise what to tell it when the settlement, which was made in the application's transaction, turns out not to be there
   */
  ended(attempt: RunningAttempt, settlement: Settlement | null, otherwise?: Settlement): void;
  /** Settles in the application's transaction, at once. */
  complete?(settlement: Settlement, transaction: unknown): Awaitable<Job | null>;
  /** Replaces the settlement of an attempt, if it was not sent to the store yet. */
  revise?(attempt: RunningAttempt, settlement: Settlement): void;
  /** Where the job's blobs are; left out where the job is in no store. */
  readonly blobs?: Pick<Store, 'getBlobs' | 'saveBlobs'>;
  /** There is progress to save. */
  progressed?(attempt: RunningAttempt): void;
}

export class RunningAttempt implements Scope {
  readonly job: Job;
  readonly definition: Definition | undefined;
  readonly host: Host;
  readonly worker: string;
  /** When the lease was last known to be ours, on the monotonic clock. */
  confirmedAt: number;
  /** When the store was first asked to renew it since, on the monotonic clock; null: not yet. */
  askedAt: number | null = null;
  parent: Scope | undefined;
  progress: Progress | null = null;
  /** What of it the store knows. */
  savedProgress: Progress | null = null;
  readonly #runner: AttemptRunner;
  #controller: AbortController | undefined;
  #aborted: AttemptError | undefined;
  #stopping = false;
  #ended = false;
  /** What was settled in a transaction of the application's, which may not have committed. */
  #completed: Settlement | undefined;
  /** The outcome that its function made last: it is to be returned. */
  #made: Snooze | Cancel | undefined;
  #timeout: Timer | undefined;
  #waits: Set<(error: AttemptError) => void> | undefined;

  constructor(host: Host, worker: string, job: Job, runner: AttemptRunner) {
    this.host = host;
    this.worker = worker;
    this.job = job;
    this.definition = host.definitions.get(job.task);
    // The lease counts from when it was asked for, however late the store answered.
    const { clock } = host;
    const sinceMs = job.lastAttemptedAt === null ? 0 : clock.now() - job.lastAttemptedAt;
    this.confirmedAt = clock.monotonic() - Math.max(0, sinceMs);
    this.#runner = runner;
  }

  get task(): string {
    return this.job.task;
  }
  get id(): string {
    return this.job.id;
  }
  get attempt(): number {
    return this.job.attempt;
  }
  get claim(): number {
    return this.job.claim;
  }
  get #backoff(): Backoff {
    return this.job.overrides?.backoff ?? this.definition?.backoff ?? defaultBackoff;
  }
  get ended(): boolean {
    return this.#ended;
  }

  /** Made when first asked for: most tasks never do. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  /** Begins the attempt. Never throws: whatever happens becomes an outcome. */
  start(): void {
    this.parent = scope.getStore();
    const timeoutMs = this.job.overrides?.timeoutMs ?? this.definition?.timeoutMs ?? null;
    const { clock } = this.host;
    clock.enter(this, timeoutMs === null ? Number.POSITIVE_INFINITY : clock.now() + timeoutMs);
    if (timeoutMs !== null) this.#armTimeout(timeoutMs);
    try {
      const returned = scope.run(this, begin, this);
      // A foreign thenable may throw where it is touched; a promise made of it rejects instead.
      const promise = returned instanceof Promise ? returned : isThenable(returned) ? Promise.resolve(returned) : undefined;
      if (promise) promise.then(this.#onReturn, this.#onThrow);
      else this.#onReturn(returned);
    } catch (error) {
      this.#onThrow(error);
    }
  }

  /** Someone wants the job to end. */
  cancel(reason: string): void {
    this.#interrupt({ error: new CancelledError(`job ${this.job.id} was cancelled: ${reason}`), outcome: { kind: 'cancelled', reason } });
  }

  /** The job is no longer ours: nothing will be told to the store. */
  fence(why: string): void {
    this.#interrupt({
      error: new LeaseLostError(`attempt ${this.job.attempt} of job ${this.job.id} lost its lease: ${why}`),
      outcome: null,
    });
  }

  /** The worker stops: the function is told, and has a little time to return or throw. */
  shutdown(): void {
    if (this.#ended) return;
    this.#stopping = true;
    this.#abort(
      new ShutdownError(`worker ${this.worker} is stopping; attempt ${this.job.attempt} of job ${this.job.id} will be given back`),
    );
  }

  /** A promise that its function started, and nobody awaited, was rejected. */
  stray(error: unknown): void {
    if (!this.#ended) this.#end(this.#failed(error));
    // Node reports a rejection a moment later. The outcome may not have been sent to the store yet.
    else this.#runner.revise?.(this, decide(this.job, this.#backoff, this.#failed(error), this.host.clock.now(), 0, this.progress));
  }

  /** Settles the job in the application's transaction. The attempt goes on until its function ends. */
  complete(value: unknown, transaction: unknown): void | Promise<void> {
    const { job, host } = this;
    const refuse = (why: string) => new InputError(`ctx.complete() of ${job.task}: ${why}`);
    if (transaction === undefined) throw refuse('pass { transaction }; without one, return the value');
    if (this.#completed) throw refuse('it was called before');
    if (this.#ended) throw this.#aborted ?? refuse('the attempt has ended');
    if (!this.#runner.complete) throw refuse('there is no store here that could join a transaction');
    const text = value === undefined ? null : encode(value, `the value of ctx.complete() of ${job.task}`);
    const settlement = decide(job, defaultBackoff, { kind: 'done', value: text }, host.clock.now(), 0, this.progress);
    const settled = (row: Job | null) => {
      if (!row) throw new LeaseLostError(`attempt ${job.attempt} of job ${job.id} no longer holds it: let this fail the transaction`);
      this.#completed = settlement;
    };
    const answer = this.#runner.complete(settlement, transaction);
    return answer instanceof Promise ? answer.then(settled) : settled(answer);
  }

  async blob(name: string): Promise<Uint8Array | null> {
    const [bytes] = (await this.#runner.blobs?.getBlobs([this.job.id], name)) ?? [];
    return bytes ?? null;
  }

  async saveBlob(name: string, bytes: Uint8Array): Promise<void> {
    const { job } = this;
    checkBlob(name, bytes, `ctx.saveBlob() of ${job.task}`);
    if (this.#ended) throw this.#aborted ?? new InputError(`ctx.saveBlob() of ${job.task}: the attempt has ended`);
    const isSaved = (await this.#runner.blobs?.saveBlobs(job, [{ name, bytes }])) ?? true;
    if (!isSaved) throw new LeaseLostError(`attempt ${job.attempt} of job ${job.id} no longer holds it`);
  }

  /** The worker can wait no longer. */
  release(): void {
    this.#end({ kind: 'released' });
  }

  /** Calls `reject` when the signal aborts; returns the function that ends this. For waits of the engine's own, which need no listener. */
  onAbort(reject: (error: AttemptError) => void): () => void {
    if (this.#aborted) {
      reject(this.#aborted);
      return () => {};
    }
    this.#waits ??= new Set();
    const waits = this.#waits.add(reject);
    return () => waits.delete(reject);
  }

  /** Its function has made an outcome. */
  made(outcome: Snooze | Cancel): void {
    this.#made = outcome;
  }

  log(level: LogLevel, message: string, fields: Record<string, unknown> | undefined): void {
    const { host, job } = this;
    const text = typeof message === 'string' ? message : show(message);
    const kept = fields === undefined ? null : copied(fields);
    host.logger[level](told({ task: job.task, job: job.id, attempt: job.attempt, ...kept }), text);
    if (!host.events.hasListeners('logged')) return;
    const at = host.clock.now();
    host.events.emit({
      type: 'logged',
      at,
      job,
      worker: this.worker,
      attempt: job.attempt,
      level,
      message: text,
      fields: kept,
    });
  }

  report(fraction: number, message: string | undefined): void {
    // What a function says that went on after its attempt was ended counts for nothing.
    if (this.#ended) return;
    const { host, job } = this;
    const at = host.clock.now();
    if (!(fraction >= 0 && fraction <= 1) || typeof fraction !== 'number') this.#warnOfProgress(fraction);
    const known = typeof fraction === 'number' && !Number.isNaN(fraction);
    this.progress = {
      fraction: known ? Math.min(1, Math.max(0, fraction)) : (this.progress?.fraction ?? 0),
      message: message === undefined ? null : cut(typeof message === 'string' ? message : show(message), maxTextBytes),
      at,
    };
    this.host.clock.inTurn(this, () => this.#runner.progressed?.(this));
    if (host.events.hasListeners('progressed')) {
      host.events.emit({
        type: 'progressed',
        at,
        job: { ...job, progress: this.progress },
        worker: this.worker,
        attempt: job.attempt,
        progress: this.progress,
      });
    }
  }

  /** Once for each task: a loop reports a thousand times. */
  #warnOfProgress(fraction: unknown): void {
    const { host, job, definition } = this;
    if (definition === undefined || warned.has(definition)) return;
    warned.add(definition);
    const meant = typeof fraction === 'number' && fraction > 1 && fraction <= 100 ? `; for ${fraction} %, pass ${fraction / 100}` : '';
    const text = `ctx.progress(${show(fraction)}): the fraction is a number from 0 to 1${meant}`;
    host.logger.warn({ task: job.task, job: job.id, attempt: job.attempt }, text);
  }

  #armTimeout(timeoutMs: number): void {
    this.#timeout = this.host.clock.after(timeoutMs, () => {
      const error = new TimeoutError(`${this.job.task} took longer than its timeout of ${formatDuration(timeoutMs)}`);
      this.#interrupt({ error, outcome: this.#failed(error) });
    });
  }

  #interrupt(interruption: Interruption): void {
    if (this.#ended) return;
    this.#abort(interruption.error);
    this.#end(interruption.outcome);
  }

  #abort(error: AttemptError): void {
    if (this.#aborted) return;
    this.#aborted = error;
    this.#controller?.abort(error);
    if (this.#waits) for (const reject of [...this.#waits]) reject(error);
  }

  /** The first call wins. */
  #end(outcome: Outcome | null, returned = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timeout?.cancel();
    this.host.clock.leave(this, returned);
    if (outcome === null) {
      this.#runner.ended(this, null);
      return;
    }
    const { clock, random } = this.host;
    const fraction = outcome.kind === 'failed' ? random.fraction('backoff.jitter') : 0;
    const settle = (end: Outcome) => decide(this.job, this.#backoff, end, clock.now(), fraction, this.progress);
    if (!this.#completed) this.#runner.ended(this, settle(outcome));
    else
      this.#runner.ended(
        this,
        { ...this.#completed, confirm: true },
        settle(outcome.kind === 'done' ? this.#failed(notCommitted()) : outcome),
      );
  }

  readonly #onReturn = (value: unknown): void => {
    if (this.#ended) return;
    this.host.clock.inTurn(this, () => {
      if (!this.#ended) this.#end(this.#returned(value), true);
    });
  };

  readonly #onThrow = (error: unknown): void => {
    if (this.#ended) return;
    this.host.clock.inTurn(this, () => {
      if (!this.#ended) this.#end(this.#thrown(error), true);
    });
  };

  #returned(value: unknown): Outcome {
    try {
      return this.#valued(value);
    } catch (error) {
      // The task did its work; running it again would do it twice.
      const fault =
        error instanceof InputError ? new InputError(unstored(this.job.task, error.message), { path: error.path ?? '' }) : error;
      return { kind: 'failed', error: recordError(fault), thrown: fault, permanent: true };
    }
  }

  #valued(value: unknown): Outcome {
    const steers = steering(value);
    if (steers)
      return isSnooze(steers)
        ? { kind: 'snoozed', delayMs: steers.delayMs }
        : { kind: 'cancelled', reason: cut(steers.reason, maxTextBytes) };
    const text = value === undefined ? null : encode(value, `the return value of ${this.job.task}`);
    if (this.#made) {
      const call = isSnooze(this.#made) ? 'snooze()' : 'cancel()';
      const lost = `${this.job.task} called ${call} and did not return what it made, so its job is successful; write: return ${call.replace(')', '…)')}`;
      this.log('warn', lost, undefined);
    }
    return { kind: 'done', value: text };
  }

  #thrown(error: unknown): Outcome {
    // Told to stop, the function stopped: that is no failure of the job.
    if (this.#stopping) return { kind: 'released' };
    const thrown = steering(error);
    if (!thrown) return this.#failed(error);
    const call = isSnooze(thrown) ? 'snooze(…)' : 'cancel(…)';
    return this.#failed(new InputError(`${this.job.task} threw ${call}, which is to be returned; write: return ${call}`));
  }

  #failed(error: unknown): Outcome {
    return { kind: 'failed', error: recordError(error), thrown: error, permanent: this.#isPermanent(error) };
  }

  #isPermanent(error: unknown): boolean {
    // A getter or an own predicate that throws must not keep the failure from being recorded; it counts as an ordinary one.
    try {
      if (isPermanentError(error) || (isEscapementError(error) && error.code === 'ESCAPEMENT_UNKNOWN_TASK')) return true;
      return this.definition?.retryable ? !this.definition.retryable(error) : false;
    } catch (thrown) {
      const { job, host } = this;
      const fields = { task: job.task, job: job.id, attempt: job.attempt, error: recordError(thrown).message };
      host.logger.warn(fields, 'retry.unless or retry.only failed; the attempt counts as one to retry');
      return false;
    }
  }
}

/**
 * Fails the attempt below whose function this is called. For `process.on('unhandledRejection')`: Node calls it in the context of the promise.
 * @returns the attempt, also if it had ended; undefined outside of any
 */
export function failCurrentAttempt(error: unknown): Scope | undefined {
  const current = scope.getStore();
  // The attempt may be one of another copy of this package, whose worker it is.
  (current as Partial<RunningAttempt> | undefined)?.stray?.(error);
  return current;
}

/**
 * Return this from a task to run the job again after `delay`; the attempt is given back.
 * @param delay how long, for example `'10m'` or milliseconds
 * @throws ConfigError when `delay` is no duration
 * @example return snooze('10m');
 */
export function snooze(delay: Duration): Snooze {
  return noted(makeSnooze(delay));
}

/**
 * Return this from a task to end the job as cancelled.
 * @param reason kept on the job, for people to read
 * @default reason 'cancelled'
 */
export function cancel(reason = 'cancelled'): Cancel {
  return noted(makeCancel(reason));
}

/** The attempt that makes an outcome remembers it. It may be one of another copy of this package. */
function noted<T extends Snooze | Cancel>(outcome: T): T {
  (scope.getStore() as Partial<RunningAttempt> | undefined)?.made?.(outcome);
  return outcome;
}

/** A line in the application's log for an attempt that failed: an error when its job did so for good, a warning when it is tried again. */
export function logFailure(host: Host, of: Pick<Job, 'task' | 'id'> & { attempt: number; worker: string }, end: Settlement): void {
  const { error, reason } = end;
  if (end.status !== 'failed' && (end.status !== 'queued' || end.outcome !== 'failed')) return;
  const fields = told({ task: of.task, job: of.id, attempt: of.attempt, worker: of.worker, ...(error ? { error } : {}) });
  const why = error ? `: ${error.name}: ${error.message}` : '';
  if (end.status === 'failed') host.logger.error(fields, `job failed for good${reason === null ? '' : ` (${reason})`}${why}`);
  else host.logger.warn(fields, `attempt failed, retrying in ${formatDuration(Math.max(0, end.dueAt - end.settledAt))}${why}`);
}

function notCommitted(): Error {
  return new Error('the transaction in which ctx.complete() was called did not commit');
}

/** Reads the input and calls the task's function, in one synchronous go where the schema allows it. */
function begin(attempt: RunningAttempt): unknown {
  const { definition, job } = attempt;
  if (!definition) throw new UnknownTaskError(`no task is defined with the name ${job.task}`);
  const raw = stored(job);
  const context = new Context(attempt);
  if (!definition.schema) return definition.run(raw, context);
  const input = parseInput(definition.schema, raw, `input of ${job.task}`);
  return input instanceof Promise ? input.then((value) => definition.run(value, context)) : definition.run(input, context);
}

function stored(job: Job): unknown {
  // Left out stays left out: defaults of the schema and of the parameter apply.
  if (job.input === null) return undefined;
  try {
    return decode(job.input);
  } catch (error) {
    throw new PermanentError(`the stored input of job ${job.id} is no JSON; it was changed outside Escapement`, { cause: error });
  }
}

/** The fields of a log line; those that cannot be read are left out. */
function copied(fields: Record<string, unknown>): Record<string, unknown> {
  try {
    return { ...fields };
  } catch (error) {
    return { unreadable: recordError(error).message };
  }
}

/** Why a return value could not be stored, told to whoever wonders why the job failed, and is not tried again. */
function unstored(task: string, why: string): string {
  return `${why} ${task} has run to its end and its effects have happened, so it does not run again. Return plain data, such as an id, or nothing.`;
}
