/** Runs the command line in this process, with streams that a test can read, or as a program of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Io, Process, Signal } from '../../cli/io.ts';
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
  /** What a command may ask of its process. @default nothing */
  readonly process?: Process;
  /** Receives what is written to stdout. */
  readonly heard?: (text: string) => void;
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
  const {
    tty = false,
    env = {},
    stdin = '',
    cwd = root,
    now = Date.now,
    ask,
    interruptAfterReadings,
    process = ownProcess,
    heard,
  } = surroundings;
  const text = { stdout: '', stderr: '' };
  let readings = 0;
  let interrupt = () => {};
  const output = (name: 'stdout' | 'stderr') => ({
    isTTY: tty,
    columns: 100,
    write: (more: string) => {
      text[name] += more;
      if (name === 'stdout') heard?.(text.stdout);
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
    process,
  };
  const code = await run(argv, io);
  return { code, ...text };
}

/** `escapement simulate` of a module in `test/cli/fixtures`. */
export function simulated(fixture: string, ...options: string[]): Promise<Ran> {
  return cli(['simulate', `test/cli/fixtures/${fixture}.ts`, ...options]);
}

/** The built program, in a process of its own. */
export function spawned(argv: readonly string[], stdoutTo: 'pipe' | 'closed' = 'pipe', env: Record<string, string> = {}): Promise<Ran> {
  const program = start(argv, env);
  if (stdoutTo === 'closed') program.child.stdout?.destroy();
  return program.ended;
}

/** A line of a worker's log. */
export type Line = Readonly<Record<string, unknown>> & { readonly message: string };

/** A program while it runs. */
export interface Running {
  readonly ended: Promise<Ran>;
  /** All lines of the log so far. */
  lines(): Line[];
  /** The first line that matches; waits for it. Rejects when the program ends without it. */
  line(matches: (line: Line) => boolean): Promise<Line>;
}

/** The built program while it runs. */
export interface Program extends Running {
  readonly child: ChildProcess;
}

/** A command that lives long, in this process. */
export interface Inside extends Running {
  signal(name: Signal): void;
}

/** Reads the lines of a log as it grows. */
class Log {
  #text = '';
  #over = false;
  #stderr = '';
  readonly #waiting = new Set<() => void>();

  grow(text: string): void {
    this.#text = text;
    for (const look of this.#waiting) look();
  }

  end(stderr: string): void {
    this.#over = true;
    this.#stderr = stderr;
    for (const look of this.#waiting) look();
  }

  readonly lines = (): Line[] =>
    this.#text
      .slice(0, this.#text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line);

  readonly line = (matches: (line: Line) => boolean): Promise<Line> =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = this.lines().find(matches);
        if (!found && !this.#over) return;
        this.#waiting.delete(look);
        if (found) resolve(found);
        else reject(new Error(`the program ended without the line:\n${this.#text}${this.#stderr}`));
      };
      this.#waiting.add(look);
      look();
    });
}

export function start(argv: readonly string[], env: Record<string, string> = {}): Program {
  const child = spawn(process.execPath, ['dist/cli/main.js', ...argv], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const text = { stdout: '', stderr: '' };
  const log = new Log();
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text.stdout += more;
    log.grow(text.stdout);
  });
  child.stderr.setEncoding('utf8').on('data', (more: string) => (text.stderr += more));
  const ended = new Promise<Ran>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      log.end(text.stderr);
      resolve({ code, ...text });
    });
  });
  return { child, ended, lines: log.lines, line: log.line };
}

/** Runs a command as `start` does, in this process: its console and its log are the command's from then on. */
export function inside(argv: readonly string[]): Inside {
  const listeners: ((signal: Signal) => void)[] = [];
  const log = new Log();
  const ended = cli(argv, {
    heard: (text) => log.grow(text),
    process: {
      ...ownProcess,
      onSignal: (fn) => void listeners.push(fn),
      onFault() {},
      onForeignExit() {},
      onOutputClosed() {},
      memory: () => process.memoryUsage.rss(),
    },
  });
  void ended.then(({ stderr }) => log.end(stderr));
  return {
    ended,
    lines: log.lines,
    line: log.line,
    signal(name) {
      for (const listener of listeners) listener(name);
    },
  };
}
