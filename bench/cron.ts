/**
 * The cost of computing the next occurrence of a cron expression, compared with croner. Run: `node bench/cron.ts`. Options: `--sample N`
 * (5,000): how many of croner's calls are timed and compared for each pattern.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Cron } from 'croner';
import { latestCron, nextCron } from '../src/core/cron.ts';
import { nextSun } from '../src/core/sun.ts';
import { changes } from '../src/core/zone.ts';
import { sqlite } from '../src/stores/sqlite/index.ts';
import { schedule } from '../src/testing/conformance/kit.ts';

const { values: options } = parseArgs({ options: { sample: { type: 'string', default: '5000' } } });
const sample = Number(options.sample);
/** The day before Berlin's clocks change, so that every sample contains a gap. */
const fromAt = Date.UTC(2026, 2, 28);
const yearMs = 365 * 86_400_000;

/** Microseconds per call, the best of three, after a warm-up for the compiler. */
function microseconds(calls: number, work: () => void): number {
  const times = [0, 1, 2, 3].map(() => {
    const startedAt = performance.now();
    work();
    return performance.now() - startedAt;
  });
  return (Math.min(...times.slice(1)) * 1_000) / calls;
}

/** Walks `count` occurrences and returns them; starts over if there are no more. */
function walk(count: number, next: (afterAt: number) => number | null): number[] {
  const found: number[] = [];
  let at = fromAt;
  for (let i = 0; i < count; i++) {
    at = next(at) ?? fromAt;
    found.push(at);
  }
  return found;
}

/** The cost of our call and of croner's; throws if they disagree on an instant of the sample. */
function compare(expression: string, timezone: string, count: number): { ours: number; theirs: number } {
  const job = new Cron(expression, { timezone, paused: true });
  const ask = (afterAt: number) => job.nextRun(new Date(afterAt))?.getTime() ?? null;
  const startedAt = performance.now();
  const theirInstants = walk(count, ask);
  const theirs = ((performance.now() - startedAt) * 1_000) / count;
  const ours = microseconds(count, () => {
    let at = fromAt;
    for (let i = 0; i < count; i++) at = nextCron(expression, timezone, at) ?? fromAt;
  });
  const ourInstants = walk(count, (afterAt) => nextCron(expression, timezone, afterAt));
  const wrong = ourInstants.findIndex((at, i) => at !== theirInstants[i]);
  if (wrong >= 0) throw new Error(`${expression} in ${timezone}: got ${ourInstants[wrong]}, croner returns ${theirInstants[wrong]}`);
  return { ours, theirs };
}

console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}`);

let minutes = 0;
const yearOfMinutes = microseconds(yearMs / 60_000, () => {
  minutes = 0;
  for (let at = nextCron('* * * * *', 'Europe/Berlin', fromAt - 1) as number; at < fromAt + yearMs; minutes++)
    at = nextCron('* * * * *', 'Europe/Berlin', at) as number;
});
const { theirs } = compare('* * * * *', 'Europe/Berlin', sample);
console.log(
  `a year of minutes in Europe/Berlin, ${minutes.toLocaleString('en')} calls: ${((yearOfMinutes * minutes) / 1_000).toFixed(0)} ms, ${yearOfMinutes.toFixed(3)} µs each; croner ${theirs.toFixed(0)} µs each (${sample} calls): ${(theirs / yearOfMinutes).toFixed(0)} times faster (target: 100)`,
);
for (const [expression, timezone, count] of [
  ['* * * * *', 'UTC', sample],
  ['*/15 * * * * *', 'America/New_York', sample],
  ['30 2 * * *', 'Europe/Berlin', sample / 5],
  ['0 9 * * MON-FRI', 'Asia/Kolkata', sample / 5],
  ['0 0 29 2 1', 'UTC', sample / 50],
  ['0 12 L * 5#2', 'Europe/Berlin', sample / 5],
] as const) {
  const cost = compare(expression, timezone, Math.ceil(count));
  console.log(
    `${expression.padEnd(16)} ${timezone.padEnd(17)} ${cost.ours.toFixed(3).padStart(8)} µs, croner ${cost.theirs.toFixed(1).padStart(8)} µs, ×${(cost.theirs / cost.ours).toFixed(0)}; ${Math.ceil(count)} instants agree`,
  );
}

const untilAt = Date.UTC(2026, 3, 15, 12);
const latest = microseconds(1_000, () => {
  for (let i = 0; i < 1_000; i++) latestCron('* * * * * *', 'Europe/Berlin', untilAt - 30 * 86_400_000, untilAt + i);
});
console.log(`latest occurrence in 30 days of seconds: ${latest.toFixed(3)} µs`);
const startedAt = performance.now();
changes('America/New_York', Date.UTC(2030, 0, 1), Date.UTC(2040, 0, 1));
console.log(`first read of ten years of a zone's changes: ${(performance.now() - startedAt).toFixed(1)} ms`);
const sunset = microseconds(365, () => {
  walk(365, (afterAt) => nextSun({ event: 'sunset', latitude: 52.52, longitude: 13.405 }, afterAt));
});
console.log(`next sunset: ${sunset.toFixed(1)} µs`);

/** The cost of a scheduler's wake-up in microseconds, with one due schedule in a store with this many. */
async function wakeUp(schedules: number): Promise<number> {
  const store = await sqlite({ file: ':memory:' }).open();
  await store.migrate();
  const at = Date.UTC(2026, 0, 1);
  const row = schedule({ trigger: { kind: 'cron', expression: '0 9 * * *', timezone: 'Europe/Berlin' } });
  for (let i = 0; i < schedules; i++) {
    const nextAt = at + 86_400_000 + i * 1_000;
    await store.saveSchedule({ ...row, name: `s${i}`, nextAt, occurrenceAt: nextAt }, { expect: null });
  }
  await store.saveSchedule({ ...row, name: 'due', nextAt: at, occurrenceAt: at }, { expect: null });
  const times: number[] = [];
  for (let revision = 1; revision <= 2_000; revision++) {
    const now = at + revision;
    const startedAt = performance.now();
    const { due } = await store.dueSchedules({ now, limit: 100, computes: [] });
    const moved = { nextAt: now, occurrenceAt: now, lastAt: now, heldAt: null, runs: revision };
    await store.advanceSchedules([{ name: 'due', revision, times: moved, jobs: [] }], { now });
    times.push((performance.now() - startedAt) * 1_000);
    if (due.length !== 1) throw new Error(`${due.length} schedules are due, expected 1`);
  }
  await store.close();
  return times.sort((a, b) => a - b)[1_000] as number;
}
const [few, many] = [await wakeUp(10), await wakeUp(100_000)];
console.log(
  `scheduler wake-up in SQLite with one schedule due: ${few.toFixed(0)} µs for 10 schedules, ${many.toFixed(0)} µs for 100,000 (${(many / few).toFixed(2)} ×)`,
);
