import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTasks, type ExplorationError, memory, type StoreSource } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { everyCrash, everyOrder, explore, type Scenario, simulate } from 'escapement/testing';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { explored } from '../../fixtures/explored.ts';
import { currentSimulation } from '../../src/testing/simulation.ts';
import { stores } from '../stores/stores.ts';

afterEach(async () => {
  vi.unstubAllEnvs();
  await currentSimulation()
    ?.end()
    .catch(() => {});
});

const soak = Boolean(process.env.ESCAPEMENT_SOAK);
const messageOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'nothing was found',
    (error: Error) => error.message,
  );

test.each(stores)('engine invariants hold under every fault, on $label', async ({ label, open }) => {
  const { tasks, scenario } = soak ? explored(20, 5) : explored(8, 3);
  const store: StoreSource = { kind: 'store', name: 'explored', open };
  const some: Record<string, number> = { memory: 60, 'sqlite in memory': 5, 'sqlite on a file': 1 };
  const seeds = (some[label] ?? 12) * (soak ? 20 : 1);
  const report = await explore(tasks, { seeds, store }, scenario);
  expect(report.seeds).toBe(seeds);
  // Every kind of fault occurred, and changed the outcome of some run.
  const codes = ['F1', 'F7', 'F13', 'F14', 'F18', 'F2', 'F21', 'F22', 'F3', 'F5', 'F8', 'F9'];
  if (seeds >= 60) expect(Object.keys(report.fired)).toEqual(expect.arrayContaining(codes));
  if (label === 'memory') expect(report.mattered).toEqual(expect.arrayContaining(codes));
});

/** An application with a bug: its charges have no idempotency key. */
function shop() {
  const charges: string[] = [];
  const tasks = createTasks({ backend: memory() });
  const charge = tasks.define('charge', {
    retry: { backoff: '1s' },
    run: async ({ order }: { order: string }, ctx) => {
      await ctx.sleep('1s');
      charges.push(order);
      await ctx.sleep('1s');
    },
  });
  const scenario = async () => {
    charges.length = 0;
    await charge.enqueue({ order: 'o1' });
    return () => expect(charges).toEqual(['o1']);
  };
  return { tasks, charge, charges, scenario };
}

describe('a failure', () => {
  test('is shrunk, reported and replayed', async () => {
    const { tasks, scenario } = shop();
    const found = await messageOf(explore(tasks, { seeds: 500 }, scenario));
    expect(found).toMatch(/^AssertionError: expected \[ 'o1', 'o1' \] to deeply equal \[ 'o1' \]/);
    expect(found).toMatch(/shrunk from \d+ to [1-3] decisions?:/);
    expect(found).toMatch(/injected faults:\n {2}\+/);
    expect(found).toMatch(/the last \d+ lines of the timeline:\n {2}\+0s/);
    const [, replay = '', seed = ''] = /ESCAPEMENT_REPLAY='([^']+)' {3}\(the whole seed: ESCAPEMENT_SEED=(\d+)\)/.exec(found) ?? [];
    vi.stubEnv('ESCAPEMENT_REPLAY', replay);
    expect(await messageOf(explore(tasks, {}, scenario))).toContain(`ESCAPEMENT_REPLAY='${replay}'`);
    vi.stubEnv('ESCAPEMENT_REPLAY', undefined);
    vi.stubEnv('ESCAPEMENT_SEED', seed);
    expect(await messageOf(explore(tasks, {}, scenario))).toMatch(/^AssertionError/);
    vi.stubEnv('ESCAPEMENT_SEED', undefined);
    vi.stubEnv('ESCAPEMENT_REPLAY', 'nonsense');
    expect(await messageOf(explore(tasks, {}, scenario))).toMatch(/expected the value printed with a failure/);
  });

  test('is saved in a file, and replayed first next time', async () => {
    const { tasks, charges, charge, scenario } = shop();
    const file = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'deep', 'failures.json');
    await messageOf(explore(tasks, { seeds: 500, file }, scenario));
    const kept = JSON.parse(readFileSync(file, 'utf8'));
    expect(kept).toEqual([expect.stringMatching(/^\d+\/w\d/)]);
    expect(await messageOf(explore(tasks, { seeds: 0, file }, scenario))).toMatch(/^AssertionError/);
    // Fixed: nothing is found.
    const mended = async () => {
      charges.length = 0;
      await charge.enqueue({ order: 'o1' });
      return () => expect(new Set(charges)).toEqual(new Set(['o1']));
    };
    expect(await explore(tasks, { seeds: 20, file }, mended)).toMatchObject({ seeds: 20 });
  });

  test('without faults needs no decisions', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    const found = await messageOf(
      explore(tasks, { seeds: 5 }, async (sim) => {
        await job.enqueue();
        await sim.advance(sim.choose('wait', 3) * 1_000);
        throw new Error('always');
      }),
    );
    expect(found).toMatch(/^Error: always\n\nseed 1, shrunk from \d+ to 0 decisions: it fails without any/);
  });

  test('in repeating the scenario is reported with the first line that differs', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', (_: number) => {});
    let calls = 0;
    const found = await messageOf(
      explore(tasks, { seeds: 5, faults: 'none' }, async () => void (await job.using({ runAfter: ++calls * 1_000 }).enqueue(1))),
    );
    expect(found).toMatch(
      /seed 1 was played twice with different results[\s\S]*the first time: .*due in 1s[\s\S]*the second time: .*due in 2s/,
    );
  });

  test('in repeating the scenario is checked in one of 25 seeds, and reported with the first decision that differs', async () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', (_: number) => {});
    let runs = 0;
    const found = await messageOf(
      explore(tasks, { seeds: 30, faults: 'none' }, async () => {
        runs += 1;
        // Seeds 1 and 26 are played twice: this is the second run of the latter.
        const late = job.using({ runAfter: runs === 28 ? 2_000 : 1_000 });
        await late.enqueueMany([1, 2, 3]);
      }),
    );
    expect(found).toMatch(/^seed 26 was played twice/m);
    expect(found).toMatch(
      /The first decision that differs:\n {2}the first time: {2}tie, \d of \d, at \+1s\n {2}the second time: tie, \d of \d, at \+2s/,
    );
  });
});

describe('every crash', () => {
  test('that a scenario survives is listed in the table', async () => {
    const tasks = createTasks({ backend: memory() });
    const done = new Set<string>();
    const job = tasks.define('job', {
      retry: { backoff: '1s' },
      run: async ({ key }: { key: string }, ctx) => {
        await ctx.sleep('12s');
        done.add(key);
      },
    });
    const table = await everyCrash(tasks, {}, async () => {
      done.clear();
      await job.enqueue({ key: 'a' });
      return () => expect(done).toEqual(new Set(['a']));
    });
    const points = new Set(table.outcomes.map(({ at }) => at));
    expect(points).toEqual(
      new Set([
        'before claim',
        'after claim',
        'before settle',
        'after settle',
        'before renew',
        'after renew',
        'in run, at its start',
        'in run, at a wait',
      ]),
    );
    expect(table.outcomes.every(({ problem }) => problem === null)).toBe(true);
    expect(String(table)).toMatch(/^ {2}w0 {2}before claim +#1 +held$/m);
  });

  test('that breaks the application is reported with its replay', async () => {
    const { tasks, scenario } = shop();
    const error = (await everyCrash(tasks, {}, scenario).catch((reason) => reason)) as ExplorationError;
    expect(error.message).toMatch(/^\d of \d+ crashes break the application:/);
    expect(error.message).toMatch(/^ {2}w0 {2}before settle +#1 +AssertionError: expected \[ 'o1', 'o1' \] to deeply equal/m);
    vi.stubEnv('ESCAPEMENT_REPLAY', error.replay);
    expect(await messageOf(explore(tasks, { workers: 2 }, scenario))).toMatch(/^AssertionError/);
  });
});

describe('a job enqueued by an attempt', () => {
  /** A task that enqueues another: twice, if its worker dies between that and its own end. */
  const family = () => {
    const tasks = createTasks({ backend: memory() });
    const child = tasks.define('child', (_: void) => undefined);
    const parent = tasks.define('parent', { retry: { backoff: '1s' }, run: async (_: void) => void (await child.enqueue()) });
    return { tasks, child, parent };
  };

  test.each(['before enqueue', 'after enqueue'] as const)('is enqueued once or twice after a crash %s', async (at) => {
    const { tasks, child, parent } = family();
    const sim = await simulate(tasks);
    sim.crash({ at, task: child });
    await parent.enqueue();
    await sim.runUntilIdle();
    expect(sim.attempts(parent).map(({ outcome }) => outcome)).toEqual(['lost', 'successful']);
    expect(sim.attempts(child)).toHaveLength(at === 'before enqueue' ? 1 : 2);
    await sim.end();
  });

  test('is detected as a duplicate, also by everyCrash', async () => {
    const { tasks, child, parent } = family();
    const scenario: Scenario = async () => {
      await parent.enqueue();
      return (sim) => expect(sim.attempts(child).filter(({ outcome }) => outcome === 'successful')).toHaveLength(1);
    };
    expect(await messageOf(explore(tasks, { seeds: 300, faults: ['crash'] }, scenario))).toMatch(
      /^AssertionError[\s\S]*shrunk from \d+ to 1 decision:/,
    );
    expect(await messageOf(everyCrash(tasks, {}, scenario))).toMatch(/^ {2}w0 {2}after insert +#1 +AssertionError/m);
  });
});

test('a job with unreadable input fails permanently, and affects no other job', async () => {
  const tasks = createTasks({ backend: memory() });
  const ran: number[] = [];
  const work = tasks.define('work', (n: number) => void ran.push(n));
  const sim = await simulate(tasks);
  const poisoned = await sim.store.poison(work);
  await work.enqueueMany([1, 2]);
  await sim.runUntilIdle();
  await poisoned.refresh();
  expect(poisoned.status).toBe('failed');
  expect(poisoned.attempts).toBe(1);
  expect(poisoned.errors.at(-1)?.message).toMatch(/input/);
  expect(ran.sort()).toEqual([1, 2]);
  await expect(sim.store.poison('nothing')).rejects.toThrow(/no task has the name nothing/);
  await sim.end();
});

describe('every order', () => {
  /** A task that ends exactly at its timeout, while it is cancelled. */
  const race = () => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', { timeout: '10s', retry: { maxAttempts: 1 }, run: (_: void, ctx) => ctx.sleep('10s') });
    return { tasks, job };
  };

  test('of a timeout and an end at the same instant is played', async () => {
    const { tasks, job } = race();
    const ends = new Set<string>();
    const orders = await everyOrder(tasks, { most: 400 }, async (sim) => {
      const result = await job.enqueue();
      return async () => {
        await result.refresh();
        ends.add(`${result.status} ${result.errors.at(-1)?.name ?? ''}`);
        expect(sim.attempts(job)).toHaveLength(1);
      };
    });
    expect(orders.runs).toBeGreaterThan(10);
    expect(ends).toEqual(new Set(['successful ', 'failed TimeoutError']));
  });

  test('that violates an expectation is reported, and replayed', async () => {
    const { tasks, job } = race();
    const scenario = async () => {
      const result = await job.enqueue();
      return async () => expect((await result.refresh()).status).toBe('successful');
    };
    const error = (await everyOrder(tasks, { most: 400 }, scenario).catch((reason) => reason)) as ExplorationError;
    expect(error.message).toMatch(/^AssertionError: expected 'failed' to be 'successful'[\s\S]*in order \d+ of the events at one instant/);
    vi.stubEnv('ESCAPEMENT_REPLAY', error.replay);
    expect(await messageOf(explore(tasks, { workers: 1 }, scenario))).toMatch(/^AssertionError/);
  });
});

test('previously failing runs of the explored application', async () => {
  const { tasks, scenario } = explored(20, 5);
  const file = fileURLToPath(new URL('../../fixtures/explored.runs.json', import.meta.url));
  // The saved runs, and one seed.
  expect((await explore(tasks, { seeds: 1, file }, scenario)).runs).toBeGreaterThan(3);
});

test('without faults only the order of events varies', async () => {
  const { tasks, scenario } = explored(20, 5);
  const report = await explore(tasks, { seeds: 20, faults: 'none' }, scenario);
  expect(report).toMatchObject({ seeds: 20, fired: {}, mattered: [] });
  await expect(explore(tasks, { faults: ['crahs'] as never }, scenario)).rejects.toThrow(/faults/);
  await expect(explore(tasks, { sedes: 1 } as never, scenario)).rejects.toThrow(/seeds/);
});

test('faults can be selected, and progress is reported', async () => {
  const { tasks, scenario } = explored(20, 5);
  const played: number[] = [];
  const report = await explore(
    tasks,
    { seeds: 10, faults: ['pause'], onProgress: (progress) => void played.push(progress.played) },
    scenario,
  );
  expect(played).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(Object.keys(report.fired).filter((code) => code !== 'F8')).toEqual([]);
});

test('a job whose enqueue is not awaited may be claimed before the store has responded', async () => {
  const tasks = createTasks({ backend: memory() });
  const work = tasks.define('work', (_: void, ctx) => ctx.sleep('1s'));
  const report = await explore(tasks, { seeds: 5, faults: 'none', store: sqlite({ file: ':memory:' }) }, async (sim) => {
    const enqueued = work.enqueue();
    await sim.advance('10s');
    await enqueued;
  });
  expect(report.seeds).toBe(5);
});
