/** Errors that are passed between a worker and a task's thread or process: recorded on one side, and recreated on the other. */
import { isEscapementError, type RetryAfterError } from '../core/errors.ts';
import { type ErrorDetails, isPermanentError, recordError } from '../core/failure.ts';
import { crossed } from '../engine/crossed.ts';
import type { Crossed } from './messages.ts';

/** @param isPermanent the task's own rule */
export function crossing(thrown: unknown, isPermanent: (error: unknown) => boolean = isPermanentError): Crossed {
  const after = isEscapementError(thrown) && thrown.code === 'ESCAPEMENT_RETRY_AFTER' ? (thrown as RetryAfterError).after : undefined;
  return { record: recordError(thrown), permanent: isPermanent(thrown), ...(after === undefined ? {} : { after }) };
}

/** The recreated error. It is not an instance of the original class, but has its name, message, stack and properties. */
export function made({ record, permanent, after }: Crossed): Error {
  const error = madeOf(record);
  error.stack = record.stack;
  if (after !== undefined) Object.defineProperties(error, { [brand]: { value: 'error' }, after: { value: after } });
  crossed.set(error, { record, permanent });
  return error;
}

const brand = Symbol.for('escapement.error');

function madeOf({ name, message, code, status, properties, cause, errors }: ErrorDetails): Error {
  const error = errors ? new AggregateError(errors.map(madeOf), message) : new Error(message);
  if (cause) Object.defineProperty(error, 'cause', { value: madeOf(cause), configurable: true, writable: true });
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  return Object.assign(error, properties, code === undefined ? {} : { code }, status === undefined ? {} : { status });
}
