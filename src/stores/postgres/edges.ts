/** Maintains the edges of workflows in one transaction. An edge is done once it holds its parent's value. */
import { isFinished } from '../../core/job.ts';
import { undoableStep } from '../../core/steps.ts';
import type { Job } from '../../core/types.ts';
import { type Edge, type Edges, edgeConflict, follow, obstaclesOf, type Parts, walkAsync } from '../../core/workflow.ts';
import type { Entry } from './rows.ts';
import { records, type Session, texts } from './session.ts';

export function edgesSql(schema: string) {
  const given = '$1::text::json';
  const ids = `(SELECT json_array_elements_text(${given}))`;
  return {
    add: `INSERT INTO ${schema}.edges (parent, child) SELECT parent, child FROM json_populate_recordset(NULL::${schema}.edges, ${given})`,
    give: `UPDATE ${schema}.edges e SET value = r.value FROM json_to_recordset(${given}) r(parent text, child text, value text)
      WHERE e.parent = r.parent AND e.child = r.child`,
    byParent: `SELECT parent, child, value FROM ${schema}.edges WHERE parent IN ${ids} ORDER BY n`,
    byChild: `SELECT parent, child, value FROM ${schema}.edges WHERE child IN ${ids} ORDER BY n`,
    open: `SELECT DISTINCT child FROM ${schema}.edges WHERE value IS NULL AND child IN ${ids}`,
    parts: `SELECT id FROM ${schema}.jobs WHERE workflow = $1::text ORDER BY n`,
    undoable: `SELECT job FROM ${schema}.steps WHERE name = '${undoableStep}' AND job IN ${ids}`,
    forget: `DELETE FROM ${schema}.edges WHERE child IN ${ids}`,
  };
}
export type EdgesSql = ReturnType<typeof edgesSql>;

interface Row extends Edge {
  readonly value: string | null;
}

/** The row operations that `WorkflowEdges` needs from a transaction. */
export interface Rows {
  /** Locks rows, in the order of their ids. */
  lock(ids: readonly string[]): Promise<ReadonlyMap<string, Entry>>;
  /** Writes rows that changed as a consequence of other changes. */
  change(changes: readonly { readonly before: Entry; readonly after: Job }[], now: number): Promise<void>;
}

export class WorkflowEdges {
  readonly #session: Session;
  readonly #sql: EdgesSql;
  readonly #rows: Rows;

  constructor(session: Session, sql: EdgesSql, rows: Rows) {
    this.#session = session;
    this.#sql = sql;
    this.#rows = rows;
  }

  /**
   * Locks the jobs that exist already, so that none of them ends in the meantime.
   * @throws StoreError if an edge leads to a job that is not waiting, or from a job that has ended
   */
  async check(edges: readonly Edge[], inserted: ReadonlySet<string>): Promise<void> {
    const locked = await this.#rows.lock(
      [...new Set(edges.flatMap(({ parent, child }) => [parent, child]))].filter((id) => !inserted.has(id)),
    );
    for (const { parent, child } of edges) {
      const from = locked.get(parent)?.job;
      if (!inserted.has(parent) && (!from || isFinished(from))) throw edgeConflict(parent, 'parent');
      if (!inserted.has(child) && locked.get(child)?.job.status !== 'waiting') throw edgeConflict(child, 'child');
    }
  }

  async add(edges: readonly Edge[]): Promise<void> {
    if (edges.length > 0) await this.#session.run(this.#sql.add, [records(edges.map(({ parent, child }) => ({ parent, child })))]);
  }

  /** The jobs that have an edge that is not done. */
  async waiting(children: readonly string[]): Promise<ReadonlySet<string>> {
    if (children.length === 0) return new Set();
    const rows = await this.#session.rows<{ child: string }>(this.#sql.open, [texts(children)]);
    return new Set(rows.map(({ child }) => child));
  }

  async of(ids: readonly string[]): Promise<Edges[]> {
    const above = Map.groupBy(await this.#session.rows<Row>(this.#sql.byChild, [texts(ids)]), ({ child }) => child);
    const below = Map.groupBy(await this.#session.rows<Row>(this.#sql.byParent, [texts(ids)]), ({ parent }) => parent);
    return ids.map((id) => ({
      parents: (above.get(id) ?? []).map(({ parent }) => parent),
      children: (below.get(id) ?? []).map(({ child }) => child),
    }));
  }

  async forget(ids: readonly string[]): Promise<void> {
    await this.#session.run(this.#sql.forget, [texts(ids)]);
  }

  /** Law 8. Returns the changed rows. */
  async follow(changed: readonly Job[], now: number): Promise<readonly Job[]> {
    return changed.length === 0 ? changed : walkAsync(follow(changed, now, this.#partsAt(now)));
  }

  /** The jobs that keep ended jobs from being queued again, by the id of the ended job. */
  async obstaclesOf(jobs: readonly Job[], now: number): Promise<ReadonlyMap<string, Job>> {
    return walkAsync(obstaclesOf(jobs, this.#partsAt(now)));
  }

  #partsAt(now: number): Parts {
    const entries = new Map<string, Entry>();
    const lock = async (ids: readonly string[]) => {
      for (const [id, entry] of await this.#rows.lock(ids)) entries.set(id, entry);
    };
    return {
      children: async (parents) => {
        const edges = await this.#session.rows<Row>(this.#sql.byParent, [texts(parents)]);
        // A transaction that ends another parent of these children waits here, and then sees the changes of this one.
        await lock([...new Set(edges.map(({ child }) => child))]);
        const inOrder = Map.groupBy(edges, ({ parent }) => parent);
        return parents.flatMap((parent) =>
          (inOrder.get(parent) ?? []).flatMap(({ child }) => {
            const entry = entries.get(child);
            return entry ? [{ parent, job: entry.job }] : [];
          }),
        );
      },
      give: (values) => this.#session.run(this.#sql.give, [records(values)]),
      waiting: (children) => this.waiting(children),
      values: async (children) => {
        const rows = Map.groupBy(await this.#session.rows<Row>(this.#sql.byChild, [texts(children)]), ({ child }) => child);
        return children.map((child) => (rows.get(child) ?? []).map(({ value }) => value ?? 'null'));
      },
      parts: async (workflow) => {
        const ids = (await this.#session.rows<{ id: string }>(this.#sql.parts, [workflow])).map(({ id }) => id);
        await lock(ids);
        return ids.flatMap((id) => entries.get(id)?.job ?? []);
      },
      undoable: async (jobs) => {
        const rows = await this.#session.rows<{ job: string }>(this.#sql.undoable, [texts(jobs)]);
        return new Set(rows.map(({ job }) => job));
      },
      change: async (changes) => {
        await this.#rows.change(
          changes.map(({ before, after }) => ({ before: entries.get(before.id) as Entry, after })),
          now,
        );
      },
    };
  }
}
