/** Names under which parts of a simulation find what ends a wait for a timer that nobody drives. */

/** A callback of a timer has under it the function that rejects what the callback resolves. */
export const refuse: unique symbol = Symbol('escapement.refuse') as never;

/** A simulation has under it what Vitest's fixture calls: tests are not to wait for timers that they do not drive. */
export const watchTimers: unique symbol = Symbol.for('escapement.watchTimers') as never;
