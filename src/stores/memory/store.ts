/**
 * The in-memory store. Its indexes keep the cost of a claim independent of the number of finished and future jobs. It obeys the same laws
 * as the durable stores and is the oracle that they are compared with.
 */
import { hintsOf, planAmendment, planSettlement } from '../../core/changes.ts';
import { DuplicateJobError, StoreError } from '../../core/errors.ts';
import { agingOf, Gate, gateOf, maxPassedOver, noLimits, takesPlace } from '../../core/gate.ts';
import {
  changedAt,
  claimed,
  comesBefore,
  isFinished,
  maxAttemptsKept,
  signalled,
  visibleStatus,
  withoutOldStacks,
} from '../../core/job.ts';
import { appended, logBlob } from '../../core/log.ts';
import { changesVersions } from '../../core/schedule.ts';
import { signalValue, stepsRunAgain, undoableStep } from '../../core/steps.ts';
import type { Amendment, Job, JobRecord, QueueRow, ScheduleRow, Settlement, Signal, Status, Step, WorkerRow } from '../../core/types.ts';
import { duplicateOf, heldKey, isStanding, replacement } from '../../core/unique.ts';
import { type Edge, type Edges, edgeConflict, edgesOf, follow, isRevived, obstaclesOf, type Parts, walkSync } from '../../core/workflow.ts';
import type {
  Advance,
  Amended,
  ClaimOptions,
  DueSchedule,
  Held,
  Hint,
  JobBlob,
  JobFilter,
  JobOrder,
  NextDue,
  PruneOptions,
  QueueStats,
  RenewAnswer,
  Settled,
  Store,
  WantedSignal,
} from '../../ports/store.ts';
import { MemoryEdges } from './edges.ts';
import { Indexes, type Line, type Node, overdueAt, type Served } from './indexes.ts';
import { MemorySchedules } from './schedules.ts';

export class MemoryStore implements Store {
  readonly name = 'memory';
  readonly supports = { transactions: false };
  readonly pollMs = Number.POSITIVE_INFINITY;

  readonly #nodes = new Map<string, Node>();
  readonly #queues = new Map<string, QueueRow>();
  readonly #indexes = new Indexes((queue) => this.#queues.get(queue)?.paused ?? false);
  readonly #workers = new Map<string, WorkerRow>();
  readonly #blobs = new Map<string, Map<string, Uint8Array>>();
  readonly #schedules = new MemorySchedules((id) => this.#job(id));
  /** The holder of each unique key. */
  readonly #keys = new Map<string, Node>();
  readonly #steps = new Map<string, Map<string, Step>>();
  readonly #signals = new Map<string, readonly Signal[]>();
  /** The jobs that wait for each signal. */
  readonly #awaiting = new Map<string, Set<Node>>();
  readonly #edges = new MemoryEdges();
  /** The jobs of each workflow. */
  readonly #workflows = new Map<string, Set<Node>>();
  /** The theoretical arrival times of rates, by name. */
  readonly #rates = new Map<string, number>();
  #listeners: ((hint: Hint) => void)[] = [];

  migrate(): void {}
  close(): void {}

  insert(
    given: readonly Job[],
    options: {
      now: number;
      transaction?: unknown;
      once?: boolean | undefined;
      blobs?: readonly JobBlob[] | undefined;
      edges?: readonly Edge[] | undefined;
    },
  ): readonly (JobRecord | null)[] | undefined {
    refuseTransaction(options.transaction);
    const existing = options.once ? this.get(given.map(({ id }) => id)) : undefined;
    const jobs = existing ? given.filter((_, i) => existing[i] === null) : given;
    this.#refuseTaken(jobs);
    const edges = edgesOf(jobs, options.edges);
    this.#refuseEdges(edges, jobs);
    const isUnique = jobs.some(({ unique }) => unique !== null);
    if (isUnique) this.#refuseDuplicates(jobs, options.now);
    const taken = jobs.find((job) => job.schedule !== null && this.#schedules.isTaken(job));
    if (taken) {
      const { schedule, scheduledAt } = taken;
      throw new StoreError(`the occurrence of schedule ${schedule} at ${scheduledAt} already has a job`, { kind: 'conflict' });
    }
    const standing = isUnique ? new Map<Job, JobRecord>() : undefined;
    for (const job of jobs) {
      const other = standing && this.#existing(job, options.now);
      if (other) {
        standing.set(job, other);
        continue;
      }
      if (job.schedule !== null) this.#schedules.take(job);
      this.#add(job, options.now);
    }
    for (const edge of edges) this.#edges.add(edge);
    if (options.blobs) {
      const ids = new Set(jobs.filter((job) => !standing?.has(job)).map(({ id }) => id));
      for (const blob of options.blobs) if (ids.has(blob.job)) this.#keepBlob(blob.job, blob);
    }
    this.#hint(standing ? jobs.map((job) => standing.get(job)?.job ?? job) : jobs);
    return standing ? given.map((job, i) => existing?.[i] ?? standing.get(job) ?? null) : existing;
  }

  claim(options: ClaimOptions & { now: number }): readonly Job[] {
    const { now, limit } = options;
    if (limit <= 0) return [];
    this.#indexes.stage(now);
    const lines = this.#indexes.linesFor(options);
    const gate = this.#gate(options, lines, now, limit);
    const closed = new Set<Line>();
    const jobs: Job[] = [];
    if (gate && options.limits) this.#claimAged(options, lines, gate, jobs);
    let isSwept = gate === undefined;
    for (let passedOver = 0; jobs.length < limit && passedOver < maxPassedOver; ) {
      let best: Line | undefined;
      for (const line of lines) {
        const node = closed.has(line) ? undefined : this.#indexes.due(line, now);
        if (node && (best === undefined || comesBefore(node.job, (best.ready.peek() as Node).job))) best = line;
      }
      if (!best) {
        if (isSwept || !gate) break;
        isSwept = true;
        for (const name of this.#indexes.blockedGates(options.tasks)) this.#indexes.unblock(name, gate.freeAt(name));
        continue;
      }
      const node = best.ready.peek() as Node;
      const admission = gate?.admit(node.job) ?? 'start';
      if (admission === 'start') jobs.push(this.#lease(node, options));
      else if (admission === 'closed') closed.add(best);
      else {
        passedOver += 1;
        if (admission === 'blocked') this.#indexes.block(node);
        else this.#replace(node, { ...node.job, dueAt: admission.dueAt }, now);
      }
    }
    for (const [name, arrivalAt] of gate?.changed ?? []) this.#rates.set(name, arrivalAt);
    if (jobs.length > 0) this.#notify({ overdueAt: options.leaseUntil, by: options.worker });
    return jobs;
  }

  /** Claims jobs that have been due for a long time first. */
  #claimAged(options: ClaimOptions & { now: number }, lines: readonly Line[], gate: Gate, jobs: Job[]): void {
    const { now, limit } = options;
    for (const [queue, agingMs] of agingOf(options.limits ?? noLimits)) {
      let passedOver = 0;
      for (const node of this.#indexes.aged(lines, queue, now - agingMs, now, limit + maxPassedOver)) {
        if (jobs.length >= limit || passedOver >= maxPassedOver) return;
        const admission = gate.admit(node.job);
        if (admission === 'closed') continue;
        if (admission === 'start') jobs.push(this.#lease(node, options));
        else {
          passedOver += 1;
          if (admission === 'blocked') this.#indexes.block(node);
          else this.#replace(node, { ...node.job, dueAt: admission.dueAt }, now);
        }
      }
    }
  }

  renew(held: readonly Held[], options: { now: number; leaseUntil: number }): readonly RenewAnswer[] {
    return held.map(({ id, claim, progress, log, metadata }) => {
      const node = this.#nodes.get(id);
      if (node?.job.status !== 'running' || node.job.claim !== claim) return { kind: 'lost' };
      const { job } = node;
      node.job = { ...job, leaseUntil: options.leaseUntil, progress: progress ?? job.progress, metadata: metadata ?? job.metadata };
      this.#addLog(id, log);
      this.#indexes.renewed(node);
      return node.job.cancelRequested === null ? { kind: 'held' } : { kind: 'cancelled', reason: node.job.cancelRequested };
    });
  }

  settle(settlements: readonly Settlement[], options: { now: number; claim?: ClaimOptions | undefined; transaction?: unknown }): Settled {
    refuseTransaction(options.transaction);
    const parts: Job[] = [];
    const settled = settlements.map((settlement) => this.#settle(settlement, options.now, parts));
    const dependents = this.#follow(parts, options.now);
    return { settled, dependents, claimed: options.claim ? this.claim({ ...options.claim, now: options.now }) : [] };
  }

  saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): boolean {
    if (!this.#holds(held)) return false;
    const kept = this.#steps.get(held.id) ?? new Map<string, Step>();
    this.#steps.set(held.id, kept);
    for (const step of steps) kept.set(step.name, step);
    return true;
  }

  getSteps(ids: readonly string[]): readonly (readonly Step[])[] {
    return ids.map((id) => [...(this.#steps.get(id)?.values() ?? [])]);
  }

  sendSignal(signal: Signal, options: { now: number; transaction?: unknown }): void {
    refuseTransaction(options.transaction);
    this.#signals.set(signal.name, [...(this.#signals.get(signal.name) ?? []), signal]);
    const woken: Job[] = [];
    for (const node of [...(this.#awaiting.get(signal.name) ?? [])]) {
      const job = signalled(node.job, signal.name, options.now);
      if (!job) continue;
      this.#replace(node, job, options.now);
      woken.push(job);
    }
    this.#hint(woken);
  }

  takeSignal(held: Pick<Held, 'id' | 'claim'>, { name, step }: WantedSignal): Signal | null | false {
    if (!this.#holds(held)) return false;
    const [signal, ...others] = this.#signals.get(name) ?? [];
    if (!signal) return null;
    if (others.length > 0) this.#signals.set(name, others);
    else this.#signals.delete(name);
    this.saveSteps(held, [{ ...step, value: signalValue(signal) }]);
    return signal;
  }

  #holds({ id, claim }: Pick<Held, 'id' | 'claim'>): boolean {
    const job = this.#nodes.get(id)?.job;
    return job?.status === 'running' && job.claim === claim;
  }

  saveBlobs({ id, claim }: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): boolean {
    if (!this.#holds({ id, claim })) return false;
    for (const blob of blobs) this.#keepBlob(id, blob);
    return true;
  }

  overdue(options: { now: number; limit: number }): readonly Job[] {
    const found = this.#indexes.overdue(options.now, options.limit);
    return found.map((node) => node.job);
  }

  nextDueAt(options: Served & Pick<ClaimOptions, 'limits'> & { now: number }): NextDue {
    const { now } = options;
    this.#indexes.stage(now);
    const lines = this.#indexes.linesFor(options);
    const gate = this.#gate(options, lines, now);
    let dueAt = Number.POSITIVE_INFINITY;
    for (const line of lines) {
      if (!this.#indexes.due(line, now)) continue;
      const opensAt = gate ? Math.max(gate.queueClosedUntil(line.queue) ?? now, gate.taskClosedUntil(line.task) ?? now) : now;
      dueAt = Math.min(dueAt, opensAt);
    }
    if (gate && this.#indexes.blockedGates(options.tasks).some((name) => gate.freeAt(name) > 0)) dueAt = now;
    if (dueAt > now && lines.length > 0) dueAt = Math.min(dueAt, this.#indexes.nextFuture(lines) ?? Number.POSITIVE_INFINITY);
    const jobAt = dueAt === Number.POSITIVE_INFINITY ? null : dueAt;
    const overdue = this.#indexes.nextOverdue();
    const pruneAt = this.#indexes.nextPruneAt();
    return { jobAt, overdueAt: overdue ? overdueAt(overdue) : null, ...(pruneAt === undefined ? {} : { pruneAt }) };
  }

  amend(amendments: readonly Amendment[], options: { now: number }): Amended {
    const changed: Job[] = [];
    const revived = amendments.flatMap(({ id, set }) => {
      const job = set?.status === 'queued' ? this.#nodes.get(id)?.job : undefined;
      return job && job.workflow !== null && isFinished(job) ? [job] : [];
    });
    const obstacles = walkSync(obstaclesOf(revived, this.#parts(options.now)));
    const jobs = amendments.map((amendment) => {
      const node = this.#nodes.get(amendment.id);
      if (!node) return null;
      const { job, blockedPlace } = node;
      const row = { job, isBlocked: blockedPlace >= 0, isWaiting: this.#edges.isWaiting(job.id), obstacle: obstacles.get(job.id) };
      const { answer, change } = planAmendment(row, amendment, options.now);
      if (!change) return answer;
      const holder = this.#holderOf(change.wantedKey, options.now);
      if (holder) return holder.job;
      if (change.job) this.#replace(node, change.job, options.now);
      else this.#delete(node);
      if (change.leavesPlace) this.#indexes.unblock(gateOf(job));
      if (change.followed) changed.push(change.followed);
      return answer;
    });
    const dependents = this.#follow(changed, options.now);
    this.#hint(jobs.filter((job, i): job is Job => job !== null && amendments[i]?.set !== null));
    if (jobs.some((job, i) => job !== null && amendments[i]?.set === null)) this.#notify({ finished: true });
    return { amended: jobs, dependents };
  }

  getEdges(ids: readonly string[]): readonly Edges[] {
    return ids.map((id) => this.#edges.of(id));
  }

  prune(options: PruneOptions): number {
    const finished = this.#indexes.finished[options.status];
    let count = 0;
    for (let node = finished.next(options); node && count < options.limit; node = finished.next(options)) {
      finished.remove(node);
      this.#forget(node);
      this.#schedules.free(node.job);
      count += 1;
    }
    // Arrival times in the past have no effect on future jobs.
    if (count < options.limit)
      for (const [name, arrivalAt] of this.#rates) if (arrivalAt < options.finishedBefore) this.#rates.delete(name);
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
    this.#indexes.changed();
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
      const jobs = brought.filter((job) => {
        if (this.#holderOf(heldKey(job), options.now) || !this.#schedules.take(job)) return false;
        this.#add(job, options.now);
        return true;
      });
      const { nextAt, occurrenceAt, lastAt, heldAt, runs } = times;
      this.#schedules.put({ ...row, nextAt, occurrenceAt, lastAt, heldAt, runs, revision: revision + 1 });
      this.#hint(jobs);
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
    options: { now: number; limit: number; cursor?: string | undefined; order?: JobOrder | undefined },
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
      if (filter.workflow !== undefined && job.workflow !== filter.workflow) continue;
      if (filter.enqueuedBy !== undefined && job.enqueuedBy !== filter.enqueuedBy) continue;
      if (ids && !ids.has(job.id)) continue;
      if (wanted && !wanted.has(visibleStatus(job, options.now))) continue;
      matches.push(node);
    }
    matches.sort((a, b) => (a.job.id < b.job.id ? 1 : -1));
    if (options.order === 'changed') {
      const latest = matches.map((node) => ({ node, at: changedAt(node) })).sort((a, b) => b.at - a.at);
      return { items: latest.slice(0, options.limit).map(({ node }) => listed(node)), cursor: null };
    }
    const page = matches.slice(0, options.limit);
    return { items: page.map(listed), cursor: matches.length > page.length ? ((page.at(-1) as Node | undefined)?.job.id ?? null) : null };
  }

  getBlobs(ids: readonly string[], name: string): readonly (Uint8Array | null)[] {
    return ids.map((id) => this.#blobs.get(id)?.get(name)?.slice() ?? null);
  }

  stats(options: { now: number }): readonly QueueStats[] {
    const byQueue = new Map<string, { counts: Record<Status, number>; oldestReadyAt: number | null }>();
    const countsOf = (queue: string) => {
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
    for (const queue of this.#queues.keys()) countsOf(queue);
    for (const { job } of this.#nodes.values()) {
      const stats = countsOf(job.queue);
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

  #addLog(id: string, lines: readonly string[] | undefined): void {
    if (lines) this.#keepBlob(id, { name: logBlob, bytes: appended(this.#blobs.get(id)?.get(logBlob), lines) });
  }

  #keepBlob(id: string, { name, bytes }: Omit<JobBlob, 'job'>): void {
    const blobs = this.#blobs.get(id) ?? new Map<string, Uint8Array>();
    this.#blobs.set(id, blobs.set(name, bytes.slice()));
  }

  #refuseTaken(jobs: readonly Job[]): void {
    const [only] = jobs;
    if (only && jobs.length === 1 && !this.#nodes.has(only.id)) return;
    const ids = new Set<string>();
    for (const { id } of jobs) {
      if (this.#nodes.has(id) || ids.has(id)) throw new StoreError(`a job with the id ${id} already exists`, { kind: 'conflict' });
      ids.add(id);
    }
  }

  /** Undefined if there is nothing to count. */
  #gate({ limits, tasks }: Pick<ClaimOptions, 'limits' | 'tasks'>, lines: readonly Line[], now: number, slots = 1): Gate | undefined {
    if (!limits && this.#indexes.blockedGates(tasks).length === 0) return undefined;
    const keys = (task: string) => this.#indexes.dueKeys(lines, task, now);
    return new Gate(limits ?? noLimits, this.#indexes.running(), now, (name) => this.#rates.get(name), { slots, keys });
  }

  #refuseDuplicates(jobs: readonly Job[], now: number): void {
    const keys = new Map<string, Job>();
    for (const job of jobs) {
      const key = heldKey(job);
      if (key === null) continue;
      const holder = this.#holderOf(key, now)?.job ?? keys.get(key);
      if (holder && job.unique?.onConflict === 'reject') throw new DuplicateJobError(...duplicateOf(job, holder));
      if (!holder) keys.set(key, job);
    }
  }

  /** The existing record returned in place of a job because it holds its unique key; replaced if the job requests it. */
  #existing(job: Job, now: number): JobRecord | undefined {
    const holder = this.#holderOf(heldKey(job), now);
    if (!holder) return undefined;
    const set = job.unique?.onConflict === 'replace' ? replacement(holder.job, job) : undefined;
    if (set) this.#replace(holder, { ...holder.job, ...set }, now);
    return record(holder);
  }

  /** The job that holds a unique key and keeps others from taking it. */
  #holderOf(key: string | null, now: number): Node | undefined {
    const node = key === null ? undefined : this.#keys.get(key);
    return node && isStanding(node.job, now) ? node : undefined;
  }

  /** Takes or gives up the node's unique key after a change of status. */
  #hold(node: Node, now: number): void {
    const key = heldKey(node.job);
    if (key === null) this.#release(node);
    else if (!this.#holderOf(key, now)) this.#keys.set(key, node);
  }

  #release({ job }: Node): void {
    if (job.unique && this.#keys.get(job.unique.key)?.job.id === job.id) this.#keys.delete(job.unique.key);
  }

  #add(job: Job, now: number): void {
    const node = this.#indexes.nodeOf(job);
    this.#nodes.set(job.id, node);
    if (job.workflow !== null) this.#workflows.set(job.workflow, (this.#workflows.get(job.workflow) ?? new Set()).add(node));
    if (job.unique) this.#hold(node, now);
    if (job.schedule !== null && !isFinished(job)) this.#schedules.opened(job);
    this.#indexes.add(node, now);
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
    if (node.attempts.length > maxAttemptsKept) node.attempts.shift();
    return job;
  }

  readonly #hasSignal = (name: string) => this.#signals.has(name);

  /** @param parts receives the row if other jobs may wait for it */
  #settle(settlement: Settlement, now: number, parts: Job[]): Job | null {
    const node = this.#nodes.get(settlement.id);
    if (!node) return null;
    const last = node.attempts.at(-1);
    const own = last?.claim === settlement.claim ? last : node.attempts.findLast(({ claim }) => claim === settlement.claim);
    const { answer: job, attempt, isPruned } = planSettlement(node.job, own, settlement, this.#hasSignal);
    if (!job || !attempt) return job;
    this.#addLog(settlement.id, settlement.log);
    this.#replace(node, job, now);
    if (this.#indexes.hasBlocked) this.#indexes.unblock(gateOf(job));
    node.attempts[node.attempts.length - 1] = attempt;
    this.#hint([job]);
    if (job.workflow !== null && isFinished(job)) parts.push(job);
    if (isPruned) this.#delete(node);
    return job;
  }

  #delete(node: Node): void {
    this.#indexes.remove(node);
    if (node.job.awaits !== null) this.#awaiting.get(node.job.awaits)?.delete(node);
    this.#forget(node);
    if (node.job.schedule !== null) this.#schedules.closed(node.job);
    this.#schedules.free(node.job);
  }

  /** Removes everything stored under the job's id. */
  #forget(node: Node): void {
    const { id, workflow } = node.job;
    this.#nodes.delete(id);
    this.#release(node);
    this.#blobs.delete(id);
    this.#steps.delete(id);
    this.#edges.forget(id);
    const parts = workflow === null ? undefined : this.#workflows.get(workflow);
    parts?.delete(node);
    if (workflow !== null && parts?.size === 0) this.#workflows.delete(workflow);
  }

  /** Law 8. */
  #follow(changed: readonly Job[], now: number): readonly Job[] {
    if (changed.length === 0) return changed;
    const dependents = walkSync(follow(changed, now, this.#parts(now)));
    this.#hint(dependents);
    return dependents;
  }

  #parts(now: number): Parts {
    return {
      children: (parents) => parents.flatMap((parent) => this.#edges.children(parent).map((id) => ({ parent, job: this.#job(id) }))),
      give: (values) => {
        for (const { parent, child, value } of values) this.#edges.give(parent, child, value);
      },
      waiting: (children) => new Set(children.filter((id) => this.#edges.isWaiting(id))),
      parts: (workflow) => [...(this.#workflows.get(workflow) ?? [])].map(({ job }) => job),
      values: (children) => children.map((id) => this.#edges.values(id)),
      undoable: (jobs) => new Set(jobs.filter((id) => this.#steps.get(id)?.has(undoableStep))),
      change: (changes) => {
        for (const { before, after } of changes) {
          const node = this.#nodes.get(before.id) as Node;
          const tookPlace = takesPlace(before, node.blockedPlace >= 0, now);
          this.#replace(node, after, now);
          if (tookPlace && !takesPlace(after, false, now)) this.#indexes.unblock(gateOf(after));
        }
      },
    };
  }

  #job(id: string): Job {
    return (this.#nodes.get(id) as Node).job;
  }

  #refuseEdges(edges: readonly Edge[], jobs: readonly Job[]): void {
    const inserted = new Set(jobs.map(({ id }) => id));
    for (const { parent, child } of edges) {
      const from = this.#nodes.get(parent)?.job;
      if (!inserted.has(parent) && (!from || isFinished(from))) throw edgeConflict(parent, 'parent');
      if (!inserted.has(child) && this.#nodes.get(child)?.job.status !== 'waiting') throw edgeConflict(child, 'child');
    }
  }

  /** Sets the node's new row and updates the indexes. */
  #replace(node: Node, job: Job, now: number): void {
    this.#indexes.remove(node);
    if (job.schedule !== null && isFinished(node.job) !== isFinished(job)) {
      if (isFinished(job)) this.#schedules.closed(job);
      else this.#schedules.opened(job);
    }
    if (node.job.awaits !== null) this.#awaiting.get(node.job.awaits)?.delete(node);
    if (job.awaits !== null) this.#awaiting.set(job.awaits, (this.#awaiting.get(job.awaits) ?? new Set()).add(node));
    if (job.queue !== node.job.queue) node.line = this.#indexes.line(job.queue, job.task);
    if (isRevived(node.job, job)) this.#runStepsAgain(node.job);
    node.job = job;
    this.#indexes.add(node, now);
    if (job.unique) this.#hold(node, now);
  }

  #runStepsAgain({ id, status }: Job): void {
    const steps = stepsRunAgain([...(this.#steps.get(id)?.values() ?? [])], status === 'successful');
    if (steps) this.#steps.set(id, new Map(steps.map((step) => [step.name, step])));
  }

  #hint(jobs: readonly Job[]): void {
    if (this.#listeners.length > 0) for (const hint of hintsOf(jobs)) this.#notify(hint);
  }

  #notify(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }
}

function record(node: Node): JobRecord {
  return { job: node.job, attempts: node.attempts.slice() };
}

/** A record as shown in lists. */
function listed({ job, attempts }: Node): JobRecord {
  return { job, attempts: withoutOldStacks(attempts) };
}

function refuseTransaction(transaction: unknown): void {
  if (transaction === undefined) return;
  throw new StoreError(
    'the memory store cannot join a transaction; to test code that enqueues jobs in a transaction, use simulate(tasks, { store: sqlite({ database: db }) })',
    { kind: 'unsupported' },
  );
}
