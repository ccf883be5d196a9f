/** `testTasks`: every test runs simulated, whether or not it uses `sim`, and tests are isolated from each other. */
import timers, { setTimeout as realSleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createTasks, memory, snooze } from 'escapement';
import { currentSimulation, type Simulation, simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { afterEach, beforeEach, describe, expect, test as plain, vi } from 'vitest';

const realNow = Date.now();
const sleep = realSleep;
const tasks = createTasks({ backend: memory() });
const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
const roll = tasks.define('roll', () => Math.random());
const test = testTasks(tasks, { seed: 7, workers: 2 });

describe('the fixture sim', () => {
  test('is a simulation of the tasks, with the given options', ({ sim }) => {
    expect(sim.seed).toBe(7);
    expect(sim.worker(1).alive).toBe(true);
    expect(() => sim.worker(2)).toThrow('worker 2 does not exist');
    expect(currentSimulation()).toBe(sim);
  });

  test('is set up for a test that does not name it', async () => {
    expect(Date.now()).toBe(Date.parse('2026-01-01T00:00:00Z'));
    const result = await greet.enqueue('ada');
    await currentSimulation()?.drain();
    await expect(result).toHaveSucceeded({ returnValue: 'Hello, ada' });
  });

  test('is new for each test', ({ sim }) => {
    expect(sim.jobs()).toEqual([]);
    expect(sim.now).toEqual(sim.startedAt);
  });

  const drawn: unknown[] = [];
  for (const time of ['first', 'second']) {
    test(`repeats the same choices: the ${time}`, async ({ sim }) => {
      const result = await roll.enqueue();
      await sim.drain();
      await expect(result).toHaveSucceeded();
      drawn.push(result.returnValue);
      expect(new Set(drawn).size).toBe(1);
    });
  }

  test.for([1, 2])('is available in parametrized tests: %i', async (count, { sim }) => {
    await greet.enqueueMany(Array.from({ length: count }, () => 'ada'));
    await sim.drain();
    expect(greet).toHaveRun(count);
  });

  const chatty = test.extend('greeted', async ({ sim }) => {
    await greet.enqueue('from a fixture');
    await sim.drain();
    return sim.jobs({ task: greet }).length;
  });
  chatty('can be used by other fixtures', ({ greeted, sim }) => {
    expect(greeted).toBe(1);
    expect(sim).toHaveEnqueued(greet, 'from a fixture', { status: 'successful' });
  });

  plain('has ended after the test', () => {
    expect(currentSimulation()).toBeUndefined();
    expect(Date.now()).toBeGreaterThanOrEqual(realNow);
  });
});

describe('hooks around a test', () => {
  const seen: (number | undefined)[] = [];
  beforeEach(() => {
    seen.push(currentSimulation()?.seed);
  });
  afterEach(() => {
    seen.push(currentSimulation()?.jobs().length);
  });

  describe('registered with test.beforeEach()', () => {
    test.beforeEach(async ({ sim }) => {
      await greet.enqueue(`at ${sim.now.toISOString()}`);
    });

    test('run simulated too', ({ sim }) => {
      expect(sim).toHaveEnqueued(greet, 'at 2026-01-01T00:00:00.000Z');
      expect(seen).toEqual([7]);
    });
  });

  plain('until the end of the test', () => {
    expect(seen.slice(0, 2)).toEqual([7, 1]);
  });
});

describe('a simulation in Vitest', () => {
  plain('is rejected while fake timers are enabled', async () => {
    vi.useFakeTimers();
    try {
      await expect(simulate(tasks)).rejects.toThrow(
        'fake timers are already enabled (vi.useFakeTimers(), vi.setSystemTime(), mock.timers or @sinonjs/fake-timers); a simulation has its own virtual clock. ' +
          'Disable them first, for example with vi.useRealTimers() or mock.timers.reset(), or pass globals: false to leave the globals unchanged.',
      );
    } finally {
      vi.useRealTimers();
    }
    expect(currentSimulation()).toBeUndefined();
  });

  plain('is accepted with globals: false', async () => {
    vi.useFakeTimers({ now: 0 });
    try {
      const sim = await simulate(tasks, { globals: false });
      await sim.advance('1h');
      expect(Date.now()).toBe(0);
      await sim.end();
    } finally {
      vi.useRealTimers();
    }
  });

  test('is the only one: a second is rejected', async () => {
    await expect(simulate(tasks)).rejects.toThrow('another simulation is running in this process; end it first (await sim.end())');
  });

  test('keeps waitFor, waitUntil and poll in real time, and they do not advance virtual time', async ({ sim }) => {
    const before = sim.now;
    let calls = 0;
    await vi.waitFor(() => expect(++calls).toBe(3), { interval: 5 });
    await vi.waitUntil(() => ++calls > 5, { interval: 5 });
    await expect.poll(() => ++calls, { interval: 5 }).toBeGreaterThan(7);
    expect(sim.now).toEqual(before);
  });

  test('does not block a wait that times out', async () => {
    await expect(vi.waitFor(() => Promise.reject(new Error('not yet')), { interval: 5, timeout: 20 })).rejects.toThrow('not yet');
  });

  test('prints its timeline in snapshots', async ({ sim }) => {
    await greet.using({ runAfter: '1h' }).enqueue('ada');
    await sim.runUntilIdle();
    expect(sim.timeline()).toMatchInlineSnapshot(`
      +0s  w0  started
      +0s  w1  started
      +0s      enqueued    greet#1 due in 1h
      +1h  w0  started     greet#1 attempt 1
      +1h  w0  successful  greet#1 attempt 1
    `);
    expect({ timeline: sim.timeline() }).toMatchInlineSnapshot(`
      {
        "timeline": 
          +0s  w0  started
          +0s  w1  started
          +0s      enqueued    greet#1 due in 1h
          +1h  w0  started     greet#1 attempt 1
          +1h  w0  successful  greet#1 attempt 1,
      }
    `);
  });

  testTasks(tasks, { workers: 0 })('prints an empty timeline', ({ sim }) => {
    expect(sim.timeline()).toMatchInlineSnapshot(`(nothing has happened)`);
  });
});

describe('the README example', () => {
  const inbox = {
    ready: new Map<string, number>(),
    readyAt: (from: Date, minutes: number) => inbox.ready.set('ada', from.getTime() + minutes * 60_000),
    isReady: (userId: string) => (inbox.ready.get(userId) ?? 0) <= Date.now(),
  };
  const app = createTasks({ backend: memory(), queues: { default: {}, mail: {} } });
  const sendWelcome = app.define('mail.welcome', { queue: 'mail', run: (_: { userId: string; subject: string }) => {} });
  const digest = app.define('digest', async ({ userId }: { userId: string }) => {
    if (!inbox.isReady(userId)) return snooze('10m');
    await sendWelcome.using({ runAfter: '1h' }).enqueue({ userId, subject: 'Your digest' });
    return undefined;
  });

  testTasks(app)('a digest waits for the inbox', async ({ sim }) => {
    inbox.readyAt(sim.now, 25);
    const result = await digest.enqueue({ userId: 'ada' });
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ attempts: 1 });
    expect(sim).toHaveEnqueued(sendWelcome, { userId: 'ada' }, { in: '1h', queue: 'mail' });
    expect(digest).toHaveRunAt(['+0s', '+10m', '+20m', '+30m']);
    expect(sim.timeline()).toMatchInlineSnapshot(`
      +0s      w0  started
      +0s          enqueued    digest#1
      +0s      w0  started     digest#1 attempt 1
      +0s      w0  snoozed     digest#1 attempt 1, again in 10m
      +10m     w0  started     digest#1 attempt 1
      +10m     w0  snoozed     digest#1 attempt 1, again in 10m
      +20m     w0  started     digest#1 attempt 1
      +20m     w0  snoozed     digest#1 attempt 1, again in 10m
      +30m     w0  started     digest#1 attempt 1
      +30m         enqueued    mail.welcome#1 due in 1h
      +30m     w0  successful  digest#1 attempt 1
      +1h 30m  w0  started     mail.welcome#1 attempt 1
      +1h 30m  w0  successful  mail.welcome#1 attempt 1
    `);
  });
});

plain('real time continues after all of them', async () => {
  const before = performance.now();
  await sleep(2);
  expect(performance.now()).toBeGreaterThan(before);
});

describe('a test that waits for a timer without advancing time', () => {
  const test = testTasks(createTasks({ backend: memory() }));
  const told =
    /^the test waits for a timer of 1m, set at .*fixture\.test\.ts.*, but virtual time stands still; drive it with await sim\.advance\(60000\)/;

  test('fails with advice, however it waits', async ({ sim }) => {
    const waits = [new Promise((resolve) => setTimeout(resolve, 60_000)), timers.setTimeout(60_000), promisify(setTimeout)(60_000)];
    const ends = await Promise.allSettled(waits);
    for (const end of ends) expect((end as PromiseRejectedResult).reason.message).toMatch(told);
    expect(sim.now).toEqual(sim.startedAt);
  });

  test('is not confused with a test that advances time', async ({ sim }) => {
    const waited = new Promise((resolve) => setTimeout(() => resolve('late'), 60_000));
    await sim.advance('1m');
    expect(await waited).toBe('late');
  });
});

plain('a test that calls simulate() fails with the same advice', async () => {
  await using _sim = await simulate(createTasks({ backend: memory() }));
  await expect(timers.setTimeout(60_000)).rejects.toThrow(/the test waits for a timer of 1m, set at .*, but virtual time stands still/);
});

plain('an unawaited call is named by the next call, once', async () => {
  const tasks = createTasks({ backend: memory() });
  const slow = tasks.define('slow', (_: void, ctx) => ctx.sleep('1h'));
  for (const misuse of [(sim: Simulation) => sim.drain(), async () => (await slow.enqueue()).wait()]) {
    const run = async () => {
      await using sim = await simulate(tasks);
      await slow.enqueue();
      void sim.runUntilIdle();
      await misuse(sim);
    };
    await expect(run()).rejects.toThrow(/was called before sim\.runUntilIdle\(\) had finished; write: await sim\.runUntilIdle\(…\)$/);
  }
});

plain('an unawaited call is named when the simulation ends', async () => {
  const tasks = createTasks({ backend: memory() });
  const slow = tasks.define('slow', (_: void, ctx) => ctx.sleep('1h'));
  const sim = await simulate(tasks);
  await slow.enqueue();
  void sim.runUntilIdle();
  await expect(sim.end()).rejects.toThrow(
    'sim.runUntilIdle() was not awaited: the simulation ended before it had finished. Write: await sim.runUntilIdle(…)',
  );
});
