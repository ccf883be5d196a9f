/** Errors for features that BullMQ does not support. They say what to use instead. */
import { PermanentError, StoreError } from '../core/errors.ts';

const instead = 'use a backend that runs the engine, such as postgres() or sqlite()';

export function unsupported(what: string): StoreError {
  return new StoreError(`bullmq() does not support ${what}; ${instead}`, { kind: 'unsupported' });
}

/** For a task that uses such a feature: a retry would not help. */
export function unsupportedInTask(what: string): PermanentError {
  return new PermanentError(`bullmq() does not support ${what}; ${instead}`);
}
