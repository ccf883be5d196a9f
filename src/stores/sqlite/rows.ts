/** The statements for rows of `escapement_jobs`. */
import { changing, fixed, type JobRow, last, pairs } from '../sql/rows.ts';

/** A row with its primary key. */
export interface SqliteRow extends JobRow {
  readonly n: number;
  readonly state: Exclude<JobRow['state'], 'queued'>;
}

const inserted = pairs({ ...fixed, ...changing });

const selected = pairs({ ...fixed, ...changing, ...last });
const as = (columns: [string, string][]) => columns.map(([field, column]) => `${column} AS "${field}"`).join(', ');

export const selectJob = `SELECT n, blocked_by AS blockedBy, ${as(selected)} FROM escapement_jobs`;

/** The columns in which most rows of a queue's ready jobs differ: those of jobs that were not attempted before. */
const plain = ['id', 'task', 'input', 'enqueuedAt', 'priority', 'dueAt', 'maxAttempts'] as const;
const attempted = ['attempt', 'claim', 'losses'] as const;
const columnOf: Readonly<Record<string, string>> = Object.fromEntries(selected);
const more = selected.filter(([field]) => ![...plain, ...attempted, 'queue', 'state'].includes(field));
/**
 * These columns, and whether a row has others: converting all columns takes longer than finding the rows, and converting rows to objects
 * twice as long as to arrays.
 */
export const selectReady = `SELECT n, ${plain.map((field) => columnOf[field]).join(', ')},
  ${attempted.join(' + ')} > 0 OR coalesce(blocked_by, ${more.map(([, column]) => column).join(', ')}) IS NOT NULL FROM escapement_jobs`;
/** The key, the values in the order of `plain`, and whether the row has more. */
export type ReadyRow = readonly [n: SqliteRow['n'], ...ValuesOf<typeof plain>, hasMore: 0 | 1];
type ValuesOf<Fields extends readonly (keyof SqliteRow)[]> = { [I in keyof Fields]: SqliteRow[Fields[I]] };

/** The row of a ready job whose other columns are null. They are in the prototype, because copying forty fields takes ten times as long. */
class PlainRow {
  readonly n: SqliteRow['n'];
  readonly id: SqliteRow['id'];
  readonly task: SqliteRow['task'];
  readonly queue: SqliteRow['queue'];
  readonly input: SqliteRow['input'];
  readonly enqueuedAt: SqliteRow['enqueuedAt'];
  readonly priority: SqliteRow['priority'];
  readonly dueAt: SqliteRow['dueAt'];
  readonly maxAttempts: SqliteRow['maxAttempts'];

  constructor(row: ReadyRow, queue: string, task: string) {
    this.n = row[0];
    this.id = row[1];
    this.task = task;
    this.queue = queue;
    this.input = row[3];
    this.enqueuedAt = row[4];
    this.priority = row[5];
    this.dueAt = row[6];
    this.maxAttempts = row[7];
  }
}
const sameInAll = { state: 'ready', attempt: 0, claim: 0, losses: 0, blockedBy: null } as const;
Object.assign(PlainRow.prototype, sameInAll, Object.fromEntries(more.map(([field]) => [field, null])));

export function hasMore(row: ReadyRow): boolean {
  return row[8] === 1;
}

/** The rows of ready jobs of one queue. Jobs of one task share its name, because looking up a new string takes ten times as long. */
export function plainRows(rows: readonly ReadyRow[], queue: string): SqliteRow[] {
  let name = '';
  return rows.map((row) => {
    const task = row[2];
    if (task !== name) name = task;
    return new PlainRow(row, queue, name) as PlainRow & Omit<SqliteRow, keyof PlainRow>;
  });
}

export const insertJob = `INSERT INTO escapement_jobs (${inserted.map(([, column]) => column).join(', ')}) VALUES (${inserted.map(() => '?').join(', ')})`;

/** The insert of a job that sets only what most jobs set; the other columns are null. */
export const insertPlainJob = `INSERT INTO escapement_jobs (id, task, queue, input, enqueued_at, state, priority, due_at, attempt, max_attempts, claim, losses)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, 0)`;

export const updateJob = `UPDATE escapement_jobs SET ${pairs(changing)
  .map(([, column]) => `${column} = ?`)
  .join(', ')}, blocked_by = NULL WHERE n = ?`;

export const editJob = 'UPDATE escapement_jobs SET queue = ?, input = ?, run_after = ? WHERE n = ?';
