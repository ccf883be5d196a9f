/** Operations on existing jobs and queues, individually or by selection. */
import type { App } from './app.ts';
import { type Duration, durationExpected } from './core/duration.ts';
import type { Limit } from './core/gate.ts';
import { frozen } from './core/json.ts';
import type { Job, Status } from './core/types.ts';
import { cancelJobs, deleteJobs, prioritizeJobs, pruneJobs, retryJobs } from './engine/operator.ts';
import { namePattern, nearest } from './options/names.ts';
import { OptionReader } from './options/reader.ts';
import type { EditOptions } from './options/types.ts';
import { yieldToEventLoop } from './ports/clock.ts';
import type { JobFilter, JobOrder, QueueStats, Store } from './ports/store.ts';
import { resultOf, TaskResult } from './result.ts';
import { findResult } from './task.ts';

/** Selects jobs; all given conditions must hold. A property that is `undefined` selects no job and logs a warning; omit it instead. */
export interface JobSelection {
  ids?: readonly string[];
  status?: Status | readonly Status[];
  task?: { readonly name: string } | string;
  queue?: string;
  schedule?: string;
  tag?: string;
  /** The id of a workflow. */
  workflow?: string;
  /** The id of the job whose attempts enqueued them. */
  enqueuedBy?: string;
}

/** Operations on jobs: `tasks.jobs`. */
export interface Jobs {
  /**
   * Lists jobs, newest first, in pages. Jobs with custom ids are sorted by id in descending order. With `order: 'changed'`, the most
   * recently changed jobs come first (enqueued, started, attempt ended, finished), on a single page. Errors of earlier attempts have no
   * stacks; `refresh()` reads them.
   * @param selection.limit 1 … 1,000. Default 50
   */
  list(selection?: JobSelection & { limit?: number; after?: string; order?: JobOrder }): Promise<{ items: TaskResult[]; cursor?: string }>;
  /** Runs failed and cancelled jobs again and resolves to their number. */
  retry(selection?: JobSelection): Promise<number>;
  /** Cancels unfinished jobs; resolves to their number. */
  cancel(selection?: JobSelection, reason?: string): Promise<number>;
  /**
   * Deletes jobs, finished or not, except those that are running. Resolves to their number.
   * @param selection `{}` selects every job
   */
  delete(selection: JobSelection): Promise<number>;
  /**
   * Changes the priority of queued jobs; resolves to their number. Running and finished jobs are not changed.
   * @param priority −100 … 100, larger first
   */
  prioritize(selection: JobSelection, priority: number): Promise<number>;
  /**
   * Changes the queued job with this id: its input, due time, expiry, queue or priority.
   * @throws ResultNotFoundError; and the errors of `result.edit`
   * @example await tasks.jobs.edit(id, { input: { to: 'ada@example.com' } });
   */
  edit(id: string, changes: EditOptions): Promise<TaskResult>;
  /**
   * Deletes jobs that finished longer ago than `olderThan`, regardless of their retention; resolves to their number.
   * @param options.dryRun true: deletes nothing, and resolves to the number of jobs that would be deleted
   */
  prune(options: {
    olderThan: Duration;
    status?: 'successful' | 'failed' | 'cancelled';
    queue?: string;
    dryRun?: boolean;
  }): Promise<number>;
}

/** A worker's entry in the registry. */
export interface WorkerInfo {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** Null means all queues. */
  readonly queues: readonly string[] | null;
  readonly exclude: readonly string[] | null;
  /** The tasks that the worker knows. */
  readonly tasks: readonly string[];
  /** The schedules that its code defines: name to hash. */
  readonly schedules: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** Attempts in flight at the last heartbeat. */
  readonly running: number;
  readonly state: 'running' | 'stopping' | 'stopped';
  readonly startedAt: Date;
  /** In stores shared between processes, a running worker sends a heartbeat every 10 s. */
  readonly heartbeatAt: Date;
}

/** The registry of workers: `tasks.workers`. */
export interface Workers {
  /** Number of this application's workers that run in this process. */
  readonly here: number;
  /** Ordered by start time. Workers that stopped or vanished are removed after a day. */
  list(): Promise<WorkerInfo[]>;
}

export function workersOf(app: App, alias = 'default'): Workers {
  return {
    get here() {
      return app.workers.size;
    },
    async list() {
      const rows = await (await app.backend(alias).open()).listWorkers();
      return rows.map(({ excludeQueues, startedAt, heartbeatAt, queues, tasks, schedules, ...row }) => ({
        ...row,
        queues: frozen(queues),
        exclude: frozen(excludeQueues),
        tasks: frozen(tasks),
        schedules: frozen(schedules),
        startedAt: new Date(startedAt),
        heartbeatAt: new Date(heartbeatAt),
      }));
    },
  };
}

/** A limit, and how much of it is in use. */
export interface LimitUse {
  /** The queue that it limits, or null. */
  readonly queue: string | null;
  /** The task that it limits, or null. */
  readonly task: string | null;
  /** The key, if the limit has one. Only keys with running jobs are listed. */
  readonly key: string | null;
  readonly running: number;
  /** The number of jobs that may run at a time; null: only the rate or the shares of keys limit it. */
  readonly concurrency: number | null;
  /** How many jobs may start within a time, or null. */
  readonly rate: { readonly limit: number; readonly perMs: number; readonly byKey: boolean } | null;
}

/** The limits of queues and tasks that apply to a backend, sorted by name. */
export async function limitsInUse(app: App, alias = 'default'): Promise<LimitUse[]> {
  const limits = app.limits();
  if (limits === null) return [];
  const store = await app.backend(alias).open();
  const now = app.binding.host.clock.now();
  const running: Job[] = [];
  let cursor: string | undefined;
  do {
    const found = await store.list({ status: ['running'] }, { now, limit: 1_000, cursor });
    for (const { job } of found.items) running.push(job);
    cursor = found.cursor ?? undefined;
  } while (cursor !== undefined);
  const use = (
    entry: Pick<LimitUse, 'queue' | 'task' | 'key'>,
    { concurrency, rate, rateByKey }: Limit,
    jobs: readonly Job[],
  ): LimitUse => ({
    ...entry,
    running: jobs.length,
    concurrency: concurrency ?? null,
    rate: rate ? { limit: rate.limit, perMs: rate.perMs, byKey: rateByKey ?? false } : null,
  });
  const uses: LimitUse[] = [];
  for (const [queue, limit] of sorted(limits.queues)) {
    if (limit.concurrency === undefined && !limit.rate) continue;
    const jobs = running.filter((job) => job.queue === queue);
    uses.push(use({ queue, task: null, key: null }, limit, jobs));
  }
  for (const [task, limit] of sorted(limits.tasks)) {
    const jobs = running.filter((job) => job.task === task);
    if (!limit.concurrencyByKey) uses.push(use({ queue: null, task, key: null }, limit, jobs));
    else
      for (const [key, keyed] of sorted(Object.groupBy(jobs, ({ concurrencyKey }) => concurrencyKey ?? '')))
        uses.push(use({ queue: null, task, key }, limit, keyed ?? []));
  }
  return uses;
}

function sorted<T>(entries: Readonly<Record<string, T>> | Partial<Record<string, T>>): [string, T][] {
  return (Object.entries(entries) as [string, T][]).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Operations on queues: `tasks.queues`. */
export interface Queues {
  /** Stops claiming from the queue until it is resumed; running jobs continue. */
  pause(name: string): Promise<void>;
  resume(name: string): Promise<void>;
  list(): Promise<QueueStats[]>;
}

export function jobsOf(app: App, alias = 'default'): Jobs {
  const store = () => app.backend(alias).open();
  /** True for a selection by a missing value: it selects nothing and logs a warning. */
  const isLost = (call: string, { lost }: Selection): boolean => {
    if (lost.length === 0) return false;
    const which = lost.join(', ');
    app.logger.warn(
      { selection: which },
      `jobs.${call}(): ${which} is undefined, which selects no job; omit it to leave this condition out`,
    );
    return true;
  };
  return {
    async list(selection) {
      const selected = readSelection(selection, ['limit', 'after', 'order']);
      const { read, filter, given } = selected;
      const limit = read.integer(given.limit, 'limit', 1, 1_000) ?? 50;
      const { after } = given;
      if (after !== undefined && !(typeof after === 'string' && namePattern.test(after)))
        read.fault('after', 'the cursor of an earlier page', after);
      const order = given.order as JobOrder | undefined;
      if (order !== undefined && !orders.includes(order)) read.fault('order', `one of ${orders.join(', ')}`, order, near(order, orders));
      if (order === 'changed' && after !== undefined)
        read.fault('after', "no cursor with order: 'changed', which has a single page", after);
      read.done();
      if (isLost('list', selected)) return { items: [] };
      const now = app.binding.host.clock.now();
      const page = await (await store()).list(filter, { now, limit, cursor: after as string | undefined, order });
      const items = page.items.map((record) => resultOf(app, alias, record));
      return page.cursor === null ? { items } : { items, cursor: page.cursor };
    },
    // `retry()` selects all jobs; `retry(undefined)` is a selection whose value is missing.
    async retry(...args) {
      const selected = readSelection(args[0]);
      const { read, filter } = selected;
      refuseLost(read, args);
      read.done();
      if (isLost('retry', selected)) return 0;
      const count = await retryJobs(app.binding.host, await store(), filter);
      await app.backend(alias).requeued();
      return count;
    },
    async cancel(...args) {
      const [selection, reason = 'cancelled'] = args;
      const selected = readSelection(selection);
      const { read, filter } = selected;
      refuseLost(read, args);
      read.done();
      if (isLost('cancel', selected)) return 0;
      return cancelJobs(app.binding.host, await store(), filter, reason);
    },
    async delete(selection) {
      const selected = readSelection(selection);
      const { read, filter } = selected;
      refuseLost(read, [selection]);
      read.done();
      if (isLost('delete', selected)) return 0;
      return deleteJobs(app.binding.host, await store(), filter);
    },
    async prioritize(selection, priority) {
      const selected = readSelection(selection);
      const { read, filter } = selected;
      refuseLost(read, [selection]);
      const wanted = read.priority(priority, 'priority');
      read.done();
      if (isLost('prioritize', selected)) return 0;
      return prioritizeJobs(app.binding.host, await store(), filter, wanted);
    },
    async edit(id, changes) {
      return (await findResult(app, id, app.known.backends)).edit(changes);
    },
    async prune(options) {
      const read = new OptionReader('Invalid options for jobs.prune()');
      const given = read.object(options, '', ['olderThan', 'status', 'queue', 'dryRun']);
      const olderThanMs = read.duration(given.olderThan, 'olderThan') ?? 0;
      if (given.olderThan === undefined) read.fault('olderThan', durationExpected(), undefined);
      const lost = lostOf(given, ['status', 'queue', 'dryRun']);
      const queue = read.queue(given.queue, 'queue', app.known.queues);
      const { dryRun = false } = given;
      if (typeof dryRun !== 'boolean') read.fault('dryRun', 'true or false', dryRun);
      const statuses = given.status === undefined ? finished : finished.filter((status) => status === given.status);
      if (statuses.length === 0) read.fault('status', `one of ${finished.join(', ')}`, given.status, near(given.status, finished));
      read.done();
      if (isLost('prune', { lost })) return 0;
      const finishedBefore = app.binding.host.clock.now() - olderThanMs;
      const opened = await store();
      if (queue !== undefined || dryRun)
        return pruneJobs(app.binding.host, opened, { status: statuses, queue }, finishedBefore, Boolean(dryRun));
      let count = 0;
      for (const status of statuses) {
        let deleted: number;
        do {
          deleted = await opened.prune({ status, finishedBefore, limit: pruneBatch });
          count += deleted;
          if (deleted === pruneBatch) await yieldToEventLoop();
        } while (deleted === pruneBatch);
      }
      return count;
    },
  };
}

const finished = ['successful', 'failed', 'cancelled'] as const;
const statuses: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying', 'running', ...finished];
const orders: readonly JobOrder[] = ['enqueued', 'changed'];
const pruneBatch = 1_000;
const filters = ['ids', 'status', 'task', 'queue', 'schedule', 'tag', 'workflow', 'enqueuedBy'] as const;
const whichJobs = "a selection such as { status: 'failed' }, or {} for all jobs";

/** The selection, and the conditions in it that have no value. */
interface Selection {
  readonly lost: readonly string[];
}

/** A selection made by mistake must not be treated as all jobs. */
function readSelection(
  selection: object | undefined,
  more: readonly string[] = [],
): Selection & { read: OptionReader; filter: JobFilter; given: Record<string, unknown> } {
  const read = new OptionReader('Invalid selection of jobs');
  const given = read.object(selection, '', [...filters, ...more]);
  // A promise, a Map or a TaskResult has no own properties either, but does not mean all jobs.
  if (given !== null && Object.keys(given).length === 0 && isInstance(given)) {
    const instead = given instanceof TaskResult ? '{ ids: [result.id] }' : "{ status: 'failed' }";
    read.fault('selection', `a plain object such as ${instead}`, given);
  }
  const text = (path: string, value: unknown, expected: string) => {
    if (value === undefined || typeof value === 'string') return value;
    return read.fault(path, expected, value);
  };
  const { ids, status, task } = given;
  if (ids !== undefined && !(Array.isArray(ids) && ids.every((id) => typeof id === 'string'))) read.fault('ids', 'an array of ids', ids);
  const wanted: unknown[] | undefined = status === undefined ? undefined : Array.isArray(status) ? status : [status];
  for (const one of wanted ?? []) {
    if (!statuses.includes(one as Status)) read.fault('status', `one of ${statuses.join(', ')}`, one, near(one, statuses));
  }
  const named = typeof task === 'string' || task === undefined ? task : ((task as { name?: unknown } | null)?.name ?? null);
  const filter: JobFilter = {
    ids: ids as readonly string[] | undefined,
    status: wanted as readonly Status[] | undefined,
    task: text('task', named, 'a task or its name'),
    queue: text('queue', given.queue, 'the name of a queue'),
    schedule: text('schedule', given.schedule, 'the name of a schedule'),
    tag: text('tag', given.tag, 'a tag'),
    workflow: text('workflow', given.workflow, 'the id of a workflow'),
    enqueuedBy: text('enqueuedBy', given.enqueuedBy, 'the id of a job'),
  };
  return { read, filter, given, lost: lostOf(given, filters) };
}

function refuseLost(read: OptionReader, args: readonly unknown[]): void {
  if (args.length > 0 && args[0] === undefined) read.fault('selection', whichJobs, undefined);
}

/** The conditions that are present but have no value. */
function lostOf(given: Record<string, unknown>, keys: readonly string[]): string[] {
  return keys.filter((key) => Object.hasOwn(given, key) && given[key] === undefined);
}

function isInstance(value: object): boolean {
  const prototype: object | null = Object.getPrototypeOf(value);
  // Objects of another realm have another Object.prototype.
  return prototype !== null && Object.getPrototypeOf(prototype) !== null;
}

function near(value: unknown, known: readonly string[]): string | undefined {
  return typeof value === 'string' ? nearest(value, known) : undefined;
}

export function queuesOf(app: App, alias = 'default'): Queues {
  const save = async (name: string, paused: boolean) => {
    const read = new OptionReader('Invalid queue');
    read.queue(name ?? null, 'name', app.known.queues);
    read.done();
    const store: Store = await app.backend(alias).open();
    await store.saveQueue({ name, paused }, { now: app.binding.host.clock.now() });
  };
  return {
    pause: (name) => save(name, true),
    resume: (name) => save(name, false),
    list: async () => [...(await (await app.backend(alias).open()).stats({ now: app.binding.host.clock.now() }))],
  };
}
