/** The options of `simulate`: their types, their defaults, and the code that reads them. */
import type { App } from '../app.ts';
import type { Duration, Instant } from '../core/duration.ts';
import type { Retention } from '../engine/host.ts';
import { OptionReader } from '../options/reader.ts';
import { readRetention } from '../options/retention.ts';
import type { RetentionOptions } from '../options/types.ts';
import type { StoreSource } from '../ports/store.ts';
import { memory } from '../stores/memory/index.ts';

/** The options of `simulate`. */
export interface SimulationOptions {
  /**
   * The start of virtual time.
   * @default '2026-01-01T00:00:00Z'
   */
  now?: Instant;
  /**
   * Determines all choices: ties at an instant, jitter, faults.
   * @default none: first in, first out, no jitter, no faults
   */
  seed?: number;
  /**
   * Number of workers: 0 … 64.
   * @default 1
   */
  workers?: number;
  /**
   * Maximum number of concurrent attempts per worker.
   * @default 10
   */
  concurrency?: number;
  /**
   * The store that keeps the jobs.
   * @default memory()
   */
  store?: StoreSource;
  /** Stores for individual aliases. */
  stores?: Record<string, StoreSource>;
  /**
   * Whether to replace Date, timers and Math.random for task code.
   * @default true
   */
  globals?: boolean;
  /**
   * How long finished jobs stay in the store, unless they or their task have their own `retention`.
   * @default 'forever'
   */
  retention?: 'forever' | RetentionOptions;
  /**
   * How long to wait for real work, in real time, before the simulation counts as stalled.
   * @default '3s'
   */
  realBudget?: Duration;
  /**
   * False: keeps no record of events, for very long runs. `jobs`, `attempts` and `timeline` are then empty.
   * @default true
   */
  record?: boolean;
  /**
   * `'steps'`: after each step that a job records, its attempt is returned to the queue and its function runs again from the top. This
   * finds code between steps that must not run twice.
   * @default none: attempts continue after a step
   */
  replay?: 'steps';
}

/** All options, parsed. */
export interface Settings {
  readonly now: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  readonly stores: ReadonlyMap<string, StoreSource>;
  readonly globals: boolean;
  readonly retention: Retention;
  readonly realBudgetMs: number;
  readonly record: boolean;
  readonly replay: boolean;
}

const forever: Retention = {
  successfulMs: Number.POSITIVE_INFINITY,
  failedMs: Number.POSITIVE_INFINITY,
  cancelledMs: Number.POSITIVE_INFINITY,
};
const optionNames = ['now', 'seed', 'workers', 'concurrency', 'store', 'stores', 'globals', 'retention', 'realBudget', 'record', 'replay'];

/**
 * Parses the options of `simulate` for an application.
 * @throws ConfigError with all faults
 */
export function readSettings(options: SimulationOptions, app: App): Settings {
  const read = new OptionReader('Invalid options for simulate()');
  const given = read.object(options, '', optionNames);
  const source = (value: unknown, path: string): StoreSource | undefined => {
    if ((value as { kind?: unknown } | null | undefined)?.kind === 'store') return value as StoreSource;
    return read.fault(path, 'a store such as memory()', value);
  };
  const shared = given.store === undefined ? memory() : source(given.store, 'store');
  const single = read.object(given.stores, 'stores', app.known.backends);
  const stores = new Map<string, StoreSource>();
  for (const alias of app.known.backends) {
    const chosen = Object.hasOwn(single, alias) ? source(single[alias], `stores.${alias}`) : shared;
    if (chosen) stores.set(alias, chosen);
  }
  const now = read.instant(given.now ?? '2026-01-01T00:00:00Z', 'now') ?? 0;
  const seed = read.integer(given.seed, 'seed', 0, Number.MAX_SAFE_INTEGER);
  const workers = read.integer(given.workers, 'workers', 0, 64) ?? 1;
  const concurrency = read.integer(given.concurrency, 'concurrency', 1, 10_000) ?? 10;
  const retention = given.retention === undefined || given.retention === 'forever' ? forever : readRetention(read, given.retention);
  const realBudgetMs = read.duration(given.realBudget, 'realBudget') ?? 3_000;
  if (given.replay !== undefined && given.replay !== 'steps') read.fault('replay', "'steps'", given.replay);
  read.done();
  return {
    now,
    seed,
    workers,
    concurrency,
    stores,
    globals: given.globals !== false,
    retention,
    realBudgetMs,
    record: given.record !== false,
    replay: given.replay === 'steps',
  };
}
