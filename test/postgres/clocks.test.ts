/** Workers whose clocks are ten minutes off. The server's clock matches this process's clock. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { expect, onTestFinished, test } from 'vitest';
import { ServerClock } from '../../src/stores/postgres/server-clock.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

const app = fileURLToPath(new URL('./fixtures/app.ts', import.meta.url));
const skewed = fileURLToPath(new URL('./fixtures/skewed.ts', import.meta.url));
const tenMinutes = 600_000;

/** Starts a worker with one slot in a process with a skewed clock; returns its output. */
function start(url: string, schema: string, skewMs: number): () => string {
  const child = spawn(process.execPath, ['--import', skewed, app, url, schema], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, SKEW_MS: String(skewMs) },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += String(chunk);
  });
  return () => text;
}

test.each([
  ['ten minutes ahead', tenMinutes, -tenMinutes],
  ['ten minutes behind', -tenMinutes, tenMinutes],
])('beside a worker whose clock is %s, leases are kept, and jobs start on time', async (_, other, own) => {
  const [url, schema] = [await postgresUrl(), `clocks_${process.pid}_${other > 0 ? 'ahead' : 'behind'}`];
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }) });
  onTestFinished(() => tasks.close());
  await tasks.open();
  const slow = tasks.define('slow', async (_: number) => 0);
  const workers = [start(url, schema, own), start(url, schema, other)];
  for (const said of workers) await expect.poll(said).toContain('ready');
  const held = await slow.enqueueMany([1, 2, 3, 4]);
  const dueAt = Date.now() + 6_000;
  const later = await slow.using({ runAfter: new Date(dueAt) }).enqueue(5);
  for (const result of [...held, later]) await result.wait({ timeout: '60s' });
  expect(held.map(({ attempts, history }) => [attempts, history.length])).toEqual(held.map(() => [1, 1]));
  // Compares with the server's clock, which is this process's; a start ten minutes late fails the wait.
  const early = dueAt - (later.startedAt?.getTime() ?? 0);
  expect(early).toBeLessThanOrEqual(1_000);
  expect(early).toBeGreaterThan(-60_000);
  const begun = workers.map((said) => said().match(/begun/g)?.length ?? 0);
  expect(begun[0]).toBeGreaterThan(0);
  expect(begun[1]).toBeGreaterThan(0);
});

test('a clock difference within the duration of a call is ignored', async () => {
  let measured = { serverAt: 0, tookMs: 0 };
  const clock = new ServerClock(async () => measured);
  const ahead = async (serverAt: number, tookMs: number) => {
    measured = { serverAt: Date.now() + serverAt, tookMs };
    await clock.measure();
    return clock.aheadMs;
  };
  expect(await ahead(-900, 1_000)).toBe(0);
  expect(await ahead(-tenMinutes, 20)).toBeCloseTo(-tenMinutes + 10, -2);
  const known = clock.aheadMs;
  expect(await ahead(-tenMinutes - 3_000, 6_400)).toBe(known);
  expect(await ahead(20, 20)).toBe(0);
});
