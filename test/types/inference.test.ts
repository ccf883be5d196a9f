/** Types flow from a task's definition to its uses. Checked by the compiler; run for the few values that are checked. */
import {
  cancel,
  createTasks,
  type Duration,
  memory,
  type PartContext,
  type PortableTask,
  type SyncTransaction,
  snooze,
  type Task,
  type TaskContext,
  type TaskResult,
  task,
} from 'escapement';
import { describe, expectTypeOf, test } from 'vitest';
import { z } from 'zod';

const tasks = createTasks({ backend: memory() });
const never = (..._: unknown[]): void => {};
/** The body is checked by the compiler and never called. */
const unrun = (_: () => unknown): void => {};

const annotated = tasks.define('annotated', async ({ userId }: { userId: string }) => ({ sentTo: userId }));
const withSchema = tasks.define('with-schema', {
  input: z.object({ id: z.string(), at: z.string().transform((text) => new Date(text)), limit: z.number().default(10) }),
  run: (input) => {
    expectTypeOf(input).toEqualTypeOf<{ id: string; at: Date; limit: number }>();
    return input.limit;
  },
});
const noInput = tasks.define('no-input', () => 'done');
const optional = tasks.define('optional', (name?: string) => name?.length ?? 0);
const steered = tasks.define('steered', async (days: number) => {
  if (days > 3) return snooze('10m');
  if (days > 2) return cancel('too late');
  return { days };
});
const onlySteers = tasks.define('only-steers', () => cancel());
const nothing = tasks.define('nothing', async (_: number) => {});

describe('the input', () => {
  test('is inferred from the annotation of run', () => {
    expectTypeOf(annotated).toEqualTypeOf<Task<{ userId: string }, { sentTo: string }>>();
    unrun(() => annotated.enqueue({ userId: 'ada' }));
    // @ts-expect-error not a string
    unrun(() => annotated.enqueue({ userId: 1 }));
    // @ts-expect-error the input is missing
    unrun(() => annotated.enqueue());
    // @ts-expect-error no such property
    unrun(() => annotated.enqueue({ userId: 'ada', name: 'Ada' }));
    // @ts-expect-error not undefined
    unrun(() => annotated.enqueue(undefined));
  });

  test("is the schema's input type, and run receives its output type", () => {
    expectTypeOf(withSchema).toEqualTypeOf<Task<{ id: string; at: string; limit?: number | undefined }, number>>();
    unrun(() => withSchema.enqueue({ id: 'a', at: '2026-01-01' }));
    unrun(() => withSchema.enqueue({ id: 'a', at: '2026-01-01', limit: 5 }));
    // @ts-expect-error the schema's output is not its input
    unrun(() => withSchema.enqueue({ id: 'a', at: new Date(), limit: 5 }));
    // @ts-expect-error run expects a type other than the schema's output
    unrun(() => tasks.define('clash', { input: z.object({ id: z.string() }), run: (_: { id: number }) => {} }));
    // @ts-expect-error without a default
    unrun(() => withSchema.enqueue({ at: '2026-01-01' }));
  });

  test('is the same for enqueueMany, call and using', () => {
    unrun(() => annotated.enqueueMany([{ userId: 'ada' }]));
    unrun(() => annotated.using({ runAfter: '1h' }).enqueue({ userId: 'ada' }));
    unrun(() => annotated.call({ userId: 'ada' }));
    unrun(() => noInput.call());
    // @ts-expect-error one of them is wrong
    unrun(() => annotated.enqueueMany([{ userId: 'ada' }, { userId: 1 }]));
    // @ts-expect-error not a string
    unrun(() => annotated.using({ runAfter: '1h' }).enqueue({ userId: 1 }));
    // @ts-expect-error not a string
    unrun(() => annotated.call({ userId: 1 }));
    // @ts-expect-error the input is missing
    unrun(() => withSchema.using({ priority: 1 }).enqueue());
    expectTypeOf(annotated.using({})).toEqualTypeOf(annotated);
  });

  test('may be omitted if there is none, or if it may be undefined', () => {
    expectTypeOf(noInput).toEqualTypeOf<Task<void, string>>();
    unrun(() => noInput.enqueue());
    unrun(() => noInput.enqueue(undefined, {}));
    unrun(() => optional.enqueue());
    unrun(() => optional.enqueue('ada'));
    unrun(() => tasks.define('context-only', (_: undefined, ctx) => ctx.sleep('1s')).enqueue());
    // @ts-expect-error there is no input
    unrun(() => noInput.enqueue({ userId: 'ada' }));
    // @ts-expect-error not a string
    unrun(() => optional.enqueue(1));
  });

  test('reaches the context-sensitive second parameter', () => {
    unrun(() =>
      tasks.define('context', (_: { a: 1 }, ctx) => {
        expectTypeOf(ctx).toEqualTypeOf<TaskContext<TaskResult, PartContext | null>>();
        expectTypeOf(ctx.now()).toEqualTypeOf<Date>();
        expectTypeOf(ctx.signal).toEqualTypeOf<AbortSignal>();
      }),
    );
  });
});

describe('the output', () => {
  test('is what run returns, with promises awaited, and without snooze and cancel', () => {
    expectTypeOf(steered).toEqualTypeOf<Task<number, { days: number }>>();
    expectTypeOf(onlySteers).toEqualTypeOf<Task<void, never>>();
    expectTypeOf(nothing).toEqualTypeOf<Task<number, void>>();
  });

  test('reaches TaskResult, call and getResult', () => {
    unrun(async () => {
      const result = await annotated.enqueue({ userId: 'ada' });
      expectTypeOf(result).toEqualTypeOf<TaskResult<{ sentTo: string }, { userId: string }>>();
      expectTypeOf(result.returnValue).toEqualTypeOf<{ sentTo: string }>();
      expectTypeOf(result.input).toEqualTypeOf<{ userId: string }>();
      expectTypeOf(await result.refresh()).toEqualTypeOf<typeof result>();
      expectTypeOf(await result.wait()).toEqualTypeOf<typeof result>();
      expectTypeOf(await annotated.getResult(result.id)).toEqualTypeOf<typeof result>();
      expectTypeOf(await annotated.enqueueMany([])).toEqualTypeOf<(typeof result)[]>();
      expectTypeOf(await annotated.using({}).enqueue({ userId: 'ada' })).toEqualTypeOf<typeof result>();
      expectTypeOf(await annotated.call({ userId: 'ada' })).toEqualTypeOf<{ sentTo: string }>();
      expectTypeOf((await withSchema.enqueue({ id: 'a', at: 'now' })).input.limit).toEqualTypeOf<number | undefined>();
      expectTypeOf((await steered.enqueue(1)).returnValue).toEqualTypeOf<{ days: number }>();
      // @ts-expect-error returnValue is read, not written
      result.returnValue = { sentTo: 'eva' };
    });
  });

  test('is unknown for a job found by id alone', () => {
    unrun(async () => {
      const result = await tasks.getResult('id');
      expectTypeOf(result).toEqualTypeOf<TaskResult<unknown, unknown>>();
      expectTypeOf(result.returnValue).toBeUnknown();
    });
  });

  test('is returned synchronously in a synchronous transaction, and as a promise in other ones', () => {
    unrun(async () => {
      const sync: SyncTransaction = { inTransaction: true, prepare: never };
      expectTypeOf(annotated.enqueue({ userId: 'ada' }, { transaction: sync })).toEqualTypeOf<
        TaskResult<{ sentTo: string }, { userId: string }>
      >();
      expectTypeOf(annotated.enqueueMany([{ userId: 'ada' }], { transaction: sync })).toEqualTypeOf<
        TaskResult<{ sentTo: string }, { userId: string }>[]
      >();
      expectTypeOf(noInput.enqueue(undefined, { transaction: sync })).toEqualTypeOf<TaskResult<string, void>>();
      const client = { query: async (_: string) => [] };
      expectTypeOf(annotated.enqueue({ userId: 'ada' }, { transaction: client })).toEqualTypeOf<
        Promise<TaskResult<{ sentTo: string }, { userId: string }>>
      >();
    });
  });
});

describe('options', () => {
  test('accept durations of one number and one unit', () => {
    expectTypeOf<'250ms' | '30s' | '5m' | '2h' | '1d' | '1w' | '1.5h' | 250>().toExtend<Duration>();
    expectTypeOf<'5 minutes'>().not.toExtend<Duration>();
    expectTypeOf<'5x'>().not.toExtend<Duration>();
    expectTypeOf<'1h 30m'>().not.toExtend<Duration>();
    unrun(() => tasks.define('timed', { timeout: '30s', run: () => {} }));
    // @ts-expect-error one number and one unit
    unrun(() => tasks.define('timed', { timeout: '5 minutes', run: () => {} }));
    // @ts-expect-error no such unit
    unrun(() => tasks.define('timed', { timeout: '5x', run: () => {} }));
    // @ts-expect-error no such unit
    unrun(() => tasks.schedule('every', { task: noInput, every: '5x' }));
    // @ts-expect-error one number and one unit
    unrun(() => snooze('5 minutes'));
  });

  test('are known by name', () => {
    // @ts-expect-error there is no such option of a task
    unrun(() => tasks.define('typo', { timeOut: '30s', run: () => {} }));
    // @ts-expect-error there is no such option of using
    unrun(() => noInput.using({ delay: '30s' }));
    // @ts-expect-error retry functions belong to the definition's retry
    unrun(() => tasks.define('typo', { maxAttempts: 3, run: () => {} }));
    // @ts-expect-error options of a job go through using
    unrun(() => annotated.enqueue({ userId: 'ada' }, { priority: 5 }));
    // @ts-expect-error options of a job go through using
    unrun(() => annotated.enqueueMany([{ userId: 'ada' }], { priority: 5 }));
    // @ts-expect-error a call has no options
    unrun(() => annotated.call({ userId: 'ada' }, {}));
    // @ts-expect-error what a task does is not an option
    unrun(() => noInput.using({ run: () => {} }));
    // @ts-expect-error there is no such option of createTasks
    unrun(() => createTasks({ store: memory() }));
    // @ts-expect-error there is no such option of a schedule
    unrun(() => tasks.schedule('typo', { task: noInput, crom: '0 9 * * *' }));
    // @ts-expect-error run is missing
    unrun(() => tasks.define('typo', { timeout: '30s' }));
    // @ts-expect-error not a schema
    unrun(() => tasks.define('typo', { input: { id: 'string' }, run: () => {} }));
  });

  test('keep their types beside other options, in any order', () => {
    unrun(() => {
      const first = tasks.define('first', { run: ({ n }: { n: number }) => n, queue: 'default', retry: { maxAttempts: 3 } });
      const last = tasks.define('last', {
        queue: 'default',
        retry: { unless: (error) => error instanceof TypeError },
        input: z.object({ n: z.number() }),
        async run({ n }, ctx) {
          ctx.progress(1);
          return n;
        },
      });
      expectTypeOf(first).toEqualTypeOf<Task<{ n: number }, number>>();
      expectTypeOf(last).toEqualTypeOf<Task<{ n: number }, number>>();
    });
  });
});

describe('schedules', () => {
  test('accept an input that matches the task', () => {
    unrun(() => tasks.schedule('a', { task: annotated, input: { userId: 'ada' }, cron: '0 9 * * *' }));
    unrun(() => tasks.schedule('b', { task: withSchema, input: { id: 'a', at: '2026-01-01' }, every: '15m' }));
    unrun(() => tasks.schedule('c', { task: noInput, every: '15m' }));
    unrun(() =>
      tasks.schedule('f', { task: annotated, input: ({ scheduledAt }) => ({ userId: scheduledAt.toISOString() }), at: new Date() }),
    );
    unrun(() =>
      tasks.schedule('g', { task: noInput, any: [{ cron: '0 9 * * *', timezone: 'Europe/Berlin' }, { every: '1d' }], overlap: 'skip' }),
    );
    unrun(() =>
      tasks.schedule('h', { task: noInput, sun: { event: 'dusk', latitude: 1, longitude: 2 }, missed: { catchUp: 'all', limit: 3 } }),
    );
    unrun(() => tasks.schedules.save('i', { task: annotated, input: { userId: 'ada' }, every: '1h' }));
    // @ts-expect-error stored schedules contain no functions
    unrun(() => tasks.schedules.save('j', { task: annotated, input: () => ({ userId: 'ada' }), every: '1h' }));
    // @ts-expect-error the function returns another input
    unrun(() => tasks.schedule('k', { task: annotated, input: () => ({ userId: 1 }), every: '1h' }));
    // @ts-expect-error no such overlap
    unrun(() => tasks.schedule('l', { task: noInput, every: '1h', overlap: 'never' }));
    // @ts-expect-error not a string
    unrun(() => tasks.schedule('d', { task: annotated, input: { userId: 1 }, cron: '0 9 * * *' }));
    // @ts-expect-error no such property
    unrun(() => tasks.schedule('e', { task: noInput, input: { userId: 'ada' }, every: '15m' }));
  });
});

describe('portable tasks', () => {
  const portable = task('portable', { input: z.object({ n: z.coerce.number<string>() }), run: ({ n }) => n * 2 });
  const simple = task('simple', (name: string) => name.length);

  test('have the same types as other tasks, before and after registration', () => {
    expectTypeOf(portable).toEqualTypeOf<PortableTask<{ n: string }, number>>();
    expectTypeOf(simple).toEqualTypeOf<PortableTask<string, number>>();
    unrun(() => {
      const bound = tasks.register(simple);
      expectTypeOf(bound).toEqualTypeOf<Task<string, number>>();
      return bound.enqueue('ada');
    });
    // @ts-expect-error not a string
    unrun(() => simple.enqueue(1));
    // @ts-expect-error the task is already bound
    unrun(() => tasks.register(annotated));
  });
});

describe('tasks of any kind', () => {
  test('are accepted wherever any task is', () => {
    expectTypeOf(annotated).toExtend<Task>();
    expectTypeOf(noInput).toExtend<Task>();
    expectTypeOf(withSchema).toExtend<Task>();
    unrun(() => tasks.jobs.list({ task: annotated }));
    unrun(() => tasks.jobs.cancel({ task: noInput, status: ['ready', 'scheduled'] }));
    // @ts-expect-error no such status
    unrun(() => tasks.jobs.list({ status: 'done' }));
  });
});

describe('events', () => {
  test('are typed by name', () => {
    unrun(() =>
      tasks.on('retrying', (event) => {
        expectTypeOf(event.type).toEqualTypeOf<'retrying'>();
        expectTypeOf(event.error.message).toEqualTypeOf<string>();
        expectTypeOf(event.dueAt).toEqualTypeOf<number>();
      }),
    );
    unrun(() =>
      tasks.on('*', (event) => {
        if (event.type === 'workerStarted') expectTypeOf(event.worker).toEqualTypeOf<string>();
      }),
    );
    // @ts-expect-error no such event
    unrun(() => tasks.on('retried', () => {}));
  });
});
