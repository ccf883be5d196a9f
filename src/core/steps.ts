/** Encodes the steps, sleeps and signals recorded for a job. Pure. */
import type { RecordedError } from './failure.ts';
import type { Signal, Step } from './types.ts';

/** The state of a wait for a signal: when it times out (null: never), or how it ended. */
export type WaitState = { readonly until: number | null } | { readonly data: unknown } | { readonly timedOut: true };

export function waitState(step: Pick<Step, 'value'>): WaitState {
  return JSON.parse(step.value ?? '{"timedOut":true}') as WaitState;
}

/** The value of a step that has received a signal. */
export function signalValue({ data }: Signal): string {
  return `{"data":${data ?? 'null'}}`;
}

/** The maximum number of steps per job. */
export const maxSteps = 10_000;

/** Marks that a job has steps that can be undone. */
export const undoableStep = '~undoable';
/** How a job ends once its steps are undone. */
export const failedStep = '~failed';

/** How a job ends once its steps are undone. */
export interface Failure {
  /** Null: it was cancelled. */
  readonly error: RecordedError | null;
  /** The reason of the cancellation. */
  readonly reason: string | null;
  /** True if it failed permanently before its last attempt. */
  readonly permanent: boolean;
  /** The job's maximum while it is being undone. */
  readonly maxAttempts: number;
  /** The job's maximum before that; absent if recorded by an earlier version. */
  readonly ownMaxAttempts?: number;
}

/** How an undone job ended, according to its steps; undefined if it was not undone. */
export function failureIn(steps: readonly Step[]): Failure | undefined {
  const value = steps.find(({ name }) => name === failedStep)?.value;
  return value == null ? undefined : (JSON.parse(value) as Failure);
}

/**
 * The number of attempts for undoing a job's steps, in addition to those of its task: a compensation can fail, and a worker can be killed
 * while it runs.
 */
export const undoAttempts = 10;

/** Records that the job is being undone. */
export function failureStep(failure: Failure): Pick<Step, 'name' | 'kind' | 'value'> {
  return { name: failedStep, kind: 'step', value: JSON.stringify(failure) };
}

const undoPrefix = '~undo ';
const undonePrefix = '~undone ';

/** The name of the step that records that a step has been undone. */
export function undoStep(name: string): string {
  return `${undoPrefix}${name}`;
}

/** The name of the step that records that a step was undone before the job was queued again. */
export function undoneStep(name: string): string {
  return `${undonePrefix}${name}`;
}

/**
 * The recorded steps that remain when an ended job is queued again. Steps that were undone run again. A successful job starts from the
 * beginning, because all of it was undone or is meant to run once more; only the signals that it has received are kept. Undefined: nothing
 * changes.
 */
export function stepsRunAgain(steps: readonly Step[], wasSuccessful: boolean): readonly Step[] | undefined {
  if (wasSuccessful && steps.length > 0) {
    const done = steps.filter((step) => step.kind === 'step' && !isHidden(step));
    const names = new Set(done.map(({ name }) => undoneStep(name)));
    const kept = steps.filter(({ name, kind }) => kind === 'signal' || (name.startsWith(undonePrefix) && !names.has(name)));
    return [...kept, ...done.map((step) => ({ ...step, name: undoneStep(step.name), value: null }))];
  }
  if (!steps.some(({ name }) => name === failedStep)) return undefined;
  const undone = steps.flatMap(({ name }) => (name.startsWith(undoPrefix) ? [name.slice(undoPrefix.length)] : []));
  const gone = new Set([failedStep, ...undone, ...undone.map(undoneStep)]);
  return steps
    .filter(({ name }) => !gone.has(name))
    .map((step) => (step.name.startsWith(undoPrefix) ? { ...step, name: undoneStep(step.name.slice(undoPrefix.length)) } : step));
}

/** True for the engine's internal records. Users see neither these nor gaps in their place. */
export function isHidden({ name }: Pick<Step, 'name'>): boolean {
  return name === undoableStep || name === failedStep || name.startsWith(undoPrefix) || name.startsWith(undonePrefix);
}

/** A step's name as shown to users. */
export function nameOfStep({ name }: Pick<Step, 'name'>): string {
  return name.startsWith('~') ? name.slice(1) : name;
}

const unusedWords = 'recorded steps that no longer occur in the code: ';

/** The line that a job logs when it ends with recorded steps that its code, which has changed, did not run. */
export function unusedLine(names: readonly string[]): string {
  return unusedWords + names.slice(0, 10).join(', ');
}

/** The names of these steps in such a log line; undefined for other lines. */
export function unusedIn(line: string): string | undefined {
  return line.startsWith(unusedWords) ? line.slice(unusedWords.length) : undefined;
}
