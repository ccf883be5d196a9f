/** A SQLite file for each test, and a new module on it for each command, because a command closes the application that it loads. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { cli, type Ran, root, type Surroundings } from './cli.ts';
import { appOn } from './fixtures/shared.ts';

interface Document extends Record<string, unknown> {
  readonly jobs: readonly { readonly id: string; readonly dueAt: string }[];
}

type App = ReturnType<typeof appOn>;

export interface Shared {
  /** The path of the store. */
  readonly file: string;
  /** The path of a module that is not loaded yet. @param more lines appended to it */
  module(more?: string): string;
  /** Runs a command on a new module. */
  run(command: string, args?: readonly string[], surroundings?: Surroundings): Promise<Ran>;
  /** The JSON document that a command prints. */
  document(command: string, ...args: string[]): Promise<Document>;
  /** The file that the task `until` waits for, and a function that creates it. */
  readonly gate: { readonly path: string; open(): void };
  /** Runs a function with the application, in this process. */
  use<T>(work: (app: App) => Promise<T>): Promise<T>;
  /** Runs all due jobs. */
  work(): Promise<void>;
}

/** @param finished concurrent tests pass their own `onTestFinished` */
export function sharedStore(finished: (clean: () => void) => void = onTestFinished): Shared {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-cli-'));
  const file = join(folder, 'tasks.db');
  finished(() => rmSync(folder, { recursive: true }));
  let modules = 0;
  const module = (more = '') => {
    modules += 1;
    mkdirSync(join(folder, String(modules)));
    const path = join(folder, String(modules), 'tasks.ts');
    const fixture = JSON.stringify(join(root, 'test/cli/fixtures/shared.ts'));
    const names = 'tasks, greet, wide, nap, until, stubborn, broken, flaky, later, careless';
    writeFileSync(path, `import { appOn } from ${fixture};\nexport const { ${names} } = appOn(${JSON.stringify(file)});\n${more}\n`);
    return path;
  };
  const run = (command: string, args: readonly string[] = [], surroundings: Surroundings = {}) =>
    cli([command, module(), ...args], surroundings);
  const use: Shared['use'] = async (work) => {
    const app = appOn(file);
    await app.tasks.open();
    try {
      return await work(app);
    } finally {
      await app.tasks.close();
    }
  };
  return {
    file,
    module,
    run,
    gate: { path: join(folder, 'gate'), open: () => writeFileSync(join(folder, 'gate'), '') },
    use,
    async document(command, ...args) {
      const { code, stdout, stderr } = await run(command, [...args, '--json']);
      if (stderr !== '' || code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
      return JSON.parse(stdout);
    },
    work: () =>
      use(async ({ tasks }) => {
        const worker = tasks.worker();
        await worker.start();
        for (;;) {
          const queues = await tasks.queues.list();
          if (queues.every(({ counts, paused }) => paused || counts.ready + counts.running === 0)) break;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        await worker.stop();
      }),
  };
}
