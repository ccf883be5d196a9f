/**
 * How soon a worker in another process starts a job, and the cost of an idle worker. Run: `node bench/wakeup.ts` (after a build). Options:
 * `--jobs N` (300), `--idle SECONDS` (20).
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';

const { values: options } = parseArgs({
  options: { jobs: { type: 'string', default: '300' }, idle: { type: 'string', default: '20' }, worker: { type: 'string' } },
});
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function application(file: string, started: (sentAt: number) => void) {
  const tasks = createTasks({ backend: sqlite({ file }), logger: quiet });
  return { tasks, job: tasks.define('job', async (sentAt: number) => started(sentAt)) };
}

if (options.worker) {
  // The monotonic clock is the machine's, so both processes read the same one.
  const { tasks } = application(options.worker, (sentAt) => process.send?.({ tookMs: monotonicMs() - sentAt }));
  await tasks.worker().start();
  process.send?.({ started: true });
  process.on('message', () => process.send?.({ usage: process.cpuUsage(), rss: process.memoryUsage().rss }));
} else {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-bench-'));
  const file = join(folder, 'jobs.db');
  const { tasks, job } = application(file, () => {});
  await tasks.open();
  const child = fork(fileURLToPath(import.meta.url), ['--worker', file]);
  const heard = () =>
    new Promise<Record<string, unknown>>((resolve) => child.once('message', (message) => resolve(message as Record<string, unknown>)));
  await heard();
  console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}`);
  const times: number[] = [];
  for (let i = 0; i < Number(options.jobs); i++) {
    await pause(5 + Math.random() * 20);
    const answer = heard();
    await job.enqueue(monotonicMs());
    times.push(((await answer) as { tookMs: number }).tookMs);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? Number.NaN).toFixed(2);
  console.log(
    `enqueue to start in another process, FULL: median ${at(0.5)} ms, p95 ${at(0.95)} ms, p99 ${at(0.99)} ms (target: at most 5 ms at p95)`,
  );
  const usage = async () => {
    const answer = heard();
    child.send('usage');
    return (await answer) as { usage: NodeJS.CpuUsage; rss: number };
  };
  const before = await usage();
  const sizes = [before.rss];
  let after = before;
  for (let tenth = 0; tenth < 10; tenth++) {
    await pause(Number(options.idle) * 100);
    after = await usage();
    sizes.push(after.rss);
  }
  const cpuMs = (after.usage.user + after.usage.system - before.usage.user - before.usage.system) / 1_000;
  console.log(
    `idle worker: ${((cpuMs / (Number(options.idle) * 1_000)) * 100).toFixed(2)} % of a core, ${sizes.map((size) => (size / 1e6).toFixed(0)).join(' ')} MB over ${options.idle} s (target: under 1 % and 90 MB, constant)`,
  );
  child.kill();
  await tasks.close();
  rmSync(folder, { recursive: true });
}
