/**
 * The invariant checker of an exploration. It sits between the workers and the store, sees each call in the order in which it takes effect,
 * keeps a model of every job, tracks which process runs which attempt, and reports violated invariants. A finding is always a bug in the engine or
 * in the store: drawn faults are injected above the checker.
 */
import { backoffMs } from '../core/backoff.ts';
import type { Definition } from '../core/definition.ts';
import type { Limit, Limits } from '../core/gate.ts';
import { visibleStatus } from '../core/job.ts';
import type { Amendment, Attempt, Job, JobRecord, ScheduleRow, Settlement, Signal, Step, WorkerRow } from '../core/types.ts';
import type { Edge } from '../core/workflow.ts';
import type {
  Advance,
  Amended,
  ClaimOptions,
  DueSchedule,
  Held,
  RenewAnswer,
  Settled,
  Store,
  Taken,
  WantedSignal,
} from '../ports/store.ts';
import { aroundStore, type StoreCall } from './around-store.ts';
import { Dependents } from './dependents.ts';
import { Firings } from './firings.ts';
import { Handlers, troubleLastsMs } from './handlers.ts';
import { inOrder, isOver, isTooLate, Model } from './model.ts';
import type { Process } from './owners.ts';
import { Remembered } from './remembered.ts';

type At = { readonly now: number };

/** What the checker needs from the simulation. */
export interface Surroundings {
  /** The definition of a task in the version of the application that was deployed last. */
  definition(name: string): Definition | undefined;
  /** When something last went wrong with this worker's process, including its start. */
  troubledAt(worker: string): number;
  label(id: string): string;
  now(): number;
  /** The running processes. */
  alive(): readonly Process[];
  readonly concurrency: number;
  /** Called with the first violation. */
  found(problem: string): void;
}

const onItsWayMs = 60_000;
/** An idle worker makes far fewer store calls than this. */
const maxCallsASecond = 1;
/** Once faults have stopped, due work is done within this time. */
const promptMs = 60_000;
const checkEveryMs = 10_000;
/** Answers may be lost on their way, several in a row. */
const maxReminders = 6;

export class InvariantChecker {
  /** The violations found, without duplicates. */
  readonly problems: string[] = [];
  /** Number of store calls. */
  calls = 0;
  readonly #around: Surroundings;
  readonly #model = new Model();
  readonly handlers: Handlers;
  /** The store that has each job. */
  readonly #homes = new Map<string, Store>();
  readonly #settled = new Map<string, Settlement>();
  readonly #firings: Firings;
  readonly #dependents: Dependents;
  readonly #remembered: Remembered;
  readonly #paused = new Set<string>();
  readonly #lost = new Set<string>();
  /** Jobs passed to a store that has not answered yet; they may become visible before it does. */
  readonly #coming = new Map<string, Job>();
  readonly #seenEarly = new Set<string>();
  /** How often a claim's worker has been told that its job is cancelled or lost. */
  readonly #notified = new Map<string, number>();
  /** Workers that have reported that they are stopping. */
  readonly #stopping = new Set<string>();
  /** Claims that no process runs, and since when. */
  readonly #unattended = new Map<string, number>();
  /** The limits passed to the latest claim. */
  #limits: Limits | undefined;
  #pruned = 0;
  /** Jobs that were deleted with their outcomes. */
  readonly #deleted = new Set<string>();
  #isAtOnce = false;
  #healedAt = Number.POSITIVE_INFINITY;
  #checkedAt = 0;

  constructor(around: Surroundings) {
    this.#around = around;
    this.#firings = new Firings({
      label: around.label,
      openOf: (name) => this.#model.open.filter(({ schedule }) => schedule === name).length,
      problem: (text) => this.#problem(text),
    });
    const report = (job: Job, what: string) => this.#report(job, what);
    this.#dependents = new Dependents({ model: this.#model, label: around.label, report });
    this.#remembered = new Remembered({ model: this.#model, report });
    this.handlers = new Handlers({
      now: around.now,
      job: (id) => this.#model.get(id),
      troubledAt: around.troubledAt,
      concurrency: around.concurrency,
      home: (id) => this.#homes.get(id),
      stops: (worker) => this.#stopping.has(worker),
      problem: (id, what) => this.#problem(`${around.label(id)}: ${what}`),
    });
  }

  /** Wraps a store so that the checker sees each call. */
  watch(store: Store): Store {
    const calls: Partial<Record<StoreCall, (answer: never, ...given: never[]) => void>> = {
      insert: (taken: Taken | undefined, jobs: readonly Job[], { edges }: { edges?: readonly Edge[] }) => {
        this.#dependents.inserted(edges);
        for (const [i, job] of jobs.entries()) {
          const standing = taken?.[i];
          if (!standing) continue;
          this.#coming.delete(job.id);
          if (standing.job.id !== job.id) this.#returnedExisting(job, standing.job);
        }
        this.#insert(taken ? jobs.filter((_, i) => !taken[i]) : jobs, store);
      },
      claim: (jobs: readonly Job[], options: ClaimOptions & At) => this.#claim(jobs, options, store),
      saveWorker: (_: unknown, row: WorkerRow) => void (row.state === 'running' || this.#stopping.add(row.id)),
      prune: (count: number) => {
        this.#pruned += count;
      },
      renew: (answers: readonly RenewAnswer[], held: readonly Held[], options: { leaseUntil: number }) =>
        this.#renew(answers, held, options.leaseUntil),
      settle: (answer: Settled, settlements: readonly Settlement[], options: At & { claim?: ClaimOptions }) => {
        settlements.forEach((settlement, i) => void this.#settle(settlement, answer.settled[i] ?? null));
        for (const [i, { id, prune }] of settlements.entries()) if (prune && isOver(answer.settled[i])) this.#deleted.add(id);
        this.#follow(
          answer.dependents,
          settlements.map(({ id }) => id),
        );
        if (options.claim) this.#claim(answer.claimed, { ...options.claim, now: options.now }, store);
      },
      saveSteps: (isSaved: boolean, held: Pick<Held, 'id'>, steps: readonly Step[]) =>
        void (isSaved && this.#remembered.saved(held.id, steps)),
      getSteps: (answers: readonly (readonly Step[])[], ids: readonly string[]) => this.#remembered.read(ids, answers, this.#isAtOnce),
      takeSignal: (answer: Signal | null | false, { id }: Pick<Held, 'id'>, { name, step }: WantedSignal) =>
        this.#remembered.taken(id, name, step, answer, this.#isAtOnce),
      sendSignal: (_: unknown, signal: Signal, options: At) => {
        this.#remembered.sent(signal);
        const { name } = signal;
        for (const job of this.#model.open)
          if (job.status === 'queued' && job.awaits === name && job.dueAt > options.now)
            this.#model.replaced({ ...job, dueAt: options.now });
      },
      overdue: (jobs: readonly Job[], options: At) => this.#overdue(jobs, options.now),
      amend: ({ amended, dependents }: Amended, amendments: readonly Amendment[]) => {
        this.#amend(amended, amendments);
        this.#follow(
          dependents,
          amendments.map(({ id }) => id),
        );
      },
      saveQueue: (_: unknown, queue: { name: string; paused: boolean }) =>
        void (queue.paused ? this.#paused.add(queue.name) : this.#paused.delete(queue.name)),
      saveSchedule: (saved: boolean, row: ScheduleRow) => void (saved && this.#firings.saved(row)),
      dropSchedule: (_: unknown, name: string) => this.#firings.dropped(name),
      dueSchedules: (answer: { due: readonly DueSchedule[] }, options: At) => this.#firings.due(answer.due, options.now),
      advanceSchedules: (made: readonly (readonly Job[] | null)[], advances: readonly Advance[], options: At) =>
        advances.forEach((advance, i) => {
          const jobs = made[i];
          if (!jobs) return;
          this.#firings.advanced(advance, jobs, options.now);
          this.#insert(jobs, store);
        }),
    };
    return aroundStore(store, (call, [a, b], perform) => {
      const see = calls[call] as ((answer: unknown, ...given: unknown[]) => void) | undefined;
      if (see) this.calls += 1;
      if (call === 'insert') {
        for (const job of a as readonly Job[]) {
          // A job with a custom id may exist already or be on its way.
          if (!this.#model.get(job.id) && !this.#coming.has(job.id)) this.#coming.set(job.id, job);
        }
      }
      const answer = perform();
      if (!see) return answer;
      const isAtOnce = !(answer instanceof Promise);
      const seen = (settledAnswer: unknown) => {
        // If a store answers later, other calls may take effect between its work and its answer.
        this.#isAtOnce = isAtOnce;
        see(settledAnswer, a, b);
        this.#checkOverdue();
        return settledAnswer;
      };
      return answer instanceof Promise ? answer.then(seen) : seen(answer);
    });
  }

  /**
   * The final check: the stores must have what their answers said, and no work may be left.
   * @param startsOf the number of started attempts of a job
   */
  async final(stores: Iterable<Store>, now: number, startsOf: (id: string) => number): Promise<void> {
    // After a violation, later checks prove nothing.
    if (this.problems.length > 0) return;
    this.#checkedAt = 0;
    this.#checkOverdue();
    const rows = new Map<string, JobRecord>();
    for (const store of stores) for (const record of await this.#rows(store, now)) rows.set(record.job.id, record);
    let gone = 0;
    for (const job of this.#model.jobs) {
      const starts = startsOf(job.id);
      if (starts > job.claim) this.#report(job, `I6: it was started ${starts} times but claimed ${job.claim} times`);
      if (job.status === 'successful' && starts === 0) this.#report(job, 'I6: it succeeded without being started');
      const row = rows.get(job.id);
      if (!row && this.#deleted.has(job.id)) continue;
      if (!row && isOver(job) && gone < this.#pruned) gone += 1;
      else if (!row) this.#report(job, 'I1: it was acknowledged but does not exist');
      else {
        const isDeferred = this.#limits?.tasks[job.task]?.rateByKey && row.job.dueAt > job.dueAt;
        const [key] = differing(row.job, isDeferred ? { ...job, dueAt: row.job.dueAt } : job);
        if (key) this.#report(job, `E1: the store has ${show(row.job[key])} as its ${key}, but its answers gave ${show(job[key])}`);
        const [has, answered] = [history(row.attempts), history(this.#model.attemptsOf(job.id))];
        if (has !== answered) this.#report(job, `I16: the store has the attempts ${has}, but its answers gave ${answered}`);
      }
      // Jobs that schedules keep creating, and the jobs these enqueue, may still be on their way.
      const onItsWay = this.#firings.any && (job.status === 'running' ? (job.leaseUntil ?? 0) > now : job.dueAt > now - onItsWayMs);
      // A part of a workflow waits for jobs that are checked themselves.
      const due = job.status !== 'waiting' && (job.dueAt <= now || job.startedAt !== null);
      if (!isOver(job) && !onItsWay && !this.#paused.has(job.queue) && this.#around.definition(job.task) && due)
        this.#report(job, `L1: it never finished and is ${visibleStatus(job, now)}`);
    }
    for (const id of rows.keys()) if (!this.#model.get(id)) this.#problem(`I1: job ${id} is in the store but was never enqueued`);
  }

  /** Reads the rows of a store and checks its counts against them. */
  async #rows(store: Store, now: number): Promise<readonly JobRecord[]> {
    const rows: JobRecord[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.list({}, { now, limit: 500, cursor });
      rows.push(...page.items);
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    const counts = new Map<string, number>();
    for (const { job } of rows) {
      const key = `${job.queue} ${visibleStatus(job, now)}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    for (const queue of await store.stats({ now })) {
      for (const [status, count] of Object.entries(queue.counts))
        if (count !== (counts.get(`${queue.name} ${status}`) ?? 0))
          this.#problem(
            `law 9: stats of ${queue.name} count ${count} ${status}, the list has ${counts.get(`${queue.name} ${status}`) ?? 0}`,
          );
    }
    return rows;
  }

  /** Called when no more faults happen. */
  healed(): void {
    this.#healedAt = this.#around.now();
  }

  /** Checks from time to time what should have happened by now: L1 and L2, as early as possible. */
  #checkOverdue(): void {
    const now = this.#around.now();
    if (now < this.#checkedAt + checkEveryMs) return;
    this.#checkedAt = now;
    this.handlers.check();
    if (now < this.#healedAt + promptMs) return;
    const late = now - promptMs;
    const awake = this.#around.alive().filter(({ name }) => !this.#stopping.has(name));
    const freeFor = (id: string) => awake.find((process) => this.handlers.countOn(process, this.#homes.get(id)) < this.#around.concurrency);
    for (const job of this.#model.open) {
      const { id, claim, dueAt, leaseUntil, expiresAt } = job;
      if (job.status === 'running') {
        if ((leaseUntil ?? 0) < late)
          this.#report(job, `L2: its lease expired ${now - (leaseUntil ?? 0)} ms ago, but no worker has found it`);
        const key = `${id} ${claim}`;
        const since = this.handlers.runs(id, claim) ? undefined : (this.#unattended.get(key) ?? now);
        if (since === undefined) this.#unattended.delete(key);
        else this.#unattended.set(key, since);
        if (since !== undefined && since < late) this.#report(job, `L2: ${job.worker} holds it but does not run it`);
      } else if (job.status === 'waiting') continue;
      else if (job.awaits !== null && dueAt > now && this.#remembered.has(job.awaits))
        this.#report(job, `I18: it waits for the signal ${job.awaits}, which was sent but is missing`);
      else if (isTooLate(job, late)) this.#report(job, `L1: it expired ${now - (expiresAt ?? 0)} ms ago, but no worker has found it`);
      else if (
        dueAt < late &&
        this.#limitsOf(job).length === 0 &&
        freeFor(id) &&
        !this.#paused.has(job.queue) &&
        this.#around.definition(job.task) &&
        !isTooLate(job, now)
      )
        this.#report(job, `L1: it has been due for ${now - dueAt} ms, but ${freeFor(id)?.name} is idle`);
    }
    for (const { name, nextAt } of this.#firings.lateFor(late))
      this.#problem(`L1: schedule ${name} has been due for ${now - (nextAt ?? now)} ms, but no worker fires it`);
  }

  /** Nothing was due for a while, so a worker that keeps calling the store is in a busy loop. */
  calm(calls: number, workers: number, ms: number): void {
    const maxCalls = Math.ceil((ms / 1_000) * workers * maxCallsASecond);
    if (calls > maxCalls)
      this.#problem(`L4: nothing was due for ${ms / 1_000} s, but the store was called ${calls} times, more than ${maxCalls}`);
  }

  /** A job that was reported as enqueued and that the store does not have. */
  lost(id: string): void {
    const job = this.#model.get(id);
    if (!this.#lost.has(id) && job && !isOver(job)) this.#report(job, 'I1: it was acknowledged but does not exist');
    this.#lost.add(id);
  }

  #insert(jobs: readonly Job[], home: Store): void {
    for (const job of jobs) {
      if (this.#seenEarly.delete(job.id)) continue;
      this.#coming.delete(job.id);
      if (this.#model.get(job.id)) this.#report(job, 'I1: it was inserted twice');
      const holder = this.#isAtOnce ? this.#holderOf(job) : undefined;
      if (holder) this.#report(job, `I13: it was inserted, but ${this.#around.label(holder.id)} holds its unique key`);
      this.#model.inserted(job);
      this.#homes.set(job.id, home);
      this.#firings.occurrence(job);
    }
  }

  /** A job was not inserted because another one holds its unique key. */
  #returnedExisting(job: Job, standing: Job): void {
    const before = this.#model.get(standing.id);
    if (!before) return;
    if (before.unique?.key !== job.unique?.key)
      this.#report(job, `I13: ${this.#around.label(standing.id)} took its place but has another key`);
    if (job.unique?.onConflict !== 'replace' || before.status !== 'queued') return;
    const { input, priority, dueAt, runAfter, expiresAt } = standing;
    const isReplaced = input === job.input && priority === job.priority && dueAt <= Math.max(job.dueAt, job.enqueuedAt);
    if (!isReplaced) this.#report(standing, 'I13: it was replaced, but does not have the enqueued values');
    this.#model.replaced({ ...before, input, priority, dueAt, runAfter, expiresAt });
  }

  /** The job that holds a unique key from the enqueue of another job until now. */
  #holderOf({ id, unique, enqueuedAt }: Job): Job | undefined {
    if (!unique) return undefined;
    return this.#model.open.find(
      (other) =>
        other.id !== id &&
        other.unique?.key === unique.key &&
        other.unique.while.includes('queued') &&
        other.unique.while.includes('running') &&
        (other.unique.untilAt ?? Number.POSITIVE_INFINITY) > enqueuedAt,
    );
  }

  /** The limits that apply to a job, as of the latest claim. */
  #limitsOf({ queue, task }: Job): readonly Limit[] {
    return [this.#limits?.queues[queue], this.#limits?.tasks[task]].filter((limit) => limit !== undefined);
  }

  /** I9: no more jobs run than the limits allow. Counted here in the simplest way. */
  #checkLimits(job: Job, limits: Limits): void {
    const running = this.#model.open.filter(({ status }) => status === 'running');
    const ofTask = limits.tasks[job.task];
    const same = running.filter(
      ({ task, concurrencyKey }) => task === job.task && (!ofTask?.concurrencyByKey || concurrencyKey === job.concurrencyKey),
    );
    const taskLimit = ofTask?.concurrency ?? Number.POSITIVE_INFINITY;
    if (same.length > taskLimit) this.#report(job, `I9: ${same.length} jobs of its task and key run, and the limit is ${taskLimit}`);
    const queueLimit = limits.queues[job.queue]?.concurrency ?? Number.POSITIVE_INFINITY;
    const ofQueue = running.filter(({ queue }) => queue === job.queue).length;
    if (ofQueue > queueLimit) this.#report(job, `I9: ${ofQueue} jobs of queue ${job.queue} run, and the limit is ${queueLimit}`);
  }

  #claim(jobs: readonly Job[], options: ClaimOptions & At, home: Store): void {
    const { now, worker, leaseUntil, limits } = options;
    this.#limits = limits ?? undefined;
    if (this.#isAtOnce) this.#inTurn(jobs, options, home);
    for (const job of jobs) {
      const coming = this.#coming.get(job.id);
      if (coming) {
        this.#insert([coming], home);
        this.#seenEarly.add(job.id);
      }
      let before = this.#model.get(job.id);
      // A claim has deferred a job that exceeds the rate of its key.
      if (before && job.dueAt > before.dueAt && limits?.tasks[job.task]?.rateByKey) before = { ...before, dueAt: job.dueAt };
      if (!before) {
        this.#report(job, 'I1: it was claimed but never enqueued');
        continue;
      }
      if (before.status !== 'queued') this.#report(job, `I3: claimed by ${worker} while it was ${before.status}`);
      if (before.dueAt > now) this.#report(job, 'I7: claimed before it was due');
      if (isTooLate(before, now)) this.#report(job, 'I7: claimed after it had expired');
      if (this.#paused.has(job.queue)) this.#report(job, 'I7: claimed in a paused queue');
      if (job.claim !== before.claim + 1) this.#report(job, `I3: its claim number went from ${before.claim} to ${job.claim}`);
      if (job.attempt !== before.attempt + 1) this.#report(job, `I5: its attempt number went from ${before.attempt} to ${job.attempt}`);
      if (job.attempt > job.maxAttempts) this.#report(job, `I5: attempt ${job.attempt} of a maximum of ${job.maxAttempts}`);
      const [key] = differing(job, this.#model.claimed(before, worker, now, leaseUntil));
      if (key) this.#report(job, `E1: it was claimed with a different ${key}, ${show(job[key])}`);
      if (limits && this.#isAtOnce) this.#checkLimits(job, limits);
    }
  }

  /** Law 4: claimed jobs are the first of those that could be claimed. */
  #inTurn(jobs: readonly Job[], { now, tasks, queues, excludeQueues, limit, limits }: ClaimOptions & At, home: Store): void {
    if (limits) return;
    const could = this.#model.open
      .filter(({ id, status, dueAt, task }) => this.#homes.get(id) === home && status === 'queued' && dueAt <= now && tasks.includes(task))
      .filter(({ queue }) => !this.#paused.has(queue) && (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue))
      .filter((job) => !isTooLate(job, now))
      .sort(inOrder)
      .slice(0, limit);
    const at = could.findIndex(({ id }, i) => id !== jobs[i]?.id);
    const passed = could[at];
    if (passed) this.#report(passed, `law 4: it was passed over${jobs[at] ? ` for ${this.#around.label((jobs[at] as Job).id)}` : ''}`);
  }

  #renew(answers: readonly RenewAnswer[], held: readonly Held[], leaseUntil: number): void {
    held.forEach((lease, i) => {
      const job = this.#model.get(lease.id);
      const answer = answers[i];
      const holds = job?.status === 'running' && job.claim === lease.claim;
      if (!job || !answer) return;
      if (!holds) {
        if (answer.kind !== 'lost') this.#report(job, `I4: claim ${lease.claim} was renewed but no longer holds it`);
        this.#remind(job, lease.claim, 'I4: its worker was told that the lease is lost but continues');
        return;
      }
      const wanted = job.cancelRequested === null ? 'held' : 'cancelled';
      if (answer.kind !== wanted) this.#report(job, `I14: a renewal returned ${answer.kind} instead of ${wanted}`);
      if (answer.kind === 'cancelled') this.#remind(job, lease.claim, 'I14: its worker was told to cancel it but continues');
      if (answer.kind !== 'lost') this.#model.renewed(job, leaseUntil, lease);
    });
  }

  /** A worker that ignores repeated cancel requests is broken. */
  #remind(job: Job, claim: number, what: string): void {
    const key = `${job.id} ${claim}`;
    const times = (this.#notified.get(key) ?? 0) + 1;
    this.#notified.set(key, times);
    if (times > maxReminders && this.handlers.atWork(job.id, claim)) this.#report(job, what);
  }

  #settle(settlement: Settlement, answer: Job | null): void {
    const job = this.#model.get(settlement.id);
    if (!job) return;
    const key = `${settlement.id} ${settlement.claim}`;
    // Independently of the engine: a settlement of an outdated claim, or for the loss of a lease that still holds, must change nothing.
    const isEarly = settlement.outcome === 'lost' && (job.leaseUntil ?? 0) > settlement.settledAt;
    const holds = job.status === 'running' && job.claim === settlement.claim && !isEarly;
    const before = this.#settled.get(key);
    const again = before?.settledAt === settlement.settledAt && before.outcome === settlement.outcome;
    if (!holds) {
      if (again && answer === null && !this.#deleted.has(job.id))
        this.#report(job, `I4: the outcome of claim ${settlement.claim} was accepted, but stale when repeated`);
      if (answer === null || again) return;
      if (job.status === 'running' && job.claim === settlement.claim)
        this.#report(job, `I3: treated as an orphan ${(job.leaseUntil ?? 0) - settlement.settledAt} ms before its lease expired`);
      else this.#report(job, `I4: the outcome of claim ${settlement.claim} was accepted, which no longer holds it`);
      return;
    }
    if (settlement.confirm) return;
    if (answer === null) {
      this.#report(job, `I4: the outcome of claim ${settlement.claim} was refused, which holds it`);
      return;
    }
    this.#decided(job, settlement);
    let after = this.#model.settled(job, settlement);
    // The signal that it waits for arrived while it ran.
    if (settlement.awaits !== undefined && answer.status === 'queued' && answer.dueAt === settlement.settledAt) {
      after = { ...after, dueAt: answer.dueAt };
      this.#model.replaced(after);
    }
    if (answer.status !== after.status) this.#report(job, `I14: its settlement returned ${answer.status} instead of ${after.status}`);
    const [field] = differing(answer, after);
    if (field) this.#report(job, `E1: its settlement returned a different ${field}, ${show(answer[field])}`);
    this.#settled.set(key, settlement);
  }

  /** Checks a settlement against the task's definition. */
  #decided(job: Job, settlement: Settlement): void {
    const { outcome, status, attempt, dueAt, settledAt, losses, reason, error } = settlement;
    this.#returned(job, settlement);
    const isUndone = this.#remembered.isUndone(job.id);
    const given = outcome === 'snoozed' || outcome === 'released' ? 1 : 0;
    if (attempt !== job.attempt - given) this.#report(job, `I5: ${outcome}, but its attempt number went from ${job.attempt} to ${attempt}`);
    const kept = outcome === 'lost' ? job.losses + 1 : outcome === 'released' ? job.losses : 0;
    if (losses !== kept) this.#report(job, `I5: ${outcome}, but its losses went from ${job.losses} to ${losses}`);
    if (outcome === 'lost') {
      if (status === 'queued' && dueAt !== settledAt)
        this.#report(job, `I11: its lease was lost, but it is due ${dueAt - settledAt} ms later`);
      if (status === 'queued' && !isUndone && (losses >= maxLosses || attempt >= job.maxAttempts))
        this.#report(job, `I5: lost ${losses} times at attempt ${attempt} of ${job.maxAttempts}, but continues`);
      const worker = job.worker ?? '';
      // It may be found late by workers that had trouble themselves.
      const since = (job.leaseUntil ?? 0) - this.#around.troubledAt(worker);
      if (since > troubleLastsMs)
        this.#report(job, `L2: ${worker} lost its lease, although nothing has gone wrong with it for ${Math.round(since / 1_000)} s`);
    }
    if (outcome === 'failed' && status === 'failed' && reason !== 'permanent' && attempt < job.maxAttempts && !isUndone)
      this.#report(job, `I5: failed for good at attempt ${attempt} of ${job.maxAttempts}`);
    if (outcome !== 'failed' || status !== 'queued') return;
    if (error?.name === 'PermanentError') this.#report(job, 'I5: its error is permanent, but it is retried');
    if (attempt >= job.maxAttempts) this.#report(job, `I5: it is retried after attempt ${attempt} of ${job.maxAttempts}`);
    const backoff = job.overrides?.backoff ?? this.#around.definition(job.task)?.backoff;
    if (!backoff || backoff.kind === 'own') return;
    const [min, max] = [backoffMs(backoff, job.attempt, 0, undefined), backoffMs(backoff, job.attempt, 1, undefined)];
    const delay = dueAt - settledAt;
    if (delay < min || delay > max)
      this.#report(job, `I11: attempt ${job.attempt} is retried after ${delay} ms instead of ${min} to ${max}`);
  }

  /** Checks that the task's return value decides the job's outcome. */
  #returned(job: Job, { outcome, returnValue, dueAt, settledAt, reason }: Settlement): void {
    const result = this.handlers.returnedBy(job.id, job.claim);
    if (!result) return;
    if (outcome === 'successful' && 'value' in result) {
      const text = result.value === undefined ? null : JSON.stringify(result.value);
      if (text !== returnValue) this.#report(job, `I15: its task returned ${text}, but ${returnValue} is stored`);
    }
    if (outcome === 'snoozed' && 'snoozedMs' in result && dueAt - settledAt !== result.snoozedMs)
      this.#report(job, `I11: snoozed for ${result.snoozedMs} ms, but it is due ${dueAt - settledAt} ms later`);
    if (outcome === 'cancelled' && 'cancelled' in result && reason !== result.cancelled)
      this.#report(job, `I15: its task cancelled it with reason ${result.cancelled}, but ${reason} is stored`);
  }

  #overdue(jobs: readonly Job[], now: number): void {
    for (const { id } of jobs) {
      const job = this.#model.get(id);
      if (!job) continue;
      const orphan = job.status === 'running' && (job.leaseUntil ?? 0) <= now;
      if (!orphan && !(job.status === 'queued' && isTooLate(job, now)))
        this.#report(job, `law 7: reported as overdue, but it is ${job.status}`);
    }
  }

  #amend(rows: readonly (Job | null)[], amendments: readonly Amendment[]): void {
    amendments.forEach((amendment, i) => {
      const job = this.#model.get(amendment.id);
      if (!job) return;
      const isAsExpected = job.status === amendment.expect.status && job.claim === amendment.expect.claim;
      // Another job holds its unique key or undoes its workflow, so it is left unchanged.
      if (isAsExpected && rows[i] && rows[i]?.id !== amendment.id) return;
      if (isAsExpected !== (rows[i] !== null))
        this.#report(job, `I2: an amendment was ${rows[i] === null ? 'wrongly refused' : 'wrongly accepted'}`);
      if (rows[i] && isOver(job) && amendment.set?.status !== undefined && amendment.set.status !== 'queued')
        this.#report(job, `I12: it was ${job.status} and becomes ${amendment.set.status}`);
      if (!isAsExpected || !rows[i]) return;
      if (isOver(job) && amendment.set?.status === 'queued') this.#remembered.runAgain(job);
      if (amendment.set === null) {
        this.#dependents.deleted(job);
        this.#remembered.forget(job.id);
      }
      this.#model.amended(job, amendment);
      // A part of a workflow that is queued again may have to wait.
      if (rows[i]?.status === 'waiting') this.#model.replaced(rows[i]);
      if (amendment.set === null) this.#firings.freed(job);
    });
  }

  #follow(dependents: readonly Job[], ended: readonly string[]): void {
    for (const row of dependents) {
      const before = this.#model.get(row.id);
      if (before && isOver(before) && !isOver(row)) this.#remembered.runAgain(before);
    }
    this.#dependents.changed(dependents, ended, this.#isAtOnce);
  }

  #report(job: Job, what: string): void {
    this.#problem(`${this.#around.label(job.id)}: ${what}`);
  }

  #problem(text: string): void {
    if (this.problems.length < 20) this.problems.push(text);
    if (this.problems.length === 1) this.#around.found(text);
  }
}

/** A job that loses three leases in a row kills its workers. */
const maxLosses = 3;

/** The keys in which two rows differ. */
function differing(a: Job, b: Job): readonly (keyof Job)[] {
  return (Object.keys(b) as (keyof Job)[]).filter((key) => a[key] !== b[key] && JSON.stringify(a[key]) !== JSON.stringify(b[key]));
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? 'undefined';
}

function history(attempts: readonly Attempt[]): string {
  return attempts
    .map(({ attempt, claim, worker, outcome, error }) => `${attempt}/${claim} ${worker} ${outcome} ${error?.name ?? ''}`)
    .join(', ');
}
