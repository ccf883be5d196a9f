/** Maps an attempt's outcome to its job's next state. This is the only place that does so; every store applies these decisions. */
import { type Backoff, backoffMs, retryAfterMs } from './backoff.ts';
import { latestInstant } from './duration.ts';
import type { RecordedError } from './failure.ts';
import type { Job, Progress, Settlement } from './types.ts';

/** An attempt's outcome, as the worker saw it. */
export type Outcome =
  | { readonly kind: 'done'; readonly value: string | null }
  | { readonly kind: 'snoozed'; readonly delayMs: number }
  | { readonly kind: 'cancelled'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: RecordedError; readonly thrown: unknown; readonly permanent: boolean }
  /** The lease ended without an outcome. */
  | { readonly kind: 'lost'; readonly error: RecordedError }
  /** The worker returned the job to the queue because it is stopping. */
  | { readonly kind: 'released' };

/** After losing this many leases in a row without an outcome, a job is considered to kill its workers. */
export const poisonedAfterLosses = 3;

/**
 * Turns the outcome of one attempt into the row's next state. Pure and total.
 * @param job the row as it was claimed
 * @param backoff the task's retry delays; used only if the attempt failed
 * @param now epoch milliseconds
 * @param fraction a random number in [0, 1), for the jitter
 */
export function decide(
  job: Job,
  backoff: Backoff,
  outcome: Outcome,
  now: number,
  fraction: number,
  progress: Progress | null = null,
): Settlement {
  const same = {
    id: job.id,
    claim: job.claim,
    attempt: job.attempt,
    settledAt: now,
    dueAt: job.dueAt,
    losses: 0,
    returnValue: null,
    reason: null,
    error: null,
    progress,
  };
  switch (outcome.kind) {
    case 'done':
      return { ...same, outcome: 'successful', status: 'successful', returnValue: outcome.value };
    case 'cancelled':
      return { ...same, outcome: 'cancelled', status: 'cancelled', reason: outcome.reason };
    case 'snoozed':
      // The attempt number is given back, but not the claim number: otherwise a stale worker could settle this job.
      return {
        ...same,
        outcome: 'snoozed',
        status: 'queued',
        attempt: job.attempt - 1,
        dueAt: Math.min(now + outcome.delayMs, latestInstant),
      };
    case 'released':
      // Losses are kept: a stop does not show whether the job kills its workers.
      return { ...same, outcome: 'released', status: 'queued', attempt: job.attempt - 1, losses: job.losses };
    case 'lost': {
      const lost = { ...same, outcome: 'lost', losses: job.losses + 1, error: outcome.error } as const;
      if (lost.losses >= poisonedAfterLosses) return { ...lost, status: 'failed', reason: 'poisoned' };
      if (job.attempt >= job.maxAttempts) return { ...lost, status: 'failed', reason: 'lease lost' };
      return { ...lost, status: 'queued', dueAt: now };
    }
    case 'failed': {
      const failed = { ...same, outcome: 'failed', error: outcome.error } as const;
      if (outcome.permanent) return { ...failed, status: 'failed', reason: 'permanent' };
      if (job.attempt >= job.maxAttempts) return { ...failed, status: 'failed' };
      const delayMs = Math.max(backoffMs(backoff, job.attempt, fraction, outcome.thrown), retryAfterMs(outcome.thrown));
      return { ...failed, status: 'queued', dueAt: Math.min(now + delayMs, latestInstant) };
    }
  }
}
