/**
 * Tracks errors that were thrown in a task's thread or process and recreated here: how they were recorded, and whether they may be retried
 * according to the task's own rules, which saw the original error.
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
