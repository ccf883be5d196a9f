/** A worker's fourth duty: to say that it is there, for those who look: what it serves, how busy it is, and when it was last heard of. */
import type { WorkerRow } from '../core/types.ts';
import type { Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';

/** How often a worker is heard of, in stores that other processes share. */
export const registerEveryMs = 10_000;
/** Workers that were not heard of for so long are forgotten. */
export const forgetAfterMs = 86_400_000;

/** @param describe the worker as it is now */
export function createRegistry(
  host: Host,
  store: Store,
  describe: () => Omit<WorkerRow, 'tasks' | 'heartbeatAt' | 'host' | 'pid' | 'version'>,
): Step {
  return async () => {
    const now = host.clock.now();
    const row = { ...host.machine, ...describe(), tasks: host.names(), heartbeatAt: now };
    await store.saveWorker(row, { forgetBefore: now - forgetAfterMs });
    // Where nobody else looks, nothing is said but what changes.
    return store.pollMs === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : now + registerEveryMs;
  };
}
