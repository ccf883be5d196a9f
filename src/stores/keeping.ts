/**
 * The loop of the helper threads of `keeper.ts`. A helper thread sleeps while the worker's thread sends beats, and renews the worker's
 * leases when the beats stop. Each store implements the renewal.
 */
import { systemClock } from '../ports/clock.ts';

/** Indexes into the shared state: the number of beats, and the worker's activity. */
export const beats = 0;
export const activity = 1;
/** Values of the activity: no attempt is in flight; some are; the worker has stopped. */
export const idle = 0;
export const active = 1;
export const closed = 2;

/** The data passed to a helper thread. `place` is the location of the jobs. */
export interface KeeperData<Place> {
  readonly place: Place;
  readonly worker: string;
  readonly leaseMs: number;
  /** The longest time that the worker's thread may be blocked. */
  readonly limitMs: number;
  readonly patienceMs: number;
  readonly state: Int32Array;
}

/** Renews the leases of a worker. */
export interface Renewing {
  /** Extends the leases that have not ended to `leaseMs` from now. If it throws, it is called again until the leases have ended. */
  renew(): void | Promise<void>;
  /** Called when the worker's thread is no longer blocked. */
  rest(): void | Promise<void>;
  close(): void;
}

/**
 * Waits are limited even if there is nothing to check: a thread that is terminated just before it starts to wait is not woken, and the
 * process would not exit.
 */
const longestWaitMs = 1_000;

/** Resolves when the worker has stopped. */
export async function keep({ limitMs, patienceMs, state }: KeeperData<unknown>, renewing: Renewing): Promise<void> {
  const read = () => Atomics.load(state, activity);
  /** Sleeps until the time is over or the condition no longer holds. */
  const sleep = (ms: number, holds: () => boolean, index: number, value: number) => {
    for (let left = ms; left > 0 && holds(); left -= longestWaitMs) Atomics.wait(state, index, value, Math.min(left, longestWaitMs));
  };
  while (read() !== closed) {
    sleep(Number.POSITIVE_INFINITY, () => read() === idle, activity, idle);
    const seen = Atomics.load(state, beats);
    const isBlocked = () => Atomics.load(state, beats) === seen && read() === active;
    const blockedAt = systemClock.monotonic();
    sleep(patienceMs, isBlocked, beats, seen);
    while (isBlocked() && systemClock.monotonic() - blockedAt < limitMs) {
      try {
        await renewing.renew();
      } catch {
        // The database is locked, full or unreachable: retried until the leases end.
      }
      sleep(patienceMs, isBlocked, beats, seen);
    }
    await renewing.rest();
    // The thread stays blocked beyond the limit, so other workers may take its jobs.
    sleep(Number.POSITIVE_INFINITY, isBlocked, beats, seen);
  }
  renewing.close();
}
