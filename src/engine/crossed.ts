/**
 * What is known of errors that were thrown in the thread or process of a task and made again here: how they were recorded, and whether the
 * task's own rules, which saw the error itself, let them be retried.
 */
import type { RecordedError } from '../core/failure.ts';

export interface CrossedError {
  readonly record: RecordedError;
  readonly permanent: boolean;
}

export const crossed = new WeakMap<object, CrossedError>();

export function crossedError(thrown: unknown): CrossedError | undefined {
  return typeof thrown === 'object' && thrown !== null ? crossed.get(thrown) : undefined;
}
