import { createTasks, memory, StoreError } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import { afterEach, expect, test } from 'vitest';
import type { StoreSource } from '../../src/ports/store.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { aroundStore } from '../../src/testing/around-store.ts';
import { currentSimulation } from '../../src/testing/simulation.ts';

afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

const start = Date.UTC(2026, 0, 1);

test('heartbeat: a lease is renewed every 10 s while the attempt runs', async () => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', async (_: void, ctx) => ctx.sleep('1h'));
  const sim = await simulate(tasks, { workers: 2 });
  await long.enqueue();
  await sim.runUntilIdle();
  expect(sim.attempts(long)).toMatchObject([{ attempt: 1, outcome: 'successful' }]);
});

test('heartbeat: progress reaches the store within a second, even in large amounts', async () => {
  const tasks = createTasks({ backend: memory() });
  const busy = tasks.define('busy', async (_: void, ctx) => {
    for (let i = 1; i <= 100; i++) {
      ctx.progress(i / 100);
      await ctx.sleep(100);
    }
  });
  const sim = await simulate(tasks);
  const result = await busy.enqueue();
  await sim.advance(5_050);
  expect((await result.refresh()).progress?.fraction).toBeGreaterThan(0.4);
});

test('heartbeat: a worker without confirmed renewals fences itself at 25 s; the job is an orphan at 30 s and starts again', async () => {
  const tasks = createTasks({ backend: memory() });
  let aborted = 0;
  const long = tasks.define('long', async (_: void, ctx) => {
    ctx.signal.addEventListener('abort', () => {
      aborted = Date.now() - start;
    });
    await ctx.sleep(ctx.attempt === 1 ? '1h' : '1s');
  });
  const events: string[] = [];
  tasks.on('*', ({ type, at }) => {
    if (['started', 'discarded', 'orphaned', 'successful'].includes(type)) events.push(`${type} ${at - start}`);
  });
  const sim = await simulate(tasks);
  await long.enqueue();
  await sim.drain();
  sim.store.fail('failing', { on: 'renew', times: 20 });
  await sim.runUntilIdle();
  expect(aborted).toBe(25_000);
  expect(events).toEqual(['started 0', 'discarded 25000', 'orphaned 30000', 'started 30000', 'successful 31000']);
});

test('heartbeat: a blocked worker asks the store before giving up a job, and its janitor ignores its own jobs', async () => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', (_: void, ctx) => ctx.sleep('2m'));
  const sim = await simulate(tasks, { concurrency: 2 });
  const results = await long.enqueueMany([undefined, undefined]);
  await sim.advance('5s');
  sim.worker(0).pauseFor('1m');
  await sim.runUntilIdle();
  for (const result of results) expect(await result.refresh()).toMatchObject({ status: 'successful', attempts: 1 });
});

test('heartbeat: a worker that was blocked gives up its jobs if its store then fails', async () => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', (_: void, ctx) => ctx.sleep('2m'));
  const sim = await simulate(tasks);
  await long.enqueue();
  await sim.advance('5s');
  sim.worker(0).pauseFor('1m');
  sim.store.fail('failing', { on: 'renew', times: 1 });
  await sim.runUntilIdle();
  expect(sim.attempts(long).map(({ outcome }) => outcome)).toEqual(['lost', 'successful']);
});

test.each([3_600_000, -3_600_000])('heartbeat: setting the clock by %d ms does not end or duplicate running jobs', async (byMs) => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', { timeout: '10m', run: (_: void, ctx) => ctx.sleep('5m') });
  const sim = await simulate(tasks, { workers: 2, concurrency: 1 });
  const results = await long.enqueueMany([undefined, undefined]);
  await sim.advance('12s');
  for (const index of [0, 1]) sim.worker(index).skew(byMs);
  await sim.advance('6m');
  for (const result of results) expect(await result.refresh()).toMatchObject({ status: 'successful', attempts: 1 });
});

test('janitor: jobs of a killed worker restart in the usual time after the clock was set back', async () => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', (_: void, ctx) => ctx.sleep(ctx.attempt === 1 ? '5m' : '1s'));
  const sim = await simulate(tasks, { workers: 2, concurrency: 1 });
  const result = await long.enqueue();
  await sim.advance('12s');
  const [first] = sim.attempts(long);
  const holder = Number(first?.worker.slice(1));
  const other = 1 - holder;
  sim.worker(holder).crash({ restart: false });
  sim.worker(other).skew(-3_600_000);
  await sim.advance('1m');
  expect(await result.refresh()).toMatchObject({ status: 'successful', attempts: 2 });
});

test('events report orphans, late outcomes and released jobs', async () => {
  const tasks = createTasks({ backend: memory() });
  const long = tasks.define('long', { retry: { maxAttempts: 2 }, run: async (_: void, ctx) => ctx.sleep('20s') });
  const events: string[] = [];
  tasks.on('orphaned', ({ worker, attempt, error }) => events.push(`orphaned ${worker} ${attempt} ${error.name}`));
  tasks.on('discarded', ({ worker, attempt, outcome }) => events.push(`discarded ${worker} ${attempt} ${outcome}`));
  tasks.on('released', ({ worker, job }) => events.push(`released ${worker} ${job.attempt}`));
  const sim = await simulate(tasks, { workers: 2, concurrency: 1 });
  await long.enqueue();
  await sim.drain();
  const [first] = sim.attempts();
  sim.worker(first?.worker === 'w0' ? 0 : 1).pauseFor('45s');
  await sim.advance('46s');
  const other = first?.worker === 'w0' ? 1 : 0;
  const stopped = sim.worker(other).stop({ timeout: 0 });
  await sim.advance('10s');
  await stopped;
  expect(events).toEqual([`orphaned ${first?.worker} 1 LeaseLostError`, `discarded ${first?.worker} 1 lease lost`, `released w${other} 1`]);
});

test('janitor: finished jobs are deleted within an hour after their retention, even after a long idle time', async () => {
  const tasks = createTasks({ backend: memory() });
  const fine = tasks.define('fine', () => 'ok');
  const broken = tasks.define('broken', {
    retry: { maxAttempts: 1 },
    run: () => {
      throw new Error('no');
    },
  });
  const sim = await simulate(tasks, { retention: { successful: '2h', failed: '1d', cancelled: 'forever' } });
  const counts = async () => (await tasks.jobs.list()).items.map(({ status }) => status).sort();
  for (const round of ['the first', 'after a month without anything']) {
    await fine.enqueue();
    await broken.enqueue();
    await (await fine.using({ runAfter: '1h' }).enqueue()).cancel();
    await sim.advance('1h');
    expect(await counts(), round).toEqual(expect.arrayContaining(['failed', 'successful']));
    await sim.advance('2h');
    expect(await counts(), round).not.toContain('successful');
    expect(await counts(), round).toContain('failed');
    await sim.advance('1d');
    expect(await counts(), round).not.toContain('failed');
    await sim.advance('30d');
  }
  expect(await counts()).toEqual(['cancelled', 'cancelled']);
});

test.each([
  ['memory', memory],
  ['sqlite', () => sqlite({ file: ':memory:' })],
])(
  'janitor: retention comes from using(), the task, its schedule, the defaults or the application, in this order, on %s',
  async (_name, store) => {
    const tasks = createTasks({ backend: memory(), defaults: { retention: { cancelled: '3h', failed: 'forever' } } });
    const run = () => {
      throw new Error('no');
    };
    const fine = tasks.define('fine', () => 'ok');
    const brief = tasks.define('brief', { retention: { successful: '2h' }, run: () => 'ok' });
    const broken = tasks.define('broken', { retry: { maxAttempts: 1 }, run });
    tasks.schedule('once', { task: brief, every: '1000d', retention: { successful: '4h' } });
    const sim = await simulate(tasks, { store: store(), retention: { successful: '1d', failed: '1d', cancelled: '1d' } });
    const jobs = {
      application: await fine.enqueue(),
      task: await brief.enqueue(),
      using: await brief
        .using({ retention: { successful: '6h' } })
        .using({ priority: 1 })
        .enqueue(),
      defaults: await fine.using({ runAfter: '1d' }).enqueue(),
      forever: await broken.enqueue(),
      given: await broken.using({ retention: { failed: '5h' } }).enqueue(),
      schedule: await tasks.schedules.runNow('once'),
    };
    await jobs.defaults.cancel();
    const there = async () => {
      const { items } = await tasks.jobs.list();
      return Object.entries(jobs).flatMap(([name, { id }]) => (items.some((item) => item.id === id) ? [name] : []));
    };
    const left = [];
    for (const _ of Array(8)) {
      await sim.advance('1h');
      left.push((await there()).length);
    }
    // Each is deleted within an hour after its end.
    expect(left).toEqual([7, 7, 6, 5, 4, 3, 2, 2]);
    expect(await there()).toEqual(['application', 'forever']);
    await sim.advance('18h');
    expect(await there()).toEqual(['forever']);
    await sim.advance('30d');
    expect(await there()).toEqual(['forever']);
  },
);

test.each([
  ['memory', memory],
  ['sqlite', () => sqlite({ file: ':memory:' })],
])('a job with a retention of 0 is deleted once it succeeds, on %s', async (_name, store) => {
  const tasks = createTasks({ backend: memory() });
  const ends: string[] = [];
  for (const type of ['retrying', 'successful', 'failed', 'discarded'] as const)
    tasks.on(type, ({ job }) => ends.push(`${type} ${job.task}`));
  const fine = tasks.define('fine', (n: number) => n * 2);
  const flaky = tasks.define('flaky', {
    retry: { maxAttempts: 2 },
    run: (_: void, ctx) => {
      ctx.log.info('here');
      if (ctx.attempt === 1) throw new Error('no');
      return 'late';
    },
  });
  const broken = tasks.define('broken', {
    retry: { maxAttempts: 1 },
    run: () => {
      throw new Error('no');
    },
  });
  const kept = tasks.define('kept', { retention: { successful: '1h' }, run: () => 'ok' });
  const sim = await simulate(tasks, { store: store(), retention: { successful: 0 } });
  const results = { fine: await fine.enqueue(2), flaky: await flaky.enqueue(), broken: await broken.enqueue(), kept: await kept.enqueue() };
  await kept.using({ retention: { successful: 0 } }).enqueue();
  await sim.advance('10m');
  expect((await tasks.jobs.list()).items.map(({ task }) => task).sort()).toEqual(['broken', 'kept']);
  expect(ends.sort()).toEqual([
    'failed broken',
    'retrying flaky',
    'successful fine',
    'successful flaky',
    'successful kept',
    'successful kept',
  ]);
  await expect(results.fine.refresh()).rejects.toMatchObject({ code: 'ESCAPEMENT_RESULT_NOT_FOUND' });
});

test('a job with retention 0 is kept while its id or unique key is in use', async () => {
  const tasks = createTasks({ backend: memory() });
  const runs: string[] = [];
  const order = tasks.define('order', { retention: { successful: 0 }, run: (name: string) => void runs.push(name) });
  const hourly = tasks.define('hourly', {
    unique: { within: '6h' },
    retention: { successful: '1m' },
    run: (name: string) => void runs.push(name),
  });
  const daily = tasks.define('daily', { unique: { within: '3d' }, run: (name: string) => void runs.push(name) });
  const sim = await simulate(tasks, { retention: { successful: '1h', failed: '1h', cancelled: '1h' } });
  for (let hour = 0; hour < 5; hour++) {
    await order.using({ id: 'order:1' }).enqueue('order');
    await sim.advance('1s');
    await order.using({ id: 'order:1' }).enqueue('order');
    await hourly.enqueue('hourly');
    await daily.enqueue('daily');
    await sim.advance('1h');
  }
  // An id is remembered for at most an hour.
  expect(runs.filter((name) => name === 'order').length).toBeLessThanOrEqual(5);
  expect(runs.filter((name) => name !== 'order')).toEqual(['hourly', 'daily']);
  await sim.advance('7h');
  await hourly.enqueue('hourly');
  await daily.enqueue('daily');
  await sim.advance('1h');
  expect(runs.filter((name) => name !== 'order')).toEqual(['hourly', 'daily', 'hourly']);
});

test("the outcome of a job that was deleted on settlement is known even if the store's response was lost", async () => {
  const tasks = createTasks({ backend: memory() });
  const ends: string[] = [];
  for (const type of ['successful', 'discarded'] as const) tasks.on(type, ({ job }) => ends.push(`${type} ${job.task}`));
  const fine = tasks.define('fine', { retention: { successful: 0 }, run: () => 'ok' });
  let isLost = false;
  const store: StoreSource = {
    ...memory(),
    open: () =>
      aroundStore(new MemoryStore(), (call, _given, perform) => {
        const answer = perform();
        if (call !== 'settle' || isLost) return answer;
        isLost = true;
        throw new StoreError('the connection was lost', { kind: 'io', transient: true });
      }),
  };
  const sim = await simulate(tasks, { store });
  await fine.enqueue();
  await sim.advance('1m');
  expect([isLost, ends]).toEqual([true, ['successful fine']]);
});

test('janitor: thousands of finished jobs are deleted in batches at the same instant', async () => {
  const tasks = createTasks({ backend: memory() });
  const fine = tasks.define('fine', (_: number) => 'ok');
  const sim = await simulate(tasks, { concurrency: 100, retention: { successful: '2h' } });
  await fine.enqueueMany(Array.from({ length: 3_500 }, (_, n) => n));
  const successful = async () => (await tasks.queues.list())[0]?.counts.successful ?? 0;
  await sim.advance('2h');
  expect(await successful()).toBe(3_500);
  await sim.advance('1h');
  expect(await successful()).toBe(0);
});

test('a failing store is logged at most every 30 s for all loops, and its recovery once', async () => {
  const tasks = createTasks({ backend: memory() });
  const events: string[] = [];
  tasks.on('storeFailing', ({ at }) => events.push(`failing ${at - start}`));
  tasks.on('storeRecovered', ({ at }) => events.push(`recovered ${at - start}`));
  const long = tasks.define('long', async (_: void, ctx) => ctx.sleep('1h'));
  const sim = await simulate(tasks);
  await long.enqueue();
  await sim.advance('1m');
  sim.store.fail('full', { times: 100 });
  await sim.advance('3m');
  expect(events).toEqual(['failing 70000', 'failing 100100', 'failing 130100', 'failing 160100', 'failing 190100', 'recovered 213100']);
});
