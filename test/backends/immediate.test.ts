import { createTasks, immediate } from 'escapement';
import { expect, test } from 'vitest';

test('enqueueMany resolves when all its jobs are finished, even those that another call runs', async () => {
  const tasks = createTasks({ backend: immediate() });
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const wait = tasks.define('wait', async (n: number) => gates[n]?.promise);
  const many = wait.enqueueMany([0, 1]);
  await new Promise((resolve) => setImmediate(resolve));
  const one = wait.enqueue(2);
  for (const gate of [gates[0], gates[2], gates[1]]) {
    gate?.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect([...(await many), await one].map(({ status }) => status)).toEqual(['successful', 'successful', 'successful']);
});
