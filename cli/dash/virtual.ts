/**
 * An application on the virtual clock, driven by hand: it plays at a speed, stands still, or goes on to an instant, an event or a failure.
 * It moves in slices of real time, so that the dashboard goes on beside it.
 *
 * Everything that came from outside is kept in `recorded`, with its instant: the seed and that list are what a rewind replays. So that the
 * same comes of it, nothing depends on the pace. What happens at an instant is done when time stands at it, also what `play` does then;
 * only then does anything come from outside.
 */
import type { StoreSource, Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import type { SimulationModule } from '../config.ts';
import type { Feed } from './feed.ts';
import { Play } from './play.ts';
import type { ClockOrder, VirtualClock, Write } from './state.ts';

export interface VirtualOptions {
  readonly from: number;
  /** Where time began, if versions of the module were at work before this one. */
  readonly startedAt: number;
  readonly speed: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  /** Where jobs live; a store that outlives the simulation keeps them over a reload. */
  readonly store: StoreSource;
  readonly playing: boolean;
  /** What has come from outside so far; what comes is added. */
  readonly recorded: Recorded[];
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
  /** `since`: the latest event. */
  | { readonly kind: 'event'; since: number }
  | { readonly kind: 'failure'; readonly after: number; since: number };

/** Something that came from outside. */
export interface Recorded {
  readonly at: number;
  /** Time, or what was to be done at its instant, went on after what came before it. */
  readonly moved: boolean;
  readonly write: Write;
}

const sliceMs = 25;
const longMs = 1_000;
const stepMs = 60_000;
const dayMs = 86_400_000;
/** Where nothing happens for so long, nothing is waited for. */
const quietMs = 366 * dayMs;
/** What comes from outside and does not end, because it waits for time to pass, is not waited for: real milliseconds. */
const mostForWriteMs = 2_000;
/** Beyond the grace time and the 4 s that attempts have after their signal. */
const lateMs = 5_000;
const stopStepMs = 100;

// The real ones, also while a simulation fakes the globals.
const { setTimeout, clearTimeout } = globalThis;

export class VirtualRun {
  readonly sim: Simulation;
  readonly #options: VirtualOptions;
  readonly #outside: Outside;
  #playing: boolean;
  #speed: number;
  #goal: Goal | undefined;
  /** Real and virtual time from which the present pace is counted. */
  #anchor: { readonly real: number; readonly virtual: number };
  #slicedAt: number;
  readonly #play: Play;
  #ended = false;
  #moved = false;
  #events = 0;
  /** Unfinished jobs that no schedule made. */
  readonly #open = new Set<string>();
  readonly #off: () => void;

  private constructor(sim: Simulation, options: VirtualOptions, outside: Outside) {
    this.sim = sim;
    this.#options = options;
    this.#outside = outside;
    this.#playing = options.playing;
    this.#speed = options.speed;
    this.#anchor = { real: outside.realNow(), virtual: options.from };
    this.#slicedAt = this.#anchor.real;
    this.#play = new Play(sim, {
      breathe: outside.breathe,
      events: () => this.#events,
      isIdle: () => this.#open.size === 0,
      failed: (error) => {
        if (!this.#ended) outside.failed(error);
      },
    });
    this.#off = sim.tasks.on('*', (event) => {
      this.#events += 1;
      if (!('job' in event) || event.job.schedule !== null) return;
      // What a worker says of its attempt may come when the job is someone else's, or over.
      if (event.type === 'discarded' || event.type === 'logged' || event.type === 'progressed') return;
      if (event.job.finishedAt === null) this.#open.add(event.job.id);
      else this.#open.delete(event.job.id);
    });
  }

  static async begin(tasks: Tasks, module: SimulationModule, options: VirtualOptions, outside: Outside): Promise<VirtualRun> {
    const { from, seed, workers, concurrency, store } = options;
    const sim = await simulate(tasks, { now: from, workers, concurrency, store, ...(seed === undefined ? {} : { seed }) });
    const run = new VirtualRun(sim, options, outside);
    if (module.play) await run.#play.begin((view) => module.play?.(view));
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
      startedAt: this.#options.startedAt,
      seed: this.#options.seed ?? null,
      until: this.#goal ? goals[this.#goal.kind] : null,
    };
  }

  /** Does what comes from outside, and keeps it for a replay. Never while a slice is under way. */
  async act<T>(write: Write, perform: (write: Write) => Promise<T>): Promise<T> {
    this.#options.recorded.push({ at: this.now, moved: this.#moved, write });
    this.#moved = false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('it waits for time to pass, and goes on when it does')), mostForWriteMs);
    });
    return Promise.race([perform(write), late]).finally(() => clearTimeout(timer));
  }

  /**
   * Does again what was recorded, each at its instant, and goes on to the last one: as fast as it goes, in slices.
   * @param goesOn asked between the slices; false: it stays where it is
   */
  async replay(
    actions: readonly Recorded[],
    to: number,
    perform: (write: Write) => Promise<unknown>,
    goesOn: () => boolean,
  ): Promise<void> {
    const drive = async (at: number) => {
      while (this.now < at && goesOn()) {
        await this.#driveTo(at, this.#outside.realNow() + sliceMs);
        await this.#outside.breathe();
      }
      return this.now >= at;
    };
    for (const { at, moved, write } of actions) {
      if (!(await drive(at))) return;
      if (moved) await this.#onTo(at);
      // What was refused then is refused again.
      await this.act(write, perform).catch(() => {});
    }
    // Also what the last of them led to at this very instant.
    if (await drive(to)) await this.#onTo(to);
    this.#reanchor();
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
        this.#goal = { kind: 'event', since: this.now };
        break;
      case 'failure':
        this.#goal = { kind: 'failure', after: this.#outside.feed.failures, since: this.now };
    }
    this.#reanchor();
  }

  /** Moves time on for a moment of real time, if it is to move. */
  async slice(): Promise<void> {
    const real = this.#outside.realNow();
    // The process was stopped, or something took long: nobody has seen time pass.
    if (real - this.#slicedAt > longMs) this.#reanchor();
    this.#slicedAt = real;
    const until = real + sliceMs;
    if (this.#goal) await this.#towards(this.#goal, until);
    else if (this.#playing) await this.#pace(until);
  }

  async #towards(goal: Goal, until: number): Promise<void> {
    if (goal.kind === 'at') {
      await this.#driveTo(goal.at, until);
      if (this.now >= goal.at) this.#reached(goal);
      return;
    }
    const { feed } = this.#outside;
    do {
      const before = feed.seq;
      const moved = await this.#onTo(this.now + dayMs, true);
      if (!moved || this.now - goal.since > quietMs) return this.#reached(goal);
      if (feed.seq === before) continue;
      if (goal.kind === 'event') return this.#reached(goal);
      if (feed.failures > goal.after) {
        // It is there to be looked at.
        this.#playing = false;
        return this.#reached(goal);
      }
      goal.since = this.now;
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
    this.#slicedAt = this.#anchor.real;
  }

  async #driveTo(target: number, until: number): Promise<void> {
    do await this.#onTo(Math.max(this.now, Math.min(target, this.now + stepMs)));
    while (this.now < target && this.#outside.realNow() < until && !this.#ended);
  }

  /**
   * On to an instant, not past one that `play` waits for, and all that is to be done there. False: nothing will ever happen.
   * @param byEvent not past the next event either
   */
  async #onTo(target: number, byEvent = false): Promise<boolean> {
    this.#moved = true;
    const { now } = this;
    const events = this.#events;
    await this.#settle();
    if (byEvent && this.#events > events) return true;
    const { waitsUntil = Number.POSITIVE_INFINITY } = this.#play;
    const awaited = waitsUntil <= target;
    const next = awaited ? Math.max(now, waitsUntil) : target;
    const looks = byEvent || this.#play.waitsForEvents;
    const found = looks && (await this.sim.next({ max: next - now })) !== undefined;
    if (!found && (!byEvent || awaited)) await this.sim.advanceTo(next);
    await this.#settle();
    return this.now > now || this.#events > events;
  }

  /** All of this instant: of the engine, and of `play`, which goes on until it waits for a later one. */
  async #settle(): Promise<void> {
    do await this.sim.drain();
    while (await this.#play.settled());
  }

  /** @param graceMs virtual time that attempts have to end, before they are given back */
  async end(graceMs = 0): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#off();
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
