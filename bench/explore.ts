/**
 * How many seeds of a scenario an exploration plays per minute: twenty jobs, three workers, every fault; in memory and on SQLite. Run: `npm
 * run bench`. With `--for 10m` (`npm run simulate:long`) it searches for that long in a larger scenario: fifty jobs in two hundred steps,
 * in memory and then on SQLite, and prints what it finds. Options: `--for DURATION`, `--first SEED` (drawn), `--seeds N` (400).
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import type { Duration, StoreSource } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { type Exploration, explore } from 'escapement/testing';
import { explored } from '../fixtures/explored.ts';

const { values: options } = parseArgs({
  options: { for: { type: 'string' }, first: { type: 'string' }, seeds: { type: 'string', default: '400' } },
});

const told = ({ seeds, runs, ms, fired, mattered }: Exploration) =>
  `${seeds.toLocaleString('en')} seeds, ${runs.toLocaleString('en')} runs in ${(ms / 1_000).toFixed(1)} s: ${Math.round((seeds / ms) * 60_000).toLocaleString('en')} seeds per minute; ` +
  `faults ${Object.entries(fired)
    .map(([code, times]) => `${code} ${times}`)
    .join(', ')}; mattered: ${mattered.length} of ${Object.keys(fired).length}`;

const stores: readonly (readonly [string, StoreSource | undefined, number])[] = [
  ['memory', undefined, 2_000],
  ['SQLite in memory', sqlite({ file: ':memory:' }), 500],
];
console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}`);
const first = options.first === undefined ? (options.for === undefined ? 1 : Math.floor(Math.random() * 1e9)) : Number(options.first);
for (const [name, store, target] of stores) {
  const long = options.for !== undefined;
  const { tasks, scenario } = explored(long ? 50 : 20, long ? 200 : 5);
  const limits = long ? { seeds: Number.MAX_SAFE_INTEGER, for: options.for as Duration } : { seeds: Number(options.seeds) };
  try {
    const report = await explore(tasks, { first, ...limits, ...(store ? { store } : {}) }, scenario);
    console.log(`${name}, from seed ${first}: ${told(report)}${long ? '' : ` (target: ${target.toLocaleString('en')})`}`);
  } catch (error) {
    console.log(`${name}: failure found\n${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
