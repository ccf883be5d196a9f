/** Backends whose jobs are run by their own workers instead of the engine's. They run attempts as the engine does. */
import type { Host } from '../engine/host.ts';
import type { WorkerSettings } from '../engine/worker.ts';
import type { Backend } from '../ports/backend.ts';

/** The part of a worker that an application uses. The engine's workers have it too. */
export interface OwnWorker {
  readonly id: string;
  start(): void;
  /** Lets attempts end. Aborts their signals after `graceMs`, and returns their jobs to the queue a little later. */
  stop(graceMs: number): Promise<void>;
  /** Called when the application has defined another schedule. */
  declare(): void;
}

export interface WithOwnWorker extends Backend {
  ownWorker(host: Host, settings: WorkerSettings): Promise<OwnWorker>;
}

export function hasOwnWorker(backend: Backend): backend is WithOwnWorker {
  return 'ownWorker' in backend;
}
