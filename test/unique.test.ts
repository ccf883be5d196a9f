/** Unique jobs: keys, windows, debounce and throttle, on memory and SQLite, in virtual time and in transactions. */
import Database from 'better-sqlite3';
import { createTasks, DuplicateJobError, dummy, InputError, immediate, memory, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { emptyPostgres } from './stores/postgres-server.ts';

const stores = [
  ['memory', undefined],
  ['sqlite', sqlite({ file: ':memory:' })],
  ...(process.env.ESCAPEMENT_POSTGRES ? [['postgres', emptyPostgres()] as const] : []),
] as const;

describe.each(stores)('on %s', (_, store) => {
  async function simulated(tasks: Tasks) {
    return simulate(tasks, { now: '2026-01-01T00:00:00Z', ...(store ? { store } : {}) });
  }

  test('an enqueue with a taken key resolves to the job that holds it', async () => {
    const tasks = createTasks({ backend: memory() });
    const ran: string[] = [];
    const welcome = tasks.define('welcome', {
      input: z.object({ userId: z.string().trim(), note: z.string().default('') }),
      run: ({ userId }) => void ran.push(userId),
      unique: { key: ({ userId }) => userId },
    });
    await using sim = await simulated(tasks);
    const first = await welcome.using({ runAfter: '1h' }).enqueue({ userId: 'ada' });
    // The key is made from the schema's output.
    const second = await welcome.enqueue({ userId: ' ada ', note: 'again' });
    const other = await welcome.enqueue({ userId: 'bob' });
    expect([second.id, second.duplicate, first.duplicate, other.duplicate]).toEqual([first.id, true, false, false]);
    expect((await welcome.enqueueMany([{ userId: 'eve' }, { userId: 'eve' }])).map(({ duplicate }) => duplicate)).toEqual([false, true]);
    await sim.runUntilIdle();
    expect(ran).toEqual(['bob', 'eve', 'ada']);
    expect((await welcome.enqueue({ userId: 'ada' })).duplicate).toBe(false);
    expect((await welcome.getResult(first.id)).duplicate).toBe(false);
  });

  test('without a key the whole input is the key, whatever the order of its properties', async () => {
    const tasks = createTasks({ backend: memory() });
    const sync = tasks.define('sync', { run: (_: { a?: unknown; b?: number }) => {}, unique: {} });
    await using _sim = await simulated(tasks);
    const first = await sync.enqueue({ a: { x: 1, y: [1, 2] }, b: 2 });
    expect((await sync.enqueue({ b: 2, a: { y: [1, 2], x: 1 } })).id).toBe(first.id);
    expect((await sync.enqueue({ b: 2, a: { y: [2, 1], x: 1 } })).id).not.toBe(first.id);
    expect((await sync.enqueue({ b: 2, a: 'x'.repeat(100_000) })).duplicate).toBe(false);
    expect((await sync.enqueue({ b: 2, a: 'x'.repeat(100_000) })).duplicate).toBe(true);
  });

  test('throttle: one job per window, even after it has run', async () => {
    const tasks = createTasks({ backend: memory() });
    const report = tasks.define('report', { run: () => {}, unique: { within: '1m' } });
    await using sim = await simulated(tasks);
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      ids.push((await report.enqueue()).id);
      await sim.advance('25s');
    }
    expect(new Set(ids).size).toBe(2);
    expect(report).toBeDefined();
    expect(sim.jobs({ task: report })).toHaveLength(2);
  });

  test('debounce: each enqueue moves the due time, and the last input runs within maxWait', async () => {
    const tasks = createTasks({ backend: memory() });
    const ran: [number, number][] = [];
    const index = tasks.define('index', {
      run: ({ version }: { doc: string; version: number }, ctx) => void ran.push([version, ctx.now().getTime()]),
      unique: { key: ({ doc }) => doc, onConflict: 'replace', wait: '30s', maxWait: '1m' },
    });
    await using sim = await simulated(tasks);
    const start = sim.now.getTime();
    const [first] = [await index.enqueue({ doc: 'a', version: 1 })];
    for (let version = 2; version <= 6; version++) {
      await sim.advance('20s');
      const result = await index.enqueue({ doc: 'a', version });
      expect([version, result.id === first?.id]).toEqual([version, version < 4]);
    }
    await sim.runUntilIdle();
    expect(ran.map(([version, at]) => [version, (at - start) / 1_000])).toEqual([
      [3, 60],
      [6, 120],
    ]);
  });

  test('reject: enqueue throws, and names the job that holds the key; using() can override it', async () => {
    const tasks = createTasks({ backend: memory() });
    const pay = tasks.define('pay', { run: (_: { order: number }) => {}, unique: { key: ({ order }) => order, onConflict: 'reject' } });
    await using _sim = await simulated(tasks);
    const first = await pay.using({ runAfter: '1h' }).enqueue({ order: 7 });
    const error = await pay.enqueue({ order: 7 }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DuplicateJobError);
    expect(error).toMatchObject({ id: first.id, code: 'ESCAPEMENT_DUPLICATE_JOB', message: expect.stringContaining('unique by 7') });
    expect((await pay.using({ unique: { key: '7' } }).enqueue({ order: 7 })).id).toBe(first.id);
    expect((await pay.using({ unique: { key: 'other' } }).enqueue({ order: 7 })).duplicate).toBe(false);
  });

  test('a failed job cannot be retried while another holds its key', async () => {
    const tasks = createTasks({ backend: memory() });
    let fails = true;
    const pay = tasks.define('pay', {
      run: (_: number) => {
        if (fails) throw new Error('declined');
      },
      retry: { maxAttempts: 1 },
      unique: {},
    });
    await using sim = await simulated(tasks);
    const first = await pay.enqueue(1);
    await sim.drain();
    fails = false;
    const second = await pay.using({ runAfter: '1h' }).enqueue(1);
    expect(second.duplicate).toBe(false);
    await expect((await first.refresh()).retry()).rejects.toThrow(DuplicateJobError);
    expect(await tasks.jobs.retry({ status: 'failed' })).toBe(0);
    await second.cancel();
    await first.retry();
    await sim.runUntilIdle();
    expect((await first.refresh()).status).toBe('successful');
  });

  test('the jobs of a schedule are unique too: an occurrence whose key is held creates no job', async () => {
    const tasks = createTasks({ backend: memory() });
    const sync = tasks.define('sync', { run: (_: string, ctx) => ctx.sleep('90s'), unique: {} });
    tasks.schedule('sync', { task: sync, input: 'all', every: '1m' });
    await using sim = await simulated(tasks);
    await sim.advance('5m');
    expect(sim.attempts(sync).map(({ startedAt }) => startedAt.toISOString().slice(14, 19))).toEqual(['01:00', '03:00', '05:00']);
  });
});

test('fifty concurrent enqueues of one key, half of them rolled back, create one job', async () => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const folder = mkdtempSync('/tmp/escapement-unique-');
  try {
    const file = `${folder}/tasks.db`;
    const tasks = createTasks({ backend: sqlite({ file }) });
    const pay = tasks.define('pay', { run: (_: string) => {}, unique: {} });
    await tasks.open();
    const db = new Database(file);
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        if (i % 2 === 0) return (await pay.enqueue('a')).id;
        await null;
        try {
          return db
            .transaction(() => {
              pay.enqueue('a', { transaction: db });
              throw new Error('rolled back');
            })
            .immediate();
        } catch (error) {
          return (error as Error).message;
        }
      }),
    );
    const { items } = await tasks.jobs.list({});
    expect(items).toHaveLength(1);
    expect(new Set(outcomes)).toEqual(new Set([items[0]?.id, 'rolled back']));
    db.close();
    await tasks.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('call() gives key functions the parsed input too', async () => {
  const tasks = createTasks({ backend: dummy() });
  const input = z.object({ id: z.string().optional() }).transform(({ id }) => ({ key: id ?? 'none' }));
  const work = tasks.define('work', { input, run: ({ key }) => key, unique: { key: ({ key }) => key } });
  expect(await work.call({})).toBe('none');
});

test('dummy() and immediate() keep jobs unique', async () => {
  const dull = createTasks({ backend: dummy() });
  const pay = dull.define('pay', { run: (_: string) => {}, unique: {} });
  expect((await pay.enqueue('a')).id).toBe((await pay.enqueue('a')).id);
  const now = createTasks({ backend: immediate() });
  const sync = now.define('sync', { run: (_: string) => 5, unique: { within: '1h' } });
  const [first, second] = [await sync.enqueue('a'), await sync.enqueue('a')];
  expect([second.id, second.duplicate, second.returnValue]).toEqual([first.id, true, 5]);
});

test('mistakes are reported at the definition, or at enqueue', async () => {
  const tasks = createTasks({ backend: memory() });
  const define = (unique: object) => () => tasks.define(`t${Math.trunc(Math.random() * 1e9)}`, { run: (_: string) => {}, unique } as never);
  expect(define({ key: async () => 'a' })).toThrow(/unique.key: expected a synchronous function of the input that returns a string/);
  expect(define({ onConflict: 'replce' })).toThrow(/unique.onConflict.*did you mean replace/s);
  expect(define({ while: ['running'] })).toThrow(/unique.while: expected 'queued' to be included/);
  expect(define({ while: ['queued', 'running'], onConflict: 'replace' })).toThrow(/a job that has started cannot be replaced/);
  expect(define({ wait: '5s' })).toThrow(/unique.wait: expected onConflict: 'replace' with it/);
  expect(define({ within: 'soon' })).toThrow(/unique.within/);
  expect(define({ per: '1m' })).toThrow(/per: expected one of key, within/);
  const odd = tasks.define('odd', { run: (_: { id?: string }) => {}, unique: { key: ({ id }) => id as string } });
  await expect(odd.enqueue({})).rejects.toThrow(InputError);
  await expect(odd.enqueue({})).rejects.toThrow('unique.key of odd returned undefined; expected a non-empty string, or a number');
  const broken = tasks.define('broken', { run: (_: string) => {}, unique: { key: () => JSON.parse('{') } });
  await expect(broken.enqueue('x')).rejects.toThrow(/unique.key of broken failed: /);
});
