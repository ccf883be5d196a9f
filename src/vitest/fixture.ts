/** `testTasks`: Vitest's `test` with a simulation around every test. */
import { basename, dirname, join } from 'node:path';
import type { Tasks } from 'escapement';
import { type ExploreOptions, explore, type Scenario, type Simulation, type SimulationOptions, simulate } from 'escapement/testing';
import { type TestAPI, type TestContext, test } from 'vitest';
import { exact } from './time.ts';

/** The options of `testTasks`: those of `simulate`. A `seed` draws every choice, the same ones in every test. */
export type TestTasksOptions = SimulationOptions;

/** What `testTasks` returns: Vitest's `test`, with `sim` among its fixtures. */
export type TaskTest = TestAPI<TestFixtures> & {
  /**
   * A test that explores: seeds × interleavings × faults over a scenario. It has a simulation of its own for every run; seeds that are left
   * after 100 s are left out, and the test says so. What fails is kept in `__seeds__` beside the test's file, unless `file` names another place, and is played first the next time: commit it.
   * @example
   * test.explore('an order is charged once', { seeds: 200 }, async () => {
   *   await checkout.enqueue({ order: 'o1' });
   *   return () => expect(charges.of('o1')).toHaveLength(1);
   * });
   */
  explore: ExploringTest & { readonly only: ExploringTest; readonly skip: ExploringTest };
};

type ExploringTest = (name: string, options: ExploreOptions, scenario: Scenario) => void;

/** In the form in which Vitest's builder of fixtures describes them: `$__test` keeps `sim` out of the hooks of suites. */
interface TestFixtures {
  readonly sim: Simulation;
  readonly $__worker?: object;
  readonly $__file?: object;
  readonly $__test?: { readonly sim: Simulation };
}

type Fixture = (context: TestContext, use: (sim: Simulation) => Promise<void>) => Promise<void>;
/** As `testing/refuse.ts` has it: tests fail where they wait for a timer that they do not drive. */
const watchTimers: unique symbol = Symbol.for('escapement.watchTimers') as never;

const tailLines = 40;

/**
 * Vitest's `test`, in which every test runs simulated, also one that never names `sim`: so no test touches what the application is bound
 * to in production. The simulation ends after the test, which fails if tasks left work behind. A failing test is annotated with the seed
 * and the last lines of the timeline.
 * @example
 * const test = testTasks(tasks, { seed: 7 });
 * test('a welcome is sent at once', async ({ sim }) => {
 *   const result = await sendWelcome.enqueue({ userId: 'ada' });
 *   await sim.drain();
 *   await expect(result).toHaveSucceeded();
 * });
 */
export function testTasks(tasks: Tasks, options: TestTasksOptions = {}): TaskTest {
  // The form of fixtures that Vitest 3, 4 and 5 have in common.
  const sim: Fixture = async ({ task, onTestFailed }, use) => {
    const sim = await simulate(tasks, options);
    (sim as { [watchTimers]?(): void })[watchTimers]?.();
    let left: string | undefined;
    onTestFailed((context) => report(context, sim, left));
    await use(sim);
    try {
      await sim.end();
    } catch (error) {
      // What a test itself says has failed comes first: work is often left behind because of it.
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

/** Where the failing runs of a test are kept. */
function keptBeside(path: string, name: string): string {
  const slug = name.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
  return join(dirname(path), '__seeds__', `${basename(path)}.${slug.slice(0, 100)}.json`);
}

const exploringMs = 100_000;
const shrinkingMs = 50_000;

/** What an exploration takes over from the options of its `test`. */
function like({ now, seed, workers, concurrency, store, stores, retention }: TestTasksOptions): ExploreOptions {
  const given = { now, first: seed, workers: workers || undefined, concurrency, store, stores, retention };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Annotates a failing test: the one thing that every reporter prints below the error and its diff, without changing either. */
async function report({ annotate, task }: TestContext, sim: Simulation, left: string | undefined): Promise<void> {
  const { result } = task;
  // Vitest before 3.2 has no annotations.
  if (!result || task.fails || !annotate) return;
  const text = summary(sim, left);
  const { state } = result;
  // Vitest takes annotations only while a test runs, and that it has failed is known only afterwards. It looks when annotate is called.
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
