/** Schedules. Values that change with every occurrence are columns; the rest is JSON. Advances are in `work.ts`. */
import type { Job, ScheduleRow } from '../../core/types.ts';
import type { DueSchedule, Store } from '../../ports/store.ts';
import { type JobRow, jobOf } from '../sql/rows.ts';
import { jobColumns } from './rows.ts';
import { clean, type Session, type Value } from './session.ts';

interface Columns {
  readonly name: string;
  readonly revision: number;
  readonly nextAt: number | null;
  readonly occurrenceAt: number | null;
  readonly lastAt: number | null;
  readonly heldAt: number | null;
  readonly runs: number;
  readonly row: string;
}

const maxOpen = 1_000;
const unfinished = "state IN ('waiting', 'queued', 'running')";

export function schedulesSql(schema: string) {
  const columns = `SELECT name, revision, next_at AS "nextAt", occurrence_at AS "occurrenceAt", last_at AS "lastAt", held_at AS "heldAt", runs, "row"
    FROM ${schema}.schedules s`;
  const own = '(NOT computed OR name = ANY ($1::text[]))';
  const free = `NOT EXISTS (SELECT 1 FROM ${schema}.jobs j WHERE j.schedule = s.name AND j.${unfinished})`;
  const values = '($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)';
  const insert = `INSERT INTO ${schema}.schedules (name, source, revision, paused, computed, next_at, occurrence_at, last_at, held_at, runs, "row") VALUES ${values}`;
  const set = `source = excluded.source, revision = excluded.revision, paused = excluded.paused, computed = excluded.computed,
    next_at = excluded.next_at, occurrence_at = excluded.occurrence_at, last_at = excluded.last_at, held_at = excluded.held_at,
    runs = excluded.runs, "row" = excluded."row"`;
  return {
    insert: `${insert} ON CONFLICT (name) DO NOTHING RETURNING name`,
    replace: `${insert} ON CONFLICT (name) DO UPDATE SET ${set} WHERE schedules.revision = $12 RETURNING name`,
    lock: `${columns} WHERE name = $1 FOR UPDATE`,
    drop: `DELETE FROM ${schema}.schedules WHERE name = $1 RETURNING name`,
    list: `${columns} WHERE ($1::text[] IS NULL OR name = ANY ($1::text[])) AND ($2::text IS NULL OR source = $2::text) ORDER BY name`,
    pause: `UPDATE ${schema}.schedules SET paused = true WHERE name = ANY ($1::text[])`,
    due: `${columns} WHERE next_at IS NOT NULL AND NOT paused AND next_at <= $2 AND ${own} ORDER BY next_at, name LIMIT $3`,
    /** Usually nothing is due, and this is the only query. */
    check: `SELECT EXISTS (SELECT 1 FROM ${schema}.schedules WHERE held_at IS NOT NULL AND NOT paused) AS holding,
      EXISTS (SELECT 1 FROM ${schema}.schedules WHERE next_at IS NOT NULL AND NOT paused AND next_at <= $2 AND ${own}) AS "isDue",
      (SELECT next_at FROM ${schema}.schedules WHERE next_at IS NOT NULL AND NOT paused AND next_at > $2 AND ${own} ORDER BY next_at LIMIT 1) AS at`,
    released: `${columns} WHERE held_at IS NOT NULL AND NOT paused AND ${own} AND (next_at IS NULL OR next_at > $2) AND ${free} ORDER BY name LIMIT $3`,
    open: `SELECT open.* FROM unnest($1::text[]) asked(name) CROSS JOIN LATERAL (
      SELECT ${jobColumns} FROM ${schema}.jobs WHERE schedule = asked.name AND ${unfinished} ORDER BY id LIMIT ${maxOpen}) open`,
  };
}
export type SchedulesSql = ReturnType<typeof schedulesSql>;

export class Schedules {
  readonly #session: Session;
  readonly #sql: SchedulesSql;

  constructor(session: Session, sql: SchedulesSql) {
    this.#session = session;
    this.#sql = sql;
  }

  async save(row: ScheduleRow, expect: number | null): Promise<boolean> {
    const { name, source, revision, paused, computed, nextAt, occurrenceAt, lastAt, heldAt, runs } = row;
    const json = JSON.stringify(row);
    const values = [name, source, revision, paused, computed, nextAt, occurrenceAt, lastAt, heldAt, runs, json];
    if (expect !== null) {
      const [existing] = await this.#session.rows<Columns>(this.#sql.lock, [name]);
      if (!existing || existing.revision !== expect || !scheduleOf(existing)) return false;
      return (await this.#session.rows(this.#sql.replace, [...values, expect])).length > 0;
    }
    if ((await this.#session.rows(this.#sql.insert, values)).length > 0) return true;
    const [existing] = await this.#session.rows<Columns>(this.#sql.lock, [name]);
    // A row that cannot be read is treated as missing and is created again.
    if (!existing || scheduleOf(existing)) return false;
    return (await this.#session.rows(this.#sql.replace, [...values, existing.revision])).length > 0;
  }

  async drop(name: string): Promise<boolean> {
    return (await this.#session.rows(this.#sql.drop, [clean(name)])).length > 0;
  }

  async list({ names, source }: Parameters<Store['listSchedules']>[0] & object = {}): Promise<ScheduleRow[]> {
    const rows = await this.#session.rows<Columns>(this.#sql.list, [names ? names.map(clean) : null, source ?? null]);
    return rows.flatMap((row) => scheduleOf(row) ?? []).filter((row) => source === undefined || row.source === source);
  }

  async due({ now, limit, computes }: Parameters<Store['dueSchedules']>[0]): Promise<{
    due: DueSchedule[];
    nextAt: number | null;
    holding: boolean;
  }> {
    const rows = <Row>(sql: string, values?: readonly Value[]) => this.#session.rows<Row>(sql, values);
    const [check] = await rows<{ holding: boolean; isDue: boolean; at: number | null }>(this.#sql.check, [computes, now]);
    const { holding = false, isDue = false, at = null } = check ?? {};
    const found = holding ? await rows<Columns>(this.#sql.released, [computes, now, limit]) : [];
    if (isDue && found.length < limit) found.push(...(await rows<Columns>(this.#sql.due, [computes, now, limit - found.length])));
    const readable = found.flatMap((columns) => scheduleOf(columns) ?? []);
    const names = new Set(readable.map(({ name }) => name));
    await this.#setAside(found.map(({ name }) => name).filter((name) => !names.has(name)));
    const open = await this.#openOf(readable.filter(({ overlap }) => overlap !== 'allow'));
    const due = readable.map((row) => ({ row, open: open.get(row.name) ?? [] }));
    return { due, nextAt: found.length < limit ? at : null, holding };
  }

  /** The unfinished jobs of schedules, by schedule name. */
  async #openOf(rows: readonly ScheduleRow[]): Promise<ReadonlyMap<string, readonly Job[]>> {
    if (rows.length === 0) return new Map();
    const jobs = await this.#session.rows<JobRow>(this.#sql.open, [rows.map(({ name }) => name)]);
    return Map.groupBy(
      jobs.map((row) => jobOf(row)),
      ({ schedule }) => schedule ?? '',
    );
  }

  /** Keeps unreadable rows from blocking other schedules. */
  async #setAside(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    await this.#session.run(this.#sql.pause, [names]);
    for (const name of names) {
      process.emitWarning(`schedule ${JSON.stringify(name)} cannot be read from the store and has been paused; save it again`, {
        type: 'EscapementWarning',
        code: 'ESCAPEMENT_UNREADABLE_SCHEDULE',
      });
    }
  }
}

function scheduleOf({ row, ...columnsOf }: Columns): ScheduleRow | undefined {
  try {
    return { ...(JSON.parse(row) as ScheduleRow), ...columnsOf };
  } catch {
    return undefined;
  }
}
