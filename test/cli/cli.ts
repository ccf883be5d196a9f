/** Runs the command line, in this process with streams that a test can read, or as a separate program. */
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
  /** Answers prompts at the terminal. */
  readonly ask?: (question: string) => Promise<string>;
  /** The current time. */
  readonly now?: () => number;
  /** Presses Ctrl-C after this number of clock reads. */
  readonly interruptAfterReadings?: number;
  /** The process functions that a command may call. @default none */
  readonly process?: Process;
  /** Receives what is written to stdout. */
  readonly heard?: (text: string) => void;
}

/** Long-running commands are tested in separate processes. */
const unavailable = () => {
  throw new Error('only available in a separate process');
};
const ownProcess: Process = {
  onSignal: unavailable,
  onFault: unavailable,
  onForeignExit: unavailable,
  onOutputClosed: unavailable,
  memory: unavailable,
  leave: unavailable,
  fork: unavailable,
  parent: undefined,
};

/** Each read of the test's real clock advances it by 50 ms. */
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

/** The built program, in a separate process. */
export function spawned(argv: readonly string[], stdoutTo: 'pipe' | 'closed' = 'pipe', env: Record<string, string> = {}): Promise<Ran> {
  const program = start(argv, env);
  if (stdoutTo === 'closed') program.child.stdout?.destroy();
  return program.ended;
}

/** A line of a worker's log. */
export type Line = Readonly<Record<string, unknown>> & { readonly message: string };

/** A running program. */
export interface Running {
  readonly ended: Promise<Ran>;
  /** All lines of the log so far. */
  lines(): Line[];
  /** Resolves to the first matching line; rejects if the program ends without one. */
  line(matches: (line: Line) => boolean): Promise<Line>;
}

/** Starts the built program. */
export interface Program extends Running {
  readonly child: ChildProcess;
}

/** Starts a long-running command in this process. */
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

/** Like `start`, but runs the command in this process and takes over its console and log. */
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
