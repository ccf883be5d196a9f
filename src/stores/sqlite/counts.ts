/**
 * The number of jobs per queue and state. Changes are collected during a transaction and written once before it commits. Single enqueues do
 * not write them, because that takes a sixth of their time: the counts include the jobs up to a key, and later ones are counted before any
 * job is changed or deleted, and when the counts are read.
 */
import type { Database, Statement } from 'better-sqlite3';
import type { Job } from '../../core/types.ts';
import type { SqliteRow } from './rows.ts';

/** A state for counting: a scheduled job that was attempted before counts as retrying. */
export type Counted = SqliteRow['state'] | 'retrying';

interface Count {
  readonly queue: string;
  readonly state: Counted;
  readonly count: number;
}

/** The row that holds the key of the last counted job. No queue has an empty name. */
const keyRow = "queue = '' AND state = 'counted'";
const lastCounted = `coalesce((SELECT count FROM escapement_counts WHERE ${keyRow}), 0)`;
const lastKey = 'coalesce((SELECT max(n) FROM escapement_jobs), 0)';
const newCounts = (after: string) =>
  `SELECT queue, CASE WHEN state = 'scheduled' AND attempt > 0 THEN 'retrying' ELSE state END AS state, count(*) AS count
   FROM escapement_jobs WHERE n > ${after} GROUP BY 1, 2`;
/** The counts of all jobs. There may be two rows for a queue and state. */
export const selectCounts = `SELECT queue, state, count FROM escapement_counts WHERE count <> 0 AND queue <> '' UNION ALL ${newCounts(lastCounted)}`;

/** A connection counts its new jobs after this number, so that few are left to others; a single call with as many is counted as it inserts. */
const maxUncounted = 64;

export class Counts {
  readonly #changes = new Map<string, Map<Counted, number>>();
  /** The queue of the last change, and its changes: consecutive changes are usually to the same queue. */
  #queue: string | undefined;
  #states = new Map<Counted, number>();
  /** The key of the last counted job, if this transaction has counted all jobs. */
  #countedTo: number | undefined;
  /** The number of jobs that this connection has inserted but not counted. At first it counts those of processes that have ended. */
  #uncounted = maxUncounted;
  #hasDeleted = false;
  readonly #save: Statement<[string, string, number]>;
  readonly #forgetEmpty: Statement<[]>;
  readonly #keys: Statement<[], { counted: number; last: number }>;
  readonly #new: Statement<[number], Count>;
  readonly #lower: Statement<[]>;

  constructor(db: Database) {
    this.#forgetEmpty = db.prepare('DELETE FROM escapement_counts WHERE count = 0');
    this.#save = db.prepare(
      'INSERT INTO escapement_counts (queue, state, count) VALUES (?, ?, ?) ON CONFLICT (queue, state) DO UPDATE SET count = count + excluded.count',
    );
    this.#keys = db.prepare(`SELECT ${lastCounted} AS counted, ${lastKey} AS last`);
    this.#new = db.prepare(newCounts('?'));
    // The key of a deleted job can be given to the next one.
    this.#lower = db.prepare(`UPDATE escapement_counts SET count = ${lastKey} WHERE ${keyRow} AND count > ${lastKey}`);
  }

  /** Counts the jobs that are not counted yet. Call it in the transaction before it changes or deletes jobs. */
  countNew(): void {
    if (this.#countedTo !== undefined) return;
    const { counted, last } = this.#keys.get() as { counted: number; last: number };
    if (last > counted) {
      // Written at once: the collected changes may be those of a savepoint.
      for (const { queue, state, count } of this.#new.all(counted)) this.#save.run(queue, state, count);
      this.#save.run('', 'counted', last - counted);
    }
    this.#countedTo = last;
    this.#uncounted = 0;
  }

  /** Inserts jobs. `insert` returns the state and the key of each. */
  inserting(jobs: readonly Job[], insert: (job: Job) => { state: SqliteRow['state']; n: number }): void {
    if (jobs.length < maxUncounted) {
      for (const job of jobs) insert(job);
      this.#countedTo = undefined;
      this.#uncounted += jobs.length;
      if (this.#uncounted >= maxUncounted) this.countNew();
      return;
    }
    this.countNew();
    const before = this.#countedTo as number;
    for (const job of jobs) {
      const { state, n } = insert(job);
      this.add(job.queue, state, 1);
      this.#countedTo = n;
    }
    this.#save.run('', 'counted', (this.#countedTo as number) - before);
  }

  add(queue: string, state: Counted, change: number): void {
    if (queue !== this.#queue) {
      this.#queue = queue;
      this.#states = this.#changes.get(queue) ?? new Map();
      this.#changes.set(queue, this.#states);
    }
    this.#states.set(state, (this.#states.get(state) ?? 0) + change);
  }

  /** Notes that the transaction deletes rows. */
  deleting(): void {
    this.#hasDeleted = true;
  }

  /** Writes the collected changes. Call it in the transaction. */
  save(): void {
    for (const [queue, states] of this.#changes)
      for (const [state, change] of states) if (change !== 0) this.#save.run(queue, state, change);
    if (this.#hasDeleted) this.#lower.run();
    this.forget();
  }

  /** Deletes counts that have become zero, in the transaction, because an application may use any number of queue names. */
  forgetEmpty(): void {
    this.save();
    this.#forgetEmpty.run();
  }

  /** Discards the collected changes, because they have been written or the transaction did not commit. */
  forget(): void {
    this.#changes.clear();
    this.#queue = undefined;
    this.#countedTo = undefined;
    this.#hasDeleted = false;
  }
}

/** The state in which a row is stored. */
export function stateOf(job: Job, now: number): SqliteRow['state'] {
  if (job.status !== 'queued') return job.status;
  return job.dueAt <= now ? 'ready' : 'scheduled';
}

export function countedAs(state: SqliteRow['state'], attempt: number): Counted {
  return state === 'scheduled' && attempt > 0 ? 'retrying' : state;
}
