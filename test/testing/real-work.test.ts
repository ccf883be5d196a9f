/** How a simulation treats real work beyond waiting for it: order, notes, leaks, captured timers, and process ends. */
import 'escapement/testing';
import { AsyncLocalStorage } from 'node:async_hooks';
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs';
import { readFile as read } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type CreateTasksOptions, fixed, memory, createTasks as plain } from 'escapement';
import { everyCrash, simulate } from 'escapement/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { currentSimulation } from '../../src/testing/simulation.ts';

const run = promisify(execFile);
const createTasks = (options: CreateTasksOptions = {}) =>
  plain({ backend: memory(), logger: { debug() {}, info() {}, warn() {}, error() {} }, ...options });
const notesOf = (sim: { timeline(): { lines: readonly string[] } }) => sim.timeline().lines.filter((line) => / {2}note {2}/.test(line));

let server: ChildProcess;
let never: string;
beforeAll(async () => {
  server = fork(new URL('./fixtures/never-answers.ts', import.meta.url));
  const [port] = await once(server, 'message');
  never = `http://127.0.0.1:${port}/`;
});
afterAll(() => void server.kill());
afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

describe('attempt order', () => {
  test('outcomes, enqueues, ids, log lines and Math.random do not depend on the duration of real work', async () => {
    const play = async (delays: readonly number[]) => {
      const tasks = createTasks();
      const child = tasks.define('child', (_: number) => {});
      const job = tasks.define('job', async (i: number, ctx) => {
        await run('sleep', [String(delays[i])]);
        ctx.log.info(`${i} is back`);
        const [result] = await child.enqueueMany([i]);
        await ctx.sleep('1s');
        return [result?.id, Math.random()];
      });
      await using sim = await simulate(tasks, { seed: 11, workers: 2 });
      const results = await job.enqueueMany([0, 1, 2]);
      await sim.runUntilIdle();
      return [String(sim.timeline()), await Promise.all(results.map(async (result) => (await result.refresh()).returnValue))];
    };
    const first = await play([0, 0.04, 0.08]);
    expect(await play([0.08, 0.04, 0])).toEqual(first);
    expect(await play([0.04, 0, 0.04])).toEqual(first);
  });
});

describe('notes in the timeline', () => {
  test('report an attempt that ends while its real work continues, without a path', async () => {
    const tasks = createTasks();
    const job = tasks.define('careless', () => {
      readFile(import.meta.filename, () => {});
    });
    await using sim = await simulate(tasks);
    await job.enqueue();
    await sim.runUntilIdle();
    expect(notesOf(sim).map((line) => line.trim())).toEqual([
      expect.stringMatching(/careless attempt 1 ended while a file system call was still in progress$/),
    ]);
  });

  test('do not report awaited real work', async () => {
    const tasks = createTasks();
    const job = tasks.define('careful', async () => (await read(import.meta.filename)).length + (await run('true')).stdout.length);
    await using sim = await simulate(tasks);
    await job.enqueue();
    await sim.runUntilIdle();
    expect(notesOf(sim)).toEqual([]);
  });
});

describe('a timer left behind', () => {
  const left = async (body: () => void) => {
    const tasks = createTasks();
    const job = tasks.define('leaves', body);
    const sim = await simulate(tasks);
    await job.enqueue();
    await sim.drain();
    return sim.end().then(
      () => 'silent',
      (error) => String(error.message),
    );
  };

  test('is a leak if nothing can clear it, and the error shows the line that set it', async () => {
    expect(await left(() => void setTimeout(() => {}, 60_000))).toMatch(/leaves#1 attempt 1: a timer set at .*real-work\.test\.ts/);
    expect(
      await left(() => {
        const timer = setInterval(() => clearInterval(timer), 60_000);
      }),
    ).toMatch(/leaves#1 attempt 1: a timer set at Object\.run \(test\/testing\/real-work\.test\.ts:\d+/);
  });

  test('is not a leak while it is referenced, for example by a pool that clears it on next use', async () => {
    const pool: { idle?: NodeJS.Timeout } = {};
    expect(
      await left(() => {
        clearTimeout(pool.idle);
        pool.idle = setTimeout(() => {}, 10_000);
      }),
    ).toBe('silent');
  });
});

test('functions captured from globalThis are real outside tasks, and virtual time waits for them', async () => {
  const { setTimeout: real } = globalThis;
  const queue: (() => void)[] = [];
  const tasks = createTasks();
  const job = tasks.define('asks', () => new Promise<string>((resolve) => queue.push(() => resolve('answered'))));
  const opens = tasks.on('started', () => {
    // Like a server in the test: a listener belongs to no attempt.
    queueMicrotask(() => real(() => queue.pop()?.(), 20));
  });
  await using sim = await simulate(tasks, { now: 0 });
  const result = await job.using({ timeout: '1m' }).enqueue();
  await sim.runUntilIdle();
  expect((await result.refresh()).returnValue).toBe('answered');
  expect(sim.now.getTime()).toBe(0);
  opens();
});

test('a timer function captured too early is real, awaited, and reported once', async () => {
  const early = Reflect.get(globalThis.setTimeout, Symbol.for('escapement.real')) as typeof setTimeout;
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const tasks = createTasks();
  const job = tasks.define('early', { timeout: '30s', run: () => new Promise<void>((resolve) => early(() => resolve(), 20)) });
  await using sim = await simulate(tasks, { now: 0 });
  const results = await job.enqueueMany([undefined, undefined]);
  await sim.runUntilIdle();
  for (const result of results) expect((await result.refresh()).finishedAt).toEqual(new Date(0));
  expect(warned).toHaveBeenCalledOnce();
  expect(warned.mock.calls[0]?.[0]).toMatch(/real-work\.test\.ts:.*setTimeout was captured before[\s\S]*escapement\/vitest\/setup/);
  expect(notesOf(sim)).toEqual([expect.stringMatching(/early attempt 1 sets a real timer with a function that was captured before/)]);
  warned.mockRestore();
});

test("tasks do not see the test's asynchronous context, and keep their own across real work", async () => {
  const request = new AsyncLocalStorage<string>();
  const tasks = createTasks();
  const job = tasks.define('job', async () => {
    const outer = request.getStore() ?? 'none';
    return [
      outer,
      await request.run('own', async () => {
        await read(import.meta.filename);
        return request.getStore();
      }),
    ];
  });
  await using sim = await simulate(tasks);
  const result = await job.enqueue();
  await request.run('of the test', () => sim.runUntilIdle());
  expect((await result.refresh()).returnValue).toEqual(['none', 'own']);
});

describe('other fake timers', () => {
  test('are rejected while a simulation runs, and work before and after one', async () => {
    const sim = await simulate(createTasks());
    expect(() => vi.useFakeTimers()).toThrow(/cannot be enabled during a simulation/);
    await sim.end();
    vi.useFakeTimers({ now: 0 });
    expect(Date.now()).toBe(0);
    vi.useRealTimers();
    expect(Date.now()).toBeGreaterThan(0);
  });

  test('that replace the globals during a simulation are reported on the next call', async () => {
    await using sim = await simulate(createTasks());
    const own = globalThis.Date;
    globalThis.Date = Object.assign(class extends own {}, { isMock: true }) as never;
    await expect(sim.advance('1m')).rejects.toThrow(/fake timers were enabled during a simulation/);
    globalThis.Date = own;
  });
});

describe('a crashed process', () => {
  test('is not awaited, and its real work is dropped', async () => {
    const tasks = createTasks();
    const job = tasks.define('hangs', {
      retry: { maxAttempts: 2, backoff: fixed('1s') },
      run: async (_: void, ctx) => (ctx.attempt === 1 ? void (await run('sleep', ['60'], { signal: ended.signal })) : 'done'),
    });
    const ended = new AbortController();
    // Long enough to fail the test if it were awaited.
    await using sim = await simulate(tasks, { realBudget: '1h' });
    const result = await job.enqueue();
    sim.crash({ at: 'in run', task: job });
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe('done');
    ended.abort();
  });

  test('is tested at every step of a task with real work, in everyCrash', async () => {
    const tasks = createTasks();
    const job = tasks.define('reads', {
      retry: { maxAttempts: 5, backoff: fixed('1s') },
      run: async () => void (await read(import.meta.filename)),
    });
    const table = await everyCrash(tasks, {}, async () => {
      const result = await job.enqueue();
      return async () => expect((await result.refresh()).status).toBe('successful');
    });
    expect(String(table)).not.toMatch(/fails/);
  });
});

test('a hung call lets time pass for a sleeping job, and is named at the end', async () => {
  const tasks = createTasks();
  const hangs = tasks.define('hangs', async () => void (await run('sleep', ['60'], { signal: ended.signal }).catch(() => {})));
  const sleeps = tasks.define('sleeps', (_: void, ctx) => ctx.sleep('10m'));
  const ended = new AbortController();
  await using sim = await simulate(tasks, { realBudget: '100ms' });
  await hangs.enqueue();
  const result = await sleeps.enqueue();
  await expect(sim.runUntilIdle()).rejects.toThrow(/hangs attempt 1 on w0 waits on a child process, started at .*real-work\.test\.ts/);
  expect((await result.refresh()).status).toBe('successful');
  ended.abort();
});

test("ctx.signal ends an unanswered request at the task's timeout", async () => {
  const tasks = createTasks();
  const job = tasks.define('job', {
    timeout: '10s',
    retry: { maxAttempts: 1 },
    run: async (_: void, ctx) => (await fetch(never, { signal: ctx.signal })).text(),
  });
  await using sim = await simulate(tasks, { realBudget: '100ms' });
  const result = await job.enqueue();
  await sim.runUntilIdle();
  expect((await result.refresh()).errors[0]?.name).toBe('TimeoutError');
  expect(notesOf(sim)[0]).toMatch(/time advances although this has not finished within realBudget: fetch http:\/\/127\.0\.0\.1\//);
});
