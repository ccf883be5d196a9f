/** Clocks and timers, however a module obtains them, and async contexts. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setInterval as everyFew, setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { DateTime } from 'luxon';
import { type Case, elapsed, type Run } from '../case.ts';
import { fetchText } from '../outside.ts';

/** How far a clock moves during a sleep of 2 s. */
const during =
  (clock: () => number): Run =>
  async (_, ctx) => {
    const before = clock();
    await ctx.sleep('2s');
    return elapsed(clock() - before);
  };

const clocks: Record<string, () => number> = {
  'Date.now': () => Date.now(),
  'new Date': () => Date.parse(new Date().toISOString()),
  'performance.now': () => performance.now(),
  'process.hrtime.bigint': () => Number(process.hrtime.bigint() / 1_000_000n),
  'Temporal.Now': () => Temporal.Now.instant().epochMilliseconds,
};

const timers: Record<string, () => Promise<unknown>> = {
  setTimeout: () => new Promise((resolve) => setTimeout(resolve, 2_000)),
  'promisify(setTimeout)': () => promisify(setTimeout)(2_000),
  'node:timers/promises': () => sleep(2_000),
  'setInterval of node:timers/promises': async () => {
    let left = 4;
    for await (const _ of everyFew(500)) if (--left === 0) return;
  },
  'AbortSignal.timeout': () => new Promise((resolve) => AbortSignal.timeout(2_000).addEventListener('abort', resolve)),
};

/** Modules are loaded after 'escapement/testing', like an application's modules if its tests import that first. */
const captured = () => import('../fixtures/captured.ts');
const capturedTimers = {
  setTimeout: 'setTimeout',
  setInterval: 'setInterval',
  'promisify(setTimeout)': 'promisified',
  'setTimeout of node:timers': 'imported',
  'setTimeout of node:timers/promises': 'importedPromise',
  'scheduler.wait': 'wait',
  'AbortSignal.timeout': 'abortAfter',
} as const;
const capturedClocks = ['Date.now', 'new Date', 'a class that extends Date', 'performance.now', 'process.hrtime', 'Temporal.Now'] as const;

const driver = new AsyncLocalStorage<string>();
const request = new AsyncLocalStorage<string>();

export const timeCases: Case[] = [
  ...Object.entries(clocks).map(([name, clock]) => ({ library: 'Date and clocks', name, run: during(clock), expect: 2_000, at: 2_000 })),
  { library: 'luxon', name: 'DateTime.now', run: during(() => DateTime.now().toMillis()), expect: 2_000, at: 2_000 },
  ...Object.entries(timers).map(([name, timer]) => ({
    library: 'timers',
    name,
    run: () => timer().then(() => 'fired'),
    expect: 'fired',
    at: 2_000,
  })),
  {
    library: 'timers',
    name: 'a long chain of promises, while another timer is pending',
    run: async () => {
      const late = setTimeout(() => {}, 3_000);
      await sleep(2_000);
      for (let i = 0; i < 200; i++) await null;
      clearTimeout(late);
      return 'done';
    },
    expect: 'done',
    at: 2_000,
  },
  ...capturedClocks.map((name) => ({
    library: 'captured at module load',
    name,
    setup: async () => ({ run: during((await captured()).clocks[name]) }),
    expect: 2_000,
    at: 2_000,
    advice: 'Import `escapement/testing` before your own modules',
  })),
  ...Object.entries(capturedTimers).map(([name, key]) => ({
    library: 'captured at module load',
    name,
    setup: async () => {
      const { [key]: timer } = (await captured()).captured;
      return { run: () => timer(key === 'setInterval' ? 500 : 2_000, 4).then(() => 'fired') };
    },
    expect: 'fired',
    at: 2_000,
  })),
  {
    library: 'captured at module load',
    name: 'clearTimeout',
    setup: async () => {
      const { cleared } = (await captured()).captured;
      return {
        run: async (_, ctx) => {
          cleared(1_000);
          await ctx.sleep('2s');
          return 'cleared';
        },
      };
    },
    expect: 'cleared',
    at: 2_000,
  },
  {
    library: 'captured at module load',
    name: 'instanceof Date',
    setup: async () => {
      const { isDate } = await captured();
      return { run: () => [isDate(new Date()), isDate(new Date(0)), isDate({})] };
    },
    expect: [true, true, false],
  },
  {
    library: 'AsyncLocalStorage',
    name: 'the context of the test is not visible in the task',
    run: () => driver.getStore() ?? 'none',
    driver: (drive) => driver.run('of the test', drive),
    expect: 'none',
  },
  {
    library: 'AsyncLocalStorage',
    name: "the task's context lasts through timers and real work",
    run: (input, ctx) =>
      request.run(`request ${input}`, async () => {
        const seen: (string | undefined)[] = [];
        const look = () => seen.push(request.getStore());
        await fetchText('/random');
        look();
        await readFile(import.meta.filename);
        look();
        await promisify(execFile)('true');
        look();
        await ctx.sleep('1s');
        look();
        await new Promise<void>((resolve) => setTimeout(resolve, 1_000));
        look();
        return seen.map((text) => text === `request ${input}`);
      }),
    expect: [true, true, true, true, true],
    at: 2_000,
  },
];
