/** `escapement simulate --explore`: the module's play under many seeds and their faults, until something breaks. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ExplorationError } from 'escapement';
import { type Exploration, type ExploreOptions, explore, type FaultFamily } from 'escapement/testing';
import type { Application } from './config.ts';
import { cleanLines, count, painter, plural, wantsColour } from './format.ts';
import { CommandError, type ExitCode, exitCodes, type Io, orStuck } from './io.ts';
import { type Plan, realTurn, Stage } from './play.ts';
import { exactDuration } from './time.ts';

export interface ExploreCommand {
  /** How many seeds; Infinity: until something breaks. */
  readonly seeds: number;
  readonly faults: 'all' | 'none' | readonly FaultFamily[];
  /** A folder for what is found. */
  readonly failures: string | undefined;
  /** The period is shorter than the module's own, and nobody asked for that: of a `play` that it cuts off nothing can be expected. */
  readonly shortened: boolean;
}

const showEveryMs = 200;
/** Where stderr is no terminal: lines add up. */
const tellEveryMs = 10_000;

interface Position {
  /** Seeds, and the part of the present one, from 0 to 1. */
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

/** Its paragraphs, line by line. */
function paragraphs(text: string): string {
  return text
    .split('\n\n')
    .map((paragraph) => cleanLines(paragraph).join('\n'))
    .join('\n\n');
}

/** Plays seeds from the plan's on, and prints what was found. */
export async function exploreModule(
  application: Application,
  plan: Plan,
  { seeds, faults, failures, shortened }: ExploreCommand,
  io: Io,
): Promise<ExitCode> {
  const { tasks, simulation, label } = application;
  const breathe = realTurn();
  const paint = painter(wantsColour(io.stdout, io.env));
  const startedAt = io.realNow();
  const stop = new AbortController();
  let shownAt = startedAt;
  let played = 0;
  let unasked = false;
  const off = io.onInterrupt(() => stop.abort());
  const folder = failures === undefined ? undefined : resolve(io.cwd, failures);
  const period = exactDuration(plan.to - plan.from);
  const show = (virtualNow: number) => {
    const now = io.realNow();
    if (now - shownAt < (io.stderr.isTTY ? showEveryMs : tellEveryMs)) return;
    shownAt = now;
    const part = Math.min(1, (virtualNow - plan.from) / (plan.to - plan.from));
    const text = progressText({ played, part, seeds, realMs: now - startedAt }, period);
    io.stderr.write(io.stderr.isTTY ? `\r\u001b[2K${text}` : `${text}\n`);
  };
  const onProgress = async (progress: { played: number }) => {
    played = progress.played;
    show(plan.from);
    // A real turn of the event loop, in which Ctrl-C is heard.
    await breathe();
  };
  if (folder !== undefined) {
    // What cannot be written is better known before a long search than after it.
    try {
      mkdirSync(folder, { recursive: false });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
        throw new CommandError(`--failures: ${folder} cannot be made: ${(error as Error).message}`, { cause: error });
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
      // It would wait for ever again.
      if (stuck) throw stuck;
      const stage = new Stage(sim, plan.to, { realNow: io.realNow, breathe, at: show });
      try {
        const what = `play(sim) of ${label} waits for something that will not come; virtual time moves only by sim.advance() and its like`;
        if (simulation.play) await orStuck(io, Promise.resolve(simulation.play(stage.view())), what);
      } catch (error) {
        if (error instanceof CommandError) stuck = error;
        if (!stage.cut(error)) throw error;
        if (shortened && simulation.expect) {
          unasked = true;
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
    `nothing was found: ${plural(found?.seeds ?? 0, 'seed')} of ${period} in ${exactDuration(Math.round(io.realNow() - startedAt))}`,
    fired.length === 0 ? 'no fault was drawn' : `faults: ${fired.map(([code, times]) => `${code} ${count(times)}`).join(', ')}`,
    ...(idle.length > 0 ? [`of these, nothing shows that ${idle.join(', ')} made a difference`] : []),
    ...(unasked ? [`expect was not asked: play was cut off after ${period}; give --for, as in simulation.for`] : []),
  ];
  io.stdout.write(`${lines.join('\n')}\n`);
  return stop.signal.aborted ? exitCodes.interrupted : exitCodes.ok;
}
