/**
 * The dashboard on a SQLite file with a million jobs, in a separate terminal: the time from a key to its frame, the cost while idle, and
 * memory; and its cost for workers that drain jobs, with `dev` in their own process and `top` in another one. Run: `npm run bench:dash`.
 * Options: `--rows N` (1000000), `--jobs N` (100000), `--only keys|costs`. Needs `script` of util-linux.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';

const { values: options } = parseArgs({
  options: { rows: { type: 'string', default: '1000000' }, jobs: { type: 'string', default: '100000' }, only: { type: 'string' } },
});
const rows = Number(options.rows);
const folder = mkdtempSync(join(tmpdir(), 'escapement-bench-'));
const file = join(folder, 'jobs.db');
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** Enqueues jobs of every kind: most have ended, some are due, some are scheduled, some failed. */
async function fill(): Promise<void> {
  await using tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }) });
  const job = tasks.define('mail.welcome', (_: { user: number }) => {});
  const queues = ['default', 'mail', 'images', 'webhooks'];
  for (let i = 0; i < rows; i += 1_000) {
    const queue = queues[(i / 1_000) % queues.length] as string;
    const using = job.using({ queue, priority: (i / 1_000) % 7, tags: ['signup'], runAfter: i < rows * 0.1 ? '1d' : '0s' });
    await using.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ user: i + n })));
  }
  await tasks.close();
  // Simulates past work: writes states and counts as the store keeps them.
  const db = new Database(file);
  db.exec(`UPDATE escapement_jobs SET state = CASE WHEN substr(id, -1) IN ('0', '1') THEN 'failed' ELSE 'successful' END, attempt = 1, claim = 1,
      finished_at = enqueued_at + 50, started_at = enqueued_at, last_attempted_at = enqueued_at, last_attempt = 1, last_worker = 'w1',
      last_ended_at = enqueued_at + 50, last_outcome = 'successful'
    WHERE state = 'ready' AND substr(id, -2) <> '7f';
    DELETE FROM escapement_counts;
    INSERT INTO escapement_counts SELECT queue, state, count(*) FROM escapement_jobs GROUP BY 1, 2;
    INSERT INTO escapement_counts SELECT '', 'counted', max(n) FROM escapement_jobs;
    ANALYZE;`);
  db.close();
}

class Screen {
  readonly #process: ChildProcess;
  #text = '';
  #changed = () => {};

  readonly #command: string;

  constructor(argv: string) {
    this.#command = `${main} ${argv}`;
    const command = `stty cols 140 rows 40; exec ${process.execPath} ${this.#command}`;
    this.#process = spawn('script', ['-qfec', command, '/dev/null'], { env: { ...process.env, CI: '', TERM: 'xterm-256color' } });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
      this.#changed();
    });
  }

  /** Milliseconds from the key to the frame that contains the expected text. */
  async press(key: string, expected: RegExp): Promise<number> {
    this.#text = '';
    const startedAt = performance.now();
    this.#process.stdin?.write(key);
    await this.until(expected);
    return performance.now() - startedAt;
  }

  async until(expected: RegExp): Promise<void> {
    const giveUp = performance.now() + 20_000;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours and moves
    while (!expected.test(this.#text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, ' '))) {
      if (performance.now() > giveUp) throw new Error(`the screen did not show ${expected}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1_000);
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** The process id of the dashboard itself, below `script` and the shell. */
  get pid(): number {
    return Number(execFileSync('pgrep', ['-f', this.#command], { encoding: 'utf8' }).trim().split('\n').at(-1));
  }

  async leave(): Promise<void> {
    const closed = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdin?.write('q');
    await closed;
  }
}

const cpuMs = (pid: number) => {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return ((user ?? 0) + (system ?? 0)) * 10;
};
const megabytes = (pid: number) => Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024);

/** Drains jobs, optionally alongside another process, and returns the worker's jobs per second, from its first attempt to its last. */
async function drain(
  jobs: number,
  run: (module: string, file: string, drained: () => Promise<number>) => Promise<number>,
): Promise<number> {
  const own = mkdtempSync(join(folder, 'drain-'));
  const store = join(own, 'jobs.db');
  const told = join(own, 'told');
  const module = join(own, 'tasks.ts');
  const source = (specifier: string) => JSON.stringify(import.meta.resolve(specifier));
  writeFileSync(
    module,
    `import { writeFileSync } from 'node:fs';
import { createTasks } from ${source('escapement')};
import { sqlite } from ${source('escapement/sqlite')};
export const tasks = createTasks({ backend: sqlite({ file: ${JSON.stringify(store)}, synchronous: 'NORMAL' }) });
let done = 0;
let since = 0;
tasks.define('nothing', (_: number) => {
  if (done === 0) since = performance.now();
  done += 1;
  if (done === ${jobs}) writeFileSync(${JSON.stringify(told)}, String(performance.now() - since));
});
`,
  );
  {
    await using tasks = createTasks({ backend: sqlite({ file: store, synchronous: 'NORMAL' }) });
    const nothing = tasks.define('nothing', (_: number) => {});
    for (let i = 0; i < jobs; i += 1_000) await nothing.enqueueMany(Array.from({ length: 1_000 }, (_, n) => i + n));
  }
  return run(module, store, async () => {
    const giveUp = performance.now() + 120_000;
    while (!existsSync(told) || readFileSync(told, 'utf8') === '') {
      if (performance.now() > giveUp) throw new Error('the jobs did not finish');
      await sleep(20);
    }
    return (jobs * 1_000) / Number(readFileSync(told, 'utf8'));
  });
}

/** A worker without a dashboard, one with `top` alongside, and `dev`, run alternately because the machine's speed varies. */
async function costs(jobs: number): Promise<void> {
  const held = new Map<string, number[]>();
  const hold = (name: string, pid: number) => held.set(name, [...(held.get(name) ?? []), megabytes(pid)]);
  const worker = async (module: string, drained: () => Promise<number>) => {
    const process_ = spawn(process.execPath, [main, 'worker', module, '--concurrency', '10'], { stdio: 'ignore' });
    const rate = await drained();
    hold('a worker alone', process_.pid ?? 0);
    const closed = new Promise((resolve) => process_.once('close', resolve));
    process_.kill('SIGTERM');
    await closed;
    return rate;
  };
  const ways: Record<string, Parameters<typeof drain>[1]> = {
    'no dashboard': (module, _, drained) => worker(module, drained),
    top: async (module, store, drained) => {
      const screen = new Screen(`top --sqlite ${store}`);
      await screen.until(/1 Overview/);
      const rate = await worker(module, drained);
      await screen.leave();
      return rate;
    },
    dev: async (module, _, drained) => {
      const screen = new Screen(`dev ${module}`);
      const rate = await drained();
      hold('dev', screen.pid);
      await screen.leave();
      return rate;
    },
  };
  const rates = new Map<string, number[]>();
  for (let round = 0; round < 5; round++)
    for (const [name, way] of Object.entries(ways)) rates.set(name, [...(rates.get(name) ?? []), await drain(jobs, way)]);
  const median = (name: string) => rates.get(name)?.toSorted((a, b) => a - b)[2] ?? Number.NaN;
  for (const name of rates.keys()) {
    const loss = 100 * (1 - median(name) / median('no dashboard'));
    console.log(
      `${name.padEnd(14)} ${Math.round(median(name))} jobs/s (median of 5)${name === 'no dashboard' ? '' : `, ${loss.toFixed(1)} % fewer`}`,
    );
  }
  for (const [name, found] of held) console.log(`${name}, ${jobs} jobs done: ${found.toSorted((a, b) => a - b)[found.length >> 1]} MB`);
}

async function keys(): Promise<void> {
  console.log(`${rows} jobs in SQLite`);
  await fill();
  const screen = new Screen(`top --sqlite ${file} --write`);
  await screen.until(/1 Overview/);
  await sleep(2_000);
  const { pid } = screen;
  console.log(`after start: ${megabytes(pid)} MB`);
  const steps: [what: string, key: string, expected: RegExp][] = [
    ['jobs', '2', /\[2 Jobs\]/],
    ['down', 'j', /▸/],
    ['next page', '\u001b[6~', /page +\d/],
    ['failed', '\u001b[D\u001b[D', /\[✗/],
    ['retries', '3', /\[3 Retries\]/],
    ['workers', '5', /\[5 Workers\]/],
    ['events', '6', /\[6 Events\]/],
    ['overview', '1', /\[1 Overview\]/],
  ];
  const times = new Map<string, number[]>();
  for (let round = 0; round < 8; round++) {
    for (const [what, key, expected] of steps) {
      times.set(what, [...(times.get(what) ?? []), await screen.press(key, expected)]);
      await sleep(300);
    }
    // Clear the filter.
    for (const key of ['2', '\u001b', '1']) {
      await screen.press(key, /./);
      await sleep(200);
    }
  }
  for (const [what, found] of times) {
    const sorted = found.toSorted((a, b) => a - b);
    console.log(
      `${what.padEnd(10)} ${sorted
        .at(sorted.length >> 1)
        ?.toFixed(0)
        .padStart(4)} ms (median) ${sorted.at(-1)?.toFixed(0).padStart(4)} ms (max)`,
    );
  }
  const before = cpuMs(pid);
  await sleep(10_000);
  console.log(`idle: ${((cpuMs(pid) - before) / 100).toFixed(1)} % of a core, ${megabytes(pid)} MB`);
  await screen.leave();
}

try {
  if (options.only !== 'costs') await keys();
  if (options.only !== 'keys') await costs(Number(options.jobs));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
