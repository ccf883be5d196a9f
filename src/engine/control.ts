/** Functions that tasks call or return to control their current attempt. */
import type { Duration } from '../core/duration.ts';
import { type Cancel, cancel as makeCancel, snooze as makeSnooze, type Snooze } from '../core/outcomes.ts';
import type { Scope } from '../ports/clock.ts';
import type { RunningAttempt } from './attempt.ts';
import { scope } from './scope.ts';

/**
 * Fails the attempt whose code calls this. Intended for `process.on('unhandledRejection')`: Node.js calls the handler in the context of the
 * promise.
 * @returns the attempt, even if it has ended; undefined outside any attempt
 */
export function failCurrentAttempt(error: unknown): Scope | undefined {
  const current = scope.getStore();
  // The attempt may belong to another copy of this package and its worker.
  (current as Partial<RunningAttempt> | undefined)?.stray?.(error);
  return current;
}

/**
 * Return this from a task to run the job again after `delay`, without using up an attempt.
 * @param delay a duration, for example `'10m'`, or milliseconds
 * @throws ConfigError if `delay` is not a valid duration
 * @example return snooze('10m');
 */
export function snooze(delay: Duration): Snooze {
  return noted(makeSnooze(delay));
}

/**
 * Return this from a task to end the job as cancelled.
 * @param reason stored with the job
 * @default reason 'cancelled'
 */
export function cancel(reason = 'cancelled'): Cancel {
  return noted(makeCancel(reason));
}

/** Records a control value with the attempt that created it. The attempt may belong to another copy of this package. */
function noted<T extends Snooze | Cancel>(outcome: T): T {
  (scope.getStore() as Partial<RunningAttempt> | undefined)?.made?.(outcome);
  return outcome;
}
