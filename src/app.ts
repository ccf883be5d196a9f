/**
 * One application as the internals see it: its tasks, schedules and options, and its current binding: a host (time, randomness, events) and
 * a backend per alias. A simulation binds it to a different host and backends and later restores the original; this is the only seam.
 */

import type { Application, Identity } from './applications.ts';
import type { BackendSource } from './backends/dummy.ts';
import type { OwnWorker } from './backends/own-worker.ts';
import type { Definition } from './core/definition.ts';
import { ConfigError, DuplicateTaskError, UnknownTaskError } from './core/errors.ts';
import type { Emitter } from './core/events.ts';
import { type Limit, type Limits, limitsOf } from './core/gate.ts';
import type { CodeSchedule } from './core/schedule.ts';
import { compensateTask } from './core/workflow.ts';
import type { AttemptMiddleware } from './engine/around.ts';
import { compensateDefinition } from './engine/compensate.ts';
import type { Host, Logger, Retention } from './engine/host.ts';
import type { EnqueueMiddleware } from './hooks.ts';
import { checkUse } from './isolate/inside.ts';
import type { Known } from './options/job.ts';
import { nearest } from './options/names.ts';
import type { Backend } from './ports/backend.ts';
import type { StoreSource } from './ports/store.ts';
import type { TaskResult } from './result.ts';

/** What the application currently runs on. */
export interface Binding {
  readonly host: Host;
  readonly backends: ReadonlyMap<string, Backend>;
  /** Called before a caller outside any attempt waits for a result; may throw. */
  readonly beforeWait?: () => void;
  /** Called before a worker of the application starts; may throw. */
  readonly beforeStart?: () => void;
  /** Called before a backend is used; may throw. */
  readonly beforeUse?: () => void;
  /** Returns when the caller may enqueue or call, if not immediately: concurrent attempts have an order in virtual time. */
  readonly turn?: () => Promise<void> | undefined;
  /** Called when a schedule is defined while workers may be running that the application does not own. */
  readonly declare?: () => void;
}

/** How long the workers of a replaced application have to finish. */
const replacedGraceMs = 25_000;

export class App implements Application {
  readonly definitions = new Map<string, Definition>();
  /** Replaced by a new array when a schedule is added. */
  schedules: readonly CodeSchedule[] = [];
  /** Middleware around attempts and around enqueues, in registration order. */
  readonly around: AttemptMiddleware[] = [];
  readonly aroundEnqueue: EnqueueMiddleware[] = [];
  readonly workers = new Set<OwnWorker>();
  readonly known: Known;
  readonly sources: ReadonlyMap<string, StoreSource | BackendSource>;
  readonly queueLimits: Readonly<Record<string, Limit>>;
  readonly defaults: unknown;
  readonly retention: Retention;
  readonly logger: Logger;
  /** The logger that the application passed. */
  readonly ownLogger: Logger | null;
  readonly events: Emitter;
  binding: Binding;
  /** Its binding outside simulations. */
  readonly ownBinding: Binding;
  /** Called when a backend is used. */
  onUse: ((backend: Backend) => void) | undefined;
  closed = false;
  identity: Identity | undefined;
  replaced = false;
  #names: readonly string[] = Object.freeze([]);
  #claimable: readonly string[] = Object.freeze([compensateTask]);
  #limits: Limits | null;

  constructor(
    options: Pick<App, 'known' | 'sources' | 'queueLimits' | 'defaults' | 'retention' | 'logger' | 'ownLogger' | 'events'>,
    bind: (app: App) => Binding,
  ) {
    this.known = options.known;
    this.sources = options.sources;
    this.queueLimits = options.queueLimits;
    this.#limits = limitsOf(options.queueLimits, []);
    this.defaults = options.defaults;
    this.retention = options.retention;
    this.logger = options.logger;
    this.ownLogger = options.ownLogger;
    this.events = options.events;
    this.ownBinding = bind(this);
    this.binding = this.ownBinding;
    const compensate = compensateDefinition({
      host: () => this.binding.host,
      backendOf: (result) => this.backend((result as TaskResult).backend),
    });
    this.definitions.set(compensateTask, compensate);
  }

  stopWorkers(): void {
    if (this.workers.size === 0) return;
    this.logger.info(
      { workers: [...this.workers].map(({ id }) => id) },
      'the application was created again because its module was reloaded; the workers of the previous one are stopping',
    );
    for (const worker of this.workers) void worker.stop(replacedGraceMs).then(() => this.workers.delete(worker));
  }

  /** The names of all tasks; the same array until a task is added. */
  readonly names = (): readonly string[] => this.#names;

  /** The names of all tasks whose jobs its workers run, including the engine's own; the same array until a task is added. */
  readonly claimable = (): readonly string[] => this.#claimable;

  /** The limits of all queues and tasks, or null if there are none; the same object until a task with a limit is added. */
  readonly limits = (): Limits | null => this.#limits;

  add(definition: Definition): void {
    if (this.definitions.has(definition.name)) {
      throw new DuplicateTaskError(
        `a task named ${definition.name} is already defined; names identify tasks in the store and must be unique`,
      );
    }
    this.definitions.set(definition.name, definition);
    this.#names = Object.freeze([...this.#names, definition.name]);
    this.#claimable = Object.freeze([...this.#names, compensateTask]);
    if (definition.concurrency || definition.rate) this.#limits = limitsOf(this.queueLimits, this.definitions.values());
  }

  addSchedule(schedule: CodeSchedule): void {
    this.schedules = [...this.schedules, schedule];
    for (const worker of this.workers) worker.declare();
    this.binding.declare?.();
  }

  definition(name: string): Definition {
    const found = this.definitions.get(name);
    if (found) return found;
    const near = nearest(name, this.#names);
    throw new UnknownTaskError(`no task is defined with the name ${name}${near ? `; did you mean ${near}?` : ''}`);
  }

  /** The backend that an alias is currently bound to. */
  backend(alias: string): Backend {
    this.binding.beforeUse?.();
    const found = this.binding.backends.get(alias);
    if (found) {
      checkUse(found);
      this.onUse?.(found);
      return found;
    }
    throw new ConfigError('Unknown backend', [
      { path: 'backend', expected: `one of ${[...this.binding.backends.keys()].join(', ')}`, got: alias },
    ]);
  }
}
