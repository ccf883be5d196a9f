/** Rewinding: the same seed and the same actions reproduce the past, and the future from there, at any pace. */
import { createTasks, exponential, memory, type StoreSource, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import type { Simulation } from 'escapement/testing';
import { afterEach, describe, expect, test } from 'vitest';
import type { SimulationModule } from '../../cli/config.ts';
import { Feed } from '../../cli/dash/feed.ts';
import type { ClockOrder, Write } from '../../cli/dash/state.ts';
import { type Recorded, VirtualRun } from '../../cli/dash/virtual.ts';
import { carryOut } from '../../cli/dash/writes.ts';

const realImmediate = setImmediate;
const from = Date.parse('2026-03-28T00:00:00Z');
const minute = 60_000;
const hour = 60 * minute;
let run: VirtualRun | undefined;

afterEach(() => end());

async function end(): Promise<void> {
  await run?.end();
  run = undefined;
}

/** A freshly loaded module, whose play waits in every possible way. */
function load(): { tasks: Tasks; simulation: SimulationModule } {
  const tasks = createTasks({ backend: memory() });
  let calls = 0;
  const flaky = tasks.define('flaky', {
    retry: { maxAttempts: 6, backoff: exponential({ initial: '10s', factor: 3, jitter: 0.5 }) },
    run: async ({ n }: { n: number }, ctx) => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, Math.floor(Math.random() * 5_000)));
      if (Math.random() < 0.5) throw new Error(`call ${calls} of ${n}`);
      ctx.log.info(`call ${calls}`);
      return calls;
    },
  });
  const slow = tasks.define('slow', async (_: null, ctx) => ctx.sleep('7m'));
  tasks.schedule('often', { task: flaky, input: { n: 0 }, every: '3m', jitter: '20s' });
  tasks.schedule('together', { task: slow, input: null, cron: '*/10 * * * *' });
  const simulation: SimulationModule = {
    async play(sim: Simulation) {
      for (let i = 1; i < 100; i++) {
        await flaky.enqueue({ n: i });
        if (i % 6 === 0) await sim.next({ max: '90s' });
        else if (i % 3 === 0) await sim.next();
        else if (i % 3 === 1) await sim.advance(Math.floor(Math.random() * 10 * minute));
        else await sim.runUntilIdle();
      }
    },
  };
  return { tasks, simulation };
}

interface Begun {
  readonly run: VirtualRun;
  readonly feed: Feed;
  readonly recorded: Recorded[];
  readonly real: { now: number };
  order(order: ClockOrder): Promise<void>;
  act(write: Write): Promise<string>;
  /** The events up to an instant, with their ids. */
  told(until?: number): unknown;
}

async function begin(store: StoreSource, seed: number | undefined): Promise<Begun> {
  const { tasks, simulation } = load();
  const feed = new Feed();
  tasks.on('*', feed.add);
  const real = { now: 0 };
  const recorded: Recorded[] = [];
  const yieldToEventLoop = () => new Promise<void>((done) => realImmediate(done));
  const plan = { from, startedAt: from, speed: 60, seed, workers: 2, concurrency: 2, store, playing: true, recorded };
  // Each clock read takes a while, or a slice at full speed would not end.
  const realNow = () => {
    real.now += 2;
    return real.now;
  };
  const fail = (error: unknown) => {
    throw error;
  };
  const virtual = await VirtualRun.begin(tasks, simulation, plan, { realNow, yieldToEventLoop, feed, failed: fail });
  run = virtual;
  return {
    run: virtual,
    feed,
    recorded,
    real,
    async order(order) {
      virtual.order(order);
      do await virtual.slice();
      while (virtual.clock.until !== null);
    },
    act: (write) => virtual.act(write, (one) => carryOut(tasks, one)),
    told(until = Number.POSITIVE_INFINITY) {
      const events = feed.events.filter(({ at }) => at <= until).toReversed();
      return { events, timeline: String(virtual.sim.at(Math.min(until, virtual.now)).timeline()) };
    },
  };
}

/** More than half an hour, advanced in every way, with occasional outside actions. */
async function firstTime(first: Begun): Promise<void> {
  const { order, act, run: virtual, real, feed } = first;
  const enqueue = (n: number) => act({ kind: 'enqueue', task: 'flaky', input: `{"n":${n}}` });
  for (const ms of [13, 777, 1_500, 20]) {
    real.now += ms;
    await virtual.slice();
  }
  await enqueue(1_001);
  await order({ kind: 'event' });
  await order({ kind: 'event' });
  await enqueue(1_002);
  // Two at the same instant, with everything between them done.
  await order({ kind: 'until', at: virtual.now });
  const [latest] = feed.events.filter(({ type }) => type === 'enqueued');
  await act({ kind: 'jobs', verb: 'prioritize', which: [latest?.job ?? ''], priority: 9 }).catch(() => {});
  await order({ kind: 'failure' });
  await act({ kind: 'jobs', verb: 'retry', which: [feed.events.find(({ type }) => type === 'retrying')?.job ?? ''] });
  await order({ kind: 'skip', ms: 3 * minute + 1 });
  await act({ kind: 'pauseQueue', name: 'default' });
  await order({ kind: 'skip', ms: 4 * minute });
  await act({ kind: 'resumeQueue', name: 'default' });
  await act({ kind: 'runSchedule', name: 'together' });
  await expect(act({ kind: 'runSchedule', name: 'none' })).rejects.toThrow();
  virtual.order({ kind: 'speed', speed: Number.POSITIVE_INFINITY });
  virtual.order({ kind: 'play' });
  for (let i = 0; i < 10; i++) {
    real.now += 1;
    await virtual.slice();
  }
  await act({
    kind: 'jobs',
    verb: 'cancel',
    which: [feed.events.find(({ type, task }) => type === 'started' && task === 'slow')?.job ?? ''],
  }).catch(() => {});
  await order({ kind: 'until', at: Math.max(virtual.now, from + 45 * minute) });
}

describe.each<[string, () => StoreSource, number | undefined]>([
  ['in memory, with a seed', memory, 7],
  ['in memory, with another seed', memory, 12],
  ['in memory, without a seed', memory, undefined],
  ['on SQLite', () => sqlite({ file: ':memory:' }), 7],
])('%s', (_, store, seed) => {
  test('a rewind restores an earlier instant, and replaying reproduces the same events', async () => {
    const first = await begin(store(), seed);
    await firstTime(first);
    const { recorded } = first;
    const at = first.run.now;
    const past = first.told();
    await first.order({ kind: 'skip', ms: hour });
    const future = first.told();
    await end();

    const again = await begin(store(), seed);
    const perform = (write: Write) => carryOut(again.run.sim.tasks, write);
    await again.run.replay(recorded, at, perform, () => true);
    expect(again.run.now).toBe(at);
    expect(again.told()).toEqual(past);
    expect(again.recorded).toEqual(recorded);
    again.real.now += 1_000;
    for (let i = 0; i < 70; i++) await again.order({ kind: 'skip', ms: minute - 1 });
    await again.order({ kind: 'until', at: at + hour });
    expect(again.told(at + hour)).toEqual(future);
  });

  test('a rewind works for any instant', async () => {
    const first = await begin(store(), seed);
    await firstTime(first);
    const { recorded } = first;
    const end1 = first.run.now;
    const instants = [from, from + 1, ...recorded.slice(1, 3).map((one) => one.at), from + 10 * minute, end1];
    const pasts = instants.map((at) => first.told(at));
    await end();
    for (const [i, at] of instants.entries()) {
      const again = await begin(store(), seed);
      await again.run.replay(
        recorded.filter((one) => one.at <= at),
        at,
        (write) => carryOut(again.run.sim.tasks, write),
        () => true,
      );
      expect(again.told(at), new Date(at).toISOString()).toEqual(pasts[i]);
      await end();
    }
  });
});

test('an interrupted replay stops at its current instant and discards the remaining actions', async () => {
  const first = await begin(memory(), 7);
  await firstTime(first);
  const { recorded } = first;
  const at = first.run.now;
  await end();
  const again = await begin(memory(), 7);
  let asked = 0;
  await again.run.replay(
    recorded,
    at,
    (write) => carryOut(again.run.sim.tasks, write),
    () => ++asked < 3,
  );
  expect(again.run.now).toBeGreaterThan(from);
  expect(again.run.now).toBeLessThan(at);
  expect(again.recorded.length).toBeLessThan(recorded.length);
  await again.order({ kind: 'skip', ms: minute });
});
