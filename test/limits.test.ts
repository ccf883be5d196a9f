/** Limits on concurrency and rates by queue, task and key, across several workers, in virtual time and despite crashes. */
import { createTasks, memory, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { explore, simulate } from 'escapement/testing';
import { describe, expect, test } from 'vitest';
import { emptyPostgres } from './stores/postgres-server.ts';

const stores = [
  ['memory', undefined],
  ['sqlite', sqlite({ file: ':memory:' })],
  ...(process.env.ESCAPEMENT_POSTGRES ? [['postgres', emptyPostgres()] as const] : []),
] as const;
type Options = NonNullable<Parameters<typeof simulate>[1]>;

describe.each(stores)('on %s', (_, store) => {
  const simulated = (tasks: Tasks, options: Options = {}) =>
    simulate(tasks, { now: '2026-01-01T00:00:00Z', workers: 3, ...(store ? { store } : {}), ...options });

  /** Counts running jobs by key. */
  function counter() {
    const running = new Map<string, number>();
    const most = new Map<string, number>();
    return {
      most,
      async during(key: string, work: () => Promise<void>) {
        running.set(key, (running.get(key) ?? 0) + 1);
        most.set(key, Math.max(most.get(key) ?? 0, running.get(key) ?? 0));
        try {
          await work();
        } finally {
          running.set(key, (running.get(key) ?? 0) - 1);
        }
      },
    };
  }

  test('fair: a tenant with three jobs does not wait behind one with three hundred, and weights apply', async () => {
    const tasks = createTasks({ backend: memory() });
    const counts = counter();
    const work = tasks.define('work', {
      run: ({ tenant }: { tenant: string }, ctx) => counts.during(tenant, () => ctx.sleep('10s')),
      concurrency: { key: ({ tenant }) => tenant, fair: (tenant) => (tenant === 'gold' ? 3 : 1) },
    });
    await using sim = await simulated(tasks, { workers: 2, concurrency: 4 });
    const start = sim.now.getTime();
    await work.enqueueMany(Array.from({ length: 60 }, () => ({ tenant: 'big' })));
    await sim.advance('1s');
    const [small] = await work.enqueueMany(Array.from({ length: 3 }, () => ({ tenant: 'small' })));
    await sim.advance('10s');
    expect((await small?.refresh())?.startedAt?.getTime()).toBe(start + 10_000);
    await work.enqueueMany(Array.from({ length: 30 }, () => ({ tenant: 'gold' })));
    counts.most.clear();
    await sim.advance('30s');
    expect(counts.most.get('gold')).toBeGreaterThanOrEqual(5);
    await sim.runUntilIdle();
    expect(sim.jobs({ status: 'successful' })).toHaveLength(93);
    // No slot was idle: 93 jobs on 8 slots.
    expect(sim.now.getTime() - start).toBeLessThanOrEqual(Math.ceil(93 / 8) * 10_000 + 2_000);
  });

  test('aging: a job of the lowest priority runs within the given time, despite a stream of urgent ones', async () => {
    const tasks = createTasks({ backend: memory(), queues: { default: { aging: '5m' } } });
    const work = tasks.define('work', (_: string, ctx) => ctx.sleep('10s'));
    await using sim = await simulated(tasks, { workers: 1, concurrency: 1 });
    const start = sim.now.getTime();
    const low = await work.using({ priority: -100 }).enqueue('low');
    for (let i = 0; i < 60; i++) {
      await work.using({ priority: 100 }).enqueue('urgent');
      await sim.advance('9s');
    }
    await low.refresh();
    expect(low.startedAt?.getTime()).toBeGreaterThanOrEqual(start + 300_000);
    expect(low.startedAt?.getTime()).toBeLessThanOrEqual(start + 320_000);
  });

  test('per key, across all workers: the limit is never exceeded, and no job waits longer than necessary', async () => {
    const tasks = createTasks({ backend: memory() });
    const counts = counter();
    const sync = tasks.define('sync', {
      run: ({ user }: { user: string }, ctx) => counts.during(user, () => ctx.sleep('10s')),
      concurrency: { key: ({ user }) => user, limit: 2 },
    });
    await using sim = await simulated(tasks);
    const start = sim.now.getTime();
    await sync.enqueueMany(Array.from({ length: 12 }, (_, i) => ({ user: i < 8 ? 'ada' : 'bob' })));
    await sim.runUntilIdle();
    expect(Object.fromEntries(counts.most)).toEqual({ ada: 2, bob: 2 });
    expect((sim.now.getTime() - start) / 1_000).toBe(40);
  });

  test('limits of queues and tasks hold, and waiting jobs start when a slot is free', async () => {
    const tasks = createTasks({ backend: memory(), queues: { default: {}, mail: { concurrency: 3 } } });
    const counts = counter();
    const send = tasks.define('send', { queue: 'mail', run: (_: number, ctx) => counts.during('send', () => ctx.sleep('10s')) });
    const digest = tasks.define('digest', {
      run: (_: number, ctx) => counts.during('digest', () => ctx.sleep('10s')),
      concurrency: { limit: 1 },
    });
    await using sim = await simulated(tasks);
    const start = sim.now.getTime();
    await send.enqueueMany(Array.from({ length: 9 }, (_, i) => i));
    await digest.enqueueMany([1, 2, 3]);
    await sim.runUntilIdle();
    expect(Object.fromEntries(counts.most)).toEqual({ send: 3, digest: 1 });
    expect((sim.now.getTime() - start) / 1_000).toBe(30);
  });

  test('a rate spreads starts, and its burst refills', async () => {
    const tasks = createTasks({ backend: memory() });
    const starts: number[] = [];
    const call = tasks.define('call', {
      run: (_: { api: string }, ctx) => void starts.push(ctx.now().getTime()),
      rate: { key: ({ api }) => api, limit: 6, per: '1m', burst: 2 },
    });
    await using sim = await simulated(tasks);
    const start = sim.now.getTime();
    await call.enqueueMany(Array.from({ length: 5 }, () => ({ api: 'stripe' })));
    await sim.runUntilIdle();
    expect(starts.map((at) => (at - start) / 1_000)).toEqual([0, 0, 10, 20, 30]);
  });

  test('when the holder of the only slot is killed, the next job starts within 35 s, and two never run at once', async () => {
    const tasks = createTasks({ backend: memory() });
    const starts: [string, number][] = [];
    const charge = tasks.define('charge', {
      run: async (_: number, ctx) => {
        starts.push([ctx.id, ctx.now().getTime()]);
        await ctx.sleep('5s');
      },
      concurrency: { key: () => 'one', limit: 1 },
    });
    await using sim = await simulated(tasks, { workers: 2 });
    const jobs = await charge.enqueueMany(Array.from({ length: 100 }, (_, i) => i));
    await sim.advance('12s');
    const holder = sim.attempts(charge).at(-1);
    sim.worker(Number(holder?.worker.slice(1))).crash();
    const killedAt = sim.now.getTime();
    await sim.advance('35s');
    const next = starts.find(([, at]) => at > killedAt);
    expect(next).toBeDefined();
    expect((next?.[1] ?? 0) - killedAt).toBeLessThanOrEqual(35_000);
    await sim.runUntilIdle();
    for (const job of jobs) expect((await job.refresh()).status).toBe('successful');
    const spans = sim.attempts(charge).filter(({ outcome }) => outcome === 'successful');
    const sorted = spans
      .map(({ startedAt, endedAt }) => [startedAt.getTime(), endedAt?.getTime() ?? 0] as const)
      .sort((a, b) => a[0] - b[0]);
    for (let i = 1; i < sorted.length; i++) expect(sorted[i]?.[0]).toBeGreaterThanOrEqual(sorted[i - 1]?.[1] ?? 0);
  });

  test('limits include the jobs of schedules', async () => {
    const tasks = createTasks({ backend: memory() });
    const counts = counter();
    const poll = tasks.define('poll', {
      run: (feed: string, ctx) => counts.during(feed, () => ctx.sleep('150s')),
      concurrency: { key: (feed) => feed, limit: 1 },
    });
    tasks.schedule('a', { task: poll, input: 'a', every: '1m' });
    await using sim = await simulated(tasks);
    await sim.advance('10m');
    expect(Object.fromEntries(counts.most)).toEqual({ a: 1 });
  });
});

test('explorations find no violation of limits and keys', async () => {
  const tasks = createTasks({ backend: memory(), queues: { default: { concurrency: 4 }, mail: { rate: { limit: 20, per: '1m' } } } });
  let running = 0;
  let most = 0;
  const work = tasks.define('work', {
    run: async ({ key }: { key: string; n: number }, ctx) => {
      if (key === 'a') most = Math.max(most, ++running);
      await ctx.sleep('2s');
      if (key === 'a') running -= 1;
    },
    concurrency: { key: ({ key }) => key, limit: 3 },
    unique: { key: ({ key, n }) => `${key}${n}`, onConflict: 'replace', wait: '1s' },
  });
  const send = tasks.define('send', { queue: 'mail', run: (_: number) => {}, rate: { key: (n) => n % 2, limit: 5, per: '10s' } });
  await explore(tasks, { seeds: process.env.ESCAPEMENT_LONG ? 24 : 6, workers: 3, faults: 'all', for: '5m' }, async (sim) => {
    running = 0;
    for (let i = 0; i < 20; i++) {
      await work.enqueue({ key: i % 3 === 0 ? 'a' : 'b', n: i % 7 });
      if (i % 4 === 0) await send.enqueueMany([i, i + 1, i + 2]);
      if (i % 5 === 0) await sim.advance('1s');
    }
    return () => {};
  });
  expect(most).toBeGreaterThan(0);
});

test('invalid limits are rejected at the definition', () => {
  const define = (options: object) => () => createTasks({ backend: memory() }).define('t', { run: (_: string) => {}, ...options } as never);
  expect(define({ concurrency: { limit: 0 } })).toThrow(/concurrency.limit: expected a whole number from 1/);
  expect(define({ concurrency: { key: (x: string) => x } })).toThrow(/concurrency.limit/);
  expect(define({ rate: { limit: 5 } })).toThrow(/rate.per/);
  expect(define({ rate: { limit: 5, per: 0 } })).toThrow(/rate.per: expected more than 0 ms/);
  expect(define({ rate: { limit: 5, per: '1m', key: async () => 'x' } })).toThrow(/rate.key/);
  expect(() => createTasks({ queues: { default: { rate: { limit: 1, per: '1m', key: 'x' } } } as never })).toThrow(
    /queues.default.rate.key/,
  );
});

test('fair shares need a key, and an invalid weight counts as one', async () => {
  const tasks = createTasks({ backend: memory() });
  const define = (concurrency: object) => () => tasks.define('wrong', { run: () => {}, concurrency } as never);
  expect(define({ fair: true })).toThrow('concurrency.key: expected a function (input) => …; fair shares need a key');
  expect(define({ fair: 2, limit: 1 })).toThrow('concurrency.fair: expected true, or a function (key) => weight');
  expect(define({ key: () => 'a' })).toThrow('concurrency.limit');
  const odd = tasks.define('odd', {
    run: (_: string) => {},
    concurrency: {
      key: (tenant) => tenant,
      fair: (tenant) => {
        if (tenant === 'a') throw new Error('no');
        return Number.NaN;
      },
    },
  });
  await using sim = await simulate(tasks);
  await odd.enqueueMany(['a', 'b', 'a']);
  await sim.runUntilIdle();
  expect(sim.jobs({ status: 'successful' })).toHaveLength(3);
});

test('current limits are listed by queue, task and key', async () => {
  const tasks = createTasks({ backend: memory(), queues: { default: { concurrency: 5 }, slow: { aging: '1h' } } });
  const sync = tasks.define('sync', {
    run: (_: string, ctx) => ctx.sleep('1h'),
    concurrency: { key: (user) => user, limit: 2 },
    rate: { limit: 60, per: '1m' },
  });
  expect(await createTasks({ backend: memory() }).limits()).toEqual([]);
  await using sim = await simulate(tasks);
  await sync.enqueueMany(['b', 'a', 'a', 'a']);
  await sim.drain();
  const rate = { limit: 60, perMs: 60_000, byKey: false };
  expect(await tasks.limits()).toEqual([
    { queue: 'default', task: null, key: null, running: 3, concurrency: 5, rate: null },
    { queue: null, task: 'sync', key: 'a', running: 2, concurrency: 2, rate },
    { queue: null, task: 'sync', key: 'b', running: 1, concurrency: 2, rate },
  ]);
  await expect(tasks.limits('other')).rejects.toThrow('one of the backends default');
  await tasks.jobs.cancel({});
  await sim.runUntilIdle();
});
