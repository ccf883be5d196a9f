/**
 * Tests the package as users install it: packed, installed in various kinds of projects, and used there. Run by `npm run test:packaged`
 * after a build; arguments select cases. Packages come from npm's configured registry.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const here = fileURLToPath(new URL('.', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'escapement-packaged-'));
/** npm puts the Node that runs this script first in PATH. */
const env = { ...process.env, NO_COLOR: '1', PATH: `${dirname(process.execPath)}:${process.env.PATH}` };

const [packed] = JSON.parse(
  execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', base], { cwd: root, env, encoding: 'utf8' }),
) as { filename: string; files: { path: string }[] }[];
if (!packed) throw new Error('npm pack created no package');
const tarball = join(base, packed.filename);

interface Ran {
  readonly code: number | null;
  readonly text: string;
}

/** Runs a program; prints its output if the exit code differs from the expected one. */
function run(cwd: string, command: string, args: readonly string[], expected: number | 'failure' = 0): Ran {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    timeout: 300_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = `${stdout}${stderr}`;
  if (expected === 'failure' ? status === 0 : status !== expected)
    throw new Error(`${command} ${args.join(' ')} in ${cwd} ended with ${status}${error ? ` (${error})` : ''}:\n${text}`);
  return { code: status, text };
}

/** A project with Escapement and these packages. */
function project(name: string, packages: readonly string[], manifest: object): string {
  const folder = join(base, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, ...manifest }));
  run(folder, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', tarball, ...packages]);
  return folder;
}

const bin = (folder: string, path: string) => join(folder, 'node_modules', path);
const write = (folder: string, file: string, value: unknown) =>
  writeFileSync(join(folder, file), typeof value === 'string' ? value : JSON.stringify(value));
function check(isRight: boolean, what: string, text: string): void {
  if (!isRight) throw new Error(`${what}\n${text}`);
}

const strict = {
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  module: 'nodenext',
  target: 'es2022',
  noEmit: true,
  types: [],
};

function vitest(version: string, typescript: string, compiler: object): void {
  const folder = project(`vitest-${version}`, [`vitest@${version}`, `typescript@${typescript}`], { type: 'module' });
  cpSync(join(here, 'vitest/tasks.spec.ts'), join(folder, 'tasks.spec.ts'));
  const { text } = run(folder, process.execPath, [bin(folder, 'vitest/vitest.mjs'), 'run']);
  check(/Tests .*[56] passed/.test(text), 'tests were left out', text);
  write(folder, 'tsconfig.json', { compilerOptions: { ...strict, ...compiler }, include: ['tasks.spec.ts'] });
  run(folder, process.execPath, [bin(folder, 'typescript/bin/tsc'), '-p', '.']);
}

function types(version: string): void {
  const folder = project(`types-${version}`, [`typescript@${version}`], { type: 'module' });
  // Also as CommonJS, which requires an ES module.
  for (const file of ['consumer.ts', 'consumer.cts']) cpSync(join(here, 'types/consumer.ts'), join(folder, file));
  cpSync(join(here, 'types/wrong.txt'), join(folder, 'wrong.ts'));
  const tsc = (file: string, expected: number | 'failure') => {
    write(folder, 'tsconfig.json', { compilerOptions: { ...strict, skipLibCheck: false }, include: [file] });
    return run(folder, process.execPath, [bin(folder, 'typescript/bin/tsc'), '-p', '.'], expected).text;
  };
  tsc('consumer.ts', 0);
  tsc('consumer.cts', 0);
  const text = tsc('wrong.ts', 'failure');
  for (const line of readFileSync(join(folder, 'wrong.ts'), 'utf8').split('\n')) {
    const [, expected] = /\/\/ (.*)/.exec(line) ?? [];
    if (expected) check(text.includes(expected), `no error says: ${expected}`, text);
  }
}

const cases: Record<string, () => void> = {
  links() {
    const files = new Set(packed.files.map(({ path }) => path));
    for (const file of [...files].filter((path) => path.endsWith('.md'))) {
      for (const [, link = ''] of readFileSync(join(root, file), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)) {
        const path = link.replace(/#.*/, '');
        if (path === '' || /^https?:/.test(path)) continue;
        check(files.has(normalize(join(dirname(file), path))), `${file} links to ${path}, which is not in the package`, '');
      }
    }
  },
  'vitest 3': () => vitest('3', '5', { skipLibCheck: true }),
  'vitest 4': () => vitest('4', '5', { skipLibCheck: true }),
  'vitest 5': () => vitest('5', '7', { skipLibCheck: true }),
  'types, TypeScript 5': () => types('5'),
  'types, TypeScript 7': () => types('7'),
  init() {
    // From an empty folder to a green test: three commands, within a minute.
    const folder = join(base, 'empty');
    mkdirSync(folder);
    const startedAt = performance.now();
    run(folder, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', tarball]);
    run(folder, 'npx', ['escapement', 'init']);
    const { text } = run(folder, 'npm', ['test']);
    const seconds = (performance.now() - startedAt) / 1_000;
    console.log(`        from an empty folder to a green test in ${seconds.toFixed(1)} s`);
    check(/pass 2/.test(text), 'not two tests have passed', text);
    check(seconds < 60, 'it takes longer than 60 s', '');
    // Other generated files: for Vitest, in JavaScript, in a CommonJS project.
    const js = project('init-js', ['vitest@5'], { type: 'commonjs', scripts: { test: 'exit 3' } });
    write(js, 'index.js', 'module.exports = 1;\n');
    const printed = run(js, 'npx', ['escapement', 'init', '--systemd', '--docker']).text;
    check(JSON.parse(readFileSync(join(js, 'package.json'), 'utf8')).scripts.test === 'exit 3', 'a script was replaced', printed);
    check(/npx vitest run tasks.test.mjs/.test(printed), 'the command is not shown', printed);
    check(/2 passed/.test(run(js, 'npx', ['vitest', 'run', 'tasks.test.mjs']).text), 'not two tests have passed', '');
    // The command in the systemd unit and the Dockerfile.
    const unit = readFileSync(join(js, 'escapement-worker.service'), 'utf8');
    const [program = '', ...args] = /^ExecStart="[^"]+" (.*)$/m.exec(unit)?.[1]?.split(' ') ?? [];
    run(js, process.execPath, [program, ...args, '--drain']);
  },
  require() {
    const folder = project('require', ['node@22.18.0'], {});
    for (const node of [process.execPath, bin(folder, 'node/bin/node')])
      for (const entry of ['escapement', 'escapement/sqlite', 'escapement/testing'])
        run(folder, node, ['-e', `if (Object.keys(require('${entry}')).length === 0) process.exit(1)`]);
  },
  jest() {
    const folder = project('jest', ['jest@30'], {});
    for (const copy of ['first', 'second']) cpSync(join(here, 'jest/tasks.js'), join(folder, `${copy}.test.js`));
    run(folder, process.execPath, ['--experimental-vm-modules', bin(folder, 'jest/bin/jest.js'), '--runInBand']);
  },
  bundles() {
    const folder = project('bundles', ['esbuild', 'vite@8'], { type: 'module' });
    for (const file of ['app.ts', 'simulation.ts']) cpSync(join(here, 'bundle', file), join(folder, file));
    const external = '--external:better-sqlite3';
    const esbuild = bin(folder, 'esbuild/bin/esbuild');
    for (const format of ['esm', 'cjs']) {
      const out = `app-${format}.${format === 'esm' ? 'mjs' : 'cjs'}`;
      run(folder, esbuild, ['app.ts', '--bundle', '--minify', '--platform=node', `--format=${format}`, external, `--outfile=${out}`]);
      run(folder, process.execPath, [out, `${format}.db`]);
    }
    run(folder, esbuild, ['simulation.ts', '--bundle', '--platform=node', '--format=cjs', external, '--outfile=simulation.cjs']);
    run(folder, process.execPath, ['simulation.cjs']);
    run(folder, process.execPath, [bin(folder, 'vite/bin/vite.js'), 'build', '--ssr', 'app.ts', '--outDir', 'vite', '--logLevel', 'error']);
    run(folder, process.execPath, [
      join('vite', readdirSync(join(folder, 'vite')).find((file) => file.startsWith('app')) ?? ''),
      'vite.db',
    ]);
  },
};

const wanted = process.argv.slice(2);
let failed = 0;
for (const [name, test] of Object.entries(cases)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const startedAt = performance.now();
  try {
    test();
    console.log(`ok      ${name} (${((performance.now() - startedAt) / 1_000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error instanceof Error ? error.message : error}`);
  }
}
if (existsSync(base)) rmSync(base, { recursive: true, force: true });
process.exitCode = failed === 0 ? 0 : 1;
