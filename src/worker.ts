/** A worker as applications hold it: made from options, started on a backend's store, stopped gracefully. */
import type { App } from './app.ts';
import { takePlace } from './applications.ts';
import { guardedLogger } from './console.ts';
import { type Duration, durationMs } from './core/duration.ts';
import { ConfigError } from './core/errors.ts';
import type { Logger } from './engine/host.ts';
import { Worker as EngineWorker, type WorkerSettings } from './engine/worker.ts';
import { nearest, OptionReader } from './options.ts';

/** The options of `tasks.worker`. */
export interface WorkerOptions {
  /** The backend's alias. @default 'default' */
  backend?: string;
  /**
   * Only these queues. With weights, such as `{ mail: 3, bulk: 1 }`, each has its share of the worker's slots while it has jobs, at least one; what
   * one leaves free the others fill. Without, jobs start in their order, whatever their queue. @default all
   */
  queues?: readonly string[] | Readonly<Record<string, number>>;
  /** All queues but these. */
  exclude?: readonly string[];
  /** How many attempts at a time: 1 … 10,000. @default 10 */
  concurrency?: number;
  /** False: this worker turns no schedules into jobs. @default true */
  scheduler?: boolean;
  /**
   * For how long a task may block the event loop before other workers may take this worker's jobs. A helper thread renews their leases until
   * then. `0`: no helper thread; a task that blocks the loop for more than 30 s may run twice. Only for stores that several processes share.
   * @default '5m'
   */
  blockLimit?: Duration;
  /** Where the lines of this worker and of its tasks go. @default the application's logger */
  logger?: Logger;
  /** A name for logs; unique for each start of a process. @default a UUID */
  id?: string;
}

/** A worker in this process. */
export interface TaskWorker extends AsyncDisposable {
  readonly id: string;
  /** Opens the store and starts claiming. */
  start(): Promise<void>;
  /**
   * Claims no more from this call on, and resolves when all attempts have ended: by themselves within `timeout`, else 4 s after their
   * signal has aborted with a ShutdownError; what has not ended then is given back without using up an attempt.
   *
   * After the signal, what a function returns still counts: the job is successful with that value, or snoozed or cancelled if it returns
   * `snooze()` or `cancel()`. What it throws gives the job back. A function that stops halfway must throw, as `ctx.signal.throwIfAborted()`
   * does, and not return.
   * @param options.timeout Default `'25s'`
   */
  stop(options?: { timeout?: Duration }): Promise<void>;
}

const none: readonly never[] = [];

export function createWorker(app: App, options: WorkerOptions): TaskWorker {
  const read = new OptionReader('Worker cannot be made');
  const given = read.object(options, '', ['backend', 'queues', 'exclude', 'concurrency', 'scheduler', 'blockLimit', 'logger', 'id']);
  const alias = read.backend(given.backend, 'backend', app.known.backends) ?? 'default';
  const weights = readWeights(read, given.queues);
  const queueNames = (value: unknown, path: string) => {
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) return read.fault(path, 'an array of queue names', value);
    if (value.length === 0 && path === 'queues') read.fault(path, 'at least one name; leave the option out to serve all queues', value);
    return Array.from(value, (name, i) =>
      name === undefined ? read.name(name, `${path}[${i}]`) : (read.queue(name, `${path}[${i}]`, app.known.queues) ?? ''),
    );
  };
  const host = app.binding.host;
  const settings: WorkerSettings = {
    id: given.id === undefined ? host.newId(host.clock.now()) : read.name(given.id, 'id'),
    concurrency: read.integer(given.concurrency, 'concurrency', 1, 10_000) ?? 10,
    queues: queueNames(weights ? [...weights.keys()] : given.queues, 'queues'),
    weights,
    excludeQueues: queueNames(given.exclude, 'exclude'),
    scheduler: given.scheduler !== false,
    blockLimitMs: read.duration(given.blockLimit, 'blockLimit') ?? 300_000,
  };
  for (const level of given.logger === undefined ? [] : (['debug', 'info', 'warn', 'error'] as const)) {
    const write = (given.logger as Partial<Logger> | null)?.[level];
    if (typeof write !== 'function') read.fault(`logger.${level}`, 'a function (fields, message)', write);
  }
  read.done();
  return new BoundWorker(app, alias, settings, given.logger === undefined ? undefined : guardedLogger(given.logger as Logger));
}

/** The weights of queues, if they are given by an object; undefined for an array. */
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
  #worker: EngineWorker | undefined;
  #stopped = false;

  constructor(app: App, alias: string, settings: WorkerSettings, logger: Logger | undefined) {
    this.id = settings.id;
    this.#app = app;
    this.#alias = alias;
    this.#logger = logger;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    const app = this.#app;
    this.#refuseLate();
    app.binding.beforeStart?.();
    const backend = app.backend(this.#alias);
    if (!backend.supports.workers) {
      throw new ConfigError('Worker cannot start', [
        {
          path: 'backend',
          expected: 'a backend with a store, such as memory()',
          got: `${this.#alias}, which is ${backend.name}() and needs no worker`,
        },
      ]);
    }
    const store = await backend.open();
    // Opening takes its time.
    this.#refuseLate();
    const { host } = app.binding;
    const worker =
      this.#worker ??
      new EngineWorker(
        this.#logger ? { ...host, logger: this.#logger } : host,
        store,
        this.#alias === 'default' ? () => app.schedules : () => none,
        this.#settings,
      );
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

  /** Of queues that nothing here is enqueued to, unless the application names its queues: then a wrong name is refused. */
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

  #refuseLate(): void {
    const refused = (path: string, expected: string, got: string) => new ConfigError('Worker cannot start', [{ path, expected, got }]);
    if (this.#app.replaced) {
      throw refused(
        'tasks',
        'the live application of this name',
        `one that was replaced by another createTasks({ name: '${this.#app.identity?.name}' })`,
      );
    }
    if (this.#app.closed) throw refused('tasks', 'an open application', 'a closed one');
    if (this.#stopped) throw refused('worker.start()', 'a new worker', 'one that was stopped; make another with tasks.worker()');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
