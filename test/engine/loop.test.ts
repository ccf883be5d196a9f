import { expect, test } from 'vitest';
import { Loop } from '../../src/engine/loop.ts';
import { Choices } from '../../src/testing/choices.ts';
import { Process } from '../../src/testing/owners.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';

function loopOf(step: (now: number) => Promise<number> | number) {
  const clock = new VirtualClock({ now: 0, choices: new Choices(undefined), realBudgetMs: 1_000 });
  const at: number[] = [];
  const told: string[] = [];
  const loop = new Loop(
    clock,
    async () => {
      at.push(clock.now());
      return step(clock.now());
    },
    (_, first) => told.push(first ? 'failing' : 'still failing'),
    () => told.push('recovered'),
  );
  return { clock, loop, at, told };
}

test('a loop runs when its step asks, and when it is woken', async () => {
  const { clock, loop, at } = loopOf((now) => now + 1_000);
  loop.start();
  await clock.advanceTo(2_500);
  loop.wake();
  loop.wake();
  await clock.settle();
  loop.wakeAt(2_600);
  loop.wakeAt(9_000);
  await clock.advanceTo(4_000);
  expect(at).toEqual([0, 1_000, 2_000, 2_500, 2_600, 3_600]);
  await loop.stop();
  loop.wake();
  await clock.advanceTo(60_000);
  expect(at).toHaveLength(6);
});

test('a failing step is retried after 100 ms, doubling up to 3 s, and reported once', async () => {
  const { clock, loop, at, told } = loopOf((now) => {
    if (now < 20_000) throw new Error('no');
    return Number.POSITIVE_INFINITY;
  });
  loop.start();
  await clock.advanceTo(60_000);
  expect(at).toEqual([0, 100, 300, 700, 1_500, 3_100, 6_100, 9_100, 12_100, 15_100, 18_100, 21_100]);
  expect(told.filter((what) => what !== 'still failing')).toEqual(['failing', 'recovered']);
});

test('steps never overlap, and stop waits for the running one', async () => {
  let running = 0;
  const release = Promise.withResolvers<void>();
  const { clock, loop, at } = loopOf(async () => {
    expect(++running).toBe(1);
    await release.promise;
    running -= 1;
    return 0;
  });
  loop.start();
  const driven = clock.settle();
  await new Promise((resolve) => setImmediate(resolve));
  loop.wake();
  let stopped = false;
  const stop = loop.stop().then(() => {
    stopped = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(stopped).toBe(false);
  release.resolve();
  await Promise.all([driven, stop]);
  expect(at).toHaveLength(1);
});

test('a timer is due after the clock is set past it, whatever wakes the loop', async () => {
  const clock = new VirtualClock({ now: 0, choices: new Choices(undefined), realBudgetMs: 1_000 });
  const process = new Process('w0');
  const own = clock.forProcess(process);
  const at: number[] = [];
  const loop = new Loop(
    own,
    async () => {
      at.push(own.now());
      return own.now() + 60_000;
    },
    () => {},
    () => {},
  );
  loop.start();
  await clock.advanceTo(1_000);
  process.skewMs = 3_600_000;
  loop.wakeAt(own.now() + 120_000);
  await clock.settle();
  expect(at).toEqual([0, 3_601_000]);
});
