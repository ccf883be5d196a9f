/**
 * The process as commands see it, so that tests can replace it. Also defines CommandError, the error that is reported on one line without a
 * stack.
 */

import { isEscapementError } from 'escapement';
import { cleanLines } from './format.ts';

/** An output stream. */
export interface Output {
  write(text: string): void;
  /** True for a terminal, which supports colour and rewriting lines. */
  readonly isTTY: boolean;
  readonly columns: number;
}

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  /** Reads stdin to its end. */
  readonly stdin: () => Promise<string>;
  /** Asks the user a question; undefined without a terminal. The answer is empty at the end of input. */
  readonly ask?: ((question: string) => Promise<string>) | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** The current time in epoch milliseconds. */
  readonly now: () => number;
  /** Real milliseconds of a monotonic clock, even while a simulation replaces the globals. */
  readonly realNow: () => number;
  /** Calls `fn` on Ctrl-C. Returns a function that removes the listener. */
  onInterrupt(fn: () => void): () => void;
  /** Calls `fn` when the event loop has nothing left to do. Returns a function that removes the listener. */
  onStuck(fn: () => void): () => void;
  readonly process: Process;
}

export type Signal = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

/** The operations for commands that run as long as the process: signals, uncaught errors, memory and child processes. */
export interface Process {
  /** Calls `fn` on every signal that asks the process to end, instead of ending it. Signals within a second count as one. */
  onSignal(fn: (signal: Signal) => void): void;
  /** Calls `fn` with uncaught errors and unhandled rejections, instead of ending the process. */
  onFault(fn: (fault: unknown, kind: 'rejection' | 'exception') => void): void;
  /** Calls `fn` when the process exits without a command having ended it, for example when a task calls `process.exit()`; in the async context of that call. `fn` returns the exit code. */
  onForeignExit(fn: (code: number) => number): void;
  /** Calls `fn` when the reader of stdout has closed it. */
  onOutputClosed(fn: () => void): void;
  /** The memory of the process (RSS), in bytes. */
  memory(): number;
  /** Ends the process now. */
  leave(code: number): void;
  /** Forks another process of this program. @param postgres the URL for its `Parent` */
  fork(argv: readonly string[], postgres: string | undefined): Child;
  /** The supervisor that forked this process, if any. */
  readonly parent: Parent | undefined;
}

/** A message from a supervisor to a child. */
export type Order = 'stop' | 'leave';
/** A message from a child to its supervisor. */
export type Report = { readonly kind: 'ready' } | { readonly kind: 'ending'; readonly why: string };

export interface Child {
  readonly pid: number | undefined;
  send(order: Order): void;
  kill(): void;
  onReport(fn: (report: Report) => void): void;
  onExit(fn: (code: number | null, signal: string | null) => void): void;
}

export interface Parent {
  /** The URL of `--postgres`. It may contain a password, and all users of a machine can read the arguments of its processes. */
  readonly postgres: string | undefined;
  send(report: Report): void;
  onOrder(fn: (order: Order) => void): void;
  /** The supervisor has exited unexpectedly. */
  onGone(fn: () => void): void;
}

/** The exit codes of all commands. Public API: scripts rely on them. */
export const exitCodes = { ok: 0, expectation: 1, refused: 1, usage: 2, hungUp: 129, interrupted: 130, terminated: 143 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** An error that the user can fix. Printed as `escapement: <message>`; its cause only with ESCAPEMENT_DEBUG. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: ExitCode;
  constructor(message: string, options: ErrorOptions & { exitCode?: ExitCode } = {}) {
    super(message, options);
    this.exitCode = options.exitCode ?? exitCodes.usage;
  }
}

/** Rejects when the event loop is empty while `promise` is pending: nothing could ever settle it. */
export async function orStuck<T>(io: Pick<Io, 'onStuck'>, promise: Promise<T>, what: string): Promise<T> {
  let off = () => {};
  const stuck = new Promise<never>((_, reject) => {
    off = io.onStuck(() => reject(new CommandError(what)));
  });
  try {
    return await Promise.race([promise, stuck]);
  } finally {
    off();
  }
}

/** Formats an error as `escapement: <message>`. The stack of its cause follows only with ESCAPEMENT_DEBUG. */
export function faultText(error: unknown, env: Io['env']): string {
  const known = error instanceof CommandError || isEscapementError(error);
  const { name, message } = error as { name?: string; message?: string };
  const text = known ? (message ?? '') : `${name ? `${name}: ` : ''}${message ?? String(error)}`;
  const [first = '', ...rest] = cleanLines(text);
  const cause = error instanceof CommandError ? (error.cause ?? error) : error;
  const stack = env.ESCAPEMENT_DEBUG ? cleanLines(String((cause as { stack?: unknown })?.stack ?? cause)) : [];
  return `${[`escapement: ${first}`, ...rest.map((line) => `  ${line}`), ...stack].join('\n')}\n`;
}
