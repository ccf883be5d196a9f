/** The matchers take the task's types, and each exists only on the values that it checks. */
import { cancel, createTasks, memory, task } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';

const tasks = createTasks({ backend: memory() });
/** The body is checked by the compiler and never called. */
const unrun = (_: () => unknown): void => {};

const mail = tasks.define('mail', async (_: { to: { name: string; address: string }; copies: string[]; urgent?: boolean }) => ({
  id: 'm1',
  accepted: ['ada'],
}));
const withSchema = tasks.define('with-schema', {
  input: z.object({ at: z.string().transform((text) => new Date(text)), limit: z.number().default(10) }),
  run: ({ at }) => (at.getTime() > 0 ? cancel() : 5),
});
const optional = tasks.define('optional', (_?: { n: number; m: number }) => {});
const noInput = tasks.define('no-input', () => {});
const portable = task('portable', (_: { n: number }) => {});

test('toHaveEnqueued accepts part of the input, at any depth', () => {
  unrun(async () => {
    const sim = await simulate(tasks);
    expect(sim).toHaveEnqueued(mail);
    expect(sim).toHaveEnqueued(mail, {});
    expect(sim).toHaveEnqueued(mail, { to: { name: 'Ada' } });
    expect(sim).toHaveEnqueued(mail, { copies: ['eva'], urgent: true });
    expect(sim).toHaveEnqueued(mail, { to: expect.objectContaining({ name: 'Ada' }), copies: expect.any(Array) });
    expect(sim).toHaveEnqueued(mail, expect.anything());
    expect(sim).toHaveEnqueued(withSchema, { at: '2026-01-01' });
    expect(sim).toHaveEnqueued(optional, { n: 1 });
    expect(sim).toHaveEnqueued(portable, { n: 1 });
    expect(sim).toHaveEnqueued(noInput, undefined, { in: '1h', queue: 'mail', priority: 5, tags: ['a'], status: 'ready', times: 2 });
    expect(sim).not.toHaveEnqueued(mail, { to: { name: 'Ada' } });
    // @ts-expect-error not a string
    expect(sim).toHaveEnqueued(mail, { to: { name: 1 } });
    // @ts-expect-error no such property
    expect(sim).toHaveEnqueued(mail, { too: {} });
    // @ts-expect-error no such property inside
    expect(sim).toHaveEnqueued(mail, { to: { phone: '1' } });
    // @ts-expect-error not an array of strings
    expect(sim).toHaveEnqueued(mail, { copies: [1] });
    // @ts-expect-error the schema's output is not what was enqueued
    expect(sim).toHaveEnqueued(withSchema, { at: new Date() });
    // @ts-expect-error the task takes no input
    expect(sim).toHaveEnqueued(noInput, { to: 'ada' });
    // @ts-expect-error options come after the input
    expect(sim).toHaveEnqueued(mail, { in: '1h' });
    // @ts-expect-error one number and one unit
    expect(sim).toHaveEnqueued(mail, {}, { in: '5 minutes' });
    // @ts-expect-error no such unit
    expect(sim).toHaveEnqueued(mail, {}, { in: '5x' });
    // @ts-expect-error no such status
    expect(sim).toHaveEnqueued(mail, {}, { status: 'done' });
    // @ts-expect-error no such option
    expect(sim).toHaveEnqueued(mail, {}, { delay: '1h' });
    // @ts-expect-error a task is missing
    expect(sim).toHaveEnqueued();
    // @ts-expect-error negated too
    expect(sim).not.toHaveEnqueued(mail, { to: { name: 1 } });
    // @ts-expect-error only on a simulation
    expect(mail).toHaveEnqueued(mail);
    const result = await noInput.enqueue();
    expectTypeOf(expect(result).toHaveEnqueued(mail, { to: { name: 'Ada' } }, { times: 1 })).toEqualTypeOf<Promise<void>>();
    // @ts-expect-error: of another type
    expect(result).toHaveEnqueued(mail, { to: { name: 1 } });
  });
});

test('toHaveRun accepts a simulation or a task, toHaveRunAt a task', () => {
  unrun((sim?: Simulation) => {
    if (!sim) return;
    expect(sim).toHaveRun(mail);
    expect(sim).toHaveRun(portable, 2);
    expect(mail).toHaveRun();
    expect(portable).toHaveRun(2);
    expect(mail).toHaveRunAt(['+0s', '+1h 30m', '2026-01-01T00:00:00Z', new Date()]);
    expectTypeOf(expect(mail).toHaveRunAt([])).toEqualTypeOf<void>();
    // @ts-expect-error a task is missing
    expect(sim).toHaveRun();
    // @ts-expect-error not a count
    expect(mail).toHaveRun(portable);
    // @ts-expect-error only on a task
    expect(sim).toHaveRunAt(['+0s']);
    // @ts-expect-error a number could be an instant or a duration
    expect(mail).toHaveRunAt([1]);
    // @ts-expect-error not a list
    expect(mail).toHaveRunAt('+0s');
    // @ts-expect-error a string is not a task
    expect('mail').toHaveRun();
  });
});

test('matchers on a result are asynchronous, and know the output type', () => {
  unrun(async () => {
    const result = await mail.enqueue({ to: { name: 'Ada', address: 'a@b.c' }, copies: [] });
    expectTypeOf(expect(result).toHaveSucceeded()).toEqualTypeOf<Promise<void>>();
    expectTypeOf(expect(result).not.toHaveFailed()).toEqualTypeOf<Promise<void>>();
    await expect(result).toHaveSucceeded({ attempts: 1, returnValue: { id: 'm1' } });
    await expect(result).toHaveSucceeded({ returnValue: { id: expect.any(String), accepted: ['ada'] } });
    await expect(result).toHaveFailed({ error: /x/, attempts: 1, reason: 'poisoned' });
    await expect(result).toHaveRetried({ times: 1 });
    await expect(result).toBeScheduledAt('+1h');
    await expect(mail.enqueue({ to: { name: 'Ada', address: 'a@b.c' }, copies: [] })).resolves.toHaveSucceeded();
    await expect(await withSchema.enqueue({ at: 'now' })).toHaveSucceeded({ returnValue: 5 });
    await expect(await tasks.getResult('id')).toHaveSucceeded({ returnValue: { anything: 'at all' } });
    // @ts-expect-error not a string
    await expect(result).toHaveSucceeded({ returnValue: { id: 1 } });
    // @ts-expect-error no such option
    await expect(result).toHaveSucceeded({ attempt: 1 });
    // @ts-expect-error a string or a pattern
    await expect(result).toHaveFailed({ error: TypeError });
    // @ts-expect-error a number could be an instant or a duration
    await expect(result).toBeScheduledAt(3_600_000);
    // @ts-expect-error a promise is not a result
    await expect(mail.enqueue({ to: { name: 'Ada', address: 'a@b.c' }, copies: [] })).toHaveSucceeded();
    // @ts-expect-error only on a result
    await expect(mail).toHaveSucceeded();
  });
});

test('sim is a fixture of tests and their hooks, not of suites', () => {
  unrun(() => {
    const simulated = testTasks(tasks, { seed: 7, workers: 2 });
    simulated('a test', ({ sim }) => expectTypeOf(sim).toEqualTypeOf<Simulation>());
    simulated.for([1, 2])('cases: %i', (n, { sim }) => {
      expectTypeOf(n).toEqualTypeOf<number>();
      expectTypeOf(sim).toEqualTypeOf<Simulation>();
    });
    simulated.beforeEach(({ sim }) => {
      expectTypeOf(sim).toEqualTypeOf<Simulation>();
    });
    // @ts-expect-error outside a test
    simulated.beforeAll(({ sim }) => sim);
    simulated.extend('started', ({ sim }) => sim.startedAt)('more', ({ sim, started }) => {
      expectTypeOf(sim).toEqualTypeOf<Simulation>();
      expectTypeOf(started).toEqualTypeOf<Date>();
    });
    // @ts-expect-error no such option
    testTasks(tasks, { sed: 7 });
    // @ts-expect-error not an application
    testTasks(mail);
  });
});
