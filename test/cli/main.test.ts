/** The built program in separate processes, for behaviour that cannot be tested in-process. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { nodeFault } from '../../src/ports/node-version.ts';
import { spawned } from './cli.ts';

const { engines } = packageJson;

const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
afterAll(() => rmSync(folder, { recursive: true }));

function module(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

test('the same seed prints the same bytes, and another seed prints others', async () => {
  const shop = ['simulate', 'fixtures/shop/tasks.ts', '--for', '2h', '--seed'];
  const [one, two, other] = await Promise.all([spawned([...shop, '7']), spawned([...shop, '7']), spawned([...shop, '8'])]);
  expect(one.code).toBe(0);
  expect(one.stdout).toBe(two.stdout);
  expect(one.stdout).not.toBe(other.stdout);
  expect(one.stderr).toMatch(/^played 2h in [\d.]+ s: [\d,]+ × real time\n$/);
});

test('syntax errors include their line, an endless play is reported, and a closed pipe is not an error', async () => {
  const syntax = module('syntax.ts', 'const a = 1;\nexport const tasks = createTasks(;\n');
  const typescript = module('enum.ts', 'export enum A { x }\n');
  const script = module('script.mjs', '\nexport const = 1;\n');
  const missing = module('missing.mjs', "import './not-there.mjs';\n");
  const [one, two, three, four, waiting, closed] = await Promise.all([
    spawned(['simulate', syntax]),
    spawned(['simulate', typescript]),
    spawned(['simulate', script]),
    spawned(['simulate', missing]),
    spawned(['simulate', 'test/cli/fixtures/play-waits.ts']),
    spawned(['simulate', 'fixtures/shop/tasks.ts', '--json', '--for', '2h'], 'closed'),
  ]);
  expect(one).toEqual({ code: 2, stdout: '', stderr: 'escapement: syntax.ts:2 cannot be parsed: Expression expected\n' });
  expect(two.stderr).toMatch(/^escapement: enum.ts:1 uses TypeScript that Node cannot strip .*enum.*\n$/);
  expect(three).toEqual({
    code: 2,
    stdout: '',
    stderr: "escapement: script.mjs cannot be parsed: Unexpected token '='; run node script.mjs to see where\n",
  });
  expect(four.stderr).toMatch(/^escapement: missing.mjs imports a module that cannot be found: .*not-there.mjs.*\n$/);
  expect([two.code, four.code]).toEqual([2, 2]);
  expect(waiting).toEqual({
    code: 2,
    stdout: '',
    stderr:
      'escapement: play(sim) of test/cli/fixtures/play-waits.ts waits for something that never happens; only sim.advance() and similar calls advance virtual time\n',
  });
  expect(closed.code).toBe(0);
  expect(closed.stderr).toMatch(/^played 2h in .*\n$/);
});

test('the minimum Node version matches package.json', () => {
  const [, major = '', minor = ''] = /^>=(\d+)\.(\d+)$/.exec(engines.node) ?? [];
  expect(nodeFault('20.20.2')).toBe(`escapement needs Node ${major}.${minor} or later; this is Node 20.20.2`);
  expect(nodeFault(`${major}.${Number(minor) - 1}.9`)).toBeDefined();
  for (const version of [`${major}.${minor}.0`, `${Number(major) + 1}.0.0`, process.versions.node])
    expect(nodeFault(version)).toBeUndefined();
});
