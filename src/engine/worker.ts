/**
 * A worker claims jobs, runs them, and reports their outcomes. It ticks at its own pace: each tick settles everything that has ended and
 * claims jobs for the free slots, both in one call of the store. Wake-ups only make a tick start sooner. If the store handles several calls
 * at a time, a worker with many slots has several lanes: while one waits for the store, jobs of another run. Besides the ticks, four duties
 * run in their own loops: the heartbeat renews leases, the janitor handles orphans and expired jobs, the scheduler turns occurrences into
 * jobs, and the registry maintains the worker's entry.
 *
 * A worker is new, running, stopping (claims nothing and lets attempts end) or stopped. It cannot be restarted; create a new one.
 */
import { dependentEvents, endingEvents } from '../core/changes.ts';
import { ConfigError } from '../core/errors.ts';
import type { Event } from '../core/events.ts';
import { isGoneAtOnce, settled } from '../core/job.ts';
import type { CodeSchedule } from '../core/schedule.ts';
import { TurnoverMap } from '../core/turnover.ts';
import type { Job, Settlement } from '../core/types.ts';
import type { Timer } from '../ports/clock.ts';
import type { ClaimOptions, Hint, Keeper, NextDue, Settled, Store } from '../ports/store.ts';
import { type AttemptRunner, RunningAttempt } from './attempt.ts';
import { createHeartbeat, fenceAfterMs, type Heartbeat, leaseMs, renewEveryMs } from './heartbeat.ts';
import type { Host } from './host.ts';
import { createJanitor, type Janitor } from './janitor.ts';
import { Loop, type Step } from './loop.ts';
import { Outage } from './outage.ts';
import { createRegistry, type Registry } from './registry.ts';
import { createScheduler, type Scheduler } from './scheduler.ts';
import { owed } from './shares.ts';
import { logFailure } from './verdict.ts';

export interface WorkerSettings {
  readonly id: string;
  readonly concurrency: number;
  readonly queues: readonly string[] | undefined;
  readonly excludeQueues: readonly string[] | undefined;
  /** The queues' shares of its slots; undefined: jobs are claimed in order, regardless of queue. */
  readonly weights: ReadonlyMap<string, number> | undefined;
  readonly scheduler: boolean;
  /** How long a task may block the thread before others may take this worker's jobs; 0: only until the lease ends. */
  readonly blockLimitMs: number;
}

/** An attempt that has ended, and the settlement for the store. */
interface Ended {
  readonly attempt: RunningAttempt;
  readonly settlement: Settlement;
  readonly otherwise: Settlement | undefined;
  /** True if a call of the store with this settlement has failed. The settlement may have been applied anyway. */
  readonly isRepeated?: boolean;
}

/** How long attempts have to end after a stop has aborted their signal, before their jobs are returned to the queue. */
export const releaseAfterMs = 4_000;
/** How long a stop then waits for a store that fails or does not answer. After that the stop completes anyway, and the leases run out. */
export const abandonAfterMs = 1_000;
const saveProgressAfterMs = 1_000;
/** With fewer ended attempts than this, one lane is enough, because the fixed cost of a call outweighs that of its jobs. */
const smallBatch = 25;
const noSchedules: readonly CodeSchedule[] = [];
const none: ReadonlySet<string> = new Set();

/** A duty of the worker besides running jobs, and its loop. */
type Duty<Made extends { readonly step: Step }> = Made & { readonly loop: Loop };

export class Worker {
  readonly #host: Host;
  readonly #store: Store;
  readonly #settings: WorkerSettings;
  readonly #running = new TurnoverMap<string, RunningAttempt>();
  /**
   * Attempts that have ended and are not currently being sent to the store. Their jobs stay leased, and are renewed, until they are
   * settled.
   */
  #ended: Ended[] = [];
  /** How many more slots will be in use once all pending calls are answered, if they claim as many jobs as they requested. */
  #claiming = 0;
  readonly #lanes: readonly Loop[];
  /** The maximum number of jobs that a lane settles and claims at a time. */
  readonly #batch: number;
  #state: 'new' | 'running' | 'stopping' | 'stopped' = 'new';
  readonly #heartbeat: Duty<Heartbeat>;
  readonly #janitor: Duty<Janitor>;
  readonly #scheduler: Duty<Scheduler> | undefined;
  readonly #registry: Duty<Registry>;
  readonly #outage: Outage;
  #keeper: Keeper | undefined;
  #startedAt = 0;
  #unlisten: (() => void) | undefined;
  #alive: Timer | undefined;
  #drained: (() => void) | undefined;
  #stopped: Promise<void> | undefined;

  constructor(host: Host, store: Store, schedules: () => readonly CodeSchedule[], settings: WorkerSettings) {
    this.#host = host;
    this.#store = store;
    this.#settings = settings;
    this.#outage = new Outage(host, settings.id);
    const lanes = settings.weights ? 1 : Math.max(1, Math.min(store.lanes ?? 1, Math.floor(settings.concurrency / (2 * smallBatch))));
    this.#lanes = Array.from({ length: lanes }, (_, lane) => this.#loop(() => this.#tick(lane)));
    this.#batch = lanes === 1 ? Number.POSITIVE_INFINITY : Math.ceil(settings.concurrency / lanes);
    this.#heartbeat = this.#duty(createHeartbeat(host, store, this.#running));
    this.#janitor = this.#duty(createJanitor(host, store));
    this.#registry = this.#duty(createRegistry(host, store, () => this.#describe(), settings.scheduler ? schedules : () => noSchedules));
    this.#scheduler = settings.scheduler ? this.#duty(createScheduler(host, store, schedules)) : undefined;
  }

  get id(): string {
    return this.#settings.id;
  }
  get state(): 'new' | 'running' | 'stopping' | 'stopped' {
    return this.#state;
  }
  /** The attempts in flight. */
  get attempts(): ReadonlyMap<string, RunningAttempt> {
    return this.#running;
  }

  /** The lane that also handles idle slots. */
  get #ticks(): Loop {
    return this.#lanes[0] as Loop;
  }

  /** Starts claiming. The store must be open. */
  start(): void {
    if (this.#state !== 'new') {
      throw new ConfigError('Worker cannot start', [
        { path: 'worker.start()', expected: 'a new worker', got: `a worker that is ${this.#state}; create a new one with tasks.worker()` },
      ]);
    }
    this.#state = 'running';
    this.#host.running.add(this.#running);
    this.#keeper = this.#keep();
    this.#alive = this.#host.clock.at(Number.POSITIVE_INFINITY, () => {});
    this.#unlisten = this.#store.listen?.((hint) => this.#onHint(hint));
    this.#emit({ type: 'workerStarted', at: this.#host.clock.now(), worker: this.id });
    this.#startedAt = this.#host.clock.now();
    this.#registry.loop.start();
    this.#scheduler?.loop.start();
    for (const lane of this.#lanes) lane.start();
    this.#heartbeat.loop.start();
    this.#janitor.loop.start();
  }

  /** Saves its entry again because code has defined another schedule. */
  declare(): void {
    this.#registry.loop.wake();
  }

  /**
   * Stops the worker. It claims nothing more and lets attempts end. After `graceMs` it aborts their signals, and after another
   * `releaseAfterMs` it returns their jobs to the queue without using up an attempt. Leases are renewed until the end.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  #stop(graceMs: number): Promise<void> {
    if (this.#state === 'new') {
      this.#state = 'stopped';
      return Promise.resolve();
    }
    const { clock } = this.#host;
    this.#state = 'stopping';
    this.#emit({ type: 'workerStopping', at: clock.now(), worker: this.id });
    this.#registry.loop.wake();
    const scheduling = this.#scheduler?.loop.stop();
    return new Promise((resolve) => {
      const deadline = clock.after(graceMs + releaseAfterMs + abandonAfterMs, () => {
        this.#abandon();
        this.#stoppedNow();
        resolve();
      });
      // A separate step, so that it belongs to the instant at which the last attempt was settled.
      this.#drain(graceMs, () =>
        clock.soon(async () => {
          await scheduling;
          await Promise.all(this.#lanes.map((lane) => lane.stop()));
          await this.#janitor.loop.stop();
          // Stopped last: a worker whose leases end while it stops would be considered dead.
          await this.#heartbeat.loop.stop();
          if (this.#state === 'stopped') return;
          deadline.cancel();
          this.#state = 'stopped';
          await this.#registry.loop.last();
          this.#stoppedNow();
          resolve();
        }),
      );
    });
  }

  #keep(): Keeper | undefined {
    const { id, blockLimitMs } = this.#settings;
    if (blockLimitMs <= 0) return undefined;
    const blocked = (ms: number) => {
      const tasks = [...new Set([...this.#running.values()].map(({ task }) => task))];
      this.#host.logger.warn(
        { worker: id, tasks, seconds: Math.round(ms / 1_000) },
        `the event loop was blocked for ${Math.round(ms / 1_000)} s while ${tasks.join(', ')} ran; move long computations to a worker thread, or split them with awaits`,
      );
    };
    return this.#store.keeper?.({ worker: id, leaseMs, limitMs: blockLimitMs, blocked });
  }

  #stoppedNow(): void {
    this.#host.running.delete(this.#running);
    this.#keeper?.close();
    this.#unlisten?.();
    this.#alive?.cancel();
    this.#emit({ type: 'workerStopped', at: this.#host.clock.now(), worker: this.id });
  }

  /** The store did not accept the remaining settlements; stop waiting for it. */
  #abandon(): void {
    this.#state = 'stopped';
    const duties = [this.#janitor, this.#heartbeat, this.#registry].map(({ loop }) => loop);
    for (const loop of [this.#scheduler?.loop, ...this.#lanes, ...duties]) void loop?.stop();
    this.#host.logger.error(
      { worker: this.id, jobs: this.#running.size },
      'the store did not answer while the worker was stopping; its jobs will run again when their leases expire',
    );
  }

  #describe() {
    const { id, queues, excludeQueues, concurrency } = this.#settings;
    const state = this.#state === 'new' ? 'running' : this.#state;
    return {
      id,
      queues: queues ?? null,
      excludeQueues: excludeQueues ?? null,
      concurrency,
      running: this.#running.size,
      state,
      startedAt: this.#startedAt,
    };
  }

  /**
   * Calls `drained` once no attempts are running: if the store answers, at the latest when the remaining jobs have been returned to the
   * queue.
   */
  #drain(graceMs: number, drained: () => void): void {
    const { clock } = this.#host;
    let timer = clock.after(graceMs, () => {
      for (const attempt of this.#running.values()) attempt.shutdown();
      timer = clock.after(releaseAfterMs, () => {
        for (const attempt of this.#running.values()) attempt.release();
      });
    });
    this.#drained = () => {
      this.#drained = undefined;
      timer.cancel();
      drained();
    };
    // The next tick checks whether anything is running. A claim in progress completes before it.
    this.#ticks.wake();
  }

  async #tick(lane: number): Promise<number> {
    if (lane > 0 && this.#ended.length < smallBatch) return Number.POSITIVE_INFINITY;
    const { clock } = this.#host;
    const now = clock.now();
    const ending = this.#take();
    if (this.#ended.length > 0) this.#wake();
    const leaving = this.#leaving(ending);
    const free = this.#state === 'running' ? this.#settings.concurrency - this.#running.size - this.#claiming + leaving : 0;
    const limit = Math.min(free, Math.max(this.#batch, leaving));
    const claim = limit > 0 ? this.#claimOptions(limit, now) : undefined;
    const { weights } = this.#settings;
    let claimed: readonly Job[] = [];
    const claiming = Math.max(0, limit) - leaving;
    this.#claiming += claiming;
    let isSettled = false;
    try {
      if (ending.length > 0) {
        const settlements = ending.map(({ settlement }) => settlement);
        const answer = this.#store.settle(settlements, { now, claim: weights ? undefined : claim });
        const result: Settled = answer instanceof Promise ? await answer : answer;
        isSettled = true;
        const doubtful = ending.filter(({ settlement, isRepeated }, i) => isRepeated && settlement.prune && !result.settled[i]);
        const gone = doubtful.length > 0 ? await this.#goneOf(doubtful) : none;
        for (let i = 0; i < ending.length; i++) this.#settled(ending[i] as Ended, result.settled[i] ?? null, gone);
        for (const event of dependentEvents(result.dependents, now)) this.#emit(event);
        claimed = result.claimed;
      } else if (claim && !weights) {
        const answer = this.#store.claim({ ...claim, now });
        claimed = answer instanceof Promise ? await answer : answer;
      }
      if (weights && free > 0) claimed = await this.#claimShares(weights, free, now);
    } finally {
      this.#claiming -= claiming;
      // They stay unsettled until the store has answered. If the call fails, they are sent again.
      if (!isSettled) this.#ended = [...ending.map((one) => ({ ...one, isRepeated: true })), ...this.#ended];
    }

    if (claimed.length > 0) this.#keeper?.begun();
    for (const job of claimed) this.#begin(job);
    if (this.#running.size === 0) {
      this.#keeper?.rest();
      this.#heartbeat.loop.rest();
      // Another lane may be about to get jobs.
      if (!this.#lanes.some(({ isBusy }, i) => i !== lane && isBusy)) this.#drained?.();
    } else if (claimed.length > 0) {
      this.#heartbeat.begun();
      this.#heartbeat.loop.wakeAt(now + renewEveryMs);
    }
    if (this.#ended.length > 0) return now;
    if (free <= 0) return Number.POSITIVE_INFINITY;
    if (claimed.length === limit) return limit < free ? now : Number.POSITIVE_INFINITY;
    if (lane === 0) return this.#idleUntil(now);
    this.#ticks.wake();
    return Number.POSITIVE_INFINITY;
  }

  /** The attempts that a lane settles next, including a remainder too small for another lane. */
  #take(): readonly Ended[] {
    const count = this.#ended.length - this.#batch < smallBatch ? this.#ended.length : this.#batch;
    return this.#ended.splice(0, count);
  }

  /** Called when an attempt has ended. */
  #wake(): void {
    const idle = this.#ended.length < smallBatch ? undefined : this.#lanes.find(({ isBusy }) => !isBusy);
    (idle ?? this.#ticks).wake();
  }

  /** Claims each queue's share, then fills the remaining slots from queues that have more jobs. */
  async #claimShares(weights: ReadonlyMap<string, number>, free: number, now: number): Promise<Job[]> {
    const running = new Map<string, number>();
    for (const { job } of this.#running.values()) running.set(job.queue, (running.get(job.queue) ?? 0) + 1);
    const claimed: Job[] = [];
    const full = new Set(weights.keys());
    const claim = async (limit: number, queues: readonly string[]) => {
      const jobs = await this.#store.claim({ ...this.#claimOptions(limit, now), queues, now });
      claimed.push(...jobs);
      return jobs.length;
    };
    try {
      for (const { queue, slots } of owed(weights, this.#settings.concurrency, running)) {
        const limit = Math.min(slots, free - claimed.length);
        if (limit > 0 && (await claim(limit, [queue])) < limit) full.delete(queue);
      }
      const left = free - claimed.length;
      if (left > 0 && full.size > 0) await claim(left, [...full]);
    } catch (error) {
      // The jobs claimed before are held by this worker and must be started.
      if (claimed.length === 0) throw error;
    }
    return claimed;
  }

  /** How many of these free a slot. Attempts whose job this worker has claimed again, after it was suspended, do not. */
  #leaving(ending: readonly Ended[]): number {
    let count = 0;
    for (const { attempt } of ending) if (this.#running.get(attempt.id) === attempt) count += 1;
    return count;
  }

  #idleUntil(now: number): number | Promise<number> {
    const { queues, excludeQueues } = this.#settings;
    const next = this.#store.nextDueAt({ now, tasks: this.#host.names(), queues, excludeQueues, limits: this.#host.limits() });
    return next instanceof Promise ? next.then((answer) => this.#wakeAt(answer, now)) : this.#wakeAt(next, now);
  }

  #wakeAt({ jobAt }: NextDue, now: number): number {
    // A job that is due but was not claimed must not cause a busy loop.
    const nextAt = jobAt === null ? Number.POSITIVE_INFINITY : Math.max(jobAt, now + 1);
    return Math.min(nextAt, now + this.#store.pollMs);
  }

  #claimOptions(limit: number, now: number): ClaimOptions {
    const { id, queues, excludeQueues } = this.#settings;
    const { names, limits } = this.#host;
    return { worker: id, limit, leaseUntil: now + leaseMs, tasks: names(), queues, excludeQueues, limits: limits() };
  }

  #begin(job: Job): void {
    const attempt = new RunningAttempt(this.#host, this.id, job, this.#runner);
    // The process was suspended for longer than its lease, and gets the job back before it has noticed.
    this.#running.get(job.id)?.fence('its lease expired, and the job was claimed again');
    this.#running.set(job.id, attempt);
    // Claimed by a call that was in progress when the stop began, or that was answered when its lease may have ended: returned to the queue
    // without starting.
    const isLate = this.#host.clock.monotonic() - attempt.confirmedAt >= fenceAfterMs;
    if (this.#state !== 'running' || isLate) {
      attempt.release();
      return;
    }
    if (this.#host.events.hasListeners('started')) {
      this.#emit({ type: 'started', at: this.#host.clock.now(), job, worker: this.id, attempt: job.attempt });
    }
    attempt.start();
  }

  readonly #runner: AttemptRunner = {
    isolates: true,
    steps: {
      saveSteps: (held, steps) => this.#store.saveSteps(held, steps),
      getSteps: (ids) => this.#store.getSteps(ids),
      takeSignal: (held, wanted) => this.#store.takeSignal(held, wanted),
      amend: (amendments, options) => this.#store.amend(amendments, options),
    },
    blobs: { getBlobs: (ids, name) => this.#store.getBlobs(ids, name), saveBlobs: (held, blobs) => this.#store.saveBlobs(held, blobs) },
    ended: (attempt, settlement, otherwise) => {
      if (settlement) this.#ended.push({ attempt, settlement: this.#pruned(settlement, attempt.job), otherwise });
      else {
        this.#discarded(attempt, 'lease lost');
        this.#forget(attempt);
        // Until now this worker renewed the lease; from now on its janitor must watch it.
        this.#janitor.loop.wakeAt(this.#host.clock.now() + leaseMs - (this.#host.clock.monotonic() - attempt.confirmedAt));
      }
      this.#wake();
    },
    revise: (attempt, settlement) => {
      // A settlement that is being sent to the store cannot be revised.
      const at = this.#ended.findIndex((one) => one.attempt === attempt);
      if (at >= 0) this.#ended[at] = { attempt, settlement, otherwise: undefined };
    },
    complete: (settlement, transaction) => {
      const answer = this.#store.settle([settlement], { now: settlement.settledAt, transaction });
      const row = ({ settled }: Settled) => settled[0] ?? null;
      return answer instanceof Promise ? answer.then(row) : row(answer);
    },
    // Saved with a renewal, at most once a second.
    progressed: () => this.#heartbeat.loop.wakeAt(this.#host.clock.now() + saveProgressAfterMs),
  };

  /** Marks the settlement so that it deletes the job, if nothing of the job is kept. */
  #pruned(settlement: Settlement, job: Job): Settlement {
    const isPruned = settlement.status === 'successful' && !settlement.confirm && isGoneAtOnce(job, this.#host.retention.successfulMs);
    return isPruned ? { ...settlement, prune: true } : settlement;
  }

  /** The jobs that were deleted with their outcomes by a call whose answer was lost. */
  async #goneOf(doubtful: readonly Ended[]): Promise<ReadonlySet<string>> {
    const ids = doubtful.map(({ attempt }) => attempt.id);
    try {
      const records = await this.#store.get(ids);
      return new Set(ids.filter((_, i) => !records[i]));
    } catch {
      return none;
    }
  }

  #settled({ attempt, settlement, otherwise }: Ended, row: Job | null, gone: ReadonlySet<string>): void {
    const job = row ?? (gone.has(attempt.id) ? settled(attempt.job, settlement) : null);
    if (!job && otherwise) {
      this.#ended.push({ attempt, settlement: otherwise, otherwise: undefined });
      return;
    }
    this.#forget(attempt);
    if (!job) {
      this.#discarded(attempt, settlement.outcome);
      return;
    }
    if (job.status !== 'cancelled') logFailure(this.#host, attempt, settlement);
    if (!this.#host.events.isUsed) return;
    for (const event of endingEvents({ job, settlement, worker: this.id, attempt: attempt.attempt })) this.#emit(event);
  }

  /** If the lease was lost, this worker may have claimed the job again, so only this attempt is removed. */
  #forget(attempt: RunningAttempt): void {
    if (this.#running.get(attempt.id) === attempt) this.#running.delete(attempt.id);
  }

  #discarded(attempt: RunningAttempt, outcome: string): void {
    const { clock } = this.#host;
    this.#emit({ type: 'discarded', at: clock.now(), job: attempt.job, worker: this.id, attempt: attempt.attempt, outcome });
  }

  #onHint(hint: Hint): void {
    const anything = Object.keys(hint).length === 0;
    // With limits, a job that has ended may let another one start.
    const mayFree = (hint.finished || hint.dueAt !== undefined) && this.#host.limits() !== null;
    if (anything || mayFree || hint.dueAt !== undefined) this.#ticks.wakeAt(mayFree ? 0 : (hint.dueAt ?? 0));
    // A worker renews its own leases and watches those of others.
    if (anything || (hint.overdueAt !== undefined && hint.by !== this.id)) this.#janitor.loop.wakeAt(hint.overdueAt ?? 0);
    if (anything || hint.cancelled) this.#heartbeat.loop.wake();
    if (anything || hint.scheduleAt !== undefined) this.#scheduler?.loop.wakeAt(hint.scheduleAt ?? 0);
    if (hint.workers) this.#registry.loop.wake();
    if (hint.finished) {
      this.#janitor.loop.wakeAt(this.#janitor.finished(hint.pruneAt));
      this.#scheduler?.loop.wakeAt(this.#scheduler.finished());
    }
  }

  #loop(step: Step): Loop {
    return new Loop(
      this.#host.clock,
      step,
      (error, first) => this.#outage.failed(error, first),
      () => this.#outage.recovered(),
    );
  }

  #duty<Made extends { readonly step: Step }>(made: Made): Duty<Made> {
    return { ...made, loop: this.#loop(made.step) };
  }

  #emit(event: Event): void {
    this.#host.events.emit(event);
  }
}
