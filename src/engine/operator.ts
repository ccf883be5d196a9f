/**
 * Changes that callers and operators make to jobs from outside an attempt: cancel, retry, prioritize, edit, delete. Each one reads the job,
 * decides, and changes it if it is still as read; otherwise it starts over.
 */

import { dependentEvents } from '../core/changes.ts';
import { DuplicateJobError, InputError } from '../core/errors.ts';
import { cut, maxTextBytes } from '../core/failure.ts';
import { isFinished } from '../core/job.ts';
import { failureIn, undoableStep } from '../core/steps.ts';
import type { Amendment, Job } from '../core/types.ts';
import { compensateTask, isCompensating, roundOf, undoingId, upstreamFailed } from '../core/workflow.ts';
import { yieldToEventLoop } from '../ports/clock.ts';
import type { Amended, JobFilter, JobStore, ReadStore } from '../ports/store.ts';
import type { Host } from './host.ts';

type JobsAndReads = JobStore & ReadStore;

/** The change to make to a job, null to delete it, or undefined for no change. */
type Change = (job: Job, now: number) => Amendment['set'] | undefined;

/** Changes that depend on more than the jobs' own rows. */
interface ChangePlan {
  forJobs(ids: readonly string[]): Promise<Change>;
}

const page = 500;
const noneAmended: Amended = { amended: [], dependents: [] };

/** Cancels one job: immediately if it is not running, otherwise through its worker. Returns false if it had already finished. */
export async function cancelJob(host: Host, store: JobsAndReads, id: string, reason: string): Promise<boolean> {
  return (await change(host, store, [id], cancelling(reason, await undoable(store, [id])))) > 0;
}

/**
 * Runs one job again, allowing one more attempt than it has used.
 * @throws InputError if it is running or was successful, or if its workflow is being undone; DuplicateJobError if another job holds its
 * unique key
 */
export async function retryJob(host: Host, store: JobsAndReads, id: string): Promise<void> {
  const own = await ownAttempts(store, [id]);
  const wanted: Change = (job, now) => {
    if (job.status === 'running') throw new InputError(`job ${id} is running; cancel it first, or wait until it finishes`);
    if (isUpstreamCancelled(job))
      throw new InputError(
        `job ${id} was cancelled because a job that it waits for failed or was cancelled; retry that job, or the workflow`,
      );
    if (job.status === 'successful') throw new InputError(`job ${id} was successful; enqueue a new job to repeat the work`);
    return requeued(job, now, own);
  };
  const [record] = await store.get([id]);
  if (record?.job.part?.undoes) await refuseLateUndo(store, record.job);
  await change(host, store, [id], wanted, 'events', (_, holder) => {
    if (isCompensating(holder)) throw obstacleTo(id, holder);
    throw new DuplicateJobError(`job ${id} cannot run again: job ${holder.id}, which is ${holder.status}, holds its unique key`, {
      id: holder.id,
    });
  });
}

/**
 * Deletes one job and its attempts. Returns false if it no longer existed.
 * @throws InputError if it is running
 */
export async function deleteJob(host: Host, store: JobsAndReads, id: string): Promise<boolean> {
  const deleted = await change(host, store, [id], (job) => {
    if (job.status === 'running') throw new InputError(`job ${id} is running; cancel it first, or wait until it finishes`);
    return null;
  });
  return deleted > 0;
}

/**
 * Changes one job's priority.
 * @throws InputError if it is running or finished
 */
export async function prioritizeJob(host: Host, store: JobsAndReads, id: string, priority: number): Promise<void> {
  await change(host, store, [id], (job) => {
    if (hasTurnAhead(job)) return { priority };
    throw new InputError(`job ${id} is ${job.status}; only the priority of a queued job can be changed`);
  });
}

/** The fields that `edit` changes; omitted fields stay as they are. */
export type Edit = Partial<Pick<Job, 'input' | 'runAfter' | 'expiresAt' | 'queue' | 'priority'>>;

/**
 * Changes a queued job.
 * @param read returns the changes for the job at an instant
 * @throws InputError if the job is running or finished, or would expire before it is due
 */
export async function editJob(host: Host, store: JobsAndReads, id: string, read: (job: Job, now: number) => Edit): Promise<void> {
  await change(host, store, [id], (job, now) => {
    if (!hasTurnAhead(job)) throw new InputError(`job ${id} is ${job.status}; only a queued job can be edited`);
    const edit = read(job, now);
    const set = edit.runAfter == null ? edit : { ...edit, dueAt: edit.runAfter };
    const { dueAt, expiresAt, startedAt } = { ...job, ...set };
    if (startedAt === null && expiresAt !== null && expiresAt <= dueAt) {
      const at = (instant: number) => new Date(instant).toISOString();
      throw new InputError(`job ${id} would expire at ${at(expiresAt)} before it is due at ${at(dueAt)}; change expires too`);
    }
    return set;
  });
}

/** Deletes all matching jobs that are not running; returns their number. */
export function deleteJobs(host: Host, store: JobsAndReads, filter: JobFilter): Promise<number> {
  return changeAll(host, store, filter, (job) => (job.status === 'running' ? undefined : null));
}

/**
 * Deletes matching jobs that finished before an instant, as retention does, without emitting events. Returns their number.
 * @param dryRun only counts them
 */
export function pruneJobs(host: Host, store: JobsAndReads, filter: JobFilter, finishedBefore: number, dryRun: boolean): Promise<number> {
  const isOld: Change = ({ finishedAt }) => (finishedAt !== null && finishedAt < finishedBefore ? null : undefined);
  return changeAll(host, store, filter, isOld, dryRun ? 'count' : 'quiet');
}

/** Changes the priority of all matching queued jobs; returns their number. */
export function prioritizeJobs(host: Host, store: JobsAndReads, filter: JobFilter, priority: number): Promise<number> {
  return changeAll(host, store, filter, (job) => (hasTurnAhead(job) ? { priority } : undefined));
}

function hasTurnAhead({ status }: Job): boolean {
  return status === 'queued' || status === 'waiting';
}

/** Cancels the unfinished ones of these jobs. */
export async function cancelSome(host: Host, store: JobsAndReads, jobs: readonly Job[], reason: string): Promise<void> {
  const ids = jobs.map(({ id }) => id);
  await change(host, store, ids, cancelling(reason, await undoable(store, ids)));
}

/** Cancels all matching jobs; returns their number. */
export function cancelJobs(host: Host, store: JobsAndReads, filter: JobFilter, reason: string): Promise<number> {
  return changeAll(host, store, filter, { forJobs: async (ids) => cancelling(reason, await undoable(store, ids)) });
}

/** Cancels all unfinished jobs of a workflow, except parts that always run, and jobs that undo others. */
export function cancelParts(host: Host, store: JobsAndReads, workflow: string, reason: string): Promise<number> {
  const forJobs = async (ids: readonly string[]): Promise<Change> => {
    const cancel = cancelling(reason, await undoable(store, ids));
    return (job, now) => (job.part?.always || isCompensating(job) ? undefined : cancel(job, now));
  };
  return changeAll(host, store, { workflow }, { forJobs });
}

/** The jobs that have steps to undo. */
async function undoable(store: JobsAndReads, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const steps = await store.getSteps(ids);
  return new Set(ids.filter((_, i) => steps[i]?.some(({ name }) => name === undoableStep)));
}

/**
 * Runs all matching failed and cancelled jobs again and returns their number. Skips jobs that are revived by the job that they wait for,
 * and jobs that undo others.
 * @param heldBy called for a job that is left unchanged because another one holds its unique key or undoes its workflow
 */
export function retryJobs(host: Host, store: JobsAndReads, filter: JobFilter, heldBy?: HeldBy): Promise<number> {
  const forJobs = async (ids: readonly string[]): Promise<Change> => {
    const own = await ownAttempts(store, ids);
    return (job, now) =>
      (job.status === 'failed' || job.status === 'cancelled') && !isUpstreamCancelled(job) && !isCompensating(job)
        ? requeued(job, now, own)
        : undefined;
  };
  return changeAll(host, store, filter, { forJobs }, 'events', heldBy);
}

/** Runs the failed and cancelled jobs of a workflow again. @throws InputError if it is being undone */
export async function retryParts(host: Host, store: JobsAndReads, workflow: string): Promise<void> {
  await retryJobs(host, store, { workflow }, (id, holder) => {
    if (isCompensating(holder)) throw obstacleTo(id, holder);
  });
}

/** The error for a job that cannot run again because of a job that undoes its workflow. */
function obstacleTo(id: string, { status, workflow, task }: Job): InputError {
  if (task === compensateTask && status === 'successful')
    return new InputError(
      `job ${id} cannot run again: a part of workflow ${workflow} was undone and has since been deleted; enqueue a new workflow`,
    );
  return new InputError(
    `job ${id} cannot run again while its workflow ${workflow} is being undone; wait for the workflow to end, then retry it`,
  );
}

/** @throws InputError if the job that was undone may have run again since */
async function refuseLateUndo(store: JobsAndReads, { id, enqueuedBy, workflow, part }: Job): Promise<void> {
  const [compensation, undone] = await store.get([enqueuedBy ?? '', part?.undoes?.job ?? '']);
  const isPresent = undone?.job.status === 'successful' && undone.job.attempt === part?.undoes?.attempt;
  const isCurrent = compensation?.job.status === 'successful' && id === undoingId(part?.undoes?.job ?? '', roundOf(compensation.job));
  if (!isPresent || !isCurrent)
    throw new InputError(
      `job ${id} cannot run again: workflow ${workflow} has since been retried, or the part that the job undoes was deleted`,
    );
}

/** True for a job that was cancelled because a job that it waits for failed. It is revived when that job runs again. */
function isUpstreamCancelled({ status, workflow, reason }: Job): boolean {
  return workflow !== null && status === 'cancelled' && reason === upstreamFailed;
}

/** @param undoable jobs that have steps to undo: an attempt undoes them and then cancels the job */
function cancelling(why: string, undoable: ReadonlySet<string>): Change {
  const reason = cut(String(why), maxTextBytes);
  return (job, now) => {
    if (isFinished(job)) return undefined;
    if (job.status === 'running') return { cancelRequested: job.cancelRequested ?? reason };
    if (undoable.has(job.id)) return { cancelRequested: job.cancelRequested ?? reason, dueAt: Math.min(job.dueAt, now) };
    return { status: 'cancelled', reason, finishedAt: now };
  };
}

/** The original number of attempts of jobs that were undone. Undoing raises the number. */
async function ownAttempts(store: JobsAndReads, ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const steps = await store.getSteps(ids);
  return new Map(
    ids.flatMap((id, i) => {
      const own = failureIn(steps[i] ?? [])?.ownMaxAttempts;
      return own === undefined ? [] : [[id, own] as const];
    }),
  );
}

function requeued(job: Job, now: number, own: ReadonlyMap<string, number>): NonNullable<Amendment['set']> {
  const set = { status: 'queued', dueAt: now, expiresAt: null, losses: 0, reason: null, finishedAt: null } as const;
  return { ...set, maxAttempts: Math.max(own.get(job.id) ?? job.maxAttempts, job.attempt + 1) };
}

/** `events`: events are emitted. `quiet`: no events are emitted. `count`: nothing is changed. */
type Manner = 'events' | 'quiet' | 'count';

/** @param holder the job that keeps the job `id` from being changed */
type HeldBy = (id: string, holder: Job) => void;

async function changeAll(
  host: Host,
  store: JobsAndReads,
  filter: JobFilter,
  plan: Change | ChangePlan,
  manner: Manner = 'events',
  heldBy?: HeldBy,
): Promise<number> {
  let count = 0;
  let cursor: string | undefined;
  do {
    const found = await store.list(filter, { now: host.clock.now(), limit: page, cursor });
    const wanted = typeof plan === 'function' ? plan : await plan.forJobs(found.items.map(({ job }) => job.id));
    const jobs = found.items.map(({ job }) => job).filter((job) => manner === 'events' || wanted(job, host.clock.now()) !== undefined);
    const ids = jobs.map(({ id }) => id);
    count += manner === 'count' ? jobs.length : await change(host, store, ids, wanted, manner, heldBy);
    cursor = found.cursor ?? undefined;
    if (cursor !== undefined) await yieldToEventLoop();
  } while (cursor !== undefined);
  return count;
}

/** @param heldBy called for a job that is left unchanged because another one holds its unique key or undoes its workflow */
async function change(
  host: Host,
  store: JobsAndReads,
  ids: readonly string[],
  wanted: Change,
  manner: Manner = 'events',
  heldBy?: HeldBy,
): Promise<number> {
  let count = 0;
  let left = ids;
  while (left.length > 0) {
    const now = host.clock.now();
    const amendments: Amendment[] = [];
    for (const record of await store.get(left)) {
      const set = record ? wanted(record.job, now) : undefined;
      if (record && set !== undefined)
        amendments.push({ id: record.job.id, expect: { status: record.job.status, claim: record.job.claim }, set });
    }
    const { amended: answers, dependents } = amendments.length > 0 ? await store.amend(amendments, { now }) : noneAmended;
    const held = answers.map((job, i) => (job && job.id !== amendments[i]?.id ? job : null));
    for (const [i, holder] of held.entries()) if (holder) heldBy?.(amendments[i]?.id ?? '', holder);
    const rows = answers.map((job, i) => (held[i] ? null : job));
    for (const [i, job] of rows.entries()) if (job && manner === 'events') emitChange(host, job, amendments[i]?.set ?? null, now);
    const isAgain = amendments.some(({ set }) => set?.status === 'queued');
    if (manner === 'events') for (const event of dependentEvents(dependents, now, isAgain)) host.events.emit(event);
    count += rows.filter((job) => job !== null).length;
    left = amendments.filter((_, i) => answers[i] === null).map(({ id }) => id);
  }
  return count;
}

function emitChange(host: Host, job: Job, set: Amendment['set'], now: number): void {
  if (set === null) {
    // Listeners that track pending jobs treat a deletion as an end.
    const over = isFinished(job) ? job : { ...job, status: 'cancelled' as const, reason: 'deleted', finishedAt: now };
    host.events.emit({ type: 'deleted', at: now, job: over });
  } else if (set.input !== undefined || set.queue !== undefined || (set.dueAt !== undefined && set.status === undefined))
    host.events.emit({ type: 'edited', at: now, job });
  else if (set.priority !== undefined) host.events.emit({ type: 'prioritized', at: now, job });
  else if (job.status === 'cancelled') host.events.emit({ type: 'cancelled', at: now, job, worker: null, attempt: job.attempt });
  else if (job.status === 'queued' || job.status === 'waiting') host.events.emit({ type: 'requeued', at: now, job });
}
