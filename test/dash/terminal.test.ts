/** The built program in a real terminal, operated key by key like an application developer would. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { test as base, describe, expect } from 'vitest';
import { root } from '../cli/cli.ts';
import { hasTmux, openScreen, program, type Screen } from './tmux.ts';

const shop = 'dev fixtures/shop/tasks.ts --virtual --from 2026-03-24T17:00:00Z --seed 7';

interface Fixtures {
  open(command: string, columns?: number, rows?: number, env?: Record<string, string>): Screen;
  /** A folder for the test. */
  readonly folder: string;
  /** The path of a module in the folder. */
  moduleOf(source: string): string;
}

const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads the names of fixtures here
  open: async ({}, use) => {
    const screens: Screen[] = [];
    await use((command, columns, rows, env) => {
      const screen = openScreen(`${program} ${command}`, columns, rows, env);
      screens.push(screen);
      return screen;
    });
    for (const screen of screens) screen.end();
  },
  // biome-ignore lint/correctness/noEmptyPattern: see above
  folder: async ({}, use) => {
    const folder = mkdtempSync(join(root, 'test/dash/.tmp-'));
    await use(folder);
    rmSync(folder, { recursive: true, force: true });
  },
  moduleOf: async ({ folder }, use) => {
    await use((source) => {
      const path = join(folder, 'tasks.ts');
      writeFileSync(path, source);
      return path;
    });
  },
});

if (!hasTmux) console.warn('tmux is not here: the tests of the dashboard in a real terminal are skipped');

describe.skipIf(!hasTmux).concurrent('in a terminal', () => {
  test('a payment fails, is inspected, and time skips to its retry', async ({ open }) => {
    const terminal = open(shop);
    await terminal.until(/‖ ×60 .*17:00:00 UTC/);
    terminal.keys('f');
    await terminal.until(/↻ payment\.capture +503 Service/);
    terminal.keys('3');
    await terminal.until(/▸ +payment\.capture .* 1\/10 +10s /);
    terminal.keys('Enter');
    const job = await terminal.until(/at .*fixtures\/shop\/gateway\.ts:\d+/);
    expect(job).toMatch(/✗ GatewayError: 503 Service Unavailable/);
    expect(job).toMatch(/backoff, if it fails again: 50s ▸ 4m 10s ▸ 20m/);
    terminal.keys('.');
    await terminal.until(/attempt 3 of 10|3 +↻|3 {2}w\d/);
    terminal.keys(']', ']', ']');
    await terminal.until(/successful/);
    await terminal.until(/returned +\{/);
  });

  test('time plays, pauses, speeds up and skips to an instant', async ({ open }) => {
    const terminal = open(shop);
    await terminal.until(/‖ ×60/);
    terminal.keys('+', 'Space');
    await terminal.until(/▶ ×600 .*17:(0[5-9]|[1-5]\d):/);
    terminal.keys('Space');
    await terminal.until(/‖ ×600/);
    terminal.keys('g');
    terminal.type('2026-03-24T21:00:00Z');
    terminal.keys('Enter');
    await terminal.until(/‖ ×600 .*21:00:00 UTC/);
  });

  test('a job is enqueued, its input checked as it is typed, and cancelled', async ({ open }) => {
    const terminal = open(shop);
    await terminal.until(/‖ ×60/);
    terminal.keys('E');
    terminal.type('payment');
    terminal.keys('Enter');
    terminal.type('{"order": 7}');
    await terminal.until(/✗ order: /);
    terminal.keys('C-u');
    terminal.type('{"order": "nobody"}');
    await terminal.until(/✓ the schema accepts it/);
    terminal.keys('Enter');
    await terminal.until(/✓ enqueued payment\.capture as …\w{6}; time is paused,/);
    terminal.keys('2');
    await terminal.until(/● ready +payment\.capture/);
    terminal.keys('C');
    await terminal.until(/⊘ cancelled +payment\.capture/);
  });

  test('a rewind undoes actions and replays the same events', async ({ open }) => {
    const terminal = open(shop);
    await terminal.until(/‖ ×60/);
    terminal.keys('f');
    await terminal.until(/↻ payment\.capture +503 Service/);
    terminal.keys('3');
    await terminal.until(/▸ +payment\.capture/);
    terminal.keys('Enter');
    const [, id] = /#(…\w{6})/.exec(await terminal.until(/#…\w{6} +retrying/)) ?? [];
    terminal.keys('C');
    await terminal.until(/#…\w{6} +cancelled/);
    terminal.keys('R');
    await terminal.until(/your actions up to then are replayed/);
    terminal.type('2d');
    terminal.keys('Enter');
    await terminal.until(/time began at 2026-03-24T17:00:00\.000Z/);
    terminal.keys('C-u');
    terminal.type('10m');
    terminal.keys('Enter');
    const back = await terminal.until(/✓ back at 2026-03-24 17:10:44; 1 later action discarded/);
    expect(back).toMatch(/‖ ×60 .*17:10:44 UTC/);
    expect(back).toMatch(new RegExp(`job ${id} not found`));
    terminal.keys('f');
    await terminal.until(new RegExp(`#${id} +retrying`));
    terminal.keys('D');
    await terminal.until(new RegExp(`Delete payment\\.capture ${id}\\? +y yes`));
    terminal.keys('y');
    await terminal.until(new RegExp(`✓ deleted payment\\.capture ${id}, which was retrying`));
  });

  test('a long rewind can be interrupted, and time continues from there', async ({ open, moduleOf }) => {
    // Each minute takes real time.
    const module = moduleOf(`import { pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import { createTasks, memory } from 'escapement';
export const tasks = createTasks({ backend: memory() });
const work = tasks.define('work', async () => void (await promisify(pbkdf2)('a', 'b', 60_000, 64, 'sha512')));
tasks.schedule('often', { task: work, every: '1m' });`);
    const terminal = open(`dev ${module} --virtual --paused`);
    await terminal.until(/‖ ×60/);
    terminal.keys(']');
    await terminal.until(/‖ ×60 .*01:00:00 UTC/);
    terminal.keys('R');
    terminal.type('1m');
    terminal.keys('Enter');
    await terminal.until(/◂◂ \d+ % .* esc stops/);
    terminal.keys('Escape');
    await terminal.until(/✓ stopped at 2026-01-01 00:\S+/);
    terminal.keys('.');
    await terminal.until(/‖ ×60 .*00:\d\d:\d\d UTC/);
    terminal.keys('q');
    await terminal.until(/^code 0$/m);
  });

  test('the terminal is restored on exit, on SIGTERM, and while the process is suspended', async ({ open }) => {
    const terminal = open(shop);
    await terminal.until(/1 Overview/);
    terminal.keys('C-z');
    await terminal.until(/Stopped|suspended/i);
    expect(await terminal.read()).not.toMatch(/1 Overview/);
    terminal.type('fg');
    terminal.keys('Enter');
    await terminal.until(/1 Overview/);
    terminal.keys('q');
    await terminal.until(/^\$ *$/m);
    expect(await terminal.read()).not.toMatch(/1 Overview/);
    terminal.type(`clear; ${program} ${shop}; echo "code $?"`);
    terminal.keys('Enter');
    await terminal.until(/1 Overview/);
    const pid = await terminal.pid();
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    process.kill(Number(child), 'SIGTERM');
    await terminal.until(/^code 0$/m);
    expect(await terminal.read()).not.toMatch(/1 Overview/);
  });

  test('any terminal size works, and resizing', async ({ open }) => {
    const terminal = open(shop, 20, 5);
    await terminal.until(/‖ ×60/);
    for (const key of ['1', '2', '3', '4', '5', '6', '?', 'Escape']) terminal.keys(key);
    terminal.resize(200, 60);
    await terminal.until(/escapement +shop\/tasks\.ts/);
    terminal.resize(80, 24);
    const text = await terminal.until(/\[6 Events\]/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  test('changed files are reloaded; if loading fails, the error is shown and the old version stays', async ({ open, moduleOf, folder }) => {
    const module = moduleOf(`import { createTasks, memory } from 'escapement';
import { word } from './word.ts';
export const tasks = createTasks({ backend: memory() });
tasks.define('greet', () => { console.log('hello ' + word); return word; });`);
    const write = (source: string) => writeFileSync(join(folder, 'word.ts'), source);
    write("export const word = 'one';");
    const terminal = open(`dev ${module}`, 110, 24);
    const greet = async (word: string) => {
      terminal.keys('E');
      terminal.type('greet');
      terminal.keys('Enter');
      await terminal.until(/input \(JSON\)/);
      terminal.keys('Enter');
      await terminal.until(new RegExp(`printed +hello ${word}`));
    };
    await terminal.until(/● worker/);
    terminal.keys('6');
    await greet('one');
    write("export const word = 'two';; const = ;");
    await terminal.until(/the module cannot be loaded; the previous version keeps running/);
    await greet('one');
    write("export const word = 'three';");
    await terminal.until(/✓ reloaded/);
    await greet('three');
  });

  test('a version that cannot start or load leaves the previous one running, and can be fixed', async ({ open, moduleOf }) => {
    const source = (backend: string, word: string) => `import { createTasks, memory } from 'escapement';
import { sqlite } from 'escapement/sqlite';
export const tasks = createTasks({ backend: ${backend} });
tasks.define('greet', () => console.log('said ${word}'));`;
    const path = moduleOf(source('memory()', 'one'));
    const terminal = open(`dev ${path}`, 120, 30);
    await terminal.until(/● worker 0\/10/);
    const greet = async (word: string) => {
      terminal.keys('6', 'E');
      terminal.type('greet');
      terminal.keys('Enter');
      await terminal.until(/input \(JSON\)/);
      terminal.keys('Enter');
      await terminal.until(new RegExp(`printed +said ${word}`));
    };
    writeFileSync(path, source("sqlite({ file: '/nowhere/jobs.db' })", 'two'));
    await terminal.until(/✗ \/nowhere\/jobs\.db: the folder \/nowhere does not exist/);
    await greet('one');
    writeFileSync(path, `await new Promise(() => {});${source('memory()', 'three')}`);
    await terminal.until(/has not loaded after 5 s: a top-level await is pending/);
    writeFileSync(path, source('memory()', 'four'));
    await terminal.until(/✓ reloaded/);
    await greet('four');
  });

  test('a CI server gets plain lines, even with a terminal', async ({ open }) => {
    const terminal = open('dev test/cli/fixtures/schedules-only.ts --virtual', 80, 24, { CI: 'true' });
    const text = await terminal.until(/code 0/);
    expect(text).toMatch(/\d\d:\d\d:\d\d {2}successful/);
    expect(text).not.toMatch(/1 Overview/);
  });

  test('a store whose file was deleted is reported as missing and not written to', async ({ open, folder }) => {
    const file = join(folder, 'jobs.db');
    await using tasks = createTasks({ backend: sqlite({ file }) });
    await tasks.define('job', (_: number) => {}).enqueue(1);
    const terminal = open(`top --sqlite ${file} --write`);
    await terminal.until(/default +1/);
    rmSync(file);
    await terminal.until(/✗ no data since \d\d:\d\d:\d\d: the file .*jobs\.db was deleted/);
    terminal.keys('P');
    await terminal.until(/Pause queue default\?/);
    terminal.keys('y');
    await terminal.until(/✗ the file .*jobs\.db was deleted/);
  });

  test('100,000 jobs do not slow the dashboard down', async ({ open, moduleOf }) => {
    const module = moduleOf(`import { createTasks, memory } from 'escapement';
export const tasks = createTasks({ backend: memory() });
const job = tasks.define('job', (n: number) => n);
export const simulation = { async play() { for (let i = 0; i < 100; i++) await job.using({ runAfter: '1d' }).enqueueMany(Array.from({ length: 1000 }, (_, n) => i * 1000 + n)); } };`);
    const terminal = open(`dev ${module} --virtual --paused`);
    await terminal.until(/100,000/);
    terminal.keys('2');
    await terminal.until(/\[2 Jobs\][\s\S]*○ scheduled/);
    for (let i = 0; i < 5; i++) terminal.keys('PageDown');
    await terminal.until(/page 6/);
  });
});
