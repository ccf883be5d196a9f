/**
 * How many seeds of a scenario an exploration plays in a minute: twenty jobs, three workers, every fault; in memory and on SQLite. Run: `npm run bench`.
 * With `--for 10m` (`npm run simulate:long`) it searches for so long over a larger scenario: fifty jobs in two hundred steps, in memory and then on
 * SQLite, and prints what it finds. Options: `--for DURATION`, `--first SEED` (drawn), `--seeds N` (400).
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { cancel, createTasks, type Duration, memory, PermanentError, type StoreSource, snooze } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { type Exploration, explore, type Scenario } from 'escapement/testing';

const { values: options } = parseArgs({
  options: { for: { type: 'string' }, first: { type: 'string' }, seeds: { type: 'string', default: '400' } },
});

/** Jobs of every temper, a schedule, cancels, pauses of queues, and workers that are stopped. */
function application(jobs: number, steps: number) {
  const tasks = createTasks({ backend: memory() });
  const work = tasks.define('work', {
    retry: { maxAttempts: 6, backoff: ['1s', '5s', '20s'] },
    timeout: '2m',
    run: async ({ kind, ms }: { kind: number; ms: number }, ctx) => {
      if (kind === 0) return ms;
      await ctx.sleep(ms);
      if (kind === 1 && ctx.attempt < 3) throw new Error(`attempt ${ctx.attempt}`);
      if (kind === 2) throw new PermanentError('never');
      if (kind === 3 && ctx.attempt === 1 && Math.random() < 0.5) return snooze('40s');
      if (kind === 4) return cancel('by itself');
      return 'done';
    },
  });
  tasks.schedule('tick', { task: work, input: { kind: 0, ms: 0 }, cron: '* * * * *', maxRuns: 10 });
  tasks.schedule('slow', { task: work, input: { kind: 5, ms: 80_000 }, every: '50s', maxRuns: 6, overlap: 'queue-one' });
  const scenario: Scenario = async (sim) => {
    let left = jobs;
    for (let i = 0; i < steps; i++) {
      if (left > 0) {
        const batch = Math.min(left, 1 + sim.choose('batch', 4));
        left -= batch;
        const inputs = Array.from({ length: batch }, () => ({ kind: sim.choose('kind', 7), ms: sim.choose('takes', 4) * 15_000 }));
        const using = { priority: sim.choose('priority', 3), ...(sim.choose('expires', 8) === 7 ? { expires: '20s' as const } : {}) };
        await work.using(using).enqueueMany(inputs);
      }
      if (sim.choose('cancel', 12) === 11) await sim.jobs()[sim.choose('which', sim.jobs().length)]?.cancel('by hand');
      if (sim.choose('retry', 30) === 29) await tasks.jobs.retry({ status: 'failed' });
      if (sim.choose('queue', 40) === 39) await tasks.queues.pause('default');
      if (sim.choose('resume', 8) === 7) await tasks.queues.resume('default');
      if (sim.choose('stop', 100) === 99) void sim.worker(2).stop({ timeout: '60s' });
      await sim.advance(sim.choose('wait', 4) * 8_000);
    }
    await tasks.queues.resume('default');
  };
  return { tasks, scenario };
}

const told = ({ seeds, runs, ms, fired, mattered }: Exploration) =>
  `${seeds.toLocaleString('en')} seeds, ${runs.toLocaleString('en')} runs in ${(ms / 1_000).toFixed(1)} s: ${Math.round((seeds / ms) * 60_000).toLocaleString('en')} seeds a minute; ` +
  `faults ${Object.entries(fired)
    .map(([code, times]) => `${code} ${times}`)
    .join(', ')}; mattered: ${mattered.length} of ${Object.keys(fired).length}`;

const stores: readonly (readonly [string, StoreSource | undefined, number])[] = [
  ['memory', undefined, 2_000],
  ['SQLite in memory', sqlite({ file: ':memory:' }), 500],
];
console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}`);
const first = options.first === undefined ? (options.for === undefined ? 1 : Math.floor(Math.random() * 1e9)) : Number(options.first);
for (const [name, store, asked] of stores) {
  const long = options.for !== undefined;
  const { tasks, scenario } = application(long ? 50 : 20, long ? 200 : 5);
  const limits = long ? { seeds: Number.MAX_SAFE_INTEGER, for: options.for as Duration } : { seeds: Number(options.seeds) };
  try {
    const report = await explore(tasks, { first, ...limits, ...(store ? { store } : {}) }, scenario);
    console.log(`${name}, from seed ${first}: ${told(report)}${long ? '' : ` (${asked.toLocaleString('en')} asked for)`}`);
  } catch (error) {
    console.log(`${name}: found\n${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
