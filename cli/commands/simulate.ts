/** `escapement simulate`: plays a module's application over a period of virtual time, and prints a report. */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { FaultFamily, Simulation } from 'escapement/testing';
import { parseDuration, parseInstant } from '../../src/core/duration.ts';
import { duration, durationExpected, instant, instantExpected, whole } from '../arguments.ts';
import { type Application, loadApplication, type SimulationModule, withoutTasks } from '../config.ts';
import { captureConsole } from '../console.ts';
import { clean, json, painter, wantsColour } from '../format.ts';
import { CommandError, type ExitCode, exitCodes, faultText, type Io, orStuck } from '../io.ts';
import type { Plan, Played } from '../play.ts';
import { printReport } from '../print.ts';
import { closingLine, progressOf } from '../progress.ts';
import { factsOf, type Report } from '../report.ts';
import { type TemporaryStore, temporaryStore } from '../stores.ts';

interface Options {
  readonly for?: number;
  readonly until?: number;
  readonly from?: number;
  readonly seed?: number;
  readonly workers?: number;
  readonly concurrency?: number;
  readonly crash?: boolean;
  readonly json?: boolean;
  readonly timeline?: string;
  readonly explore?: number;
  readonly untilFailure?: boolean;
  readonly faults?: string;
  readonly failures?: string;
  readonly store?: string;
}

const faultKinds = ['crash', 'store', 'slow', 'pause', 'stale', 'clock', 'handler', 'scheduler'];

const help = `
The module exports the result of createTasks(), under any name. It can also export a simulation to
play, with defaults for the options above:

  export const simulation = {
    now: '2026-03-23T00:00:00Z', for: '7d', workers: 2, concurrency: 10, seed: 7,
    async play(sim) {…},     // enqueues, and moves time: sim.advance('1h'), sim.advanceTo(instant)
    expect(sim) {…},         // throws if the outcome is wrong; called at the end
  };

Without play, the module's schedules are played. play is cut off at the end of the period.
The module's own output goes to stderr. The same seed prints the same bytes to stdout.

With --explore, the module's play runs under many seeds (up to 1h each unless --for is given), with
crashes, pauses, slow and failing stores and skewed clocks. Then the faults stop, all work must
finish, and expect is called. play must set up everything it needs each time. Failures are shrunk
to the few decisions that cause them, and printed with a line that replays them (ESCAPEMENT_REPLAY).

In the report:
  jobs           enqueued; success, failed, cancelled: finished that way; open: not finished
  attempts       started, including snoozed and lost attempts
  retried        failed or lost attempts that were followed by another
  wait p50, p95  from the due time of a job to the start of its first attempt
  busiest hour   the hour (UTC) in which most attempts started
  outbox         emails that the simulated mail server accepted; twice: accepted again, with
                 the same Message-ID; to: different addresses

With --json, a single document: version, module, from, to, durationMs, seed, workers,
concurrency, crashes, interrupted, totals, tasks[], schedules[], hours[], retried[], failed[],
cancelled[], failedJobs[], mail[], expectation { outcome, message }.

Exit codes:
  0    the module's expectation holds, or it has none
  1    the expectation fails, or attempts left work behind when they ended
  2    wrong usage, or the module cannot be loaded or played
  130  interrupted by Ctrl-C; the report covers the time up to then

With ESCAPEMENT_DEBUG=1, errors are printed with their stacks.`;

/** Adds the command to the program. `done` receives the exit code. */
export function addSimulate(program: Command, io: Io, done: (code: ExitCode) => void): void {
  program
    .command('simulate')
    .summary('play days of an application in virtual time, in seconds')
    .description('Plays the tasks and schedules of a module over a period of virtual time, and prints a report.')
    .argument('<module>', 'the module that calls createTasks(); .ts runs directly')
    .option('--for <duration>', "how long to play: '90m', '7d' (default: simulation.for, else 7d; with --explore at most 1h)", duration)
    .option('--until <instant>', "play up to this instant: '2026-03-30T00:00:00Z'", instant)
    .option('--from <instant>', 'start of virtual time (default: simulation.now, else 2026-01-01T00:00:00Z)', instant)
    .option(
      '--seed <n>',
      'draw ties, jitter and faults from this seed (default: simulation.seed, else none)',
      whole(0, Number.MAX_SAFE_INTEGER),
    )
    .option('--workers <n>', 'number of workers (default: simulation.workers, else 1, with --explore 3)', whole(0, 64))
    .option('--concurrency <n>', 'maximum number of attempts at the same time per worker (default: 10)', whole(1, 10_000))
    .option('--crash', 'kill a worker during about one attempt in fifty; it restarts after 1 s')
    .option(
      '--store <url>',
      'keep the jobs in a PostgreSQL database (postgres://…), in a schema that is dropped at the end (default: memory)',
    )
    .option('--json', 'print one JSON document')
    .option('--timeline <file>', 'write every event of the simulation to a file, one per line')
    .option('--explore <seeds>', 'search for failures: play N seeds, each with its own faults', whole(1, Number.MAX_SAFE_INTEGER))
    .option('--until-failure', 'search until something fails, or Ctrl-C')
    .option('--faults <kinds>', `with --explore: all, none, or some of ${faultKinds.join(',')} (default: all)`)
    .option('--failures <folder>', 'with --explore: save failures in this folder, and play them first the next time')
    .addHelpText('after', help)
    .action(async (module: string, options: Options) => done(await simulateCommand(module, options, io)));
}

async function simulateCommand(module: string, options: Options, io: Io): Promise<ExitCode> {
  const progress = progressOf(io);
  // The module may print while the progress line is shown.
  const restoreConsole = captureConsole(io.stderr, progress.clear);
  let temporary: TemporaryStore | undefined;
  try {
    // Imported here, so that a worker does not load the simulator.
    const { play } = await import('../play.ts');
    const application = await loadApplication(module, io);
    const warning = withoutTasks(application);
    // `play` may define some.
    if (warning !== undefined && !application.simulation.play) io.stderr.write(`escapement: ${warning}\n`);
    const plan = planOf(application, options);
    if (options.store !== undefined && isSearch(options))
      throw new CommandError('--store does not work with a search, which runs in memory');
    if (isSearch(options)) return await exploration(application, plan, options, io);
    if (options.faults !== undefined || options.failures !== undefined)
      throw new CommandError('--faults and --failures need --explore SEEDS or --until-failure');
    // Fail now, not after a long run, if the file cannot be written.
    if (options.timeline !== undefined) writeTimeline(options.timeline, '', io);
    if (options.store !== undefined) temporary = await temporaryStore(options.store);
    const { result, leftBehind } = await play(application, { ...plan, store: temporary?.store }, { io, progress }, (sim, played) =>
      reportOf(application, sim, plan, played, { io, timeline: options.timeline }),
    );
    const { report, played } = result;
    io.stdout.write(options.json ? `${json(report)}\n` : `${printReport(report, painter(wantsColour(io.stdout, io.env)))}\n`);
    if (leftBehind) io.stderr.write(faultText(leftBehind, io.env));
    io.stderr.write(`${closingLine(report.durationMs, played.realMs)}\n`);
    if (report.interrupted) return exitCodes.interrupted;
    return leftBehind || report.expectation.outcome === 'fails' ? exitCodes.expectation : exitCodes.ok;
  } finally {
    await temporary?.end();
    progress.clear();
    restoreConsole();
  }
}

async function exploration(application: Application, plan: Plan, options: Options, io: Io): Promise<ExitCode> {
  if (options.json || options.timeline !== undefined || options.crash)
    throw new CommandError(
      '--json, --timeline and --crash do not work with a search, which prints its own result and draws its own crashes',
    );
  const { faults = 'all' } = options;
  const kinds = faults.split(',').map((kind) => kind.trim());
  const unknown = kinds.find((kind) => !['all', 'none', ...faultKinds].includes(kind));
  if (unknown !== undefined)
    throw new CommandError(`--faults: unknown kind ${clean(unknown)}; give all, none, or some of ${faultKinds.join(',')}`);
  if (kinds.length > 1 && (kinds.includes('all') || kinds.includes('none')))
    throw new CommandError('--faults: all and none cannot be combined with other kinds');
  const chosen = kinds.includes('all') ? 'all' : kinds.includes('none') ? 'none' : (kinds as FaultFamily[]);
  const seeds = options.untilFailure ? Number.POSITIVE_INFINITY : (options.explore ?? 1);
  const { exploreModule } = await import('../explore.ts');
  // As in explore(): three workers unless the user chooses otherwise.
  const workers = options.workers ?? application.simulation.workers ?? 3;
  const ownMs = parseDuration(application.simulation.for ?? '7d') ?? 0;
  const shortened = options.for === undefined && options.until === undefined && plan.to - plan.from < ownMs;
  return exploreModule(application, { ...plan, workers }, { seeds, faults: chosen, failures: options.failures, shortened }, io);
}

function planOf({ simulation, label }: Application, options: Options): Plan {
  if (options.for !== undefined && options.until !== undefined) throw new CommandError('give --for or --until, not both');
  const fault = (key: keyof SimulationModule, expected: string) => new CommandError(`${label}: simulation.${key} must be ${expected}`);
  const from = options.from ?? parseInstant(simulation.now ?? '2026-01-01T00:00:00Z');
  if (from === undefined) throw fault('now', instantExpected);
  const ownMs = parseDuration(simulation.for ?? '7d');
  if (ownMs === undefined) throw fault('for', durationExpected);
  const forMs = options.for ?? (isSearch(options) ? Math.min(ownMs, searchedMs) : ownMs);
  const to = options.until ?? from + forMs;
  if (to <= from) throw new CommandError(`the period ends (${iso(to)}) before it starts (${iso(from)}); change --until, --from or --for`);
  if (to > latestInstant) throw new CommandError('the period ends after the year 275760, the limit of dates; give a shorter --for');
  const number = (key: 'seed' | 'workers' | 'concurrency', otherwise: number | undefined, min: number, max: number) => {
    const value = options[key] ?? simulation[key] ?? otherwise;
    if (value === undefined || (Number.isSafeInteger(value) && value >= min && value <= max)) return value;
    throw fault(key, `a whole number from ${min} to ${max}`);
  };
  return {
    from,
    to,
    seed: number('seed', undefined, 0, Number.MAX_SAFE_INTEGER),
    workers: number('workers', 1, 0, 64) ?? 1,
    concurrency: number('concurrency', 10, 1, 10_000) ?? 10,
    crash: options.crash === true,
  };
}

/** Reads the report from the simulation at its end; the module's expectation comes last. */
async function reportOf(
  { label, tasks, simulation }: Application,
  sim: Simulation,
  plan: Plan,
  played: Played,
  { io, timeline }: { io: Io; timeline: string | undefined },
): Promise<{ readonly report: Report; readonly played: Played }> {
  const facts = await factsOf(label, tasks, sim, plan, played);
  if (timeline !== undefined) writeTimeline(timeline, `${sim.timeline()}\n`, io);
  return { report: { ...facts, expectation: await expectationOf(simulation, sim, played, { io, label }) }, played };
}

async function expectationOf(
  simulation: SimulationModule,
  sim: Simulation,
  played: Played,
  { io, label }: { io: Io; label: string },
): Promise<Report['expectation']> {
  if (!simulation.expect) return { outcome: 'none', message: null };
  if (played.interrupted) return { outcome: 'not asked', message: null };
  try {
    await orStuck(io, Promise.resolve(simulation.expect(sim)), `expect(sim) of ${label} never settles`);
    return { outcome: 'holds', message: null };
  } catch (error) {
    if (error instanceof CommandError) throw error;
    return { outcome: 'fails', message: error instanceof Error ? error.message || error.name : String(error) };
  }
}

function writeTimeline(file: string, text: string, io: Io): void {
  try {
    writeFileSync(resolve(io.cwd, file), text);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'its directory does not exist' : (code ?? String(error));
    throw new CommandError(`the timeline cannot be written to ${file}: ${why}`, { cause: error });
  }
}

/** A search plays many seeds, so each is short unless the user gives a longer period. */
const searchedMs = 3_600_000;

function isSearch({ explore, untilFailure }: Options): boolean {
  return explore !== undefined || untilFailure === true;
}

const latestInstant = 8.64e15;

function iso(at: number): string {
  return Number.isFinite(at) && Math.abs(at) <= latestInstant ? new Date(at).toISOString() : String(at);
}
