/**
 * The durable steps of one attempt: what `ctx.step`, long sleeps and `ctx.waitFor` record with their job and read when the job runs again.
 * The task's function starts from the top each time, but recorded steps do not run twice.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { backoffMs, parseBackoff } from '../core/backoff.ts';
import type { StepContext, StepOptions, WaitOptions } from '../core/definition.ts';
import { durationMs, latestInstant, longestDurationMs, show } from '../core/duration.ts';
import {
  ConfigError,
  type ConfigFault,
  InputError,
  isEscapementError,
  PermanentError,
  SuspendedError,
  TimeoutError,
} from '../core/errors.ts';
import { isPermanentError } from '../core/failure.ts';
import { decode, encode } from '../core/json.ts';
import {
  type Failure,
  failedStep,
  failureStep,
  isHidden,
  maxSteps,
  nameOfStep,
  signalValue,
  undoAttempts,
  undoableStep,
  undoneStep,
  undoStep,
  waitState,
} from '../core/steps.ts';
import type { Step } from '../core/types.ts';
import type { Store } from '../ports/store.ts';
import type { RunningAttempt } from './attempt.ts';
import { parseInput } from './input.ts';

/** The part of a store that keeps steps. */
export interface StepStore extends Pick<Store, 'saveSteps' | 'getSteps' | 'takeSignal' | 'amend'> {
  /** Set if it cannot keep steps: returns the error for a task that uses them. */
  refused?(what: string): Error;
}

/** Set inside a step's function. The step runs once, so sleeps inside it are not recorded. */
const inStep = new AsyncLocalStorage<true>();

/** A job that sleeps for longer than this between steps gives up its slot. */
const holdMs = 30_000;
const retryStoreMs = 1_000;
const maxNameLength = 200;

export class Steps {
  readonly #attempt: RunningAttempt;
  readonly #store: StepStore | undefined;
  #recorded: Promise<Map<string, Step>> | undefined;
  #loaded: ReadonlyMap<string, Step> | undefined;
  /** How often each name was used. */
  readonly #nameCounts = new Map<string, number>();
  readonly #names = new Set<string>();
  /** The call sites of the steps that are running. */
  readonly #running = new Map<string, Error>();
  /** The completed steps that can be undone, in order. */
  readonly #undone: Undo[] = [];

  constructor(attempt: RunningAttempt, store: StepStore | undefined) {
    this.#attempt = attempt;
    this.#store = store;
  }

  /** True between steps, once the attempt has used one. A sleep at this point is recorded. */
  get areUsed(): boolean {
    return this.#names.size > 0 && inStep.getStore() === undefined;
  }

  async run<T>(name: string, fn: (step: StepContext) => T, options: StepOptions<Awaited<T>> = {}): Promise<Awaited<T>> {
    const what = `ctx.step(${show(name)}) of ${this.#attempt.task}`;
    checkName(name, what);
    refuseInStep(what);
    this.#refuseWithoutStore('ctx.step()');
    if (typeof fn !== 'function')
      throw new InputError(`${what}: the second argument must be the function that does the work; got ${show(fn)}`);
    const { maxAttempts, backoff, timeoutMs, key } = readOptions(options as StepOptions, what);
    const done = (id: string, value: Awaited<T>): Awaited<T> => {
      if (options.compensate) this.#undone.push({ id, value, compensate: options.compensate as Undo['compensate'] });
      return value;
    };
    const base = key === undefined ? name : `${name}:${key}`;
    const site = new Error('started');
    const other = this.#running.get(base);
    if (other) {
      throw new InputError(
        `${what} is already running: it was started at ${placeOf(other)} and again at ${placeOf(site)}. Give steps that run in parallel a key: ctx.step(${show(name)}, fn, { key })`,
      );
    }
    this.#running.set(base, site);
    try {
      const id = this.#next(base);
      const recorded = await this.#find(id);
      if (recorded) return done(id, (recorded.value === null ? undefined : decode(recorded.value)) as Awaited<T>);
      for (let attempt = 1; ; attempt++) {
        try {
          return done(id, await this.#perform(id, fn, attempt, timeoutMs, what, options.compensate !== undefined));
        } catch (error) {
          if (this.#attempt.ended || attempt >= maxAttempts || error instanceof Unstorable || isPermanentError(error))
            throw unwrapped(error);
          const { random } = this.#attempt.host;
          await this.#attempt.pause(backoffMs(backoff, attempt, random.fraction('backoff.jitter'), error));
        }
      }
    } finally {
      this.#running.delete(base);
    }
  }

  #refuseWithoutStore(what: string): void {
    if (this.#store?.refused) throw this.#store.refused(what);
  }

  /** Sleeps until the same instant, however often the job runs in the meantime. */
  async sleep(ms: number): Promise<void> {
    const { clock } = this.#attempt.host;
    const name = this.#next('~sleep');
    const recorded = await this.#find(name);
    const endsAt = recorded ? Number(recorded.value) : Math.min(clock.now() + ms, latestInstant);
    if (!recorded) await this.#save({ name, kind: 'sleep', value: String(endsAt) });
    const leftMs = endsAt - clock.now();
    if (leftMs > holdMs) throw this.#attempt.suspend(leftMs, undefined, `sleeps until ${new Date(endsAt).toISOString()}`);
    if (leftMs > 0) await this.#attempt.pause(leftMs);
  }

  async waitFor(name: string, options: WaitOptions<StandardSchemaV1 | undefined> = {}): Promise<unknown> {
    const what = `ctx.waitFor(${show(name)}) of ${this.#attempt.task}`;
    checkName(name, what);
    refuseInStep(what);
    this.#refuseWithoutStore('ctx.waitFor()');
    for (const key of Object.keys(options))
      if (key !== 'timeout' && key !== 'schema') throw new InputError(`${what}: expected { timeout, schema }; got ${show(key)}`);
    const { clock } = this.#attempt.host;
    const timeoutMs = options.timeout === undefined ? null : durationMs(options.timeout, `${what}: timeout`);
    const { schema } = options;
    const accept = (data: unknown) => (schema ? parseInput(schema, data, `the signal ${name}`) : data);
    const step = this.#next(`~signal ${name}`);
    const recorded = await this.#find(step);
    let until = timeoutMs === null ? null : clock.now() + timeoutMs;
    if (recorded) {
      const state = waitState(recorded);
      if ('data' in state) return accept(state.data);
      if ('timedOut' in state) return null;
      until = state.until;
    } else await this.#save({ name: step, kind: 'signal', value: JSON.stringify({ until }) });
    const taken = await this.#take(name, step);
    if (taken !== null) return accept((decode(taken) as { data: unknown }).data);
    if (until !== null && until <= clock.now()) {
      await this.#save({ name: step, kind: 'signal', value: '{"timedOut":true}' });
      return null;
    }
    throw this.#attempt.suspend(until === null ? longestDurationMs : until - clock.now(), name, `waits for the signal ${name}`);
  }

  /** True if steps must be undone when the job fails, or if it has failed and they are being undone. */
  get canUndo(): boolean {
    return this.#undone.length > 0 || this.failure !== undefined;
  }

  /** Why the job is being undone, as recorded by an earlier attempt, or because its cancellation was requested. */
  get failure(): Failure | undefined {
    const recorded = this.#loaded?.get(failedStep)?.value;
    if (recorded != null) return JSON.parse(recorded) as Failure;
    const { cancelRequested, attempt } = this.#attempt.job;
    return cancelRequested === null
      ? undefined
      : { error: null, reason: cancelRequested, permanent: false, maxAttempts: attempt + undoAttempts };
  }

  /** The maximum number of attempts of a job whose steps are being undone. */
  get attemptsToUndo(): number {
    return this.failure?.maxAttempts ?? this.#attempt.attempt + undoAttempts;
  }

  /**
   * Undoes the completed steps, latest first, and records each one so that it is undone only once.
   * @throws the error of the first compensation that fails; the remaining ones are left to the next attempt
   */
  async undo(why: Omit<Failure, 'maxAttempts' | 'ownMaxAttempts'>): Promise<void> {
    const { job, host } = this.#attempt;
    if (!this.#loaded?.has(failedStep)) {
      const maxAttempts = this.attemptsToUndo;
      await this.#save(failureStep({ ...why, maxAttempts, ownMaxAttempts: job.maxAttempts }));
      // More attempts than the task allows, because a worker may be killed while it undoes the steps.
      const amendment = { id: job.id, expect: { status: 'running', claim: job.claim }, set: { maxAttempts } } as const;
      await this.#store?.amend([amendment], { now: host.clock.now() });
    }
    for (const { id, value, compensate } of this.#undone.toReversed()) {
      const name = undoStep(id);
      if ((await this.#recorded)?.has(name)) continue;
      try {
        await inStep.run(true, compensate, value, {
          id: await this.#idOf(id, `undo ${id}`),
          attempt: job.attempt,
          signal: new AbortController().signal,
        });
      } catch (error) {
        throw new UndoFailed(id, error);
      }
      await this.#save({ name, kind: 'step', value: null });
    }
  }

  /** The names of recorded steps that the function has not used, which means that its code has changed. */
  unused(): readonly string[] {
    return [...(this.#loaded?.values() ?? [])].filter((step) => !this.#names.has(step.name) && !isHidden(step)).map(nameOfStep);
  }

  async #perform<T>(
    id: string,
    fn: (step: StepContext) => T,
    attempt: number,
    timeoutMs: number | null,
    what: string,
    isUndoable: boolean,
  ): Promise<Awaited<T>> {
    const { signal } = this.#attempt;
    const timeout = timeoutMs === null ? undefined : new AbortController();
    const stepId = await this.#idOf(id, id);
    const value = await this.#attempt.within(
      timeoutMs,
      () => {
        const error = new TimeoutError(`${what} exceeded its timeout of ${timeoutMs} ms`);
        timeout?.abort(error);
        return error;
      },
      () =>
        inStep.run(true, fn, {
          id: stepId,
          attempt,
          signal: timeout ? AbortSignal.any([signal, timeout.signal]) : signal,
        }),
    );
    let text: string | null;
    try {
      text = value === undefined ? null : encode(value, `the result of ${what}`);
    } catch (error) {
      throw new Unstorable(
        new PermanentError(
          `${error instanceof Error ? error.message : String(error)} The step has run and its effects have happened, so it is not repeated. Return plain data, such as an id, or nothing.`,
          { cause: error },
        ),
      );
    }
    await this.#save({ name: id, kind: 'step', value: text }, isUndoable);
    return (text === null ? undefined : decode(text)) as Awaited<T>;
  }

  /** A step that runs again after it was undone has a new id. With the old one, the receiver would treat the call as a repetition. */
  async #idOf(name: string, what: string): Promise<string> {
    const undone = (await this.#recorded)?.get(undoneStep(name));
    return `${this.#attempt.id}/${what}${undone ? `/${undone.attempt}` : ''}`;
  }

  /** Repeated names are numbered in order: the second `name` is `name#2`. */
  #next(base: string): string {
    const count = (this.#nameCounts.get(base) ?? 0) + 1;
    this.#nameCounts.set(base, count);
    const name = count === 1 ? base : `${base}#${count}`;
    this.#names.add(name);
    if (this.#names.size > maxSteps) throw new PermanentError(`${this.#attempt.task} used more than ${maxSteps} steps in one job`);
    return name;
  }

  async #find(name: string): Promise<Step | undefined> {
    const { job } = this.#attempt;
    if (this.#attempt.ended) throw this.#attempt.aborted;
    // A job that has never run before has no records.
    this.#recorded ??= job.claim <= 1 || !this.#store ? Promise.resolve(new Map()) : this.#load(this.#store);
    const found = (await this.#recorded).get(name);
    // The job has failed and is being undone, so no new steps run.
    if (!found && this.failure) throw new SuspendedError(`job ${job.id} has failed, and its steps are being undone`);
    return found;
  }

  async #load(store: StepStore): Promise<Map<string, Step>> {
    const [steps = []] = await this.#withRetries(() => store.getSteps([this.#attempt.id]));
    const recorded = new Map(steps.map((step) => [step.name, step]));
    this.#loaded = recorded;
    return recorded;
  }

  async #save(step: Pick<Step, 'name' | 'kind' | 'value'>, isUndoable = false): Promise<void> {
    const { job, host } = this.#attempt;
    const row = { ...step, attempt: job.attempt, at: host.clock.now() };
    const rows = isUndoable ? [row, { ...row, name: undoableStep, kind: 'sleep' as const, value: null }] : [row];
    if (this.#store && !(await this.#withRetries(() => (this.#store as StepStore).saveSteps(job, rows)))) throw this.#lost();
    (await this.#recorded)?.set(step.name, row);
    this.#attempt.stepped(row);
  }

  /** Takes a signal, if there is one, and returns the value of the step that records it. */
  async #take(name: string, step: string): Promise<string | null> {
    const store = this.#store;
    if (!store) throw new InputError(`ctx.waitFor() of ${this.#attempt.task}: call() has no job that can wait; use enqueue() instead`);
    const { id, job, attempt, host } = this.#attempt;
    const row = { name: step, kind: 'signal', attempt, at: host.clock.now() } as const;
    let isRepeated = false;
    const value = await this.#withRetries(async () => {
      // An earlier call whose answer was lost may have taken the signal. Repeating it would take the next signal, or wait for one that has
      // already arrived.
      const [steps = []] = isRepeated ? await store.getSteps([id]) : [];
      isRepeated = true;
      const kept = steps.find((one) => one.name === step && 'data' in waitState(one))?.value;
      if (kept) return kept;
      const signal = await store.takeSignal(job, { name, step: row });
      return signal && signalValue(signal);
    });
    if (value === false) throw this.#lost();
    if (value !== null) this.#attempt.stepped({ ...row, value });
    return value;
  }

  /** Retries while the store fails temporarily: a step that has already had its effect must not run again. */
  async #withRetries<T>(call: () => T | Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!isEscapementError(error) || !('transient' in error) || !error.transient || this.#attempt.ended) throw error;
        await this.#attempt.pause(retryStoreMs);
      }
    }
  }

  #lost(): Error {
    this.#attempt.fence('another worker has claimed it');
    return this.#attempt.aborted ?? new SuspendedError('the attempt has ended');
  }
}

interface Undo {
  readonly id: string;
  readonly value: unknown;
  readonly compensate: (value: unknown, step: StepContext) => unknown;
}

/** A compensation that failed. */
export class UndoFailed extends Error {
  constructor(id: string, error: unknown) {
    super(`undoing the step ${id} failed: ${error instanceof Error ? error.message : show(error)}`, { cause: error });
    this.name = error instanceof Error ? error.name : 'Error';
  }
}

/** Wraps an error that must not be retried by the step itself. */
class Unstorable extends Error {
  readonly error: unknown;
  constructor(error: unknown) {
    super('unstorable');
    this.error = error;
  }
}

function unwrapped(error: unknown): unknown {
  return error instanceof Unstorable ? error.error : error;
}

function checkName(name: unknown, what: string): void {
  if (typeof name === 'string' && name !== '' && name.length <= maxNameLength && !name.startsWith('~')) return;
  throw new InputError(`${what}: the name must be a string of 1 to ${maxNameLength} characters that does not begin with ~`);
}

/** A step runs once, as a whole, so nothing would ever read what is recorded inside it. */
function refuseInStep(what: string): void {
  if (inStep.getStore()) throw new InputError(`${what} is called inside another step; call it before or after that step`);
}

function readOptions(options: StepOptions, what: string) {
  const faults: ConfigFault[] = [];
  const fault = (path: string, expected: string, got: unknown) => void faults.push({ path, expected, got: show(got) });
  for (const key of Object.keys(options))
    if (!['retry', 'timeout', 'key', 'compensate'].includes(key)) fault(key, 'one of retry, timeout, key, compensate', key);
  const { retry = {}, timeout, key, compensate } = options;
  if (compensate !== undefined && typeof compensate !== 'function') fault('compensate', 'a function (value) => …', compensate);
  for (const name of Object.keys(retry))
    if (name !== 'maxAttempts' && name !== 'backoff') fault(`retry.${name}`, 'one of maxAttempts, backoff', name);
  const { maxAttempts = retry.backoff === undefined ? 1 : 3 } = retry;
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1) fault('retry.maxAttempts', 'a whole number from 1', maxAttempts);
  const isKey = typeof key === 'number' || (typeof key === 'string' && key.length <= maxNameLength);
  if (key !== undefined && !isKey) fault('key', `a number or a string of at most ${maxNameLength} characters`, key);
  const backoff = parseBackoff(retry.backoff ?? [1_000], 'retry.backoff', faults);
  const timeoutMs = timeout === undefined ? null : durationMs(timeout, `${what}: timeout`);
  if (faults.length > 0) throw new ConfigError(`Invalid options for ${what}`, faults);
  return { maxAttempts, backoff, timeoutMs, key };
}

/** The location in the application's code: the first stack frame outside the engine. */
function placeOf(site: Error): string {
  const frames = (site.stack ?? '').split('\n').filter((line) => /^\s*at /.test(line));
  const own = frames.find((line) => !/[\\/]engine[\\/](steps|context)\.[jt]s/.test(line));
  return /\(?([^()\s]+:\d+:\d+)\)?$/.exec(own ?? '')?.[1] ?? 'an unknown place';
}
