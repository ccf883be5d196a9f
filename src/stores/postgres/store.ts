/**
 * The store on a PostgreSQL schema. It obeys the laws of every store and computes new rows with the core's functions. The operations that
 * workers call all the time are single calls of functions in the schema. Everything else is a transaction that locks rows, changes them and
 * writes them back.
 */
import { createHash } from 'node:crypto';
import { hintsOf } from '../../core/changes.ts';
import { StoreError } from '../../core/errors.ts';
import { changesVersions } from '../../core/schedule.ts';
import type { Amendment, Job, JobRecord, QueueRow, ScheduleRow, Settlement, Signal, Step, WorkerRow } from '../../core/types.ts';
import type { Edges } from '../../core/workflow.ts';
import { systemClock } from '../../ports/clock.ts';
import type {
  Advance,
  Amended,
  ClaimOptions,
  Held,
  Hint,
  JobBlob,
  JobFilter,
  JobOrder,
  Keeper,
  KeeperOptions,
  NextDue,
  PruneOptions,
  QueueStats,
  RenewAnswer,
  Settled,
  Store,
  Taken,
  WantedSignal,
} from '../../ports/store.ts';
import { noKeeper, ThreadKeeper } from '../keeper.ts';
import { workerOf } from '../sql/rows.ts';
import { chunks, sizeOf } from './chunks.ts';
import { Claims, claimsSql } from './claims.ts';
import { type Connection, hotMs, maintenanceMs } from './connection.ts';
import { Enqueues, enqueuesSql } from './enqueues.ts';
import { guestSession, inSavepoint, inTurn, type Transaction } from './guest.ts';
import { keeperPlace } from './keeper-place.ts';
import type { Served } from './limited-claims.ts';
import type { Line } from './lines.ts';
import { Reads, readsSql } from './reads.ts';
import { Schedules, schedulesSql } from './schedules.ts';
import { isMigrated, migrate } from './schema.ts';
import { clean, quoteName, type Session, texts } from './session.ts';
import { Wakeups } from './wakeups.ts';
import { Work, workSql } from './work.ts';

/** How often a worker polls for changes that were not announced, while hints of other processes arrive. */
const pollWithHintsMs = 8_000;

export interface StoreOptions {
  /** True if no other process uses the schema, so no notifications are needed. */
  readonly alone: boolean;
}

export class PostgresStore implements Store {
  readonly name = 'postgres';
  readonly supports = { transactions: true };
  readonly #connection: Connection;
  readonly #schema: string;
  readonly #wakeups: Wakeups | undefined;
  readonly #enqueues: Enqueues;
  readonly #claims: Claims;
  readonly #migrationsLock: readonly [number, number];
  readonly #sql;
  #listeners: ((hint: Hint) => void)[] = [];
  #migrated = false;

  constructor(connection: Connection, { alone }: StoreOptions) {
    const { place } = connection;
    const schema = quoteName(place.schema);
    this.#connection = connection;
    this.#schema = schema;
    this.#wakeups = alone || !place.listen ? undefined : new Wakeups(connection, (hint, lines) => this.#announced(hint, lines));
    this.#migrationsLock = lockOf(`${place.schema} migrations`);
    this.#sql = {
      work: workSql(schema),
      claims: claimsSql(schema),
      reads: readsSql(schema),
      schedules: schedulesSql(schema),
      // Skips rows that are locked by a transaction of the application that called `ctx.complete()`; they must not delay the other
      // renewals.
      renew: `WITH mine AS (
          SELECT j.id, r.progress FROM ${schema}.jobs j JOIN unnest($2::text[], $3::integer[], $4::text[]) r(id, claim, progress) ON j.id = r.id
          WHERE j.claim = r.claim AND coalesce(j.state, '') = 'running' ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
        ) UPDATE ${schema}.jobs j SET lease_until = $1, progress = coalesce(mine.progress, j.progress) FROM mine
        WHERE j.id = mine.id RETURNING j.id, j.claim, j.cancel_requested AS "cancelRequested"`,
      stillHeld: `SELECT id, claim, NULL AS "cancelRequested" FROM ${schema}.jobs WHERE id = ANY ($1::text[]) AND coalesce(state, '') = 'running'`,
      blobs: `SELECT job, bytes FROM ${schema}.blobs WHERE job = ANY ($1::text[]) AND name = $2`,
      saveQueue: `INSERT INTO ${schema}.queues (name, paused) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused`,
      saveWorker: `WITH saved AS (
          INSERT INTO ${schema}.workers (id, started_at, heartbeat_at, "row") VALUES ($1, $2, $3, $4)
          ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at, "row" = excluded."row"
        ), forgotten AS (DELETE FROM ${schema}.workers WHERE heartbeat_at < $5 AND id <> $1)
        SELECT "row" FROM ${schema}.workers WHERE id = $1`,
      workers: `SELECT "row" FROM ${schema}.workers ORDER BY started_at, id`,
    };
    this.#enqueues = new Enqueues(connection, enqueuesSql(schema), this.#sql.work.insert);
    this.#claims = new Claims({
      connection,
      sql: this.#sql,
      limitsLock: lockOf(`${place.schema} limits`),
      isAlone: alone,
      isNotified: () => alone || this.#wakeups?.isAlive === true,
      hint: (jobs, isForOthers) => this.#hint(jobs, isForOthers),
      notify: (hint) => this.#notify(hint),
    });
    this.#isAlone = alone;
  }

  readonly #isAlone: boolean;
  get aheadMs(): number {
    return this.#connection.aheadMs;
  }
  get lanes(): number {
    return this.#connection.lanes;
  }
  get pollMs(): number {
    if (this.#isAlone) return Number.POSITIVE_INFINITY;
    const { pollMs } = this.#connection.place;
    return this.#wakeups?.isAlive ? Math.max(pollMs, pollWithHintsMs) : pollMs;
  }

  async migrate(): Promise<void> {
    await this.#connection.open();
    if (this.#migrated) return;
    const isDone = await this.#connection.read((session) => isMigrated(session, this.#schema));
    if (!isDone) await this.#connection.transact((session) => migrate(session, this.#schema, this.#migrationsLock), maintenanceMs);
    this.#migrated = true;
  }

  async close(): Promise<void> {
    this.#wakeups?.stop();
    await this.#connection.close();
  }

  async insert(jobs: readonly Job[], { now, transaction, ...more }: Parameters<Store['insert']>[1]): Promise<Taken | undefined> {
    const isPlain = !more.once && !more.blobs?.length && !more.edges?.length && jobs.every(({ unique }) => unique === null);
    if (transaction !== undefined) {
      const hint = { dueAt: Math.min(...jobs.map(({ dueAt }) => dueAt)) };
      const isSingle = jobs.length === 1 && !more.blobs?.length && !more.edges?.length;
      return this.#joined(transaction, (work) => work.insert(jobs, now, more), { hint, jobs, isSingle }, isPlain);
    }
    const taken = isPlain
      ? await this.#enqueues.add(jobs)
      : await this.#work(
          (work) => work.insert(jobs, now, more),
          hotMs * Math.max(1, chunks(jobs, Number.POSITIVE_INFINITY, sizeOf).length),
        );
    this.#hint(taken ? jobs.map((job, i) => taken[i]?.job ?? job) : jobs, true);
    return taken ?? undefined;
  }

  claim(options: ClaimOptions & { now: number }): Promise<readonly Job[]> {
    return this.#claims.claim(options);
  }

  async renew(held: readonly Held[], { leaseUntil }: { now: number; leaseUntil: number }): Promise<readonly RenewAnswer[]> {
    if (held.length === 0) return [];
    // Rows are always locked in the order of their ids.
    const sorted = held.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const values = [
      leaseUntil,
      sorted.map(({ id }) => clean(id)),
      sorted.map(({ claim }) => claim),
      sorted.map(({ progress }) => (progress ? JSON.stringify(progress) : null)),
    ];
    const keyed = (rows: readonly Renewed[]) => new Map(rows.map((row) => [`${row.id} ${row.claim}`, row]));
    const noted = sorted.filter(({ log, metadata }) => log ?? metadata);
    this.#claims.forget(sorted.filter(({ metadata }) => metadata));
    const found =
      noted.length === 0
        ? keyed(await this.#query<Renewed>(this.#sql.renew, values))
        : await this.#connection.transact(async (session) => {
            const renewed = keyed(await session.rows<Renewed>(this.#sql.renew, values));
            await new Work(session, this.#sql.work).keep(noted.filter(({ id, claim }) => renewed.has(`${id} ${claim}`)));
            return renewed;
          });
    this.#claims.leased(leaseUntil);
    const missing = held.filter(({ id, claim }) => !found.has(`${id} ${claim}`));
    // Missing rows are either lost or locked by a transaction. Locked rows cannot be taken by others.
    if (missing.length > 0) {
      const still = await this.#query<Renewed>(this.#sql.stillHeld, [missing.map(({ id }) => clean(id))]);
      for (const row of still) found.set(`${row.id} ${row.claim}`, row);
    }
    return held.map(({ id, claim }) => {
      const row = found.get(`${id} ${claim}`);
      if (!row) return { kind: 'lost' };
      return row.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: row.cancelRequested };
    });
  }

  async settle(
    settlements: readonly Settlement[],
    options: { now: number; claim?: ClaimOptions | undefined; transaction?: unknown },
  ): Promise<Settled> {
    const { now, claim, transaction } = options;
    if (transaction !== undefined) {
      const answer = await this.#joined(
        transaction,
        (work) => work.settle(settlements, now, []),
        { hint: { dueAt: 0, finished: true } },
        false,
      );
      return { ...answer, claimed: [] };
    }
    return this.#claims.settle(settlements, now, claim);
  }

  saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): Promise<boolean> {
    return this.#work((work) => work.saveSteps(held, steps));
  }

  async getSteps(ids: readonly string[]): Promise<readonly (readonly Step[])[]> {
    const steps = new Map<string, Step[]>(ids.map((id) => [id, []]));
    for (const { job, ...step } of await this.#query<Step & { job: string }>(this.#sql.work.getSteps, [texts(ids)]))
      steps.get(job)?.push(step);
    return ids.map((id) => steps.get(id) ?? []);
  }

  async sendSignal(signal: Signal, { now, transaction }: { now: number; transaction?: unknown }): Promise<void> {
    if (transaction !== undefined) {
      await this.#joined(transaction, (work) => work.sendSignal(signal, now), { hint: { dueAt: 0 } }, false);
      return;
    }
    this.#hint(await this.#work((work) => work.sendSignal(signal, now)), true);
  }

  takeSignal(held: Pick<Held, 'id' | 'claim'>, wanted: WantedSignal): Promise<Signal | null | false> {
    return this.#work((work) => work.takeSignal(held, wanted));
  }

  saveBlobs(held: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): Promise<boolean> {
    return this.#work((work) => work.saveBlobs(held, blobs));
  }

  overdue({ now, limit }: { now: number; limit: number }): Promise<readonly Job[]> {
    return this.#read((reads) => reads.overdue(now, limit, this.#claims.leasesFrom(now)));
  }

  nextDueAt(options: Served & { now: number }): Promise<NextDue> {
    return this.#claims.nextDueAt(options);
  }

  async amend(amendments: readonly Amendment[], { now }: { now: number }): Promise<Amended> {
    if (amendments.length === 0) return { amended: [], dependents: [] };
    this.#claims.forget(amendments);
    const answer = await this.#work((work) => work.amend(amendments, now));
    const changed = answer.amended.filter((job, i): job is Job => job !== null && amendments[i]?.set !== null);
    this.#hint([...changed, ...answer.dependents], true);
    if (amendments.some(({ set }, i) => set === null && answer.amended[i])) this.#notify({ finished: true });
    return answer;
  }

  getEdges(ids: readonly string[]): Promise<readonly Edges[]> {
    return this.#session((session) => new Work(session, this.#sql.work).edges.of(ids));
  }

  prune(options: PruneOptions): Promise<number> {
    return this.#read((reads) => reads.prune(options), maintenanceMs);
  }

  async saveWorker(worker: WorkerRow, { forgetBefore }: { forgetBefore: number }): Promise<void> {
    const row = JSON.stringify(worker);
    const [before] = await this.#query<{ row: string }>(this.#sql.saveWorker, [
      worker.id,
      worker.startedAt,
      worker.heartbeatAt,
      row,
      forgetBefore,
    ]);
    if (changesVersions(before && workerOf(before.row), worker)) this.#notifyAll({ workers: true }, []);
    await this.#read((reads) => reads.sumFinished());
  }

  async listWorkers(): Promise<readonly WorkerRow[]> {
    const rows = await this.#query<{ row: string }>(this.#sql.workers, []);
    return rows.flatMap(({ row }) => workerOf(row) ?? []);
  }

  async saveQueue({ name, paused }: QueueRow): Promise<void> {
    await this.#query(this.#sql.saveQueue, [clean(name), paused]);
    // Claims have skipped the jobs of a paused queue.
    this.#claims.forgetLines();
    if (!paused) this.#notifyAll({}, undefined);
  }

  async saveSchedule(row: ScheduleRow, { expect }: { expect: number | null }): Promise<boolean> {
    const saved = await this.#connection.transact((session) => new Schedules(session, this.#sql.schedules).save(row, expect));
    if (saved && row.nextAt !== null) this.#notifyAll({ scheduleAt: row.nextAt }, []);
    return saved;
  }

  dropSchedule(name: string): Promise<boolean> {
    return this.#session((session) => new Schedules(session, this.#sql.schedules).drop(name));
  }

  listSchedules(options?: Parameters<Store['listSchedules']>[0]): Promise<readonly ScheduleRow[]> {
    return this.#session((session) => new Schedules(session, this.#sql.schedules).list(options));
  }

  async dueSchedules(options: Parameters<Store['dueSchedules']>[0]): Promise<Awaited<ReturnType<Store['dueSchedules']>>> {
    return this.#session((session) => new Schedules(session, this.#sql.schedules).due(options));
  }

  async advanceSchedules(advances: readonly Advance[], { now }: { now: number }): Promise<readonly (readonly Job[] | null)[]> {
    const made = await this.#work(async (work) => {
      const jobs: (readonly Job[] | null)[] = [];
      for (const advance of advances) jobs.push(await work.advance(advance, now));
      return jobs;
    });
    this.#hint(
      made.flatMap((jobs) => jobs ?? []),
      true,
    );
    if (this.#listeners.length > 1) for (const { times } of advances) if (times.nextAt !== null) this.#notify({ scheduleAt: times.nextAt });
    return made;
  }

  get(ids: readonly string[]): Promise<readonly (JobRecord | null)[]> {
    return this.#read((reads) => reads.get(ids));
  }

  list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined; order?: JobOrder | undefined },
  ): Promise<{ items: readonly JobRecord[]; cursor: string | null }> {
    return this.#read((reads) => reads.list(filter, options), maintenanceMs);
  }

  async getBlobs(ids: readonly string[], name: string): Promise<readonly (Uint8Array | null)[]> {
    const rows = await this.#query<{ job: string; bytes: Uint8Array }>(this.#sql.blobs, [ids.map(clean), clean(name)]);
    const found = new Map(rows.map(({ job, bytes }) => [job, bytes]));
    return ids.map((id) => found.get(id) ?? null);
  }

  stats({ now }: { now: number }): Promise<readonly QueueStats[]> {
    return this.#read((reads) => reads.stats(now), maintenanceMs);
  }

  keeper(options: KeeperOptions): Keeper {
    if (this.#isAlone) return noKeeper;
    const { place } = this.#connection;
    return new ThreadKeeper({ baseUrl: import.meta.url, place: () => keeperPlace(place) }, options);
  }

  listen(notify: (hint: Hint) => void): () => void {
    this.#listeners = [...this.#listeners, notify];
    this.#wakeups?.start();
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== notify);
      if (this.#listeners.length === 0) this.#wakeups?.stop();
    };
  }

  #query<Row>(text: string, values: Parameters<Connection['query']>[1]): Promise<Row[]> {
    return this.#connection.query<Row>(text, values);
  }

  #session<T>(fn: (session: Session) => Promise<T>, ms?: number): Promise<T> {
    return this.#connection.read(fn, ms);
  }

  #read<T>(fn: (reads: Reads) => Promise<T>, ms?: number): Promise<T> {
    return this.#session((session) => fn(new Reads(session, this.#sql.reads)), ms);
  }

  #work<T>(fn: (work: Work) => Promise<T>, ms = hotMs): Promise<T> {
    return this.#connection.transact((session) => fn(new Work(session, this.#sql.work)), ms);
  }

  /** Runs in the caller's transaction, which may still roll back. Other processes are notified when it commits. */
  #joined<T>(transaction: unknown, fn: (work: Work) => Promise<T>, announcement: Announcement, isOneStatement: boolean): Promise<T> {
    const session = guestSession(transaction);
    if (!this.#migrated) throw new StoreError('the store is not open; call and await tasks.open() first', { kind: 'closed' });
    return inTurn(transaction as Transaction, () => this.#join(session, fn, announcement, isOneStatement));
  }

  async #join<T>(session: Session, fn: (work: Work) => Promise<T>, announcement: Announcement, isOneStatement: boolean): Promise<T> {
    const { hint, jobs, isSingle = false } = announcement;
    try {
      const work = new Work(session, this.#sql.work);
      // A refused call must leave nothing behind, whatever the caller does next.
      const value = await (isOneStatement ? fn(work) : inSavepoint(session, () => fn(work), isSingle));
      if (this.#wakeups) await session.rows(this.#wakeups.announceSql(hint, jobs));
      else if (this.#isAlone) await this.#watch(session);
      return value;
    } catch (error) {
      throw this.#connection.error(error);
    }
  }

  /** Notifies listeners in this process when the caller's transaction ends. Without other processes there are no notifications. */
  async #watch(session: Session): Promise<void> {
    const [row] = await session.rows<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
    if (row) this.#watched.push(this.#ended(row.xid));
  }
  #watched: Promise<void>[] = [];

  async #ended(xid: string): Promise<void> {
    for (let checks = 0; checks < maxChecks && !this.#connection.isClosed; checks++) {
      await pause(checks === 0 ? 0 : checkEveryMs);
      const [row] = await this.#query<{ status: string | null }>('SELECT pg_xact_status($1::text::xid8) AS status', [xid]).catch(() => []);
      if (row?.status !== 'in progress') break;
    }
    this.#claims.forgetLines();
    this.#notify({});
  }

  async transactionsEnded(): Promise<void> {
    const watched = this.#watched;
    this.#watched = [];
    await Promise.all(watched);
  }

  /** Notifies listeners of changed jobs. @param isForOthers whether workers of other processes may have something to do */
  #hint(jobs: readonly Job[], isForOthers: boolean): void {
    if (jobs.length === 0) return;
    this.#claims.changed(jobs);
    for (const hint of hintsOf(jobs)) {
      this.#notify(hint);
      if (hint.finished ? this.#claims.hasLimits : isForOthers) this.#wakeups?.announce(hint, jobs);
    }
  }

  /**
   * Handles changes announced by another process.
   * @param lines the lines of the jobs that became due; undefined: any line may be affected
   */
  #announced(hint: Hint, lines: readonly Line[] | undefined): void {
    this.#claims.announced(hint, lines);
    this.#notify(hint);
  }

  /** Notifies listeners in this process and in others. */
  #notifyAll(hint: Hint, jobs: readonly Job[] | undefined): void {
    this.#notify(hint);
    this.#wakeups?.announce(hint, jobs);
  }

  #notify(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }
}

/** How often, and at most how many times, a store without other processes checks whether a transaction of the application has ended. */
const checkEveryMs = 5;
const maxChecks = 100;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(ms, resolve));
}

/** A lease after a renewal. */
interface Renewed {
  readonly id: string;
  readonly claim: number;
  readonly cancelRequested: string | null;
}

/** What to announce to others when a transaction of the application commits. */
interface Announcement {
  readonly hint: Hint;
  readonly jobs?: readonly Job[];
  /** True if the call inserts one job and does nothing else. */
  readonly isSingle?: boolean;
}

/** The key of an advisory lock. */
function lockOf(name: string): [number, number] {
  const hash = createHash('sha256').update(`escapement ${name}`).digest();
  return [hash.readInt32BE(0), hash.readInt32BE(4)];
}
