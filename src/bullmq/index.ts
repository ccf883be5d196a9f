/** `escapement/bullmq`: hands jobs to BullMQ, which keeps them in Redis. */
import '../ports/node-version.ts';
import type { BackendSource } from '../backends/dummy.ts';
import { type Duration, durationExpected, parseDuration, show } from '../core/duration.ts';
import { ConfigError, type ConfigFault } from '../core/errors.ts';
import { BullBackend } from './backend.ts';
import { isClient, type Place } from './connection.ts';

/** Options of `bullmq`. */
export interface BullMQOptions {
  /**
   * How to connect to Redis: `{ host, port, … }` or `{ url }` with the options of ioredis, or a client of ioredis whose
   * `maxRetriesPerRequest` is null. `tasks.close()` does not close a client that you pass.
   */
  connection: object;
  /**
   * The prefix of the keys in Redis. Applications that share a server each use their own; with `bull`, other programs find the queues under
   * their usual names. On a cluster, put it in braces: `{escapement}`.
   * @default 'escapement'
   */
  prefix?: string;
  /**
   * How long a worker holds a job without renewing its lock: the jobs of a worker that died run again within this time plus 5 s. A task
   * that blocks the event loop for longer may run twice. 1 s … 10 min.
   * @default '30s'
   */
  lockDuration?: Duration;
}

const optionNames = ['connection', 'prefix', 'lockDuration'];

/**
 * Hands jobs to BullMQ: each queue is a BullMQ queue in Redis, and `tasks.worker()` runs BullMQ's workers. Requires the packages `bullmq`
 * and `ioredis`. Nothing is opened before `tasks.open()` or the first use.
 *
 * Enqueueing, `runAfter`, priorities, ids, retries, timeouts, `snooze`, cancelling, results, events and middleware work as on every other
 * backend. Features that need the engine's own store are refused with an error: transactions, unique jobs, limits of queues and tasks,
 * `retention` of a task, blobs, steps and signals, workflows, schedules, and events of other processes (`supports.engine` is false).
 * @throws ConfigError with all faults of the options
 * @example createTasks({ backend: bullmq({ connection: { url: process.env.REDIS_URL } }) })
 */
export function bullmq(options: BullMQOptions): BackendSource {
  const place = read(options);
  return { kind: 'backend', name: 'bullmq', create: (host) => new BullBackend(host, place) };
}

function read(options: BullMQOptions): Place {
  const faults: ConfigFault[] = [];
  const fault = (path: string, expected: string, got: unknown) => faults.push({ path: `bullmq()${path}`, expected, got: show(got) });
  if (typeof options === 'string') fault('', `an object: bullmq({ connection: { url: ${show(options)} } })`, options);
  else if (typeof options !== 'object' || options === null) fault('', 'an object: bullmq({ connection: { host, port } })', options);
  else if (isClient(options)) fault('', 'an object: bullmq({ connection })', options);
  if (faults.length > 0) throw new ConfigError('Invalid options for bullmq()', faults);
  const { connection, prefix = 'escapement', lockDuration = '30s', ...rest } = options;
  for (const key of Object.keys(rest)) {
    const meant = /^(url|uri|host|port|redis|client)$/i.test(key) ? { didYouMean: 'connection' } : {};
    faults.push({ path: `bullmq().${key}`, expected: `one of ${optionNames.join(', ')}`, got: key, ...meant });
  }
  if (typeof connection !== 'object' || connection === null)
    fault('.connection', 'an object such as { host, port } or { url }, or an ioredis client', connection);
  else readConnection(connection, fault);
  if (typeof prefix !== 'string' || prefix === '' || prefix.includes(':')) fault('.prefix', 'a string without colons', prefix);
  const lockMs = parseDuration(lockDuration);
  if (lockMs === undefined) fault('.lockDuration', durationExpected(lockDuration), lockDuration);
  else if (lockMs < 1_000 || lockMs > 600_000) fault('.lockDuration', 'a duration from 1s to 10m', lockDuration);
  if (faults.length > 0) throw new ConfigError('Invalid options for bullmq()', faults);
  return { connection, prefix, lockMs: lockMs ?? 30_000 };
}

function readConnection(connection: object, fault: (path: string, expected: string, got: unknown) => void): void {
  const { url, options } = connection as { url?: unknown; options?: { maxRetriesPerRequest?: unknown; keyPrefix?: unknown } };
  if (!isClient(connection)) {
    if ('url' in connection && (typeof url !== 'string' || !/^rediss?:\/\//.test(url)))
      fault('.connection.url', 'a URL such as redis://host:6379; is its environment variable set?', url);
    return;
  }
  if (options && 'maxRetriesPerRequest' in options && options.maxRetriesPerRequest !== null)
    fault(
      '.connection',
      'a client whose maxRetriesPerRequest is null',
      `one with maxRetriesPerRequest ${show(options.maxRetriesPerRequest)}`,
    );
  if (options?.keyPrefix)
    fault('.connection', 'a client without keyPrefix; use the option prefix', `one with keyPrefix ${show(options.keyPrefix)}`);
}
