/**
 * Values that a task returns to control its own job: outcomes are returned, failures are thrown. A brand distinguishes them from ordinary
 * return values, so they work across helper functions and copies of the package.
 */
import { type Duration, durationMs } from './duration.ts';

const brand = Symbol.for('escapement.outcome');

/** Returned by a task: run this job again later, without using up an attempt. */
export interface Snooze {
  readonly [brand]: 'snooze';
  readonly delayMs: number;
}

/** Returned by a task: cancel this job, with a reason. */
export interface Cancel {
  readonly [brand]: 'cancel';
  readonly reason: string;
}

/** @throws ConfigError if `delay` is not a valid duration */
export function snooze(delay: Duration): Snooze {
  return { [brand]: 'snooze', delayMs: durationMs(delay, 'snooze()') };
}

export function cancel(reason: string): Cancel {
  return { [brand]: 'cancel', reason: String(reason) };
}

/** The control value, or undefined for an ordinary return value. */
export function steering(value: unknown): Snooze | Cancel | undefined {
  return typeof value === 'object' && value !== null && brand in value ? (value as Snooze | Cancel) : undefined;
}

export function isSnooze(value: Snooze | Cancel): value is Snooze {
  return value[brand] === 'snooze';
}

/** The type of a task's result: what `run` returns, without the control values. */
export type ResultOf<R> = Exclude<Awaited<R>, Snooze | Cancel>;
