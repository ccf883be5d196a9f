/** The options that a definition, `defaults` and `using` share. */
import { type Backoff, parseBackoff } from '../core/backoff.ts';
import { type Duration, durationExpected, ignoreRejection, isThenable, parseWhen } from '../core/duration.ts';
import type { OwnRetention } from '../core/types.ts';
import type { OptionReader } from './reader.ts';
import { ownRetention } from './retention.ts';

/** What an application allows: its queues, if it lists them, and the aliases of its backends. */
export interface Known {
  readonly queues: readonly string[] | undefined;
  readonly backends: readonly string[];
  /** Called with a message about valid options that are probably a mistake. */
  readonly warn?: (text: string) => void;
}

/** The parsed options of jobs; undefined if not given. */
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

export function readJobOptions(read: OptionReader, options: Record<string, unknown>, at: string, known: Known): ReadJobOptions {
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
export function answer(predicate: ((error: unknown) => unknown) | undefined, error: unknown): unknown {
  const found = predicate?.(error);
  if (!isThenable(found)) return found;
  ignoreRejection(found);
  throw new TypeError('retry.unless and retry.only must return true or false, not a promise');
}
