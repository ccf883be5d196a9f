/** How long finished jobs are kept. */
import type { UniqueRule } from '../core/definition.ts';
import { frozen } from '../core/json.ts';
import type { OwnRetention } from '../core/types.ts';
import type { Retention } from '../engine/host.ts';
import type { OptionReader } from './reader.ts';

/** Parses how long finished jobs of the application are kept. */
export function readRetention(read: OptionReader, options: unknown): Retention {
  const given = ownRetention(read, options, 'retention');
  const keep = (ms: number | null | undefined, fallbackMs: number) => (ms === null ? Number.POSITIVE_INFINITY : (ms ?? fallbackMs));
  return {
    successfulMs: keep(given.successfulMs, 86_400_000),
    failedMs: keep(given.failedMs, 604_800_000),
    cancelledMs: keep(given.cancelledMs, 604_800_000),
  };
}

export function ownRetention(read: OptionReader, options: unknown, path: string): OwnRetention {
  const given = read.object(options, path, ['successful', 'failed', 'cancelled']);
  const keep = (key: 'successful' | 'failed' | 'cancelled') => {
    const value = given[key];
    const ms = value === 'forever' ? null : read.duration(value, `${path}.${key}`);
    return ms === undefined ? {} : { [`${key}Ms`]: ms };
  };
  return { ...keep('successful'), ...keep('failed'), ...keep('cancelled') };
}

/** Merges two retentions; null if neither has a value. */
export function kept(below: OwnRetention | null | undefined, above: OwnRetention | undefined): OwnRetention | null {
  const both = { ...below, ...above };
  return Object.keys(both).length > 0 ? frozen(both) : null;
}

/** Keeps a finished job that holds its unique key until its window ends. */
export function keptInWindow(own: OwnRetention | null, unique: UniqueRule | null, application: Retention): OwnRetention | null {
  const windowMs = unique?.withinMs ?? 0;
  const longer: Partial<Record<keyof OwnRetention, number>> = {};
  for (const status of ['successful', 'failed', 'cancelled'] as const) {
    if (!unique?.while.includes(status)) continue;
    const given = own?.[`${status}Ms`];
    const keepMs = given === undefined ? application[`${status}Ms`] : (given ?? Number.POSITIVE_INFINITY);
    if (keepMs < windowMs) longer[`${status}Ms`] = windowMs;
  }
  return kept(own, longer);
}
