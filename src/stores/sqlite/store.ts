/**
 * The store on a SQLite file. It obeys the laws of every store and computes new rows with the core's functions. Every change is one write
 * transaction. Enqueues that are made in the same tick share one, so that they wait for the disk only once.
 */
import type { Database } from 'better-sqlite3';
import { hintsOf } from '../../core/changes.ts';
import { InputError, StoreError } from '../../core/errors.ts';
import { isFinished } from '../../core/job.ts';
import { changesVersions } from '../../core/schedule.ts';
import type { Amendment, Job, JobRecord, QueueRow, ScheduleRow, Settlement, Signal, Step, WorkerRow } from '../../core/types.ts';
import type { Edges } from '../../core/workflow.ts';
import { yieldToEventLoop } from '../../ports/clock.ts';
import type {
  Advance,
  Amended,
  Awaitable,
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
import type { Horizon, Served } from './claims.ts';
import { type Connection, pathOf, withNumbers } from './connection.ts';
import { Enqueues } from './enqueues.ts';
import type { Schedules } from './schedules.ts';
import { Watch } from './watch.ts';
import { type Pruned, Work } from './work.ts';

export class SqliteStore implements Store {
  readonly name = 'sqlite';
  readonly supports = { transactions: true };
  readonly pollMs: number;
  readonly #connection: Connection;
  readonly #file: string;
  #work: Work | undefined;
  readonly #horizon: Horizon = { readyUntil: Number.NEGATIVE_INFINITY };
  #listeners: ((hint: Hint) => void)[] = [];
  #watch: Watch | undefined;
  readonly #enqueues: Enqueues;

  constructor(connection: Connection, file: string) {
    this.#connection = connection;
    this.#file = file;
    this.#enqueues = new Enqueues({
      write: (fn, after) => this.#write(fn, after, true),
      inserted: (jobs) => this.#hint(jobs),
      error: (error) => connection.error(error),
      // An in-memory database is used in tests, where time stands still during real work.
      turns: !connection.isPrivate,
    });
    this.pollMs = connection.isPrivate ? Number.POSITIVE_INFINITY : 1_000;
    connection.onReopen = () => this.#reopened();
  }

  #reopened(): void {
    this.#horizon.readyUntil = Number.NEGATIVE_INFINITY;
    this.#work = new Work(this.#connection.db, this.#horizon);
    if (this.#watch) this.#startWatch();
  }

  #startWatch(): void {
    this.#stopWatch();
    this.#watch = new Watch(this.#connection.path, this.#connection.db, () => this.#notify({}));
  }

  #stopWatch(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  migrate(): Awaitable<void> {
    if (this.#work) return;
    const done = this.#connection.prepare(this.#file);
    const prepared = () => {
      this.#work = new Work(this.#connection.db, this.#horizon);
    };
    return done instanceof Promise ? done.then(prepared) : prepared();
  }

  close(): void {
    this.#stopWatch();
    this.#enqueues.flush();
    this.#connection.close();
  }

  insert(jobs: readonly Job[], { now, transaction, ...more }: Parameters<Store['insert']>[1]): Awaitable<Taken | undefined> {
    if (transaction === undefined) return this.#enqueues.add(jobs, now, more);
    const guest = this.#guest(transaction);
    return this.#joined(guest, () => guest.counted(() => guest.insert(jobs, now, more), true));
  }

  claim(options: ClaimOptions & { now: number }): Awaitable<readonly Job[]> {
    const quarantined: Job[] = [];
    return this.#write(
      (work) => {
        quarantined.length = 0;
        return work.claim(options, quarantined);
      },
      (jobs) => {
        if (jobs.length > 0) this.#hintLeased(options);
        if (quarantined.length > 0) this.#reportQuarantined(quarantined);
      },
    );
  }

  renew(held: readonly Held[], options: { now: number; leaseUntil: number }): Awaitable<readonly RenewAnswer[]> {
    return this.#write((work) => held.map((lease) => work.renew(lease, options.leaseUntil)));
  }

  settle(
    settlements: readonly Settlement[],
    options: { now: number; claim?: ClaimOptions | undefined; transaction?: unknown },
  ): Awaitable<Settled> {
    if (options.transaction !== undefined) return this.#settleInto(options.transaction, settlements, options.now);
    const { claim, now } = options;
    const changed: Job[] = [];
    const quarantined: Job[] = [];
    return this.#write(
      (work) => {
        changed.length = 0;
        quarantined.length = 0;
        const settled = work.settle(settlements, now, changed);
        const dependents = work.follow(changed.filter(isEndedPart), now);
        return { settled, dependents, claimed: claim ? work.claim({ ...claim, now }, quarantined) : [] };
      },
      ({ claimed: taken, dependents }) => {
        this.#hint(dependents.length > 0 ? [...changed, ...dependents] : changed);
        if (quarantined.length > 0) this.#reportQuarantined(quarantined);
        if (claim && taken.length > 0) this.#hintLeased(claim);
      },
    );
  }

  saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): Awaitable<boolean> {
    return this.#write((work) => work.saveSteps(held, steps));
  }

  getSteps(ids: readonly string[]): Awaitable<readonly (readonly Step[])[]> {
    return this.#read((work) => work.getSteps(ids));
  }

  sendSignal(signal: Signal, { now, transaction }: { now: number; transaction?: unknown }): Awaitable<void> {
    if (transaction !== undefined) {
      const guest = this.#guest(transaction);
      this.#joined(guest, () => void guest.counted(() => guest.sendSignal(signal, now)));
      return;
    }
    const sent = this.#write(
      (work) => work.sendSignal(signal, now),
      (jobs) => this.#hint(jobs),
    );
    return sent instanceof Promise ? sent.then(() => {}) : undefined;
  }

  takeSignal(held: Pick<Held, 'id' | 'claim'>, wanted: WantedSignal): Awaitable<Signal | null | false> {
    return this.#write((work) => work.takeSignal(held, wanted));
  }

  saveBlobs(held: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): Awaitable<boolean> {
    return this.#write((work) => work.saveBlobs(held, blobs));
  }

  overdue(options: { now: number; limit: number }): Awaitable<readonly Job[]> {
    return this.#read((work) => work.reads.overdue(options.now, options.limit));
  }

  nextDueAt(options: Served & { now: number }): Awaitable<NextDue> {
    return this.#read((work) => ({ jobAt: work.claims.nextDueAt(options, options.now), ...work.reads.nextDue() }));
  }

  amend(amendments: readonly Amendment[], options: { now: number }): Awaitable<Amended> {
    return this.#write(
      (work) => work.amend(amendments, options.now),
      ({ amended: jobs, dependents }) => {
        this.#hint([...jobs.filter((job, i): job is Job => job !== null && amendments[i]?.set !== null), ...dependents]);
        if (amendments.some(({ set }, i) => set === null && jobs[i])) this.#notify({ finished: true });
      },
    );
  }

  getEdges(ids: readonly string[]): Awaitable<readonly Edges[]> {
    return this.#read(({ edges }) => ids.map((id) => edges.of(id)));
  }

  /** Uses as many transactions as the sizes of the rows require. */
  prune(options: PruneOptions): Awaitable<number> {
    const part = this.#write((work) => work.prune(options));
    const rest = ({ count, more }: Pruned) => (more && count < options.limit ? this.#pruneRest(options, count) : count);
    return part instanceof Promise ? part.then(rest) : rest(part);
  }

  async #pruneRest(options: PruneOptions, first: number): Promise<number> {
    for (let count = first; ; ) {
      await yieldToEventLoop();
      const part = await this.#write((work) => work.prune({ ...options, limit: options.limit - count }));
      count += part.count;
      if (!part.more || count === options.limit) return count;
    }
  }

  saveWorker(worker: WorkerRow, options: { forgetBefore: number }): Awaitable<void> {
    let changed = false;
    return this.#write(
      ({ statements }) => {
        const before = statements.worker.get(worker.id);
        changed = changesVersions(before && workerOf(before.row), worker);
        statements.saveWorker.run(worker.id, worker.startedAt, worker.heartbeatAt, JSON.stringify(worker));
        statements.forgetWorkers.run(options.forgetBefore);
      },
      () => {
        if (changed) this.#notify({ workers: true });
      },
    );
  }

  listWorkers(): Awaitable<readonly WorkerRow[]> {
    return this.#read((work) => work.reads.workers());
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
      ({ schedules }) => schedules.save(row, options.expect),
      (saved) => {
        if (saved && row.nextAt !== null) this.#notify({ scheduleAt: row.nextAt });
      },
    );
  }

  dropSchedule(name: string): Awaitable<boolean> {
    return this.#write(({ schedules }) => schedules.drop(name));
  }

  listSchedules(options?: Parameters<Store['listSchedules']>[0]): Awaitable<readonly ScheduleRow[]> {
    return this.#read(({ schedules }) => schedules.list(options));
  }

  dueSchedules(options: Parameters<Store['dueSchedules']>[0]): ReturnType<Store['dueSchedules']> {
    const found = this.#read(({ schedules }) => schedules.due(options));
    const pauseUnreadable = ({ unreadable, ...answer }: ReturnType<Schedules['due']>) => {
      if (unreadable.length === 0) return answer;
      return this.#write(({ schedules }) => {
        for (const name of unreadable) schedules.setAside(name);
        return answer;
      });
    };
    return found instanceof Promise ? found.then(pauseUnreadable) : pauseUnreadable(found);
  }

  advanceSchedules(advances: readonly Advance[], options: { now: number }): Awaitable<readonly (readonly Job[] | null)[]> {
    return this.#write(
      (work) => advances.map((advance) => work.advance(advance, options.now)),
      (made) => {
        this.#hint(made.flatMap((jobs) => jobs ?? []));
        if (this.#listeners.length < 2) return;
        for (const { times } of advances) if (times.nextAt !== null) this.#notify({ scheduleAt: times.nextAt });
      },
    );
  }

  get(ids: readonly string[]): Awaitable<readonly (JobRecord | null)[]> {
    return this.#read((work) => work.reads.get(ids));
  }

  list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined; order?: JobOrder | undefined },
  ): Awaitable<{ items: readonly JobRecord[]; cursor: string | null }> {
    return this.#read((work) => work.reads.list(filter, options));
  }

  getBlobs(ids: readonly string[], name: string): Awaitable<readonly (Uint8Array | null)[]> {
    return this.#read(({ statements }) => ids.map((id) => statements.blob.get(id, name)?.bytes ?? null));
  }

  stats(options: { now: number }): Awaitable<readonly QueueStats[]> {
    return this.#read((work) => work.reads.stats(options.now));
  }

  listen(notify: (hint: Hint) => void): () => void {
    this.#listeners = [...this.#listeners, notify];
    if (!this.#connection.isPrivate && !this.#watch) this.#startWatch();
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== notify);
      if (this.#listeners.length === 0) this.#stopWatch();
    };
  }

  keeper(options: KeeperOptions): Keeper {
    const { isPrivate, path } = this.#connection;
    return isPrivate ? noKeeper : new ThreadKeeper({ baseUrl: import.meta.url, place: () => path }, options);
  }

  readonly #guests = new WeakMap<object, Work>();
  #warned = false;

  /** The statements on the application's own handle. They run in its transaction. */
  #guest(transaction: unknown): Work {
    const db = transaction as Database;
    if (typeof db?.prepare !== 'function' || typeof db.inTransaction !== 'boolean') {
      throw new InputError(
        'transaction: expected a better-sqlite3 database with an open transaction; with Drizzle or Kysely, pass the database that you gave them',
      );
    }
    if (!db.inTransaction)
      throw new InputError('transaction: the database has no open transaction; enqueue inside db.transaction(() => …)');
    // Uses the store's own connection, because a first read would fix the snapshot of the caller's transaction.
    const own = this.#prepared();
    this.#connection.checkFiles();
    const known = this.#guests.get(db);
    if (known) return known;
    const { path } = this.#connection;
    const databasePath = pathOf(db);
    if (path !== databasePath || (path === '' && this.#connection.lent !== db)) {
      const named = (name: string) => name || ':memory:';
      throw new InputError(
        `transaction: the database is ${named(databasePath)}, the store is ${named(path)}; both must be the same ${path === '' ? 'database' : 'file'}`,
      );
    }
    const guest = this.#connection.lent === db && path === '' ? own : new Work(withNumbers(db), this.#horizon);
    if (path !== '') this.#checkDurable(db);
    this.#guests.set(db, guest);
    return guest;
  }

  #checkDurable(db: Database): void {
    const levelOf = (one: Database) => Number(one.pragma('synchronous', { simple: true }));
    const wanted = levelOf(this.#connection.db);
    if (this.#warned || levelOf(db) >= wanted) return;
    this.#warned = true;
    const mode = wanted > 1 ? 'FULL' : 'NORMAL';
    process.emitWarning(
      `transactions of the application are less durable than the store, which uses synchronous = ${mode}: a power failure may lose jobs that are enqueued in them. Run db.pragma('synchronous = ${mode}') on the application's handle`,
      { type: 'EscapementWarning', code: 'ESCAPEMENT_SYNCHRONOUS' },
    );
  }

  #settleInto(transaction: unknown, settlements: readonly Settlement[], now: number): Settled {
    const guest = this.#guest(transaction);
    const settle = () => {
      const changed: Job[] = [];
      const settled = guest.settle(settlements, now, changed);
      return { settled, dependents: guest.follow(changed.filter(isEndedPart), now), claimed: [] };
    };
    return this.#joined(guest, () => guest.counted(settle));
  }

  /** Runs in the caller's transaction, which may still roll back. If it commits, the watcher notices; an extra hint is harmless. */
  #joined<T>(guest: Work, fn: () => T): T {
    try {
      guest.lock();
      const value = fn();
      this.#notify({});
      return value;
    } catch (error) {
      throw this.#connection.error(error);
    }
  }

  #prepared(): Work {
    if (this.#work) return this.#work;
    throw new StoreError('the store is not open; call and await tasks.open() first', { kind: 'closed' });
  }

  #read<T>(fn: (work: Work) => T): Awaitable<T> {
    this.#prepared();
    return this.#connection.read(() => fn(this.#prepared()));
  }

  #write<T>(fn: (work: Work) => T, after?: (value: T) => void, isInsert = false): Awaitable<T> {
    this.#prepared();
    // The connection may have reopened the file.
    const written = this.#connection.write(() => this.#prepared().counted(() => fn(this.#prepared()), isInsert));
    const committed = (value: T) => {
      this.#watch?.committed();
      after?.(value);
      return value;
    };
    return written instanceof Promise ? written.then(committed) : committed(written);
  }

  #hint(jobs: readonly Job[]): void {
    if (this.#listeners.length > 0) for (const hint of hintsOf(jobs)) this.#notify(hint);
  }

  #reportQuarantined(jobs: readonly Job[]): void {
    this.#hint(jobs);
    const [first] = jobs;
    const others = jobs.length > 1 ? ` and ${jobs.length - 1} more` : '';
    process.emitWarning(`job ${first?.id}${others} cannot be read from the store and failed; see the job's error`, {
      type: 'EscapementWarning',
      code: 'ESCAPEMENT_UNREADABLE_JOB',
    });
  }

  #hintLeased({ leaseUntil, worker }: ClaimOptions): void {
    this.#notify({ overdueAt: leaseUntil, by: worker });
  }

  #notify(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }
}

function isEndedPart(job: Job): boolean {
  return job.workflow !== null && isFinished(job);
}
