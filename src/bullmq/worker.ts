/**
 * A worker on BullMQ: one of BullMQ's workers for each queue fetches jobs, renews their locks and finds those whose worker died. What a job means is
 * decided as in the engine: an attempt runs (`RunningAttempt`), `decide` turns its outcome into a settlement, and this file tells BullMQ. So retries,
 * timeouts, snoozes, cancelling and stops follow the same rules as on every other backend.
 *
 * Before a task runs, a script counts its runs (`Begun`), because a worker that has got a job from BullMQ may never begin it. Attempts are the runs less
 * those that were given back; runs after the last known outcome were lost. What BullMQ has no place for is saved under the job's lock before the job is moved: if the process dies in between,
 * BullMQ starts the job again, and an end that was decided is carried out then.
 */
import type { Job as BullJob, Worker as BullMQWorker } from 'bullmq';
import type { OwnWorker } from '../backends/own-worker.ts';
import { endingEvents } from '../core/changes.ts';
import { decide } from '../core/decide.ts';
import { ConfigError, LeaseLostError } from '../core/errors.ts';
import { type RecordedError, recordError } from '../core/failure.ts';
import { isExpired, settled } from '../core/job.ts';
import { decode } from '../core/json.ts';
import { latestLines, mostLines } from '../core/log.ts';
import type { Attempt, Job, Settlement } from '../core/types.ts';
import { compensateTask } from '../core/workflow.ts';
import { type AttemptRunner, logFailure, RunningAttempt } from '../engine/attempt.ts';
import { duplicatesEvent, type Host } from '../engine/host.ts';
import { Loop } from '../engine/loop.ts';
import { createRegistry } from '../engine/registry.ts';
import { abandonAfterMs, releaseAfterMs, type WorkerSettings } from '../engine/worker.ts';
import type { Timer } from '../ports/clock.ts';
import { asOwnWork, outside } from '../ports/clock.ts';
import {
  type Begun,
  begunOf,
  cancelField,
  type Data,
  dataOf,
  foreignId,
  keptAfter,
  keptEnd,
  keptLost,
  ownId,
  parsed,
  recordOf,
  type Source,
  unknownWorker,
} from './rows.ts';
import { Slots } from './slots.ts';
import type { BullStore } from './store.ts';
import { unsupportedInTask } from './unsupported.ts';

/** How often running jobs are asked whether they were cancelled, and what they have written down is saved. */
const beatMs = 2_000;
/** How often it looks for queues that it does not know yet, if it serves all. */
const lookEveryMs = 5_000;
/** How soon another worker finds the jobs of one that died, once their locks have ended. */
const stalledIntervalMs = 5_000;
/** A job whose task this worker does not know is left for others, and tried again after this time. */
const unknownTaskMs = 2_000;
const retryRedisMs = 500;
const reportFailingEveryMs = 30_000;
/** The engine decides how often a job runs, and BullMQ must not. */
const any = Number.MAX_SAFE_INTEGER;

/** A job that this worker has been given. */
interface Claim {
  readonly queue: string;
  readonly bull: BullJob;
  readonly token: string;
  readonly key: string;
  readonly job: Job;
  /** How often it has run, this time included; 0: it does not run now. */
  readonly runs: number;
}

interface Running {
  readonly attempt: RunningAttempt;
  readonly claim: Claim;
  /** This worker had lost the job and has got it again: when BullMQ forgets the first one, it stops renewing the lock of the second. */
  readonly isAgain: boolean;
}

/** What BullMQ is about to be told of it. */
interface Ending {
  readonly claim: Claim;
  readonly settlement: Settlement;
  /** Whoever made the job end has told of it. */
  readonly isKnown: boolean;
}

/** Thrown to BullMQ for a job that failed, is to be retried, or was cancelled: its message and stack are those of the task's error. */
class Failed extends Error {
  readonly settlement: Settlement;
  constructor(settlement: Settlement) {
    const { error, reason, status } = settlement;
    super(error ? `${error.name}: ${error.message}` : `${status}: ${reason}`);
    this.stack = error?.stack ?? this.message;
    this.settlement = settlement;
  }
}

export class BullWorker implements OwnWorker {
  readonly id: string;
  readonly #host: Host;
  readonly #store: BullStore;
  readonly #settings: WorkerSettings;
  readonly #slots: Slots;
  readonly #served = new Map<string, BullMQWorker>();
  /** By the keys of the jobs in Redis: other programs use an id in several queues. */
  readonly #running = new Map<string, Running>();
  readonly #ending = new WeakMap<BullJob, Ending>();
  readonly #beat: Loop;
  readonly #look: Loop;
  readonly #registry: Loop;
  #state: 'new' | 'running' | 'stopping' | 'stopped' = 'new';
  #startedAt = 0;
  #alive: Timer | undefined;
  #unlisten: (() => void) | undefined;
  #stopped: Promise<void> | undefined;
  #reportedFailingAt = Number.NEGATIVE_INFINITY;
  #isFailing = false;
  readonly #warnedTasks = new Set<string>();

  constructor(host: Host, store: BullStore, settings: WorkerSettings) {
    this.id = settings.id;
    this.#host = host;
    this.#store = store;
    this.#settings = settings;
    this.#slots = new Slots(settings.concurrency);
    this.#beat = this.#loop(() => this.#saveRunning());
    this.#look = this.#loop(() => this.#serveAll());
    this.#registry = this.#loop(
      createRegistry(
        host,
        store,
        () => this.#describe(),
        () => [],
      ),
    );
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
    for (const loop of [this.#look, this.#beat, this.#registry]) loop.start();
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
    await this.#look.stop();
    const attempts = () => [...this.#running.values()].map(({ attempt }) => attempt);
    const timers = [
      clock.after(graceMs, () => {
        for (const attempt of attempts()) attempt.shutdown();
      }),
      clock.after(graceMs + releaseAfterMs, () => {
        for (const attempt of attempts()) attempt.release();
      }),
    ];
    // They fetch no more, and go on renewing locks until their jobs have ended.
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

  /** Serves the queues that it is to serve: those named, or all that are known by now. */
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
    return queues ? Number.POSITIVE_INFINITY : this.#host.clock.now() + lookEveryMs;
  }

  #serve(name: string): void {
    const { connection } = this.#store;
    const { retention } = this.#host;
    const options = {
      ...connection.workerOptions(),
      name: this.id,
      concurrency: this.#settings.concurrency,
      stalledInterval: Math.min(stalledIntervalMs, connection.place.lockMs),
      // After how many lost workers a job is given up is for the engine to decide.
      maxStalledCount: any,
      ...kept('removeOnComplete', retention.successfulMs),
      ...kept('removeOnFail', Math.max(retention.failedMs, retention.cancelledMs)),
      settings: { backoffStrategy: (_made: number, _type?: string, error?: Error) => this.#delayOf(error) },
    };
    const worker = outside(() =>
      asOwnWork(() => new connection.bull.Worker(foreignId(name), (bull, token) => this.#process(name, bull, token ?? ''), options)),
    );
    worker.on('completed', (bull) => this.#told(bull));
    worker.on('failed', (bull) => bull && this.#told(bull));
    worker.on('stalled', (id) => void this.#orphaned(name, id).catch(() => {}));
    worker.on('lockRenewalFailed', (ids) => {
      for (const id of ids) this.#running.get(worker.toKey(id))?.attempt.fence('its lock in Redis has ended, or another worker has it');
    });
    worker.on('locksRenewed', () => this.#recovered());
    worker.on('error', (error) => this.#failing(error));
    this.#served.set(name, worker);
  }

  /** BullMQ asks how long a job waits before it runs again; -1: it does not. */
  #delayOf(error: Error | undefined): number {
    if (!(error instanceof Failed)) return retryRedisMs;
    const { status, dueAt } = error.settlement;
    return status === 'queued' ? Math.max(0, dueAt - this.#host.clock.now()) : -1;
  }

  async #process(queue: string, bull: BullJob, token: string): Promise<unknown> {
    Object.assign(bull.opts, { attempts: any, backoff: { type: 'custom' }, keepLogs: mostLines, stackTraceLimit: 10 });
    const isFree = await this.#slots.take();
    try {
      const key = this.#store.connection.queue(queue).toKey(bull.id as string);
      const waiting = { queue, bull, token, key, job: this.#row(queue, bull, null), runs: 0 };
      const kept = this.#endedBefore(waiting);
      if (kept) return await this.#settle(waiting, kept, kept.outcome === 'released');
      const begun = await this.#begin(waiting);
      if (begun === null) return this.#discard(waiting, 'lost');
      if ('reason' in begun) {
        const isKnown = begun.reason !== 'expired';
        return await this.#settle(waiting, endedSo(waiting.job, 'cancelled', begun.reason, begun.at), isKnown);
      }
      const claim = { ...waiting, job: this.#row(queue, bull, begun), runs: begun.runs };
      const lost = await this.#settleLost(claim, begun.before);
      if (lost) return await this.#settle({ ...claim, runs: 0, job: { ...claim.job, attempt: lost.attempt } }, lost, false);
      const settlement = await this.#run(claim);
      return settlement ? await this.#settle(claim, settlement, false) : this.#discard(claim, 'lost');
    } finally {
      if (isFree) this.#slots.release();
    }
  }

  /** Counts the run of a job that is about to begin. Null: this worker does not hold it any more. Otherwise it may have been cancelled. */
  async #begin({
    bull,
    key,
    token,
    job,
  }: Claim): Promise<(Begun & { readonly before: Begun | null }) | NonNullable<Source['cancel']> | null> {
    const at = this.#host.clock.now();
    const { client } = this.#store.connection;
    const answer = (await this.#insist(() =>
      client.runCommand('escapementBegin', [key, token, `${this.id} ${at}`, isExpired(job, at) ? 'expired' : '']),
    )) as string[];
    const [cancel, text] = answer;
    if (cancel === undefined) return null;
    if (cancel === 'expired') return { reason: 'expired', at };
    if (cancel !== '') return parsed(cancel) as NonNullable<Source['cancel']>;
    const before = begunOf(text);
    const claim = bull.attemptsStarted;
    // The answer to the first call was lost.
    if (before?.claim === claim) return { ...before, before: { ...before, runs: before.runs - 1, worker: unknownWorker } };
    return { runs: (before?.runs ?? 0) + 1, claim, worker: this.id, at, before };
  }

  async #cancelOf(queue: string, bull: BullJob): Promise<Source['cancel']> {
    const { client } = this.#store.connection;
    const text = await client.hget(this.#store.connection.queue(queue).toKey(bull.id as string), cancelField);
    return (parsed(text) as Source['cancel'] | undefined) ?? null;
  }

  /** The row of a job that this worker has got. */
  #row(queue: string, bull: BullJob, begun: Begun | null): Job {
    const source: Source = {
      id: ownId(bull.id as string),
      queue,
      name: bull.name,
      data: bull.data,
      timestamp: bull.timestamp,
      priority: bull.priority,
      attempts: 0,
      started: bull.attemptsStarted,
      begun,
      processedOn: bull.processedOn ?? null,
      processedBy: this.id,
      finishedOn: null,
      returned: null,
      failedReason: null,
      progress: bull.progress,
      isLocked: true,
      cancel: null,
      isCancelled: false,
    };
    return recordOf(source, Number.NEGATIVE_INFINITY).job;
  }

  /** The settlement of a job that does not run now: it has ended already, or is left for others. */
  #endedBefore({ job, bull }: Claim): Settlement | undefined {
    const now = this.#host.clock.now();
    const { end } = dataOf(bull.data).escapement;
    if (end) return endedSo(job, end.status, end.reason, end.at);
    const isKnown = this.#host.definitions.has(job.task);
    if (this.#state !== 'running' || !isKnown) {
      if (!isKnown) this.#warnOfUnknown(job.task);
      const dueAt = isKnown ? job.dueAt : now + unknownTaskMs;
      return { ...endedSo(job, 'queued', null, now), outcome: 'released', dueAt };
    }
    return undefined;
  }

  #warnOfUnknown(task: string): void {
    if (this.#warnedTasks.has(task)) return;
    this.#warnedTasks.add(task);
    this.#host.logger.warn({ worker: this.id, task }, `no task is defined with the name ${task}; its jobs are left for other workers`);
  }

  /** Accounts for runs that began and have no outcome. Returns how the job ends, if it may not run again. */
  async #settleLost({ bull, key, token, job }: Claim, before: Begun | null): Promise<Settlement | undefined> {
    const data = dataOf(bull.data);
    const runs = before?.runs ?? 0;
    const count = runs - (data.escapement.settledRuns ?? 0);
    if (count <= 0) return undefined;
    const now = this.#host.clock.now();
    const lost = Array.from({ length: count }, (_, i): Attempt => {
      const known = i === count - 1 ? before : null;
      return {
        attempt: Math.max(1, job.attempt - (count - i)),
        claim: known?.claim ?? job.claim,
        worker: known?.worker ?? unknownWorker,
        startedAt: known?.at ?? now,
        endedAt: now,
        outcome: 'lost',
        error: lostError(job),
      };
    });
    const end = decideSimply({ ...job, attempt: job.attempt - 1, losses: job.losses - 1 }, { kind: 'lost', error: lostError(job) }, now);
    const isOver = end.status === 'failed';
    const escapement = keptLost(data.escapement, lost, runs, job.losses, isOver);
    await this.#write(bull, key, token, { ...data, escapement });
    return isOver ? end : undefined;
  }

  async #run(claim: Claim): Promise<Settlement | null> {
    const { job, key } = claim;
    const { clock, events } = this.#host;
    events.emit({ type: 'started', at: clock.now(), job, worker: this.id, attempt: job.attempt });
    const earlier = this.#running.get(key);
    earlier?.attempt.fence('its lock ended, and the job was started again');
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

  /** Tells BullMQ. Its own moves are made when this returns or throws; those that the engine asks for are made here. */
  async #settle(claim: Claim, settlement: Settlement, isKnown: boolean): Promise<unknown> {
    const { bull, job, token } = claim;
    const { status, outcome, returnValue, log, metadata, progress } = settlement;
    if (log) await this.#insist(() => this.#log(bull, log));
    if (progress && progress !== job.progress) await this.#insist(() => bull.updateProgress({ ...progress }));
    const mustSave = status !== 'successful' || metadata !== undefined || returnValue === 'null';
    if (mustSave && !(await this.#save(claim, settlement))) return this.#discard(claim, outcome);
    this.#ending.set(bull, { claim, settlement, isKnown });
    if (status === 'successful') return returnValue === null ? undefined : decode(returnValue);
    if (status !== 'queued' || outcome === 'failed') throw new Failed(settlement);
    const { DelayedError, WaitingError } = this.#store.connection.bull;
    const isDelayed = outcome === 'snoozed' || settlement.dueAt > settlement.settledAt;
    await this.#insist<unknown>(() => (isDelayed ? bull.moveToDelayed(settlement.dueAt, token) : bull.moveToWait(token)));
    this.#told(bull);
    throw isDelayed ? new DelayedError() : new WaitingError();
  }

  /** Saves what BullMQ has no place for. False: this worker does not hold the job any more. */
  async #save({ bull, key, token, job, runs }: Claim, settlement: Settlement): Promise<boolean> {
    const data = dataOf(bull.data);
    const { status, metadata, returnValue } = settlement;
    const running: Attempt = {
      attempt: job.attempt,
      claim: job.claim,
      worker: this.id,
      startedAt: job.lastAttemptedAt ?? settlement.settledAt,
      endedAt: null,
      outcome: null,
      error: null,
    };
    const change = () => {
      if (status === 'successful')
        return { ...data.escapement, ...(metadata ? { metadata } : {}), ...(returnValue === 'null' ? { returnsNull: true as const } : {}) };
      return runs === 0 ? keptEnd(data.escapement, settlement) : keptAfter(data.escapement, running, settlement, runs);
    };
    return this.#write(bull, key, token, { ...data, escapement: change() });
  }

  async #write(bull: BullJob, key: string, token: string, data: Data): Promise<boolean> {
    const { client } = this.#store.connection;
    const saved = await this.#insist(() => client.runCommand('escapementSave', [key, token, JSON.stringify(data)]));
    if (saved === 1) bull.data = data;
    return saved === 1;
  }

  async #log(bull: BullJob, lines: readonly string[]): Promise<void> {
    for (const line of latestLines([...lines])) await bull.log(line);
  }

  /** BullMQ has accepted the end of an attempt. */
  #told(bull: BullJob): void {
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

  /** Another worker may have the job: BullMQ is told nothing of it. */
  #discard({ job }: Claim, outcome: string): never {
    this.#host.events.emit({ type: 'discarded', at: this.#host.clock.now(), job, worker: this.id, attempt: job.attempt, outcome });
    throw new this.#store.connection.bull.DelayedError();
  }

  /** BullMQ has found that the worker of a job died. */
  async #orphaned(queue: string, foreign: string): Promise<void> {
    const record = await this.#store.read(queue, foreign);
    if (!record) return;
    const { job } = record;
    const error = lostError(job);
    this.#host.events.emit({ type: 'orphaned', at: this.#host.clock.now(), job, worker: unknownWorker, attempt: job.attempt, error });
  }

  /** Tells running attempts that they are cancelled, and saves what they have written down. */
  async #saveRunning(): Promise<number> {
    await Promise.all(
      [...this.#running.values()].map(async ({ attempt, claim, isAgain }) => {
        if (isAgain) await claim.bull.extendLock(claim.token, this.#store.connection.place.lockMs);
        const cancel = await this.#cancelOf(claim.queue, claim.bull);
        if (cancel) attempt.cancel(cancel.reason);
        const { notes, progress } = attempt;
        if (attempt.ended) return;
        const { bull, key, token } = claim;
        if (notes.log) await this.#log(bull, notes.log);
        if (notes.metadata && !attempt.ended) {
          const data = dataOf(bull.data);
          await this.#write(bull, key, token, { ...data, escapement: { ...data.escapement, metadata: notes.metadata } });
        }
        if (progress && progress !== attempt.savedProgress) {
          await bull.updateProgress({ ...progress });
          attempt.savedProgress = progress;
        }
        attempt.saved(notes);
      }),
    );
    return this.#running.size > 0 ? this.#host.clock.now() + beatMs : Number.POSITIVE_INFINITY;
  }

  /** Repeats a call until Redis answers it: the job's lock decides whether it still counts then. */
  async #insist<T>(call: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await asOwnWork(call);
      } catch (error) {
        if (this.#state === 'stopped' || isRefusal(error)) throw error;
        this.#failing(error);
        await new Promise<void>((resolve) => this.#host.clock.after(retryRedisMs, resolve));
      }
    }
  }

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
    const at = this.#host.clock.now();
    this.#isFailing = true;
    if (at - this.#reportedFailingAt < reportFailingEveryMs) return;
    this.#reportedFailingAt = at;
    const recorded = recordError(error);
    this.#host.logger.warn(
      duplicatesEvent({ worker: this.id, error: `${recorded.name}: ${recorded.message}` }),
      'Redis is failing; retrying',
    );
    this.#host.events.emit({ type: 'storeFailing', at, worker: this.id, error: recorded });
  }

  #recovered(): void {
    if (!this.#isFailing) return;
    this.#isFailing = false;
    this.#reportedFailingAt = Number.NEGATIVE_INFINITY;
    this.#host.logger.info(duplicatesEvent({ worker: this.id }), 'Redis has recovered');
    this.#host.events.emit({ type: 'storeRecovered', at: this.#host.clock.now(), worker: this.id });
  }
}

function decideSimply(job: Job, outcome: Parameters<typeof decide>[2], now: number): Settlement {
  return decide(job, { kind: 'list', delaysMs: [0], jitter: 0 }, outcome, now, 0);
}

/** How a job ends, or is given back, that has not run. */
function endedSo(job: Job, status: Settlement['status'], reason: string | null, at: number): Settlement {
  const { attempt, losses } = job;
  return { ...decideSimply(job, { kind: 'cancelled', reason: '' }, at), outcome: 'cancelled', status, reason, attempt, losses };
}

function lostError(job: Job): RecordedError {
  return { ...recordError(new LeaseLostError(`the worker of job ${job.id} died, or lost its lock in Redis`)), stack: '' };
}

/** What BullMQ answers if the job is not as expected: its lock has ended, or it is gone. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && /^(Missing (lock|key)|Lock mismatch|Job .* is not in the|could not renew lock)/i.test(error.message);
}

/** How long BullMQ keeps finished jobs. */
function kept(option: 'removeOnComplete' | 'removeOnFail', ms: number): object {
  return ms === Number.POSITIVE_INFINITY ? {} : { [option]: { age: Math.ceil(ms / 1_000) } };
}
