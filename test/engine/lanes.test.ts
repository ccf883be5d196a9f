/** A store that accepts concurrent calls, and a worker with several lanes. */
import { createTasks, memory, type Store, type StoreSource } from 'escapement';
import { expect, test } from 'vitest';
import { StoreError } from '../../src/core/errors.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** An in-memory store whose settlements and claims take a turn of the event loop, two at a time. */
function parallel(failing: (call: number) => boolean = () => false) {
  const seen = { calls: 0, underWay: 0, most: 0, batches: [] as number[] };
  const later = async <T>(fn: () => T): Promise<T> => {
    const call = seen.calls++;
    seen.underWay += 1;
    seen.most = Math.max(seen.most, seen.underWay);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    seen.underWay -= 1;
    if (failing(call)) throw new StoreError('busy', { kind: 'busy', transient: true });
    return fn();
  };
  const source: StoreSource = {
    ...memory(),
    async open() {
      const store = await memory().open();
      return new Proxy(store, {
        get(target, name) {
          if (name === 'lanes') return 2;
          const value: unknown = Reflect.get(target, name, target);
          if (typeof value !== 'function') return value;
          const method = value.bind(target);
          if (name === 'claim') return (options: Parameters<Store['claim']>[0]) => later(() => method(options));
          if (name !== 'settle') return method;
          return (...args: Parameters<Store['settle']>) => {
            seen.batches.push(args[0].length);
            return later(() => method(...args));
          };
        },
      });
    },
  };
  return { source, seen };
}

async function drain(source: StoreSource, jobs: number, concurrency: number) {
  const tasks = createTasks({ backend: source, logger: quiet });
  let [running, most] = [0, 0];
  const runs = new Map<number, number>();
  const job = tasks.define('job', async (n: number) => {
    running += 1;
    most = Math.max(most, running);
    runs.set(n, (runs.get(n) ?? 0) + 1);
    if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  });
  await tasks.open();
  await job.enqueueMany(Array.from({ length: jobs }, (_, n) => n));
  let done = 0;
  tasks.on('successful', () => {
    done += 1;
  });
  const worker = tasks.worker({ concurrency });
  await worker.start();
  return { tasks, worker, runs, done: () => done, most: () => most };
}

test('two store calls run concurrently; every job runs once, within the concurrency', async () => {
  const { source, seen } = parallel();
  const { tasks, worker, runs, done, most } = await drain(source, 3_000, 200);
  await expect.poll(done, { timeout: 30_000 }).toBe(3_000);
  await worker.stop();
  await tasks.close();
  expect([runs.size, Math.max(...runs.values()), seen.most]).toEqual([3_000, 1, 2]);
  expect(most()).toBeLessThanOrEqual(200);
  expect(Math.max(...seen.batches)).toBeGreaterThan(25);
});

test('outcomes that one lane failed to settle are settled with the next call', async () => {
  const { source } = parallel((call) => call % 5 === 2);
  const { tasks, worker, runs, done } = await drain(source, 1_000, 200);
  await expect.poll(done, { timeout: 30_000 }).toBe(1_000);
  await worker.stop();
  await tasks.close();
  expect([runs.size, Math.max(...runs.values())]).toEqual([1_000, 1]);
});

test('stopping releases jobs that another lane was claiming', async () => {
  const { source } = parallel();
  const { tasks, worker, runs, done } = await drain(source, 3_000, 200);
  await expect.poll(done, { timeout: 30_000, interval: 1 }).toBeGreaterThan(100);
  await worker.stop();
  const left = await tasks.jobs.list({ status: ['running'], limit: 1 });
  await tasks.close();
  expect([left.items.length, done()]).toEqual([0, runs.size]);
});

test('a worker with few slots makes one call at a time', async () => {
  const { source, seen } = parallel();
  const { tasks, worker, done } = await drain(source, 300, 20);
  await expect.poll(done, { timeout: 30_000 }).toBe(300);
  await worker.stop();
  await tasks.close();
  expect(seen.most).toBe(1);
});
