/**
 * An application whose clock is set from outside: `app.ts FILE LOG CLOCK` runs jobs with a clock that is ahead by the milliseconds in the
 * file CLOCK, which all processes share like a machine's clock. Each run of a job is a line in LOG.
 */
import { appendFileSync, openSync, readSync } from 'node:fs';

const [file = '', log = '', clock = ''] = process.argv.slice(2);
const ahead = new Float64Array(1);
const fd = openSync(clock, 'r');
// Before the package is loaded, because it captures the clock.
const { now } = Date;
Date.now = () => {
  readSync(fd, ahead, 0, 8, 0);
  return now() + (ahead[0] ?? 0);
};
process.on('disconnect', () => process.exit());

const { createTasks } = await import('escapement');
const { sqlite } = await import('escapement/sqlite');
const tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }), retention: { successful: 'forever' }, logger: console });
const note = (name: string, n: number) => appendFileSync(log, `${name} ${n}\n`);

tasks.define('quick', (n: number) => note('quick', n));
tasks.define('slow', async (n: number, ctx) => {
  note('slow', n);
  await ctx.sleep(20 + (n % 7) * 300);
});
tasks.define('fails', {
  retry: { maxAttempts: 20, backoff: '100ms' },
  run: (n: number, ctx) => {
    note('fails', n);
    if (ctx.attempt <= n % 4) throw new Error('not yet');
  },
});
// Blocks the thread for longer than its limit, although its worker is alive.
tasks.define('blocks', (n: number) => {
  note('blocks', n);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 7_000);
});
const tick = tasks.define('tick', () => {});
tasks.schedule('every-5s', { task: tick, every: '5s' });

await tasks.worker({ concurrency: 10 }).start();
process.send?.('started');
