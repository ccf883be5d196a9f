/**
 * A backend receives enqueued jobs (DEP 14's term). There are four kinds: a store with an engine whose workers run the jobs; `immediate()`,
 * which runs jobs where they are enqueued; `dummy()`, which only records them; and other queues with their own workers, such as `bullmq()`.
 * All of them answer reads as a store does, so results, cancellation and listing work the same way.
 */
import type { Job, JobRecord } from '../core/types.ts';
import type { Edge } from '../core/workflow.ts';
import type { Awaitable, JobBlob, Store } from './store.ts';

/**
 * A backend's capabilities (DEP 14: `supports_defer`, `supports_get_result`, `supports_priority`). Capabilities needed by `using` and
 * `enqueue` are checked on enqueue, `results` by `getResult`, and `workers` when a worker starts. `engine` is checked at each of these.
 */
export interface BackendSupports {
  /** `runAfter`. */
  readonly defer: boolean;
  /** `getResult`. */
  readonly results: boolean;
  /** `using({ priority })`. If false, the priority of a definition has no effect. */
  readonly priority: boolean;
  /** Enqueueing in the caller's transaction. */
  readonly transactions: boolean;
  readonly workers: boolean;
  /** Whether other processes can see its jobs. */
  readonly shared: boolean;
  /**
   * What the engine and its stores add to a queue: unique jobs, limits, `retention` of tasks, blobs, workflows, schedules, steps, signals, and events of
   * other processes.
   */
  readonly engine: boolean;
}

/** Options for enqueueing jobs. */
export interface EnqueueTo {
  readonly now: number;
  readonly transaction?: unknown;
  /** Skip jobs whose id exists already. */
  readonly once?: boolean | undefined;
  /** Bytes to store with the jobs. */
  readonly blobs?: readonly JobBlob[] | undefined;
  /** The edges between the jobs of a workflow. */
  readonly edges?: readonly Edge[] | undefined;
}

/** A job as returned by `enqueue`. */
export interface Enqueued extends JobRecord {
  /** True if no job was created, because this one already has the id or holds the unique key. */
  readonly duplicate?: boolean;
}

export interface Backend {
  /** Name for messages. */
  readonly name: string;
  /** The file that holds its jobs, if any. */
  readonly file?: string | undefined;
  readonly supports: BackendSupports;
  /** See `Store`. @default 0 */
  readonly aheadMs?: number;
  /** Opens and migrates on first use. */
  open(): Awaitable<Store>;
  /** Stores new jobs and returns their current rows. A job that exists already, or whose unique key is held, is returned as the existing row. */
  enqueue(jobs: readonly Job[], options: EnqueueTo): Awaitable<readonly Enqueued[]>;
  /** Called when jobs have been queued again by hand. */
  requeued(): Awaitable<void>;
  close(): Awaitable<void>;
}
