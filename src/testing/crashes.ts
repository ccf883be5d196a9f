/** Every crash there can be in a scenario, one at a time: which of them the application survives. */
import { ExplorationError } from '../core/errors.ts';
import { appOf, type Tasks } from '../tasks.ts';
import { type Decision, encodeRun } from './choices.ts';
import { crashAfter, crashBefore } from './drawn-faults.ts';
import { askedReplay, type ExploreOptions, playRun, readExploration, replayLine, type Scenario } from './explore.ts';

/** One crash, and what came of it. */
export interface CrashOutcome {
  /** The worker that crashed. */
  readonly worker: string;
  /** `before` or `after` and the call to the store, or where in the attempt: `in run, at a wait`. */
  readonly at: string;
  /** Which of such calls by this worker, counted from 1. */
  readonly nth: number;
  /** Null: all held. */
  readonly problem: string | null;
  /** The value of ESCAPEMENT_REPLAY that plays it again, alone. */
  readonly replay: string;
}

/** What came of every crash. */
export interface CrashTable {
  readonly outcomes: readonly CrashOutcome[];
  /** As a table, for people. */
  toString(): string;
}

/** The calls around which a crash makes a difference, and both sides of them. */
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
/** The pick of a crash as soon as the attempt has begun, and that of one when it waits. */
const atStart = 4;
const atWait = 1;

/**
 * Plays a scenario once without a fault, and then once for every crash of a worker around its calls to the store and within its attempts.
 * After each the world heals, all work must end, and what the scenario resolves to is asked.
 * @throws ExplorationError with the table, if something did not hold
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
    const text = `it does not hold without any crash: ${plain.problems[0]}`;
    throw new ExplorationError(text, encodeRun(0, []), 0, { cause: plain.error });
  }
  const outcomes: CrashOutcome[] = [];
  for (const [point, count] of [...plain.drawn].sort()) {
    const [, worker, call] = /^(w\d+)\.(\w+)$/.exec(point) ?? [];
    if (!worker || !call) continue;
    const sides =
      call === 'run'
        ? [['in run, when it has begun', atStart] as const]
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
  const text = `${broken.length} of ${outcomes.length} crashes are not survived:\n${written(broken)}\n\n${replayLine(first, 'the first of them')}`;
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
