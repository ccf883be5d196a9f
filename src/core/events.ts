/**
 * The catalogue of events: everything that happens to a job, a worker or a schedule, as one typed list. Events are public API: `tasks.on`
 * delivers them to applications, and a simulation builds its record and timeline from them alone.
 *
 * | event | when |
 * |---|---|
 * | enqueued | the store acknowledged a new job |
 * | started | a worker started an attempt |
 * | progressed | an attempt reported progress |
 * | logged | an attempt wrote a log line |
 * | stepped | a step, a sleep or a signal was recorded with the job |
 * | successful | the job's result is stored |
 * | retrying | an attempt failed and the job waits for its next one |
 * | snoozed | a task asked to be run again later |
 * | failed | the job failed for good |
 * | cancelled | the job was cancelled: by a caller, by its task, or because it expired |
 * | orphaned | a lease ended without an outcome; the job is ready again, or failed |
 * | released | a stopping worker gave the job back |
 * | discarded | a worker's late outcome was refused, because it no longer held the job |
 * | requeued | a finished job was queued again |
 * | unblocked | the last job that it waited for has finished, and the job is due |
 * | prioritized | the priority of a queued job was changed |
 * | edited | the input, due time or queue of a queued job was changed |
 * | deleted | the job was deleted; an unfinished job is reported as cancelled |
 * | scheduled | a schedule's occurrence created a job |
 * | skipped | occurrences of a schedule created no job: `missed` (no scheduler was running), `overlap`, or `failed` (computing the input failed) |
 * | workerStarted, workerStopping, workerStopped | a worker changed state |
 * | storeFailing, storeRecovered | a worker's store calls fail (emitted at most every 30 s), or succeed again |
 */
import { ignoreRejection, isThenable } from './duration.ts';
import type { RecordedError } from './failure.ts';
import { frozen } from './json.ts';
import type { Job, Progress } from './types.ts';

interface JobEvent {
  /** Epoch milliseconds. */
  readonly at: number;
  /** The job's row after the event. */
  readonly job: Job;
}
interface AttemptEvent extends JobEvent {
  readonly worker: string;
  readonly attempt: number;
}
interface WorkerEvent {
  readonly at: number;
  readonly worker: string;
}

/** The severity of a line that a task logs. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** The payload of each event, by its name. */
export interface EventMap {
  enqueued: JobEvent;
  started: AttemptEvent;
  progressed: AttemptEvent & { readonly progress: Progress };
  logged: AttemptEvent & { readonly level: LogLevel; readonly message: string; readonly fields: Readonly<Record<string, unknown>> | null };
  stepped: AttemptEvent & { readonly step: string; readonly kind: 'step' | 'sleep' | 'signal' };
  successful: AttemptEvent;
  retrying: AttemptEvent & { readonly error: RecordedError; readonly dueAt: number };
  snoozed: AttemptEvent & { readonly dueAt: number };
  failed: JobEvent & { readonly worker: string | null; readonly attempt: number; readonly error: RecordedError | null };
  cancelled: JobEvent & { readonly worker: string | null; readonly attempt: number };
  orphaned: AttemptEvent & { readonly error: RecordedError };
  released: AttemptEvent;
  discarded: AttemptEvent & { readonly outcome: string };
  requeued: JobEvent;
  unblocked: JobEvent;
  prioritized: JobEvent;
  edited: JobEvent;
  deleted: JobEvent;
  scheduled: JobEvent;
  skipped: {
    readonly at: number;
    readonly schedule: string;
    readonly task: string;
    readonly reason: 'missed' | 'overlap' | 'failed';
    /** Counted up to 1,000. */
    readonly count: number;
    readonly error: RecordedError | null;
  };
  workerStarted: WorkerEvent;
  workerStopping: WorkerEvent;
  workerStopped: WorkerEvent;
  storeFailing: WorkerEvent & { readonly error: RecordedError };
  storeRecovered: WorkerEvent;
}
export type EventName = keyof EventMap;

const named: Record<EventName, true> = {
  enqueued: true,
  started: true,
  progressed: true,
  logged: true,
  stepped: true,
  successful: true,
  retrying: true,
  snoozed: true,
  failed: true,
  cancelled: true,
  orphaned: true,
  released: true,
  discarded: true,
  requeued: true,
  unblocked: true,
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

/** The other fields of a row are numbers, strings or null. */
function freezeRow(job: Job): void {
  if (Object.isFrozen(job)) return;
  frozen(job.tags);
  frozen(job.metadata);
  frozen(job.overrides);
  frozen(job.progress);
  Object.freeze(job);
}

/** Receives the event, and the attempt whose code caused it, if any. */
type Listener = (event: Event, attempt: unknown) => void;

/** Delivers events to listeners, synchronously and in order. An error thrown by a listener does not affect the others. */
export class Emitter {
  readonly #listeners: { [Name in EventName]?: Listener[] } = {};
  #all: Listener[] = [];
  #isUsed = false;
  readonly #failed: (error: unknown) => void;
  readonly #outside: (call: (attempt: unknown) => void) => void;

  /**
   * @param failed called with errors that listeners throw
   * @param outside calls its argument outside the context of the running attempt, and passes that attempt; work that a listener leaves
   * behind does not belong to the attempt
   */
  constructor(failed: (error: unknown) => void, outside: (call: (attempt: unknown) => void) => void) {
    this.#failed = failed;
    this.#outside = outside;
  }

  /** Calls `listener` for every event with this name (`'*'`: any event). Returns a function that removes the listener. */
  on(name: EventName | '*', listener: Listener): () => void {
    this.#isUsed = true;
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

  /** Whether any event has had a listener. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  /** Whether an event has listeners. If not, callers need not build it. */
  hasListeners(name: EventName): boolean {
    return this.#all.length > 0 || (this.#listeners[name]?.length ?? 0) > 0;
  }

  emit(event: Event): void {
    if (!this.hasListeners(event.type)) return;
    // The row belongs to the store, and the fields of a log line to the application. Only the package's own objects are frozen.
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
      // The promise of an async listener is not awaited.
      if (isThenable(returned)) ignoreRejection(returned, this.#failed);
    } catch (error) {
      this.#failed(error);
    }
  }
}
