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
}

const showEveryMs = 200;

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
  { seeds, faults, failures }: ExploreCommand,
  io: Io,
): Promise<ExitCode> {
  const { tasks, simulation, label } = application;
  const breathe = realTurn();
  const paint = painter(wantsColour(io.stdout, io.env));
  const startedAt = io.realNow();
  const stop = new AbortController();
  let shownAt = startedAt;
  const off = io.onInterrupt(() => stop.abort());
  const folder = failures === undefined ? undefined : resolve(io.cwd, failures);
  const onProgress = async ({ played }: { played: number }) => {
    const now = io.realNow();
    if (io.stderr.isTTY && now - shownAt >= showEveryMs) {
      shownAt = now;
      const of = Number.isFinite(seeds) ? ` of ${count(seeds)}` : '';
      io.stderr.write(`\r\u001b[2K${count(played)}${of} seeds, ${count(Math.round((played / (now - startedAt)) * 60_000))} a minute`);
    }
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
      const stage = new Stage(sim, plan.to, { realNow: io.realNow, breathe, at: () => {} });
      try {
        const what = `play(sim) of ${label} waits for something that will not come; virtual time moves only by sim.advance() and its like`;
        if (simulation.play) await orStuck(io, Promise.resolve(simulation.play(stage.view())), what);
      } catch (error) {
        if (error instanceof CommandError) stuck = error;
        if (!stage.cut(error)) throw error;
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
    `nothing was found: ${plural(found?.seeds ?? 0, 'seed')} of ${exactDuration(plan.to - plan.from)} in ${exactDuration(Math.round(io.realNow() - startedAt))}`,
    fired.length === 0 ? 'no fault was drawn' : `faults: ${fired.map(([code, times]) => `${code} ${count(times)}`).join(', ')}`,
    ...(idle.length > 0 ? [`of these, nothing shows that ${idle.join(', ')} made a difference`] : []),
  ];
  io.stdout.write(`${lines.join('\n')}\n`);
  return stop.signal.aborted ? exitCodes.interrupted : exitCodes.ok;
}
