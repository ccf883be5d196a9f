/**
 * Runs the successive versions of an application under the dashboard: in real time with workers in this process, or on a virtual clock.
 * A reload continues where the previous version stopped. A rewind starts over and replays the recorded actions.
 */
import { resolve } from 'node:path';
import { memory, type StoreSource, type TaskWorker } from 'escapement';
import { parseInstant } from '../../src/core/duration.ts';
import type { Application } from '../config.ts';
import { CommandError, type Io } from '../io.ts';
import { mailOf } from '../mail.ts';
import type { Session } from './dashboard.ts';
import type { Feed } from './feed.ts';
import { keptSource } from './modules.ts';
import type { Write } from './state.ts';
import type { Theme } from './theme.ts';
import { type Recorded, VirtualRun } from './virtual.ts';
import { carryOut } from './writes.ts';

export interface DevelopOptions {
  readonly module: string;
  readonly backend: 'memory' | 'sqlite' | undefined;
  readonly file: string;
  readonly virtual: boolean;
  readonly from: number | undefined;
  readonly speed: number | undefined;
  readonly seed: number | undefined;
  readonly workers: number | undefined;
  readonly concurrency: number | undefined;
  readonly zone: string | undefined;
  readonly theme: Theme['name'] | undefined;
  /** Start playing virtual time immediately. */
  readonly play: boolean;
  /** Send mail through its transport; otherwise it is held. */
  readonly deliver: boolean;
}

// The real timer, even while a simulation replaces the globals.
const { setImmediate } = globalThis;

const graceMs = 5_000;

/** A running version of the application. */
export interface Running extends Session {
  /** The module's `simulation.for`, if set. */
  readonly period: string | number | undefined;
  /** @param graceMs the time that attempts have to finish. @default 5 s */
  stop(graceMs?: number): Promise<void>;
}

export async function backendFor({ backend, virtual, file }: DevelopOptions, io: Io): Promise<StoreSource | undefined> {
  if (backend === undefined) return undefined;
  if (backend === 'memory') return memory();
  const { sqlite } = await import('escapement/sqlite');
  // Instants of a virtual clock must not get into a file that outlives it.
  return sqlite({ file: virtual ? ':memory:' : resolve(io.cwd, file) });
}

/** The result of a rewind. */
export interface Rewound {
  readonly running: Running;
  /** The number of user actions that were replayed, and the number that were discarded. */
  readonly replayed: number;
  readonly dropped: number;
  /** True if another version of the module produced the original run. */
  readonly reloaded: boolean;
}

/** The state at which a version takes over. */
interface Resumed {
  readonly now: number;
  readonly playing: boolean;
  readonly speed: number;
}

export class DevSessions {
  readonly #options: DevelopOptions & { readonly paused: boolean };
  readonly #io: Io;
  readonly #feed: Feed;
  readonly #source: StoreSource;
  readonly #playFailed: (error: unknown) => void;
  /** Shared by all versions until a rewind. */
  #store: StoreSource;
  #starts = 0;
  /** The instant at which virtual time began. */
  #startedAt: number | undefined;
  #recorded: Recorded[] = [];
  #reloaded = false;

  /** @param options.paused start with virtual time paused */
  constructor(
    options: DevelopOptions & { readonly paused: boolean },
    io: Io,
    feed: Feed,
    source: StoreSource,
    playFailed: (error: unknown) => void,
  ) {
    this.#options = options;
    this.#io = io;
    this.#feed = feed;
    this.#source = source;
    this.#store = keptSource(source);
    this.#playFailed = playFailed;
  }

  begin(application: Application, resumed: Resumed | undefined): Promise<Running> {
    this.#reloaded ||= resumed !== undefined;
    return this.#options.virtual ? this.#virtual(application, resumed) : this.#real(application);
  }

  /**
   * Restarts virtual time and replays the actions recorded up to an instant. Later actions are discarded.
   * @param shouldContinue called repeatedly on the way; the replay stops if it returns false
   */
  async rewind(application: Application, at: number, speed: number, shouldContinue: (now: number) => boolean): Promise<Rewound> {
    const before = this.#recorded;
    const reloaded = this.#reloaded;
    const actions = before.filter((action) => action.at <= at);
    this.#recorded = [];
    this.#reloaded = false;
    this.#store = keptSource(this.#source);
    this.#feed.clear();
    const resumed = this.#startedAt === undefined ? undefined : { now: this.#startedAt, playing: false, speed };
    const running = await this.#virtual(application, resumed);
    const { run } = running;
    const perform = (write: Write) => carryOut(application.tasks, write);
    await run?.replay(actions, at, perform, () => shouldContinue(run.now));
    return { running, replayed: this.#recorded.length, dropped: before.length - this.#recorded.length, reloaded };
  }

  async #real({ tasks }: Application): Promise<Running> {
    if (!this.#options.deliver) mailOf(tasks).outlet = { kind: 'held', because: 'escapement dev holds email; --deliver sends it' };
    await tasks.open();
    const off = tasks.on('*', this.#feed.add);
    this.#starts += 1;
    const { workers = 1, concurrency = 10 } = this.#options;
    const names = Array.from({ length: workers }, (_, i) => `dev-${process.pid}-${this.#starts}${workers > 1 ? `.${i}` : ''}`);
    const taskWorkers: TaskWorker[] = names.map((id) => tasks.worker({ id, concurrency }));
    for (const worker of taskWorkers) await worker.start();
    const shared = tasks.backends.find(({ alias }) => alias === 'default')?.supports.shared ?? false;
    return {
      tasks,
      run: undefined,
      hasEvents: true,
      shared,
      period: undefined,
      async stop(ms = graceMs) {
        await Promise.all(taskWorkers.map((worker) => worker.stop({ timeout: ms })));
        off();
        await tasks.close();
      },
    };
  }

  async #virtual({ tasks, simulation, label }: Application, resumed: Resumed | undefined): Promise<Running> {
    const { from, speed, seed, workers, concurrency, paused } = this.#options;
    const start = resumed?.now ?? from ?? parseInstant(simulation.now ?? '2026-01-01T00:00:00Z');
    if (start === undefined) throw new CommandError(`${label}: simulation.now must be an instant with an offset`);
    this.#startedAt ??= start;
    const off = tasks.on('*', this.#feed.add);
    const plan = {
      from: start,
      startedAt: this.#startedAt,
      speed: resumed?.speed ?? speed ?? 60,
      seed: seed ?? simulation.seed,
      workers: workers ?? simulation.workers ?? 1,
      concurrency: concurrency ?? simulation.concurrency ?? 10,
      store: this.#store,
      playing: resumed?.playing ?? !paused,
      recorded: this.#recorded,
    };
    const yieldToEventLoop = () => new Promise<void>((done) => setImmediate(done));
    const run = await VirtualRun.begin(tasks, simulation, plan, {
      realNow: this.#io.realNow,
      yieldToEventLoop,
      feed: this.#feed,
      failed: this.#playFailed,
    });
    return {
      tasks,
      run,
      hasEvents: true,
      shared: false,
      period: simulation.for,
      async stop(ms = graceMs) {
        await run.end(ms);
        off();
        await tasks.close();
      },
    };
  }
}
