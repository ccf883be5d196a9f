/**
 * Wraps the functions of tasks for the invariant checker. Records which process runs which attempt, and checks that the engine aborts the
 * attempts that it ends.
 */
import type { Definition, TaskContext } from '../core/definition.ts';
import { isSnooze, steering } from '../core/outcomes.ts';
import type { Job } from '../core/types.ts';
import { answerWithinMs } from '../engine/heartbeat.ts';
import type { Process } from './owners.ts';

/** What this file needs from the simulation. */
export interface HandlersDeps {
  now(): number;
  /** The stored row. */
  job(id: string): Job | undefined;
  /** When something last went wrong with this worker's process. */
  troubledAt(worker: string): number;
  /** The number of attempts it may run at a time in each store. */
  readonly concurrency: number;
  /** The store that has a job. */
  home(id: string): unknown;
  /** True once the worker has reported that it is stopping. */
  stops(worker: string): boolean;
  problem(id: string, what: string): void;
}

/** A function that has started. */
export interface Handler {
  readonly process: Process;
  readonly id: string;
  readonly claim: number;
  readonly startedAt: number;
  readonly timeoutMs: number | null;
  readonly context: TaskContext;
}

/** The return value of a function. */
export type Returned = { readonly snoozedMs: number } | { readonly value: unknown } | { readonly cancelled: string };

const slackMs = 1_000;
/** How long effects of trouble may last: after this, a worker has had time to renew its leases. */
export const troubleLastsMs = 75_000;

export class Handlers {
  readonly #deps: HandlersDeps;
  readonly #running = new Set<Handler>();
  readonly #returned = new Map<string, Returned>();

  constructor(deps: HandlersDeps) {
    this.#deps = deps;
  }

  /** Wraps a task's function so that its start and end are seen. */
  watched(definition: Definition, process: Process): Definition['run'] {
    return (input, context) => {
      const handler = this.#begin(definition, process, input, context);
      let result: unknown;
      try {
        result = definition.run(input, context);
      } catch (error) {
        this.#running.delete(handler);
        throw error;
      }
      const ended = (value: unknown) => {
        this.#running.delete(handler);
        this.#returned.set(`${handler.id} ${handler.claim}`, returned(value));
      };
      if (result instanceof Promise) result.then(ended, () => this.#running.delete(handler));
      else ended(result);
      return result;
    };
  }

  /** What the attempt of a claim has returned, if it has returned. */
  returnedBy(id: string, claim: number): Returned | undefined {
    return this.#returned.get(`${id} ${claim}`);
  }

  /** The function of a claim, while it runs and has not been told to end. */
  atWork(id: string, claim: number): Handler | undefined {
    for (const handler of this.#running) if (handler.id === id && handler.claim === claim && isAtWork(handler)) return handler;
    return undefined;
  }

  /** True while it runs, whether or not it has been told to end. */
  runs(id: string, claim: number): boolean {
    for (const handler of this.#running) if (handler.id === id && handler.claim === claim && !handler.process.dead) return true;
    return false;
  }

  /** Number of jobs of one store that a process runs. */
  countOn(process: Process, home: unknown): number {
    let count = 0;
    for (const handler of this.#running)
      if (handler.process === process && isAtWork(handler) && this.#deps.home(handler.id) === home) count += 1;
    return count;
  }

  /** Finds attempts that should have ended by now. */
  check(): void {
    const now = this.#deps.now();
    for (const handler of this.#running) {
      const { timeoutMs, startedAt, process, id } = handler;
      if (timeoutMs === null || !isAtWork(handler) || process.pausedUntil > startedAt) continue;
      if (now > startedAt + timeoutMs + slackMs)
        this.#deps.problem(id, `L1: its attempt has been running for ${now - startedAt} ms, with a timeout of ${timeoutMs} ms`);
    }
  }

  #begin(definition: Definition, process: Process, input: unknown, context: TaskContext): Handler {
    const { now, job: rowOf, troubledAt, concurrency, problem } = this.#deps;
    const { id, attempt } = context;
    const row = rowOf(id);
    const holds = row?.status === 'running' && row.worker === process.name && row.attempt === attempt;
    const recently = (worker: string) => now() - troubledAt(worker) < troubleLastsMs;
    // Jobs claimed by a call that was in progress must be returned to the queue.
    if (this.#deps.stops(process.name)) problem(id, `I7: it starts on ${process.name}, which is stopping`);
    if (!holds && !recently(process.name)) problem(id, `I3: attempt ${attempt} starts on ${process.name}, which does not hold the job`);
    // A schema may transform the input.
    if (row && !definition.schema && (input === undefined ? null : JSON.stringify(input)) !== row.input)
      problem(id, `I15: it got the input ${JSON.stringify(input)}, but was enqueued with ${row.input}`);
    for (const other of this.#running) {
      if (other.id !== id || !isAtWork(other)) continue;
      if (other.process === process) problem(id, `I6: it starts on ${process.name}, where it is already running`);
      // A paused process cannot react, and one that was paused asks before it gives up an attempt.
      else if (holds && other.process.pausedUntil < now() - answerWithinMs)
        problem(id, `I3: it starts on ${process.name} while it is running on ${other.process.name}, which has not been told to end it`);
    }
    const timeoutMs = row?.overrides?.timeoutMs ?? definition.timeoutMs;
    const handler: Handler = { process, id, claim: holds ? row.claim : -1, startedAt: now(), timeoutMs, context };
    this.#running.add(handler);
    const count = this.countOn(process, this.#deps.home(id));
    if (count > concurrency) problem(id, `I8: it starts on ${process.name}, which runs ${count} jobs at once, more than ${concurrency}`);
    return handler;
  }
}

function isAtWork({ process, context }: Handler): boolean {
  return !process.dead && !context.signal.aborted;
}

function returned(value: unknown): Returned {
  const steered = steering(value);
  if (!steered) return { value };
  return isSnooze(steered) ? { snoozedMs: steered.delayMs } : { cancelled: steered.reason };
}
