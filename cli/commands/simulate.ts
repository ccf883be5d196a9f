/** `escapement simulate`: plays a module's application over a period of virtual time, and says what happened. */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { FaultFamily, Simulation } from 'escapement/testing';
import { duration, durationExpected, instant, instantExpected, whole } from '../arguments.ts';
import { type Application, loadApplication, type SimulationModule, withoutTasks } from '../config.ts';
import { captureConsole } from '../console.ts';
import { clean, json, painter, wantsColour } from '../format.ts';
import { CommandError, type ExitCode, exitCodes, faultText, type Io, orStuck } from '../io.ts';
import type { Plan, Played } from '../play.ts';
import { printReport } from '../print.ts';
import { closingLine, progressOf } from '../progress.ts';
import { factsOf, type Report } from '../report.ts';
import { parseDuration, parseInstant } from '../time.ts';

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
}

const faultKinds = ['crash', 'store', 'slow', 'pause', 'stale', 'clock', 'handler', 'scheduler'];

const help = `
The module exports what createTasks() returned, under any name. It may also export what is to be
played, and what the options above are when they are not given:

  export const simulation = {
    now: '2026-03-23T00:00:00Z', for: '7d', workers: 2, concurrency: 10, seed: 7,
    async play(sim) {…},     // enqueues, and moves time: sim.advance('1h'), sim.advanceTo(instant)
    expect(sim) {…},         // throws when something is not as it ought to be, asked at the end
  };

Without play, the module's schedules are played. play is cut off at the end of the period.
What the module prints goes to stderr. The same seed prints the same bytes to stdout.

With --explore, the module's play runs under many seeds, each of 1h at most without --for, with
crashes, pauses, slow and failing stores and skewed clocks; then the world heals, all work must end,
and expect is asked. play must set up what it needs each time. What breaks is shrunk to the few
decisions that it takes, and printed with a line that replays it (ESCAPEMENT_REPLAY).

In the report:
  jobs           that were enqueued; success, failed, cancelled: how they ended; open: not finished
  attempts       that started, snoozed and lost ones too
  retried        attempts that were followed by another because they failed or were lost
  wait p50, p95  from when a job was due to the start of its first attempt
  busiest hour   the hour in UTC in which most attempts started

With --json, one document instead: version, module, from, to, durationMs, seed, workers,
concurrency, crashes, interrupted, totals, tasks[], schedules[], hours[], retried[], failed[],
cancelled[], failedJobs[], expectation { outcome, message }.

Exit codes:
  0    played, and what the module expects holds
  1    it does not hold, or attempts left work behind when they ended
  2    wrong usage, or the module cannot be loaded or played
  130  interrupted by Ctrl-C; what was played so far is printed

With ESCAPEMENT_DEBUG=1, errors are printed with their stacks.`;

/** Adds the command to the program. `done` is told the exit code. */
export function addSimulate(program: Command, io: Io, done: (code: ExitCode) => void): void {
  program
    .command('simulate')
    .summary('play an application over days of virtual time, in a moment')
    .description('Plays the tasks and schedules of a module over a period of virtual time, and says what happened.')
    .argument('<module>', 'the module that calls createTasks(); .ts runs as it is')
    .option('--for <duration>', "how long to play: '90m', '7d' (default: simulation.for, else 7d; at most 1h to explore)", duration)
    .option('--until <instant>', "play up to this instant: '2026-03-30T00:00:00Z'", instant)
    .option('--from <instant>', 'where virtual time begins (default: simulation.now, else 2026-01-01T00:00:00Z)', instant)
    .option(
      '--seed <n>',
      'draw ties, jitter and faults from this seed (default: simulation.seed, else none)',
      whole(0, Number.MAX_SAFE_INTEGER),
    )
    .option('--workers <n>', 'how many workers (default: simulation.workers, else 1, or 3 to explore)', whole(0, 64))
    .option('--concurrency <n>', 'attempts at a time on each worker (default: 10)', whole(1, 10_000))
    .option('--crash', 'kill a worker in the middle of about one attempt in fifty; it is back after 1 s')
    .option('--json', 'print one JSON document')
    .option('--timeline <file>', 'write every event of the simulation to a file, line by line')
    .option('--explore <seeds>', 'search: play so many seeds, each with faults of its own', whole(1, Number.MAX_SAFE_INTEGER))
    .option('--until-failure', 'search until something breaks, or Ctrl-C')
    .option('--faults <kinds>', `with --explore: all, none, or some of ${faultKinds.join(',')} (default: all)`)
    .option('--failures <folder>', 'with --explore: write what is found there, and play it first the next time')
    .addHelpText('after', help)
    .action(async (module: string, options: Options) => done(await simulateCommand(module, options, io)));
}

async function simulateCommand(module: string, options: Options, io: Io): Promise<ExitCode> {
  const progress = progressOf(io);
  // What the module prints may come in the middle of the progress line.
  const restoreConsole = captureConsole(io.stderr, progress.clear);
  try {
    // Here, and not at the top: a worker is to carry no simulator with it.
    const { play } = await import('../play.ts');
    const application = await loadApplication(module, io);
    const nothing = withoutTasks(application);
    // What is played may define some.
    if (nothing !== undefined && !application.simulation.play) io.stderr.write(`escapement: ${nothing}\n`);
    const plan = planOf(application, options);
    if (isSearch(options)) return await exploration(application, plan, options, io);
    if (options.faults !== undefined || options.failures !== undefined)
      throw new CommandError('--faults and --failures are for a search; give --explore SEEDS or --until-failure too');
    // What cannot be written is better known before a long play than after it.
    if (options.timeline !== undefined) writeTimeline(options.timeline, '', io);
    const { result, leftBehind } = await play(application, plan, { io, progress }, (sim, played) =>
      reportOf(application, sim, plan, played, { io, timeline: options.timeline }),
    );
    const { report, played } = result;
    io.stdout.write(options.json ? `${json(report)}\n` : `${printReport(report, painter(wantsColour(io.stdout, io.env)))}\n`);
    if (leftBehind) io.stderr.write(faultText(leftBehind, io.env));
    io.stderr.write(`${closingLine(report.durationMs, played.realMs)}\n`);
    if (report.interrupted) return exitCodes.interrupted;
    return leftBehind || report.expectation.outcome === 'fails' ? exitCodes.expectation : exitCodes.ok;
  } finally {
    progress.clear();
    restoreConsole();
  }
}

async function exploration(application: Application, plan: Plan, options: Options, io: Io): Promise<ExitCode> {
  if (options.json || options.timeline !== undefined || options.crash)
    throw new CommandError(
      '--json, --timeline and --crash are for a single play; a search prints what it has found, and draws its own crashes',
    );
  const { faults = 'all' } = options;
  const kinds = faults.split(',').map((kind) => kind.trim());
  const unknown = kinds.find((kind) => !['all', 'none', ...faultKinds].includes(kind));
  if (unknown !== undefined)
    throw new CommandError(`--faults: there is no kind ${clean(unknown)}; give all, none, or some of ${faultKinds.join(',')}`);
  if (kinds.length > 1 && (kinds.includes('all') || kinds.includes('none'))) throw new CommandError('--faults: all and none stand alone');
  const chosen = kinds.includes('all') ? 'all' : kinds.includes('none') ? 'none' : (kinds as FaultFamily[]);
  const seeds = options.untilFailure ? Number.POSITIVE_INFINITY : (options.explore ?? 1);
  const { exploreModule } = await import('../explore.ts');
  // Two rivals, as explore() has them, unless someone says otherwise.
  const workers = options.workers ?? application.simulation.workers ?? 3;
  const ownMs = parseDuration(application.simulation.for ?? '7d') ?? 0;
  const shortened = options.for === undefined && options.until === undefined && plan.to - plan.from < ownMs;
  return exploreModule(application, { ...plan, workers }, { seeds, faults: chosen, failures: options.failures, shortened }, io);
}

function planOf({ simulation, label }: Application, options: Options): Plan {
  if (options.for !== undefined && options.until !== undefined) throw new CommandError('give --for or --until, not both');
  const fault = (key: keyof SimulationModule, expected: string) => new CommandError(`${label}: simulation.${key} is to be ${expected}`);
  const from = options.from ?? parseInstant(simulation.now ?? '2026-01-01T00:00:00Z');
  if (from === undefined) throw fault('now', instantExpected);
  const ownMs = parseDuration(simulation.for ?? '7d');
  if (ownMs === undefined) throw fault('for', durationExpected);
  const forMs = options.for ?? (isSearch(options) ? Math.min(ownMs, searchedMs) : ownMs);
  const to = options.until ?? from + forMs;
  if (to <= from) throw new CommandError(`the period ends (${iso(to)}) before it has begun (${iso(from)}); mend --until, --from or --for`);
  if (to > latestInstant) throw new CommandError('the period ends beyond the year 275760, where dates end; give a shorter --for');
  const number = (key: 'seed' | 'workers' | 'concurrency', otherwise: number | undefined, least: number, most: number) => {
    const value = options[key] ?? simulation[key] ?? otherwise;
    if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return value;
    throw fault(key, `a whole number from ${least} to ${most}`);
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

/** Everything that is asked of the simulation while it stands at its end, the module's expectation last. */
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
    await orStuck(io, Promise.resolve(simulation.expect(sim)), `expect(sim) of ${label} waits for something that will not come`);
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
    const why = code === 'ENOENT' ? 'its directory is not there' : (code ?? String(error));
    throw new CommandError(`the timeline cannot be written to ${file}: ${why}`, { cause: error });
  }
}

/** A search plays many seeds: each is short, unless a longer period was asked for. */
const searchedMs = 3_600_000;

function isSearch({ explore, untilFailure }: Options): boolean {
  return explore !== undefined || untilFailure === true;
}

const latestInstant = 8.64e15;

function iso(at: number): string {
  return Number.isFinite(at) && Math.abs(at) <= latestInstant ? new Date(at).toISOString() : String(at);
}
