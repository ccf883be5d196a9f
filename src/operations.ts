/** Operations on what is there: jobs and queues, one by one or by what they have in common. */
import type { App } from './app.ts';
import { type Duration, durationMs } from './core/duration.ts';
import type { Status } from './core/types.ts';
import { cancelJobs, retryJobs } from './engine/operator.ts';
import { OptionReader } from './options.ts';
import type { QueueStats, Store } from './ports/store.ts';
import { resultOf, type TaskResult } from './result.ts';

/** Which jobs: all that is given must hold. */
export interface JobSelection {
  ids?: readonly string[];
  status?: Status | readonly Status[];
  task?: { readonly name: string } | string;
  queue?: string;
  schedule?: string;
  tag?: string;
}

/** Operations on jobs: `tasks.jobs`. */
export interface Jobs {
  /** Newest first. @param selection.limit 1 … 1,000. Default 50 */
  list(selection?: JobSelection & { limit?: number; after?: string }): Promise<{ items: TaskResult[]; cursor?: string }>;
  /** Runs failed and cancelled jobs again; resolves to how many. */
  retry(selection?: JobSelection): Promise<number>;
  /** Cancels unfinished jobs; resolves to how many. */
  cancel(selection?: JobSelection, reason?: string): Promise<number>;
  /** Deletes jobs that finished so long ago; resolves to how many. */
  prune(options: { olderThan: Duration; status?: 'successful' | 'failed' | 'cancelled' }): Promise<number>;
}

/** A worker's entry in the registry. */
export interface WorkerInfo {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** Null: all. */
  readonly queues: readonly string[] | null;
  readonly exclude: readonly string[] | null;
  /** The tasks that it knows. */
  readonly tasks: readonly string[];
  /** The schedules that its code defines: the hash of each by its name. */
  readonly schedules: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Attempts in flight at the last heartbeat. */
  readonly running: number;
  readonly state: 'running' | 'stopping' | 'stopped';
  readonly startedAt: Date;
  /** A worker that runs is heard of every 10 s, in stores that several processes share. */
  readonly heartbeatAt: Date;
}

/** The registry of workers: `tasks.workers`. */
export interface Workers {
  /** Ordered by start; those that stopped or vanished are forgotten after a day. */
  list(): Promise<WorkerInfo[]>;
}

export function workersOf(app: App): Workers {
  return {
    async list() {
      const rows = await (await app.backend('default').open()).listWorkers();
      return rows.map(({ excludeQueues, startedAt, heartbeatAt, ...row }) => ({
        ...row,
        exclude: excludeQueues,
        startedAt: new Date(startedAt),
        heartbeatAt: new Date(heartbeatAt),
      }));
    },
  };
}

/** Operations on queues: `tasks.queues`. */
export interface Queues {
  /** Nothing is claimed from the queue until it is resumed; what runs goes on. */
  pause(name: string): Promise<void>;
  resume(name: string): Promise<void>;
  list(): Promise<QueueStats[]>;
}

export function jobsOf(app: App): Jobs {
  const store = () => app.backend('default').open();
  const filterOf = (selection: JobSelection = {}) => ({
    ids: selection.ids,
    status: typeof selection.status === 'string' ? [selection.status] : selection.status,
    task: typeof selection.task === 'string' ? selection.task : selection.task?.name,
    queue: selection.queue,
    schedule: selection.schedule,
    tag: selection.tag,
  });
  const readSelection = (selection: object | undefined, more: readonly string[] = []) => {
    const read = new OptionReader('The selection of jobs cannot be used');
    read.object(selection, '', ['ids', 'status', 'task', 'queue', 'schedule', 'tag', ...more]);
    return read;
  };
  return {
    async list(selection = {}) {
      const read = readSelection(selection, ['limit', 'after']);
      const limit = read.integer(selection.limit, 'limit', 1, 1_000) ?? 50;
      read.done();
      const now = app.binding.host.clock.now();
      const page = await (await store()).list(filterOf(selection), { now, limit, cursor: selection.after });
      const items = page.items.map((record) => resultOf(app, 'default', record));
      return page.cursor === null ? { items } : { items, cursor: page.cursor };
    },
    async retry(selection) {
      readSelection(selection).done();
      const count = await retryJobs(app.binding.host, await store(), filterOf(selection));
      await app.backend('default').requeued();
      return count;
    },
    async cancel(selection, reason = 'cancelled') {
      readSelection(selection).done();
      return cancelJobs(app.binding.host, await store(), filterOf(selection), reason);
    },
    async prune(options) {
      const olderThanMs = durationMs(options?.olderThan, 'jobs.prune().olderThan');
      const finishedBefore = app.binding.host.clock.now() - olderThanMs;
      const opened = await store();
      let count = 0;
      for (const status of options.status ? [options.status] : (['successful', 'failed', 'cancelled'] as const)) {
        let deleted: number;
        do {
          deleted = await opened.prune({ status, finishedBefore, limit: pruneBatch });
          count += deleted;
        } while (deleted === pruneBatch);
      }
      return count;
    },
  };
}

const pruneBatch = 1_000;

export function queuesOf(app: App): Queues {
  const save = async (name: string, paused: boolean) => {
    const read = new OptionReader('The queue cannot be paused or resumed');
    read.queue(name, 'name', app.known.queues);
    read.done();
    const store: Store = await app.backend('default').open();
    await store.saveQueue({ name, paused }, { now: app.binding.host.clock.now() });
  };
  return {
    pause: (name) => save(name, true),
    resume: (name) => save(name, false),
    list: async () => [...(await (await app.backend('default').open()).stats({ now: app.binding.host.clock.now() }))],
  };
}
