/**
 * Plays an application in virtual time from one instant to another, and not a millisecond further. The module's `play` drives a simulation
 * that stops at the end of the period, reports progress, and handles Ctrl-C between events.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { isEscapementError, SimulationRunawayError, type StoreSource, type Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import { parseDuration, parseInstant } from '../src/core/duration.ts';
import type { Application } from './config.ts';
import { CommandError, type Io, orStuck } from './io.ts';
import type { Progress } from './progress.ts';

/** What to play. */
export interface Plan {
  readonly from: number;
  readonly to: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  /** Kill a worker during about 1 in 50 attempts. */
  readonly crash: boolean;
  /** The store that keeps the jobs; undefined: memory. */
  readonly store?: StoreSource | undefined;
}

/** The result of a play. */
export interface Played {
  readonly realMs: number;
  readonly crashes: number;
  /** True after Ctrl-C; the simulation stopped where it was. */
  readonly interrupted: boolean;
}

/**
 * Starts a simulation, plays it, calls `afterwards` before it ends, and ends it.
 * @returns the result of `afterwards`, and the simulation's error about work that attempts left behind
 * @throws CommandError if the module fails
 */
export async function play<T>(
  { label, tasks, simulation }: Application,
  plan: Plan,
  { io, progress }: { io: Io; progress: Progress },
  afterwards: (sim: Simulation, played: Played) => Promise<T>,
): Promise<{ readonly result: T; readonly leftBehind: Error | undefined }> {
  const yieldToEventLoop = eventLoopYielder();
  const { from, to, seed, workers, concurrency, store } = plan;
  const chosen = { ...(seed === undefined ? {} : { seed }), ...(store ? { store } : {}) };
  const sim = await simulate(tasks, { now: from, workers, concurrency, ...chosen });
  try {
    const startedAt = io.realNow();
    const stage = new Stage(sim, to, { realNow: io.realNow, yieldToEventLoop, at: (virtualNow) => progress.at(virtualNow, from, to) });
    const off = [io.onInterrupt(() => stage.interrupt()), tasks.on('started', progress.count)];
    const crashes = plan.crash ? crashing(sim, tasks, workers, seed ?? 0) : undefined;
    try {
      if (simulation.play) await playModule(simulation.play.bind(simulation), stage, io, label);
      await stage.finish();
    } finally {
      crashes?.stop();
      for (const undo of off) undo();
      progress.clear();
    }
    const played = { realMs: io.realNow() - startedAt, crashes: crashes?.count ?? 0, interrupted: stage.interrupted };
    const result = await afterwards(sim, played);
    return { result, leftBehind: await end(sim) };
  } finally {
    // After an error, work left behind is of no interest.
    await end(sim);
  }
}

/** Ends the simulation; may be called twice. Returns the error about work that attempts left behind, if any. */
async function end(sim: Simulation): Promise<Error | undefined> {
  try {
    await sim.end();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

async function playModule(fn: (sim: Simulation) => unknown, stage: Stage, io: Io, label: string): Promise<void> {
  const stuck = `play(sim) of ${label} waits for something that never happens; only sim.advance() and similar calls advance virtual time`;
  try {
    await orStuck(io, Promise.resolve(fn(stage.view())), stuck);
  } catch (error) {
    if (!stage.cut(error)) throw error instanceof CommandError ? error : playFault(label, error);
  }
}

function playFault(label: string, error: unknown): CommandError {
  const { name, message } = error as { name?: string; message?: string };
  // Errors of the simulation itself need no prefix.
  const text = isEscapementError(error)
    ? `${label}: ${message}`
    : `play(sim) of ${label} threw ${name ? `${name}: ` : ''}${message ?? error}`;
  return new CommandError(text, { cause: error });
}

/** Thrown inside `play` to stop it. It is recognized by identity; the message is for code that catches and prints it. */
class PeriodOver extends Error {
  override readonly name = 'PeriodOver';
}

/** The largest step of virtual time before the real event loop gets a turn. Results do not depend on it. */
const stepMs = 600_000;
const yieldAfterMs = 40;
/** The longest delay of a timer: with a longer one, timers fire immediately. */
const longestDelayMs = 2_147_483_647;

interface Outside {
  readonly realNow: () => number;
  readonly yieldToEventLoop: () => Promise<void>;
  readonly at: (virtualNow: number) => void;
}

/** A simulation that stops at the end of the period. */
export class Stage {
  readonly #sim: Simulation;
  readonly #to: number;
  readonly #outside: Outside;
  readonly #over = new PeriodOver('the simulated period is over');
  #lastYieldAt: number;
  interrupted = false;

  constructor(sim: Simulation, to: number, outside: Outside) {
    this.#sim = sim;
    this.#to = to;
    this.#outside = outside;
    this.#lastYieldAt = outside.realNow();
  }

  interrupt(): void {
    this.interrupted = true;
  }

  /** True for the error that stops `play`, even if `play` wrapped it in another error. */
  cut(error: unknown): boolean {
    return error === this.#over || (error instanceof Error && error.cause === this.#over);
  }

  /** The simulation that `play` receives. */
  view(): Simulation {
    const own: Partial<Simulation> = {
      advance: (duration) => {
        const ms = parseDuration(duration);
        // The simulation itself rejects invalid durations.
        return ms === undefined ? this.#sim.advance(duration) : this.#drive(this.#now + ms);
      },
      advanceTo: (instant) => {
        const at = parseInstant(instant);
        return at === undefined || at < this.#now ? this.#sim.advanceTo(instant) : this.#drive(at);
      },
      next: () => this.#next(),
      runUntilIdle: (options) => this.#runUntilIdle(options),
    };
    return new Proxy(this.#sim, {
      get: (sim, key) => {
        const override = Reflect.get(own, key);
        if (override !== undefined) return override;
        const value: unknown = Reflect.get(sim, key, sim);
        return typeof value === 'function' ? value.bind(sim) : value;
      },
    });
  }

  /** Plays the rest of the period. */
  async finish(): Promise<void> {
    try {
      await this.#drive(this.#to);
    } catch (error) {
      if (!this.cut(error)) throw error;
    }
  }

  get #now(): number {
    return this.#sim.now.getTime();
  }

  async #drive(target: number): Promise<void> {
    const end = Math.min(target, this.#to);
    do {
      await this.#sim.advanceTo(Math.min(end, this.#now + stepMs));
      await this.#yieldToEventLoop();
    } while (this.#now < end);
    if (target > this.#to) throw this.#over;
  }

  /** Only the simulation knows what comes next, so a timer at the end of the period interrupts it. */
  async #next(): Promise<Date | undefined> {
    await this.#yieldToEventLoop();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const arm = () => {
      const left = this.#to - this.#now;
      timer = setTimeout(left <= longestDelayMs ? () => raise(this.#over) : arm, Math.min(Math.max(left, 1), longestDelayMs));
    };
    if (this.#now >= this.#to) throw this.#over;
    arm();
    try {
      return await this.#sim.next();
    } finally {
      clearTimeout(timer);
    }
  }

  async #runUntilIdle(options: Parameters<Simulation['runUntilIdle']>[0] = {}): Promise<void> {
    const max = options.max === undefined ? Number.POSITIVE_INFINITY : parseDuration(options.max);
    if (max === undefined || this.#now + max <= this.#to) return this.#sim.runUntilIdle(options);
    for (;;) {
      const until = Math.min(this.#now + stepMs, this.#to);
      try {
        return await this.#sim.runUntilIdle({ max: until - this.#now });
      } catch (error) {
        if (!(error instanceof SimulationRunawayError)) throw error;
      }
      // Time is at the last event of the step, and nothing happens between it and the end of the step.
      await this.#drive(until === this.#to ? Number.POSITIVE_INFINITY : until);
    }
  }

  async #yieldToEventLoop(): Promise<void> {
    const realNow = this.#outside.realNow();
    if (realNow - this.#lastYieldAt >= yieldAfterMs) {
      this.#lastYieldAt = realNow;
      this.#outside.at(this.#now);
      await this.#outside.yieldToEventLoop();
    }
    if (this.interrupted) throw this.#over;
  }
}

function raise(error: Error): never {
  throw error;
}

/** Returns a function that waits for one iteration of the real event loop. Call this before a simulation replaces the globals. */
export function eventLoopYielder(): () => Promise<void> {
  const immediate = setImmediate;
  return () => new Promise((resolve) => immediate(resolve));
}

const oneIn = 50;
const longestBeforeCrashMs = 2_000;

/** Kills workers during attempts, at instants that depend on the seed alone. */
function crashing(sim: Simulation, tasks: Tasks, workers: number, seed: number): { readonly count: number; stop(): void } {
  const draw = mulberry32(seed);
  // A timer set inside an attempt would be cleared with it.
  const outside = AsyncLocalStorage.snapshot();
  const state = { count: 0, stop: () => {} };
  state.stop = tasks.on('started', ({ worker }) => {
    const index = Number(/^w(\d+)/.exec(worker)?.[1] ?? -1);
    if (draw() >= 1 / oneIn || index < 0 || index >= workers) return;
    // Log-uniform, because attempts take from a millisecond to seconds.
    const delay = Math.round(longestBeforeCrashMs ** draw());
    outside(() =>
      setTimeout(() => {
        const victim = sim.worker(index);
        if (!victim.alive) return;
        state.count += 1;
        victim.crash();
      }, delay),
    );
  });
  return state;
}

/** mulberry32, a small random number generator with 32-bit state: https://gist.github.com/tommyettinger/46a574533244883189143505d203312c */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
