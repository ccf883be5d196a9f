/** `testTasks`: Vitest's `test`, with a simulation for every test. */
import { basename, dirname, join } from 'node:path';
import type { Tasks } from 'escapement';
import { type ExploreOptions, explore, type Scenario, type Simulation, type SimulationOptions, simulate } from 'escapement/testing';
import { type TestAPI, type TestContext, test } from 'vitest';
import { exact } from './time.ts';

/** Options of `testTasks`: those of `simulate`. A `seed` determines all choices, which are the same in every test. */
export type TestTasksOptions = SimulationOptions;

/** The return value of `testTasks`: Vitest's `test` with the fixture `sim`. */
export type TaskTest = TestAPI<TestFixtures> & {
  /**
   * A test that explores a scenario: seeds × interleavings × faults. Each run has its own simulation. Seeds that have not run after 100 s are
   * skipped, and the test reports it. Failing runs are saved in `__seeds__` next to the test's file, or in `file`, and are replayed first the
   * next time, so commit them.
   * @example
   * test.explore('an order is charged once', { seeds: 200 }, async () => {
   *   await checkout.enqueue({ order: 'o1' });
   *   return () => expect(charges.of('o1')).toHaveLength(1);
   * });
   */
  explore: ExploringTest & { readonly only: ExploringTest; readonly skip: ExploringTest };
};

type ExploringTest = (name: string, options: ExploreOptions, scenario: Scenario) => void;

/** The shape in which Vitest's fixture builder describes fixtures. `$__test` keeps `sim` out of suite hooks. */
interface TestFixtures {
  readonly sim: Simulation;
  readonly $__worker?: object;
  readonly $__file?: object;
  readonly $__test?: { readonly sim: Simulation };
}

type Fixture = (context: TestContext, use: (sim: Simulation) => Promise<void>) => Promise<void>;
/** Defined in `testing/refuse.ts`: tests fail if they wait for a timer that they do not drive. */
const watchTimers: unique symbol = Symbol.for('escapement.watchTimers') as never;

const tailLines = 40;

/**
 * Returns Vitest's `test`, with every test running in a simulation, even if it does not use `sim`, so that no test touches the application's
 * production backends. The simulation ends after the test, which fails if tasks left work behind. A failing test is annotated with the
 * seed and the last lines of the timeline.
 * @example
 * const test = testTasks(tasks, { seed: 7 });
 * test('a welcome is sent at once', async ({ sim }) => {
 *   const result = await sendWelcome.enqueue({ userId: 'ada' });
 *   await sim.drain();
 *   await expect(result).toHaveSucceeded();
 * });
 */
export function testTasks(tasks: Tasks, options: TestTasksOptions = {}): TaskTest {
  // The form of fixtures that works in Vitest 3, 4 and 5.
  const sim: Fixture = async ({ task, onTestFailed }, use) => {
    const sim = await simulate(tasks, options);
    (sim as { [watchTimers]?(): void })[watchTimers]?.();
    let left: string | undefined;
    onTestFailed((context) => report(context, sim, left));
    await use(sim);
    try {
      await sim.end();
    } catch (error) {
      // A failure of the test itself takes precedence, because it is often the reason why work is left behind.
      if (task.result?.state !== 'fail') throw error;
      left = error instanceof Error ? error.message : String(error);
    }
  };
  const simulated = test.extend<{ sim: Simulation }>({ sim: [sim, { auto: true }] }) as unknown as TestAPI<TestFixtures>;
  const exploring =
    (add: typeof test | typeof test.only): ExploringTest =>
    (name, explored, scenario) => {
      add(name, { timeout: exploringMs + shrinkingMs }, async ({ task, signal, annotate }) => {
        const file = keptBeside(task.file.filepath, task.fullTestName ?? name);
        const report = await explore(tasks, { ...like(options), file, for: exploringMs, signal, ...explored }, scenario);
        const { seeds = 100 } = explored;
        if (report.seeds > 0 && report.seeds < seeds && !process.env.ESCAPEMENT_SEED && !process.env.ESCAPEMENT_REPLAY)
          await annotate(`${report.seeds} of ${seeds} seeds were played in ${exact(report.ms)}`);
      });
    };
  const all = Object.assign(exploring(test), { only: exploring(test.only), skip: exploring(test.skip) });
  return Object.assign(simulated, { explore: all });
}

/** The file that keeps the failing runs of a test. */
function keptBeside(path: string, name: string): string {
  const slug = name.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
  return join(dirname(path), '__seeds__', `${basename(path)}.${slug.slice(0, 100)}.json`);
}

const exploringMs = 100_000;
const shrinkingMs = 50_000;

/** The options of a `test` that an exploration inherits. */
function like({ now, seed, workers, concurrency, store, stores, retention }: TestTasksOptions): ExploreOptions {
  const given = { now, first: seed, workers: workers || undefined, concurrency, store, stores, retention };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Annotates a failing test. Every reporter prints annotations below the error and its diff without changing either. */
async function report({ annotate, task }: TestContext, sim: Simulation, left: string | undefined): Promise<void> {
  const { result } = task;
  // Vitest before 3.2 has no annotations.
  if (!result || task.fails || !annotate) return;
  const text = summary(sim, left);
  const { state } = result;
  // Vitest accepts annotations only while a test runs, but the failure is known only afterwards. It checks the state when annotate is called.
  result.state = 'run';
  let annotated: Promise<unknown>;
  try {
    annotated = annotate(text, 'simulation');
  } finally {
    result.state = state;
  }
  await annotated;
}

function summary(sim: Simulation, left: string | undefined): string {
  const { lines } = sim.timeline();
  const earlier = lines.length - tailLines;
  const seed = sim.seed === undefined ? 'without a seed' : `with seed ${sim.seed}`;
  const lasted = exact(sim.now.getTime() - sim.startedAt.getTime());
  return [
    `${seed}, from ${sim.startedAt.toISOString()} for ${lasted}`,
    ...(earlier > 0 ? [`… ${earlier} earlier lines of the timeline`] : []),
    ...lines.slice(-tailLines),
    ...(left === undefined ? [] : left.split('\n')),
  ].join('\n    ');
}
