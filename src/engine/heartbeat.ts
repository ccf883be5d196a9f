/**
 * A worker's first duty: to renew the leases of what it runs, all in one call, and to learn which jobs it has lost or should cancel. When
 * renewals fail or are not answered for so long that a lease may pass, it fences itself: better to stop working on a job than to work on it
 * beside someone else. A worker that could not ask, because its process was stopped or its thread blocked, asks before it gives anything up.
 */
import type { Timer } from '../ports/clock.ts';
import type { RenewAnswer, Store } from '../ports/store.ts';
import type { RunningAttempt } from './attempt.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';

/** How long a claim or a renewal holds. */
export const leaseMs = 30_000;
/** How often leases are renewed: three chances before one passes. Up to a tenth earlier at random, so that workers spread. */
export const renewEveryMs = 10_000;
/** A worker that has asked for a renewal, and had none confirmed for this long, gives its attempt up before another may take the job. */
export const fenceAfterMs = 25_000;
/** How long a worker that asks late waits for the answer. */
const answerWithinMs = leaseMs - fenceAfterMs;

export interface Heartbeat {
  readonly step: Step;
  /** Attempts have begun: a renewal that is under way does not cover them. */
  begun(): void;
}

/** @param running the attempts in flight, by job id */
export function createHeartbeat(host: Host, store: Store, running: ReadonlyMap<string, RunningAttempt>): Heartbeat {
  const { clock, random } = host;

  /** The instant of the monotonic clock at which an attempt is fenced unless it is renewed before; Infinity: the store has not been asked. */
  function fenceAt({ ended, confirmedAt, askedAt }: RunningAttempt): number {
    return ended || askedAt === null ? Number.POSITIVE_INFINITY : Math.max(confirmedAt + fenceAfterMs, askedAt + answerWithinMs);
  }

  function fence(attempt: RunningAttempt): void {
    attempt.fence(`no renewal was confirmed for ${fenceAfterMs / 1_000} s`);
  }

  /** Armed from when a renewal is asked for until it is confirmed: it fences in time even if the store fails or never answers. */
  let watch: Timer | undefined;
  /** A renewal is under way. */
  let asking = false;
  /** One after the other: each attempt has been confirmed at its own time. */
  function fenceInTime(): void {
    watch?.cancel();
    const now = clock.monotonic();
    for (const attempt of running.values()) if (fenceAt(attempt) <= now) fence(attempt);
    let next = Number.POSITIVE_INFINITY;
    for (const attempt of running.values()) next = Math.min(next, fenceAt(attempt));
    watch = next === Number.POSITIVE_INFINITY ? undefined : clock.after(next - now, fenceInTime);
  }

  function asked(): void {
    for (const attempt of running.values()) attempt.askedAt ??= clock.monotonic();
    fenceInTime();
  }

  const step = async () => {
    const askedAt = clock.now();
    const askedAfter = clock.monotonic();
    asked();
    if (running.size === 0) return Number.POSITIVE_INFINITY;
    const attempts = [...running.values()];
    const held = attempts.map(({ job, progress, savedProgress }) => ({
      id: job.id,
      claim: job.claim,
      progress: progress === savedProgress ? null : progress,
    }));
    asking = true;
    let answers: readonly RenewAnswer[];
    try {
      answers = await store.renew(held, { now: askedAt, leaseUntil: askedAt + leaseMs });
    } catch (error) {
      // Asked late, and not even answered: the leases may have passed long ago.
      for (const attempt of attempts) if (clock.monotonic() - attempt.confirmedAt >= fenceAfterMs) fence(attempt);
      throw error;
    } finally {
      asking = false;
    }
    watch?.cancel();
    for (let i = 0; i < attempts.length; i++) {
      const attempt = attempts[i] as RunningAttempt;
      const answer = answers[i];
      if (answer?.kind === 'lost') attempt.fence('another worker has the job, or it is over');
      // The store counts the lease from when it was asked for, however late it answers.
      else {
        attempt.confirmedAt = askedAfter;
        attempt.askedAt = null;
        attempt.savedProgress = held[i]?.progress ?? attempt.savedProgress;
      }
      if (answer?.kind === 'cancelled') attempt.cancel(answer.reason);
    }
    return running.size === 0 ? Number.POSITIVE_INFINITY : askedAt + renewEveryMs * (1 - 0.1 * random.fraction('renew.jitter'));
  };

  return {
    step,
    begun() {
      if (asking) asked();
    },
  };
}
