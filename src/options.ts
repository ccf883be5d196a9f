/**
 * Every option of the public API: its type, its default, and the only code that reads it. All faults of a call are collected and thrown as
 * one ConfigError. An unknown option is a fault too, with a suggestion if a similar name exists.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { type Backoff, type BackoffInput, defaultBackoff, parseBackoff } from './core/backoff.ts';
import type { Definition, Isolation, KeyOf, UniqueRule } from './core/definition.ts';
import {
  answersAtOnce,
  type Duration,
  durationExpected,
  type Instant,
  ignoreRejection,
  instantExpected,
  isClass,
  isGenerator,
  isThenable,
  parseDuration,
  parseInstant,
  parseWhen,
  show,
} from './core/duration.ts';
import { ConfigError, type ConfigFault, InputError } from './core/errors.ts';
import type { EventMap } from './core/events.ts';
import type { Limit, Rate } from './core/gate.ts';
import { decode, encode, frozen } from './core/json.ts';
import type { Overrides, OwnRetention } from './core/types.ts';
import { defaultWhile, type HoldingStatus, holdingStatuses, type OnConflict } from './core/unique.ts';
import type { Retention } from './engine/host.ts';
import { callingModule, moduleUrl } from './isolate/caller.ts';

/** When and how often a failed attempt is retried. */
export interface RetryOptions {
  /** Maximum number of attempts, including the first: 1 … 10,000. @default 20 */
  maxAttempts?: number;
  /** The delays between attempts. @default exponential(): 1 s × 2, up to 24 h, plus 0 … 20 % */
  backoff?: BackoffInput;
  /** Errors for which this returns true fail the job immediately. */
  unless?: (error: unknown) => boolean;
  /** Only errors for which this returns true are retried. */
  only?: (error: unknown) => boolean;
}

/** Options that a task's definition sets for its jobs. `using` and schedules can override each of them. */
export interface JobOptions {
  /** @default 'default' */
  queue?: string;
  /** −100 … 100, larger first (DEP 14). @default 0 */
  priority?: number;
  retry?: RetryOptions;
  /**
   * The longest time for one attempt. After that its signal aborts and it fails with a TimeoutError.
   * @default none
   */
  timeout?: Duration;
  /**
   * A job that has not started within this time after `runAfter` (or after enqueue), or by this instant, is cancelled with reason
   * `expired`.
   * @default never
   */
  expires?: Duration | Instant;
  /**
   * Labels to find jobs by.
   * @default []
   */
  tags?: readonly string[];
  /**
   * How long a finished job is kept. Statuses without a value use the application's retention. A job keeps the value it was enqueued with.
   * @default the application's retention
   */
  retention?: RetentionOptions;
  /** The alias of the backend. @default 'default' */
  backend?: string;
}

/** Where a task's function runs. */
export interface IsolateOptions {
  in: 'thread' | 'process';
  /** The module that defines the task at its top level: `import.meta.url` there. @default the module that calls `define` */
  module?: string | URL;
}

/** Which jobs of a task count as the same, and what an enqueue does when there is one already. */
export interface UniqueOptions<Input = unknown> {
  /** Makes the key of an input, as the schema has parsed it; or the key itself. @default the whole input, whatever the order of its properties */
  key?: string | ((input: Input) => string | number);
  /** A job keeps others away for this long after it was enqueued, and no longer. @default as long as it is in one of the statuses of `while` */
  within?: Duration;
  /**
   * The statuses in which a job keeps others away. `queued` includes scheduled, ready and retrying jobs.
   * @default ['queued', 'running']; with `within` also 'successful'; with `replace` ['queued'] alone
   */
  while?: readonly HoldingStatus[];
  /**
   * `skip`: enqueue makes no job and resolves to the one that is there, with `duplicate` set. `replace`: so too, and that job takes the new input,
   * priority and times. `reject`: enqueue throws a DuplicateJobError. @default 'skip'
   */
  onConflict?: OnConflict;
  /** With `replace`, to debounce: jobs without a `runAfter` are due this long after the latest enqueue. @default due at once */
  wait?: Duration;
  /** With `replace`: the job is due at the latest this long after its first enqueue. @default no bound */
  maxWait?: Duration;
}

/** How many jobs may run at a time, over all workers of the store. */
export interface ConcurrencyOptions<Input = unknown> {
  /** 1 … 100,000. May be left out with `fair`. */
  limit?: number;
  /** The limit holds for the jobs of each key by itself. @default all jobs of the task have one key */
  key?: (input: Input) => string | number;
  /**
   * The keys take turns: while several have jobs that are due, a free place goes to the key with the fewest running jobs, however many the others
   * have waiting. A function gives a key its weight, more than 0: a key of weight 2 gets twice as much as one of weight 1.
   * Anything else counts as 1.
   * @default false: first come, first served
   */
  fair?: boolean | ((key: string) => number);
}

/** How many jobs may start within a time, over all workers of the store (the generic cell rate algorithm). A job beyond the rate is due when it fits. */
export interface RateOptions<Input = unknown> {
  /** 1 … 1,000,000. */
  limit: number;
  per: Duration;
  /** How many may start at once after a quiet time; the others are spread evenly. @default the limit */
  burst?: number;
  /** The rate holds for the jobs of each key by itself. @default all jobs of the task have one key */
  key?: (input: Input) => string | number;
}

/** The options of a task that count its jobs. */
export interface LimitOptions<Input = unknown> {
  unique?: UniqueOptions<Input>;
  concurrency?: ConcurrencyOptions<Input>;
  rate?: RateOptions<Input>;
}

/** Listeners of a task's own events. */
export interface TaskListeners {
  /**
   * Called after a job of the task was recorded as successful, in the process that ran it. Errors are logged. It is not called if that process dies
   * first; what must happen belongs in the task, in a step.
   */
  onSuccess?: ((event: EventMap['successful']) => unknown) | undefined;
  /** Called after a job of the task failed for good, in the process that recorded it. Errors are logged. */
  onFailure?: ((event: EventMap['failed']) => unknown) | undefined;
}

/** The limits of a queue, over all workers of the store. */
export interface QueueOptions {
  /** The number of its jobs that may run at a time. @default no limit */
  concurrency?: number;
  /** The number of its jobs that may start within a time. @default no limit */
  rate?: Omit<RateOptions, 'key'>;
  /**
   * A job that has been due for this long starts before all jobs of the queue that have not, whatever their priorities, so that jobs of the lowest
   * priority run too.
   * @default never: a job waits for as long as there are jobs of higher priority
   */
  aging?: Duration;
}

/** Options of `using`: every option of a task except `run` and `input`, and options for individual jobs. */
export interface UsingOptions extends JobOptions {
  /** The earliest start: a duration from now, or an instant. A number is milliseconds from now. */
  runAfter?: Duration | Instant;
  /**
   * A custom job id: 1 to 128 letters, digits and _ . : / -, starting with a letter or digit. Enqueueing the same id again creates no job
   * and returns the existing one, as long as it is kept.
   * @default a UUID of version 7
   */
  id?: string;
  /** Instead of the task's. @default the task's */
  unique?: UniqueOptions<never>;
  /** Plain data for the application, stored with the job. */
  metadata?: Readonly<Record<string, unknown>>;
}

/** How long finished jobs are kept. */
export interface RetentionOptions {
  /** @default '24h' */
  successful?: Duration | 'forever';
  /** @default '7d' */
  failed?: Duration | 'forever';
  /** @default '7d' */
  cancelled?: Duration | 'forever';
}

const whenExpected = "a duration from now such as '2h', or an instant with offset";

/** The names of tasks, queues and schedules. */
export const namePattern = /^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$/;
const nameExpected = 'a name of 1 to 128 letters, digits and _ . : / -, starting with a letter or digit';

const limitKeys = ['unique', 'concurrency', 'rate'];
const jobKeys = ['queue', 'priority', 'retry', 'timeout', 'expires', 'tags', 'retention', 'backend'];

/** Stands for a required value that is not given. */
const missing = Symbol('missing');

/** Reads options, collects faults, and throws them together. */
export class OptionReader {
  readonly faults: ConfigFault[] = [];
  readonly #what: string;

  constructor(what: string) {
    this.#what = what;
  }

  fault(path: string, expected: string, got: unknown, didYouMean?: string): undefined {
    this.faults.push({ path, expected, got: got === missing ? 'nothing' : show(got), ...(didYouMean === undefined ? {} : { didYouMean }) });
    return undefined;
  }

  done(): void {
    if (this.faults.length > 0) throw new ConfigError(this.#what, this.faults);
  }

  /** Reads the value as an object with known keys only. */
  object(value: unknown, path: string, keys: readonly string[], expected = 'an object'): Record<string, unknown> {
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.fault(path === '' ? 'options' : path, expected, value);
      return {};
    }
    for (const key of Object.keys(value)) {
      if (keys.includes(key)) continue;
      this.fault(path === '' ? key : `${path}.${key}`, `one of ${keys.join(', ')}`, key, meant(key, keys));
    }
    return value as Record<string, unknown>;
  }

  /** The options of a call, apart from its main arguments; none if undefined. */
  static given(value: unknown, call: string, keys: readonly string[]): Record<string, unknown> {
    if (value === undefined) return {};
    const read = new OptionReader(`Invalid options for ${call}`);
    const given = read.object(value, '', keys);
    read.done();
    return given;
  }

  name(value: unknown, path: string): string {
    if (typeof value === 'string' && namePattern.test(value)) return value;
    this.fault(path, nameExpected, value);
    return '';
  }

  integer(value: unknown, path: string, min: number, max: number): number | undefined {
    if (value === undefined) return undefined;
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
    return this.fault(path, `a whole number from ${min} to ${max}`, value);
  }

  /** A required priority. */
  priority(value: unknown, path: string): number {
    return this.integer(value ?? missing, path, -100, 100) ?? 0;
  }

  duration(value: unknown, path: string): number | undefined {
    if (value === undefined) return undefined;
    return parseDuration(value) ?? this.fault(path, durationExpected(value), value);
  }

  instant(value: unknown, path: string): number | undefined {
    if (value === undefined) return undefined;
    return parseInstant(value) ?? this.fault(path, instantExpected, value);
  }

  when(value: unknown, path: string, now: number): number | undefined {
    if (value === undefined) return undefined;
    return parseWhen(value, now) ?? this.fault(path, durationExpected(value, whenExpected), value);
  }

  tags(value: unknown, path: string): readonly string[] | undefined {
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((tag) => typeof tag === 'string' && tag !== '' && tag.length <= 128))
      return Object.freeze([...value]);
    return this.fault(path, 'an array of strings of 1 to 128 characters', value);
  }

  /** A function that must return its answer synchronously. */
  predicate(value: unknown, path: string): ((error: unknown) => unknown) | undefined {
    if (isError(value)) return this.fault(path, `a function: (error) => error instanceof ${value.name || 'it'}`, value);
    if (value === undefined || answersAtOnce(value)) return value as ((error: unknown) => unknown) | undefined;
    return this.fault(path, 'a synchronous function that returns true or false', value);
  }

  listener<Listener>(value: unknown, path: string): Listener | undefined {
    if (value === undefined || (typeof value === 'function' && !isGenerator(value) && !isClass(value)))
      return value as Listener | undefined;
    return this.fault(path, 'a function of the event', value);
  }

  queue(value: unknown, path: string, known: readonly string[] | undefined): string | undefined {
    if (value === undefined) return undefined;
    const name = this.name(value, path);
    if (name !== '' && known && !known.includes(name)) return this.fault(path, knownQueues(known), name, nearest(name, known));
    return name;
  }

  backend(value: unknown, path: string, known: readonly string[]): string | undefined {
    if (value === undefined) return undefined;
    if (typeof value === 'string' && known.includes(value)) return value;
    return this.fault(
      path,
      `one of the backends ${known.join(', ')}`,
      value,
      typeof value === 'string' ? nearest(value, known) : undefined,
    );
  }
}

/** What an application allows: its queues, if it lists them, and the aliases of its backends. */
export interface Known {
  readonly queues: readonly string[] | undefined;
  readonly backends: readonly string[];
  /** Called with a message about valid options that are probably a mistake. */
  readonly warn?: (text: string) => void;
}

/** The parsed options of jobs; undefined: not given. */
export interface ReadJobOptions {
  readonly queue: string | undefined;
  readonly priority: number | undefined;
  readonly maxAttempts: number | undefined;
  readonly backoff: Backoff | undefined;
  readonly retryable: ((error: unknown) => boolean) | undefined;
  readonly timeoutMs: number | undefined;
  readonly expires: Duration | undefined;
  readonly tags: readonly string[] | undefined;
  readonly retention: OwnRetention | undefined;
  readonly backend: string | undefined;
}

/** A smaller number was probably meant as seconds. */
const shortTimeoutMs = 100;

function readJobOptions(read: OptionReader, options: Record<string, unknown>, at: string, known: Known): ReadJobOptions {
  const path = (key: string) => (at === '' ? key : `${at}.${key}`);
  const retry = read.object(options.retry, path('retry'), ['maxAttempts', 'backoff', 'unless', 'only']);
  const unless = read.predicate(retry.unless, path('retry.unless'));
  const only = read.predicate(retry.only, path('retry.only'));
  const { expires } = options;
  if (expires !== undefined && parseWhen(expires, 0) === undefined)
    read.fault(path('expires'), durationExpected(expires, "a duration such as '1d', or an instant"), expires);
  const timeoutMs = read.duration(options.timeout, path('timeout'));
  if (timeoutMs === 0) read.fault(path('timeout'), 'more than 0 ms', options.timeout);
  else if (timeoutMs !== undefined && typeof options.timeout === 'number' && timeoutMs < shortTimeoutMs)
    known.warn?.(`${path('timeout')}: ${options.timeout} is ${options.timeout} ms; for seconds, write '${options.timeout}s'`);
  return {
    queue: read.queue(options.queue, path('queue'), known.queues),
    priority: read.integer(options.priority, path('priority'), -100, 100),
    maxAttempts: read.integer(retry.maxAttempts, path('retry.maxAttempts'), 1, 10_000),
    backoff: retry.backoff === undefined ? undefined : parseBackoff(retry.backoff, path('retry.backoff'), read.faults),
    retryable: unless || only ? (error) => !answer(unless, error) && Boolean(answer(only, error) ?? true) : undefined,
    timeoutMs,
    expires: expires as Duration | undefined,
    tags: read.tags(options.tags, path('tags')),
    retention: options.retention === undefined ? undefined : ownRetention(read, options.retention, path('retention')),
    backend: read.backend(options.backend, path('backend'), known.backends),
  };
}

/** @throws TypeError for a promise, which would always count as true */
function answer(predicate: ((error: unknown) => unknown) | undefined, error: unknown): unknown {
  const found = predicate?.(error);
  if (!isThenable(found)) return found;
  ignoreRejection(found);
  throw new TypeError('retry.unless and retry.only must return true or false, not a promise');
}

function readKey(read: OptionReader, value: unknown, path: string): KeyOf {
  if (value === undefined) return null;
  if (typeof value === 'function' && answersAtOnce(value) && !isClass(value)) return value as KeyOf;
  read.fault(path, 'a function of the input that returns a string at once', value);
  return null;
}

function readUnique(read: OptionReader, value: unknown, path: string): UniqueRule | undefined {
  if (value === undefined) return undefined;
  const unlessObject = 'an object such as { key: (input) => … }, or {} for the whole input';
  const given = read.object(value, path, ['key', 'within', 'while', 'onConflict', 'wait', 'maxWait'], unlessObject);
  const { key, onConflict = 'skip' } = given as { key?: unknown; onConflict?: OnConflict };
  const ways: readonly OnConflict[] = ['skip', 'replace', 'reject'];
  if (!ways.includes(onConflict))
    read.fault(
      `${path}.onConflict`,
      `one of ${ways.join(', ')}`,
      onConflict,
      typeof onConflict === 'string' ? nearest(onConflict, ways) : undefined,
    );
  const withinMs = read.duration(given.within, `${path}.within`) ?? null;
  const statuses = given.while as readonly HoldingStatus[] | undefined;
  const expected = `an array of ${holdingStatuses.join(', ')}`;
  if (statuses !== undefined && !(Array.isArray(statuses) && statuses.every((status) => holdingStatuses.includes(status))))
    read.fault(`${path}.while`, expected, statuses);
  else if (statuses !== undefined && !statuses.includes('queued'))
    read.fault(`${path}.while`, "'queued' among them: a job that does not keep others away while it waits is not unique", statuses);
  else if (onConflict === 'replace' && statuses !== undefined && statuses.length > 1)
    read.fault(`${path}.while`, "['queued']: a job that has started cannot be replaced", statuses);
  const waits = { waitMs: read.duration(given.wait, `${path}.wait`), maxWaitMs: read.duration(given.maxWait, `${path}.maxWait`) };
  if (onConflict !== 'replace') {
    if (given.wait !== undefined) read.fault(`${path}.wait`, "onConflict: 'replace' beside it", onConflict);
    if (given.maxWait !== undefined) read.fault(`${path}.maxWait`, "onConflict: 'replace' beside it", onConflict);
  }
  const own = typeof key === 'string' ? key : readKey(read, key, `${path}.key`);
  if (own === '') read.fault(`${path}.key`, 'a string that is not empty', key);
  return {
    key: own,
    withinMs,
    while: Object.freeze([...(Array.isArray(statuses) ? statuses : defaultWhile(onConflict, withinMs !== null))]),
    onConflict,
    waitMs: waits.waitMs ?? null,
    maxWaitMs: waits.maxWaitMs ?? null,
  };
}

const maxConcurrency = 100_000;
const maxRate = 1_000_000;

function readConcurrency(read: OptionReader, value: unknown, path: string): Definition['concurrency'] {
  if (value === undefined) return null;
  // A number is a limit: so it is on a queue.
  const given: Record<string, unknown> = typeof value === 'number' ? { limit: value } : read.object(value, path, ['limit', 'key', 'fair']);
  const { fair } = given;
  const isFair = fair === true || typeof fair === 'function';
  if (fair !== undefined && typeof fair !== 'boolean' && !isFair) read.fault(`${path}.fair`, 'true, or a function (key) => weight', fair);
  if (isFair && given.key === undefined) read.fault(`${path}.key`, 'a function (input) => …: fair shares are those of keys', undefined);
  const limit =
    isFair && given.limit === undefined ? null : (read.integer(given.limit ?? missing, `${path}.limit`, 1, maxConcurrency) ?? 1);
  return {
    limit,
    key: readKey(read, given.key, `${path}.key`),
    shareOf: isFair ? weightBy(fair as true | ((key: string) => unknown)) : null,
  };
}

/** A weight that is none counts as 1: a claim must not fail. */
function weightBy(fair: true | ((key: string) => unknown)): (key: string) => number {
  if (fair === true) return () => 1;
  return (key) => {
    try {
      const weight = fair(key);
      return typeof weight === 'number' && weight > 0 && Number.isFinite(weight) ? weight : 1;
    } catch {
      return 1;
    }
  };
}

function readRate(read: OptionReader, value: unknown, path: string, more: readonly string[]): Definition['rate'] {
  if (value === undefined) return null;
  const given = read.object(value, path, ['limit', 'per', 'burst', ...more]);
  const limit = read.integer(given.limit ?? missing, `${path}.limit`, 1, maxRate) ?? 1;
  const perMs = read.duration(given.per ?? missing, `${path}.per`) ?? 1;
  if (perMs === 0) read.fault(`${path}.per`, 'more than 0 ms', given.per);
  const burst = read.integer(given.burst, `${path}.burst`, 1, maxRate) ?? limit;
  return { limit, perMs, burst, key: readKey(read, given.key, `${path}.key`) };
}

/** Reads the limits of a queue. */
export function readQueue(read: OptionReader, value: unknown, path: string): Limit {
  const given = read.object(value, path, ['concurrency', 'rate', 'aging']);
  const concurrency = read.integer(given.concurrency, `${path}.concurrency`, 1, maxConcurrency);
  const agingMs = read.duration(given.aging, `${path}.aging`);
  const rate: Rate | null = readRate(read, given.rate, `${path}.rate`, []);
  return {
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(agingMs === undefined ? {} : { agingMs }),
    ...(rate ? { rate: { limit: rate.limit, perMs: rate.perMs, burst: rate.burst } } : {}),
  };
}

const moduleExpected = '`import.meta.url` of the module that defines the task, which is to be a file';

function readIsolate(read: OptionReader, value: unknown): Isolation | null {
  if (value === undefined) return null;
  const given: Record<string, unknown> = typeof value === 'string' ? { in: value } : read.object(value, 'isolate', ['in', 'module']);
  const where = given.in === 'thread' || given.in === 'process' ? given.in : read.fault('isolate', "'thread' or 'process'", given.in);
  const module = given.module === undefined ? callingModule() : moduleUrl(given.module);
  if (module === undefined) {
    const got = given.module ?? 'a call that is not in a file';
    read.fault('isolate.module', moduleExpected, got);
  }
  return where && module !== undefined ? { in: where, module } : null;
}

/** True for Error and its subclasses: called as a predicate, they would return an error, which counts as true. */
function isError(value: unknown): value is ErrorConstructor {
  return typeof value === 'function' && (value === Error || value.prototype instanceof Error);
}

/** A task's handle is a function too, but calling it only throws an error. */
function isTask(value: unknown): value is { readonly name: string } {
  return typeof value === 'function' && typeof (value as { enqueueMany?: unknown }).enqueueMany === 'function';
}

/** The options of a task's definition. */
export function readDefinition(name: unknown, options: unknown, defaults: unknown, known: Known): Definition & TaskListeners {
  const read = new OptionReader(`Invalid definition of task ${show(name)}`);
  const given = read.object(typeof options === 'function' ? { run: options } : options, '', [
    ...jobKeys,
    ...limitKeys,
    'onSuccess',
    'onFailure',
    'input',
    'isolate',
    'run',
  ]);
  const fallback = readJobOptions(read, read.object(defaults, 'defaults', jobKeys), 'defaults', known);
  const own = readJobOptions(read, given, '', known);
  if (isTask(given.run)) read.fault('run', `the function that does the work`, `the task ${given.run.name}; enqueue it from that function`);
  else if (typeof given.run !== 'function' || isGenerator(given.run) || isClass(given.run))
    read.fault('run', 'the function that does the work, async or not', given.run);
  const schema = given.input as StandardSchemaV1 | undefined;
  if (schema !== undefined && typeof (schema as Partial<StandardSchemaV1> | null)?.['~standard']?.validate !== 'function') {
    read.fault('input', 'a Standard Schema, such as one of zod, valibot or arktype', schema);
  }
  const definition: Definition & TaskListeners = {
    name: read.name(name, 'name'),
    backend: own.backend ?? fallback.backend ?? 'default',
    queue: own.queue ?? fallback.queue ?? 'default',
    priority: own.priority ?? fallback.priority ?? 0,
    schema: schema ?? null,
    maxAttempts: own.maxAttempts ?? fallback.maxAttempts ?? 20,
    backoff: own.backoff ?? fallback.backoff ?? defaultBackoff,
    retryable: own.retryable ?? fallback.retryable ?? null,
    timeoutMs: own.timeoutMs ?? fallback.timeoutMs ?? null,
    expires: own.expires ?? fallback.expires ?? null,
    tags: own.tags ?? fallback.tags ?? noTags,
    retention: kept(fallback.retention, own.retention),
    unique: readUnique(read, given.unique, 'unique') ?? null,
    concurrency: readConcurrency(read, given.concurrency, 'concurrency'),
    rate: readRate(read, given.rate, 'rate', ['key']),
    isolate: readIsolate(read, given.isolate),
    onSuccess: read.listener(given.onSuccess, 'onSuccess'),
    onFailure: read.listener(given.onFailure, 'onFailure'),
    run: given.run as Definition['run'],
  };
  if (known.queues && !known.queues.includes(definition.queue) && read.faults.length === 0) {
    const expected =
      given.queue === undefined ? `${knownQueues(known.queues)}, or add default to the queues of createTasks()` : knownQueues(known.queues);
    read.fault('queue', expected, definition.queue, nearest(definition.queue, known.queues));
  }
  read.done();
  return definition;
}

/** Overrides from `using` for the jobs of one call. */
export interface Using extends Omit<ReadJobOptions, 'backoff' | 'retryable' | 'timeoutMs' | 'retention'> {
  readonly runAfter: Duration | Instant | undefined;
  readonly id: string | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly overrides: Overrides | null;
  /** Undefined: the task's. */
  readonly unique: UniqueRule | undefined;
}

const noTags: readonly string[] = Object.freeze([]);

export const usingNothing: Using = {
  queue: undefined,
  priority: undefined,
  maxAttempts: undefined,
  expires: undefined,
  tags: undefined,
  backend: undefined,
  runAfter: undefined,
  id: undefined,
  metadata: Object.freeze({}),
  overrides: null,
  unique: undefined,
};

/** The options of `using`. */
export const usingKeys: readonly string[] = [...jobKeys, 'runAfter', 'id', 'unique', 'metadata'];

/**
 * Parses the options of `using` on top of earlier ones.
 * @param what the headline of the error
 */
export function readUsing(options: unknown, before: Using, known: Known, what = 'Invalid options for using()'): Using {
  const read = new OptionReader(what);
  const given = read.object(options, '', usingKeys);
  const own = readJobOptions(read, given, '', known);
  if (own.retryable)
    read.fault('retry.unless, retry.only', 'no functions, which cannot be stored with a job; set them in define()', own.retryable);
  if (own.backoff?.kind === 'own')
    read.fault('retry.backoff', 'a policy without functions, which cannot be stored with a job', own.backoff.delay);
  const { runAfter } = given;
  if (runAfter !== undefined && parseWhen(runAfter, 0) === undefined) {
    read.fault('runAfter', durationExpected(runAfter, whenExpected), runAfter);
  }
  const id = given.id === undefined ? undefined : read.name(given.id, 'id');
  const unique = readUnique(read, given.unique, 'unique') ?? before.unique;
  read.done();
  const retention = kept(before.overrides?.retention, own.retention);
  const overrides = {
    ...before.overrides,
    ...(own.timeoutMs === undefined ? {} : { timeoutMs: own.timeoutMs }),
    ...(own.backoff === undefined ? {} : { backoff: own.backoff }),
    ...(retention === null ? {} : { retention }),
  };
  return {
    queue: own.queue ?? before.queue,
    priority: own.priority ?? before.priority,
    maxAttempts: own.maxAttempts ?? before.maxAttempts,
    expires: own.expires ?? before.expires,
    tags: own.tags ?? before.tags,
    backend: own.backend ?? before.backend,
    runAfter: (runAfter as Using['runAfter']) ?? before.runAfter,
    id: id ?? before.id,
    metadata: given.metadata === undefined ? before.metadata : plain(given.metadata, 'metadata'),
    overrides: Object.keys(overrides).length > 0 ? frozen(overrides) : null,
    unique,
  };
}

/** Options of `edit` for a queued job; omitted properties stay as they are. */
export interface EditOptions<Input = unknown> {
  /** Must match the task's schema. */
  input?: Input;
  /** The earliest start: a duration from now, or an instant. A job that waits for a retry is retried then. */
  runAfter?: Duration | Instant;
  /** When the job is cancelled if it has not started: a duration after it is due, or an instant. */
  expires?: Duration | Instant;
  queue?: string;
  /** −100 … 100, larger first. */
  priority?: number;
}

const editKeys = ['input', 'runAfter', 'expires', 'queue', 'priority'];

/** Parses the options of `edit`. */
export function readEdit(options: unknown, queues: readonly string[] | undefined): EditOptions {
  const read = new OptionReader('Invalid changes to the job');
  const given = read.object(options ?? {}, typeof (options ?? {}) === 'object' ? '' : 'changes', editKeys);
  const keys = editKeys.filter((key) => Object.hasOwn(given, key));
  if (keys.length === 0 && read.faults.length === 0) read.fault('changes', `one or more of ${editKeys.join(', ')}`, options);
  for (const key of keys) if (given[key] === undefined) read.fault(key, 'a value; omit the property to keep the current one', undefined);
  read.queue(given.queue, 'queue', queues);
  read.integer(given.priority, 'priority', -100, 100);
  read.when(given.runAfter, 'runAfter', 0);
  read.when(given.expires, 'expires', 0);
  read.done();
  return given;
}

function plain(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError(`${what} is ${show(value)}; expected an object`, { path: '' });
  return frozen(decode(encode(value, what)) as Record<string, unknown>);
}

/** Parses how long finished jobs of the application are kept. */
export function readRetention(read: OptionReader, options: unknown): Retention {
  const given = ownRetention(read, options, 'retention');
  const keep = (ms: number | null | undefined, fallbackMs: number) => (ms === null ? Number.POSITIVE_INFINITY : (ms ?? fallbackMs));
  return {
    successfulMs: keep(given.successfulMs, 86_400_000),
    failedMs: keep(given.failedMs, 604_800_000),
    cancelledMs: keep(given.cancelledMs, 604_800_000),
  };
}

function ownRetention(read: OptionReader, options: unknown, path: string): OwnRetention {
  const given = read.object(options, path, ['successful', 'failed', 'cancelled']);
  const keep = (key: 'successful' | 'failed' | 'cancelled') => {
    const value = given[key];
    const ms = value === 'forever' ? null : read.duration(value, `${path}.${key}`);
    return ms === undefined ? {} : { [`${key}Ms`]: ms };
  };
  return { ...keep('successful'), ...keep('failed'), ...keep('cancelled') };
}

/** Merges two retentions; null if neither has a value. */
function kept(below: OwnRetention | null | undefined, above: OwnRetention | undefined): OwnRetention | null {
  const both = { ...below, ...above };
  return Object.keys(both).length > 0 ? frozen(both) : null;
}

/** Overrides stored with a task's jobs: those from `using`, and the task's retention. */
export function overridesOf({ retention }: Definition, { overrides }: Using): Overrides | null {
  const both = kept(retention, overrides?.retention);
  return both === null ? overrides : frozen({ ...overrides, retention: both });
}

/**
 * Names that other queues and schedulers use for our options, in lower case without `_` and `-`, and the names here; the first one that the
 * place accepts is suggested. Names that end in `)` refer to another call.
 */
const foreignWords: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  (
    [
      ['attempts retries maxretries maxattempts retrylimit retrycount retry maxretry tries', 'maxAttempts', 'retry.maxAttempts'],
      ['backoff retrydelay retrybackoff backofftype retryin', 'backoff', 'retry.backoff'],
      [
        'delay runat runin eta countdown startafter scheduledat scheduledfor scheduleat scheduledin availableat wait waituntil',
        'runAfter',
        'at',
      ],
      ['repeat cron every interval recurring schedule', 'every', 'tasks.schedule()'],
      ['pattern crontime cronexpression cronpattern expression', 'cron', 'tasks.schedule()'],
      ['tz timezone zone', 'timezone', 'tasks.schedule()'],
      ['handler handle process processor perform fn func function callback execute work job task worker', 'run', 'task'],
      ['jobid uuid key idempotencykey deduplicationid singletonkey uniquekey taskid', 'id'],
      ['id', 'id'],
      ['ttl expirein expiresin expireat expiresat expiry', 'expires'],
      ['start startdate starts from begin', 'startAt'],
      ['end enddate ends until stop', 'endAt'],
      ['limit times count', 'maxRuns', 'limit'],
      ['data payload args params body', 'input', 'enqueue(input)'],
      ['schema validate validator parse', 'input'],
      ['queuename', 'queue'],
      ['jobtimeout timeoutms maxruntime executiontimeout visibilitytimeout', 'timeout'],
      ['removeoncomplete removeonfail keepjobs keepfor retentiondays resultttl', 'retention', 'createTasks({ retention })'],
      ['store storage driver connection database db adapter backend', 'backend', 'store'],
      ['parallelism maxconcurrency threads prefetch poolsize', 'concurrency'],
      ['meta context extra', 'metadata'],
      ['labels label', 'tags'],
      ['excludequeues except ignore', 'exclude'],
      ['success complete completed succeeded', 'successful'],
    ] as const
  ).flatMap(([words, ...ours]) => words.split(' ').map((word) => [word, ours])),
);

/** A suggestion for an unknown option: our name for another queue's option, or the most similar name. */
export function meant(key: string, keys: readonly string[]): string | undefined {
  const ours = foreignWords[key.toLowerCase().replace(/[_-]/g, '')] ?? [];
  for (const own of ours) if (keys.includes(own.split('.')[0] as string) && own !== key) return own;
  const near = nearest(key, keys);
  if (near !== undefined) return near;
  const elsewhere = ours.find((own) => own.endsWith(')'));
  const isOf = (options: readonly string[]) => (own: string) => options.includes(own.split('.')[0] as string);
  const byDefault = keys.includes('defaults') ? ours.find(isOf(jobKeys)) : undefined;
  if (byDefault !== undefined) return `defaults.${byDefault}`;
  const using = ours.find(isOf(usingKeys));
  return elsewhere ?? (using === undefined ? undefined : `using({ ${using.replace(/\.(.*)/, ': { $1 }')} })`);
}

/** The most similar name by edit distance, if one is similar enough. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.min(3, Math.floor(name.length / 3))) + 1;
  for (const candidate of names) {
    const distance = edits(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** The edit distance of two short texts: insertions, deletions, substitutions and swaps of neighbours (restricted Damerau). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j] as number, (before[j - 2] ?? 0) + 1);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}

function knownQueues(known: readonly string[]): string {
  return known.length === 1 ? `the queue ${known[0]}` : `one of the queues ${known.join(', ')}`;
}
