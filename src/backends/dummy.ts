/** A backend that runs nothing and records what is enqueued, for tests that check only enqueueing (DEP 14's DummyBackend). */

import type { Host } from '../engine/host.ts';
import type { Backend, BackendSupports } from '../ports/backend.ts';
import { memory } from '../stores/memory/index.ts';
import { EngineBackend } from './engine.ts';

/** A backend without workers: `immediate()` or `dummy()`. */
export interface BackendSource {
  readonly kind: 'backend';
  readonly name: string;
  create(host: Host): Backend;
}

class DummyBackend extends EngineBackend {
  override get supports(): BackendSupports {
    return { ...super.supports, transactions: false, workers: false, shared: false };
  }
}

/**
 * Records what is enqueued and runs nothing.
 * @example createTasks({ backend: dummy() })
 */
export function dummy(): BackendSource {
  return { kind: 'backend', name: 'dummy', create: (host) => new DummyBackend(host, { ...memory(), name: 'dummy' }) };
}
