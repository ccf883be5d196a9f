/** What a job remembers of its steps, sleeps and signals, as texts that a store keeps. Pure. */
import type { RecordedError } from './failure.ts';
import type { Signal, Step } from './types.ts';

/** The state of a wait for a signal: until when it waits (null: without end), then what came. */
export type WaitState = { readonly until: number | null } | { readonly data: unknown } | { readonly timedOut: true };

export function waitState(step: Pick<Step, 'value'>): WaitState {
  return JSON.parse(step.value ?? '{"timedOut":true}') as WaitState;
}

/** The value of a step that has taken a signal. */
export function signalValue({ data }: Signal): string {
  return `{"data":${data ?? 'null'}}`;
}

/** The most steps of one job. */
export const maxSteps = 10_000;

/** Marks that a job has steps that can be undone. */
export const undoableStep = '~undoable';
/** How a job that is being undone ends. */
export const failedStep = '~failed';

/** How a job that is being undone ends. */
export interface Failure {
  /** Null: it was cancelled. */
  readonly error: RecordedError | null;
  /** Why it was cancelled. */
  readonly reason: string | null;
  /** True if it failed for good before its last attempt. */
  readonly permanent: boolean;
  /** Of the job, while it is being undone. */
  readonly maxAttempts: number;
  /** Of the job before; absent where an earlier version recorded it. */
  readonly ownMaxAttempts?: number;
}

/** How the steps say that a job that was undone ended; undefined: it was not undone. */
export function failureIn(steps: readonly Step[]): Failure | undefined {
  const value = steps.find(({ name }) => name === failedStep)?.value;
  return value == null ? undefined : (JSON.parse(value) as Failure);
}

/** How many attempts a job gets for undoing its steps, beyond those of its task: a compensation can fail, and a worker can be killed meanwhile. */
export const undoAttempts = 10;

/** Records that the job is being undone. */
export function failureStep(failure: Failure): Pick<Step, 'name' | 'kind' | 'value'> {
  return { name: failedStep, kind: 'step', value: JSON.stringify(failure) };
}

const undoPrefix = '~undo ';
const undonePrefix = '~undone ';

/** Records that a step has been undone. */
export function undoStep(name: string): string {
  return `${undoPrefix}${name}`;
}

/** Records that a step was undone before the job was queued again. */
export function undoneStep(name: string): string {
  return `${undonePrefix}${name}`;
}

/**
 * What is left of the recorded steps when a job that has ended is queued again: what was undone is done again. A job that was successful starts
 * from the beginning, as all of it was undone, or is to be done once more; only the signals that it has taken are kept. Undefined: nothing changes.
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

/** True for what the engine records for itself: people see neither it nor its absence. */
export function isHidden({ name }: Pick<Step, 'name'>): boolean {
  return name === undoableStep || name === failedStep || name.startsWith(undoPrefix) || name.startsWith(undonePrefix);
}

/** A step's name as people read it. */
export function nameOfStep({ name }: Pick<Step, 'name'>): string {
  return name.startsWith('~') ? name.slice(1) : name;
}

const unusedWords = 'recorded steps that the code no longer asks for: ';

/** The line that a job logs when it ends with recorded steps that its code, which has changed, did not ask for. */
export function unusedLine(names: readonly string[]): string {
  return unusedWords + names.slice(0, 10).join(', ');
}

/** The names of these steps in a logged line; undefined if it says something else. */
export function unusedIn(line: string): string | undefined {
  return line.startsWith(unusedWords) ? line.slice(unusedWords.length) : undefined;
}
