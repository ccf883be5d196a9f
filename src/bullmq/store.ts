/**
 * Gives the rest of Escapement access to the jobs in BullMQ's queues: a store, as far as results and operations need one. It claims and
 * settles nothing, because BullMQ's workers do that, and refuses what BullMQ does not support.
 */
import type { JobType, Queue } from 'bullmq';
import { changedAt, visibleStatus, withoutOldStacks } from '../core/job.ts';
import { logBlob } from '../core/log.ts';
import type { Amendment, Hint, Job, JobRecord, QueueRow, Status, WorkerRow } from '../core/types.ts';
import { asOwnWork } from '../ports/clock.ts';
import type { Amended, JobFilter, JobOrder, PruneOptions, QueueStats, Store, Taken } from '../ports/store.ts';
import { type Connection, failing } from './connection.ts';
import {
  type Begun,
  cancelField,
  cancelledField,
  dataOf,
  foreignId,
  foreignIds,
  foreignPriority,
  keptAgain,
  newData,
  ownId,
  parsed,
  recordOf,
  sourceOf,
} from './rows.ts';
import { unsupported } from './unsupported.ts';

type Insert = Parameters<Store['insert']>;
/** A record, and the job's id in BullMQ. */
interface Found extends JobRecord {
  readonly foreign: string;
  readonly begun: Begun | null;
  readonly nonce: string | undefined;
}
interface JobPlace {
  readonly queue: string;
  readonly id: string;
  readonly foreign: string;
}
type List = { readonly items: readonly JobRecord[]; readonly cursor: string | null };

const pollMs = 1_000;
const batch = 200;
/** How many delayed and failed jobs of each queue are read to count retrying and cancelled jobs. */
const maxCounted = 1_000;
/** How many jobs of each state are read to find the most recently changed ones. */
const maxChanged = 1_000;

const waiting: readonly JobType[] = ['wait', 'prioritized'];
const unfinished: readonly JobType[] = [...waiting, 'delayed', 'active'];
/**
 * Where jobs of each status may be. A job that was cancelled before it started, or has expired, stays in place until a worker removes it.
 */
const placesOf: Readonly<Record<Status, readonly JobType[]>> = {
  waiting: [],
  scheduled: ['delayed'],
  retrying: ['delayed'],
  // An active job without a lock has lost its worker.
  ready: unfinished,
  running: ['active'],
  successful: ['completed'],
  failed: ['failed'],
  cancelled: [...unfinished, 'failed'],
};
const everywhere: readonly JobType[] = [...unfinished, 'completed', 'failed'];

export class BullStore implements Store {
  readonly name = 'bullmq';
  readonly supports = { transactions: false };
  readonly pollMs = pollMs;
  readonly connection: Connection;
  readonly #now: () => number;
  readonly #nonce: () => string;
  readonly #listeners = new Set<(hint: Hint) => void>();

  /** @param nonce returns a text that is unique to the enqueue */
  constructor(connection: Connection, now: () => number, nonce: () => string) {
    this.connection = connection;
    this.#now = now;
    this.#nonce = nonce;
  }

  migrate(): Promise<void> {
    return this.connection.open();
  }

  close(): Promise<void> {
    return this.connection.close();
  }

  /** Calls Redis. Errors become StoreErrors. */
  async call<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await asOwnWork(work);
    } catch (error) {
      throw failing(error);
    }
  }

  insert(jobs: readonly Job[], options: Insert[1]): Promise<Taken | undefined> {
    if (options.transaction !== undefined) throw unsupported('transactions');
    if (options.blobs && options.blobs.length > 0) throw unsupported('blobs');
    if (options.edges && options.edges.length > 0) throw unsupported('workflows');
    return this.call(async () => {
      if (options.once) return Promise.all(jobs.map((job) => this.#insertOnce(job)));
      const byQueue = Map.groupBy(jobs, ({ queue }) => queue);
      for (const [name, queueJobs] of byQueue) {
        await this.connection.note(name);
        await this.connection.queue(name).addBulk(queueJobs.map((job) => added(job, undefined)));
      }
      return undefined;
    });
  }

  /** If the id exists already, BullMQ leaves the existing job alone and does not report it. */
  async #insertOnce(job: Job): Promise<JobRecord | null> {
    const [standing] = await this.get([job.id]);
    if (standing) return standing;
    await this.connection.note(job.queue);
    const nonce = this.#nonce();
    const { name, data, opts } = added(job, nonce);
    await this.connection.queue(job.queue).add(name, data, opts);
    const [found] = await this.get([job.id]);
    return found && found.nonce !== nonce ? found : null;
  }

  async get(ids: readonly string[]): Promise<(Found | null)[]> {
    return this.call(async () => {
      const queues = await this.connection.names();
      return Promise.all(
        ids.map(async (id) => {
          const found = await Promise.all(queues.flatMap((queue) => foreignIds(id).map((foreign) => this.read(queue, foreign))));
          return found.find((record) => record !== null) ?? null;
        }),
      );
    });
  }

  /** Reads the job with this BullMQ id from a queue. */
  async read(queue: string, foreign: string): Promise<Found | null> {
    const { client } = this.connection;
    const [fields, locked] = (await client.runCommand('escapementRead', [this.connection.queue(queue).toKey(foreign)])) as [
      string[],
      number,
    ];
    if (fields.length === 0) return null;
    const hash = Object.fromEntries(fields.flatMap((field, i) => (i % 2 === 0 ? [[field, fields[i + 1] ?? '']] : [])));
    const source = sourceOf(queue, foreign, hash, locked === 1);
    return { ...recordOf(source, this.#now()), foreign, begun: source.begun, nonce: dataOf(source.data).escapement.nonce };
  }

  list(
    filter: JobFilter,
    options: { readonly now: number; readonly limit: number; readonly cursor?: string | undefined; readonly order?: JobOrder | undefined },
  ): Promise<List> {
    return this.call(() => (options.order === 'changed' ? this.#changed(filter, options) : this.#pages(filter, options)));
  }

  /**
   * BullMQ has no index by id or by task, so this reads the ids of all jobs in the states that may match, and as many jobs as the page
   * needs.
   */
  async #pages(filter: JobFilter, { now, limit, cursor }: { now: number; limit: number; cursor?: string | undefined }): Promise<List> {
    const items: JobRecord[] = [];
    const ids = (await this.#ids(filter, -1)).filter(({ id }) => cursor === undefined || id < cursor);
    ids.sort((a, b) => (a.id < b.id ? 1 : -1));
    for (let from = 0; from < ids.length; from += batch) {
      for (const record of await this.#readAll(ids.slice(from, from + batch))) {
        if (!matches(record.job, filter, now)) continue;
        if (items.length === limit) return { items, cursor: items.at(-1)?.job.id ?? null };
        items.push(listed(record));
      }
    }
    return { items, cursor: null };
  }

  async #changed(filter: JobFilter, { now, limit }: { now: number; limit: number }): Promise<List> {
    const ids = await this.#ids(filter, maxChanged - 1);
    const records: JobRecord[] = [];
    for (let from = 0; from < ids.length; from += batch) records.push(...(await this.#readAll(ids.slice(from, from + batch))));
    const matching = records.filter(({ job }) => matches(job, filter, now)).sort((a, b) => changedAt(b) - changedAt(a));
    return { items: matching.slice(0, limit).map(listed), cursor: null };
  }

  async #readAll(places: readonly JobPlace[]): Promise<readonly Found[]> {
    const records = await Promise.all(places.map(({ queue, foreign }) => this.read(queue, foreign)));
    return records.filter((record) => record !== null);
  }

  async #ids(filter: JobFilter, last: number): Promise<JobPlace[]> {
    const names = (await this.connection.names()).filter((name) => filter.queue === undefined || name === filter.queue);
    const { ids } = filter;
    if (ids) return names.flatMap((queue) => ids.flatMap((id) => foreignIds(id).map((foreign) => ({ queue, id, foreign }))));
    const places = filter.status === undefined ? everywhere : [...new Set(filter.status.flatMap((status) => placesOf[status]))];
    if (places.length === 0) return [];
    const found = await Promise.all(
      names.map(async (queue) => {
        const page = await this.connection.queue(queue).getRanges([...places], 0, last);
        return [...new Set(page)].map((foreign) => ({ queue, id: ownId(foreign), foreign }));
      }),
    );
    return found.flat();
  }

  amend(amendments: readonly Amendment[]): Promise<Amended> {
    return this.call(async () => {
      const amended: (Job | null)[] = [];
      for (const amendment of amendments) amended.push(await this.#amend(amendment));
      return { amended, dependents: [] };
    });
  }

  async #amend({ id, expect, set }: Amendment): Promise<Job | null> {
    const [before] = await this.get([id]);
    if (!before || before.job.status !== expect.status || before.job.claim !== expect.claim) return null;
    const { job, foreign } = before;
    const queue = this.connection.queue(job.queue);
    if (set === null) return (await queue.remove(foreign)) === 1 ? job : null;
    if (set.status === 'cancelled' || set.cancelRequested)
      await this.#cancel(queue, before, set.reason ?? set.cancelRequested ?? 'cancelled');
    else if (set.status === 'queued') await this.#requeue(queue, before, set);
    else if (set.priority !== undefined && Object.keys(set).length === 1)
      await (await queue.getJob(foreign))?.changePriority({ priority: foreignPriority(set.priority) });
    else
      throw unsupported(
        `changing ${Object.keys(set)
          .filter((key) => key !== 'dueAt')
          .join(', ')} of a job; cancel it and enqueue another`,
      );
    return (await this.get([id]))[0]?.job ?? null;
  }

  /**
   * BullMQ cannot end a waiting job: the job is marked, and the next worker removes it. A worker that is running the job sees the mark
   * within seconds.
   */
  async #cancel(queue: Queue, { job, foreign }: Found, reason: string): Promise<void> {
    const { client } = this.connection;
    await client.runCommand('escapementCancel', [queue.toKey(foreign), JSON.stringify({ reason, at: this.#now() })]);
    // Otherwise it would stay until it is due.
    if (job.status === 'queued') await (await queue.getJob(foreign))?.promote().catch(() => {});
    this.hint({ finished: true, cancelled: true });
  }

  async #requeue(queue: Queue, { begun, foreign }: Found, set: NonNullable<Amendment['set']>): Promise<void> {
    const found = await queue.getJob(foreign);
    if (!found) return;
    const { input, escapement } = dataOf(found.data);
    const kept = keptAgain(escapement, begun?.runs ?? 0, set);
    await found.updateData({ ...(input === undefined ? {} : { input }), escapement: kept });
    await this.connection.client.hdel(queue.toKey(foreign), cancelField, cancelledField);
    const state = await found.getState();
    if (state === 'failed') await found.retry('failed');
    else if (state === 'delayed') await found.promote();
  }

  async prune({ status, limit, finishedBefore, own }: PruneOptions): Promise<number> {
    if (own === 'only') return 0;
    return this.call(async () => {
      let count = 0;
      for (const name of await this.connection.names()) {
        const queue = this.connection.queue(name);
        const ids = await queue.getRanges([status === 'successful' ? 'completed' : 'failed'], 0, limit - 1, true);
        for (const foreign of ids) {
          const record = await this.read(name, foreign);
          if (record?.job.status !== status || (record.job.finishedAt ?? 0) >= finishedBefore) continue;
          count += await queue.remove(foreign);
        }
      }
      return count;
    });
  }

  /**
   * Counts as BullMQ does. BullMQ distinguishes neither jobs that wait for a retry from other delayed jobs, nor cancelled jobs from failed
   * ones, so a limited number of these is read.
   */
  stats(): Promise<QueueStats[]> {
    return this.call(async () =>
      Promise.all(
        (await this.connection.names()).map(async (name) => {
          const queue = this.connection.queue(name);
          const statusCounts = this.connection.client.runCommand('escapementCount', [queue.toKey(''), maxCounted]) as Promise<number[]>;
          const [counts, paused, [retrying = 0, cancelled = 0]] = await Promise.all([
            queue.getJobCounts(...everywhere),
            queue.isPaused(),
            statusCounts,
          ]);
          const sum = (...types: readonly JobType[]) => types.reduce((total, type) => total + (counts[type] ?? 0), 0);
          return {
            name,
            paused,
            counts: {
              waiting: 0,
              scheduled: Math.max(0, sum('delayed') - retrying),
              ready: sum(...waiting),
              retrying,
              running: sum('active'),
              successful: sum('completed'),
              failed: Math.max(0, sum('failed') - cancelled),
              cancelled,
            },
            oldestReadyAt: null,
          };
        }),
      ),
    );
  }

  saveQueue({ name, paused }: QueueRow): Promise<void> {
    return this.call(async () => {
      await this.connection.note(name);
      const queue = this.connection.queue(name);
      await (paused ? queue.pause() : queue.resume());
    });
  }

  saveWorker(worker: WorkerRow, { forgetBefore }: { readonly forgetBefore: number }): Promise<void> {
    return this.call(async () => {
      const { client, workersKey } = this.connection;
      await client.hset(workersKey, { [worker.id]: JSON.stringify(worker) });
      const old = (await this.listWorkers()).filter(({ heartbeatAt }) => heartbeatAt < forgetBefore);
      if (old.length > 0) await client.hdel(workersKey, ...old.map(({ id }) => id));
    });
  }

  listWorkers(): Promise<WorkerRow[]> {
    return this.call(async () => {
      const rows = Object.values(await this.connection.client.hgetall(this.connection.workersKey)).map((text) => parsed(text));
      return (rows.filter((row) => row !== undefined) as WorkerRow[]).sort((a, b) => a.startedAt - b.startedAt);
    });
  }

  async getBlobs(ids: readonly string[], name: string): Promise<(Uint8Array | null)[]> {
    if (name !== logBlob) return ids.map(() => null);
    const records = await this.get(ids);
    return this.call(() =>
      Promise.all(
        records.map(async (record) => {
          if (!record) return null;
          const { logs } = await this.connection.queue(record.job.queue).getJobLogs(record.foreign);
          return logs.length === 0 ? null : new TextEncoder().encode([...new Set(logs)].join('\n'));
        }),
      ),
    );
  }

  listen(notify: (hint: Hint) => void): () => void {
    this.#listeners.add(notify);
    return () => this.#listeners.delete(notify);
  }

  /** Called when something has happened in this process. */
  hint(hint: Hint): void {
    for (const notify of this.#listeners) notify(hint);
  }

  async getSteps(ids: readonly string[]): Promise<never[][]> {
    return ids.map(() => []);
  }
  async getEdges(ids: readonly string[]): Promise<{ parents: never[]; children: never[] }[]> {
    return ids.map(() => ({ parents: [], children: [] }));
  }
  async listSchedules(): Promise<never[]> {
    return [];
  }
  async dueSchedules(): Promise<{ due: never[]; nextAt: null; holding: false }> {
    return { due: [], nextAt: null, holding: false };
  }

  async sendSignal(): Promise<never> {
    throw unsupported('signals');
  }
  async saveSteps(): Promise<never> {
    throw unsupported('steps');
  }
  async takeSignal(): Promise<never> {
    throw unsupported('signals');
  }
  async saveBlobs(): Promise<never> {
    throw unsupported('blobs');
  }
  async saveSchedule(): Promise<never> {
    throw unsupported('schedules');
  }
  async dropSchedule(): Promise<never> {
    throw unsupported('schedules');
  }
  async advanceSchedules(): Promise<never> {
    throw unsupported('schedules');
  }
  async claim(): Promise<never> {
    throw unsupported("the engine's workers");
  }
  async renew(): Promise<never> {
    throw unsupported("the engine's workers");
  }
  async settle(): Promise<never> {
    throw unsupported("the engine's workers");
  }
  async overdue(): Promise<never> {
    throw unsupported("the engine's workers");
  }
  async nextDueAt(): Promise<never> {
    throw unsupported("the engine's workers");
  }
}

function added(job: Job, nonce: string | undefined) {
  const delay = Math.max(0, job.dueAt - job.enqueuedAt);
  return {
    name: job.task,
    data: newData(job, nonce),
    opts: {
      jobId: foreignId(job.id),
      timestamp: job.enqueuedAt,
      priority: foreignPriority(job.priority),
      attempts: job.maxAttempts,
      ...(delay > 0 ? { delay } : {}),
    },
  };
}

function listed({ job, attempts }: JobRecord): JobRecord {
  return { job, attempts: withoutOldStacks(attempts) };
}

function matches(job: Job, filter: JobFilter, now: number): boolean {
  const { status, task, tag, schedule, workflow, enqueuedBy } = filter;
  return (
    (status === undefined || status.includes(visibleStatus(job, now))) &&
    (task === undefined || job.task === task) &&
    (tag === undefined || job.tags.includes(tag)) &&
    (schedule === undefined || job.schedule === schedule) &&
    (workflow === undefined || job.workflow === workflow) &&
    (enqueuedBy === undefined || job.enqueuedBy === enqueuedBy)
  );
}
