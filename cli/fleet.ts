/** The registered workers, and the ready jobs that none of them can run. */
import type { QueueStats, Tasks, WorkerInfo } from 'escapement';
import { pages } from './jobs.ts';

/** Workers send a heartbeat every 10 s; after three missed ones, a worker counts as silent. */
const silentAfterMs = 30_000;
/** The time that a job is ready before its task is reported as unknown: a deployment may be in progress. */
const unknownAfterMs = 60_000;
/** The number of ready jobs to examine. */
const maxRead = 5_000;

export function isLive(worker: WorkerInfo, now: number): boolean {
  return worker.state !== 'stopped' && now - worker.heartbeatAt.getTime() < silentAfterMs;
}

/** The displayed state of a worker: `silent` means no recent heartbeat and no clean shutdown. */
export function stateOf(worker: WorkerInfo, now: number): WorkerInfo['state'] | 'silent' {
  return worker.state === 'stopped' || isLive(worker, now) ? worker.state : 'silent';
}

export function serves({ queues, exclude }: WorkerInfo, queue: string): boolean {
  return (queues === null || queues.includes(queue)) && !exclude?.includes(queue);
}

/** The schedules that a worker's code defines; undefined for old workers, which do not report them. */
export function declaredBy(worker: WorkerInfo): ReadonlySet<string> {
  return new Set(Object.keys(worker.schedules));
}

/** A task with ready jobs that no live worker can run. */
export interface UnknownTask {
  readonly task: string;
  readonly jobs: number;
  readonly oldestDueAt: Date;
}

/** Tasks, by name, with ready jobs that were due a minute ago and that no live worker of their queue can run; among the newest ready jobs. */
export async function unknownTasks(
  store: Pick<Tasks, 'jobs'>,
  queues: readonly QueueStats[],
  workers: readonly WorkerInfo[],
  now: number,
): Promise<UnknownTask[]> {
  const live = workers.filter((worker) => isLive(worker, now));
  const found = new Map<string, UnknownTask>();
  if (live.length === 0 || !queues.some(({ counts }) => counts.ready > 0)) return [];
  const known = new Map(queues.map(({ name }) => [name, knownIn(name, live)]));
  for await (const page of pages(store, { status: 'ready' }, maxRead)) {
    for (const { task, queue, dueAt } of page) {
      if (now - dueAt.getTime() < unknownAfterMs || (known.get(queue)?.has(task) ?? true)) continue;
      const before = found.get(task);
      const oldestDueAt = before && before.oldestDueAt < dueAt ? before.oldestDueAt : dueAt;
      found.set(task, { task, jobs: (before?.jobs ?? 0) + 1, oldestDueAt });
    }
  }
  return [...found.values()].sort((a, b) => (a.task < b.task ? -1 : 1));
}

/** The tasks of the workers of this queue; undefined if the queue has no workers, which is reported separately. */
function knownIn(queue: string, live: readonly WorkerInfo[]): ReadonlySet<string> | undefined {
  const serving = live.filter((worker) => serves(worker, queue));
  return serving.length === 0 ? undefined : new Set(serving.flatMap(({ tasks }) => tasks));
}
