import { cancel, createTasks, type Event, memory, PermanentError, type Store, snooze, type TaskResult } from 'escapement';
import { simulate } from 'escapement/testing';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { currentSimulation } from '../../src/testing/simulation.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const app = () => createTasks({ backend: memory(), logger: quiet });
const millis = (instant: Date) => instant.getTime() - Date.UTC(2026, 0, 1);

afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

/** Event names with the milliseconds since the start of the simulation. */
function heard(tasks: ReturnType<typeof app>, ...names: Event['type'][]): string[] {
  const seen: string[] = [];
  tasks.on('*', (event) => {
    if (names.includes(event.type)) seen.push(`${event.type} ${millis(new Date(event.at))}`);
  });
  return seen;
}

describe('stopping', () => {
  test('takes exactly the grace period, plus 4 s after the signal, and releases jobs without using up an attempt', async () => {
    const tasks = app();
    const deaf = tasks.define('deaf', { timeout: '1d', run: () => new Promise<void>(() => {}) });
    const seen = heard(tasks, 'workerStopping', 'workerStopped', 'released');
    const sim = await simulate(tasks);
    const result = await deaf.enqueue();
    await sim.advance('1s');
    const stopped = sim.worker(0).stop({ timeout: '10s' });
    await sim.advance('1m');
    await stopped;
    expect(seen).toEqual(['workerStopping 1000', 'released 15000', 'workerStopped 15000']);
    await result.refresh();
    expect([result.status, result.attempts]).toEqual(['ready', 0]);
  });

  test.each<[string, () => unknown, [string, number, unknown]]>([
    ['returns a value', () => 'half', ['successful', 1, 'half']],
    ['returns nothing', () => undefined, ['successful', 1, undefined]],
    ['returns snooze()', () => snooze('1h'), ['scheduled', 0, null]],
    ['returns cancel()', () => cancel('no use'), ['cancelled', 1, null]],
    ['throws', () => Promise.reject(new Error('stopped halfway')), ['ready', 0, null]],
    ['throws a PermanentError', () => Promise.reject(new PermanentError('stopped')), ['ready', 0, null]],
  ])('records the outcome of a function that %s after its signal aborted', async (_name, then, expected) => {
    const tasks = app();
    const told = tasks.define('told', async (_: void, ctx) => {
      await ctx.sleep('1d').catch(() => {});
      return then() as string;
    });
    const sim = await simulate(tasks);
    const result = await told.enqueue();
    await sim.drain();
    const stopped = sim.worker(0).stop({ timeout: '10s' });
    await sim.advance('1m');
    await stopped;
    await result.refresh();
    const value = result.status === 'successful' ? result.returnValue : null;
    expect([result.status, result.attempts, value]).toEqual(expected);
  });

  test('ends when the last attempt loses its lease', async () => {
    const tasks = app();
    const deaf = tasks.define('deaf', { timeout: '1d', run: () => new Promise<void>(() => {}) });
    const seen = heard(tasks, 'discarded', 'workerStopped');
    const sim = await simulate(tasks);
    await deaf.enqueue();
    await sim.drain();
    sim.store.fail('failing', { on: 'renew', times: 1_000 });
    const stopped = sim.worker(0).stop({ timeout: '60s' });
    await sim.advance('5m');
    await stopped;
    expect(seen).toEqual(['discarded 25000', 'workerStopped 25000']);
  });

  test('ends 5 s after the grace period if the store fails, and the leases expire', async () => {
    const tasks = app();
    const work = tasks.define('work', async (_: void, ctx) => ctx.sleep('5s'));
    const seen = heard(tasks, 'workerStopped');
    const sim = await simulate(tasks, { workers: 2 });
    const result = await work.enqueue();
    await sim.drain();
    sim.store.fail('failing', { on: 'settle', times: 15 });
    const stopped = sim.worker(0).stop({ timeout: '10s' });
    await sim.advance('1m');
    await stopped;
    expect(seen).toEqual(['workerStopped 15000']);
    await sim.runUntilIdle();
    expect([(await result.refresh()).status, result.attempts]).toEqual(['successful', 2]);
  });

  test('releases jobs from a claim in progress', async () => {
    const real = new MemoryStore();
    const claiming = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const slow = new Proxy(real, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        const bound = value.bind(target);
        if (key !== 'claim') return bound;
        return async (options: unknown) => {
          const jobs = bound(options);
          claiming.resolve();
          await answer.promise;
          return jobs;
        };
      },
    }) as Store;
    await using tasks = createTasks({ backend: { kind: 'store', name: 'slow', open: () => slow }, logger: quiet });
    let ran = false;
    const work = tasks.define('work', () => {
      ran = true;
    });
    const result = await work.enqueue();
    const worker = tasks.worker();
    await worker.start();
    await claiming.promise;
    const stopped = worker.stop();
    answer.resolve();
    await stopped;
    await result.refresh();
    expect([ran, result.status, result.attempts]).toEqual([false, 'ready', 0]);
  });

  test('resolves for a worker that crashes before or meanwhile', async () => {
    const tasks = app();
    const deaf = tasks.define('deaf', { timeout: '1d', run: () => new Promise<void>(() => {}) });
    const sim = await simulate(tasks);
    await deaf.enqueue();
    await sim.drain();
    const stopping = sim.worker(0).stop();
    await sim.advance('1s');
    sim.worker(0).crash({ restart: false });
    await stopping;
    await sim.worker(0).stop();
  });

  test('wins over a later start', async () => {
    await using tasks = app();
    const worker = tasks.worker();
    await worker.stop();
    await expect(worker.start()).rejects.toThrow(/stopped/);
  });
});

test('a logger that throws fails no job and stops no loop; async listeners that reject do not end the process', async () => {
  const boom = () => {
    throw new Error('no space on the log device');
  };
  await using tasks = createTasks({ backend: memory(), logger: { debug: boom, info: boom, warn: boom, error: boom } });
  const chatty = tasks.define('chatty', (_: void, ctx) => ctx.log.info('hello'));
  tasks.on('started', boom);
  // biome-ignore lint/nursery/noMisusedPromises: what must not be done is what is tested
  tasks.on('started', async () => boom());
  const worker = tasks.worker();
  await worker.start();
  const result = await chatty.enqueue();
  await result.wait({ timeout: '5s' });
  expect(result.status).toBe('successful');
});

test('results after the end of an attempt are ignored, and an unawaited sleep does not end the process', async () => {
  const tasks = app();
  const late = tasks.define('late', {
    timeout: '1s',
    retry: { maxAttempts: 1 },
    async run(_: void, ctx) {
      void ctx.sleep('1h');
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      ctx.progress(0.9, 'still here');
    },
  });
  const seen = heard(tasks, 'progressed');
  const sim = await simulate(tasks);
  await late.enqueue();
  await sim.advance('1m');
  // An unhandled rejection would be reported in the next turn, and fail this file.
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen).toEqual([]);
});

test('texts are truncated and cleaned wherever they come from', async () => {
  const tasks = app();
  const wordy = tasks.define('wordy', async (_: void, ctx) => {
    ctx.progress(0.5, 'a\0b'.repeat(100_000));
    await ctx.sleep('1m');
  });
  const sim = await simulate(tasks);
  const result = await wordy.enqueue();
  await sim.advance('10s');
  await result.cancel('c\0d'.repeat(100_000));
  await sim.drain();
  await result.refresh();
  for (const text of [result.progress?.message, result.reason]) {
    expect(text?.length).toBeLessThan(4_097);
    expect(text).not.toContain('\0');
  }
});

test('a cancellation while the outcome is being stored is reported with its reason', async () => {
  const tasks = app();
  const work = tasks.define('work', (_: void) => snooze('1h'));
  const reasons: (string | null)[] = [];
  tasks.on('cancelled', ({ job }) => reasons.push(job.reason));
  const sim = await simulate(tasks);
  const result: TaskResult = await work.enqueue();
  sim.store.fail('busy', { on: 'settle' });
  await sim.drain();
  await result.cancel('changed my mind');
  await sim.advance('1s');
  expect(reasons).toEqual(['changed my mind']);
  expect((await result.refresh()).reason).toBe('changed my mind');
});

test('a suspended process that claims its own job again aborts the old attempt before the new one starts', async () => {
  const tasks = app();
  const sim = await simulate(tasks, { workers: 2, concurrency: 2 });
  const signals: AbortSignal[] = [];
  const abortedAtBegin: boolean[][] = [];
  const long = tasks.define('long', async (key: string, ctx) => {
    if (key !== 'first') return ctx.sleep('60s');
    abortedAtBegin.push(signals.map(({ aborted }) => aborted));
    signals.push(ctx.signal);
    await ctx.sleep('60s');
  });
  // Its end is stored when the process resumes, and with that call the process claims again.
  const stopping = tasks.define('stopping', (_: void) => void (sim.attempts('stopping').length === 1 && sim.worker(0).pauseFor('45s')));
  await long.enqueue('first');
  await stopping.enqueue();
  await long.enqueueMany(['busy', 'busy']);
  await sim.runUntilIdle();
  expect(abortedAtBegin).toEqual([[], [true]]);
});

test('a worker without its store ends an attempt 25 s after its last renewal, even if an earlier outcome is pending', async () => {
  const tasks = app();
  const sim = await simulate(tasks, { workers: 1 });
  const aborted: number[] = [];
  const job = tasks.define('job', async (ms: number, ctx) => {
    ctx.signal.addEventListener('abort', () => aborted.push(millis(ctx.now())));
    await ctx.sleep(ms);
  });
  await job.enqueue(2_000);
  await sim.advance('1.3s');
  await job.enqueue(60_000);
  await sim.drain();
  sim.store.fail('failing', { times: 1_000_000 });
  await sim.advance('29s');
  expect(aborted).toEqual([26_300]);
});

test('a failed attempt is logged: a warning if it will be retried, an error if it failed permanently', async () => {
  const lines: unknown[] = [];
  const log = (level: string) => (fields: { error?: { message: string } }, message: string) =>
    void lines.push([level, { ...fields, error: fields.error?.message }, message]);
  const logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') } as never;
  await using tasks = createTasks({ backend: memory(), logger });
  const broken = tasks.define('broken', {
    retry: { maxAttempts: 2, backoff: 1 },
    run(message: string) {
      throw new Error(message);
    },
  });
  const worker = tasks.worker({ id: 'w' });
  await worker.start();
  const result = await broken.enqueue('boom');
  await result.wait();
  const of = { task: 'broken', job: result.id, worker: 'w', error: 'boom' };
  expect(lines).toEqual([
    ['warn', { ...of, attempt: 1 }, 'attempt failed, retrying in 1ms: Error: boom'],
    ['error', { ...of, attempt: 2 }, 'job failed for good: Error: boom'],
  ]);
});

test('the console gets full lines, without control characters and stacks', async () => {
  const written: string[] = [];
  const error = console.error;
  console.error = (line: string) => void written.push(line);
  try {
    await createTasks()
      .define('broken', () => {
        throw new Error(`\u001b[31m${'no '.repeat(50)}`);
      })
      .enqueue();
  } finally {
    console.error = error;
  }
  expect(written).toEqual([
    expect.stringMatching(/^job failed for good: Error: {2}\[31m(no ){50} ?task=broken job=[\w-]+ attempt=1 worker=immediate$/),
  ]);
});
