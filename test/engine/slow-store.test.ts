/** Attempts that end while the store is being told of others: none of their outcomes may be forgotten. In real time, where the two overlap. */
import { createTasks } from 'escapement';
import { expect, test } from 'vitest';
import { stores } from '../stores/stores.ts';

test('with a store that answers later, every job runs once and ends at once', async () => {
  const store = stores.find(({ label }) => label === 'memory, answering later');
  if (!store) throw new Error('no such store');
  await using tasks = createTasks({ backend: store, logger: { debug() {}, info() {}, warn() {}, error() {} } });
  let runs = 0;
  const job = tasks.define('job', async (turns: number) => {
    runs += 1;
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
  });
  await tasks.worker({ concurrency: 5 }).start();
  const results = await job.enqueueMany(Array.from({ length: 200 }, (_, i) => i % 7));
  for (const result of results) expect((await result.wait({ timeout: '4s' })).status).toBe('successful');
  expect(runs).toBe(200);
});
