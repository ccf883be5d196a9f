/** The report of a failing test, produced by a child Vitest. */
import { execFile } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const fixtures = fileURLToPath(new URL('fixtures', import.meta.url));
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
let report = '';

/** The part of the report between this test's heading and the next line that divides tests. */
function sectionOf(name: string): string {
  const [, section = ''] = report.split(`FAIL  failing.ts > ${name}\n`);
  return (section.split('⎯⎯⎯⎯', 1)[0] ?? '').trimEnd();
}

beforeAll(async () => {
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined, VITEST: undefined, VITEST_POOL_ID: undefined };
  report = await new Promise((resolve) => {
    execFile(
      process.execPath,
      [vitest, 'run', '--config', join(fixtures, 'vitest.config.ts')],
      { env, cwd: fixtures },
      (_, stdout, stderr) => resolve(stripVTControlCharacters(`${stdout}\n${stderr}`)),
    );
  });
}, 60_000);

afterAll(() => rmSync(join(fixtures, '__seeds__'), { recursive: true, force: true }));

describe('the report of a failing test', () => {
  test('shows the message and its diff, then the seed and the timeline', () => {
    const section = sectionOf('fails in the matcher');
    expect(section).toMatch(/^Error: expect\(result\)\.toHaveSucceeded\({"returnValue": "Hello, eva"}\)/);
    expect(section).toContain('- Hello, eva\n    + Hello, ada');
    expect(section).toContain('❯ failing.ts:');
    expect(section.slice(section.indexOf('❯ simulation'))).toMatchInlineSnapshot(`
      "❯ simulation
         ↳ with seed 7, from 2026-01-01T00:00:00.000Z for 0s
          +0s  w0  started
          +0s      enqueued    greet#1
          +0s  w0  started     greet#1 attempt 1
          +0s  w0  successful  greet#1 attempt 1"
    `);
  });

  test('shows the last forty lines of a long timeline', () => {
    const section = sectionOf('fails by itself, with a long timeline');
    expect(section).toMatch(/^Error: something else\n/);
    const [, timeline = ''] = section.split('↳ with seed 7, from 2026-01-01T00:00:00.000Z for 29m\n');
    const lines = timeline.split('\n');
    expect(lines).toHaveLength(41);
    expect(lines[0]).toBe('    … 22 earlier lines of the timeline');
    expect(lines.at(-1)).toBe('    +29m  w0  failed    flaky#1 attempt 30: RangeError: no luck');
  });

  test('reports a missing seed, and the events of a test that does not name its simulation', () => {
    const section = sectionOf('never names its simulation');
    expect(section).toMatch(/^Error: expect\(greet\)\.toHaveRun\(\)\n\nExpected greet to have run\. No attempt has started\.\n/);
    expect(section).toContain('↳ without a seed, from 2026-01-01T00:00:00.000Z for 0s\n');
    expect(section).toMatch(/\+0s {6}enqueued {2}greet#1$/);
  });

  test('names work left behind by tasks', () => {
    const section = sectionOf('leaves work behind');
    expect(section).toMatch(/^SimulationError: attempts have ended but left work behind/);
    expect(section).toContain('leaky#1 attempt 1: a timer set at ');
    expect(section).toMatch(/\+0s {2}w0 {2}successful {2}leaky#1 attempt 1$/);
  });

  test("puts the test's own failure before leftover work", () => {
    const section = sectionOf('leaves work behind and fails');
    expect(section).toMatch(/^AssertionError: expected 'its own failure' to be 'first'/);
    expect(report.split('FAIL  failing.ts > leaves work behind and fails\n')).toHaveLength(2);
    expect(section).toContain('    attempts have ended but left work behind');
    expect(section).toContain('      leaky#1 attempt 1: a timer set at ');
  });

  test('prints nothing for tests that pass, or fail as expected', () => {
    expect(report).toContain('7 failed | 3 passed | 1 expected fail');
    expect(report.split('Failed Tests')[1]).not.toContain('prints nothing');
  });

  test('shows a failure found by an exploration, and saves it beside the test file', () => {
    const section = sectionOf('is charged once');
    expect(section).toMatch(/^ExplorationError: AssertionError: expected 2 to be 1/);
    const [, replay] = /to replay it: ESCAPEMENT_REPLAY='(.+?)'/.exec(section) ?? [];
    const kept = join(fixtures, '__seeds__', 'failing.ts.is-charged-once.json');
    expect(JSON.parse(readFileSync(kept, 'utf8'))).toEqual([replay]);
  });

  test('explains why concurrent tests fail', () => {
    const section = [sectionOf('is one of two at a time'), sectionOf('is the other of two at a time')].join('');
    expect(section).toContain('another simulation is running in this process; end it first');
  });
});
