// biome-ignore-all lint/correctness/useHookAtTopLevel: `useEnqueue` is not a hook of React
/** Hooks: middleware around attempts and enqueues, and a task's own listeners. */
import { AsyncLocalStorage } from 'node:async_hooks';
import Database from 'better-sqlite3';
import { cancel, createTasks, InputError, memory, PermanentError } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import 'escapement/vitest';
import { expect, test } from 'vitest';

test("the caller's context reaches the task through metadata, also on retries", async () => {
  const tenants = new AsyncLocalStorage<string>();
  const tasks = createTasks({ backend: memory() });
  tasks.useEnqueue((request, next) => {
    const tenant = tenants.getStore();
    if (tenant !== undefined) request.metadata.tenant = tenant;
    return next();
  });
  tasks.use((attempt, next) => tenants.run(String(attempt.result.metadata.tenant ?? 'none'), next));
  const seen: unknown[] = [];
  const work = tasks.define('work', {
    run: async (n: number, ctx) => {
      seen.push([n, tenants.getStore()]);
      if (ctx.attempt === 1) throw new Error('once');
      return tenants.getStore();
    },
    retry: { backoff: '1m' },
  });
  await using sim = await simulate(tasks);
  const result = await tenants.run('acme', () => work.using({ metadata: { own: 1 } }).enqueue(1));
  const [other] = await work.enqueueMany([2]);
  await sim.runUntilIdle();
  expect(result.metadata).toEqual({ own: 1, tenant: 'acme' });
  await expect(result).toHaveSucceeded({ attempts: 2, returnValue: 'acme' });
  await expect(other).toHaveSucceeded({ returnValue: 'none' });
  expect(seen).toHaveLength(4);
});

test('middleware runs in registration order, sees errors and values, and may replace them', async () => {
  const tasks = createTasks({ backend: memory() });
  const log: string[] = [];
  const off = tasks.use(async (attempt, next) => {
    log.push(`a ${attempt.task}`);
    try {
      return await next();
    } catch (error) {
      log.push(`a saw ${(error as Error).message}`);
      throw error;
    }
  });
  tasks.use(async (attempt, next) => {
    if (attempt.task === 'skipped') return cancel('not today');
    // Does not return the value.
    await next();
    log.push('b');
    return undefined;
  });
  const good = tasks.define('good', () => 5);
  const bad = tasks.define('bad', () => {
    throw new PermanentError('no');
  });
  const skipped = tasks.define('skipped', () => log.push('ran'));
  await using sim = await simulate(tasks);
  const results = [await good.enqueue(), await bad.enqueue(), await skipped.enqueue()];
  await sim.runUntilIdle();
  await expect(results[0]).toHaveSucceeded({ returnValue: 5 });
  await expect(results[1]).toHaveFailed({ reason: 'permanent' });
  expect((await results[2]?.refresh())?.reason).toBe('not today');
  expect(log.sort()).toEqual(['a bad', 'a good', 'a saw no', 'a skipped', 'b']);
  off();
  log.length = 0;
  expect(await good.call()).toBe(5);
  expect(log).toEqual(['b']);
});

test('a middleware error fails the attempt, and is retried like an error of the task', async () => {
  const tasks = createTasks({ backend: memory() });
  let calls = 0;
  tasks.use(async (_, next) => {
    calls += 1;
    if (calls < 3) throw new Error('no connection');
    const value = await next();
    await expect(next()).rejects.toThrow(/called next\(\) twice/);
    return value;
  });
  const work = tasks.define('work', { run: () => 'done', retry: { backoff: 0 } });
  await using sim = await simulate(tasks);
  const result = await work.enqueue();
  await sim.runUntilIdle();
  await expect(result).toHaveSucceeded({ attempts: 3, returnValue: 'done' });
});

test('enqueue middleware can change or reject a job, and must not wait in a synchronous transaction', async () => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const folder = mkdtempSync('/tmp/escapement-hooks-');
  try {
    const file = `${folder}/tasks.db`;
    const tasks = createTasks({ backend: sqlite({ file }) });
    const work = tasks.define('work', (_: { n: number }) => {});
    await tasks.open();
    const off = [
      tasks.useEnqueue((request, next) => {
        if (request.inputs.some((input) => (input as { n: number }).n < 0)) throw new InputError('negative');
        request.inputs = request.inputs.map((input) => ({ n: (input as { n: number }).n + 1 }));
        request.tags = [...request.tags, 'hooked'];
        return next();
      }),
    ];
    const result = await work.enqueue({ n: 1 });
    expect([result.input, result.tags]).toEqual([{ n: 2 }, ['hooked']]);
    await expect(work.enqueue({ n: -1 })).rejects.toThrow('negative');
    const db = new Database(file);
    db.pragma('synchronous = FULL');
    expect(db.transaction(() => work.enqueue({ n: 5 }, { transaction: db }).input)()).toEqual({ n: 6 });
    off.push(tasks.useEnqueue(async (_, next) => next()));
    expect((await work.enqueue({ n: 7 })).input).toEqual({ n: 8 });
    expect(() => db.transaction(() => work.enqueue({ n: 5 }, { transaction: db }))()).toThrow(/returned a promise, which a synchronous/);
    off.push(tasks.useEnqueue(() => undefined));
    await expect(work.enqueue({ n: 1 })).rejects.toThrow(/did not call next\(\); throw an error to reject an enqueue/);
    for (const end of off) end();
    expect((await work.enqueue({ n: 1 })).input).toEqual({ n: 1 });
    expect((await tasks.jobs.list({})).items).toHaveLength(4);
    db.close();
    await tasks.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a task's own listeners receive only its jobs' events, and cannot fail the jobs", async () => {
  const heard: unknown[] = [];
  const tasks = createTasks({ backend: memory(), logger: { debug() {}, info() {}, warn() {}, error: (_, text) => void heard.push(text) } });
  const work = tasks.define('work', {
    run: (n: number) => {
      if (n > 1) throw new PermanentError('too much');
      return n;
    },
    onSuccess: ({ job }) => {
      heard.push(`done ${job.returnValue}`);
      throw new Error('of the listener');
    },
    onFailure: ({ error }) => void heard.push(`failed ${error?.message}`),
  });
  const other = tasks.define('other', () => {});
  await using sim = await simulate(tasks);
  const results = await work.enqueueMany([1, 2]);
  await other.enqueue();
  await sim.runUntilIdle();
  await expect(results[0]).toHaveSucceeded();
  expect(heard).toEqual(expect.arrayContaining(['done 1', 'failed too much', expect.stringContaining('listener')]));
  expect(heard.filter((text) => String(text).startsWith('done'))).toHaveLength(1);
  expect(() => tasks.use(5 as never)).toThrow(/middleware: expected a function \(attempt, next\)/);
  expect(() => tasks.define('x', { run: () => {}, onSuccess: 5 as never })).toThrow(/onSuccess: expected a function of the event/);
});
