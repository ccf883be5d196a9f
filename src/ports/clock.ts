/**
 * Time as the engine sees it: an instant, timers, and "right after this". The system clock stands here; a simulation's stands in
 * `testing/virtual-clock`. Nothing else in the engine, the core or a store reads time or arms a timer.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { RealDate, realClearTimeout, realNow, realSetImmediate, realSetTimeout } from './real.ts';

/** An attempt, as far as a clock and other code outside the engine may know it. */
export interface Scope {
  readonly task: string;
  readonly id: string;
  readonly attempt: number;
  /** Another one each time that the job is run, also after a snooze, which gives the attempt back. */
  readonly claim: number;
  readonly worker: string;
  /** The attempt that it was begun in, if it was: `call`, or an application of its own, inside a task. */
  readonly parent?: Scope | undefined;
}

/** A timer that was armed; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Time as an argument. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Milliseconds since some instant. Unlike `now`, it never jumps: somebody may set the machine's clock. */
  monotonic(): number;
  /**
   * Calls `fn` at an instant, or as soon as it has passed: at once when the clock is set beyond it. When the clock is set back, it is called no
   * later than it would have been, and so before its instant. `Infinity`: never, but the process stays alive.
   */
  at(instant: number, fn: () => void | Promise<void>): Timer;
  /** Calls `fn` once this many milliseconds have passed, whatever the clock is set to meanwhile. */
  after(ms: number, fn: () => void | Promise<void>): Timer;
  /** Calls `fn` at this instant, after what runs now. A promise that it returns belongs to the step: virtual time waits for it. */
  soon(fn: () => void | Promise<void>): void;
  /**
   * An attempt is at work from here until `leave`. Virtual time stands still while one is and does not wait on this clock.
   * @param endsAt the instant at which it is ended at the latest; Infinity: by nobody but itself
   */
  enter(scope: Scope, endsAt: number): void;
  /** @param returned its function has ended too; false: it was ended from outside, and may go on */
  leave(scope: Scope, returned: boolean): void;
  /**
   * Calls `fn`, by which an attempt makes itself felt: at once, or, in virtual time, once the attempts at work at this instant have all come as
   * far, in the order in which they started.
   */
  inTurn(scope: Scope, fn: () => void): void;
  /** Runs `fn`, which waits on something outside this clock, such as a network; virtual time stands still meanwhile. */
  external<T>(label: string, fn: () => Promise<T>): Promise<T>;
}

// Node turns a longer delay into one millisecond.
const longestDelayMs = 2_147_483_647;
/** No timer that waits for an instant sleeps longer, so that an idle process notices within a minute that the clock was set or the machine was suspended. */
const longestSleepMs = 60_000;
/** The clock of the machine was set if it and the monotonic clock differ by this much more than before. */
const stepMs = 1_000;
/** Node may fire a timer up to a millisecond early. */
const earlyMs = 1;

/** Runs a function in an empty asynchronous context: the engine, and what it starts, has none of whoever caused it. */
export const outside: <T>(fn: () => T) => T = AsyncLocalStorage.snapshot();

/** A timer of the system clock that waits for an instant. */
class SystemTimer implements Timer {
  readonly #instant: number;
  /** On the monotonic clock: if the clock is set back, nobody waits longer than it seemed at first. */
  readonly #latest: number;
  readonly #fn: () => void | Promise<void>;
  #handle: NodeJS.Timeout | undefined;

  constructor(instant: number, fn: () => void | Promise<void>) {
    this.#instant = instant;
    this.#latest = realNow() + instant - RealDate.now();
    this.#fn = fn;
    armed.add(this);
    this.arm();
  }

  arm(): void {
    realClearTimeout(this.#handle);
    const sleepMs = this.#instant === Number.POSITIVE_INFINITY ? longestDelayMs : Math.min(longestSleepMs, Math.max(0, this.#leftMs));
    this.#handle = realSetTimeout(this.#fire, Math.ceil(sleepMs));
  }

  cancel(): void {
    armed.delete(this);
    realClearTimeout(this.#handle);
  }

  get #leftMs(): number {
    return Math.min(this.#instant - RealDate.now(), this.#latest - realNow());
  }

  readonly #fire = (): void | Promise<void> => {
    noticeStep();
    if (!armed.has(this)) return;
    if (this.#leftMs > earlyMs) return this.arm();
    armed.delete(this);
    return this.#fn();
  };
}

const armed = new Set<SystemTimer>();
/** By how much the clock of the machine is ahead of the monotonic one. */
let aheadMs = RealDate.now() - realNow();

/** Arms all timers again if the clock was set since the last look. */
function noticeStep(): void {
  const found = RealDate.now() - realNow();
  if (Math.abs(found - aheadMs) < stepMs) return;
  aheadMs = found;
  for (const timer of armed) timer.arm();
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: RealDate.now,
  monotonic: realNow,
  at(instant, fn) {
    noticeStep();
    return outside(() => new SystemTimer(instant, fn));
  },
  after(ms, fn) {
    const endsAt = realNow() + ms;
    let handle: NodeJS.Timeout;
    const arm = () => {
      const left = Math.max(0, endsAt - realNow());
      handle = left > longestDelayMs ? realSetTimeout(arm, longestDelayMs) : realSetTimeout(fn, Math.ceil(left));
    };
    outside(arm);
    return { cancel: () => realClearTimeout(handle) };
  },
  soon(fn) {
    outside(() => realSetImmediate(fn));
  },
  enter() {},
  leave() {},
  inTurn: (_scope, fn) => fn(),
  external: (_label, fn) => fn(),
};

/**
 * Lets timers fire and requests be answered between the batches of a long operation. Always real, also in a simulation: virtual time stands still
 * until the step that yields has ended.
 */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((done) => systemClock.soon(done));
}
