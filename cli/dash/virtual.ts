/**
 * Runs an application on a virtual clock that the user controls: it plays at a speed, pauses, or skips to an instant, an event or a failure.
 * Time advances in slices of real time, so that the dashboard stays responsive.
 *
 * Every external action is kept in `recorded` with its instant; a rewind replays the seed and that list. For a replay to give the same
 * result, nothing may depend on the playback speed: all work of an instant, including that of `play`, completes before an external action
 * is performed at that instant.
 */
import type { StoreSource, Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import type { SimulationModule } from '../config.ts';
import type { Feed } from './feed.ts';
import { Play } from './play.ts';
import type { ClockOrder, VirtualClock, Write } from './state.ts';

export interface VirtualOptions {
  readonly from: number;
  /** The instant at which time began, possibly under an earlier version of the module. */
  readonly startedAt: number;
  readonly speed: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  /** The store of the jobs. A store that outlives the simulation keeps them across reloads. */
  readonly store: StoreSource;
  readonly playing: boolean;
  /** The external actions so far. New ones are appended. */
  readonly recorded: Recorded[];
}

export interface Outside {
  readonly realNow: () => number;
  /** Resolves after one iteration of the real event loop. */
  readonly yieldToEventLoop: () => Promise<void>;
  readonly feed: Feed;
  /** Called with the error that the module's `play` throws. */
  readonly failed: (error: unknown) => void;
}

type Goal =
  | { readonly kind: 'at'; readonly at: number }
  /** `since`: the number of the latest event. */
  | { readonly kind: 'event'; since: number }
  | { readonly kind: 'failure'; readonly after: number; since: number };

/** An external action. */
export interface Recorded {
  readonly at: number;
  /** True if time advanced, or work of its instant was done, after the action before it. */
  readonly moved: boolean;
  readonly write: Write;
}

const sliceMs = 25;
const longMs = 1_000;
const stepMs = 60_000;
const dayMs = 86_400_000;
/** If nothing happens within this time, the run does not wait for anything to happen. */
const quietMs = 366 * dayMs;
/** The maximum wait for an external action, in real milliseconds: an action may itself be waiting for time to pass. */
const maxWriteMs = 2_000;
/** Added to the grace time and the 4 s that attempts have after their abort signal. */
const lateMs = 5_000;
const stopStepMs = 100;

// The real timers, even while a simulation replaces the globals.
const { setTimeout, clearTimeout } = globalThis;

export class VirtualRun {
  readonly sim: Simulation;
  readonly #options: VirtualOptions;
  readonly #outside: Outside;
  #playing: boolean;
  #speed: number;
  #goal: Goal | undefined;
  /** The real and virtual times at which the current speed took effect. */
  #anchor: { readonly real: number; readonly virtual: number };
  #slicedAt: number;
  readonly #play: Play;
  #ended = false;
  #moved = false;
  #events = 0;
  /** Unfinished jobs that do not belong to a schedule. */
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
      yieldToEventLoop: outside.yieldToEventLoop,
      events: () => this.#events,
      isIdle: () => this.#open.size === 0,
      failed: (error) => {
        if (!this.#ended) outside.failed(error);
      },
    });
    this.#off = sim.tasks.on('*', (event) => {
      this.#events += 1;
      if (!('job' in event) || event.job.schedule !== null) return;
      // A worker may report on its attempt after it lost the job or the job finished.
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
    const goals = { at: 'skipping', event: 'next event', failure: 'next failure' };
    return {
      playing: this.#playing || this.#goal !== undefined,
      speed: this.#speed,
      startedAt: this.#options.startedAt,
      seed: this.#options.seed ?? null,
      until: this.#goal ? goals[this.#goal.kind] : null,
    };
  }

  /** Performs an external action and records it for replays. Must not be called during a slice. */
  async act<T>(write: Write, perform: (write: Write) => Promise<T>): Promise<T> {
    this.#options.recorded.push({ at: this.now, moved: this.#moved, write });
    this.#moved = false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('it is waiting for time to pass and continues when it does')), maxWriteMs);
    });
    return Promise.race([perform(write), late]).finally(() => clearTimeout(timer));
  }

  /**
   * Replays recorded actions, each at its instant, and then advances to the final instant: at full speed, in slices.
   * @param shouldContinue called between slices; the replay stops if it returns false
   */
  async replay(
    actions: readonly Recorded[],
    to: number,
    perform: (write: Write) => Promise<unknown>,
    shouldContinue: () => boolean,
  ): Promise<void> {
    const drive = async (at: number) => {
      while (this.now < at && shouldContinue()) {
        await this.#driveTo(at, this.#outside.realNow() + sliceMs);
        await this.#outside.yieldToEventLoop();
      }
      return this.now >= at;
    };
    for (const { at, moved, write } of actions) {
      if (!(await drive(at))) return;
      if (moved) await this.#advanceTo(at);
      // An action that was refused then is refused again.
      await this.act(write, perform).catch(() => {});
    }
    // Including the work that the last action caused at this instant.
    if (await drive(to)) await this.#advanceTo(to);
    this.#reanchor();
  }

  /** True if time does not advance until the user asks for it. */
  get still(): boolean {
    return !this.#playing && !this.#goal;
  }

  order(order: ClockOrder): void {
    // Keys may arrive faster than time advances: skipping an hour twice skips two hours.
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

  /** Advances time for one slice of real time, unless it is paused. */
  async slice(): Promise<void> {
    const real = this.#outside.realNow();
    // The process was suspended, or something took long: the user did not see time pass.
    if (real - this.#slicedAt > longMs) this.#reanchor();
    this.#slicedAt = real;
    const until = real + sliceMs;
    if (this.#goal) await this.#advanceTowards(this.#goal, until);
    else if (this.#playing) await this.#pace(until);
  }

  async #advanceTowards(goal: Goal, until: number): Promise<void> {
    if (goal.kind === 'at') {
      await this.#driveTo(goal.at, until);
      if (this.now >= goal.at) this.#reached(goal);
      return;
    }
    const { feed } = this.#outside;
    do {
      const before = feed.seq;
      const moved = await this.#advanceTo(this.now + dayMs, true);
      if (!moved || this.now - goal.since > quietMs) return this.#reached(goal);
      if (feed.seq === before) continue;
      if (goal.kind === 'event') return this.#reached(goal);
      if (feed.failures > goal.after) {
        // Stop here, so that the user can look at it.
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
    // Drop the time that could not be caught up with.
    if (this.now < target) this.#reanchor();
  }

  #reanchor(): void {
    this.#anchor = { real: this.#outside.realNow(), virtual: this.now };
    this.#slicedAt = this.#anchor.real;
  }

  async #driveTo(target: number, until: number): Promise<void> {
    do await this.#advanceTo(Math.max(this.now, Math.min(target, this.now + stepMs)));
    while (this.now < target && this.#outside.realNow() < until && !this.#ended);
  }

  /**
   * Advances to an instant, but not past one that `play` waits for, and completes the work there. Returns false if nothing will ever happen.
   * @param byEvent do not advance past the next event either
   */
  async #advanceTo(target: number, byEvent = false): Promise<boolean> {
    this.#moved = true;
    const { now } = this;
    const events = this.#events;
    await this.#settle();
    if (byEvent && this.#events > events) return true;
    const { waitsUntil = Number.POSITIVE_INFINITY } = this.#play;
    const awaited = waitsUntil <= target;
    const next = awaited ? Math.max(now, waitsUntil) : target;
    const stopsAtEvents = byEvent || this.#play.waitsForEvents;
    const found = stopsAtEvents && (await this.sim.next({ max: next - now })) !== undefined;
    if (!found && (!byEvent || awaited)) await this.sim.advanceTo(next);
    await this.#settle();
    return this.now > now || this.#events > events;
  }

  /** Completes the current instant: the work of the engine, and `play` until it waits for a later instant. */
  async #settle(): Promise<void> {
    do await this.sim.drain();
    while (await this.#play.settled());
  }

  /** @param graceMs virtual time that attempts have to finish before they are released */
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
        // No more time passes than the attempts need to finish; unfinished attempts are then released.
        for (const until = this.now + graceMs + lateMs; this.now < until; ) {
          await this.sim.drain();
          await this.#outside.yieldToEventLoop();
          if (stopped) break;
          await this.sim.advance(stopStepMs);
        }
      }
    } finally {
      // Attempts that leave work behind are no reason to stop the dashboard.
      await this.sim.end().catch(() => {});
    }
  }
}
