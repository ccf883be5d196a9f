/** What all parts of a running engine share: time, randomness, ids, events, the known tasks, and the log. */
import type { Definition, TaskContext } from '../core/definition.ts';
import type { Emitter } from '../core/events.ts';
import type { Limits } from '../core/gate.ts';
import type { Job } from '../core/types.ts';
import type { Clock } from '../ports/clock.ts';
import type { Machine } from '../ports/machine.ts';
import type { Random } from '../ports/random.ts';
import type { AttemptMiddleware } from './around.ts';
import type { RunningAttempt } from './attempt.ts';

/** The destination of log lines. Compatible with pino. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const duplicateKey = Symbol.for('escapement.duplicatesEvent');

/** Marks a log line that duplicates an event. Logs written from events skip these lines; other logs ignore the mark. */
export function duplicatesEvent<Fields extends object>(fields: Fields): Fields {
  return Object.defineProperty(fields, duplicateKey, { value: true });
}

/** How long finished jobs are kept, in milliseconds; Infinity means forever. */
export interface Retention {
  readonly successfulMs: number;
  readonly failedMs: number;
  readonly cancelledMs: number;
}

/** An attempt in flight, as visible to other workers in its process. */
export interface InFlight {
  readonly claim: number;
}

/** The workers running in this process, for all applications. */
export const runningHere: Host['running'] = new Set();

/** Runs the functions of isolated tasks outside the worker's thread. */
export interface Isolate {
  /** Resolves or rejects as the function does. If the attempt is ended, the function is ended too. */
  run(definition: Definition, attempt: RunningAttempt, context: TaskContext): Promise<unknown>;
  close(): void;
}

export interface Host {
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Emitter;
  readonly logger: Logger;
  readonly retention: Retention;
  readonly definitions: ReadonlyMap<string, Definition>;
  /** The known queues; undefined: any name is allowed. */
  readonly queues: readonly string[] | undefined;
  readonly machine: Machine;
  /** For each worker in this process, the attempts in flight by job id. */
  readonly running: Set<ReadonlyMap<string, InFlight>>;
  /** The names of the definitions. The array stays the same until a task is added. */
  names(): readonly string[];
  /** The limits of queues and tasks, or null; the same object until a task is added. */
  limits(): Limits | null;
  /** Middleware around every attempt. The list changes when the application registers more. */
  readonly around: readonly AttemptMiddleware[];
  /** Undefined: isolated tasks run like all others, as in a simulation. */
  readonly isolate?: Isolate;
  newId(now: number): string;
  /** The caller's view of a job, for `ctx.result`. */
  resultOf(job: Job): unknown;
  /** The workflow of a job, for `ctx.workflow`. */
  workflowOf(job: Job, result: unknown): unknown;
}
