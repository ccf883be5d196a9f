/** `toHaveRun` and `toHaveRunAt`: the count and times of attempts. */
import { createTasks, fixed, memory, snooze, task } from 'escapement';
import { currentSimulation, simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { describe, expect, test as plain } from 'vitest';
import { messageOf } from './messages.ts';

const tasks = createTasks({ backend: memory() });
const flaky = tasks.define('flaky', {
  retry: { maxAttempts: 3, backoff: fixed('90m') },
  run: (_: { until: number }, ctx) => {
    if (ctx.attempt < _.until) throw new RangeError(`attempt ${ctx.attempt}\nfails`);
  },
});
const poll = tasks.define('poll', (until: string, ctx) => (ctx.now().toISOString() < until ? snooze('250ms') : undefined));
const idle = tasks.define('idle', () => {});
const portable = task('portable', () => {});
const test = testTasks(tasks, { now: '2026-03-28T00:00:00Z' });

describe('toHaveRun', () => {
  test('counts every attempt that started, on the task or the simulation', async ({ sim }) => {
    await flaky.enqueue({ until: 3 });
    expect(flaky).not.toHaveRun();
    await sim.runUntilIdle();
    expect(flaky).toHaveRun();
    expect(flaky).toHaveRun(3);
    expect(flaky).not.toHaveRun(1);
    expect(sim).toHaveRun(flaky);
    expect(sim).toHaveRun(flaky, 3);
    expect(sim).not.toHaveRun(idle);
    expect(idle).toHaveRun(0);
  });

  test('lists the attempts', async ({ sim }) => {
    await flaky.enqueue({ until: 2 });
    await sim.runUntilIdle();
    expect(messageOf(() => expect(flaky).toHaveRun(1))).toMatchInlineSnapshot(`
      "expect(flaky).toHaveRun(1)

      Expected flaky to have run 1 time. Attempts started 2 times:

        +0s on w0, attempt 1: failed: RangeError: attempt 1
        +1h 30m on w0, attempt 2: successful"
    `);
    expect(messageOf(() => expect(sim).not.toHaveRun(flaky))).toMatchInlineSnapshot(`
      "expect(sim).not.toHaveRun(flaky)

      Expected flaky not to have run. Attempts started 2 times:

        +0s on w0, attempt 1: failed: RangeError: attempt 1
        +1h 30m on w0, attempt 2: successful"
    `);
    expect(messageOf(() => expect(sim).not.toHaveRun(flaky, 2))).toMatchInlineSnapshot(`
      "expect(sim).not.toHaveRun(flaky, 2)

      Expected flaky to have run any number of times except 2. Attempts started 2 times:

        +0s on w0, attempt 1: failed: RangeError: attempt 1
        +1h 30m on w0, attempt 2: successful"
    `);
    expect(messageOf(() => expect(idle).toHaveRun())).toMatchInlineSnapshot(`
      "expect(idle).toHaveRun()

      Expected idle to have run. No attempt has started."
    `);
  });

  test('truncates a long list of attempts', async ({ sim }) => {
    await poll.enqueue('2026-03-28T00:01:00.000Z');
    await sim.runUntilIdle();
    const message = messageOf(() => expect(poll).toHaveRun(1));
    expect(message).toContain('Attempts started 241 times');
    expect(message.split('\n')).toHaveLength(25);
    expect(message).toMatch(/ {2}and 221 more$/);
  });
});

describe('toHaveRunAt', () => {
  test('accepts offsets, ISO instants, dates and Temporal instants', async ({ sim }) => {
    await flaky.enqueue({ until: 3 });
    await sim.runUntilIdle();
    expect(flaky).toHaveRunAt(['+0s', '+90m', '+3h']);
    expect(flaky).toHaveRunAt(['+0s', '+1h 30m', '+0.125d']);
    expect(flaky).toHaveRunAt(['2026-03-28T00:00:00Z', '2026-03-28T02:30:00+01:00', '2026-03-28T03:00:00.000Z']);
    expect(flaky).toHaveRunAt([sim.startedAt, { epochMilliseconds: sim.startedAt.getTime() + 5_400_000 }, sim.now]);
    expect(flaky).not.toHaveRunAt(['+0s', '+90m']);
    expect(flaky).not.toHaveRunAt([]);
    expect(idle).toHaveRunAt([]);
  });

  test('is exact to the millisecond', async ({ sim }) => {
    await poll.enqueue('2026-03-28T00:00:00.500Z');
    await sim.runUntilIdle();
    expect(poll).toHaveRunAt(['+0s', '+250ms', '+500ms']);
    expect(poll).not.toHaveRunAt(['+0s', '+250ms', '+501ms']);
  });

  test('shows a diff of the instants', async ({ sim }) => {
    await flaky.enqueue({ until: 3 });
    await sim.runUntilIdle();
    expect(messageOf(() => expect(flaky).toHaveRunAt(['+0s', '+1h', '+3h']))).toMatchInlineSnapshot(`
      "expect(flaky).toHaveRunAt(moments)

      Attempts of flaky did not start at the expected moments (offsets from 2026-03-28T00:00:00.000Z):

      - Expected
      + Received

        [
          "+0s",
      -   "+1h",
      +   "+1h 30m",
          "+3h",
        ]

        +0s on w0, attempt 1: failed: RangeError: attempt 1
        +1h 30m on w0, attempt 2: failed: RangeError: attempt 2
        +3h on w0, attempt 3: successful"
    `);
    expect(messageOf(() => expect(flaky).not.toHaveRunAt(['+0s', '+90m', '+3h']))).toMatchInlineSnapshot(`
      "expect(flaky).not.toHaveRunAt(moments)

      Expected attempts of flaky not to have started at exactly these moments:

        +0s on w0, attempt 1: failed: RangeError: attempt 1
        +1h 30m on w0, attempt 2: failed: RangeError: attempt 2
        +3h on w0, attempt 3: successful"
    `);
  });

  test('rejects invalid instants', () => {
    const expected =
      "expected an offset from the start of the simulation such as '+10m' or '+1h 30m', a Date, an ISO string with offset, or a local time with its zone such as '2026-03-29T03:00[Europe/Berlin]'";
    for (const wrong of ['10m', '+10', '+10 minutes', '+', '2026-03-28', '2026-03-28T00:00:00']) {
      expect(messageOf(() => expect(idle).not.toHaveRunAt(['+0s', wrong]))).toBe(
        `Invalid moment: toHaveRunAt()[1]: ${expected}, got ${wrong}`,
      );
    }
    // @ts-expect-error a number could be an instant or a duration
    expect(messageOf(() => expect(idle).not.toHaveRunAt([600_000]))).toBe(`Invalid moment: toHaveRunAt()[0]: ${expected}, got 600000`);
    // @ts-expect-error not an array
    expect(messageOf(() => expect(idle).toHaveRunAt('+0s'))).toBe("toHaveRunAt takes an array of moments, such as ['+0s', '+10m']");
  });
});

describe('matchers on a task', () => {
  plain('fail when no simulation is running', () => {
    const message = 'needs a running simulation; use the test of testTasks(tasks), or simulate(tasks).';
    expect(messageOf(() => expect(idle).toHaveRun())).toBe(`toHaveRun ${message}`);
    expect(messageOf(() => expect(idle).not.toHaveRunAt([]))).toBe(`toHaveRunAt ${message}`);
  });

  plain('use the running simulation, however it was started', async () => {
    const sim = await simulate(tasks);
    try {
      await idle.enqueue();
      await sim.advance('1h');
      expect(idle).toHaveRunAt(['+0s']);
    } finally {
      await sim.end();
    }
    expect(currentSimulation()).toBeUndefined();
    expect(sim).toHaveRun(idle, 1);
  });

  test('reject a task of another application, and a portable task that is not registered', () => {
    expect(messageOf(() => expect(portable).not.toHaveRun())).toBe(
      'toHaveRun: portable is not a task of the simulated application, whose tasks are flaky, poll, idle. ' +
        'Simulate the application that defines it, or register a portable task with tasks.register().',
    );
  });

  test('reject values that are not tasks', ({ sim }) => {
    // @ts-expect-error a number is not a task
    expect(messageOf(() => expect(42).toHaveRun())).toBe('toHaveRun expects a task, as returned by tasks.define(); got 42');
    // @ts-expect-error a task is missing
    expect(messageOf(() => expect(sim).toHaveRun())).toBe('toHaveRun expects a task, as returned by tasks.define(); got undefined');
    expect(messageOf(() => expect(idle).toHaveRun(-1))).toBe('Invalid arguments of toHaveRun(): times: expected a whole number, got -1');
  });
});
