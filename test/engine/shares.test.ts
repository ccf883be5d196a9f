import { ConfigError, createTasks, memory } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { describe, expect, test } from 'vitest';
import { owed } from '../../src/engine/shares.ts';

describe('the slots of weighted queues', () => {
  const weights = new Map([
    ['mail', 3],
    ['bulk', 1],
  ]);
  test.each([
    [
      'nothing runs',
      {},
      [
        ['mail', 15],
        ['bulk', 5],
      ],
    ],
    ['one uses more than its share', { bulk: 20 }, [['mail', 15]]],
    ['both use their shares', { mail: 15, bulk: 5 }, []],
    [
      'the queue that uses less of its share comes first',
      { mail: 9, bulk: 1 },
      [
        ['bulk', 4],
        ['mail', 6],
      ],
    ],
  ] as const)('%s', (_, running, expected) => {
    const shares = owed(weights, 20, new Map(Object.entries(running)));
    expect(shares.map(({ queue, slots }) => [queue, slots])).toEqual(expected);
  });

  test('are at least one for each, however small its weight', () => {
    expect(
      owed(
        new Map([
          ['a', 1_000],
          ['b', 1],
        ]),
        5,
        new Map([['a', 5]]),
      ),
    ).toEqual([{ queue: 'b', slots: 1 }]);
  });
});

test.each([
  ['memory', () => memory()],
  ['sqlite', () => sqlite({ file: ':memory:' })],
])('a queue waits for one slot of its share, not for other queues: %s', async (_, backend) => {
  const tasks = createTasks({ backend: backend() });
  const started: string[] = [];
  const ends: (() => void)[] = [];
  const job = tasks.define('job', (name: string) => {
    started.push(name);
    return new Promise<void>((resolve) => ends.push(resolve));
  });
  await job.using({ queue: 'bulk' }).enqueueMany(Array.from({ length: 50 }, (_, i) => `bulk ${i}`));
  await tasks.worker({ concurrency: 4, queues: { mail: 1, bulk: 1 } }).start();
  // Slots that the other queue leaves free are used.
  await expect.poll(() => started).toEqual(['bulk 0', 'bulk 1', 'bulk 2', 'bulk 3']);
  await job.using({ queue: 'mail' }).enqueueMany(['mail 0', 'mail 1', 'mail 2']);
  for (const expected of ['mail 0', 'mail 1', 'bulk 4', 'mail 2']) {
    const before = started.length;
    if (expected === 'mail 2') for (let i = 0; i < 2; i++) ends.shift()?.();
    ends.shift()?.();
    await expect.poll(() => started.length).toBeGreaterThan(before);
    expect(started.slice(before)).toContain(expected);
  }
  for (let left = 60; left > 0; left--) {
    ends.shift()?.();
    await new Promise(setImmediate);
  }
  const drain = setInterval(() => ends.shift()?.(), 1);
  await tasks.close();
  clearInterval(drain);
});

test('weights are greater than 0', () => {
  const tasks = createTasks({ backend: memory() });
  expect(() => tasks.worker({ queues: { mail: 0 } })).toThrow(ConfigError);
  expect(() => tasks.worker({ queues: { mail: 0 } })).toThrow(/queues\.mail: expected a weight greater than 0/);
});
