/** Interprets the end of a task's function: it returned, it threw, or it was interrupted. */
import type { Outcome } from '../core/decide.ts';
import type { Definition } from '../core/definition.ts';
import { formatDuration } from '../core/duration.ts';
import { InputError, isEscapementError } from '../core/errors.ts';
import { cut, isPermanentError, maxTextBytes, recordError } from '../core/failure.ts';
import { encode } from '../core/json.ts';
import { type Cancel, isSnooze, type Snooze, steering } from '../core/outcomes.ts';
import { unusedLine } from '../core/steps.ts';
import type { Job, Settlement } from '../core/types.ts';
import { crossedError } from './crossed.ts';
import { duplicatesEvent, type Host } from './host.ts';

/** The attempt. */
interface Execution {
  readonly host: Host;
  readonly job: Job;
  readonly definition: Definition | undefined;
}

/** What the function left behind. */
interface Leftovers {
  /** The control value that it created last; it must be returned. */
  readonly made: Snooze | Cancel | undefined;
  /** Recorded steps that it did not use. */
  readonly unused: readonly string[];
  warn(line: string): void;
}

export function returned(execution: Execution, value: unknown, left: Leftovers): Outcome {
  try {
    return valued(execution, value, left);
  } catch (error) {
    // The task has done its work. Running it again would repeat it.
    const fault =
      error instanceof InputError ? new InputError(unstored(execution.job.task, error.message), { path: error.path ?? '' }) : error;
    return { kind: 'failed', error: recordError(fault), thrown: fault, permanent: true };
  }
}

function valued({ job: { task } }: Execution, value: unknown, { made, unused, warn }: Leftovers): Outcome {
  const steers = steering(value);
  if (steers)
    return isSnooze(steers)
      ? { kind: 'snoozed', delayMs: steers.delayMs }
      : { kind: 'cancelled', reason: cut(steers.reason, maxTextBytes) };
  const text = value === undefined ? null : encode(value, `the return value of ${task}`);
  if (made) {
    const call = isSnooze(made) ? 'snooze()' : 'cancel()';
    warn(`${task} called ${call} but did not return its result, so the job is successful; write: return ${call.replace(')', '…)')}`);
  }
  if (unused.length > 0) warn(unusedLine(unused));
  return { kind: 'done', value: text };
}

/** @param isStopping whether the attempt was asked to stop; stopping is not a failure of the job */
export function thrown(execution: Execution, error: unknown, isStopping: boolean): Outcome {
  if (isStopping) return { kind: 'released' };
  const steers = steering(error);
  if (!steers) return failed(execution, error);
  const call = isSnooze(steers) ? 'snooze(…)' : 'cancel(…)';
  return failed(execution, new InputError(`${execution.job.task} threw ${call} instead of returning it; write: return ${call}`));
}

export function failed(execution: Execution, error: unknown): Outcome {
  const across = crossedError(error);
  if (across) return { kind: 'failed', error: across.record, thrown: error, permanent: across.permanent };
  return { kind: 'failed', error: recordError(error), thrown: error, permanent: isPermanent(execution, error) };
}

function isPermanent({ host, job, definition }: Execution, error: unknown): boolean {
  // If a getter or a custom predicate throws, the failure must still be recorded; it is treated as an ordinary one.
  try {
    if (isPermanentError(error) || (isEscapementError(error) && error.code === 'ESCAPEMENT_UNKNOWN_TASK')) return true;
    return definition?.retryable ? !definition.retryable(error) : false;
  } catch (broken) {
    const fields = { task: job.task, job: job.id, attempt: job.attempt, error: recordError(broken).message };
    host.logger.warn(fields, 'retry.unless or retry.only threw an error; the attempt is treated as retryable');
    return false;
  }
}

/** Explains that a return value could not be stored, and why the job is not retried. */
export function unstored(task: string, why: string): string {
  return `${why} ${task} completed and its effects have happened, so it is not retried. Return plain data, such as an id, or nothing.`;
}

/** Logs a failed attempt: as an error if the job failed for good, as a warning if it will be retried. */
export function logFailure(host: Host, of: Pick<Job, 'task' | 'id'> & { attempt: number; worker: string }, end: Settlement): void {
  const { error, reason } = end;
  if (end.status !== 'failed' && (end.status !== 'queued' || end.outcome !== 'failed')) return;
  const fields = duplicatesEvent({ task: of.task, job: of.id, attempt: of.attempt, worker: of.worker, ...(error ? { error } : {}) });
  const why = error ? `: ${error.name}: ${error.message}` : '';
  if (end.status === 'failed') host.logger.error(fields, `job failed for good${reason === null ? '' : ` (${reason})`}${why}`);
  else host.logger.warn(fields, `attempt failed, retrying in ${formatDuration(Math.max(0, end.dueAt - end.settledAt))}${why}`);
}
