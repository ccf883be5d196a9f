/**
 * Searches for interleavings and faults that break an application. Seeds draw them, an invariant checker watches, and after each scenario the
 * faults stop and all work must finish. A failure is shrunk to the few decisions that cause it, and can be replayed.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Duration, durationMs, type Instant, show } from '../core/duration.ts';
import { ConfigError, ExplorationError, SimulationDeadlockError, SimulationRunawayError } from '../core/errors.ts';
import { recordError } from '../core/failure.ts';
import { textHash } from '../core/schedule.ts';
import { OptionReader } from '../options/reader.ts';
import type { StoreSource } from '../ports/store.ts';
import { appOf, type Tasks } from '../tasks.ts';
import { type ChoiceOptions, Choices, type Decision, decodeRun, encodeRun, prng } from './choices.ts';
import { type FaultFamily, type FaultRates, faultFamilies } from './drawn-faults.ts';
import { Draws, firstDifference } from './draws.ts';
import type { SimulationOptions } from './settings.ts';
import { costOf, kindOf, shrink } from './shrink.ts';
import { begin, type Course, type Simulation } from './simulation.ts';

/** The options of `explore`. */
export interface ExploreOptions {
  /**
   * Number of seeds to play.
   * @default 100
   */
  seeds?: number;
  /**
   * The first seed.
   * @default 1
   */
  first?: number;
  /**
   * The kinds of faults to draw.
   * @default 'all'
   */
  faults?: 'all' | 'none' | readonly FaultFamily[];
  /**
   * Number of workers: 1 … 64.
   * @default 3
   */
  workers?: number;
  /**
   * Maximum number of concurrent attempts per worker.
   * @default 4
   */
  concurrency?: number;
  /**
   * The start of virtual time.
   * @default '2026-01-01T00:00:00Z'
   */
  now?: Instant;
  /**
   * The store. Every run starts with an empty one: a source that opens an empty store, or a function that makes a source for each run.
   * @default memory()
   */
  store?: StoreSource | (() => StoreSource);
  /**
   * Stores for individual aliases, specified in the same way.
   * @default the one of `store`
   */
  stores?: Record<string, StoreSource | (() => StoreSource)>;
  /**
   * How long finished jobs stay in the store, unless they or their task have their own `retention`.
   * @default 'forever'
   */
  retention?: SimulationOptions['retention'];
  /** As in `simulate`: `'steps'` runs the function of a job again from the top after each of its steps. */
  replay?: SimulationOptions['replay'];
  /**
   * After faults have stopped, all work must finish within this time.
   * @default '30d'
   */
  within?: Duration;
  /**
   * Stops after this much real time.
   * @default none
   */
  for?: Duration;
  /**
   * A JSON file in which failing runs are saved, to be replayed first the next time.
   * @default none
   */
  file?: string;
  /** Called after every seed; a returned promise is awaited. */
  onProgress?(progress: { readonly played: number; readonly seeds: number }): void | Promise<void>;
  /** Ends the exploration after the current seed and reports the results so far. */
  signal?: AbortSignal;
}

/** The external events of the application. If it resolves to a function, that function is called when all work has finished. */
export type Scenario = (sim: Simulation) => Promise<void | ((sim: Simulation) => unknown)>;

/** The results of an exploration. */
export interface Exploration {
  /** Number of seeds played. */
  readonly seeds: number;
  /** Number of runs, including those that check whether faults mattered. */
  readonly runs: number;
  /** Real milliseconds. */
  readonly ms: number;
  /** How often each fault happened, by its code. */
  readonly fired: Readonly<Record<string, number>>;
  /** The codes of faults without which some run would have gone differently. */
  readonly mattered: readonly string[];
}

/** All options, parsed. */
export interface Settings {
  readonly seeds: number;
  readonly first: number;
  readonly families: ReadonlySet<FaultFamily>;
  readonly workers: number;
  readonly concurrency: number;
  readonly withinMs: number;
  readonly forMs: number;
  readonly now: Instant;
  readonly store: ExploreOptions['store'];
  readonly stores: ExploreOptions['stores'];
  readonly retention: ExploreOptions['retention'];
  readonly replay: ExploreOptions['replay'];
  readonly signal: AbortSignal | undefined;
}

/** One completed run. */
export interface Run {
  readonly seed: number;
  readonly decisions: readonly Decision[];
  /** Empty if all checks passed. */
  readonly problems: readonly string[];
  readonly error: unknown;
  readonly lines: readonly string[];
  readonly fired: ReadonlyMap<string, readonly Decision[]>;
  /** How often each point was drawn. */
  readonly drawn: ReadonlyMap<string, number>;
}

/**
 * Runs a scenario with many seeds. `ESCAPEMENT_SEED=7` plays only that seed, and `ESCAPEMENT_REPLAY=…` replays a run from the output of a failure.
 * @throws ExplorationError at the first failure, after shrinking: with its seed, its decisions, its last lines, and how to replay it
 * @example
 * await explore(tasks, { seeds: 500 }, async (sim) => {
 *   charges.length = 0;
 *   await checkout.enqueue({ order: 'o1' });
 *   return () => expect(charges).toEqual(['o1']);
 * });
 */
export function explore(tasks: Tasks, options: ExploreOptions, scenario: Scenario): Promise<Exploration> {
  return search(tasks, options, scenario);
}

/** `explore` with a wrapper between the workers and their store. */
export async function search(tasks: Tasks, options: ExploreOptions, scenario: Scenario, between?: Course['between']): Promise<Exploration> {
  const settings = readExploration(options, tasks, scenario);
  const play = (seed: number, plan?: readonly Decision[], draws?: Draws) =>
    playRun(tasks, settings, scenario, seed, plan, { between, ...(draws ? { drew: draws.add, begun: draws.begin } : {}) });
  const startedAt = realNow();
  const kept = keptRuns(options.file);
  const fired = new Map<string, number>();
  const mattered = new Set<string>();
  const tried = new Map<string, number>();
  let runs = 0;
  let played = 0;

  const once = async (seed: number, plan?: readonly Decision[], draws?: Draws): Promise<Run> => {
    runs += 1;
    const run = await play(seed, plan, draws);
    if (run.problems.length > 0) {
      const report = await failure(run, play, settings);
      const fault = keep(options.file, kept, report.replay);
      if (fault === undefined) throw report;
      const text = `${report.message}\n(it could not be saved in ${options.file}: ${fault})`;
      throw new ExplorationError(text, report.replay, report.seed, { cause: report.cause });
    }
    for (const [code, decisions] of run.fired) fired.set(code, (fired.get(code) ?? 0) + decisions.length);
    return run;
  };

  const replay = askedReplay();
  const onlySeed = askedSeed();
  if (replay) {
    await once(replay.seed, replay.plan);
    played = 1;
  } else {
    for (const text of kept) {
      const decoded = decodeRun(text);
      if (decoded) await once(decoded.seed, decoded.plan);
    }
    const seeds = onlySeed === undefined ? settings.seeds : 1;
    const first = onlySeed ?? settings.first;
    for (; played < seeds && realNow() - startedAt < settings.forMs && !settings.signal?.aborted; played++) {
      // One seed in `checkedEvery` is played twice, because a run that its seed does not determine could not be replayed.
      const twice = played % checkedEvery === 0 ? ([new Draws(), new Draws()] as const) : undefined;
      const run = await once(first + played, undefined, twice?.[0]);
      if (twice) {
        runs += 1;
        same(run, await play(first + played, undefined, twice[1]), twice);
      }
      for (const [code, [decision]] of run.fired) {
        if (mattered.has(code) || (tried.get(code) ?? 0) >= maxTries || !decision) continue;
        tried.set(code, (tried.get(code) ?? 0) + 1);
        runs += 1;
        const without = await play(
          run.seed,
          run.decisions.filter((other) => other !== decision),
        );
        if (outcomesHash(without) !== outcomesHash(run)) mattered.add(code);
      }
      await options.onProgress?.({ played: played + 1, seeds });
    }
  }
  return {
    seeds: played,
    runs,
    ms: Math.round(realNow() - startedAt),
    fired: Object.fromEntries([...fired].sort()),
    mattered: [...mattered].sort(),
  };
}

const realNow = performance.now.bind(performance);
/** After this many runs in which removing a fault changed nothing, the check is skipped for that fault. */
const maxTries = 25;
const lastLines = 20;
/** One run in this many is played twice. */
const checkedEvery = 25;
/** Faults stop this long after the end of the scenario. */
const untroubledAfterMs = 900_000;
const afterMs = 90_000;
/** Maximum number of instants with events in a run; a run that needs more will never end. */
const maxInstants = 50_000;
/** If a failure takes more decisions than this, a simpler one is searched for among this many other seeds, for this long. */
const simpleEnough = 5;
const maxAlternatives = 150;
/** Maximum number of runs for shrinking a failure. */
const maxRunsSpent = 800;

/**
 * Parses the options of an exploration.
 * @throws ConfigError with all faults
 */
export function readExploration(options: ExploreOptions, tasks: Tasks, scenario: Scenario): Settings {
  appOf(tasks);
  if (typeof scenario !== 'function')
    throw new ConfigError('Invalid options for explore()', [
      { path: 'scenario', expected: 'a function as the third argument', got: show(scenario) },
    ]);
  const reader = new OptionReader('Invalid options for explore()');
  const names = [
    'seeds',
    'first',
    'faults',
    'workers',
    'concurrency',
    'now',
    'store',
    'stores',
    'retention',
    'replay',
    'within',
    'for',
    'file',
    'onProgress',
    'signal',
  ];
  const given = reader.object(options, '', names);
  const { faults = 'all' } = given;
  const families = faults === 'all' ? faultFamilies : faults === 'none' ? [] : faults;
  if (!Array.isArray(families) || families.some((family) => !faultFamilies.includes(family)))
    reader.fault('faults', `'all', 'none' or some of ${faultFamilies.join(', ')}`, faults);
  const settings: Settings = {
    seeds: reader.integer(given.seeds, 'seeds', 0, Number.MAX_SAFE_INTEGER) ?? 100,
    first: reader.integer(given.first, 'first', 0, Number.MAX_SAFE_INTEGER) ?? 1,
    families: new Set(Array.isArray(families) ? families : []),
    workers: reader.integer(given.workers, 'workers', 1, 64) ?? 3,
    concurrency: reader.integer(given.concurrency, 'concurrency', 1, 10_000) ?? 4,
    withinMs: reader.duration(given.within, 'within') ?? durationMs('30d', 'within'),
    forMs: reader.duration(given.for, 'for') ?? Number.POSITIVE_INFINITY,
    now: (given.now as Instant | undefined) ?? '2026-01-01T00:00:00Z',
    store: given.store as ExploreOptions['store'],
    stores: given.stores as ExploreOptions['stores'],
    retention: given.retention as ExploreOptions['retention'],
    replay: given.replay as ExploreOptions['replay'],
    signal: given.signal as AbortSignal | undefined,
  };
  if (given.replay !== undefined && given.replay !== 'steps') reader.fault('replay', "'steps'", given.replay);
  if (given.file !== undefined && typeof given.file !== 'string') reader.fault('file', 'a path', given.file);
  reader.done();
  return settings;
}

/** Each seed uses some kinds of faults often, some rarely, and some not at all, so that rare kinds also occur alone. */
function ratesOf(seed: number, families: ReadonlySet<FaultFamily>): FaultRates {
  const draw = prng(seed + 0x5eed);
  const levels = [0, 0, 0.004, 0.01, 0.02, 0.05];
  return Object.fromEntries(
    faultFamilies.flatMap((family) => {
      const rate = levels[draw() % levels.length] as number;
      return families.has(family) ? [[family, rate]] : [];
    }),
  );
}

const workersPoint = 'workers';

/** The settings of a run apart from its plan. */
interface Extras {
  readonly between?: Course['between'];
  /** Faults can be planned although none are drawn. */
  readonly crashable?: boolean;
  readonly drew?: ChoiceOptions['drew'];
  /** Called with the simulation when it has started. */
  readonly begun?: (sim: Simulation) => void;
}

/** Plays one run. */
export async function playRun(
  tasks: Tasks,
  settings: Settings,
  scenario: Scenario,
  seed: number,
  plan: readonly Decision[] | undefined,
  { between, crashable = false, drew, begun }: Extras = {},
): Promise<Run> {
  const choices = new Choices(seed, { plan, log: true, drew });
  const fewer = plan?.find(({ point }) => point === workersPoint)?.pick ?? 0;
  const { concurrency, now, store, stores, retention } = settings;
  const made = (source: StoreSource | (() => StoreSource)) => (typeof source === 'function' ? source() : source);
  const options: SimulationOptions = { seed, concurrency, now, workers: Math.max(1, settings.workers - fewer) };
  if (store) options.store = made(store);
  if (stores) options.stores = Object.fromEntries(Object.entries(stores).map(([alias, source]) => [alias, made(source)]));
  if (retention !== undefined) options.retention = retention;
  if (settings.replay !== undefined) options.replay = settings.replay;
  const rates = crashable ? { crash: 0 } : settings.families.size > 0 ? ratesOf(seed, settings.families) : undefined;
  const problems: string[] = [];
  let thrown: unknown;
  const fail = (error: unknown) => {
    thrown ??= error;
    const { name, message } = recordError(error);
    problems.push(`${name}: ${message}`);
  };
  const sim = await begin(tasks, options, { choices, watched: true, between, ...(rates ? { rates } : {}) });
  begun?.(sim);
  try {
    const check = await scenario(sim);
    // The work that the scenario left runs for a while under the seed's faults.
    await sim.runUntilIdle({ max: untroubledAfterMs, instants: maxInstants }).catch((error) => {
      if (!(error instanceof SimulationRunawayError || error instanceof SimulationDeadlockError)) throw error;
    });
    await sim.heal();
    // Jobs that are due later or in a paused queue remain; the invariant checker accounts for them.
    const left = await sim.runUntilIdle({ max: settings.withinMs, instants: maxInstants }).catch((error) => {
      if (!(error instanceof SimulationRunawayError || error instanceof SimulationDeadlockError)) throw error;
      return error;
    });
    // Lets the last leases end; runUntilIdle does not wait for jobs of schedules.
    await sim.calm(afterMs);
    if (left && (await sim.verify({ whole: true })).length > 0) throw left;
    if (typeof check === 'function') await check(sim);
  } catch (error) {
    fail(error);
  }
  // If an error ended the scenario, the state it left behind proves nothing, so only earlier findings are collected.
  const found = await sim.verify({ whole: problems.length === 0 }).catch(fail);
  if (found && found.length > 0) problems.unshift(...found);
  const { lines } = sim.timeline();
  const { fired } = sim;
  await sim.end().catch(fail);
  const decisions = fewer > 0 ? [{ point: workersPoint, n: 0, pick: fewer }, ...choices.decisions] : choices.decisions;
  return { seed, decisions, problems, error: thrown, lines, fired, drawn: choices.drawn };
}

/** A hash of the events without the faults. Two runs are equal if their hashes are. */
function hashOf({ lines, problems }: Run): string {
  return textHash([...lines.filter((line) => !/ {2}note {2}/.test(line)), ...problems].join('\n'));
}

/** The outcomes of the jobs, regardless of time and place. A fault that does not change them did not matter. */
function outcomesHash({ lines, problems }: Run): string {
  const outcomes = lines
    .filter((line) => /#\d/.test(line) && !/ {2}note {2}/.test(line))
    .map((line) => line.replace(/^\S+(?: [\d.]+\w+)* {2,}(?:w[\d.]+)? +/, ''));
  return textHash([...outcomes.sort(), ...problems].join('\n'));
}

/** @throws ExplorationError if a seed did not produce the same run twice, with the first decision that differs and where it was made */
function same(run: Run, again: Run, draws?: readonly [Draws, Draws]): void {
  if (hashOf(run) === hashOf(again)) return;
  const longer = run.lines.length >= again.lines.length ? run : again;
  const at = longer.lines.findIndex((_, i) => run.lines[i] !== again.lines[i]);
  const shown = (one: Run) => (at >= 0 ? (one.lines[at] ?? '(ended)') : (one.problems[0] ?? '(no problems)'));
  const [first, second] = draws ? firstDifference(...draws) : [];
  throw new ExplorationError(
    `seed ${run.seed} was played twice with different results: something in the tasks or the scenario is not determined by the seed.\n` +
      `  the first time:  ${shown(run)}\n  the second time: ${shown(again)}\n` +
      (first ? `The first decision that differs:\n  the first time:  ${first}\n  the second time: ${second}\n` : '') +
      'Reset leftover state, such as a list that tasks push to, at the start of the scenario. Use Math.random and Date for randomness and time, and do not ' +
      'let the outcome depend on which of two real calls finishes first.',
    encodeRun(run.seed, []),
    run.seed,
  );
}

async function failure(
  run: Run,
  play: (seed: number, plan?: readonly Decision[]) => Promise<Run>,
  { workers, families, signal }: Settings,
): Promise<ExplorationError> {
  const again = await play(run.seed, run.decisions);
  if (hashOf(again) !== hashOf(run)) same(run, again);
  const fewerWorkers = Array.from({ length: workers - 1 }, (_, i) => ({ point: workersPoint, n: 0, pick: workers - 1 - i }));
  const budget = { runs: maxRunsSpent };
  // A caller that has requested the end wants to see the results so far.
  const isAborted = () => signal?.aborted === true;
  let smallest = await shrink(again, fewerWorkers, families, (plan) => play(run.seed, plan), budget, isAborted);
  // Another seed may fail in the same way with fewer decisions.
  for (let i = 1; i <= maxAlternatives && smallest.decisions.length > simpleEnough && budget.runs > 0 && !isAborted(); i++) {
    const other = await play(run.seed + i);
    budget.runs -= costOf(other);
    if (other.problems.length === 0 || kindOf(other) !== kindOf(run)) continue;
    const shrunk = await shrink(other, fewerWorkers, families, (plan) => play(other.seed, plan), budget, isAborted);
    if (shrunk.decisions.length < smallest.decisions.length) smallest = shrunk;
  }
  const { decisions, problems, lines } = smallest;
  const replay = encodeRun(smallest.seed, decisions);
  const list = decisions.map(({ point, n, pick }) => `  ${point} #${n}: ${pick}`);
  const isNote = (line: string) => / {2}note {2}/.test(line);
  const events = lines.filter(isNote).slice(-10);
  const first = lines.findIndex(isNote);
  const last = Math.max(0, lines.length - lastLines);
  // The first fault may be long before the end.
  const around = first >= 0 && first < last ? lines.slice(Math.max(0, first - 8), Math.min(first + 9, last)) : [];
  const text = [
    problems[0],
    ...problems.slice(1, 5).map((problem) => `also: ${problem}`),
    '',
    `seed ${run.seed}${smallest.seed === run.seed ? '' : ` and, simpler, seed ${smallest.seed}`}, shrunk from ${run.decisions.length} to ${decisions.length} decision${decisions.length === 1 ? '' : 's'}: ${decisions.length > 0 ? '' : 'it fails without any'}`.trimEnd(),
    ...list.slice(0, 20),
    ...(events.length > 0 ? ['', 'injected faults:', ...events.map((line) => `  ${line}`)] : []),
    ...(around.length > 0 ? ['', 'the timeline around the first fault:', ...around.map((line) => `  ${line}`)] : []),
    '',
    `the last ${lines.length - last} lines of the timeline:`,
    ...lines.slice(last).map((line) => `  ${line}`),
    '',
    `${replayLine(replay, 'it')}   (the whole seed: ESCAPEMENT_SEED=${run.seed})`,
  ].join('\n');
  return new ExplorationError(text, replay, smallest.seed, { cause: smallest.error });
}

/** The run requested by ESCAPEMENT_REPLAY, if it is set. */
export function askedReplay(): ReturnType<typeof decodeRun> {
  const text = process.env.ESCAPEMENT_REPLAY;
  if (text === undefined || text === '') return undefined;
  const decoded = decodeRun(text);
  if (!decoded) throw invalidVariable('ESCAPEMENT_REPLAY', 'the value printed with a failure', text);
  return decoded;
}

function askedSeed(): number | undefined {
  const text = process.env.ESCAPEMENT_SEED;
  if (text === undefined || text === '') return undefined;
  const seed = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(seed)) throw invalidVariable('ESCAPEMENT_SEED', 'a whole number', text);
  return seed;
}

function invalidVariable(path: string, expected: string, got: string): ConfigError {
  return new ConfigError('Invalid options for explore()', [{ path, expected, got: show(got) }]);
}

/** The command that replays a run. */
export function replayLine(replay: string, what: string): string {
  return `to replay ${what}: ESCAPEMENT_REPLAY='${replay}'`;
}

function keptRuns(file: string | undefined): readonly string[] {
  if (file === undefined || !existsSync(file)) return [];
  let kept: unknown;
  try {
    kept = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    kept = undefined;
  }
  if (!Array.isArray(kept))
    throw new ConfigError('Invalid options for explore()', [{ path: 'file', expected: 'a list of failed runs as JSON', got: file }]);
  return kept.filter((text): text is string => typeof text === 'string');
}

/** Returns the reason if it could not be saved. */
function keep(file: string | undefined, kept: readonly string[], replay: string): string | undefined {
  if (file === undefined || replay === '' || kept.includes(replay)) return undefined;
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify([replay, ...kept], null, 1)}\n`);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
