/** Virtual time controlled by the dashboard: in slices, at a pace, to events, failures and instants, beside the module's own play. */
import { createTasks, memory, type Tasks } from 'escapement';
import type { Simulation } from 'escapement/testing';
import { afterEach, expect, test } from 'vitest';
import type { SimulationModule } from '../../cli/config.ts';
import { Feed } from '../../cli/dash/feed.ts';
import type { ClockOrder } from '../../cli/dash/state.ts';
import { VirtualRun } from '../../cli/dash/virtual.ts';

const realImmediate = setImmediate;
const from = Date.parse('2026-03-28T00:00:00Z');
const minute = 60_000;
let run: VirtualRun | undefined;

afterEach(async () => {
  await run?.end();
  run = undefined;
});

function application(): Tasks {
  const tasks = createTasks({ backend: memory() });
  tasks.define('flaky', {
    retry: { maxAttempts: 3, backoff: '10m' },
    run: (_: null, ctx: { attempt: number }) => {
      if (ctx.attempt < 3) throw new Error('not yet');
    },
  });
  tasks.define('calm', async (_: null, ctx: { sleep(ms: number): Promise<void> }) => ctx.sleep(1_000));
  return tasks;
}

/** Real time is set by the test. */
async function begin(tasks: Tasks, module: SimulationModule = {}, playing = false) {
  const feed = new Feed();
  tasks.on('*', feed.add);
  const real = { now: 0 };
  const failed: unknown[] = [];
  run = await VirtualRun.begin(
    tasks,
    module,
    { from, speed: 60, seed: 1, workers: 1, concurrency: 5, store: memory(), playing, recorded: [], startedAt: from },
    {
      realNow: () => real.now,
      yieldToEventLoop: () => new Promise((done) => realImmediate(done)),
      feed,
      failed: (error) => failed.push(error),
    },
  );
  const virtual = run;
  return {
    run: virtual,
    feed,
    real,
    failed,
    async order(order: ClockOrder) {
      virtual.order(order);
      do await virtual.slice();
      while (virtual.clock.until !== null);
      return virtual.now - from;
    },
  };
}

test('virtual time plays at its speed, and pauses on request', async () => {
  const { run: virtual, real } = await begin(application(), {}, true);
  real.now = 1_000;
  await virtual.slice();
  expect(virtual.now - from).toBe(minute);
  virtual.order({ kind: 'speed', speed: 600 });
  real.now = 2_000;
  await virtual.slice();
  expect(virtual.now - from).toBe(11 * minute);
  virtual.order({ kind: 'pause' });
  real.now = 9_000;
  await virtual.slice();
  expect(virtual.now - from).toBe(11 * minute);
  expect(virtual.still).toBe(true);
});

test('time while the process is suspended is not played', async () => {
  const { run: virtual, real } = await begin(application(), {}, true);
  real.now = 3_600_000;
  await virtual.slice();
  expect(virtual.now - from).toBe(0);
  real.now += 1_000;
  await virtual.slice();
  expect(virtual.now - from).toBe(minute);
});

test('skips add up while one is running', async () => {
  const { run: virtual, order } = await begin(application());
  virtual.order({ kind: 'skip', ms: 60 * minute });
  expect(await order({ kind: 'skip', ms: 60 * minute })).toBe(120 * minute);
});

test('skips go to the next event, the next failure, or an instant', async () => {
  const tasks = application();
  const { order, feed, run: virtual } = await begin(tasks);
  await tasks.get('flaky').using({ runAfter: '5m' }).enqueue(null);
  expect(await order({ kind: 'event' })).toBe(5 * minute);
  expect(feed.failures).toBe(1);
  expect(await order({ kind: 'failure' })).toBe(15 * minute);
  expect(virtual.still).toBe(true);
  expect(await order({ kind: 'until', at: from + 26 * minute })).toBe(26 * minute);
  expect(virtual.sim.jobs({ status: 'successful' })).toHaveLength(1);
});

test('a skip to the next event does nothing if there is none', async () => {
  const { order, run: virtual } = await begin(application());
  expect(await order({ kind: 'event' })).toBe(0);
  expect(virtual.clock.until).toBe(null);
});

test('play of a module continues as time advances', async () => {
  const tasks = application();
  const calm = tasks.get('calm');
  const seen: string[] = [];
  const module: SimulationModule = {
    async play(sim: Simulation) {
      seen.push('begun');
      await sim.advance('1h');
      await calm.enqueue(null);
      seen.push(sim.now.toISOString());
      await sim.runUntilIdle();
      seen.push(sim.now.toISOString());
      await sim.advanceTo('2026-03-28T02:00:00Z');
      seen.push('over');
    },
  };
  const { order, failed } = await begin(tasks, module);
  expect(seen).toEqual(['begun']);
  await order({ kind: 'skip', ms: 30 * minute });
  expect(seen).toEqual(['begun']);
  await order({ kind: 'skip', ms: 31 * minute });
  // Idle at the instant at which the job ended, whatever the pace.
  expect(seen).toEqual(['begun', '2026-03-28T01:00:00.000Z', '2026-03-28T01:00:01.000Z']);
  await order({ kind: 'skip', ms: 60 * minute });
  expect(seen.at(-1)).toBe('over');
  expect(failed).toEqual([]);
});

test('errors in play are reported, and time continues', async () => {
  const { order, failed } = await begin(application(), {
    async play(sim: Simulation) {
      await sim.advance('1m');
      throw new Error('no');
    },
  });
  expect(await order({ kind: 'skip', ms: 5 * minute })).toBe(5 * minute);
  expect(failed).toEqual([new Error('no')]);
});
