/** Tasks on BullMQ and a real Redis server. */
import { Queue, Worker } from 'bullmq';
import { cancel, createTasks, PermanentError, RetryAfterError, snooze, type Tasks } from 'escapement';
import { bullmq } from 'escapement/bullmq';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { redisServer, startRedis, type TestRedis } from '../setup/redis.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

describe.skipIf(!redisServer)('on BullMQ (needs redis-server)', () => {
  let redis: TestRedis;
  let prefix: string;
  let n = 0;
  let tasks: Tasks;
  const connection = () => ({ host: '127.0.0.1', port: redis.port });
  const app = (options: object = {}) =>
    createTasks({
      name: `bullmq-${n++}`,
      backend: bullmq({ connection: connection(), prefix, lockDuration: '1s' }),
      logger: quiet,
      ...options,
    });
  /** The queue as seen by BullMQ's own API. */
  const withQueue = async <T>(name: string, use: (queue: Queue) => Promise<T>): Promise<T> => {
    const queue = new Queue(name, { connection: connection(), prefix });
    try {
      return await use(queue);
    } finally {
      await queue.close();
    }
  };

  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());
  beforeEach(() => {
    prefix = `t${n++}`;
    tasks = app();
  });
  afterEach(() => tasks.close());

  test('a job runs with its full context, and its result records what happened', async () => {
    const welcome = tasks.define('mail.welcome', {
      queue: 'mail',
      priority: 7,
      input: z.object({ to: z.string().transform((to) => to.toLowerCase()) }),
      run: async ({ to }, ctx) => {
        ctx.log.info('sending', { to });
        ctx.progress(0.5, 'half');
        ctx.metadata.set('sent', true);
        return { to, attempt: ctx.attempt, id: ctx.id, tenant: ctx.metadata.get('tenant'), queue: ctx.result.queue };
      },
    });
    const seen: string[] = [];
    tasks.on('*', ({ type }) => seen.push(type));
    tasks.use((attempt, next) => {
      seen.push(`around ${attempt.task}`);
      return next();
    });
    await tasks.worker().start();
    const result = await welcome.using({ id: 'order:4711', tags: ['a'], metadata: { tenant: 1 } }).enqueue({ to: 'ADA' });
    expect(result).toMatchObject({ status: 'ready', input: { to: 'ADA' }, priority: 7, queue: 'mail', tags: ['a'], attempts: 0 });
    await result.wait();
    expect(result).toMatchObject({
      id: 'order:4711',
      status: 'successful',
      returnValue: { to: 'ada', attempt: 1, id: 'order:4711', tenant: 1, queue: 'mail' },
      attempts: 1,
      maxAttempts: 20,
      metadata: { tenant: 1, sent: true },
      progress: { fraction: 0.5, message: 'half' },
      history: [{ attempt: 1, outcome: 'successful', error: null }],
    });
    expect(await result.logs()).toMatchObject([{ level: 'info', message: 'sending', fields: { to: 'ada' }, attempt: 1 }]);
    expect(await welcome.getResult('order:4711')).toMatchObject({ status: 'successful', duplicate: false });
    expect(seen).toEqual(['workerStarted', 'enqueued', 'started', 'around mail.welcome', 'logged', 'progressed', 'successful']);
  });

  test('an id is enqueued once', async () => {
    const task = tasks.define('task', (x: number) => x);
    const [first, second] = await Promise.all([task.using({ id: '4711' }).enqueue(1), task.using({ id: '4711' }).enqueue(2)]);
    expect([first.duplicate, second.duplicate].filter(Boolean)).toHaveLength(1);
    expect(first.input).toBe(second.input);
    expect(await task.using({ id: '4711', queue: 'other' }).enqueue(3)).toMatchObject({ duplicate: true, queue: 'default' });
    const another = tasks.define('another', () => {});
    await expect(another.using({ id: '4711' }).enqueue()).rejects.toMatchObject({ code: 'ESCAPEMENT_RESULT_MISMATCH' });
  });

  test('jobs start by priority, then in enqueue order, within the concurrency', async () => {
    const order: number[] = [];
    let [running, most] = [0, 0];
    const run = async (x: number) => {
      order.push(x);
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    const task = tasks.define('task', run);
    const aside = tasks.define('aside', { queue: 'aside', run });
    const jobs = [];
    for (const [i, priority] of [0, 5, -100, 5, 0, 100].entries()) jobs.push(await task.using({ priority }).enqueue(i));
    await tasks.worker({ concurrency: 1, queues: ['default'] }).start();
    await Promise.all(jobs.map((job) => job.wait()));
    expect(order).toEqual([5, 1, 3, 0, 4, 2]);
    most = 0;
    await tasks.worker({ concurrency: 2, exclude: ['default'] }).start();
    const many = await aside.enqueueMany(Array.from({ length: 30 }, (_, i) => i));
    await Promise.all(many.map((job) => job.wait()));
    expect(most).toBe(2);
  });

  test('the task controls retries, and errors are kept', async () => {
    class Refused extends Error {
      override name = 'Refused';
    }
    let calls = 0;
    const fail = (error: Error) => () => {
      throw error;
    };
    const flaky = tasks.define('flaky', {
      retry: { maxAttempts: 3, backoff: [1, 2] },
      run: () => {
        if (++calls < 3) throw new TypeError(`no ${calls}`);
        return null;
      },
    });
    const never = tasks.define('never', { retry: { maxAttempts: 2, backoff: 1 }, run: fail(new Refused('never')) });
    const permanent = tasks.define('permanent', fail(new PermanentError('for good', { cause: new Error('why') })));
    const unless = tasks.define('unless', { retry: { unless: (error) => error instanceof Refused }, run: fail(new Refused('no')) });
    const named = tasks.define('named', { retry: { maxAttempts: 1 }, run: fail(Object.assign(new Error('x'), { name: 'DelayedError' })) });
    const later = tasks.define('later', { retry: { backoff: 1 }, run: fail(new RetryAfterError('busy', { after: '1h' })) });
    const timed = tasks.define('timed', { timeout: 20, retry: { maxAttempts: 1 }, run: (_: void, ctx) => ctx.sleep('1h') });
    await tasks.worker().start();
    const wait = async <T extends { wait(): Promise<unknown> }>(result: T) => {
      await result.wait();
      return result;
    };
    expect(await wait(await flaky.enqueue())).toMatchObject({
      returnValue: null,
      attempts: 3,
      errors: [
        { name: 'TypeError', message: 'no 1', attempt: 1, stack: expect.stringContaining('bullmq.test.ts') },
        { name: 'TypeError', message: 'no 2', attempt: 2 },
      ],
    });
    expect(await wait(await never.enqueue())).toMatchObject({
      status: 'failed',
      reason: null,
      attempts: 2,
      errors: [{}, { name: 'Refused' }],
    });
    expect(await wait(await permanent.enqueue())).toMatchObject({
      status: 'failed',
      reason: 'permanent',
      attempts: 1,
      errors: [{ name: 'PermanentError', code: 'ESCAPEMENT_PERMANENT', cause: { message: 'why' } }],
    });
    expect(await wait(await unless.enqueue())).toMatchObject({ status: 'failed', reason: 'permanent', attempts: 1 });
    expect(await wait(await named.enqueue())).toMatchObject({ status: 'failed', errors: [{ name: 'DelayedError' }] });
    expect(await wait(await timed.enqueue())).toMatchObject({ status: 'failed', errors: [{ name: 'TimeoutError' }] });
    const retrying = await later.enqueue();
    await expect.poll(async () => (await retrying.refresh()).status).toBe('retrying');
    expect((await tasks.queues.list())[0]?.counts).toMatchObject({ retrying: 1, scheduled: 0, failed: 5, cancelled: 0 });
    expect(retrying.dueAt.getTime() - retrying.enqueuedAt.getTime()).toBeGreaterThanOrEqual(3_600_000);
    await withQueue('default', async (queue) => {
      expect(await queue.getDelayed()).toMatchObject([{ name: 'later', failedReason: 'RetryAfterError: busy' }]);
      expect((await queue.getFailed()).map(({ name }) => name).sort()).toEqual(['named', 'never', 'permanent', 'timed', 'unless']);
    });
  });

  test('snoozes use up no attempts, and a task can cancel itself', async () => {
    let calls = 0;
    const snoozy = tasks.define('snoozy', { retry: { maxAttempts: 1 }, run: () => (++calls < 3 ? snooze(1) : undefined) });
    const stopper = tasks.define('stopper', () => cancel('enough'));
    await tasks.worker().start();
    const snoozed = await (await snoozy.enqueue()).wait();
    expect(snoozed).toMatchObject({ status: 'successful', returnValue: undefined, attempts: 1 });
    expect(snoozed.history.map(({ outcome }) => outcome)).toEqual(['snoozed', 'snoozed', 'successful']);
    expect(await (await stopper.enqueue()).wait()).toMatchObject({ status: 'cancelled', reason: 'enough' });
  });

  test('waiting jobs can be cancelled, reprioritized, deleted and retried', async () => {
    const ran: string[] = [];
    const task = tasks.define('task', (name: string) => void ran.push(name));
    const later = await task.using({ runAfter: '1h' }).enqueue('later');
    const ready = await task.enqueue('ready');
    const gone = await task.enqueue('gone');
    expect([later.status, ready.status]).toEqual(['scheduled', 'ready']);
    await later.cancel('not now');
    await ready.cancel();
    await gone.delete();
    expect(later).toMatchObject({ status: 'cancelled', reason: 'not now', attempts: 0 });
    expect(ready).toMatchObject({ status: 'cancelled', reason: 'cancelled' });
    const urgent = await task.enqueue('urgent');
    expect(await urgent.prioritize(50)).toMatchObject({ priority: 50 });
    await expect(urgent.edit({ input: 'other' })).rejects.toThrow('bullmq() does not support changing input of a job');
    await tasks.worker().start();
    await urgent.wait();
    await expect.poll(async () => (await tasks.queues.list())[0]?.counts).toMatchObject({ failed: 0, cancelled: 2 });
    expect(await later.refresh()).toMatchObject({ status: 'cancelled', reason: 'not now', attempts: 0, history: [], startedAt: null });
    expect(ran).toEqual(['urgent']);
    expect(await (await later.retry()).wait()).toMatchObject({ status: 'successful', attempts: 1 });
    expect(await tasks.jobs.retry({ status: 'cancelled' })).toBe(1);
    await ready.wait();
    expect(ran).toEqual(['urgent', 'later', 'ready']);
    await expect(tasks.getResult(gone.id)).rejects.toMatchObject({ code: 'ESCAPEMENT_RESULT_NOT_FOUND' });
  });

  test('progress, metadata and logs of a running job are saved', async () => {
    let end = () => {};
    const isOver = new Promise<void>((resolve) => {
      end = resolve;
    });
    const task = tasks.define('task', async (_: void, ctx) => {
      ctx.metadata.set('step', 1);
      ctx.log.warn('soon');
      ctx.progress(0.25);
      await isOver;
      ctx.log.info('over');
    });
    await tasks.worker().start();
    const result = await task.enqueue();
    await expect.poll(async () => (await result.refresh()).progress?.fraction).toBe(0.25);
    expect(result).toMatchObject({ status: 'running', metadata: { step: 1 } });
    expect(await result.logs()).toMatchObject([{ message: 'soon' }]);
    end();
    await result.wait();
    expect((await result.logs()).map(({ message }) => message)).toEqual(['soon', 'over']);
    expect(result.metadata).toEqual({ step: 1 });
  });

  test('cancelling a running job aborts its signal', async () => {
    let began = () => {};
    const isRunning = new Promise<void>((resolve) => {
      began = resolve;
    });
    let reason: unknown;
    const task = tasks.define('task', async (_: void, ctx) => {
      began();
      await ctx.sleep('1h').catch((error) => {
        reason = error;
      });
    });
    await tasks.worker().start();
    const result = await task.enqueue();
    await isRunning;
    await result.cancel('too late');
    expect(await result.wait()).toMatchObject({ status: 'cancelled', reason: 'too late', attempts: 1 });
    expect(reason).toMatchObject({ name: 'CancelledError' });
  });

  test('an expired job is not started', async () => {
    const task = tasks.define('task', { expires: 1, run: () => expect.unreachable() });
    const result = await task.enqueue();
    await expect.poll(async () => (await result.refresh()).status).toBe('cancelled');
    await tasks.worker().start();
    await expect.poll(async () => (await tasks.queues.list())[0]?.counts.cancelled).toBe(1);
    expect(await result.refresh()).toMatchObject({ status: 'cancelled', reason: 'expired', attempts: 0 });
  });

  test("using a feature that needs the engine's store fails the job permanently and has no effect", async () => {
    const effects: string[] = [];
    const step = tasks.define('step', (_: void, ctx) => ctx.step('charge', () => void effects.push('charged')));
    const wait = tasks.define('wait', (_: void, ctx) => ctx.waitFor('packed'));
    const bytes = tasks.define('bytes', (_: void, ctx) => ctx.saveBlob('a', new Uint8Array(1)));
    await tasks.worker().start();
    for (const [task, what] of [
      [step, 'ctx.step()'],
      [wait, 'ctx.waitFor()'],
      [bytes, 'ctx.saveBlob()'],
    ] as const) {
      const result = await (await task.enqueue()).wait();
      expect(result).toMatchObject({ status: 'failed', reason: 'permanent', attempts: 1 });
      expect(result.errors[0]?.message).toBe(
        `bullmq() does not support ${what}; use a backend that runs the engine, such as postgres() or sqlite()`,
      );
    }
    expect(effects).toEqual([]);
    await expect(tasks.signal('packed')).rejects.toThrow('bullmq() does not support signals');
  });

  test('jobs and queues are listed, paused and pruned', async () => {
    const task = tasks.define('task', (x: number) => x);
    const other = tasks.define('other', { queue: 'o', run: () => {} });
    const jobs = await task.using({ tags: ['t'] }).enqueueMany([1, 2, 3, 4, 5]);
    await other.enqueue();
    await task.using({ runAfter: '1h' }).enqueue(6);
    await tasks.queues.pause('o');
    expect(await tasks.queues.list()).toMatchObject([
      { name: 'default', paused: false, counts: { ready: 5, scheduled: 1 } },
      { name: 'o', paused: true, counts: { ready: 1 } },
    ]);
    const first = await tasks.jobs.list({ tag: 't', limit: 2 });
    const second = await tasks.jobs.list({ tag: 't', limit: 3, after: first.cursor as string });
    expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(jobs.map(({ id }) => id).reverse());
    expect(second.cursor).toBeUndefined();
    expect((await tasks.jobs.list({ status: 'scheduled' })).items).toMatchObject([{ input: 6 }]);
    expect((await tasks.jobs.list({ task: other })).items).toHaveLength(1);
    await tasks.worker({ id: 'w' }).start();
    await Promise.all(jobs.map((job) => job.wait()));
    expect((await tasks.jobs.list({ status: 'successful', order: 'changed', limit: 2 })).items).toHaveLength(2);
    expect(await tasks.workers.list()).toMatchObject([{ id: 'w', state: 'running', tasks: expect.arrayContaining(['task', 'other']) }]);
    expect((await tasks.jobs.list({ queue: 'o' })).items).toMatchObject([{ status: 'ready' }]);
    await tasks.queues.resume('o');
    await expect.poll(async () => (await tasks.jobs.list({ queue: 'o' })).items[0]?.status).toBe('successful');
    expect(await tasks.jobs.prune({ olderThan: 0, status: 'successful' })).toBeGreaterThanOrEqual(5);
  });

  test('a stopped worker releases its jobs without using up an attempt', async () => {
    let began = () => {};
    const isRunning = new Promise<void>((resolve) => {
      began = resolve;
    });
    const task = tasks.define('task', async (_: void, ctx) => {
      began();
      await ctx.sleep('1h');
    });
    const worker = tasks.worker({ concurrency: 1 });
    await worker.start();
    const result = await task.using({ retry: { maxAttempts: 1 } }).enqueue();
    await task.enqueue();
    await isRunning;
    await worker.stop({ timeout: 0 });
    expect(await result.refresh()).toMatchObject({ status: 'ready', attempts: 0, history: [{ outcome: 'released', attempt: 1 }] });
    expect((await tasks.queues.list())[0]?.counts).toMatchObject({ ready: 2, running: 0 });
  });

  test('a job that was fetched but never started uses up no attempt', async () => {
    const task = tasks.define('task', (_: void, ctx) => ctx.attempt);
    const result = await task.using({ retry: { maxAttempts: 1 } }).enqueue();
    const dead = new Worker('default', null, { connection: connection(), prefix, lockDuration: 50 });
    expect((await dead.getNextJob('token'))?.id).toBe(result.id);
    await dead.close();
    await tasks.worker().start();
    expect(await result.wait()).toMatchObject({ returnValue: 1, attempts: 1, errors: [] });
  });

  test('a worker leaves jobs of unknown tasks to other workers', async () => {
    const other = app();
    other.define('mine', () => 'mine');
    const theirs = tasks.define('theirs', () => 'theirs');
    const result = await theirs.enqueue();
    await other.worker().start();
    await expect.poll(async () => (await result.refresh()).status).toBe('scheduled');
    await other.close();
    await tasks.worker().start();
    expect(await result.wait()).toMatchObject({ returnValue: 'theirs', attempts: 1 });
  });

  test('jobs that other programs add to a BullMQ queue run too', async () => {
    const task = tasks.define('task', (input: { a: number }) => input.a + 1);
    await tasks.worker({ queues: ['default'] }).start();
    const id = await withQueue('default', async (queue) => (await queue.add('task', { a: 1 })).id);
    expect(await (await task.getResult(id as string)).wait()).toMatchObject({ status: 'successful', input: { a: 1 }, priority: 100 });
    expect((await tasks.jobs.list()).items).toMatchObject([{ id }]);
    await expect.poll(async () => (await withQueue('default', (queue) => queue.getJob(id as string)))?.returnvalue).toBe(2);
    expect(task.queue).toBe('default');
  });

  test('an ioredis client can be passed as the connection, and stays open', async () => {
    const client = new Redis({ ...connection(), maxRetriesPerRequest: null });
    const own = app({ backend: bullmq({ connection: client, prefix }) });
    const task = own.define('task', () => 1);
    await own.worker().start();
    expect((await (await task.enqueue()).wait()).returnValue).toBe(1);
    await own.close();
    expect(await client.ping()).toBe('PONG');
    client.disconnect();
  });

  test('finished jobs are kept for the configured retention', async () => {
    const own = app({ retention: { successful: '1h', failed: '1d', cancelled: '2d' } });
    const task = own.define('task', () => 1);
    await own.worker().start();
    await (await task.enqueue()).wait();
    await own.close();
    await withQueue('default', async (queue) => expect(await queue.getCompletedCount()).toBe(1));
  });
});

describe.skipIf(!redisServer)('without Redis (needs redis-server)', () => {
  test('a server that restarts loses nothing', async () => {
    const redis = await startRedis(['--appendonly', 'yes', '--appendfsync', 'always']);
    const backend = bullmq({ connection: { host: '127.0.0.1', port: redis.port }, lockDuration: '1s' });
    const tasks = createTasks({ name: 'away', backend, logger: quiet });
    try {
      const done: number[] = [];
      const task = tasks.define('task', async (x: number, ctx) => {
        await ctx.sleep(50);
        done.push(x);
      });
      const seen: string[] = [];
      tasks.on('storeFailing', ({ type }) => seen.push(type));
      await tasks.worker({ concurrency: 2 }).start();
      const jobs = await task.enqueueMany(Array.from({ length: 20 }, (_, i) => i));
      await expect.poll(() => done.length).toBeGreaterThan(3);
      await redis.halt();
      await expect.poll(() => seen.length, { timeout: 30_000 }).toBeGreaterThan(0);
      await redis.resume();
      for (const job of jobs) await expect.poll(async () => (await job.refresh()).status, { timeout: 30_000 }).toBe('successful');
      expect(new Set(done).size).toBe(20);
    } finally {
      await tasks.close();
      await redis.stop();
    }
  });
});
