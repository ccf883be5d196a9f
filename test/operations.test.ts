/** Operations on many jobs: rejected arguments, and completion in virtual time. */
import Database from 'better-sqlite3';
import { ConfigError, createTasks, dummy, type Event, immediate, memory, snooze } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { explore, simulate } from 'escapement/testing';
import { describe, expect, test, vi } from 'vitest';
import { z } from 'zod';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const anything = (value: unknown) => value as never;

test.each<[string, object, RegExp]>([
  ['a task that has no name', { task: {} }, /task: expected a task or its name/],
  ['a task that is null', { task: null }, /task: expected a task or its name/],
  ['a misspelt status', { status: 'finshed' }, /status: expected one of .*, got "?'?finshed/],
  ['a misspelt status among others', { status: ['failed', 'runing'] }, /did you mean running/],
  ['a queue that is a number', { queue: 5 }, /queue: expected the name of a queue, got 5/],
  ['an invalid schedule', { schedule: {} }, /schedule: expected the name of a schedule/],
  ['a tag that is an array', { tag: ['a'] }, /tag: expected a tag/],
  ['ids that are one id', { ids: 'a' }, /ids: expected an array of ids/],
  ['a promise of a selection', Promise.resolve({}), /selection: expected a plain object such as .*, got an instance of Promise/],
  ['a Map', new Map([['tag', 'a']]), /selection: expected a plain object such as .*, got an instance of Map/],
])('%s is rejected as a selection', async (_, selection, message) => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', () => {});
  const result = await job.enqueue();
  for (const operation of [tasks.jobs.list, tasks.jobs.cancel, tasks.jobs.retry]) {
    const refused = await operation(anything(selection)).then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
    expect(refused).toBeInstanceOf(ConfigError);
    expect((refused as Error).message).toMatch(message);
  }
  expect((await result.refresh()).status).toBe('ready');
});

test('a result passed as a selection does not select all jobs', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', () => {});
  const [one] = await job.enqueueMany([undefined, undefined]);
  for (const operation of [tasks.jobs.delete, tasks.jobs.cancel])
    await expect(operation(anything(one))).rejects.toThrow(/selection: expected a plain object such as \{ ids: \[result\.id\] \}/);
  expect((await tasks.jobs.list({})).items).toHaveLength(2);
});

test.each<[unknown, RegExp]>([
  [{ olderThan: 0, task: 'a' }, /task: expected one of olderThan, status, queue, dryRun/],
  [{ olderThan: 0, dryRun: 'yes' }, /dryRun: expected true or false/],
  [{ olderThan: 0, status: 'ready' }, /status: expected one of successful, failed, cancelled/],
  [{ olderThan: 0, status: ['failed'] }, /status: expected one of/],
  [{ olderThan: 'never' }, /olderThan: expected/],
  [{}, /olderThan: expected/],
  [undefined, /olderThan: expected/],
])('prune(%j) is rejected and deletes nothing', async (options, message) => {
  const tasks = createTasks({ backend: memory() });
  await expect(tasks.jobs.prune(anything(options))).rejects.toThrow(message);
});

test('an invalid cursor is rejected', async () => {
  const tasks = createTasks({ backend: memory() });
  for (const after of ['x y', '', 5])
    await expect(tasks.jobs.list({ after: anything(after) })).rejects.toThrow(/after: expected the cursor/);
});

test('a test and a task cancel and prune thousands of jobs in a simulation', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', (_: number) => {});
  const cleaned: number[] = [];
  const clean = tasks.define('clean', async (_: void, ctx) => {
    cleaned.push(await tasks.jobs.cancel({ task: job }));
    await ctx.sleep(1);
    cleaned.push(await tasks.jobs.prune({ olderThan: 0 }));
  });
  await using sim = await simulate(tasks);
  const enqueue = () => job.using({ runAfter: '1d' }).enqueueMany(Array.from({ length: 2_500 }, (_, n) => n));
  await enqueue();
  expect(await tasks.jobs.cancel()).toBe(2_500);
  await sim.advance(1);
  expect(await tasks.jobs.prune({ olderThan: 0 })).toBe(2_500);
  await enqueue();
  await clean.enqueue();
  await sim.advance('1m');
  expect(cleaned).toEqual([2_500, 2_500]);
});

test('delete removes jobs that are not running, and their results report it; running jobs are skipped, or rejected by id', async () => {
  const tasks = createTasks({ backend: memory() });
  const slow = tasks.define('slow', async (_: void, ctx) => ctx.sleep('1h'));
  const told: string[] = [];
  tasks.on('deleted', ({ job }) => told.push(`${job.status} ${job.reason}`));
  await using sim = await simulate(tasks);
  const running = await slow.enqueue();
  await sim.drain();
  const over = await slow.enqueue();
  await over.cancel('no');
  const later = await slow.using({ runAfter: '1h' }).enqueue();
  await expect(running.delete()).rejects.toThrow(/is running; cancel it first/);
  expect(await tasks.jobs.delete({ task: slow })).toBe(2);
  expect(told.sort()).toEqual(['cancelled deleted', 'cancelled no']);
  await expect(over.refresh()).rejects.toThrow(/does not exist/);
  await expect(later.delete()).rejects.toThrow(/no longer exists/);
  expect((await tasks.jobs.list()).items.map(({ id }) => id)).toEqual([running.id]);
  // Nothing waits for a deleted job.
  await sim.runUntilIdle();
  expect(sim.now.toISOString()).toBe('2026-01-01T01:00:00.000Z');
  await running.delete();
  expect(await tasks.jobs.delete({})).toBe(0);
});

test('waiting for a job rejects when it is deleted', async () => {
  await using tasks = createTasks({ backend: memory() });
  const result = await tasks.define('job', () => {}).enqueue();
  const waited = result.wait();
  await result.delete();
  await expect(waited).rejects.toThrow(/does not exist/);
});

test("a waiting job's priority can be changed", async () => {
  const tasks = createTasks({ backend: memory() });
  const started: number[] = [];
  const job = tasks.define('job', (n: number) => void started.push(n));
  const told: number[] = [];
  tasks.on('prioritized', ({ job: row }) => told.push(row.priority));
  await using sim = await simulate(tasks, { concurrency: 1 });
  const [first] = await job.enqueueMany([1, 2, 3, 4]);
  const [last] = (await tasks.jobs.list({ limit: 1 })).items;
  expect((await last?.prioritize(9))?.priority).toBe(9);
  expect(await tasks.jobs.prioritize({ ids: [first?.id ?? ''] }, -1)).toBe(1);
  await sim.drain();
  expect(started).toEqual([4, 2, 3, 1]);
  expect(told).toEqual([9, -1]);
  expect(await tasks.jobs.prioritize({}, 5)).toBe(0);
  await expect(first?.prioritize(5)).rejects.toThrow(/is ready; only|is successful; only/);
});

test('missing or out-of-range arguments change nothing', async () => {
  const tasks = createTasks({ backend: memory() });
  const result = await tasks.define('job', () => {}).enqueue();
  const { jobs } = tasks;
  await expect(jobs.delete(anything(undefined))).rejects.toThrow(/selection: expected a selection/);
  await expect(jobs.delete(anything({ satus: 'failed' }))).rejects.toThrow(/did you mean status/);
  await expect(jobs.prioritize(anything(undefined), 5)).rejects.toThrow(/selection: expected a selection/);
  for (const priority of [undefined, 101, 0.5, '5']) {
    await expect(jobs.prioritize({}, anything(priority)), String(priority)).rejects.toThrow(
      /priority: expected a whole number from -100 to 100/,
    );
    await expect(result.prioritize(anything(priority)), String(priority)).rejects.toThrow(ConfigError);
  }
  expect((await result.refresh()).priority).toBe(0);
});

test('a result lists every attempt, whatever its outcome', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', {
    retry: { maxAttempts: 3, backoff: '10s' },
    run: async (_: void, ctx) => {
      await ctx.sleep('2s');
      if (ctx.now().getTime() === 2_000) return snooze('5s');
      if (ctx.attempt < 2) throw new TypeError('no');
      return ctx.sleep('1h');
    },
  });
  await using sim = await simulate(tasks, { now: 0 });
  const result = await job.enqueue();
  expect(result.history).toEqual([]);
  await sim.advance('1m');
  await result.refresh();
  expect(
    result.history.map(({ attempt, worker, startedAt, endedAt, outcome }) => [attempt, worker, +startedAt, endedAt && +endedAt, outcome]),
  ).toEqual([
    [1, 'w0', 0, 2_000, 'snoozed'],
    [1, 'w0', 7_000, 9_000, 'failed'],
    [2, 'w0', 19_000, null, null],
  ]);
  expect(result.history[1]?.error).toMatchObject({
    name: 'TypeError',
    message: 'no',
    stack: expect.stringContaining('operations.test.ts'),
  });
  expect(result.errors).toHaveLength(1);
});

test.each(['ids', 'status', 'task', 'queue', 'schedule', 'tag'])(
  'a filter whose %s is undefined selects nothing, and every operation warns',
  async (key) => {
    const warn = vi.fn();
    const tasks = createTasks({ backend: memory(), logger: { debug() {}, info() {}, warn, error() {} } });
    const result = await tasks.define('job', () => {}).enqueue();
    const { jobs } = tasks;
    const selection = anything({ [key]: undefined });
    const all = [jobs.retry, jobs.cancel, jobs.delete, (lost: never) => jobs.prioritize(lost, 1)];
    for (const operation of all) expect(await operation(selection)).toBe(0);
    expect(await jobs.list(selection)).toEqual({ items: [] });
    expect(warn.mock.calls.map(([, message]) => message)).toEqual(
      ['retry', 'cancel', 'delete', 'prioritize', 'list'].map((call) => expect.stringContaining(`jobs.${call}(): ${key} is undefined`)),
    );
    expect(await result.refresh()).toMatchObject({ priority: 0, status: 'ready' });
  },
);

test('an undefined selection is not treated as an omitted one', async () => {
  const tasks = createTasks({ backend: memory() });
  const result = await tasks.define('job', () => {}).enqueue();
  const lost = anything(undefined);
  await expect(tasks.jobs.cancel(lost)).rejects.toThrow(/selection: expected a selection/);
  await expect(tasks.jobs.retry(lost)).rejects.toThrow(/selection: expected a selection/);
  for (const key of ['status', 'queue', 'dryRun']) expect(await tasks.jobs.prune(anything({ olderThan: 0, [key]: undefined }))).toBe(0);
  expect((await result.refresh()).status).toBe('ready');
  expect(await tasks.jobs.cancel()).toBe(1);
});

test('an undefined queue is neither paused nor resumed', async () => {
  const tasks = createTasks({ backend: memory() });
  for (const operation of [tasks.queues.pause, tasks.queues.resume])
    await expect(operation(anything(undefined))).rejects.toThrow(/name: expected a name/);
  expect(await tasks.queues.list()).toEqual([]);
});

test('an undefined filter of a simulation is rejected', async () => {
  const tasks = createTasks({ backend: memory() });
  await using sim = await simulate(tasks);
  expect(() => sim.jobs(anything({ task: undefined }))).toThrow(/jobs\(\).task is undefined/);
});

/** Every writable object reachable from the value, except functions and private fields. */
function tamper(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  for (const key of Object.keys(value)) {
    tamper((value as Record<string, unknown>)[key]);
    try {
      (value as Record<string, unknown>)[key] = 'tampered';
    } catch {
      // Frozen counts as copied.
    }
  }
  try {
    if (Array.isArray(value)) value.push('tampered');
    else Object.assign(value, { tampered: true });
  } catch {
    // As above.
  }
}

test.each([
  ['immediate', () => immediate()],
  ['dummy', () => dummy()],
  ['memory', () => memory()],
  ['sqlite', () => sqlite({ file: ':memory:' })],
])('changing a value returned by %s() does not affect the engine', async (_, backend) => {
  await using tasks = createTasks({ backend: backend(), logger: { debug() {}, info() {}, warn() {}, error() {} } });
  tasks.on('*', (event: Event) => tamper(event));
  const fields = { a: 1 };
  const job = tasks.define('job', (_: void, ctx) => {
    ctx.log.info('line', fields);
    ctx.progress(0.5);
    throw new AggregateError([Object.assign(new Error('a'), { code: 'A' })]);
  });
  const tagged = job.using({ tags: ['t'], metadata: { nested: { list: [1] } }, retry: { maxAttempts: 1, backoff: 5 } });
  const run = async () => {
    const results = [await job.enqueue(), await tagged.enqueue()] as const;
    if (tasks.backends[0]?.supports.workers) {
      await using worker = tasks.worker();
      await worker.start();
      await results[1].wait();
      tamper(await tasks.workers.list());
    }
    return results;
  };
  for (const result of await run()) {
    for (const key of ['tags', 'metadata', 'history', 'errors', 'workerIds', 'progress', 'input'] as const) tamper(result[key]);
  }
  for (const handed of [tasks.names, tasks.backends, tasks.describe('job').tags, await tasks.queues.list()]) tamper(handed);
  if (tasks.backends[0]?.supports.workers) {
    tasks.schedule('code', { task: job, any: [{ cron: '0 9 * * *' }], tags: ['s'] });
    await tasks.schedules.save('saved', { task: job, every: '1h', metadata: { a: [1] } });
    tamper(await tasks.schedules.list());
    expect((await tasks.schedules.list()).map(({ trigger, missed }) => [trigger.kind, missed.catchUp])).toEqual([
      ['any', 'latest'],
      ['every', 'latest'],
    ]);
  }
  // Only the list with the job's own row returns the value that was read from it.
  const [plain, full] = await run();
  expect([plain.tags, plain.metadata]).toEqual([[], {}]);
  expect([full.tags, full.metadata]).toEqual([['t'], { nested: { list: [1] } }]);
  const again = (await tasks.jobs.list({ ids: [full.id] })).items[0];
  expect([again?.tags, again?.metadata, again?.task]).toEqual([['t'], { nested: { list: [1] } }, 'job']);
  expect(again?.errors.map(({ name }) => name)).toEqual(again?.isFinished ? ['AggregateError'] : []);
  expect(tasks.names).toEqual(['job']);
  expect(fields).toEqual({ a: 1 });
});

describe('editing a waiting job', () => {
  const app = () => createTasks({ backend: memory(), queues: { default: {}, bulk: {} }, logger: quiet });

  test('changes its input, due time, queue and priority, by id or on the result', async () => {
    const tasks = app();
    const seen: unknown[] = [];
    const mail = tasks.define('mail', { input: z.object({ to: z.string() }), run: ({ to }) => void seen.push(to) });
    await using sim = await simulate(tasks, { now: 0 });
    const result = await mail.using({ runAfter: '1h' }).enqueue({ to: 'ada' });
    const edited = await tasks.jobs.edit(result.id, { input: { to: 'bob' }, runAfter: '2h', queue: 'bulk', priority: 5 });
    expect([edited.input, edited.dueAt.getTime(), edited.queue, edited.priority]).toEqual([{ to: 'bob' }, 7_200_000, 'bulk', 5]);
    await edited.edit({ expires: '1h' });
    await sim.advance('1h');
    expect(seen).toEqual([]);
    await result.edit({ priority: 6 });
    await sim.advance('1h');
    expect(seen.splice(0)).toEqual(['bob']);
    const other = await mail.enqueue({ to: 'eve' });
    await other.edit({ input: { to: 'eva' } });
    await sim.drain();
    expect(seen).toEqual(['eva']);
    expect(String(sim.timeline())).toMatch(/edited +mail#1/);
  });

  test.each<[string, object | undefined, RegExp]>([
    ['nothing', {}, /changes: expected one or more of input, runAfter, expires, queue, priority/],
    ['a lost value', { queue: undefined }, /queue: expected a value; omit the property/],
    ['an unknown queue', { queue: 'bulg' }, /did you mean bulk/],
    ['an unknown option', { delay: 5 }, /delay: /],
    ['an input that does not match', { input: { to: 5 } }, /does not match its schema: to/],
    ['a due time after its end', { runAfter: '2d' }, /would expire at .*change expires too/],
  ])('rejects %s', async (_name, changes, message) => {
    const tasks = app();
    const mail = tasks.define('mail', { expires: '1d', input: z.object({ to: z.string() }), run: () => {} });
    await using _ = await simulate(tasks);
    const result = await mail.using({ runAfter: '1h' }).enqueue({ to: 'ada' });
    await expect(result.edit(changes as never)).rejects.toThrow(message);
    await result.refresh();
    expect([result.input, result.queue]).toEqual([{ to: 'ada' }, 'default']);
  });

  test('rejects a running or finished job', async () => {
    const tasks = app();
    const slow = tasks.define('slow', (_: void, ctx) => ctx.sleep('1h'));
    await using sim = await simulate(tasks);
    const result = await slow.enqueue();
    await sim.drain();
    await expect(result.edit({ queue: 'bulk' })).rejects.toThrow(/is running; only a queued job can be edited/);
    await sim.runUntilIdle();
    await expect(tasks.jobs.edit(result.id, { queue: 'bulk' })).rejects.toThrow(/is successful; only/);
    await expect(tasks.jobs.edit('none', { queue: 'bulk' })).rejects.toThrow(/no job has the id none/);
  });
});

describe('custom ids', () => {
  test.each([
    ['memory()', () => memory()],
    ['sqlite()', () => sqlite({ file: ':memory:' })],
    ['immediate()', () => immediate()],
    ['dummy()', () => dummy()],
  ])('on %s later enqueues, and fifty concurrent ones, resolve to the first job', async (_name, backend) => {
    await using tasks = createTasks({ backend: backend(), logger: quiet });
    const seen: number[] = [];
    const pay = tasks.define('pay', async (order: number) => void seen.push(order));
    const enqueued: string[] = [];
    tasks.on('enqueued', ({ job }) => enqueued.push(job.id));
    const first = await pay.using({ id: 'order:1' }).enqueue(1);
    const again = await pay
      .using({ id: 'order:1' })
      .using({ tags: ['x'] })
      .enqueue(2);
    expect([first.id, again.id, again.input, again.status]).toEqual(['order:1', 'order:1', 1, first.status]);
    const many = await Promise.all(Array.from({ length: 50 }, (_, i) => pay.using({ id: 'order:2' }).enqueue(i + 10)));
    expect(new Set(many.map(({ input }) => input))).toEqual(new Set([10]));
    expect(enqueued).toEqual(['order:1', 'order:2']);
    expect((await tasks.jobs.list()).items.length).toBe(2);
    if (tasks.backends[0]?.name === 'immediate') expect(seen).toEqual([1, 10]);
    expect((await tasks.jobs.list({ limit: 1, after: 'order:2' })).items.map(({ id }) => id)).toEqual(['order:1']);
    expect((await tasks.getResult('order:1')).input).toBe(1);
  });

  test("work in the caller's transaction, twice in one and after the first has committed", async () => {
    const db = new Database(':memory:');
    await using tasks = createTasks({ backend: sqlite({ database: db }), logger: quiet });
    const pay = tasks.define('pay', (_: number) => {});
    await tasks.open();
    const both = db.transaction(() => [1, 2].map((n) => pay.using({ id: 'order:1' }).enqueue(n, { transaction: db })));
    expect(both.immediate().map(({ input }) => input)).toEqual([1, 1]);
    expect((await pay.using({ id: 'order:1' }).enqueue(3)).input).toBe(1);
    expect(db.transaction(() => pay.using({ id: 'order:1' }).enqueue(4, { transaction: db })).immediate().input).toBe(1);
    expect((await tasks.queues.list()).map(({ counts }) => counts.ready)).toEqual([1]);
  });

  test('create one job under crashes', async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const pay = tasks.define('pay', (_: number) => {});
    const order = tasks.define('order', async (n: number) => void (await pay.using({ id: `order:${n}` }).enqueue(n)));
    await explore(tasks, { seeds: 30 }, async () => {
      await Promise.all([order.enqueue(1), order.enqueue(1), order.enqueue(2)]);
      return async () => expect((await tasks.jobs.list({ task: 'pay' })).items.map(({ id }) => id)).toEqual(['order:2', 'order:1']);
    });
  });

  test('are validated', async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const pay = tasks.define('pay', (_: number) => {});
    const mail = tasks.define('mail', (_: number) => {});
    for (const id of ['', ' a', 'a b', '-a', 'a\u0000', 'x'.repeat(129), 5, null])
      expect(() => pay.using(anything({ id }))).toThrow(/id: expected a name of 1 to 128 letters/);
    expect(() => pay.using({ id: 'a' }).enqueueMany([1, 2])).toThrow(/id: expected a separate enqueue\(\) for each job/);
    await pay.using({ id: 'a' }).enqueueMany([1]);
    await expect(mail.using({ id: 'a' }).enqueue(1)).rejects.toThrow(/the id a belongs to a job of task pay/);
  });
});

test.each([
  ['memory()', () => memory()],
  ['sqlite()', () => sqlite({ file: ':memory:' })],
])('prune of one queue keeps other queues, and a dry run keeps all, on %s', async (_name, store) => {
  const tasks = createTasks({ backend: memory(), logger: quiet });
  const mail = tasks.define('mail', () => {});
  const events: string[] = [];
  tasks.on('deleted', ({ job }) => events.push(job.id));
  await using sim = await simulate(tasks, { store: store() });
  for (const queue of ['a', 'b', 'b']) await mail.using({ queue }).enqueue();
  await sim.drain();
  await mail.using({ queue: 'b', runAfter: '1h' }).enqueue();
  await sim.advance('1m');
  expect(await tasks.jobs.prune({ olderThan: '1h', queue: 'b' })).toBe(0);
  expect(await tasks.jobs.prune({ olderThan: '1s', queue: 'b', status: 'failed' })).toBe(0);
  expect(await tasks.jobs.prune({ olderThan: '1s', dryRun: true })).toBe(3);
  expect(await tasks.jobs.prune({ olderThan: '1s', queue: 'b', dryRun: true })).toBe(2);
  expect((await tasks.jobs.list()).items.length).toBe(4);
  expect(await tasks.jobs.prune({ olderThan: '1s', queue: 'b' })).toBe(2);
  expect((await tasks.jobs.list()).items.map(({ queue, status }) => [queue, status])).toEqual([
    ['b', 'scheduled'],
    ['a', 'successful'],
  ]);
  expect(events).toEqual([]);
});
