/** Another copy of the package in the same process, bundled and minified. Its errors, outcomes and applications are recognized. */
import { fileURLToPath } from 'node:url';
import * as escapement from 'escapement';
import { createTasks, isEscapementError, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import { build } from 'vite';
import { beforeAll, expect, test } from 'vitest';

let copy: typeof escapement;

beforeAll(async () => {
  const entry = fileURLToPath(new URL('../src/index.ts', import.meta.url));
  const built = await build({
    configFile: false,
    logLevel: 'error',
    build: { ssr: entry, minify: true, write: false },
    ssr: { noExternal: true },
  });
  const [chunk] = (built as { output: { code: string }[] }).output;
  copy = await import(/* @vite-ignore */ `data:text/javascript;base64,${Buffer.from(chunk?.code ?? '').toString('base64')}`);
});

const errors = Object.entries(escapement).filter(([, value]) => typeof value === 'function' && value.prototype instanceof Error);

test.each(errors.map(([name]) => name))('%s has a literal name, which a minifier leaves alone', (name) => {
  const made = Object.create((copy as unknown as Record<string, { prototype: Error }>)[name]?.prototype as Error) as Error;
  expect(made.name).toBe(name);
  class Derived extends escapement.PermanentError {}
  expect(new Derived('x').name).toBe('Derived');
});

test('errors and outcomes from another copy are recognized', async () => {
  const tasks = createTasks({ backend: memory() });
  class Declined extends copy.PermanentError {
    override readonly code = 'E_DECLINED';
  }
  const permanent = tasks.define('permanent', () => {
    throw new Declined('no');
  });
  const cancelled = tasks.define('cancelled', () => copy.cancel('enough'));
  const snoozed = tasks.define('snoozed', (_: void, ctx) => (ctx.now().getUTCMinutes() === 0 ? copy.snooze('5m') : 'done'));
  await using _sim = await simulate(tasks);
  const results = [await permanent.enqueue(), await cancelled.enqueue(), await snoozed.enqueue()];
  await _sim.runUntilIdle();
  for (const result of results) await result.refresh();
  expect(results.map(({ status, reason, attempts }) => [status, reason, attempts])).toEqual([
    ['failed', 'permanent', 1],
    ['cancelled', 'enough', 1],
    ['successful', null, 1],
  ]);
  expect(isEscapementError(new copy.InputError('x'))).toBe(true);
});

test('an application from another copy can be simulated, and its portable tasks registered', async () => {
  const tasks = copy.createTasks({ backend: copy.memory() });
  const job = tasks.define('job', async (_: void, ctx) => ctx.sleep('1h'));
  await using sim = await simulate(tasks as never);
  const result = await job.enqueue();
  await sim.runUntilIdle();
  expect((await result.refresh()).status).toBe('successful');
  const portable = copy.task('portable', () => 'run');
  const other = createTasks();
  expect((await other.register(portable as never).enqueue()).returnValue).toBe('run');
});

test('an application from another version is rejected, and the error names the version', async () => {
  const tasks = { [Symbol.for('escapement.application')]: { version: '0.0.9' } };
  await expect(simulate(tasks as never)).rejects.toThrow(
    /an application of escapement .*, got an application of escapement 0\.0\.9; install a single version/,
  );
});
