/** Overlaps with a slow store: attempts that end during a settlement, and renewals that do not include jobs claimed meanwhile. */
import { createTasks, memory } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import { expect, test } from 'vitest';
import type { Job } from '../../src/core/types.ts';
import type { StoreSource } from '../../src/ports/store.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { aroundStore } from '../../src/testing/around-store.ts';
import { playRun, readExploration } from '../../src/testing/explore.ts';
import { stores } from '../stores/stores.ts';

test('with a slow store, every job runs once and ends immediately', async () => {
  const store = stores.find(({ label }) => label === 'memory, answering later');
  if (!store) throw new Error('no such store');
  await using tasks = createTasks({ backend: store, logger: { debug() {}, info() {}, warn() {}, error() {} } });
  let runs = 0;
  const job = tasks.define('job', async (turns: number) => {
    runs += 1;
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
  });
  await tasks.worker({ concurrency: 5 }).start();
  const results = await job.enqueueMany(Array.from({ length: 200 }, (_, i) => i % 7));
  for (const result of results) expect((await result.wait({ timeout: '4s' })).status).toBe('successful');
  expect(runs).toBe(200);
});

test('an attempt whose claim returned late is ended in time, even during a renewal that does not include it', async () => {
  const tasks = createTasks({ backend: memory() });
  const job = tasks.define('job', { retry: { backoff: '1s' }, run: (_: void, ctx) => ctx.sleep('50s') });
  const scenario = async (sim: Simulation) => {
    for (let i = 0; i < 12; i++) {
      await job.enqueue();
      await sim.advance('7s');
    }
  };
  const settings = readExploration({ workers: 2, faults: ['slow'] }, tasks, scenario);
  const lateBy20 = 9;
  const found = new Set<string>();
  for (let claim = 0; claim < 6; claim++) {
    for (let renew = 0; renew < 6; renew++) {
      const plan = [
        { point: 'w0.claim', n: claim, pick: lateBy20 },
        { point: 'w0.renew', n: renew, pick: lateBy20 },
      ];
      for (const problem of (await playRun(tasks, settings, scenario, 0, plan)).problems) found.add(problem);
    }
  }
  expect([...found]).toEqual([]);
});

test('a job whose claim returns when its lease may have ended is released without being started', async () => {
  const tasks = createTasks({ backend: memory() });
  let starts = 0;
  const job = tasks.define('job', () => {
    starts += 1;
  });
  const events: string[] = [];
  for (const type of ['started', 'released', 'successful'] as const)
    tasks.on(type, ({ attempt, at }) => events.push(`${type} ${attempt} ${at - start}`));
  let isLate = false;
  const store: StoreSource = {
    ...memory(),
    open: () =>
      aroundStore(new MemoryStore(), (call, _given, perform) => {
        const answer = perform();
        if (isLate || call !== 'claim' || (answer as readonly Job[]).length === 0) return answer;
        isLate = true;
        // As if the claim had been sent 26 s ago.
        return (answer as readonly Job[]).map((row) => ({ ...row, lastAttemptedAt: (row.lastAttemptedAt ?? 0) - 26_000 }));
      }),
  };
  await using sim = await simulate(tasks, { store });
  const start = Number(sim.now);
  await job.enqueue();
  await sim.advance('1m');
  expect([starts, events]).toEqual([1, ['released 1 0', 'started 1 0', 'successful 1 0']]);
});
