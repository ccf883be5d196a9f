/**
 * Validates inputs against their schema: on enqueue, so that a mistake is reported where it was made, and again before the task runs,
 * because the code may have changed since.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { InputError } from '../core/errors.ts';

/**
 * Validates an input and returns the schema's output.
 * @throws InputError naming every issue and its path
 */
export function parseInput(schema: StandardSchemaV1, raw: unknown, what: string): unknown {
  const result = schema['~standard'].validate(raw);
  return result instanceof Promise ? result.then((later) => accepted(later, what)) : accepted(result, what);
}

function accepted(result: StandardSchemaV1.Result<unknown>, what: string): unknown {
  if (!result.issues) return result.value;
  const issues = result.issues.map((issue) => {
    const path = (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return { path, message: issue.message };
  });
  const list = issues.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join('; ');
  throw new InputError(`${what} does not match its schema: ${list}`, { path: issues[0]?.path ?? '' });
}
