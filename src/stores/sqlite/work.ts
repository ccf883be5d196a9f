/**
 * The store's operations on one handle, either the engine's or one of the application's: claim, settle, amend, insert, prune. They run
 * inside a transaction that the caller has started, and write their changes to the counts before it commits.
 */
import type { Database } from 'better-sqlite3';
import { defaultBackoff } from '../../core/backoff.ts';
import { planAmendment, planSettlement } from '../../core/changes.ts';
import { decide } from '../../core/decide.ts';
import { DuplicateJobError } from '../../core/errors.ts';
import { gateOf, type Limits, maxPassedOver, noLimits, takesPlace } from '../../core/gate.ts';
import { claimed, maxAttemptsKept, pruneAt, settled, signalled } from '../../core/job.ts';
import { appended, logBlob } from '../../core/log.ts';
import { signalValue, stepsRunAgain } from '../../core/steps.ts';
import type { Amendment, Attempt, Job, JobRecord, Settlement, Signal, Step } from '../../core/types.ts';
import { duplicateOf, heldKey, isStanding, replacement } from '../../core/unique.ts';
import { type Edge, edgesOf } from '../../core/workflow.ts';
import type { Advance, Amended, ClaimOptions, Held, JobBlob, PruneOptions, RenewAnswer, Taken, WantedSignal } from '../../ports/store.ts';
import { Remembered } from '../sql/remembered.ts';
import { attemptOf, changes, insertValues, jobOf, lastAttemptOf, plainValues, textOf, unreadable } from '../sql/rows.ts';
import { Claims, type Horizon } from './claims.ts';
import { Counts, countedAs, stateOf } from './counts.ts';
import { WorkflowEdges } from './edges.ts';
import { preparedLate } from './late-statements.ts';
import { Reads } from './reads.ts';
import type { SqliteRow } from './rows.ts';
import { Schedules } from './schedules.ts';
import { type Prunable, type WorkStatements, workStatements } from './work-statements.ts';

/** How many candidates a claim reads at a time after it has found one that may not start. */
const candidatesAtOnce = 50;
const noBlobs: readonly JobBlob[] = [];

/** What `insert` stores besides the jobs. */
export interface InsertOptions {
  readonly once?: boolean | undefined;
  readonly blobs?: readonly JobBlob[] | undefined;
  readonly edges?: readonly Edge[] | undefined;
}

/** Jobs that succeed and whose rows are updated with the same values, or that are all deleted. */
interface SuccessGroup {
  readonly job: Job;
  readonly progress: string | null;
  readonly isPruned: boolean;
  readonly keys: number[];
  readonly ids: string[];
}

/** The number of deleted jobs, and whether more remain because of their size. */
export interface Pruned {
  readonly count: number;
  readonly more: boolean;
}

/** A prune transaction deletes at most this much, plus one row. */
const maxPrunedBytes = 4_000_000;

/** The statements on one handle and the operations that use them. Everything runs inside a transaction that the caller has started. */
export class Work {
  readonly counts: Counts;
  readonly claims: Claims;
  readonly reads: Reads;
  readonly schedules: Schedules;
  readonly edges: WorkflowEdges;
  readonly statements: WorkStatements;
  readonly #db: Database;
  readonly #horizon: Horizon;
  readonly #running = new Remembered<number>();

  constructor(handle: Database, horizon: Horizon) {
    const db = preparedLate(handle);
    this.#db = db;
    this.#horizon = horizon;
    this.counts = new Counts(db);
    this.claims = new Claims(db, this.counts, horizon);
    this.reads = new Reads(db, horizon);
    this.schedules = new Schedules(db);
    this.edges = new WorkflowEdges(db);
    this.statements = workStatements(db);
  }

  /**
   * Runs `fn` and writes its changes to the counts; discards them if it throws.
   * @param isInsert whether `fn` only inserts jobs, or the transaction has counted all others
   */
  counted<T>(fn: () => T, isInsert = false): T {
    try {
      if (!isInsert) this.counts.countNew();
      const value = fn();
      this.counts.save();
      return value;
    } catch (error) {
      this.counts.forget();
      throw error;
    }
  }

  /**
   * Takes the write lock if the transaction does not have it. A transaction that reads first may be refused the lock if others have written
   * since.
   */
  lock(): void {
    this.statements.lock.run();
  }

  /** Runs `fn` in a savepoint, so that it can fail without affecting the rest of the transaction. Returns the error, if any. */
  inSavepoint(fn: () => void): { readonly error: unknown } | undefined {
    this.statements.savepoint.run();
    try {
      this.counted(fn, true);
      this.statements.release.run();
      return undefined;
    } catch (error) {
      // On a full disk or an I/O error, SQLite has rolled back the whole transaction.
      if (!this.#db.inTransaction) throw error;
      this.#db.exec('ROLLBACK TO escapement_part; RELEASE escapement_part');
      return { error };
    }
  }

  /** @param once skips jobs whose ids exist already, and returns the existing ones */
  insert(jobs: readonly Job[], now: number, { once = false, blobs = noBlobs, edges }: InsertOptions = {}): Taken | undefined {
    if (!once && jobs.every(({ unique }) => unique === null)) {
      if (edges) this.edges.add(edges, jobs);
      this.#insert(jobs, now);
      this.#keepBlobs(blobs);
      return undefined;
    }
    const known = once && edges ? new Set(this.reads.rows(jobs.map(({ id }) => id)).map(({ id }) => id)) : undefined;
    const inserted = known ? jobs.filter(({ id }) => !known.has(id)) : jobs;
    this.edges.add(edgesOf(inserted, edges), inserted);
    return jobs.map((job) => {
      const [existing = null] = once ? this.reads.get([job.id]) : [];
      // A unique job can change another, which may be one of those just inserted.
      if (job.unique) this.counts.countNew();
      const standing = existing ?? this.#existing(job, now);
      if (standing) return standing;
      this.#insert([job], now);
      this.#keepBlobs(blobs.filter((blob) => blob.job === job.id));
      return null;
    });
  }

  /** The record of the job that already holds a job's unique key; it is replaced if the new job says so. */
  #existing(job: Job, now: number): JobRecord | null {
    const holder = this.#holderOf(heldKey(job), now);
    if (!holder) return null;
    const standing = jobOf(holder);
    if (job.unique?.onConflict === 'reject') throw new DuplicateJobError(...duplicateOf(job, standing));
    const set = job.unique?.onConflict === 'replace' ? replacement(standing, job) : undefined;
    if (set) this.#update(holder, { ...standing, ...set }, now, true);
    return this.reads.get([holder.id])[0] ?? null;
  }

  /** The job that holds a unique key. A job whose window is over releases it. */
  #holderOf(key: string | null, now: number): SqliteRow | undefined {
    const row = key === null ? undefined : this.statements.holder.get(key);
    if (!row || isStanding(jobOf(row), now)) return row;
    this.statements.releaseKeys.run(JSON.stringify([row.n]));
    return undefined;
  }

  /** The unique key that a row holds after a change. */
  #keyAfter(row: SqliteRow, job: Job, now: number): string | null {
    const key = row.unique === null ? null : heldKey(job);
    // Not taken from the row, which may have lost its key since it was read: another job may have requested the key after its window.
    const holder = this.#holderOf(key, now);
    return holder === undefined || holder.n === row.n ? key : null;
  }

  #insert(jobs: readonly Job[], now: number): void {
    this.counts.inserting(jobs, (job) => {
      const state = stateOf(job, now);
      const plain = plainValues(job, state);
      const { lastInsertRowid } = plain
        ? this.statements.insertPlain.run(...plain)
        : this.statements.insert.run(...insertValues(job, { state, uniqueKey: heldKey(job) }));
      this.#readied(job, now);
      return { state, n: Number(lastInsertRowid) };
    });
  }

  #keepBlobs(blobs: readonly JobBlob[]): void {
    for (const { job, name, bytes } of blobs) this.statements.keepBlob.run(job, name, bytes);
  }

  saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): boolean {
    if (!this.#holds(held)) return false;
    for (const { name, kind, value, attempt, at } of steps) this.statements.saveStep.run(held.id, name, kind, value, attempt, at);
    return true;
  }

  getSteps(ids: readonly string[]): Step[][] {
    const steps = new Map<string, Step[]>(ids.map((id) => [id, []]));
    for (const { job, ...step } of this.statements.steps.all(JSON.stringify(ids))) steps.get(job)?.push(step);
    return ids.map((id) => steps.get(id) ?? []);
  }

  /** Returns the jobs that become due. */
  sendSignal({ name, data, sentAt }: Signal, now: number): Job[] {
    this.statements.sendSignal.run(name, data, sentAt);
    return this.statements.awaiting.all(name).flatMap((row) => {
      const job = signalled(jobOf(row), name, now);
      if (job) this.#update(row, job, now, false);
      return job ?? [];
    });
  }

  takeSignal(held: Pick<Held, 'id' | 'claim'>, { name, step }: WantedSignal): Signal | null | false {
    if (!this.#holds(held)) return false;
    const signal = this.statements.takeSignal.get(name);
    if (!signal) return null;
    this.saveSteps(held, [{ ...step, value: signalValue(signal) }]);
    return signal;
  }

  #holds({ id, claim }: Pick<Held, 'id' | 'claim'>): boolean {
    const [row] = this.reads.rows([id]);
    return row?.state === 'running' && row.claim === claim;
  }

  saveBlobs({ id, claim }: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): boolean {
    if (!this.#holds({ id, claim })) return false;
    for (const { name, bytes } of blobs) this.statements.keepBlob.run(id, name, bytes);
    return true;
  }

  /** @param quarantined receives the jobs that cannot be read; they fail with a reason, so that later jobs can run */
  claim(options: ClaimOptions & { now: number }, quarantined: Job[]): readonly Job[] {
    if (options.limit <= 0) return [];
    if (options.limits || this.claims.hasBlocked()) return this.#claimWithin(options, options.limits ?? noLimits, quarantined);
    return this.#claim(options, this.claims.take(options, options.now, options.limit), quarantined);
  }

  /** Claims the jobs that the limits allow. Other jobs are blocked or become due later, so that the next ones are considered. */
  #claimWithin(options: ClaimOptions & { now: number }, limits: Limits, quarantined: Job[]): readonly Job[] {
    const { now, limit } = options;
    const gate = this.claims.gate({ ...options, limits }, now, limit);
    const jobs: Job[] = [];
    let isSwept = false;
    for (let passedOver = 0; jobs.length < limit && passedOver < maxPassedOver; ) {
      const served = this.claims.open(options, gate);
      const batchLimit = limit - jobs.length + (passedOver > 0 ? candidatesAtOnce : 0);
      // Jobs that have been due for a long time come first.
      const aged = this.claims.aged({ ...served, limits }, now, batchLimit);
      const rows = aged.length > 0 ? aged : served.tasks.length === 0 ? [] : this.claims.take(served, now, batchLimit);
      const admitted: SqliteRow[] = [];
      const blocked: SqliteRow[] = [];
      let isClosed = false;
      for (const row of rows) {
        if (jobs.length + admitted.length === limit || passedOver === maxPassedOver) break;
        const admission = gate.admit(row);
        if (admission === 'start') admitted.push(row);
        else if (admission === 'closed') isClosed = true;
        else {
          passedOver += 1;
          if (admission === 'blocked') blocked.push(row);
          else this.#update(row, { ...jobOf(row), dueAt: admission.dueAt }, now, false);
        }
      }
      this.claims.block(blocked);
      jobs.push(...this.#claim(options, admitted, quarantined));
      if (aged.length > 0 || (rows.length > 0 && (rows.length === batchLimit || isClosed || passedOver > 0))) continue;
      if (isSwept || !this.claims.hasBlocked()) break;
      isSwept = true;
      if (!this.claims.sweep(options, gate)) break;
    }
    this.claims.saveRates(gate.changed);
    return jobs;
  }

  #claim(options: ClaimOptions & { now: number }, rows: readonly SqliteRow[], quarantined: Job[]): readonly Job[] {
    if (rows.length === 0) return [];
    for (const row of rows) if (row.claim > 0) this.#keepAttempt(row);
    const { worker, leaseUntil, now } = options;
    const keys = rows.map(({ n }) => n);
    this.statements.claim.run(keys, worker, leaseUntil, now, now);
    const released: number[] = [];
    const jobs: Job[] = [];
    const failures: Settlement[] = [];
    for (const row of rows) {
      this.counts.add(row.queue, 'ready', -1);
      this.counts.add(row.queue, 'running', 1);
      const faults: string[] = [];
      const job = claimed(jobOf(row, faults), worker, now, leaseUntil);
      if (row.uniqueKey !== null && heldKey(job) === null) released.push(row.n);
      if (faults.length === 0) {
        jobs.push(job);
        this.#running.add(job, row.n);
      } else failures.push(decide(job, defaultBackoff, unreadable(job, faults), now, 0));
    }
    if (released.length > 0) this.statements.releaseKeys.run(JSON.stringify(released));
    if (failures.length > 0) this.settle(failures, now, quarantined);
    return jobs;
  }

  renew({ id, claim, progress, log, metadata }: Held, leaseUntil: number): RenewAnswer {
    if (progress ?? metadata) this.#running.forget([{ id }]);
    const row = this.statements.renew.get(leaseUntil, progress ? JSON.stringify(progress) : null, id, claim);
    if (!row) return { kind: 'lost' };
    this.#keep(id, { log, metadata });
    return row.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: row.cancelRequested };
  }

  /** What an attempt has recorded besides its outcome. */
  #keep(id: string, { log, metadata }: { log?: readonly string[] | undefined; metadata?: Job['metadata'] | undefined }): void {
    if (metadata) this.statements.setMetadata.run(textOf(metadata), id);
    if (log) this.statements.keepBlob.run(id, logBlob, appended(this.statements.blob.get(id, logBlob)?.bytes, log));
  }

  /** Law 8. Returns the changed rows. */
  follow(changed: readonly Job[], now: number): readonly Job[] {
    if (changed.length === 0) return changed;
    return this.edges.follow(changed, now, (row, after) => {
      this.#update(row, after, now, row.input !== after.input);
      if (takesPlace(jobOf(row), row.blockedBy !== null, now) && !takesPlace(after, false, now)) this.#unblock(gateOf(row));
    });
  }

  /** @param changed receives the rows of the settlements that were applied */
  settle(settlements: readonly Settlement[], now: number, changed: Job[]): (Job | null)[] {
    const plain = this.#succeed(settlements, changed);
    const others = plain ? settlements.filter((_, i) => plain[i] === undefined) : settlements;
    const answers = others.length === 0 ? [] : this.#settleEach(others, now, changed);
    this.#running.forget(settlements);
    if (!plain) return answers;
    let i = 0;
    return plain.map((job) => job ?? (answers[i++] as Job | null));
  }

  /**
   * Settles jobs that succeed and whose rows are known; the answer has no job for other settlements. Returns undefined, with nothing changed,
   * if there are none or if a row has changed.
   */
  #succeed(settlements: readonly Settlement[], changed: Job[]): (Job | undefined)[] | undefined {
    /** Many jobs are updated with the same values. */
    const groups = new Map<string, SuccessGroup>();
    let group: SuccessGroup | undefined;
    const done = settlements.map((settlement) => {
      const known = this.#running.plain(settlement);
      if (!known) return undefined;
      const job = settled(known.job, settlement);
      const progress = settlement.progress && JSON.stringify(settlement.progress);
      const isPruned = settlement.prune === true;
      if (!group || !belongsTo(group, job, progress, isPruned)) {
        const key = isPruned ? `${job.claim} ${job.queue}` : `${job.finishedAt} ${job.claim} ${job.queue} ${progress} ${job.returnValue}`;
        group = groups.get(key) ?? { job, progress, isPruned, keys: [], ids: [] };
        groups.set(key, group);
      }
      group.keys.push(known.place);
      group.ids.push(job.id);
      return job;
    });
    const jobs = done.filter((job) => job !== undefined);
    if (jobs.length === 0) return undefined;
    // If several settlements are for one job, each must see the row that the previous one left. The updates find out if all are plain.
    if (jobs.length < settlements.length && new Set(settlements.map(({ id }) => id)).size < settlements.length) return undefined;
    const failed = this.inSavepoint(() => {
      for (const group of groups.values()) {
        if ((group.isPruned ? this.#pruneAll(group) : this.#succeedAll(group)) < group.keys.length) throw moved;
      }
    });
    if (failed && failed.error !== moved) throw failed.error;
    if (failed) return undefined;
    for (const { job, keys, isPruned } of groups.values()) {
      this.counts.add(job.queue, 'running', -keys.length);
      if (!isPruned) this.counts.add(job.queue, 'successful', keys.length);
    }
    if (this.claims.hasBlocked()) for (const job of jobs) this.claims.unblock(gateOf(job));
    changed.push(...jobs);
    return done;
  }

  /** Returns the number of changed rows. */
  #succeedAll({ job: { finishedAt, returnValue, claim, queue }, progress, keys }: SuccessGroup): number {
    return this.statements.succeedAll.run(keys, finishedAt, returnValue, progress, finishedAt, claim, queue);
  }

  #pruneAll({ job: { claim, queue }, keys, ids }: SuccessGroup): number {
    this.counts.deleting();
    this.#pruneParts(JSON.stringify(ids));
    if (claim > 1) for (const id of ids) this.statements.pruneAttempts.run(id);
    return this.statements.pruneAll.run(keys, claim, queue);
  }

  #settleEach(settlements: readonly Settlement[], now: number, changed: Job[]): (Job | null)[] {
    const rows = new Map(this.reads.rows(settlements.map(({ id }) => id)).map((row) => [row.id, row]));
    // If several settlements are for one job, each sees the row that the previous one left.
    const isRepeated = rows.size < settlements.length;
    let hasBlocked: boolean | undefined;
    return settlements.map((settlement) => {
      const row = rows.get(settlement.id);
      if (!row) return null;
      const current = row.claim === settlement.claim ? lastAttemptOf(row) : this.#earlier(row.id, settlement.claim);
      const { answer: job, attempt, isPruned } = planSettlement(jobOf(row), current, settlement, this.#hasSignal);
      if (!job || !attempt) return job;
      if (isPruned) this.#delete(row);
      else this.#settleOne(row, job, settlement, now);
      hasBlocked ??= this.claims.hasBlocked();
      if (hasBlocked) this.claims.unblock(gateOf(row));
      if (isPruned) rows.delete(job.id);
      else if (isRepeated) for (const after of this.reads.rows([job.id])) rows.set(job.id, after);
      changed.push(job);
      return job;
    });
  }

  #settleOne(row: SqliteRow, job: Job, settlement: Settlement, now: number): void {
    const { n, attempt, dueAt, unique } = row;
    const { outcome, settledAt, error } = settlement;
    const state = stateOf(job, now);
    this.#readied(job, now);
    if (outcome === 'successful' && job.attempt === attempt && job.dueAt === dueAt && unique === null) {
      const progress = job.progress && JSON.stringify(job.progress);
      this.statements.succeed.run({ n, at: settledAt, value: job.returnValue, progress, pruneAt: pruneAt(job) });
    } else {
      const changed = changes(job, { state, uniqueKey: this.#keyAfter(row, job, now) });
      this.statements.settle.run(...changed, settledAt, outcome, error && JSON.stringify(error), n);
    }
    this.#keep(job.id, settlement);
    this.#count(row, state, job.attempt);
  }

  amend(amendments: readonly Amendment[], now: number): Amended {
    this.#running.forget(amendments);
    const parts: Job[] = [];
    const requeued = this.reads.rows(amendments.flatMap(({ id, set }) => (set?.status === 'queued' ? [id] : [])));
    const obstacles = this.edges.obstaclesOf(
      requeued.filter(({ workflow, finishedAt }) => workflow !== null && finishedAt !== null).map((row) => jobOf(row)),
    );
    const answers = amendments.map((amendment) => this.#amendOne(amendment, now, obstacles, parts));
    return { amended: answers, dependents: this.follow(parts, now) };
  }

  /** @param parts receives the row if other jobs of its workflow are affected */
  #amendOne(amendment: Amendment, now: number, obstacles: ReadonlyMap<string, Job>, parts: Job[]): Job | null {
    const [row] = this.reads.rows([amendment.id]);
    if (!row) return null;
    const isWaiting = row.workflow !== null && this.edges.isWaiting(row.id);
    const given = { job: jobOf(row), isBlocked: row.blockedBy !== null, isWaiting, obstacle: obstacles.get(row.id) };
    const { answer, change } = planAmendment(given, amendment, now);
    if (!change) return answer;
    const holder = this.#holderOf(change.wantedKey, now);
    if (holder) return jobOf(holder);
    // Large inputs are not rewritten with every change.
    if (change.job) this.#update(row, change.job, now, change.isEdited);
    else this.#delete(row);
    if (change.leavesPlace) this.#unblock(gateOf(row));
    if (change.followed) parts.push(change.followed);
    return answer;
  }

  #delete(row: SqliteRow): void {
    this.counts.deleting();
    this.counts.add(row.queue, countedAs(row.state, row.attempt), -1);
    if (row.claim > 1) this.statements.pruneAttempts.run(row.id);
    const ids = JSON.stringify([row.id]);
    this.statements.prune.run(ids);
    this.#pruneParts(ids);
    if (row.workflow !== null) this.edges.forget(ids);
  }

  #pruneParts(ids: string): void {
    this.statements.pruneBlobs.run(ids);
    this.statements.pruneSteps.run(ids);
  }

  #runStepsAgain({ id, state }: SqliteRow): void {
    const ids = JSON.stringify([id]);
    const steps = stepsRunAgain(this.statements.steps.all(ids), state === 'successful');
    if (!steps) return;
    this.statements.pruneSteps.run(ids);
    for (const { name, kind, value, attempt, at } of steps) this.statements.saveStep.run(id, name, kind, value, attempt, at);
  }

  /** @param isEdited whether columns that are otherwise written only at insert have changed */
  #update(row: SqliteRow, job: Job, now: number, isEdited: boolean): void {
    const state = stateOf(job, now);
    this.#readied(job, now);
    if (row.finishedAt !== null && job.finishedAt === null) this.#runStepsAgain(row);
    this.statements.update.run(...changes(job, { state, uniqueKey: this.#keyAfter(row, job, now) }), row.n);
    if (isEdited) this.statements.edit.run(job.queue, job.input, job.runAfter, row.n);
    this.#count(row, state, job.attempt, job.queue);
  }

  /** Another job of the gate takes the place of one that was changed or deleted. */
  #unblock(gate: string): void {
    if (this.claims.hasBlocked()) this.claims.unblock(gate);
  }

  /** Deletes as many rows as a few milliseconds allow: many small ones, or a few large ones. */
  prune({ status, finishedBefore, limit, own }: PruneOptions): Pruned {
    const finished = this.statements.finished[own ?? 'both'].all({ status, before: finishedBefore, limit });
    let bytes = 0;
    let count = 0;
    while (count < finished.length && bytes < maxPrunedBytes) bytes += (finished[count++] as Prunable).bytes;
    const pruned = finished.slice(0, count);
    this.counts.deleting();
    for (const { id, queue, claim } of pruned) {
      this.counts.add(queue, status, -1);
      if (claim > 1) this.statements.pruneAttempts.run(id);
    }
    const ids = JSON.stringify(pruned.map(({ id }) => id));
    this.statements.prune.run(ids);
    this.#pruneParts(ids);
    this.edges.forget(ids);
    // Nothing is left to prune: remove the counts of queues that have no jobs.
    if (count < limit && count === finished.length) {
      this.counts.forgetEmpty();
      this.claims.forgetRates(finishedBefore);
    }
    return { count, more: count < finished.length };
  }

  /** Returns the inserted jobs; null if another scheduler was faster. */
  advance(advance: Advance, now: number): readonly Job[] | null {
    if (!this.schedules.advance(advance)) return null;
    return advance.jobs.filter((job) => {
      if (this.#holderOf(heldKey(job), now) || this.schedules.isTaken(job)) return false;
      this.#insert([job], now);
      return true;
    });
  }

  #readied({ status, dueAt }: Job, now: number): void {
    if (status === 'queued' && dueAt <= now && dueAt > this.#horizon.readyUntil) this.#horizon.readyUntil = dueAt;
  }

  /** Moves the latest attempt out of the job's row to make room for the next. */
  #keepAttempt(row: SqliteRow): void {
    const attempt = lastAttemptOf(row);
    if (!attempt) return;
    const { worker, startedAt, endedAt, outcome } = attempt;
    this.statements.keepAttempt.run(row.id, attempt.claim, attempt.attempt, worker, startedAt, endedAt, outcome, row.lastError);
    // The attempt that is starting reaches the limit.
    if (attempt.claim >= maxAttemptsKept) this.statements.dropAttempts.run(row.id, attempt.claim + 1 - maxAttemptsKept);
  }

  readonly #hasSignal = (name: string) => this.statements.hasSignal.get(name) !== undefined;

  #earlier(id: string, claim: number): Attempt | undefined {
    const row = this.statements.attempt.get(id, claim);
    return row && attemptOf(row);
  }

  #count(before: SqliteRow, state: SqliteRow['state'], attempt: number, queue = before.queue): void {
    this.counts.add(before.queue, countedAs(before.state, before.attempt), -1);
    this.counts.add(queue, countedAs(state, attempt), 1);
  }
}

function belongsTo(
  group: SuccessGroup,
  { claim, queue, finishedAt, returnValue }: Job,
  progress: string | null,
  isPruned: boolean,
): boolean {
  const { job } = group;
  if (group.isPruned !== isPruned || job.claim !== claim || job.queue !== queue) return false;
  return isPruned || (job.finishedAt === finishedAt && group.progress === progress && job.returnValue === returnValue);
}

/** Thrown if a row has changed since it was claimed. */
const moved = new Error('moved');
