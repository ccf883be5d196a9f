/** The helper thread of `keeper.ts`. It sleeps while the worker's thread beats, and renews the worker's leases while it does not. */
import { isMainThread, workerData } from 'node:worker_threads';
import Sqlite from 'better-sqlite3';
import { systemClock } from '../../ports/clock.ts';

/** Where the shared state counts the beats, and says whether attempts are in flight. */
export const beats = 0;
export const active = 1;

export interface KeeperData {
  readonly file: string;
  readonly worker: string;
  readonly leaseMs: number;
  /** For how long the worker's thread may be blocked. */
  readonly limitMs: number;
  readonly patienceMs: number;
  readonly state: Int32Array;
}

const busyMs = 5_000;

function keep({ file, worker, leaseMs, limitMs, patienceMs, state }: KeeperData): void {
  let renew: ((until: number) => void) | undefined;
  for (;;) {
    Atomics.wait(state, active, 0);
    const seen = Atomics.load(state, beats);
    Atomics.wait(state, beats, seen, patienceMs);
    const isBlocked = () => Atomics.load(state, beats) === seen && Atomics.load(state, active) === 1;
    for (let blockedMs = patienceMs; isBlocked() && blockedMs < limitMs; blockedMs += patienceMs) {
      try {
        renew ??= renewal(file, worker);
        renew(systemClock.now() + leaseMs);
      } catch {
        // Locked, or full: tried again until the leases pass.
      }
      Atomics.wait(state, beats, seen, patienceMs);
    }
    // It stays blocked beyond the limit: its jobs are for others.
    while (isBlocked()) Atomics.wait(state, beats, seen, patienceMs);
  }
}

function renewal(file: string, worker: string): (until: number) => void {
  const db = new Sqlite(file, { fileMustExist: true, timeout: busyMs });
  const statement = db.prepare(
    "UPDATE escapement_jobs SET lease_until = ? WHERE worker = ? AND state = 'running' AND lease_until BETWEEN ? AND ?",
  );
  // A lease that has passed may be another's to judge.
  return (until) => void statement.run(until, worker, systemClock.now(), until);
}

if (!isMainThread && (workerData as KeeperData | null)?.state) keep(workerData as KeeperData);
