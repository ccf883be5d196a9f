/**
 * A worker's first duty: to renew the leases of what it runs, all in one call, and to learn which jobs it has lost or should cancel. When
 * it could not for so long that a lease may have passed (a failing store, a blocked process), it fences itself: better to stop working on a
 * job than to work on it beside someone else.
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
/** Without a confirmed renewal for so long, a worker gives its attempt up by itself, before another may take the job. */
export const fenceAfterMs = 25_000;

export interface Heartbeat {
  readonly step: Step;
  /** Told when attempts have begun: a renewal that is under way does not know them. */
  begun(): void;
}

/** @param running the attempts in flight, by job id */
export function createHeartbeat(host: Host, store: Store, running: ReadonlyMap<string, RunningAttempt>): Heartbeat {
  const { clock, random } = host;

  function fenceLate(now: number): void {
    for (const attempt of running.values()) {
      if (!attempt.ended && now - attempt.confirmedAt >= fenceAfterMs)
        attempt.fence(`no renewal was confirmed for ${fenceAfterMs / 1_000} s`);
    }
  }

  /** The earliest instant at which an attempt must be fenced unless it is renewed before. */
  function nextFenceAt(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const attempt of running.values()) if (!attempt.ended) earliest = Math.min(earliest, attempt.confirmedAt + fenceAfterMs);
    return earliest;
  }

  /** Armed from when a renewal is asked for until it is confirmed: it fences in time even if the store fails or never answers. */
  let watch: Timer | undefined;
  /** A renewal is under way. */
  let asking = false;
  /** One after the other: each attempt has been confirmed at its own time. */
  function fenceInTime(): void {
    watch?.cancel();
    fenceLate(clock.now());
    const next = nextFenceAt();
    watch = next === Number.POSITIVE_INFINITY ? undefined : clock.at(next, fenceInTime);
  }

  const step = async () => {
    const askedAt = clock.now();
    fenceInTime();
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
        attempt.confirmedAt = askedAt;
        attempt.savedProgress = held[i]?.progress ?? attempt.savedProgress;
      }
      if (answer?.kind === 'cancelled') attempt.cancel(answer.reason);
    }
    return running.size === 0 ? Number.POSITIVE_INFINITY : askedAt + renewEveryMs * (1 - 0.1 * random.fraction('renew.jitter'));
  };

  return {
    step,
    begun() {
      if (asking) fenceInTime();
    },
  };
}
