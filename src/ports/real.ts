/**
 * The machine's own timers and dates. `escapement/testing` replaces the globals with functions that follow a running simulation. Each
 * replacement refers to its original, so the engine's clock keeps real time wherever it is loaded.
 */

/** The key under which a replacement stores its original. */
export const realKey: unique symbol = Symbol.for('escapement.real') as never;

/**
 * The original of a replacement; any other value is returned unchanged. The replacement may come from another copy of this package, or from
 * a test file that Jest ran before.
 */
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
