/** The statements for rows of `escapement_jobs`. */
import { changing, fixed, type JobRow, last, pairs } from '../sql/rows.ts';

/** A row with its primary key. */
export interface SqliteRow extends JobRow {
  readonly n: number;
  readonly state: Exclude<JobRow['state'], 'queued'>;
}

const inserted = pairs({ ...fixed, ...changing });

export const selectJob = `SELECT n, blocked_by AS blockedBy, ${pairs({ ...fixed, ...changing, ...last })
  .map(([field, column]) => `${column} AS "${field}"`)
  .join(', ')} FROM escapement_jobs`;
export const insertJob = `INSERT INTO escapement_jobs (${inserted.map(([, column]) => column).join(', ')}) VALUES (${inserted.map(() => '?').join(', ')})`;

/** The insert of a job of which little is given, as of most: the other columns are null. */
export const insertPlainJob = `INSERT INTO escapement_jobs (id, task, queue, input, enqueued_at, state, priority, due_at, attempt, max_attempts, claim, losses)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, 0)`;

export const updateJob = `UPDATE escapement_jobs SET ${pairs(changing)
  .map(([, column]) => `${column} = ?`)
  .join(', ')}, blocked_by = NULL WHERE n = ?`;

export const editJob = 'UPDATE escapement_jobs SET queue = ?, input = ?, run_after = ? WHERE n = ?';
