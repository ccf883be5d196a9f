/** Parses durations and instants as users write them into milliseconds. Pure: reads no clock. */
import { ConfigError } from './errors.ts';

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
type Unit = keyof typeof unitMs;

/** A duration: a number of milliseconds, or a number with a unit: `'250ms' '30s' '5m' '2h' '1d' '1w'`. */
export type Duration = number | `${number}${Unit}`;

/** A point in time: a `Date`, an ISO 8601 string with an offset or `Z`, epoch milliseconds, or a Temporal instant. */
export type Instant = Date | string | number | TemporalInstant;

/** The part of `Temporal.Instant` and `Temporal.ZonedDateTime` that is used, if the runtime has them. */
export interface TemporalInstant {
  readonly epochMilliseconds: number;
}

/** The largest instant that a JavaScript Date can hold, in epoch milliseconds (ECMA-262, time values). */
export const latestInstant = 8_640_000_000_000_000;
/** The longest duration accepted, ten years. A larger number is usually an instant passed by mistake. */
export const longestDurationMs = 315_576_000_000;

const durationPattern = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/;

/** Parses a duration into whole milliseconds, rounded. Undefined if it is invalid: negative, not finite, or longer than ten years. */
export function parseDuration(value: unknown): number | undefined {
  const ms = lengthOf(value);
  return ms !== undefined && ms >= 0 && ms <= longestDurationMs ? Math.round(ms) : undefined;
}

function lengthOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  const match = typeof value === 'string' ? durationPattern.exec(value) : null;
  return match ? Number(match[1]) * unitMs[match[2] as Unit] : undefined;
}

/**
 * The expected duration, for error messages.
 * @param otherwise what else is accepted here
 */
export function durationExpected(
  value?: unknown,
  otherwise = "a duration such as '250ms', '30s', '5m', '2h', '1d' or a number of milliseconds",
): string {
  const length = lengthOf(value);
  if (length === undefined) {
    const instead = inOurUnits(value);
    return instead === undefined ? otherwise : `${otherwise}; write '${instead}'`;
  }
  if (length <= longestDurationMs) return otherwise;
  const meant =
    typeof value === 'number' && value <= latestInstant
      ? `; numbers are milliseconds from now: for an instant, pass a Date: new Date(${value})`
      : '';
  return `a duration of at most ten years${meant}`;
}

/** Other common names of the units. */
const unitWords: readonly (readonly [words: RegExp, unit: Unit])[] = [
  [/^(?:ms|msecs?|millis|milliseconds?)$/, 'ms'],
  [/^(?:s|secs?|seconds?)$/, 's'],
  [/^(?:m|mins?|minutes?)$/, 'm'],
  [/^(?:h|hrs?|hours?)$/, 'h'],
  [/^(?:d|days?)$/, 'd'],
  [/^(?:w|wks?|weeks?)$/, 'w'],
];

/** The equivalent of `'1 hour'` or `'10min'`, if it is unambiguous. */
function inOurUnits(value: unknown): string | undefined {
  const [, count, word = ''] = (typeof value === 'string' && /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(value.trim())) || [];
  const unit = unitWords.find(([words]) => words.test(word.toLowerCase()))?.[1];
  return count === undefined || unit === undefined ? undefined : `${count}${unit}`;
}

/**
 * Parses a duration into milliseconds.
 * @throws ConfigError naming `path` if it is invalid
 */
export function durationMs(value: Duration, path: string): number {
  const ms = parseDuration(value);
  if (ms === undefined) throw new ConfigError('Invalid duration', [{ path, expected: durationExpected(value), got: show(value) }]);
  return ms;
}

// An offset is required: a string without one would mean different instants on different machines.
const instantPattern = /^[+-]?\d{4,6}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})$/i;

/** Parses an instant into epoch milliseconds; undefined if it is invalid. */
export function parseInstant(value: unknown): number | undefined {
  let at: number;
  if (typeof value === 'number') at = value;
  else if (typeof value === 'string') {
    if (!instantPattern.test(value)) return undefined;
    at = Date.parse(value);
    // JavaScript parses February 30 as March 2.
    const day = value.slice(0, value.search(/t/i));
    const midnight = Date.parse(`${day}T00:00:00Z`);
    if (Number.isNaN(midnight) || !new Date(midnight).toISOString().startsWith(day)) return undefined;
  } else if (value instanceof Date) at = value.getTime();
  else if (typeof value === 'object' && value !== null && 'epochMilliseconds' in value) at = Number(value.epochMilliseconds);
  else return undefined;
  return Number.isFinite(at) && Math.abs(at) <= latestInstant ? Math.floor(at) : undefined;
}

/** The expected instant, for error messages. */
export const instantExpected = "an instant: a Date, an ISO string with offset such as '2026-03-28T00:00:00Z', or epoch milliseconds";

/**
 * Parses an instant into epoch milliseconds.
 * @throws ConfigError naming `path` if it is invalid
 */
export function instantMs(value: Instant, path: string): number {
  const at = parseInstant(value);
  if (at === undefined) throw new ConfigError('Invalid instant', [{ path, expected: instantExpected, got: show(value) }]);
  return at;
}

/**
 * Parses a point in time given as an instant, or as a duration from `now` if it is a number or a duration string. A bare number is always a
 * duration here: `runAfter: 5000` means in five seconds.
 */
export function parseWhen(value: unknown, now: number): number | undefined {
  const ms = parseDuration(value);
  if (ms !== undefined) return Math.min(now + ms, latestInstant);
  return typeof value === 'number' ? undefined : parseInstant(value);
}

/** Formats a duration with its two largest units: `1d 4h`, `2m 5s`, `350ms`. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return ms > 0 ? 'forever' : '?';
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 1_000) return `${Math.round(ms)}ms`;
  if (ms < 10_000 && ms % 1_000 !== 0) return `${(Math.floor(ms / 10) / 100).toString()}s`;
  const parts: string[] = [];
  let rest = Math.floor(ms / 1_000) * 1_000;
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const count = Math.floor(rest / unitMs[unit]);
    rest -= count * unitMs[unit];
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length === 1) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

/** False for async functions and generators, which return a promise or an iterator instead of the value, and for classes. */
export function answersAtOnce(fn: unknown): boolean {
  return Object.prototype.toString.call(fn) === '[object Function]' && !isClass(fn);
}

/** True for functions that can only be called with `new`. */
export function isClass(fn: unknown): boolean {
  return typeof fn === 'function' && /^class\b/.test(Function.prototype.toString.call(fn));
}

/** True for generator functions, including async ones: calling one does not run its body. */
export function isGenerator(fn: unknown): boolean {
  return /Generator/.test(Object.prototype.toString.call(fn));
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

/**
 * Keeps an unused promise from ending the process.
 * @param rejected called with the rejection's reason
 */
export function ignoreRejection(promise: PromiseLike<unknown>, rejected: (error: unknown) => void = () => {}): void {
  // A foreign thenable may throw when it is accessed; a promise made from it rejects instead.
  Promise.resolve(promise).catch(rejected);
}

const functionKinds: Readonly<Record<string, string>> = {
  '[object AsyncFunction]': 'an async function',
  '[object GeneratorFunction]': 'a generator function',
  '[object AsyncGeneratorFunction]': 'an async generator function',
};

/** Formats a value for an error message: short, on one line, without control characters. Never throws. */
export function show(value: unknown): string {
  let text: string;
  try {
    if (typeof value === 'string') text = JSON.stringify(value);
    else if (typeof value === 'function')
      text = `${isClass(value) ? 'a class' : (functionKinds[Object.prototype.toString.call(value)] ?? 'a function')}${value.name ? ` (${value.name})` : ''}`;
    else if (typeof value === 'bigint') text = `${value}n`;
    else if (value instanceof Date) text = Number.isNaN(value.getTime()) ? 'an invalid Date' : `Date ${value.toISOString()}`;
    else if (Array.isArray(value)) text = JSON.stringify(value) ?? 'an array';
    else if (typeof value === 'object' && value !== null) {
      const name = Object.getPrototypeOf(value)?.constructor?.name;
      text = name && name !== 'Object' ? `an instance of ${name}` : (JSON.stringify(value) ?? 'an object');
    } else text = String(value);
  } catch {
    text = typeof value;
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  text = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
