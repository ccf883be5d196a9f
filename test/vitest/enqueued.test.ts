/** `toHaveEnqueued`: its matches, and its failure messages. */
import { createTasks, memory } from 'escapement';
import { testTasks } from 'escapement/vitest';
import { describe, expect } from 'vitest';
import { messageFrom, messageOf } from './messages.ts';

const tasks = createTasks({ backend: memory() });
const mail = tasks.define('mail.welcome', async (_: { userId: string; lines?: { sku: string; count: number }[] }) => {});
const digest = tasks.define('digest', () => {});
const other = createTasks().define('other', () => {});
const order = tasks.define('order', async ({ userId }: { userId: string }) => {
  await mail.enqueue({ userId });
});
const test = testTasks(tasks);

describe('toHaveEnqueued passes', () => {
  test('for any job of the task, if nothing else is specified', async ({ sim }) => {
    expect(sim).not.toHaveEnqueued(digest);
    await digest.enqueue();
    expect(sim).toHaveEnqueued(digest);
    expect(sim).not.toHaveEnqueued(mail);
  });

  test('for an input that contains the expected properties', async ({ sim }) => {
    await mail.enqueue({ userId: 'ada', lines: [{ sku: 'tea', count: 2 }] });
    expect(sim).toHaveEnqueued(mail, { userId: 'ada' });
    expect(sim).toHaveEnqueued(mail, { lines: [{ sku: 'tea' }] });
    expect(sim).toHaveEnqueued(mail, {});
    expect(sim).not.toHaveEnqueued(mail, { userId: 'eva' });
    expect(sim).not.toHaveEnqueued(mail, { lines: [] });
    expect(sim).not.toHaveEnqueued(mail, { lines: [{ sku: 'tea' }, { sku: 'tea' }] });
  });

  test('for asymmetric matchers, at the top and inside', async ({ sim }) => {
    await mail.enqueue({ userId: 'ada', lines: [{ sku: 'tea', count: 2 }] });
    expect(sim).toHaveEnqueued(mail, { userId: expect.any(String), lines: [{ count: expect.any(Number) }] });
    expect(sim).toHaveEnqueued(mail, expect.objectContaining({ userId: expect.stringMatching(/^a/) }));
    expect(sim).not.toHaveEnqueued(mail, { userId: expect.any(Number) });
  });

  test('for the expected delay, in any unit', async ({ sim }) => {
    await mail.using({ runAfter: '90m' }).enqueue({ userId: 'ada' });
    await mail.using({ runAfter: sim.now }).enqueue({ userId: 'bob' });
    await mail.enqueue({ userId: 'eva' });
    expect(sim).toHaveEnqueued(mail, { userId: 'ada' }, { in: '1.5h' });
    expect(sim).toHaveEnqueued(mail, { userId: 'ada' }, { in: 5_400_000 });
    expect(sim).toHaveEnqueued(mail, { userId: 'bob' }, { in: 0 });
    expect(sim).toHaveEnqueued(mail, { userId: 'eva' }, { in: '0s' });
    expect(sim).not.toHaveEnqueued(mail, undefined, { in: '1h' });
  });

  test('for queue, priority and tags, all of which must match', async ({ sim }) => {
    await mail.using({ queue: 'slow', priority: 5, tags: ['signup', 'eu'] }).enqueue({ userId: 'ada' });
    expect(sim).toHaveEnqueued(mail, undefined, { queue: 'slow', priority: 5, tags: ['eu'] });
    expect(sim).not.toHaveEnqueued(mail, undefined, { queue: 'slow', priority: 6 });
    expect(sim).not.toHaveEnqueued(mail, undefined, { tags: ['eu', 'us'] });
  });

  test('for the current status, including finished jobs', async ({ sim }) => {
    await mail.enqueue({ userId: 'ada' });
    expect(sim).toHaveEnqueued(mail, undefined, { status: 'ready' });
    await sim.drain();
    expect(sim).toHaveEnqueued(mail, { userId: 'ada' });
    expect(sim).toHaveEnqueued(mail, undefined, { status: ['failed', 'successful'] });
    expect(sim).not.toHaveEnqueued(mail, undefined, { status: 'ready' });
  });

  test('for an exact count, including 0', async ({ sim }) => {
    await mail.enqueueMany([{ userId: 'ada' }, { userId: 'bob' }, { userId: 'ada' }]);
    expect(sim).toHaveEnqueued(mail, undefined, { times: 3 });
    expect(sim).toHaveEnqueued(mail, { userId: 'ada' }, { times: 2 });
    expect(sim).toHaveEnqueued(mail, { userId: 'eva' }, { times: 0 });
    expect(sim).not.toHaveEnqueued(mail, { userId: 'ada' }, { times: 1 });
  });
});

describe('toHaveEnqueued fails', () => {
  test('with a diff against the closest job, and the options that differ', async ({ sim }) => {
    await mail.enqueue({ userId: 'bob' });
    await mail.using({ runAfter: '2h', tags: ['a'] }).enqueue({ userId: 'ada', lines: [{ sku: 'tea', count: 2 }] });
    const expected = { userId: expect.any(String), lines: [{ sku: 'tea', count: 3 }] };
    expect(messageOf(() => expect(sim).toHaveEnqueued(mail, expected, { in: '1h', queue: 'default', tags: ['b'] }))).toMatchInlineSnapshot(`
      "expect(sim).toHaveEnqueued(mail.welcome, input)

      Expected the simulation to have enqueued a job of mail.welcome like this.

        input: {"lines": [{"count": 3, "sku": "tea"}], "userId": Any<String>}
        in: 1h
        queue: default
        tags: b

      The closest of 2 is mail.welcome#2, which differs:

        input:
          - Expected
          + Received

            {
              "lines": [
                {
          -       "count": 3,
          +       "count": 2,
                  "sku": "tea",
                },
              ],
              "userId": "ada",
            }

        in: expected 1h, got 2h
        tags: expected b, got a"
    `);
  });

  test('with the name of the only job', async ({ sim }) => {
    await mail.using({ priority: 7 }).enqueue({ userId: 'ada' });
    expect(
      messageOf(() => expect(sim).toHaveEnqueued(mail, { userId: 'ada' }, { priority: 1, status: ['failed', 'running'] })),
    ).toMatchInlineSnapshot(`
      "expect(sim).toHaveEnqueued(mail.welcome, input)

      Expected the simulation to have enqueued a job of mail.welcome like this.

        input: {"userId": "ada"}
        priority: 1
        status: failed or running

      The only one is mail.welcome#1, which differs:

        priority: expected 1, got 7
        status: expected failed or running, got ready"
    `);
  });

  test('if an expected property is missing', async ({ sim }) => {
    await mail.enqueue({ userId: 'ada' });
    expect(messageOf(() => expect(sim).toHaveEnqueued(mail, { userId: 'ada', lines: [] }))).toMatchInlineSnapshot(`
      "expect(sim).toHaveEnqueued(mail.welcome, input)

      Expected the simulation to have enqueued a job of mail.welcome like this.

        input: {"lines": [], "userId": "ada"}

      The only one is mail.welcome#1, which differs:

        input:
          - Expected
          + Received

            {
          -   "lines": [],
              "userId": "ada",
            }"
    `);
  });

  test('if the task has no jobs', ({ sim }) => {
    expect(messageOf(() => expect(sim).toHaveEnqueued(digest))).toMatchInlineSnapshot(`
      "expect(sim).toHaveEnqueued(digest)

      Expected the simulation to have enqueued a job of digest.

      It has enqueued no job of digest."
    `);
  });

  test('with the count, and the other jobs', async ({ sim }) => {
    await mail.enqueueMany([{ userId: 'ada' }, { userId: 'bob' }]);
    expect(messageOf(() => expect(sim).toHaveEnqueued(mail, { userId: 'ada' }, { times: 2 }))).toMatchInlineSnapshot(`
      "expect(sim).toHaveEnqueued(mail.welcome, input)

      Expected the simulation to have enqueued a job of mail.welcome like this 2 times; it has 1 time.

        input: {"userId": "ada"}

      It has enqueued:

        mail.welcome#1 {"userId": "ada"}

      These are different:

        mail.welcome#2 {"userId": "bob"}"
    `);
  });

  test('when negated, with a list of the jobs that should not exist', async ({ sim }) => {
    await mail.enqueueMany([{ userId: 'ada' }, { userId: 'bob' }]);
    expect(messageOf(() => expect(sim).not.toHaveEnqueued(mail, { userId: 'ada' }))).toMatchInlineSnapshot(`
      "expect(sim).not.toHaveEnqueued(mail.welcome, input)

      Expected the simulation not to have enqueued a job of mail.welcome like this.

        input: {"userId": "ada"}

      It has enqueued:

        mail.welcome#1 {"userId": "ada"}"
    `);
    expect(messageOf(() => expect(sim).not.toHaveEnqueued(mail, undefined, { times: 2 }))).toMatchInlineSnapshot(`
      "expect(sim).not.toHaveEnqueued(mail.welcome)

      Expected the simulation to have enqueued a job of mail.welcome any number of times except 2.

      It has enqueued:

        mail.welcome#1 {"userId": "ada"}
        mail.welcome#2 {"userId": "bob"}"
    `);
  });

  test('if the arguments are not a simulation and a task of its application', async ({ sim }) => {
    expect(messageOf(() => expect(sim).toHaveEnqueued(other))).toBe(
      'toHaveEnqueued: other is not a task of the simulated application, whose tasks are mail.welcome, digest, order. ' +
        'Simulate the application that defines it, or register a portable task with tasks.register().',
    );
    // @ts-expect-error a task is not a simulation
    expect(messageOf(() => expect(mail).toHaveEnqueued(mail))).toMatch(/^toHaveEnqueued expects a simulation, .* got /s);
    // @ts-expect-error a name is not a task
    expect(messageOf(() => expect(sim).toHaveEnqueued('mail.welcome'))).toBe(
      'toHaveEnqueued expects a task, as returned by tasks.define(); got "mail.welcome"',
    );
  });

  test('on options that assert nothing, negated or not', ({ sim }) => {
    // @ts-expect-error there is no such option
    expect(messageOf(() => expect(sim).not.toHaveEnqueued(mail, {}, { delay: '1h' }))).toBe(
      'Invalid arguments of toHaveEnqueued(): delay: expected one of in, queue, priority, tags, status, times, got an unknown option',
    );
    // @ts-expect-error no such unit
    expect(messageOf(() => expect(sim).not.toHaveEnqueued(mail, {}, { in: '1 hour' }))).toBe(
      "Invalid duration: toHaveEnqueued().in: expected a duration such as '30s', '5m', '1h' or a number of milliseconds, got 1 hour",
    );
    expect(messageOf(() => expect(sim).not.toHaveEnqueued(mail, {}, { times: 1.5 }))).toBe(
      'Invalid arguments of toHaveEnqueued(): times: expected a whole number, got 1.5',
    );
  });
});

describe('toHaveEnqueued of a job', () => {
  test('finds jobs that the job has enqueued, and no others', async ({ sim }) => {
    const [ada, eva] = [await order.enqueue({ userId: 'ada' }), await order.enqueue({ userId: 'eva' })];
    await expect(ada).not.toHaveEnqueued(mail);
    await sim.runUntilIdle();
    await expect(ada).toHaveEnqueued(mail, { userId: 'ada' }, { times: 1 });
    await expect(eva).toHaveEnqueued(mail, { userId: 'eva' }, { queue: 'default', status: 'successful' });
    await expect(ada).not.toHaveEnqueued(mail, { userId: 'eva' });
    await expect(ada).not.toHaveEnqueued(digest);
  });

  test('names the job, and the closest of the jobs that it enqueued', async ({ sim }) => {
    const ada = await order.enqueue({ userId: 'ada' });
    await mail.enqueue({ userId: 'eva' });
    await sim.runUntilIdle();
    const message = await messageFrom(expect(ada).toHaveEnqueued(mail, { userId: 'eva' }));
    expect(message).toContain('expect(result).toHaveEnqueued(mail.welcome, input)');
    expect(message).toContain('Expected order#1 to have enqueued a job of mail.welcome like this.');
    expect(message).toContain('The only one is mail.welcome#2, which differs:');
    expect(await messageFrom(expect(ada).toHaveEnqueued(digest))).toContain('It has enqueued no job of digest.');
    expect(await messageFrom(expect(ada).not.toHaveEnqueued(mail))).toContain(
      'Expected order#1 not to have enqueued a job of mail.welcome.',
    );
  });
});
