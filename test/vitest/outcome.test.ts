/** The matchers on a TaskResult: they refresh it, and report the job's state when it is not the expected one. */
import { cancel, createTasks, fixed, memory, PermanentError, snooze } from 'escapement';
import { simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { describe, expect, test as plain } from 'vitest';
import { messageFrom } from './messages.ts';

const tasks = createTasks({ backend: memory() });
const flaky = tasks.define('flaky', {
  retry: { maxAttempts: 3, backoff: fixed('10s') },
  run: ({ until }: { until: number }, ctx) => {
    if (ctx.attempt < until) throw new RangeError(`attempt ${ctx.attempt} fails\nfor a reason`);
    return { sent: true, to: ['ada', 'eva'] };
  },
});
const broken = tasks.define('broken', () => {
  throw new PermanentError('the card was declined');
});
const sleepy = tasks.define('sleepy', (times: number, ctx) => (ctx.now().getSeconds() < times ? snooze('1s') : null));
const long = tasks.define('long', async (_: undefined, ctx) => ctx.sleep('1h'));
const moot = tasks.define('moot', () => cancel('unsubscribed'));
const test = testTasks(tasks);

describe('toHaveSucceeded', () => {
  test('refreshes the result, and checks attempts and value', async ({ sim }) => {
    const result = await flaky.enqueue({ until: 2 });
    await expect(result).not.toHaveSucceeded();
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded();
    expect(result.status).toBe('successful');
    await expect(result).toHaveSucceeded({ attempts: 2, returnValue: { sent: true } });
    await expect(result).toHaveSucceeded({ returnValue: { to: ['ada', expect.any(String)] } });
    await expect(result).not.toHaveSucceeded({ attempts: 1 });
    await expect(result).not.toHaveSucceeded({ returnValue: { sent: false } });
    // The previous name of the option.
    await expect(result).toHaveSucceeded({ value: { sent: true } });
    await expect(result).not.toHaveSucceeded({ value: { sent: false } });
    await expect(result).not.toHaveFailed();
  });

  test('shows what differs', async ({ sim }) => {
    const result = await flaky.enqueue({ until: 2 });
    await sim.runUntilIdle();
    expect(await messageFrom(expect(result).toHaveSucceeded({ attempts: 1, returnValue: { to: ['ada', 'bob'] } }))).toMatchInlineSnapshot(`
      "expect(result).toHaveSucceeded({"attempts": 1, "returnValue": {"to": ["ada", "bob"]}})

      Expected flaky#1 to have succeeded; it succeeded at +10s after 2 attempts.

        attempts: expected 1, got 2

        returnValue:
          - Expected
          + Received

            {
              "to": [
                "ada",
          -     "bob",
          +     "eva",
              ],
            }

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails"
    `);
    expect(await messageFrom(expect(result).not.toHaveSucceeded())).toMatchInlineSnapshot(`
      "expect(result).not.toHaveSucceeded()

      Expected flaky#1 not to have succeeded; it succeeded at +10s after 2 attempts.

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails"
    `);
  });

  test('shows the state of a job that did not succeed', async ({ sim }) => {
    const results = {
      retrying: await flaky.enqueue({ until: 9 }),
      scheduled: await flaky.using({ runAfter: '1h' }).enqueue({ until: 1 }),
      running: await long.enqueue(),
      cancelled: await moot.enqueue(),
      failed: await broken.enqueue(),
    };
    await sim.drain();
    const messages: string[] = [];
    for (const result of Object.values(results)) messages.push(await messageFrom(expect(result).toHaveSucceeded()));
    expect(messages.join('\n\n')).toMatchInlineSnapshot(`
      "expect(result).toHaveSucceeded()

      Expected flaky#1 to have succeeded; it will be retried at +10s after 1 attempt.

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails

      expect(result).toHaveSucceeded()

      Expected flaky#2 to have succeeded; it is scheduled, due at +1h.

      expect(result).toHaveSucceeded()

      Expected long#1 to have succeeded; it is running, attempt 1.

      expect(result).toHaveSucceeded()

      Expected moot#1 to have succeeded; it was cancelled at +0s after 1 attempt, reason: unsubscribed.

      expect(result).toHaveSucceeded()

      Expected broken#1 to have succeeded; it failed at +0s after 1 attempt, reason: permanent.

      Its errors:
        attempt 1 at +0s: PermanentError: the card was declined"
    `);
  });
});

describe('toHaveFailed', () => {
  test('checks the last error by name and message, the attempts and the reason', async ({ sim }) => {
    const [worn, declined] = [await flaky.enqueue({ until: 9 }), await broken.enqueue()];
    await sim.runUntilIdle();
    await expect(worn).toHaveFailed();
    await expect(worn).toHaveFailed({ error: 'attempt 3 fails', attempts: 3 });
    await expect(worn).toHaveFailed({ error: /^RangeError: attempt \d/ });
    await expect(worn).not.toHaveFailed({ error: 'attempt 2' });
    await expect(worn).not.toHaveFailed({ attempts: 2 });
    await expect(declined).toHaveFailed({ error: 'PermanentError', attempts: 1, reason: 'permanent' });
    await expect(declined).not.toHaveFailed({ reason: 'poisoned' });
    await expect(worn).not.toHaveSucceeded();
  });

  test('does not match a cancelled job', async ({ sim }) => {
    const result = await moot.enqueue();
    await sim.drain();
    await expect(result).not.toHaveFailed();
  });

  test('shows what differs', async ({ sim }) => {
    const result = await flaky.enqueue({ until: 9 });
    await sim.runUntilIdle();
    expect(await messageFrom(expect(result).toHaveFailed({ error: /declined/, attempts: 1, reason: 'permanent' }))).toMatchInlineSnapshot(`
      "expect(result).toHaveFailed({"attempts": 1, "error": /declined/, "reason": "permanent"})

      Expected flaky#1 to have failed; it failed at +20s after 3 attempts.

        attempts: expected 1, got 3

        reason: expected "permanent", got null

        error: expected one that matches /declined/, got "RangeError: attempt 3 fails
        for a reason"

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails
        attempt 2 at +10s: RangeError: attempt 2 fails
        attempt 3 at +20s: RangeError: attempt 3 fails"
    `);
    expect(await messageFrom(expect(result).not.toHaveFailed({ error: 'fails' }))).toMatchInlineSnapshot(`
      "expect(result).not.toHaveFailed({"error": "fails"})

      Expected flaky#1 not to have failed; it failed at +20s after 3 attempts.

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails
        attempt 2 at +10s: RangeError: attempt 2 fails
        attempt 3 at +20s: RangeError: attempt 3 fails"
    `);
  });
});

describe('toHaveRetried', () => {
  test('counts failed attempts that are followed by another', async ({ sim }) => {
    const result = await flaky.enqueue({ until: 3 });
    await expect(result).not.toHaveRetried();
    await expect(result).toHaveRetried({ times: 0 });
    await sim.drain();
    await expect(result).toHaveRetried({ times: 1 });
    await sim.runUntilIdle();
    await expect(result).toHaveRetried();
    await expect(result).toHaveRetried({ times: 2 });
    await expect(result).not.toHaveRetried({ times: 1 });
  });

  test('does not count snoozes', async ({ sim }) => {
    const result = await sleepy.enqueue(2);
    await sim.drain();
    await expect(result).not.toHaveRetried();
    await sim.runUntilIdle();
    await expect(result).toHaveRetried({ times: 0 });
  });

  test('shows the count', async ({ sim }) => {
    const result = await flaky.enqueue({ until: 2 });
    await sim.runUntilIdle();
    expect(await messageFrom(expect(result).toHaveRetried({ times: 2 }))).toMatchInlineSnapshot(`
      "expect(result).toHaveRetried({"times": 2})

      Expected flaky#1 to have been retried; it succeeded at +10s after 2 attempts.

        retries: expected 2, got 1

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails"
    `);
    expect(await messageFrom(expect(result).not.toHaveRetried())).toMatchInlineSnapshot(`
      "expect(result).not.toHaveRetried()

      Expected flaky#1 not to have been retried; it succeeded at +10s after 2 attempts.

      Its errors:
        attempt 1 at +0s: RangeError: attempt 1 fails"
    `);
  });
});

describe('toBeScheduledAt', () => {
  test('matches first attempts, retries and snoozes, by offset or instant', async ({ sim }) => {
    const later = await flaky.using({ runAfter: '1h' }).enqueue({ until: 1 });
    const [again, asleep] = [await flaky.enqueue({ until: 2 }), await sleepy.enqueue(1)];
    await sim.drain();
    await expect(later).toBeScheduledAt('+1h');
    await expect(later).toBeScheduledAt('2026-01-01T01:00:00Z');
    await expect(later).toBeScheduledAt(new Date('2026-01-01T01:00:00Z'));
    await expect(later).not.toBeScheduledAt('+2h');
    await expect(again).toBeScheduledAt('+10s');
    await expect(asleep).toBeScheduledAt('+1s');
  });

  test('does not match a job that has run', async ({ sim }) => {
    const result = await flaky.using({ runAfter: '1h' }).enqueue({ until: 1 });
    await sim.runUntilIdle();
    await expect(result).not.toBeScheduledAt('+1h');
    expect(await messageFrom(expect(result).toBeScheduledAt('+1h'))).toMatchInlineSnapshot(`
      "expect(result).toBeScheduledAt("+1h")

      Expected flaky#1 to wait for +1h (2026-01-01T01:00:00.000Z); it succeeded at +1h after 1 attempt."
    `);
  });

  test('shows both instants', async ({ sim }) => {
    const result = await flaky.using({ runAfter: '1h' }).enqueue({ until: 1 });
    await sim.advance('10m');
    expect(await messageFrom(expect(result).toBeScheduledAt('+50m'))).toMatchInlineSnapshot(`
      "expect(result).toBeScheduledAt("+50m")

      Expected flaky#1 to wait for +50m (2026-01-01T00:50:00.000Z); it is scheduled, due at +1h.

        due: expected +50m (2026-01-01T00:50:00.000Z), got +1h (2026-01-01T01:00:00.000Z)"
    `);
    expect(await messageFrom(expect(result).not.toBeScheduledAt('+1h'))).toMatchInlineSnapshot(`
      "expect(result).not.toBeScheduledAt("+1h")

      Expected flaky#1 not to wait for +1h (2026-01-01T01:00:00.000Z); it is scheduled, due at +1h."
    `);
    // @ts-expect-error a number could be an instant or a duration
    expect(await messageFrom(expect(result).not.toBeScheduledAt(3_600_000))).toMatch(/^Invalid moment: toBeScheduledAt\(\): /);
  });
});

describe('matchers on a result', () => {
  test('reject a promise that was not awaited', async () => {
    const promise = flaky.enqueue({ until: 1 });
    // @ts-expect-error a promise is not a result
    expect(await messageFrom(expect(promise).toHaveSucceeded())).toBe(
      'toHaveSucceeded expects a TaskResult, as returned by await task.enqueue(); got a promise; await it first',
    );
    await expect(promise).resolves.not.toHaveSucceeded();
  });

  test('reject options that assert nothing', async () => {
    const result = await flaky.enqueue({ until: 1 });
    // @ts-expect-error there is no such option
    expect(await messageFrom(expect(result).not.toHaveSucceeded({ attempt: 1 }))).toBe(
      'Invalid arguments of toHaveSucceeded(): attempt: expected one of attempts, returnValue, value, got an unknown option',
    );
    // @ts-expect-error there is no such option
    expect(await messageFrom(expect(result).not.toHaveRetried({ attempts: 1 }))).toBe(
      'Invalid arguments of toHaveRetried(): attempts: expected only times, got an unknown option',
    );
  });

  plain("work without a simulation, on the job's own backend", async () => {
    const app = createTasks();
    const now = app.define('now', () => 'done');
    await expect(await now.enqueue()).toHaveSucceeded({ returnValue: 'done' });
    const result = await now.enqueue();
    expect(await messageFrom(expect(result).toHaveFailed())).toContain(
      `Expected job ${result.id} of now to have failed; it succeeded at 20`,
    );
    expect(await messageFrom(expect(result).toBeScheduledAt('+1h'))).toMatch(/^toBeScheduledAt with an offset needs a running sim/);
  });

  plain('reject results of a simulation that has ended', async () => {
    const sim = await simulate(tasks);
    const result = await flaky.enqueue({ until: 1 });
    await sim.end();
    expect(await messageFrom(expect(result).toHaveSucceeded())).toMatch(/this simulation has ended/);
  });
});
