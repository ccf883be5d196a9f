/** Queries for jobs by id or filter, counts and workers. Each is one statement, or two on one connection. */
import { isExpired, withoutOldStacks } from '../../core/job.ts';
import type { Job, JobRecord, Status } from '../../core/types.ts';
import type { JobFilter, JobOrder, NextDue, PruneOptions, QueueStats } from '../../ports/store.ts';
import { type JobRow, jobOf } from '../sql/rows.ts';
import type { FirstLease, LineValues } from './lines.ts';
import { jobColumns } from './rows.ts';
import { ownId, timedId } from './schema.ts';
import { clean, quoteText, type Session, type Value } from './session.ts';
import { recordsOf } from './work.ts';

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

/** Deltas of the finished counts are summed when there are more than `minSummed`, at most `maxSummed` at a time. */
const minSummed = 200;
const maxSummed = 20_000;

const finishedStates = ['successful', 'failed', 'cancelled'] as const;
const isOver = (state: string) => `state = ${quoteText(state)} AND finished_at IS NOT NULL`;

/** `changedAt` of `core/job`. */
const changedAt = 'greatest(enqueued_at, coalesce(last_attempted_at, 0), coalesce(last_ended_at, 0), coalesce(finished_at, 0))';

/** The possible latest changes of a job, and when they happened. */
const latestChanges: readonly { readonly where: string; readonly at: string; readonly of: readonly Status[] }[] = [
  { where: timedId, at: 'id', of: ['waiting', 'scheduled', 'ready'] },
  { where: ownId, at: 'enqueued_at', of: ['waiting', 'scheduled', 'ready'] },
  { where: "state = 'running'", at: 'last_attempted_at', of: ['running'] },
  { where: "last_ended_at IS NOT NULL AND state = 'queued'", at: 'last_ended_at', of: ['scheduled', 'ready', 'retrying'] },
  ...finishedStates.map((state) => ({ where: isOver(state), at: 'finished_at', of: [state] })),
];

export function readsSql(schema: string) {
  const from = `FROM ${schema}.jobs`;
  const expiring = "expires_at IS NOT NULL AND started_at IS NULL AND state = 'queued'";
  const attempts = `SELECT job, claim, attempt, worker, started_at AS "startedAt", ended_at AS "endedAt", outcome, error
     FROM ${schema}.attempts WHERE job = ANY (ARRAY(SELECT json_array_elements_text($1::text::json))) ORDER BY job, claim`;
  const prunable = (at: string, own: string) =>
    `SELECT id FROM ${schema}.jobs WHERE state = $1 AND finished_at IS NOT NULL AND ${own} AND ${at} < $2 ORDER BY ${at}, finished_at, n LIMIT $3 FOR UPDATE SKIP LOCKED`;
  const prune = (at: string, own: string) => `WITH doomed AS MATERIALIZED (${prunable(at, own)}), gone AS (
      DELETE FROM ${schema}.jobs WHERE id IN (SELECT id FROM doomed) RETURNING queue, state
    ), counted AS (INSERT INTO ${schema}.finished (queue, state, count) SELECT queue, state, -count(*) FROM gone GROUP BY 1, 2),
    old_attempts AS (DELETE FROM ${schema}.attempts WHERE job IN (SELECT id FROM doomed)),
    old_steps AS (DELETE FROM ${schema}.steps WHERE job IN (SELECT id FROM doomed)),
    old_edges AS (DELETE FROM ${schema}.edges WHERE child IN (SELECT id FROM doomed)),
    old_blobs AS (DELETE FROM ${schema}.blobs WHERE job IN (SELECT id FROM doomed))
    SELECT count(*) AS count FROM gone`;
  return {
    schema,
    select: `SELECT ${jobColumns} ${from}`,
    get: `SELECT ${jobColumns} ${from} WHERE id = ANY ($1::text[])`,
    attempts,
    overdue: `(SELECT ${jobColumns} ${from} WHERE state = 'running' AND lease_until <= $1 AND lease_until >= $3 ORDER BY lease_until, id LIMIT $2)
      UNION ALL (SELECT ${jobColumns} ${from} WHERE ${expiring} AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2)`,
    /** The instants of `NextDue`, starting from known lines, and whether jobs are blocked by a limit. */
    next: `SELECT ${schema}.next_due($1, $2, $3, $4, $5, false) AS job,
      EXISTS (SELECT 1 ${from} WHERE blocked_by IS NOT NULL AND task = ANY ($1)) AS "hasBlocked",
      (SELECT lease_until ${from} WHERE state = 'running' AND lease_until >= $6 ORDER BY lease_until LIMIT 1) AS lease,
      (SELECT expires_at ${from} WHERE ${expiring} ORDER BY expires_at LIMIT 1) AS expiry,
      (SELECT min(at) FROM (${finishedStates
        .map((state) => `(SELECT prune_at AS at ${from} WHERE state = '${state}' AND prune_at IS NOT NULL ORDER BY prune_at LIMIT 1)`)
        .join(' UNION ALL ')}) ends) AS prune`,
    stats: `SELECT queue, state, due, count, at FROM ${schema}.stats($1)`,
    /** Replaces deltas of the finished counts with their sums. */
    sumFinished: `WITH changes AS (SELECT ctid FROM ${schema}.finished LIMIT ${maxSummed} FOR UPDATE SKIP LOCKED), gone AS (
        DELETE FROM ${schema}.finished WHERE ctid IN (SELECT ctid FROM changes) RETURNING queue, state, count
      ) INSERT INTO ${schema}.finished (queue, state, count) SELECT queue, state, sum(count)::bigint FROM gone GROUP BY 1, 2 HAVING sum(count) <> 0`,
    /** Whether there are enough deltas to sum. */
    isManyFinished: `SELECT count(*) > ${minSummed} AS "isMany" FROM (SELECT 1 FROM ${schema}.finished LIMIT ${minSummed} + 1) f`,
    queues: `SELECT name, paused FROM ${schema}.queues`,
    prune: {
      left: prune('finished_at', 'prune_at IS NULL'),
      only: prune('prune_at', 'prune_at IS NOT NULL'),
      both: prune('finished_at', 'true'),
    },
    forgetRates: `DELETE FROM ${schema}.rates WHERE arrival_at < $1`,
  };
}
export type ReadsSql = ReturnType<typeof readsSql>;

export class Reads {
  readonly #session: Session;
  readonly #sql: ReadsSql;

  constructor(session: Session, sql: ReadsSql) {
    this.#session = session;
    this.#sql = sql;
  }

  async get(ids: readonly string[]): Promise<(JobRecord | null)[]> {
    if (ids.length === 0) return [];
    const rows = await this.#session.rows<JobRow>(this.#sql.get, [ids.map(clean)]);
    return recordsOf(this.#session, this.#sql.attempts, ids, rows);
  }

  /** @param from no lease ends before this instant */
  async overdue(now: number, limit: number, from: number): Promise<Job[]> {
    const rows = await this.#session.rows<JobRow>(this.#sql.overdue, [now, limit, from]);
    const all = rows
      .map((row) => ({ at: (row.state === 'running' ? row.leaseUntil : row.expiresAt) ?? 0, job: jobOf(row) }))
      .filter(({ job }) => job.status === 'running' || isExpired(job, now))
      .sort((a, b) => a.at - b.at || (a.job.id < b.job.id ? -1 : 1));
    return all.slice(0, limit).map(({ job }) => job);
  }

  /** @param leases receives the earliest lease end that is found; no lease ends before `from` */
  async next(lines: LineValues, now: number, from: number, leases: FirstLease): Promise<NextDue & { readonly hasBlocked: boolean }> {
    const [row] = await this.#session.rows<Next>(this.#sql.next, [...lines, now, from]);
    leases.found(row?.lease ?? null, from);
    const overdue = Math.min(row?.lease ?? Number.POSITIVE_INFINITY, row?.expiry ?? Number.POSITIVE_INFINITY);
    const pruneAt = row?.prune ?? undefined;
    return {
      jobAt: row?.job ?? null,
      overdueAt: overdue === Number.POSITIVE_INFINITY ? null : overdue,
      ...(pruneAt === undefined ? {} : { pruneAt }),
      hasBlocked: row?.hasBlocked ?? false,
    };
  }

  async list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined; order?: JobOrder | undefined },
  ): Promise<{ items: JobRecord[]; cursor: string | null }> {
    const conditions: string[] = [];
    const values: Value[] = [];
    const bind = (value: Value) => `$${values.push(value)}`;
    if (options.cursor !== undefined) conditions.push(`id < ${bind(options.cursor)}`);
    if (filter.ids) conditions.push(`id = ANY (${bind(filter.ids.map(clean))}::text[])`);
    if (filter.task !== undefined) conditions.push(`task = ${bind(clean(filter.task))}`);
    if (filter.queue !== undefined) conditions.push(`queue = ${bind(clean(filter.queue))}`);
    if (filter.schedule !== undefined) conditions.push(`schedule = ${bind(clean(filter.schedule))}`);
    if (filter.workflow !== undefined) conditions.push(`workflow = ${bind(clean(filter.workflow))}`);
    if (filter.enqueuedBy !== undefined) conditions.push(`enqueued_by = ${bind(clean(filter.enqueuedBy))}`);
    // The match on the JSON text rules out most rows.
    if (filter.tag !== undefined) {
      const text = `position(${bind(JSON.stringify(filter.tag))} IN tags) > 0`;
      conditions.push(`CASE WHEN ${text} THEN ${this.#sql.schema}.has_tag(tags, ${bind(clean(filter.tag))}) ELSE false END`);
    }
    if (filter.status) {
      const now = bind(options.now);
      conditions.push(`${now}::bigint IS NOT NULL`);
      const states = filter.status.map((status) => visible(status, `${now}::bigint`));
      conditions.push(states.length > 0 ? `(${states.join(' OR ')})` : 'false');
    }
    const isChanged = options.order === 'changed';
    const pageLimit = isChanged ? options.limit : options.limit + 1;
    const sql = isChanged
      ? this.#changed(filter.status, conditions, bind(pageLimit))
      : `${this.#sql.select}${where(conditions)} ORDER BY id DESC LIMIT ${bind(pageLimit)}`;
    const rows = sql === undefined ? [] : await this.#session.rows<JobRow>(sql, values);
    const page = rows.slice(0, options.limit);
    const records = await recordsOf(
      this.#session,
      this.#sql.attempts,
      page.map(({ id }) => id),
      page,
    );
    const items = records.flatMap((record) => (record ? [{ job: record.job, attempts: withoutOldStacks(record.attempts) }] : []));
    return { items, cursor: rows.length > page.length ? (page.at(-1)?.id ?? null) : null };
  }

  /**
   * Reads the latest jobs for each kind of change that is possible in these statuses, each from its own index, and then takes the latest of
   * all.
   */
  #changed(statuses: readonly Status[] | undefined, conditions: readonly string[], limit: string): string | undefined {
    const changes = latestChanges.filter(({ of }) => statuses === undefined || of.some((status) => statuses.includes(status)));
    if (changes.length === 0) return undefined;
    const latest = changes.map(
      ({ where: kind, at }) =>
        `(SELECT id FROM ${this.#sql.schema}.jobs${where([...conditions, kind])} ORDER BY ${at} DESC, id DESC LIMIT ${limit})`,
    );
    return `${this.#sql.select} WHERE id IN (${latest.join(' UNION ')}) ORDER BY ${changedAt} DESC, id DESC LIMIT ${limit}`;
  }

  async stats(now: number): Promise<QueueStats[]> {
    const queues = new Map<string, { paused: boolean; counts: Record<Status, number>; oldestReadyAt: number | null }>();
    const of = (name: string) => {
      const found = queues.get(name) ?? { paused: false, counts: { ...emptyCounts }, oldestReadyAt: null };
      queues.set(name, found);
      return found;
    };
    for (const { name, paused } of await this.#session.rows<{ name: string; paused: boolean }>(this.#sql.queues)) of(name).paused = paused;
    for (const { queue, state, due, count, at } of await this.#session.rows<Counted>(this.#sql.stats, [now])) {
      const found = of(queue);
      const status = state !== 'queued' ? state : due ? 'ready' : 'scheduled';
      found.counts[status] += count;
      if (status === 'retrying') found.counts.scheduled -= count;
      if (status === 'ready') found.oldestReadyAt = Math.min(at ?? now, found.oldestReadyAt ?? Number.POSITIVE_INFINITY);
    }
    return [...queues].map(([name, found]) => ({ name, ...found })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Keeps `stats` fast. Several workers may do this at the same time. */
  async sumFinished(): Promise<void> {
    const [row] = await this.#session.rows<{ isMany: boolean }>(this.#sql.isManyFinished);
    if (row?.isMany) await this.#session.run(this.#sql.sumFinished);
  }

  async prune({ status, finishedBefore, limit, own }: PruneOptions): Promise<number> {
    const [row] = await this.#session.rows<{ count: number }>(this.#sql.prune[own ?? 'both'], [status, finishedBefore, limit]);
    const count = row?.count ?? 0;
    // Arrival times in the past have no effect on future jobs.
    if (count < limit) await this.#session.run(this.#sql.forgetRates, [finishedBefore]);
    return count;
  }
}

interface Next {
  readonly job: number | null;
  readonly hasBlocked: boolean;
  readonly lease: number | null;
  readonly expiry: number | null;
  readonly prune: number | null;
}

interface Counted {
  readonly queue: string;
  readonly state: Exclude<Status, 'scheduled' | 'ready'> | 'queued';
  readonly due: boolean;
  readonly count: number;
  readonly at: number | null;
}

function where(conditions: readonly string[]): string {
  return conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : '';
}

/** Each half uses its own index. */
function queued(where: string): string {
  return `(state = 'queued' AND blocked_by IS NULL AND ${where} OR blocked_by IS NOT NULL AND state = 'queued' AND ${where})`;
}

function visible(status: Status, now: string): string {
  switch (status) {
    case 'ready':
      return queued(`due_at <= ${now}`);
    case 'scheduled':
      return queued(`due_at > ${now} AND attempt = 0`);
    case 'retrying':
      return `(last_ended_at IS NOT NULL AND state = 'queued' AND due_at > ${now} AND attempt > 0)`;
    case 'successful':
    case 'failed':
    case 'cancelled':
      return `(${isOver(status)})`;
    default:
      return `state = ${quoteText(status)}`;
  }
}
