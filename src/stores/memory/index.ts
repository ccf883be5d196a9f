/** The backend `memory()`: keeps jobs in the process, for tests and for work that may be lost. */
import type { StoreSource } from '../../ports/store.ts';
import { MemoryStore } from './store.ts';

/**
 * Keeps jobs in memory; the engine is the same as in production. All jobs are lost when the process ends.
 * @example createTasks({ backend: memory() })
 */
export function memory(): StoreSource {
  return { kind: 'store', name: 'memory', shared: false, open: () => new MemoryStore() };
}
