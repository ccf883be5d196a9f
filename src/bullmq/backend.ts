/**
 * A backend whose jobs are in BullMQ's queues and run by its workers. Reads and operations are the same as in every backend, on top of
 * `BullStore`.
 */
import { EngineBackend } from '../backends/engine.ts';
import type { OwnWorker, WithOwnWorker } from '../backends/own-worker.ts';
import type { Host } from '../engine/host.ts';
import type { WorkerSettings } from '../engine/worker.ts';
import type { BackendSupports } from '../ports/backend.ts';
import { Connection, type Place } from './connection.ts';
import { BullStore } from './store.ts';
import { BullWorker } from './worker.ts';

export class BullBackend extends EngineBackend implements WithOwnWorker {
  constructor(host: Host, place: Place) {
    const { clock, newId } = host;
    const now = () => clock.now();
    const open = () => new BullStore(new Connection(place), now, () => newId(now()));
    super(host, { kind: 'store', name: 'bullmq', shared: true, open });
  }

  override get supports(): BackendSupports {
    return { defer: true, results: true, priority: true, transactions: false, workers: true, shared: true, engine: false };
  }

  async ownWorker(host: Host, settings: WorkerSettings): Promise<OwnWorker> {
    return new BullWorker(host, (await this.open()) as BullStore, settings);
  }
}
