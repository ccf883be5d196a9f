/** Operations on many jobs: what they refuse, and that they end in virtual time too. */
import { ConfigError, createTasks, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import { expect, test } from 'vitest';

const anything = (value: unknown) => value as never;

test.each<[string, object, RegExp]>([
  ['a task that has no name', { task: {} }, /task: expected a task, or its name/],
  ['a task that is null', { task: null }, /task: expected a task, or its name/],
  ['a misspelt status', { status: 'finshed' }, /status: expected one of .*, got "?'?finshed/],
  ['a misspelt status among others', { status: ['failed', 'runing'] }, /did you mean running/],
  ['a queue that is a number', { queue: 5 }, /queue: expected the name of a queue, got 5/],
  ['a schedule that is none', { schedule: {} }, /schedule: expected the name of a schedule/],
  ['a tag that is an array', { tag: ['a'] }, /tag: expected a tag/],
  ['ids that are one id', { ids: 'a' }, /ids: expected an array of ids/],
])('%s selects nothing: it is refused', async (_, selection, message) => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', () => {});
  const result = await job.enqueue();
  for (const operation of [tasks.jobs.list, tasks.jobs.cancel, tasks.jobs.retry]) {
    const refused = await operation(anything(selection)).then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
    expect(refused).toBeInstanceOf(ConfigError);
    expect((refused as Error).message).toMatch(message);
  }
  expect((await result.refresh()).status).toBe('ready');
});

test.each<[unknown, RegExp]>([
  [{ olderThan: 0, queue: 'a' }, /queue: expected one of olderThan, status/],
  [{ olderThan: 0, status: 'ready' }, /status: expected one of successful, failed, cancelled/],
  [{ olderThan: 0, status: ['failed'] }, /status: expected one of/],
  [{ olderThan: 'never' }, /olderThan: expected/],
  [{}, /olderThan: expected/],
  [undefined, /olderThan: expected/],
])('prune(%j) deletes nothing', async (options, message) => {
  const tasks = createTasks({ backend: memory() });
  await expect(tasks.jobs.prune(anything(options))).rejects.toThrow(message);
});

test('a cursor that is none is refused', async () => {
  const tasks = createTasks({ backend: memory() });
  for (const after of ['x y', '', 5])
    await expect(tasks.jobs.list({ after: anything(after) })).rejects.toThrow(/after: expected the cursor/);
});

test('thousands are cancelled and pruned in a simulation, by a test and by a task', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', (_: number) => {});
  const cleaned: number[] = [];
  const clean = tasks.define('clean', async (_: void, ctx) => {
    cleaned.push(await tasks.jobs.cancel({ task: job }));
    await ctx.sleep(1);
    cleaned.push(await tasks.jobs.prune({ olderThan: 0 }));
  });
  await using sim = await simulate(tasks);
  const enqueue = () => job.using({ runAfter: '1d' }).enqueueMany(Array.from({ length: 2_500 }, (_, n) => n));
  await enqueue();
  expect(await tasks.jobs.cancel()).toBe(2_500);
  await sim.advance(1);
  expect(await tasks.jobs.prune({ olderThan: 0 })).toBe(2_500);
  await enqueue();
  await clean.enqueue();
  await sim.advance('1m');
  expect(cleaned).toEqual([2_500, 2_500]);
});
