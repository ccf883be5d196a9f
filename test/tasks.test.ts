import { inspect } from 'node:util';
import {
  type Cancel,
  ConfigError,
  cancel,
  createTasks,
  DuplicateTaskError,
  dummy,
  exponential,
  failCurrentAttempt,
  InputError,
  immediate,
  linear,
  memory,
  PermanentError,
  ResultMismatchError,
  ResultNotFoundError,
  ResultNotReadyError,
  type Snooze,
  StoreError,
  snooze,
  type Tasks,
  task,
  UnknownTaskError,
} from 'escapement';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const faults = (fn: () => unknown): string[] => {
  try {
    fn();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).faults.map(({ path }) => path);
  }
  return [];
};

test('a task exposes its queue, priority and backend, including changes from using()', () => {
  const tasks = createTasks({ backends: { default: memory(), bulk: memory() } });
  const mail = tasks.define('mail', { queue: 'mail', priority: 7, run: () => {} });
  const told = ({ queue, priority, backend }: typeof mail) => [queue, priority, backend];
  expect(told(mail)).toEqual(['mail', 7, 'default']);
  expect(told(mail.using({ priority: 0, backend: 'bulk' }).using({ queue: 'slow' }))).toEqual(['slow', 0, 'bulk']);
  expect(told(task('portable', () => {}))).toEqual(['default', 0, 'default']);
});

describe('immediate(), the default backend', () => {
  const tasks = createTasks({ logger: quiet });
  const double = tasks.define('double', async (n: number) => n * 2);
  const broken = tasks.define('broken', () => {
    throw new TypeError('no');
  });

  test('runs a job before enqueue resolves', async () => {
    const result = await double.enqueue(21);
    expect(result).toMatchObject({
      status: 'successful',
      returnValue: 42,
      attempts: 1,
      isFinished: true,
      input: 21,
      backend: 'default',
      errors: [],
    });
    expect((await double.getResult(result.id)).returnValue).toBe(42);
  });

  test('records an error without retrying', async () => {
    const result = await broken.enqueue();
    expect(result).toMatchObject({ status: 'failed', attempts: 1, maxAttempts: 1 });
    expect(result.errors).toMatchObject([{ name: 'TypeError', message: 'no', attempt: 1 }]);
    expect(() => result.returnValue).toThrow(ResultNotReadyError);
    expect(() => result.returnValue).toThrow(/TypeError: no/);
  });

  test('allows a task to enqueue another', async () => {
    const outer = tasks.define('outer', async () => (await double.enqueue(4)).returnValue);
    expect((await outer.enqueue()).returnValue).toBe(8);
  });

  test('returns the right result to each of many concurrent calls', async () => {
    const results = await double.enqueueMany([1, 2, 3]);
    expect(results.map(({ returnValue }) => returnValue)).toEqual([2, 4, 6]);
    expect(await double.enqueueMany([])).toEqual([]);
  });

  test('logs a failure', async () => {
    const lines: unknown[] = [];
    const logger = { ...quiet, error: (fields: object, message: string) => lines.push([fields, message]) };
    const result = await createTasks({ logger })
      .define('broken', () => {
        throw new TypeError('no');
      })
      .enqueue();
    const fields = { task: 'broken', job: result.id, attempt: 1, worker: 'immediate', error: expect.objectContaining({ message: 'no' }) };
    expect(lines).toEqual([[fields, 'job failed for good: TypeError: no']]);
  });

  test('rejects deferring and priorities, and says which backends support them', async () => {
    const deferred = double.using({ runAfter: '1h', priority: 5 }).enqueue(1);
    await expect(deferred).rejects.toBeInstanceOf(ConfigError);
    await expect(deferred).rejects.toThrow(/runAfter: .*memory\(\).*immediate\(\) and does not support deferred jobs[\s\S]*priority: /);
    // A task definition's priority is used only by backends that support priorities.
    expect(
      (
        await createTasks({ logger: quiet })
          .define('urgent', { priority: 50, run: () => 1 })
          .enqueue()
      ).status,
    ).toBe('successful');
  });

  test('runs a job again immediately when it is retried by hand', async () => {
    let fails = true;
    const moody = tasks.define('moody', () => {
      if (fails) throw new Error('not now');
      return 'now';
    });
    const result = await moody.enqueue();
    expect(result.status).toBe('failed');
    fails = false;
    await result.retry();
    expect(result).toMatchObject({ status: 'successful', returnValue: 'now', attempts: 2 });
    await expect(result.retry()).rejects.toThrow(/was successful/);
  });

  test('needs no worker, and cannot start one', async () => {
    await expect(tasks.worker().start()).rejects.toThrow(/immediate\(\) and needs no worker/);
  });
});

test('dummy() stores enqueued jobs and runs nothing', async () => {
  const tasks = createTasks({ backend: dummy() });
  const mail = tasks.define('mail', () => {
    throw new Error('was run');
  });
  const result = await mail.using({ runAfter: '1h' }).enqueue();
  expect((await result.refresh()).status).toBe('scheduled');
  expect((await tasks.jobs.list()).items.map(({ id }) => id)).toEqual([result.id]);
  await expect(tasks.worker().start()).rejects.toThrow(/dummy\(\)/);
});

describe('definitions', () => {
  test('all errors are reported at once, each with its path', () => {
    const tasks = createTasks({ queues: { default: {}, mail: {} } });
    const bad = {
      queue: 'mial',
      priority: 101,
      retry: { maxAttempts: 0, backoff: 'often', until: 5 },
      timeout: '5 minutes',
      expires: 'never',
      tags: [''],
      backend: 'bulk',
      colour: 'red',
      run: 5,
    };
    expect(faults(() => tasks.define('x y', bad as never)).sort()).toEqual(
      [
        'backend',
        'colour',
        'expires',
        'name',
        'priority',
        'queue',
        'retry.backoff',
        'retry.maxAttempts',
        'retry.until',
        'run',
        'tags',
        'timeout',
      ].sort(),
    );
    expect(() => tasks.define('m', { queue: 'mial', run() {} })).toThrow(
      /expected one of the queues default, mail, got "mial" \(did you mean mail\?\)/,
    );
  });

  test.each(['', ' x', '-x', 'a b', 'ä', 'x'.repeat(129), 'a\u0000'])('%j is not a valid name', (name) => {
    expect(faults(() => createTasks().define(name, () => {}))).toEqual(['name']);
  });

  test.each(['a', 'mail.welcome', 'A-1:b/c_d', 'x'.repeat(128), 'constructor', 'toString'])('%s is a valid name', (name) => {
    expect(createTasks().define(name, () => {}).name).toBe(name);
  });

  test('a name can be defined only once', () => {
    const tasks = createTasks();
    tasks.define('x', () => {});
    expect(() => tasks.define('x', () => {})).toThrow(DuplicateTaskError);
  });

  test('defaults apply to tasks that do not override them', async () => {
    const tasks = createTasks({ backend: dummy(), defaults: { queue: 'bulk', priority: 5, retry: { maxAttempts: 3 }, tags: ['a'] } });
    const plain = await tasks.define('plain', () => {}).enqueue();
    expect(plain).toMatchObject({ queue: 'bulk', priority: 5, maxAttempts: 3, tags: ['a'] });
    const own = await tasks.define('own', { priority: 0, tags: [], run() {} }).enqueue();
    expect(own).toMatchObject({ queue: 'bulk', priority: 0, tags: [] });
  });

  test.each<[string, object, string]>([
    ['both backend and backends', { backend: memory(), backends: { default: memory() } }, 'backend, backends'],
    ['backends without a default', { backends: { bulk: memory() } }, 'backends.default'],
    ['an invalid backend', { backend: 'sqlite' }, 'backend'],
    ['an unknown option', { backnd: memory() }, 'backnd'],
    ['an invalid retention', { retention: { failed: 'a week' } }, 'retention.failed'],
    ['a limit of 0', { queues: { mail: { concurrency: 0 } } }, 'queues.mail.concurrency'],
    ['an invalid logger', { logger: {} }, 'logger.debug'],
  ])('createTasks rejects %s', (_, options, path) => {
    expect(faults(() => createTasks(options as never))).toContain(path);
  });
});

describe('enqueue', () => {
  const tasks = createTasks({ backends: { default: dummy(), bulk: dummy() }, queues: { default: {}, slow: {} } });
  const mail = tasks.define('mail', {
    input: z.object({ to: z.email(), copies: z.number().default(1) }),
    run: async ({ copies }) => copies,
  });

  test('using() overrides the given options and does not change the task', async () => {
    const later = mail.using({ runAfter: '2h', priority: 50, queue: 'slow', tags: ['signup'], metadata: { a: 1 }, expires: '1d' });
    const result = await later.using({ priority: -5 }).enqueue({ to: 'a@b.ch' });
    expect(result).toMatchObject({ status: 'scheduled', priority: -5, queue: 'slow', tags: ['signup'], metadata: { a: 1 } });
    expect((result.runAfter?.getTime() ?? 0) - result.enqueuedAt.getTime()).toBe(7_200_000);
    expect(await mail.enqueue({ to: 'a@b.ch' })).toMatchObject({ status: 'ready', priority: 0, queue: 'default', runAfter: null });
  });

  test("the raw input is stored, not the schema's output", async () => {
    expect((await mail.enqueue({ to: 'a@b.ch' })).input).toEqual({ to: 'a@b.ch' });
  });

  test('input that does not match the schema is rejected, with every issue', async () => {
    const wrong = mail.enqueue({ to: 'nobody', copies: 'x' } as never);
    await expect(wrong).rejects.toThrow(InputError);
    await expect(mail.enqueue({ to: 'nobody', copies: 'x' } as never)).rejects.toThrow(
      /input of mail does not match its schema: to: .*; copies: /,
    );
    expect(await tasks.jobs.list({ task: mail, limit: 1 })).not.toContain('nobody');
  });

  test('input that JSON would change is rejected', async () => {
    const any = tasks.define('any', (_: { at: unknown }) => {});
    await expect(any.enqueue({ at: new Date(0) })).rejects.toThrow(/input of any: at is Date 1970.*toISOString/);
  });

  test('one invalid input rejects a whole batch', async () => {
    const before = (await tasks.jobs.list({ limit: 1_000 })).items.length;
    await expect(mail.enqueueMany([{ to: 'a@b.ch' }, { to: 'nobody' }])).rejects.toThrow(InputError);
    expect((await tasks.jobs.list({ limit: 1_000 })).items.length).toBe(before);
  });

  test('jobs go to the backend with their alias', async () => {
    const result = await mail.using({ backend: 'bulk' }).enqueue({ to: 'a@b.ch' });
    expect(result.backend).toBe('bulk');
    expect((await tasks.getResult(result.id)).backend).toBe('bulk');
    expect((await mail.getResult(result.id)).backend).toBe('bulk');
    expect((await mail.using({ backend: 'bulk' }).getResult(result.id)).id).toBe(result.id);
  });

  test('a result of another task is rejected', async () => {
    const other = tasks.define('other', () => {});
    const result = await other.enqueue();
    await expect(mail.getResult(result.id)).rejects.toThrow(ResultMismatchError);
    await expect(mail.getResult('unknown')).rejects.toThrow(ResultNotFoundError);
  });

  test('dummy and memory reject transactions immediately', () => {
    const db = { inTransaction: true, prepare: () => null };
    expect(() => mail.enqueue({ to: 'a@b.ch' }, { transaction: db })).toThrow(/does not support transactions/);
    const kept = createTasks({ backend: memory() }).define('kept', () => {});
    expect(() => kept.enqueue(undefined, { transaction: db })).toThrow(StoreError);
    expect(() => kept.enqueue(undefined, { transaction: db })).toThrow(/simulate\(tasks, \{ store: sqlite/);
  });

  test.each<[string, object]>([
    ['a queue that is not one', { queue: 'fast' }],
    ['a priority out of range', { priority: 1_000 }],
    ['an invalid due time', { runAfter: 'later' }],
    ['a function that cannot be stored', { retry: { unless: () => true } }],
    ['a backoff that cannot be stored', { retry: { backoff: () => 5 } }],
    ['a retention of no status', { retention: { done: '1h' } }],
    ['an invalid retention', { retention: { failed: 'never' } }],
  ])('using rejects %s', (_, options) => {
    expect(() => mail.using(options as never)).toThrow(ConfigError);
  });
});

describe('call', () => {
  const tasks = createTasks({ backend: dummy(), logger: quiet });
  test('runs immediately, without a job', async () => {
    const seen: unknown[] = [];
    const sum = tasks.define('sum', {
      input: z.object({ a: z.number(), b: z.number().default(2) }),
      run: ({ a, b }, context) => {
        seen.push(context.attempt, context.maxAttempts);
        return a + b;
      },
    });
    expect(await sum.call({ a: 1 })).toBe(3);
    expect(seen).toEqual([1, 1]);
    expect((await tasks.jobs.list()).items).toEqual([]);
    await expect(sum.call({ a: 'x' } as never)).rejects.toThrow(InputError);
  });

  test("throws the task's errors, and rejects snooze and cancel", async () => {
    const error = new PermanentError('no');
    await expect(tasks.define('throws', () => Promise.reject(error)).call()).rejects.toBe(error);
    await expect(tasks.define('snoozes', (): Snooze => snooze('1m')).call()).rejects.toThrow(/snoozed; call\(\) has no job/);
    await expect(tasks.define('cancels', (): Cancel => cancel('why')).call()).rejects.toThrow(/cancelled itself \(why\)/);
  });
});

describe('portable tasks', () => {
  test('run on immediate() until an application registers them', async () => {
    const greet = task('greet', (name: string) => `Hello, ${name}`);
    expect((await greet.enqueue('Ada')).returnValue).toBe('Hello, Ada');
    const tasks = createTasks({ backend: dummy() });
    const bound = tasks.register(greet);
    expect((await greet.enqueue('Bob')).status).toBe('ready');
    expect((await bound.enqueue('Eve')).status).toBe('ready');
    expect((await tasks.jobs.list({ task: 'greet' })).items).toHaveLength(2);
    expect(tasks.register(greet).name).toBe('greet');
    expect(() => createTasks().register(greet)).toThrow(DuplicateTaskError);
  });

  test('report errors where they are created', () => {
    expect(() => task('bad name', () => {})).toThrow(ConfigError);
    expect(() => createTasks().register({} as never)).toThrow(InputError);
  });
});

describe('a worker on memory(), in real time', () => {
  const withWorker = async (fn: (tasks: Tasks) => Promise<void>) => {
    await using tasks = createTasks({ backend: memory(), logger: quiet });
    await fn(tasks);
  };

  test('runs jobs, and wait resolves when they finish', () =>
    withWorker(async (tasks) => {
      const double = tasks.define('double', async (n: number, context) => {
        await context.sleep(5);
        return n * 2;
      });
      const worker = tasks.worker();
      await worker.start();
      const result = await double.enqueue(21);
      expect((await result.wait({ timeout: '5s' })).returnValue).toBe(42);
      expect(result.workerIds).toEqual([worker.id]);
      await worker.stop();
      await expect(worker.start()).rejects.toThrow(/stopped/);
    }));

  test('wait rejects after its timeout', () =>
    withWorker(async (tasks) => {
      const never = tasks.define('never', () => {});
      await expect((await never.enqueue()).wait({ timeout: 10 })).rejects.toThrow(/still ready after 10ms/);
    }));

  test("cancel aborts a running job's signal", () =>
    withWorker(async (tasks) => {
      const started = Promise.withResolvers<void>();
      const reasons: unknown[] = [];
      const long = tasks.define('long', async (_: void, context) => {
        started.resolve();
        await context.sleep('1h').catch((error) => reasons.push(error.name));
      });
      await tasks.worker().start();
      const result = await long.enqueue();
      await started.promise;
      await result.cancel('enough');
      await result.wait({ timeout: '5s' });
      expect(result).toMatchObject({ status: 'cancelled', reason: 'enough' });
      expect(reasons).toEqual(['CancelledError']);
    }));

  test("a task on another backend is run by that backend's worker", async () => {
    await using tasks = createTasks({ backends: { default: immediate(), bulk: memory() }, logger: quiet });
    const job = tasks.define('job', { backend: 'bulk', run: () => 'done' });
    const result = await job.enqueue();
    expect(result.status).toBe('ready');
    await tasks.worker({ backend: 'bulk' }).start();
    expect((await result.wait({ timeout: '5s' })).returnValue).toBe('done');
  });

  test('close stops workers, and is final', async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const job = tasks.define('job', () => {});
    const worker = tasks.worker();
    await worker.start();
    await tasks.close();
    await expect(job.enqueue()).rejects.toThrow(/was closed/);
    await expect(tasks.worker().start()).rejects.toThrow(/closed/);
  });

  test.each<[string, object]>([
    ['a concurrency of 0', { concurrency: 0 }],
    ['an unknown backend', { backend: 'bulk' }],
    ['queues that are no list', { queues: 'mail' }],
    ['an unknown option', { threads: 2 }],
  ])('%s is rejected', (_, options) => {
    expect(() => createTasks().worker(options as never)).toThrow(ConfigError);
  });
});

test('events report every transition, and a listener that throws affects nothing else', async () => {
  const errors: string[] = [];
  const tasks = createTasks({ logger: { ...quiet, error: (_, message) => errors.push(message) } });
  const job = tasks.define('job', (_: void, context) => {
    context.progress(0.5, 'half');
    context.log.info('hello', { a: 1 });
  });
  const seen: string[] = [];
  const off = tasks.on('*', ({ type }) => seen.push(type));
  tasks.on('started', () => {
    throw new Error('a listener');
  });
  tasks.on('successful', ({ job: { task: name }, worker }) => seen.push(`${name} by ${worker}`));
  await job.enqueue();
  expect(seen).toEqual(['enqueued', 'started', 'progressed', 'logged', 'successful', 'job by immediate']);
  expect(errors).toEqual(['a listener of tasks.on() threw an error']);
  off();
  await job.enqueue();
  expect(seen).toHaveLength(7);
});

test('names like constructor find no undefined task', async () => {
  const tasks = createTasks();
  expect(() => tasks.schedule('s', { task: { name: 'constructor' } as never, every: '1m' })).toThrow(/a task of this application/);
  expect(tasks.names).toEqual([]);
  expect(UnknownTaskError.name).toBe('UnknownTaskError');
});

describe('schedules', () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', (_: { n: number }) => {});
  const schedule = (options: object) => () => createTasksSchedule(options);
  const createTasksSchedule = (options: object) =>
    tasks.schedule(`s${Math.floor(performance.now() * 1e6)}`, { task: job, input: { n: 1 }, ...options } as never);

  test.each<[string, object, string]>([
    ['no trigger', {}, 'cron, every, at, sun, any'],
    ['two triggers', { cron: '* * * * *', every: '1m' }, 'cron, every, at, sun, any'],
    ['an interval under a second', { every: '500ms' }, 'every'],
    ['seven fields', { cron: '0 0 0 1 1 * 2027' }, 'cron'],
    ['an invalid minute', { cron: '61 * * * *' }, 'cron'],
    ['a date that never comes', { cron: '0 0 30 2 *' }, 'cron'],
    ['no expression', { cron: '' }, 'cron'],
    ['an unknown zone', { cron: '0 9 * * *', timezone: 'Europe/Atlantis' }, 'timezone'],
    ['an empty zone', { cron: '0 9 * * *', timezone: '' }, 'timezone'],
    ['an offset for a zone', { cron: '0 9 * * *', timezone: '+02:00' }, 'timezone'],
    ['a zone for an interval', { every: '1m', timezone: 'UTC' }, 'timezone'],
    ['an invalid instant', { at: 'tomorrow' }, 'at'],
    ['an invalid location', { sun: { event: 'sunset', latitude: 91, longitude: 0 } }, 'sun.latitude'],
    ['an event that the sun does not know', { sun: { event: 'tea', latitude: 1, longitude: 0 } }, 'sun.event'],
    ['an empty any', { any: [] }, 'any'],
    ['any with an invalid trigger', { any: [{ cron: '0 9 * * *' }, { cron: '99 * * * *' }] }, 'any[1].cron'],
    ['any within any', { any: [{ any: [{ every: '1m' }] }] }, 'any[0].any'],
    ['an unknown overlap', { every: '1m', overlap: 'skipp' }, 'overlap'],
    ['an unknown way to catch up', { every: '1m', missed: { catchUp: 'some' } }, 'missed.catchUp'],
    ['a limit for what has none', { every: '1m', missed: { limit: 3 } }, 'missed.limit'],
    ['an invalid grace', { every: '1m', missed: { grace: 'long' } }, 'missed.grace'],
    ['no runs', { every: '1m', maxRuns: 0 }, 'maxRuns'],
    ['an invalid jitter', { every: '1m', jitter: -1 }, 'jitter'],
    ['an end before the start', { every: '1m', startAt: '2030-01-02T00:00:00Z', endAt: '2030-01-01T00:00:00Z' }, 'endAt'],
    ['what is neither enabled nor not', { every: '1m', enabled: 'yes' }, 'enabled'],
    ['a function as an option of the job', { every: '1m', retry: { unless: () => true } }, 'retry.unless, retry.only'],
    ['an invalid start', { every: '1m', startAt: 'tomorrow' }, 'startAt'],
  ])('%s is rejected', (_, options, path) => {
    expect(faults(schedule(options))).toContain(path);
  });

  test('return their next occurrences', async () => {
    const own = createTasks({ backend: memory() });
    const tick = own.define('tick', () => {});
    own.schedule('nine', {
      task: tick,
      cron: '0 9 * * *',
      timezone: 'Europe/Berlin',
      startAt: '2030-01-01T00:00:00Z',
      endAt: '2030-01-02T23:00:00Z',
    });
    own.schedule('quarter', { task: tick, every: '15m', startAt: '2030-01-01T00:00:00Z' });
    expect((await own.schedules.next('nine')).map((at) => at.toISOString())).toEqual([
      '2030-01-01T08:00:00.000Z',
      '2030-01-02T08:00:00.000Z',
    ]);
    expect((await own.schedules.next('quarter', 2)).map((at) => at.toISOString())).toEqual([
      '2030-01-01T00:00:00.000Z',
      '2030-01-01T00:15:00.000Z',
    ]);
    expect((await own.schedules.list()).map(({ name }) => name)).toEqual(['nine', 'quarter']);
    await expect(own.schedules.next('ten')).rejects.toThrow(/no schedule has the name "ten"/);
    expect(() => own.schedule('nine', { task: tick, every: '1m' })).toThrow(DuplicateTaskError);
  });
});

describe('jobs and queues', () => {
  test('are listed, cancelled, retried and pruned by selection', async () => {
    const tasks = createTasks({ backend: dummy() });
    const a = tasks.define('a', () => {});
    const b = tasks.define('b', () => {});
    for (let i = 0; i < 5; i++) await a.using({ tags: [i % 2 ? 'odd' : 'even'] }).enqueue();
    await b.using({ runAfter: '1h' }).enqueue();
    expect((await tasks.jobs.list({ task: a })).items).toHaveLength(5);
    expect((await tasks.jobs.list({ tag: 'odd' })).items).toHaveLength(2);
    expect((await tasks.jobs.list({ status: 'scheduled' })).items.map(({ task: name }) => name)).toEqual(['b']);
    const first = await tasks.jobs.list({ limit: 4 });
    const rest = await tasks.jobs.list({ limit: 4, after: first.cursor as string });
    expect(new Set([...first.items, ...rest.items].map(({ id }) => id)).size).toBe(6);
    expect(rest.cursor).toBeUndefined();
    expect(await tasks.jobs.cancel({ task: a }, 'obsolete')).toBe(5);
    expect(await tasks.jobs.cancel({ task: a })).toBe(0);
    expect(await tasks.jobs.retry({ tag: 'odd' })).toBe(2);
    expect(await tasks.jobs.prune({ olderThan: '1d' })).toBe(0);
    expect((await tasks.queues.list())[0]).toMatchObject({
      name: 'default',
      paused: false,
      counts: { ready: 2, cancelled: 3, scheduled: 1 },
    });
    await expect(tasks.jobs.list({ statuses: 'failed' } as never)).rejects.toThrow(/did you mean status/);
  });
});

test('omitted input stays undefined: defaults of the schema and of the parameter apply', async () => {
  const tasks = createTasks();
  const schema = tasks.define('schema', { input: z.string().default('from the schema'), run: (text) => text });
  const parameter = tasks.define('parameter', (text: string | null = 'from the parameter') => text);
  expect((await schema.enqueue()).returnValue).toBe('from the schema');
  expect((await parameter.enqueue()).returnValue).toBe('from the parameter');
  expect((await parameter.enqueue(null)).returnValue).toBe(null);
  expect((await parameter.enqueue()).input).toBe(null);
});

describe('describe', () => {
  const waits = (backoff: unknown) => {
    const tasks = createTasks({ backend: memory(), defaults: { queue: 'slow', retry: { maxAttempts: 4 } } });
    tasks.define('job', { retry: { backoff: backoff as never }, run: () => {} });
    return tasks.describe('job').waitsMs;
  };

  test.each([
    [undefined, [1_000, 2_000, 4_000]],
    ['5s', [5_000, 5_000, 5_000]],
    [250, [250, 250, 250]],
    [
      ['1s', '1m'],
      [1_000, 60_000, 60_000],
    ],
    [exponential({ initial: 10, factor: 5, max: 100 }), [10, 50, 100]],
    [linear({ initial: 10, step: 5, max: 18 }), [10, 15, 18]],
    [() => expect.unreachable(), null],
  ])('the delays of %j', (backoff, expected) => {
    expect(waits(backoff)).toEqual(expected);
  });

  test("returns a task's definition with all defaults, and throws for an unknown task", () => {
    const tasks = createTasks({ backend: memory(), defaults: { queue: 'slow' } });
    tasks.define('job', { priority: 5, timeout: '30s', retry: { maxAttempts: 2 }, tags: ['a'], run: () => {} });
    expect(tasks.describe('job')).toEqual({
      name: 'job',
      backend: 'default',
      queue: 'slow',
      priority: 5,
      tags: ['a'],
      schema: null,
      maxAttempts: 2,
      timeoutMs: 30_000,
      isolate: null,
      takesInput: false,
      waitsMs: [1_000],
    });
    const takes: [(...args: never[]) => unknown, boolean][] = [
      [(id: string) => id, true],
      [({ id }: { id: string }) => id, true],
      [async (id: string, _ctx: unknown) => id, true],
      [
        async function named(id: string) {
          return id;
        },
        true,
      ],
      [(_: void, ctx: unknown) => ctx, false],
      [async (_input: void) => {}, false],
      [(id = 'none') => id, false],
    ];
    for (const [i, [run, expected]] of takes.entries()) {
      tasks.define(`takes-${i}`, run as () => unknown);
      expect(tasks.describe(`takes-${i}`).takesInput, String(run)).toBe(expected);
    }
    expect(() => tasks.describe('jop')).toThrow(/did you mean job/);
  });
});

describe('generators and async functions are rejected at the definition', () => {
  const tasks = createTasks({ backend: memory(), logger: quiet });
  const job = tasks.define('job', () => {});
  const run = () => {};
  const anything = (value: unknown) => value as never;

  test.each<[string, string, () => unknown]>([
    [
      'a generator as run',
      'run',
      () =>
        tasks.define(
          'a',
          anything(function* () {}),
        ),
    ],
    ['an async generator as run', 'run', () => tasks.define('a', { run: anything(async function* () {}) })],
    ['an async unless', 'retry.unless', () => tasks.define('a', { retry: { unless: anything(async () => false) }, run })],
    ['a generator as only', 'retry.only', () => tasks.define('a', { retry: { only: anything(function* () {}) }, run })],
    ['an async backoff', 'retry.backoff', () => tasks.define('a', { retry: { backoff: anything(async () => 1) }, run })],
    ['an async default', 'defaults.retry.unless', () => createTasks({ defaults: { retry: { unless: anything(async () => true) } } })],
    ['an async input', 'input', () => tasks.schedule('s', anything({ task: job, cron: '0 9 * * *', input: async () => ({}) }))],
    ['a generator as input', 'input', () => tasks.schedule('s', anything({ task: job, every: '1h', input: function* () {} }))],
    [
      'a generator as listener',
      'listener',
      () =>
        tasks.on(
          'failed',
          anything(function* () {}),
        ),
    ],
    ['a missing listener', 'listener', () => tasks.on('failed', anything(undefined))],
  ])('%s', (_, path, define) => {
    expect(faults(define)).toEqual([path]);
    expect(define).toThrow(/got (an async|a generator|an async generator) function|got undefined/);
  });

  test('a promise from unless is ignored with a warning', async () => {
    const lines: string[] = [];
    const logger = {
      ...quiet,
      warn: (fields: object, message: string) => lines.push(`${message}: ${(fields as { error?: string }).error}`),
    };
    const own = createTasks({ logger });
    const unless = anything(() => Promise.resolve(false));
    const failing = own.define('failing', { retry: { unless }, run: () => Promise.reject(new Error('503')) });
    expect((await failing.enqueue()).reason).toBeNull();
    expect(lines).toEqual([expect.stringContaining('must return true or false, not a promise')]);
  });
});

describe('reports from a task cannot fail it', () => {
  const unreadable = Object.defineProperty({}, 'field', {
    enumerable: true,
    get() {
      throw new Error('no');
    },
  });
  const hostile = {
    toString() {
      throw new Error('no');
    },
  };

  test('progress outside 0 … 1, which causes one warning per task', async () => {
    const lines: string[] = [];
    const tasks = createTasks({ logger: { ...quiet, warn: (_: object, message: string) => lines.push(message) } });
    const job = tasks.define('job', (fractions: unknown[], ctx) => {
      for (const fraction of fractions) ctx.progress(fraction as number, hostile as never);
    });
    const other = tasks.define('other', (_: void, ctx) => ctx.progress('half' as never));
    const reported = async (...fractions: unknown[]) => {
      const result = await job.enqueue(fractions as never);
      return [result.status, result.progress?.fraction];
    };
    expect(await reported(0.25, 1)).toEqual(['successful', 1]);
    expect(lines).toEqual([]);
    expect(await reported(50)).toEqual(['successful', 1]);
    expect(await reported(0.5, 'half')).toEqual(['successful', 0.5]);
    expect(await reported(-1)).toEqual(['successful', 0]);
    expect((await other.enqueue()).progress?.fraction).toBe(0);
    expect(lines).toEqual([
      'ctx.progress(50): the fraction is a number from 0 to 1; for 50 %, pass 0.5',
      'ctx.progress("half"): the fraction is a number from 0 to 1',
    ]);
  });

  test('log lines of any kind, and loggers and listeners that throw or reject', async () => {
    const thrown = () => {
      throw new Error('no');
    };
    // biome-ignore lint/suspicious/noThenProperty: a foreign promise is what is meant
    const rejects = () => ({ then: (_: unknown, reject: (error: Error) => void) => reject(new Error('no')) });
    const stray: unknown[] = [];
    const caught = (error: unknown) => stray.push(error);
    process.on('unhandledRejection', caught);
    try {
      for (const failing of [thrown, rejects, async () => thrown()]) {
        const logger = { debug: failing, info: failing, warn: failing, error: failing };
        const tasks = createTasks({ logger: logger as never });
        for (const name of ['logged', 'progressed', 'successful'] as const) tasks.on(name, failing as never);
        tasks.on('*', failing as never);
        const job = tasks.define('job', (_: void, ctx) => {
          for (const level of ['debug', 'info', 'warn', 'error'] as const) {
            ctx.log[level](hostile as never, unreadable);
            ctx.log[level](undefined as never, 5 as never);
          }
          ctx.progress(Number.NaN);
        });
        expect((await job.enqueue()).status).toBe('successful');
      }
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      process.off('unhandledRejection', caught);
    }
    expect(stray).toEqual([]);
  });

  test('listeners and loggers run outside the attempt, so their leftovers are not attributed to it', async () => {
    const seen: unknown[] = [];
    const look = () => seen.push(failCurrentAttempt(new Error('stray')));
    const tasks = createTasks({ logger: { ...quiet, info: look } });
    for (const name of ['logged', 'progressed'] as const) tasks.on(name, look);
    const job = tasks.define('job', (_: void, ctx) => {
      ctx.log.info('line');
      ctx.progress(0.5);
    });
    expect((await job.enqueue()).status).toBe('successful');
    expect(seen).toEqual([undefined, undefined, undefined]);
  });
});

describe('unknown options are rejected', () => {
  const tasks = createTasks({ backend: memory(), logger: quiet });
  const job = tasks.define('job', (_: number) => {});
  const unknown = (options: unknown) => options as never;

  test('by enqueue and enqueueMany, which point to using()', async () => {
    await expect(job.enqueue(1, unknown({ runAfter: '1h' }))).rejects.toThrow(
      /enqueue\(\): runAfter: expected transaction or blobs; pass options of the job to using\(\{ runAfter \}\)/,
    );
    await expect(job.enqueueMany([1], unknown({ transacton: {} }))).rejects.toThrow(/did you mean transaction/);
    for (const options of [null, 5, 'x', []]) await expect(job.enqueue(1, unknown(options))).rejects.toBeInstanceOf(ConfigError);
    expect(() => job.enqueue(1, unknown({ transaction: {}, delay: 5 }))).toThrow(/delay: expected transaction or blobs/);
    expect((await tasks.jobs.list()).items).toEqual([]);
    expect((await job.enqueue(1, {})).status).toBe('ready');
  });

  test('by all other calls with options', async () => {
    const result = await job.enqueue(1);
    await expect(result.wait(unknown({ timout: '1s' }))).rejects.toThrow(/wait\(\): timout: .*did you mean timeout/);
    await expect(tasks.worker().stop(unknown({ grace: '1s' }))).rejects.toThrow(/stop\(\): grace/);
    await expect((job as { call(...args: unknown[]): Promise<unknown> }).call(1, { priority: 5 })).rejects.toThrow(/takes only the input/);
  });
});

test('undefined properties of objects are omitted; everything else that JSON would change is rejected', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', (_: unknown) => {});
  const result = await job.using({ metadata: { a: undefined, b: 1 } }).enqueue({ a: undefined, b: { c: undefined } });
  expect([result.input, result.metadata]).toEqual([{ b: {} }, { b: 1 }]);
  expect(Object.keys(result.input as object)).toEqual(['b']);
  for (const refused of [[undefined], Number.NaN, new Date(0), { a: () => {} }, { a: Symbol('x') }, new Map()])
    await expect(job.enqueue(refused)).rejects.toBeInstanceOf(InputError);
});

test('a return value that cannot be stored fails the job permanently, and the error says that it has run and what to return', async () => {
  const values: [unknown, RegExp][] = [
    [{ at: new Date(0) }, /^the return value of job: at is Date 1970.*use toISOString\(\) or getTime\(\)/],
    [{ n: 1n }, /n is the BigInt 1n.*use a string/],
    [() => 1, /only plain data can be stored/],
    ['x'.repeat(1_048_600), /at most 1048576/],
  ];
  let ran = 0;
  for (const [value, message] of values) {
    const tasks = createTasks({ logger: quiet });
    const result = await tasks
      .define('job', (): unknown => {
        ran += 1;
        return value;
      })
      .enqueue();
    expect(result.status).toBe('failed');
    expect(result.errors[0]?.message).toMatch(message);
    expect(result.errors[0]?.message).toMatch(/job completed and its effects have happened, so it is not retried\. Return plain data/);
  }
  expect(ran).toBe(values.length);
});

test('a result prints readably', async () => {
  const tasks = createTasks({ logger: quiet });
  const printed = async (run: () => unknown) => {
    const result = await tasks.define(`job${tasks.names.length}`, run).enqueue();
    return inspect(result, { breakLength: Number.POSITIVE_INFINITY })
      .replace(result.id, 'ID')
      .replace(/asOf: \S+/, 'asOf: NOW');
  };
  expect(await printed(() => 1)).toBe("TaskResult { id: 'ID', task: 'job0', status: 'successful', attempts: 1, asOf: NOW }");
  const failed = () => {
    throw new TypeError('no\u001b[1m');
  };
  expect(await printed(failed)).toBe(
    "TaskResult { id: 'ID', task: 'job1', status: 'failed', attempts: 1, error: 'TypeError: no\\x1B[1m', asOf: NOW }",
  );
  const deep = { a: { b: { c: await tasks.define('deep', () => 1).enqueue() } } };
  expect(inspect(deep)).toMatch(/\[TaskResult [0-9a-f-]{36}\]/);
});

describe('blobs', () => {
  const text = (bytes: Uint8Array | null) => bytes && Buffer.from(bytes).toString();

  test('are stored with the job, added by its attempts, and read by callers', async () => {
    const tasks = createTasks({ logger: quiet });
    const job = tasks.define('job', async (_: number, ctx) => {
      await ctx.saveBlob('note', Buffer.from('seen'));
      return text(await ctx.blob('photo'));
    });
    const result = await job.enqueue(1, { blobs: { photo: Buffer.from('bytes') } });
    expect(result.returnValue).toBe('bytes');
    expect([text(await result.blob('photo')), text(await result.blob('note')), await result.blob('none')]).toEqual(['bytes', 'seen', null]);
    expect(JSON.stringify(await tasks.jobs.list())).not.toContain('photo');
    expect(await tasks.define('called', async (_: number, ctx) => text(await ctx.blob('photo'))).call(1)).toBeNull();
  });

  test('are validated: name, type, total size, and one job only', async () => {
    const tasks = createTasks({ backend: memory(), logger: quiet });
    const job = tasks.define('job', (_: number) => {});
    const enqueue = (blobs: unknown) => job.enqueue(1, { blobs: blobs as Record<string, Uint8Array> });
    await expect(enqueue({ 'no name': Buffer.from('') })).rejects.toThrow(/a blob's name must consist of 1 to 128 letters/);
    await expect(enqueue({ photo: 'text' })).rejects.toThrow(/blob photo must be a Uint8Array or a Buffer; got "text"/);
    await expect(enqueue({ a: Buffer.alloc(20_000_000), b: Buffer.alloc(20_000_000) })).rejects.toThrow(/40000000 bytes in total/);
    await expect(job.enqueueMany([1, 2], { blobs: { a: Buffer.from('') } })).rejects.toThrow(/blobs belong to one job/);
    expect((await tasks.jobs.list()).items).toEqual([]);
  });
});
