/**
 * All that a command may touch of the process it runs in, so that a test can give it something else. Also the one kind of error that a
 * command reports in one line, without a stack.
 */

import { isEscapementError } from 'escapement';
import { cleanLines } from './format.ts';

/** A stream of text for people. */
export interface Output {
  write(text: string): void;
  /** A terminal: colour and rewritten lines are welcome. */
  readonly isTTY: boolean;
  readonly columns: number;
}

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  /** All that is written to the process, to its end. */
  readonly stdin: () => Promise<string>;
  /** Asks the person at the terminal; undefined: there is none. An empty answer: the input has ended. */
  readonly ask?: ((question: string) => Promise<string>) | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Epoch milliseconds: what ages are counted from. */
  readonly now: () => number;
  /** Real milliseconds, whatever a simulation does to the globals. */
  readonly realNow: () => number;
  /** Calls `fn` at Ctrl-C; returns the function that ends this. */
  onInterrupt(fn: () => void): () => void;
  /** Calls `fn` when nothing is left that could ever happen in this process; returns the function that ends this. */
  onStuck(fn: () => void): () => void;
  readonly life: Life;
}

export type Signal = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

/** What only a command that lives as long as its process asks of it. */
export interface Life {
  /** Calls `fn` at every signal that asks the process to end, which then does not end by itself. Signals within a second are one. */
  onSignal(fn: (signal: Signal) => void): void;
  /** Calls `fn` with what nobody caught, a rejection or an error, instead of ending the process. */
  onFault(fn: (fault: unknown, kind: 'rejection' | 'exception') => void): void;
  /** Calls `fn` when the process ends although no command ended it, as by `process.exit()` in a task, in that task's context; `fn` returns the exit code. */
  onForeignExit(fn: (code: number) => number): void;
  /** Calls `fn` when whoever read stdout has gone. */
  onOutputClosed(fn: () => void): void;
  /** Bytes of memory that the process holds. */
  memory(): number;
  /** Ends the process now. */
  leave(code: number): void;
  /** Another process of this program. */
  fork(argv: readonly string[]): Child;
  /** The supervisor that forked this process, if one did. */
  readonly parent: Parent | undefined;
}

/** What a supervisor tells a child. */
export type Order = 'stop' | 'leave';
/** What a child tells its supervisor. */
export type Report = { readonly kind: 'ready' } | { readonly kind: 'ending'; readonly why: string };

export interface Child {
  readonly pid: number | undefined;
  tell(order: Order): void;
  kill(): void;
  onReport(fn: (report: Report) => void): void;
  onExit(fn: (code: number | null, signal: string | null) => void): void;
}

export interface Parent {
  tell(report: Report): void;
  onOrder(fn: (order: Order) => void): void;
  /** The supervisor has gone without a word. */
  onGone(fn: () => void): void;
}

/** What every command answers to its caller. Part of the contract: scripts rely on it. */
export const exitCodes = { ok: 0, expectation: 1, refused: 1, usage: 2, hungUp: 129, interrupted: 130, terminated: 143 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A fault that the user can mend. Printed as `escapement: <message>`; its cause only with ESCAPEMENT_DEBUG. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: ExitCode;
  constructor(message: string, options: ErrorOptions & { exitCode?: ExitCode } = {}) {
    super(message, options);
    this.exitCode = options.exitCode ?? exitCodes.usage;
  }
}

/** Rejects when the process has nothing left to do while `promise` is still open: nobody could ever settle it. */
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

/** `escapement: what is wrong`, with the stack of what is behind it only for those who ask for it. */
export function faultText(error: unknown, env: Io['env']): string {
  const known = error instanceof CommandError || isEscapementError(error);
  const { name, message } = error as { name?: string; message?: string };
  const text = known ? (message ?? '') : `${name ? `${name}: ` : ''}${message ?? String(error)}`;
  const [first = '', ...rest] = cleanLines(text);
  const cause = error instanceof CommandError ? (error.cause ?? error) : error;
  const stack = env.ESCAPEMENT_DEBUG ? cleanLines(String((cause as { stack?: unknown })?.stack ?? cause)) : [];
  return `${[`escapement: ${first}`, ...rest.map((line) => `  ${line}`), ...stack].join('\n')}\n`;
}
