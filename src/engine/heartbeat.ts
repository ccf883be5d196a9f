/**
 * A worker's first duty: renewing the leases of its running jobs, all in one call, which also reports the jobs it has lost or should
 * cancel. If renewals fail or get no answer until a lease may end, the worker fences itself: it stops working on a job rather
 * than risk that two workers run it. A worker that could not ask, because its process was suspended or its thread blocked, asks before it
 * gives up any attempt.
 */
import type { Timer } from '../ports/clock.ts';
import type { Held, JobStore, RenewAnswer } from '../ports/store.ts';
import type { RunningAttempt } from './attempt.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';

/** How long a claim or a renewal is valid. */
export const leaseMs = 30_000;
/** How often leases are renewed: three times before one ends. Up to a tenth earlier at random, to spread the workers. */
export const renewEveryMs = 10_000;
/** A worker that has requested a renewal but has had none confirmed for this long gives up its attempt, before another worker may take the job. */
export const fenceAfterMs = 25_000;
/** How long a worker that renews late waits for the answer. */
export const answerWithinMs = leaseMs - fenceAfterMs;

export interface Heartbeat {
  readonly step: Step;
  /** Called when attempts have started. A renewal in progress does not cover them. */
  begun(): void;
}

/** @param running the attempts in flight, by job id */
export function createHeartbeat(host: Host, store: JobStore, running: ReadonlyMap<string, RunningAttempt>): Heartbeat {
  const { clock, random } = host;

  /** The instant of the monotonic clock at which an attempt is fenced unless it is renewed before. Infinity: no renewal has been requested. */
  function fenceAt({ ended, confirmedAt, renewalRequestedAt }: RunningAttempt): number {
    return ended || renewalRequestedAt === null
      ? Number.POSITIVE_INFINITY
      : Math.max(confirmedAt + fenceAfterMs, renewalRequestedAt + answerWithinMs);
  }

  function fence(attempt: RunningAttempt): void {
    attempt.fence(`no renewal was confirmed for ${fenceAfterMs / 1_000} s`);
  }

  /** Set from the request of a renewal until it is confirmed. It fences in time even if the store fails or never answers. */
  let watch: Timer | undefined;
  /** True while a renewal is in progress. */
  let isRenewing = false;
  /** Each attempt was confirmed at a different time, so each is fenced at its own deadline. */
  function fenceInTime(): void {
    watch?.cancel();
    const now = clock.monotonic();
    for (const attempt of running.values()) if (fenceAt(attempt) <= now) fence(attempt);
    let next = Number.POSITIVE_INFINITY;
    for (const attempt of running.values()) next = Math.min(next, fenceAt(attempt));
    watch = next === Number.POSITIVE_INFINITY ? undefined : clock.after(next - now, fenceInTime);
  }

  function markRequested(): void {
    for (const attempt of running.values()) attempt.renewalRequestedAt ??= clock.monotonic();
    fenceInTime();
  }

  const step = async () => {
    const requestedAt = clock.now();
    const requestedMonotonicAt = clock.monotonic();
    markRequested();
    if (running.size === 0) return Number.POSITIVE_INFINITY;
    const attempts = [...running.values()];
    const held: readonly Held[] = attempts.map(({ job, notes }) => ({
      id: job.id,
      claim: job.claim,
      progress: notes.unsavedProgress,
      ...notes.unsaved,
    }));
    isRenewing = true;
    let answers: readonly RenewAnswer[];
    try {
      answers = await store.renew(held, { now: requestedAt, leaseUntil: requestedAt + leaseMs });
    } catch (error) {
      // The renewal was late and got no answer, so the leases may have ended long ago.
      for (const attempt of attempts) if (clock.monotonic() - attempt.confirmedAt >= fenceAfterMs) fence(attempt);
      throw error;
    } finally {
      isRenewing = false;
    }
    watch?.cancel();
    for (let i = 0; i < attempts.length; i++) {
      const attempt = attempts[i] as RunningAttempt;
      const answer = answers[i];
      // After ctx.complete() the job may have ended with the transaction; the attempt finds out when it is confirmed.
      if (answer?.kind === 'lost' && attempt.isCompleted) attempt.renewalRequestedAt = null;
      else if (answer?.kind === 'lost') attempt.fence('another worker holds the job, or it has finished');
      // The store counts the lease from the time of the request, however late it answers.
      else {
        attempt.confirmedAt = requestedMonotonicAt;
        attempt.renewalRequestedAt = null;
        attempt.notes.saved(held[i] ?? {});
      }
      if (answer?.kind === 'cancelled') attempt.cancel(answer.reason);
    }
    return running.size === 0 ? Number.POSITIVE_INFINITY : requestedAt + renewEveryMs * (1 - 0.1 * random.fraction('renew.jitter'));
  };

  return {
    step,
    begun() {
      if (isRenewing) markRequested();
    },
  };
}
