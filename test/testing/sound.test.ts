/** Explorations without bugs report none, and others report what they must. Each case was once a bug of the explorer. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTasks, memory, snooze } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { everyCrash, everyOrder, explore, type Simulation } from 'escapement/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { explored } from '../../fixtures/explored.ts';

afterEach(() => vi.unstubAllEnvs());

const nothing = 'nothing was found';
const found = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => nothing,
    (error: Error) => error.message,
  );
const application = () => createTasks({ backend: memory() });

describe('explorations report no failure for', () => {
  test('a worker that the scenario crashes, immediately or at a crash point', async () => {
    const tasks = application();
    const job = tasks.define('job', { retry: { backoff: '1s' }, run: (_: void, ctx) => ctx.sleep('60s') });
    const byHand = explore(tasks, { seeds: 5, faults: 'none', workers: 1 }, async (sim) => {
      await sim.advance('3m');
      await job.enqueue();
      await sim.advance('10s');
      sim.worker(0).crash();
    });
    expect(await found(byHand)).toBe(nothing);
    const atPoint = explore(tasks, { seeds: 5, faults: 'none' }, async (sim) => {
      await sim.advance('3m');
      await job.enqueue();
      sim.crash({ at: 'before settle' });
    });
    expect(await found(atPoint)).toBe(nothing);
  });

  test('a worker that the scenario stops, because it is restarted before the final checks', async () => {
    const tasks = application();
    const job = tasks.define('job', () => {});
    const stopped = explore(tasks, { seeds: 3, workers: 1, faults: 'none' }, async (sim) => {
      void sim.worker(0).stop();
      await sim.advance('1m');
      await job.enqueue();
    });
    expect(await found(stopped)).toBe(nothing);
  });

  test.each([
    [1, process.env.ESCAPEMENT_LONG ? 300 : 8],
    [277, 1],
    [27, 1],
  ])('a job that is deleted when it succeeds, starting at seed %i', async (first, seeds) => {
    const { tasks, scenario } = explored(20, 5);
    const retention = { successful: 0, failed: 'forever', cancelled: 'forever' } as const;
    expect((await explore(tasks, { first, seeds, retention }, scenario)).seeds).toBe(seeds);
  });

  test('a job that is due much later, or stays in a paused queue', async () => {
    const tasks = application();
    const job = tasks.define('job', () => {});
    expect(await found(explore(tasks, { seeds: 1 }, async () => void (await job.using({ runAfter: '35d' }).enqueue())))).toBe(nothing);
    const paused = explore(tasks, { seeds: 1 }, async () => {
      await tasks.queues.pause('default');
      await job.enqueue();
    });
    expect(await found(paused)).toBe(nothing);
  });

  test('a crash after an outcome was reported, beside a schedule that is always busy', async () => {
    const tasks = application();
    const job = tasks.define('job', () => {});
    tasks.schedule('busy', { task: job, every: '10s' });
    expect(await found(everyCrash(tasks, { within: '6h' }, async () => void (await job.enqueue())))).toBe(nothing);
  });

  test('a running job that a scheduled job enqueued', async () => {
    const tasks = application();
    const child = tasks.define('child', (_: void, ctx) => ctx.sleep('20s'));
    const parent = tasks.define('parent', async () => void (await child.enqueue()));
    tasks.schedule('often', { task: parent, every: '30s' });
    expect(await found(explore(tasks, { seeds: 3, faults: 'none' }, (sim) => sim.advance('5m')))).toBe(nothing);
  });

  test('an application with two stores, each with its own jobs and slots', async () => {
    const tasks = createTasks({ backends: { default: memory(), other: memory() } });
    const here = tasks.define('here', { priority: 1, run: (_: void, ctx) => ctx.sleep('5s') });
    const there = tasks.define('there', { backend: 'other', priority: 2, run: (_: void, ctx) => ctx.sleep('5s') });
    const both = explore(tasks, { seeds: 8, concurrency: 2, workers: 2, stores: { other: () => memory() } }, async (sim) => {
      for (let i = 0; i < 4; i++) {
        await there.enqueueMany([undefined, undefined, undefined]);
        await here.enqueueMany([undefined, undefined, undefined]);
        await sim.advance('3s');
      }
    });
    expect(await found(both)).toBe(nothing);
  });

  test('a payment that happens once under all faults', async () => {
    const tasks = application();
    const charges = new Map<string, number>();
    const charge = tasks.define('charge', {
      retry: { backoff: '1s' },
      run: async ({ order }: { order: string }, ctx) => {
        await ctx.sleep('1s');
        charges.set(order, 100);
        await ctx.sleep('1s');
      },
    });
    const once = explore(tasks, { seeds: 150 }, async () => {
      charges.clear();
      await charge.enqueue({ order: 'o1' });
      return () => expect([...charges.keys()]).toEqual(['o1']);
    });
    expect(await found(once)).toBe(nothing);
  });
});

describe('explorations find', () => {
  /** Pays once and ships afterwards; a crash between the two leaves a paid order unshipped. */
  const paying = (waits: boolean) => {
    const tasks = application();
    const paid = new Set<string>();
    const shipped = new Set<string>();
    const ship = tasks.define('ship', ({ order }: { order: string }) => void shipped.add(order));
    const pay = tasks.define('pay', {
      retry: { backoff: '1s' },
      run: async ({ order }: { order: string }, ctx) => {
        if (waits) await ctx.sleep('2s');
        if (paid.has(order)) return;
        paid.add(order);
        if (waits) await ctx.sleep('2s');
        await ship.enqueue({ order });
      },
    });
    const scenario = async () => {
      paid.clear();
      shipped.clear();
      await pay.enqueue({ order: 'o' });
      return () => expect(shipped).toEqual(paid);
    };
    return { tasks, scenario };
  };

  test.each([true, false])('a crash between two effects of one attempt, with a wait between them: %s', async (waits) => {
    const { tasks, scenario } = paying(waits);
    expect(await found(explore(tasks, { seeds: 500 }, scenario))).toMatch(/^AssertionError[\s\S]*shrunk from \d+ to 1 decision:/);
    expect(await found(everyCrash(tasks, {}, scenario))).toMatch(
      /^\d+ of \d+ crashes break the application:[\s\S]*to replay the first of them: ESC/,
    );
  });

  test('a job that never ends, quickly', async () => {
    const tasks = application();
    const job = tasks.define('job', () => snooze('1m'));
    expect(await found(explore(tasks, { seeds: 3, within: '1d' }, async () => void (await job.enqueue())))).toMatch(
      /L1: it never finished/,
    );
  });

  test('state left over from a previous run, and say how to reset it', async () => {
    const tasks = application();
    const charges: string[] = [];
    const charge = tasks.define('charge', () => void charges.push('x'));
    const forgetful = explore(tasks, { seeds: 3, faults: 'none' }, async () => {
      await charge.enqueue();
      return () => expect(charges).toHaveLength(1);
    });
    expect(await found(forgetful)).toMatch(
      /the first time: {2}\(no problems\)\n {2}the second time: AssertionError[\s\S]*Reset leftover state/,
    );
  });
});

describe('explorations report as an error', () => {
  test('a store that keeps the jobs of the last run, unlike a new file for each run', async () => {
    const tasks = application();
    const job = tasks.define('job', (_: void, ctx) => ctx.sleep('1s'));
    const scenario = async () => void (await job.enqueue());
    const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
    let files = 0;
    const one = sqlite({ file: join(folder, 'one.db') });
    expect(await found(explore(tasks, { seeds: 2, store: one }, scenario))).toMatch(
      /already has jobs[\s\S]*a function that creates a new store/,
    );
    const many = () => sqlite({ file: join(folder, `${++files}.db`) });
    expect(await found(explore(tasks, { seeds: 5, store: many }, scenario))).toBe(nothing);
    expect(files).toBeGreaterThanOrEqual(6);
  });

  test('invalid environment variables, files and arguments', async () => {
    const tasks = application();
    const scenario = async () => {};
    const play = () => found(explore(tasks, { seeds: 1 }, scenario));
    vi.stubEnv('ESCAPEMENT_SEED', 'abc');
    expect(await play()).toMatch(/ESCAPEMENT_SEED[\s\S]*a whole number/);
    vi.stubEnv('ESCAPEMENT_SEED', '1e3');
    expect(await play()).toMatch(/ESCAPEMENT_SEED/);
    vi.stubEnv('ESCAPEMENT_SEED', '');
    vi.stubEnv('ESCAPEMENT_REPLAY', 'nonsense');
    expect(await play()).toMatch(/ESCAPEMENT_REPLAY[\s\S]*the value printed with a failure/);
    vi.stubEnv('ESCAPEMENT_REPLAY', '');
    expect(await play()).toBe(nothing);
    const file = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'notes.txt');
    writeFileSync(file, 'something dear');
    expect(await found(explore(tasks, { file }, scenario))).toMatch(/file[\s\S]*a list of failed runs/);
    expect(await found(explore(tasks, {}, undefined as never))).toMatch(/scenario[\s\S]*a function/);
    expect(await found(everyOrder(tasks, { most: 'x' as never }, scenario))).toMatch(/most[\s\S]*a whole number/);
  });

  test('a failures file that cannot be written, after the failure itself', async () => {
    const tasks = application();
    const file = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'no-folder');
    writeFileSync(file, '[]');
    const fails = explore(tasks, { file: join(file, 'kept.json') }, async () => {
      throw new RangeError('here');
    });
    expect(await found(fails)).toMatch(/^RangeError: here[\s\S]*could not be saved in .*kept\.json: E/);
  });
});

test('a replay is run by the function that printed it', async () => {
  const tasks = application();
  const job = tasks.define('job', { timeout: '10s', retry: { maxAttempts: 1 }, run: (_: void, ctx) => ctx.sleep('10s') });
  const scenario = async (sim: { advance(duration: '10m'): Promise<void> }) => {
    await sim.advance('10m');
    const result = await job.enqueue();
    return async () => expect((await result.refresh()).status).toBe('successful');
  };
  const error = await everyOrder(tasks, { most: 400 }, scenario).catch((reason) => reason);
  vi.stubEnv('ESCAPEMENT_REPLAY', error.replay);
  expect(await found(everyOrder(tasks, { most: 400 }, scenario))).toMatch(/^AssertionError/);
});

test('without faults a run has the same timeline on the memory store and on SQLite', async () => {
  const timelines = async (store: ReturnType<typeof memory>) => {
    const { tasks, scenario } = explored(20, 5);
    const all: string[] = [];
    await explore(tasks, { seeds: 10, faults: 'none', store }, async (sim) => {
      await scenario(sim);
      return () => void all.push(String(sim.timeline()));
    });
    return all;
  };
  expect(await timelines(sqlite({ file: ':memory:' }))).toEqual(await timelines(memory()));
});

test('a suspended worker that claims its own jobs again does not exceed its concurrency', async () => {
  const tasks = application();
  const job = tasks.define('job', { retry: { backoff: '1s' }, run: (ms: number, ctx) => ctx.sleep(ms) });
  const scenario = async (sim: Simulation) => {
    for (let i = 0; i < 60; i++) {
      if (i % 5 === 0) await job.enqueueMany([30_000, 12_000, 48_000]);
      await job.enqueue(sim.choose('takes', 5) * 12_000);
      await sim.advance('1s');
    }
  };
  const options = {
    seeds: process.env.ESCAPEMENT_SOAK ? 300 : 40,
    workers: 2,
    concurrency: 4,
    faults: ['pause', 'slow', 'store'],
  } as const;
  expect(await found(explore(tasks, options, scenario))).toBe(nothing);
});
