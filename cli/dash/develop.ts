/**
 * `escapement dev`: workers, scheduler and dashboard in one process, in real or in virtual time. When the module or what it imports has
 * changed, a new version takes the place of the old one; if it cannot be loaded, the old one goes on.
 */
import { resolve } from 'node:path';
import { failCurrentAttempt, type Logger, memory, type StoreSource, type TaskWorker } from 'escapement';
import { type Application, loadApplication } from '../config.ts';
import { captureConsole } from '../console.ts';
import { clean, cleanLines } from '../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../io.ts';
import { parseDuration, parseInstant } from '../time.ts';
import { Dashboard, type Session } from './dashboard.ts';
import { waitsOf } from './definitions.ts';
import { loadDrawing } from './drawing.ts';
import { Feed } from './feed.ts';
import { keptSource, Modules } from './modules.ts';
import { eventLine, isInteractive, localZone, printer } from './plain.ts';
import { type Theme, themeFor } from './theme.ts';
import { VirtualRun } from './virtual.ts';

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
  readonly paused: boolean;
}

// The real ones, also while a simulation fakes the globals.
const { setTimeout, clearTimeout, setImmediate } = globalThis;

const settleMs = 120;
const graceMs = 5_000;
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** A version of the application, at work. */
interface Running extends Session {
  /** How long the module wants to be played, if it says so. */
  readonly period: string | number | undefined;
  stop(): Promise<void>;
}

export async function develop(options: DevelopOptions, io: Io): Promise<ExitCode> {
  const interactive = isInteractive(io);
  const draw = interactive ? await loadDrawing(io.env) : undefined;
  const feed = new Feed();
  const zone = options.zone ?? (options.virtual ? 'UTC' : localZone());
  const dashboard = draw
    ? new Dashboard({
        label: options.module,
        write: true,
        zone,
        cwd: io.cwd,
        theme: themeFor(io.env, options.theme),
        feed,
        now: io.now,
        realNow: io.realNow,
        draw,
      })
    : undefined;
  const restoreConsole = captureConsole(interactive ? printer(feed, io.now) : io.stderr, () => {});
  const backend = await backendFor(options, io);
  const modules = new Modules({ keep: true, backend: options.virtual ? undefined : backend, memory });
  const works = new Works(options, io, feed, keptSource(backend ?? memory()), (error) => tell(`play(sim): ${messageOf(error)}`));
  const tell = (text: string) => (dashboard ? dashboard.tell('error', text) : io.stderr.write(`escapement: ${clean(text)}\n`));
  try {
    let running = await works.begin(await loadApplication(options.module, io), undefined);
    io.life.onFault((fault) => {
      failCurrentAttempt(fault);
      tell(`nobody caught: ${messageOf(fault)}`);
    });
    if (!dashboard) return await runPlain(running, options, io, feed, zone);
    io.life.onSignal(() => dashboard.quit());
    io.life.onOutputClosed(() => dashboard.quit());
    const reloads = new Reloads(async () => {
      modules.renew();
      let application: Application;
      try {
        application = await loadApplication(options.module, io);
      } catch (error) {
        const lines = cleanLines(error instanceof Error ? error.message : String(error));
        for (const line of lines) feed.print(io.now(), line);
        dashboard.dispatch({ type: 'broken', lines });
        return;
      } finally {
        watchAgain();
      }
      await dashboard.exchange(async () => {
        const resumed = running.run && { now: running.run.now, playing: !running.run.still, speed: running.run.clock.speed };
        await running.stop();
        running = await works.begin(application, resumed && { ...resumed, now: Math.max(resumed.now, running.run?.now ?? 0) });
        return running;
      });
      dashboard.dispatch({ type: 'loaded' });
    }, tell);
    const watchAgain = () => modules.watch(resolve(io.cwd, options.module), () => reloads.ask(), soonAfter());
    watchAgain();
    await dashboard.exchange(async () => running);
    await dashboard.start();
    // Whoever asks a second time is obeyed at once.
    io.life.onSignal(() => io.life.leave(exitCodes.interrupted));
    if (!options.virtual) io.stderr.write('escapement: stopping; attempts have 5 s to end\n');
    await running.stop();
    return exitCodes.ok;
  } finally {
    modules.close();
    restoreConsole();
  }
}

/** One reload at a time; one that is asked for meanwhile comes after it. */
class Reloads {
  readonly #reload: () => Promise<void>;
  readonly #failed: (text: string) => void;
  #busy = false;
  #again = false;

  constructor(reload: () => Promise<void>, failed: (text: string) => void) {
    this.#reload = reload;
    this.#failed = failed;
  }

  ask(): void {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    this.#again = false;
    void this.#reload()
      .catch((error: unknown) => this.#failed(`the new version cannot start: ${messageOf(error)}`))
      .then(() => {
        this.#busy = false;
        if (this.#again) this.ask();
      });
  }
}

/** An editor writes a file in several steps. */
function soonAfter(): (fn: () => void) => void {
  let timer: NodeJS.Timeout | undefined;
  return (fn) => {
    clearTimeout(timer);
    timer = setTimeout(fn, settleMs);
  };
}

async function backendFor({ backend, virtual, file }: DevelopOptions, io: Io): Promise<StoreSource | undefined> {
  if (backend === undefined) return undefined;
  if (backend === 'memory') return memory();
  const { sqlite } = await import('escapement/sqlite');
  // Instants of a virtual clock have no place in a file that outlives it.
  return sqlite({ file: virtual ? ':memory:' : resolve(io.cwd, file) });
}

/** Where a reload goes on. */
interface Resumed {
  readonly now: number;
  readonly playing: boolean;
  readonly speed: number;
}

class Works {
  readonly #options: DevelopOptions;
  readonly #io: Io;
  readonly #feed: Feed;
  readonly #store: StoreSource;
  readonly #playFailed: (error: unknown) => void;
  #starts = 0;

  constructor(options: DevelopOptions, io: Io, feed: Feed, store: StoreSource, playFailed: (error: unknown) => void) {
    this.#options = options;
    this.#io = io;
    this.#feed = feed;
    this.#store = store;
    this.#playFailed = playFailed;
  }

  begin(application: Application, resumed: Resumed | undefined): Promise<Running> {
    return this.#options.virtual ? this.#virtual(application, resumed) : this.#real(application);
  }

  async #real({ tasks }: Application): Promise<Running> {
    await tasks.open();
    const off = tasks.on('*', this.#feed.add);
    this.#starts += 1;
    const { workers = 1, concurrency = 10 } = this.#options;
    const names = Array.from({ length: workers }, (_, i) => `dev-${process.pid}-${this.#starts}${workers > 1 ? `.${i}` : ''}`);
    const crew: TaskWorker[] = names.map((id) => tasks.worker({ id, concurrency, logger: tasks.logger ?? silent }));
    for (const worker of crew) await worker.start();
    const shared = tasks.backends.find(({ alias }) => alias === 'default')?.supports.shared ?? false;
    return {
      tasks,
      run: undefined,
      waitsOf: (task) => waitsOf(tasks, task),
      hears: true,
      shared,
      period: undefined,
      async stop() {
        await Promise.all(crew.map((worker) => worker.stop({ timeout: graceMs })));
        off();
        await tasks.close();
      },
    };
  }

  async #virtual({ tasks, simulation, label }: Application, resumed: Resumed | undefined): Promise<Running> {
    const { from, speed, seed, workers, concurrency, paused } = this.#options;
    const start = resumed?.now ?? from ?? parseInstant(simulation.now ?? '2026-01-01T00:00:00Z');
    if (start === undefined) throw new CommandError(`${label}: simulation.now is to be an instant with its offset`);
    const off = tasks.on('*', this.#feed.add);
    const plan = {
      from: start,
      speed: resumed?.speed ?? speed ?? 60,
      seed: seed ?? simulation.seed,
      workers: workers ?? simulation.workers ?? 1,
      concurrency: concurrency ?? simulation.concurrency ?? 10,
      store: this.#store,
      playing: resumed?.playing ?? !paused,
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
      waitsOf: (task) => waitsOf(tasks, task),
      hears: true,
      shared: false,
      period: simulation.for,
      async stop() {
        await run.end(graceMs);
        off();
        await tasks.close();
      },
    };
  }
}

const dayMs = 86_400_000;

/** Events, line by line, until someone ends it; in virtual time, until the period that the module names is over. */
async function runPlain(running: Running, options: DevelopOptions, io: Io, feed: Feed, zone: string): Promise<ExitCode> {
  let asked = false;
  let tellEnd = () => {};
  const end = () => {
    asked = true;
    tellEnd();
  };
  io.life.onSignal(end);
  io.life.onOutputClosed(end);
  let printed = 0;
  const print = () => {
    const news = feed.events.filter(({ seq }) => seq > printed).toReversed();
    printed = news.at(-1)?.seq ?? printed;
    io.stdout.write(news.map((event) => `${eventLine(event, zone)}\n`).join(''));
  };
  const { run } = running;
  if (run) {
    const until = run.now + (options.speed === undefined ? (parseDuration(running.period ?? '1d') ?? dayMs) : Number.POSITIVE_INFINITY);
    if (options.speed === undefined) run.order({ kind: 'until', at: until });
    while (!asked && run.now < until && !run.still) {
      await run.slice();
      print();
      await new Promise<void>((done) => setImmediate(done));
    }
  } else {
    const off = running.tasks.on('*', print);
    await new Promise<void>((done) => {
      tellEnd = done;
      if (asked) done();
    });
    off();
  }
  await running.stop();
  print();
  return exitCodes.ok;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? clean(error.message) : clean(String(error));
}
