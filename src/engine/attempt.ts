/**
 * One attempt at a job, from claim to settlement: parse the input, run the task under one signal, classify the outcome, and decide what it
 * means for the job. The first event that ends an attempt wins: its function, its timeout, a cancellation, the loss of its lease, or the
 * worker's stop. What the function does afterwards is ignored, so a function that ignores its signal cannot block the engine.
 */
import { type Backoff, defaultBackoff } from '../core/backoff.ts';
import { checkBlob } from '../core/blobs.ts';
import { decide, type Outcome } from '../core/decide.ts';
import type { Definition } from '../core/definition.ts';
import { formatDuration, isThenable } from '../core/duration.ts';
import {
  type AttemptError,
  CancelledError,
  InputError,
  LeaseLostError,
  PermanentError,
  ShutdownError,
  SuspendedError,
  TimeoutError,
  UnknownTaskError,
} from '../core/errors.ts';
import { decode, encode } from '../core/json.ts';
import type { Cancel, Snooze } from '../core/outcomes.ts';
import { type Failure, nameOfStep } from '../core/steps.ts';
import type { Job, Progress, Settlement, Step } from '../core/types.ts';
import type { Scope, Timer } from '../ports/clock.ts';
import type { Awaitable, Store } from '../ports/store.ts';
import { runAround } from './around.ts';
import { Context } from './context.ts';
import type { Host, Isolate } from './host.ts';
import { parseInput } from './input.ts';
import { Notes, nothingUnsaved, type Unsaved } from './notes.ts';
import { scope } from './scope.ts';
import { type StepStore, Steps } from './steps.ts';
import { failed, returned, thrown } from './verdict.ts';

/**
 * Why the attempt ended before its function did: the error that its signal carries, and the outcome for the job. Null: no outcome, because
 * the worker no longer holds the job.
 */
interface Interruption {
  readonly error: AttemptError;
  readonly outcome: Outcome | null;
}

/** Runs the attempt and receives its callbacks. */
export interface AttemptRunner {
  /**
   * @param settlement the settlement to store; null: none
   * @param otherwise the settlement to store if `settlement` was made in the application's transaction and turns out not to have been
   * committed
   */
  ended(attempt: RunningAttempt, settlement: Settlement | null, otherwise?: Settlement): void;
  /** Settles in the application's transaction, immediately. */
  complete?(settlement: Settlement, transaction: unknown): Awaitable<Job | null>;
  /** Replaces the settlement of an attempt, unless it has already been sent to the store. */
  revise?(attempt: RunningAttempt, settlement: Settlement): void;
  /** Stores the job's steps; omitted if the job is in no store. */
  readonly steps?: StepStore;
  /** Stores the job's blobs; omitted if the job is in no store. */
  readonly blobs?: Pick<Store, 'getBlobs' | 'saveBlobs'>;
  /** True if isolated tasks run outside this thread, provided that the host supports it. Otherwise they run like all others. */
  readonly isolates?: true;
  /** New progress needs to be saved. */
  progressed?(attempt: RunningAttempt): void;
}

export class RunningAttempt implements Scope {
  readonly job: Job;
  readonly definition: Definition | undefined;
  readonly host: Host;
  readonly worker: string;
  /** When the lease was last known to be held, on the monotonic clock. */
  confirmedAt: number;
  /** When the store was first asked to renew it since then, on the monotonic clock; null if it has not been asked. */
  renewalRequestedAt: number | null = null;
  parent: Scope | undefined;
  #notes: Notes | undefined;
  readonly #runner: AttemptRunner;
  #controller: AbortController | undefined;
  #steps: Steps | undefined;
  #aborted: AttemptError | undefined;
  #stopping = false;
  #ended = false;
  /** The settlement made in a transaction of the application, which may not have committed. */
  #completed: Settlement | undefined;
  /** The control value that its function created last; it must be returned. */
  #made: Snooze | Cancel | undefined;
  #timeout: Timer | undefined;
  /** Set once the job has failed and its steps are being undone. */
  #undoing = false;
  #waits: Set<(error: AttemptError) => void> | undefined;

  constructor(host: Host, worker: string, job: Job, runner: AttemptRunner) {
    this.host = host;
    this.worker = worker;
    this.job = job;
    this.definition = host.definitions.get(job.task);
    // The lease counts from the time of the request, however late the store answered.
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

  /** Created on first use, because most tasks never use it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  /** Starts the attempt. Never throws: every error becomes an outcome. */
  start(): void {
    this.parent = scope.getStore();
    const timeoutMs = this.job.overrides?.timeoutMs ?? this.definition?.timeoutMs ?? null;
    const { clock } = this.host;
    clock.enter(this, timeoutMs === null ? Number.POSITIVE_INFINITY : clock.now() + timeoutMs);
    if (timeoutMs !== null) this.#armTimeout(timeoutMs);
    try {
      const returned = scope.run(this, begin, this);
      // A foreign thenable may throw when it is accessed; a promise made from it rejects instead.
      const promise = returned instanceof Promise ? returned : isThenable(returned) ? Promise.resolve(returned) : undefined;
      if (promise) promise.then(this.#onReturn, this.#onThrow);
      else this.#onReturn(returned);
    } catch (error) {
      this.#onThrow(error);
    }
  }

  /** Cancels the attempt on request. */
  cancel(reason: string): void {
    this.#interrupt({ error: new CancelledError(`job ${this.job.id} was cancelled: ${reason}`), outcome: { kind: 'cancelled', reason } });
  }

  /** The worker no longer holds the job, so nothing is reported to the store. */
  fence(why: string): void {
    this.#interrupt({
      error: new LeaseLostError(`attempt ${this.job.attempt} of job ${this.job.id} lost its lease: ${why}`),
      outcome: null,
    });
  }

  /** True after `ctx.complete()`. */
  get isCompleted(): boolean {
    return this.#completed !== undefined;
  }

  /** The worker is stopping: aborts the signal and gives the function a little time to return or throw. */
  shutdown(): void {
    if (this.#ended) return;
    this.#stopping = true;
    this.#abort(
      new ShutdownError(
        `worker ${this.worker} is stopping; attempt ${this.job.attempt} of job ${this.job.id} will be returned to the queue`,
      ),
    );
  }

  /** A promise that its function created and did not await was rejected. */
  stray(error: unknown): void {
    if (!this.#ended) this.#end(failed(this, error));
    // Node.js reports a rejection slightly later. The outcome may not have been sent to the store yet.
    else {
      const settlement = decide(this.job, this.#backoff, failed(this, error), this.host.clock.now(), 0, this.#progress);
      this.#runner.revise?.(this, { ...settlement, ...this.#unsaved });
    }
  }

  /** Settles the job in the application's transaction. The attempt continues until its function ends. */
  complete(value: unknown, transaction: unknown): void | Promise<void> {
    const { job, host } = this;
    const refuse = (why: string) => new InputError(`ctx.complete() of ${job.task}: ${why}`);
    if (transaction === undefined) throw refuse('pass { transaction }; without one, return the value');
    if (this.#completed) throw refuse('it has already been called');
    if (this.#ended) throw this.#aborted ?? refuse('the attempt has ended');
    if (!this.#runner.complete) throw refuse('no store here can join a transaction');
    const text = value === undefined ? null : encode(value, `the value of ctx.complete() of ${job.task}`);
    const unsaved = this.#unsaved;
    const settlement = { ...decide(job, defaultBackoff, { kind: 'done', value: text }, host.clock.now(), 0, this.#progress), ...unsaved };
    const settled = (row: Job | null) => {
      if (!row)
        throw new LeaseLostError(
          `attempt ${job.attempt} of job ${job.id} no longer holds the job; let this error roll back the transaction`,
        );
      this.#completed = settlement;
      this.#notes?.saved(unsaved);
    };
    const answer = this.#runner.complete(settlement, transaction);
    return answer instanceof Promise ? answer.then(settled) : settled(answer);
  }

  /** Runs the task outside this thread; undefined if it runs here. */
  get isolate(): Isolate | undefined {
    return this.definition?.isolate && this.#runner.isolates ? this.host.isolate : undefined;
  }

  /** Its progress, log lines and metadata. */
  get notes(): Notes {
    this.#notes ??= new Notes(this, () => this.#runner.progressed?.(this));
    return this.#notes;
  }

  /** The part of its notes that must be saved with the outcome. */
  get #unsaved(): Unsaved {
    return this.#notes?.unsaved ?? nothingUnsaved;
  }

  get #progress(): Progress | null {
    return this.#notes?.progress ?? null;
  }

  get steps(): Steps {
    this.#steps ??= new Steps(this, this.#runner.steps);
    return this.#steps;
  }

  /** Why the attempt was ended from outside, or undefined. */
  get aborted(): AttemptError | undefined {
    return this.#aborted;
  }

  /** Waits on the clock; rejects when the attempt is ended. */
  pause(ms: number): Promise<void> {
    const { clock } = this.host;
    return new Promise((resolve, reject) => {
      const timer = clock.after(ms, () => {
        forget();
        resolve();
      });
      const forget = this.onAbort((error) => {
        timer.cancel();
        reject(error);
      });
    });
  }

  /** Runs `work`. Rejects with the error from `late` if it takes longer than `ms`, or when the attempt is ended. */
  within<T>(ms: number | null, late: () => Error, work: () => T): Promise<Awaited<T>> {
    if (this.#aborted) return Promise.reject(this.#aborted);
    return new Promise((resolve, reject) => {
      const end = () => {
        timer?.cancel();
        forget();
      };
      const timer =
        ms === null
          ? undefined
          : this.host.clock.after(ms, () => {
              end();
              reject(late());
            });
      const forget = this.onAbort((error) => {
        timer?.cancel();
        reject(error);
      });
      // If the function throws synchronously, this rejects as well.
      new Promise<T>((start) => start(work())).then(
        (value) => {
          end();
          resolve(value as Awaited<T>);
        },
        (error) => {
          end();
          reject(error);
        },
      );
    });
  }

  /** Ends the attempt. Its job runs again after a delay or when a signal arrives. */
  suspend(delayMs: number, awaits: string | undefined, why: string): AttemptError {
    const error = new SuspendedError(`job ${this.job.id} ${why}; it does not occupy a worker meanwhile`);
    this.#interrupt({ error, outcome: { kind: 'snoozed', delayMs, ...(awaits === undefined ? {} : { awaits }) } });
    return this.#aborted ?? error;
  }

  /** Emits that a step was recorded. */
  stepped(step: Step): void {
    const { host, job } = this;
    if (!host.events.hasListeners('stepped')) return;
    host.events.emit({
      type: 'stepped',
      at: step.at,
      job,
      worker: this.worker,
      attempt: job.attempt,
      step: nameOfStep(step),
      kind: step.kind,
    });
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
    if (!isSaved) throw new LeaseLostError(`attempt ${job.attempt} of job ${job.id} no longer holds the job`);
  }

  /** Called when the worker cannot wait any longer. */
  release(): void {
    this.#end({ kind: 'released' });
  }

  /**
   * Calls `reject` when the signal aborts; returns a function that removes the callback. Used for the engine's own waits, which need no
   * event listener.
   */
  onAbort(reject: (error: AttemptError) => void): () => void {
    if (this.#aborted) {
      reject(this.#aborted);
      return () => {};
    }
    this.#waits ??= new Set();
    const waits = this.#waits.add(reject);
    return () => waits.delete(reject);
  }

  /** Records a control value that its function created. */
  made(outcome: Snooze | Cancel): void {
    this.#made = outcome;
  }

  #armTimeout(timeoutMs: number): void {
    this.#timeout = this.host.clock.after(timeoutMs, () => {
      const error = new TimeoutError(`${this.job.task} took longer than its timeout of ${formatDuration(timeoutMs)}`);
      this.#interrupt({ error, outcome: failed(this, error) });
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
    if (outcome !== null && this.#undoFirst(outcome)) return;
    this.#ended = true;
    this.#timeout?.cancel();
    this.host.clock.leave(this, returned);
    if (outcome === null) {
      this.#runner.ended(this, null);
      return;
    }
    const { clock, random } = this.host;
    const fraction = outcome.kind === 'failed' ? random.fraction('backoff.jitter') : 0;
    const settle = (end: Outcome) => this.#noted(decide(this.job, this.#backoff, end, clock.now(), fraction, this.#progress));
    if (!this.#completed) this.#runner.ended(this, settle(outcome));
    else
      this.#runner.ended(
        this,
        { ...this.#completed, confirm: true },
        settle(outcome.kind === 'done' ? failed(this, notCommitted()) : outcome),
      );
  }

  /**
   * True if the steps must be undone before the job ends, because the job is about to fail or be cancelled, or if they are being undone
   * already; the result of that then decides.
   */
  #undoFirst(outcome: Outcome): boolean {
    if (outcome.kind === 'released') return false;
    if (this.#undoing) return true;
    const steps = this.#steps;
    if (!steps?.canUndo || (!steps.failure && !this.#isEnd(outcome))) return false;
    this.#undoing = true;
    this.#timeout?.cancel();
    const why = steps.failure ?? {
      error: outcome.kind === 'failed' ? outcome.error : null,
      reason: outcome.kind === 'cancelled' ? outcome.reason : null,
      permanent: outcome.kind === 'failed' && outcome.permanent,
    };
    void scope.run(this, () => this.#undo(steps, why));
    return true;
  }

  async #undo(steps: Steps, why: Omit<Failure, 'maxAttempts' | 'ownMaxAttempts'>): Promise<void> {
    let end: Outcome;
    // Once all steps are undone, this attempt is the job's last.
    let maxAttempts = this.job.attempt;
    try {
      await steps.undo(why);
      const { error, reason, permanent } = why;
      end = error ? { kind: 'failed', error, thrown: undefined, permanent } : { kind: 'cancelled', reason: reason ?? 'cancelled' };
    } catch (error) {
      end = failed(this, error);
      maxAttempts = steps.attemptsToUndo;
    }
    if (this.#ended) return;
    this.host.clock.inTurn(this, () => this.#endUndone(end, maxAttempts));
  }

  #endUndone(end: Outcome, maxAttempts: number): void {
    if (this.#ended) return;
    this.#undoing = false;
    const { host, job } = this;
    this.#ended = true;
    host.clock.leave(this, true);
    const fraction = end.kind === 'failed' ? host.random.fraction('backoff.jitter') : 0;
    this.#runner.ended(this, this.#noted(decide({ ...job, maxAttempts }, this.#backoff, end, host.clock.now(), fraction, this.#progress)));
  }

  /** Adds the notes that are stored with a settlement. */
  #noted(settlement: Settlement): Settlement {
    const unsaved = this.#unsaved;
    const undoes = this.#steps?.canUndo && settlement.status === 'queued';
    return unsaved === nothingUnsaved && !undoes ? settlement : { ...settlement, ...unsaved, ...(undoes ? { undoes: true as const } : {}) };
  }

  /** True if the job ends with this outcome, and not successfully. */
  #isEnd(outcome: Outcome): boolean {
    if (outcome.kind === 'cancelled') return true;
    return outcome.kind === 'failed' && (outcome.permanent || this.job.attempt >= this.job.maxAttempts);
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
      if (!this.#ended) this.#end(thrown(this, error, this.#stopping), true);
    });
  };

  #returned(value: unknown): Outcome {
    return returned(this, value, {
      made: this.#made,
      unused: this.#steps?.unused() ?? [],
      warn: (line) => this.notes.log('warn', line, undefined),
    });
  }
}

function notCommitted(): Error {
  return new Error('the transaction in which ctx.complete() was called did not commit');
}

/** Parses the input and calls the task's function, synchronously if the schema allows it. */
function begin(attempt: RunningAttempt): unknown {
  const { definition, job } = attempt;
  if (!definition) throw new UnknownTaskError(`no task is defined with the name ${job.task}`);
  const context = new Context(attempt);
  const { isolate } = attempt;
  const { around } = attempt.host;
  if (isolate) {
    // The input is parsed in the thread or process that runs the function.
    const isolated = { ...definition, run: () => isolate.run(definition, attempt, context) };
    return around.length === 0 ? isolated.run() : runAround(around, isolated, undefined, context);
  }
  const raw = stored(job);
  const run = (input: unknown) => (around.length === 0 ? definition.run(input, context) : runAround(around, definition, input, context));
  if (!definition.schema) return run(raw);
  const input = parseInput(definition.schema, raw, `input of ${job.task}`);
  return input instanceof Promise ? input.then(run) : run(input);
}

/** The input of a job, decoded. */
export function stored(job: Job): unknown {
  // An omitted input stays omitted, so that defaults of the schema and the parameter apply.
  if (job.input === null) return undefined;
  try {
    return decode(job.input);
  } catch (error) {
    throw new PermanentError(`the stored input of job ${job.id} is not valid JSON; it was changed outside Escapement`, { cause: error });
  }
}
