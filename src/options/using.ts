/** The options of `using` and `edit`. */
import type { Definition, UniqueRule } from '../core/definition.ts';
import { type Duration, durationExpected, type Instant, parseWhen, show } from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import { decode, encode, frozen } from '../core/json.ts';
import type { Overrides } from '../core/types.ts';
import type { Retention } from '../engine/host.ts';
import { type Known, type ReadJobOptions, readJobOptions } from './job.ts';
import { readUnique } from './limits.ts';
import { usingKeys } from './names.ts';
import { OptionReader, whenExpected } from './reader.ts';
import { kept, keptInWindow } from './retention.ts';
import type { EditOptions } from './types.ts';

/** Overrides from `using` for the jobs of one call. */
export interface Using extends Omit<ReadJobOptions, 'backoff' | 'retryable' | 'timeoutMs' | 'retention'> {
  readonly runAfter: Duration | Instant | undefined;
  readonly id: string | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly overrides: Overrides | null;
  /** Undefined: the task's. */
  readonly unique: UniqueRule | undefined;
}

export const noTags: readonly string[] = Object.freeze([]);

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

export function plain(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError(`${what} is ${show(value)}; expected an object`, { path: '' });
  return frozen(decode(encode(value, what)) as Record<string, unknown>);
}

/**
 * Overrides stored with a task's jobs: those from `using`, and the task's retention.
 * @param unique the uniqueness rule of the job
 * @param application the application's retention
 */
export function overridesOf(
  { retention }: Definition,
  { overrides }: Using,
  unique: UniqueRule | null,
  application: Retention,
): Overrides | null {
  const both = keptInWindow(kept(retention, overrides?.retention), unique, application);
  return both === null ? overrides : frozen({ ...overrides, retention: both });
}
