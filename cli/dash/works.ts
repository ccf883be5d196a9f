/**
 * The versions of an application at work under the dashboard, one after the other: in real time with workers of this process, or on the
 * virtual clock. A reload goes on where the version before it stood; a rewind begins anew, and does again what was recorded.
 */
import { resolve } from 'node:path';
import { memory, type StoreSource, type TaskWorker } from 'escapement';
import type { Application } from '../config.ts';
import { CommandError, type Io } from '../io.ts';
import { mailOf } from '../mail.ts';
import { parseInstant } from '../time.ts';
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
  /** Virtual time runs from the beginning. */
  readonly play: boolean;
  /** Mail leaves by its transport; else it is held. */
  readonly deliver: boolean;
}

// The real one, also while a simulation fakes the globals.
const { setImmediate } = globalThis;

const graceMs = 5_000;

/** A version of the application, at work. */
export interface Running extends Session {
  /** How long the module wants to be played, if it says so. */
  readonly period: string | number | undefined;
  /** @param graceMs how long attempts have to end. @default 5 s */
  stop(graceMs?: number): Promise<void>;
}

export async function backendFor({ backend, virtual, file }: DevelopOptions, io: Io): Promise<StoreSource | undefined> {
  if (backend === undefined) return undefined;
  if (backend === 'memory') return memory();
  const { sqlite } = await import('escapement/sqlite');
  // Instants of a virtual clock have no place in a file that outlives it.
  return sqlite({ file: virtual ? ':memory:' : resolve(io.cwd, file) });
}

/** What became of a rewind. */
export interface Rewound {
  readonly running: Running;
  /** How many actions of the user were done again, and how many forgotten. */
  readonly again: number;
  readonly dropped: number;
  /** It is another version of the module that did what was done before. */
  readonly reloaded: boolean;
}

/** Where a version takes over. */
interface Resumed {
  readonly now: number;
  readonly playing: boolean;
  readonly speed: number;
}

export class Works {
  readonly #options: DevelopOptions & { readonly paused: boolean };
  readonly #io: Io;
  readonly #feed: Feed;
  readonly #source: StoreSource;
  readonly #playFailed: (error: unknown) => void;
  /** Of every version, until time begins anew. */
  #store: StoreSource;
  #starts = 0;
  /** Where virtual time began. */
  #startedAt: number | undefined;
  #recorded: Recorded[] = [];
  #reloaded = false;

  /** @param options.paused virtual time stands still at first */
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
   * Virtual time begins anew, with nothing but what was recorded up to an instant, and is driven there; what was recorded after it is forgotten.
   * @param goesOn asked again and again on the way; false: it stays where it is
   */
  async rewind(application: Application, at: number, speed: number, goesOn: (now: number) => boolean): Promise<Rewound> {
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
    await run?.replay(actions, at, perform, () => goesOn(run.now));
    return { running, again: this.#recorded.length, dropped: before.length - this.#recorded.length, reloaded };
  }

  async #real({ tasks }: Application): Promise<Running> {
    if (!this.#options.deliver) mailOf(tasks).outlet = { kind: 'held', because: 'escapement dev holds mail; --deliver sends it' };
    await tasks.open();
    const off = tasks.on('*', this.#feed.add);
    this.#starts += 1;
    const { workers = 1, concurrency = 10 } = this.#options;
    const names = Array.from({ length: workers }, (_, i) => `dev-${process.pid}-${this.#starts}${workers > 1 ? `.${i}` : ''}`);
    const crew: TaskWorker[] = names.map((id) => tasks.worker({ id, concurrency }));
    for (const worker of crew) await worker.start();
    const shared = tasks.backends.find(({ alias }) => alias === 'default')?.supports.shared ?? false;
    return {
      tasks,
      run: undefined,
      hears: true,
      shared,
      period: undefined,
      async stop(ms = graceMs) {
        await Promise.all(crew.map((worker) => worker.stop({ timeout: ms })));
        off();
        await tasks.close();
      },
    };
  }

  async #virtual({ tasks, simulation, label }: Application, resumed: Resumed | undefined): Promise<Running> {
    const { from, speed, seed, workers, concurrency, paused } = this.#options;
    const start = resumed?.now ?? from ?? parseInstant(simulation.now ?? '2026-01-01T00:00:00Z');
    if (start === undefined) throw new CommandError(`${label}: simulation.now is to be an instant with its offset`);
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
    const breathe = () => new Promise<void>((done) => setImmediate(done));
    const run = await VirtualRun.begin(tasks, simulation, plan, {
      realNow: this.#io.realNow,
      breathe,
      feed: this.#feed,
      failed: this.#playFailed,
    });
    return {
      tasks,
      run,
      hears: true,
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
