/**
 * How long a job waits before its next attempt. A policy is plain data, created with the definition; the delay is a pure function of the
 * policy, the attempt and one random fraction. Delays are whole milliseconds, never negative and never above the longest duration: 2^n is
 * computed only if it is known to be below the cap, because an overflowing delay causes a hot loop.
 */
import { answersAtOnce, type Duration, durationExpected, durationMs, longestDurationMs, parseDuration, show } from './duration.ts';
import { ConfigError, type ConfigFault, isEscapementError, type RetryAfterError } from './errors.ts';

/** Retry delays as data. Make one with {@link exponential}, {@link linear}, {@link fixed} or {@link list}. */
export type Backoff =
  | { readonly kind: 'exponential'; readonly initialMs: number; readonly factor: number; readonly maxMs: number; readonly jitter: number }
  | { readonly kind: 'linear'; readonly initialMs: number; readonly stepMs: number; readonly maxMs: number; readonly jitter: number }
  | { readonly kind: 'list'; readonly delaysMs: readonly number[]; readonly jitter: number }
  | { readonly kind: 'own'; readonly delay: BackoffFunction };

/** A custom policy: returns the delay after the given attempt (1 is the first) failed with `error`. */
export type BackoffFunction = (attempt: number, error: unknown) => Duration;

/** What `retry.backoff` accepts: a policy, a fixed delay, a list of delays (the last one repeats), or a custom function. */
export type BackoffInput = Backoff | Duration | readonly Duration[] | BackoffFunction;

/**
 * Delays that grow by a factor: initial, initial × factor, initial × factor² … up to `max`, plus a random 0 … `jitter` of the delay.
 * @param options.initial the first delay. Default `'1s'`
 * @param options.factor at least 1. Default 2
 * @param options.max the cap, before jitter. Default `'24h'`
 * @param options.jitter 0 … 1: the largest random share added to the delay, so that jobs that failed together are not retried together. Default 0.2
 * @throws ConfigError
 */
export function exponential(options: { initial?: Duration; factor?: number; max?: Duration; jitter?: number } = {}): Backoff {
  const factor = options.factor ?? 2;
  if (!(Number.isFinite(factor) && factor >= 1)) fault('exponential().factor', 'a number of at least 1', factor);
  return {
    kind: 'exponential',
    initialMs: durationMs(options.initial ?? '1s', 'exponential().initial'),
    factor,
    maxMs: durationMs(options.max ?? '24h', 'exponential().max'),
    jitter: jitterOf(options.jitter, 'exponential().jitter'),
  };
}

/**
 * Delays that grow by a step: initial, initial + step, initial + 2 × step … up to `max`.
 * @param options.initial the first delay. Default `'1s'`
 * @param options.step Default: same as `initial`
 * @param options.max the cap, before jitter. Default `'24h'`
 * @param options.jitter 0 … 1. Default 0.2
 * @throws ConfigError
 */
export function linear(options: { initial?: Duration; step?: Duration; max?: Duration; jitter?: number } = {}): Backoff {
  const initialMs = durationMs(options.initial ?? '1s', 'linear().initial');
  return {
    kind: 'linear',
    initialMs,
    stepMs: options.step === undefined ? initialMs : durationMs(options.step, 'linear().step'),
    maxMs: durationMs(options.max ?? '24h', 'linear().max'),
    jitter: jitterOf(options.jitter, 'linear().jitter'),
  };
}

/**
 * The same delay after every attempt.
 * @param options.jitter 0 … 1. Default 0
 * @throws ConfigError
 */
export function fixed(delay: Duration, options: { jitter?: number } = {}): Backoff {
  return { kind: 'list', delaysMs: [durationMs(delay, 'fixed()')], jitter: jitterOf(options.jitter ?? 0, 'fixed().jitter') };
}

/**
 * These delays one after another; the last one repeats.
 * @param options.jitter 0 … 1. Default 0
 * @throws ConfigError
 */
export function list(delays: readonly Duration[], options: { jitter?: number } = {}): Backoff {
  if (!Array.isArray(delays) || delays.length === 0) fault('list()', 'at least one duration', delays);
  return {
    kind: 'list',
    delaysMs: delays.map((delay, i) => durationMs(delay, `list()[${i}]`)),
    jitter: jitterOf(options.jitter ?? 0, 'list().jitter'),
  };
}

/** The default: 1 s, 2 s, 4 s … up to 24 h, plus 0 … 20 %. */
export const defaultBackoff: Backoff = exponential();

/** Parses `retry.backoff`; faults are added to `faults`. */
export function parseBackoff(input: unknown, path: string, faults: ConfigFault[]): Backoff {
  if (typeof input === 'function') {
    if (!answersAtOnce(input)) faults.push({ path, expected: 'a synchronous function that returns a duration', got: show(input) });
    return { kind: 'own', delay: input as BackoffFunction };
  }
  if (Array.isArray(input)) {
    const delaysMs = input.map((delay, i) => {
      const ms = parseDuration(delay);
      if (ms === undefined) faults.push({ path: `${path}[${i}]`, expected: durationExpected(delay), got: show(delay) });
      return ms ?? 0;
    });
    if (delaysMs.length === 0) faults.push({ path, expected: 'at least one duration', got: '[]' });
    return { kind: 'list', delaysMs, jitter: 0 };
  }
  if (typeof input === 'object' && input !== null && 'kind' in input) return { ...(input as Backoff) };
  const ms = parseDuration(input);
  if (ms !== undefined) return { kind: 'list', delaysMs: [ms], jitter: 0 };
  const expected = durationExpected(input, 'exponential(), linear(), fixed(), list(), a duration, a list of them, or a function');
  faults.push({ path, expected, got: show(input) });
  return defaultBackoff;
}

/**
 * The delay after an attempt failed, in whole milliseconds from 0 to the longest duration.
 * @param attempt the attempt that failed; 1 is the first
 * @param fraction a random number in [0, 1), for the jitter
 * @param error the thrown value, for custom policies
 */
export function backoffMs(policy: Backoff, attempt: number, fraction: number, error: unknown): number {
  switch (policy.kind) {
    case 'exponential': {
      // Uses logarithms, because initial × factor^(n−1) may overflow.
      const exponent = attempt - 1;
      const grows = policy.initialMs > 0 && policy.factor > 1;
      const over = grows && exponent * Math.log(policy.factor) > Math.log(policy.maxMs) - Math.log(policy.initialMs);
      const delay = over ? policy.maxMs : Math.min(policy.maxMs, policy.initialMs * policy.factor ** (grows ? exponent : 0));
      return withJitter(delay, policy.jitter, fraction);
    }
    case 'linear':
      return withJitter(Math.min(policy.maxMs, policy.initialMs + policy.stepMs * (attempt - 1)), policy.jitter, fraction);
    case 'list': {
      const delay = policy.delaysMs[Math.min(attempt, policy.delaysMs.length) - 1] ?? 0;
      return withJitter(delay, policy.jitter, fraction);
    }
    case 'own': {
      const ms = ownDelay(policy.delay, attempt, error);
      // A custom policy that throws or returns an invalid duration must not keep the outcome from being recorded.
      return ms ?? backoffMs(defaultBackoff, attempt, fraction, error);
    }
  }
}

/** The minimum delay that a RetryAfterError requests, in milliseconds; 0 for any other error. */
export function retryAfterMs(error: unknown): number {
  if (!isEscapementError(error) || error.code !== 'ESCAPEMENT_RETRY_AFTER') return 0;
  return parseDuration((error as RetryAfterError).after) ?? 0;
}

function ownDelay(delay: BackoffFunction, attempt: number, error: unknown): number | undefined {
  try {
    return parseDuration(delay(attempt, error));
  } catch {
    return undefined;
  }
}

function withJitter(delayMs: number, jitter: number, fraction: number): number {
  return Math.min(longestDurationMs, Math.round(delayMs + delayMs * jitter * fraction));
}

function jitterOf(value: number | undefined, path: string): number {
  const jitter = value ?? 0.2;
  if (!(jitter >= 0 && jitter <= 1)) fault(path, 'a number from 0 to 1', jitter);
  return jitter;
}

function fault(path: string, expected: string, got: unknown): never {
  throw new ConfigError('Invalid backoff', [{ path, expected, got: show(got) }]);
}
