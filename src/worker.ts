/** Workers as applications use them: created from options, started on a backend's store, stopped gracefully. */
import type { App } from './app.ts';
import { takePlace } from './applications.ts';
import { hasOwnWorker, type OwnWorker } from './backends/own-worker.ts';
import { guardedLogger } from './console.ts';
import { type Duration, durationMs } from './core/duration.ts';
import { ConfigError, type ConfigFault } from './core/errors.ts';
import type { Job } from './core/types.ts';
import type { Logger } from './engine/host.ts';
import { Worker as EngineWorker, type WorkerSettings } from './engine/worker.ts';
import { home } from './isolate/messages.ts';
import { nearest } from './options/names.ts';
import { OptionReader } from './options/reader.ts';
import type { Backend } from './ports/backend.ts';
import { createWorkerId } from './ports/random.ts';
import { resultOf } from './result.ts';
import { beyond, isLimited } from './support.ts';

/** The options of `tasks.worker`. */
export interface WorkerOptions {
  /** The backend's alias. @default 'default' */
  backend?: string;
  /**
   * Only serves these queues. With weights, such as `{ mail: 3, bulk: 1 }`, each queue gets its share of the worker's slots while it has
   * jobs, but at least one; unused slots go to the others. Without weights, jobs start in order, regardless of their queue.
   * @default all
   */
  queues?: readonly string[] | Readonly<Record<string, number>>;
  /** Serves all queues except these. */
  exclude?: readonly string[];
  /**
   * Maximum number of concurrent attempts: 1 … 10,000.
   * @default 10
   */
  concurrency?: number;
  /**
   * False: this worker does not fire schedules.
   * @default true
   */
  scheduler?: boolean;
  /**
   * How long a task may block the event loop before other workers may take this worker's jobs. Until then a helper thread renews their
   * leases. `0`: no helper thread; a task that blocks the event loop for more than 30 s may run twice. Only for stores shared between
   * processes.
   * @default '5m'
   */
  blockLimit?: Duration;
  /**
   * The destination of log lines of this worker and its tasks.
   * @default the application's logger
   */
  logger?: Logger;
  /**
   * A name for logs; must be unique for each start of a process.
   * @default 13 characters, from the time and at random
   */
  id?: string;
}

/** A worker in this process. */
export interface TaskWorker extends AsyncDisposable {
  readonly id: string;
  /** Opens the store and starts claiming. */
  start(): Promise<void>;
  /**
   * Claims no more jobs, and resolves when all attempts have ended: either within `timeout`, or within 4 s after their signal has aborted
   * with a ShutdownError. The jobs of attempts that have not ended by then are returned to the queue without using up an attempt.
   *
   * After the signal has aborted, a return value still counts: the job is successful with that value, or snoozed or cancelled if it is
   * `snooze()` or `cancel()`. An error returns the job to the queue. A function that stops halfway must throw, as
   * `ctx.signal.throwIfAborted()` does, instead of returning.
   * @param options.timeout Default `'25s'`
   */
  stop(options?: { timeout?: Duration }): Promise<void>;
}

const none: readonly never[] = [];
const defaultBlockLimitMs = 300_000;

export function createWorker(app: App, options: WorkerOptions): TaskWorker {
  const read = new OptionReader('Invalid options for tasks.worker()');
  const given = read.object(options, '', ['backend', 'queues', 'exclude', 'concurrency', 'scheduler', 'blockLimit', 'logger', 'id']);
  const alias = read.backend(given.backend, 'backend', app.known.backends) ?? 'default';
  const weights = readWeights(read, given.queues);
  const queueNames = (value: unknown, path: string) => {
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) return read.fault(path, 'an array of queue names', value);
    if (value.length === 0 && path === 'queues') read.fault(path, 'at least one name; omit the option to serve all queues', value);
    return Array.from(value, (name, i) =>
      name === undefined ? read.name(name, `${path}[${i}]`) : (read.queue(name, `${path}[${i}]`, app.known.queues) ?? ''),
    );
  };
  const host = app.binding.host;
  const settings: WorkerSettings = {
    id: given.id === undefined ? createWorkerId(host.random, host.clock.now()) : read.name(given.id, 'id'),
    concurrency: read.integer(given.concurrency, 'concurrency', 1, 10_000) ?? 10,
    queues: queueNames(weights ? [...weights.keys()] : given.queues, 'queues'),
    weights,
    excludeQueues: queueNames(given.exclude, 'exclude'),
    scheduler: given.scheduler !== false,
    blockLimitMs: read.duration(given.blockLimit, 'blockLimit') ?? defaultBlockLimitMs,
  };
  for (const level of given.logger === undefined ? [] : (['debug', 'info', 'warn', 'error'] as const)) {
    const write = (given.logger as Partial<Logger> | null)?.[level];
    if (typeof write !== 'function') read.fault(`logger.${level}`, 'a function (fields, message)', write);
  }
  read.done();
  return new BoundWorker(app, alias, settings, given.logger === undefined ? undefined : guardedLogger(given.logger as Logger));
}

/** The weights of queues, if given as an object; undefined for an array. */
function readWeights(read: OptionReader, value: unknown): ReadonlyMap<string, number> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const weights = new Map<string, number>();
  for (const [queue, weight] of Object.entries(value)) {
    const known = typeof weight === 'number' && weight > 0 && weight < Number.POSITIVE_INFINITY;
    weights.set(queue, known ? weight : (read.fault(`queues.${queue}`, 'a weight greater than 0', weight) ?? 1));
  }
  return weights;
}

class BoundWorker implements TaskWorker {
  readonly id: string;
  readonly #app: App;
  readonly #alias: string;
  readonly #logger: Logger | undefined;
  readonly #settings: WorkerSettings;
  #worker: OwnWorker | undefined;
  #stopped = false;

  constructor(app: App, alias: string, settings: WorkerSettings, logger: Logger | undefined) {
    this.id = settings.id;
    this.#app = app;
    this.#alias = alias;
    this.#logger = logger;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    // When the thread of an isolated task loads a module, it must not start workers.
    if (home()) return;
    const app = this.#app;
    this.#refuseLate();
    app.binding.beforeStart?.();
    const backend = app.backend(this.#alias);
    if (!backend.supports.workers) {
      throw new ConfigError('Worker cannot start', [
        {
          path: 'backend',
          expected: 'a backend with a store, such as memory()',
          got: `${this.#alias}, which is ${backend.name}() and needs no workers`,
        },
      ]);
    }
    if (!backend.supports.engine) this.#refuseBeyond(backend);
    const store = await backend.open();
    // Opening takes time.
    this.#refuseLate();
    const own = { ...app.binding.host, resultOf: (job: Job) => resultOf(app, this.#alias, { job, attempts: [] }) };
    const host = this.#logger ? { ...own, logger: this.#logger } : own;
    const schedules = this.#alias === 'default' ? () => app.schedules : () => none;
    const worker =
      this.#worker ??
      (hasOwnWorker(backend) ? await backend.ownWorker(host, this.#settings) : new EngineWorker(host, store, schedules, this.#settings));
    this.#worker = worker;
    this.#warnOfUnused();
    worker.start();
    app.workers.add(worker);
    if (app.identity) takePlace(app.identity, app);
  }

  async stop(options: { timeout?: Duration } = {}): Promise<void> {
    OptionReader.given(options, 'stop()', ['timeout']);
    const graceMs = durationMs(options.timeout ?? '25s', 'stop().timeout');
    this.#stopped = true;
    if (!this.#worker) return;
    await this.#worker.stop(graceMs);
    this.#app.workers.delete(this.#worker);
  }

  /** Warns about queues that no task is enqueued to. If the application lists its queues, a wrong name is an error instead. */
  #warnOfUnused(): void {
    const { definitions, schedules, known, binding } = this.#app;
    if (known.queues) return;
    const used = [...[...definitions.values()].map(({ queue }) => queue), ...schedules.map(({ definition }) => definition.queue)];
    for (const queue of this.#settings.queues ?? []) {
      if (used.includes(queue)) continue;
      const near = nearest(queue, used);
      const text = `worker ${this.id} serves queue ${queue}, which no task of this application uses${near ? `; did you mean ${near}?` : ''}`;
      (this.#logger ?? binding.host.logger).warn({ worker: this.id, queue }, text);
    }
  }

  /** @throws ConfigError with everything that the application uses and a backend without the engine does not support */
  #refuseBeyond(backend: Backend): void {
    const { definitions, schedules, queueLimits } = this.#app;
    const { queues, excludeQueues, weights, blockLimitMs } = this.#settings;
    const faults: ConfigFault[] = [];
    const lacks = (path: string, what: string) => faults.push(beyond(path, what, this.#alias, backend));
    if (weights) lacks('worker().queues', 'weights of queues');
    if (blockLimitMs !== defaultBlockLimitMs) lacks('worker().blockLimit', 'leases that a helper thread renews');
    if (this.#alias === 'default') for (const { definition } of schedules) lacks(`schedule ${definition.name}`, 'schedules');
    for (const [queue, limit] of Object.entries(queueLimits))
      if (isLimited(limit) && (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue))
        lacks(`queues.${queue}`, 'limits of queues');
    for (const { name, backend: alias, unique, concurrency, rate, retention } of definitions.values()) {
      if (alias !== this.#alias) continue;
      if (unique) lacks(`${name}.unique`, 'unique jobs');
      if (concurrency) lacks(`${name}.concurrency`, 'limits of tasks');
      if (rate) lacks(`${name}.rate`, 'limits of tasks');
      if (retention) lacks(`${name}.retention`, 'a retention for the jobs of a task');
    }
    if (faults.length > 0) throw new ConfigError('Worker cannot start', faults);
  }

  #refuseLate(): void {
    const refused = (path: string, expected: string, got: string) => new ConfigError('Worker cannot start', [{ path, expected, got }]);
    if (this.#app.replaced) {
      throw refused(
        'tasks',
        'the live application of this name',
        `an application replaced by a later createTasks({ name: '${this.#app.identity?.name}' })`,
      );
    }
    if (this.#app.closed) throw refused('tasks', 'an open application', 'a closed one');
    if (this.#stopped) throw refused('worker.start()', 'a new worker', 'a stopped worker; create a new one with tasks.worker()');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
