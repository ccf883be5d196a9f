/** `escapement simulate --explore`: the module's play under many seeds and their faults, until something breaks. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ExplorationError } from 'escapement';
import { type Exploration, explore, type FaultFamily } from 'escapement/testing';
import type { Application } from './config.ts';
import { cleanLines, count, painter, plural, wantsColour } from './format.ts';
import { type ExitCode, exitCodes, type Io } from './io.ts';
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

/** Plays seeds from the plan's on, and prints what was found. */
export async function exploreModule(
  application: Application,
  plan: Plan,
  { seeds, faults, failures }: ExploreCommand,
  io: Io,
): Promise<ExitCode> {
  const { tasks, simulation } = application;
  const breathe = realTurn();
  const paint = painter(wantsColour(io.stdout, io.env));
  const startedAt = io.realNow();
  let interrupted = false;
  let shownAt = startedAt;
  const off = io.onInterrupt(() => {
    interrupted = true;
  });
  const folder = failures === undefined ? undefined : resolve(io.cwd, failures);
  let found: Exploration | undefined;
  let fault: ExplorationError | undefined;
  let played = 0;
  try {
    // A batch at a time, so that Ctrl-C is heard between two of them.
    while (!interrupted && !fault && played < seeds) {
      const batch = Math.min(seeds - played, 50);
      found = merged(
        found,
        await explore(
          tasks,
          {
            seeds: batch,
            first: (plan.seed ?? 1) + played,
            faults,
            now: plan.from,
            workers: Math.max(1, plan.workers),
            concurrency: plan.concurrency,
            ...(folder === undefined ? {} : { file: join(folder, 'failures.json') }),
          },
          async (sim) => {
            const stage = new Stage(sim, plan.to, { realNow: io.realNow, breathe, at: () => {} });
            try {
              if (simulation.play) await simulation.play(stage.view());
            } catch (error) {
              if (!stage.cut(error)) throw error;
            }
            await stage.finish();
            return (healed) => simulation.expect?.(healed);
          },
        ),
      );
      played += batch;
      if (io.env.ESCAPEMENT_REPLAY !== undefined || io.env.ESCAPEMENT_SEED !== undefined) break;
      const now = io.realNow();
      if (io.stderr.isTTY && now - shownAt >= showEveryMs) {
        shownAt = now;
        const of = Number.isFinite(seeds) ? ` of ${count(seeds)}` : '';
        io.stderr.write(`\r\u001b[2K${count(played)}${of} seeds, ${count(Math.round((played / (now - startedAt)) * 60_000))} a minute`);
      }
      await breathe();
    }
  } catch (error) {
    if (!(error instanceof ExplorationError)) throw error;
    fault = error;
  } finally {
    off();
    if (io.stderr.isTTY) io.stderr.write('\r\u001b[2K');
  }
  if (fault) {
    if (folder !== undefined) {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, `${fault.seed}.txt`), `${fault.message}\n`);
    }
    io.stdout.write(`${paint('red', 'found')}: ${cleanLines(fault.message).join('\n')}\n`);
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
  return interrupted ? exitCodes.interrupted : exitCodes.ok;
}

function merged(before: Exploration | undefined, next: Exploration): Exploration {
  if (!before) return next;
  const fired: Record<string, number> = { ...before.fired };
  for (const [code, times] of Object.entries(next.fired)) fired[code] = (fired[code] ?? 0) + times;
  const mattered = [...new Set([...before.mattered, ...next.mattered])].sort();
  return { seeds: before.seeds + next.seeds, runs: before.runs + next.runs, ms: before.ms + next.ms, fired, mattered };
}
