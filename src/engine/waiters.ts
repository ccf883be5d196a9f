/**
 * Callers in this process that wait for jobs to finish. They share one listener, one poll and one read of the store, so a thousand waits
 * cost as much as one.
 */
import { StoreError } from '../core/errors.ts';
import { isFinished } from '../core/job.ts';
import { TurnoverMap } from '../core/turnover.ts';
import type { Job, JobRecord } from '../core/types.ts';
import { outside, type Timer, yieldToEventLoop } from '../ports/clock.ts';
import type { Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import { aliveAfter } from './registry.ts';
import { scope } from './scope.ts';

/** Called once: with the finished job, with null if it is no longer in the store, or with the error that ends the wait. */
type Done = (record: JobRecord | null, error?: unknown) => void;

interface Reading {
  readonly ids: Set<string>;
  readonly records: Promise<ReadonlyMap<string, JobRecord>>;
}

const pollMs = 250;
const batch = 500;
/** After waiting this long, a caller gets a warning if no worker can run the job. */
const noticeAfterMs = 5_000;

export class Waiters {
  readonly #host: Host;
  readonly #store: Store;
  readonly #waiting = new TurnoverMap<string, Set<Done>>();
  /** Reads requested at the same moment; they share one call of the store. */
  #reading: Reading | undefined;
  /** How often a hint reported that jobs finished. */
  #hints = 0;
  #checking = false;
  #checkAgain = false;
  #poll: Timer | undefined;
  #notice: Timer | undefined;
  readonly #noticed = new Set<string>();
  #unlisten: (() => void) | undefined;
  #closed = false;

  constructor(host: Host, store: Store) {
    this.#host = host;
    this.#store = store;
  }

  /** Changes whenever jobs may have finished. Read it before reading a job: `add` uses it to determine whether that read is still current. */
  get hints(): number {
    this.#listen();
    return this.#hints;
  }

  /** Reads a job, together with all other reads requested at this moment. */
  async read(id: string): Promise<JobRecord | null> {
    this.#reading ??= this.#readSoon();
    this.#reading.ids.add(id);
    return (await this.#reading.records).get(id) ?? null;
  }

  /**
   * Waits for a job that was unfinished when it was read.
   * @param hints the value of `hints` before the read
   * @returns a function that ends the wait
   */
  add(id: string, hints: number, done: Done): () => void {
    if (this.#closed) {
      done(null, closed());
      return () => {};
    }
    const callbacks = this.#waiting.get(id) ?? new Set<Done>();
    this.#waiting.set(id, callbacks.add(done));
    if (hints !== this.#hints) this.#checkSoon();
    outside(() => this.#armPoll());
    if (!scope.getStore()) outside(() => this.#armNotice());
    return () => {
      callbacks.delete(done);
      if (callbacks.size === 0 && this.#waiting.get(id) === callbacks) this.#waiting.delete(id);
      this.#restIfIdle();
    };
  }

  /** Ends every wait, because the store is being closed. */
  close(): void {
    this.#closed = true;
    for (const id of [...this.#waiting.keys()]) this.#settle(id, null, closed());
    this.#restIfIdle();
  }

  #listen(): void {
    this.#unlisten ??= this.#store.listen?.((hint) => {
      if (!hint.finished && Object.keys(hint).length > 0) return;
      this.#hints += 1;
      this.#checkSoon();
    });
  }

  #readSoon(): Reading {
    const ids = new Set<string>();
    const records = outside(() =>
      Promise.resolve().then(() => {
        this.#reading = undefined;
        return this.#records([...ids]);
      }),
    );
    return { ids, records };
  }

  async #records(ids: readonly string[]): Promise<ReadonlyMap<string, JobRecord>> {
    const found = new Map<string, JobRecord>();
    for (let from = 0; from < ids.length; from += batch) {
      if (from > 0) await yieldToEventLoop();
      for (const record of await this.#store.get(ids.slice(from, from + batch))) if (record) found.set(record.job.id, record);
    }
    return found;
  }

  #checkSoon(): void {
    if (this.#waiting.size === 0) return;
    if (this.#checking) {
      this.#checkAgain = true;
      return;
    }
    this.#checking = true;
    this.#host.clock.soon(() => this.#check());
  }

  async #check(): Promise<void> {
    this.#checkAgain = false;
    try {
      const ids = [...this.#waiting.keys()];
      const records = await this.#records(ids);
      for (const id of ids) {
        const record = records.get(id) ?? null;
        if (!record || isFinished(record.job)) this.#settle(id, record);
      }
    } catch (error) {
      // Temporary failures of the store are retried. Callers that cannot wait set a timeout.
      if (!(error instanceof StoreError && error.transient)) for (const id of [...this.#waiting.keys()]) this.#settle(id, null, error);
    }
    this.#checking = false;
    if (this.#checkAgain) this.#checkSoon();
    this.#restIfIdle();
  }

  #settle(id: string, record: JobRecord | null, error?: unknown): void {
    const callbacks = this.#waiting.get(id);
    this.#waiting.delete(id);
    for (const done of callbacks ?? []) done(record, error);
  }

  /** If every change sends a hint, polling is not needed. */
  #armPoll(): void {
    if (this.#poll || this.#store.pollMs === Number.POSITIVE_INFINITY) return;
    this.#poll = this.#host.clock.after(pollMs, () => {
      this.#poll = undefined;
      if (this.#waiting.size === 0) return;
      this.#checkSoon();
      this.#armPoll();
    });
  }

  #armNotice(): void {
    this.#notice ??= this.#host.clock.after(noticeAfterMs, async () => {
      this.#notice = undefined;
      try {
        await this.#warnOfMissingWorkers();
      } catch {
        // The wait itself reports errors of the store.
      }
    });
  }

  async #warnOfMissingWorkers(): Promise<void> {
    const ready = [...(await this.#records([...this.#waiting.keys()].slice(0, batch))).values()].filter(
      ({ job }) => job.status === 'queued',
    );
    if (ready.length === 0) return;
    const now = this.#host.clock.now();
    const aliveSince = this.#store.pollMs === Number.POSITIVE_INFINITY ? Number.NEGATIVE_INFINITY : aliveAfter(this.#store, now);
    const workers = (await this.#store.listWorkers()).filter(({ state, heartbeatAt }) => state === 'running' && heartbeatAt > aliveSince);
    const serves = ({ queue, task }: Job) =>
      workers.some((one) => (one.queues?.includes(queue) ?? true) && !one.excludeQueues?.includes(queue) && one.tasks.includes(task));
    for (const { job } of ready) {
      if (job.dueAt > now || serves(job)) continue;
      const inQueue = workers.some((one) => (one.queues?.includes(job.queue) ?? true) && !one.excludeQueues?.includes(job.queue));
      const problem = inQueue ? `no live worker knows task ${job.task}` : `no live worker serves queue ${job.queue}`;
      if (this.#noticed.has(problem)) continue;
      this.#noticed.add(problem);
      this.#host.logger.warn(
        { job: job.id, task: job.task, queue: job.queue },
        `${problem}, and result.wait() is waiting for one; start one with tasks.worker().start() or escapement worker`,
      );
    }
  }

  #restIfIdle(): void {
    if (this.#waiting.size > 0) return;
    this.#poll?.cancel();
    this.#poll = undefined;
    this.#notice?.cancel();
    this.#notice = undefined;
    this.#unlisten?.();
    this.#unlisten = undefined;
  }
}

function closed(): StoreError {
  return new StoreError('the application was closed by tasks.close() during result.wait()', { kind: 'closed' });
}

const known = new WeakMap<Store, Waiters>();

/** The waiters of a store. */
export function waitersOf(host: Host, store: Store): Waiters {
  let waiters = known.get(store);
  if (!waiters) {
    waiters = new Waiters(host, store);
    known.set(store, waiters);
  }
  return waiters;
}

/** Ends all waits for jobs of a store that is about to be closed. */
export function closeWaiters(store: Store): void {
  known.get(store)?.close();
}
