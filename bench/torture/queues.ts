/** The queues that can be tortured: this package on each of its stores, and other queues that are installed. */
import { type CreateTasksOptions, createTasks, type Tasks } from 'escapement';
import { bullmq } from 'escapement/bullmq';
import { postgres } from 'escapement/postgres';
import { sqlite } from 'escapement/sqlite';

/** A process's interface to a queue. */
export interface Queue {
  /** Whether jobs whose id begins with `one` run one at a time. */
  readonly hasLimit: boolean;
  /** True if a job is enqueued once, however often its id is enqueued. */
  readonly hasIds: boolean;
  /** Resolves once the jobs are acknowledged. From then on none of them may be lost. */
  enqueue(ids: readonly string[]): Promise<void>;
  /** Starts a worker. @param ended called once the queue has acknowledged the end of a job */
  work(run: (id: string) => Promise<void>, ended: (id: string) => void): Promise<void>;
  /** The number of jobs that have not ended. */
  unfinished(): Promise<number>;
  /** Jobs that ended without success, and why. */
  failed(): Promise<readonly { readonly id: string; readonly why: string }[]>;
  close(): Promise<void>;
}

export interface Place {
  /** A SQLite file, or the URL of a server of PostgreSQL or Redis. */
  readonly at: string;
  readonly concurrency: number;
}

type Open = (place: Place) => Promise<Queue>;

export const queues: Readonly<Record<string, Open>> = {
  sqlite: (place) => escapement(sqlite({ file: place.at }), place),
  postgres: (place) => escapement(postgres({ connectionString: place.at, schema: 'torture' }), place),
  'pg-boss': pgBoss,
  'graphile-worker': graphileWorker,
  bullmq: plainBullMQ,
  'escapement-bullmq': (place) => escapement(bullmq({ connection: { url: place.at }, prefix: 'torture' }), place),
};

async function escapement(backend: NonNullable<CreateTasksOptions['backend']>, { concurrency }: Place): Promise<Queue> {
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const tasks = createTasks({ backend, logger: quiet });
  let run: (id: string) => Promise<void> = async () => {};
  const options = { retry: { maxAttempts: 50, backoff: '500ms' }, run: (id: string) => run(id) } as const;
  const any = tasks.define('any', options);
  const hasLimit = tasks.backends[0]?.supports.engine ?? false;
  const one = tasks.define('one', { ...options, ...(hasLimit ? { concurrency: { limit: 1 } } : {}) });
  return {
    hasLimit,
    hasIds: true,
    async enqueue(ids) {
      for (const task of [any, one]) {
        const its = ids.filter((id) => id.startsWith('one') === (task === one));
        await Promise.all(its.map((id) => task.using({ id }).enqueue(id)));
      }
    },
    async work(work, ended) {
      run = work;
      tasks.on('successful', ({ job }) => ended(job.id));
      // The connection may be cut while the store is being opened.
      while (!(await isOpen(tasks))) await new Promise((resolve) => setTimeout(resolve, 200));
      await tasks.worker({ concurrency }).start();
    },
    async unfinished() {
      const counts = (await tasks.queues.list()).map(({ counts: { ready, scheduled, retrying, running, waiting } }) => [
        ready,
        scheduled,
        retrying,
        running,
        waiting,
      ]);
      return counts.flat().reduce((sum, count) => sum + count, 0);
    },
    async failed() {
      const { items } = await tasks.jobs.list({ status: ['failed', 'cancelled'], limit: 1_000 });
      return items.map((job) => ({ id: job.id, why: job.reason ?? '' }));
    },
    close: () => tasks.close(),
  };
}

const isOpen = (tasks: Tasks) =>
  tasks.open().then(
    () => true,
    () => false,
  );

/** Imported by a variable name, so that a missing package is not a type error. */
async function load(name: string): Promise<Record<string, never>> {
  try {
    return (await import(name)) as Record<string, never>;
  } catch (cause) {
    throw new Error(`${name} is not installed; run: npm install --no-save ${name}`, { cause });
  }
}

async function pgBoss({ at, concurrency }: Place): Promise<Queue> {
  interface Boss {
    on(event: 'error', listener: () => void): void;
    start(): Promise<unknown>;
    createQueue(name: string, options: object): Promise<void>;
    insert(queue: string, jobs: readonly object[]): Promise<unknown>;
    work(queue: string, options: object, run: (jobs: readonly { data: { id: string } }[]) => Promise<unknown>): Promise<unknown>;
    getDb(): { executeSql(sql: string): Promise<{ rows: { id: string; n: string }[] }> };
    stop(options: object): Promise<void>;
  }
  const { PgBoss } = (await load('pg-boss')) as unknown as { PgBoss: new (options: object) => Boss };
  const boss = new PgBoss({ connectionString: at, max: 10, maintenanceIntervalSeconds: 5, monitorIntervalSeconds: 5 });
  boss.on('error', () => {});
  await boss.start();
  await boss.createQueue('torture', { retryLimit: 50, retryDelay: 1, expireInSeconds: 60, heartbeatSeconds: 30 });
  return {
    hasLimit: false,
    hasIds: false,
    enqueue: async (ids) => {
      await boss.insert(
        'torture',
        ids.map((id) => ({ data: { id } })),
      );
    },
    work: async (run) => {
      for (let i = 0; i < concurrency; i++)
        await boss.work('torture', { pollingIntervalSeconds: 0.5, batchSize: 1 }, async ([job]) => run(job?.data.id ?? ''));
    },
    unfinished: async () => {
      const sql = "SELECT count(*) AS n FROM pgboss.job WHERE name = 'torture' AND state IN ('created', 'retry', 'active')";
      return Number((await boss.getDb().executeSql(sql)).rows[0]?.n);
    },
    failed: async () => {
      const sql = "SELECT data ->> 'id' AS id FROM pgboss.job WHERE name = 'torture' AND state IN ('failed', 'cancelled')";
      return (await boss.getDb().executeSql(sql)).rows.map(({ id }) => ({ id, why: 'failed' }));
    },
    close: () => boss.stop({ graceful: false }),
  };
}

async function graphileWorker({ at, concurrency }: Place): Promise<Queue> {
  interface Utils {
    migrate(): Promise<void>;
    addJobs(jobs: readonly object[]): Promise<unknown>;
    withPgClient<T>(use: (client: { query(sql: string): Promise<{ rows: { id: string; n: string }[] }> }) => Promise<T>): Promise<T>;
    release(): Promise<void>;
  }
  const worker = (await load('graphile-worker')) as unknown as {
    Logger: new (factory: () => () => void) => unknown;
    makeWorkerUtils(options: object): Promise<Utils>;
    run(options: object): Promise<unknown>;
  };
  const logger = new worker.Logger(() => () => {});
  const utils = await worker.makeWorkerUtils({ connectionString: at, logger });
  await utils.migrate();
  const query = (sql: string) => utils.withPgClient(async (client) => (await client.query(sql)).rows);
  return {
    hasLimit: true,
    hasIds: true,
    enqueue: async (ids) => {
      const inQueue = (id: string) => (id.startsWith('one') ? { queueName: 'one' } : {});
      await utils.addJobs(ids.map((id) => ({ identifier: 'any', payload: { id }, maxAttempts: 50, jobKey: id, ...inQueue(id) })));
    },
    work: async (run) => {
      const taskList = { any: ({ id }: { id: string }) => run(id) };
      await worker.run({ connectionString: at, concurrency, taskList, logger, noHandleSignals: true, pollInterval: 500 });
    },
    unfinished: async () =>
      Number((await query('SELECT count(*) AS n FROM graphile_worker._private_jobs WHERE attempts < max_attempts'))[0]?.n),
    failed: async () => {
      const rows = await query('SELECT key AS id FROM graphile_worker._private_jobs WHERE attempts >= max_attempts');
      return rows.map(({ id }) => ({ id, why: 'failed' }));
    },
    close: () => utils.release(),
  };
}

/** As in its documentation: the job's id as `jobId`, `attempts` and `backoff` on each job, and a worker with the defaults. */
async function plainBullMQ({ at, concurrency }: Place): Promise<Queue> {
  interface Bull {
    addBulk(jobs: readonly object[]): Promise<unknown>;
    getJobCounts(...types: string[]): Promise<Record<string, number>>;
    getFailed(): Promise<readonly { id: string; failedReason: string }[]>;
    on(event: 'error', listener: () => void): void;
    close(): Promise<void>;
  }
  interface BullWorker {
    on(event: 'error', listener: () => void): void;
    on(event: 'completed', listener: (job: { id: string }) => void): void;
  }
  const { Queue: Bull, Worker } = (await load('bullmq')) as unknown as {
    Queue: new (name: string, options: object) => Bull;
    Worker: new (name: string, run: (job: { id: string }) => Promise<void>, options: object) => BullWorker;
  };
  const connection = { url: at };
  const queue = new Bull('torture', { connection });
  queue.on('error', () => {});
  return {
    hasLimit: false,
    hasIds: true,
    enqueue: async (ids) => {
      const opts = { attempts: 50, backoff: { type: 'fixed', delay: 500 } };
      await queue.addBulk(ids.map((id) => ({ name: 'any', data: {}, opts: { ...opts, jobId: id } })));
    },
    work: async (run, ended) => {
      const worker = new Worker('torture', ({ id }) => run(id), { connection, concurrency });
      worker.on('error', () => {});
      worker.on('completed', ({ id }) => ended(id));
    },
    unfinished: async () => {
      const counts = await queue.getJobCounts('wait', 'active', 'delayed', 'prioritized');
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    },
    failed: async () => (await queue.getFailed()).map(({ id, failedReason }) => ({ id, why: failedReason })),
    close: () => queue.close(),
  };
}
