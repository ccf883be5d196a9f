/**
 * The store on a SQLite file: the same laws as every store, the same functions of the core that say what becomes of a row. Every change is one
 * write transaction; enqueues of one moment share one, so that waiting for the disk is paid once.
 */
import type { Database, Statement } from 'better-sqlite3';
import { InputError, StoreError } from '../../core/errors.ts';
import { alreadySettled, amended, claimed, isFinished, settled } from '../../core/job.ts';
import type { Amendment, Attempt, Job, JobRecord, QueueRow, ScheduleRow, Settlement, WorkerRow } from '../../core/types.ts';
import type {
  Advance,
  Awaitable,
  ClaimOptions,
  Held,
  Hint,
  JobFilter,
  NextDue,
  QueueStats,
  RenewAnswer,
  SettleAnswer,
  Store,
} from '../../ports/store.ts';
import { Claims, type Horizon, type Served } from './claims.ts';
import { type Connection, storeError } from './connection.ts';
import { Counts, countedAs, stateOf } from './counts.ts';
import { Inserts } from './inserts.ts';
import { Reads } from './reads.ts';
import { type AttemptRow, attemptOf, changes, type JobRow, jobOf, lastAttemptOf, updateJob } from './rows.ts';
import { isMigrated } from './schema.ts';
import { watch } from './watch.ts';

type Values = unknown[];

export class SqliteStore implements Store {
  readonly name = 'sqlite';
  readonly supports = { transactions: true };
  readonly pollMs: number;
  readonly #connection: Connection;
  readonly #file: string;
  #ready: Ready | undefined;
  readonly #horizon: Horizon = { readyUntil: Number.NEGATIVE_INFINITY };
  #listeners: ((hint: Hint) => void)[] = [];
  #unwatch: (() => void) | undefined;

  constructor(connection: Connection, file: string) {
    this.#connection = connection;
    this.#file = file;
    this.pollMs = connection.isPrivate ? Number.POSITIVE_INFINITY : 1_000;
  }

  migrate(): Awaitable<void> {
    if (this.#ready) return;
    const done = this.#connection.prepare(this.#file);
    const prepared = () => {
      this.#ready = new Ready(this.#connection.db, this.#horizon);
    };
    return done instanceof Promise ? done.then(prepared) : prepared();
  }

  close(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#connection.close();
  }

  insert(jobs: readonly Job[], options: { now: number; transaction?: unknown }): Awaitable<void> {
    if (options.transaction !== undefined) return this.#insertInto(options.transaction, jobs, options.now);
    return this.#grouped(jobs, options.now);
  }

  claim(options: ClaimOptions & { now: number }): Awaitable<readonly Job[]> {
    return this.#write(
      (ready) => ready.claim(options),
      (jobs) => {
        if (jobs.length > 0) this.#tellLeased(options);
      },
    );
  }

  renew(held: readonly Held[], options: { now: number; leaseUntil: number }): Awaitable<readonly RenewAnswer[]> {
    return this.#write((ready) => held.map((lease) => ready.renew(lease, options.leaseUntil)));
  }

  settle(
    settlements: readonly Settlement[],
    options: { now: number; claim?: ClaimOptions | undefined; transaction?: unknown },
  ): Awaitable<{ answers: readonly SettleAnswer[]; claimed: readonly Job[] }> {
    if (options.transaction !== undefined) return this.#settleInto(options.transaction, settlements, options.now);
    const { claim, now } = options;
    const changed: Job[] = [];
    return this.#write(
      (ready) => {
        changed.length = 0;
        const answers = ready.settle(settlements, now, changed);
        return { answers, claimed: claim ? ready.claim({ ...claim, now }) : [] };
      },
      ({ claimed: taken }) => {
        this.#tell(changed);
        if (claim && taken.length > 0) this.#tellLeased(claim);
      },
    );
  }

  overdue(options: { now: number; limit: number }): Awaitable<readonly Job[]> {
    return this.#read((ready) => ready.reads.overdue(options.now, options.limit));
  }

  nextDueAt(options: Served & { now: number }): Awaitable<NextDue> {
    const { now } = options;
    return this.#staged(now, (ready) => ({ jobAt: ready.claims.nextDueAt(options, now), ...ready.reads.nextDue() }));
  }

  amend(amendments: readonly Amendment[], options: { now: number }): Awaitable<readonly (Job | null)[]> {
    return this.#write(
      (ready) => amendments.map((amendment) => ready.amend(amendment, options.now)),
      (jobs) => this.#tell(jobs.filter((job) => job !== null)),
    );
  }

  prune(options: { status: 'successful' | 'failed' | 'cancelled'; finishedBefore: number; limit: number }): Awaitable<number> {
    return this.#write((ready) => ready.prune(options));
  }

  saveWorker(worker: WorkerRow, options: { forgetBefore: number }): Awaitable<void> {
    return this.#write(({ statements }) => {
      statements.saveWorker.run(worker.id, worker.startedAt, worker.heartbeatAt, JSON.stringify(worker));
      statements.forgetWorkers.run(options.forgetBefore);
    });
  }

  listWorkers(): Awaitable<readonly WorkerRow[]> {
    return this.#read((ready) => ready.reads.workers());
  }

  saveQueue(queue: QueueRow): Awaitable<void> {
    return this.#write(
      ({ statements }) => void statements.saveQueue.run(queue.name, queue.paused ? 1 : 0),
      () => {
        if (!queue.paused) this.#notify({});
      },
    );
  }

  saveSchedule(row: ScheduleRow, options: { expect: number | null }): Awaitable<boolean> {
    return this.#write(
      (ready) => ready.saveSchedule(row, options.expect),
      (saved) => {
        if (saved && row.nextAt !== null) this.#notify({ scheduleAt: row.nextAt });
      },
    );
  }

  dropSchedule(name: string): Awaitable<boolean> {
    return this.#write(({ statements }) => statements.dropSchedule.run(name).changes > 0);
  }

  listSchedules(): Awaitable<readonly ScheduleRow[]> {
    return this.#read((ready) => ready.reads.schedules());
  }

  dueSchedules(options: { now: number; limit: number }): Awaitable<readonly ScheduleRow[]> {
    return this.#read((ready) => ready.reads.dueSchedules(options.now, options.limit));
  }

  advanceSchedules(advances: readonly Advance[], options: { now: number }): Awaitable<readonly boolean[]> {
    return this.#write(
      (ready) => advances.map((advance) => ready.advance(advance, options.now)),
      (won) => {
        this.#tell(advances.flatMap(({ jobs }, i) => (won[i] ? jobs : [])));
        if (this.#listeners.length > 1) for (const { nextAt } of advances) if (nextAt !== null) this.#notify({ scheduleAt: nextAt });
      },
    );
  }

  get(ids: readonly string[]): Awaitable<readonly (JobRecord | null)[]> {
    return this.#read((ready) => ready.reads.get(ids));
  }

  list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined },
  ): Awaitable<{ items: readonly JobRecord[]; cursor: string | null }> {
    return this.#read((ready) => ready.reads.list(filter, options));
  }

  stats(options: { now: number }): Awaitable<readonly QueueStats[]> {
    return this.#staged(options.now, (ready) => ready.reads.stats());
  }

  listen(notify: (hint: Hint) => void): () => void {
    this.#listeners = [...this.#listeners, notify];
    if (!this.#connection.isPrivate) this.#unwatch ??= watch(this.#file, this.#connection.db, () => this.#notify({}));
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== notify);
      if (this.#listeners.length > 0) return;
      this.#unwatch?.();
      this.#unwatch = undefined;
    };
  }

  // Enqueues that wait for the end of the present moment, to be committed together.
  #pending: { jobs: readonly Job[]; now: number; resolve: () => void; reject: (error: unknown) => void }[] = [];

  #grouped(jobs: readonly Job[], now: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ jobs, now, resolve, reject });
      if (this.#pending.length === 1) queueMicrotask(() => void this.#flush());
    });
  }

  async #flush(): Promise<void> {
    const group = this.#pending;
    this.#pending = [];
    try {
      await this.#write((ready) => {
        for (const { jobs, now } of group) ready.insert(jobs, now);
      });
      this.#tell(group.flatMap(({ jobs }) => jobs));
      for (const { resolve } of group) resolve();
    } catch (error) {
      const [first] = group;
      if (group.length === 1) first?.reject(error);
      // One of them is at fault: each for itself, so that the others are kept.
      else for (const { jobs, now, resolve, reject } of group) await this.#alone(jobs, now).then(resolve, reject);
    }
  }

  async #alone(jobs: readonly Job[], now: number): Promise<void> {
    await this.#write((ready) => ready.insert(jobs, now));
    this.#tell(jobs);
  }

  readonly #guests = new WeakMap<object, Ready>();

  /** The statements on the application's own handle: they take part in its transaction. */
  #guest(transaction: unknown): Ready {
    const db = transaction as Database;
    if (typeof db?.prepare !== 'function' || typeof db.inTransaction !== 'boolean') {
      throw new InputError(
        'transaction: expected a better-sqlite3 database whose transaction is open; with Drizzle or Kysely, pass the database that they were given',
      );
    }
    if (!db.inTransaction) throw new InputError('transaction: the database is in no transaction; enqueue inside db.transaction(() => …)');
    if (db !== this.#connection.db && db.name !== this.#connection.db.name) {
      throw new InputError(
        `transaction: the database is ${db.name}, the store is ${this.#connection.db.name}; both are to be the same file`,
      );
    }
    if (db === this.#connection.db) return this.#prepared();
    let guest = this.#guests.get(db);
    if (!guest) {
      if (!isMigrated(db)) {
        throw new StoreError('the tables are not there yet; call and await tasks.open() first, or run `escapement migrate`', {
          kind: 'unmigrated',
        });
      }
      guest = new Ready(db, this.#horizon);
      this.#guests.set(db, guest);
    }
    return guest;
  }

  #insertInto(transaction: unknown, jobs: readonly Job[], now: number): void {
    const guest = this.#guest(transaction);
    this.#joined(guest, () => guest.insert(jobs, now));
  }

  #settleInto(transaction: unknown, settlements: readonly Settlement[], now: number): { answers: SettleAnswer[]; claimed: [] } {
    const guest = this.#guest(transaction);
    return { answers: this.#joined(guest, () => guest.settle(settlements, now, [])), claimed: [] };
  }

  /** In the caller's transaction: it decides whether this stays. If it does, the watcher sees the commit; a hint too many is harmless. */
  #joined<T>(guest: Ready, fn: () => T): T {
    try {
      const value = fn();
      guest.counts.save();
      guest.forgetQueues();
      this.#notify({});
      return value;
    } catch (error) {
      guest.counts.forget();
      throw storeError(error, this.#file);
    }
  }

  #prepared(): Ready {
    if (this.#ready) return this.#ready;
    throw new StoreError('the store is not open; call and await tasks.open() first', { kind: 'closed' });
  }

  #read<T>(fn: (ready: Ready) => T): Awaitable<T> {
    const ready = this.#prepared();
    return this.#connection.read(() => fn(ready));
  }

  /** Reads after what has become due since the last claim was made ready. */
  #staged<T>(now: number, fn: (ready: Ready) => T): Awaitable<T> {
    const brought = (behind: boolean) => (behind ? this.#write((ready) => ready.claims.stage(now)) : undefined);
    const behind = this.#read((ready) => ready.claims.isBehind(now));
    const done = behind instanceof Promise ? behind.then(brought) : brought(behind);
    return done instanceof Promise ? done.then(() => this.#read(fn)) : this.#read(fn);
  }

  #write<T>(fn: (ready: Ready) => T, after?: (value: T) => void): Awaitable<T> {
    const ready = this.#prepared();
    const written = this.#connection.write(() => ready.counted(() => fn(ready)));
    if (written instanceof Promise) {
      return written.then((value) => {
        after?.(value);
        return value;
      });
    }
    after?.(written);
    return written;
  }

  #tell(jobs: readonly Job[]): void {
    if (this.#listeners.length === 0) return;
    let dueAt = Number.POSITIVE_INFINITY;
    let overdueAt = Number.POSITIVE_INFINITY;
    for (const job of jobs) {
      if (job.status === 'queued') dueAt = Math.min(dueAt, job.dueAt);
      if (job.status === 'queued' && job.startedAt === null) overdueAt = Math.min(overdueAt, job.expiresAt ?? Number.POSITIVE_INFINITY);
      else if (job.status === 'running' && job.cancelRequested !== null) this.#notify({ cancelled: true });
    }
    if (dueAt < Number.POSITIVE_INFINITY) this.#notify(overdueAt < Number.POSITIVE_INFINITY ? { dueAt, overdueAt } : { dueAt });
    if (jobs.some(isFinished)) this.#notify({ finished: true });
  }

  #tellLeased({ leaseUntil, worker }: ClaimOptions): void {
    this.#notify({ overdueAt: leaseUntil, by: worker });
  }

  #notify(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }
}

/** The statements on one handle, and what they do together. All of it runs inside a transaction that the caller has begun. */
class Ready {
  readonly counts: Counts;
  readonly claims: Claims;
  readonly reads: Reads;
  readonly statements: ReturnType<typeof prepare>;
  readonly #inserts: Inserts;
  readonly #horizon: Horizon;

  constructor(db: Database, horizon: Horizon) {
    this.#horizon = horizon;
    this.counts = new Counts(db);
    this.claims = new Claims(db, this.counts, horizon);
    this.reads = new Reads(db);
    this.#inserts = new Inserts(db, this.counts);
    this.statements = prepare(db);
  }

  /** Runs `fn` and writes what it counted; forgets all of it if it throws. */
  counted<T>(fn: () => T): T {
    try {
      const value = fn();
      this.counts.save();
      return value;
    } catch (error) {
      this.counts.forget();
      this.forgetQueues();
      throw error;
    }
  }

  forgetQueues(): void {
    this.#inserts.forgetQueues();
  }

  insert(jobs: readonly Job[], now: number): void {
    this.#inserts.insert(jobs, now);
    for (const job of jobs) this.#madeReady(job, now);
  }

  claim(options: ClaimOptions & { now: number }): readonly Job[] {
    if (options.limit <= 0) return [];
    this.claims.stage(options.now);
    const rows = this.claims.candidates(options, options.now, options.limit);
    if (rows.length === 0) return [];
    for (const row of rows) if (row.claim > 0) this.#keepAttempt(row);
    const ids = JSON.stringify(rows.map(({ id }) => id));
    const { worker, leaseUntil, now } = options;
    this.statements.claim.run(worker, leaseUntil, now, now, worker, ids);
    return rows.map((row) => {
      this.counts.add(row.queue, 'ready', -1);
      this.counts.add(row.queue, 'running', 1);
      return claimed(jobOf(row), worker, now, leaseUntil);
    });
  }

  renew({ id, claim, progress }: Held, leaseUntil: number): RenewAnswer {
    const row = this.statements.renew.get(leaseUntil, progress ? JSON.stringify(progress) : null, id, claim);
    if (!row) return { kind: 'lost' };
    return row.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: row.cancelRequested };
  }

  settle(settlements: readonly Settlement[], now: number, changed: Job[]): SettleAnswer[] {
    const rows = new Map(this.reads.rows(settlements.map(({ id }) => id)).map((row) => [row.id, row]));
    return settlements.map((settlement) => {
      const row = rows.get(settlement.id);
      if (!row) return 'stale';
      if (row.state !== 'running' || row.claim !== settlement.claim) return this.#repeated(row, settlement);
      if (settlement.confirm) return 'stale';
      const job = settled(jobOf(row), settlement);
      const state = stateOf(job, now);
      this.#madeReady(job, now);
      const error = settlement.error && JSON.stringify(settlement.error);
      const finish = [settlement.settledAt, settlement.outcome, error, job.id] as const;
      this.statements.settle.run(...changes(job, state), ...finish);
      this.#count(row, state, job.attempt);
      const progress = job.progress === null ? null : JSON.stringify(job.progress);
      rows.set(job.id, {
        ...row,
        ...job,
        state,
        progress,
        tags: row.tags,
        metadata: row.metadata,
        overrides: row.overrides,
        lastEndedAt: finish[0],
        lastOutcome: finish[1],
        lastError: error,
      });
      changed.push(job);
      return job.status === 'cancelled' && settlement.status === 'queued' ? 'cancelled' : 'settled';
    });
  }

  amend(amendment: Amendment, now: number): Job | null {
    const [row] = this.reads.rows([amendment.id]);
    const job = row && amended(jobOf(row), amendment);
    if (!row || !job) return null;
    const state = stateOf(job, now);
    this.#madeReady(job, now);
    this.statements.update.run(...changes(job, state), job.id);
    this.#count(row, state, job.attempt);
    return job;
  }

  prune(options: { status: string; finishedBefore: number; limit: number }): number {
    const deleted = this.statements.prune.all(options.status, options.finishedBefore, options.limit);
    for (const { id, queue, claim } of deleted) {
      this.counts.add(queue, options.status as 'failed', -1);
      if (claim > 1) this.statements.pruneAttempts.run(id);
    }
    return deleted.length;
  }

  saveSchedule(row: ScheduleRow, expect: number | null): boolean {
    const found = this.statements.revision.get(row.name)?.revision ?? null;
    if (found !== expect) return false;
    this.statements.saveSchedule.run(row.name, row.revision, row.paused ? 1 : 0, row.nextAt, row.lastAt, JSON.stringify(row));
    return true;
  }

  advance({ name, revision, lastAt, nextAt, jobs }: Advance, now: number): boolean {
    if (this.statements.advance.run(lastAt, nextAt, name, revision).changes === 0) return false;
    this.insert(jobs, now);
    return true;
  }

  #madeReady({ status, dueAt }: Job, now: number): void {
    if (status === 'queued' && dueAt <= now && dueAt > this.#horizon.readyUntil) this.#horizon.readyUntil = dueAt;
  }

  /** The latest attempt moves out of the job's row, to make room for the next. */
  #keepAttempt(row: JobRow): void {
    const attempt = lastAttemptOf(row);
    if (!attempt) return;
    const { worker, startedAt, endedAt, outcome } = attempt;
    this.statements.keepAttempt.run(row.id, attempt.claim, attempt.attempt, worker, startedAt, endedAt, outcome, row.lastError);
  }

  #repeated(row: JobRow, settlement: Settlement): SettleAnswer {
    const own: Attempt | undefined = row.claim === settlement.claim ? lastAttemptOf(row) : this.#earlier(row.id, settlement.claim);
    if (!alreadySettled(own, settlement)) return 'stale';
    const cancelled = settlement.status === 'queued' && row.state === 'cancelled' && row.finishedAt === settlement.settledAt;
    return cancelled && row.claim === settlement.claim ? 'cancelled' : 'settled';
  }

  #earlier(id: string, claim: number): Attempt | undefined {
    const row = this.statements.attempt.get(id, claim);
    return row && attemptOf(row);
  }

  #count(before: JobRow, state: JobRow['state'], attempt: number): void {
    this.counts.add(before.queue, countedAs(before.state, before.attempt), -1);
    this.counts.add(before.queue, countedAs(state, attempt), 1);
  }
}

function prepare(db: Database) {
  const statement = <Bound extends Values, Row = unknown>(sql: string) => db.prepare(sql) as unknown as Statement<Bound, Row>;
  return {
    claim: statement<Values>(
      `UPDATE escapement_jobs SET state = 'running', attempt = attempt + 1, claim = claim + 1, worker = ?, lease_until = ?,
       started_at = coalesce(started_at, ?), last_attempted_at = ?, cancel_requested = NULL, last_attempt = attempt + 1, last_worker = ?,
       last_ended_at = NULL, last_outcome = NULL, last_error = NULL WHERE id IN (SELECT value FROM json_each(?))`,
    ),
    renew: statement<Values, { cancelRequested: string | null }>(
      `UPDATE escapement_jobs SET lease_until = ?, progress = coalesce(?, progress) WHERE id = ? AND claim = ? AND state = 'running'
       RETURNING cancel_requested AS cancelRequested`,
    ),
    update: statement<Values>(updateJob),
    settle: statement<Values>(updateJob.replace(' WHERE id = ?', ', last_ended_at = ?, last_outcome = ?, last_error = ? WHERE id = ?')),
    keepAttempt: statement<Values>('INSERT OR REPLACE INTO escapement_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)'),
    attempt: statement<[string, number], AttemptRow>(
      'SELECT job, claim, attempt, worker, started_at AS startedAt, ended_at AS endedAt, outcome, error FROM escapement_attempts WHERE job = ? AND claim = ?',
    ),
    prune: statement<[string, number, number], { id: string; queue: string; claim: number }>(
      `DELETE FROM escapement_jobs WHERE id IN (SELECT id FROM escapement_jobs WHERE state = ? AND state IN ('successful', 'failed', 'cancelled')
       AND finished_at < ? ORDER BY finished_at, id LIMIT ?) RETURNING id, queue, claim`,
    ),
    pruneAttempts: statement<[string]>('DELETE FROM escapement_attempts WHERE job = ?'),
    saveQueue: statement<[string, number]>(
      'INSERT INTO escapement_queues VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused',
    ),
    saveWorker: statement<Values>('INSERT OR REPLACE INTO escapement_workers VALUES (?, ?, ?, ?)'),
    forgetWorkers: statement<[number]>('DELETE FROM escapement_workers WHERE heartbeat_at < ?'),
    revision: statement<[string], { revision: number }>('SELECT revision FROM escapement_schedules WHERE name = ?'),
    saveSchedule: statement<Values>('INSERT OR REPLACE INTO escapement_schedules VALUES (?, ?, ?, ?, ?, ?)'),
    dropSchedule: statement<[string]>('DELETE FROM escapement_schedules WHERE name = ?'),
    advance: statement<Values>(
      'UPDATE escapement_schedules SET last_at = ?, next_at = ?, revision = revision + 1 WHERE name = ? AND revision = ?',
    ),
  };
}
