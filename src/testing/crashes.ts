/** Tests every possible crash in a scenario, one at a time, and reports which ones the application survives. */
import { ExplorationError } from '../core/errors.ts';
import { appOf, type Tasks } from '../tasks.ts';
import { type Decision, encodeRun } from './choices.ts';
import { crashAfter, crashBefore } from './drawn-faults.ts';
import { askedReplay, type ExploreOptions, playRun, readExploration, replayLine, type Scenario } from './explore.ts';

/** One crash and its outcome. */
export interface CrashOutcome {
  /** The worker that crashed. */
  readonly worker: string;
  /** `before` or `after` and the store call, or where in the attempt: `in run, at a wait`. */
  readonly at: string;
  /** The number of this call by this worker, counted from 1. */
  readonly nth: number;
  /** Null if all checks passed. */
  readonly problem: string | null;
  /** The value of ESCAPEMENT_REPLAY that replays this crash alone. */
  readonly replay: string;
}

/** The outcomes of all crashes. */
export interface CrashTable {
  readonly outcomes: readonly CrashOutcome[];
  /** Formats the table as text. */
  toString(): string;
}

/** The calls around which a crash makes a difference, each with both sides. */
const crashes: readonly (readonly [call: string, side: 'before' | 'after', pick: number])[] = [
  ['claim', 'before', crashBefore],
  ['claim', 'after', crashAfter],
  ['insert', 'before', crashBefore],
  ['insert', 'after', crashAfter],
  ['settle', 'before', crashBefore],
  ['settle', 'after', crashAfter],
  ['renew', 'before', crashBefore],
  ['renew', 'after', crashAfter],
  ['advanceSchedules', 'before', crashBefore],
  ['advanceSchedules', 'after', crashAfter],
];
/** The pick of a crash right after the attempt has started, and of a crash when it waits. */
const atStart = 4;
const atWait = 1;

/**
 * Runs a scenario once without faults, and then once for every crash of a worker around its store calls and within its attempts. After each
 * crash the faults stop, all work must finish, and the function that the scenario resolves to is called.
 * @throws ExplorationError with the table, if any check failed
 * @example
 * await everyCrash(tasks, {}, async () => {
 *   charges.length = 0;
 *   await checkout.enqueue({ order: 'o1' });
 *   return () => expect(charges).toEqual(['o1']);
 * });
 */
export async function everyCrash(tasks: Tasks, options: ExploreOptions, scenario: Scenario): Promise<CrashTable> {
  appOf(tasks);
  const settings = readExploration({ workers: 2, ...options, faults: 'none' }, tasks, scenario);
  const play = (plan: readonly Decision[]) => playRun(tasks, settings, scenario, 0, plan, { crashable: true });
  const replay = askedReplay();
  if (replay) {
    const { problems, error } = await play(replay.plan);
    if (problems.length > 0) throw new ExplorationError(String(problems[0]), encodeRun(0, replay.plan), 0, { cause: error });
    return { outcomes: [], toString: () => '' };
  }
  const plain = await play([]);
  if (plain.problems.length > 0) {
    const text = `the scenario fails without a crash: ${plain.problems[0]}`;
    throw new ExplorationError(text, encodeRun(0, []), 0, { cause: plain.error });
  }
  const outcomes: CrashOutcome[] = [];
  for (const [point, count] of [...plain.drawn].sort()) {
    const [, worker, call] = /^(w\d+)\.(\w+)$/.exec(point) ?? [];
    if (!worker || !call) continue;
    const sides =
      call === 'run'
        ? [['in run, at its start', atStart] as const]
        : call === 'wait'
          ? [['in run, at a wait', atWait] as const]
          : crashes.filter(([name]) => name === call).map(([name, side, pick]) => [`${side} ${name}`, pick] as const);
    for (const [at, pick] of sides) {
      for (let n = 0; n < count; n++) {
        const plan = [{ point, n, pick }];
        const { problems } = await play(plan);
        outcomes.push({ worker, at, nth: n + 1, problem: problems[0] ?? null, replay: encodeRun(0, plan) });
      }
    }
  }
  const table = { outcomes, toString: () => written(outcomes) };
  const broken = outcomes.filter(({ problem }) => problem !== null);
  if (broken.length === 0) return table;
  const { replay: first = '' } = broken[0] as CrashOutcome;
  const text = `${broken.length} of ${outcomes.length} crashes break the application:\n${written(broken)}\n\n${replayLine(first, 'the first of them')}`;
  throw new ExplorationError(text, first, 0);
}

function written(outcomes: readonly CrashOutcome[]): string {
  const rows = outcomes.map(({ worker, at, nth, problem }) => [
    worker,
    at,
    `#${nth}`,
    problem === null ? 'held' : (problem.split('\n', 1)[0] as string),
  ]);
  const width = (column: number) => Math.max(0, ...rows.map((row) => (row[column] as string).length));
  const widths = [width(0), width(1), width(2)];
  return rows
    .map(
      ([a = '', b = '', c = '', d = '']) => `  ${a.padEnd(widths[0] ?? 0)}  ${b.padEnd(widths[1] ?? 0)}  ${c.padEnd(widths[2] ?? 0)}  ${d}`,
    )
    .join('\n');
}
