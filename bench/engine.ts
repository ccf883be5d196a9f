/**
 * The speed of the engine in virtual time, as ratios to a bare loop measured in the same run; medians of several rounds. Run: `npm run
 * bench`. Options: `--rounds N` (3), `--only NAME`.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { createTasks, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import { bareLoop, realNow } from './bare.ts';

const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, only: { type: 'string' } } });
const rounds = Number(options.rounds);
const minutes = 525_600;
const dueJobs = 200_000;

/** A year of a schedule that fires every minute, including the scheduler; milliseconds. */
async function yearOfMinutes(when: { every: '1m' } | { cron: string; timezone: string }): Promise<number> {
  const tasks = createTasks({ backend: memory() });
  let ran = 0;
  const tick = tasks.define('tick', async () => {
    ran += 1;
  });
  tasks.schedule('every-minute', { task: tick, ...when });
  const retention = { successful: '1h', failed: '1h', cancelled: '1h' } as const;
  const sim = await simulate(tasks, { retention, record: false });
  const startedAt = realNow();
  await sim.advance('365d');
  const ms = realNow() - startedAt;
  await sim.end();
  if (ran !== minutes) throw new Error(`expected ${minutes} runs, got ${ran}`);
  return ms;
}

/** Jobs that are all due now, drained by one worker with a concurrency of 100; milliseconds. */
async function drain(): Promise<number> {
  const tasks = createTasks({ backend: memory() });
  const noop = tasks.define('noop', async (_: number) => {});
  const sim = await simulate(tasks, { record: false, concurrency: 100 });
  await noop.enqueueMany(Array.from({ length: dueJobs }, (_, i) => i));
  const startedAt = realNow();
  await sim.drain();
  const ms = realNow() - startedAt;
  const [queue] = await tasks.queues.list();
  await sim.end();
  const successful = queue?.counts.successful;
  if (successful !== dueJobs) throw new Error(`expected ${dueJobs} successful jobs, got ${successful}`);
  return ms;
}

/** Enqueues one at a time, awaited, into memory; milliseconds. */
async function enqueue(): Promise<number> {
  const tasks = createTasks({ backend: memory() });
  const noop = tasks.define('noop', async (_: { userId: string }) => {});
  const startedAt = realNow();
  for (let i = 0; i < dueJobs; i++) await noop.enqueue({ userId: 'u1' });
  const ms = realNow() - startedAt;
  await tasks.close();
  return ms;
}

/** The heap after a year of minutes and after a day of them, both pruned after an hour; bytes. */
async function memoryGrowth(): Promise<{ day: number; year: number }> {
  const tasks = createTasks({ backend: memory() });
  const tick = tasks.define('tick', async () => {});
  tasks.schedule('every-minute', { task: tick, every: '1m' });
  const retention = { successful: '1h', failed: '1h', cancelled: '1h' } as const;
  const sim = await simulate(tasks, { retention, record: false });
  const used = () => {
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  await sim.advance('1d');
  const day = used();
  await sim.advance('364d');
  const year = used();
  await sim.end();
  return { day, year };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function ratio(name: string, count: number, target: number, measure: () => Promise<number>): Promise<void> {
  if (options.only && options.only !== name) return;
  const bare: number[] = [];
  const own: number[] = [];
  await bareLoop(10_000);
  for (let i = 0; i < rounds; i++) {
    bare.push(await bareLoop(count));
    own.push(await measure());
  }
  const [b, o] = [median(bare), median(own)];
  const verdict = o / b <= target ? 'within' : 'OVER';
  console.log(
    `${name.padEnd(10)} ${count.toLocaleString('en')} jobs in ${o.toFixed(0)} ms (${((o * 1_000) / count).toFixed(2)} µs each), bare loop ${b.toFixed(0)} ms ` +
      `(${((b * 1_000) / count).toFixed(2)} µs): ${(o / b).toFixed(1)} × (${verdict} the target of ${target} ×)`,
  );
}

console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, ${rounds} rounds, medians`);
await ratio('year', minutes, 12, () => yearOfMinutes({ every: '1m' }));
await ratio('year, cron', minutes, 16, () => yearOfMinutes({ cron: '* * * * *', timezone: 'Europe/Berlin' }));
await ratio('drain', dueJobs, 10, drain);
if (!options.only || options.only === 'enqueue') {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) times.push(await enqueue());
  const perSecond = dueJobs / (median(times) / 1_000);
  const verdict = perSecond >= 100_000 ? 'at least' : 'UNDER';
  console.log(`enqueue    ${Math.round(perSecond).toLocaleString('en')}/s, one at a time, awaited (${verdict} the target of 100,000)`);
}
if ((!options.only || options.only === 'memory') && globalThis.gc) {
  const { day, year } = await memoryGrowth();
  console.log(
    `memory     heap after a day of minutes ${(day / 1e6).toFixed(1)} MB, after a year ${(year / 1e6).toFixed(1)} MB: ${(year / day).toFixed(2)} ×`,
  );
}
