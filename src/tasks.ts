/** `createTasks`: an application's tasks, schedules and workers on its backends. Also `task` for libraries, and the seam for simulations. */
/// <reference lib="esnext.disposable" preserve="true" />
import { App, type Binding } from './app.ts';
import { identityOf, leavePlace, takePlace } from './applications.ts';
import type { BackendSource } from './backends/dummy.ts';
import { EngineBackend } from './backends/engine.ts';
import { immediate } from './backends/immediate.ts';
import { consoleLogger, guardedLogger } from './console.ts';
import type { Definition } from './core/definition.ts';
import { durationMs, isClass, isGenerator, show } from './core/duration.ts';
import { ConfigError, DuplicateTaskError, InputError, StoreError } from './core/errors.ts';
import { Emitter, type Event, type EventMap, type EventName, eventNames } from './core/events.ts';
import { recordError } from './core/failure.ts';
import { type FleetEventName, fleetEventNames } from './core/fleet.ts';
import type { Limit } from './core/gate.ts';
import { encode } from './core/json.ts';
import type { Job } from './core/types.ts';
import { describe, type TaskDescription } from './describe.ts';
import type { AttemptMiddleware } from './engine/around.ts';
import { type Host, type Logger, runningHere } from './engine/host.ts';
import { outside } from './engine/scope.ts';
import { Fleet } from './fleet.ts';
import type { EnqueueMiddleware } from './hooks.ts';
import { offer } from './isolate/inside.ts';
import { Pool } from './isolate/pool.ts';
import { type Jobs, jobsOf, type LimitUse, limitsInUse, type Queues, queuesOf, type Workers, workersOf } from './operations.ts';
import { readDefinition } from './options/definition.ts';
import { readQueue } from './options/limits.ts';
import { nearest } from './options/names.ts';
import { OptionReader } from './options/reader.ts';
import { readRetention } from './options/retention.ts';
import type { ScheduleOptions } from './options/schedule.ts';
import type { JobOptions, QueueOptions, RetentionOptions } from './options/types.ts';
import type { Backend, BackendSupports } from './ports/backend.ts';
import { type Clock, followingClock } from './ports/clock.ts';
import { thisMachine, version } from './ports/machine.ts';
import { createIds, type Random, systemRandom } from './ports/random.ts';
import type { StoreSource } from './ports/store.ts';
import { resultOf, type TaskResult } from './result.ts';
import { addSchedule, type Schedules, schedulesOf } from './schedules.ts';
import { beyond } from './support.ts';
import { type Define, findResult, type PortableTask, portable, type SyncTransaction, type Task, TaskHandle } from './task.ts';
import { createWorker, type TaskWorker, type WorkerOptions } from './worker.ts';
import { partContext } from './workflow/context.ts';
import { type Workflows, workflowsOf } from './workflow/flow.ts';
import { findWorkflow, type WorkflowResult } from './workflow/result.ts';

/** The options of `createTasks`. */
export interface CreateTasksOptions {
  /**
   * A process has one live application with this name: creating another one stops the workers of the previous one. Intended for modules
   * that a dev server evaluates again.
   * @default the module that calls `createTasks` from its top level
   */
  name?: string;
  /**
   * The backend that tasks are enqueued to.
   * @default immediate()
   */
  backend?: StoreSource | BackendSource;
  /** Several backends by alias (Django's TASKS setting); one of them must be named `default`. */
  backends?: Record<string, StoreSource | BackendSource>;
  /**
   * The allowed queues. If given, any other name is an error.
   * @default every name is accepted
   */
  queues?: Record<string, QueueOptions>;
  /** Default options for every task. */
  defaults?: JobOptions;
  /** How long finished jobs are kept, unless they or their task have their own `retention`. */
  retention?: RetentionOptions;
  /**
   * The destination of log lines; compatible with pino.
   * @default the console, for warnings, errors and lines that tasks log
   */
  logger?: Logger;
}

/** Operations on the jobs of one backend. */
export interface BackendOperations {
  readonly jobs: Jobs;
  readonly queues: Queues;
  readonly workers: Workers;
}

/** Options of `tasks.signal`. */
export interface SignalOptions {
  transaction?: unknown;
  backend?: string;
}

/** The return value of `createTasks`. */
export interface Tasks extends AsyncDisposable, Workflows {
  /**
   * Defines a task. The name identifies it in the store, so do not change it while jobs of the task are queued.
   * @throws ConfigError with all faults; DuplicateTaskError
   */
  define: Define;
  /** Binds a portable task to this application and returns its handle. */
  register<Input, Output>(task: PortableTask<Input, Output>): Task<Input, Output>;
  /** Defines a recurring job. A worker saves it in the store when it starts. */
  schedule<Input>(name: string, options: ScheduleOptions<Input>): void;
  /**
   * Returns the task with this name.
   * @throws UnknownTaskError
   */
  get(name: string): Task<unknown, unknown>;
  /**
   * Describes the definition of the task with this name.
   * @throws UnknownTaskError
   */
  describe(name: string): TaskDescription;
  /**
   * Returns the job with this id, of any task, from any backend.
   * @throws ResultNotFoundError
   */
  getResult(id: string): Promise<TaskResult>;
  /**
   * Returns the workflow with this id, from any backend.
   * @throws ResultNotFoundError
   */
  getWorkflow(id: string): Promise<WorkflowResult>;
  /**
   * Sends a signal to the job that waits for this name with `ctx.waitFor`. The signal is kept until a job reads it, so it may be sent
   * before the job waits.
   * @param data plain JSON data; `true` if omitted
   * @param options.transaction the caller's own open transaction: the signal is sent if it commits
   * @param options.backend the alias of the backend. Default: `default`
   * @throws InputError if the data cannot be stored as JSON
   */
  signal(name: string, data: unknown, options: { transaction: SyncTransaction; backend?: string }): void;
  signal(name: string, data?: unknown, options?: SignalOptions): Promise<void>;
  worker(options?: WorkerOptions): TaskWorker;
  /**
   * Runs middleware around every attempt, in registration order: for context, tenancy or error capture. Errors that it throws fail the
   * attempt.
   * @returns a function that removes it
   * @example tasks.use((attempt, next) => tenants.run(String(attempt.result.metadata.tenant), next));
   */
  use(middleware: AttemptMiddleware<TaskResult>): () => void;
  /**
   * Runs middleware around every `enqueue` and `enqueueMany`, in registration order, but not around the jobs of schedules.
   * @returns a function that removes it
   * @example tasks.useEnqueue((request, next) => { request.metadata.tenant = tenants.getStore(); return next(); });
   */
  useEnqueue(middleware: EnqueueMiddleware): () => void;
  /** Calls `listener` for every event with this name; returns a function that removes the listener. */
  on<Name extends EventName>(name: Name, listener: (event: { readonly type: Name } & EventMap[Name]) => void): () => void;
  on(name: '*', listener: (event: Event) => void): () => void;
  /**
   * Calls `listener` for events of all processes that share the application's stores, including this one, within about a second. The events
   * are reconstructed from changed jobs, from the first use of the backend on, and contain the job as it was when it was read. Events that
   * leave nothing in a job's row are not available. An event may be missed if its process dies, or if more than a few thousand jobs change
   * in a second.
   */
  on<Name extends FleetEventName>(
    name: Name,
    listener: (event: { readonly type: Name } & EventMap[Name]) => void,
    options: { readonly fleet: true },
  ): () => void;
  on(
    name: '*',
    listener: (event: Extract<Event, { readonly type: FleetEventName }>) => void,
    options: { readonly fleet: true },
  ): () => void;
  readonly jobs: Jobs;
  readonly queues: Queues;
  readonly workers: Workers;
  readonly schedules: Schedules;
  /**
   * Operations on a backend other than the default. Schedules are always on the default backend.
   * @throws ConfigError if no backend has this alias
   */
  backend(alias: string): BackendOperations;
  /**
   * The limits of queues and tasks, and their current use across all workers.
   * @param backend the alias of the backend. Default: `default`
   */
  limits(backend?: string): Promise<LimitUse[]>;
  /** The names of the tasks, in definition order. */
  readonly names: readonly string[];
  /** The application's own logger; null means the console. */
  readonly logger: Logger | null;
  /** The backends by alias. `name` is `immediate`, `dummy`, `memory`, `sqlite` …; `file` holds the jobs, if it is a file. */
  readonly backends: readonly {
    readonly alias: string;
    readonly name: string;
    readonly supports: BackendSupports;
    readonly file?: string;
  }[];
  /** Opens and migrates every backend. Otherwise the first use does. */
  open(): Promise<void>;
  /** Stops this process's workers and closes the backends permanently. */
  close(): Promise<void>;
}

/** The key of the application on the value that `createTasks` returned; shared by all copies of this package in the process. */
const brand: unique symbol = Symbol.for('escapement.application') as never;

/**
 * The application behind the return value of `createTasks`, including one from another copy of this package.
 * @throws ConfigError if the value is something else, or from another version
 */
export function appOf(tasks: unknown): App {
  const found = (tasks as Partial<Application> | null | undefined)?.[brand];
  if (found?.version === version) return found.app;
  throw new ConfigError('Invalid application', [
    found
      ? {
          path: 'tasks',
          expected: `an application of escapement ${version}`,
          got: `an application of escapement ${found.version}; install a single version`,
        }
      : { path: 'tasks', expected: 'the return value of createTasks()', got: show(tasks) },
  ]);
}

/**
 * The seam for simulations: binds an application to another host and other backends. Returns a function that restores the original binding.
 * Not exported from the package.
 */
export function rebind(app: App, binding: Binding): () => void {
  const before = app.binding;
  app.binding = binding;
  return () => {
    app.binding = before;
  };
}

/** Makes the host of an application for a given clock and random source. */
export function hostOf(
  app: App,
  clock: Clock,
  random: Random,
  options: Partial<Pick<Host, 'logger' | 'retention' | 'machine' | 'running'>> = {},
): Host {
  return {
    clock,
    random,
    events: app.events,
    logger: options.logger ?? app.logger,
    retention: options.retention ?? app.retention,
    definitions: app.definitions,
    queues: app.known.queues,
    machine: options.machine ?? thisMachine,
    running: options.running ?? runningHere,
    names: app.claimable,
    limits: app.limits,
    around: app.around,
    newId: createIds(random),
    resultOf: (job: Job) => resultOf(app, app.definitions.get(job.task)?.backend ?? 'default', { job, attempts: [] }),
    workflowOf: (job: Job, result: unknown) => partContext(app, result as TaskResult, job),
  };
}

/**
 * Creates an application's tasks. Nothing is opened before the first use.
 * @throws ConfigError with all faults of the options
 * @example
 * const tasks = createTasks({ backend: memory() });
 * const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
 */
export function createTasks(options: CreateTasksOptions = {}): Tasks {
  const app = createApp(options);
  const sources = [...app.sources].map(([alias, { name, ...source }]) => `${alias}:${name}:${'file' in source ? source.file : ''}`);
  // The stack, starting at the caller.
  const stack = new Error().stack?.split('\n').slice(2).join('\n') ?? '';
  app.identity = identityOf(options.name, sources.join(' '), stack);
  if (app.identity?.given) takePlace(app.identity, app);
  return new Application(app);
}

function createApp(options: CreateTasksOptions): App {
  const read = new OptionReader('Invalid options for createTasks()');
  const source = options as { readonly kind?: unknown; readonly name?: unknown } | null;
  if (source?.kind === 'store' || source?.kind === 'backend') {
    read.faults.push({ path: 'options', expected: `createTasks({ backend: ${source.name}(…) })`, got: `${source.name}(…)` });
    read.done();
  }
  const given = read.object(options, '', ['name', 'backend', 'backends', 'queues', 'defaults', 'retention', 'logger']);
  if (given.name !== undefined) read.name(given.name, 'name');
  const sources = readBackends(read, given);
  const queueLimits: Record<string, Limit> = {};
  const queues = given.queues === undefined ? undefined : readQueues(read, given.queues, queueLimits);
  const retention = readRetention(read, given.retention);
  const ownLogger = (given.logger as Logger | undefined) ?? consoleLogger;
  for (const level of ['debug', 'info', 'warn', 'error'] as const) {
    if (typeof ownLogger[level] !== 'function') read.fault(`logger.${level}`, 'a function (fields, message)', ownLogger[level]);
  }
  read.done();
  const logger = guardedLogger(ownLogger);
  const events = new Emitter(
    (error) => logger.error({ error: recordError(error).message }, 'a listener of tasks.on() threw an error'),
    outside,
  );
  const warned = new Set<string>();
  const warn = (text: string) => {
    // using() may be called a thousand times.
    if (warned.has(text) || warned.size > maxWarnings) return;
    warned.add(text);
    logger.warn({}, text);
  };
  const known = { queues, backends: [...sources.keys()], warn };
  if (given.defaults !== undefined) readDefinition('defaults', () => {}, given.defaults, known);
  return new App(
    { known, sources, queueLimits, defaults: given.defaults, retention, logger, ownLogger: (given.logger as Logger) ?? null, events },
    (created) => {
      // Until the application is bound, nothing is open.
      const clock = followingClock(() => (created as Partial<App>).binding?.backends.get('default')?.aheadMs ?? 0);
      const host = { ...hostOf(created, clock, systemRandom), isolate: new Pool() };
      return { host, backends: new Map([...sources].map(([alias, source]) => [alias, makeBackend(host, source)])) };
    },
  );
}

const maxWarnings = 100;

/** Makes a backend on a host. */
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
  if (given.backend !== undefined && given.backends !== undefined) read.fault('backend, backends', 'only one of them', 'both');
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

function readQueues(read: OptionReader, value: unknown, limits: Record<string, Limit>): string[] {
  const queues = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  if (!queues) {
    read.fault('queues', 'an object such as { default: {}, mail: {} }', value);
    return [];
  }
  for (const [name, options] of Object.entries(queues)) {
    read.name(name, `queues.${name}`);
    limits[name] = readQueue(read, options, `queues.${name}`);
  }
  return Object.keys(queues);
}

class Application implements Tasks {
  readonly #app: App;
  declare readonly [brand]: { readonly app: App; readonly version: string };
  readonly jobs: Jobs;
  readonly queues: Queues;
  readonly workers: Workers;
  readonly schedules: Schedules;
  readonly define: Define;
  readonly chain: Workflows['chain'];
  readonly group: Workflows['group'];
  readonly map: Workflows['map'];
  readonly chunks: Workflows['chunks'];
  readonly workflow: Workflows['workflow'];

  constructor(app: App) {
    this.#app = app;
    Object.defineProperty(this, brand, { value: { app, version } });
    this.jobs = jobsOf(app);
    this.queues = queuesOf(app);
    this.workers = workersOf(app);
    this.schedules = schedulesOf(app);
    const { chain, group, map, chunks, workflow } = workflowsOf(app);
    this.chain = chain;
    this.group = group;
    this.map = map;
    this.chunks = chunks;
    this.workflow = workflow;
    this.define = ((name: string, options: unknown) => define(app, name, options)) as Define;
  }

  get logger(): Logger | null {
    return this.#app.ownLogger;
  }

  get names(): readonly string[] {
    return this.#app.names();
  }

  get backends(): Tasks['backends'] {
    return [...this.#app.binding.backends].map(([alias, { name, supports, file }]) => ({
      alias,
      name,
      supports: { ...supports },
      ...(file === undefined ? {} : { file }),
    }));
  }

  register<Input, Output>(task: PortableTask<Input, Output>): Task<Input, Output> {
    const kept = task?.[portable];
    if (!kept) throw new InputError(`register() takes a task created with task() from 'escapement'; got ${show(task)}`);
    if (kept.app && kept.app !== this.#app) {
      throw new DuplicateTaskError(`the portable task ${kept.name} is already registered with another application`);
    }
    if (!kept.app) define(this.#app, kept.name, kept.options);
    kept.app = this.#app;
    return handle(this.#app, kept.name) as Task<Input, Output>;
  }

  schedule<Input>(name: string, options: ScheduleOptions<Input>): void {
    addSchedule(this.#app, name, options);
  }

  get(name: string): Task<unknown, unknown> {
    this.#app.definition(String(name));
    return handle(this.#app, String(name)) as Task<unknown, unknown>;
  }

  describe(name: string): TaskDescription {
    return describe(this.#app.definition(String(name)));
  }

  getResult(id: string): Promise<TaskResult> {
    return findResult(this.#app, id, this.#app.known.backends);
  }

  getWorkflow(id: string): Promise<WorkflowResult> {
    return findWorkflow(this.#app, id);
  }

  async limits(backend?: string): Promise<LimitUse[]> {
    const read = new OptionReader('Invalid argument of limits()');
    const alias = read.backend(backend, 'backend', this.#app.known.backends) ?? 'default';
    read.done();
    return limitsInUse(this.#app, alias);
  }

  backend(alias: string): BackendOperations {
    const read = new OptionReader('Invalid argument of backend()');
    read.backend(alias ?? null, 'alias', this.#app.known.backends);
    read.done();
    return { jobs: jobsOf(this.#app, alias), queues: queuesOf(this.#app, alias), workers: workersOf(this.#app, alias) };
  }

  // The signatures are those of the interface: a synchronous transaction must not await anything.
  signal(name: string, data: unknown = true, options: SignalOptions = {}): never {
    return sendSignal(this.#app, name, data, options) as never;
  }

  worker(options: WorkerOptions = {}): TaskWorker {
    return createWorker(this.#app, options);
  }

  use(middleware: AttemptMiddleware<TaskResult>): () => void {
    return register(this.#app.around, middleware as AttemptMiddleware, 'use', '(attempt, next) => …');
  }

  useEnqueue(middleware: EnqueueMiddleware): () => void {
    return register(this.#app.aroundEnqueue, middleware, 'useEnqueue', '(request, next) => …');
  }

  on(name: EventName | '*', listener: (event: never) => void, options: { readonly fleet?: boolean } = {}): () => void {
    const { fleet = false } = OptionReader.given(options, 'tasks.on()', ['fleet']);
    const names: readonly EventName[] = fleet ? fleetEventNames : eventNames;
    if (name !== '*' && !names.includes(name)) {
      const read = new OptionReader(`Invalid event for tasks.on()${fleet ? ' with { fleet: true }' : ''}`);
      read.fault('event', `'*' or one of ${names.join(', ')}`, name, nearest(String(name), names));
      read.done();
    }
    if (typeof listener !== 'function' || isGenerator(listener) || isClass(listener)) {
      const read = new OptionReader('Invalid listener for tasks.on()');
      read.fault('listener', 'a function that takes an event', listener);
      read.done();
    }
    if (!fleet) return this.#app.events.on(name, listener as (event: Event) => void);
    const foreign = [...this.#app.binding.backends].filter(([, { supports }]) => !supports.engine);
    if (foreign.length > 0) {
      const faults = foreign.map(([alias, backend]) => beyond('fleet', 'events of other processes', alias, backend));
      throw new ConfigError('Invalid options for tasks.on()', faults);
    }
    this.#fleet ??= fleetOf(this.#app);
    return this.#fleet.on(name as FleetEventName, listener as (event: Event) => void);
  }

  #fleet: Fleet | undefined;

  async open(): Promise<void> {
    for (const alias of this.#app.binding.backends.keys()) await this.#app.backend(alias).open();
  }

  async close(): Promise<void> {
    if (this.#app.closed) return;
    this.#app.closed = true;
    if (this.#app.identity) leavePlace(this.#app.identity, this.#app);
    await Promise.all([...this.#app.workers].map((worker) => worker.stop(durationMs('25s', 'timeout'))));
    this.#fleet?.stop();
    this.#app.binding.host.isolate?.close();
    for (const backend of this.#app.binding.backends.values()) await backend.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function fleetOf(app: App): Fleet {
  const failed = (error: unknown) => app.logger.error({ error: recordError(error).message }, 'a listener of tasks.on() threw an error');
  const fleet = new Fleet(app, new Emitter(failed, outside));
  app.onUse = (backend) => fleet.used(backend);
  return fleet;
}

function define(app: App, name: unknown, options: unknown): Task<never, unknown> {
  const { onSuccess, onFailure, ...definition } = readDefinition(name, options, app.defaults, app.known);
  app.add(definition);
  offer(definition, () => app.binding.host);
  const of = (listener: (event: never) => unknown) => (event: Event) =>
    'job' in event && event.job.task === definition.name ? listener(event as never) : undefined;
  if (onSuccess) app.events.on('successful', of(onSuccess));
  if (onFailure) app.events.on('failed', of(onFailure));
  return handle(app, definition.name);
}

function handle(app: App, name: string): Task<never, unknown> {
  return new TaskHandle(name, () => ({ app, definition: app.definition(name) }));
}

/**
 * A portable task, for library authors. It runs on `immediate()` until an application calls `tasks.register(it)`.
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
  offer(definition, () => home().app.binding.host);
  return Object.assign(new TaskHandle(name, home), { [portable]: kept }) as unknown as PortableTask;
}) as Define<'portable'>;

const maxSignalName = 200;

function sendSignal(app: App, name: string, data: unknown, options: SignalOptions): void | Promise<void> {
  const checked = () => {
    const read = new OptionReader('Invalid arguments of signal()');
    if (typeof name !== 'string' || name === '' || name.length > maxSignalName)
      read.fault('name', `a string of 1 to ${maxSignalName} characters`, name);
    const given = read.object(options, '', ['transaction', 'backend']);
    const alias = read.backend(given.backend, 'backend', app.known.backends) ?? 'default';
    read.done();
    const now = app.binding.host.clock.now();
    const signal = { name, data: encode(data, `the data of signal ${name}`), sentAt: now };
    return { alias, signal, now };
  };
  if (options?.transaction !== undefined) {
    const { alias, signal, now } = checked();
    const store = app.backend(alias).open();
    if (store instanceof Promise)
      throw new StoreError('the store is not open; call and await tasks.open() before sending a signal in a transaction', {
        kind: 'closed',
      });
    return store.sendSignal(signal, { now, transaction: options.transaction });
  }
  return (async () => {
    const turn = app.binding.turn?.();
    if (turn !== undefined) await turn;
    const { alias, signal, now } = checked();
    await (await app.backend(alias).open()).sendSignal(signal, { now });
  })();
}

function register<T>(list: T[], middleware: T, call: string, example: string): () => void {
  if (typeof middleware !== 'function' || isGenerator(middleware) || isClass(middleware)) {
    const read = new OptionReader(`Invalid argument of ${call}()`);
    read.fault('middleware', `a function ${example}`, middleware);
    read.done();
  }
  list.push(middleware);
  return () => {
    const at = list.indexOf(middleware);
    if (at >= 0) list.splice(at, 1);
  };
}
