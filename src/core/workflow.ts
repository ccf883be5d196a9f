/**
 * Workflows: jobs that wait for others. A store keeps an edge from each job to every job that waits for it, and applies these rules in the
 * transaction in which a job ends (law 8): when the last edge to a job is done, it is queued with the values of its parents; when a parent fails,
 * it is cancelled, until the parent is retried. Pure.
 */
import { latestInstant } from './duration.ts';
import { StoreError } from './errors.ts';
import { isFinished } from './job.ts';
import { decode } from './json.ts';
import type { Job } from './types.ts';

/** `child` waits for `parent`. The edges to a child are in the order in which its parents' values are given to it. */
export interface Edge {
  readonly parent: string;
  readonly child: string;
}

/** The jobs that a job waits for, and the jobs that wait for it, in order. */
export interface Edges {
  readonly parents: readonly string[];
  readonly children: readonly string[];
}

/** Where a parent's value goes in an input: the number of an edge, or a list of these. */
export type Shape = number | readonly Shape[];

/** `none`: the input is the job's own. `first`: it is the first parent's value. `all`: it is the list of all values. Otherwise: parts of it are values. */
export type Fill = 'none' | 'first' | 'all' | readonly { readonly path: readonly (string | number)[]; readonly from: Shape }[];

/** What happens when a part fails: its dependents are cancelled, or all that is left of the workflow. */
export type OnPartFailure = 'dependents' | 'workflow';

/** A job's part in its workflow. */
export interface Part {
  /** Unique within the workflow. */
  readonly key: string;
  /** The name of the workflow. */
  readonly of: string;
  readonly fill: Fill;
  /** How long after its last parent it is due. */
  readonly delayMs: number | null;
  /** How long after it is due it expires. */
  readonly expiresMs: number | null;
  /** Its dependents go on when it fails or is cancelled; its value is then null. */
  readonly allowFailure: boolean;
  readonly onFailure: OnPartFailure;
}

/** The reason of a job that was cancelled because a job that it waits for failed, or was cancelled. */
export const upstreamFailed = 'upstream failed';

/** The error of an edge that cannot be added. */
export function edgeConflict(id: string, why: 'parent' | 'child'): StoreError {
  const what = why === 'parent' ? 'does not exist or has ended, so no job can wait for it' : 'does not wait for other jobs, or no longer';
  return new StoreError(`job ${id} ${what}`, { kind: 'conflict' });
}

/** True if the jobs that wait for a finished job go on. */
function letsGoOn({ status, part }: Pick<Job, 'status' | 'part'>): boolean {
  return status === 'successful' || (isFinished({ status }) && part?.allowFailure === true);
}

/** The value that a finished job gives to the jobs that wait for it. */
function given({ status, returnValue }: Pick<Job, 'status' | 'returnValue'>): string {
  return (status === 'successful' ? returnValue : null) ?? 'null';
}

/** True if a job ended, or is no longer ended, so that the jobs that wait for it change too. */
export function affectsOthers(before: Pick<Job, 'status'>, after: Pick<Job, 'status' | 'workflow'>): boolean {
  return after.workflow !== null && isFinished(before) !== isFinished(after);
}

/** The row of a waiting job when all its parents are done. */
function unblocked(job: Job, values: readonly string[], now: number): Job {
  const { part, runAfter } = job;
  const delayed = part?.delayMs == null ? now : Math.min(now + part.delayMs, latestInstant);
  const dueAt = Math.max(delayed, runAfter ?? now);
  const expiresAt = part?.expiresMs == null ? job.expiresAt : Math.min(dueAt + part.expiresMs, latestInstant);
  return { ...job, status: 'queued', dueAt, expiresAt, input: filled(job.input, part?.fill ?? 'none', values) };
}

function filled(input: string | null, fill: Fill, values: readonly string[]): string | null {
  if (fill === 'none') return input;
  if (fill === 'first') return values[0] ?? 'null';
  if (fill === 'all') return `[${values.join(',')}]`;
  const value = (shape: Shape): unknown => (typeof shape === 'number' ? decode(values[shape] ?? 'null') : shape.map(value));
  let whole = input === null ? null : decode(input);
  for (const { path, from } of fill) {
    const last = path.at(-1);
    if (last === undefined) whole = value(from);
    else {
      let place = whole as Record<string | number, unknown>;
      for (const key of path.slice(0, -1)) place = place[key] as Record<string | number, unknown>;
      place[last] = value(from);
    }
  }
  return JSON.stringify(whole);
}

/** The row of an unfinished job when its workflow ends because another part failed; undefined if nothing changes. */
function stopped(job: Job, now: number): Job | undefined {
  if (isFinished(job)) return undefined;
  if (job.status !== 'running') return cancelled(job, now);
  return job.cancelRequested === null ? { ...job, cancelRequested: upstreamFailed } : undefined;
}

function cancelled(job: Job, now: number): Job {
  return { ...job, status: 'cancelled', reason: upstreamFailed, finishedAt: now };
}

/** The row of a job that was cancelled because another failed, when that one runs again; undefined if nothing changes. */
function revived(job: Job, open: number, now: number): Job | undefined {
  if (job.status !== 'cancelled' || job.reason !== upstreamFailed) return undefined;
  return { ...job, status: open > 0 ? 'waiting' : 'queued', reason: null, finishedAt: null, dueAt: Math.max(job.dueAt, now) };
}

/** A part that is queued again by hand while its parents are not done waits for them. */
export function asPart(job: Job, open: number): Job {
  return job.status === 'queued' && open > 0 ? { ...job, status: 'waiting' } : job;
}

/** A job of a workflow. */
export interface Waiting {
  readonly job: Job;
  /** The number of edges to it that are not done; only 0 matters. */
  readonly open: number;
}

/** What a store does for `follow`, within its transaction. Each method takes many jobs at once. */
export interface Parts {
  /** Marks the edges from each parent as done with this value, or, with null, as not done. */
  give(values: readonly { readonly parent: string; readonly value: string | null }[]): Awaitable<void>;
  /** The edges from these parents, in order, with their children; no other transaction changes these before this one ends. */
  children(parents: readonly string[]): Awaitable<readonly (Waiting & { readonly parent: string })[]>;
  /** All jobs of a workflow, in the order in which they were enqueued. */
  parts(workflow: string): Awaitable<readonly Waiting[]>;
  /** The values of the edges to each child, in order. */
  values(children: readonly string[]): Awaitable<readonly (readonly string[])[]>;
  change(changes: readonly { readonly before: Job; readonly after: Job }[]): Awaitable<void>;
}
type Awaitable<T> = T | Promise<T>;

/**
 * Changes the jobs that are affected when parts of a workflow end, or run again, and the jobs that these affect in turn. Yields what it has to
 * wait for; returns the changed rows.
 * @param changed the rows for which `affectsOthers` is true; a deleted job as cancelled
 */
export function* follow(changed: readonly Job[], now: number, parts: Parts): Generator<unknown, readonly Job[], never> {
  const dependents: Job[] = [];
  for (let level = changed; level.length > 0; ) {
    const ofLevel = new Map(level.map((job) => [job.id, job]));
    const giving = level.filter((job) => !isFinished(job) || letsGoOn(job));
    yield parts.give(giving.map((job) => ({ parent: job.id, value: isFinished(job) ? given(job) : null })));
    const edges: Awaited<ReturnType<Parts['children']>> = yield parts.children(level.map(({ id }) => id));
    const changes = new Map<string, { readonly before: Job; readonly after: Job }>();
    const change = (before: Job, after: Job | undefined) => {
      if (after && !changes.has(before.id)) changes.set(before.id, { before, after });
    };
    for (const { job, parent } of edges) {
      const { status } = ofLevel.get(parent) as Job;
      if (job.status === 'waiting' && isFinished({ status }) && !letsGoOn(ofLevel.get(parent) as Job)) change(job, cancelled(job, now));
    }
    for (const { job, parent, open } of edges) if (!isFinished(ofLevel.get(parent) as Job)) change(job, revived(job, open, now));
    const free = new Map(edges.filter(({ job, open }) => job.status === 'waiting' && open === 0).map(({ job }) => [job.id, job]));
    for (const id of changes.keys()) free.delete(id);
    if (free.size > 0) {
      const values: Awaited<ReturnType<Parts['values']>> = yield parts.values([...free.keys()]);
      for (const [i, job] of [...free.values()].entries()) change(job, unblocked(job, values[i] ?? [], now));
    }
    for (const { status, workflow, part } of level) {
      if (part?.onFailure !== 'workflow' || workflow === null || (status !== 'failed' && isFinished({ status }))) continue;
      const all: Awaited<ReturnType<Parts['parts']>> = yield parts.parts(workflow);
      for (const { job, open } of all) change(job, status === 'failed' ? stopped(job, now) : revived(job, open, now));
    }
    const made = [...changes.values()];
    if (made.length > 0) yield parts.change(made);
    dependents.push(...made.map(({ after }) => after));
    level = made.filter(({ before, after }) => affectsOthers(before, after)).map(({ after }) => after);
  }
  return dependents;
}

/** Runs `follow` on a store that answers at once. */
export function followNow(changed: readonly Job[], now: number, parts: Parts): readonly Job[] {
  if (changed.length === 0) return changed;
  const steps = follow(changed, now, parts);
  for (let step = steps.next(); ; step = steps.next(step.value as never)) if (step.done) return step.value;
}
