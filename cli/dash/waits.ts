/** How long a task's jobs wait between attempts, without jitter: what `retry.backoff` says, read off the task's options. */
import { parseDuration } from '../time.ts';

/** The wait after an attempt has failed; 1 is the first. */
export type Waits = (attempt: number) => number | undefined;

const mostShown = 100;

/** The waits after each attempt from one on, up to the one before the last. */
export function waitsAfter(waits: Waits, attempt: number, maxAttempts: number): number[] | null {
  const found: number[] = [];
  for (let i = attempt; i < maxAttempts && found.length < mostShown; i++) {
    const ms = waits(i);
    if (ms === undefined) return null;
    found.push(ms);
  }
  return found;
}

const standard: Waits = (attempt) => Math.min(86_400_000, 1_000 * 2 ** Math.min(40, attempt - 1));

/** @param retry the `retry` option of a task; undefined where a policy is a function of its own, which is not called to look at it */
export function readWaits(retry: unknown): Waits | undefined {
  const backoff = (retry as { backoff?: unknown } | null | undefined)?.backoff;
  if (backoff === undefined) return standard;
  if (typeof backoff === 'function') return undefined;
  if (Array.isArray(backoff)) return listed(backoff.map((delay) => parseDuration(delay)));
  if (typeof backoff !== 'object' || backoff === null) return listed([parseDuration(backoff)]);
  const policy = backoff as Readonly<Record<string, unknown>>;
  const number = (key: string) => (typeof policy[key] === 'number' ? policy[key] : Number.NaN);
  switch (policy.kind) {
    case 'exponential':
      return (attempt) => finite(Math.min(number('maxMs'), number('initialMs') * number('factor') ** (attempt - 1)));
    case 'linear':
      return (attempt) => finite(Math.min(number('maxMs'), number('initialMs') + number('stepMs') * (attempt - 1)));
    case 'list':
      return Array.isArray(policy.delaysMs) ? listed(policy.delaysMs) : undefined;
    default:
      return undefined;
  }
}

function listed(delays: readonly unknown[]): Waits {
  return (attempt) => {
    const ms = delays[Math.min(attempt, delays.length) - 1];
    return typeof ms === 'number' ? finite(ms) : undefined;
  };
}

function finite(ms: number): number | undefined {
  return Number.isFinite(ms) ? Math.round(ms) : undefined;
}
