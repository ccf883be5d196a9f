/**
 * Shared by the matchers: the type of expected values, their comparison (like `toMatchObject`: a subset, including asymmetric matchers),
 * and diffs that only show what the test asked about.
 */
import { ConfigError } from 'escapement';
import type { ExpectStatic } from 'vitest';

/** Vitest 3 does not export it by name. */
export type MatcherState = ReturnType<ExpectStatic['getState']>;

type Leaf = string | number | boolean | bigint | symbol | null | undefined | void | Date | RegExp | ((...args: never) => unknown);
type Asymmetric = { asymmetricMatch(other: unknown): boolean };

/** A part of `T`: any properties may be missing, at any depth, and any value may be an asymmetric matcher such as `expect.any(String)`. */
export type Expected<T> = unknown extends T
  ? unknown
  :
      | Asymmetric
      | (T extends Leaf
          ? T
          : T extends readonly unknown[]
            ? { [Index in keyof T]: Expected<T[Index]> }
            : T extends object
              ? { [Key in keyof T]?: Expected<T[Key]> }
              : T);

/**
 * A point in time: an offset from the start of the simulation such as `'+10m'` or `'+1h 30m'`, a `Date`, an ISO 8601 string with an offset,
 * a local time with its zone such as `'2026-03-29T03:00[Europe/Berlin]'`, or a Temporal instant.
 */
export type Moment = string | Date | { readonly epochMilliseconds: number };

/** True if the value contains everything that is expected. */
export function matches(state: MatcherState, actual: unknown, expected: unknown): boolean {
  const { iterableEquality, subsetEquality } = state.utils;
  return state.equals(actual, expected, [...state.customTesters, iterableEquality, subsetEquality]);
}

/** How close a value is to the expected one, from 0 (nothing in common) to 1. */
export function closeness(state: MatcherState, actual: unknown, expected: unknown): number {
  if (matches(state, actual, expected)) return 1;
  if (!isRecord(actual) || !isRecord(expected) || isAsymmetric(expected)) return 0;
  const keys = Object.keys(expected);
  if (keys.length === 0) return 0;
  return keys.reduce((total, key) => total + (key in actual ? closeness(state, actual[key], expected[key]) : 0), 0) / keys.length;
}

/** A diff of the expected value and the corresponding part of the actual one. Parts that match do not appear, whatever matcher was used. */
export function difference(state: MatcherState, actual: unknown, expected: unknown): string {
  const [wanted, got] = compared(state, expected, actual);
  return state.utils.diff(wanted, got) ?? `Expected: ${state.utils.printExpected(wanted)}\nReceived: ${state.utils.printReceived(got)}`;
}

function compared(state: MatcherState, expected: unknown, actual: unknown): [expected: unknown, actual: unknown] {
  if (isAsymmetric(expected)) return matches(state, actual, expected) ? [actual, actual] : [expected, actual];
  if (Array.isArray(expected) && Array.isArray(actual)) {
    const wanted = expected.map((value, i) => (i < actual.length ? compared(state, value, actual[i])[0] : value));
    return [wanted, actual.map((value, i) => (i < expected.length ? compared(state, expected[i], value)[1] : value))];
  }
  if (!isRecord(expected) || !isRecord(actual)) return [expected, actual];
  const wanted: Record<string, unknown> = {};
  const got: Record<string, unknown> = {};
  for (const key of Object.keys(expected)) {
    if (key in actual) [wanted[key], got[key]] = compared(state, expected[key], actual[key]);
    else wanted[key] = expected[key];
  }
  return [wanted, got];
}

/**
 * Rejects unknown options, which would silently assert nothing.
 * @throws ConfigError
 */
export function checkOptions(matcher: string, options: object | undefined, known: readonly string[]): void {
  if (options === undefined) return;
  if (!isRecord(options) || Array.isArray(options)) {
    throw new ConfigError(`Invalid arguments of ${matcher}()`, [{ path: 'options', expected: 'an object', got: String(options) }]);
  }
  const unknown = Object.keys(options).filter((key) => !known.includes(key));
  if (unknown.length === 0) return;
  const expected = known.length === 1 ? `only ${known[0]}` : `one of ${known.join(', ')}`;
  throw new ConfigError(
    `Invalid arguments of ${matcher}()`,
    unknown.map((key) => ({ path: key, expected, got: 'an unknown option' })),
  );
}

/** @throws ConfigError unless `times` is a whole number or undefined */
export function checkTimes(matcher: string, times: unknown): void {
  if (times === undefined || (Number.isInteger(times) && (times as number) >= 0)) return;
  throw new ConfigError(`Invalid arguments of ${matcher}()`, [{ path: 'times', expected: 'a whole number', got: String(times) }]);
}

/** Formats a value on one line. */
export function line(state: MatcherState, value: unknown): string {
  return state.utils.stringify(value, 5, { min: true });
}

/** `1 job`, `2 jobs`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** Indents every line. */
export function indent(text: string, by = '  '): string {
  return text.replace(/^(?=.)/gm, by);
}

function isAsymmetric(value: unknown): boolean {
  return isRecord(value) && typeof value.asymmetricMatch === 'function';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
