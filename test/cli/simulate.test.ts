import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { width } from '../../cli/format.ts';
import type { Report } from '../../cli/report.ts';
import { cli, type Ran, simulated } from './cli.ts';
import { seen } from './fixtures/catches.ts';

const plays = new Map<string, Promise<Ran>>();
/** The shop; runs with equal options are cached. */
const shop = (...options: string[]): Promise<Ran> => {
  const asked = options.join(' ');
  const played = plays.get(asked) ?? cli(['simulate', 'fixtures/shop/tasks.ts', ...options]);
  plays.set(asked, played);
  return played;
};

describe('the report', () => {
  test('of a small application matches its snapshot', async () => {
    const { code, stdout, stderr } = await simulated('small');
    await expect(stdout).toMatchFileSnapshot('golden/small.txt');
    expect(stderr).toMatch(/^this goes to stderr\nplayed 2d in .* × real time\n$/);
    expect(code).toBe(0);
  });

  test('as JSON matches its snapshot and can be parsed', async () => {
    const { code, stdout } = await simulated('small', '--json');
    await expect(stdout).toMatchFileSnapshot('golden/small.json');
    const report = JSON.parse(stdout) as Report;
    expect(report.totals).toMatchObject({ jobs: 18, successful: 14, failed: 1, cancelled: 1, unfinished: 2, retried: 2 });
    expect(report.hours).toHaveLength(48);
    expect(code).toBe(0);
  });

  test('contains no control characters from errors and reasons', async () => {
    for (const option of ['--json', '--seed=1']) {
      const { stdout } = await simulated('small', option);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
    }
  });

  test('of the shop fits in 100 columns for a day, a week, a month and years', async () => {
    for (const period of ['1h', '1d', '200d']) {
      const { code, stdout } = await simulated('schedules-only', '--for', period);
      expect(code).toBe(0);
      expect(Math.max(...stdout.split('\n').map(width)), period).toBeLessThanOrEqual(100);
      expect(stdout.split('\n').length).toBeLessThan(40);
    }
    const { stdout } = await cli(['simulate', 'fixtures/shop/tasks.ts', '--for', '6h', '--seed', '7', '--crash']);
    expect(Math.max(...stdout.split('\n').map(width))).toBeLessThanOrEqual(100);
  });

  test('is coloured only on a terminal, with the same text', async () => {
    const argv = ['simulate', 'test/cli/fixtures/small.ts'];
    const [coloured, declined, piped] = [
      await cli(argv, { tty: true }),
      await cli(argv, { tty: true, env: { NO_COLOR: '1' } }),
      await cli(argv),
    ];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colour is what is taken out
    expect(coloured.stdout.replace(/\u001b\[\d+m/g, '')).toBe(piped.stdout);
    expect(coloured.stdout).toContain('\u001b[31mfailed\u001b[39m');
    expect(declined.stdout).toBe(piped.stdout);
  });
});

describe('the period', () => {
  test('ends play at exactly its last instant, however play advances time and whatever it catches', async () => {
    const { code, stdout } = await simulated('catches');
    expect(code).toBe(0);
    expect(stdout).toContain('Thu 2026-01-01 00:00 → Thu 2026-01-01 02:00 UTC');
    expect(seen).toEqual([
      'next: 2026-01-01T00:45:00.000Z at 00:45:00',
      'next: 2026-01-01T01:30:00.000Z at 01:30:00',
      'idle: done at 01:30:00',
      'bounded idle: SimulationRunawayError at 01:30:00',
      'past: SimulationError at 01:30:00',
      'nonsense: ConfigError at 01:30:00',
      'next: PeriodOver at 02:00:00',
      'idle: PeriodOver at 02:00:00',
      'advance: PeriodOver at 02:00:00',
      'to the end: done at 02:00:00',
    ]);
  });

  test('comes from the options, then the module, and defaults to a week', async () => {
    const heading = async (fixture: string, ...options: string[]) => (await simulated(fixture, ...options)).stdout.split('\n')[1];
    expect(await heading('small')).toBe('Sat 2026-03-28 00:00 → Mon 2026-03-30 00:00 UTC');
    expect(await heading('small', '--for', '36h')).toBe('Sat 2026-03-28 00:00 → Sun 2026-03-29 12:00 UTC');
    expect(await heading('small', '--until', '2026-03-29T00:00:00+01:00')).toBe('Sat 2026-03-28 00:00 → Sat 2026-03-28 23:00 UTC');
    expect(await heading('small', '--from', '2026-10-24T00:00:00Z')).toBe('Sat 2026-10-24 00:00 → Mon 2026-10-26 00:00 UTC');
    expect(await heading('schedules-only')).toBe('Thu 2026-01-01 00:00 → Thu 2026-01-08 00:00 UTC');
  });

  test('can exceed the longest timer delay', async () => {
    const { code, stdout } = await simulated('sleeps', '--for', '40d');
    expect(code).toBe(0);
    expect(stdout).toContain('Thu 2026-01-01 00:00 → Tue 2026-02-10 00:00 UTC');
  });

  test('ends early at Ctrl-C, prints what has run, and checks no expectations', async () => {
    const argv = ['simulate', 'test/cli/fixtures/small.ts', '--json'];
    const { code, stdout } = await cli(argv, { interruptAfterReadings: 20 });
    const report = JSON.parse(stdout) as Report;
    expect(code).toBe(130);
    expect(report).toMatchObject({ interrupted: true, expectation: { outcome: 'not asked' } });
    expect(report.durationMs).toBeLessThan(172_800_000);
  });
});

test('progress on a terminal is one line that is overwritten and then removed', async () => {
  const { stderr } = await cli(['simulate', 'test/cli/fixtures/small.ts'], { tty: true, env: { NO_COLOR: '1' } });
  const written = stderr.split('\r\u001b[2K');
  expect(written.length).toBeGreaterThan(3);
  for (const line of written.slice(1, -1)) {
    expect(line).toMatch(/^(Sat|Sun|Mon) 2026-03-\d\d \d\d:\d\d UTC +\d+ % {2}\d+ attempts? {2}[\d,.]+ × real time$/);
  }
  expect(written.at(-1)).toMatch(/^played 2d in /);
});

test('the timeline is written to a file', async () => {
  const file = join(tmpdir(), `escapement-timeline-${process.pid}.txt`);
  try {
    await simulated('small', '--timeline', file);
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines[0]).toMatch(/^\+0s +w0 +started$/);
    expect(lines.at(-1)).toBe('');
    expect(lines.some((line) => /letter#\d+ attempt 1: PermanentError: 山田 太郎/.test(line))).toBe(true);
  } finally {
    rmSync(file, { force: true });
  }
});

describe('the exit code', () => {
  test('is 1 if an expectation fails, and its message is printed', async () => {
    const { code, stdout } = await simulated('wrong');
    expect(code).toBe(1);
    expect(stdout).toMatch(/✗ expectation failed: the ledger is off:\n {4}by 1 cent\n$/);
    const json = await simulated('wrong', '--json');
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout).expectation).toEqual({ outcome: 'fails', message: 'the \u001b[2Jledger is off:\n  by 1 cent' });
  });

  test('is 1 if attempts leave work behind', async () => {
    const { code, stdout, stderr } = await simulated('leaks');
    expect(code).toBe(1);
    expect(stdout).toContain('forget');
    expect(stderr).toMatch(/^escapement: attempts have ended but left work behind/);
  });

  test.each([
    [['small', '--for', 'soon'], "option '--for <duration>' argument 'soon' is invalid. Give a duration such as '90m', '12h' or '7d'."],
    [
      ['small', '--until', '2026-03-28'],
      "option '--until <instant>' argument '2026-03-28' is invalid. Give an instant with its offset, such as '2026-03-28T00:00:00Z'.",
    ],
    [['small', '--workers', '65'], "option '--workers <n>' argument '65' is invalid. Give a whole number from 0 to 64."],
    [['small', '--sed', '1'], "unknown option '--sed' (Did you mean --seed?)"],
    [['small', '--for', '1d', '--until', '2026-03-29T00:00:00Z'], 'give --for or --until, not both'],
    [
      ['small', '--until', '2026-03-28T00:00:00Z'],
      'the period ends (2026-03-28T00:00:00.000Z) before it starts (2026-03-28T00:00:00.000Z); change --until, --from or --for',
    ],
    [['small', '--timeline', 'no/such/place.txt'], 'the timeline cannot be written to no/such/place.txt: its directory does not exist'],
    [['nope'], 'there is no file test/cli/fixtures/nope.ts; give the path of the module that calls createTasks()'],
    [['nothing'], 'test/cli/fixtures/nothing.ts exports no application: export const tasks = createTasks(…)'],
    [
      ['several'],
      'test/cli/fixtures/several.ts exports several applications (mail, shop): export only one, or give a module that re-exports one of them',
    ],
    [['throws'], 'test/cli/fixtures/throws.ts threw while it was loaded: TypeError: no DATABASE_URL'],
    [
      ['unsound'],
      'test/cli/fixtures/unsound.ts: simulation.until is unknown; the keys are now, for, workers, concurrency, seed, play, expect',
    ],
    [['play-throws'], 'play(sim) of test/cli/fixtures/play-throws.ts threw RangeError: nobody enqueued'],
  ])('is 2 for %j', async ([fixture = '', ...options], message) => {
    expect(await simulated(fixture, ...options)).toEqual({ code: 2, stdout: '', stderr: `escapement: ${message}\n` });
  });

  test('is 2 for a stalled simulation, and the report says what it waits for', async () => {
    const { code, stderr } = await simulated('stalls');
    expect(code).toBe(2);
    expect(stderr).toMatch(/^escapement: test\/cli\/fixtures\/stalls.ts: virtual time has stood still for 3000 ms/);
    expect(stderr).toContain('wait attempt 1 on w0 waits on ctx.external("a server")');
  });

  test('is 0 for --help, which documents the exit codes', async () => {
    const { code, stdout } = await cli(['simulate', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Exit codes:');
    expect(Math.max(...stdout.split('\n').map(width))).toBeLessThanOrEqual(100);
  });

  test('is followed by a stack if ESCAPEMENT_DEBUG is set', async () => {
    const argv = ['simulate', 'test/cli/fixtures/play-throws.ts'];
    expect((await cli(argv, { env: { ESCAPEMENT_DEBUG: '1' } })).stderr).toMatch(/\n {4}at .*play-throws/);
  });
});

describe('the shop', () => {
  const soak = Boolean(process.env.ESCAPEMENT_SOAK);
  const long = soak || Boolean(process.env.ESCAPEMENT_LONG);
  /** The days of both outages, or the whole week in long runs. */
  const period = long ? [] : ['--from', '2026-03-24T12:00:00Z', '--until', '2026-03-29T00:00:00Z', '--crash'];

  const promised: string[] = [];

  test.each(soak ? [1, 2, 3, 4] : [3])('keeps its guarantees with %i workers, for any seed and any crashed worker', async (workers) => {
    for (const seed of soak ? ['1', '7'] : ['7']) {
      for (const options of long ? [[], ['--crash']] : [period]) {
        const { code, stdout } = await shop('--json', '--workers', String(workers), '--seed', seed, ...options);
        promised.push(stdout);
        const { expectation, totals } = JSON.parse(stdout) as Report;
        expect(expectation).toEqual({ outcome: 'holds', message: null });
        expect(code).toBe(0);
        expect(totals.successful).toBeGreaterThan(1_500);
      }
    }
  });

  test('reports the gateway failures in the hours of its two outages', async () => {
    const stdout = promised[0] ?? (await shop('--json', '--workers', '3', '--seed', '7', ...period)).stdout;
    const worst = (JSON.parse(stdout) as Report).hours.toSorted((a, b) => b.failed - a.failed).slice(0, 2);
    expect(worst.map(({ at }) => at)).toEqual(['2026-03-28T19:00:00.000Z', '2026-03-24T17:00:00.000Z']);
  });
});
