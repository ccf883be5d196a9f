/**
 * Limits: how many jobs of a queue, a task or a key may run at a time, and how many may start within a time. Pure; a store counts what runs
 * now in its rows, so no crash can leak a permit.
 */

import type { Definition } from './definition.ts';

/** At most `limit` starts in `perMs`, spread evenly; up to `burst` may start at once after a quiet time (the generic cell rate algorithm). */
export interface Rate {
  readonly limit: number;
  readonly perMs: number;
  readonly burst: number;
}

/** What holds for a queue, or for a task's jobs of one key. */
export interface Limit {
  /** The number of jobs that may run at a time, over all workers. */
  readonly concurrency?: number;
  readonly rate?: Rate;
}

/** The limits of an application: those of its queues and of its tasks, by name. */
export interface Limits {
  readonly queues: Readonly<Record<string, Limit>>;
  readonly tasks: Readonly<Record<string, Limit>>;
}

/** The limits of these queues and tasks; null where there are none. */
export function limitsOf(queues: Limits['queues'], definitions: Iterable<Definition>): Limits | null {
  const tasks: Record<string, Limit> = {};
  for (const { name, concurrency, rate } of definitions) {
    if (!concurrency && !rate) continue;
    tasks[name] = {
      ...(concurrency ? { concurrency: concurrency.limit } : {}),
      ...(rate ? { rate: { limit: rate.limit, perMs: rate.perMs, burst: rate.burst } } : {}),
    };
  }
  const limited = Object.entries(queues).filter(([, limit]) => limit.concurrency !== undefined || limit.rate !== undefined);
  if (limited.length === 0 && Object.keys(tasks).length === 0) return null;
  return { queues: Object.fromEntries(limited), tasks };
}
