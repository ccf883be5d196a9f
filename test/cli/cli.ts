/** Runs the command line in this process, with streams that a test can read, or as a program of its own. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Io } from '../../cli/io.ts';
import { run } from '../../cli/program.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Surroundings {
  readonly tty?: boolean;
  readonly env?: Record<string, string>;
  /** Ctrl-C when the reading of the real clock has come so often. */
  readonly interruptAfterReadings?: number;
}

/** The real clock of a test goes on by 50 ms with every look at it. */
export async function cli(argv: readonly string[], { tty = false, env = {}, interruptAfterReadings }: Surroundings = {}): Promise<Ran> {
  const text = { stdout: '', stderr: '' };
  let readings = 0;
  let interrupt = () => {};
  const output = (name: 'stdout' | 'stderr') => ({
    isTTY: tty,
    columns: 100,
    write: (more: string) => {
      text[name] += more;
    },
  });
  const io: Io = {
    stdout: output('stdout'),
    stderr: output('stderr'),
    env,
    cwd: root,
    realNow: () => {
      readings += 1;
      if (readings === interruptAfterReadings) interrupt();
      return readings * 50;
    },
    onInterrupt: (fn) => {
      interrupt = fn;
      return () => {
        interrupt = () => {};
      };
    },
    onStuck: () => () => {},
  };
  const code = await run(argv, io);
  return { code, ...text };
}

/** `escapement simulate` of a module in `test/cli/fixtures`. */
export function simulated(fixture: string, ...options: string[]): Promise<Ran> {
  return cli(['simulate', `test/cli/fixtures/${fixture}.ts`, ...options]);
}

/** The built program, in a process of its own. */
export function spawned(argv: readonly string[], stdoutTo: 'pipe' | 'closed' = 'pipe'): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['dist/cli/main.js', ...argv], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    const text = { stdout: '', stderr: '' };
    if (stdoutTo === 'closed') child.stdout.destroy();
    else child.stdout.setEncoding('utf8').on('data', (more: string) => (text.stdout += more));
    child.stderr.setEncoding('utf8').on('data', (more: string) => (text.stderr += more));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...text }));
  });
}
