/** `createTasks`: an application's tasks, schedules and workers on its backends. Also `task`, for libraries, and the seam for simulation. */
import { App, type Binding } from './app.ts';
import type { BackendSource } from './backends/dummy.ts';
import { EngineBackend } from './backends/engine.ts';
import { immediate } from './backends/immediate.ts';
import type { Definition } from './core/definition.ts';
import { type Duration, durationMs, parseDuration, show } from './core/duration.ts';
import { ConfigError, DuplicateTaskError, InputError } from './core/errors.ts';
import { Emitter, type Event, type EventMap, type EventName } from './core/events.ts';
import { recordError } from './core/failure.ts';
import { encode } from './core/json.ts';
import { nextOccurrence, type ScheduleDefinition, scheduleRow } from './core/schedule.ts';
import type { Job, ScheduleRow, Status } from './core/types.ts';
import type { Host, Logger } from './engine/host.ts';
import { parseInput } from './engine/input.ts';
import { cancelJobs, retryJobs } from './engine/operator.ts';
import { Worker as EngineWorker, type WorkerSettings } from './engine/worker.ts';
import {
  type JobOptions,
  namePattern,
  nearest,
  OptionReader,
  type RetentionOptions,
  readDefinition,
  readRetention,
  readTrigger,
  readUsing,
  type TriggerOptions,
  type UsingOptions,
  usingNothing,
} from './options.ts';
import type { Backend } from './ports/backend.ts';
import { type Clock, systemClock } from './ports/clock.ts';
import { createIds, type Random, systemRandom } from './ports/random.ts';
import type { QueueStats, Store, StoreSource } from './ports/store.ts';
import { resultOf, type TaskResult } from './result.ts';
import { type Define, findResult, type PortableTask, portable, type Task, TaskHandle } from './task.ts';

/** The options of `createTasks`. */
export interface CreateTasksOptions {
  /** What tasks are enqueued to. @default immediate() */
  backend?: StoreSource | BackendSource;
  /** Several, by alias (Django's TASKS setting); one of them is named `default`. */
  backends?: Record<string, StoreSource | BackendSource>;
  /** The queues there are. When given, any other name is an error. @default every name is accepted */
  queues?: Record<string, Record<never, never>>;
  /** Options for every task that does not say otherwise. */
  defaults?: JobOptions;
  /** How long finished jobs are kept. */
  retention?: RetentionOptions;
  /** Where log lines go; a pino logger fits. @default warnings and errors, and what tasks log, to the console */
  logger?: Logger;
}

/** The options of `tasks.schedule`. */
export interface ScheduleOptions<Input = unknown> extends TriggerOptions, Omit<UsingOptions, 'runAfter' | 'backend' | 'timeout'> {
  task: Task<Input, unknown>;
  input?: Input;
}

/** The options of `tasks.worker`. */
export interface WorkerOptions {
  /** The backend's alias. @default 'default' */
  backend?: string;
  /** Only these queues. @default all */
  queues?: readonly string[];
  /** All queues but these. */
  exclude?: readonly string[];
  /** How many attempts at a time: 1 … 10,000. @default 10 */
  concurrency?: number;
  /** False: this worker turns no schedules into jobs. @default true */
  scheduler?: boolean;
  /** A name for logs; unique for each start of a process. @default a UUID */
  id?: string;
}

/** Which jobs: all that is given must hold. */
export interface JobSelection {
  ids?: readonly string[];
  status?: Status | readonly Status[];
  task?: { readonly name: string } | string;
  queue?: string;
  schedule?: string;
  tag?: string;
}

/** A schedule as the store has it. */
export interface ScheduleInfo {
  readonly name: string;
  readonly task: string;
  readonly cron: string | null;
  /** Milliseconds. */
  readonly every: number | null;
  readonly timezone: string | null;
  readonly nextAt: Date | null;
  readonly lastAt: Date | null;
  readonly paused: boolean;
}

/** A worker in this process. */
export interface TaskWorker extends AsyncDisposable {
  readonly id: string;
  /** Opens the store and starts claiming. */
  start(): Promise<void>;
  /**
   * Claims no more from this call on, and resolves when all attempts have ended: by themselves within `timeout`, else 4 s after their
   * signal has aborted with a ShutdownError; what has not ended then is given back without using up an attempt.
   * @param options.timeout Default `'25s'`
   */
  stop(options?: { timeout?: Duration }): Promise<void>;
}

/** What `createTasks` returns. */
export interface Tasks extends AsyncDisposable {
  /**
   * Defines a task. The name identifies it in the store: it must not change while jobs of it are queued.
   * @throws ConfigError with all faults; DuplicateTaskError
   */
  define: Define;
  /** Binds a portable task to this application, and returns it as one of its own. */
  register<Input, Output>(task: PortableTask<Input, Output>): Task<Input, Output>;
  /** Defines a recurring job. It is brought into the store when a worker starts. */
  schedule<Input>(name: string, options: ScheduleOptions<Input>): void;
  /** The job with this id, of any task, from any backend. @throws ResultNotFoundError */
  getResult(id: string): Promise<TaskResult>;
  worker(options?: WorkerOptions): TaskWorker;
  /** Calls `listener` at every event of this name; returns the function that ends this. */
  on<Name extends EventName>(name: Name, listener: (event: { readonly type: Name } & EventMap[Name]) => void): () => void;
  on(name: '*', listener: (event: Event) => void): () => void;
  readonly jobs: {
    /** Newest first. @param selection.limit 1 … 1,000. Default 50 */
    list(selection?: JobSelection & { limit?: number; after?: string }): Promise<{ items: TaskResult[]; cursor?: string }>;
    /** Runs failed and cancelled jobs again; resolves to how many. */
    retry(selection?: JobSelection): Promise<number>;
    /** Cancels unfinished jobs; resolves to how many. */
    cancel(selection?: JobSelection, reason?: string): Promise<number>;
    /** Deletes jobs that finished so long ago; resolves to how many. */
    prune(options: { olderThan: Duration; status?: 'successful' | 'failed' | 'cancelled' }): Promise<number>;
  };
  readonly queues: {
    /** Nothing is claimed from the queue until it is resumed; what runs goes on. */
    pause(name: string): Promise<void>;
    resume(name: string): Promise<void>;
    list(): Promise<QueueStats[]>;
  };
  readonly schedules: {
    list(): Promise<ScheduleInfo[]>;
    /** The coming instants of a schedule. @param count Default 5 */
    next(name: string, count?: number): Promise<Date[]>;
  };
  /** The names of the tasks, in the order of definition. */
  readonly names: readonly string[];
  /** Opens and migrates every backend. Without it, the first use does. */
  open(): Promise<void>;
  /** Stops this process's workers and closes the backends, for good. */
  close(): Promise<void>;
}

const apps = new WeakMap<object, App>();

/** The application behind what `createTasks` returned. @throws ConfigError when it is something else */
export function appOf(tasks: unknown): App {
  const app = typeof tasks === 'object' && tasks !== null ? apps.get(tasks) : undefined;
  if (app) return app;
  throw new ConfigError('No tasks', [
    { path: 'tasks', expected: 'what createTasks() of this copy of escapement returned', got: show(tasks) },
  ]);
}

/** The seam for simulation: binds an application to another host and other backends; returns the function that undoes it. Not exported from the package. */
export function rebind(app: App, binding: Binding): () => void {
  const before = app.binding;
  app.binding = binding;
  return () => {
    app.binding = before;
  };
}

/** The host of an application on a given clock and random source. */
export function hostOf(app: App, clock: Clock, random: Random, options: Partial<Pick<Host, 'logger' | 'retention'>> = {}): Host {
  return {
    clock,
    random,
    events: app.events,
    logger: options.logger ?? app.logger,
    retention: options.retention ?? app.retention,
    definitions: app.definitions,
    names: app.names,
    newId: createIds(random),
    resultOf: (job: Job) => resultOf(app, app.definitions.get(job.task)?.backend ?? 'default', { job, attempts: [] }),
  };
}

/**
 * An application's tasks. Nothing is opened before the first use.
 * @throws ConfigError with all faults of the options
 * @example
 * const tasks = createTasks({ backend: memory() });
 * const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
 */
export function createTasks(options: CreateTasksOptions = {}): Tasks {
  const app = createApp(options);
  const tasks = new Application(app);
  apps.set(tasks, app);
  return tasks;
}

function createApp(options: CreateTasksOptions): App {
  const read = new OptionReader('createTasks() cannot be done');
  const given = read.object(options, '', ['backend', 'backends', 'queues', 'defaults', 'retention', 'logger']);
  const sources = readBackends(read, given);
  const queues = given.queues === undefined ? undefined : readQueues(read, given.queues);
  const retention = readRetention(read, given.retention);
  const logger = (given.logger as Logger | undefined) ?? consoleLogger;
  for (const level of ['debug', 'info', 'warn', 'error'] as const) {
    if (typeof logger[level] !== 'function') read.fault(`logger.${level}`, 'a function (fields, message)', logger[level]);
  }
  read.done();
  const events = new Emitter((error) => logger.error({ error: recordError(error).message }, 'a listener of tasks.on threw'));
  const known = { queues, backends: [...sources.keys()] };
  if (given.defaults !== undefined) readDefinition('defaults', () => {}, given.defaults, known);
  return new App({ known, sources, defaults: given.defaults, retention, logger, events }, (created) => {
    const host = hostOf(created, systemClock, systemRandom);
    return { host, backends: new Map([...sources].map(([alias, source]) => [alias, makeBackend(host, source)])) };
  });
}

/** A backend on a host. */
export function makeBackend(host: Host, source: StoreSource | BackendSource): Backend {
  return source.kind === 'store' ? new EngineBackend(host, source) : source.create(host);
}

function readBackends(read: OptionReader, given: Record<string, unknown>): Map<string, StoreSource | BackendSource> {
  const sources = new Map<string, StoreSource | BackendSource>();
  const expected = 'a backend such as memory(), immediate() or dummy()';
  const add = (alias: string, source: unknown, path: string) => {
    const kind = (source as { kind?: unknown } | null)?.kind;
    if (kind === 'store' || kind === 'backend') sources.set(alias, source as StoreSource | BackendSource);
    else read.fault(path, expected, source);
  };
  if (given.backend !== undefined && given.backends !== undefined) read.fault('backend, backends', 'one of the two', 'both');
  if (given.backend !== undefined) add('default', given.backend, 'backend');
  else if (given.backends !== undefined) {
    const many = typeof given.backends === 'object' && given.backends !== null ? given.backends : {};
    for (const [alias, source] of Object.entries(many)) {
      read.name(alias, `backends.${alias}`);
      add(alias, source, `backends.${alias}`);
    }
    if (!('default' in many)) read.fault('backends.default', expected, undefined);
  } else sources.set('default', immediate());
  return sources;
}

function readQueues(read: OptionReader, value: unknown): string[] {
  const queues = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  if (!queues) {
    read.fault('queues', 'an object such as { default: {}, mail: {} }', value);
    return [];
  }
  for (const [name, options] of Object.entries(queues)) {
    read.name(name, `queues.${name}`);
    read.object(options, `queues.${name}`, []);
  }
  return Object.keys(queues);
}

class Application implements Tasks {
  readonly #app: App;
  readonly jobs: Tasks['jobs'];
  readonly queues: Tasks['queues'];
  readonly schedules: Tasks['schedules'];
  readonly define: Define;

  constructor(app: App) {
    this.#app = app;
    this.jobs = jobsOf(app);
    this.queues = queuesOf(app);
    this.schedules = schedulesOf(app);
    this.define = ((name: string, options: unknown) => define(app, name, options)) as Define;
  }

  get names(): readonly string[] {
    return this.#app.names();
  }

  register<Input, Output>(task: PortableTask<Input, Output>): Task<Input, Output> {
    const kept = task?.[portable];
    if (!kept) throw new InputError(`register takes what task() of 'escapement' returned; got ${show(task)}`);
    if (kept.app && kept.app !== this.#app) {
      throw new DuplicateTaskError(`the portable task ${kept.name} is registered with another application already`);
    }
    if (!kept.app) define(this.#app, kept.name, kept.options);
    kept.app = this.#app;
    return handle(this.#app, kept.name) as Task<Input, Output>;
  }

  schedule<Input>(name: string, options: ScheduleOptions<Input>): void {
    addSchedule(this.#app, name, options);
  }

  getResult(id: string): Promise<TaskResult> {
    return findResult(this.#app, id, this.#app.known.backends);
  }

  worker(options: WorkerOptions = {}): TaskWorker {
    return createWorker(this.#app, options);
  }

  on(name: EventName | '*', listener: (event: never) => void): () => void {
    return this.#app.events.on(name, listener as (event: Event) => void);
  }

  async open(): Promise<void> {
    for (const alias of this.#app.binding.backends.keys()) await this.#app.backend(alias).open();
  }

  async close(): Promise<void> {
    if (this.#app.closed) return;
    this.#app.closed = true;
    await Promise.all([...this.#app.workers].map((worker) => worker.stop(durationMs('25s', 'timeout'))));
    for (const backend of this.#app.binding.backends.values()) await backend.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function define(app: App, name: unknown, options: unknown): Task<never, unknown> {
  const definition = readDefinition(name, options, app.defaults, app.known);
  app.add(definition);
  return handle(app, definition.name);
}

function handle(app: App, name: string): Task<never, unknown> {
  return new TaskHandle(name, () => ({ app, definition: app.definition(name) }));
}

/**
 * A portable task, for authors of libraries: it runs on `immediate()` until an application calls `tasks.register(it)`.
 * @throws ConfigError with all faults of the options
 */
export const task = ((name: string, options: unknown): PortableTask => {
  const kept: { name: string; options: unknown; app: App | undefined } = { name, options, app: undefined };
  const definition = readDefinition(name, options, undefined, { queues: undefined, backends: ['default'] });
  let alone: { app: App; definition: Definition } | undefined;
  const home = () => {
    if (kept.app) return { app: kept.app, definition: kept.app.definition(name) };
    if (!alone) {
      alone = { app: createApp({}), definition };
      alone.app.add(definition);
    }
    return alone;
  };
  return Object.assign(new TaskHandle(name, home), { [portable]: kept }) as unknown as PortableTask;
}) as Define<'portable'>;

function addSchedule(app: App, name: unknown, options: unknown): void {
  const read = new OptionReader(`Schedule ${show(name)} cannot be made`);
  const using = ['queue', 'priority', 'retry', 'expires', 'tags', 'metadata'];
  const given = read.object(options, '', ['task', 'input', 'cron', 'every', 'timezone', 'startAt', 'endAt', ...using]);
  const scheduleName = read.name(name, 'name');
  if (app.schedules.some((other) => other.name === scheduleName))
    throw new DuplicateTaskError(`a schedule named ${scheduleName} is defined already`);
  const taskName = (given.task as Partial<Task> | undefined)?.name;
  if (typeof taskName !== 'string') read.fault('task', 'a task, as tasks.define returns it', given.task);
  else if (!app.definitions.has(taskName)) read.fault('task', 'a task of this application', taskName, nearest(taskName, app.names()));
  const trigger = readTrigger(read, given, app.binding.host.clock.now());
  read.done();

  const definition = app.definition(taskName as string);
  const usingGiven = Object.fromEntries(using.filter((key) => given[key] !== undefined).map((key) => [key, given[key]]));
  const chosen = readUsing(usingGiven, usingNothing, app.known);
  if (definition.schema) {
    const parsed = parseInput(definition.schema, given.input, `input of schedule ${scheduleName}`);
    // An asynchronous schema cannot be waited for here; the run will validate.
    if (parsed instanceof Promise) parsed.catch(() => {});
  }
  const expires = chosen.expires ?? definition.expires;
  const body = {
    name: scheduleName,
    task: definition.name,
    queue: chosen.queue ?? definition.queue,
    priority: chosen.priority ?? definition.priority,
    maxAttempts: chosen.maxAttempts ?? definition.maxAttempts,
    expiresMs: expires === null ? null : (parseDuration(expires) ?? null),
    tags: chosen.tags ?? definition.tags,
    metadata: chosen.metadata,
    overrides: chosen.overrides,
    input: encode(given.input === undefined ? null : given.input, `input of schedule ${scheduleName}`),
    trigger,
  };
  app.schedules.push({ ...body, hash: JSON.stringify(body) });
}

function createWorker(app: App, options: WorkerOptions): TaskWorker {
  const read = new OptionReader('Worker cannot be made');
  const given = read.object(options, '', ['backend', 'queues', 'exclude', 'concurrency', 'scheduler', 'id']);
  const alias = read.backend(given.backend, 'backend', app.known.backends) ?? 'default';
  const queueNames = (value: unknown, path: string) => {
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) return read.fault(path, 'an array of queue names', value);
    return value.map((name, i) => read.queue(name, `${path}[${i}]`, app.known.queues) ?? '');
  };
  const host = app.binding.host;
  const settings: WorkerSettings = {
    id: given.id === undefined ? host.newId(host.clock.now()) : read.name(given.id, 'id'),
    concurrency: read.integer(given.concurrency, 'concurrency', 1, 10_000) ?? 10,
    queues: queueNames(given.queues, 'queues'),
    excludeQueues: queueNames(given.exclude, 'exclude'),
    scheduler: given.scheduler !== false,
  };
  read.done();
  return new BoundWorker(app, alias, settings);
}

class BoundWorker implements TaskWorker {
  readonly id: string;
  readonly #app: App;
  readonly #alias: string;
  readonly #settings: WorkerSettings;
  #worker: EngineWorker | undefined;

  constructor(app: App, alias: string, settings: WorkerSettings) {
    this.id = settings.id;
    this.#app = app;
    this.#alias = alias;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    const app = this.#app;
    if (app.closed) throw new ConfigError('Worker cannot start', [{ path: 'tasks', expected: 'an open application', got: 'a closed one' }]);
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
    const worker =
      this.#worker ?? new EngineWorker(app.binding.host, store, () => (this.#alias === 'default' ? app.schedules : []), this.#settings);
    this.#worker = worker;
    worker.start();
    app.workers.add(worker);
  }

  async stop(options: { timeout?: Duration } = {}): Promise<void> {
    const graceMs = durationMs(options.timeout ?? '25s', 'stop().timeout');
    if (!this.#worker) return;
    await this.#worker.stop(graceMs);
    this.#app.workers.delete(this.#worker);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function jobsOf(app: App): Tasks['jobs'] {
  const store = () => app.backend('default').open();
  const filterOf = (selection: JobSelection = {}) => ({
    ids: selection.ids,
    status: typeof selection.status === 'string' ? [selection.status] : selection.status,
    task: typeof selection.task === 'string' ? selection.task : selection.task?.name,
    queue: selection.queue,
    schedule: selection.schedule,
    tag: selection.tag,
  });
  const readSelection = (selection: object | undefined, more: readonly string[] = []) => {
    const read = new OptionReader('The selection of jobs cannot be used');
    read.object(selection, '', ['ids', 'status', 'task', 'queue', 'schedule', 'tag', ...more]);
    return read;
  };
  return {
    async list(selection = {}) {
      const read = readSelection(selection, ['limit', 'after']);
      const limit = read.integer(selection.limit, 'limit', 1, 1_000) ?? 50;
      read.done();
      const now = app.binding.host.clock.now();
      const page = await (await store()).list(filterOf(selection), { now, limit, cursor: selection.after });
      const items = page.items.map((record) => resultOf(app, 'default', record));
      return page.cursor === null ? { items } : { items, cursor: page.cursor };
    },
    async retry(selection) {
      readSelection(selection).done();
      const count = await retryJobs(app.binding.host, await store(), filterOf(selection));
      await app.backend('default').requeued();
      return count;
    },
    async cancel(selection, reason = 'cancelled') {
      readSelection(selection).done();
      return cancelJobs(app.binding.host, await store(), filterOf(selection), reason);
    },
    async prune(options) {
      const olderThanMs = durationMs(options?.olderThan, 'jobs.prune().olderThan');
      const finishedBefore = app.binding.host.clock.now() - olderThanMs;
      const opened = await store();
      let count = 0;
      for (const status of options.status ? [options.status] : (['successful', 'failed', 'cancelled'] as const)) {
        let deleted: number;
        do {
          deleted = await opened.prune({ status, finishedBefore, limit: pruneBatch });
          count += deleted;
        } while (deleted === pruneBatch);
      }
      return count;
    },
  };
}

const pruneBatch = 1_000;

function queuesOf(app: App): Tasks['queues'] {
  const save = async (name: string, paused: boolean) => {
    const read = new OptionReader('The queue cannot be paused or resumed');
    read.queue(name, 'name', app.known.queues);
    read.done();
    const store: Store = await app.backend('default').open();
    await store.saveQueue({ name, paused }, { now: app.binding.host.clock.now() });
  };
  return {
    pause: (name) => save(name, true),
    resume: (name) => save(name, false),
    list: async () => [...(await (await app.backend('default').open()).stats({ now: app.binding.host.clock.now() }))],
  };
}

function schedulesOf(app: App): Tasks['schedules'] {
  /** Those of the store, and those of code that no worker has brought there yet. */
  const rows = async (): Promise<ScheduleRow[]> => {
    const stored = new Map((await (await app.backend('default').open()).listSchedules()).map((row) => [row.name, row]));
    const now = app.binding.host.clock.now();
    for (const definition of app.schedules as ScheduleDefinition[]) {
      const row = scheduleRow(definition, stored.get(definition.name), now);
      if (row) stored.set(row.name, row);
    }
    return [...stored.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  };
  return {
    list: async () => (await rows()).map(scheduleInfo),
    async next(name, count = 5) {
      const all = await rows();
      const row = all.find((other) => other.name === name);
      if (!row) {
        const names = all.map((other) => other.name);
        throw new InputError(`no schedule is named ${show(name)}${names.length ? `; there are ${names.join(', ')}` : ''}`);
      }
      const coming: Date[] = [];
      for (let at = row.nextAt; at !== null && coming.length < count; at = nextOccurrence(row.trigger, at)) coming.push(new Date(at));
      return coming;
    },
  };
}

function scheduleInfo({ name, task: taskName, trigger, nextAt, lastAt, paused }: ScheduleRow): ScheduleInfo {
  const cron = trigger.kind === 'cron' ? trigger : null;
  return {
    name,
    task: taskName,
    cron: cron?.expression ?? null,
    every: trigger.kind === 'every' ? trigger.everyMs : null,
    timezone: cron?.timezone ?? null,
    nextAt: nextAt === null ? null : new Date(nextAt),
    lastAt: lastAt === null ? null : new Date(lastAt),
    paused,
  };
}

const consoleLogger: Logger = {
  debug() {},
  info: (fields, message) => console.info(line(fields, message)),
  warn: (fields, message) => console.warn(line(fields, message)),
  error: (fields, message) => console.error(line(fields, message)),
};

function line(fields: object, message: string): string {
  const rest = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === 'string' && namePattern.test(value) ? value : show(value)}`,
  );
  return [show(message).replace(/^"|"$/g, ''), ...rest].join(' ');
}
