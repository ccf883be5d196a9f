/** The options for uniqueness, concurrency and rates. */
import type { Definition, KeyOf, UniqueRule } from '../core/definition.ts';
import { answersAtOnce, isClass } from '../core/duration.ts';
import type { Limit, Rate } from '../core/gate.ts';
import { defaultWhile, type HoldingStatus, holdingStatuses, type OnConflict } from '../core/unique.ts';
import { nearest } from './names.ts';
import { missing, type OptionReader } from './reader.ts';

function readKey(read: OptionReader, value: unknown, path: string): KeyOf {
  if (value === undefined) return null;
  if (typeof value === 'function' && answersAtOnce(value) && !isClass(value)) return value as KeyOf;
  read.fault(path, 'a synchronous function of the input that returns a string', value);
  return null;
}

export function readUnique(read: OptionReader, value: unknown, path: string): UniqueRule | undefined {
  if (value === undefined) return undefined;
  const unlessObject = 'an object such as { key: (input) => … }, or {} for the whole input';
  const given = read.object(value, path, ['key', 'within', 'while', 'onConflict', 'wait', 'maxWait'], unlessObject);
  const { key, onConflict = 'skip' } = given as { key?: unknown; onConflict?: OnConflict };
  const ways: readonly OnConflict[] = ['skip', 'replace', 'reject'];
  if (!ways.includes(onConflict))
    read.fault(
      `${path}.onConflict`,
      `one of ${ways.join(', ')}`,
      onConflict,
      typeof onConflict === 'string' ? nearest(onConflict, ways) : undefined,
    );
  const withinMs = read.duration(given.within, `${path}.within`) ?? null;
  const statuses = given.while as readonly HoldingStatus[] | undefined;
  const expected = `an array of ${holdingStatuses.join(', ')}`;
  if (statuses !== undefined && !(Array.isArray(statuses) && statuses.every((status) => holdingStatuses.includes(status))))
    read.fault(`${path}.while`, expected, statuses);
  else if (statuses !== undefined && !statuses.includes('queued'))
    read.fault(`${path}.while`, "'queued' to be included; without it, waiting jobs are not unique", statuses);
  else if (onConflict === 'replace' && statuses !== undefined && statuses.length > 1)
    read.fault(`${path}.while`, "['queued']: a job that has started cannot be replaced", statuses);
  const waits = { waitMs: read.duration(given.wait, `${path}.wait`), maxWaitMs: read.duration(given.maxWait, `${path}.maxWait`) };
  if (onConflict !== 'replace') {
    if (given.wait !== undefined) read.fault(`${path}.wait`, "onConflict: 'replace' with it", onConflict);
    if (given.maxWait !== undefined) read.fault(`${path}.maxWait`, "onConflict: 'replace' with it", onConflict);
  }
  const own = typeof key === 'string' ? key : readKey(read, key, `${path}.key`);
  if (own === '') read.fault(`${path}.key`, 'a non-empty string', key);
  return {
    key: own,
    withinMs,
    while: Object.freeze([...(Array.isArray(statuses) ? statuses : defaultWhile(onConflict, withinMs !== null))]),
    onConflict,
    waitMs: waits.waitMs ?? null,
    maxWaitMs: waits.maxWaitMs ?? null,
  };
}

const maxConcurrency = 100_000;
const maxRate = 1_000_000;

export function readConcurrency(read: OptionReader, value: unknown, path: string): Definition['concurrency'] {
  if (value === undefined) return null;
  // A number is a limit, as it is for a queue.
  const given: Record<string, unknown> = typeof value === 'number' ? { limit: value } : read.object(value, path, ['limit', 'key', 'fair']);
  const { fair } = given;
  const isFair = fair === true || typeof fair === 'function';
  if (fair !== undefined && typeof fair !== 'boolean' && !isFair) read.fault(`${path}.fair`, 'true, or a function (key) => weight', fair);
  if (isFair && given.key === undefined) read.fault(`${path}.key`, 'a function (input) => …; fair shares need a key', undefined);
  const limit =
    isFair && given.limit === undefined ? null : (read.integer(given.limit ?? missing, `${path}.limit`, 1, maxConcurrency) ?? 1);
  return {
    limit,
    key: readKey(read, given.key, `${path}.key`),
    shareOf: isFair ? weightBy(fair as true | ((key: string) => unknown)) : null,
  };
}

/** An invalid weight counts as 1, because a claim must not fail. */
function weightBy(fair: true | ((key: string) => unknown)): (key: string) => number {
  if (fair === true) return () => 1;
  return (key) => {
    try {
      const weight = fair(key);
      return typeof weight === 'number' && weight > 0 && Number.isFinite(weight) ? weight : 1;
    } catch {
      return 1;
    }
  };
}

export function readRate(read: OptionReader, value: unknown, path: string, more: readonly string[]): Definition['rate'] {
  if (value === undefined) return null;
  const given = read.object(value, path, ['limit', 'per', 'burst', ...more]);
  const limit = read.integer(given.limit ?? missing, `${path}.limit`, 1, maxRate) ?? 1;
  const perMs = read.duration(given.per ?? missing, `${path}.per`) ?? 1;
  if (perMs === 0) read.fault(`${path}.per`, 'more than 0 ms', given.per);
  const burst = read.integer(given.burst, `${path}.burst`, 1, maxRate) ?? limit;
  return { limit, perMs, burst, key: readKey(read, given.key, `${path}.key`) };
}

/** Reads the limits of a queue. */
export function readQueue(read: OptionReader, value: unknown, path: string): Limit {
  const given = read.object(value, path, ['concurrency', 'rate', 'aging']);
  const concurrency = read.integer(given.concurrency, `${path}.concurrency`, 1, maxConcurrency);
  const agingMs = read.duration(given.aging, `${path}.aging`);
  const rate: Rate | null = readRate(read, given.rate, `${path}.rate`, []);
  return {
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(agingMs === undefined ? {} : { agingMs }),
    ...(rate ? { rate: { limit: rate.limit, perMs: rate.perMs, burst: rate.burst } } : {}),
  };
}
