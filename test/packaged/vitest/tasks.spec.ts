/** Fixture, matchers, snapshots and explorations, with each Vitest version in the peer range. */
import { createTasks, memory, snooze } from 'escapement';
import { simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { afterEach, beforeEach, describe, expect } from 'vitest';

const tasks = createTasks({ backend: memory() });
const mail = tasks.define('mail', {
  retry: { maxAttempts: 3, backoff: '10s' },
  run: async ({ to }: { to: string }, ctx) => {
    if (ctx.attempt === 1) throw new Error('503');
    return { sent: to };
  },
});
const digest = tasks.define('digest', async (_: void, ctx) =>
  ctx.now().getMinutes() < 1 ? snooze('1m') : mail.enqueue({ to: 'ada' }).then(({ id }) => id),
);
const test = testTasks(tasks, { seed: 7 });

describe('the fixture', () => {
  beforeEach(({ task }) => expect(task.name).not.toBe(''));
  afterEach(({ task }) => expect(task.name).not.toBe(''));

  test('simulates tasks and checks outcomes', async ({ sim }) => {
    const result = await mail.enqueue({ to: 'ada' });
    expect(sim).toHaveEnqueued(mail, { to: 'ada' }, { times: 1 });
    expect(sim).not.toHaveEnqueued(mail, { to: 'eva' });
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ attempts: 2, returnValue: { sent: 'ada' } });
    await expect(result).not.toHaveFailed();
    await expect(result).toHaveRetried({ times: 1 });
    expect(mail).toHaveRun(2);
    expect(sim).toHaveRun(mail, 2);
    expect(mail).toHaveRunAt(['+0s', '+10s']);
  });

  test('creates a simulation for each test', async ({ sim }) => {
    const result = await digest.using({ runAfter: '1h' }).enqueue();
    await expect(result).toBeScheduledAt('+1h');
    await sim.runUntilIdle();
    expect(sim.timeline()).toMatchInlineSnapshot(`
      +0s         w0  started
      +0s             enqueued    digest#1 due in 1h
      +1h         w0  started     digest#1 attempt 1
      +1h         w0  snoozed     digest#1 attempt 1, again in 1m
      +1h 1m      w0  started     digest#1 attempt 1
      +1h 1m          enqueued    mail#1
      +1h 1m      w0  successful  digest#1 attempt 1
      +1h 1m      w0  started     mail#1 attempt 1
      +1h 1m      w0  retrying    mail#1 attempt 1: Error: 503; again in 10s
      +1h 1m 10s  w0  started     mail#1 attempt 2
      +1h 1m 10s  w0  successful  mail#1 attempt 2
    `);
  });

  test('simulates even if sim is not used', async () => {
    await expect(simulate(tasks)).rejects.toThrow(/another simulation is running/);
  });

  test('reports what did not match', async ({ sim }) => {
    const result = await mail.enqueue({ to: 'ada' });
    await sim.runUntilIdle();
    await expect(expect(result).toHaveFailed()).rejects.toThrow(/Expected mail#1 to have failed; it succeeded at \+10s/);
    expect(() => expect(sim).toHaveEnqueued(mail, { to: 'eva' })).toThrow(/eva/);
  });

  test.explore('explores', { seeds: 3 }, async () => {
    const result = await mail.enqueue({ to: 'ada' });
    return () => expect(result.id).not.toBe('');
  });

  test.fails('ends with the simulation', async () => {
    await mail.enqueue({ to: 'ada' });
    expect(mail).toHaveRun();
  });
});
