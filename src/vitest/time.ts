/** Parses instants and durations in matchers, and formats them as the timeline does. */
import { ConfigError } from 'escapement';
import { localTime } from 'escapement/testing';
import type { Moment } from './matching.ts';

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
const part = String.raw`(\d+(?:\.\d+)?)(ms|s|m|h|d|w)`;
const durationPattern = new RegExp(`^${part}$`);
const offsetPattern = new RegExp(String.raw`^\+${part}(?:\s*${part})*$`);
const instantPattern = /^[+-]?\d{4,6}-\d{2}-\d{2}T.*(?:Z|[+-]\d{2}:?\d{2})$/i;

/**
 * The milliseconds of a duration.
 * @throws ConfigError naming `path`
 */
export function durationOf(value: unknown, path: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return Math.round(value);
  if (typeof value === 'string' && durationPattern.test(value)) return sum(value);
  throw new ConfigError('Invalid duration', [
    { path, expected: "a duration such as '30s', '5m', '1h' or a number of milliseconds", got: String(value) },
  ]);
}

/**
 * Epoch milliseconds of a moment; offsets count from `startedAt`.
 * @throws ConfigError naming `path`
 */
export function momentOf(value: Moment, startedAt: () => number, path: string): number {
  let at = Number.NaN;
  if (typeof value === 'string') {
    if (offsetPattern.test(value)) at = startedAt() + sum(value);
    else if (instantPattern.test(value)) at = Date.parse(value);
    else if (value.endsWith(']')) at = localTime(value).getTime();
  } else if (value instanceof Date) at = value.getTime();
  else if (typeof value === 'object' && value !== null) at = Number(value.epochMilliseconds);
  if (Number.isFinite(at)) return at;
  throw new ConfigError('Invalid moment', [
    {
      path,
      expected:
        "an offset from the start of the simulation such as '+10m' or '+1h 30m', a Date, an ISO string with offset, or a local time with its zone such as '2026-03-29T03:00[Europe/Berlin]'",
      got: String(value),
    },
  ]);
}

/** `+1h 5m`: an instant as its offset from the start, exact to the millisecond. */
export function offset(at: number, startedAt: number): string {
  return at < startedAt ? `-${exact(startedAt - at)}` : `+${exact(at - startedAt)}`;
}

/** `1d 2h 3m 4.005s`: a duration without loss of precision. */
export function exact(ms: number): string {
  const parts: string[] = [];
  let rest = ms;
  for (const unit of ['d', 'h', 'm'] as const) {
    const count = Math.floor(rest / unitMs[unit]);
    rest -= count * unitMs[unit];
    if (count > 0) parts.push(`${count}${unit}`);
  }
  if (rest > 0 || parts.length === 0) parts.push(rest > 0 && rest < 1_000 ? `${rest}ms` : `${rest / 1_000}s`);
  return parts.join(' ');
}

function sum(text: string): number {
  let ms = 0;
  for (const [, count, unit] of text.matchAll(new RegExp(part, 'g'))) ms += Number(count) * unitMs[unit as keyof typeof unitMs];
  return Math.round(ms);
}
