/**
 * A simulation: an application's own tasks, run by the engine that runs them in production, on a clock that stands still until it is told
 * to move. The test drives; between its calls nothing happens. It ends by restoring the application to what it was bound to before.
 */
import type { App, Binding } from '../app.ts';
import { EngineBackend } from '../backends/engine.ts';
import { type Duration, durationMs, type Instant, instantMs } from '../core/duration.ts';
import { SimulationDeadlockError, SimulationError, SimulationRunawayError } from '../core/errors.ts';
import { isFinished } from '../core/job.ts';
import type { Job, Status } from '../core/types.ts';
import type { Host, Logger } from '../engine/host.ts';
import { scope } from '../engine/scope.ts';
import { Worker } from '../engine/worker.ts';
import type { Backend } from '../ports/backend.ts';
import { thisMachine } from '../ports/machine.ts';
import type { Store, StoreSource } from '../ports/store.ts';
import { TaskResult } from '../result.ts';
import { appOf, hostOf, rebind, type Tasks } from '../tasks.ts';
import { Choices, type Decision, prng } from './choices.ts';
import {
  type CrashPoint,
  DrawnFaults,
  type FaultOptions,
  type FaultRates,
  Faults,
  type StoreFault,
  storeFor,
  type World,
} from './faults.ts';
import { installGlobals, refuseOtherFakes } from './globals.ts';
import { Watchman } from './invariants.ts';
import { Life } from './owners.ts';
import { exact, type SimulatedAttempt, SimulationRecord } from './record.ts';
import { where } from './resources.ts';
import { readSettings, type Settings, type SimulationOptions } from './settings.ts';
import { VirtualClock } from './virtual-clock.ts';

/** Which jobs `sim.jobs` returns. */
export interface SimulatedJobFilter {
  task?: { readonly name: string } | string;
  status?: Status | readonly Status[];
}

/** What happened, as text that is the same for the same seed. */
export interface Timeline {
  toString(): string;
  readonly lines: readonly string[];
}

/** A worker of the simulation. */
export interface SimulatedWorker {
  /**
   * Kills the worker's process: no signal, its timers and calls never settle. Its jobs are found when their leases pass.
   * @param options.restart start a new worker in its place after 1 s. Default true
   */
  crash(options?: { restart?: boolean }): void;
  /** Stops the worker's process for a while, as a debugger or a laptop's lid does; then it goes on as if nothing had been. */
  pauseFor(duration: Duration): void;
  /** Sets how far the worker's clock is ahead of the simulation's: milliseconds, negative for behind; it stays so when the worker is restarted. */
  skew(ms: number): void;
  /** Stops the worker gracefully; drive the simulation for it to end. */
  stop(options?: { timeout?: Duration }): Promise<void>;
  /** False after a crash, until it is restarted. */
  readonly alive: boolean;
}

/** A running simulation. */
export interface Simulation extends AsyncDisposable {
  /** The application that is simulated. */
  readonly tasks: Tasks;
  /** Virtual now. */
  readonly now: Date;
  /** Where virtual time began. */
  readonly startedAt: Date;
  readonly seed: number | undefined;
  /** Runs all that is due now; attempts that wait on time stay where they are. */
  drain(): Promise<void>;
  /** Moves time on, through every event on the way, in order. */
  advance(duration: Duration): Promise<void>;
  /** Moves time to an instant. @throws SimulationError when it has passed */
  advanceTo(instant: Instant): Promise<void>;
  /** Moves time to the next instant at which something happens, and returns it; undefined when nothing ever will. */
  next(): Promise<Date | undefined>;
  /**
   * Moves time on until no unfinished job is left but those of recurring schedules.
   * @param options.max how far. Default `'366d'`
   * @throws SimulationRunawayError past `max`; SimulationDeadlockError when nothing will ever start the jobs that are left
   */
  runUntilIdle(options?: { max?: Duration }): Promise<void>;
  /** The jobs so far, in the order in which they were enqueued. */
  jobs(filter?: SimulatedJobFilter): TaskResult[];
  /** The attempts so far, in the order in which they started. */
  attempts(task?: { readonly name: string } | string): SimulatedAttempt[];
  /** What happened, line by line. */
  timeline(): Timeline;
  worker(index: number): SimulatedWorker;
  /**
   * One of `count` possibilities, drawn as every other choice of the simulation is: by its seed, or 0 without one. `point` names the choice.
   * @example if (sim.choose('customer cancels', 2) === 1) await result.cancel();
   */
  choose(point: string, count: number): number;
  readonly store: {
    /**
     * Makes the store's next calls fail.
     * @example sim.store.fail('busy', { on: 'settle', times: 2 })
     */
    fail(fault: StoreFault, options?: FaultOptions): void;
  };
  /**
   * Crashes a worker at a point of its work; it is back after 1 s.
   * @param options.at `in run`: when the task's function has begun, and waits
   * @param options.task only where this task is concerned
   * @param options.nth the first, the second … time that a worker comes there. Default 1
   */
  crash(options: { at: CrashPoint; task?: { readonly name: string } | string; nth?: number }): void;
  /**
   * Deploys another application on the same stores: starts workers of it, and stops those that run gracefully, as a deploy does. Schedules and
   * jobs stay; what the new one does not know waits for one that does.
   * @param options.workers how many. Default: as many as the simulation began with
   * @param options.beside true: the workers that run go on, beside the new ones
   */
  deploy(tasks: Tasks, options?: { workers?: number; beside?: boolean }): void;
  /** What was, at an instant that has passed: the jobs as they were then, and what had happened. */
  at(instant: Instant): { jobs(filter?: SimulatedJobFilter): TaskResult[]; timeline(): Timeline };
  readonly scheduler: {
    /** No worker turns occurrences into jobs until `start`: as if no scheduler ran. */
    stop(): void;
    start(): void;
  };
  /** The occurrences of a schedule that have made a job so far, and the instants at which it was run by hand, in order. */
  fires(schedule: string): Date[];
  /** Ends the simulation and restores the application. @throws SimulationError when finished attempts left timers behind */
  end(): Promise<void>;
}

let running: Simulated | undefined;

/** The simulation that is running in this process, if one is: what matchers on tasks read. */
export function currentSimulation(): Simulation | undefined {
  return running;
}

/**
 * Binds the application to virtual time until the simulation ends.
 * @throws SimulationError when another simulation, fake timers or a worker is running
 * @example
 * await using sim = await simulate(tasks, { now: '2026-03-28T00:00:00Z' });
 * await sendWelcome.enqueue({ userId: 'u1' });
 * await sim.runUntilIdle();
 */
export function simulate(tasks: Tasks, options: SimulationOptions = {}): Promise<Simulation> {
  return begin(tasks, options, {});
}

/** What an exploration sets beyond the options of `simulate`. */
export interface Course {
  /** The choices of the run; else its seed draws them. */
  readonly choices?: Choices;
  /** Faults are drawn at these rates. */
  readonly rates?: FaultRates;
  /** A watchman looks on. */
  readonly watched?: boolean;
  /** What stands between a worker and its store: for those who want to see that the watchman sees. */
  readonly between?: ((store: Store, worker: string) => Store) | undefined;
}

/** A simulation on a given course. */
export async function begin(tasks: Tasks, options: SimulationOptions, course: Course): Promise<Simulated> {
  const app = appOf(tasks);
  const settings = readSettings(options, app);
  if (running) {
    throw new SimulationError(
      'another simulation is running in this process; end it first (await sim.end()). Tests with simulations cannot be concurrent in one file.',
    );
  }
  if (app.workers.size > 0)
    throw new SimulationError('a worker of this application is running; stop it before simulating (await worker.stop())');
  if (app.closed) throw new SimulationError('the application was closed by tasks.close(); make another with createTasks()');
  if (settings.globals) refuseOtherFakes();
  const sim = new Simulated(tasks, settings, course);
  running = sim;
  try {
    await sim.begin();
  } catch (error) {
    await sim.end().catch(() => {});
    throw error;
  }
  return sim;
}

const none: readonly never[] = [];
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
function bound(target: object, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
const restartAfterMs = 1_000;
/** What workers are given to end when another version takes their place. */
const graceMs = 25_000;
/** So many instants without an event, and it is worth asking whether there will ever be one. */
const quietSteps = 100;
/** So many instants without an event, and the store is asked whether what is unfinished has ended untold. */
const quietLooks = 10;

/** An application that is deployed, and its part in the simulation. */
interface Version {
  readonly app: App;
  readonly host: Host;
}

class Place {
  readonly index: number;
  readonly version: Version;
  life: Life;
  /** Another version has taken its place: it is not started again. */
  retired = false;
  /** One for each store; all of them one process. */
  workers: Worker[] = [];
  starts = 0;
  skewMs = 0;
  constructor(index: number, life: Life, version: Version) {
    this.index = index;
    this.life = life;
    this.version = version;
  }
}

export class Simulated implements Simulation {
  readonly tasks: Tasks;
  readonly record = new SimulationRecord();
  readonly #app: App;
  readonly #settings: Settings;
  readonly #choices: Choices;
  readonly #clock: VirtualClock;
  readonly #host: Host;
  readonly #versions: Version[] = [];
  readonly #faults = new Faults();
  readonly #stores = new Map<StoreSource, Store>();
  readonly #places: Place[] = [];
  readonly #undo: (() => void)[] = [];
  #driving: string | undefined;
  #ended = false;
  readonly store = {
    fail: (fault: StoreFault, options?: FaultOptions) => {
      for (const { life } of this.#places) this.#trouble(life, 0);
      this.#faults.add(fault, options);
    },
  };

  readonly scheduler = { stop: () => this.#faults.stopScheduling(), start: () => this.#faults.startScheduling() };

  constructor(tasks: Tasks, settings: Settings, { choices, rates, watched, between }: Course) {
    this.#between = between;
    const app = appOf(tasks);
    this.tasks = tasks;
    this.#app = app;
    this.#settings = settings;
    this.#choices = choices ?? new Choices(settings.seed);
    this.#clock = new VirtualClock({ now: settings.now, choices: this.#choices, realBudgetMs: settings.realBudgetMs });
    this.#host = this.#hostFor(app);
    this.#versions.push({ app, host: this.#host });
    if (watched) {
      this.#watchman = new Watchman({
        definition: (name) => this.#versions.findLast((version) => version.app.definitions.has(name))?.app.definitions.get(name),
        troubledAt: (worker) => this.#troubles.get(worker) ?? Number.POSITIVE_INFINITY,
        label: (id) => this.record.label(id),
        // What is wrong may go on for ever: it is not waited for.
        found: (problem) => this.#clock.fail(new SimulationError(problem)),
      });
    }
    if (rates) this.#faults.drawn = new DrawnFaults({ ...this.#world, choices: this.#choices }, rates);
  }

  #hostFor(app: App): Host {
    const { retention } = this.#settings;
    return hostOf(app, this.#clock, this.#choices, { logger: silent, retention, machine: { ...thisMachine, host: 'simulation', pid: 0 } });
  }

  #watchman: Watchman | undefined;
  readonly #between: Course['between'];
  /** When something last went wrong with each worker's process. */
  readonly #troubles = new Map<string, number>();

  readonly #world: Omit<World, 'choices'> = {
    now: () => this.#clock.now(),
    crash: (life) => this.#crash(this.#placeOf(life), true),
    trouble: (life) => this.#trouble(life, 0),
    pause: (life, ms) => {
      this.#trouble(life, ms);
      life.pausedUntil = Math.max(life.pausedUntil, this.#clock.now() + ms);
    },
    lag: (life, ms) => this.#clock.lag(life, ms),
    later: (life, ms, fn) => void this.#clock.arm(this.#clock.now() + ms, fn, life),
    note: (life, text) => this.record.add({ type: 'note', at: this.#clock.now(), worker: life.name, text }),
  };

  /** The decisions by which each drawn fault has happened, by its code. */
  get fired(): ReadonlyMap<string, readonly Decision[]> {
    return this.#faults.drawn?.fired ?? new Map();
  }

  choose(point: string, count: number): number {
    return this.#choices.choose(`op.${point.replace(/[^\w.-]+/g, '-')}`, count);
  }

  /** Nothing goes wrong from here on; every worker is there, and its clock is right. */
  async heal(): Promise<void> {
    this.#use();
    this.#faults.heal();
    for (const place of this.#places) {
      place.life.pausedUntil = Number.NEGATIVE_INFINITY;
      place.life.skewMs = 0;
      if (place.life.dead && !place.retired) this.#start(place.index, place.version);
    }
    await this.drain();
  }

  /** What the watchman has found. @param options.whole all is over: nothing may be left */
  async verify({ whole }: { whole: boolean }): Promise<readonly string[]> {
    if (!this.#watchman) return [];
    if (!whole) return this.#watchman.problems;
    const main = this.#stores.get(this.#settings.stores.get('default') as StoreSource) as Store;
    await this.#watchman.final(main, this.#clock.now());
    return this.#watchman.problems;
  }

  #trouble(life: Life, ms: number): void {
    this.#troubles.set(life.name, Math.max(this.#troubles.get(life.name) ?? 0, this.#clock.now() + ms));
  }

  /** What a process did to the store just before it died was told to nobody. True if there was such a thing. */
  async #catchUp(): Promise<boolean> {
    const store = this.#stores.get(this.#settings.stores.get('default') as StoreSource) as Store;
    const records = await store.get(this.record.unfinished.map(({ id }) => id));
    if (this.#watchman) for (const [i, { id }] of this.record.unfinished.entries()) if (records[i] === null) this.#watchman.lost(id);
    const over = records.filter((found) => found !== null && isFinished(found.job));
    for (const found of over) if (found) this.record.correct(found);
    return over.length > 0;
  }

  #placeOf(life: Life): Place {
    return this.#places.find((place) => place.life === life) as Place;
  }

  get now(): Date {
    return new Date(this.#clock.now());
  }
  get startedAt(): Date {
    return new Date(this.#settings.now);
  }
  get seed(): number | undefined {
    return this.#settings.seed;
  }

  async begin(): Promise<void> {
    const { globals, workers, stores, seed, record } = this.#settings;
    for (const source of new Set(stores.values())) {
      const store = await source.open();
      await store.migrate();
      this.#stores.set(source, this.#watchman && source === stores.get('default') ? this.#watchman.watch(store) : store);
    }
    if (record) this.#undo.push(this.#app.events.on('*', this.record.add));
    this.#undo.push(rebind(this.#app, this.#binding(this.#host)));
    if (globals) {
      const draw = prng((seed ?? 0) + 1);
      this.#undo.push(installGlobals(this.#clock, () => draw() / 4_294_967_296));
    }
    this.#clock.onImpure = (attempt, what) => {
      this.record.add({
        type: 'note',
        at: this.#clock.now(),
        worker: attempt.worker,
        text: `${attempt.task} attempt ${attempt.attempt} ended while it waited on ${what}`,
      });
    };
    for (let i = 0; i < workers; i++) this.#start(i, this.#versions[0] as Version);
    await this.#clock.settle();
  }

  drain(): Promise<void> {
    return this.#drive('drain', () => this.#clock.settle());
  }

  advance(duration: Duration): Promise<void> {
    return this.#drive('advance', () => this.#clock.advanceTo(this.#clock.now() + durationMs(duration, 'sim.advance()')));
  }

  advanceTo(instant: Instant): Promise<void> {
    return this.#drive('advanceTo', () => {
      const target = instantMs(instant, 'sim.advanceTo()');
      if (target < this.#clock.now()) {
        throw new SimulationError(
          `advanceTo(${new Date(target).toISOString()}): virtual time is at ${this.now.toISOString()} already, and does not go back`,
        );
      }
      return this.#clock.advanceTo(target);
    });
  }

  next(): Promise<Date | undefined> {
    return this.#drive('next', async () => {
      this.#needRecord('next');
      await this.#clock.settle();
      const before = this.record.length;
      await this.#clock.advanceTo(Number.POSITIVE_INFINITY, () => this.record.length > before);
      return this.record.length > before ? this.now : undefined;
    });
  }

  runUntilIdle(options: { max?: Duration } = {}): Promise<void> {
    return this.#drive('runUntilIdle', async () => {
      this.#needRecord('runUntilIdle');
      const maxMs = durationMs(options.max ?? '366d', 'sim.runUntilIdle().max');
      const until = this.#clock.now() + maxMs;
      const idle = () => this.record.unfinishedCount === 0;
      await this.#clock.settle();
      let before = this.record.length;
      for (let quiet = 0; !idle(); quiet = this.record.length === before ? quiet + 1 : 0) {
        before = this.record.length;
        if (quiet % quietLooks === quietLooks - 1 && (await this.#catchUp())) continue;
        const { nextAt } = this.#clock;
        if (nextAt === undefined || (quiet > 0 && quiet % quietSteps === 0 && this.#isDeadlock())) {
          if (await this.#catchUp()) continue;
          throw new SimulationDeadlockError(`nothing will ever start the jobs that are left:\n  ${this.#leftOver()}`);
        }
        if (nextAt > until)
          throw new SimulationRunawayError(`after ${exact(maxMs)} of virtual time, jobs are still unfinished:\n  ${this.#leftOver()}`);
        await this.#clock.advanceTo(Math.min(until, nextAt), idle);
      }
    });
  }

  jobs(filter: SimulatedJobFilter = {}): TaskResult[] {
    return this.#jobsOf(this.record, filter);
  }

  deploy(tasks: Tasks, options: { workers?: number; beside?: boolean } = {}): void {
    this.#use();
    const app = appOf(tasks);
    const unknown = app.known.backends.find((alias) => !this.#settings.stores.has(alias));
    if (unknown !== undefined)
      throw new SimulationError(`the application that is deployed has a backend ${unknown}, which the first one has not`);
    const { workers = this.#settings.workers, beside = false } = options;
    if (!Number.isSafeInteger(workers) || workers < 1 || workers > 64)
      throw new SimulationError(`deploy() takes { workers }, 1 to 64; got ${workers}`);
    let version = this.#versions.find((other) => other.app === app);
    if (!version) {
      version = { app, host: { ...this.#hostFor(app), newId: this.#host.newId } };
      this.#versions.push(version);
      if (this.#settings.record) this.#undo.push(app.events.on('*', this.record.add));
      this.#undo.push(rebind(app, this.#binding(version.host)));
    }
    const old = beside ? [] : this.#places.filter(({ retired }) => !retired);
    const first = this.#places.length;
    for (let i = 0; i < workers; i++) this.#start(first + i, version);
    for (const place of old) {
      place.retired = true;
      if (!place.life.dead) for (const worker of place.workers) void worker.stop(graceMs);
    }
  }

  crash({ at, task, nth = 1 }: Parameters<Simulation['crash']>[0]): void {
    this.#use();
    const points: readonly CrashPoint[] = ['before claim', 'after claim', 'in run', 'before settle', 'after settle'];
    if (!points.includes(at)) throw new SimulationError(`crash() takes { at }, one of ${points.join(', ')}; got ${String(at)}`);
    if (!Number.isSafeInteger(nth) || nth < 1) throw new SimulationError(`crash() takes { nth }, a whole number from 1 on; got ${nth}`);
    this.#faults.crashAt(at, typeof task === 'object' ? task.name : task, nth);
    if (at !== 'in run' || this.#crashing) return;
    this.#crashing = true;
    this.#undo.push(
      this.#app.events.on('started', (event) => {
        if (event.type !== 'started' || !this.#faults.crashes('in run', (name) => name === event.job.task)) return;
        const place = this.#places.find(({ life }) => life.name === event.worker);
        if (place) this.#clock.arm(this.#clock.now(), () => this.#crash(place, true), undefined);
      }),
    );
  }
  #crashing = false;

  at(instant: Instant): { jobs(filter?: SimulatedJobFilter): TaskResult[]; timeline(): Timeline } {
    this.#needRecord('at');
    const at = instantMs(instant, 'sim.at()');
    if (at > this.#clock.now())
      throw new SimulationError(`at(${new Date(at).toISOString()}) has not come yet: virtual time is at ${this.now.toISOString()}`);
    const past = this.record.upTo(at);
    const lines = past.lines(this.#settings.now);
    return { jobs: (filter = {}) => this.#jobsOf(past, filter), timeline: () => ({ lines, toString: () => lines.join('\n') }) };
  }

  #jobsOf(past: SimulationRecord, filter: SimulatedJobFilter): TaskResult[] {
    const name = typeof filter.task === 'string' ? filter.task : filter.task?.name;
    const statuses = filter.status === undefined ? undefined : typeof filter.status === 'string' ? [filter.status] : filter.status;
    const results: TaskResult[] = [];
    for (const record of past.jobs) {
      if (name !== undefined && record.job.task !== name) continue;
      const alias = this.record.aliases.get(record.job.id) ?? 'default';
      const result = new TaskResult(this.#bound, alias, this.#bound.backends.get(alias) as Backend, record);
      if (!statuses || statuses.includes(result.status)) results.push(result);
    }
    return results;
  }

  attempts(task?: { readonly name: string } | string): SimulatedAttempt[] {
    const name = typeof task === 'object' ? task.name : task;
    return this.record.attempts.filter((attempt) => name === undefined || attempt.task === name);
  }

  fires(schedule: string): Date[] {
    this.#needRecord('fires');
    const instants = this.record.jobs.flatMap(({ job }) => (job.schedule === schedule ? (job.scheduledAt ?? []) : []));
    return instants.sort((a, b) => a - b).map((at) => new Date(at));
  }

  timeline(): Timeline {
    const lines = this.record.lines(this.#settings.now);
    return { lines, toString: () => lines.join('\n') };
  }

  worker(index: number): SimulatedWorker {
    const place = this.#places[index];
    if (!place)
      throw new SimulationError(`there is no worker ${index}; this simulation has ${this.#places.length} (simulate(tasks, { workers }))`);
    return {
      crash: (options) => this.#crash(place, options?.restart ?? true),
      skew: (ms) => {
        if (!Number.isSafeInteger(ms)) throw new SimulationError(`skew() takes whole milliseconds, negative ones too; got ${ms}`);
        place.skewMs = ms;
        place.life.skewMs = ms;
        this.#trouble(place.life, 0);
        this.#note(place, `its clock is ${ms} ms off`);
      },
      pauseFor: (duration) => this.#pause(place, durationMs(duration, 'pauseFor()')),
      stop: async (options) => {
        const graceMs = durationMs(options?.timeout ?? '25s', 'stop().timeout');
        const { life } = place;
        // A process that is gone has nothing to stop, and one that is killed while it stops never answers.
        if (life.dead) return;
        const killed = new Promise<void>((resolve) => life.whenDead.push(resolve));
        await Promise.race([Promise.all(place.workers.map((worker) => worker.stop(graceMs))), killed]);
      },
      get alive() {
        return !place.life.dead;
      },
    };
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const leaks = this.#clock.leaks();
    for (const undo of this.#undo.splice(0).reverse()) undo();
    for (const place of this.#places) this.#clock.kill(place.life);
    this.#clock.close();
    if (running === this) running = undefined;
    for (const store of this.#stores.values()) await store.close();
    if (leaks.length === 0) return;
    const lines = leaks.map(
      ({ scope: { id, attempt }, site }) => `${this.record.label(id)} attempt ${attempt}: a timer set at ${where(site)}`,
    );
    throw new SimulationError(
      `attempts that have ended left work behind, which would go on in production with nobody waiting for it:\n  ${[...new Set(lines)].join('\n  ')}\n` +
        'Await it in the task, or clear the timer when the task ends.',
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  /** One driver at a time, and never from inside a task. */
  async #drive<T>(call: string, fn: () => Promise<T>): Promise<T> {
    this.#use();
    if (scope.getStore())
      throw new SimulationError(`sim.${call}() was called inside a task; only the test moves time. Tasks wait with ctx.sleep().`);
    if (this.#driving) throw new SimulationError(`sim.${call}() was called while sim.${this.#driving}() has not ended; await it first`);
    this.#driving = call;
    try {
      return await fn();
    } finally {
      this.#driving = undefined;
    }
  }

  #use(): void {
    const attempt = scope.getStore();
    // Code of a killed process that something outside of it has woken.
    if (attempt && this.#clock.isDead(attempt))
      throw new SimulationError(`worker ${attempt.worker} has crashed; its code does nothing more`);
    if (this.#ended) throw new SimulationError('this simulation has ended; what belongs to it can be used no more');
  }

  #needRecord(call: string): void {
    if (!this.#settings.record)
      throw new SimulationError(`sim.${call}() reads the record of what happens; simulate() was called with record: false`);
  }

  #start(index: number, version: Version): void {
    const place = this.#places[index] ?? new Place(index, new Life(`w${index}`), version);
    this.#places[index] = place;
    const id = place.starts === 0 ? `w${index}` : `w${index}.${place.starts}`;
    place.starts += 1;
    place.life = new Life(id);
    const { drawn } = this.#faults;
    this.#trouble(place.life, 0);
    place.life.skewMs = drawn ? drawn.skewOf(place.life) : place.skewMs;
    const { app } = version;
    const host = {
      ...version.host,
      clock: this.#clock.forLife(place.life),
      ...(drawn ? { definitions: this.#befallen(app, drawn, place.life) } : {}),
    };
    const main = this.#settings.stores.get('default');
    const settings = { id, concurrency: this.#settings.concurrency, queues: undefined, excludeQueues: undefined, scheduler: true };
    place.workers = [...this.#stores].map(([source, store]) => {
      const { life } = place;
      const crash = { now: () => this.#crash(place, true), taskOf: (job: string) => this.record.job(job)?.task };
      const view = storeFor(this.#between?.(store, id) ?? store, this.#faults, life, crash);
      return new Worker(host, view, source === main ? () => app.schedules : () => none, { ...settings, scheduler: source === main });
    });
    for (const worker of place.workers) worker.start();
  }

  /** The application's tasks as they run on one process, where something may befall them. */
  #befallen({ definitions }: App, drawn: DrawnFaults, life: Life): Host['definitions'] {
    const get = (name: string) => {
      const definition = definitions.get(name);
      return definition && { ...definition, run: drawn.handler(definition, () => life) };
    };
    return new Proxy(definitions, { get: (target, key) => (key === 'get' ? get : bound(target, key)) });
  }

  #crash(place: Place, restart: boolean): void {
    this.#use();
    if (place.life.dead) return;
    this.#clock.kill(place.life);
    this.#note(place, 'crashed');
    if (restart && !place.retired)
      this.#clock.arm(this.#clock.now() + restartAfterMs, () => this.#start(place.index, place.version), undefined);
  }

  #pause(place: Place, ms: number): void {
    this.#use();
    this.#trouble(place.life, ms);
    place.life.pausedUntil = Math.max(place.life.pausedUntil, this.#clock.now() + ms);
    this.#note(place, `paused for ${exact(ms)}`);
  }

  #note(place: Place, text: string): void {
    this.record.add({ type: 'note', at: this.#clock.now(), worker: place.life.name, text });
  }

  #bound!: Binding;

  #binding(host: Host): Binding {
    const backends = new Map<string, Backend>();
    for (const [alias, source] of this.#settings.stores) {
      const store = storeFor(this.#stores.get(source) as Store, this.#faults, undefined);
      const backend = new EngineBackend(host, { kind: 'store', name: source.name, open: () => store });
      const enqueue = backend.enqueue.bind(backend);
      // Rows do not say by which alias they came.
      if (alias !== 'default' && this.#settings.record) {
        backend.enqueue = (jobs, options) => {
          for (const { id } of jobs) this.record.aliases.set(id, alias);
          return enqueue(jobs, options);
        };
      }
      backends.set(alias, backend);
    }
    const binding: Binding = {
      host,
      backends,
      beforeUse: () => this.#use(),
      declare: () => {
        for (const { workers } of this.#places) for (const worker of workers) worker.declare();
      },
      beforeStart: () => {
        throw new SimulationError('a simulation has workers of its own: simulate(tasks, { workers: 2 }). Start others when it has ended.');
      },
      beforeWait: () => {
        throw new SimulationError(
          'result.wait() in a test would wait for ever: virtual time stands still. Use await sim.runUntilIdle() or sim.advance(), then refresh().',
        );
      },
    };
    this.#bound ??= binding;
    return binding;
  }

  /** Workers renew the leases of attempts that wait for each other for ever; nothing else will happen. */
  #isDeadlock(): boolean {
    return (
      this.#versions.every(({ app }) => app.schedules.length === 0) &&
      this.#clock.onlyDuties &&
      this.record.unfinished.every((job) => job.dueAt <= this.#clock.now())
    );
  }

  #leftOver(): string {
    const jobs = this.record.unfinished;
    const lines = jobs.slice(0, 10).map((job) => `${this.record.label(job.id)} is ${job.status}${this.#why(job)}`);
    if (jobs.length > 10) lines.push(`and ${jobs.length - 10} more`);
    return lines.join('\n  ');
  }

  #why(job: Job): string {
    if (job.status === 'running') return `: attempt ${job.attempt} on ${job.worker} has not ended`;
    if (job.dueAt > this.#clock.now()) return `, due in ${exact(job.dueAt - this.#clock.now())}`;
    if (this.#places.every(({ life }) => life.dead)) return ': no worker is alive';
    const { concurrency } = this.#settings;
    const busy = (worker: Worker) => worker.attempts.size >= concurrency;
    if (this.#places.every(({ life, workers }) => life.dead || workers.every(busy)))
      return `: every worker is busy (concurrency ${concurrency}), with attempts that may be waiting for it`;
    return `: no worker claims it; queue ${job.queue} may be paused, or its task unknown`;
  }
}
