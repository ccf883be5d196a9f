/** `escapement simulate --explore`: runs the module's play with many seeds and faults until something breaks. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ExplorationError } from 'escapement';
import { type Exploration, type ExploreOptions, explore, type FaultFamily } from 'escapement/testing';
import type { Application } from './config.ts';
import { cleanLines, count, painter, plural, wantsColour } from './format.ts';
import { CommandError, type ExitCode, exitCodes, type Io, orStuck } from './io.ts';
import { eventLoopYielder, type Plan, Stage } from './play.ts';
import { exactDuration } from './time.ts';

export interface ExploreCommand {
  /** The number of seeds; Infinity to continue until something breaks. */
  readonly seeds: number;
  readonly faults: 'all' | 'none' | readonly FaultFamily[];
  /** The folder for failures. */
  readonly failures: string | undefined;
  /** True if the period is shorter than the module's by default: `expect` is not called after a `play` that was cut off. */
  readonly shortened: boolean;
}

const showEveryMs = 200;
/** The interval of progress lines if stderr is not a terminal. */
const reportEveryMs = 10_000;

interface Position {
  /** The number of seeds, including the completed fraction of the current one. */
  readonly played: number;
  readonly part: number;
  readonly seeds: number;
  readonly realMs: number;
}

/** `12 of 50 seeds of 1h, 90 a minute, about 25 s left` */
function progressText({ played, part, seeds, realMs }: Position, period: string): string {
  const of = Number.isFinite(seeds) ? ` of ${count(seeds)}` : '';
  const done = played + part;
  const left =
    Number.isFinite(seeds) && done > 0
      ? `, about ${exactDuration(Math.ceil(((seeds - done) / done) * (realMs / 1_000)) * 1_000)} left`
      : '';
  if (played === 0) return `seed 1${of} of ${period}: ${Math.floor(part * 100)} %${left}`;
  return `${count(played)}${of} seeds of ${period}, ${count(Math.round((done / realMs) * 60_000))} a minute${left}`;
}

/** Prints a text with empty lines between its paragraphs. */
function paragraphs(text: string): string {
  return text
    .split('\n\n')
    .map((paragraph) => cleanLines(paragraph).join('\n'))
    .join('\n\n');
}

/** Plays consecutive seeds and prints the result. */
export async function exploreModule(
  application: Application,
  plan: Plan,
  { seeds, faults, failures, shortened }: ExploreCommand,
  io: Io,
): Promise<ExitCode> {
  const { tasks, simulation, label } = application;
  const yieldToEventLoop = eventLoopYielder();
  const paint = painter(wantsColour(io.stdout, io.env));
  const startedAt = io.realNow();
  const stop = new AbortController();
  let shownAt = startedAt;
  let played = 0;
  let expectSkipped = false;
  const off = io.onInterrupt(() => stop.abort());
  const folder = failures === undefined ? undefined : resolve(io.cwd, failures);
  const period = exactDuration(plan.to - plan.from);
  const show = (virtualNow: number) => {
    const now = io.realNow();
    if (now - shownAt < (io.stderr.isTTY ? showEveryMs : reportEveryMs)) return;
    shownAt = now;
    const part = Math.min(1, (virtualNow - plan.from) / (plan.to - plan.from));
    const text = progressText({ played, part, seeds, realMs: now - startedAt }, period);
    io.stderr.write(io.stderr.isTTY ? `\r\u001b[2K${text}` : `${text}\n`);
  };
  const onProgress = async (progress: { played: number }) => {
    played = progress.played;
    show(plan.from);
    // One iteration of the real event loop, so that Ctrl-C is handled.
    await yieldToEventLoop();
  };
  if (folder !== undefined) {
    // Report an unwritable folder before a long search, not after it.
    try {
      mkdirSync(folder, { recursive: false });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
        throw new CommandError(`--failures: ${folder} cannot be created: ${(error as Error).message}`, { cause: error });
    }
  }
  let stuck: CommandError | undefined;
  let found: Exploration | undefined;
  let fault: ExplorationError | undefined;
  try {
    const options: ExploreOptions = {
      seeds: Math.min(seeds, Number.MAX_SAFE_INTEGER),
      first: plan.seed ?? 1,
      faults,
      now: plan.from,
      workers: Math.max(1, plan.workers),
      concurrency: plan.concurrency,
      signal: stop.signal,
      onProgress,
      ...(folder === undefined ? {} : { file: join(folder, 'failures.json') }),
    };
    found = await explore(tasks, options, async (sim) => {
      // It would never return again.
      if (stuck) throw stuck;
      const stage = new Stage(sim, plan.to, { realNow: io.realNow, yieldToEventLoop, at: show });
      try {
        const what = `play(sim) of ${label} waits for something that never happens; only sim.advance() and similar calls advance virtual time`;
        if (simulation.play) await orStuck(io, Promise.resolve(simulation.play(stage.view())), what);
      } catch (error) {
        if (error instanceof CommandError) stuck = error;
        if (!stage.cut(error)) throw error;
        if (shortened && simulation.expect) {
          expectSkipped = true;
          await stage.finish();
          return;
        }
      }
      await stage.finish();
      return (healed) => simulation.expect?.(healed);
    });
  } catch (error) {
    if (stuck || !(error instanceof ExplorationError)) throw stuck ?? error;
    fault = error;
  } finally {
    off();
    if (io.stderr.isTTY) io.stderr.write('\r\u001b[2K');
  }
  if (fault) {
    if (folder !== undefined) writeFileSync(join(folder, `${fault.seed}.txt`), `${fault.message}\n`);
    io.stdout.write(`${paint('red', 'found')}: ${paragraphs(fault.message)}\n`);
    return exitCodes.expectation;
  }
  const fired = Object.entries(found?.fired ?? {});
  const idle = fired.filter(([code]) => !found?.mattered.includes(code)).map(([code]) => code);
  const lines = [
    `no failures found: ${plural(found?.seeds ?? 0, 'seed')} of ${period} in ${exactDuration(Math.round(io.realNow() - startedAt))}`,
    fired.length === 0 ? 'no faults occurred' : `faults: ${fired.map(([code, times]) => `${code} ${count(times)}`).join(', ')}`,
    ...(idle.length > 0 ? [`no observable effect: ${idle.join(', ')}`] : []),
    ...(expectSkipped ? [`expect was not checked: play was cut off after ${period}; give --for, as in simulation.for`] : []),
  ];
  io.stdout.write(`${lines.join('\n')}\n`);
  return stop.signal.aborted ? exitCodes.interrupted : exitCodes.ok;
}
