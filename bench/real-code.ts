/**
 * The cost of making virtual time wait for real work: tasks that start none compared with an earlier version of the package, and tasks that
 * read files or fetch compared with a real worker; medians of several rounds in one run, each measurement in a separate process. Run: `npm
 * run bench:real-code`. Options: `--against REV` (c475ee7), `--rounds N` (9), `--only NAME`.
 */
import { execFile, execFileSync, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs, promisify } from 'node:util';

/** The real clock, captured before the package is imported and replaces it. */
const realNow = performance.now.bind(performance);

const { values: options } = parseArgs({
  options: {
    against: { type: 'string', default: 'c475ee7' },
    rounds: { type: 'string', default: '9' },
    only: { type: 'string' },
    child: { type: 'string' },
    measure: { type: 'string', default: '' },
    on: { type: 'string', default: '' },
    serve: { type: 'boolean', default: false },
  },
});
const self = fileURLToPath(import.meta.url);
const home = fileURLToPath(new URL('..', import.meta.url));
const realJobs = 10_000;

if (options.serve) serve();
else if (options.child !== undefined) await child(options.child);
else await main();

/** A server that responds immediately. */
function serve(): void {
  const server = createServer((_, response) => response.end('hello'));
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
  process.on('disconnect', () => process.exit());
}

/** Runs one measurement with one version of the package, and prints its duration in milliseconds. */
async function child(folder: string): Promise<void> {
  const load = (path: string) => import(pathToFileURL(join(folder, 'dist/src', path)).href);
  const { createTasks, fixed, memory }: typeof import('escapement') = await load('index.js');
  type Job = (input: number) => Promise<unknown>;

  /** Runs jobs on a worker in real time. Nothing of escapement/testing is loaded. */
  const byWorker = async (work: Job, jobs: number) => {
    const tasks = createTasks({ backend: memory() });
    // The return value is dropped, because a buffer cannot be stored.
    const job = tasks.define('job', async (input: number) => void (await work(input)));
    await job.enqueueMany(Array.from({ length: jobs }, (_, i) => i));
    const done = Promise.withResolvers<void>();
    let left = jobs;
    tasks.on('successful', () => {
      left -= 1;
      if (left === 0) done.resolve();
    });
    tasks.on('failed', ({ job: { id } }) => done.reject(new Error(`job ${id} failed`)));
    const worker = tasks.worker({ concurrency: 10 });
    const startedAt = realNow();
    await worker.start();
    await done.promise;
    const ms = realNow() - startedAt;
    await worker.stop();
    await tasks.close();
    return ms;
  };

  const inVirtualTime = async (way: 'drain' | 'runUntilIdle', work: Job, jobs: number, settings: object) => {
    const { simulate }: typeof import('escapement/testing') = await load('testing/index.js');
    const tasks = createTasks({ backend: memory() });
    let ran = 0;
    const job = tasks.define('job', async (input: number) => {
      await work(input);
      ran += 1;
    });
    const sim = await simulate(tasks, settings);
    await job.enqueueMany(Array.from({ length: jobs }, (_, i) => i));
    const startedAt = realNow();
    await sim[way]();
    const ms = realNow() - startedAt;
    await sim.end();
    if (ran !== jobs) throw new Error(`expected ${jobs} runs, got ${ran}`);
    return ms;
  };

  /** Jobs that sleep for a minute five times. */
  const sleeps = async (by: 'sleep' | 'setTimeout', jobs: number) => {
    const { simulate }: typeof import('escapement/testing') = await load('testing/index.js');
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', async (_: number, ctx) => {
      for (let i = 0; i < 5; i++) await (by === 'sleep' ? ctx.sleep('1m') : new Promise((resolve) => setTimeout(resolve, 60_000)));
    });
    const sim = await simulate(tasks);
    await job.enqueueMany(Array.from({ length: jobs }, (_, i) => i));
    const startedAt = realNow();
    await sim.runUntilIdle();
    const ms = realNow() - startedAt;
    await sim.end();
    return ms;
  };

  /** A whole simulation of one job that succeeds on its third attempt; the mean of several. */
  const tests = async (count: number) => {
    const { simulate }: typeof import('escapement/testing') = await load('testing/index.js');
    const startedAt = realNow();
    for (let i = 0; i < count; i++) {
      const tasks = createTasks({ backend: memory() });
      let attempts = 0;
      const fail = async () => {
        attempts += 1;
        if (attempts < 3) throw new Error('not yet');
      };
      const job = tasks.define('job', { retry: { maxAttempts: 3, backoff: fixed('1s') }, run: fail });
      const sim = await simulate(tasks);
      await job.enqueue();
      await sim.runUntilIdle();
      await sim.end();
      if (attempts !== 3) throw new Error(`expected 3 attempts, got ${attempts}`);
    }
    return (realNow() - startedAt) / count;
  };

  const read: Job = () => readFile(options.on);
  const get: Job = async () => (await fetch(options.on)).text();
  /** Each warms up before it measures. */
  const measures: Record<string, (share: number) => Promise<number>> = {
    noop: (share) => inVirtualTime('drain', async () => {}, 20_000 * share, { record: false, concurrency: 100 }),
    sleep: (share) => sleeps('sleep', 2_000 * share),
    setTimeout: (share) => sleeps('setTimeout', 2_000 * share),
    test: (share) => tests(300 * share),
    'readFile, virtual': (share) => inVirtualTime('runUntilIdle', read, realJobs * share, {}),
    'readFile, worker': (share) => byWorker(read, realJobs * share),
    'fetch, virtual': (share) => inVirtualTime('runUntilIdle', get, realJobs * share, {}),
    'fetch, worker': (share) => byWorker(get, realJobs * share),
  };
  const measure = measures[options.measure];
  if (!measure) throw new Error(`no measure ${options.measure}`);
  await measure(options.on ? 0.1 : 1);
  const times: number[] = [];
  for (let i = 0; i < (options.on ? 1 : 3); i++) times.push(await measure(1));
  console.log(median(times));
  // Do not wait for keep-alive connections.
  process.exit();
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Builds a revision of this repository in a folder. */
function build(revision: string, folder: string): void {
  mkdirSync(folder);
  const archive = execFileSync('git', ['archive', revision], { cwd: home, maxBuffer: 1e9 });
  execFileSync('tar', ['-x', '-C', folder], { input: archive });
  symlinkSync(join(home, 'node_modules'), join(folder, 'node_modules'));
  execFileSync(join(home, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], { cwd: folder, stdio: ['ignore', 2, 2] });
}

/** Medians of two alternating measurements, and of their ratios: a temporarily busy machine slows both. */
async function both(one: readonly string[], other: readonly string[]): Promise<[number, number, number]> {
  const run = async ([folder = '', measure = '', on = '']: readonly string[]) => {
    const args = [self, '--child', folder, '--measure', measure, '--on', on];
    return Number((await promisify(execFile)(process.execPath, args)).stdout);
  };
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let i = 0; i < Number(options.rounds); i++) {
    const before = i % 2 === 0 ? await run(other) : undefined;
    ours.push(await run(one));
    theirs.push(before ?? (await run(other)));
  }
  return [median(ours), median(theirs), median(ours.map((ms, i) => ms / (theirs[i] ?? Number.NaN)))];
}

async function main(): Promise<void> {
  const wanted = (name: string) => options.only === undefined || options.only === name;
  const verdict = (value: number, most: number) => (value <= most ? 'within' : 'OVER');
  const temporary = mkdtempSync(join(tmpdir(), 'escapement-bench-'));
  const server = fork(self, ['--serve']);
  try {
    const port = await new Promise<number>((resolve) => server.once('message', (message) => resolve(message as number)));
    const earlier = join(temporary, 'earlier');
    build(options.against, earlier);
    const file = join(temporary, 'small.txt');
    writeFileSync(file, 'hello\n'.repeat(20));
    console.log(
      `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, against ${options.against}, ${options.rounds} rounds, medians`,
    );
    for (const [name, what, most] of [
      ['noop', '20,000 jobs that do nothing', 1.1],
      ['sleep', '2,000 jobs of five sleeps', 1.1],
      ['setTimeout', 'the same with setTimeout', undefined],
    ] as const) {
      if (!wanted(name)) continue;
      const [now, before, ratio] = await both([home, name], [earlier, name]);
      const asked = most === undefined ? 'for information' : `${verdict(ratio, most)} the target of ${most} ×`;
      console.log(`${name.padEnd(10)} ${what} in ${now.toFixed(0)} ms, before ${before.toFixed(0)} ms: ${ratio.toFixed(2)} × (${asked})`);
    }
    if (wanted('test')) {
      const [now, before, ratio] = await both([home, 'test'], [earlier, 'test']);
      console.log(
        `test       simulate(), a job of three attempts, end() in ${now.toFixed(2)} ms, before ${before.toFixed(2)} ms: ` +
          `${ratio.toFixed(2)} × (${verdict(now, 1)} the target of 1 ms)`,
      );
    }
    for (const [name, on] of [
      ['readFile', file],
      ['fetch', `http://127.0.0.1:${port}/`],
    ] as const) {
      if (!wanted(name)) continue;
      const [virtual, worker, ratio] = await both([home, `${name}, virtual`, on], [home, `${name}, worker`, on]);
      console.log(
        `${name.padEnd(10)} ${realJobs.toLocaleString('en')} jobs in ${virtual.toFixed(0)} ms, a worker ${worker.toFixed(0)} ms: ` +
          `${ratio.toFixed(2)} × (${verdict(ratio, 1.5)} the target of 1.5 ×)`,
      );
    }
  } finally {
    server.disconnect();
    rmSync(temporary, { recursive: true });
  }
}
