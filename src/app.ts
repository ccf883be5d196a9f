/**
 * One application as everything below the public surface sees it: its tasks, schedules and options, and what it is bound to at present:
 * a host (time, chance, events) and a backend for each alias. A simulation binds it to others and back: that is the one seam.
 */

import type { Application, Identity } from './applications.ts';
import type { BackendSource } from './backends/dummy.ts';
import type { Definition } from './core/definition.ts';
import { ConfigError, DuplicateTaskError, UnknownTaskError } from './core/errors.ts';
import type { Emitter } from './core/events.ts';
import { type Limit, type Limits, limitsOf } from './core/gate.ts';
import type { CodeSchedule } from './core/schedule.ts';
import type { Host, Logger, Retention } from './engine/host.ts';
import type { Worker } from './engine/worker.ts';
import type { Known } from './options.ts';
import { nearest } from './options.ts';
import type { Backend } from './ports/backend.ts';
import type { StoreSource } from './ports/store.ts';

/** What the application runs on at present. */
export interface Binding {
  readonly host: Host;
  readonly backends: ReadonlyMap<string, Backend>;
  /** Called before a caller outside any attempt waits for a result; may refuse. */
  readonly beforeWait?: () => void;
  /** Called before a worker of the application starts; may refuse. */
  readonly beforeStart?: () => void;
  /** Called before anything is asked of a backend; may refuse. */
  readonly beforeUse?: () => void;
  /** When the caller may enqueue or call, if that is not at once: attempts that work beside each other have an order in virtual time. */
  readonly turn?: () => Promise<void> | undefined;
  /** Called when a schedule is defined while workers that the application does not hold may run. */
  readonly declare?: () => void;
}

/** What workers of a replaced application have to end. */
const replacedGraceMs = 25_000;

export class App implements Application {
  readonly definitions = new Map<string, Definition>();
  /** Another array once one is added. */
  schedules: readonly CodeSchedule[] = [];
  readonly workers = new Set<Worker>();
  readonly known: Known;
  readonly sources: ReadonlyMap<string, StoreSource | BackendSource>;
  readonly queueLimits: Readonly<Record<string, Limit>>;
  readonly defaults: unknown;
  readonly retention: Retention;
  readonly logger: Logger;
  /** As the application gave it. */
  readonly ownLogger: Logger | null;
  readonly events: Emitter;
  binding: Binding;
  closed = false;
  identity: Identity | undefined;
  replaced = false;
  #names: readonly string[] = Object.freeze([]);
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
    this.binding = bind(this);
  }

  stopWorkers(): void {
    if (this.workers.size === 0) return;
    this.logger.info(
      { workers: [...this.workers].map(({ id }) => id) },
      'the application was made again, by a reload of its module; the workers of the former one stop',
    );
    for (const worker of this.workers) void worker.stop(replacedGraceMs).then(() => this.workers.delete(worker));
  }

  /** The names of all tasks; the same array until one is added. */
  readonly names = (): readonly string[] => this.#names;

  /** The limits of all queues and tasks, or null where there are none; the same object until a task with a limit is added. */
  readonly limits = (): Limits | null => this.#limits;

  add(definition: Definition): void {
    if (this.definitions.has(definition.name)) {
      throw new DuplicateTaskError(
        `a task named ${definition.name} is defined already; names identify tasks in the store, so each can stand once`,
      );
    }
    this.definitions.set(definition.name, definition);
    this.#names = Object.freeze([...this.#names, definition.name]);
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

  /** The backend that an alias is bound to at present. */
  backend(alias: string): Backend {
    this.binding.beforeUse?.();
    const found = this.binding.backends.get(alias);
    if (found) return found;
    throw new ConfigError('Unknown backend', [
      { path: 'backend', expected: `one of ${[...this.binding.backends.keys()].join(', ')}`, got: alias },
    ]);
  }
}
