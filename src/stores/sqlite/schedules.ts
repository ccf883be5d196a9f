/** Schedules on one handle. Values that change with every occurrence are columns; the rest is JSON. */
import type { Database, Statement } from 'better-sqlite3';
import type { Job, ScheduleRow } from '../../core/types.ts';
import type { Advance, DueSchedule, Store } from '../../ports/store.ts';
import { jobOf } from '../sql/rows.ts';
import { type SqliteRow, selectJob } from './rows.ts';

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
const columns = `SELECT name, revision, next_at AS nextAt, occurrence_at AS occurrenceAt, last_at AS lastAt, held_at AS heldAt, runs, row
  FROM escapement_schedules s`;
const unfinished = "state IN ('waiting', 'scheduled', 'ready', 'running')";
const own = '(computed = 0 OR name IN (SELECT value FROM json_each(?)))';
const free = `NOT EXISTS (SELECT 1 FROM escapement_jobs WHERE schedule = s.name AND ${unfinished})`;

export class Schedules {
  readonly #revision: Statement<[string], { revision: number; isReadable: number }>;
  readonly #save: Statement<unknown[]>;
  readonly #drop: Statement<[string]>;
  readonly #advance: Statement<unknown[]>;
  readonly #pause: Statement<[string]>;
  readonly #all: Statement<[], Columns>;
  readonly #named: Statement<[string], Columns>;
  readonly #from: Statement<[string], Columns>;
  readonly #due: Statement<[number, string, number], Columns>;
  readonly #holding: Statement<[], { found: 1 }>;
  readonly #released: Statement<[string, number, number], Columns>;
  readonly #nextAt: Statement<[number, string], { at: number }>;
  readonly #open: Statement<[string, number], SqliteRow>;
  readonly #taken: Statement<[string, number], { found: 1 }>;

  constructor(db: Database) {
    this.#revision = db.prepare('SELECT revision, json_valid(row) AS isReadable FROM escapement_schedules WHERE name = ?');
    this.#save = db.prepare('INSERT OR REPLACE INTO escapement_schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    this.#drop = db.prepare('DELETE FROM escapement_schedules WHERE name = ?');
    this.#advance = db.prepare(
      `UPDATE escapement_schedules SET next_at = ?, occurrence_at = ?, last_at = ?, held_at = ?, runs = ?, revision = revision + 1
       WHERE name = ? AND revision = ?`,
    );
    this.#pause = db.prepare('UPDATE escapement_schedules SET paused = 1 WHERE name = ?');
    this.#all = db.prepare(`${columns} ORDER BY name`);
    this.#named = db.prepare(`${columns} WHERE name IN (SELECT value FROM json_each(?)) ORDER BY name`);
    this.#from = db.prepare(`${columns} WHERE source = ? ORDER BY name`);
    this.#due = db.prepare(
      `${columns} WHERE next_at IS NOT NULL AND paused = 0 AND next_at <= ? AND ${own} ORDER BY next_at, name LIMIT +?`,
    );
    this.#holding = db.prepare('SELECT 1 AS found FROM escapement_schedules WHERE held_at IS NOT NULL AND paused = 0 LIMIT 1');
    this.#released = db.prepare(
      `${columns} WHERE held_at IS NOT NULL AND paused = 0 AND ${own} AND (next_at IS NULL OR next_at > ?) AND ${free} ORDER BY name LIMIT +?`,
    );
    this.#nextAt = db.prepare(
      `SELECT next_at AS at FROM escapement_schedules WHERE next_at IS NOT NULL AND paused = 0 AND next_at > ? AND ${own} ORDER BY next_at LIMIT 1`,
    );
    this.#open = db.prepare(`${selectJob} WHERE schedule = (SELECT ?) AND ${unfinished} ORDER BY id LIMIT +?`);
    this.#taken = db.prepare('SELECT 1 AS found FROM escapement_jobs WHERE schedule = ? AND scheduled_at = ?');
  }

  save(row: ScheduleRow, expect: number | null): boolean {
    const found = this.#revision.get(row.name);
    // A row that cannot be read is treated as missing and is created again.
    if ((found?.isReadable ? found.revision : null) !== expect) return false;
    const { name, source, revision, paused, computed, nextAt, occurrenceAt, lastAt, heldAt, runs } = row;
    const json = JSON.stringify(row);
    this.#save.run(name, source, revision, Number(paused), Number(computed), nextAt, occurrenceAt, lastAt, heldAt, runs, json);
    return true;
  }

  drop(name: string): boolean {
    return this.#drop.run(name).changes > 0;
  }

  advance({ name, revision, times: { nextAt, occurrenceAt, lastAt, heldAt, runs } }: Advance): boolean {
    return this.#advance.run(nextAt, occurrenceAt, lastAt, heldAt, runs, name, revision).changes > 0;
  }

  isTaken({ schedule, scheduledAt }: Job): boolean {
    return schedule !== null && scheduledAt !== null && this.#taken.get(schedule, scheduledAt) !== undefined;
  }

  list({ names, source }: { names?: readonly string[] | undefined; source?: ScheduleRow['source'] | undefined } = {}): ScheduleRow[] {
    const found = names ? this.#named.all(JSON.stringify(names)) : source ? this.#from.all(source) : this.#all.all();
    return found.flatMap((row) => scheduleOf(row) ?? []).filter((row) => source === undefined || row.source === source);
  }

  due({ now, limit, computes }: Parameters<Store['dueSchedules']>[0]): {
    due: DueSchedule[];
    nextAt: number | null;
    holding: boolean;
    unreadable: string[];
  } {
    const known = JSON.stringify(computes);
    const holding = this.#holding.get() !== undefined;
    const found = holding ? this.#released.all(known, now, limit) : [];
    if (found.length < limit) found.push(...this.#due.all(now, known, limit - found.length));
    const due: DueSchedule[] = [];
    const unreadable: string[] = [];
    for (const columnsOf of found) {
      const row = scheduleOf(columnsOf);
      if (row) due.push({ row, open: row.overlap === 'allow' ? [] : this.#open.all(row.name, maxOpen).map((job) => jobOf(job)) });
      else unreadable.push(columnsOf.name);
    }
    return { due, nextAt: found.length < limit ? (this.#nextAt.get(now, known)?.at ?? null) : null, holding, unreadable };
  }

  /** Keeps a row that cannot be read from blocking other schedules. */
  setAside(name: string): void {
    this.#pause.run(name);
    process.emitWarning(`schedule ${JSON.stringify(name)} cannot be read from the store and has been paused; save it again`, {
      type: 'EscapementWarning',
      code: 'ESCAPEMENT_UNREADABLE_SCHEDULE',
    });
  }
}

function scheduleOf({ name: _, row, ...columnsOf }: Columns): ScheduleRow | undefined {
  try {
    return { ...(JSON.parse(row) as ScheduleRow), ...columnsOf };
  } catch {
    return undefined;
  }
}
