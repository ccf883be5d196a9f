/**
 * `escapement dev`: workers, scheduler and dashboard in one process, in real or virtual time. When the module or one of its imports changes,
 * the new version replaces the old one. If the new version cannot be loaded, the old one keeps running.
 */
import { resolve } from 'node:path';
import { failCurrentAttempt, memory } from 'escapement';
import { parseDuration } from '../../src/core/duration.ts';
import { type Application, loadApplication, withoutTasks } from '../config.ts';
import { clean, cleanLines, plural } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { wallTime } from '../time.ts';
import { foreignExit } from '../worker/ending.ts';
import { Feed } from './feed.ts';
import { Modules } from './modules.ts';
import { endBySignal, openDashboard } from './open.ts';
import { eventLine, localZone } from './plain.ts';
import { backendFor, type DevelopOptions, DevSessions, type Rewound, type Running } from './sessions.ts';

// The real timers, even while a simulation replaces the globals.
const { setTimeout, clearTimeout, setImmediate } = globalThis;

const settleMs = 120;
/** Loading a module for longer than this is reported. */
const slowMs = 5_000;

/** Loads the current module and opens its store, so that errors appear before it replaces the running version. */
async function loadReady({ module, virtual }: DevelopOptions, io: Io): Promise<Application> {
  const application = await loadApplication(module, io);
  if (virtual) return application;
  try {
    await application.tasks.open();
    return application;
  } catch (error) {
    await application.tasks.close().catch(() => {});
    throw error;
  }
}

export async function develop(options: DevelopOptions, io: Io): Promise<ExitCode> {
  const feed = new Feed();
  const { module: label, theme, zone = options.virtual ? 'UTC' : localZone() } = options;
  let now = io.now;
  const { dashboard, restoreConsole } = await openDashboard({ label, write: true, zone, theme, feed, alone: false }, () => now(), io);
  const backend = await backendFor(options, io);
  const modules = new Modules({ backend: options.virtual ? undefined : backend, memory });
  const notify = (text: string) => (dashboard ? dashboard.notify('error', text) : io.stderr.write(`escapement: ${clean(text)}\n`));
  try {
    const first = await loadApplication(options.module, io);
    const warnIfEmpty = (application: Application) => {
      const warning = withoutTasks(application);
      if (warning !== undefined) notify(warning);
    };
    warnIfEmpty(first);
    // Without a dashboard no key can start time, so it runs from the start.
    const sessions = new DevSessions(
      { ...options, paused: dashboard !== undefined && !options.play },
      io,
      feed,
      backend ?? memory(),
      (error) => notify(`play(sim): ${messageOf(error)}`),
    );
    let running = await sessions.begin(first, undefined);
    now = () => running.run?.now ?? io.now();
    io.process.onFault((fault) => {
      failCurrentAttempt(fault);
      // Also as an event, which stays readable after later notices.
      feed.print(now(), `uncaught: ${messageOf(fault)}`);
      notify(`uncaught: ${messageOf(fault)}`);
    });
    io.process.onForeignExit((code) => {
      // Restore the terminal first; otherwise this message could not be read.
      dashboard?.terminal.stop();
      io.stderr.write(`escapement: ${foreignExit(code)}\n`);
      return code || exitCodes.refused;
    });
    if (!dashboard) return await runPlain(running, options, io, feed, zone);
    endBySignal(dashboard, io);
    let superseded = () => {};
    /** The current module, ready to start. Undefined if it cannot be loaded, which is reported; nothing else changes. */
    const reload = async (): Promise<Application | undefined> => {
      modules.renew();
      const newer = new Promise<undefined>((done) => {
        superseded = () => done(undefined);
      });
      const broken = (text: string) => {
        const lines = cleanLines(text);
        for (const line of lines) feed.print(now(), line);
        dashboard.dispatch({ type: 'broken', lines });
      };
      const slow = setTimeout(() => broken(`${label} has not loaded after ${slowMs / 1_000} s: a top-level await is pending`), slowMs);
      try {
        return await Promise.race([loadReady(options, io), newer]);
      } catch (error) {
        broken(error instanceof Error ? error.message : String(error));
        return undefined;
      } finally {
        clearTimeout(slow);
        watchAgain();
      }
    };
    const reloads = new Reloads(async () => {
      const application = await reload();
      if (!application) return;
      await dashboard.exchange(async () => {
        const resumed = running.run && { now: running.run.now, playing: !running.run.still, speed: running.run.clock.speed };
        await running.stop();
        running = await sessions.begin(application, resumed && { ...resumed, now: Math.max(resumed.now, running.run?.now ?? 0) });
        return running;
      });
      dashboard.dispatch({ type: 'loaded' });
      warnIfEmpty(application);
    }, notify);
    dashboard.onRewind = async (at) => {
      const application = await reload();
      if (!application) return dashboard.notify('error', 'cannot rewind: the current module cannot be loaded');
      // Nothing is lost up to here.
      if (!dashboard.showProgress('rewinding')) return dashboard.notify('done', 'rewind cancelled');
      const { run } = running;
      const from = run?.clock.startedAt ?? at;
      const target = instantText(at, zone);
      let rewound: Rewound | undefined;
      await dashboard.exchange(async () => {
        await running.stop(0);
        rewound = await sessions.rewind(application, at, run?.clock.speed ?? 60, (here) => {
          const part = Math.floor((100 * (here - from)) / Math.max(1, at - from));
          return dashboard.showProgress(`${part} %  ${instantText(here, zone)} of ${target}`);
        });
        running = rewound.running;
        return running;
      });
      if (rewound) dashboard.notify('done', rewoundText(rewound, at, zone));
    };
    const changed = () => {
      // The version being loaded is outdated, and its loading may never finish.
      superseded();
      reloads.request();
    };
    const watchAgain = () => modules.watch(resolve(io.cwd, options.module), changed, soonAfter());
    watchAgain();
    await dashboard.exchange(async () => running);
    await dashboard.start();
    // A second signal ends the process immediately.
    io.process.onSignal(() => io.process.leave(exitCodes.interrupted));
    if (!options.virtual) io.stderr.write('escapement: stopping; attempts have 5 s to finish\n');
    await running.stop();
    return exitCodes.ok;
  } finally {
    modules.close();
    restoreConsole();
  }
}

function instantText(at: number, zone: string): string {
  const { date, time } = wallTime(at, zone);
  return `${date} ${time}`;
}

function rewoundText({ running: { run }, replayed, dropped, reloaded }: Rewound, at: number, zone: string): string {
  const now = run?.now ?? at;
  return [
    now < at ? `stopped at ${instantText(now, zone)}` : `back at ${instantText(at, zone)}`,
    ...(replayed > 0 ? [`${plural(replayed, 'action')} replayed`] : []),
    ...(dropped > 0 ? [`${plural(dropped, 'later action')} discarded`] : []),
    ...(reloaded ? ['reloaded since then: this is the result of the current code'] : []),
  ].join('; ');
}

/** Runs one reload at a time. A reload requested in the meantime runs after it. */
class Reloads {
  readonly #reload: () => Promise<void>;
  readonly #failed: (text: string) => void;
  #busy = false;
  #reloadAgain = false;

  constructor(reload: () => Promise<void>, failed: (text: string) => void) {
    this.#reload = reload;
    this.#failed = failed;
  }

  request(): void {
    if (this.#busy) {
      this.#reloadAgain = true;
      return;
    }
    this.#busy = true;
    this.#reloadAgain = false;
    void this.#reload()
      .catch((error: unknown) => this.#failed(`the new version cannot start: ${messageOf(error)}`))
      .then(() => {
        this.#busy = false;
        if (this.#reloadAgain) this.request();
      });
  }
}

/** Debounces changes: editors write a file in several steps. */
function soonAfter(): (fn: () => void) => void {
  let timer: NodeJS.Timeout | undefined;
  return (fn) => {
    clearTimeout(timer);
    timer = setTimeout(fn, settleMs);
  };
}

const dayMs = 86_400_000;

/** Prints events as lines until a signal or, in virtual time, until the end of the module's period. */
async function runPlain(running: Running, options: DevelopOptions, io: Io, feed: Feed, zone: string): Promise<ExitCode> {
  let isStopping = false;
  let resolveEnd = () => {};
  const end = () => {
    isStopping = true;
    resolveEnd();
  };
  io.process.onSignal(end);
  io.process.onOutputClosed(end);
  let printed = 0;
  const print = () => {
    const newEvents = feed.events.filter(({ seq }) => seq > printed).toReversed();
    printed = newEvents.at(-1)?.seq ?? printed;
    io.stdout.write(newEvents.map((event) => `${eventLine(event, zone)}\n`).join(''));
  };
  const { run } = running;
  if (run) {
    const until = run.now + (options.speed === undefined ? (parseDuration(running.period ?? '1d') ?? dayMs) : Number.POSITIVE_INFINITY);
    if (options.speed === undefined) run.order({ kind: 'until', at: until });
    while (!isStopping && run.now < until && !run.still) {
      await run.slice();
      print();
      await new Promise<void>((done) => setImmediate(done));
    }
  } else {
    const off = running.tasks.on('*', print);
    await new Promise<void>((done) => {
      resolveEnd = done;
      if (isStopping) done();
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
