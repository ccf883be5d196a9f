/**
 * Tasks as applications use them: define a task once, enqueue it from anywhere. Also portable tasks, which libraries define before an
 * application exists.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { App } from './app.ts';
import { checkBlob, maxBlobBytes } from './core/blobs.ts';
import type { Definition, TaskContext } from './core/definition.ts';
import { parseDuration, parseWhen, show } from './core/duration.ts';
import { ConfigError, EscapementError, InputError, ResultMismatchError, ResultNotFoundError, StoreError } from './core/errors.ts';
import { newJob } from './core/job.ts';
import { decode, encode, type IfStorable, type Settled, type Stored } from './core/json.ts';
import { isSnooze, type ResultOf, steering } from './core/outcomes.ts';
import type { Job, Settlement } from './core/types.ts';
import type { Part } from './core/workflow.ts';
import { RunningAttempt } from './engine/attempt.ts';
import { parseInput } from './engine/input.ts';
import { keysOf } from './engine/keys.ts';
import { enqueuing } from './engine/scope.ts';
import { type EnqueueRequest, throughMiddleware } from './hooks.ts';
import { meant, usingKeys } from './options/names.ts';
import { OptionReader } from './options/reader.ts';
import type { IsolateOptions, JobOptions, LimitOptions, TaskListeners, UsingOptions } from './options/types.ts';
import { overridesOf, readUsing, type Using, usingNothing } from './options/using.ts';
import type { Enqueued } from './ports/backend.ts';
import type { JobBlob } from './ports/store.ts';
import { resultOf, type TaskResult } from './result.ts';
import { beyond, isLimited } from './support.ts';
import type { PartContext } from './workflow/context.ts';
import { type PartOptions, type Signature, SignatureOf } from './workflow/signature.ts';

/** The position of a part in its workflow. */
interface Place {
  readonly id: string;
  readonly workflow: string;
  readonly part: Part;
  readonly isWaiting: boolean;
  readonly now: number;
}

/** The part of a better-sqlite3 database that is used to enqueue in its transaction. */
export interface SyncTransaction {
  readonly inTransaction: boolean;
  prepare(sql: string): unknown;
}

/** True for a synchronous transaction: jobs enqueued in it exist immediately. */
function isSync(transaction: unknown): transaction is SyncTransaction {
  return typeof (transaction as Partial<SyncTransaction> | null | undefined)?.prepare === 'function';
}

/** The second argument of `enqueue`. */
export interface EnqueueOptions<T = unknown> {
  /**
   * The caller's own open transaction: the job exists only if it commits. With `sqlite()`, a better-sqlite3 database. With `postgres()`, a `pg` client
   * after BEGIN, the transaction of postgres.js, Drizzle or Kysely, or the client that Prisma passes to `$transaction()`.
   */
  transaction?: T;
  /**
   * Bytes to store with the job, by name, in the same transaction. Its attempts read them with `ctx.blob`. At most 32 MB in total. They are
   * not part of lists or of the input, and are deleted with the job.
   */
  blobs?: Readonly<Record<string, Uint8Array>> | undefined;
}

/** The arguments of `enqueue`: the input is optional if the task takes none. */
export type EnqueueArguments<Input, Options> = 0 extends 1 & Input
  ? [input?: Input, options?: Options]
  : [Input] extends [void]
    ? [input?: undefined, options?: Options]
    : undefined extends Input
      ? [input?: Input, options?: Options]
      : [input: Input, options?: Options];

/** The arguments of `enqueue` in a synchronous transaction. */
type Transacted<Input> = [input: [Input] extends [void] ? undefined : Input, options: { transaction: SyncTransaction }];

/** A task: its name and all operations on it. `Task` without type arguments is any task. */
export interface Task<Input = unknown, Output = unknown> {
  readonly name: string;
  /** The queue, the priority and the backend's alias of its jobs, from `using` or the definition. */
  readonly queue: string;
  readonly priority: number;
  readonly backend: string;
  /**
   * Enqueues one job. Resolves when the store has acknowledged it. If the id of `using({ id })` is taken, or another job holds the unique key,
   * resolves to that job, with `duplicate` set.
   * @throws InputError if the input does not match the schema or cannot be stored as JSON
   * @throws DuplicateJobError if another job holds the unique key and `onConflict` is `'reject'`
   * @throws ResultMismatchError if a job of another task has the id
   * @throws ConfigError if the backend does not support the options, such as `immediate()` with `runAfter`, `priority` or a transaction
   * @throws StoreError if the store cannot accept it
   */
  enqueue(...args: Transacted<Input>): TaskResult<Output, Input>;
  enqueue(...args: EnqueueArguments<Input, EnqueueOptions>): Promise<TaskResult<Output, Input>>;
  /** Enqueues one job per input, either all or none. */
  enqueueMany(inputs: readonly Input[], options: { transaction: SyncTransaction }): TaskResult<Output, Input>[];
  enqueueMany(inputs: readonly Input[], options?: EnqueueOptions): Promise<TaskResult<Output, Input>[]>;
  /** The same task with different options for the jobs enqueued through it. */
  using(options: UsingOptions): Task<Input, Output>;
  /**
   * The task with an input, as a part of a workflow.
   * @param input if omitted, the part receives what the parts before it return
   * @example tasks.chain([fetchPage.with({ url }), parse, store])
   */
  with(
    ...args: [Input] extends [void] ? [input?: undefined, options?: PartOptions<Output>] : [input?: Input, options?: PartOptions<Output>]
  ): Signature<Output>;
  /**
   * Runs the task immediately, without a backend, and returns its return value.
   * @throws the error of the task; EscapementError if it snoozes or cancels
   */
  call(...args: EnqueueArguments<Input, never>): Promise<Output>;
  /**
   * Returns the job of this task with this id.
   * @throws ResultNotFoundError; ResultMismatchError if the job belongs to another task
   */
  getResult(id: string): Promise<TaskResult<Output, Input>>;
}

/** A task's function. */
export type Run<Input, R> = (input: Input, context: TaskContext<TaskResult, PartContext | null>) => R;

/**
 * The options of a task. With a Standard Schema in `input`, `run` receives the schema's output; without one, the input's type is that of
 * `run`'s first parameter.
 */
export interface TaskOptions<Input, R, Schema extends StandardSchemaV1 | undefined = undefined>
  extends JobOptions,
    TaskListeners,
    LimitOptions<Settled<RunInput<Schema, Input>>> {
  /**
   * Runs the function in a separate thread or process, so that a long computation blocks nothing, and can be ended at its timeout, when the
   * job is cancelled, or when its lease is lost. The thread loads the module that defines the task. The module must define the task at its
   * top level, and must not depend on changes that other modules make to it. Inputs, outputs and arguments of the context must be plain
   * data; `ctx.complete` is not available. In a simulation, and on backends that run jobs as soon as they are enqueued, the function runs
   * like all others.
   * @default the thread of the worker
   */
  isolate?: 'thread' | 'process' | IsolateOptions;
  input?: Schema & IfStorable<SchemaInput<Schema>, StandardSchemaV1<Stored<SchemaInput<Schema>>>>;
  run: Run<RunInput<Schema, Input>, R> & StorableRun<Settled<Input>, Settled<R>>;
}
type SchemaInput<Schema, Otherwise = void> = Schema extends StandardSchemaV1 ? StandardSchemaV1.InferInput<Schema> : Otherwise;
type RunInput<Schema, Input> = Schema extends StandardSchemaV1 ? StandardSchemaV1.InferOutput<Schema> : Input;

/** The type of a function whose input and return value can be stored. */
type StorableRun<Input, R> = IfStorable<Input, (input: Stored<Input>, context: never) => unknown> &
  IfStorable<ResultOf<R>, (...args: never) => Stored<ResultOf<R>> | Promise<Stored<ResultOf<R>>>>;

/**
 * The signatures of `tasks.define` and `task`. Compiler errors always refer to the last overload, so it accepts every form. The first one
 * accepts functions too: after failing there, `(name = 'x') => …` is read as a function of `string | undefined` instead of its annotation.
 */
export interface Define<Handle extends 'bound' | 'portable' = 'bound'> {
  <Input = void, R = unknown, Schema extends StandardSchemaV1 | undefined = undefined>(
    name: string,
    options: TaskOptions<Input, R, Schema>,
  ): Made<Handle, SchemaInput<Schema, Input>, ResultOf<R>>;
  <Input = void, R = unknown, Schema extends StandardSchemaV1 | undefined = undefined>(
    name: string,
    task: (Run<Input, R> & StorableRun<Settled<Input>, Settled<R>>) | TaskOptions<Input, R, Schema>,
  ): Made<Handle, SchemaInput<Schema, Input>, ResultOf<R>>;
}
type Made<Handle, Input, Output> = Handle extends 'portable' ? PortableTask<Input, Output> : Task<Input, Output>;

/** Looks up a handle's application and definition when it is used. */
export type Home = () => { readonly app: App; readonly definition: Definition };

/** A function with the methods of its class. Types do not allow calling a task; if it happens anyway, the error says what to do. */
class Callable {
  constructor(name: string) {
    const refuse = (): never => {
      throw new InputError(
        `${name} is a task, not a function: ${name}.enqueue(input) enqueues a job, ${name}.call(input) runs it immediately`,
      );
    };
    Object.defineProperty(refuse, 'name', { value: name, enumerable: true });
    // biome-ignore lint/correctness/noConstructorReturn: what is made is a function
    return Object.setPrototypeOf(refuse, new.target.prototype);
  }
}

export class TaskHandle<Input, Output> extends Callable implements Task<Input, Output> {
  declare readonly name: string;
  readonly #home: Home;
  readonly #using: Using;

  constructor(name: string, home: Home, using: Using = usingNothing) {
    super(name);
    this.#home = home;
    this.#using = using;
  }

  get queue(): string {
    return this.#using.queue ?? this.#home().definition.queue;
  }
  get priority(): number {
    return this.#using.priority ?? this.#home().definition.priority;
  }
  get backend(): string {
    return this.#using.backend ?? this.#home().definition.backend;
  }

  /** @internal */
  get definition(): Definition {
    return this.#home().definition;
  }

  with(input?: unknown, options?: unknown): Signature<Output> {
    return new SignatureOf(this as unknown as TaskHandle<unknown, Output>, input, options);
  }

  using(options: UsingOptions): Task<Input, Output> {
    const { app } = this.#home();
    return new TaskHandle(this.name, this.#home, readUsing(options, this.#using, app.known));
  }

  // The signatures are those of the interface. One body serves both, because what it awaits may be available synchronously.
  enqueue(input?: unknown, options?: EnqueueOptions): never {
    const results = this.#enqueue([input], options);
    return (results instanceof Promise ? results.then(([result]) => result) : results[0]) as never;
  }

  enqueueMany(inputs: readonly unknown[], options?: EnqueueOptions): never {
    if (!Array.isArray(inputs)) throw new InputError(`enqueueMany() of ${this.name} takes an array of inputs`);
    if (this.#using.id !== undefined && inputs.length > 1) {
      const got = `${inputs.length} inputs for the id ${this.#using.id}`;
      throw new ConfigError(`Cannot enqueue ${this.name}`, [
        { path: 'id', expected: 'a separate enqueue() for each job with its own id', got },
      ]);
    }
    return this.#enqueue(inputs, options) as never;
  }

  async call(...args: EnqueueArguments<Input, never>): Promise<Output> {
    if (args[1] !== undefined) throw new InputError(`call() of ${this.name} takes only the input; there is no job to set options for`);
    const { app, definition } = this.#home();
    const turn = app.binding.turn?.();
    if (turn !== undefined) await turn;
    const { host } = app.binding;
    const now = host.clock.now();
    const input = args[0] as unknown;
    // Key functions get the parsed input, as they do on enqueue.
    const parsed = definition.schema ? await parseInput(definition.schema, input, `input of ${this.name}`) : input;
    const job = {
      ...this.#job(app, definition, input, now, parsed),
      status: 'running',
      attempt: 1,
      maxAttempts: 1,
      startedAt: now,
    } as const;
    let failure: { error: unknown } | undefined;
    const watched: Definition = {
      ...definition,
      run: async (parsed, context) => {
        try {
          const value = await definition.run(parsed, context);
          const steers = steering(value);
          if (!steers) return value;
          const what = isSnooze(steers) ? 'snoozed' : `cancelled itself (${steers.reason})`;
          throw new EscapementError(`${this.name} ${what}; call() has no job to snooze or cancel. Use enqueue() instead.`);
        } catch (error) {
          failure = { error };
          throw error;
        }
      },
    };
    const calling = { ...host, definitions: new Map([[this.name, watched]]) };
    return new Promise<Output>((resolve, reject) => {
      const ended = (_: RunningAttempt, settlement: Settlement | null) => {
        if (settlement?.status === 'successful') {
          resolve((settlement.returnValue === null ? undefined : decode(settlement.returnValue)) as Output);
          return;
        }
        const error = settlement?.error;
        reject(
          failure
            ? failure.error
            : Object.assign(new EscapementError(error?.message ?? 'the call was interrupted'), error ? { name: error.name } : {}),
        );
      };
      new RunningAttempt(calling, 'call', job, { ended }).start();
    });
  }

  async getResult(id: string): Promise<TaskResult<Output, Input>> {
    const { app } = this.#home();
    // A job may have been enqueued to another backend, by using({ backend }).
    const result = await findResult(app, id, [...new Set([this.backend, ...app.known.backends])]);
    if (result.task !== this.name) throw new ResultMismatchError(`job ${id} belongs to task ${result.task}, not to ${this.name}`);
    return result as TaskResult<Output, Input>;
  }

  #enqueue(
    inputs: readonly unknown[],
    options: EnqueueOptions | undefined,
  ): TaskResult<Output, Input>[] | Promise<TaskResult<Output, Input>[]> {
    // Invalid input rejects the promise like any other failure. In a caller's transaction, where nothing can wait, it throws.
    if (options?.transaction !== undefined) {
      checkEnqueueOptions(options);
      return this.#through(inputs, options.transaction, options.blobs) as TaskResult<Output, Input>[];
    }
    if (options !== undefined) {
      return (async () => {
        checkEnqueueOptions(options);
        const turn = this.#home().app.binding.turn?.();
        if (turn !== undefined) await turn;
        return this.#through(inputs, undefined, options.blobs);
      })();
    }
    const turn = this.#home().app.binding.turn?.();
    if (turn !== undefined) return turn.then(() => this.#through(inputs, undefined));
    return (async () => this.#through(inputs, undefined))();
  }

  /** Runs the enqueue through the application's middleware. */
  #through(
    inputs: readonly unknown[],
    transaction: unknown,
    blobs?: EnqueueOptions['blobs'],
  ): TaskResult<Output, Input>[] | Promise<TaskResult<Output, Input>[]> {
    const { app, definition } = this.#home();
    if (app.aroundEnqueue.length === 0) return this.#insert(inputs, transaction, blobs);
    const mayWait = !isSync(transaction);
    const using = this.#using;
    const tags = using.tags ?? definition.tags;
    const request = { task: this.name, inputs, metadata: { ...using.metadata }, tags, inTransaction: transaction !== undefined };
    const make = ({ inputs: given, metadata, tags: wanted }: EnqueueRequest) => {
      const changed = readUsing({ metadata, tags: wanted }, using, app.known, 'Invalid request of useEnqueue()');
      return new TaskHandle<Input, Output>(this.name, this.#home, changed).#insert(given, transaction, blobs) as TaskResult[];
    };
    return throughMiddleware(request, app.aroundEnqueue, make, mayWait) as TaskResult<Output, Input>[];
  }

  #insert(
    inputs: readonly unknown[],
    transaction: unknown,
    blobs?: EnqueueOptions['blobs'],
  ): TaskResult<Output, Input>[] | Promise<TaskResult<Output, Input>[]> {
    if (blobs && inputs.length !== 1) throw new InputError(`blobs belong to one job; enqueue each job of ${this.name} with its own`);
    const { app, definition } = this.#home();
    const alias = this.backend;
    const backend = app.backend(alias);
    this.#checkSupport(app, alias, transaction, blobs === undefined ? undefined : 'blobs');
    if (transaction !== undefined && backend.open() instanceof Promise) {
      throw new StoreError('the store is not open yet; call and await tasks.open() before enqueueing in a transaction', { kind: 'closed' });
    }
    const { schema } = definition;
    if (schema) {
      const parsed = inputs.map((input) => parseInput(schema, input, `input of ${this.name}`));
      if (parsed.some((value) => value instanceof Promise)) {
        if (isSync(transaction))
          throw new InputError(`the schema of ${this.name} is asynchronous, which a synchronous transaction does not support`);
        return Promise.all(parsed).then((values) => this.#store(app, definition, inputs, values, transaction, alias, blobs));
      }
      return this.#store(app, definition, inputs, parsed, transaction, alias, blobs);
    }
    return this.#store(app, definition, inputs, inputs, transaction, alias, blobs);
  }

  /** @param parsed the inputs as parsed by the schema, for the key functions */
  #store(
    app: App,
    definition: Definition,
    inputs: readonly unknown[],
    parsed: readonly unknown[],
    transaction: unknown,
    alias: string,
    given: EnqueueOptions['blobs'],
  ): TaskResult<Output, Input>[] | Promise<TaskResult<Output, Input>[]> {
    const now = app.binding.host.clock.now();
    const jobs = inputs.map((input, i) => this.#job(app, definition, input, now, parsed[i]));
    const results = (records: readonly Enqueued[]) =>
      records.map((record) => {
        if (record.job.task !== this.name)
          throw new ResultMismatchError(`the id ${record.job.id} belongs to a job of task ${record.job.task}`);
        return resultOf<Output, Input>(app, alias, record);
      });
    if (jobs.length === 0) return [];
    const once = this.#using.id !== undefined;
    const [only] = jobs;
    const blobs = given && only && blobsOf(given, only.id, this.name);
    const records = app.backend(alias).enqueue(jobs, { now, transaction, ...(once ? { once } : {}), ...(blobs ? { blobs } : {}) });
    return records instanceof Promise ? records.then(results) : results(records);
  }

  /** @internal The job of a part of a workflow, created through the application's middleware. */
  partOf(input: unknown, place: Place, inTransaction: boolean): Job | Promise<Job> {
    const { app, definition } = this.#home();
    if (app.aroundEnqueue.length === 0) return this.#part(app, definition, input, place, inTransaction);
    const using = this.#using;
    const request = {
      task: this.name,
      inputs: [input],
      metadata: { ...using.metadata },
      tags: using.tags ?? definition.tags,
      inTransaction,
    };
    let job: Job | undefined;
    const make = ({ inputs: [given], metadata, tags }: EnqueueRequest) => {
      const changed = readUsing({ metadata, tags }, using, app.known, 'Invalid request of useEnqueue()');
      const made = new TaskHandle<Input, Output>(this.name, this.#home, changed).#part(app, definition, given, place, inTransaction);
      const results = (row: Job) => {
        job = row;
        return [resultOf(app, this.backend, { job: row, attempts: [] })] as TaskResult[];
      };
      return made instanceof Promise ? made.then(results) : results(made);
    };
    const done = throughMiddleware(request, app.aroundEnqueue, make);
    return done instanceof Promise ? done.then(() => job as Job) : (job as Job);
  }

  #part(app: App, definition: Definition, input: unknown, place: Place, inTransaction: boolean): Job | Promise<Job> {
    this.#checkSupport(app, this.backend, inTransaction ? true : undefined, 'workflows');
    const using = this.#using;
    const { schema, concurrency, rate } = definition;
    const isFilled = place.part.fill !== 'none';
    const read = new OptionReader(`Cannot enqueue ${this.name} in a workflow`);
    const refuse = (path: string, expected: string, got: string) => void read.faults.push({ path, expected, got });
    if (using.id !== undefined) refuse('id', 'no id: parts of a workflow have keys', using.id);
    if ((using.unique ?? definition.unique) !== null)
      refuse('unique', 'a task without unique: parts of a workflow cannot be unique jobs', 'unique');
    const byKey = concurrency?.key ? 'concurrency.key' : rate?.key ? 'rate.key' : undefined;
    if (isFilled && byKey)
      refuse(
        byKey,
        'a complete input in with() or add(), because the key is computed from it at enqueue',
        'an input that contains values of other parts',
      );
    read.done();
    const make = (parsed: unknown) => {
      const { workflow, isWaiting, id, now } = place;
      const delayMs = isWaiting ? (parseDuration(using.runAfter) ?? null) : null;
      const expires = using.expires ?? definition.expires;
      const expiresMs = isWaiting && expires !== null ? (parseDuration(expires) ?? null) : null;
      const job = this.#job(app, definition, input, now, parsed, delayMs === null ? {} : { runAfter: null });
      const part = { ...place.part, delayMs, expiresMs };
      return {
        ...job,
        id,
        workflow,
        part,
        ...(isWaiting ? { status: 'waiting' as const } : {}),
        ...(expiresMs === null ? {} : { expiresAt: null }),
      };
    };
    if (!schema || isFilled) return make(input);
    const parsed = parseInput(schema, input, `input of ${this.name}`);
    if (!(parsed instanceof Promise)) return make(parsed);
    if (inTransaction) throw new InputError(`the schema of ${this.name} is asynchronous, which a synchronous transaction does not support`);
    return parsed.then(make);
  }

  #job(app: App, definition: Definition, input: unknown, now: number, parsed: unknown = input, delay?: { runAfter?: null }): Job {
    const using = this.#using;
    const unique = using.unique ?? definition.unique;
    const requestedAt = using.runAfter === undefined || delay?.runAfter === null ? null : (parseWhen(using.runAfter, now) ?? null);
    const runAfter = requestedAt ?? (unique === null || unique.waitMs === null ? null : now + unique.waitMs);
    const text = input === undefined ? null : encode(input, `input of ${this.name}`);
    const expires = using.expires ?? definition.expires;
    const request = {
      task: this.name,
      queue: using.queue ?? definition.queue,
      priority: using.priority ?? definition.priority,
      input: text,
      runAfter,
      expiresAt: expires === null ? null : (parseWhen(expires, runAfter ?? now) ?? null),
      maxAttempts: using.maxAttempts ?? definition.maxAttempts,
      tags: using.tags ?? definition.tags,
      metadata: using.metadata,
      schedule: null,
      scheduledAt: null,
      overrides: overridesOf(definition, using, unique, app.binding.host.retention),
      ...keysOf(definition, unique, text, parsed, now),
      enqueuedBy: enqueuing(),
    };
    return newJob(request, using.id ?? app.binding.host.newId(now), now);
  }

  /** @param more further features that the enqueue needs */
  #checkSupport(app: App, alias: string, transaction: unknown, more?: 'blobs' | 'workflows'): void {
    const backend = app.backend(alias);
    const { name, supports } = backend;
    const read = new OptionReader(`Cannot enqueue ${this.name}`);
    const lacks = (path: string, what: string, instead: string) =>
      read.faults.push({ path, expected: instead, got: `backend ${alias}, which is ${name}() and does not support ${what}` });
    const { runAfter, priority } = this.#using;
    if (runAfter !== undefined && !supports.defer)
      lacks('runAfter', 'deferred jobs', 'the option to be omitted, or a backend such as memory() or sqlite()');
    if (priority !== undefined && !supports.priority)
      lacks('priority', 'priorities', 'the option to be omitted, or a backend such as memory() or sqlite()');
    if (transaction !== undefined && !supports.transactions)
      lacks('transaction', 'transactions', 'the option to be omitted, or a backend such as sqlite() or postgres()');
    if (!supports.engine) this.#checkBeyond(app, (path, what) => read.faults.push(beyond(path, what, alias, backend)), more);
    read.done();
  }

  #checkBeyond(app: App, lacks: (path: string, what: string) => void, more: 'blobs' | 'workflows' | undefined): void {
    const { definition } = this.#home();
    const { unique = definition.unique, queue = definition.queue, overrides } = this.#using;
    if (more) lacks(more, more);
    if (unique) lacks('unique', 'unique jobs');
    if (definition.concurrency) lacks('concurrency', 'limits of tasks');
    if (definition.rate) lacks('rate', 'limits of tasks');
    if (isLimited(app.queueLimits[queue])) lacks(`queues.${queue}`, 'limits of queues');
    if (overrides?.retention ?? definition.retention) lacks('retention', 'a retention for the jobs of a task');
  }
}

/** @throws ConfigError for unknown options of `enqueue`; for options of the job, the message refers to `using` */
function checkEnqueueOptions(options: unknown): void {
  const read = new OptionReader('Invalid options for enqueue()');
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    read.fault('options', 'an object such as { transaction }', options);
  } else {
    for (const key of Object.keys(options)) {
      if (key === 'transaction' || key === 'blobs') continue;
      const instead = usingKeys.includes(key) ? `; pass options of the job to using({ ${key} })` : '';
      read.fault(key, `transaction or blobs${instead}`, key, instead === '' ? meant(key, ['transaction', 'blobs']) : undefined);
    }
  }
  read.done();
}

/** Validates the bytes to store with a job. */
function blobsOf(given: unknown, job: string, task: string): JobBlob[] {
  const what = `the blobs of ${task}`;
  if (typeof given !== 'object' || given === null) throw new InputError(`${what}: expected an object of bytes by name; got ${show(given)}`);
  const blobs = Object.entries(given).map(([name, bytes]) => {
    checkBlob(name, bytes, what);
    return { job, name, bytes: bytes as Uint8Array };
  });
  const total = blobs.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  if (total > maxBlobBytes) throw new InputError(`${what}: ${total} bytes in total; the maximum is ${maxBlobBytes}`);
  return blobs;
}

/** Returns the result with this id from the first of these backends that has it. */
export async function findResult(app: App, id: string, aliases: readonly string[]): Promise<TaskResult> {
  for (const alias of aliases) {
    const backend = app.backend(alias);
    if (!backend.supports.results) {
      if (aliases.length > 1) continue;
      const got = `${alias}, which is ${backend.name}() and keeps no results`;
      throw new ConfigError('The backend keeps no results', [{ path: 'backend', expected: 'a backend such as memory() or sqlite()', got }]);
    }
    const store = await backend.open();
    const [record] = await store.get([id]);
    if (record) return resultOf(app, alias, record);
  }
  throw new ResultNotFoundError(`no job has the id ${id}; finished jobs are deleted after their retention`);
}

/** A task that is not yet bound to an application. */
export interface PortableTask<Input = unknown, Output = unknown> extends Task<Input, Output> {
  /** @internal */
  readonly [portable]: Portable;
}

export const portable: unique symbol = Symbol.for('escapement.portable') as never;

/** What `register` needs to know about a portable task, and the application that registered it. */
export interface Portable {
  readonly name: string;
  readonly options: unknown;
  app: App | undefined;
}
