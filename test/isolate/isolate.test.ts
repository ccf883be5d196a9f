/** Isolated tasks on a real worker. The threads and processes load the fixture with the built package. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { threadId } from 'node:worker_threads';
import { createTasks, immediate, memory, type Task } from 'escapement';
import { simulate } from 'escapement/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as heavy from './fixtures/heavy.ts';

const { tasks } = heavy;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
beforeAll(() => tasks.worker({ concurrency: 20 }).start());
afterAll(() => tasks.close());

/** A finished job. */
async function ended<Input, Output>(task: Task<Input, Output>, ...input: NoInfer<Input>[]) {
  const result = await (task as unknown as Task<unknown, Output>).enqueue(input[0]);
  return result.wait({ timeout: '60s' });
}

test('a task runs in a reused thread or process', async () => {
  const first = await ended(heavy.where);
  const second = await ended(heavy.where);
  expect(first.returnValue).toMatchObject({ isMainThread: false, pid: process.pid });
  expect(second.returnValue).toEqual(first.returnValue);
  const other = await ended(heavy.elsewhere);
  expect(other.returnValue).toMatchObject({ isMainThread: true });
  expect(other.returnValue.pid).not.toBe(process.pid);
  expect((await ended(heavy.elsewhere)).returnValue).toEqual(other.returnValue);
});

describe('a function that never yields', () => {
  test.each([heavy.spin, heavy.spinInProcess].map((task) => [task.name, task] as const))(
    'ends at its timeout, and the worker survives: %s',
    async (_, task) => {
      expect(await ended(task, 'forever')).toMatchObject({ status: 'failed', errors: [{ name: 'TimeoutError' }] });
      expect((await ended(heavy.where)).status).toBe('successful');
    },
  );

  test('ends when its job is cancelled', async () => {
    const spinning = new Promise<void>((resolve) => {
      const off = tasks.on('progressed', ({ job, progress }) => {
        if (job.task !== 'endless') return;
        expect(progress).toMatchObject({ fraction: 0.5, message: 'spinning' });
        off();
        resolve();
      });
    });
    const result = await heavy.endless.enqueue('');
    await spinning;
    await result.cancel('no longer wanted');
    expect(await result.wait({ timeout: '60s' })).toMatchObject({ status: 'cancelled', reason: 'no longer wanted' });
  });
});

test('a stopping worker releases a job whose function does not return, and ends its thread', async () => {
  const own = createTasks({ backend: memory(), logger: quiet });
  const file = join(mkdtempSync(join(tmpdir(), 'escapement-isolate-')), 'turns');
  const { endless } = heavy;
  const same = own.define(endless.name, {
    isolate: { in: 'thread', module: new URL('./fixtures/heavy.ts', import.meta.url) },
    run: (_: string) => {},
  });
  const worker = own.worker();
  await worker.start();
  const result = await same.enqueue(file);
  await expect.poll(() => existsSync(file)).toBe(true);
  await worker.stop({ timeout: 0 });
  expect(await result.refresh()).toMatchObject({ status: 'ready', attempts: 0 });
  await own.close();
  // Counts its turns in the file, until the thread has ended.
  let turns = -1;
  await expect
    .poll(() => {
      const before = turns;
      turns = statSync(file).size;
      return turns === before;
    })
    .toBe(true);
});

test('a function that observes its signal receives the reason', async () => {
  expect(await ended(heavy.spin, 'until the signal')).toMatchObject({ status: 'failed', errors: [{ name: 'TimeoutError' }] });
});

test('input, context and return value are passed on', async () => {
  const seen: unknown[] = [];
  const offs = [
    tasks.on('progressed', ({ job, progress }) => job.task === 'talk' && seen.push(['progress', progress.fraction, progress.message])),
    tasks.on('logged', ({ job, level, message, fields }) => job.task === 'talk' && seen.push([level, message, fields])),
  ];
  const result = await ended(heavy.talk, { name: 'Ada', at: '2026-03-28T00:00:00Z' });
  for (const off of offs) off();
  expect(result.returnValue).toEqual({ year: 2026, blob: 'Ada', id: result.id, attempt: 1, now: true });
  expect(seen).toEqual([
    ['progress', 0.25, 'begun'],
    ['info', 'hello', { name: 'Ada' }],
  ]);
  const input = { name: 'Ada', at: 'noon' };
  await expect(heavy.talk.enqueue(input)).rejects.toThrow(/at: /);
});

describe('errors and control values are passed on', () => {
  test("an error class named in the task's retry rules", async () => {
    const { status, attempts, errors, reason } = await ended(heavy.fails, 'unlucky');
    expect({ status, attempts, reason }).toEqual({ status: 'failed', attempts: 1, reason: 'permanent' });
    expect(errors[0]).toMatchObject({
      name: 'Unlucky',
      message: 'no luck',
      code: 'E_LUCK',
      properties: { tries: 3 },
      cause: { message: 'rain' },
    });
    expect(errors[0]?.stack).toMatch(/^Unlucky: no luck\n {4}at .*heavy\.ts:\d+/);
    expect(errors[0]?.stack.match(/caused by/g)).toHaveLength(1);
  });

  test.each([
    ['permanent', { status: 'failed', attempts: 1, reason: 'permanent', errors: [{ name: 'PermanentError', message: 'never' }] }],
    [
      'unstorable',
      {
        status: 'failed',
        attempts: 1,
        reason: 'permanent',
        errors: [{ name: 'InputError', message: expect.stringMatching(/^the return value of fails.*at.*fails completed/s) }],
      },
    ],
    ['cancel', { status: 'cancelled', reason: 'not today' }],
    ['exit', { status: 'failed', attempts: 3, errors: [{}, {}, { message: 'the thread has ended with exit code 3' }] }],
    ['uncaught', { status: 'failed', attempts: 3, errors: [{}, {}, { message: 'nobody waits' }] }],
  ])('%s', async (how, expected) => {
    expect(await ended(heavy.fails, how)).toMatchObject(expected);
  });

  test.each([
    ['later', { status: 'retrying', attempts: 1 }],
    ['snooze', { status: 'scheduled', attempts: 0 }],
  ])('%s: in an hour', async (how, expected) => {
    const result = await heavy.fails.enqueue(how);
    await expect.poll(async () => (await result.refresh()).dueAt?.getTime() ?? 0).toBeGreaterThan(Date.now() + 3_500_000);
    expect(result).toMatchObject(expected);
  });
});

test('steps are recorded, and signals are received', async () => {
  const result = await heavy.steps.enqueue();
  await expect.poll(async () => (await result.refresh()).awaits).toBe('go');
  await tasks.signal('go', { n: 7 });
  expect((await result.wait({ timeout: '60s' })).returnValue).toEqual({ first: { attempt: 1, charges: 1 }, error: true, signal: { n: 7 } });
  expect((await result.steps()).map(({ name }) => name)).toEqual(['charge', 'signal go']);
});

test('a task enqueues to a shared store, and its module may start a worker', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-isolate-'));
  process.env.ESCAPEMENT_TEST_FILE = join(folder, 'jobs.db');
  const shared = await import('./fixtures/shared.ts');
  const made = await ended(shared.parent, 21);
  const child = await shared.tasks.getResult(made.returnValue);
  await child.wait({ timeout: '60s' });
  expect(child).toMatchObject({ task: 'child', returnValue: 42, enqueuedBy: made.id });
  expect(await shared.tasks.workers.list()).toHaveLength(1);
  await shared.tasks.close();
  rmSync(folder, { recursive: true });
});

test('idle threads and processes do not keep a program alive', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [fileURLToPath(new URL('./fixtures/ends.ts', import.meta.url))]);
  expect(stdout).toBe('1\n2\n');
});

test('errors say what to do', async () => {
  const messageOf = async (task: Task<void, unknown>) => (await ended(task)).errors[0]?.message;
  expect(await messageOf(heavy.completes)).toMatch(
    /^ctx\.complete\(\) of completes: a transaction cannot be used from the thread .* return the value/,
  );
  expect(await messageOf(heavy.enqueues)).toMatch(
    /^an isolated task cannot use the backend memory\(\), .* use sqlite\(\) or postgres\(\), or return the input and enqueue the job elsewhere$/,
  );
  expect(await messageOf(heavy.hidden())).toMatch(
    /^hidden cannot run in a thread: file:.*heavy\.ts does not define it .* isolate: \{ in: 'thread', module: import\.meta\.url \}$/,
  );
  const own = createTasks({ backend: memory(), logger: quiet });
  const define = (isolate: unknown) => own.define('job', { isolate: isolate as 'thread', run: () => {} });
  expect(() => define('fiber')).toThrow("isolate: expected 'thread' or 'process', got \"fiber\"");
  expect(() => define({ in: 'thread', module: 'https://example.com/tasks.js' })).toThrow(
    /isolate\.module: expected `import\.meta\.url` of the module/,
  );
  expect(() => define({ in: 'thread', modul: import.meta.url })).toThrow(/isolate\.modul: expected one of in, module/);
  define({ in: 'thread', module: pathToFileURL('/nowhere/tasks.ts') });
  await own.worker().start();
  const job = await own.get('job')?.enqueue();
  await expect
    .poll(async () => (await job?.refresh())?.errors[0]?.message)
    .toMatch(/^job cannot run in a thread: file:\/\/\/nowhere\/tasks\.ts cannot be loaded there: Error: Cannot find module/);
  await own.close();
});

test('a task runs in the calling thread in a simulation, with call() and with immediate()', async () => {
  const own = createTasks({ backend: memory() });
  const here = own.define('here', { isolate: 'thread', run: () => threadId });
  expect(own.describe('here')).toMatchObject({ isolate: 'thread' });
  const sim = await simulate(own);
  const simulated = await here.enqueue();
  await sim.runUntilIdle();
  expect((await simulated.refresh()).returnValue).toBe(threadId);
  await sim.end();
  expect(await here.call()).toBe(threadId);
  const atOnce = createTasks({ backend: immediate() }).define('here', { isolate: 'thread', run: () => threadId });
  expect((await atOnce.enqueue()).returnValue).toBe(threadId);
});
