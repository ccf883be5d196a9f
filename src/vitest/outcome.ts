/** The matchers for a TaskResult. They are asynchronous because each one refreshes the result first. */
import type { TaskResult } from 'escapement';
import type { MatcherState } from './matching.ts';
import { checkOptions, checkTimes, count, difference, indent, line, type Moment, matches } from './matching.ts';
import { labelOf, resultOf, runningSimulation, when } from './received.ts';
import type { FailedOptions, RetriedOptions, SucceededOptions } from './register.ts';
import { momentOf } from './time.ts';

/** The mismatch of one property, formatted for the message; undefined if it matches. */
type Fault = string | undefined;

export async function toHaveSucceeded(this: MatcherState, received: unknown, options: SucceededOptions<unknown> = {}) {
  const matcher = 'toHaveSucceeded';
  checkOptions(matcher, options, ['attempts', 'returnValue', 'value']);
  const result = await resultOf(this, matcher, received).refresh();
  const succeeded = result.status === 'successful';
  const faults = succeeded
    ? [attemptsFault(this, result, options.attempts), valueFault(this, result, options.returnValue ?? options.value)]
    : [];
  return verdict(this, matcher, options, result, 'to have succeeded', succeeded, faults);
}

export async function toHaveFailed(this: MatcherState, received: unknown, options: FailedOptions = {}) {
  const matcher = 'toHaveFailed';
  checkOptions(matcher, options, ['error', 'attempts', 'reason']);
  const result = await resultOf(this, matcher, received).refresh();
  const failed = result.status === 'failed';
  const faults = failed
    ? [attemptsFault(this, result, options.attempts), reasonFault(this, result, options.reason), errorFault(this, result, options.error)]
    : [];
  return verdict(this, matcher, options, result, 'to have failed', failed, faults);
}

export async function toHaveRetried(this: MatcherState, received: unknown, options: RetriedOptions = {}) {
  const matcher = 'toHaveRetried';
  checkOptions(matcher, options, ['times']);
  checkTimes(matcher, options.times);
  const result = await resultOf(this, matcher, received).refresh();
  const retries = retriesOf(result);
  const { times } = options;
  const fault =
    times === undefined || retries === times
      ? undefined
      : `retries: expected ${this.utils.EXPECTED_COLOR(String(times))}, got ${this.utils.RECEIVED_COLOR(String(retries))}`;
  return verdict(this, matcher, options, result, 'to have been retried', retries > 0 || times === 0, [fault]);
}

export async function toHaveStepped(this: MatcherState, received: unknown, names: readonly string[]) {
  const matcher = 'toHaveStepped';
  const result = await resultOf(this, matcher, received).refresh();
  const recorded = (await result.steps()).filter(({ kind }) => kind === 'step').map(({ name }) => name);
  const fault = this.equals(recorded, names)
    ? undefined
    : `steps: expected ${this.utils.printExpected(names)}, got ${this.utils.printReceived(recorded)}`;
  return verdict(
    this,
    matcher,
    names,
    result,
    `to have recorded the steps ${names.join(', ')}`,
    fault === undefined || recorded.length > 0,
    [fault],
  );
}

export async function toBeScheduledAt(this: MatcherState, received: unknown, moment: Moment) {
  const matcher = 'toBeScheduledAt';
  const startedAt = () => runningSimulation(`${matcher} with an offset`).startedAt.getTime();
  const at = new Date(momentOf(moment, startedAt, `${matcher}()`));
  const result = await resultOf(this, matcher, received).refresh();
  const waits = isWaiting(result);
  const fault =
    result.dueAt.getTime() === at.getTime()
      ? undefined
      : `due: expected ${this.utils.EXPECTED_COLOR(instant(at))}, got ${this.utils.RECEIVED_COLOR(instant(result.dueAt))}`;
  return verdict(this, matcher, moment, result, `to wait for ${instant(at)}`, waits, [fault]);
}

function verdict(
  state: MatcherState,
  matcher: string,
  argument: unknown,
  result: TaskResult,
  expectation: string,
  holds: boolean,
  possible: readonly Fault[],
) {
  const faults = possible.filter((fault) => fault !== undefined);
  const isDefault = typeof argument === 'object' && argument !== null && Object.keys(argument).length === 0;
  return {
    pass: holds && faults.length === 0,
    message: () => {
      const { isNot, utils } = state;
      const hint = utils.matcherHint(matcher, 'result', isDefault ? '' : line(state, argument), { isNot });
      const head = `Expected ${labelOf(result)} ${isNot ? 'not ' : ''}${expectation}; ${actual(result)}`;
      return [hint, head, ...(isNot ? [] : faults.map((fault) => indent(fault))), history(result)].filter(Boolean).join('\n\n');
    },
  };
}

/** The job's current state, as a sentence. */
function actual(result: TaskResult): string {
  const after = ` after ${count(result.attempts, 'attempt')}`;
  const why = result.reason === null ? '' : `, reason: ${result.reason}`;
  switch (result.status) {
    case 'successful':
    case 'failed':
      return `it ${result.status === 'failed' ? 'failed' : 'succeeded'} at ${when(result.finishedAt ?? result.dueAt)}${after}${why}.`;
    case 'cancelled':
      return `it was cancelled at ${when(result.finishedAt ?? result.dueAt)}${after}${why}.`;
    case 'running':
      return `it is running, attempt ${result.attempts}.`;
    case 'retrying':
      return `it will be retried at ${when(result.dueAt)}${after}.`;
    default:
      return `it is ${result.status}, due at ${when(result.dueAt)}${result.attempts > 0 ? after : ''}.`;
  }
}

function history(result: TaskResult): string {
  const { errors } = result;
  if (errors.length === 0) return '';
  const lines = errors.map(
    ({ attempt, at, name, message }) => `  attempt ${attempt} at ${when(at)}: ${name}: ${message.split('\n', 1)[0]}`,
  );
  const shown = lines.length > 10 ? [...lines.slice(0, 2), `  … ${lines.length - 9} more`, ...lines.slice(-7)] : lines;
  return `Its errors:\n${shown.join('\n')}`;
}

function attemptsFault(state: MatcherState, result: TaskResult, attempts: number | undefined): Fault {
  if (attempts === undefined || attempts === result.attempts) return undefined;
  return `attempts: expected ${state.utils.EXPECTED_COLOR(String(attempts))}, got ${state.utils.RECEIVED_COLOR(String(result.attempts))}`;
}

function valueFault(state: MatcherState, result: TaskResult, value: unknown): Fault {
  if (value === undefined || matches(state, result.returnValue, value)) return undefined;
  return `returnValue:\n${indent(difference(state, result.returnValue, value))}`;
}

function reasonFault(state: MatcherState, result: TaskResult, reason: string | undefined): Fault {
  if (reason === undefined || reason === result.reason) return undefined;
  return `reason: expected ${state.utils.printExpected(reason)}, got ${state.utils.printReceived(result.reason)}`;
}

/** The last error as `name: message`, so that tests can match either. */
function errorFault(state: MatcherState, result: TaskResult, error: string | RegExp | undefined): Fault {
  if (error === undefined) return undefined;
  const last = result.errors.at(-1);
  const text = last ? `${last.name}: ${last.message}` : '';
  if (last && (typeof error === 'string' ? text.includes(error) : text.search(error) >= 0)) return undefined;
  const verb = typeof error === 'string' ? 'one that includes' : 'one that matches';
  return `error: expected ${verb} ${state.utils.printExpected(error)}, got ${last ? state.utils.printReceived(text) : 'none'}`;
}

/** Number of attempts that failed and were, or will be, retried. Snoozes do not count as attempts. */
function retriesOf(result: TaskResult): number {
  return isWaiting(result) ? result.attempts : Math.max(0, result.attempts - 1);
}

function isWaiting(result: TaskResult): boolean {
  return !result.isFinished && result.status !== 'running';
}

/** An instant in both notations, because the test may use either. */
function instant(at: Date): string {
  const short = when(at);
  return short === at.toISOString() ? short : `${short} (${at.toISOString()})`;
}
