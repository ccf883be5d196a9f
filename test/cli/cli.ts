/** Runs the command line in this process, with streams that a test can read, or as a program of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Io, Process } from '../../cli/io.ts';
import { run } from '../../cli/program.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Surroundings {
  readonly tty?: boolean;
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  /** @default the repository's root */
  readonly cwd?: string;
  /** The person at the terminal. */
  readonly ask?: (question: string) => Promise<string>;
  /** What time it is. */
  readonly now?: () => number;
  /** Ctrl-C when the reading of the real clock has come so often. */
  readonly interruptAfterReadings?: number;
}

/** Commands that live long are tested in processes of their own. */
const nobody = () => {
  throw new Error('only in a process of its own');
};
const ownProcess: Process = {
  onSignal: nobody,
  onFault: nobody,
  onForeignExit: nobody,
  onOutputClosed: nobody,
  memory: nobody,
  leave: nobody,
  fork: nobody,
  parent: undefined,
};

/** The real clock of a test goes on by 50 ms with every look at it. */
export async function cli(argv: readonly string[], surroundings: Surroundings = {}): Promise<Ran> {
  const { tty = false, env = {}, stdin = '', cwd = root, now = Date.now, ask, interruptAfterReadings } = surroundings;
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
    stdin: async () => stdin,
    ask,
    env,
    cwd,
    now,
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
    process: ownProcess,
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
  const program = start(argv);
  if (stdoutTo === 'closed') program.child.stdout?.destroy();
  return program.ended;
}

/** A line of a worker's log. */
export type Line = Readonly<Record<string, unknown>> & { readonly message: string };

/** The built program while it runs. */
export interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ran>;
  /** All lines of the log so far. */
  lines(): Line[];
  /** The first line that matches; waits for it. Rejects when the program ends without it. */
  line(matches: (line: Line) => boolean): Promise<Line>;
}

export function start(argv: readonly string[]): Program {
  const child = spawn(process.execPath, ['dist/cli/main.js', ...argv], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  let over = false;
  const tell = () => {
    for (const look of waiting) look();
  };
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text.stdout += more;
    tell();
  });
  child.stderr.setEncoding('utf8').on('data', (more: string) => (text.stderr += more));
  const ended = new Promise<Ran>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      over = true;
      tell();
      resolve({ code, ...text });
    });
  });
  const lines = () =>
    text.stdout
      .slice(0, text.stdout.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line);
  return {
    child,
    ended,
    lines,
    line: (matches) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = lines().find(matches);
          if (!found && !over) return;
          waiting.delete(look);
          if (found) resolve(found);
          else reject(new Error(`the program ended without the line:\n${text.stdout}${text.stderr}`));
        };
        waiting.add(look);
        look();
      }),
  };
}
