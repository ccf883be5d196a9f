import { AsyncLocalStorage } from 'node:async_hooks';
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import timersPromises, { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { createTasks, dummy, exponential, immediate, memory, snooze, type TaskResult } from 'escapement';
import { type CrashPoint, simulate } from 'escapement/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { currentSimulation } from '../../src/testing/simulation.ts';

// Ends the simulation of a failed test, so that the next ones can start.
afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

describe('driving time', () => {
  test('drain runs due jobs and leaves attempts that wait for time', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async (_: void, context) => {
      await context.sleep('5s');
      return context.now().toISOString();
    });
    await using sim = await simulate(tasks);
    const result = await job.enqueue();
    const later = await job.using({ runAfter: '1h' }).enqueue();
    await sim.drain();
    expect((await result.refresh()).status).toBe('running');
    expect(sim.now).toEqual(new Date('2026-01-01T00:00:00Z'));
    await sim.advance('5s');
    expect((await result.refresh()).returnValue).toBe('2026-01-01T00:00:05.000Z');
    expect((await later.refresh()).status).toBe('scheduled');
    await sim.runUntilIdle();
    expect((await later.refresh()).returnValue).toBe('2026-01-01T01:00:05.000Z');
    expect(sim.now).toEqual(new Date('2026-01-01T01:00:05.000Z'));
  });

  test('every event occurs at its own instant, in order', async () => {
    const tasks = createTasks({ backend: memory() });
    const seen: number[] = [];
    const job = tasks.define('job', (_: number, context) => {
      seen.push(context.now().getTime());
    });
    await using sim = await simulate(tasks, { now: 0 });
    for (const ms of [900, 100, 500]) await job.using({ runAfter: ms }).enqueue(ms);
    await sim.advance('1s');
    expect(seen).toEqual([100, 500, 900]);
  });

  test('next advances to the next instant with an event', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', { retry: { maxAttempts: 2, backoff: '10m' }, run: () => Promise.reject(new Error('no')) });
    await using sim = await simulate(tasks, { now: 0 });
    await job.using({ runAfter: '1h' }).enqueue();
    expect(await sim.next({ max: '59m' })).toBeUndefined();
    expect(sim.now).toEqual(new Date(3_540_000));
    expect(await sim.next({ max: '1m' })).toEqual(new Date(3_600_000));
    expect(await sim.next()).toEqual(new Date(4_200_000));
    // No further event: time does not change.
    expect(await sim.next()).toBeUndefined();
    expect(await sim.next({ max: '1d' })).toBeUndefined();
    expect(sim.now).toEqual(new Date(4_200_000));
  });

  test('advanceTo rejects the past', async () => {
    const tasks = createTasks({ backend: memory() });
    await using sim = await simulate(tasks);
    await sim.advanceTo('2026-02-01T00:00:00Z');
    await expect(sim.advanceTo('2026-01-01T00:00:00Z')).rejects.toThrow(/cannot go back/);
  });

  test('a year of a daily schedule is 365 runs, and takes moments', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    tasks.schedule('daily', { task: job, cron: '0 9 * * *', timezone: 'Europe/Berlin' });
    await using sim = await simulate(tasks);
    await sim.advance('365d');
    expect(sim.attempts(job)).toHaveLength(365);
  });

  test('concurrent calls, and calls inside a task, are rejected', async () => {
    const tasks = createTasks({ backend: memory() });
    let inside: unknown;
    const job = tasks.define('job', async () => {
      inside = await sim.advance('1s').catch((error) => error);
    });
    await using sim = await simulate(tasks);
    await job.enqueue();
    const first = sim.drain();
    await expect(sim.advance('1s')).rejects.toThrow(/before sim.drain\(\) had finished/);
    await first;
    expect(String(inside)).toMatch(/called inside a task/);
  });

  test('result.wait() in a test says what to call instead; inside a task it waits', async () => {
    const tasks = createTasks({ backend: memory() });
    const child = tasks.define('child', async (_: void, context) => {
      await context.sleep('10s');
      return 5;
    });
    const parent = tasks.define('parent', async () => (await (await child.enqueue()).wait()).returnValue);
    await using sim = await simulate(tasks);
    const result = await parent.enqueue();
    await expect(result.wait()).rejects.toThrow(/runUntilIdle/);
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe(5);
  });
});

describe('globals in tasks', () => {
  test('dates, timers and Math.random are virtual, and restored afterwards', async () => {
    const real = { Date, setTimeout, random: Math.random, fetch };
    const tasks = createTasks({ backend: memory() });
    const seen: Record<string, unknown> = {};
    const job = tasks.define('job', async () => {
      const startedAt = Date.now();
      const perf = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      seen.setTimeout = Date.now() - startedAt;
      await timersPromises.setTimeout(1_000);
      await sleep(1_000);
      seen.promises = Date.now() - startedAt;
      await timersPromises.scheduler.wait(1_000);
      await promisify(setTimeout)(1_000);
      seen.wait = Date.now() - startedAt;
      let ticks = 0;
      for await (const _ of timersPromises.setInterval(500)) if (++ticks === 4) break;
      seen.interval = new Date(Date.now()).getTime() - startedAt;
      await new Promise((resolve) => AbortSignal.timeout(3_000).addEventListener('abort', resolve));
      seen.abort = Date.now() - startedAt;
      seen.performance = performance.now() - perf;
      seen.year = new Intl.DateTimeFormat('en', { year: 'numeric', timeZone: 'UTC' }).format();
      const cleared = setTimeout(() => {
        seen.cleared = true;
      }, 5);
      clearTimeout(cleared);
      return Math.random();
    });
    const sim = await simulate(tasks, { now: '2031-05-05T00:00:00Z' });
    const result = await job.enqueue();
    await sim.runUntilIdle();
    expect(seen).toEqual({
      setTimeout: 1_000,
      promises: 3_000,
      wait: 5_000,
      interval: 7_000,
      abort: 10_000,
      performance: 10_000,
      year: '2031',
    });
    const first = (await result.refresh()).returnValue;
    await sim.end();
    expect({ Date, setTimeout, random: Math.random, fetch }).toEqual(real);
    expect(new Date().getFullYear()).not.toBe(2031);

    const again = await simulate(tasks, { now: '2031-05-05T00:00:00Z' });
    const second = await job.enqueue();
    await again.runUntilIdle();
    expect((await second.refresh()).returnValue).toBe(first);
    await again.end();
  });

  test('a timer keeps the async context in which it was set', async () => {
    const request = new AsyncLocalStorage<string>();
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', (id: string) =>
      request.run(id, () => new Promise((resolve) => setTimeout(() => resolve(request.getStore()), 100))),
    );
    await using sim = await simulate(tasks);
    const results = await job.enqueueMany(['a', 'b']);
    await sim.runUntilIdle();
    expect(await Promise.all(results.map(async (result) => (await result.refresh()).returnValue))).toEqual(['a', 'b']);
  });

  test('fake timers that are already enabled are rejected, unless globals is false', async () => {
    const tasks = createTasks({ backend: memory() });
    vi.useFakeTimers();
    try {
      await expect(simulate(tasks)).rejects.toThrow(/fake timers are already enabled.*vi\.useRealTimers/);
      const sim = await simulate(tasks, { globals: false });
      await sim.end();
    } finally {
      vi.useRealTimers();
    }
  });

  test('a parallel branch of a task sets its timer at the right instant', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async () => {
      const branch = async () => {
        for (let i = 0; i < 500; i++) await null;
        await sleep(5);
        return Date.now();
      };
      const [, at] = await Promise.all([sleep(10), branch()]);
      return at;
    });
    await using sim = await simulate(tasks, { now: 0 });
    const result = await job.enqueue();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe(5);
  });
});

describe('real work', () => {
  test('virtual time stops while a task waits for real work', async () => {
    const server = createServer((_, response) => response.end('hello')).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', {
      timeout: '30s',
      run: async (_: void, context) => {
        const file = await readFile(new URL(import.meta.url), { signal: context.signal });
        const packed = await promisify(gzip)(file);
        const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: context.signal });
        return [packed.length > 100, await answer.text(), context.now().getTime()];
      },
    });
    await using sim = await simulate(tasks, { now: 0 });
    const result = await job.enqueue();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toEqual([true, 'hello', 0]);
    server.close();
    server.closeAllConnections();
  });

  test('an endless call that nothing can end is reported with its location', async () => {
    const tasks = createTasks({ backend: memory() });
    const ended = new AbortController();
    const job = tasks.define(
      'never',
      async () => void (await promisify(execFile)('sleep', ['60'], { signal: ended.signal }).catch(() => {})),
    );
    const sim = await simulate(tasks, { realBudget: '200ms' });
    await job.enqueue();
    const heartbeat = setInterval(() => {}, 3_600_000);
    const stalled = await sim.drain().catch((error) => error);
    expect(stalled).toMatchObject({ name: 'SimulationStalledError' });
    expect(stalled.message).toMatch(
      /never attempt 1 on w0 waits on a child process, started at .*test\/testing\/simulation\.test\.ts:\d+:\d+/,
    );
    expect(stalled.message).toMatch(/a virtual timer outside the tasks is pending: set at .*test\/testing\/simulation\.test\.ts/);
    await expect(sim.drain()).rejects.toThrow(/never attempt 1 on w0 waits on a child process/);
    clearInterval(heartbeat);
    await sim.end();
    ended.abort();
  });

  test("an unanswered request ends at its client's timeout, and the timeline says what was awaited", async () => {
    const server = fork(new URL('./fixtures/never-answers.ts', import.meta.url));
    const [port] = await once(server, 'message');
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', { retry: { maxAttempts: 1 }, run: async () => void (await fetch(`http://127.0.0.1:${port}/never`)) });
    await using sim = await simulate(tasks, { realBudget: '200ms' });
    const result = await job.enqueue();
    await sim.runUntilIdle();
    // undici waits five minutes for response headers.
    expect((await result.refresh()).errors[0]?.message).toBe('fetch failed');
    expect(sim.now.getTime() - sim.startedAt.getTime()).toBeGreaterThanOrEqual(300_000);
    expect(String(sim.timeline())).toMatch(
      /note +time advances although this has not finished within realBudget: fetch http:\/\/127\.0\.0\.1\/never/,
    );
    server.kill();
  });

  test('a task that nothing will ever resume is named', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('hangs', () => new Promise<void>(() => {}));
    const sim = await simulate(tasks, { realBudget: '200ms' });
    await job.enqueue();
    await expect(sim.runUntilIdle()).rejects.toThrow(/hangs attempt 1 on w0 waits on a promise that nothing in the simulation settles/);
    await sim.end();
  });

  test('a task that hangs until its timeout is not a stall', async () => {
    const tasks = createTasks({ backend: memory() });
    const hangs = tasks.define('hangs', { timeout: '1h', retry: { maxAttempts: 1 }, run: () => new Promise<void>(() => {}) });
    const listens = tasks.define('listens', {
      timeout: '2h',
      retry: { maxAttempts: 1 },
      run: (_: void, { signal }) => new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    await using sim = await simulate(tasks);
    const results: TaskResult[] = [await hangs.enqueue(), await listens.enqueue()];
    await sim.runUntilIdle();
    for (const result of results) expect((await result.refresh()).errors[0]?.name).toBe('TimeoutError');
  });

  test('a task can wait for another that waits for time', async () => {
    const tasks = createTasks({ backend: memory() });
    let release: (() => void) | undefined;
    const locked = tasks.define('locked', () => new Promise<number>((resolve) => (release = () => resolve(Date.now()))));
    const opener = tasks.define('opener', async () => {
      await sleep(60_000);
      release?.();
    });
    await using sim = await simulate(tasks, { now: 0 });
    const result = await locked.enqueue();
    await opener.enqueue();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe(60_000);
  });

  test('ctx.external stops time for work that cannot be detected', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async (_: void, context) => {
      await context.external('a message to myself', async () => {
        const { port1, port2 } = new MessageChannel();
        await new Promise((resolve) => {
          port2.onmessage = resolve;
          port1.postMessage('x');
        });
        port1.close();
      });
      return Date.now();
    });
    await using sim = await simulate(tasks, { now: 0 });
    const result = await job.enqueue();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe(0);
  });
});

describe('errors', () => {
  test('jobs that can never start are a deadlock, with the reason for each', async () => {
    const tasks = createTasks({ backend: memory(), queues: { default: {}, mail: {} } });
    const job = tasks.define('job', { queue: 'mail', run() {} });
    const sim = await simulate(tasks);
    await tasks.queues.pause('mail');
    await job.enqueue();
    await expect(sim.runUntilIdle()).rejects.toMatchObject({ name: 'SimulationDeadlockError' });
    await expect(sim.runUntilIdle()).rejects.toThrow(/job#1 is queued: no worker claims it; queue mail may be paused/);
    await sim.end();
    const none = await simulate(tasks, { workers: 0 });
    await job.enqueue();
    await expect(none.runUntilIdle()).rejects.toThrow(/no worker is alive/);
    await none.end();
  });

  test('jobs that never end cause a SimulationRunawayError', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('forever', () => snooze('1h'));
    const sim = await simulate(tasks);
    await job.enqueue();
    await expect(sim.runUntilIdle({ max: '7d' })).rejects.toMatchObject({ name: 'SimulationRunawayError' });
    await expect(sim.runUntilIdle({ max: '7d' })).rejects.toThrow(/after 7d of virtual time.*forever#1 is queued, due in/s);
    await sim.end();
  });

  test('work left behind by an ended attempt fails end()', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('leaky', () => {
      setInterval(() => {}, 1_000);
    });
    const sim = await simulate(tasks);
    await job.enqueue();
    await sim.drain();
    await expect(sim.end()).rejects.toThrow(/leaky#1 attempt 1: a timer set at .*simulation\.test\.ts/);
    expect(new Date().getFullYear()).not.toBe(2020);
    await sim.end();
  });

  test('a crash leaves no work behind', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async () => {
      await sleep(3_600_000);
    });
    await using sim = await simulate(tasks);
    await job.enqueue();
    await sim.drain();
    sim.worker(0).crash({ restart: false });
    expect(sim.worker(0).alive).toBe(false);
  });

  test('a callback that throws is reported to the test', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async () => {
      setTimeout(() => {
        throw new Error('in a callback');
      }, 10);
      await sleep(20);
    });
    await using sim = await simulate(tasks);
    await job.enqueue();
    await expect(sim.runUntilIdle()).rejects.toThrow('in a callback');
    await sim.runUntilIdle();
  });
});

test('attempts at the same instant are ordered by start', async () => {
  const tasks = createTasks({ backend: memory() });
  const low = tasks.define('low', () => {});
  const high = tasks.define('high', { priority: 10, run() {} });
  await using sim = await simulate(tasks);
  await low.enqueue();
  await high.enqueue();
  await sim.drain();
  expect(sim.attempts().map(({ task }) => task)).toEqual(['high', 'low']);
});

describe('binding', () => {
  test('every alias, including immediate and dummy, uses the engine until the simulation ends', async () => {
    const tasks = createTasks({ backends: { default: immediate(), kept: dummy() } });
    const job = tasks.define('job', (_: string) => 'done');
    const before = await job.using({ backend: 'kept' }).enqueue('before');
    const sim = await simulate(tasks);
    const result = await job.using({ backend: 'kept', runAfter: '1h' }).enqueue('during');
    expect(result.status).toBe('scheduled');
    await sim.runUntilIdle();
    expect((await result.refresh()).status).toBe('successful');
    await sim.end();
    await expect(result.refresh()).rejects.toThrow(/this simulation has ended/);
    expect((await before.refresh()).status).toBe('ready');
    expect((await job.enqueue('after')).status).toBe('successful');
  });

  test('an alias with its own store has its own workers', async () => {
    const tasks = createTasks({ backends: { default: memory(), bulk: memory() } });
    const job = tasks.define('job', (_: string) => 'done');
    await using sim = await simulate(tasks, { stores: { bulk: memory() } });
    const results = [await job.enqueue('a'), await job.using({ backend: 'bulk' }).enqueue('b')];
    await sim.runUntilIdle();
    expect(sim.jobs().map(({ backend }) => backend)).toEqual(['default', 'bulk']);
    for (const result of sim.jobs()) expect((await result.refresh()).returnValue).toBe('done');
    for (const result of results) expect((await result.refresh()).status).toBe('successful');
  });

  test('a second simulation is rejected, as is one beside a running worker', async () => {
    const tasks = createTasks({ backend: memory(), logger: { debug() {}, info() {}, warn() {}, error() {} } });
    const sim = await simulate(tasks);
    await expect(simulate(tasks)).rejects.toThrow(/another simulation is running/);
    await sim.end();
    const worker = tasks.worker();
    await worker.start();
    await expect(simulate(tasks)).rejects.toThrow(/a worker of this application is running/);
    await worker.stop();
    await expect(simulate({} as never)).rejects.toThrow(/the return value of createTasks\(\)/);
    await expect(simulate(tasks, { sede: 5, workers: -1 } as never)).rejects.toThrow(/sede.*did you mean seed.*workers/s);
  });
});

describe('faults', () => {
  test('a failing store rejects enqueue, and nothing is stored', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    await using sim = await simulate(tasks);
    sim.store.fail('full', { on: 'insert' });
    await expect(job.enqueue()).rejects.toMatchObject({ name: 'StoreError', kind: 'full', transient: true });
    expect(sim.jobs()).toEqual([]);
    await job.enqueue();
    expect(sim.jobs()).toHaveLength(1);
  });

  test("a running job's progress can be read", async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async (_: void, context) => {
      context.progress(0.25, 'a quarter');
      await context.sleep('1m');
      context.progress(7);
    });
    await using sim = await simulate(tasks);
    const result = await job.enqueue();
    await sim.advance('2s');
    expect((await result.refresh()).progress).toMatchObject({ fraction: 0.25, message: 'a quarter' });
    await sim.runUntilIdle();
    expect((await result.refresh()).progress).toMatchObject({ fraction: 1, message: null });
  });
});

describe('seeds', () => {
  const play = async (seed: number | undefined) => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', {
      retry: { backoff: exponential({ jitter: 0.5 }), maxAttempts: 4 },
      run: async (n: number, context) => {
        await context.sleep(n);
        if (Math.random() < 0.5) throw new Error('unlucky');
      },
    });
    const sim = await simulate(tasks, { workers: 3, concurrency: 2, ...(seed === undefined ? {} : { seed }) });
    await job.enqueueMany([5, 5, 5, 10, 10]);
    await sim.advance('7s');
    sim.worker(1).crash();
    await sim.runUntilIdle();
    const trace = String(sim.timeline());
    await sim.end();
    return trace;
  };

  test('the same seed repeats a trace, and another seed changes it', async () => {
    expect(await play(7)).toBe(await play(7));
    expect(await play(8)).not.toBe(await play(7));
    expect(await play(undefined)).toBe(await play(undefined));
  });

  test('without a seed, jobs run first in, first out, without jitter', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', { retry: { maxAttempts: 3 }, run: () => Promise.reject(new Error('no')) });
    await using sim = await simulate(tasks, { workers: 2 });
    await job.enqueue();
    await sim.runUntilIdle();
    expect(
      sim.attempts(job).map(({ startedAt, worker, outcome }) => [startedAt.getTime() - sim.startedAt.getTime(), worker, outcome]),
    ).toEqual([
      [0, 'w0', 'failed'],
      [1_000, 'w0', 'failed'],
      [3_000, 'w0', 'failed'],
    ]);
    expect(String(sim.timeline())).toMatchInlineSnapshot(`
      "+0s  w0  started
      +0s  w1  started
      +0s      enqueued  job#1
      +0s  w0  started   job#1 attempt 1
      +0s  w0  retrying  job#1 attempt 1: Error: no; again in 1s
      +1s  w0  started   job#1 attempt 2
      +1s  w0  retrying  job#1 attempt 2: Error: no; again in 2s
      +3s  w0  started   job#1 attempt 3
      +3s  w0  failed    job#1 attempt 3: Error: no"
    `);
  });
});

describe('requested faults', () => {
  const crashing = async (at: CrashPoint, nth = 1) => {
    const tasks = createTasks({ backend: memory() });
    const effects: string[] = [];
    const other = tasks.define('other', () => {});
    const charge = tasks.define('charge', {
      retry: { backoff: '1s' },
      run: async (order: string, ctx) => {
        effects.push(order);
        await ctx.sleep('1s');
      },
    });
    const sim = await simulate(tasks, { workers: 1 });
    sim.crash({ at, task: charge, nth });
    await other.enqueue();
    await sim.drain();
    for (const order of ['a', 'b']) {
      await charge.enqueue(order);
      await sim.advance('3s');
    }
    await sim.runUntilIdle();
    const crashes = sim.timeline().lines.filter((line) => line.includes('crashed')).length;
    const statuses = sim.jobs({ task: charge }).map(({ status }) => status);
    await sim.end();
    return { effects, crashes, statuses };
  };

  test.each<[CrashPoint, string[]]>([
    ['before claim', ['a', 'b']],
    ['after claim', ['b', 'a']],
    ['in run', ['a', 'b', 'a']],
    ['before settle', ['a', 'b', 'a']],
    ['after settle', ['a', 'b']],
  ])('a crash %s', async (at, effects) => {
    expect(await crashing(at)).toEqual({ effects, crashes: 1, statuses: ['successful', 'successful'] });
  });

  test('a crash the second time a worker reaches the point', async () => {
    expect(await crashing('before settle', 2)).toEqual({ effects: ['a', 'b', 'b'], crashes: 1, statuses: ['successful', 'successful'] });
  });

  test('a slow clock starts due jobs late, and a fast one early', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    const sim = await simulate(tasks);
    sim.worker(0).skew(-5_000);
    await job.using({ runAfter: '10s' }).enqueue();
    await sim.advance('14s');
    expect(sim.attempts(job)).toEqual([]);
    await sim.advance('1s');
    expect(sim.attempts(job)).toHaveLength(1);
    sim.worker(0).crash();
    await sim.advance('1s');
    sim.worker(0).skew(3_000);
    await job.using({ runAfter: '10s' }).enqueue();
    await sim.advance('7s');
    expect(sim.attempts(job)).toHaveLength(2);
    expect(() => sim.worker(0).skew(0.5)).toThrow(/whole milliseconds/);
    await sim.end();
  });

  test('a skewed clock applies to everything that the task reads', async () => {
    const tasks = createTasks({ backend: memory() });
    const seen: number[][] = [];
    const job = tasks.define('job', async (_: void, ctx) => {
      await ctx.sleep('1s');
      const now = new Date();
      seen.push([Date.now() - ctx.now().getTime(), Number(now) - ctx.now().getTime()]);
    });
    const sim = await simulate(tasks);
    sim.worker(0).skew(-2_000);
    await job.enqueue();
    await sim.advance('10s');
    expect(seen).toEqual([[0, 0]]);
    expect(Date.now()).toBe(sim.now.getTime());
    await sim.end();
  });

  test('setting a clock back repeats no occurrence of a schedule, and setting it forward skips some', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    tasks.schedule('hourly', { task: job, cron: '0 * * * *' });
    const sim = await simulate(tasks);
    const hours = () => sim.fires('hourly').map((at) => (at.getTime() - sim.startedAt.getTime()) / 3_600_000);
    await sim.advance('3h');
    sim.worker(0).skew(-7_200_000);
    await sim.advance('2h');
    expect(hours()).toEqual([1, 2, 3]);
    await sim.advance('1h');
    expect(hours()).toEqual([1, 2, 3, 4]);
    sim.worker(0).skew(7_200_000);
    await sim.advance('1h');
    expect(hours()).toEqual([1, 2, 3, 4, 9]);
    await sim.end();
  });

  test('the past can be queried at any instant', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async (_: void, ctx) => ctx.sleep('10s'));
    const sim = await simulate(tasks);
    await job.enqueue();
    await sim.advance('5s');
    await job.enqueue();
    await sim.runUntilIdle();
    const at = (seconds: number) => sim.at(sim.startedAt.getTime() + seconds * 1_000);
    expect(
      at(4)
        .jobs()
        .map(({ status }) => status),
    ).toEqual(['running']);
    expect(
      at(12)
        .jobs()
        .map(({ status }) => status),
    ).toEqual(['successful', 'running']);
    expect(at(4).timeline().lines).toHaveLength(3);
    expect(() => at(3_600)).toThrow(/is in the future/);
    await sim.end();
  });
});

describe('a deploy', () => {
  const version = (name: string, names: readonly string[], every: '1m' | '2m' = '1m') => {
    const tasks = createTasks({ backend: memory() });
    const ran: string[] = [];
    const all = names.map((task) =>
      tasks.define(task, async (_: void, ctx) => {
        await ctx.sleep('10s');
        ran.push(`${name} ${task}`);
      }),
    );
    tasks.schedule('tick', { task: all[0] as (typeof all)[0], every });
    return { tasks, all, ran };
  };

  test('lets running jobs end on the old workers, and runs the rest on the new ones', async () => {
    const [v1, v2] = [version('v1', ['a', 'b']), version('v2', ['a', 'c'])];
    const sim = await simulate(v1.tasks, { workers: 2 });
    await v1.all[0]?.enqueue();
    await sim.advance('5s');
    sim.deploy(v2.tasks);
    await v1.all[0]?.enqueue();
    await v2.all[1]?.enqueue();
    await v1.all[1]?.enqueue();
    await sim.advance('30s');
    expect([v1.ran, v2.ran]).toEqual([['v1 a'], ['v2 a', 'v2 c']]);
    // No worker knows b any more, so it waits.
    expect(sim.jobs({ task: 'b' }).map(({ status }) => status)).toEqual(['ready']);
    sim.deploy(v1.tasks, { workers: 1, beside: true });
    await sim.advance('15s');
    expect(v1.ran).toEqual(['v1 a', 'v1 b']);
    await sim.end();
  });

  test('replaces schedules: the new version wins, even beside the old one, and the old one after a rollback', async () => {
    const [v1, v2] = [version('v1', ['a']), version('v2', ['a'], '2m')];
    const sim = await simulate(v1.tasks);
    const minutes = () => sim.fires('tick').map((at) => (at.getTime() - sim.startedAt.getTime()) / 60_000);
    await sim.advance('2m');
    sim.deploy(v2.tasks, { beside: true });
    await sim.advance('5m');
    expect(minutes()).toEqual([1, 2, 4, 6]);
    sim.deploy(v1.tasks);
    await sim.advance('3m');
    expect(minutes()).toEqual([1, 2, 4, 6, 8, 9, 10]);
    await sim.end();
  });
});
