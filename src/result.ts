/** A caller's view of a job: a snapshot that `refresh` brings up to date, and the few things a caller may do to it. */
import type { App, Binding } from './app.ts';
import type { Duration } from './core/duration.ts';
import { durationMs, formatDuration, parseWhen } from './core/duration.ts';
import { ResultNotFoundError, ResultNotReadyError } from './core/errors.ts';
import type { RecordedError } from './core/failure.ts';
import { isFinished, visibleStatus } from './core/job.ts';
import { decode, encode } from './core/json.ts';
import type { AttemptOutcome, JobRecord, Status } from './core/types.ts';
import { parseInput } from './engine/input.ts';
import { cancelJob, deleteJob, editJob, prioritizeJob, retryJob } from './engine/operator.ts';
import { scope } from './engine/scope.ts';
import { waitersOf } from './engine/waiters.ts';
import { type EditOptions, OptionReader, readEdit } from './options.ts';
import type { Backend, Enqueued } from './ports/backend.ts';
import type { Store } from './ports/store.ts';

/** One failed attempt: what was thrown, with its code, own properties, causes and members. */
export interface AttemptFailure extends RecordedError {
  /** The attempt's number, 1 for the first. */
  readonly attempt: number;
  readonly at: Date;
}

/** One attempt, however it ended. */
export interface AttemptInfo {
  /** Its number, 1 for the first. An attempt that was snoozed or given back has given its number to the next. */
  readonly attempt: number;
  readonly worker: string;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  /** Null while it is under way. `lost`: its worker's lease passed; `released`: its worker stopped and gave it back. */
  readonly outcome: AttemptOutcome | null;
  readonly error: RecordedError | null;
}

/** How far the job says that it has come. */
export interface ResultProgress {
  /** 0 … 1 */
  readonly fraction: number;
  readonly message: string | null;
  readonly at: Date;
}

const inspectCustom: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

/**
 * What `enqueue` returns (DEP 14's TaskResult). `Output` is what the task returns, `Input` what it was given.
 */
export class TaskResult<Output = unknown, Input = unknown> {
  readonly #binding: Binding;
  readonly #backend: Backend;
  readonly #alias: string;
  #record: JobRecord;
  #readAt: number;
  /** The enqueue that returned this made no job: this one had the id already, or held the unique key. */
  readonly duplicate: boolean;

  /** @internal */
  constructor(binding: Binding, alias: string, backend: Backend, record: Enqueued) {
    this.#binding = binding;
    this.#alias = alias;
    this.#backend = backend;
    this.#record = record;
    this.#readAt = binding.host.clock.now();
    this.duplicate = record.duplicate ?? false;
  }

  /** A UUID of version 7, or what `using({ id })` was given. */
  get id(): string {
    return this.#record.job.id;
  }
  /** The task's name. */
  get task(): string {
    return this.#record.job.task;
  }
  /** As of the last refresh. */
  get status(): Status {
    return visibleStatus(this.#record.job, this.#readAt);
  }
  /** As it was enqueued, before its schema; null when none was given. */
  get input(): Input {
    const { input } = this.#record.job;
    return (input === null ? null : decode(input)) as Input;
  }
  get queue(): string {
    return this.#record.job.queue;
  }
  get priority(): number {
    return this.#record.job.priority;
  }
  /** The alias that the job was enqueued to. */
  get backend(): string {
    return this.#alias;
  }
  get tags(): readonly string[] {
    return [...this.#record.job.tags];
  }
  get metadata(): Readonly<Record<string, unknown>> {
    return structuredClone(this.#record.job.metadata);
  }
  get enqueuedAt(): Date {
    return new Date(this.#record.job.enqueuedAt);
  }
  /** The due time that was asked for, or null. */
  get runAfter(): Date | null {
    return date(this.#record.job.runAfter);
  }
  /** When it may start next: the retry's or snooze's instant, or the first one. */
  get dueAt(): Date {
    return new Date(this.#record.job.dueAt);
  }
  /** When the first attempt started. */
  get startedAt(): Date | null {
    return date(this.#record.job.startedAt);
  }
  get finishedAt(): Date | null {
    return date(this.#record.job.finishedAt);
  }
  get lastAttemptedAt(): Date | null {
    return date(this.#record.job.lastAttemptedAt);
  }
  /** How many attempts were used. */
  get attempts(): number {
    return this.#record.job.attempt;
  }
  get maxAttempts(): number {
    return this.#record.job.maxAttempts;
  }
  /** Why it ended as it did: `expired`, `poisoned`, `permanent`, or what cancel was given; null otherwise. */
  get reason(): string | null {
    return this.#record.job.reason;
  }
  get schedule(): string | null {
    return this.#record.job.schedule;
  }
  /** The id of the job whose attempt enqueued this one, or null. */
  get enqueuedBy(): string | null {
    return this.#record.job.enqueuedBy;
  }
  get scheduledAt(): Date | null {
    return date(this.#record.job.scheduledAt);
  }
  /** The latest 200 attempts, oldest first. Of a job from a list, only the latest has its error's stack; `refresh()` reads them all. */
  get history(): readonly AttemptInfo[] {
    return this.#record.attempts.map(({ attempt, worker, startedAt, endedAt, outcome, error }) => ({
      attempt,
      worker,
      startedAt: new Date(startedAt),
      endedAt: date(endedAt),
      outcome,
      error,
    }));
  }
  /** One for each attempt of the `history` that failed, oldest first. */
  get errors(): readonly AttemptFailure[] {
    const failures: AttemptFailure[] = [];
    for (const { error, attempt, endedAt } of this.#record.attempts) {
      if (error) failures.push({ ...error, attempt, at: new Date(endedAt ?? 0) });
    }
    return failures;
  }
  /** The workers that attempted it, in order, each once. */
  get workerIds(): readonly string[] {
    return [...new Set(this.#record.attempts.map(({ worker }) => worker))];
  }
  get progress(): ResultProgress | null {
    const { progress } = this.#record.job;
    return progress && { fraction: progress.fraction, message: progress.message, at: new Date(progress.at) };
  }
  /** True once nothing will happen to it by itself any more. */
  get isFinished(): boolean {
    return isFinished(this.#record.job);
  }
  /**
   * What the task returned.
   * @throws ResultNotReadyError unless the job was successful as of the last refresh
   */
  get returnValue(): Output {
    const { job } = this.#record;
    if (job.status === 'successful') return (job.returnValue === null ? undefined : decode(job.returnValue)) as Output;
    const last = this.errors.at(-1);
    const why = last ? `; its last error: ${last.name}: ${last.message}` : '';
    throw new ResultNotReadyError(
      `job ${job.id} of ${job.task} is ${this.status}, not successful${why}. refresh() or wait() brings it up to date.`,
    );
  }

  /**
   * Reads the job again; changes this object and resolves to it.
   * @throws ResultNotFoundError when it has been pruned
   */
  async refresh(): Promise<this> {
    const store = await this.#open();
    const [record] = await store.get([this.id]);
    this.#read(record ?? null);
    return this;
  }

  #read(record: JobRecord | null): void {
    if (!record) throw new ResultNotFoundError(`job ${this.id} is not in the store; finished jobs are pruned after their retention`);
    this.#record = record;
    this.#readAt = this.#binding.host.clock.now();
  }

  /** The bytes kept beside the job under this name; null: there are none. */
  async blob(name: string): Promise<Uint8Array | null> {
    const store = await this.#open();
    const [bytes = null] = await store.getBlobs([this.id], name);
    return bytes;
  }

  /**
   * Waits until the job is finished, successful or not.
   * @param options.timeout how long to wait. Default: for ever
   * @throws ResultNotReadyError when the time is over; ResultNotFoundError when it was deleted; StoreError of kind `closed` when `tasks.close()` is called
   */
  async wait(options: { timeout?: Duration } = {}): Promise<this> {
    OptionReader.given(options, 'wait()', ['timeout']);
    if (!scope.getStore()) this.#binding.beforeWait?.();
    const { host } = this.#binding;
    const timeoutMs = options.timeout === undefined ? Number.POSITIVE_INFINITY : durationMs(options.timeout, 'wait().timeout');
    const waiters = waitersOf(host, await this.#open());
    const { hints } = waiters;
    let record = await waiters.read(this.id);
    if (record && !isFinished(record.job)) {
      record = await new Promise<JobRecord | null>((resolve, reject) => {
        const timer =
          timeoutMs === Number.POSITIVE_INFINITY
            ? host.clock.at(Number.POSITIVE_INFINITY, () => {})
            : host.clock.after(timeoutMs, () => {
                forget();
                // As it is now, not as it was when it was read first.
                this.refresh().then(() => resolve(this.#record), reject);
              });
        const forget = waiters.add(this.id, hints, (found, error) => {
          timer.cancel();
          if (error === undefined) resolve(found);
          else reject(error);
        });
      });
    }
    this.#read(record);
    if (this.isFinished) return this;
    throw new ResultNotReadyError(`job ${this.id} of ${this.task} is still ${this.status} after ${formatDuration(timeoutMs)}`);
  }

  /**
   * Cancels the job: at once if it is not running; a running one is told by its worker, through its signal. A finished one stays as it is.
   * @param reason kept on the job. Default `'cancelled'`
   */
  async cancel(reason = 'cancelled'): Promise<this> {
    await cancelJob(this.#binding.host, await this.#open(), this.id, reason);
    return this.refresh();
  }

  /**
   * Runs a failed or cancelled job again now, with one attempt more; a waiting retry runs now.
   * @throws InputError when it is running or was successful; DuplicateJobError when another job holds its unique key
   */
  async retry(): Promise<this> {
    await retryJob(this.#binding.host, await this.#open(), this.id);
    await this.#backend.requeued();
    return this.refresh();
  }

  /**
   * Gives a job that waits for its turn another priority.
   * @param priority −100 … 100, larger first
   * @throws ConfigError for another number; InputError when it is running or over
   */
  async prioritize(priority: number): Promise<this> {
    const read = new OptionReader('The job cannot be given this priority');
    const wanted = read.priority(priority, 'priority');
    read.done();
    await prioritizeJob(this.#binding.host, await this.#open(), this.id, wanted);
    return this.refresh();
  }

  /**
   * Changes a job that waits for its turn: its input, when it is due or expires, its queue, its priority.
   * @throws ConfigError for options that cannot be used; InputError when the job is running or over, or the input does not fit the task's schema
   * @example await result.edit({ runAfter: '2h', queue: 'bulk' });
   */
  async edit(changes: EditOptions<Input>): Promise<this> {
    const { host } = this.#binding;
    const { input, runAfter, expires, queue, priority } = readEdit(changes, host.queues);
    const what = `input of ${this.task}`;
    const schema = host.definitions.get(this.task)?.schema;
    if (input !== undefined && schema) await parseInput(schema, input, what);
    const text = input === undefined ? undefined : encode(input, what);
    await editJob(host, await this.#open(), this.id, (job, now) => {
      const dueAt = runAfter === undefined ? undefined : parseWhen(runAfter, now);
      return {
        ...(text === undefined ? {} : { input: text }),
        ...(dueAt === undefined ? {} : { runAfter: dueAt }),
        ...(expires === undefined ? {} : { expiresAt: parseWhen(expires, dueAt ?? Math.max(now, job.dueAt)) ?? null }),
        ...(queue === undefined ? {} : { queue }),
        ...(priority === undefined ? {} : { priority }),
      };
    });
    return this.refresh();
  }

  /**
   * Deletes the job, with its attempts; this object keeps what it read last.
   * @throws InputError when it is running; ResultNotFoundError when it was not there any more
   */
  async delete(): Promise<void> {
    if (await deleteJob(this.#binding.host, await this.#open(), this.id)) return;
    throw new ResultNotFoundError(`job ${this.id} is not in the store; it was deleted or pruned before`);
  }

  /** For `console.log`: what a person looks for first, as of the last refresh. */
  [inspectCustom](depth: number, options: object, inspect: (value: unknown, options: object) => string): string {
    if (depth < 0) return `[TaskResult ${this.id}]`;
    const { id, task, status, attempts } = this;
    const last = status === 'successful' ? undefined : this.errors.at(-1);
    const error = last ? { error: `${last.name}: ${last.message}` } : {};
    return `TaskResult ${inspect({ id, task, status, attempts, ...error, asOf: new Date(this.#readAt) }, options)}`;
  }

  /** For `JSON.stringify`, logs and test output. */
  toJSON(): Record<string, unknown> {
    const { id, task, status, queue, priority, attempts, maxAttempts, reason, enqueuedAt, finishedAt } = this;
    return { id, task, status, input: this.input, queue, priority, attempts, maxAttempts, reason, enqueuedAt, finishedAt };
  }

  #open(): Store | Promise<Store> {
    this.#binding.beforeUse?.();
    return this.#backend.open();
  }
}

/** Makes a result from a row. */
export function resultOf<Output, Input>(app: App, alias: string, record: Enqueued): TaskResult<Output, Input> {
  return new TaskResult(app.binding, alias, app.backend(alias), record);
}

function date(at: number | null): Date | null {
  return at === null ? null : new Date(at);
}
