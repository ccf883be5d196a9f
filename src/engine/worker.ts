/**
 * A worker: claims jobs, runs them, and reports what came of them. It ticks at its own pace: settle everything that has ended, then claim
 * for the free slots, both in one call of the store; wake-ups only start a tick sooner. Beside the ticks run its three duties, each a loop
 * of its own: the heartbeat renews leases, the janitor finds what others left behind, the scheduler turns occurrences into jobs.
 *
 * A worker is new, running, stopping (claims nothing, lets attempts end) or stopped. It is not started again: a new process is a new worker.
 */
import { endingEvents } from '../core/changes.ts';
import { ConfigError } from '../core/errors.ts';
import type { Event } from '../core/events.ts';
import { recordError } from '../core/failure.ts';
import type { CodeSchedule } from '../core/schedule.ts';
import type { Job, Settlement } from '../core/types.ts';
import type { Timer } from '../ports/clock.ts';
import type { ClaimOptions, Hint, Keeper, NextDue, Settled, Store } from '../ports/store.ts';
import { type AttemptRunner, logFailure, RunningAttempt } from './attempt.ts';
import { createHeartbeat, type Heartbeat, leaseMs, renewEveryMs } from './heartbeat.ts';
import { type Host, told } from './host.ts';
import { createJanitor, type Janitor } from './janitor.ts';
import { Loop, type Step } from './loop.ts';
import { createRegistry } from './registry.ts';
import { createScheduler, type Scheduler } from './scheduler.ts';
import { owed } from './shares.ts';

export interface WorkerSettings {
  readonly id: string;
  readonly concurrency: number;
  readonly queues: readonly string[] | undefined;
  readonly excludeQueues: readonly string[] | undefined;
  /** The shares of its queues in its slots; undefined: jobs come in their order, whatever their queue. */
  readonly weights: ReadonlyMap<string, number> | undefined;
  readonly scheduler: boolean;
  /** For how long a task may block the thread before others may take this worker's jobs; 0: no longer than a lease holds. */
  readonly blockLimitMs: number;
}

/** An attempt that is over, and what the store is to be told. */
interface Ended {
  readonly attempt: RunningAttempt;
  readonly settlement: Settlement;
  readonly otherwise: Settlement | undefined;
}

/** How long attempts have, once their signal has told them that the worker stops, before their jobs are given back. */
export const releaseAfterMs = 4_000;
/** How long a stop waits, after that, for a store that fails or does not answer. Then it ends all the same: the leases will pass. */
export const abandonAfterMs = 1_000;
const saveProgressAfterMs = 1_000;
const tellFailingEveryMs = 30_000;
const noSchedules: readonly CodeSchedule[] = [];

export class Worker {
  readonly #host: Host;
  readonly #store: Store;
  readonly #settings: WorkerSettings;
  readonly #running = new Map<string, RunningAttempt>();
  /** What has ended and is not settled yet. Their jobs stay held, and renewed, until it is. */
  #ended: Ended[] = [];
  /** How many of them the store is being told of. */
  #underWay = 0;
  #state: 'new' | 'running' | 'stopping' | 'stopped' = 'new';
  readonly #ticks: Loop;
  readonly #heartbeat: Loop;
  readonly #leases: Heartbeat;
  readonly #janitor: Loop;
  readonly #duties: Janitor;
  readonly #scheduler: Loop | undefined;
  readonly #scheduling: Scheduler | undefined;
  readonly #registry: Loop;
  #keeper: Keeper | undefined;
  #failingLoops = 0;
  #toldFailing = false;
  #toldFailingAt = Number.NEGATIVE_INFINITY;
  #startedAt = 0;
  #unlisten: (() => void) | undefined;
  #alive: Timer | undefined;
  #drained: (() => void) | undefined;
  #stopped: Promise<void> | undefined;

  constructor(host: Host, store: Store, schedules: () => readonly CodeSchedule[], settings: WorkerSettings) {
    this.#host = host;
    this.#store = store;
    this.#settings = settings;
    this.#ticks = this.#loop(() => this.#tick());
    this.#leases = createHeartbeat(host, store, this.#running);
    this.#heartbeat = this.#loop(this.#leases.step);
    this.#duties = createJanitor(host, store);
    this.#janitor = this.#loop(this.#duties.step);
    this.#registry = this.#loop(createRegistry(host, store, () => this.#describe(), settings.scheduler ? schedules : () => noSchedules));
    this.#scheduling = settings.scheduler ? createScheduler(host, store, schedules) : undefined;
    this.#scheduler = this.#scheduling && this.#loop(this.#scheduling.step);
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

  /** Starts claiming. The store must be open. */
  start(): void {
    if (this.#state !== 'new') {
      throw new ConfigError('Worker cannot start', [
        { path: 'worker.start()', expected: 'a new worker', got: `one that is ${this.#state}; make another with tasks.worker()` },
      ]);
    }
    this.#state = 'running';
    this.#host.running.add(this.#running);
    this.#keeper = this.#keep();
    this.#alive = this.#host.clock.at(Number.POSITIVE_INFINITY, () => {});
    this.#unlisten = this.#store.listen?.((hint) => this.#onHint(hint));
    this.#emit({ type: 'workerStarted', at: this.#host.clock.now(), worker: this.id });
    this.#startedAt = this.#host.clock.now();
    this.#registry.start();
    this.#scheduler?.start();
    this.#ticks.start();
    this.#heartbeat.start();
    this.#janitor.start();
  }

  /** Says again what it knows, because code has defined another schedule. */
  declare(): void {
    this.#registry.wake();
  }

  /**
   * Stops: claims no more from this call on, lets attempts end, after `graceMs` aborts their signals, `releaseAfterMs` later gives their
   * jobs back without using up an attempt. Leases are renewed to the last.
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
    this.#registry.wake();
    const scheduling = this.#scheduler?.stop();
    return new Promise((resolve) => {
      const deadline = clock.after(graceMs + releaseAfterMs + abandonAfterMs, () => {
        this.#abandon();
        this.#stoppedNow();
        resolve();
      });
      // A step of its own: it belongs to the instant at which the last attempt was settled.
      this.#drain(graceMs, () =>
        clock.soon(async () => {
          await scheduling;
          await this.#ticks.stop();
          await this.#janitor.stop();
          // To the last: a worker whose leases pass while it stops is taken for a dead one.
          await this.#heartbeat.stop();
          if (this.#state === 'stopped') return;
          deadline.cancel();
          this.#state = 'stopped';
          await this.#registry.last();
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
        `the event loop was blocked for ${Math.round(ms / 1_000)} s while ${tasks.join(', ')} ran; move long computations to a worker thread, or await between their parts`,
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

  /** The store did not take what was to be settled: nobody waits for it any longer. */
  #abandon(): void {
    this.#state = 'stopped';
    for (const loop of [this.#scheduler, this.#ticks, this.#janitor, this.#heartbeat, this.#registry]) void loop?.stop();
    this.#host.logger.error(
      { worker: this.id, jobs: this.#running.size },
      'the store did not answer while the worker stopped; its jobs will run again when their leases have passed',
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

  /** Calls `drained` once nothing runs any more: at the latest, if the store answers, when what still ran has been given back. */
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
    // The next tick tells whether anything runs; one that is claiming at this moment comes to its end before it.
    this.#ticks.wake();
  }

  async #tick(): Promise<number> {
    const { clock } = this.#host;
    const now = clock.now();
    // A copy: more may end while the store is being told.
    const ending = [...this.#ended];
    const free = this.#state === 'running' ? this.#settings.concurrency - this.#running.size + this.#leaving(ending) : 0;
    const claim = free > 0 ? this.#claimOptions(free, now) : undefined;
    const { weights } = this.#settings;
    let claimed: readonly Job[] = [];
    if (ending.length > 0) {
      // Until the store has answered, they are still to be settled: a failing store gets them again.
      const settlements = ending.map(({ settlement }) => settlement);
      this.#underWay = ending.length;
      let result: Settled;
      try {
        const answer = this.#store.settle(settlements, { now, claim: weights ? undefined : claim });
        result = answer instanceof Promise ? await answer : answer;
      } finally {
        this.#underWay = 0;
      }
      this.#ended = this.#ended.slice(ending.length);
      for (let i = 0; i < ending.length; i++) this.#settled(ending[i] as Ended, result.settled[i] ?? null);
      claimed = result.claimed;
    } else if (claim && !weights) {
      const answer = this.#store.claim({ ...claim, now });
      claimed = answer instanceof Promise ? await answer : answer;
    }

    if (weights && free > 0) claimed = await this.#claimShares(weights, free, now);
    if (claimed.length > 0) this.#keeper?.begun();
    for (const job of claimed) this.#begin(job);
    if (this.#running.size === 0) {
      this.#keeper?.rest();
      this.#heartbeat.rest();
      this.#drained?.();
    } else if (claimed.length > 0) {
      this.#leases.begun();
      this.#heartbeat.wakeAt(now + renewEveryMs);
    }
    if (this.#ended.length > 0) return now;
    if (free <= 0 || claimed.length === free) return Number.POSITIVE_INFINITY;
    return this.#idleUntil(now);
  }

  /** Claims for each queue what it is owed, then fills the slots that are left from those that have more. */
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
      // What was claimed before is ours, and must begin.
      if (claimed.length === 0) throw error;
    }
    return claimed;
  }

  /** How many of these free a slot: not those whose job this worker has claimed again meanwhile, after it had stood still. */
  #leaving(ending: readonly Ended[]): number {
    let count = 0;
    for (const { attempt } of ending) if (this.#running.get(attempt.id) === attempt) count += 1;
    return count;
  }

  #idleUntil(now: number): number | Promise<number> {
    const { queues, excludeQueues } = this.#settings;
    const next = this.#store.nextDueAt({ now, tasks: this.#host.names(), queues, excludeQueues, limits: this.#host.limits() });
    return next instanceof Promise ? next.then((answer) => this.#wakeFor(answer, now)) : this.#wakeFor(next, now);
  }

  #wakeFor({ jobAt }: NextDue, now: number): number {
    // A job that is due and yet was not claimed is no reason to spin.
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
    // This process stood still beyond its lease, and gets the job back before it has noticed.
    this.#running.get(job.id)?.fence('its lease had passed, and the job was claimed again');
    this.#running.set(job.id, attempt);
    // Claimed by a call that was under way when the worker was told to stop: given back, not begun.
    if (this.#state !== 'running') {
      attempt.release();
      return;
    }
    if (this.#host.events.hasListeners('started')) {
      this.#emit({ type: 'started', at: this.#host.clock.now(), job, worker: this.id, attempt: job.attempt });
    }
    attempt.start();
  }

  readonly #runner: AttemptRunner = {
    blobs: { getBlobs: (ids, name) => this.#store.getBlobs(ids, name), saveBlobs: (held, blobs) => this.#store.saveBlobs(held, blobs) },
    ended: (attempt, settlement, otherwise) => {
      if (settlement) this.#ended.push({ attempt, settlement, otherwise });
      else {
        this.#discarded(attempt, 'lease lost');
        this.#forget(attempt);
        // Until now this worker renewed the lease; from now on it is one to watch over.
        this.#janitor.wakeAt(this.#host.clock.now() + leaseMs - (this.#host.clock.monotonic() - attempt.confirmedAt));
      }
      this.#ticks.wake();
    },
    revise: (attempt, settlement) => {
      // A settlement that is already on its way to the store cannot be revised.
      const at = this.#ended.findIndex((one, i) => one.attempt === attempt && i >= this.#underWay);
      if (at >= 0) this.#ended[at] = { attempt, settlement, otherwise: undefined };
    },
    complete: (settlement, transaction) => {
      const answer = this.#store.settle([settlement], { now: settlement.settledAt, transaction });
      const row = ({ settled }: Settled) => settled[0] ?? null;
      return answer instanceof Promise ? answer.then(row) : row(answer);
    },
    // Saved with a renewal, and not more often than once a second.
    progressed: () => this.#heartbeat.wakeAt(this.#host.clock.now() + saveProgressAfterMs),
  };

  #settled({ attempt, settlement, otherwise }: Ended, job: Job | null): void {
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
    for (const event of endingEvents({ job, settlement, worker: this.id, attempt: attempt.attempt })) this.#emit(event);
  }

  /** A job whose lease was lost may have been claimed again by this very worker: only this attempt is forgotten. */
  #forget(attempt: RunningAttempt): void {
    if (this.#running.get(attempt.id) === attempt) this.#running.delete(attempt.id);
  }

  #discarded(attempt: RunningAttempt, outcome: string): void {
    const { clock } = this.#host;
    this.#emit({ type: 'discarded', at: clock.now(), job: attempt.job, worker: this.id, attempt: attempt.attempt, outcome });
  }

  #onHint(hint: Hint): void {
    const anything = Object.keys(hint).length === 0;
    // Where there are limits, a job that has ended may let another one start.
    const mayFree = (hint.finished || hint.dueAt !== undefined) && this.#host.limits() !== null;
    if (anything || mayFree || hint.dueAt !== undefined) this.#ticks.wakeAt(mayFree ? 0 : (hint.dueAt ?? 0));
    // A worker renews its own leases; it watches over those of others.
    if (anything || (hint.overdueAt !== undefined && hint.by !== this.id)) this.#janitor.wakeAt(hint.overdueAt ?? 0);
    if (anything || hint.cancelled) this.#heartbeat.wake();
    if (anything || hint.scheduleAt !== undefined) this.#scheduler?.wakeAt(hint.scheduleAt ?? 0);
    if (hint.workers) this.#registry.wake();
    if (hint.finished) {
      this.#janitor.wakeAt(this.#duties.finished(hint.pruneAt));
      if (this.#scheduling) this.#scheduler?.wakeAt(this.#scheduling.finished());
    }
  }

  #loop(step: Step): Loop {
    return new Loop(
      this.#host.clock,
      step,
      (error, first) => this.#storeFailing(error, first),
      () => this.#storeRecovered(),
    );
  }

  /** A worker has several loops, and a full disk may last for hours: it is told of once, and again every half minute. */
  #storeFailing(error: unknown, first: boolean): void {
    if (first) this.#failingLoops += 1;
    const at = this.#host.clock.now();
    if (at - this.#toldFailingAt < tellFailingEveryMs) return;
    this.#toldFailingAt = at;
    this.#toldFailing = true;
    const recorded = recordError(error);
    this.#host.logger.warn(told({ worker: this.id, error: `${recorded.name}: ${recorded.message}` }), 'the store is failing; trying again');
    this.#emit({ type: 'storeFailing', at, worker: this.id, error: recorded });
  }

  #storeRecovered(): void {
    this.#failingLoops -= 1;
    if (this.#failingLoops > 0 || !this.#toldFailing) return;
    this.#toldFailing = false;
    this.#host.logger.info(told({ worker: this.id }), 'the store answers again');
    this.#emit({ type: 'storeRecovered', at: this.#host.clock.now(), worker: this.id });
  }

  #emit(event: Event): void {
    this.#host.events.emit(event);
  }
}
