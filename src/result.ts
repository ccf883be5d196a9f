/** A caller's view of a job: a snapshot that `refresh` updates, and the operations that a caller can perform on it. */
import type { App, Binding } from './app.ts';
import type { Duration } from './core/duration.ts';
import { durationMs, formatDuration, parseWhen } from './core/duration.ts';
import { ResultNotFoundError, ResultNotReadyError } from './core/errors.ts';
import type { LogLevel } from './core/events.ts';
import type { RecordedError } from './core/failure.ts';
import { isFinished, visibleStatus } from './core/job.ts';
import { decode, encode } from './core/json.ts';
import { logBlob, readLog } from './core/log.ts';
import { isHidden, nameOfStep } from './core/steps.ts';
import type { AttemptOutcome, JobRecord, Status } from './core/types.ts';
import type { Part } from './core/workflow.ts';
import { parseInput } from './engine/input.ts';
import { cancelJob, deleteJob, editJob, prioritizeJob, retryJob } from './engine/operator.ts';
import { scope } from './engine/scope.ts';
import { waitersOf } from './engine/waiters.ts';
import { OptionReader } from './options/reader.ts';
import type { EditOptions } from './options/types.ts';
import { readEdit } from './options/using.ts';
import type { Backend, Enqueued } from './ports/backend.ts';
import type { Store } from './ports/store.ts';

/** One failed attempt: the thrown error, with its code, own properties, causes and members. */
export interface AttemptFailure extends RecordedError {
  /** The attempt's number, 1 for the first. */
  readonly attempt: number;
  readonly at: Date;
}

/** One attempt, whatever its outcome. */
export interface AttemptInfo {
  /** Its number; 1 for the first. After a snoozed or released attempt, the next one has the same number. */
  readonly attempt: number;
  readonly worker: string;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  /** Null while it is running. `lost`: its worker's lease ended; `released`: its worker stopped and returned the job to the queue. */
  readonly outcome: AttemptOutcome | null;
  readonly error: RecordedError | null;
}

/** A line logged by an attempt. */
export interface LogEntry {
  readonly at: Date;
  readonly level: LogLevel;
  readonly message: string;
  /** Null if it has none, or if they were not plain data or were too large. */
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly attempt: number;
}

/** A job's reported progress. */
export interface ResultProgress {
  /** 0 … 1 */
  readonly fraction: number;
  readonly message: string | null;
  readonly at: Date;
}

/** One step recorded by a job. */
export interface StepInfo {
  readonly name: string;
  /** `step`: from `ctx.step`. `sleep`: from a long `ctx.sleep`. `signal`: from `ctx.waitFor`. */
  readonly kind: 'step' | 'sleep' | 'signal';
  /**
   * The return value of a step; the instant at which a sleep ends, in epoch milliseconds; `{ until }`, `{ data }` or `{ timedOut }` for a
   * signal.
   */
  readonly value: unknown;
  /** The attempt that recorded it. */
  readonly attempt: number;
  readonly at: Date;
}

const inspectCustom: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

/** The return value of `enqueue` (DEP 14's TaskResult). `Output` is the type that the task returns, `Input` the type of its input. */
export class TaskResult<Output = unknown, Input = unknown> {
  readonly #binding: Binding;
  readonly #backend: Backend;
  readonly #alias: string;
  #record: JobRecord;
  #readAt: number;
  readonly #duplicate: boolean;

  /** @internal */
  static partOf(result: TaskResult): Part | null {
    return result.#record.job.part;
  }

  /** @internal */
  constructor(binding: Binding, alias: string, backend: Backend, record: Enqueued) {
    this.#binding = binding;
    this.#alias = alias;
    this.#backend = backend;
    this.#record = record;
    this.#readAt = binding.host.clock.now();
    this.#duplicate = record.duplicate ?? false;
  }

  /** A UUIDv7, or the id passed to `using({ id })`. */
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
  /** As enqueued, before the schema is applied; null if none was given. */
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
  /** The alias of the backend that the job was enqueued to. */
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
  /** The requested due time, or null. */
  get runAfter(): Date | null {
    return date(this.#record.job.runAfter);
  }
  /** When it may start next: the time of the retry or snooze, or the initial due time. */
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
  /** Number of attempts used. */
  get attempts(): number {
    return this.#record.job.attempt;
  }
  get maxAttempts(): number {
    return this.#record.job.maxAttempts;
  }
  /** Why it ended as it did: `expired`, `poisoned`, `permanent`, or the reason passed to cancel; null otherwise. */
  get reason(): string | null {
    return this.#record.job.reason;
  }
  get schedule(): string | null {
    return this.#record.job.schedule;
  }
  /** True if the enqueue that returned this created no job, because this one already had the id or held the unique key. */
  get duplicate(): boolean {
    return this.#duplicate;
  }
  /** The key under which the job is unique, whether or not it holds the key; null if the job is not unique. */
  get uniqueKey(): string | null {
    const { unique, task } = this.#record.job;
    return unique === null ? null : unique.key.slice(task.length + 1);
  }
  /** The keys under which its task's limits count it; null if a limit has no key. */
  get limitKeys(): { readonly concurrency: string | null; readonly rate: string | null } {
    const { concurrencyKey, rateKey } = this.#record.job;
    return { concurrency: concurrencyKey, rate: rateKey };
  }
  /** The name of the signal that it waits for until `dueAt`, or null. */
  get awaits(): string | null {
    return this.#record.job.awaits;
  }
  /** The id of the job whose attempt enqueued this one, or null. */
  get enqueuedBy(): string | null {
    return this.#record.job.enqueuedBy;
  }
  /** The id of its workflow, or null. */
  get workflow(): string | null {
    return this.#record.job.workflow;
  }
  get workflowName(): string | null {
    return this.#record.job.part?.of ?? null;
  }
  /** The key of its part in the workflow, or null. */
  get part(): string | null {
    return this.#record.job.part?.key ?? null;
  }
  get scheduledAt(): Date | null {
    return date(this.#record.job.scheduledAt);
  }
  /** The latest 200 attempts, oldest first. If the job comes from a list, only the latest has its error's stack; `refresh()` reads them all. */
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
  /** One error for each failed attempt in `history`, oldest first. */
  get errors(): readonly AttemptFailure[] {
    const failures: AttemptFailure[] = [];
    for (const { error, attempt, endedAt } of this.#record.attempts) {
      if (error) failures.push({ ...error, attempt, at: new Date(endedAt ?? 0) });
    }
    return failures;
  }
  /** The workers that attempted the job, in order, without duplicates. */
  get workerIds(): readonly string[] {
    return [...new Set(this.#record.attempts.map(({ worker }) => worker))];
  }
  get progress(): ResultProgress | null {
    const { progress } = this.#record.job;
    return progress && { fraction: progress.fraction, message: progress.message, at: new Date(progress.at) };
  }
  /** True once the job has reached a final status. */
  get isFinished(): boolean {
    return isFinished(this.#record.job);
  }
  /**
   * The return value of the task.
   * @throws ResultNotReadyError unless the job was successful as of the last refresh
   */
  get returnValue(): Output {
    const { job } = this.#record;
    if (job.status === 'successful') return (job.returnValue === null ? undefined : decode(job.returnValue)) as Output;
    const last = this.errors.at(-1);
    const why = last ? `; its last error: ${last.name}: ${last.message}` : '';
    throw new ResultNotReadyError(
      `job ${job.id} of ${job.task} is ${this.status}, not successful${why}. Call refresh() or wait() to update it.`,
    );
  }

  /**
   * The steps, sleeps and signals recorded by the job's attempts, in order. Reads the store.
   * @example (await result.steps()).map(({ name }) => name)
   */
  async steps(): Promise<readonly StepInfo[]> {
    const store = await this.#open();
    const [steps = []] = await store.getSteps([this.id]);
    return steps
      .filter((step) => !isHidden(step))
      .map((step) => ({
        name: nameOfStep(step),
        kind: step.kind,
        value: step.value === null ? undefined : decode(step.value),
        attempt: step.attempt,
        at: new Date(step.at),
      }));
  }

  /**
   * The lines that its attempts have logged with `ctx.log`, oldest first: the latest 100, at most 16 KiB. Lines of a running attempt appear
   * within 10 seconds. Reads the store.
   */
  async logs(): Promise<readonly LogEntry[]> {
    const store = await this.#open();
    const [bytes] = await store.getBlobs([this.id], logBlob);
    return readLog(bytes).map(({ at, level, message, fields, attempt }) => ({ at: new Date(at), level, message, fields, attempt }));
  }

  /** The jobs enqueued by its attempts, oldest first. Reads the store. */
  async children(): Promise<TaskResult[]> {
    const store = await this.#open();
    const children: TaskResult[] = [];
    let cursor: string | undefined;
    do {
      const found = await store.list({ enqueuedBy: this.id }, { now: this.#binding.host.clock.now(), limit: 500, cursor });
      for (const record of found.items) children.unshift(new TaskResult(this.#binding, this.#alias, this.#backend, record));
      cursor = found.cursor ?? undefined;
    } while (cursor !== undefined);
    return children;
  }

  /**
   * Reads the job again, updates this object and resolves to it.
   * @throws ResultNotFoundError if it has been pruned
   */
  async refresh(): Promise<this> {
    const store = await this.#open();
    const [record] = await store.get([this.id]);
    this.#read(record ?? null);
    return this;
  }

  #read(record: JobRecord | null): void {
    if (!record) throw new ResultNotFoundError(`job ${this.id} does not exist; finished jobs are deleted after their retention`);
    this.#record = record;
    this.#readAt = this.#binding.host.clock.now();
  }

  /** The bytes stored with the job under this name; null if there are none. */
  async blob(name: string): Promise<Uint8Array | null> {
    const store = await this.#open();
    const [bytes = null] = await store.getBlobs([this.id], name);
    return bytes;
  }

  /**
   * Waits until the job has finished, whether successfully or not.
   * @param options.timeout the maximum time to wait. Default: no limit
   * @throws ResultNotReadyError after the timeout; ResultNotFoundError if the job was deleted; StoreError of kind `closed` if
   * `tasks.close()` is called
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
                // The current state, not the state of the first read.
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
   * Cancels the job: immediately if it is not running, otherwise through its worker, which aborts its signal. Has no effect on a finished
   * job.
   * @param reason stored with the job. Default `'cancelled'`
   */
  async cancel(reason = 'cancelled'): Promise<this> {
    await cancelJob(this.#binding.host, await this.#open(), this.id, reason);
    return this.refresh();
  }

  /**
   * Runs a failed or cancelled job again now, allowing one more attempt; a job that waits for a retry runs now.
   * @throws InputError if it is running or was successful; DuplicateJobError if another job holds its unique key
   */
  async retry(): Promise<this> {
    await retryJob(this.#binding.host, await this.#open(), this.id);
    await this.#backend.requeued();
    return this.refresh();
  }

  /**
   * Changes the priority of a queued job.
   * @param priority −100 … 100, larger first
   * @throws ConfigError for any other number; InputError if the job is running or finished
   */
  async prioritize(priority: number): Promise<this> {
    const read = new OptionReader('Invalid priority');
    const wanted = read.priority(priority, 'priority');
    read.done();
    await prioritizeJob(this.#binding.host, await this.#open(), this.id, wanted);
    return this.refresh();
  }

  /**
   * Changes a queued job: its input, due time, expiry, queue or priority.
   * @throws ConfigError for invalid options; InputError if the job is running or finished, or the input does not match the task's schema
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
   * Deletes the job and its attempts. This object keeps the last state it has read.
   * @throws InputError if it is running; ResultNotFoundError if it no longer exists
   */
  async delete(): Promise<void> {
    if (await deleteJob(this.#binding.host, await this.#open(), this.id)) return;
    throw new ResultNotFoundError(`job ${this.id} no longer exists; it was deleted or pruned`);
  }

  /** For `console.log`: the most important fields, as of the last refresh. */
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

/** The part of the workflow that a job belongs to. Not exported from the package. */
export function partIn(result: TaskResult): Part | null {
  return TaskResult.partOf(result);
}
