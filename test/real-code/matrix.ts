/**
 * Runs cases in every variant, each as two consecutive simulations in the same process. With ESCAPEMENT_REAL=1 the cases run once on a real
 * worker instead, which validates the cases themselves.
 */
import { createTasks, type Duration, memory, SimulationError, type TaskResult, type Tasks } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Case, onRealWorker, type Prepared, type Variant, variants } from './case.ts';
import { startOutside, stopOutside } from './outside.ts';

const serversRun = process.env.ESCAPEMENT_TEST_SERVERS === '1';
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const absolutePath = /(?:^|[\s('"])(?:file:\/\/)?\/(?:[\w.@+-]+\/)+/;
/** Skips cases that would take longer on a real worker. */
const realLimitMs = 5_000;

/** Registers a test for each case and variant. */
export function matrix(cases: readonly Case[]): void {
  beforeAll(startOutside);
  afterAll(stopOutside);
  for (const [library, own] of Map.groupBy(cases, (one) => one.library)) {
    describe(library, () => {
      for (const one of own) describe(one.name, () => register(one));
    });
  }
}

function register(one: Case): void {
  if (onRealWorker) {
    const tooLong = one.real === false || one.refused !== undefined || (one.between?.[1] ?? one.at ?? 0) > realLimitMs;
    test.skipIf(tooLong || missing(one))('on a real worker', () => prepared(one, (run) => playForReal(one, run)));
    return;
  }
  const possible = variants.filter(
    (variant) => !one.without?.includes(variant) && !(variant === 'timeout' && (one.timeout !== undefined || one.never)),
  );
  for (const variant of possible) {
    test.skipIf(missing(one))(variant, () =>
      prepared(one, async (run) => {
        const first = await play(one, run, variant);
        if (one.refused) return;
        const second = await play(one, run, variant);
        if (variant === 'seeded' && !one.between) expect(second).toBe(first);
      }),
    );
  }
}

const missing = (one: Case) => one.needs !== undefined && !serversRun;

async function prepared(one: Case, use: (run: Prepared['run']) => Promise<void>): Promise<void> {
  const { run, close } = one.setup ? await one.setup() : (one as Prepared);
  try {
    await use(run);
  } finally {
    await close?.();
  }
}

/** Runs a case in virtual time; returns its timeline. */
async function play(one: Case, run: Prepared['run'], variant: Variant): Promise<string> {
  const timeout = one.timeout ?? (variant === 'timeout' ? '30s' : undefined);
  const { tasks, job } = application(run, timeout);
  const sleeper = tasks.define('sleeper', async (_: void, ctx) => {
    for (let minute = 0; minute < 60; minute++) await ctx.sleep('1m');
  });
  const sim = await simulate(tasks, {
    realBudget: one.never ? '250ms' : '20s',
    ...(variant === 'seeded' ? { seed: 7, workers: 3, concurrency: 1 } : {}),
  });
  let results: TaskResult[] = [];
  let thrown: unknown;
  try {
    if (variant === 'sleeper') await sleeper.enqueue();
    results = await job.enqueueMany(variant === 'seeded' ? [0, 1, 2] : [0]);
    await (one.driver ?? call)(() => sim.runUntilIdle());
    for (const result of results) await result.refresh();
  } catch (error) {
    thrown = error;
  }
  const end = await sim.end().then(
    () => 'silent',
    (error) => String(error),
  );
  if (one.refused) {
    checkRefused(one.refused, thrown, results);
    return '';
  }
  if (thrown) throw thrown;
  check(one, sim, results, end);
  return String(sim.timeline());
}

const call = (drive: () => Promise<void>) => drive();

function check(one: Case, sim: Simulation, results: readonly TaskResult[], end: string): void {
  const { lines } = sim.timeline();
  const took = results.map(({ finishedAt }) => (finishedAt ? finishedAt.getTime() - sim.startedAt.getTime() : undefined));
  const [from, to] = one.between ?? [one.at ?? 0, one.at ?? 0];
  const found = {
    outcomes: results.map(outcome),
    virtualMs: took.map((ms) => (ms !== undefined && ms >= from && ms <= to ? 'as expected' : ms)),
    end,
    notes: one.never ? [] : lines.filter((line) => line.includes(' note ')),
    paths: lines.filter((line) => absolutePath.test(line)),
  };
  expect(found).toEqual({
    outcomes: results.map(() => expected(one)),
    virtualMs: results.map(() => 'as expected'),
    end: 'silent',
    notes: [],
    paths: [],
  });
}

/** Rejected by the call that drives the simulation, or by a call in the task. */
function checkRefused(message: RegExp, thrown: unknown, results: readonly TaskResult[]): void {
  const told = thrown ?? results[0]?.errors[0];
  expect(told).toMatchObject({ name: SimulationError.name, message: expect.stringMatching(message) });
}

async function playForReal(one: Case, run: Prepared['run']): Promise<void> {
  const { tasks, job } = application(run, one.timeout);
  const worker = tasks.worker({ concurrency: 3 });
  await worker.start();
  try {
    const results = await job.enqueueMany([0, 1, 2]);
    for (const result of results) await result.wait({ timeout: '15s' });
    expect(results.map(outcome)).toEqual(results.map(() => expected(one)));
  } finally {
    await worker.stop();
    await tasks.close();
  }
}

function application(run: Prepared['run'], timeout: Duration | undefined) {
  const tasks: Tasks = createTasks({ backend: memory(), logger: silent });
  const job = tasks.define('job', { retry: { maxAttempts: 1 }, ...(timeout === undefined ? {} : { timeout }), run });
  return { tasks, job };
}

function outcome(result: TaskResult): unknown {
  if (result.status === 'successful') return { returned: result.returnValue };
  return { [result.status]: result.errors.map(({ name, message }) => (message ? `${name}: ${message}` : name)) };
}

const expected = (one: Case) =>
  one.fails ? { failed: [expect.stringMatching(new RegExp(`^${one.fails}(:|$)`))] } : { returned: one.expect };
