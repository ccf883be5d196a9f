import { createHash, randomBytes, randomUUID, scryptSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { createTasks, memory, snooze } from 'escapement';
import { simulate } from 'escapement/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { currentSimulation } from '../../src/testing/simulation.ts';

afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

describe('deadlock detection', () => {
  test('reports a parent that waits for its child when only one slot exists', async () => {
    const tasks = createTasks({ backend: memory() });
    const child = tasks.define('child', () => 1);
    const parent = tasks.define('parent', async () => (await (await child.enqueue()).wait()).returnValue);
    const sim = await simulate(tasks, { concurrency: 1 });
    await parent.enqueue();
    await expect(sim.runUntilIdle()).rejects.toThrow(
      /parent#1 is running: attempt 1 on w0 has not ended\n {2}child#1 is queued: every worker is busy \(concurrency 1\)/,
    );
    await sim.end();
    const wider = await simulate(tasks, { concurrency: 2 });
    const result = await parent.enqueue();
    await wider.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe(1);
  });

  test('does not report a long sleep, a late job or a late deadline', async () => {
    const tasks = createTasks({ backend: memory() });
    const sleepy = tasks.define('sleepy', async (_: void, ctx) => ctx.sleep('6h'));
    const deaf = tasks.define('deaf', { timeout: '4h', retry: { maxAttempts: 1 }, run: () => new Promise<void>(() => {}) });
    const sim = await simulate(tasks);
    const results = [await sleepy.enqueue(), await deaf.enqueue(), await sleepy.using({ runAfter: '30d' }).enqueue()];
    await sim.runUntilIdle();
    for (const result of results) await result.refresh();
    expect(results.map(({ status }) => status)).toEqual(['successful', 'failed', 'successful']);
  });

  test('reports a task that snoozes for 0 ms', async () => {
    const tasks = createTasks({ backend: memory() });
    const again = tasks.define('again', () => snooze(0));
    const sim = await simulate(tasks);
    await again.enqueue();
    await expect(sim.runUntilIdle()).rejects.toThrow(
      /attempts have run at 2026-01-01T00:00:00.000Z without time advancing; the latest are of again/,
    );
  });
});

describe('AbortSignal.timeout', () => {
  test('does not count as work left behind', async () => {
    const tasks = createTasks({ backend: memory() });
    const quick = tasks.define('quick', () => AbortSignal.timeout(5_000).aborted);
    await using sim = await simulate(tasks);
    await quick.enqueue();
    await sim.runUntilIdle();
  });

  test('does not preempt real work, and aborts a hanging task', async () => {
    const tasks = createTasks({ backend: memory() });
    const reading = tasks.define('reading', async () => {
      const signal = AbortSignal.timeout(5_000);
      let bytes = 0;
      for (let i = 0; i < 10; i++) bytes += (await readFile(import.meta.filename, { signal })).length;
      return bytes > 0;
    });
    const hanging = tasks.define('hanging', async () => {
      const signal = AbortSignal.timeout(5_000);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      return Date.now();
    });
    await using sim = await simulate(tasks);
    const [read, hung] = [await reading.enqueue(), await hanging.enqueue()];
    await sim.runUntilIdle();
    expect((await read.refresh()).returnValue).toBe(true);
    expect((await hung.refresh()).returnValue).toBe(Date.UTC(2026, 0, 1, 0, 0, 5));
  });
});

describe('a suspended process', () => {
  test('does not fire a timer that is cleared when it resumes, and keeps the order of the others', async () => {
    const tasks = createTasks({ backend: memory() });
    const fired: string[] = [];
    const job = tasks.define('job', async () => {
      await new Promise<void>((resolve) => {
        const second = setTimeout(() => fired.push('cleared'), 2_000);
        setTimeout(() => {
          fired.push('first');
          clearTimeout(second);
          setTimeout(resolve, 1_000);
        }, 1_000);
      });
      fired.push('end');
    });
    await using sim = await simulate(tasks);
    await job.enqueue();
    await sim.drain();
    sim.worker(0).pauseFor('10s');
    await sim.advance('1m');
    expect(fired).toEqual(['first', 'end']);
  });

  test('has its progress ignored after the lease ended', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', {
      retry: { maxAttempts: 1 },
      run: async (_: void, ctx) => {
        await ctx.sleep('20s');
        ctx.progress(0.5);
        await ctx.sleep('1h');
      },
    });
    const sim = await simulate(tasks, { workers: 2 });
    const result = await job.enqueue();
    await sim.drain();
    sim.worker(Number(sim.attempts()[0]?.worker.slice(1))).pauseFor('1m');
    await sim.runUntilIdle();
    await sim.advance('2m');
    expect((await result.refresh()).status).toBe('failed');
    expect(sim.jobs().map(({ status }) => status)).toEqual(['failed']);
  });
});

test('synchronous crypto and zlib leave no real work pending', async () => {
  const tasks = createTasks({ backend: memory() });
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const native = tasks.define('native', async () => {
    randomUUID({ disableEntropyCache: true });
    crypto.getRandomValues(new Uint8Array(8));
    gzipSync(createHash('sha256').update(randomBytes(8)).digest());
    scryptSync('a', 'b', 16);
    await gate;
  });
  const opener = tasks.define('opener', async (_: void, ctx) => {
    await ctx.sleep('1h');
    release();
  });
  await using sim = await simulate(tasks, { realBudget: 200 });
  await native.enqueue();
  await opener.enqueue();
  await sim.runUntilIdle();
  expect(String(sim.timeline())).not.toContain('note');
});

test("another application's tasks run in virtual time inside a task, as part of it", async () => {
  const library = createTasks();
  const slow = library.define('slow', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    return Date.now();
  });
  const tasks = createTasks({ backend: memory() });
  const outer = tasks.define('outer', async () => (await slow.enqueue()).returnValue);
  await using sim = await simulate(tasks);
  const result = await outer.enqueue();
  await sim.runUntilIdle();
  expect((await result.refresh()).returnValue).toBe(Date.UTC(2026, 0, 1, 0, 0, 5));
});

test('a simulation has its own workers, accepts any alias, and can be created after one that failed', async () => {
  const tasks = createTasks({ backends: { default: memory(), constructor: memory() } });
  await expect(simulate(tasks, { store: { kind: 'store', name: 'bad', open: () => Promise.reject(new Error('nope')) } })).rejects.toThrow(
    'nope',
  );
  await using sim = await simulate(tasks);
  await expect(tasks.worker().start()).rejects.toThrow(/its own workers/);
  expect(sim.worker(0).alive).toBe(true);
});
