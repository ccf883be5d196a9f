/**
 * Plays an application in virtual time, from an instant to an instant and not a millisecond further: the module's own `play` drives, and
 * what it drives is a simulation that stops at the end of the period, tells how far it has come, and lets Ctrl-C in between two events.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { isEscapementError, SimulationRunawayError, type Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import type { Application } from './config.ts';
import { CommandError, type Io, orStuck } from './io.ts';
import type { Progress } from './progress.ts';
import { parseDuration, parseInstant } from './time.ts';

/** What is played. */
export interface Plan {
  readonly from: number;
  readonly to: number;
  readonly seed: number | undefined;
  readonly workers: number;
  readonly concurrency: number;
  /** Kill a worker in the middle of about one attempt in fifty. */
  readonly crash: boolean;
}

/** How it went. */
export interface Played {
  readonly realMs: number;
  readonly crashes: number;
  /** Ctrl-C came; the simulation stands where it was then. */
  readonly interrupted: boolean;
}

/**
 * Begins a simulation, plays it, and calls `afterwards` while it still stands; then ends it.
 * @returns what `afterwards` returned, and the simulation's complaint about work that attempts left behind
 * @throws CommandError what the module did wrong
 */
export async function play<T>(
  { label, tasks, simulation }: Application,
  plan: Plan,
  { io, progress }: { io: Io; progress: Progress },
  afterwards: (sim: Simulation, played: Played) => Promise<T>,
): Promise<{ readonly result: T; readonly leftBehind: Error | undefined }> {
  const breathe = realTurn();
  const { from, to, seed, workers, concurrency } = plan;
  const sim = await simulate(tasks, { now: from, workers, concurrency, ...(seed === undefined ? {} : { seed }) });
  try {
    const startedAt = io.realNow();
    const stage = new Stage(sim, to, { realNow: io.realNow, breathe, at: (virtualNow) => progress.at(virtualNow, from, to) });
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
    // After a fault, what it left behind is not what the user has to hear of.
    await end(sim);
  }
}

/** Ends it, once or again. What comes back is the complaint about work that attempts left behind. */
async function end(sim: Simulation): Promise<Error | undefined> {
  try {
    await sim.end();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

async function playModule(fn: (sim: Simulation) => unknown, stage: Stage, io: Io, label: string): Promise<void> {
  const stuck = `play(sim) of ${label} waits for something that will not come; virtual time moves only by sim.advance() and its like`;
  try {
    await orStuck(io, Promise.resolve(fn(stage.view())), stuck);
  } catch (error) {
    if (!stage.cut(error)) throw error instanceof CommandError ? error : playFault(label, error);
  }
}

function playFault(label: string, error: unknown): CommandError {
  const { name, message } = error as { name?: string; message?: string };
  // What the simulation itself complains of says enough.
  const text = isEscapementError(error)
    ? `${label}: ${message}`
    : `play(sim) of ${label} threw ${name ? `${name}: ` : ''}${message ?? error}`;
  return new CommandError(text, { cause: error });
}

/** Thrown into `play` when it is to go no further. Its identity is what counts; the words are for those who catch and print it. */
class PeriodOver extends Error {
  override readonly name = 'PeriodOver';
}

/** Virtual time is moved by this much at most before the outside world gets a turn. What happens in it does not depend on it. */
const stepMs = 600_000;
const breathAfterMs = 40;
/** A timer's longest delay: beyond it, timers fire at once. */
const longestDelayMs = 2_147_483_647;

interface Outside {
  readonly realNow: () => number;
  readonly breathe: () => Promise<void>;
  readonly at: (virtualNow: number) => void;
}

/** A simulation with an end. */
export class Stage {
  readonly #sim: Simulation;
  readonly #to: number;
  readonly #outside: Outside;
  readonly #over = new PeriodOver('the period that is simulated is over');
  #lastBreath: number;
  interrupted = false;

  constructor(sim: Simulation, to: number, outside: Outside) {
    this.#sim = sim;
    this.#to = to;
    this.#outside = outside;
    this.#lastBreath = outside.realNow();
  }

  interrupt(): void {
    this.interrupted = true;
  }

  /** True for what was thrown into `play` to end it, also when play put it into an error of its own. */
  cut(error: unknown): boolean {
    return error === this.#over || (error instanceof Error && error.cause === this.#over);
  }

  /** What `play` is given. */
  view(): Simulation {
    const own: Partial<Simulation> = {
      advance: (duration) => {
        const ms = parseDuration(duration);
        // What is no duration is told so by the simulation.
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
        const mine = Reflect.get(own, key);
        if (mine !== undefined) return mine;
        const value: unknown = Reflect.get(sim, key, sim);
        return typeof value === 'function' ? value.bind(sim) : value;
      },
    });
  }

  /** The rest of the period. */
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
      await this.#breathe();
    } while (this.#now < end);
    if (target > this.#to) throw this.#over;
  }

  /** Only the simulation knows what comes next, so a timer at the end of the period breaks it off. */
  async #next(): Promise<Date | undefined> {
    await this.#breathe();
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
      // Time stands at the last event of the step, and nothing lies between it and the step's end.
      await this.#drive(until === this.#to ? Number.POSITIVE_INFINITY : until);
    }
  }

  async #breathe(): Promise<void> {
    const realNow = this.#outside.realNow();
    if (realNow - this.#lastBreath >= breathAfterMs) {
      this.#lastBreath = realNow;
      this.#outside.at(this.#now);
      await this.#outside.breathe();
    }
    if (this.interrupted) throw this.#over;
  }
}

function raise(error: Error): never {
  throw error;
}

/** One turn of the real event loop, as it is before a simulation replaces anything. */
export function realTurn(): () => Promise<void> {
  const immediate = setImmediate;
  return () => new Promise((resolve) => immediate(resolve));
}

const oneIn = 50;
const longestBeforeCrashMs = 2_000;

/** Kills workers in the middle of attempts, at instants that depend on the seed alone. */
function crashing(sim: Simulation, tasks: Tasks, workers: number, seed: number): { readonly count: number; stop(): void } {
  const draw = mulberry32(seed);
  // A timer that is armed inside an attempt would die with it.
  const outside = AsyncLocalStorage.snapshot();
  const state = { count: 0, stop: () => {} };
  state.stop = tasks.on('started', ({ worker }) => {
    const index = Number(/^w(\d+)/.exec(worker)?.[1] ?? -1);
    if (draw() >= 1 / oneIn || index < 0 || index >= workers) return;
    // Short delays are as likely as long ones: attempts take from a millisecond to seconds.
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

/** A small generator of 32-bit state: https://gist.github.com/tommyettinger/46a574533244883189143505d203312c */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
