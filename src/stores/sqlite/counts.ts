/** The number of jobs per queue and state. Changes are collected during a transaction and written once before it commits. */
import type { Database, Statement } from 'better-sqlite3';
import type { Job } from '../../core/types.ts';
import type { SqliteRow } from './rows.ts';

/** A state for counting: a scheduled job that was attempted before counts as retrying. */
export type Counted = SqliteRow['state'] | 'retrying';

export class Counts {
  readonly #changes = new Map<string, Map<Counted, number>>();
  /** The queue of the last change, and its changes: consecutive changes are usually to the same queue. */
  #queue: string | undefined;
  #states = new Map<Counted, number>();
  readonly #save: Statement<[string, string, number]>;
  readonly #forgetEmpty: Statement<[]>;

  constructor(db: Database) {
    this.#forgetEmpty = db.prepare('DELETE FROM escapement_counts WHERE count = 0');
    this.#save = db.prepare(
      'INSERT INTO escapement_counts (queue, state, count) VALUES (?, ?, ?) ON CONFLICT (queue, state) DO UPDATE SET count = count + excluded.count',
    );
  }

  add(queue: string, state: Counted, change: number): void {
    if (queue !== this.#queue) {
      this.#queue = queue;
      this.#states = this.#changes.get(queue) ?? new Map();
      this.#changes.set(queue, this.#states);
    }
    this.#states.set(state, (this.#states.get(state) ?? 0) + change);
  }

  /** Writes the collected changes. Call it in the transaction. */
  save(): void {
    for (const [queue, states] of this.#changes)
      for (const [state, change] of states) if (change !== 0) this.#save.run(queue, state, change);
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
