/**
 * The store without a file: rows in memory, indexed so that claiming costs the same beside any number of finished or future jobs. It keeps
 * the same laws as the durable stores and is the oracle they are compared with.
 *
 * A queued job is in one of two places: in `#future`, ordered by due time, or, once some caller's `now` has passed its due time, among the
 * ready jobs of its line (one heap for each queue and task, so that a paused queue or an unknown task hides only its own jobs). A caller
 * whose clock is behind puts undue jobs back. Nobody outside sees this staging.
 */
import { StoreError } from '../core/errors.ts';
import { Heap } from '../core/heap.ts';
import {
  alreadySettled,
  amended,
  claimed,
  comesBefore,
  ended,
  isExpired,
  isFenced,
  isFinished,
  settled,
  visibleStatus,
} from '../core/job.ts';
import { changesVersions } from '../core/schedule.ts';
import type { Amendment, Attempt, Job, JobRecord, QueueRow, ScheduleRow, Settlement, Status, WorkerRow } from '../core/types.ts';
import type {
  Advance,
  ClaimOptions,
  DueSchedule,
  Held,
  Hint,
  JobFilter,
  NextDue,
  QueueStats,
  RenewAnswer,
  SettleAnswer,
  Store,
  StoreSource,
} from '../ports/store.ts';

import { ReadyRow } from './ready.ts';
import { MemorySchedules } from './schedules.ts';

/** A row with its attempts and its places in the indexes. */
interface Node {
  job: Job;
  readonly attempts: Attempt[];
  readonly line: Line;
  futureAt: number;
  rowAt: number;
  heapAt: number;
  leaseAt: number;
  expiryAt: number;
  finishedPlace: number;
}

/** The ready jobs of one task in one queue. */
interface Line {
  readonly queue: string;
  readonly task: string;
  readonly ready: ReadyRow<Node>;
}

/** Which jobs a caller may claim. */
type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues'>;

const earlier = (a: number, b: number, x: Node, y: Node) => (a === b ? x.job.id < y.job.id : a < b);

function finishedHeap(): Heap<'finishedPlace', Node> {
  return new Heap('finishedPlace', (a, b) => earlier(a.job.finishedAt ?? 0, b.job.finishedAt ?? 0, a, b));
}

export class MemoryStore implements Store {
  readonly name = 'memory';
  readonly supports = { transactions: false };
  readonly pollMs = Number.POSITIVE_INFINITY;

  readonly #nodes = new Map<string, Node>();
  readonly #lines = new Map<string, Line>();
  /** For each array of task names, the lines that were found for it; forgotten when a line or a queue changes. */
  #served = new WeakMap<readonly string[], Pick<Served, 'queues' | 'excludeQueues'> & { readonly lines: readonly Line[] }>();
  readonly #queues = new Map<string, QueueRow>();
  readonly #workers = new Map<string, WorkerRow>();
  readonly #schedules = new MemorySchedules((id) => (this.#nodes.get(id) as Node).job);
  readonly #future = new Heap<'futureAt', Node>('futureAt', (a, b) => earlier(a.job.dueAt, b.job.dueAt, a, b));
  readonly #leases = new Heap<'leaseAt', Node>('leaseAt', (a, b) => earlier(a.job.leaseUntil ?? 0, b.job.leaseUntil ?? 0, a, b));
  readonly #expiries = new Heap<'expiryAt', Node>('expiryAt', (a, b) => earlier(a.job.expiresAt ?? 0, b.job.expiresAt ?? 0, a, b));
  /** Finished jobs by status, the one that finished first at the top. */
  readonly #finished = { successful: finishedHeap(), failed: finishedHeap(), cancelled: finishedHeap() };
  /** Queued jobs that had expired for some caller's `now`, until which they are kept out of the ready jobs. */
  readonly #aside = new Set<Node>();
  #asideAt = Number.NEGATIVE_INFINITY;
  #listeners: ((hint: Hint) => void)[] = [];

  migrate(): void {}
  close(): void {}

  insert(jobs: readonly Job[], options: { now: number; transaction?: unknown }): void {
    refuseTransaction(options.transaction);
    this.#refuseTaken(jobs);
    const taken = jobs.find((job) => job.schedule !== null && this.#schedules.isTaken(job));
    if (taken) {
      const { schedule, scheduledAt } = taken;
      throw new StoreError(`the occurrence of schedule ${schedule} at ${scheduledAt} has a job already`, { kind: 'conflict' });
    }
    for (const job of jobs) {
      if (job.schedule !== null) this.#schedules.take(job);
      this.#add(job, options.now);
    }
    this.#hintQueued(jobs);
  }

  claim(options: ClaimOptions & { now: number }): readonly Job[] {
    const { now, limit } = options;
    if (limit <= 0) return [];
    this.#stage(now);
    const lines = this.#linesFor(options);
    const jobs: Job[] = [];
    while (jobs.length < limit) {
      let best: Line | undefined;
      for (const line of lines) {
        const node = this.#due(line, now);
        if (node && (best === undefined || comesBefore(node.job, (best.ready.peek() as Node).job))) best = line;
      }
      if (!best) break;
      jobs.push(this.#lease(best.ready.peek() as Node, options));
    }
    if (jobs.length > 0) this.#notify({ overdueAt: options.leaseUntil, by: options.worker });
    return jobs;
  }

  renew(held: readonly Held[], options: { now: number; leaseUntil: number }): readonly RenewAnswer[] {
    return held.map(({ id, claim, progress }) => {
      const node = this.#nodes.get(id);
      if (node?.job.status !== 'running' || node.job.claim !== claim) return { kind: 'lost' };
      node.job = { ...node.job, leaseUntil: options.leaseUntil, progress: progress ?? node.job.progress };
      this.#leases.moved(node);
      return node.job.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: node.job.cancelRequested };
    });
  }

  settle(
    settlements: readonly Settlement[],
    options: { now: number; claim?: ClaimOptions | undefined; transaction?: unknown },
  ): { answers: readonly SettleAnswer[]; claimed: readonly Job[] } {
    refuseTransaction(options.transaction);
    const answers = settlements.map((settlement) => this.#settle(settlement, options.now));
    return { answers, claimed: options.claim ? this.claim({ ...options.claim, now: options.now }) : [] };
  }

  overdue(options: { now: number; limit: number }): readonly Job[] {
    // Taken out and put back: heaps are ordered only at the top, and there are few.
    const { now, limit } = options;
    const found: Node[] = [];
    for (let node = this.#nextOverdue(); node && found.length < limit; node = this.#nextOverdue()) {
      if (overdueAt(node) > now) break;
      this.#leases.remove(node);
      this.#expiries.remove(node);
      found.push(node);
    }
    for (const node of found) (node.job.status === 'running' ? this.#leases : this.#expiries).push(node as never);
    return found.map((node) => node.job);
  }

  nextDueAt(options: Served & { now: number }): NextDue {
    this.#stage(options.now);
    const lines = this.#linesFor(options);
    let jobAt: number | null = null;
    for (const line of lines) if (this.#due(line, options.now)) jobAt = options.now;
    if (jobAt === null && lines.length > 0 && this.#future.size > 0) jobAt = this.#nextFuture(new Set(lines));
    const overdue = this.#nextOverdue();
    return { jobAt, overdueAt: overdue ? overdueAt(overdue) : null };
  }

  amend(amendments: readonly Amendment[], options: { now: number }): readonly (Job | null)[] {
    const jobs = amendments.map((amendment) => {
      const node = this.#nodes.get(amendment.id);
      const job = node && amended(node.job, amendment);
      if (!node || !job) return null;
      if (amendment.set) this.#replace(node, job, options.now);
      else this.#delete(node);
      return job;
    });
    const changed = jobs.filter((job, i): job is Job => job !== null && amendments[i]?.set !== null);
    this.#hintQueued(changed);
    if (changed.some((job) => job.status === 'running' && job.cancelRequested !== null)) this.#notify({ cancelled: true });
    if (jobs.some((job) => job && (isFinished(job) || !this.#nodes.has(job.id)))) this.#notify({ finished: true });
    return jobs;
  }

  prune(options: { status: 'successful' | 'failed' | 'cancelled'; finishedBefore: number; limit: number }): number {
    const finished = this.#finished[options.status];
    let count = 0;
    for (let node = finished.peek(); node && count < options.limit; node = finished.peek()) {
      if ((node.job.finishedAt ?? 0) >= options.finishedBefore) break;
      finished.remove(node);
      this.#nodes.delete(node.job.id);
      this.#schedules.free(node.job);
      count += 1;
    }
    return count;
  }

  saveWorker(worker: WorkerRow, options: { forgetBefore: number }): void {
    const before = this.#workers.get(worker.id);
    this.#workers.set(worker.id, worker);
    for (const { id, heartbeatAt } of this.#workers.values()) if (heartbeatAt < options.forgetBefore) this.#workers.delete(id);
    if (changesVersions(before, worker)) this.#notify({ workers: true });
  }

  listWorkers(): readonly WorkerRow[] {
    return [...this.#workers.values()].sort((a, b) => a.startedAt - b.startedAt || (a.id < b.id ? -1 : 1));
  }

  saveQueue(queue: QueueRow): void {
    this.#queues.set(queue.name, queue);
    this.#served = new WeakMap();
    if (!queue.paused) this.#notify({});
  }

  saveSchedule(row: ScheduleRow, options: { expect: number | null }): boolean {
    if ((this.#schedules.get(row.name)?.revision ?? null) !== options.expect) return false;
    this.#schedules.put(row);
    if (row.nextAt !== null) this.#notify({ scheduleAt: row.nextAt });
    return true;
  }

  dropSchedule(name: string): boolean {
    return this.#schedules.drop(name);
  }

  listSchedules(options?: Parameters<Store['listSchedules']>[0]): readonly ScheduleRow[] {
    return this.#schedules.list(options);
  }

  dueSchedules(options: Parameters<Store['dueSchedules']>[0]): { due: readonly DueSchedule[]; nextAt: number | null; holding: boolean } {
    return this.#schedules.due(options);
  }

  advanceSchedules(advances: readonly Advance[], options: { now: number }): readonly (readonly Job[] | null)[] {
    for (const { name, revision, jobs } of advances) {
      if (this.#schedules.get(name)?.revision === revision) this.#refuseTaken(jobs);
    }
    return advances.map(({ name, revision, times, jobs: brought }) => {
      const row = this.#schedules.get(name);
      if (!row || row.revision !== revision) return null;
      const jobs = brought.filter((job) => this.#schedules.take(job));
      for (const job of jobs) this.#add(job, options.now);
      const { nextAt, occurrenceAt, lastAt, heldAt, runs } = times;
      this.#schedules.put({ ...row, nextAt, occurrenceAt, lastAt, heldAt, runs, revision: revision + 1 });
      this.#hintQueued(jobs);
      if (nextAt !== null && this.#listeners.length > 1) this.#notify({ scheduleAt: nextAt });
      return jobs;
    });
  }

  get(ids: readonly string[]): readonly (JobRecord | null)[] {
    return ids.map((id) => {
      const node = this.#nodes.get(id);
      return node ? record(node) : null;
    });
  }

  list(
    filter: JobFilter,
    options: { now: number; limit: number; cursor?: string | undefined },
  ): { items: readonly JobRecord[]; cursor: string | null } {
    const wanted = filter.status && new Set<Status>(filter.status);
    const ids = filter.ids && new Set(filter.ids);
    const matches: Node[] = [];
    for (const node of this.#nodes.values()) {
      const { job } = node;
      if (options.cursor !== undefined && job.id >= options.cursor) continue;
      if (filter.task !== undefined && job.task !== filter.task) continue;
      if (filter.queue !== undefined && job.queue !== filter.queue) continue;
      if (filter.schedule !== undefined && job.schedule !== filter.schedule) continue;
      if (filter.tag !== undefined && !job.tags.includes(filter.tag)) continue;
      if (ids && !ids.has(job.id)) continue;
      if (wanted && !wanted.has(visibleStatus(job, options.now))) continue;
      matches.push(node);
    }
    matches.sort((a, b) => (a.job.id < b.job.id ? 1 : -1));
    const page = matches.slice(0, options.limit);
    return { items: page.map(record), cursor: matches.length > page.length ? ((page.at(-1) as Node | undefined)?.job.id ?? null) : null };
  }

  stats(options: { now: number }): readonly QueueStats[] {
    const byQueue = new Map<string, { counts: Record<Status, number>; oldestReadyAt: number | null }>();
    const of = (queue: string) => {
      let found = byQueue.get(queue);
      if (!found) {
        found = {
          counts: { waiting: 0, scheduled: 0, ready: 0, retrying: 0, running: 0, successful: 0, failed: 0, cancelled: 0 },
          oldestReadyAt: null,
        };
        byQueue.set(queue, found);
      }
      return found;
    };
    for (const queue of this.#queues.keys()) of(queue);
    for (const { job } of this.#nodes.values()) {
      const stats = of(job.queue);
      const status = visibleStatus(job, options.now);
      stats.counts[status] += 1;
      if (status === 'ready' && (stats.oldestReadyAt === null || job.dueAt < stats.oldestReadyAt)) stats.oldestReadyAt = job.dueAt;
    }
    return [...byQueue.entries()]
      .map(([name, stats]) => ({ name, paused: this.#queues.get(name)?.paused ?? false, ...stats }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  listen(notify: (hint: Hint) => void): () => void {
    this.#listeners = [...this.#listeners, notify];
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== notify);
    };
  }

  #refuseTaken(jobs: readonly Job[]): void {
    const [only] = jobs;
    if (only && jobs.length === 1 && !this.#nodes.has(only.id)) return;
    const ids = new Set<string>();
    for (const { id } of jobs) {
      if (this.#nodes.has(id) || ids.has(id)) throw new StoreError(`a job with the id ${id} is there already`, { kind: 'conflict' });
      ids.add(id);
    }
  }

  #add(job: Job, now: number): void {
    const node: Node = {
      job,
      attempts: [],
      line: this.#line(job.queue, job.task),
      futureAt: -1,
      rowAt: -1,
      heapAt: -1,
      leaseAt: -1,
      expiryAt: -1,
      finishedPlace: -1,
    };
    this.#nodes.set(job.id, node);
    if (job.schedule !== null && !isFinished(job)) this.#schedules.opened(job);
    this.#index(node, now);
  }

  #lease(node: Node, options: ClaimOptions & { now: number }): Job {
    const job = claimed(node.job, options.worker, options.now, options.leaseUntil);
    this.#replace(node, job, options.now);
    node.attempts.push({
      attempt: job.attempt,
      claim: job.claim,
      worker: options.worker,
      startedAt: options.now,
      endedAt: null,
      outcome: null,
      error: null,
    });
    return job;
  }

  #settle(settlement: Settlement, now: number): SettleAnswer {
    const node = this.#nodes.get(settlement.id);
    if (!node) return 'stale';
    const last = node.attempts.at(-1);
    if (node.job.status !== 'running' || isFenced(node.job, settlement) || !last) {
      const own = node.attempts.findLast((attempt) => attempt.claim === settlement.claim);
      if (!alreadySettled(own, settlement)) return 'stale';
      const cancelled = settlement.status === 'queued' && node.job.status === 'cancelled' && node.job.finishedAt === settlement.settledAt;
      return cancelled && own === last ? 'cancelled' : 'settled';
    }
    if (settlement.confirm) return 'stale';
    const job = settled(node.job, settlement);
    this.#replace(node, job, now);
    node.attempts[node.attempts.length - 1] = ended(last, settlement);
    if (job.status === 'queued') this.#hintQueued([job]);
    else this.#notify({ finished: true });
    return job.status === 'cancelled' && settlement.status === 'queued' ? 'cancelled' : 'settled';
  }

  /** Takes the node out of the indexes. */
  #unindex(node: Node): void {
    this.#future.remove(node);
    node.line.ready.remove(node);
    this.#leases.remove(node);
    this.#expiries.remove(node);
    this.#aside.delete(node);
    const before = node.job.status;
    if (before === 'successful' || before === 'failed' || before === 'cancelled') this.#finished[before].remove(node);
  }

  #delete(node: Node): void {
    this.#unindex(node);
    this.#nodes.delete(node.job.id);
    if (node.job.schedule !== null) this.#schedules.closed(node.job);
    this.#schedules.free(node.job);
  }

  /** Gives the node its new row, and its places in the indexes. */
  #replace(node: Node, job: Job, now: number): void {
    this.#unindex(node);
    if (job.schedule !== null && isFinished(node.job) !== isFinished(job)) {
      if (isFinished(job)) this.#schedules.closed(job);
      else this.#schedules.opened(job);
    }
    node.job = job;
    this.#index(node, now);
  }

  #index(node: Node, now: number): void {
    const { job } = node;
    switch (job.status) {
      case 'queued':
        if (job.dueAt <= now) node.line.ready.push(node);
        else this.#future.push(node);
        if (job.expiresAt !== null && job.startedAt === null) this.#expiries.push(node);
        break;
      case 'running':
        this.#leases.push(node);
        break;
      case 'waiting':
        break;
      default:
        this.#finished[job.status].push(node);
    }
  }

  /** Moves what has become due into the lines of ready jobs. */
  #stage(now: number): void {
    if (now < this.#asideAt && this.#aside.size > 0) {
      for (const node of this.#aside) node.line.ready.push(node);
      this.#aside.clear();
    }
    for (let node = this.#future.peek(); node && node.job.dueAt <= now; node = this.#future.peek()) {
      this.#future.remove(node);
      node.line.ready.push(node);
    }
  }

  /** The line's first job that may be claimed at this instant, which is then at the top of its heap. */
  #due(line: Line, now: number): Node | undefined {
    for (;;) {
      const node = line.ready.peek();
      if (!node) return undefined;
      if (node.job.dueAt > now) {
        // Staged by a caller whose clock is ahead of this one's.
        line.ready.remove(node);
        this.#future.push(node);
      } else if (isExpired(node.job, now)) {
        // Not claimable any more, and found by `overdue`; kept out of the way, but still queued.
        line.ready.remove(node);
        this.#aside.add(node);
        this.#asideAt = Math.max(this.#asideAt, now);
      } else return node;
    }
  }

  /** The lines that a caller serves. Callers pass the same array of task names again and again, so the answer is kept for it. */
  #linesFor(options: Served): readonly Line[] {
    const kept = this.#served.get(options.tasks);
    if (kept && kept.queues === options.queues && kept.excludeQueues === options.excludeQueues) return kept.lines;
    const lines = [...this.#lines.values()].filter(
      ({ queue, task }) =>
        !this.#queues.get(queue)?.paused &&
        (options.queues?.includes(queue) ?? true) &&
        !options.excludeQueues?.includes(queue) &&
        options.tasks.includes(task),
    );
    this.#served.set(options.tasks, { queues: options.queues, excludeQueues: options.excludeQueues, lines });
    return lines;
  }

  #line(queue: string, task: string): Line {
    // Names hold no spaces, so the key is unique.
    const key = `${queue} ${task}`;
    let line = this.#lines.get(key);
    if (!line) {
      line = { queue, task, ready: new ReadyRow<Node>((a, b) => comesBefore(a.job, b.job)) };
      this.#lines.set(key, line);
      this.#served = new WeakMap();
    }
    return line;
  }

  #nextFuture(lines: ReadonlySet<Line>): number | null {
    const first = this.#future.peek();
    if (!first || lines.has(first.line)) return first?.job.dueAt ?? null;
    // The first belongs to a line that the asker does not serve: look through the others.
    let next: number | null = null;
    for (const node of this.#future.items) {
      if (lines.has(node.line) && (next === null || node.job.dueAt < next)) next = node.job.dueAt;
    }
    return next;
  }

  #nextOverdue(): Node | undefined {
    const lease = this.#leases.peek();
    const expiry = this.#expiries.peek();
    if (!lease || !expiry) return lease ?? expiry;
    return earlier(overdueAt(lease), overdueAt(expiry), lease, expiry) ? lease : expiry;
  }

  #hintQueued(jobs: readonly Job[]): void {
    if (this.#listeners.length === 0) return;
    let dueAt = Number.POSITIVE_INFINITY;
    let expiresAt = Number.POSITIVE_INFINITY;
    for (const job of jobs) {
      if (job.status !== 'queued') continue;
      dueAt = Math.min(dueAt, job.dueAt);
      if (job.expiresAt !== null && job.startedAt === null) expiresAt = Math.min(expiresAt, job.expiresAt);
    }
    if (dueAt < Number.POSITIVE_INFINITY) this.#notify(expiresAt < Number.POSITIVE_INFINITY ? { dueAt, overdueAt: expiresAt } : { dueAt });
  }

  #notify(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }
}

function overdueAt(node: Node): number {
  return (node.job.status === 'running' ? node.job.leaseUntil : node.job.expiresAt) ?? Number.POSITIVE_INFINITY;
}

function record(node: Node): JobRecord {
  return { job: node.job, attempts: node.attempts.slice() };
}

function refuseTransaction(transaction: unknown): void {
  if (transaction === undefined) return;
  throw new StoreError(
    'the memory store cannot join a transaction; to test code that enqueues in one, use simulate(tasks, { store: sqlite({ database: db }) })',
    { kind: 'unsupported' },
  );
}

/**
 * Keeps jobs in memory, run by the same engine as in production. They are gone when the process ends.
 * @example createTasks({ backend: memory() })
 */
export function memory(): StoreSource {
  return { kind: 'store', name: 'memory', shared: false, open: () => new MemoryStore() };
}
