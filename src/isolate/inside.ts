/**
 * Code that runs in the thread or process: runs a task's function with a context that asks the worker for everything except time and code.
 * It makes no decision about the job.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Definition, StepContext, StepOptions, TaskContext, TaskLog, WaitOptions } from '../core/definition.ts';
import { type Duration, durationMs, show } from '../core/duration.ts';
import {
  AttemptError,
  CancelledError,
  EscapementError,
  InputError,
  LeaseLostError,
  ShutdownError,
  SuspendedError,
  TimeoutError,
} from '../core/errors.ts';
import type { LogLevel } from '../core/events.ts';
import { cut, isPermanentError, maxTextBytes } from '../core/failure.ts';
import { encode } from '../core/json.ts';
import { isSnooze, steering } from '../core/outcomes.ts';
import type { Job } from '../core/types.ts';
import { stored } from '../engine/attempt.ts';
import type { Host } from '../engine/host.ts';
import { parseInput } from '../engine/input.ts';
import { scope } from '../engine/scope.ts';
import { unstored } from '../engine/verdict.ts';
import { systemClock } from '../ports/clock.ts';
import { crossing, made } from './crossing.ts';
import { type Ended, type FromInside, home, type Method, type Start, type ToInside } from './messages.ts';

/** The host of the task's application in the thread or process, which creates handles of jobs. */
type HostOf = () => Pick<Host, 'resultOf' | 'workflowOf'>;

/** In the thread or process of an isolated task, registers a task with it. Does nothing elsewhere. */
export function offer(definition: Definition, host: HostOf): void {
  home()?.tasks.set(definition.name, startOf(definition, host));
}

/**
 * Restricts the use of backends in the thread or process of an isolated task. They must not be used while its module is loaded, because
 * that happens again in each thread, and only backends whose jobs are visible outside of it may be used.
 * @throws EscapementError with what to do
 */
export function checkUse(backend: { readonly name: string; readonly supports: { readonly shared: boolean } }): void {
  const here = home();
  if (!here) return;
  if (here.loading) {
    throw new EscapementError(
      `the module of an isolated task uses a backend while it loads, and every ${here.in} loads it again; use the backend in a function, or in another module`,
    );
  }
  if (!backend.supports.shared) {
    throw new EscapementError(
      `an isolated task cannot use the backend ${backend.name}(), whose jobs only exist in the worker's own ${here.in}; use sqlite() or postgres(), or return the input and enqueue the job elsewhere`,
    );
  }
}

const startOf =
  (definition: Definition, host: HostOf): Start =>
  (job, post) => {
    const run = new InsideRun(definition, job, post, host);
    void run.run().then((ended) => post({ kind: 'ended', ended }));
    return (message) => run.receive(message);
  };

const reasons: readonly (new (message: string) => AttemptError)[] = [
  TimeoutError,
  CancelledError,
  LeaseLostError,
  ShutdownError,
  SuspendedError,
];

/** The reason of an abort, as an instance of its class. */
function reasonOf({ name, message }: { readonly name: string; readonly message: string }): AttemptError {
  const Reason = reasons.find((candidate) => candidate.name === name) ?? AttemptError;
  return new Reason(message);
}

interface Call {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /** The function of a step. */
  readonly fn?: (step: StepContext) => unknown;
  /** Its last error. */
  thrown?: unknown;
  controller?: AbortController;
}

class InsideRun {
  readonly #definition: Definition;
  readonly #job: Job;
  readonly #post: (message: FromInside) => void;
  readonly #host: HostOf;
  readonly #controller = new AbortController();
  readonly #calls = new Map<number, Call>();
  readonly #metadata: Map<string, unknown>;
  #made = 0;

  constructor(definition: Definition, job: Job, post: (message: FromInside) => void, host: HostOf) {
    this.#definition = definition;
    this.#job = job;
    this.#post = post;
    this.#host = host;
    this.#metadata = new Map(Object.entries(job.metadata));
  }

  async run(): Promise<Ended> {
    const { task, id, attempt, claim, worker } = this.#job;
    try {
      const value = await scope.run({ task, id, attempt, claim, worker: worker ?? '' }, () => this.#call());
      return this.#ended(value);
    } catch (error) {
      return { kind: 'failed', error: crossing(error, (thrown) => this.#isPermanent(thrown)) };
    }
  }

  receive(message: ToInside): void {
    if (message.kind === 'abort') {
      const reason = reasonOf(message);
      this.#controller.abort(reason);
      if (message.name !== 'ShutdownError') for (const { reject } of this.#calls.values()) reject(reason);
      return;
    }
    if (message.kind === 'run') return;
    const call = this.#calls.get(message.call);
    if (message.kind === 'try') void this.#try(message.call, message.step);
    else if (message.kind === 'abortTry') call?.controller?.abort(reasonOf(message));
    else {
      this.#calls.delete(message.call);
      if (message.error) call?.reject(sameError(call.thrown, message.error.record.message) ? call.thrown : made(message.error));
      else call?.resolve(message.value);
    }
  }

  async #call(): Promise<unknown> {
    const { schema, run } = this.#definition;
    const raw = stored(this.#job);
    const context = this.#context();
    return run(schema ? await parseInput(schema, raw, `input of ${this.#job.task}`) : raw, context);
  }

  #ended(value: unknown): Ended {
    const steers = steering(value);
    if (steers)
      return isSnooze(steers)
        ? { kind: 'snoozed', delayMs: steers.delayMs }
        : { kind: 'cancelled', reason: cut(steers.reason, maxTextBytes) };
    const { task } = this.#job;
    try {
      return { kind: 'done', value: value === undefined ? null : encode(value, `the return value of ${task}`) };
    } catch (error) {
      // The task has done its work. Running it again would repeat it.
      const fault = error instanceof InputError ? new InputError(unstored(task, error.message), { path: error.path ?? '' }) : error;
      return { kind: 'failed', error: crossing(fault, () => true) };
    }
  }

  #isPermanent(error: unknown): boolean {
    const { retryable } = this.#definition;
    try {
      return isPermanentError(error) || (retryable !== null && !retryable(error));
    } catch {
      this.#post({
        kind: 'log',
        level: 'warn',
        message: 'retry.unless or retry.only threw an error; the attempt is treated as retryable',
      });
      return false;
    }
  }

  #request(method: Method, values: readonly unknown[], fn?: Call['fn']): Promise<never> {
    this.#made += 1;
    const call = this.#made;
    const answer = new Promise<never>((resolve, reject) => {
      const { signal } = this.#controller;
      if (signal.aborted) return reject(signal.reason);
      this.#calls.set(call, { resolve: resolve as (value: unknown) => void, reject, ...(fn ? { fn } : {}) });
      try {
        this.#post({ kind: 'call', call, method, values });
      } catch (error) {
        this.#calls.delete(call);
        const why = (error as Error).message;
        reject(new InputError(`ctx.${method}() of ${this.#job.task}: with isolate, its arguments must be plain data (${why})`));
      }
    });
    // A call that is not awaited must not end the thread when the attempt is aborted.
    answer.catch(() => {});
    return answer;
  }

  async #try(call: number, step: { readonly id: string; readonly attempt: number }): Promise<void> {
    const state = this.#calls.get(call);
    if (!state) return;
    state.controller = new AbortController();
    const signal = AbortSignal.any([this.#controller.signal, state.controller.signal]);
    try {
      const value = await state.fn?.({ ...step, signal });
      this.#post({ kind: 'tried', call, value });
    } catch (error) {
      state.thrown = error;
      this.#post({ kind: 'tried', call, error: crossing(error) });
    }
  }

  #context(): TaskContext {
    const job = this.#job;
    const host = this.#host;
    const post = this.#post;
    const line = (level: LogLevel) => (message: string, fields?: Record<string, unknown>) =>
      post({ kind: 'log', level, message: typeof message === 'string' ? message : show(message), fields: plain(fields) });
    const log: TaskLog = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
    return {
      id: job.id,
      task: job.task,
      attempt: job.attempt,
      maxAttempts: job.maxAttempts,
      schedule: job.schedule,
      scheduledAt: job.scheduledAt === null ? null : new Date(job.scheduledAt),
      get result() {
        return host().resultOf(job);
      },
      get workflow() {
        return job.workflow === null ? null : host().workflowOf(job, this.result);
      },
      signal: this.#controller.signal,
      log,
      metadata: {
        get: (key) => this.#metadata.get(key),
        set: (key, value) => {
          // Throws at the call site if the value cannot be stored.
          if (value !== undefined) encode(value, `ctx.metadata.set(${show(key)}) of ${job.task}`);
          this.#metadata.set(key, value);
          post({ kind: 'metadata', key, value });
        },
      },
      now: () => new Date(systemClock.now()),
      sleep: (duration: Duration) => this.#request('sleep', [durationMs(duration, 'ctx.sleep()')]),
      progress: (fraction, message) =>
        post({ kind: 'progress', fraction: Number(fraction), message: message === undefined ? undefined : String(message) }),
      complete: () => {
        throw new InputError(
          `ctx.complete() of ${job.task}: a transaction cannot be used from the ${home()?.in} of an isolated task; return the value, or define the task without isolate`,
        );
      },
      blob: (name) => this.#request('blob', [name]),
      saveBlob: (name, bytes) => this.#request('saveBlob', [name, bytes]),
      step: <T>(name: string, fn: (step: StepContext) => T, options?: StepOptions<Awaited<T>>): Promise<Awaited<T>> => {
        if (options?.compensate)
          throw new InputError(
            `ctx.step(${show(name)}) of ${job.task}: compensate cannot be used from the ${home()?.in} of an isolated task; define the task without isolate`,
          );
        return this.#request('step', [name, options], fn);
      },
      waitFor: async <Schema extends StandardSchemaV1 | undefined = undefined>(name: string, options: WaitOptions<Schema> = {}) => {
        const { schema, ...rest } = options;
        const data: unknown = await this.#request('waitFor', [name, rest]);
        return (data !== null && schema ? await parseInput(schema, data, `the data of signal ${name}`) : data) as never;
      },
      external: (_label, fn) => fn(),
    };
  }
}

/** The fields of a log line, if they can be passed on. */
function plain(fields: Record<string, unknown> | undefined): Record<string, unknown> | undefined {
  if (fields === undefined) return undefined;
  try {
    return structuredClone(fields);
  } catch {
    return Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, typeof value === 'object' ? show(value) : String(value)]),
    );
  }
}

function sameError(thrown: unknown, message: string): boolean {
  return thrown !== undefined && crossing(thrown).record.message === message;
}
