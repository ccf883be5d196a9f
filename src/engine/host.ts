/** What every part of a running engine shares: time, chance, ids, events, the tasks it knows, and where it writes its log. */
import type { Definition } from '../core/definition.ts';
import type { Emitter } from '../core/events.ts';
import type { Limits } from '../core/gate.ts';
import type { Job } from '../core/types.ts';
import type { Clock } from '../ports/clock.ts';
import type { Machine } from '../ports/machine.ts';
import type { Random } from '../ports/random.ts';

/** Where log lines go. pino's loggers fit. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const toldKey = Symbol.for('escapement.told');

/**
 * Marks the fields of a line that says what an event says too. A log that is written from events leaves out these lines; others do not see the mark.
 */
export function told<Fields extends object>(fields: Fields): Fields {
  return Object.defineProperty(fields, toldKey, { value: true });
}

/** How long finished jobs are kept, in milliseconds; Infinity: for ever. */
export interface Retention {
  readonly successfulMs: number;
  readonly failedMs: number;
  readonly cancelledMs: number;
}

/** An attempt in flight, as other workers of its process know it. */
export interface InFlight {
  readonly claim: number;
}

/** What runs in this process, of whatever application. */
export const runningHere: Host['running'] = new Set();

export interface Host {
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Emitter;
  readonly logger: Logger;
  readonly retention: Retention;
  readonly definitions: ReadonlyMap<string, Definition>;
  /** The queues there are; undefined: every name is one. */
  readonly queues: readonly string[] | undefined;
  readonly machine: Machine;
  /** What runs in this process: for each of its workers, the attempts in flight by job id. */
  readonly running: Set<ReadonlyMap<string, InFlight>>;
  /** The names of the definitions; the same array until a task is added. */
  names(): readonly string[];
  /** The limits of queues and tasks, or null; the same object until a task is added. */
  limits(): Limits | null;
  newId(now: number): string;
  /** The caller's view of a job, for `ctx.result`. */
  resultOf(job: Job): unknown;
}
