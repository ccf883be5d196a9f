/** `escapement/testing` needs no Vitest: `node --test` runs a file against the built package. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const file = fileURLToPath(new URL('fixtures/node-test.ts', import.meta.url));

test('a simulation runs in node:test', async () => {
  if (!existsSync(join(root, 'dist/src/testing/index.js'))) {
    const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
    await run(process.execPath, [join(typescript, 'bin/tsc'), '-p', join(root, 'tsconfig.build.json')]);
  }
  const env = { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: undefined, FORCE_COLOR: undefined };
  const { stdout } = await run(process.execPath, ['--test', '--test-reporter=tap', file], { cwd: root, env }).catch((error) => error);
  expect(stdout).toMatch(/^# pass [1-9]\d+$/m);
  expect(stdout).toContain('\n# fail 0\n');
  expect(stdout).toContain('ok 1 - a simulation in node:test');
  expect(stdout).toContain('ok 2 - the store memory');
});
