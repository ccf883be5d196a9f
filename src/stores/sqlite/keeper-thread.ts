/** The helper thread of `keeper.ts`. It sleeps while the worker's thread sends beats, and renews the worker's leases when the beats stop. */
import { isMainThread, workerData } from 'node:worker_threads';
import Sqlite, { type Database } from 'better-sqlite3';
import { systemClock } from '../../ports/clock.ts';

/** Indexes of the shared state: the number of beats, and the worker's activity. */
export const beats = 0;
export const activity = 1;
/** Values of the activity: no attempt is in flight; some are; the worker has stopped. */
export const idle = 0;
export const active = 1;
export const closed = 2;

export interface KeeperData {
  readonly file: string;
  readonly worker: string;
  readonly leaseMs: number;
  /** The longest time for which the worker's thread may be blocked. */
  readonly limitMs: number;
  readonly patienceMs: number;
  readonly state: Int32Array;
}

const busyMs = 5_000;

/**
 * Waits are limited even if there is nothing to check: a thread that is terminated just before it starts to wait is not woken, and the
 * process would not exit.
 */
const longestWaitMs = 1_000;

function keep({ file, worker, leaseMs, limitMs, patienceMs, state }: KeeperData): void {
  let db: Database | undefined;
  const read = () => Atomics.load(state, activity);
  /** Sleeps until the time is over or the condition no longer holds. */
  const sleep = (ms: number, holds: () => boolean, index: number, value: number) => {
    for (let left = ms; left > 0 && holds(); left -= longestWaitMs) Atomics.wait(state, index, value, Math.min(left, longestWaitMs));
  };
  while (read() !== closed) {
    sleep(Number.POSITIVE_INFINITY, () => read() === idle, activity, idle);
    const seen = Atomics.load(state, beats);
    const isBlocked = () => Atomics.load(state, beats) === seen && read() === active;
    sleep(patienceMs, isBlocked, beats, seen);
    for (let blockedMs = patienceMs; isBlocked() && blockedMs < limitMs; blockedMs += patienceMs) {
      try {
        db ??= new Sqlite(file, { fileMustExist: true, timeout: busyMs });
        renew(db, worker, systemClock.now() + leaseMs);
      } catch {
        // The database is locked or full: retried until the leases end.
      }
      sleep(patienceMs, isBlocked, beats, seen);
    }
    // The thread stays blocked beyond the limit, so other workers may take its jobs.
    sleep(Number.POSITIVE_INFINITY, isBlocked, beats, seen);
  }
  db?.close();
}

/** A lease that has ended is left alone: another worker may be handling it. */
function renew(db: Database, worker: string, until: number): void {
  db.prepare("UPDATE escapement_jobs SET lease_until = ? WHERE last_worker = ? AND state = 'running' AND lease_until BETWEEN ? AND ?").run(
    until,
    worker,
    systemClock.now(),
    until,
  );
}

if (!isMainThread && (workerData as KeeperData | null)?.state) keep(workerData as KeeperData);
