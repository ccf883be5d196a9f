/**
 * An application on the virtual clock, driven by hand: it plays at a speed, stands still, or goes on to an instant, an event or a failure.
 * It moves in slices of real time, so that the dashboard goes on beside it. What the module's own `play` asks of the simulation waits here
 * until time has come that far.
 *
 * Everything that came from outside is kept in `recorded`, with its instant: the seed and that list are what a rewind will replay.
 */
import type { StoreSource, Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import type { SimulationModule } from '../config.ts';
import { parseDuration, parseInstant } from '../time.ts';
import type { Feed } from './feed.ts';
import type { ClockOrder, VirtualClock, Write } from './state.ts';

export interface VirtualOptions {
  readonly from: number;
  readonly speed: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  /** Where jobs live; a store that outlives the simulation keeps them over a reload. */
  readonly store: StoreSource;
  readonly playing: boolean;
}

export interface Outside {
  readonly realNow: () => number;
  /** One turn of the real event loop. */
  readonly breathe: () => Promise<void>;
  readonly feed: Feed;
  /** What the module's `play` threw. */
  readonly failed: (error: unknown) => void;
}

type Goal =
  | { readonly kind: 'at'; readonly at: number }
  | { readonly kind: 'event' }
  | { readonly kind: 'failure'; readonly after: number };

/** What the module's `play` waits for. */
interface Waiting {
  readonly at: number;
  readonly until: 'time' | 'event' | 'idle';
  readonly seq: number;
  resolve(): void;
}

const sliceMs = 25;
const stepMs = 60_000;
/** A timer's longest delay: beyond it, timers fire at once. */
const farMs = 2_000_000_000;
const turnsForPlay = 200;
/** Beyond the grace time and the 4 s that attempts have after their signal. */
const lateMs = 5_000;
const stopStepMs = 100;

/** Thrown out of `sim.next()` where it is to go no further; its identity is what counts. */
class Enough extends Error {}

export class VirtualRun {
  readonly sim: Simulation;
  readonly recorded: { readonly at: number; readonly write: Write }[] = [];
  readonly #options: VirtualOptions;
  readonly #outside: Outside;
  #playing: boolean;
  #speed: number;
  #goal: Goal | undefined;
  /** Real and virtual time from which the present pace is counted. */
  #anchor: { readonly real: number; readonly virtual: number };
  #waiting: Waiting | undefined;
  #playOver = true;
  #ended = false;

  private constructor(sim: Simulation, options: VirtualOptions, outside: Outside) {
    this.sim = sim;
    this.#options = options;
    this.#outside = outside;
    this.#playing = options.playing;
    this.#speed = options.speed;
    this.#anchor = { real: outside.realNow(), virtual: options.from };
  }

  static async begin(tasks: Tasks, module: SimulationModule, options: VirtualOptions, outside: Outside): Promise<VirtualRun> {
    const { from, seed, workers, concurrency, store } = options;
    const sim = await simulate(tasks, { now: from, workers, concurrency, store, ...(seed === undefined ? {} : { seed }) });
    const run = new VirtualRun(sim, options, outside);
    if (module.play) {
      run.#playOver = false;
      void Promise.resolve(module.play(run.#view())).then(
        () => run.#over(),
        (error: unknown) => {
          run.#over();
          if (!run.#ended) outside.failed(error);
        },
      );
      await run.#letPlayGoOn();
    }
    return run;
  }

  get now(): number {
    return this.sim.now.getTime();
  }

  get clock(): VirtualClock {
    const goals = { at: 'on its way', event: 'next event', failure: 'until a failure' };
    return {
      playing: this.#playing || this.#goal !== undefined,
      speed: this.#speed,
      startedAt: this.#options.from,
      seed: this.#options.seed ?? null,
      until: this.#goal ? goals[this.#goal.kind] : null,
    };
  }

  /** Nothing moves until someone asks. */
  get still(): boolean {
    return !this.#playing && !this.#goal;
  }

  order(order: ClockOrder): void {
    // Keys may come faster than time: an hour and another hour are two.
    const ahead = this.#goal?.kind === 'at' ? this.#goal.at : this.now;
    this.#goal = undefined;
    switch (order.kind) {
      case 'play':
        this.#playing = true;
        break;
      case 'pause':
        this.#playing = false;
        break;
      case 'speed':
        this.#speed = order.speed;
        break;
      case 'skip':
        this.#goal = { kind: 'at', at: ahead + order.ms };
        break;
      case 'until':
        this.#goal = { kind: 'at', at: Math.max(this.now, order.at) };
        break;
      case 'event':
        this.#goal = { kind: 'event' };
        break;
      case 'failure':
        this.#goal = { kind: 'failure', after: this.#outside.feed.failures };
    }
    this.#reanchor();
  }

  /** Moves time on for a moment of real time, if it is to move. */
  async slice(): Promise<void> {
    const until = this.#outside.realNow() + sliceMs;
    if (this.#goal) await this.#towards(this.#goal, until);
    else if (this.#playing) await this.#pace(until);
  }

  async #towards(goal: Goal, until: number): Promise<void> {
    if (goal.kind === 'at') {
      await this.#driveTo(goal.at, until);
      if (this.now >= goal.at) this.#reached(goal);
      return;
    }
    do {
      const moved = await this.#step();
      if (goal.kind === 'event' || !moved) return this.#reached(goal);
      if (this.#outside.feed.failures > goal.after) {
        // It is there to be looked at.
        this.#playing = false;
        return this.#reached(goal);
      }
    } while (this.#goal === goal && this.#outside.realNow() < until);
  }

  #reached(goal: Goal): void {
    if (this.#goal === goal) this.#goal = undefined;
    this.#reanchor();
  }

  async #pace(until: number): Promise<void> {
    if (!Number.isFinite(this.#speed)) {
      await this.#driveTo(Number.POSITIVE_INFINITY, until);
      return this.#reanchor();
    }
    const { real, virtual } = this.#anchor;
    const target = Math.floor(virtual + (this.#outside.realNow() - real) * this.#speed);
    if (target <= this.now) return;
    await this.#driveTo(target, until);
    // What could not be kept up with is let go.
    if (this.now < target) this.#reanchor();
  }

  #reanchor(): void {
    this.#anchor = { real: this.#outside.realNow(), virtual: this.now };
  }

  async #driveTo(target: number, until: number): Promise<void> {
    do {
      const waitsFor = this.#waiting?.until === 'time' ? this.#waiting.at : Number.POSITIVE_INFINITY;
      await this.sim.advanceTo(Math.max(this.now, Math.min(target, waitsFor, this.now + stepMs)));
      await this.#wakePlay();
    } while (this.now < target && this.#outside.realNow() < until && !this.#ended);
  }

  /** On to the next event; false when there will be none. */
  async #step(): Promise<boolean> {
    const before = this.#outside.feed.seq;
    for (let tries = 0; tries < 20 && this.#outside.feed.seq === before; tries++) {
      const waitsFor = this.#waiting?.until === 'time' ? this.#waiting.at : Number.POSITIVE_INFINITY;
      if (waitsFor > this.now) await this.#nextWithin(Math.min(waitsFor - this.now, farMs));
      await this.#wakePlay();
    }
    return this.#outside.feed.seq > before;
  }

  /** Only the simulation knows what comes next, so a timer in virtual time breaks it off. */
  async #nextWithin(ms: number): Promise<void> {
    const enough = new Enough();
    const timer = setTimeout(() => {
      throw enough;
    }, ms);
    try {
      await this.sim.next();
    } catch (error) {
      if (error !== enough) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** What `play` waits for has come: it goes on until it waits again. */
  async #wakePlay(): Promise<void> {
    for (let waiting = this.#waiting; waiting && this.#isDue(waiting); waiting = this.#waiting) {
      this.#waiting = undefined;
      waiting.resolve();
      await this.#letPlayGoOn();
    }
  }

  #isDue({ until, at, seq }: Waiting): boolean {
    if (until === 'time') return this.now >= at;
    if (until === 'event') return this.#outside.feed.seq > seq;
    return this.sim.jobs({ status: ['waiting', 'scheduled', 'ready', 'retrying', 'running'] }).every(({ schedule }) => schedule !== null);
  }

  /** A play that waits for something else than the simulation is not waited for. */
  async #letPlayGoOn(): Promise<void> {
    for (let turn = 0; turn < turnsForPlay && !this.#waiting && !this.#playOver; turn++) await this.#outside.breathe();
  }

  #over(): void {
    this.#playOver = true;
    this.#waiting = undefined;
  }

  #view(): Simulation {
    const wait = (until: Waiting['until'], at: number): Promise<void> =>
      new Promise((resolve) => {
        this.#waiting = { until, at, seq: this.#outside.feed.seq, resolve };
      });
    const own: Partial<Simulation> = {
      advance: (duration) => {
        const ms = parseDuration(duration);
        // What is no duration is told so by the simulation.
        return ms === undefined ? this.sim.advance(duration) : wait('time', this.now + ms);
      },
      advanceTo: (instant) => {
        const at = parseInstant(instant);
        return at === undefined || at < this.now ? this.sim.advanceTo(instant) : wait('time', at);
      },
      next: async () => {
        await wait('event', 0);
        return this.sim.now;
      },
      runUntilIdle: () => wait('idle', 0),
    };
    return new Proxy(this.sim, {
      get: (sim, key) => {
        const mine: unknown = Reflect.get(own, key);
        if (mine !== undefined) return mine;
        const value: unknown = Reflect.get(sim, key, sim);
        return typeof value === 'function' ? value.bind(sim) : value;
      },
    });
  }

  /** @param graceMs virtual time that attempts have to end, before they are given back */
  async end(graceMs = 0): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    try {
      if (graceMs > 0) {
        let stopped = false;
        const stops = Array.from({ length: this.#options.workers }, (_, i) => this.sim.worker(i).stop({ timeout: graceMs }));
        void Promise.all(stops).then(() => {
          stopped = true;
        });
        // No more time passes than the attempts need to end; what has not ended then is given back.
        for (const until = this.now + graceMs + lateMs; this.now < until; ) {
          await this.sim.drain();
          await this.#outside.breathe();
          if (stopped) break;
          await this.sim.advance(stopStepMs);
        }
      }
    } finally {
      // That attempts left work behind is nothing to stop a dashboard for.
      await this.sim.end().catch(() => {});
    }
  }
}
