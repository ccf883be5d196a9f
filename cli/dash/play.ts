/**
 * What a module's `play` sees while someone else moves time: what it asks of the simulation waits here until time has come that far. It goes on at
 * the very instant of what it waits for, so that what it does does not depend on the pace at which time is moved.
 */
import type { Simulation } from 'escapement/testing';
import { parseDuration, parseInstant } from '../time.ts';

interface Waiting {
  /** No longer than until this instant. */
  readonly at: number;
  readonly until: 'time' | 'event' | 'idle';
  /** How many events there were when all of the present instant was done; null: it is not yet. */
  events: number | null;
  resolve(): void;
}

export interface Course {
  /** One turn of the real event loop. */
  readonly breathe: () => Promise<void>;
  /** How many events there were so far. */
  events(): number;
  /** No unfinished job is left but those of schedules. */
  isIdle(): boolean;
  /** What `play` threw. */
  readonly failed: (error: unknown) => void;
}

/** A play that waits for something else than the simulation is not waited for any longer. */
const mostTurns = 200;

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
    await this.#goOn();
  }

  /** The instant until which it waits at most; undefined: it does not wait. */
  get waitsUntil(): number | undefined {
    return this.#waiting?.at;
  }

  /** It waits for something that any event may bring. */
  get waitsForEvents(): boolean {
    return this.#waiting !== undefined && this.#waiting.until !== 'time';
  }

  /** All of the present instant is done. If what it waits for has come, it goes on until it waits again: true. */
  async settled(): Promise<boolean> {
    const waiting = this.#waiting;
    if (!waiting) return false;
    waiting.events ??= this.#course.events();
    if (!this.#hasCome(waiting)) return false;
    this.#waiting = undefined;
    waiting.resolve();
    await this.#goOn();
    return true;
  }

  #hasCome({ until, at, events }: Waiting): boolean {
    if (this.#sim.now.getTime() >= at) return true;
    if (until === 'time') return false;
    return until === 'idle' ? this.#course.isIdle() : this.#course.events() > (events ?? 0);
  }

  async #goOn(): Promise<void> {
    for (let turn = 0; turn < mostTurns && !this.#waiting && !this.#over; turn++) await this.#course.breathe();
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
        // What is no duration is told so by the simulation.
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
        const mine: unknown = Reflect.get(own, key);
        if (mine !== undefined) return mine;
        const value: unknown = Reflect.get(sim, key, sim);
        return typeof value === 'function' ? value.bind(sim) : value;
      },
    });
  }
}
