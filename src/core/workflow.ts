/**
 * Workflows: jobs that wait for other jobs. A store keeps an edge from each job to every job that waits for it, and applies these rules in
 * the transaction in which a job ends (law 8). When the last edge to a job is done, the job is queued with the values of its parents. When
 * a parent fails, the job is cancelled until the parent is retried. Pure.
 */
import { latestInstant } from './duration.ts';
import { StoreError } from './errors.ts';
import { isFinished } from './job.ts';
import { decode } from './json.ts';
import type { Job } from './types.ts';

/** `child` waits for `parent`. The edges to a child are in the order in which it receives its parents' values. */
export interface Edge {
  readonly parent: string;
  readonly child: string;
}

/** The jobs that a job waits for, and the jobs that wait for it, in order. */
export interface Edges {
  readonly parents: readonly string[];
  readonly children: readonly string[];
}

/** A value: the value of an edge, given by its index; a part of one; or a list of these. */
export type Shape = number | { readonly edge: number; readonly path: readonly (string | number)[] } | readonly Shape[];

/**
 * `none`: the job has its own input. `first`: the input is the first parent's value. `all`: the input is the list of all values. Otherwise:
 * parts of the input are replaced by values.
 */
export type Fill = 'none' | 'first' | 'all' | readonly { readonly path: readonly (string | number)[]; readonly from: Shape }[];

/** What happens when a part fails: either its dependents are cancelled, or the rest of the workflow. */
export type OnPartFailure = 'dependents' | 'workflow';

/** A job's part in its workflow. */
export interface Part {
  /** Unique within the workflow. */
  readonly key: string;
  /** The name of the workflow. */
  readonly of: string;
  /** Its position in the order in which the parts were added; null: it was added while the workflow was running. */
  readonly place: number | null;
  readonly fill: Fill;
  /** How long after its last parent ends it is due. */
  readonly delayMs: number | null;
  /** How long after its due time it expires. */
  readonly expiresMs: number | null;
  /** Its dependents proceed even if it fails or is cancelled; its value is then null. */
  readonly allowFailure: boolean;
  /** It runs when all its parents have ended, regardless of how. */
  readonly always: boolean;
  readonly onFailure: OnPartFailure;
  /** The task that undoes the job if the workflow fails; null if none. */
  readonly compensate: string | null;
  /** For a job that undoes another: that job, and the attempt in which it succeeded. */
  readonly undoes?: { readonly job: string; readonly attempt: number };
  /** For the first job of a workflow: the jobs whose values make up the value of the workflow, by position. */
  readonly output?: Shape;
}

/** The reason of a job that was cancelled because a job that it waits for failed or was cancelled. */
export const upstreamFailed = 'upstream failed';

/**
 * The task of the job that waits for all parts of a workflow and, if one has failed, adds the jobs that undo them. Those jobs wait for it.
 */
export const compensateTask = 'escapement.compensate';

/** True for jobs that undo others, and for the job that adds them. */
export function isCompensating({ task, part }: Pick<Job, 'task' | 'part'>): boolean {
  return part != null && (task === compensateTask || part.undoes !== undefined);
}

/** The id of the job that undoes a part in a round of its workflow. */
export function undoingId(job: string, round: number): string {
  return `${job}/undo${round > 1 ? ` ${round}` : ''}`;
}

/** The edges to add with newly inserted jobs. A job that exists already has its edges. */
export function edgesOf(inserted: readonly Job[], edges: readonly Edge[] | undefined): readonly Edge[] {
  if (!edges || edges.length === 0) return none;
  const ids = new Set(inserted.map(({ id }) => id));
  return edges.filter(({ parent, child }) => ids.has(parent) || ids.has(child));
}
const none: readonly Edge[] = [];

/** The error for an edge that cannot be added. */
export function edgeConflict(id: string, why: 'parent' | 'child'): StoreError {
  const what = why === 'parent' ? 'does not exist or has ended, so no job can wait for it' : 'is not waiting for other jobs';
  return new StoreError(`job ${id} ${what}`, { kind: 'conflict' });
}

/** True if the jobs that wait for a finished job may proceed. */
function releasesDependents({ status, part }: Pick<Job, 'status' | 'part'>): boolean {
  return status === 'successful' || (isFinished({ status }) && part?.allowFailure === true);
}

/** The value that a finished job passes to the jobs that wait for it. */
function given({ status, returnValue }: Pick<Job, 'status' | 'returnValue'>): string {
  return (status === 'successful' ? returnValue : null) ?? 'null';
}

/** True if a job ended, or was revived, so that the jobs that wait for it change too. */
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
  // Its next attempt undoes its steps and cancels it.
  return { ...job, cancelRequested: upstreamFailed, ...(isUndoable ? { dueAt: Math.min(job.dueAt, now) } : {}) };
}

function cancelled(job: Job, now: number): Job {
  return { ...job, status: 'cancelled', reason: upstreamFailed, finishedAt: now };
}

/** True for a job that runs again when a job that it depends on does. */
function followsAgain({ status, reason, part }: Job): boolean {
  return (status === 'cancelled' && reason === upstreamFailed) || (part?.always === true && isFinished({ status }));
}

/** The row of a job when jobs of its workflow run again; undefined if nothing changes. */
function restarted(job: Job, isAgain: boolean, isWaiting: boolean, now: number): Job | undefined {
  const { status, startedAt, part, attempt } = job;
  const isCompensation = job.task === compensateTask;
  if (!isFinished(job)) {
    const isHeld = status === 'queued' && isWaiting && (isAgain || part?.always || startedAt === null);
    return isHeld ? { ...job, status: 'waiting' } : undefined;
  }
  if (!isAgain && !isCompensation) return undefined;
  return {
    ...job,
    status: isWaiting ? 'waiting' : 'queued',
    dueAt: Math.max(job.dueAt, now),
    reason: null,
    finishedAt: null,
    losses: 0,
    returnValue: null,
    maxAttempts: Math.max(job.maxAttempts, attempt + 1),
    ...(isCompensation ? { input: JSON.stringify(roundOf(job) + 1) } : {}),
  };
}

/** How many times a workflow has been enqueued or, once its parts could be undone, retried. */
export function roundOf({ input }: Pick<Job, 'input'>): number {
  return input === null ? 1 : Number(input);
}

/** A part that is queued again by hand waits for its parents if they are not done. */
export function asPart(job: Job, isWaiting: boolean): Job {
  return job.status === 'queued' && isWaiting ? { ...job, status: 'waiting' } : job;
}

/** The store operations that `follow` needs, within one transaction. Each method takes many jobs at once. */
export interface Parts {
  /**
   * The edges from these parents, in order, with the rows of their children. No other transaction changes these rows before this one ends.
   */
  children(parents: readonly string[]): Awaitable<readonly { readonly parent: string; readonly job: Job }[]>;
  /** Sets the values of edges; null: the edge is not done. */
  give(values: readonly { readonly parent: string; readonly child: string; readonly value: string | null }[]): Awaitable<void>;
  /** The jobs that have an edge that is not done. */
  waiting(children: readonly string[]): Awaitable<ReadonlySet<string>>;
  /** The values of the edges to each child, in order. */
  values(children: readonly string[]): Awaitable<readonly (readonly string[])[]>;
  /** All jobs of a workflow, in the order in which they were enqueued. */
  parts(workflow: string): Awaitable<readonly Job[]>;
  /** The jobs that have steps to undo. */
  undoable(jobs: readonly string[]): Awaitable<ReadonlySet<string>>;
  change(changes: readonly { readonly before: Job; readonly after: Job }[]): Awaitable<void>;
}
type Awaitable<T> = T | Promise<T>;
type Answer<Method extends keyof Parts> = Awaited<ReturnType<Parts[Method]>>;

/** Yields whatever it has to await. */
type Walk<T> = Generator<unknown, T, never>;

/**
 * Changes the jobs that are affected when parts of a workflow end or run again, and the jobs that these affect in turn. Returns the changed
 * rows.
 * @param changed the rows for which `affectsOthers` is true; a deleted job is passed as cancelled
 */
export function* follow(changed: readonly Job[], now: number, parts: Parts): Walk<readonly Job[]> {
  const requeued = changed.filter((job) => !isFinished(job));
  const dependents: Job[] = requeued.length > 0 ? [...(yield* runAgain(requeued, now, parts))] : [];
  for (let level = changed.filter(isFinished); level.length > 0; ) {
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
      if (job.part?.always || releasesDependents(from)) values.push({ parent, child: job.id, value: given(from) });
      else if (job.status === 'waiting') change(job, cancelled(job, now));
      touched.set(job.id, job);
    }
    for (const workflow of endedWhole(level.filter(({ status }) => status === 'failed'))) {
      const all: Answer<'parts'> = yield parts.parts(workflow);
      const candidates = all.filter(mayHaveSteps).map(({ id }) => id);
      const undoable: Answer<'undoable'> = candidates.length === 0 ? new Set<string>() : yield parts.undoable(candidates);
      for (const job of all) change(job, stopped(job, undoable.has(job.id), now));
    }
    if (values.length > 0) yield parts.give(values);
    const left = [...touched.values()].filter(({ id }) => !changes.has(id));
    const waiting: Answer<'waiting'> = left.length === 0 ? new Set<string>() : yield parts.waiting(left.map(({ id }) => id));
    const free = left.filter(({ id, status }) => status === 'waiting' && !waiting.has(id));
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

/** The workflows that end as a whole when one of these jobs fails. */
function endedWhole(jobs: readonly Job[]): ReadonlySet<string> {
  return new Set(jobs.flatMap(({ workflow, part }) => (workflow !== null && part?.onFailure === 'workflow' ? [workflow] : [])));
}

/**
 * Changes the jobs that depend on jobs that run again: they wait for these. Parts that were undone run again too, and the job that undoes
 * the workflow waits once more.
 */
function* runAgain(changed: readonly Job[], now: number, parts: Parts): Walk<readonly Job[]> {
  const requeued = new Set(changed.map(({ id }) => id));
  const met = new Map<string, Job>();
  const open: { parent: string; child: string; value: null }[] = [];
  for (let level = changed; level.length > 0; ) {
    const next = new Map<string, Job>();
    const compensations = new Map<string, Job>();
    const edges: Answer<'children'> = yield parts.children(level.map(({ id }) => id));
    for (const { parent, job } of edges) {
      open.push({ parent, child: job.id, value: null });
      met.set(job.id, job);
      if (job.task === compensateTask) compensations.set(job.id, job);
      else if (followsAgain(job)) next.set(job.id, job);
    }
    for (const workflow of endedWhole(level)) {
      const all: Answer<'parts'> = yield parts.parts(workflow);
      for (const job of all) if (followsAgain(job) && !isCompensating(job) && !job.part?.always) next.set(job.id, job);
    }
    const { done }: Undoing = yield* undoing([...compensations.values()], parts);
    for (const job of done) next.set(job.id, job);
    level = [...next.values()].filter(({ id }) => !requeued.has(id));
    for (const job of level) {
      requeued.add(job.id);
      met.set(job.id, job);
    }
  }
  if (open.length > 0) yield parts.give(open);
  const waiting: Answer<'waiting'> = met.size === 0 ? new Set<string>() : yield parts.waiting([...met.keys()]);
  const changes = [...met.values()].flatMap((before) => {
    const after = restarted(before, requeued.has(before.id), waiting.has(before.id), now);
    return after ? [{ before, after }] : [];
  });
  if (changes.length > 0) yield parts.change(changes);
  return changes.map(({ after }) => after);
}

interface Undoing {
  /** The parts that have been undone and have not run again since. */
  readonly done: readonly Job[];
  /**
   * The jobs that keep the parts of a workflow from running again, by its compensating job: an unfinished job, or the compensating job
   * itself if it is running or an undone part was deleted.
   */
  readonly obstacles: ReadonlyMap<string, Job>;
}

/** @param compensations the jobs that undo workflows */
function* undoing(compensations: readonly Job[], parts: Parts): Walk<Undoing> {
  const obstacles = new Map<string, Job>();
  if (compensations.length === 0) return { done: [], obstacles };
  /** By compensating job and undone job: the attempts that were undone. */
  const undone = new Map<string, Map<string, Set<number>>>();
  const edges: Answer<'children'> = yield parts.children(compensations.map(({ id }) => id));
  for (const { parent, job } of edges) {
    if (!isFinished(job)) obstacles.set(parent, job);
    if (job.status !== 'successful' || !job.part?.undoes) continue;
    const { job: id, attempt } = job.part.undoes;
    const ofOne = undone.get(parent) ?? new Map<string, Set<number>>();
    undone.set(parent, ofOne.set(id, (ofOne.get(id) ?? new Set()).add(attempt)));
  }
  const done: Job[] = [];
  for (const compensation of compensations) {
    const { id, workflow, status } = compensation;
    if (status === 'running') obstacles.set(id, compensation);
    const ofOne = undone.get(id);
    if (workflow === null || !ofOne) continue;
    const all: Answer<'parts'> = yield parts.parts(workflow);
    done.push(...all.filter(({ status, attempt, ...job }) => status === 'successful' && ofOne.get(job.id)?.has(attempt)));
    const present = new Set(all.map((job) => job.id));
    if (!obstacles.has(id) && [...ofOne.keys()].some((undoneId) => !present.has(undoneId))) obstacles.set(id, compensation);
  }
  return { done, obstacles };
}

/**
 * The jobs that keep others from being queued again, by the id of the blocked job. No part of a workflow can run again while the workflow
 * is being undone, or if an undone part has been deleted.
 * @param jobs ended jobs
 */
export function* obstaclesOf(jobs: readonly Job[], parts: Parts): Walk<ReadonlyMap<string, Job>> {
  const edges: Answer<'children'> = jobs.length === 0 ? [] : yield parts.children(jobs.map(({ id }) => id));
  const toCompensation = edges.filter(({ job }) => job.task === compensateTask);
  const compensations = new Map(toCompensation.map(({ job }) => [job.id, job]));
  const { obstacles }: Undoing = yield* undoing([...compensations.values()], parts);
  return new Map(
    toCompensation.flatMap(({ parent, job }) => {
      const obstacle = obstacles.get(job.id);
      return obstacle ? [[parent, obstacle] as const] : [];
    }),
  );
}

/** Runs a walk on a synchronous store. */
export function walkSync<T>(walk: Walk<T>): T {
  for (let step = walk.next(); ; step = walk.next(step.value as never)) if (step.done) return step.value;
}

/** Runs a walk on any store. */
export async function walkAsync<T>(walk: Walk<T>): Promise<T> {
  for (let step = walk.next(); ; step = walk.next((await step.value) as never)) if (step.done) return step.value;
}
