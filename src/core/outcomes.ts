/**
 * What a task returns to steer its own job: control is returned, failure is thrown. The engine tells these values from ordinary
 * return values by a brand, so they pass through helper functions and duplicated packages.
 */
import { type Duration, durationMs } from './duration.ts';

const brand = Symbol.for('escapement.outcome');

/** Returned by a task: run this job again later, without using up the attempt. */
export interface Snooze {
  readonly [brand]: 'snooze';
  readonly delayMs: number;
}

/** Returned by a task: end this job now as cancelled, with a reason. */
export interface Cancel {
  readonly [brand]: 'cancel';
  readonly reason: string;
}

/** @throws ConfigError when `delay` is no duration */
export function snooze(delay: Duration): Snooze {
  return { [brand]: 'snooze', delayMs: durationMs(delay, 'snooze()') };
}

export function cancel(reason: string): Cancel {
  return { [brand]: 'cancel', reason: String(reason) };
}

/** What kind of steering value this is, or undefined for an ordinary return value. */
export function steering(value: unknown): Snooze | Cancel | undefined {
  return typeof value === 'object' && value !== null && brand in value ? (value as Snooze | Cancel) : undefined;
}

export function isSnooze(value: Snooze | Cancel): value is Snooze {
  return value[brand] === 'snooze';
}

/** The type of a task's result: what `run` returns, without the steering values. */
export type ResultOf<R> = Exclude<Awaited<R>, Snooze | Cancel>;
