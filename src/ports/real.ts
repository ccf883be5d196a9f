/**
 * The machine's own timers and dates. `escapement/testing` puts stand-ins in their place, which obey a running simulation; each carries what it
 * stands for, so that the engine's clock keeps real time wherever it is loaded.
 */

/** Where a stand-in keeps the function that it stands for. */
export const realKey: unique symbol = Symbol.for('escapement.real') as never;

/** What a stand-in stands for; anything else is what it is. A stand-in may be another's: of a copy of this package, or of a test file that Jest ran before. */
export function real<T>(value: T): T {
  return (value as { readonly [realKey]?: T } | undefined)?.[realKey] ?? value;
}

export const realSetTimeout = real(globalThis.setTimeout);
export const realClearTimeout = real(globalThis.clearTimeout);
export const realSetInterval = real(globalThis.setInterval);
export const realClearInterval = real(globalThis.clearInterval);
export const { setImmediate: realSetImmediate } = globalThis;
export const RealDate = real(globalThis.Date);
/** Milliseconds since the process started. */
export const realNow: () => number = real(performance.now).bind(performance);
