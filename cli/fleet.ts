/** Who works: the workers as their registry knows them, and the ready jobs that none of them would take. */
import type { QueueStats, Tasks, WorkerInfo } from 'escapement';
import { pages } from './jobs.ts';

/** A worker that runs is heard of every 10 s; after three times that it is taken for gone. */
const silentAfterMs = 30_000;
/** How long a job is ready before it is said that nobody knows its task: a deployment may be on its way. */
const unknownAfterMs = 60_000;
/** How many ready jobs are looked at. */
const lookedAt = 5_000;

export function isLive(worker: WorkerInfo, now: number): boolean {
  return worker.state !== 'stopped' && now - worker.heartbeatAt.getTime() < silentAfterMs;
}

/** The state that people are told: `silent` is a worker that neither said goodbye nor was heard of for long. */
export function stateOf(worker: WorkerInfo, now: number): WorkerInfo['state'] | 'silent' {
  return worker.state === 'stopped' || isLive(worker, now) ? worker.state : 'silent';
}

export function serves({ queues, exclude }: WorkerInfo, queue: string): boolean {
  return (queues === null || queues.includes(queue)) && !exclude?.includes(queue);
}

/** The schedules that code of a worker defines; undefined where it does not say, which old ones do not. */
export function declaredBy(worker: WorkerInfo): ReadonlySet<string> {
  return new Set(Object.keys(worker.schedules));
}

/** A task whose ready jobs no live worker knows. */
export interface UnknownTask {
  readonly task: string;
  readonly jobs: number;
  readonly oldestDueAt: Date;
}

/** By name; of the newest ready jobs, those that were due a minute ago and that no live worker that serves their queue knows. */
export async function unknownTasks(
  tasks: Tasks,
  queues: readonly QueueStats[],
  workers: readonly WorkerInfo[],
  now: number,
): Promise<UnknownTask[]> {
  const live = workers.filter((worker) => isLive(worker, now));
  const found = new Map<string, UnknownTask>();
  if (live.length === 0 || !queues.some(({ counts }) => counts.ready > 0)) return [];
  const known = new Map(queues.map(({ name }) => [name, knownIn(name, live)]));
  for await (const page of pages(tasks, { status: 'ready' }, lookedAt)) {
    for (const { task, queue, dueAt } of page) {
      if (now - dueAt.getTime() < unknownAfterMs || (known.get(queue)?.has(task) ?? true)) continue;
      const before = found.get(task);
      const oldestDueAt = before && before.oldestDueAt < dueAt ? before.oldestDueAt : dueAt;
      found.set(task, { task, jobs: (before?.jobs ?? 0) + 1, oldestDueAt });
    }
  }
  return [...found.values()].sort((a, b) => (a.task < b.task ? -1 : 1));
}

/** The tasks that workers of this queue know; undefined where it has none, which is a fault of its own. */
function knownIn(queue: string, live: readonly WorkerInfo[]): ReadonlySet<string> | undefined {
  const its = live.filter((worker) => serves(worker, queue));
  return its.length === 0 ? undefined : new Set(its.flatMap(({ tasks }) => tasks));
}
