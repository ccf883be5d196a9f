/**
 * The catalogue of events: everything that happens to a job, a worker or a schedule, as one typed list. Events are public API: `tasks.on`
 * gives them to applications, and a simulation's record and timeline are made of nothing else.
 *
 * | event | when |
 * |---|---|
 * | enqueued | the store acknowledged a new job |
 * | started | a worker begins an attempt |
 * | progressed | an attempt reported progress |
 * | logged | an attempt wrote a line of log |
 * | successful | the job's result is stored |
 * | retrying | an attempt failed and the job waits for its next one |
 * | snoozed | a task asked to be run again later |
 * | failed | the job failed for good |
 * | cancelled | the job was cancelled: by a caller, by its task, or because it expired |
 * | orphaned | a lease passed without an outcome; the job is ready again, or failed |
 * | released | a stopping worker gave the job back |
 * | discarded | a worker's late outcome was refused, because it no longer held the job |
 * | requeued | someone asked for a finished job to run again |
 * | prioritized | someone changed the priority of a job that waits for its turn |
 * | edited | someone changed the input, due time or queue of a job that waits for its turn |
 * | deleted | someone deleted the job; one that had not finished is told as cancelled |
 * | scheduled | a schedule's occurrence was turned into a job |
 * | skipped | occurrences of a schedule made no job: `missed` (no scheduler ran), `overlap`, or `failed` (their input could not be computed) |
 * | workerStarted, workerStopping, workerStopped | a worker's life |
 * | storeFailing, storeRecovered | a worker meets a failing store, told of at most once in 30 s; and its end |
 */
import { ignoreRejection, isThenable } from './duration.ts';
import type { RecordedError } from './failure.ts';
import { frozen } from './json.ts';
import type { Job, Progress } from './types.ts';

interface OfJob {
  /** Epoch milliseconds. */
  readonly at: number;
  /** The job's row after the event. */
  readonly job: Job;
}
interface OfAttempt extends OfJob {
  readonly worker: string;
  readonly attempt: number;
}
interface OfWorker {
  readonly at: number;
  readonly worker: string;
}

/** The severity of a line that a task logs. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** The payload of each event, by its name. */
export interface EventMap {
  enqueued: OfJob;
  started: OfAttempt;
  progressed: OfAttempt & { readonly progress: Progress };
  logged: OfAttempt & { readonly level: LogLevel; readonly message: string; readonly fields: Readonly<Record<string, unknown>> | null };
  successful: OfAttempt;
  retrying: OfAttempt & { readonly error: RecordedError; readonly dueAt: number };
  snoozed: OfAttempt & { readonly dueAt: number };
  failed: OfJob & { readonly worker: string | null; readonly attempt: number; readonly error: RecordedError | null };
  cancelled: OfJob & { readonly worker: string | null; readonly attempt: number };
  orphaned: OfAttempt & { readonly error: RecordedError };
  released: OfAttempt;
  discarded: OfAttempt & { readonly outcome: string };
  requeued: OfJob;
  prioritized: OfJob;
  edited: OfJob;
  deleted: OfJob;
  scheduled: OfJob;
  skipped: {
    readonly at: number;
    readonly schedule: string;
    readonly task: string;
    readonly reason: 'missed' | 'overlap' | 'failed';
    /** Counted up to 1,000. */
    readonly count: number;
    readonly error: RecordedError | null;
  };
  workerStarted: OfWorker;
  workerStopping: OfWorker;
  workerStopped: OfWorker;
  storeFailing: OfWorker & { readonly error: RecordedError };
  storeRecovered: OfWorker;
}
export type EventName = keyof EventMap;

const named: Record<EventName, true> = {
  enqueued: true,
  started: true,
  progressed: true,
  logged: true,
  successful: true,
  retrying: true,
  snoozed: true,
  failed: true,
  cancelled: true,
  orphaned: true,
  released: true,
  discarded: true,
  requeued: true,
  prioritized: true,
  edited: true,
  deleted: true,
  scheduled: true,
  skipped: true,
  workerStarted: true,
  workerStopping: true,
  workerStopped: true,
  storeFailing: true,
  storeRecovered: true,
};
/** Every event's name. */
export const eventNames = Object.keys(named) as readonly EventName[];
/** Any event, with its name in `type`. */
export type Event = { [Name in EventName]: { readonly type: Name } & EventMap[Name] }[EventName];

/** All else that a row holds is a number, a text or nothing. */
function freezeRow(job: Job): void {
  if (Object.isFrozen(job)) return;
  frozen(job.tags);
  frozen(job.metadata);
  frozen(job.overrides);
  frozen(job.progress);
  Object.freeze(job);
}

/** Called with an event, and with the attempt whose code caused it, if that is so. */
type Listener = (event: Event, attempt: unknown) => void;

/** Delivers events to those who asked for them, at once and in order. A listener that throws disturbs nobody. */
export class Emitter {
  readonly #listeners: { [Name in EventName]?: Listener[] } = {};
  #all: Listener[] = [];
  readonly #failed: (error: unknown) => void;
  readonly #outside: (call: (attempt: unknown) => void) => void;

  /**
   * @param failed told of what a listener threw
   * @param outside calls its argument outside of the attempt that may be running, and with it: what a listener leaves behind is not the attempt's
   */
  constructor(failed: (error: unknown) => void, outside: (call: (attempt: unknown) => void) => void) {
    this.#failed = failed;
    this.#outside = outside;
  }

  /** Calls `listener` at every event of this name (`'*'`: of any). Returns the function that ends this. */
  on(name: EventName | '*', listener: Listener): () => void {
    if (name === '*') {
      this.#all = [...this.#all, listener];
      return () => {
        this.#all = this.#all.filter((other) => other !== listener);
      };
    }
    this.#listeners[name] = [...(this.#listeners[name] ?? []), listener];
    return () => {
      this.#listeners[name] = this.#listeners[name]?.filter((other) => other !== listener) ?? [];
    };
  }

  /** Whether an event has listeners. Without any, callers need not build it. */
  hasListeners(name: EventName): boolean {
    return this.#all.length > 0 || (this.#listeners[name]?.length ?? 0) > 0;
  }

  emit(event: Event): void {
    if (!this.hasListeners(event.type)) return;
    // The row is the store's, and the fields of a log line are the application's: only what is ours is frozen.
    if ('job' in event) freezeRow(event.job);
    if ('progress' in event) frozen(event.progress);
    Object.freeze(event);
    this.#outside((attempt) => {
      for (const listener of this.#all) this.#call(listener, event, attempt);
      for (const listener of this.#listeners[event.type] ?? []) this.#call(listener, event, attempt);
    });
  }

  #call(listener: Listener, event: Event, attempt: unknown): void {
    try {
      const returned: unknown = listener(event, attempt);
      // An async listener is one that nobody awaits.
      if (isThenable(returned)) ignoreRejection(returned, this.#failed);
    } catch (error) {
      this.#failed(error);
    }
  }
}
