/** Turns a store into a backend: jobs are kept in the store and run by its workers, in this process or others. */

import { StoreError } from '../core/errors.ts';
import type { Job } from '../core/types.ts';
import type { Host } from '../engine/host.ts';
import { closeWaiters } from '../engine/waiters.ts';
import type { Backend, BackendSupports, Enqueued, EnqueueTo } from '../ports/backend.ts';
import type { Awaitable, Store, StoreSource, Taken } from '../ports/store.ts';

export class EngineBackend implements Backend {
  readonly name: string;
  readonly file: string | undefined;
  readonly #host: Host;
  readonly #source: StoreSource;
  #store: Awaitable<Store> | undefined;
  #closed = false;

  constructor(host: Host, source: StoreSource) {
    this.name = source.name;
    this.file = source.file;
    this.#host = host;
    this.#source = source;
  }

  get supports(): BackendSupports {
    return {
      defer: true,
      results: true,
      priority: true,
      transactions: true,
      workers: true,
      shared: this.#source.shared !== false,
      engine: true,
    };
  }

  get aheadMs(): number {
    return this.#store === undefined || this.#store instanceof Promise ? 0 : (this.#store.aheadMs ?? 0);
  }

  open(): Awaitable<Store> {
    if (this.#closed)
      throw new StoreError('the application was closed by tasks.close(); create a new one with createTasks()', { kind: 'closed' });
    this.#store ??= this.#open();
    return this.#store;
  }

  enqueue(jobs: readonly Job[], options: EnqueueTo): Awaitable<readonly Enqueued[]> {
    const store = this.open();
    return store instanceof Promise ? store.then((opened) => this.#insert(opened, jobs, options)) : this.#insert(store, jobs, options);
  }

  requeued(): void {}

  async close(): Promise<void> {
    this.#closed = true;
    const store = await this.#store;
    if (!store) return;
    closeWaiters(store);
    await store.close();
  }

  #open(): Awaitable<Store> {
    const opened = this.#source.open();
    if (opened instanceof Promise) {
      const ready = opened.then((store) => this.#migrate(store));
      // If the store could not be opened or migrated, the next use tries again.
      ready.catch(() => {
        this.#store = undefined;
      });
      return ready;
    }
    return this.#migrate(opened);
  }

  #migrate(store: Store): Awaitable<Store> {
    const done = store.migrate();
    if (!(done instanceof Promise)) {
      this.#store = store;
      return store;
    }
    const ready = done.then(() => {
      this.#store = store;
      return store;
    });
    ready.catch(() => {
      this.#store = undefined;
    });
    return ready;
  }

  #insert(store: Store, jobs: readonly Job[], options: EnqueueTo): Awaitable<readonly Enqueued[]> {
    const done = store.insert(jobs, options);
    return done instanceof Promise
      ? done.then((taken) => this.#enqueued(jobs, options.now, taken))
      : this.#enqueued(jobs, options.now, done);
  }

  #enqueued(jobs: readonly Job[], now: number, taken: Taken | undefined): readonly Enqueued[] {
    return enqueued(this.#host, jobs, now, taken);
  }
}

/** Emits the events of an enqueue, and returns what `Backend.enqueue` returns. */
export function enqueued({ events }: Host, jobs: readonly Job[], now: number, taken: Taken | undefined): readonly Enqueued[] {
  for (const [i, job] of jobs.entries()) {
    const standing = taken?.[i];
    if (!standing) events.emit({ type: 'enqueued', at: now, job });
    else if (job.unique?.onConflict === 'replace' && job.id !== standing.job.id && standing.job.input === job.input)
      events.emit({ type: 'edited', at: now, job: standing.job });
  }
  return jobs.map((job, i) => (taken?.[i] ? { ...taken[i], duplicate: true } : { job, attempts: [] }));
}
