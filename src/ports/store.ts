/**
 * The interface between the engine and a store. A store keeps rows and changes them atomically. It makes no decisions and reads no clock:
 * every call passes its own `now`. Methods may return a value or a promise. They take and return arrays, and results are in the order of
 * the arguments.
 *
 * Every store must obey these laws, and the conformance suite in `escapement/testing` tests each of them:
 * 1. A job has at most one live lease.
 * 2. A stale claim settles nothing, and a lease that has been renewed is not settled as lost.
 * 3. `claim` never returns jobs that are not due, have expired, belong to a paused queue, or exceed a limit of the caller (`core/gate`). Running
 *    jobs are counted in the rows, whichever worker claimed them.
 * 4. Jobs are ordered by priority, due time, id.
 * 5. At most one job holds a unique key (`core/unique`).
 * 6. An occurrence of a schedule creates at most one job.
 * 7. A job becomes an orphan when its lease ends, and not before.
 * 8. When a job of a workflow ends, however it ends, the jobs that wait for it change in the same transaction (`core/workflow`).
 * 9. `stats` equals counting `list`.
 * 10. A store reads no clock.
 * 11. A job that `insert` has acknowledged is never lost.
 */
import type { Limits } from '../core/gate.ts';
import type {
  Amendment,
  Attempt,
  Hint,
  Job,
  JobRecord,
  Progress,
  QueueRow,
  ScheduleRow,
  Settlement,
  Signal,
  Status,
  Step,
  WorkerRow,
} from '../core/types.ts';
import type { Edge, Edges } from '../core/workflow.ts';

/** A value or a promise of one. */
export type Awaitable<T> = T | Promise<T>;

export interface ClaimOptions {
  readonly worker: string;
  /** Maximum number of jobs. */
  readonly limit: number;
  readonly leaseUntil: number;
  /** The tasks that the worker knows. Jobs of other tasks are left for workers that know them. */
  readonly tasks: readonly string[];
  /** Undefined means all queues. */
  readonly queues?: readonly string[] | undefined;
  readonly excludeQueues?: readonly string[] | undefined;
  /** How many of them may run and start. Callers keep passing the same object. Null or omitted: no limits. */
  readonly limits?: Limits | null | undefined;
}

/** A lease that a worker holds. */
export interface Held {
  readonly id: string;
  readonly claim: number;
  /** Saved with the renewal. Null or omitted: no change. */
  readonly progress?: Progress | null;
  /** Added to the job's log with the renewal. The log is stored as the blob `logBlob`, see `core/log`. */
  readonly log?: readonly string[];
  /** Replaces the job's metadata with the renewal. */
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/**
 * `held`: the lease now ends at the new instant. `lost`: another worker holds the job, or it has finished. `cancelled`: the lease is held,
 * and cancellation has been requested.
 */
export type RenewAnswer = { readonly kind: 'held' } | { readonly kind: 'lost' } | { readonly kind: 'cancelled'; readonly reason: string };

/** The result of `settle`. */
export interface Settled {
  /** The job's row after each settlement. Null: nothing changed, because another claim holds the job or the job has finished. */
  readonly settled: readonly (Job | null)[];
  /** The rows of other jobs that changed as a consequence (law 8): jobs that waited for them, or parts of a workflow that ends. */
  readonly dependents: readonly Job[];
  readonly claimed: readonly Job[];
}

/** The result of `amend`. */
export interface Amended {
  readonly amended: readonly (Job | null)[];
  /** As in `Settled`. */
  readonly dependents: readonly Job[];
}

/** The next instants at which there is work; null means none. */
export interface NextDue {
  /** The earliest due time of a queued job that the caller may claim, in queues that are not paused; `now` if one is ready. */
  readonly jobAt: number | null;
  /** The earliest end of a lease, or expiry of a job that has not started. */
  readonly overdueAt: number | null;
  /** The earliest `pruneAt` of a finished job; omitted if no job has one. */
  readonly pruneAt?: number;
}

/** Selects the finished jobs that `Store.prune` deletes: jobs that finished before an instant, or jobs whose own retention has ended. */
export interface PruneOptions {
  readonly status: 'successful' | 'failed' | 'cancelled';
  /** Maximum number of jobs; the oldest are deleted first. */
  readonly limit: number;
  readonly finishedBefore: number;
  /**
   * `left`: skips jobs that have a `pruneAt` (see `core/job`). `only`: deletes only jobs whose `pruneAt` is before `finishedBefore`,
   * whenever they finished.
   * @default both kinds, by the time at which they finished
   */
  readonly own?: 'left' | 'only' | undefined;
}

/** Selects jobs. All given conditions must hold. */
export interface JobFilter {
  readonly ids?: readonly string[] | undefined;
  readonly status?: readonly Status[] | undefined;
  readonly task?: string | undefined;
  readonly queue?: string | undefined;
  readonly schedule?: string | undefined;
  readonly tag?: string | undefined;
  /** The id of a workflow. */
  readonly workflow?: string | undefined;
  /** The id of the job whose attempt enqueued them. */
  readonly enqueuedBy?: string | undefined;
}

/** The order of a list of jobs, newest first: by enqueue time, or by the time of the last change. */
export type JobOrder = 'enqueued' | 'changed';

/** The number of jobs of a queue in each state. */
export interface QueueStats extends QueueRow {
  readonly counts: Readonly<Record<Status, number>>;
  /** The due time of the ready job that has waited longest. */
  readonly oldestReadyAt: number | null;
}

/** A schedule that is due, or that holds an occurrence whose predecessors have finished. */
export interface DueSchedule {
  readonly row: ScheduleRow;
  /** Its unfinished jobs, oldest first, at most 1,000; empty if overlap is allowed. */
  readonly open: readonly Job[];
}

/** Advances a schedule from the revision that was read to its next instant, and inserts the jobs of its occurrences. */
export interface Advance {
  readonly name: string;
  readonly revision: number;
  readonly times: Pick<ScheduleRow, 'nextAt' | 'occurrenceAt' | 'lastAt' | 'heldAt' | 'runs'>;
  readonly jobs: readonly Job[];
}

/** Options for `Store.keeper`. */
export interface KeeperOptions {
  readonly worker: string;
  readonly leaseMs: number;
  /** The longest time that the worker's thread may be blocked. After that its leases run out. */
  readonly limitMs: number;
  /** Called when the thread resumes after being blocked for this many milliseconds. */
  blocked(ms: number): void;
}

/** Renews the leases of a worker from another thread while the worker's own is blocked. */
export interface Keeper {
  /** Attempts are about to start. May be called any number of times. */
  begun(): void;
  /** No attempts are in flight any more. */
  rest(): void;
  close(): void;
}

/**
 * Bytes stored with a job under a name, such as an attachment of a mail. They are deleted with the job, and never read by a claim or a
 * list.
 */
export interface JobBlob {
  readonly job: string;
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A signal that a job waits for, and the step that records it. */
export interface WantedSignal {
  readonly name: string;
  readonly step: Omit<Step, 'value'>;
}

/** The result of `insert` with `once` or with unique jobs. */
export type Taken = readonly (JobRecord | null)[];

/** Jobs: the operations from enqueueing to deletion. */
export interface JobStore {
  /**
   * Inserts all jobs or none. Acknowledged jobs are kept (law 11). An id that exists already is a StoreError of kind `conflict`; with
   * `once`, such a job is skipped. If a job's unique key is held (law 5), the job is skipped, replaces fields of the holder, or causes a
   * DuplicateJobError, as defined in `core/unique`. With `once` or unique jobs, the result has for each job the existing record, or null if
   * the job was inserted. `blobs` belong to the inserted jobs and are stored in the same transaction. So are `edges`. Their parents are
   * inserted with them, or exist and have not ended; their children are inserted with them, or exist and wait. Otherwise nothing is
   * inserted and a StoreError of kind `conflict` is thrown.
   */
  insert(
    jobs: readonly Job[],
    options: {
      readonly now: number;
      readonly transaction?: unknown;
      readonly once?: boolean | undefined;
      readonly blobs?: readonly JobBlob[] | undefined;
      readonly edges?: readonly Edge[] | undefined;
    },
  ): Awaitable<Taken | undefined>;
  /**
   * Leases due jobs in claim order, up to `limit`. Returns the rows as computed by `claimed` of `core/job`, and opens an attempt row for
   * each. Only the latest `maxAttemptsKept` attempts of a job are kept.
   */
  claim(options: ClaimOptions & { readonly now: number }): Awaitable<readonly Job[]>;
  /** Extends leases that are still held, including leases that have ended if no other worker has taken the job. */
  renew(held: readonly Held[], options: { readonly now: number; readonly leaseUntil: number }): Awaitable<readonly RenewAnswer[]>;
  /**
   * Applies each settlement whose claim still holds the job (law 2) as `settled` of `core/job` does, closes its attempt row, and then
   * claims in the same transaction. A settlement's `log` is added to the job's log. A settlement that was applied before gets the same
   * answer again (`core/changes`). A settlement with `confirm` changes nothing. A settlement with `prune` deletes the job that it finishes,
   * with everything stored under its id; it returns the row as it would have been, or null if it is repeated.
   */
  settle(
    settlements: readonly Settlement[],
    options: { readonly now: number; readonly claim?: ClaimOptions | undefined; readonly transaction?: unknown },
  ): Awaitable<Settled>;
  /** Running jobs whose lease has ended at `now`, and queued jobs that expired before they started; earliest first. */
  overdue(options: { readonly now: number; readonly limit: number }): Awaitable<readonly Job[]>;
  /**
   * Records steps of a running job while the claim holds it, replacing steps of the same names. False: the claim no longer holds the job,
   * and nothing was changed.
   */
  saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): Awaitable<boolean>;
  /** The steps of each job, in the order in which they were first recorded. */
  getSteps(ids: readonly string[]): Awaitable<readonly (readonly Step[])[]>;
  /** Keeps a signal until a job takes it, and makes the jobs that wait for it due. */
  sendSignal(signal: Signal, options: { readonly now: number; readonly transaction?: unknown }): Awaitable<void>;
  /**
   * Gives the oldest signal with this name to a running job while the claim holds it, and records it as a step in the same transaction.
   * Null: there is no such signal. False: the claim no longer holds the job.
   * @param wanted the name of the signal, and the step without its value, which `signalValue` of `core/steps` computes from the signal
   */
  takeSignal(held: Pick<Held, 'id' | 'claim'>, wanted: WantedSignal): Awaitable<Signal | null | false>;
  /**
   * Adds blobs to a running job while the claim holds it, replacing blobs of the same names. False: the claim no longer holds the job, and
   * nothing was changed.
   */
  saveBlobs(held: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): Awaitable<boolean>;
  nextDueAt(options: Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues' | 'limits'> & { readonly now: number }): Awaitable<NextDue>;

  /**
   * Applies each amendment whose row is as expected, as `amended` of `core/job` does. Returns the new row, or the deleted one, whose
   * occurrence becomes free again. Null: the row was not as expected. An amendment that would take a unique key from another job changes
   * nothing and returns the other job's row. So does an amendment that would run a part of a workflow again while the workflow is being
   * undone (`obstaclesOf` of `core/workflow`). A part that is queued again waits for its parents if they are not done.
   */
  amend(amendments: readonly Amendment[], options: { readonly now: number }): Awaitable<Amended>;
  /** The edges of each job. A parent may have been deleted since. */
  getEdges(ids: readonly string[]): Awaitable<readonly Edges[]>;
  /** Deletes finished jobs and returns their number. Reads only the jobs that it deletes. */
  prune(options: PruneOptions): Awaitable<number>;
}

/** Schedules, and the jobs of their occurrences. */
export interface ScheduleStore {
  /** Inserts the row, or replaces the one whose revision is `expect` (null: the row must not exist). Returns false if another writer was faster. */
  saveSchedule(row: ScheduleRow, options: { readonly expect: number | null }): Awaitable<boolean>;
  dropSchedule(name: string): Awaitable<boolean>;
  /** Ordered by name. */
  listSchedules(options?: {
    readonly names?: readonly string[] | undefined;
    readonly source?: ScheduleRow['source'] | undefined;
  }): Awaitable<readonly ScheduleRow[]>;
  /**
   * Returns schedules that are not paused and due at `now`, earliest first, and schedules that hold an occurrence and have no unfinished
   * job. Also returns when the next of the other schedules fires, unless `limit` was reached, and whether any of them holds an occurrence.
   * Schedules whose input is computed by code are omitted unless `computes` names them.
   */
  dueSchedules(options: {
    readonly now: number;
    readonly limit: number;
    readonly computes: readonly string[];
  }): Awaitable<{ readonly due: readonly DueSchedule[]; readonly nextAt: number | null; readonly holding: boolean }>;
  /**
   * Compares and sets the revision, and inserts the occurrences' jobs in the same transaction (law 6). An occurrence that already has a job, or
   * whose unique key is held, creates none. Returns the inserted jobs, or null if another writer was faster.
   */
  advanceSchedules(advances: readonly Advance[], options: { readonly now: number }): Awaitable<readonly (readonly Job[] | null)[]>;
}

/** The workers and the queues. */
export interface RegistryStore {
  /** Inserts or replaces the worker's entry, and removes workers whose last heartbeat is before `forgetBefore`. */
  saveWorker(worker: WorkerRow, options: { readonly forgetBefore: number }): Awaitable<void>;
  /** Ordered by start time. */
  listWorkers(): Awaitable<readonly WorkerRow[]>;
  saveQueue(queue: QueueRow, options: { readonly now: number }): Awaitable<void>;
}

/** Queries. They change nothing. */
export interface ReadStore {
  get(ids: readonly string[]): Awaitable<readonly (JobRecord | null)[]>;
  /**
   * Lists jobs by id in descending order, starting at the cursor: newest first, unless the application chose the ids. The order `changed`
   * lists the most recently changed jobs first, see `changedAt` in `core/job`, and has no cursor. Among jobs that have not changed since
   * they were enqueued, a store may return those with the largest ids if the ids are UUIDv7. Only the latest attempt has its error's stack,
   * see `withoutOldStacks` in `core/job`.
   */
  list(
    filter: JobFilter,
    options: { readonly now: number; readonly limit: number; readonly cursor?: string | undefined; readonly order?: JobOrder | undefined },
  ): Awaitable<{ readonly items: readonly JobRecord[]; readonly cursor: string | null }>;
  /** The blob with this name for each job; null if it has none. */
  getBlobs(ids: readonly string[], name: string): Awaitable<readonly (Uint8Array | null)[]>;
  stats(options: { readonly now: number }): Awaitable<readonly QueueStats[]>;
}

/** The store behind an engine. It throws `StoreError`; if `transient` is set, retrying may help. */
export interface Store extends JobStore, ScheduleStore, RegistryStore, ReadStore {
  /** Name for messages, such as `memory` or `sqlite`. */
  readonly name: string;
  readonly supports: {
    /** Whether `insert` and `settle` can join the caller's own transaction. */
    readonly transactions: boolean;
  };
  /** How long a worker sleeps without a hint before it polls again; Infinity if every change sends a hint. */
  readonly pollMs: number;
  /**
   * The maximum number of concurrent `claim` and `settle` calls per worker.
   * @default 1
   */
  readonly lanes?: number;
  /**
   * How far the clock of the store's server is ahead of this machine's, in milliseconds, as last measured. Workers and callers follow the
   * server's clock. In a simulation, the simulation's clock applies instead.
   * @default 0
   */
  readonly aheadMs?: number;

  /** Prepares the store. Called before anything else; may be called any number of times. */
  migrate(): Awaitable<void>;
  close(): Awaitable<void>;

  /** Calls `notify` after changes in this process or others, as far as the store can detect them. Returns a function that removes the listener. */
  listen?(notify: (hint: Hint) => void): () => void;
  /**
   * Resolves when the application's transactions that changes have joined have ended, or after a short wait if one of them stays open. For
   * simulations: virtual time stands still until then. Not needed by stores whose transactions end at once.
   */
  transactionsEnded?(): Promise<void>;
  /** For stores that several processes share. Uses real time; stores in a simulation have no keeper. */
  keeper?(options: KeeperOptions): Keeper;
}

/**
 * What `sqlite()`, `memory()` and similar functions return: where an engine-driven backend keeps its rows. Nothing is opened before `open`
 * is called.
 */
export interface StoreSource {
  readonly kind: 'store';
  readonly name: string;
  /**
   * Whether other processes can see its rows.
   * @default true
   */
  readonly shared?: boolean;
  /** The file that holds its rows, if it is a file on this machine. */
  readonly file?: string;
  /**
   * @param options.alone true if no other process uses the rows while the store is open, as in a simulation: the store need not listen to
   * others
   */
  open(options?: { readonly alone?: boolean }): Awaitable<Store>;
}

/** Re-exported for authors of stores. */
export type { Amendment, Attempt, Hint, Job, JobRecord, QueueRow, ScheduleRow, Settlement };
