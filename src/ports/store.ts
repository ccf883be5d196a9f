/**
 * What an engine asks of a store. A store holds rows and moves them atomically; it never decides, and it reads no clock: every call
 * brings its own `now`. Methods may answer at once or by a promise. Arrays in, arrays out, answers in the order of the questions.
 *
 * The laws, each tested by `escapement/testing`'s conformance suite for any store:
 * 1. A job has at most one live lease.
 * 2. A stale claim settles nothing, and a lease that was renewed meanwhile is not settled as lost.
 * 3. `claim` never returns jobs that are not due, expired, in a paused queue, or beyond a limit that the caller gives, as `core/gate` counts: what
 *    runs is counted in the rows, whoever claimed it. A job beyond a rate is due when it fits.
 * 4. The order is priority, due time, id.
 * 5. At most one job holds a unique key, as `core/unique` says.
 * 6. An occurrence of a schedule makes at most one job.
 * 7. An orphan is found from the end of its lease on, and not before.
 * 8. Settling a parent releases its children in the same transaction. (Comes with workflows.)
 * 9. `stats` equals counting `list`.
 * 10. A store reads no clock.
 * 11. What `insert` acknowledged is never lost.
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
  Status,
  WorkerRow,
} from '../core/types.ts';

/** An answer that is there, or comes. */
export type Awaitable<T> = T | Promise<T>;

export interface ClaimOptions {
  readonly worker: string;
  /** At most so many. */
  readonly limit: number;
  readonly leaseUntil: number;
  /** The names that the worker knows: jobs of other tasks are left for a worker that does. */
  readonly tasks: readonly string[];
  /** Undefined: all queues. */
  readonly queues?: readonly string[] | undefined;
  readonly excludeQueues?: readonly string[] | undefined;
  /** How many of them may run, and start; the same object again and again. Null or left out: no limits. */
  readonly limits?: Limits | null | undefined;
}

/** A lease that a worker holds. */
export interface Held {
  readonly id: string;
  readonly claim: number;
  /** To be saved with the renewal; null or left out: nothing new. */
  readonly progress?: Progress | null;
}

/** `held`: the lease now ends at the new instant. `lost`: someone else has it, or the job is over. `cancelled`: held, and someone wants it to end. */
export type RenewAnswer = { readonly kind: 'held' } | { readonly kind: 'lost' } | { readonly kind: 'cancelled'; readonly reason: string };

/** What `settle` answers. */
export interface Settled {
  /** For each settlement the job's row after it; null: another claim holds the job, or it is over, and nothing was changed. */
  readonly settled: readonly (Job | null)[];
  readonly claimed: readonly Job[];
}

/** The next instants at which there is something to do; null: none is in sight. */
export interface NextDue {
  /** The earliest due time of a queued job that the asker may claim, in queues that are not paused; `now` if one is ready. */
  readonly jobAt: number | null;
  /** The earliest end of a lease, or expiry of a job that has not started. */
  readonly overdueAt: number | null;
  /** The earliest `pruneAt` of a finished job; left out if no job has one. */
  readonly pruneAt?: number;
}

/** Which finished jobs `Store.prune` deletes: those that finished before an instant, or those whose own retention has ended. */
export interface PruneOptions {
  readonly status: 'successful' | 'failed' | 'cancelled';
  /** At most this many, the oldest. */
  readonly limit: number;
  readonly finishedBefore: number;
  /**
   * `left`: jobs that have a `pruneAt`, as `core/job` says, are left out. `only`: jobs whose `pruneAt` is before `finishedBefore`, whenever they
   * finished, and no others. @default both kinds, by when they finished
   */
  readonly own?: 'left' | 'only' | undefined;
}

/** Which jobs. All that is given must hold. */
export interface JobFilter {
  readonly ids?: readonly string[] | undefined;
  readonly status?: readonly Status[] | undefined;
  readonly task?: string | undefined;
  readonly queue?: string | undefined;
  readonly schedule?: string | undefined;
  readonly tag?: string | undefined;
}

/** The order of a list of jobs, newest or latest first: by when they were enqueued, or by when something last happened to them. */
export type JobOrder = 'enqueued' | 'changed';

/** How many jobs of a queue are in each state. */
export interface QueueStats extends QueueRow {
  readonly counts: Readonly<Record<Status, number>>;
  /** The due time of the ready job that has waited longest. */
  readonly oldestReadyAt: number | null;
}

/** A schedule that is due, or that holds an occurrence whose predecessors have finished. */
export interface DueSchedule {
  readonly row: ScheduleRow;
  /** Its jobs that are not finished, oldest first, at most 1,000; none where overlap is allowed. */
  readonly open: readonly Job[];
}

/** How a schedule moves on: from the revision that was read, to its next instant, with the jobs of the occurrences. */
export interface Advance {
  readonly name: string;
  readonly revision: number;
  readonly times: Pick<ScheduleRow, 'nextAt' | 'occurrenceAt' | 'lastAt' | 'heldAt' | 'runs'>;
  readonly jobs: readonly Job[];
}

/** What `Store.keeper` is asked for. */
export interface KeeperOptions {
  readonly worker: string;
  readonly leaseMs: number;
  /** For how long, at most, the worker's thread may be blocked; then its leases pass. */
  readonly limitMs: number;
  /** Called when the thread goes on after it was blocked for this many milliseconds. */
  blocked(ms: number): void;
}

/** Renews the leases of a worker from another thread while the worker's own is blocked. */
export interface Keeper {
  /** Attempts are about to start. Any number of times. */
  begun(): void;
  /** None is in flight any more. */
  rest(): void;
  close(): void;
}

/** Bytes kept beside a job under a name, such as an attachment of a mail. They are deleted with the job, and never read by a claim or a list. */
export interface JobBlob {
  readonly job: string;
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** What `insert` with `once` or with unique jobs answers. */
export type Taken = readonly (JobRecord | null)[];

/** The store behind an engine. Errors are `StoreError`; with `transient` set, asking again may help. */
export interface Store {
  /** A word for messages: `memory`, `sqlite`. */
  readonly name: string;
  readonly supports: {
    /** `insert` and `settle` can join the caller's own transaction. */
    readonly transactions: boolean;
  };
  /** How long a worker without a hint may sleep before it looks again; Infinity where every change is hinted. */
  readonly pollMs: number;

  /** Makes the store ready; called before anything else, any number of times. */
  migrate(): Awaitable<void>;
  close(): Awaitable<void>;

  /**
   * All or nothing. Acknowledged is kept: law 11. An id that is taken is a StoreError of kind `conflict`; with `once`, its job is left out. A job whose
   * unique key another job holds (law 5) is left out too, replaces what `core/unique` says of the other, or is a DuplicateJobError. With `once` or unique
   * jobs, the answer holds for each job the record that stands in its place, or null where it was inserted. `blobs` are those of the
   * inserted jobs; they are kept in the same transaction.
   */
  insert(
    jobs: readonly Job[],
    options: {
      readonly now: number;
      readonly transaction?: unknown;
      readonly once?: boolean | undefined;
      readonly blobs?: readonly JobBlob[] | undefined;
    },
  ): Awaitable<Taken | undefined>;
  /** Leases on due jobs, best first: at most `limit`. The rows come back as `core/job`'s `claimed` makes them; an attempt row is opened for each, and of a job's attempts the latest `mostAttempts` are kept. */
  claim(options: ClaimOptions & { readonly now: number }): Awaitable<readonly Job[]>;
  /** Extends leases that are still held, also ones that have passed but that nobody has taken yet. */
  renew(held: readonly Held[], options: { readonly now: number; readonly leaseUntil: number }): Awaitable<readonly RenewAnswer[]>;
  /**
   * Applies each settlement whose claim still holds the job (law 2) as `core/job`'s `settled` does, closes its attempt row, and then, in the
   * same transaction, claims. A settlement that was applied before is answered as it was then (`core/changes`); one that only asks to `confirm`
   * changes nothing.
   */
  settle(
    settlements: readonly Settlement[],
    options: { readonly now: number; readonly claim?: ClaimOptions | undefined; readonly transaction?: unknown },
  ): Awaitable<Settled>;
  /** Running jobs whose lease is over at `now`, and queued ones that expired before they started; earliest first. */
  overdue(options: { readonly now: number; readonly limit: number }): Awaitable<readonly Job[]>;
  /** Adds blobs to a running job, or replaces those of the same names, while the claim holds it; false: it does not, and nothing was changed. */
  saveBlobs(held: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): Awaitable<boolean>;
  nextDueAt(options: Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues' | 'limits'> & { readonly now: number }): Awaitable<NextDue>;

  /**
   * Applies each amendment whose row is as expected, as `core/job`'s `amended` does. Answers with the new row, or with the one that was deleted,
   * whose occurrence is free again; null: it was not as expected. An amendment that would take a unique key from another job changes nothing; the answer
   * is that other job's row.
   */
  amend(amendments: readonly Amendment[], options: { readonly now: number }): Awaitable<readonly (Job | null)[]>;
  /** Deletes finished jobs; says how many. It reads no job that it does not delete. */
  prune(options: PruneOptions): Awaitable<number>;
  /** Inserts or replaces the worker's entry, and forgets workers that were last heard of before `forgetBefore`. */
  saveWorker(worker: WorkerRow, options: { readonly forgetBefore: number }): Awaitable<void>;
  /** Ordered by start. */
  listWorkers(): Awaitable<readonly WorkerRow[]>;
  saveQueue(queue: QueueRow, options: { readonly now: number }): Awaitable<void>;

  /** Inserts the row, or replaces the one whose revision is `expect` (null: none is there yet). False: someone was faster. */
  saveSchedule(row: ScheduleRow, options: { readonly expect: number | null }): Awaitable<boolean>;
  dropSchedule(name: string): Awaitable<boolean>;
  /** By name. */
  listSchedules(options?: {
    readonly names?: readonly string[] | undefined;
    readonly source?: ScheduleRow['source'] | undefined;
  }): Awaitable<readonly ScheduleRow[]>;
  /**
   * Schedules that are not paused and due at `now`, earliest first, and those that hold an occurrence and have no unfinished job; when the next
   * of the others fires, unless there are as many as `limit`; and whether any of them holds an occurrence. Those whose input code computes are left out, but for the names in `computes`.
   */
  dueSchedules(options: {
    readonly now: number;
    readonly limit: number;
    readonly computes: readonly string[];
  }): Awaitable<{ readonly due: readonly DueSchedule[]; readonly nextAt: number | null; readonly holding: boolean }>;
  /**
   * Compare-and-set together with the insert of the occurrences' jobs: law 6. An occurrence that has a job already, or whose unique key is held, makes none. The jobs that
   * were inserted, or null where someone was faster.
   */
  advanceSchedules(advances: readonly Advance[], options: { readonly now: number }): Awaitable<readonly (readonly Job[] | null)[]>;

  get(ids: readonly string[]): Awaitable<readonly (JobRecord | null)[]>;
  /**
   * By id, the largest first, from the cursor on: newest first where ids are not given by hand. With the order `changed`, those to which something happened last come first, as `core/job`'s
   * `changedAt` says; there is no cursor then. Of jobs to which nothing happened but their enqueue, a store may take those with the largest ids, as far as these are UUIDs of version 7.
   * Of the attempts, only the latest has its error's stack: `core/job`'s `withoutOldStacks`.
   */
  list(
    filter: JobFilter,
    options: { readonly now: number; readonly limit: number; readonly cursor?: string | undefined; readonly order?: JobOrder | undefined },
  ): Awaitable<{ readonly items: readonly JobRecord[]; readonly cursor: string | null }>;
  /** The blobs with this name of these jobs; null where a job has none. */
  getBlobs(ids: readonly string[], name: string): Awaitable<readonly (Uint8Array | null)[]>;
  stats(options: { readonly now: number }): Awaitable<readonly QueueStats[]>;

  /** Calls `notify` after changes, in this process or another's, as far as the store can tell. Returns the function that ends this. */
  listen?(notify: (hint: Hint) => void): () => void;
  /** For stores that other processes share. In real time: a simulation's stores have none. */
  keeper?(options: KeeperOptions): Keeper;
}

/** What `sqlite()`, `memory()` and the like return: where an engine-driven backend keeps its rows. Opens nothing until asked. */
export interface StoreSource {
  readonly kind: 'store';
  readonly name: string;
  /** Other processes can see its rows. @default true */
  readonly shared?: boolean;
  /** Where it keeps its rows, if that is a file of this machine. */
  readonly file?: string;
  open(): Awaitable<Store>;
}

/** Re-exported for those who write stores. */
export type { Amendment, Attempt, Hint, Job, JobRecord, QueueRow, ScheduleRow, Settlement };
