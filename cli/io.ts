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
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Real milliseconds, whatever a simulation does to the globals. */
  readonly realNow: () => number;
  /** Calls `fn` at Ctrl-C; returns the function that ends this. */
  onInterrupt(fn: () => void): () => void;
  /** Calls `fn` when nothing is left that could ever happen in this process; returns the function that ends this. */
  onStuck(fn: () => void): () => void;
}

/** What every command answers to its caller. Part of the contract: scripts rely on it. */
export const exitCodes = { ok: 0, expectation: 1, usage: 2, interrupted: 130 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A fault that the user can mend. Printed as `escapement: <message>`; its cause only with ESCAPEMENT_DEBUG. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** Rejects when the process has nothing left to do while `promise` is still open: nobody could ever settle it. */
export async function orStuck<T>(io: Io, promise: Promise<T>, what: string): Promise<T> {
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
