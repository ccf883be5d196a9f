import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigError, createTasks, memory } from 'escapement';
import { afterEach, describe, expect, test } from 'vitest';
import { identityOf } from '../src/applications.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const tasks of open.splice(0)) await tasks.close();
});

function version(number: number, name?: string, backend = memory()) {
  const tasks = createTasks({ backend, logger: quiet, ...(name === undefined ? {} : { name }) });
  open.push(tasks);
  return { tasks, task: tasks.define('task', () => number) };
}

/** Resolves once the application has no running workers. */
const stopped = async (tasks: ReturnType<typeof createTasks>) =>
  expect.poll(async () => (await tasks.workers.list()).every(({ state }) => state === 'stopped'), { timeout: 30_000 }).toBe(true);

describe('applications with the same name', () => {
  test('a new application stops the workers of the previous one, which cannot be started again', async () => {
    const first = version(1, 'shop');
    await first.tasks.worker().start();
    const second = version(2, 'shop');
    await second.tasks.worker().start();
    await stopped(first.tasks);
    await expect(first.tasks.worker().start()).rejects.toThrow(ConfigError);
    await expect(first.tasks.worker().start()).rejects.toThrow(/replaced by a later createTasks\(\{ name: 'shop' \}\)/);
    await (await second.task.enqueue()).wait({ timeout: '30s' });
    expect((await second.tasks.workers.list()).map(({ state }) => state)).toEqual(['running']);
  });

  test('applications with other names, or unnamed ones created in functions, run side by side', async () => {
    const all = [version(1, 'a'), version(2, 'b'), version(3), version(4)];
    for (const { tasks } of all) await tasks.worker().start();
    for (const { tasks, task } of all) {
      await (await task.enqueue()).wait({ timeout: '30s' });
      expect((await tasks.workers.list()).map(({ state }) => state)).toEqual(['running']);
    }
  });

  test('closing an application frees its name', async () => {
    await version(1, 'left').tasks.close();
    const { tasks, task } = version(2, 'left');
    await tasks.worker().start();
    expect((await (await task.enqueue()).wait({ timeout: '30s' })).returnValue).toBe(2);
  });
});

describe('a module that is evaluated again', () => {
  const at = (frames: string[]) => identityOf(undefined, '', frames.map((frame) => `    at ${frame}`).join('\n'))?.name;
  test.each([
    [['file:///app/tasks.js:3:22', 'ModuleJob.run (node:internal/modules/esm/module_job:569:25)'], 'file:///app/tasks.js'],
    [['file:///app/tasks.ts?t=17:3:22', 'ModuleJob.run (node:internal/modules/esm/module_job:569:25)'], 'file:///app/tasks.ts'],
    [['Object.<anonymous> (/app/tasks.cjs:2:1)', 'Module._compile (node:internal/modules/cjs/loader:1956:14)'], '/app/tasks.cjs'],
    [
      ['eval (/app/tasks.js:5:11)', 'ESModulesEvaluator.runInlinedModule (file:///node_modules/vite/dist/node/module-runner.js:807:163)'],
      '/app/tasks.js',
    ],
    [['f (/app/tasks.js:5:11)', 'eval (/app/tasks.js:9:1)'], undefined],
    [['file:///app/test.js:5:11', 'file:///node_modules/vitest/dist/runner.js:9:1'], undefined],
    [[], undefined],
  ])('is identified by its path if its own top-level code creates the application: %j', (frames, path) => {
    expect(at(frames)?.trim()).toBe(path);
  });

  const native = 'ModuleJob.run (node:internal/modules/esm/module_job:569:25)';
  const vite = 'ESModulesEvaluator.runInlinedModule (file:///node_modules/vite/dist/node/module-runner.js:807:163)';
  const nextTurn = () => new Promise(setImmediate);

  test('is distinguished from other applications created in the same evaluation', async () => {
    expect(at(['file:///app/two.js:1:1', native])).not.toBe(at(['file:///app/two.js:2:1', native]));
    await nextTurn();
    const [first, second, third] = [1, 2, 3].map((line) => at([`file:///app/two.js?v=2:${line}:1`, native]));
    expect(new Set([first, second, third]).size).toBe(3);
    await nextTurn();
    // Moved by an edit.
    expect([5, 6].map((line) => at([`file:///app/two.js?v=3:${line}:1`, native]))).toEqual([first, second]);
  });

  test('of a dev server is recognized by a later evaluation or the same position', async () => {
    const load = (...lines: number[]) => lines.map((line) => at([`eval (/app/two.js:${line}:1)`, vite]));
    const [first, second] = load(1, 2);
    expect(first).not.toBe(second);
    expect(load(1, 2)).toEqual([first, second]);
    await nextTurn();
    expect(load(3, 4)).toEqual([first, second]);
  });

  test('replaces the previous evaluation, whose workers stop', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'escapement-reload-'));
    const module = join(folder, 'tasks.mjs');
    writeFileSync(
      module,
      `const { createTasks, memory } = globalThis.escapementForReload;
       export const tasks = createTasks({ backend: memory(), logger: { debug() {}, info() {}, warn() {}, error() {} } });
       await tasks.worker().start();`,
    );
    Object.assign(globalThis, { escapementForReload: { createTasks, memory } });
    const load = async (n: number) => {
      const { tasks } = await import(/* @vite-ignore */ `${pathToFileURL(module)}?v=${n}`);
      open.push(tasks);
      return tasks as ReturnType<typeof createTasks>;
    };
    const [first, second] = [await load(1), await load(2)];
    await stopped(first);
    await expect.poll(async () => (await second.workers.list()).map(({ state }) => state), { timeout: 30_000 }).toEqual(['running']);
    rmSync(folder, { recursive: true });
  });
});
