/**
 * Time as the engine sees it: the current instant, timers, and "right after this". This file contains the system clock; the simulation's
 * clock is in `testing/virtual-clock`. No other file of the engine, the core or a store reads time or sets a timer.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { RealDate, realClearTimeout, realNow, realSetImmediate, realSetTimeout } from './real.ts';

/** An attempt, as visible to the clock and other code outside the engine. */
export interface Scope {
  readonly task: string;
  readonly id: string;
  readonly attempt: number;
  /** Increases each time the job is run, including after a snooze, which does not count as an attempt. */
  readonly claim: number;
  readonly worker: string;
  /** The attempt that started this one, if any: through `call`, or through an application created inside a task. */
  readonly parent?: Scope | undefined;
}

/** A pending timer; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Time as a dependency. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Milliseconds since an arbitrary instant. Unlike `now`, it never jumps when the machine's clock is set. */
  monotonic(): number;
  /**
   * Calls `fn` at an instant, or as soon as the instant has passed: immediately if the clock is set beyond it. If the clock is set back,
   * `fn` is called no later than it would have been, and therefore before its instant. With `Infinity`, `fn` is never called, but the
   * process stays alive.
   */
  at(instant: number, fn: () => void | Promise<void>): Timer;
  /** Calls `fn` after this many milliseconds, regardless of changes to the clock. */
  after(ms: number, fn: () => void | Promise<void>): Timer;
  /** Calls `fn` at the current instant, after the code that is running. Virtual time waits for the promise that `fn` returns. */
  soon(fn: () => void | Promise<void>): void;
  /**
   * Marks an attempt as running until `leave`. Virtual time stands still while a running attempt does not wait on this clock.
   * @param endsAt the latest instant at which the attempt is ended; Infinity: nothing ends it from outside
   */
  enter(scope: Scope, endsAt: number): void;
  /** @param returned true if its function has ended too; false if the attempt was ended from outside and its function may still be running */
  leave(scope: Scope, returned: boolean): void;
  /**
   * Calls `fn`, which makes an effect of an attempt visible. Real time: immediately. Virtual time: once all attempts running at this
   * instant have reached the same point, in the order in which they started.
   */
  inTurn(scope: Scope, fn: () => void): void;
  /** Runs `fn`, which waits on something outside this clock, such as a network. Virtual time stands still until it is done. */
  external<T>(label: string, fn: () => Promise<T>): Promise<T>;
}

// Node.js turns a longer delay into one millisecond.
const longestDelayMs = 2_147_483_647;
/**
 * Timers for an instant sleep no longer than this, so that an idle process notices within a minute that the clock was set or that the
 * machine was suspended.
 */
const longestSleepMs = 60_000;
/** The machine's clock was set if its difference from the monotonic clock changed by at least this much. */
const stepMs = 1_000;
/** Node.js may fire a timer up to a millisecond early. */
const earlyMs = 1;

/** Runs a function in an empty asynchronous context, so that the engine and the work it starts do not inherit the caller's context. */
export const outside: <T>(fn: () => T) => T = AsyncLocalStorage.snapshot();

const ownWork = new AsyncLocalStorage<true>();

/**
 * Runs the input and output of a store. The engine awaits these calls itself, so a simulation does not attribute its connections to tasks.
 */
export function asOwnWork<T>(fn: () => T): T {
  return ownWork.run(true, fn);
}

/** True within `asOwnWork` and in callbacks from there. */
export function isOwnWork(): boolean {
  return ownWork.getStore() === true;
}

/** A timer of the system clock for an instant. */
class SystemTimer implements Timer {
  readonly #instant: number;
  readonly #aheadMs: () => number;
  /** On the monotonic clock. If the clock is set back, the wait does not get longer. */
  readonly #latest: number;
  readonly #fn: () => void | Promise<void>;
  #handle: NodeJS.Timeout | undefined;

  constructor(instant: number, fn: () => void | Promise<void>, aheadMs: () => number) {
    this.#instant = instant;
    this.#aheadMs = aheadMs;
    this.#latest = realNow() + instant - aheadMs() - RealDate.now();
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
    return Math.min(this.#instant - this.#aheadMs() - RealDate.now(), this.#latest - realNow());
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
/** How far the machine's clock is ahead of the monotonic clock. */
let aheadMs = RealDate.now() - realNow();

/** Resets all timers if the clock was set since the last check. */
function noticeStep(): void {
  const found = RealDate.now() - realNow();
  if (Math.abs(found - aheadMs) < stepMs) return;
  aheadMs = found;
  for (const timer of armed) timer.arm();
}

const notAhead = () => 0;

/** The machine's clock. */
export const systemClock: Clock = {
  now: RealDate.now,
  monotonic: realNow,
  at(instant, fn) {
    noticeStep();
    return outside(() => new SystemTimer(instant, fn, notAhead));
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
 * A server's clock as known to this machine. Processes on several machines use it to agree on the time.
 * @param aheadMs how far it is currently ahead of the machine's clock, in milliseconds
 */
export function followingClock(aheadMs: () => number): Clock {
  return {
    ...systemClock,
    now: () => RealDate.now() + aheadMs(),
    at(instant, fn) {
      noticeStep();
      return outside(() => new SystemTimer(instant, fn, aheadMs));
    },
  };
}

/** Calls `fn` after a real time, unless the process ends first because it has nothing else to do. */
export function whileAlive(ms: number, fn: () => void): Timer {
  const handle = outside(() => realSetTimeout(fn, ms));
  handle.unref();
  return { cancel: () => realClearTimeout(handle) };
}

/**
 * Lets timers fire and requests be answered between batches of a long operation. Uses real time in a simulation too: virtual time stands
 * still until the step that yields has ended.
 */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((done) => systemClock.soon(done));
}
