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

/** A value: that of an edge, by its number; a part of one; or a list of these. */
export type Shape = number | { readonly edge: number; readonly path: readonly (string | number)[] } | readonly Shape[];

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
  /** Its place in the order in which the parts were added; null: it was added while the workflow ran. */
  readonly place: number | null;
  readonly fill: Fill;
  /** How long after its last parent it is due. */
  readonly delayMs: number | null;
  /** How long after it is due it expires. */
  readonly expiresMs: number | null;
  /** Its dependents go on when it fails or is cancelled; its value is then null. */
  readonly allowFailure: boolean;
  /** It runs when all its parents have ended, however they ended. */
  readonly always: boolean;
  readonly onFailure: OnPartFailure;
  /** The task that undoes the job if the workflow fails; null: none. */
  readonly compensate: string | null;
  /** Of the first job of a workflow: the jobs whose values are that of the workflow, by their places. */
  readonly output?: Shape;
}

/** The reason of a job that was cancelled because a job that it waits for failed, or was cancelled. */
export const upstreamFailed = 'upstream failed';

/** The edges that are added with the jobs that are inserted: a job that exists already has its edges. */
export function edgesOf(inserted: readonly Job[], edges: readonly Edge[] | undefined): readonly Edge[] {
  if (!edges || edges.length === 0) return none;
  const ids = new Set(inserted.map(({ id }) => id));
  return edges.filter(({ parent, child }) => ids.has(parent) || ids.has(child));
}
const none: readonly Edge[] = [];

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

/** True if a job that had ended is to run again. */
export function isRevived(before: Pick<Job, 'status'>, after: Pick<Job, 'status'>): boolean {
  return isFinished(before) && !isFinished(after);
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
  const value = (shape: Shape): unknown => {
    if (typeof shape === 'number') return decode(values[shape] ?? 'null');
    if (!('edge' in shape)) return shape.map(value);
    return shape.path.reduce<unknown>((whole, key) => (whole as Record<string | number, unknown> | null)?.[key], value(shape.edge)) ?? null;
  };
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

/** True if a job's end depends on whether it has steps to undo. */
function mayHaveSteps({ status, claim }: Job): boolean {
  return status === 'queued' && claim > 0;
}

/** The row of an unfinished job when its workflow ends because another part failed; undefined if nothing changes. */
function stopped(job: Job, isUndoable: boolean, now: number): Job | undefined {
  if (isFinished(job) || job.part?.always) return undefined;
  if (job.status !== 'running' && !isUndoable) return cancelled(job, now);
  if (job.cancelRequested !== null) return undefined;
  // Its next attempt undoes its steps, and cancels it.
  return { ...job, cancelRequested: upstreamFailed, ...(isUndoable ? { dueAt: Math.min(job.dueAt, now) } : {}) };
}

function cancelled(job: Job, now: number): Job {
  return { ...job, status: 'cancelled', reason: upstreamFailed, finishedAt: now };
}

/** The row of a job that was cancelled because another failed, when that one runs again; undefined if nothing changes. */
function revived(job: Job, isWaiting: boolean, now: number): Job | undefined {
  if (job.status !== 'cancelled' || job.reason !== upstreamFailed) return undefined;
  return { ...job, status: isWaiting ? 'waiting' : 'queued', reason: null, finishedAt: null, dueAt: Math.max(job.dueAt, now) };
}

/** A part that is queued again by hand while its parents are not done waits for them. */
export function asPart(job: Job, isWaiting: boolean): Job {
  return job.status === 'queued' && isWaiting ? { ...job, status: 'waiting' } : job;
}

/** What a store does for `follow`, within its transaction. Each method takes many jobs at once. */
export interface Parts {
  /** The edges from these parents, in order, with their children's rows; no other transaction changes these before this one ends. */
  children(parents: readonly string[]): Awaitable<readonly { readonly parent: string; readonly job: Job }[]>;
  /** Sets the values of edges; null: the edge is not done. */
  give(values: readonly { readonly parent: string; readonly child: string; readonly value: string | null }[]): Awaitable<void>;
  /** Those of these jobs that have an edge that is not done. */
  waiting(children: readonly string[]): Awaitable<ReadonlySet<string>>;
  /** The values of the edges to each child, in order. */
  values(children: readonly string[]): Awaitable<readonly (readonly string[])[]>;
  /** All jobs of a workflow, in the order in which they were enqueued. */
  parts(workflow: string): Awaitable<readonly Job[]>;
  /** Those of these jobs that have steps to undo. */
  undoable(jobs: readonly string[]): Awaitable<ReadonlySet<string>>;
  change(changes: readonly { readonly before: Job; readonly after: Job }[]): Awaitable<void>;
}
type Awaitable<T> = T | Promise<T>;
type Answer<Method extends keyof Parts> = Awaited<ReturnType<Parts[Method]>>;

/**
 * Changes the jobs that are affected when parts of a workflow end, or run again, and the jobs that these affect in turn. Yields what it has to
 * wait for; returns the changed rows.
 * @param changed the rows for which `affectsOthers` is true; a deleted job as cancelled
 */
export function* follow(changed: readonly Job[], now: number, parts: Parts): Generator<unknown, readonly Job[], never> {
  const dependents: Job[] = [];
  for (let level = changed; level.length > 0; ) {
    const ofLevel = new Map(level.map((job) => [job.id, job]));
    const edges: Answer<'children'> = yield parts.children([...ofLevel.keys()]);
    const changes = new Map<string, { readonly before: Job; readonly after: Job }>();
    const change = (before: Job, after: Job | undefined) => {
      if (after && !changes.has(before.id)) changes.set(before.id, { before, after });
    };
    const values: { parent: string; child: string; value: string | null }[] = [];
    const touched = new Map<string, Job>();
    for (const { parent, job } of edges) {
      const from = ofLevel.get(parent) as Job;
      if (!isFinished(from)) values.push({ parent, child: job.id, value: null });
      else if (job.part?.always || letsGoOn(from)) values.push({ parent, child: job.id, value: given(from) });
      else if (job.status === 'waiting') change(job, cancelled(job, now));
      touched.set(job.id, job);
    }
    const others = new Map<string, readonly Job[]>();
    for (const { status, workflow, part } of level) {
      if (part?.onFailure !== 'workflow' || workflow === null || (status !== 'failed' && isFinished({ status }))) continue;
      if (!others.has(workflow)) others.set(workflow, yield parts.parts(workflow));
      const all = others.get(workflow) ?? [];
      const asked = status === 'failed' ? all.filter(mayHaveSteps).map(({ id }) => id) : [];
      const undoable: Answer<'undoable'> = asked.length === 0 ? new Set<string>() : yield parts.undoable(asked);
      for (const job of all) {
        if (status === 'failed') change(job, stopped(job, undoable.has(job.id), now));
        else touched.set(job.id, job);
      }
    }
    if (values.length > 0) yield parts.give(values);
    const left = [...touched.values()].filter(({ id }) => !changes.has(id));
    const waiting: Answer<'waiting'> = left.length === 0 ? new Set<string>() : yield parts.waiting(left.map(({ id }) => id));
    const isRunAgain = level.some((job) => !isFinished(job));
    if (isRunAgain) for (const job of left) change(job, revived(job, waiting.has(job.id), now));
    const free = left.filter(({ id, status }) => status === 'waiting' && !waiting.has(id) && !changes.has(id));
    if (free.length > 0) {
      const inputs: Answer<'values'> = yield parts.values(free.map(({ id }) => id));
      for (const [i, job] of free.entries()) change(job, unblocked(job, inputs[i] ?? [], now));
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
