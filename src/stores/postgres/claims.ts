/**
 * What workers do all the time: claiming, settling together with the next claim, and asking when the next job is due. Each is a single call
 * of a function in the schema, which starts where the previous claim ended. Jobs within limits, and outcomes other than plain successes,
 * take a transaction.
 */
import { defaultBackoff } from '../../core/backoff.ts';
import { decide } from '../../core/decide.ts';
import { StoreError } from '../../core/errors.ts';
import { comesBefore, settled as settledJob } from '../../core/job.ts';
import type { Job, Settlement } from '../../core/types.ts';
import { systemClock } from '../../ports/clock.ts';
import type { ClaimOptions, Hint, NextDue, Settled } from '../../ports/store.ts';
import { Remembered } from '../sql/remembered.ts';
import { type JobRow, jobOf, unreadable } from '../sql/rows.ts';
import { type Connection, codeOf } from './connection.ts';
import { LimitedClaims, limitedSql, type Served, type Sweep } from './limited-claims.ts';
import { FirstLease, type Line, Lines, type Start } from './lines.ts';
import { Reads, type ReadsSql } from './reads.ts';
import { type ClaimedRow, type Ending, endingValues, readClaimed, type Unreadable } from './rows.ts';
import type { Session } from './session.ts';
import { Work, type WorkSql } from './work.ts';

const longestReadEveryMs = 300_000;
/** The first and the longest interval before a locked job is checked again. */
const firstRecheckMs = 50;
const longestRecheckMs = 1_000;

export function claimsSql(schema: string) {
  return {
    lines: `SELECT queue, priority FROM ${schema}.lines()`,
    claim: `SELECT * FROM ${schema}.claim_2($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    succeed: `SELECT * FROM ${schema}.succeed_3($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
    limited: limitedSql(schema),
  };
}

export interface ClaimsDeps {
  readonly connection: Connection;
  readonly sql: { readonly claims: ReturnType<typeof claimsSql>; readonly work: WorkSql; readonly reads: ReadsSql };
  /** The advisory lock that serializes claims within limits. */
  readonly limitsLock: readonly [number, number];
  /** True if no other process uses the schema. */
  readonly isAlone: boolean;
  /** True if other processes' enqueues are announced. */
  readonly isNotified: () => boolean;
  /** Notifies listeners of changed jobs. @param isForOthers whether workers of other processes may have something to do */
  readonly hint: (jobs: readonly Job[], isForOthers: boolean) => void;
  /** Notifies listeners in this process. */
  readonly notify: (hint: Hint) => void;
}

type Claiming = ClaimOptions & { readonly now: number };

export class Claims {
  readonly #deps: ClaimsDeps;
  readonly #lines = new Lines();
  readonly #leases = new FirstLease();
  readonly #running = new Remembered<string>();
  readonly #sweep: Sweep = { after: '' };
  #hasLimits = false;
  /** How long the last claim from the beginning of every line took. Dead entries may have piled up there. */
  #wholeMs = 0;
  /** How often in a row a job was due that no claim had found. */
  #passedOver = 0;

  constructor(deps: ClaimsDeps) {
    this.#deps = deps;
  }

  /** With limits, a job that ends may let others start, in other processes too. */
  get hasLimits(): boolean {
    return this.#hasLimits;
  }

  async claim(options: Claiming): Promise<readonly Job[]> {
    if (options.limit <= 0) return [];
    const { now, limit, worker, leaseUntil } = options;
    if (options.limits) return this.#claimWithin(options);
    const start = await this.#start(options, now);
    const { connection, sql } = this.#deps;
    const rows = await this.#claiming(start, ['ESC02'], () =>
      connection.arrays<ClaimedRow>(sql.claims.claim, [...start.values, start.after, now, limit, worker, leaseUntil]),
    );
    return rows ? this.#claimedRows(rows, start, options) : this.#claimWithin(options);
  }

  async settle(settlements: readonly Settlement[], now: number, options: ClaimOptions | undefined): Promise<Settled> {
    if (options?.limits) this.#hasLimits = true;
    const claim = options && options.limit > 0 ? { ...options, now } : undefined;
    try {
      const plain = options?.limits ? undefined : await this.#succeed(settlements, now, claim);
      return plain ?? (await this.#settleAll(settlements, now, claim));
    } catch (error) {
      if (!isRefusedValue(error)) throw error;
    }
    return this.#settleEach(settlements, now, claim);
  }

  async nextDueAt(options: Served & { now: number }): Promise<NextDue> {
    const { now, limits } = options;
    const start = await this.#start(options, now);
    return this.#deps.connection.read(async (session) => {
      const readsSkipped = this.#readsSkipped;
      const lines = readsSkipped ? start.unread : start.values;
      const reads = new Reads(session, this.#deps.sql.reads);
      const { hasBlocked, ...next } = await reads.next(lines, now, this.leasesFrom(now), this.#leases);
      if (hasBlocked) this.#hasLimits = true;
      if (limits || hasBlocked) return { ...next, jobAt: await this.#limited(session).nextDueAt(options, now) };
      return readsSkipped ? { ...next, jobAt: this.#recheckAt(start, next.jobAt, now) } : next;
    });
  }

  /** No lease ends before this instant. Read from the beginning at least every 30 s, so that the jobs of a lost worker do not wait longer. */
  leasesFrom(now: number): number {
    return this.#leases.from(now, Math.min(30_000, this.#readEveryMs));
  }

  /** A lease now ends at this instant. */
  leased(until: number): void {
    this.#leases.lower(until);
  }

  /** The rows of these jobs are about to change, other than by `settle`. */
  forget(changes: readonly { readonly id: string }[]): void {
    this.#running.forget(changes);
  }

  /** This process has inserted or changed jobs. */
  changed(jobs: readonly Job[]): void {
    for (const job of jobs) if (job.status === 'queued') this.#lines.lower(job, job.dueAt);
  }

  /**
   * Another process has announced a change. @param lines the lines of the jobs that became due; undefined: any line may be affected
   */
  announced(hint: Hint, lines: readonly Line[] | undefined): void {
    if (!lines) {
      this.#lines.forget();
      this.#leases.forget();
    } else if (hint.dueAt !== undefined) for (const line of lines) this.#lines.lower(line, hint.dueAt);
  }

  /** Jobs of any line may have become claimable. */
  forgetLines(): void {
    this.#lines.forget();
  }

  /** Where a claim begins. */
  #start(served: Served, now: number): Promise<Start> {
    const { connection, sql } = this.#deps;
    return this.#lines.start(served, now, this.#readEveryMs, () => connection.query<Line>(sql.claims.lines, []));
  }

  /** How often all lines are read from the beginning, in case a notification was missed. The longer that takes, the less often. */
  get #readEveryMs(): number {
    // Blocked jobs may become claimable anywhere before the current starting points.
    if (this.#hasLimits) return 0;
    return this.#deps.isNotified() ? Math.min(longestReadEveryMs, Math.max(30_000, 1_000 * this.#wholeMs)) : 1_000;
  }

  /** Converts rows that were claimed without limits to jobs. */
  #claimedRows(rows: readonly ClaimedRow[], start: Start, options: Claiming): Promise<readonly Job[]> {
    const { now, limit } = options;
    const unreadables: Unreadable[] = [];
    const read = rows.map((row) => {
      const job = readClaimed(row, options, unreadables);
      this.#running.add(job, row[11]);
      return job;
    });
    const jobs = inOrder(read);
    start.claimed(jobs, jobs.length < limit ? this.#seenUpTo(now) : undefined);
    if (jobs.length > 0) this.#passedOver = 0;
    return this.#leased(jobs, unreadables, options);
  }

  /** A claim that found too few jobs has seen everything up to now, because later changes are announced. */
  #seenUpTo(now: number): number | undefined {
    return this.#deps.isNotified() ? now : undefined;
  }

  /** The server refuses a value of one settlement: records the others unchanged, and that one as a failure. */
  async #settleEach(settlements: readonly Settlement[], now: number, claim: Claiming | undefined): Promise<Settled> {
    const answers: Settled[] = [];
    for (const settlement of settlements) {
      try {
        answers.push(await this.#settleAll([settlement], now, undefined));
      } catch (error) {
        if (!isRefusedValue(error)) throw error;
        process.emitWarning(`the outcome of job ${settlement.id} cannot be stored, and is recorded as a failure: ${error.message}`, {
          type: 'EscapementWarning',
          code: 'ESCAPEMENT_UNSTORABLE_OUTCOME',
        });
        answers.push(await this.#settleAll([refused(settlement, error)], now, undefined));
      }
    }
    return {
      settled: answers.flatMap(({ settled }) => settled),
      dependents: answers.flatMap(({ dependents }) => dependents),
      claimed: claim ? await this.claim(claim) : [],
    };
  }

  /** Settles plain successes and claims. Returns undefined, with nothing changed, if one of them is another outcome or no longer held. */
  async #succeed(settlements: readonly Settlement[], now: number, claim: Claiming | undefined): Promise<Settled | undefined> {
    const settled: Job[] = [];
    const ending: Ending[] = [];
    for (const settlement of settlements) {
      const known = this.#running.plain(settlement);
      if (!known) return undefined;
      settled.push(settledJob(known.job, settlement));
      ending.push({ ...settlement, place: known.place });
    }
    if (settled.length === 0) return undefined;
    const start = await this.#start(claim ?? noTasks, now);
    const rows = await this.#claiming(start, ['ESC01', 'ESC02'], () =>
      this.#deps.connection.arrays<ClaimedRow>(this.#deps.sql.claims.succeed, [
        ...endingValues(ending),
        ...start.values,
        start.after,
        now,
        claim?.limit ?? 0,
        claim?.worker ?? '',
        claim?.leaseUntil ?? 0,
      ]),
    );
    if (!rows) return undefined;
    this.#running.forget(ending);
    this.#deps.hint(settled, false);
    return { settled, dependents: [], claimed: claim ? await this.#claimedRows(rows, start, claim) : [] };
  }

  async #settleAll(settlements: readonly Settlement[], now: number, claim: Claiming | undefined): Promise<Settled> {
    let changed: Job[] = [];
    this.#running.forget(settlements);
    const { settled, dependents, rows } = await this.#deps.connection.transact(async (session) => {
      changed = [];
      const answers = await new Work(session, this.#deps.sql.work).settle(settlements, now, changed);
      return { ...answers, rows: claim ? await this.#limited(session).claim(claim, this.#deps.limitsLock) : [] };
    });
    this.#deps.hint(
      changed,
      changed.some(({ status }) => status === 'queued'),
    );
    return { settled, dependents, claimed: claim ? await this.#claimed(rows, claim) : [] };
  }

  async #claimWithin(options: Claiming): Promise<readonly Job[]> {
    this.#hasLimits = true;
    const { connection, limitsLock } = this.#deps;
    return this.#claimed(await connection.transact((session) => this.#limited(session).claim(options, limitsLock)), options);
  }

  /** Converts claimed rows to jobs, in claim order. */
  #claimed(rows: readonly JobRow[], options: Claiming): Promise<readonly Job[]> {
    const unreadables: Unreadable[] = [];
    const jobs = rows.map((row) => {
      const faults: string[] = [];
      const job = jobOf(row, faults);
      if (faults.length > 0) unreadables.push({ job, faults });
      return job;
    });
    return this.#leased(jobs, unreadables, options);
  }

  /** Returns claimed jobs. Jobs that cannot be read fail here with a reason. */
  async #leased(jobs: readonly Job[], unreadables: readonly Unreadable[], options: Claiming): Promise<readonly Job[]> {
    if (jobs.length === 0) return jobs;
    this.#leases.lower(options.leaseUntil);
    this.#deps.notify({ overdueAt: options.leaseUntil, by: options.worker });
    if (unreadables.length === 0) return jobs;
    const { now } = options;
    await this.#quarantine(
      unreadables.map(({ job, faults }) => decide(job, defaultBackoff, unreadable(job, faults), now, 0)),
      now,
    );
    const failed = new Set(unreadables.map(({ job }) => job));
    return jobs.filter((job) => !failed.has(job));
  }

  async #quarantine(failures: readonly Settlement[], now: number): Promise<void> {
    await this.#settleAll(failures, now, undefined);
    const others = failures.length > 1 ? ` and ${failures.length - 1} more` : '';
    process.emitWarning(`job ${failures[0]?.id}${others} cannot be read from the store and failed; see the job's error`, {
      type: 'EscapementWarning',
      code: 'ESCAPEMENT_UNREADABLE_JOB',
    });
  }

  /** Whether plain reads look for jobs that claims have skipped. Without notifications, all lines are read every second instead. */
  get #readsSkipped(): boolean {
    return !this.#deps.isAlone && this.#deps.isNotified();
  }

  /** A due job that was not claimed is locked, usually by another claim. It is checked again at increasing intervals. */
  #recheckAt(start: Start, jobAt: number | null, now: number): number | null {
    const isDue = jobAt !== null && jobAt <= now;
    start.scanned(isDue, now);
    this.#passedOver = isDue ? this.#passedOver + 1 : 0;
    return isDue ? now + Math.min(longestRecheckMs, firstRecheckMs * 2 ** Math.min(this.#passedOver - 1, 10)) : jobAt;
  }

  /** Like `#unless`, for a function that claims. If it fails, concurrent claims have skipped the rows that it had locked. */
  async #claiming<T>({ isWhole }: Start, codes: readonly string[], fn: () => Promise<T>): Promise<T | undefined> {
    let isAnswered = false;
    const startedAt = systemClock.monotonic();
    try {
      const answer = await this.#unless(codes, fn);
      isAnswered = answer !== undefined;
      if (isAnswered && isWhole && !this.#deps.isAlone) this.#wholeMs = systemClock.monotonic() - startedAt;
      return answer;
    } finally {
      if (!isAnswered) this.#lines.forget();
    }
  }

  /** The result of a function; undefined if it raises one of these codes. */
  async #unless<T>(codes: readonly string[], fn: () => Promise<T>): Promise<T | undefined> {
    try {
      return await fn();
    } catch (error) {
      if (!codes.includes(codeOf((error as Error).cause) ?? '')) throw error;
      return undefined;
    }
  }

  #limited(session: Session): LimitedClaims {
    return new LimitedClaims(session, this.#deps.sql.claims.limited, this.#sweep);
  }
}

/** Law 4. The server returns changed rows in any order. */
function inOrder<Row extends Pick<Job, 'priority' | 'dueAt' | 'id'>>(rows: Row[]): Row[] {
  return rows.sort((a, b) => (comesBefore(a, b) ? -1 : 1));
}

/** True if the server rejected a value (class 22) or the size of the statement (class 54). */
function isRefusedValue(error: unknown): error is Error {
  return error instanceof StoreError && !error.transient && /^(22|54)/.test(codeOf(error.cause) ?? '');
}

/** The storable part of an outcome. */
function refused({ log: _, metadata: __, prune: ___, ...settlement }: Settlement, { message }: Error): Settlement {
  const isSuccess = settlement.outcome === 'successful';
  return {
    ...settlement,
    outcome: isSuccess ? 'failed' : settlement.outcome,
    status: settlement.status === 'successful' ? 'failed' : settlement.status,
    returnValue: null,
    progress: null,
    reason: null,
    error: { name: 'StoreError', message: `the outcome cannot be stored: ${message}`, stack: '' },
  };
}

const noTasks: Served = { tasks: [] };
