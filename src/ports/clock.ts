/**
 * Time as the engine sees it: an instant, timers, and "right after this". The system clock stands here; a simulation's stands in
 * `testing/virtual-clock`. Nothing else in the engine, the core or a store reads time or arms a timer.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { RealDate, realClearTimeout, realSetImmediate, realSetTimeout } from './real.ts';

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
  /** Calls `fn` at an instant, or as soon as it has passed. `Infinity`: never, but the process stays alive. */
  at(instant: number, fn: () => void | Promise<void>): Timer;
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

/** Runs a function in an empty asynchronous context: the engine, and what it starts, has none of whoever caused it. */
export const outside: <T>(fn: () => T) => T = AsyncLocalStorage.snapshot();

/** The clock of the machine. */
export const systemClock: Clock = {
  now: RealDate.now,
  at(instant, fn) {
    let handle: NodeJS.Timeout;
    const arm = () => {
      const delay = instant - RealDate.now();
      handle = delay > longestDelayMs ? realSetTimeout(arm, longestDelayMs) : realSetTimeout(fn, Math.max(0, Math.ceil(delay)));
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
