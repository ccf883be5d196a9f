/**
 * Claims within limits. Only one runs at a time in the whole fleet, under a lock that is held until its transaction ends: it counts running
 * jobs in the rows, and the count must not change before the claim. Claims without limits do not take this lock.
 */
import {
  agingOf,
  Gate,
  gateOf,
  type Limits,
  maxPassedOver,
  noLimits,
  type RunningCount,
  rateNames,
  sharedTasks,
  taskOfGate,
  type Waiting,
} from '../../core/gate.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { JobRow } from '../sql/rows.ts';
import { type Line, wholeLines } from './lines.ts';
import { jobColumns } from './rows.ts';
import { records, type Session, texts } from './session.ts';

/** Selects the jobs that a caller may claim. */
export type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues' | 'limits'>;

type Candidate = Pick<JobRow, 'id' | 'queue' | 'task' | 'concurrencyKey' | 'rateKey' | 'dueAt'>;

/** How many candidates a claim reads at a time after the first one that may not start. */
const candidatesAtOnce = 50;
/** How many gates a sweep checks, and how many jobs of one gate it makes ready. */
const gatesAtOnce = 32;
const maxUnblocked = 1_000;
/** How many keys of a task are considered for sharing. Finding them takes a few milliseconds. */
const maxKeys = 1_000;
const none: readonly string[] = [];

export function limitedSql(schema: string) {
  const given = '$1::text::json';
  return {
    lines: `SELECT queue, priority FROM ${schema}.lines()`,
    nextDue: `SELECT ${schema}.next_due($1, $2, $3, $4, $5, $6) AS at`,
    candidates: `SELECT j.id, j.queue, j.task, j.concurrency_key AS "concurrencyKey", j.rate_key AS "rateKey", j.due_at AS "dueAt"
      FROM unnest(${schema}.candidates($1, $2, $3, $4, $5, $6)) WITH ORDINALITY c(id, n) JOIN ${schema}.jobs j ON j.id = c.id ORDER BY c.n`,
    aged: `SELECT due.* FROM unnest($1::integer[]) p(priority) CROSS JOIN LATERAL (
        SELECT j.id, j.queue, j.task, j.concurrency_key AS "concurrencyKey", j.rate_key AS "rateKey", j.due_at AS "dueAt"
        FROM ${schema}.jobs j WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = $2 AND j.priority = p.priority AND j.due_at <= $3
          AND j.task = ANY ($4::text[]) AND (j.expires_at IS NULL OR j.started_at IS NOT NULL OR j.expires_at > $5)
        ORDER BY j.due_at, j.id LIMIT $6 FOR UPDATE SKIP LOCKED) due
      WHERE NOT EXISTS (SELECT 1 FROM ${schema}.queues q WHERE q.name = $2 AND q.paused) ORDER BY due."dueAt", due.id LIMIT $6`,
    // One index step for each queue and key.
    dueKeys: `WITH RECURSIVE step AS (
        (SELECT j.queue, j.concurrency_key, j.due_at FROM ${schema}.jobs j
         WHERE j.task = $1 AND j.concurrency_key IS NOT NULL AND j.state = 'queued' ORDER BY j.queue, j.concurrency_key, j.due_at LIMIT 1)
        UNION ALL
        SELECT next.* FROM step CROSS JOIN LATERAL (
          SELECT j.queue, j.concurrency_key, j.due_at FROM ${schema}.jobs j
          WHERE j.task = $1 AND j.concurrency_key IS NOT NULL AND j.state = 'queued' AND (j.queue, j.concurrency_key) > (step.queue, step.concurrency_key)
          ORDER BY j.queue, j.concurrency_key, j.due_at LIMIT 1) next
      ) SELECT queue, concurrency_key AS key FROM step WHERE due_at <= $2
        AND NOT EXISTS (SELECT 1 FROM ${schema}.queues q WHERE q.name = step.queue AND q.paused) LIMIT ${maxKeys}`,
    look: `SELECT ${schema}.look($1, $2) AS found`,
    lease: `SELECT ${jobColumns} FROM ${schema}.lease($1, $2, $3, $4)`,
    running: `SELECT queue, task, concurrency_key AS "concurrencyKey", count(*) AS count FROM ${schema}.jobs WHERE state = 'running'
      GROUP BY queue, task, concurrency_key`,
    rates: `SELECT name, arrival_at AS "arrivalAt" FROM ${schema}.rates WHERE name IN (SELECT json_array_elements_text(${given}))`,
    saveRates: `INSERT INTO ${schema}.rates (name, arrival_at) SELECT name, arrival_at FROM json_populate_recordset(NULL::${schema}.rates, ${given})
      ON CONFLICT (name) DO UPDATE SET arrival_at = excluded.arrival_at`,
    block: `UPDATE ${schema}.jobs j SET blocked_by = r.blocked_by FROM json_to_recordset(${given}) r(id text, blocked_by text) WHERE j.id = r.id`,
    defer: `UPDATE ${schema}.jobs j SET due_at = r.due_at FROM json_to_recordset(${given}) r(id text, due_at bigint) WHERE j.id = r.id`,
    unblock: `SELECT ${schema}.unblock($1, $2) AS count`,
    hasBlocked: `SELECT 1 AS found FROM ${schema}.jobs WHERE blocked_by IS NOT NULL LIMIT 1`,
    // One index step for each gate.
    gates: `WITH RECURSIVE step (name) AS (
        SELECT min(j.blocked_by) FROM ${schema}.jobs j WHERE j.blocked_by > $1
        UNION ALL SELECT (SELECT min(j.blocked_by) FROM ${schema}.jobs j WHERE j.blocked_by > step.name) FROM step WHERE step.name IS NOT NULL
      ) SELECT name FROM step WHERE name IS NOT NULL LIMIT $2`,
  };
}
export type LimitedSql = ReturnType<typeof limitedSql>;

/** The first thing that a claim with limits reads. */
interface Found {
  readonly running: readonly RunningCount[];
  readonly rates: readonly Rate[];
  readonly lines: readonly Line[];
  readonly hasBlocked: boolean;
}

interface Rate {
  readonly name: string;
  readonly arrivalAt: number;
}

/** The gate for a caller with these limits, and the rates read for it. */
class LoadedGate {
  readonly gate: Gate;
  readonly #session: Session;
  readonly #sql: LimitedSql;
  readonly #limits: Limits;
  readonly #arrivals: Map<string, number>;

  private constructor(session: Session, sql: LimitedSql, limits: Limits, running: readonly RunningCount[], now: number, waiting: Waiting) {
    this.#session = session;
    this.#sql = sql;
    this.#limits = limits;
    this.#arrivals = new Map();
    this.gate = new Gate(limits, running, now, (name) => this.#arrivals.get(name), waiting);
  }

  static async at(session: Session, sql: LimitedSql, served: Served, now: number, slots = 1, found?: Found): Promise<LoadedGate> {
    const limits = served.limits ?? noLimits;
    const running = found?.running ?? (await session.rows<RunningCount>(sql.running));
    const keys = new Map<string, readonly string[]>();
    for (const task of sharedTasks(limits)) {
      const due = await session.rows<{ queue: string; key: string }>(sql.dueKeys, [task, now]);
      keys.set(
        task,
        due.filter(({ queue }) => isServed(served, queue)).map(({ key }) => key),
      );
    }
    const loaded = new LoadedGate(session, sql, limits, running, now, { slots, keys: (task) => keys.get(task) ?? none });
    if (found) loaded.#learn(rateNames(limits), found.rates);
    else await loaded.#read(rateNames(limits));
    return loaded;
  }

  /** Reads the rates of the jobs' keys. */
  async prepare(jobs: readonly Candidate[]): Promise<void> {
    await this.#read(rateNames(this.#limits, jobs));
  }

  readonly #known = new Set<string>();
  async #read(names: readonly string[]): Promise<void> {
    const unknown = names.filter((name) => !this.#known.has(name));
    if (unknown.length > 0) this.#learn(unknown, await this.#session.rows<Rate>(this.#sql.rates, [texts(unknown)]));
  }

  #learn(names: readonly string[], rates: readonly Rate[]): void {
    for (const name of names) this.#known.add(name);
    for (const { name, arrivalAt } of rates) this.#arrivals.set(name, arrivalAt);
  }

  /** What the caller serves, without the queues and tasks that the gate has closed. */
  open({ tasks, queues, excludeQueues = none, limits }: Served): Served {
    const closedQueues = Object.keys(limits?.queues ?? {}).filter((queue) => this.gate.queueClosedUntil(queue) !== null);
    return {
      tasks: tasks.filter((task) => !limits?.tasks[task] || this.gate.taskClosedUntil(task) === null),
      queues,
      excludeQueues: [...excludeQueues, ...closedQueues],
    };
  }
}

/** Where the next sweep starts. */
export interface Sweep {
  after: string;
}

export class LimitedClaims {
  readonly #session: Session;
  readonly #sql: LimitedSql;
  readonly #sweep: Sweep;

  constructor(session: Session, sql: LimitedSql, sweep: Sweep) {
    this.#session = session;
    this.#sql = sql;
    this.#sweep = sweep;
  }

  /** Claims the jobs that the limits admit. The others are blocked or deferred, so that the jobs behind them are considered. */
  async claim(options: ClaimOptions & { now: number }, lock: readonly [number, number]): Promise<JobRow[]> {
    const { now, limit } = options;
    const names = rateNames(options.limits ?? noLimits);
    const [text] = await this.#session.rows<{ found: string }>(this.#sql.look, [lock, names]);
    const found = JSON.parse((text as { found: string }).found) as Found;
    const loaded = await LoadedGate.at(this.#session, this.#sql, options, now, limit, found);
    const { gate } = loaded;
    // No other claim runs while this one holds the lock. Jobs enqueued in the meantime are claimed next time.
    this.#lines = found.lines;
    let { hasBlocked } = found;
    const rows: JobRow[] = [];
    let isSwept = false;
    for (let passedOver = 0; rows.length < limit && passedOver < maxPassedOver; ) {
      const served = loaded.open(options);
      const batchLimit = limit - rows.length + (passedOver > 0 ? candidatesAtOnce : 0);
      // Jobs that have been due for a long time come first.
      const aged = await this.#aged({ ...served, limits: options.limits }, now, batchLimit);
      const due = aged.length > 0 ? aged : served.tasks.length === 0 ? [] : await this.#candidates(served, now, batchLimit);
      await loaded.prepare(due);
      const admitted: string[] = [];
      const blocked: object[] = [];
      const deferred: object[] = [];
      let isClosed = false;
      for (const row of due) {
        if (rows.length + admitted.length === limit || passedOver === maxPassedOver) break;
        const admission = gate.admit(row);
        if (admission === 'start') admitted.push(row.id);
        else if (admission === 'closed') isClosed = true;
        else {
          passedOver += 1;
          if (admission === 'blocked') blocked.push({ id: row.id, blocked_by: gateOf(row) });
          else deferred.push({ id: row.id, due_at: admission.dueAt });
        }
      }
      if (blocked.length > 0) {
        await this.#session.run(this.#sql.block, [records(blocked)]);
        hasBlocked = true;
      }
      if (deferred.length > 0) await this.#session.run(this.#sql.defer, [records(deferred)]);
      if (admitted.length > 0) rows.push(...(await this.#lease(admitted, options)));
      if (aged.length > 0 || (due.length > 0 && (due.length === batchLimit || isClosed || passedOver > 0))) continue;
      if (isSwept || !hasBlocked) break;
      isSwept = true;
      if (!(await this.#sweepGates(options, gate))) break;
    }
    if (gate.changed.size > 0) {
      const rates = [...gate.changed].map(([name, arrivalAt]) => ({ name, arrival_at: arrivalAt }));
      await this.#session.run(this.#sql.saveRates, [records(rates)]);
    }
    return rows;
  }

  /** Returns the jobs in the order in which they were admitted: the server returns changed rows in any order. */
  async #lease(ids: readonly string[], { worker, leaseUntil, now }: ClaimOptions & { now: number }): Promise<JobRow[]> {
    const rows = new Map((await this.#session.rows<JobRow>(this.#sql.lease, [ids, worker, leaseUntil, now])).map((row) => [row.id, row]));
    return ids.flatMap((id) => rows.get(id) ?? []);
  }

  async #candidates(served: Served, now: number, limit: number): Promise<Candidate[]> {
    return this.#session.rows<Candidate>(this.#sql.candidates, [...wholeLines(served, await this.#allLines()), now, limit]);
  }

  async #aged(served: Served, now: number, limit: number): Promise<Candidate[]> {
    const aging = agingOf(served.limits ?? noLimits).filter(([queue]) => isServed(served, queue));
    if (aging.length === 0 || served.tasks.length === 0) return [];
    const lines = await this.#allLines();
    const found: Candidate[] = [];
    for (const [queue, agingMs] of aging) {
      const priorities = lines.filter((line) => line.queue === queue).map(({ priority }) => priority);
      found.push(...(await this.#session.rows<Candidate>(this.#sql.aged, [priorities, queue, now - agingMs, served.tasks, now, limit])));
    }
    return found;
  }

  async #hasBlocked(): Promise<boolean> {
    return (await this.#session.rows(this.#sql.hasBlocked)).length > 0;
  }

  /**
   * Unblocks jobs whose gates have room, for a caller that found nothing else to claim. Each sweep checks a limited number of gates and
   * continues where the last one stopped. Returns true if it unblocked a job.
   */
  async #sweepGates({ tasks }: Served, gate: Gate): Promise<boolean> {
    let count = 0;
    const { names, end } = await this.#blockedGates(tasks);
    for (const name of names) {
      const free = gate.freeAt(name);
      if (free <= 0) continue;
      const [freed] = await this.#session.rows<{ count: number }>(this.#sql.unblock, [name, Math.min(free, maxUnblocked)]);
      count += freed?.count ?? 0;
    }
    this.#sweep.after = end;
    // The unblocked jobs may be in lines that were empty.
    if (count > 0) this.#lines = undefined;
    return count > 0;
  }

  /** Up to `gatesAtOnce` gates of these tasks, starting where the last sweep ended, and where this sweep ends. */
  async #blockedGates(tasks: readonly string[]): Promise<{ readonly names: readonly string[]; readonly end: string }> {
    const { after } = this.#sweep;
    const later = await this.#gatesAfter(after, gatesAtOnce);
    const left = gatesAtOnce - later.length;
    const first = after === '' || left === 0 ? [] : await this.#gatesAfter('', left);
    const names = [...new Set([...later, ...first])];
    return { names: names.filter((name) => tasks.includes(taskOfGate(name))), end: names.length < gatesAtOnce ? '' : (names.at(-1) ?? '') };
  }

  async #gatesAfter(after: string, limit: number): Promise<string[]> {
    return (await this.#session.rows<{ name: string }>(this.#sql.gates, [after, limit])).map(({ name }) => name);
  }

  /** The earliest due time of a job that the caller may claim; `now` if one is ready. */
  async nextDueAt(requested: Served, now: number): Promise<number | null> {
    if (requested.tasks.length === 0 || requested.queues?.length === 0) return null;
    const hasBlocked = await this.#hasBlocked();
    if (!requested.limits && !hasBlocked) return this.#nextDueAt(requested, now);
    const loaded = await LoadedGate.at(this.#session, this.#sql, requested, now);
    if (hasBlocked) for (const name of (await this.#blockedGates(requested.tasks)).names) if (loaded.gate.freeAt(name) > 0) return now;
    const open = loaded.open(requested);
    const openAt = await this.#nextDueAt(open, now);
    if (openAt === now) return now;
    // Closed queues and tasks matter if they have due jobs when they open, or jobs that become due later.
    const at = Math.min(
      openAt ?? Number.POSITIVE_INFINITY,
      await this.#opensAt(requested, open, loaded.gate, now),
      (await this.#nextDueAt(requested, now, true)) ?? Number.POSITIVE_INFINITY,
    );
    return at === Number.POSITIVE_INFINITY ? null : at;
  }

  /** The earliest time at which a closed queue or task with a due job opens without outside action. */
  async #opensAt(requested: Served, open: Served, gate: Gate, now: number): Promise<number> {
    let opensAt = Number.POSITIVE_INFINITY;
    const check = async (served: Served, at: number) => {
      if (at < opensAt && (await this.#nextDueAt(served, now)) === now) opensAt = at;
    };
    const closedTasks = requested.tasks.filter((task) => !open.tasks.includes(task));
    for (const task of closedTasks) await check({ ...open, tasks: [task] }, gate.taskClosedUntil(task) ?? now);
    for (const queue of Object.keys(requested.limits?.queues ?? {})) {
      const at = gate.queueClosedUntil(queue);
      if (at === null || !isServed(requested, queue)) continue;
      await check({ tasks: open.tasks, queues: [queue] }, at);
      for (const task of closedTasks) await check({ tasks: [task], queues: [queue] }, Math.max(at, gate.taskClosedUntil(task) ?? now));
    }
    return opensAt;
  }

  #lines: readonly Line[] | undefined;

  async #allLines(): Promise<readonly Line[]> {
    this.#lines ??= await this.#session.rows<Line>(this.#sql.lines);
    return this.#lines;
  }

  async #nextDueAt(served: Served, now: number, isLater = false): Promise<number | null> {
    if (served.tasks.length === 0) return null;
    const values = [...wholeLines(served, await this.#allLines()), now, isLater];
    const [next] = await this.#session.rows<{ at: number | null }>(this.#sql.nextDue, values);
    return next?.at ?? null;
  }
}

function isServed({ queues, excludeQueues }: Served, queue: string): boolean {
  return (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue);
}
