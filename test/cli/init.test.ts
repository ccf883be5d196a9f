/** `escapement init` adds to an existing project, and replaces files only with permission. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cli } from './cli.ts';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'escapement-init-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const put = (file: string, text: string) => {
  mkdirSync(join(cwd, file, '..'), { recursive: true });
  writeFileSync(join(cwd, file), text);
};
const read = (file: string) => readFileSync(join(cwd, file), 'utf8');
const manifest = () => JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
const files = () => (readdirSync(cwd, { recursive: true }) as string[]).filter((file) => /\.\w+$/.test(file)).sort();
const init = (...options: string[]) => cli(['init', ...options], { cwd });

describe('escapement init', () => {
  test('creates a project in an empty folder', async () => {
    const { code, stdout, stderr } = await init();
    expect([code, stderr]).toEqual([0, '']);
    expect(files()).toEqual(['data/.gitignore', 'package.json', 'tasks.test.ts', 'tasks.ts']);
    expect(manifest()).toMatchObject({
      type: 'module',
      scripts: { test: 'node --test' },
      dependencies: { escapement: expect.any(String) },
    });
    expect(stdout).toMatch(/^wrote {5}tasks\.ts\n/);
    expect(stdout).toMatch(/Next:\n {2}npm install\n.*\n {2}npm test\n/);
    expect(stdout).toContain('node node_modules/escapement/dist/cli/main.js worker tasks.ts');
  });

  test("adapts to the project's language, module system, folder, test runner, indentation and scripts", async () => {
    put('package.json', '{\n    "name": "shop",\n    "scripts": { "test": "mocha" },\n    "devDependencies": { "vitest": "5" }\n}\n');
    put('src/index.js', 'module.exports = 1;\n');
    const { stdout } = await init();
    expect(files()).toEqual(['data/.gitignore', 'package.json', 'src/index.js', 'src/tasks.mjs', 'src/tasks.test.mjs']);
    expect(read('src/tasks.test.mjs')).toContain("from 'escapement/vitest'");
    expect(read('src/tasks.mjs')).not.toContain(': string');
    expect(manifest()).toMatchObject({ name: 'shop', scripts: { test: 'mocha', 'tasks:dev': 'escapement dev src/tasks.mjs' } });
    expect(manifest().type).toBeUndefined();
    expect(read('package.json')).toMatch(/^ {4}"name"/m);
    expect(stdout).toContain('npx vitest run src/tasks.test.mjs');
  });

  test('replaces the test script that npm generates', async () => {
    put('package.json', JSON.stringify({ type: 'module', scripts: { test: 'echo "Error: no test specified" && exit 1' } }));
    await init();
    expect(manifest().scripts?.test).toBe('node --test');
    expect(files()).toContain('tasks.ts');
  });

  test('keeps every existing file, and reports it', async () => {
    put('tasks.ts', 'mine\n');
    put('Dockerfile', 'mine\n');
    const { code, stdout } = await init('--docker');
    expect(code).toBe(0);
    expect([read('tasks.ts'), read('Dockerfile')]).toEqual(['mine\n', 'mine\n']);
    expect(stdout).toMatch(/^kept {6}tasks.ts, which already exists\nskipped {3}tasks.test.ts/);
    expect(stdout).not.toContain('npm test');
    const again = await init('--docker');
    expect(again.stdout).not.toMatch(/wrote|changed|replaced/);
  });

  test('writes a script that runs a worker with plain Node', async () => {
    await init('--systemd', '--docker');
    expect(read('escapement-worker.service')).toContain(
      `ExecStart="${process.execPath}" node_modules/escapement/dist/cli/main.js worker tasks.ts\n`,
    );
    expect(read('Dockerfile')).toContain('CMD ["node", "node_modules/escapement/dist/cli/main.js", "worker", "tasks.ts"]');
  });

  test('asks on a terminal whether to add a worker and before replacing a file', async () => {
    put('tasks.ts', 'mine\n');
    const asked: string[] = [];
    const answers = ['d', 'y'];
    const ask = async (question: string) => {
      asked.push(question);
      return answers.shift() ?? '';
    };
    await cli(['init'], { cwd, ask });
    expect(asked).toEqual([expect.stringMatching(/^How will you run a worker/), 'tasks.ts already exists. Replace it? [y/N] ']);
    expect(read('tasks.ts')).toContain('createTasks');
    expect(files()).toContain('tasks.test.ts');
    expect(readdirSync(cwd)).toContain('Dockerfile');
  });

  test('leaves an unreadable package.json unchanged', async () => {
    put('package.json', '{');
    const { code, stderr } = await init();
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^escapement: package.json is not valid JSON/)]);
    expect(files()).toEqual(['package.json']);
  });
});
