/**
 * What a task is enqueued to (DEP 14's word). Three kinds: a store with an engine whose workers run the jobs; `immediate()`, which runs
 * them where they are enqueued; `dummy()`, which only keeps them. All keep rows in a store, so results, cancelling and listing are the same.
 */
import type { Job, JobRecord } from '../core/types.ts';
import type { Awaitable, JobBlob, Store } from './store.ts';

/**
 * What a backend can do (DEP 14: `supports_defer`, `supports_get_result`, `supports_priority`). What `using` and `enqueue` ask is checked at
 * enqueue, `results` by `getResult`, `workers` when a worker starts.
 */
export interface BackendSupports {
  /** `runAfter`. */
  readonly defer: boolean;
  /** `getResult`. */
  readonly results: boolean;
  /** `using({ priority })`; the priority of a definition has no effect where this is false. */
  readonly priority: boolean;
  /** Enqueue in the caller's transaction. */
  readonly transactions: boolean;
  readonly workers: boolean;
  /** Other processes can see its jobs. */
  readonly shared: boolean;
}

/** How jobs are enqueued. */
export interface EnqueueTo {
  readonly now: number;
  readonly transaction?: unknown;
  /** A job whose id is taken is not enqueued. */
  readonly once?: boolean | undefined;
  /** Bytes to be kept beside the jobs. */
  readonly blobs?: readonly JobBlob[] | undefined;
}

/** A job as `enqueue` answers with it. */
export interface Enqueued extends JobRecord {
  /** No job was made: this one has the id already, or holds the unique key. */
  readonly duplicate?: boolean;
}

export interface Backend {
  /** A word for messages. */
  readonly name: string;
  /** Where its jobs are kept, if that is a file. */
  readonly file?: string | undefined;
  readonly supports: BackendSupports;
  /** Opens and migrates on first use. */
  open(): Awaitable<Store>;
  /** Acknowledges new jobs and returns their rows as they are then, or the rows that stand in their places. */
  enqueue(jobs: readonly Job[], options: EnqueueTo): Awaitable<readonly Enqueued[]>;
  /** Told that jobs were made ready again by hand. */
  requeued(): Awaitable<void>;
  close(): Awaitable<void>;
}
