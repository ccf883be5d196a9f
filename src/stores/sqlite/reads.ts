/** Queries: jobs by id or filter, counts, schedules, workers. Every statement is short, and none holds a snapshot open. */
import type { Database, Statement } from 'better-sqlite3';
import { isExpired } from '../../core/job.ts';
import type { Attempt, Job, JobRecord, Status, WorkerRow } from '../../core/types.ts';
import type { JobFilter, JobOrder, NextDue, QueueStats } from '../../ports/store.ts';
import { type AttemptRow, attemptOf, jobOf, recordOf, workerOf } from '../sql/rows.ts';
import { type Horizon, quote, readyPriorities, scheduledPriorities } from './claims.ts';
import { type Counted, countedAs, selectCounts } from './counts.ts';
import { type SqliteRow, selectJob } from './rows.ts';
import { ownId, timedId } from './schema.ts';

const fewRows = 20_000;
const emptyCounts: Record<Status, number> = {
  waiting: 0,
  scheduled: 0,
  ready: 0,
  retrying: 0,
  running: 0,
  successful: 0,
  failed: 0,
  cancelled: 0,
};

const finishedStates = ['successful', 'failed', 'cancelled'] as const;
/** Matches the condition of the index. */
const isOver = (state: string) => `state = ${quote(state)} AND finished_at IS NOT NULL`;

/** `changedAt` of `core/job`. */
const changedAt = 'max(enqueued_at, coalesce(last_attempted_at, 0), coalesce(last_ended_at, 0), coalesce(finished_at, 0))';

/** The possible last changes of a job, and when they happened. */
const latestChanges: readonly { readonly where: string; readonly at: string; readonly of: readonly Status[] }[] = [
  { where: timedId, at: 'id', of: ['waiting', 'scheduled', 'ready'] },
  { where: ownId, at: 'enqueued_at', of: ['waiting', 'scheduled', 'ready'] },
  { where: "state = 'running'", at: 'last_attempted_at', of: ['running'] },
  {
    where: "last_ended_at IS NOT NULL AND state IN ('scheduled', 'ready')",
    at: 'last_ended_at',
    of: ['scheduled', 'ready', 'retrying'],
  },
  ...finishedStates.flatMap((state) =>
    ['prune_at IS NULL', 'prune_at IS NOT NULL'].map((own) => ({
      where: `${isOver(state)} AND ${own}`,
      at: 'finished_at',
      of: [state],
    })),
  ),
];

/** Jobs of a queue that are stored as scheduled and are due, or stored as ready and are not. */
interface Misplaced {
  readonly queue: string;
  readonly retried: number;
  readonly count: number;
  readonly at: number;
}

export class Reads {
  readonly #db: Database;
  readonly #horizon: Horizon;
  readonly #rows: Statement<[string], SqliteRow>;
  readonly #row: Statement<[string], SqliteRow>;
  readonly #attempts: Statement<[string], AttemptRow>;
  /** Without stacks. */
  readonly #listedAttempts: Statement<[string], AttemptRow>;
  readonly #orphans: Statement<[number, number], SqliteRow>;
  readonly #expired: Statement<[number, number], SqliteRow>;
  readonly #nextLease: Statement<[], { at: number }>;
  readonly #nextExpiry: Statement<[], { at: number }>;
  readonly #nextPrune: Statement<[], { at: number | null }>;
  readonly #workers: Statement<[], { row: string }>;
  readonly #counts: Statement<[], { queue: string; state: Counted; count: number }>;
  readonly #due: Statement<[number], Misplaced>;
  readonly #notDue: Statement<[number, number], Misplaced>;
  readonly #queues: Statement<[], { name: string; paused: number }>;
  readonly #priorities: Statement<[string], { priority: number }>;
  readonly #oldest: Statement<[string, number], { at: number | null }>;
  readonly #oldestBlocked: Statement<[string], { at: number | null }>;
  readonly #lists = new Map<string, Statement<unknown[], SqliteRow>>();

  constructor(db: Database, horizon: Horizon) {
    this.#db = db;
    this.#horizon = horizon;
    this.#rows = db.prepare(`${selectJob} WHERE id IN (SELECT value FROM json_each(?))`);
    this.#row = db.prepare(`${selectJob} WHERE id = ?`);
    const earlier = (error: string) =>
      db.prepare<[string], AttemptRow>(
        `SELECT job, claim, attempt, worker, started_at AS startedAt, ended_at AS endedAt, outcome, ${error}
         FROM escapement_attempts WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, claim`,
      );
    this.#attempts = earlier('error');
    this.#listedAttempts = earlier("CASE WHEN json_valid(error) THEN json_set(error, '$.stack', '') ELSE error END AS error");
    const expiring = "expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'ready')";
    this.#orphans = db.prepare(`${selectJob} WHERE state = 'running' AND lease_until <= ? ORDER BY lease_until, id LIMIT +?`);
    this.#expired = db.prepare(`${selectJob} WHERE ${expiring} AND expires_at <= ? ORDER BY expires_at, id LIMIT +?`);
    this.#nextLease = db.prepare("SELECT lease_until AS at FROM escapement_jobs WHERE state = 'running' ORDER BY lease_until LIMIT 1");
    this.#nextExpiry = db.prepare(`SELECT expires_at AS at FROM escapement_jobs WHERE ${expiring} ORDER BY expires_at LIMIT 1`);
    const firstEnd = (state: string) => `(SELECT prune_at FROM escapement_jobs INDEXED BY escapement_finished
       WHERE ${isOver(state)} AND prune_at IS NOT NULL ORDER BY prune_at LIMIT 1)`;
    this.#nextPrune = db.prepare(
      `SELECT min(at) AS at FROM (${finishedStates.map((state) => `SELECT ${firstEnd(state)} AS at`).join(' UNION ALL ')})`,
    );
    this.#workers = db.prepare('SELECT row FROM escapement_workers ORDER BY started_at, id');
    this.#counts = db.prepare(selectCounts);
    const grouped = 'j.queue, j.attempt > 0 AS retried, count(*) AS count, min(j.due_at) AS at FROM';
    this.#due = db.prepare(
      `${scheduledPriorities} SELECT ${grouped} step CROSS JOIN escapement_jobs j INDEXED BY escapement_scheduled
       WHERE j.state = 'scheduled' AND j.priority = step.priority AND j.due_at <= ? GROUP BY 1, 2`,
    );
    const notDue = (blocked: string) =>
      `SELECT ${grouped} escapement_jobs j WHERE j.state = 'ready' AND j.blocked_by ${blocked} AND j.due_at > ? GROUP BY 1, 2`;
    this.#notDue = db.prepare(`${notDue('IS NULL')} UNION ALL ${notDue('IS NOT NULL')}`);
    this.#queues = db.prepare('SELECT name, paused FROM escapement_queues');
    this.#priorities = db.prepare(readyPriorities);
    this.#oldestBlocked = db.prepare('SELECT min(due_at) AS at FROM escapement_jobs WHERE blocked_by IS NOT NULL AND queue = (SELECT ?)');
    this.#oldest = db.prepare(
      "SELECT min(due_at) AS at FROM escapement_jobs WHERE state = 'ready' AND blocked_by IS NULL AND queue = (SELECT ?) AND priority = (SELECT ?)",
    );
  }

  rows(ids: readonly string[]): SqliteRow[] {
    if (ids.length === 1) {
      const row = this.#row.get(ids[0] as string);
      return row ? [row] : [];
    }
    return this.#rows.all(JSON.stringify(ids));
  }

  get(ids: readonly string[]): (JobRecord | null)[] {
    const rows = this.rows(ids);
    const records = new Map(this.#records(rows, this.#attempts).map((record) => [record.job.id, record]));
    return ids.map((id) => records.get(id) ?? null);
  }

  overdue(now: number, limit: number): Job[] {
    const running = this.#orphans.all(now, limit).map((row) => ({ at: row.leaseUntil ?? 0, job: jobOf(row) }));
    const expired = this.#expired.all(now, limit).map((row) => ({ at: row.expiresAt ?? 0, job: jobOf(row) }));
    const all = [...running, ...expired.filter(({ job }) => isExpired(job, now))].sort(
      (a, b) => a.at - b.at || (a.job.id < b.job.id ? -1 : 1),
    );
    return all.slice(0, limit).map(({ job }) => job);
  }

  nextDue(): Omit<NextDue, 'jobAt'> {
    const overdue = Math.min(this.#nextLease.get()?.at ?? Number.POSITIVE_INFINITY, this.#nextExpiry.get()?.at ?? Number.POSITIVE_INFINITY);
    const pruneAt = this.#nextPrune.get()?.at ?? undefined;
    return { overdueAt: overdue === Number.POSITIVE_INFINITY ? null : overdue, ...(pruneAt === undefined ? {} : { pruneAt }) };
  }

  workers(): WorkerRow[] {
    return this.#workers.all().flatMap(({ row }) => workerOf(row) ?? []);
  }

  list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined; order?: JobOrder | undefined },
  ): { items: JobRecord[]; cursor: string | null } {
    const conditions: string[] = [];
    const values: unknown[] = [];
    const where = (sql: string, ...bound: unknown[]) => {
      conditions.push(sql);
      values.push(...bound);
    };
    if (options.cursor !== undefined) where('id < ?', options.cursor);
    if (filter.ids) where('id IN (SELECT value FROM json_each(?))', JSON.stringify(filter.ids));
    if (filter.task !== undefined) where('task = ?', filter.task);
    if (filter.queue !== undefined) where('queue = ?', filter.queue);
    if (filter.schedule !== undefined) where('schedule = ?', filter.schedule);
    if (filter.workflow !== undefined) where('workflow = ?', filter.workflow);
    if (filter.enqueuedBy !== undefined) where('enqueued_by = ?', filter.enqueuedBy);
    if (filter.tag !== undefined)
      where('EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags END) WHERE value = ?)', filter.tag);
    if (filter.status) {
      const states = filter.status.map(visible);
      const instants = states.flatMap((sql) => (sql.includes('?') ? [options.now] : []));
      where(states.length > 0 ? `(${states.join(' OR ')})` : '0', ...instants);
    }
    if (options.order === 'changed') return { items: this.#changed(filter.status, conditions, values, options.limit), cursor: null };
    // If few jobs are in these states, reading them by their index and sorting them is faster than searching all jobs, newest first.
    const few = filter.status !== undefined && this.#countOf(filter.status) <= fewRows;
    const order = few ? 'ORDER BY +id DESC' : 'ORDER BY id DESC';
    const sql = `${selectJob}${conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : ''} ${order} LIMIT +?`;
    const rows = this.#listing(sql).all(...values, options.limit + 1);
    const page = rows.slice(0, options.limit);
    return { items: this.#records(page, this.#listedAttempts), cursor: rows.length > page.length ? (page.at(-1)?.id ?? null) : null };
  }

  /**
   * Reads the latest jobs for each kind of change that is possible in these statuses, each from its own index, and then takes the latest of
   * all.
   */
  #changed(statuses: readonly Status[] | undefined, conditions: readonly string[], values: readonly unknown[], limit: number): JobRecord[] {
    const changes = latestChanges.filter(({ of }) => statuses === undefined || of.some((status) => statuses.includes(status)));
    if (changes.length === 0) return [];
    const latest = changes.map(({ where, at }) => {
      const all = [...conditions, ...(where === '' ? [] : [where])];
      const which = all.length > 0 ? ` WHERE ${all.join(' AND ')}` : '';
      return `SELECT id FROM (SELECT id FROM escapement_jobs${which} ORDER BY ${at} DESC, id DESC LIMIT +?)`;
    });
    const rows = this.#listing(`${selectJob} WHERE id IN (${latest.join(' UNION ')}) ORDER BY ${changedAt} DESC, id DESC LIMIT +?`);
    return this.#records(rows.all(...changes.flatMap(() => [...values, limit]), limit), this.#listedAttempts);
  }

  stats(now: number): QueueStats[] {
    const queues = new Map<string, { paused: boolean; row: boolean; counts: Record<Status, number>; dueAt: number }>();
    const of = (name: string) => {
      const found = queues.get(name) ?? { paused: false, row: false, counts: { ...emptyCounts }, dueAt: Number.POSITIVE_INFINITY };
      queues.set(name, found);
      return found;
    };
    for (const { name, paused } of this.#queues.all()) Object.assign(of(name), { paused: paused === 1, row: true });
    for (const { queue, state, count } of this.#counts.all()) of(queue).counts[state] += count;
    // Jobs that no claim has marked as ready yet, or that a claim with a fast clock has marked too early, are counted by their state at
    // this instant.
    for (const { queue, retried, count, at } of this.#due.all(now)) {
      const found = of(queue);
      found.counts[countedAs('scheduled', retried)] -= count;
      found.counts.ready += count;
      found.dueAt = Math.min(found.dueAt, at);
    }
    if (now < this.#horizon.readyUntil) {
      for (const { queue, retried, count } of this.#notDue.all(now, now)) {
        const { counts } = of(queue);
        counts.ready -= count;
        counts[countedAs('scheduled', retried)] += count;
      }
    }
    return [...queues]
      .filter(([, { row, counts }]) => row || Object.values(counts).some((count) => count > 0))
      .map(([name, { paused, counts, dueAt }]) => {
        const oldest = counts.ready > 0 ? Math.min(dueAt, this.#oldestReady(name)) : Number.POSITIVE_INFINITY;
        return { name, paused, counts, oldestReadyAt: oldest <= now ? oldest : null };
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #countOf(statuses: readonly Status[]): number {
    const queued = statuses.some((status) => status === 'ready' || status === 'scheduled' || status === 'retrying');
    let sum = 0;
    for (const { state, count } of this.#counts.all()) {
      const isQueued = state === 'ready' || state === 'scheduled' || state === 'retrying';
      if (isQueued ? queued : statuses.includes(state)) sum += count;
    }
    return sum;
  }

  #oldestReady(queue: string): number {
    return Math.min(
      this.#oldestBlocked.get(queue)?.at ?? Number.POSITIVE_INFINITY,
      ...this.#priorities.all(queue).map(({ priority }) => this.#oldest.get(queue, priority)?.at ?? Number.POSITIVE_INFINITY),
    );
  }

  #listing(sql: string): Statement<unknown[], SqliteRow> {
    let statement = this.#lists.get(sql);
    if (!statement) {
      // More query shapes than are in use at a time.
      if (this.#lists.size >= 50) this.#lists.clear();
      statement = this.#db.prepare(sql);
      this.#lists.set(sql, statement);
    }
    return statement;
  }

  #records(rows: readonly SqliteRow[], attempts: Statement<[string], AttemptRow>): JobRecord[] {
    const several = rows.filter(({ claim }) => claim > 1).map(({ id }) => id);
    const earlier = new Map<string, Attempt[]>();
    if (several.length > 0) {
      for (const row of attempts.all(JSON.stringify(several))) {
        const known = earlier.get(row.job);
        if (known) known.push(attemptOf(row));
        else earlier.set(row.job, [attemptOf(row)]);
      }
    }
    return rows.map((row) => recordOf(row, earlier.get(row.id) ?? []));
  }
}

function visible(status: Status): string {
  // Without IN, the planner recognises that the index of one state is sufficient.
  const queued = "(state = 'scheduled' OR state = 'ready')";
  switch (status) {
    case 'ready':
      return `(${queued} AND due_at <= ?)`;
    case 'scheduled':
      return `(${queued} AND due_at > ? AND attempt = 0)`;
    case 'retrying':
      return `(${queued} AND due_at > ? AND attempt > 0)`;
    case 'successful':
    case 'failed':
    case 'cancelled':
      return `(${isOver(status)})`;
    default:
      return `state = ${quote(status)}`;
  }
}
