/**
 * The task that undoes what the parts of a failed workflow have done. It is a job of the workflow that runs when all others have ended. It
 * adds one job for each successful part that has a `compensate` task, from the latest to the earliest, one after another. They also wait
 * for this job, so that none runs before all are added. When the workflow is retried, this job waits again, and the parts that were undone
 * run again (`core/workflow`).
 */

import { defaultBackoff } from '../core/backoff.ts';
import type { Definition } from '../core/definition.ts';
import { newJob } from '../core/job.ts';
import type { Job } from '../core/types.ts';
import { compensateTask, type Part, roundOf, undoingId } from '../core/workflow.ts';
import type { Backend } from '../ports/backend.ts';
import type { Store } from '../ports/store.ts';
import type { Host } from './host.ts';

/** What the task needs from its application. */
export interface Compensating {
  readonly host: () => Host;
  /** The backend that has the job. */
  readonly backendOf: (result: unknown) => Backend;
}

export function compensateDefinition({ host, backendOf }: Compensating): Definition {
  return {
    name: compensateTask,
    backend: 'default',
    queue: 'default',
    priority: 0,
    schema: null,
    maxAttempts: 20,
    backoff: defaultBackoff,
    retryable: null,
    timeoutMs: null,
    expires: null,
    tags: [],
    retention: null,
    unique: null,
    concurrency: null,
    rate: null,
    isolate: null,
    run: async (_, ctx) => {
      const backend = backendOf(ctx.result);
      const store = await backend.open();
      const [own] = await store.get([ctx.id]);
      const workflow = own?.job.workflow;
      if (!own || workflow == null) return;
      const jobs = await partsOf(store, workflow, host().clock.now());
      if (!jobs.some((job) => isFailure(job) && job.id !== ctx.id)) return 0;
      const undone = new Set(jobs.flatMap(({ status, part }) => (status === 'successful' && part?.undoes ? [keyOf(part.undoes)] : [])));
      const done = jobs
        .filter(({ id, attempt, status, part }) => status === 'successful' && part?.compensate && !undone.has(keyOf({ job: id, attempt })))
        .sort((a, b) => (b.finishedAt ?? 0) - (a.finishedAt ?? 0) || (b.part?.place ?? 0) - (a.part?.place ?? 0));
      const now = host().clock.now();
      const undoing = done.map((job) => undo(host(), own.job, job, now));
      const edges = undoing.flatMap(({ id: child }, i) => {
        const before = undoing[i - 1];
        return [ctx.id, ...(before ? [before.id] : [])].map((parent) => ({ parent, child }));
      });
      if (undoing.length > 0) await backend.enqueue(undoing, { now, once: true, edges });
      return undoing.length;
    },
  };
}

function keyOf({ job, attempt }: NonNullable<Part['undoes']>): string {
  return `${job} ${attempt}`;
}

function isFailure({ status, part }: Job): boolean {
  return (status === 'failed' || status === 'cancelled') && !part?.allowFailure;
}

async function partsOf(store: Store, workflow: string, now: number): Promise<Job[]> {
  const jobs: Job[] = [];
  let cursor: string | undefined;
  do {
    const found = await store.list({ workflow }, { now, limit: 500, cursor });
    for (const { job } of found.items) jobs.push(job);
    cursor = found.cursor ?? undefined;
  } while (cursor !== undefined);
  return jobs;
}

/** The job that undoes another. Its input is what the other returned. If it fails, the remaining ones still run. */
function undo({ definitions }: Host, own: Job, job: Job, now: number): Job {
  const task = job.part?.compensate as string;
  const definition = definitions.get(task);
  const part: Part = {
    key: `undo ${job.part?.key}`,
    of: job.part?.of ?? '',
    place: null,
    fill: 'none',
    delayMs: null,
    expiresMs: null,
    allowFailure: true,
    always: false,
    onFailure: 'dependents',
    compensate: null,
    undoes: { job: job.id, attempt: job.attempt },
  };
  const request = {
    task,
    queue: definition?.queue ?? job.queue,
    priority: definition?.priority ?? job.priority,
    input: job.returnValue,
    runAfter: null,
    expiresAt: null,
    maxAttempts: definition?.maxAttempts ?? job.maxAttempts,
    tags: definition?.tags ?? [],
    metadata: {},
    schedule: null,
    scheduledAt: null,
    overrides: { retention: { ...definition?.retention, ...own.overrides?.retention } },
    enqueuedBy: own.id,
    workflow: own.workflow,
    part,
    isWaiting: true,
  };
  return newJob(request, undoingId(job.id, roundOf(own)), now);
}
