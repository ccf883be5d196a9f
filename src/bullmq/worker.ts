/**
 * A worker on BullMQ: a BullMQ worker for each queue fetches jobs, renews their locks and finds jobs whose worker died. Decisions are made
 * as in the engine: an attempt runs (`RunningAttempt`), `decide` turns its outcome into a settlement, and this file carries it out in
 * BullMQ. Retries, timeouts, snoozes, cancellations and stops therefore follow the same rules as on every other backend.
 *
 * Before a task runs, a script counts its runs (`Begun`), because a worker that has received a job from BullMQ may never begin it. The
 * number of attempts is the number of runs minus those that were given back; runs after the last known outcome were lost. Data that BullMQ
 * has no field for is saved under the job's lock before the job is moved: if the process dies in between, BullMQ starts the job again, and
 * an end that was already decided is carried out then.
 */
import type { Job as BullJob, Worker as BullMQWorker } from 'bullmq';
import type { OwnWorker } from '../backends/own-worker.ts';
import { endingEvents } from '../core/changes.ts';
import { ConfigError } from '../core/errors.ts';
import { settled } from '../core/job.ts';
import { decode } from '../core/json.ts';
import { maxLines } from '../core/log.ts';
import { TurnoverMap } from '../core/turnover.ts';
import type { Job, Settlement } from '../core/types.ts';
import { compensateTask } from '../core/workflow.ts';
import { type AttemptRunner, RunningAttempt } from '../engine/attempt.ts';
import type { Host } from '../engine/host.ts';
import { Loop } from '../engine/loop.ts';
import { Outage } from '../engine/outage.ts';
import { createRegistry } from '../engine/registry.ts';
import { logFailure } from '../engine/verdict.ts';
import { abandonAfterMs, releaseAfterMs, type WorkerSettings } from '../engine/worker.ts';
import { asOwnWork, outside, type Timer } from '../ports/clock.ts';
import { HeldJob, type WithRetries } from './held.ts';
import { foreignId, unknownWorker } from './rows.ts';
import { endedAs, Failed, keptOf, lostBefore, lostError } from './settlements.ts';
import { Slots } from './slots.ts';
import type { BullStore } from './store.ts';
import { unsupportedInTask } from './unsupported.ts';

/** How often running jobs are checked for cancellation and their notes are saved. */
const beatMs = 2_000;
/** How often to look for new queues, if the worker serves all queues. */
const checkEveryMs = 5_000;
/** How soon another worker finds the jobs of a dead worker once their locks have ended. */
const stalledIntervalMs = 5_000;
/** A job whose task this worker does not know is left to others, and checked again after this delay. */
const unknownTaskMs = 2_000;
const retryRedisMs = 500;
/** The engine limits how often a job runs, so BullMQ must not. */
const any = Number.MAX_SAFE_INTEGER;
/** The number of failure stacks that BullMQ keeps for its own tools. */
const maxStacks = 10;

/** A job to be settled by this worker. */
interface Claim {
  readonly held: HeldJob;
  readonly job: Job;
  /** The number of runs, including this one; 0: the job is not run now. */
  readonly runs: number;
}

interface Running {
  readonly attempt: RunningAttempt;
  readonly claim: Claim;
  /**
   * True if this worker lost the job and then received it again. When BullMQ forgets the first one, it stops renewing the lock of the
   * second.
   */
  readonly isAgain: boolean;
}

/** An end that BullMQ has not accepted yet. */
interface Ending {
  readonly claim: Claim;
  readonly settlement: Settlement;
  /** True if the event was emitted where the job was ended. */
  readonly isKnown: boolean;
}

export class BullWorker implements OwnWorker {
  readonly id: string;
  readonly #host: Host;
  readonly #store: BullStore;
  readonly #settings: WorkerSettings;
  readonly #slots: Slots;
  readonly #served = new Map<string, BullMQWorker>();
  /** By the jobs' keys in Redis, because other programs may use an id in several queues. */
  readonly #running = new TurnoverMap<string, Running>();
  readonly #ending = new WeakMap<BullJob, Ending>();
  readonly #beat: Loop;
  readonly #serveLoop: Loop;
  readonly #registry: Loop;
  #state: 'new' | 'running' | 'stopping' | 'stopped' = 'new';
  #startedAt = 0;
  #alive: Timer | undefined;
  #unlisten: (() => void) | undefined;
  #stopped: Promise<void> | undefined;
  readonly #outage: Outage;
  #isFailing = false;
  readonly #warnedTasks = new Set<string>();

  constructor(host: Host, store: BullStore, settings: WorkerSettings) {
    this.id = settings.id;
    this.#host = host;
    this.#store = store;
    this.#settings = settings;
    this.#slots = new Slots(settings.concurrency);
    this.#outage = new Outage(host, settings.id);
    this.#beat = this.#loop(() => this.#saveRunning());
    this.#serveLoop = this.#loop(() => this.#serveAll());
    const registry = createRegistry(
      host,
      store,
      () => this.#describe(),
      () => [],
    );
    this.#registry = this.#loop(registry.step);
  }

  start(): void {
    if (this.#state !== 'new') {
      throw new ConfigError('Worker cannot start', [
        { path: 'worker.start()', expected: 'a new worker', got: `a worker that is ${this.#state}; create a new one with tasks.worker()` },
      ]);
    }
    this.#state = 'running';
    this.#startedAt = this.#host.clock.now();
    this.#host.events.emit({ type: 'workerStarted', at: this.#startedAt, worker: this.id });
    this.#alive = this.#host.clock.at(Number.POSITIVE_INFINITY, () => {});
    this.#unlisten = this.#store.listen(({ cancelled }) => cancelled && this.#beat.wake());
    for (const loop of [this.#serveLoop, this.#beat, this.#registry]) loop.start();
  }

  /** It fires no schedules. */
  declare(): void {}

  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  async #stop(graceMs: number): Promise<void> {
    const { clock, events, logger } = this.#host;
    this.#state = 'stopping';
    events.emit({ type: 'workerStopping', at: clock.now(), worker: this.id });
    this.#slots.close();
    await this.#serveLoop.stop();
    const attempts = () => [...this.#running.values()].map(({ attempt }) => attempt);
    const timers = [
      clock.after(graceMs, () => {
        for (const attempt of attempts()) attempt.shutdown();
      }),
      clock.after(graceMs + releaseAfterMs, () => {
        for (const attempt of attempts()) attempt.release();
      }),
    ];
    // They fetch nothing more, and keep renewing locks until their jobs have ended.
    const closed = Promise.all([...this.#served.values()].map((worker) => worker.close())).then(() => true);
    const late = new Promise<boolean>((resolve) => {
      timers.push(clock.after(graceMs + releaseAfterMs + abandonAfterMs, () => resolve(false)));
    });
    const isClosed = await Promise.race([closed, late]);
    this.#state = 'stopped';
    for (const timer of timers) timer.cancel();
    if (!isClosed) {
      logger.error(
        { worker: this.id, jobs: this.#running.size },
        'Redis did not answer while the worker was stopping; its jobs will run again when their locks expire',
      );
      for (const worker of this.#served.values()) void worker.disconnect().catch(() => {});
    }
    await this.#beat.stop();
    if (isClosed) await this.#registry.last();
    else void this.#registry.stop();
    this.#unlisten?.();
    this.#alive?.cancel();
    events.emit({ type: 'workerStopped', at: clock.now(), worker: this.id });
  }

  /** Starts serving the queues that were named, or all queues known by now. */
  async #serveAll(): Promise<number> {
    const { queues, excludeQueues } = this.#settings;
    const { definitions, queues: known } = this.#host;
    const own = [...definitions.values()].flatMap(({ name, queue }) => (name === compensateTask ? [] : [queue]));
    const wanted = queues ?? [...own, ...(known ?? []), ...(await this.#store.connection.names())];
    for (const name of new Set(wanted)) {
      if (this.#served.has(name) || excludeQueues?.includes(name) || this.#state !== 'running') continue;
      await this.#store.connection.note(name);
      this.#serve(name);
    }
    return queues ? Number.POSITIVE_INFINITY : this.#host.clock.now() + checkEveryMs;
  }

  #serve(name: string): void {
    const { connection } = this.#store;
    const { retention } = this.#host;
    const options = {
      ...connection.workerOptions(),
      name: this.id,
      concurrency: this.#settings.concurrency,
      stalledInterval: Math.min(stalledIntervalMs, connection.place.lockMs),
      // The engine decides after how many lost workers a job fails.
      maxStalledCount: any,
      ...kept('removeOnComplete', retention.successfulMs),
      ...kept('removeOnFail', Math.max(retention.failedMs, retention.cancelledMs)),
      settings: { backoffStrategy: (_made: number, _type?: string, error?: Error) => this.#delayOf(error) },
    };
    const { Worker } = connection.bull;
    const worker = outside(() => new Worker(foreignId(name), (bull, token) => this.#process(name, bull, token ?? ''), options));
    worker.on('completed', (bull) => this.#accepted(bull));
    worker.on('failed', (bull) => bull && this.#accepted(bull));
    worker.on('stalled', (id) => void this.#orphaned(name, id).catch(() => {}));
    worker.on('lockRenewalFailed', (ids) => {
      for (const id of ids) this.#running.get(worker.toKey(id))?.attempt.fence('its lock in Redis expired, or another worker holds it');
    });
    worker.on('locksRenewed', () => this.#recovered());
    worker.on('error', (error) => this.#failing(error));
    this.#served.set(name, worker);
  }

  /** Called by BullMQ: how long a job waits before it runs again; -1 if it does not. */
  #delayOf(error: Error | undefined): number {
    if (!(error instanceof Failed)) {
      if (error) this.#failing(error);
      return retryRedisMs;
    }
    const { status, dueAt } = error.settlement;
    return status === 'queued' ? Math.max(0, dueAt - this.#host.clock.now()) : -1;
  }

  async #process(queue: string, bull: BullJob, token: string): Promise<unknown> {
    Object.assign(bull.opts, { attempts: any, backoff: { type: 'custom' }, keepLogs: maxLines, stackTraceLimit: maxStacks });
    const isFree = await this.#slots.take();
    try {
      const { connection } = this.#store;
      const key = connection.queue(queue).toKey(bull.id as string);
      return await this.#attempt(new HeldJob(queue, bull, token, key, connection.client, this.#withRetries));
    } finally {
      if (isFree) this.#slots.release();
    }
  }

  async #attempt(held: HeldJob): Promise<unknown> {
    const { clock } = this.#host;
    const waiting: Claim = { held, job: held.row(null), runs: 0 };
    const early = this.#endedBefore(waiting);
    if (early) return this.#settle(waiting, early, early.outcome === 'released');
    const beginning = await held.begin(this.id, clock.now());
    if (beginning === null) return this.#discard(waiting, 'lost');
    if ('cancelled' in beginning) {
      const { reason, at } = beginning.cancelled;
      return this.#settle(waiting, endedAs(waiting.job, 'cancelled', reason, at), reason !== 'expired');
    }
    const { begun, before } = beginning;
    const claim: Claim = { held, job: held.row(begun), runs: begun.runs };
    const lost = lostBefore(claim.job, held.kept, before, clock.now());
    if (lost && !(await held.keep(lost.keep, 'running'))) return this.#discard(claim, 'lost');
    if (lost?.end) return this.#settle({ ...waiting, job: { ...claim.job, attempt: lost.end.attempt } }, lost.end, false);
    const settlement = await this.#run(claim);
    return settlement ? this.#settle(claim, settlement, false) : this.#discard(claim, 'lost');
  }

  /** The settlement of a job that is not run now, because it has already ended or is left to others. */
  #endedBefore({ job, held }: Claim): Settlement | undefined {
    const now = this.#host.clock.now();
    const { end } = held.kept;
    if (end) return endedAs(job, end.status, end.reason, end.at);
    const isKnown = this.#host.definitions.has(job.task);
    if (this.#state !== 'running' || !isKnown) {
      if (!isKnown) this.#warnOfUnknown(job.task);
      const dueAt = isKnown ? job.dueAt : now + unknownTaskMs;
      return { ...endedAs(job, 'queued', null, now), outcome: 'released', dueAt };
    }
    return undefined;
  }

  #warnOfUnknown(task: string): void {
    if (this.#warnedTasks.has(task)) return;
    this.#warnedTasks.add(task);
    this.#host.logger.warn({ worker: this.id, task }, `no task is defined with the name ${task}; its jobs are left for other workers`);
  }

  async #run(claim: Claim): Promise<Settlement | null> {
    const { job } = claim;
    const { key } = claim.held;
    const { clock, events } = this.#host;
    events.emit({ type: 'started', at: clock.now(), job, worker: this.id, attempt: job.attempt });
    const earlier = this.#running.get(key);
    earlier?.attempt.fence('its lock expired, and the job was started again');
    let running: Running | undefined;
    const settlement = await new Promise<Settlement | null>((resolve) => {
      const attempt = new RunningAttempt(this.#host, this.id, job, { ...this.#runner, ended: (_, end) => resolve(end) });
      running = { attempt, claim, isAgain: earlier !== undefined };
      this.#running.set(key, running);
      this.#beat.wakeAt(clock.now() + beatMs);
      attempt.start();
    });
    if (this.#running.get(key) === running) this.#running.delete(key);
    return settlement;
  }

  readonly #runner: Omit<AttemptRunner, 'ended'> = {
    isolates: true,
    steps: {
      refused: unsupportedInTask,
      getSteps: (ids) => this.#store.getSteps(ids),
      saveSteps: () => this.#store.saveSteps(),
      takeSignal: () => this.#store.takeSignal(),
      amend: (amendments) => this.#store.amend(amendments),
    },
    blobs: { getBlobs: (ids) => ids.map(() => null), saveBlobs: () => Promise.reject(unsupportedInTask('ctx.saveBlob()')) },
    progressed: () => this.#beat.wakeAt(this.#host.clock.now() + beatMs / 2),
  };

  /**
   * Carries out a settlement. BullMQ moves the job when this returns or throws. Moves that BullMQ would not make are made here.
   * @param isKnown whether the event was already emitted where the job was ended
   */
  async #settle(claim: Claim, settlement: Settlement, isKnown: boolean): Promise<unknown> {
    const { held, job, runs } = claim;
    const { bull, token } = held;
    const { status, outcome, returnValue, log, progress, dueAt, settledAt } = settlement;
    if (log) await held.log(log);
    if (progress && progress !== job.progress) await this.#withRetries(() => bull.updateProgress({ ...progress }));
    const keep = keptOf(job, this.id, runs, settlement);
    const waits = settlement.attempt > 0 ? 'retrying' : 'scheduled';
    if (keep && !(await held.keep(keep, status === 'queued' ? waits : status))) return this.#discard(claim, outcome);
    this.#ending.set(bull, { claim, settlement, isKnown });
    if (status === 'successful') return returnValue === null ? undefined : decode(returnValue);
    if (status !== 'queued' || outcome === 'failed') throw new Failed(settlement);
    const { DelayedError, WaitingError } = this.#store.connection.bull;
    const isDelayed = outcome === 'snoozed' || dueAt > settledAt;
    await this.#withRetries<unknown>(() => (isDelayed ? bull.moveToDelayed(dueAt, token) : bull.moveToWait(token)));
    this.#accepted(bull);
    throw isDelayed ? new DelayedError() : new WaitingError();
  }

  /** Called when BullMQ has accepted the end of an attempt. */
  #accepted(bull: BullJob): void {
    const ending = this.#ending.get(bull);
    if (!ending) return;
    this.#ending.delete(bull);
    const { settlement, claim, isKnown } = ending;
    this.#store.hint({ finished: true });
    this.#recovered();
    if (isKnown) return;
    const row = settled(claim.job, settlement);
    const { attempt } = claim.job;
    if (row.status !== 'cancelled') logFailure(this.#host, { ...claim.job, attempt, worker: this.id }, settlement);
    for (const event of endingEvents({ job: row, settlement, worker: this.id, attempt }))
      if (event.type !== 'orphaned') this.#host.events.emit(event);
  }

  /** Another worker may have the job, so BullMQ must not move it. */
  #discard({ job }: Claim, outcome: string): never {
    this.#host.events.emit({ type: 'discarded', at: this.#host.clock.now(), job, worker: this.id, attempt: job.attempt, outcome });
    throw new this.#store.connection.bull.DelayedError();
  }

  /** Called when BullMQ finds that the worker of a job died. */
  async #orphaned(queue: string, foreign: string): Promise<void> {
    const record = await this.#store.read(queue, foreign);
    // A worker that never began the run has lost nothing.
    if (!record || record.job.losses === 0) return;
    const { job, begun } = record;
    const worker = begun?.worker ?? unknownWorker;
    this.#host.events.emit({ type: 'orphaned', at: this.#host.clock.now(), job, worker, attempt: job.attempt, error: lostError(job) });
  }

  async #saveRunning(): Promise<number> {
    await Promise.all([...this.#running.values()].map((running) => this.#saveOne(running)));
    return this.#running.size > 0 ? this.#host.clock.now() + beatMs : Number.POSITIVE_INFINITY;
  }

  /** Informs a running attempt of its cancellation, and saves its notes. */
  async #saveOne({ attempt, claim: { held }, isAgain }: Running): Promise<void> {
    const { bull, token } = held;
    if (isAgain) await bull.extendLock(token, this.#store.connection.place.lockMs);
    const cancel = await held.cancelled();
    if (cancel) attempt.cancel(cancel.reason);
    const { unsaved, unsavedProgress: progress } = attempt.notes;
    // The settlement has saved them.
    if (attempt.ended) return;
    const { log, metadata } = unsaved;
    if (metadata) await held.keep((kept) => ({ ...kept, metadata }), 'running');
    if (log) await held.log(log);
    if (progress) await bull.updateProgress({ ...progress });
    attempt.notes.saved({ ...unsaved, progress });
  }

  /** Repeats a call until Redis answers. The job's lock determines whether it still applies. */
  readonly #withRetries: WithRetries = async (call) => {
    for (;;) {
      try {
        return await asOwnWork(call);
      } catch (error) {
        if (this.#state === 'stopped' || isRefusal(error)) throw error;
        this.#failing(error);
        await new Promise<void>((resolve) => this.#host.clock.after(retryRedisMs, resolve));
      }
    }
  };

  #describe() {
    const { concurrency, queues, excludeQueues } = this.#settings;
    return {
      id: this.id,
      queues: queues ?? null,
      excludeQueues: excludeQueues ?? null,
      concurrency,
      running: this.#running.size,
      state: this.#state === 'new' ? ('running' as const) : this.#state,
      startedAt: this.#startedAt,
    };
  }

  #loop(step: () => Promise<number>): Loop {
    return new Loop(
      this.#host.clock,
      step,
      (error) => this.#failing(error),
      () => this.#recovered(),
    );
  }

  #failing(error: unknown): void {
    // BullMQ's own refusals concern one job, not the server.
    if (isRefusal(error) || this.#state === 'stopped') return;
    this.#outage.failed(error, !this.#isFailing);
    this.#isFailing = true;
  }

  #recovered(): void {
    if (this.#isFailing) this.#outage.recovered();
    this.#isFailing = false;
  }
}

/** True for BullMQ's error if a job is not as expected, because its lock has ended or it is gone. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && /^(Missing (lock|key)|Lock mismatch|Job .* is not in the|could not renew lock)/i.test(error.message);
}

/** How long BullMQ keeps finished jobs. */
function kept(option: 'removeOnComplete' | 'removeOnFail', ms: number): object {
  return ms === Number.POSITIVE_INFINITY ? {} : { [option]: { age: Math.ceil(ms / 1_000) } };
}
