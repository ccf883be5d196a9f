/** The edges of workflows. An edge is done once it has its parent's value. */
import type { Database, Statement } from 'better-sqlite3';
import { isFinished } from '../../core/job.ts';
import { undoableStep } from '../../core/steps.ts';
import type { Job } from '../../core/types.ts';
import { type Edge, type Edges, edgeConflict, follow, obstaclesOf, type Parts, walkSync } from '../../core/workflow.ts';
import { jobOf } from '../sql/rows.ts';
import { type SqliteRow, selectJob } from './rows.ts';

/** Applies a change to a row that another change caused. */
type Change = (row: SqliteRow, after: Job) => void;

export class WorkflowEdges {
  readonly #add: Statement<[string, string]>;
  readonly #give: Statement<[string | null, string, string]>;
  readonly #children: Statement<[string], { child: string; parent: string }>;
  readonly #parents: Statement<[string], { parent: string }>;
  readonly #values: Statement<[string], { value: string | null }>;
  readonly #open: Statement<[string], unknown>;
  readonly #row: Statement<[string], SqliteRow>;
  readonly #parts: Statement<[string], SqliteRow>;
  readonly #step: Statement<[string, string], unknown>;
  readonly #forget: Statement<[string]>;

  constructor(db: Database) {
    this.#add = db.prepare('INSERT INTO escapement_edges (parent, child) VALUES (?, ?)');
    this.#give = db.prepare('UPDATE escapement_edges SET value = ? WHERE parent = ? AND child = ?');
    this.#children = db.prepare('SELECT parent, child FROM escapement_edges WHERE parent = (SELECT ?) ORDER BY n');
    this.#parents = db.prepare('SELECT parent FROM escapement_edges WHERE child = (SELECT ?) ORDER BY n');
    this.#values = db.prepare('SELECT value FROM escapement_edges WHERE child = (SELECT ?) ORDER BY n');
    this.#open = db.prepare('SELECT 1 FROM escapement_edges WHERE child = ? AND value IS NULL LIMIT 1');
    this.#row = db.prepare(`${selectJob} WHERE id = ?`);
    this.#parts = db.prepare(`${selectJob} WHERE workflow = (SELECT ?) ORDER BY n`);
    this.#step = db.prepare('SELECT 1 FROM escapement_steps WHERE job = ? AND name = ?');
    this.#forget = db.prepare('DELETE FROM escapement_edges WHERE child IN (SELECT value FROM json_each(?))');
  }

  /**
   * @param inserted the jobs that are inserted in the same transaction
   * @throws StoreError if an edge leads to a job that is not waiting, or from a job that has ended
   */
  add(edges: readonly Edge[], inserted: readonly Job[]): void {
    const fresh = new Set(inserted.map(({ id }) => id));
    for (const { parent, child } of edges) {
      const from = fresh.has(parent) ? undefined : this.#row.get(parent);
      if (!fresh.has(parent) && (!from || isFinished(jobOf(from)))) throw edgeConflict(parent, 'parent');
      if (!fresh.has(child) && this.#row.get(child)?.state !== 'waiting') throw edgeConflict(child, 'child');
      this.#add.run(parent, child);
    }
  }

  isWaiting(child: string): boolean {
    return this.#open.get(child) !== undefined;
  }

  of(id: string): Edges {
    return {
      parents: this.#parents.all(id).map(({ parent }) => parent),
      children: this.#children.all(id).map(({ child }) => child),
    };
  }

  /** @param ids JSON array */
  forget(ids: string): void {
    this.#forget.run(ids);
  }

  /** Law 8. Returns the changed rows. */
  follow(changed: readonly Job[], now: number, change: Change): readonly Job[] {
    return walkSync(follow(changed, now, this.#partsFor(change)));
  }

  /** The jobs that keep ended jobs from being queued again, by the id of the ended job. */
  obstaclesOf(jobs: readonly Job[]): ReadonlyMap<string, Job> {
    return walkSync(obstaclesOf(jobs, this.#partsFor()));
  }

  #partsFor(change?: Change): Parts {
    const rows = new Map<string, SqliteRow>();
    const read = (row: SqliteRow): Job => {
      rows.set(row.id, row);
      return jobOf(row);
    };
    return {
      children: (parents) =>
        parents
          .flatMap((parent) => this.#children.all(parent))
          .map(({ parent, child }) => ({ parent, job: read(this.#row.get(child) as SqliteRow) })),
      give: (values) => {
        for (const { parent, child, value } of values) this.#give.run(value, parent, child);
      },
      waiting: (children) => new Set(children.filter((child) => this.isWaiting(child))),
      values: (children) => children.map((child) => this.#values.all(child).map(({ value }) => value ?? 'null')),
      undoable: (jobs) => new Set(jobs.filter((job) => this.#step.get(job, undoableStep))),
      parts: (workflow) => this.#parts.all(workflow).map(read),
      change: (changes) => {
        for (const { before, after } of changes) change?.(rows.get(before.id) as SqliteRow, after);
      },
    };
  }
}
