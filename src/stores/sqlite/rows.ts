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

/** The columns that are set in most rows of ready jobs. */
const plain = [
  'id',
  'task',
  'queue',
  'input',
  'enqueuedAt',
  'state',
  'priority',
  'dueAt',
  'attempt',
  'maxAttempts',
  'claim',
  'losses',
] as const;
type Plain = (typeof plain)[number];
const isPlain = ([field]: [string, string]) => plain.some((name) => name === field);
const more = selected.filter((pair) => !isPlain(pair));
/** The columns that are set in most rows of ready jobs, and whether a row has others: converting all columns takes longer than finding the rows. */
export const selectReady = `SELECT n, ${as(selected.filter(isPlain))},
  coalesce(blocked_by, ${more.map(([, column]) => column).join(', ')}) IS NOT NULL AS "more" FROM escapement_jobs`;
export interface ReadyRow extends Pick<SqliteRow, 'n' | Plain> {
  readonly more: 0 | 1;
}

/** The row of a ready job whose other columns are null. They are in the prototype, because copying forty fields takes ten times as long. */
class PlainRow {
  readonly n: SqliteRow['n'];
  readonly id: SqliteRow['id'];
  readonly task: SqliteRow['task'];
  readonly queue: SqliteRow['queue'];
  readonly input: SqliteRow['input'];
  readonly enqueuedAt: SqliteRow['enqueuedAt'];
  readonly state: SqliteRow['state'];
  readonly priority: SqliteRow['priority'];
  readonly dueAt: SqliteRow['dueAt'];
  readonly attempt: SqliteRow['attempt'];
  readonly maxAttempts: SqliteRow['maxAttempts'];
  readonly claim: SqliteRow['claim'];
  readonly losses: SqliteRow['losses'];

  constructor(row: ReadyRow) {
    this.n = row.n;
    this.id = row.id;
    this.task = row.task;
    this.queue = row.queue;
    this.input = row.input;
    this.enqueuedAt = row.enqueuedAt;
    this.state = row.state;
    this.priority = row.priority;
    this.dueAt = row.dueAt;
    this.attempt = row.attempt;
    this.maxAttempts = row.maxAttempts;
    this.claim = row.claim;
    this.losses = row.losses;
  }
}
Object.assign(PlainRow.prototype, Object.fromEntries([['blockedBy', null], ...more.map(([field]) => [field, null])]));

export function plainRow(row: ReadyRow): SqliteRow {
  return new PlainRow(row) as PlainRow & Omit<SqliteRow, keyof PlainRow>;
}

export const insertJob = `INSERT INTO escapement_jobs (${inserted.map(([, column]) => column).join(', ')}) VALUES (${inserted.map(() => '?').join(', ')})`;

/** The insert of a job that sets only what most jobs set; the other columns are null. */
export const insertPlainJob = `INSERT INTO escapement_jobs (id, task, queue, input, enqueued_at, state, priority, due_at, attempt, max_attempts, claim, losses)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, 0)`;

export const updateJob = `UPDATE escapement_jobs SET ${pairs(changing)
  .map(([, column]) => `${column} = ?`)
  .join(', ')}, blocked_by = NULL WHERE n = ?`;

export const editJob = 'UPDATE escapement_jobs SET queue = ?, input = ?, run_after = ? WHERE n = ?';
