/** Runs a scenario once for every order in which events at the same instant can happen. */
import { show } from '../core/duration.ts';
import { ConfigError, ExplorationError } from '../core/errors.ts';
import { appOf, type Tasks } from '../tasks.ts';
import { type Decision, encodeRun } from './choices.ts';
import { askedReplay, type ExploreOptions, playRun, readExploration, replayLine, type Scenario } from './explore.ts';

/** The progress of a search through all orders. */
export interface Orders {
  readonly runs: number;
  /** False: there are more orders than runs; the latest ties were tried first. */
  readonly complete: boolean;
}

const tie = 'tie';

/**
 * Runs a scenario in every order of events due at the same instant, such as a timeout and an end, or a cancel and a start. Intended for
 * small scenarios: each tie of n events multiplies the number of runs by n. Without faults, and with one worker by default.
 * @param options.most maximum number of runs. Default 1,000
 * @throws ExplorationError for the first order in which the scenario fails, with how to replay it
 */
export async function everyOrder(tasks: Tasks, options: ExploreOptions & { most?: number }, scenario: Scenario): Promise<Orders> {
  appOf(tasks);
  const { most = 1_000, ...rest } = options;
  const settings = readExploration({ workers: 1, ...rest, faults: 'none' }, tasks, scenario);
  if (!Number.isSafeInteger(most) || most < 1)
    throw new ConfigError('Invalid options for everyOrder()', [
      { path: 'most', expected: 'a whole number of at least 1', got: show(most) },
    ]);
  const replay = askedReplay();
  const watched: { count: number; pick: number }[] = [];
  let picks: readonly number[] = [];
  for (let runs = 1; ; runs++) {
    watched.length = 0;
    const plan: readonly Decision[] = replay?.plan ?? picks.flatMap((pick, n) => (pick > 0 ? [{ point: tie, n, pick }] : []));
    const run = await playRun(tasks, settings, scenario, 0, plan, {
      drew: (point, count, pick) => {
        if (point === tie) watched.push({ count, pick });
      },
    });
    if (run.problems.length > 0) {
      const again = encodeRun(0, run.decisions);
      const lines = run.lines.slice(-20).map((line) => `  ${line}`);
      const text = [
        run.problems[0],
        '',
        `in order ${runs} of the events at one instant; the last lines of the timeline:`,
        ...lines,
        '',
        replayLine(again, 'it'),
      ];
      throw new ExplorationError(text.join('\n'), again, 0, { cause: run.error });
    }
    if (replay) return { runs, complete: false };
    // The last tie with an untried order is changed next. Earlier ties keep their order; later ones start over.
    const last = watched.findLastIndex(({ count, pick }) => pick + 1 < count);
    if (last < 0) return { runs, complete: true };
    if (runs >= most) return { runs, complete: false };
    picks = watched.slice(0, last + 1).map(({ pick }, i) => (i === last ? pick + 1 : pick));
  }
}
