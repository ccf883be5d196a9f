/**
 * A worker's second duty: settling jobs whose lease has ended and jobs that expired before they started, and deleting finished jobs after
 * their retention. Several workers can do this at the same time: once one has settled a job, the claim numbers of the others no longer
 * match.
 */

import { defaultBackoff } from '../core/backoff.ts';
import { dependentEvents, endingEvents } from '../core/changes.ts';
import { decide } from '../core/decide.ts';
import { latestInstant } from '../core/duration.ts';
import { LeaseLostError } from '../core/errors.ts';
import { type RecordedError, recordError } from '../core/failure.ts';
import { failedStep, failureStep, undoAttempts, undoableStep } from '../core/steps.ts';
import type { Amendment, Job, Settlement } from '../core/types.ts';
import { yieldToEventLoop } from '../ports/clock.ts';
import type { PruneOptions, Store } from '../ports/store.ts';
import { leaseMs, renewEveryMs } from './heartbeat.ts';
import { duplicatesEvent, type Host } from './host.ts';
import type { Step } from './loop.ts';

const batch = 500;
const noTasks: readonly string[] = [];
/** How often a janitor polls without a hint, in stores shared between processes. */
export const overdueEveryMs = 5_000;
/** Finished jobs are pruned at most this long after their retention ends. */
export const pruneEveryMs = 3_600_000;
const pruneBatch = 1_000;
const finishedStatuses = ['successful', 'failed', 'cancelled'] as const;
/** The clock was set if it advanced this much more or less than the monotonic clock since the last check. */
const clockStepMs = 10_000;
/** After the clock was set, workers get this much longer than usual to renew their leases. */
const answerMs = 5_000;
/** If a lease held in this process has ended, how soon to check whether the heartbeat has renewed it. */
const recheckMs = 1_000;

export interface Janitor {
  readonly step: Step;
  /**
   * Called when jobs finish, because they will have to be pruned. Returns when to prune them.
   * @param ownAt the earliest end of a retention that belongs to one of the jobs
   */
  finished(ownAt?: number): number;
}

export function createJanitor(host: Host, store: Store): Janitor {
  const { clock, retention } = host;
  const finite = [retention.successfulMs, retention.failedMs, retention.cancelledMs].filter((ms) => ms < Number.POSITIVE_INFINITY);
  const longestMs = Math.max(0, ...finite);
  let pruneAt = Number.NEGATIVE_INFINITY;
  // If every change sends a hint, pruning stops once all finished jobs are pruned.
  let pruneUntil = clock.now() + longestMs + pruneEveryMs;

  let aheadMs = clock.now() - clock.monotonic();
  /** No job is treated as an orphan until this instant of the monotonic clock. */
  let patientUntil = Number.NEGATIVE_INFINITY;

  /**
   * Detects that the clock was set or the machine was suspended since the last check. Leases are then ignored until their holders have had
   * time to renew them.
   */
  async function noticeStep(now: number): Promise<void> {
    const found = now - clock.monotonic();
    const byMs = found - aheadMs;
    aheadMs = found;
    if (byMs >= clockStepMs) patientUntil = clock.monotonic() + renewEveryMs + answerMs;
    else if (byMs <= -clockStepMs) await shortenLeases(store, now);
  }

  /** When to prune a job with its own retention: right after it ends, but no sooner than an hour after the last pruning. */
  const pruneOwnAt = (endsAt = latestInstant) => (endsAt < latestInstant ? Math.max(endsAt + 1, pruneAt) : Number.POSITIVE_INFINITY);

  const step = async () => {
    const now = clock.now();
    await noticeStep(now);
    const patientMs = patientUntil - clock.monotonic();
    let isHereOverdue = false;
    for (;;) {
      const jobs = await store.overdue({ now, limit: batch });
      // Jobs running in this process are left to its heartbeat. If it is late because the thread was blocked, it asks the store next.
      const running = jobs.filter((job) => job.status === 'running' && !isHere(host, job));
      isHereOverdue = jobs.some((job) => isHere(host, job));
      const expired = jobs.filter((job) => job.status === 'queued');
      const orphans = patientMs > 0 ? [] : running;
      if (orphans.length > 0) await recover(host, store, orphans, now);
      if (expired.length > 0) await expire(host, store, expired, now);
      if (jobs.length < batch || orphans.length + expired.length === 0) break;
      await yieldToEventLoop();
    }
    const isTimeToPrune = now >= pruneAt;
    if (isTimeToPrune && finite.length > 0) {
      await prune(host, store, now);
      pruneAt = now + pruneEveryMs;
    }
    let next = await store.nextDueAt({ now, tasks: noTasks });
    if (isTimeToPrune && next.pruneAt !== undefined && next.pruneAt < now) {
      for (const status of finishedStatuses) await pruneAll(store, { status, finishedBefore: now, own: 'only' });
      pruneAt = now + pruneEveryMs;
      next = await store.nextDueAt({ now, tasks: noTasks });
    }
    const { overdueAt, pruneAt: ownAt } = next;
    const nextPruneAt = Math.min(finite.length > 0 && now < pruneUntil ? pruneAt : Number.POSITIVE_INFINITY, pruneOwnAt(ownAt));
    const checkAgainAt = now + Math.max(overdueEveryMs, store.pollMs);
    const overdueInMs = Math.max(1, patientMs, isHereOverdue ? recheckMs : 0);
    return Math.min(nextPruneAt, checkAgainAt, overdueAt === null ? Number.POSITIVE_INFINITY : Math.max(overdueAt, now + overdueInMs));
  };

  return {
    step,
    finished(ownAt) {
      pruneUntil = clock.now() + longestMs + pruneEveryMs;
      return Math.min(finite.length > 0 ? pruneAt : Number.POSITIVE_INFINITY, pruneOwnAt(ownAt));
    },
  };
}

/** True if an attempt in this process is working on the job. */
function isHere({ running }: Host, { status, id, claim }: Job): boolean {
  if (status !== 'running') return false;
  for (const attempts of running) if (attempts.get(id)?.claim === claim) return true;
  return false;
}

/** The clock was set back, so existing leases last too long. Holders renew theirs; the others end after the usual time. */
async function shortenLeases(store: Store, now: number): Promise<void> {
  let cursor: string | undefined;
  do {
    const found = await store.list({ status: ['running'] }, { now, limit: batch, cursor });
    const long = found.items.filter(({ job }) => (job.leaseUntil ?? 0) > now + leaseMs);
    const held = long.map(({ job: { id, claim } }) => ({ id, claim, progress: null }));
    if (held.length > 0) await store.renew(held, { now, leaseUntil: now + leaseMs });
    cursor = found.cursor ?? undefined;
  } while (cursor !== undefined);
}

async function recover(host: Host, store: Store, orphans: readonly Job[], now: number): Promise<void> {
  const error = recordError(new LeaseLostError('the lease expired without an outcome: the worker was killed, suspended, or disconnected'));
  const settlements = await undoing(
    store,
    orphans,
    orphans.map((job) => decide(job, defaultBackoff, { kind: 'lost', error }, now, 0)),
    error,
    now,
  );
  const { settled, dependents } = await store.settle(settlements, { now });
  for (let i = 0; i < orphans.length; i++) {
    const job = settled[i];
    const settlement = settlements[i];
    if (!job || !settlement) continue;
    const { worker, attempt } = orphans[i] as Job;
    for (const event of endingEvents({ job, settlement, worker: worker ?? '', attempt })) host.events.emit(event);
    const fields = duplicatesEvent({ task: job.task, job: job.id, worker, attempt });
    host.logger[job.status === 'failed' ? 'error' : 'warn'](
      fields,
      `lease lost; the job is ${job.status}${job.reason === null ? '' : ` (${job.reason})`}`,
    );
  }
  for (const event of dependentEvents(dependents, now)) host.events.emit(event);
}

/** Queues jobs that would otherwise end with steps to undo. Their next attempt undoes the steps. */
async function undoing(
  store: Store,
  jobs: readonly Job[],
  ends: readonly Settlement[],
  error: RecordedError,
  now: number,
): Promise<readonly Settlement[]> {
  const ending = jobs.filter(({ cancelRequested }, i) => ends[i]?.status === 'failed' || cancelRequested !== null);
  if (ending.length === 0) return ends;
  const steps = await store.getSteps(ending.map(({ id }) => id));
  const names = new Map(ending.map((job, i) => [job, new Set(steps[i]?.map(({ name }) => name))]));
  return Promise.all(
    jobs.map(async (job, i) => {
      const end = ends[i] as Settlement;
      const recorded = names.get(job);
      if (!recorded?.has(undoableStep)) return end;
      if (recorded.has(failedStep)) return end.status === 'failed' ? end : { ...end, undoes: true };
      const maxAttempts = job.attempt + undoAttempts;
      const failure = { error: job.cancelRequested === null ? error : null, reason: job.cancelRequested, permanent: false, maxAttempts };
      // If it is not saved, another worker has settled the job.
      if (!(await store.saveSteps(job, [{ ...failureStep(failure), attempt: job.attempt, at: now }]))) return end;
      await store.amend([{ id: job.id, expect: { status: 'running', claim: job.claim }, set: { maxAttempts } }], { now });
      return { ...end, status: 'queued', reason: null, dueAt: now, undoes: true };
    }),
  );
}

async function expire(host: Host, store: Store, jobs: readonly Job[], now: number): Promise<void> {
  const amendments: Amendment[] = jobs.map((job) => ({
    id: job.id,
    expect: { status: 'queued', claim: job.claim },
    set: { status: 'cancelled', reason: 'expired', finishedAt: now },
  }));
  const { amended, dependents } = await store.amend(amendments, { now });
  for (const job of amended) if (job) host.events.emit({ type: 'cancelled', at: now, job, worker: null, attempt: job.attempt });
  for (const event of dependentEvents(dependents, now)) host.events.emit(event);
}

/** Deletes jobs that finished longer ago than the application's retention, except jobs with their own retention. */
async function prune({ retention }: Host, store: Store, now: number): Promise<void> {
  const kinds = [
    ['successful', retention.successfulMs],
    ['failed', retention.failedMs],
    ['cancelled', retention.cancelledMs],
  ] as const;
  for (const [status, keepMs] of kinds) {
    if (keepMs < Number.POSITIVE_INFINITY) await pruneAll(store, { status, finishedBefore: now - keepMs, own: 'left' });
  }
}

async function pruneAll(store: Store, which: Omit<PruneOptions, 'limit'>): Promise<void> {
  while ((await store.prune({ ...which, limit: pruneBatch })) === pruneBatch) await yieldToEventLoop();
}
