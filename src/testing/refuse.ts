/** Symbols through which parts of a simulation reject waits for timers that nothing drives. */

/** On a timer's callback: the function that rejects the promise that the callback resolves. */
export const refuse: unique symbol = Symbol('escapement.refuse') as never;

/** On a simulation: called by Vitest's fixture, so that tests fail if they wait for timers that they do not drive. */
export const watchTimers: unique symbol = Symbol.for('escapement.watchTimers') as never;
