/** Backends whose jobs are not run by the engine's workers, but by workers of their own, which run attempts as the engine does. */
import type { Host } from '../engine/host.ts';
import type { WorkerSettings } from '../engine/worker.ts';
import type { Backend } from '../ports/backend.ts';

/** What an application does with a worker. The engine's workers have it too. */
export interface OwnWorker {
  readonly id: string;
  start(): void;
  /** Lets attempts end; aborts their signals after `graceMs`, and gives their jobs back a little later. */
  stop(graceMs: number): Promise<void>;
  /** The application has defined another schedule. */
  declare(): void;
}

export interface WithOwnWorker extends Backend {
  ownWorker(host: Host, settings: WorkerSettings): Promise<OwnWorker>;
}

export function hasOwnWorker(backend: Backend): backend is WithOwnWorker {
  return 'ownWorker' in backend;
}
