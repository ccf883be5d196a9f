/**
 * A worker's second duty: to find jobs whose lease has passed and jobs that expired before they started, decide what becomes of them, and
 * delete finished jobs after their retention. Any number of workers may do this at once: what one has settled, another's claim number no
 * longer fits.
 */

import { defaultBackoff } from '../core/backoff.ts';
import { decide } from '../core/decide.ts';
import { LeaseLostError } from '../core/errors.ts';
import { recordError } from '../core/failure.ts';
import { settled } from '../core/job.ts';
import type { Amendment, Job } from '../core/types.ts';
import type { Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';
import { breath } from './operator.ts';

const batch = 500;
const noTasks: readonly string[] = [];
/** How often a janitor looks without a hint, in stores that other processes share. */
export const overdueEveryMs = 5_000;
/** Finished jobs are deleted at most so long after their retention. */
export const pruneEveryMs = 3_600_000;
const pruneBatch = 1_000;

export interface Janitor {
  readonly step: Step;
  /** Told when jobs finish: there will be something to prune. Answers with when to look for it. */
  finished(): number;
}

export function createJanitor(host: Host, store: Store): Janitor {
  const { clock, retention } = host;
  const finite = [retention.successfulMs, retention.failedMs, retention.cancelledMs].filter((ms) => ms < Number.POSITIVE_INFINITY);
  const longestMs = Math.max(0, ...finite);
  let pruneAt = Number.NEGATIVE_INFINITY;
  // Where every change is hinted, nobody looks for what to prune once all that finished is pruned.
  let pruneUntil = clock.now() + longestMs + pruneEveryMs;

  const step = async () => {
    const now = clock.now();
    for (;;) {
      const jobs = await store.overdue({ now, limit: batch });
      const running = jobs.filter((job) => job.status === 'running');
      const expired = jobs.filter((job) => job.status === 'queued');
      if (running.length > 0) await recover(host, store, running, now);
      if (expired.length > 0) await expire(host, store, expired, now);
      if (jobs.length < batch) break;
      await breath();
    }
    if (now >= pruneAt && finite.length > 0) {
      await prune(host, store, now);
      pruneAt = now + pruneEveryMs;
    }
    const nextPruneAt = finite.length > 0 && now < pruneUntil ? pruneAt : Number.POSITIVE_INFINITY;
    const { overdueAt } = await store.nextDueAt({ now, tasks: noTasks });
    const lookAgainAt = store.pollMs === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : now + overdueEveryMs;
    return Math.min(nextPruneAt, lookAgainAt, overdueAt === null ? Number.POSITIVE_INFINITY : Math.max(overdueAt, now + 1));
  };

  return {
    step,
    finished() {
      pruneUntil = clock.now() + longestMs + pruneEveryMs;
      return finite.length > 0 ? pruneAt : Number.POSITIVE_INFINITY;
    },
  };
}

async function recover(host: Host, store: Store, orphans: readonly Job[], now: number): Promise<void> {
  const settlements = orphans.map((job) => {
    const error = recordError(new LeaseLostError('the lease passed without an outcome: the worker was killed, paused, or cut off'));
    return decide(job, defaultBackoff, { kind: 'lost', error }, now, 0);
  });
  const { answers } = await store.settle(settlements, { now });
  for (let i = 0; i < orphans.length; i++) {
    const job = orphans[i] as Job;
    const settlement = settlements[i];
    if (!settlement?.error || answers[i] === 'stale') continue;
    const before = answers[i] === 'cancelled' ? { ...job, cancelRequested: job.cancelRequested ?? 'cancelled' } : job;
    const after = settled(before, settlement);
    const of = { at: now, job: after, worker: job.worker ?? '', attempt: job.attempt };
    host.events.emit({ ...of, type: 'orphaned', error: settlement.error });
    if (after.status === 'failed') host.events.emit({ ...of, type: 'failed', error: settlement.error });
    if (after.status === 'cancelled') host.events.emit({ ...of, type: 'cancelled' });
    host.logger.warn(
      { task: job.task, job: job.id, worker: job.worker, attempt: job.attempt },
      `a lease was lost; the job is ${after.status}`,
    );
  }
}

async function expire(host: Host, store: Store, jobs: readonly Job[], now: number): Promise<void> {
  const amendments: Amendment[] = jobs.map((job) => ({
    id: job.id,
    expect: { status: 'queued', claim: job.claim },
    set: { status: 'cancelled', reason: 'expired', finishedAt: now },
  }));
  const rows = await store.amend(amendments, { now });
  for (const job of rows) if (job) host.events.emit({ type: 'cancelled', at: now, job, worker: null, attempt: job.attempt });
}

/** Deletes what has been finished for longer than its retention, in batches. */
async function prune({ retention }: Host, store: Store, now: number): Promise<void> {
  const kinds = [
    ['successful', retention.successfulMs],
    ['failed', retention.failedMs],
    ['cancelled', retention.cancelledMs],
  ] as const;
  for (const [status, keepMs] of kinds) {
    if (keepMs === Number.POSITIVE_INFINITY) continue;
    while ((await store.prune({ status, finishedBefore: now - keepMs, limit: pruneBatch })) === pruneBatch) await breath();
  }
}
