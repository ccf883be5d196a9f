/**
 * The connection to Redis: one for everything that is enqueued and read, with a BullMQ queue for each Escapement queue. Workers have their
 * own.
 */
import type { IRedisClient, Queue, QueueOptions, RedisConnection, WorkerOptions } from 'bullmq';
import { ConfigError, StoreError } from '../core/errors.ts';
import { outside, systemClock } from '../ports/clock.ts';
import { begunField, cancelField, cancelledField, foreignId, stateField } from './rows.ts';

export type BullMQ = typeof import('bullmq');

/** The location of the jobs. */
export interface Place {
  /** What BullMQ accepts as its `connection`: options of ioredis, `{ url }`, or a client. */
  readonly connection: object;
  readonly prefix: string;
  readonly lockMs: number;
}

const connectMs = 10_000;
/** With the delays below, about five seconds. */
const maxRetries = 8;

/** Operations that BullMQ has no command for. `:lock` is BullMQ's lock of a job, which exists while a worker holds it. */
const scripts = {
  // Replaces the data and the state of a job while the token holds its lock.
  escapementSave: `if redis.call('GET', KEYS[1] .. ':lock') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'data', ARGV[2], '${stateField}', ARGV[3]) return 1`,
  // Counts the delayed jobs that wait for a retry, among those due next, and the failed jobs that were cancelled, among the latest.
  escapementCount: `local function count(ids, state)
      local n = 0
      for _, id in ipairs(ids) do if redis.call('HGET', KEYS[1] .. id, '${stateField}') == state then n = n + 1 end end
      return n
    end
    local most = tonumber(ARGV[1]) - 1
    return {
      count(redis.call('ZRANGE', KEYS[1] .. 'delayed', 0, most), 'retrying'),
      count(redis.call('ZREVRANGE', KEYS[1] .. 'failed', 0, most), 'cancelled'),
    }`,
  // Called when the task of a job is about to run. Counts the run and returns the previous count, unless the job was cancelled or expired
  // before its first run.
  escapementBegin: `if redis.call('GET', KEYS[1] .. ':lock') ~= ARGV[1] then return {} end
    local cancel = redis.call('HGET', KEYS[1], '${cancelField}')
    if cancel then return { cancel } end
    local before = redis.call('HGET', KEYS[1], '${begunField}') or ''
    if ARGV[3] == 'expired' and before == '' then return { 'expired' } end
    local runs, last = string.match(before, '^(%d+) (%d+)')
    local claim = redis.call('HGET', KEYS[1], 'ats')
    if last ~= claim then
      redis.call('HSET', KEYS[1], '${begunField}', string.format('%d', (tonumber(runs) or 0) + 1) .. ' ' .. claim .. ' ' .. ARGV[2])
    end
    return { '', before }`,
  escapementRead: `return { redis.call('HGETALL', KEYS[1]), redis.call('EXISTS', KEYS[1] .. ':lock') }`,
  escapementCancel: `if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'finishedOn') == 1 then return 0 end
    if redis.call('HSETNX', KEYS[1], '${cancelField}', ARGV[1]) == 1 and redis.call('EXISTS', KEYS[1] .. ':lock') == 0 then
      redis.call('HSET', KEYS[1], '${cancelledField}', '1')
    end
    return 1`,
};

export class Connection {
  readonly place: Place;
  #bull: BullMQ | undefined;
  #connection: RedisConnection | undefined;
  #client: IRedisClient | undefined;
  readonly #queues = new Map<string, Queue>();
  readonly #noted = new Set<string>();
  #lastError: unknown;

  constructor(place: Place) {
    this.place = place;
  }

  get bull(): BullMQ {
    if (!this.#bull) throw new StoreError('the connection to Redis is not open', { kind: 'closed' });
    return this.#bull;
  }

  /** @throws ConfigError if BullMQ is not installed; StoreError if Redis does not answer within 10 s */
  async open(): Promise<void> {
    if (this.#client) return;
    this.#bull = await loadBullMQ();
    const { RedisConnection } = this.#bull;
    const options = isClient(this.place.connection)
      ? this.place.connection
      : { maxRetriesPerRequest: maxRetries, retryStrategy, ...this.place.connection };
    const connection = outside(() => new RedisConnection(options as never, { shared: isClient(options), blocking: false }));
    connection.on('error', (error: unknown) => {
      this.#lastError = error;
    });
    try {
      this.#client = await within(connectMs, connection.client);
    } catch (error) {
      void connection.close(true).catch(() => {});
      throw failing(error ?? this.#lastError);
    }
    for (const [name, lua] of Object.entries(scripts)) this.#client.defineCommand(name, { numberOfKeys: 1, lua });
    this.#connection = connection;
  }

  get client(): IRedisClient {
    if (!this.#client) throw new StoreError('the connection to Redis is not open', { kind: 'closed' });
    return this.#client;
  }

  /** The BullMQ queue for an Escapement queue. */
  queue(name: string): Queue {
    let queue = this.#queues.get(name);
    if (!queue) {
      const options: QueueOptions = { connection: this.client, prefix: this.place.prefix };
      queue = outside(() => new this.bull.Queue(foreignId(name), options));
      queue.on('error', () => {});
      this.#queues.set(name, queue);
    }
    return queue;
  }

  /** Registers a queue for other processes: BullMQ has no list of queues. */
  async note(name: string): Promise<void> {
    if (this.#noted.has(name)) return;
    await this.client.hset(this.#namesKey, { [name]: 1 });
    this.#noted.add(name);
  }

  async names(): Promise<readonly string[]> {
    return Object.keys(await this.client.hgetall(this.#namesKey)).sort();
  }

  get #namesKey(): string {
    return `${this.place.prefix}-escapement:queues`;
  }
  get workersKey(): string {
    return `${this.place.prefix}-escapement:workers`;
  }

  /** @param id Escapement's id */
  key(queue: string, id: string): string {
    return this.queue(queue).toKey(foreignId(id));
  }

  /** The options for BullMQ's workers. */
  workerOptions(): Pick<WorkerOptions, 'connection' | 'prefix' | 'lockDuration'> {
    const { connection, prefix, lockMs } = this.place;
    return { connection: (isClient(connection) ? connection : { retryStrategy, ...connection }) as never, prefix, lockDuration: lockMs };
  }

  async close(): Promise<void> {
    for (const queue of this.#queues.values()) await queue.close().catch(() => {});
    this.#queues.clear();
    this.#client = undefined;
    await this.#connection?.close().catch(() => {});
  }
}

function retryStrategy(times: number): number {
  return Math.min(times * 100, 2_000);
}

/** True for a client of ioredis or another library; false for options of one. */
export function isClient(value: object): boolean {
  return typeof (value as { duplicate?: unknown }).duplicate === 'function';
}

async function loadBullMQ(): Promise<BullMQ> {
  try {
    return await import('bullmq');
  } catch (error) {
    throw isMissing(error) ? missing() : error;
  }
}

function isMissing(error: unknown): boolean {
  return ['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'].includes(String((error as { code?: unknown }).code));
}

function missing(): ConfigError {
  return new ConfigError('bullmq() needs the packages bullmq and ioredis', [
    { path: 'bullmq', expected: 'the packages to be installed: npm install bullmq ioredis', got: 'no such package' },
  ]);
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = systemClock.after(ms, () => reject(undefined));
    promise.then(resolve, reject).finally(() => timer.cancel());
  });
}

/** Converts an error of a call to Redis to a StoreError. */
export function failing(error: unknown): unknown {
  if (error instanceof StoreError || error instanceof ConfigError) return error;
  if (error instanceof Error && isMissing(error)) return missing();
  const why = error instanceof Error ? `: ${error.message === '' ? error.name : error.message}` : ' does not answer';
  return new StoreError(`Redis${why}`, { kind: 'failing', transient: true, cause: error });
}
