/** An exploration with default settings finds every planted bug, and shrinks it to a few decisions. */
import { createTasks, memory } from 'escapement';
import { describe, expect, test } from 'vitest';
import { explored } from '../../fixtures/explored.ts';
import type { Job } from '../../src/core/types.ts';
import type { ClaimOptions, Store } from '../../src/ports/store.ts';
import { type Scenario, search } from '../../src/testing/explore.ts';
import { memoryStore, planted } from './planted.ts';

describe('planted', () => {
  // These are found late or shrink slowly; `npm run test:soak` plays them all.
  const slow = [
    'a schedule advances from the current time instead of its occurrence',
    'an occurrence creates two jobs when two schedulers race',
    'a cancellation is lost when it races a failure',
    'settle is not fenced: it accepts outcomes of any claim',
    'the heartbeat stops before the attempts of the worker have ended',
  ];
  const some = planted.filter(({ bug }) => process.env.ESCAPEMENT_SOAK || !slow.includes(bug));
  test.each(some)('$bug', async ({ bug, store, engine }) => {
    const { tasks, scenario } = explored(20, 5);
    let seeds = 1;
    const source = store ? { store: { kind: 'store' as const, name: 'planted', open: () => store(memoryStore()) } } : {};
    const onProgress = ({ played }: { played: number }) => {
      seeds = played + 1;
    };
    const options = { seeds: 500, ...source, onProgress };
    const begun = performance.now();
    const found = await search(tasks, options, scenario, engine).then(
      () => 'not found',
      (error: Error) => error.message,
    );
    const [, before, after] = /shrunk from (\d+) to (\d+) decision/.exec(found) ?? [];
    if (process.env.ESCAPEMENT_TABLE)
      console.log(
        `| ${bug} | ${seeds} | ${before} | ${after} | ${Math.round(performance.now() - begun)} ms | ${found.split('\n', 1)[0]?.replace(/^\S+: /, '')} |`,
      );
    expect(found).not.toBe('not found');
    expect(Number(after)).toBeLessThanOrEqual(8);
  });
});

/** Bugs in limits and unique keys, in an otherwise correct store. */
const limited: readonly (readonly [bug: string, found: RegExp, change: (store: Store) => Partial<Store>])[] = [
  [
    'a unique key is looked up before the insert, not with it',
    /I13|E1/,
    (store) => ({
      async insert(jobs: readonly Job[], options: Parameters<Store['insert']>[1]) {
        const { items } = await store.list({}, { now: options.now, limit: 1_000 });
        await Promise.resolve();
        const taken = jobs.map(
          (job) => items.find((other) => other.job.unique?.key === job.unique?.key && other.job.status === 'queued') ?? null,
        );
        const free = jobs.filter((_, i) => taken[i] === null);
        // The row has its key, but the key is not reserved.
        await store.insert(
          free.map((job) => ({ ...job, unique: null })),
          options,
        );
        return taken;
      },
    }),
  ],
  [
    'a permit is leaked: jobs are claimed beyond the limit',
    /I9/,
    (store) => ({
      claim: (options: ClaimOptions & { now: number }) => store.claim({ ...options, limits: null }),
      settle: (settlements, options) =>
        store.settle(settlements, { ...options, claim: options.claim && { ...options.claim, limits: null } }),
    }),
  ],
];

test.each(limited)('%s', async (_, found, change) => {
  const tasks = createTasks({ backend: memory() });
  const sync = tasks.define('sync', {
    run: (_input: number, ctx) => ctx.sleep('5s'),
    concurrency: { key: () => 'one', limit: 1 },
    unique: { key: (n) => n % 3 },
  });
  const open = () => {
    const store = memoryStore();
    const changed = change(store);
    return new Proxy(store, {
      get(target, key) {
        const value: unknown = Reflect.get(key in changed ? changed : target, key);
        return typeof value === 'function' ? value.bind(key in changed ? changed : target) : value;
      },
    });
  };
  const options = { seeds: 200, workers: 2, store: { kind: 'store' as const, name: 'planted', open } };
  const scenario = async () => {
    await Promise.all([1, 2, 3, 4, 5, 6].map((n) => sync.enqueue(n)));
    return () => {};
  };
  await expect(search(tasks, options, scenario)).rejects.toThrow(found);
});

/** Bugs in dependencies, signals and steps. */
const remembering: readonly (readonly [bug: string, found: RegExp, change: (store: Store) => Partial<Store>])[] = [
  [
    'a job that waits is released in the call after the one that settles its last parent',
    /I8: the last job that it waits for has ended/,
    (store) => {
      const parents = new Map<string, string[]>();
      return {
        insert(jobs, { edges, ...options }) {
          for (const { parent, child } of edges ?? []) parents.set(child, [...(parents.get(child) ?? []), parent]);
          return store.insert(jobs, options);
        },
        async claim(options) {
          for (const [child, waitsFor] of parents) {
            const ended = await store.get(waitsFor);
            if (!ended.every((record) => record?.job.status === 'successful')) continue;
            parents.delete(child);
            await store.amend([{ id: child, expect: { status: 'waiting', claim: 0 }, set: { status: 'queued' } }], options);
          }
          return store.claim(options);
        },
      };
    },
  ],
  [
    'a signal is lost if no job waits for it',
    /I18/,
    (store) => ({
      async sendSignal(signal, options) {
        const { items } = await store.list({}, { now: options.now, limit: 1_000 });
        if (items.some(({ job }) => job.awaits === signal.name)) await store.sendSignal(signal, options);
      },
    }),
  ],
  [
    'a step that was stored is forgotten, and runs again',
    /I17/,
    (store) => ({
      saveSteps: (held, steps) =>
        store.saveSteps(
          held,
          steps.filter(({ name }) => name !== 'charge'),
        ),
    }),
  ],
];

test.each(remembering)('%s', async (_, found, change) => {
  const tasks = createTasks({ backend: memory() });
  const one = tasks.define('one', { retry: { backoff: '1s' }, run: (n: number, ctx) => ctx.sleep(n * 1_000) });
  const all = tasks.define('all', () => 'done');
  const order = tasks.define('order', async (_: void, ctx) => {
    await ctx.step('charge', () => 'c1');
    await ctx.waitFor('go');
    await ctx.sleep('2m');
    await ctx.step('ship', () => 's1');
  });
  const open = () => {
    const store = memoryStore();
    const changed = change(store);
    return new Proxy(store, {
      get(target, key) {
        const value: unknown = Reflect.get(key in changed ? changed : target, key);
        return typeof value === 'function' ? value.bind(key in changed ? changed : target) : value;
      },
    });
  };
  const options = { seeds: 200, workers: 2, store: { kind: 'store' as const, name: 'planted', open } };
  const scenario: Scenario = async (sim) => {
    await tasks
      .group([one.with(1), one.with(2)])
      .then(all)
      .enqueue();
    await order.enqueue();
    await sim.advance(sim.choose('wait', 3) * 1_000);
    await tasks.signal('go');
    return () => {};
  };
  await expect(search(tasks, options, scenario)).rejects.toThrow(found);
});
