/** `npm run torture` for a few seconds on each store. Long runs are done by hand; this detects gross errors. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'vitest';

const program = fileURLToPath(new URL('../../bench/torture/run.ts', import.meta.url));

test.concurrent.for(['sqlite', 'postgres'])(
  'processes on %s that are killed, paused and disconnected violate no guarantee',
  async (store, { expect }) => {
    const { stdout } = await promisify(execFile)(process.execPath, [program, '--store', store, '--for', '12s', '--processes', '3']).catch(
      ({ stdout, stderr }) => {
        throw new Error(`${stdout}${stderr}`);
      },
    );
    expect(stdout).toMatch(new RegExp(`^${store}: 3 processes for 12s, [1-9]\\d* kills`, 'm'));
    expect(Number(/acknowledged +│ +(\d+)/.exec(stdout)?.[1])).toBeGreaterThan(0);
  },
);
