/** Features that BullMQ does not support are rejected before a connection is opened. These tests need no Redis. */
import { createTasks } from 'escapement';
import { bullmq } from 'escapement/bullmq';
import { createMail } from 'escapement/email';
import { simulate } from 'escapement/testing';
import { describe, expect, test } from 'vitest';

const nowhere = bullmq({ connection: { host: '127.0.0.1', port: 1 } });
const app = (options: Partial<Parameters<typeof createTasks>[0]> = {}) => createTasks({ name: 'refusals', backend: nowhere, ...options });
const run = () => {};

describe('options of bullmq()', () => {
  test.each([
    [undefined, 'an object: bullmq({ connection: { host, port } })'],
    ['redis://localhost', 'an object: bullmq({ connection: { url: "redis://localhost" } })'],
    [{ prefix: 'a' }, 'an object such as { host, port } or { url }, or an ioredis client'],
    [{ url: 'redis://localhost' }, 'did you mean connection?'],
    [{ connection: { url: undefined } }, 'is its environment variable set?'],
    [{ connection: { url: 'postgres://localhost' } }, 'a URL such as redis://host:6379'],
    [{ connection: { host: 'a' }, prefix: 'a:b' }, 'a string without colons'],
    [{ connection: { host: 'a' }, lockDuration: 100 }, 'a duration from 1s to 10m'],
    [{ connection: { duplicate() {}, options: { maxRetriesPerRequest: 20 } } }, 'a client whose maxRetriesPerRequest is null'],
  ])('%j', (options, expected) => {
    expect(() => bullmq(options as never)).toThrow(expected);
  });
});

test('the capability flags', () => {
  expect(app().backends[0]).toEqual({
    alias: 'default',
    name: 'bullmq',
    supports: { defer: true, results: true, priority: true, transactions: false, workers: true, shared: true, engine: false },
  });
});

describe('an enqueue', () => {
  const tasks = app({ queues: { default: {}, narrow: { concurrency: 1 } } });
  const plain = tasks.define('plain', (_: string) => {});
  const refused: Record<string, () => Promise<unknown>> = {
    'unique jobs': () => plain.using({ unique: { key: 'a' } }).enqueue('a'),
    'unique jobs of a task': () => tasks.define('unique', { unique: {}, run }).enqueue(),
    'limits of tasks': () => tasks.define('one', { concurrency: { limit: 1 }, run }).enqueue(),
    'limits of tasks, by rate': () => tasks.define('rated', { rate: { limit: 1, per: '1s' }, run }).enqueue(),
    'limits of queues': () => plain.using({ queue: 'narrow' }).enqueue('a'),
    'a retention for the jobs of a task': () => plain.using({ retention: { successful: '1h' } }).enqueue('a'),
    blobs: () => plain.enqueue('a', { blobs: { a: new Uint8Array(1) } }),
    transactions: async () => plain.enqueue('a', { transaction: {} }),
    workflows: () => tasks.group([plain.with('a'), plain.with('b')]).enqueue(),
  };
  test.each(Object.entries(refused))('with %s', async (what, enqueue) => {
    await expect(enqueue()).rejects.toMatchObject({
      code: 'ESCAPEMENT_CONFIG',
      message: expect.stringContaining(`which is bullmq() and does not support ${what.split(',')[0]?.replace(' of a task', '')}`),
    });
  });

  test('reports all errors at once', async () => {
    const all = tasks.define('all', { unique: {}, concurrency: { limit: 1 }, run });
    await expect(all.using({ queue: 'narrow' }).enqueue()).rejects.toMatchObject({
      faults: [{ path: 'unique' }, { path: 'concurrency' }, { path: 'queues.narrow' }],
    });
  });
});

describe('a worker', () => {
  test('rejects tasks that need the engine', async () => {
    const tasks = app({ queues: { default: {}, narrow: { rate: { limit: 1, per: '1m' } } } });
    const task = tasks.define('all', {
      unique: {},
      concurrency: { limit: 1 },
      rate: { limit: 1, per: '1s' },
      retention: { failed: '1d' },
      run,
    });
    tasks.schedule('nightly', { task, cron: '0 3 * * *', timezone: 'UTC' });
    await expect(tasks.worker({ queues: { default: 2 }, blockLimit: '1m' }).start()).rejects.toMatchObject({
      code: 'ESCAPEMENT_CONFIG',
      faults: [
        { path: 'worker().queues' },
        { path: 'worker().blockLimit' },
        { path: 'schedule nightly' },
        { path: 'all.unique' },
        { path: 'all.concurrency' },
        { path: 'all.rate' },
        { path: 'all.retention' },
      ],
    });
    await expect(tasks.worker().start()).rejects.toThrow('queues.narrow');
  });

  test('ignores tasks on other backends', async () => {
    const tasks = createTasks({
      name: 'both',
      backends: { default: nowhere, other: bullmq({ connection: { host: '127.0.0.1', port: 1 } }) },
    });
    tasks.define('elsewhere', { backend: 'other', unique: {}, run });
    await expect(tasks.worker({ queues: ['a'], backend: 'other' }).start()).rejects.toThrow('elsewhere.unique');
  });
});

test('mail', async () => {
  const mail = createMail(app(), { transport: { jsonTransport: true }, from: 'shop@example.com' });
  const welcome = mail.define('welcome', { build: (to: string) => ({ to, subject: 'Welcome', text: 'Hello' }) });
  await expect(welcome.using({ runAfter: '1h' }).send('ada@example.com')).rejects.toThrow('bullmq() and does not support mail');
  await expect(welcome.sendMany(['ada@example.com'])).rejects.toThrow('bullmq() and does not support mail');
});

test('schedules and fleet events are rejected', async () => {
  const tasks = app();
  const task = tasks.define('task', run);
  await expect(tasks.schedules.save('later', { task, every: '1h' })).rejects.toThrow('this application uses bullmq()');
  expect(() => tasks.on('successful', () => {}, { fleet: true })).toThrow('does not support events of other processes');
});

test('a simulation runs the engine on its own store and rejects nothing', async () => {
  const tasks = app();
  const task = tasks.define('task', { unique: {}, run: async (_: void, ctx) => ctx.step('one', () => 1) });
  const sim = await simulate(tasks);
  try {
    const result = await task.enqueue();
    await sim.drain();
    expect((await result.refresh()).returnValue).toBe(1);
  } finally {
    await sim.end();
  }
});
