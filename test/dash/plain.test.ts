/** `dev` and `top` without a terminal print plain lines. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { afterEach, describe, expect, test } from 'vitest';
import { cli, root, spawned } from '../cli/cli.ts';

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A module in its own folder. */
function moduleOf(source: string): { readonly path: string } {
  const folder = mkdtempSync(join(root, 'test/dash/.tmp-'));
  folders.push(folder);
  const path = join(folder, 'tasks.ts');
  writeFileSync(path, source);
  return { path };
}

describe('without a terminal', () => {
  test('top prints one snapshot, without escape codes', async () => {
    const file = join(mkdtempSync(join(root, 'test/dash/.tmp-')), 'jobs.db');
    folders.push(join(file, '..'));
    await using tasks = createTasks({ backend: sqlite({ file }) });
    await tasks.open();
    const { code, stdout, stderr } = await cli(['top', '--sqlite', file]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/no jobs yet/);
    expect(stdout).not.toContain('\u001b');
  });

  test.each([
    ['of another application', (file: string) => new Database(file).exec('CREATE TABLE users (id)').close(), /has no Escapement tables/],
    ['that is empty', (file: string) => writeFileSync(file, ''), /has no Escapement tables/],
    ['that is not a database', (file: string) => writeFileSync(file, 'a diary'.repeat(1_000)), /not a SQLite database/],
  ] as const)('a file %s is not modified', async (_, make, sentence) => {
    const file = join(mkdtempSync(join(root, 'test/dash/.tmp-')), 'other.db');
    folders.push(join(file, '..'));
    make(file);
    const before = readFileSync(file);
    for (const write of [[], ['--write']]) {
      const { code, stderr } = await cli(['top', '--sqlite', file, ...write]);
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(sentence) });
    }
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(join(file, '..'))).toEqual(['other.db']);
  });

  test('a missing module file is an error, and the file is not created', async () => {
    const folder = mkdtempSync(join(root, 'test/dash/.tmp-'));
    folders.push(folder);
    const fixture = JSON.stringify(join(root, 'test/cli/fixtures/shared.ts'));
    const file = join(folder, 'jobs.db');
    // A module is loaded once, and a command closes the application that it loads.
    for (const name of ['one.ts', 'other.ts'])
      writeFileSync(join(folder, name), `import { appOn } from ${fixture};\nexport const { tasks } = appOn(${JSON.stringify(file)});\n`);
    const { code, stderr } = await cli(['top', join(folder, 'one.ts')]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/there is no file jobs\.db yet; start a worker/) });
    expect(readdirSync(folder)).toEqual(['one.ts', 'other.ts']);
    expect((await cli(['top', join(folder, 'other.ts'), '--write'])).code).toBe(0);
    expect(readdirSync(folder)).toContain('jobs.db');
  });

  test('dev prints events, without escape codes, until the period ends', async () => {
    const { code, stdout } = await spawned(['dev', 'test/cli/fixtures/schedules-only.ts', '--virtual']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d\d:\d\d:\d\d {2}\w+ +/m);
    expect(stdout).not.toContain('\u001b');
  });

  test.each([['in real time', []] as const, ['in virtual time', ['--virtual']] as const])(
    'dev prints engine warnings, %s',
    async (_, flags) => {
      const { path } = moduleOf(`
      import { createTasks, fixed, memory } from 'escapement';
      export const tasks = createTasks({ backend: memory(), defaults: { retry: { backoff: fixed('1h') } } });
      tasks.define('brief', { timeout: 30, run() {} });
      const odd = tasks.define('odd', (_, ctx) => {
        ctx.progress(50);
        ctx.log.warn('its own line');
        throw new Error('no such thing');
      });
      tasks.on('retrying', () => {
        if (${flags.length === 0}) setImmediate(() => process.kill(process.pid, 'SIGTERM'));
      });
      ${flags.length === 0 ? 'await odd.enqueue();' : 'export const simulation = { for: "1s", play: () => odd.enqueue() };'}
    `);
      const { code, stdout, stderr } = await spawned(['dev', path, ...flags]);
      expect(code).toBe(0);
      expect(stderr.trim().split('\n')).toEqual([
        expect.stringMatching(/^timeout: 30 is 30 ms/),
        expect.stringMatching(/^odd: ctx\.progress\(50\): the fraction is a number from 0 to 1/),
      ]);
      expect(stdout.match(/its own line/g)).toHaveLength(1);
      expect(stdout.match(/no such thing/g)).toHaveLength(1);
    },
  );

  test.each([
    [['top', 'tasks.ts', '--sqlite', 'jobs.db'], /give either a module, --sqlite <file> or --postgres <url>/],
    [['top', '--sqlite', 'jobs.db', '--backend', 'bulk'], /--backend needs a module, which names its backends/],
    [['top', '--sqlite', 'nowhere.db'], /there is no file nowhere\.db/],
    [['top', 'fixtures/shop/tasks.ts'], /runs on memory\(\)/],
    [['dev', 'fixtures/shop/tasks.ts', '--speed', '10'], /--speed needs --virtual/],
    [['dev', 'nowhere.ts'], /there is no file nowhere\.ts/],
  ] as const)('%j is rejected with one line', async (argv, sentence) => {
    const { code, stderr } = await cli(argv);
    expect(code).toBe(2);
    expect(stderr).toMatch(sentence);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
