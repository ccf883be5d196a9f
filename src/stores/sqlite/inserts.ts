/** New jobs: their rows, their queues' names, and their counts. */
import type { Database, Statement } from 'better-sqlite3';
import type { Job } from '../../core/types.ts';
import { type Counts, stateOf } from './counts.ts';
import { insertJob, insertValues } from './rows.ts';

export class Inserts {
  readonly #counts: Counts;
  readonly #insert: Statement<unknown[]>;
  readonly #name: Statement<[string]>;
  /** Queues whose names are known to be in the table. */
  readonly #queues = new Set<string>();

  constructor(db: Database, counts: Counts) {
    this.#counts = counts;
    this.#insert = db.prepare(insertJob);
    this.#name = db.prepare('INSERT OR IGNORE INTO escapement_queues VALUES (?, NULL)');
  }

  insert(jobs: readonly Job[], now: number): void {
    for (const job of jobs) {
      const state = stateOf(job, now);
      this.#insert.run(...insertValues(job, state));
      this.#counts.add(job.queue, state, 1);
      if (this.#queues.has(job.queue)) continue;
      this.#name.run(job.queue);
      this.#queues.add(job.queue);
    }
  }

  /** A transaction may not have committed: what it wrote may not be there. */
  forgetQueues(): void {
    this.#queues.clear();
  }
}
