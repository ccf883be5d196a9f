/** Computes a job's keys by calling the application's key functions with its input, and returns them as texts that a store can index. */
import type { Definition, KeyOf, UniqueRule } from '../core/definition.ts';
import { ignoreRejection, isThenable, show } from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import { decode } from '../core/json.ts';
import type { Job } from '../core/types.ts';
import type { Uniqueness } from '../core/unique.ts';
import { digest } from '../ports/machine.ts';

/** Longer keys are stored as a digest. */
const maxKeyLength = 200;

/**
 * Calls a key function with an input.
 * @throws InputError if the function throws, or returns anything but a non-empty string or a finite number
 */
function keyOf(key: NonNullable<KeyOf>, input: unknown, what: string): string {
  let value: unknown;
  try {
    value = key(input);
  } catch (error) {
    throw new InputError(`${what} failed: ${error instanceof Error ? error.message : show(error)}`, { cause: error });
  }
  if (typeof value === 'string' && value !== '') return bounded(value);
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  if (isThenable(value)) ignoreRejection(value);
  throw new InputError(`${what} returned ${show(value)}; expected a non-empty string, or a number`);
}

/** The keys of a job for its task's limits and `unique`. */
export type Keys = Pick<Job, 'unique' | 'concurrencyKey' | 'rateKey'>;

/**
 * The keys of a job.
 * @param text the encoded input
 * @param input the input as parsed by the schema
 * @throws InputError if a key function fails
 */
export function keysOf(
  { name, concurrency, rate }: Definition,
  unique: UniqueRule | null,
  text: string | null,
  input: unknown,
  now: number,
): Keys {
  return {
    unique: unique && uniquenessOf(unique, name, text, input, now),
    concurrencyKey: concurrency?.key ? keyOf(concurrency.key, input, `concurrency.key of ${name}`) : null,
    rateKey: rate?.key ? keyOf(rate.key, input, `rate.key of ${name}`) : null,
  };
}

function uniquenessOf(rule: UniqueRule, task: string, text: string | null, input: unknown, now: number): Uniqueness {
  const { key, withinMs, onConflict, maxWaitMs } = rule;
  const own = typeof key === 'string' ? bounded(key) : key ? keyOf(key, input, `unique.key of ${task}`) : bounded(canonical(text));
  return { key: `${task} ${own}`, while: rule.while, untilAt: withinMs === null ? null : now + withinMs, onConflict, maxWaitMs };
}

function bounded(key: string): string {
  return key.length <= maxKeyLength ? key : digest(key);
}

/** An input as text that does not depend on the order of its properties. */
function canonical(text: string | null): string {
  return text === null ? '-' : JSON.stringify(sorted(decode(text)));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  // An object would lose `__proto__` as a key, so it is written as a list of entries.
  return {
    entries: Object.entries(value)
      .map(([key, part]) => [key, sorted(part)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  };
}
