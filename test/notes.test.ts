/** Data that an attempt records: log lines and metadata. */
import { createTasks, fixed, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import { describe, expect, test } from 'vitest';
import { appended, latestLines, lineText, maxLogBytes, readLog } from '../src/core/log.ts';
import { stores } from './stores/stores.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

describe.each(stores)('on $label', (source) => {
  test("a job's log contains the lines of all its attempts, while it runs and afterwards", async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const job = tasks.define('job', {
      retry: { maxAttempts: 2, backoff: fixed('1m') },
      run: async (_: void, ctx) => {
        ctx.log.info('begun', { tries: ctx.attempt });
        await ctx.sleep('25s');
        ctx.log.warn('slow', { socket: () => {} });
        if (ctx.attempt === 1) throw new Error('again');
      },
    });
    const sim = await simulate(tasks, { store: source });
    const result = await job.enqueue();
    await sim.advance('15s');
    expect(await result.logs()).toEqual([
      { at: new Date('2026-01-01T00:00:00Z'), level: 'info', message: 'begun', fields: { tries: 1 }, attempt: 1 },
    ]);
    await sim.runUntilIdle();
    expect((await result.logs()).map(({ attempt, level, message, fields }) => [attempt, level, message, fields])).toEqual([
      [1, 'info', 'begun', { tries: 1 }],
      [1, 'warn', 'slow', null],
      [2, 'info', 'begun', { tries: 2 }],
      [2, 'warn', 'slow', null],
    ]);
    await sim.end();
  });

  test("a task changes its job's metadata, and later attempts and callers see it", async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const seen: unknown[] = [];
    const job = tasks.define('job', {
      retry: { maxAttempts: 2, backoff: fixed('1m') },
      run: async (_: void, ctx) => {
        const { metadata, attempt } = ctx;
        seen.push(metadata.get('tenant'), metadata.get('step'), metadata.get('toString'));
        metadata.set('step', attempt);
        metadata.set('pages', { done: [1, 2] });
        await ctx.sleep('5s');
        metadata.set('pages', undefined);
        if (attempt === 1) throw new Error('again');
      },
    });
    const sim = await simulate(tasks, { store: source });
    const result = await job.using({ metadata: { tenant: 'a' } }).enqueue();
    await sim.advance('2s');
    expect((await result.refresh()).metadata).toEqual({ tenant: 'a', step: 1, pages: { done: [1, 2] } });
    await sim.runUntilIdle();
    expect((await result.refresh()).metadata).toEqual({ tenant: 'a', step: 2 });
    expect(seen).toEqual(['a', undefined, undefined, 'a', 1, undefined]);
    await sim.end();
  });
});

test('metadata that cannot be stored throws when it is set', async () => {
  const tasks = createTasks({ logger: quiet });
  const set = tasks.define('set', {
    run: (_: void, { metadata }) => {
      for (const value of [new Date(), () => {}, 'x'.repeat(17_000)]) {
        let message = '';
        try {
          metadata.set('key', value);
        } catch (error) {
          message = (error as Error).message;
        }
        expect(message).toMatch(/^ctx\.metadata\.set\("key"\) of set/);
      }
      metadata.set('fine', true);
    },
  });
  expect((await set.enqueue()).metadata).toEqual({ fine: true });
  await set.call();
});

test('a log stays within its limits', async () => {
  const tasks = createTasks({ logger: quiet });
  const job = tasks.define('job', (_: void, ctx) => {
    for (let i = 0; i < 1_000; i++) ctx.log.info(`line ${i}`);
    ctx.log.error('long '.repeat(2_000), { large: 'y'.repeat(9_000) });
  });
  const lines = await (await job.enqueue()).logs();
  expect(lines.length).toBeLessThanOrEqual(100);
  expect(lines.at(-2)?.message).toBe('line 999');
  expect(lines.at(-1)).toMatchObject({ level: 'error', message: expect.stringMatching(/^long .*… \(cut\)$/), fields: null });
});

describe('log lines', () => {
  const line = (n: number, claim = 1, message = `line ${n}`) =>
    lineText({ at: n, level: 'info', message, fields: { n }, attempt: 1, claim, n });

  test('are the latest that fit', () => {
    expect(latestLines(Array.from({ length: 150 }, (_, i) => String(i)))).toEqual(Array.from({ length: 100 }, (_, i) => String(i + 50)));
    const kept = latestLines(Array.from({ length: 50 }, () => 'ü'.repeat(500)));
    expect(kept).toHaveLength(Math.floor(maxLogBytes / 1_001));
    expect(latestLines([])).toEqual([]);
  });

  test('are added once, and can be read with any other content', () => {
    const one = appended(null, [line(0), line(1)]);
    const two = appended(one, [line(1), line(2), line(0, 2)]);
    expect(readLog(two).map(({ claim, n }) => [claim, n])).toEqual([
      [1, 0],
      [1, 1],
      [1, 2],
      [2, 0],
    ]);
    expect(readLog(new TextEncoder().encode(`nonsense\n${line(5)}`)).map(({ n }) => n)).toEqual([5]);
    expect(readLog(appended(new TextEncoder().encode('nonsense'), [line(5)])).map(({ n }) => n)).toEqual([5]);
    expect(readLog(null)).toEqual([]);
  });
});
