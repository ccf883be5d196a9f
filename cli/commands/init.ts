/** `escapement init`: creates the first files of a project: tasks, a test, scripts, and a production worker setup. `templates.ts` has the contents. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { listed } from '../arguments.ts';
import { moduleNames } from '../config.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../io.ts';
import { dockerfile, systemdUnit, tasksModule, testModule } from './templates.ts';

interface InitOptions {
  readonly systemd?: boolean;
  readonly docker?: boolean;
}

/** The parts of package.json that are read and written. */
interface Manifest {
  type?: unknown;
  scripts?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

export function addInit(program: Command, io: Io, done: (code: ExitCode) => void): void {
  program
    .command('init')
    .summary('add tasks, a test and scripts to a project')
    .description(
      'Adds a module with tasks, a test and scripts to the project in this folder, in TypeScript or JavaScript to match the project. ' +
        'The test uses Vitest if the project has it, else node:test. Existing files are kept, unless you confirm that they may be replaced.',
    )
    .option('--systemd', 'also create a systemd unit that runs a worker')
    .option('--docker', 'also create a Dockerfile that runs a worker')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npm install escapement && npx escapement init\n  $ npx escapement init --docker\n\nOn a terminal, init asks how to run a worker, and before it replaces a file.\n',
    )
    .action(async (options: InitOptions) => {
      await new Init(io, options).run();
      done(exitCodes.ok);
    });
}

class Init {
  readonly #io: Io;
  readonly #options: InitOptions;
  readonly #cwd: string;
  readonly #done: [word: string, what: string][] = [];

  constructor(io: Io, options: InitOptions) {
    this.#io = io;
    this.#options = options;
    this.#cwd = io.cwd;
  }

  async run(): Promise<void> {
    const before = this.#manifest();
    const manifest: Manifest = before ?? {};
    const uses = (name: string) => name in { ...manifest.dependencies, ...manifest.devDependencies };
    const sources = this.#sources();
    // Without sources, no existing file can depend on another module system.
    const isNew = sources.length === 0 && manifest.type === undefined;
    const isTypeScript =
      uses('typescript') ||
      existsSync(this.#path('tsconfig.json')) ||
      sources.length === 0 ||
      sources.some((file) => /\.[mc]?ts$/.test(file));
    const ending = `${isNew || manifest.type === 'module' ? '' : 'm'}${isTypeScript ? 'ts' : 'js'}`;
    const former = moduleNames.find((name) => existsSync(this.#path(name)));
    const module = former ?? `${existsSync(this.#path('src')) ? 'src/' : ''}tasks.${ending}`;
    const test = module.replace(/\.(\w+)$/, '.test.$1');
    const withVitest = uses('vitest');
    const { systemd, docker } = await this.#worker();

    const isOurs = await this.#write(module, tasksModule(module.endsWith('ts')));
    // The test fits our module, not an existing one.
    if (isOurs) await this.#write(test, testModule(basename(module), withVitest));
    else this.#done.push(['skipped', `${test}, which tests the tasks of a new ${module}`]);
    // The folder of the database, which must not be committed.
    await this.#write('data/.gitignore', '*\n!.gitignore\n');
    if (systemd) await this.#write('escapement-worker.service', systemdUnit({ cwd: this.#cwd, node: process.execPath, module }));
    if (docker) await this.#write('.dockerignore', 'node_modules\ndata\n.git\n');
    if (docker) await this.#write('Dockerfile', dockerfile({ module, hasLock: existsSync(this.#path('package-lock.json')) }));

    const testCommand = withVitest ? 'vitest run' : 'node --test';
    const runsTest = this.#extend(manifest, before !== undefined, { isNew, testCommand, module });
    const single = withVitest ? `npx vitest run ${test}` : `node --test ${test}`;
    this.#report({ module, systemd, docker, testCommand: isOurs ? (runsTest ? 'npm test' : single) : undefined });
  }

  #path(file: string): string {
    return resolve(this.#cwd, file);
  }

  /** @throws CommandError if it is not valid JSON */
  #manifest(): Manifest | undefined {
    const path = this.#path('package.json');
    if (!existsSync(path)) return undefined;
    let value: unknown;
    try {
      value = JSON.parse(readFileSync(path, 'utf8').replace(/^\uFEFF/, ''));
    } catch (error) {
      throw new CommandError(`package.json is not valid JSON: ${(error as Error).message}`, { cause: error });
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new CommandError('package.json is not an object');
    return value as Manifest;
  }

  /** The project's own code, as far as the first two levels show it. */
  #sources(): string[] {
    return ['.', 'src', 'lib', 'app', 'test']
      .flatMap((folder) => (existsSync(this.#path(folder)) ? readdirSync(this.#path(folder)) : []))
      .filter((file) => /\.[mc]?[jt]sx?$/.test(file) && !/\.config\.|\.d\.[mc]?ts$|^tasks(\.test)?\./.test(file));
  }

  async #worker(): Promise<{ systemd: boolean; docker: boolean }> {
    const { systemd = false, docker = false } = this.#options;
    if (systemd || docker || !this.#io.ask) return { systemd, docker };
    const answer = (await this.#io.ask('How will you run a worker in production? [s]ystemd, [d]ocker, or Enter for neither: '))
      .trim()
      .toLowerCase();
    return { systemd: answer.startsWith('s'), docker: answer.startsWith('d') };
  }

  /** @returns whether the file now has this text */
  async #write(file: string, text: string): Promise<boolean> {
    const path = this.#path(file);
    const former = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
    if (former === text) {
      this.#done.push(['kept', `${file}, which is identical`]);
      return true;
    }
    if (former !== undefined && !/^y/i.test((await this.#io.ask?.(`${file} already exists. Replace it? [y/N] `))?.trim() ?? '')) {
      this.#done.push(['kept', `${file}, which already exists`]);
      return false;
    }
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    this.#done.push([former === undefined ? 'wrote' : 'replaced', file]);
    return true;
  }

  /** Adds missing entries to package.json. @returns whether `npm test` runs the test */
  #extend(
    manifest: Manifest,
    exists: boolean,
    { isNew, testCommand, module }: { isNew: boolean; testCommand: string; module: string },
  ): boolean {
    const added: string[] = [];
    const whole: Record<string, unknown> = exists ? { ...manifest } : { name: packageName(this.#cwd), private: true };
    if (isNew) {
      whole.type = 'module';
      added.push('type');
    }
    const scripts = { ...manifest.scripts };
    // The placeholder of `npm init` is not a test.
    if (scripts.test?.includes('no test specified')) delete scripts.test;
    const ours = { test: testCommand, 'tasks:dev': `escapement dev ${module}`, 'tasks:check': `escapement check ${module}` };
    for (const [name, command] of Object.entries(ours)) {
      if (scripts[name] !== undefined) continue;
      scripts[name] = command;
      added.push(`scripts.${name}`);
    }
    whole.scripts = scripts;
    if (!exists) {
      // The test imports the package.
      whole.dependencies = { escapement: `^${version}` };
      added.push('dependencies');
    }
    if (added.length > 0) {
      const indent = exists ? (/^[ \t]+(?=")/m.exec(readFileSync(this.#path('package.json'), 'utf8'))?.[0] ?? '  ') : '  ';
      writeFileSync(this.#path('package.json'), `${JSON.stringify(whole, null, indent)}\n`);
      this.#done.push([exists ? 'changed' : 'wrote', `package.json: ${listed(added, 'and')}`]);
    }
    return scripts.test === testCommand;
  }

  #report(made: { module: string; systemd: boolean; docker: boolean; testCommand: string | undefined }): void {
    const { module, systemd, docker, testCommand } = made;
    const isInstalled = existsSync(join(this.#cwd, 'node_modules/escapement'));
    const next: [string, string][] = [
      ...(isInstalled ? [] : [['npm install', 'installs escapement'] as [string, string]]),
      ...(testCommand === undefined ? [] : [[testCommand, 'runs the test, in virtual time'] as [string, string]]),
      ['npm run tasks:dev', 'shows a dashboard, with workers in the same process'],
      [
        `node node_modules/escapement/dist/cli/main.js worker ${module}`,
        'runs a worker; do not use npx or npm, which leave it running when they are stopped',
      ],
    ];
    if (systemd)
      next.push([
        'sudo systemctl link "$PWD/escapement-worker.service"',
        'registers the unit; then: sudo systemctl enable --now escapement-worker',
      ]);
    if (docker) next.push(['docker build -t worker . && docker run -v tasks:/app/data worker', 'runs a worker in a container']);
    const lines = [
      ...this.#done.map(([word, what]) => `${word.padEnd(10)}${what}`),
      '',
      'Next:',
      ...next.flatMap(([command, what]) => [`  ${command}`, `      ${what}`]),
    ];
    this.#io.stdout.write(`${lines.join('\n')}\n`);
  }
}

const { version } = createRequire(import.meta.url)('escapement/package.json') as { version: string };

function packageName(folder: string): string {
  return (
    basename(folder)
      .toLowerCase()
      .replaceAll(/[^a-z0-9-]+/g, '-')
      .replaceAll(/^-+|-+$/g, '') || 'tasks'
  );
}
