/**
 * Gives a module's `play` function a view of the simulation while the dashboard advances time. Calls that would advance time wait here until
 * the clock gets there. `play` resumes at the exact instant it waited for, so its actions do not depend on the playback speed.
 */
import type { Simulation } from 'escapement/testing';
import { parseDuration, parseInstant } from '../../src/core/duration.ts';

interface Waiting {
  /** The latest instant at which it resumes. */
  readonly at: number;
  readonly until: 'time' | 'event' | 'idle';
  /** The number of events once the current instant was complete; null until then. */
  events: number | null;
  resolve(): void;
}

export interface Course {
  /** Resolves after one iteration of the real event loop. */
  readonly yieldToEventLoop: () => Promise<void>;
  /** The number of events so far. */
  events(): number;
  /** True if the only unfinished jobs are those of schedules. */
  isIdle(): boolean;
  /** Called with the error that `play` throws. */
  readonly failed: (error: unknown) => void;
}

/** Event loop iterations to wait for a `play` that is waiting for something other than the simulation. */
const maxTurns = 200;

export class Play {
  readonly #sim: Simulation;
  readonly #course: Course;
  #waiting: Waiting | undefined;
  #over = true;

  constructor(sim: Simulation, course: Course) {
    this.#sim = sim;
    this.#course = course;
  }

  async begin(play: (sim: Simulation) => unknown): Promise<void> {
    this.#over = false;
    const over = () => {
      this.#over = true;
      this.#waiting = undefined;
    };
    void Promise.resolve(play(this.#view())).then(over, (error: unknown) => {
      over();
      this.#course.failed(error);
    });
    await this.#letRun();
  }

  /** The latest instant at which `play` resumes; undefined if it is not waiting. */
  get waitsUntil(): number | undefined {
    return this.#waiting?.at;
  }

  /** True if any event may let `play` resume. */
  get waitsForEvents(): boolean {
    return this.#waiting !== undefined && this.#waiting.until !== 'time';
  }

  /** Call when the current instant is complete. If `play` can resume, runs it until it waits again and returns true. */
  async settled(): Promise<boolean> {
    const waiting = this.#waiting;
    if (!waiting) return false;
    waiting.events ??= this.#course.events();
    if (!this.#isReached(waiting)) return false;
    this.#waiting = undefined;
    waiting.resolve();
    await this.#letRun();
    return true;
  }

  #isReached({ until, at, events }: Waiting): boolean {
    if (this.#sim.now.getTime() >= at) return true;
    if (until === 'time') return false;
    return until === 'idle' ? this.#course.isIdle() : this.#course.events() > (events ?? 0);
  }

  async #letRun(): Promise<void> {
    for (let turn = 0; turn < maxTurns && !this.#waiting && !this.#over; turn++) await this.#course.yieldToEventLoop();
  }

  #view(): Simulation {
    const wait = (until: Waiting['until'], at = Number.POSITIVE_INFINITY): Promise<void> =>
      new Promise((resolve) => {
        this.#waiting = { until, at, events: null, resolve };
      });
    const now = () => this.#sim.now.getTime();
    const own: Partial<Simulation> = {
      advance: (duration) => {
        const ms = parseDuration(duration);
        // The simulation itself rejects invalid durations.
        return ms === undefined ? this.#sim.advance(duration) : wait('time', now() + ms);
      },
      advanceTo: (instant) => {
        const at = parseInstant(instant);
        return at === undefined || at < now() ? this.#sim.advanceTo(instant) : wait('time', at);
      },
      next: async ({ max } = {}) => {
        const ms = max === undefined ? Number.POSITIVE_INFINITY : (parseDuration(max) ?? 0);
        const at = now() + ms;
        await wait('event', at);
        return now() < at ? this.#sim.now : undefined;
      },
      runUntilIdle: () => wait('idle'),
    };
    return new Proxy(this.#sim, {
      get: (sim, key) => {
        const override: unknown = Reflect.get(own, key);
        if (override !== undefined) return override;
        const value: unknown = Reflect.get(sim, key, sim);
        return typeof value === 'function' ? value.bind(sim) : value;
      },
    });
  }
}
