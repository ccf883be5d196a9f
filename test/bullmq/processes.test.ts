/** Real processes on one Redis server, killed with SIGKILL. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTasks } from 'escapement';
import { bullmq } from 'escapement/bullmq';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { redisServer, startRedis, type TestRedis } from '../setup/redis.ts';

const app = fileURLToPath(new URL('./fixtures/app.ts', import.meta.url));
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

describe.skipIf(!redisServer)('processes on BullMQ (needs redis-server)', () => {
  let redis: TestRedis;
  let children: ChildProcess[] = [];
  let n = 0;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    children = [];
  });
  afterAll(() => redis.stop());

  const prepare = () => {
    const prefix = `p${n++}`;
    const log = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'log.txt');
    const backend = bullmq({ connection: { host: '127.0.0.1', port: redis.port }, prefix, lockDuration: '1s' });
    const tasks = createTasks({ name: prefix, backend, logger: quiet });
    const append = tasks.define('append', { retry: { backoff: 10 }, run: (_: number) => expect.unreachable() });
    const lines = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []);
    const start = async (ms: number) => {
      const child = spawn(process.execPath, [app, String(redis.port), prefix, log, String(ms)], { stdio: ['ignore', 'pipe', 'inherit'] });
      children.push(child);
      await new Promise((resolve) => child.stdout?.once('data', resolve));
      return child;
    };
    return { tasks, append, lines, start };
  };

  test('another worker runs the jobs of a killed worker', async () => {
    const { tasks, append, lines, start } = prepare();
    const victim = await start(60_000);
    const jobs = await append.enqueueMany([1, 2, 3, 4, 5, 6]);
    await expect.poll(() => lines().length).toBe(4);
    victim.kill('SIGKILL');
    await start(1);
    for (const job of jobs) await job.wait({ timeout: '30s' });
    expect(jobs.map(({ attempts }) => attempts).sort()).toEqual([1, 1, 2, 2, 2, 2]);
    const lost = jobs.filter(({ attempts }) => attempts === 2);
    expect(lost[0]).toMatchObject({
      returnValue: expect.any(Number),
      history: [
        { attempt: 1, outcome: 'lost', worker: expect.stringMatching(/^[0-9a-z]{13}$/) },
        { attempt: 2, outcome: 'successful' },
      ],
      errors: [{ name: 'LeaseLostError', attempt: 1 }],
    });
    await tasks.close();
  });

  test('a job whose worker is killed during its last attempt fails', async () => {
    const { tasks, append, lines, start } = prepare();
    const victim = await start(60_000);
    const job = await append.using({ retry: { maxAttempts: 1 } }).enqueue(1);
    await expect.poll(() => lines().length).toBe(1);
    victim.kill('SIGKILL');
    await start(1);
    await job.wait({ timeout: '30s' });
    expect(job).toMatchObject({ status: 'failed', reason: 'lease lost', attempts: 1, errors: [{ name: 'LeaseLostError' }] });
    expect(lines()).toHaveLength(1);
    expect(await (await job.retry()).wait({ timeout: '30s' })).toMatchObject({ status: 'successful', attempts: 2 });
    await tasks.close();
  });

  test('a worker that is suspended past its lock does not disturb the next one', async () => {
    const { tasks, append, lines, start } = prepare();
    const sleeper = await start(3_000);
    const job = await append.enqueue(1);
    await expect.poll(() => lines().length).toBe(1);
    sleeper.kill('SIGSTOP');
    await start(1);
    await job.wait({ timeout: '30s' });
    expect(job).toMatchObject({ status: 'successful', attempts: 2 });
    sleeper.kill('SIGCONT');
    const next = await append.enqueueMany([2, 3, 4]);
    for (const one of next) await one.wait({ timeout: '30s' });
    expect(await job.refresh()).toMatchObject({ status: 'successful', attempts: 2 });
    await tasks.close();
  });
});
