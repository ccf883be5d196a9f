/** Two processes on one database: one runs the job of the other, which was killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { afterEach, expect, test } from 'vitest';
import { postgresUrl } from '../stores/postgres-server.ts';

const app = fileURLToPath(new URL('./fixtures/app.ts', import.meta.url));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** A worker in a separate process, and its output. */
function start(url: string, schema: string): { child: ChildProcess; said: () => string } {
  const child = spawn(process.execPath, [app, url, schema], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += String(chunk);
  });
  return { child, said: () => text };
}

test('another worker runs the job of a killed worker within 35 s', async () => {
  const [url, schema] = [await postgresUrl(), `processes_${process.pid}`];
  const tasks = createTasks({ backend: postgres({ connectionString: url, schema }) });
  await tasks.open();
  const slow = tasks.define('slow', async (_: number) => 0);
  const workers = [start(url, schema), start(url, schema)];
  for (const { said } of workers) await expect.poll(said).toContain('ready');
  const results = await slow.enqueueMany([1, 2, 3, 4]);
  const begun = () => workers.map(({ said }) => said().match(/begun/g)?.length ?? 0);
  await expect.poll(() => begun().reduce((sum, count) => sum + count, 0)).toBe(4);
  // One of them holds jobs, which are lost with it.
  const dead = begun()[0] ? workers[0] : workers[1];
  dead?.child.kill('SIGKILL');
  for (const result of results) await result.wait({ timeout: '60s' });
  expect(results.map(({ status }) => status)).toEqual(['successful', 'successful', 'successful', 'successful']);
  expect(results.some(({ attempts }) => attempts === 2)).toBe(true);
  await tasks.close();
});
