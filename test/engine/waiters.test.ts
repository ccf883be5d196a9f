import { createTasks, ResultNotFoundError, ResultNotReadyError, StoreError } from 'escapement';
import { expect, test, vi } from 'vitest';
import { newJob } from '../../src/core/job.ts';
import type { Host } from '../../src/engine/host.ts';
import { Waiters } from '../../src/engine/waiters.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { Choices } from '../../src/testing/choices.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';

/** An application whose store counts reads. */
function counting() {
  const store = new MemoryStore();
  const get = vi.spyOn(store, 'get');
  const tasks = createTasks({ backend: { kind: 'store', name: 'counting', open: () => store } });
  return { tasks, get, task: tasks.define('task', (n: number) => n) };
}

test('a thousand waiters cause few reads', async () => {
  const { tasks, get, task } = counting();
  const results = await task.enqueueMany(Array.from({ length: 1_000 }, (_, i) => i));
  get.mockClear();
  const all = Promise.all(results.map((result) => result.wait()));
  await vi.waitFor(() => expect(get).toHaveBeenCalled(), { timeout: 30_000 });
  // In batches of 500.
  expect(get).toHaveBeenCalledTimes(2);
  await tasks.worker({ concurrency: 1_000 }).start();
  expect((await all).map(({ returnValue }) => returnValue)).toEqual(results.map((_, i) => i));
  await tasks.close();
});

test('all waits end when the application is closed', async () => {
  const { tasks, task } = counting();
  const results = await task.enqueueMany([1, 2, 3]);
  const ends = results.map((result) => result.wait().catch((error: unknown) => error));
  await Promise.all(results.map((result) => result.refresh()));
  await tasks.close();
  for (const end of await Promise.all(ends)) {
    expect(end).toBeInstanceOf(StoreError);
    expect(end).toMatchObject({ kind: 'closed' });
  }
});

test('a wait ends at its timeout, and when its job is deleted', async () => {
  const { tasks, task } = counting();
  const [late, gone] = await task.enqueueMany([1, 2]);
  await expect(late?.wait({ timeout: 1 })).rejects.toThrow(ResultNotReadyError);
  const end = gone?.wait().catch((error: unknown) => error);
  await gone?.delete();
  expect(await end).toBeInstanceOf(ResultNotFoundError);
  await tasks.close();
});

test('waiting for a job that no live worker can run is reported once, after 5 s', async () => {
  const clock = new VirtualClock({ now: 0, choices: new Choices(undefined), realBudgetMs: 1_000 });
  const warn = vi.fn();
  const store = new MemoryStore();
  const waiters = new Waiters({ clock, logger: { warn } } as unknown as Host, store);
  const request = { queue: 'mail', priority: 0, input: null, runAfter: null, expiresAt: null, maxAttempts: 1, tags: [], metadata: {} };
  const job = newJob({ ...request, task: 'send', overrides: null, schedule: null, scheduledAt: null }, 'a', 0);
  store.insert([job], { now: 0 });
  const forget = [1, 2].map(() => waiters.add('a', waiters.hints, () => {}));
  await clock.advanceTo(4_999);
  expect(warn).not.toHaveBeenCalled();
  await clock.advanceTo(20_000);
  expect(warn.mock.calls.map(([, message]) => message)).toEqual([expect.stringMatching(/^no live worker serves queue mail, /)]);
  for (const end of forget) end();
});
