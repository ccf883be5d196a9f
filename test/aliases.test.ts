/** An alias is part of a job's identity: results and operations reach the backend that the job was enqueued to. */
import { createTasks, memory, ResultNotFoundError } from 'escapement';
import { simulate } from 'escapement/testing';
import { expect, test } from 'vitest';

test("getResult, ctx.result and operations use the job's own backend", async () => {
  const tasks = createTasks({ backends: { default: memory(), bulk: memory() } });
  const seen: string[] = [];
  const work = tasks.define('work', async (n: number, ctx) => {
    seen.push(`${n} ${ctx.result.backend} ${(await ctx.result.refresh()).status}`);
  });
  const [one, two] = [await work.enqueue(1), await work.using({ backend: 'bulk' }).enqueue(2)];
  expect((await work.getResult(two.id)).backend).toBe('bulk');
  expect((await tasks.getResult(two.id)).backend).toBe('bulk');
  await expect(work.getResult('none')).rejects.toBeInstanceOf(ResultNotFoundError);
  const idsOf = async (operations: Pick<typeof tasks, 'jobs'>) =>
    (await operations.jobs.list({})).items.map(({ id, backend }) => [id, backend]);
  expect([await idsOf(tasks), await idsOf(tasks.backend('bulk'))]).toEqual([[[one.id, 'default']], [[two.id, 'bulk']]]);
  await tasks.backend('bulk').queues.pause('default');
  expect((await tasks.queues.list())[0]?.paused).toBe(false);
  expect((await tasks.backend('bulk').queues.list())[0]?.paused).toBe(true);
  await tasks.backend('bulk').queues.resume('default');
  const workers = [tasks.worker(), tasks.worker({ backend: 'bulk' })];
  for (const worker of workers) await worker.start();
  await Promise.all([one.wait(), two.wait()]);
  expect(seen.sort()).toEqual(['1 default running', '2 bulk running']);
  expect(await tasks.backend('bulk').workers.list()).toHaveLength(1);
  expect(() => tasks.backend('bluk')).toThrow(/did you mean bulk/);
  await tasks.close();
});

test('jobs keep their backend in a simulation', async () => {
  const tasks = createTasks({ backends: { default: memory(), bulk: memory() } });
  const seen: string[] = [];
  const work = tasks.define('work', (n: number, ctx) => void seen.push(`${n} ${ctx.result.backend}`));
  await using sim = await simulate(tasks);
  await work.enqueue(1);
  await work.using({ backend: 'bulk' }).enqueue(2);
  await sim.runUntilIdle();
  expect(seen.sort()).toEqual(['1 default', '2 bulk']);
});
