/** The real process: its signals, uncaught errors and memory, its child processes and its parent. */
import { type ChildProcess, fork } from 'node:child_process';
import type { Child, Order, Parent, Process, Report, Signal } from './io.ts';

const signals: readonly Signal[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];

/** A signal within this time of another is the same request arriving twice: from the terminal and a wrapper that forwards it, or as TERM and HUP. */
const echoMs = 1_000;

/** The environment variable that holds `Parent.postgres`. */
const postgresVariable = 'ESCAPEMENT_SUPERVISED_POSTGRES';

/** Returns a function that is true for a new request and false for its duplicates. @param now milliseconds of a monotonic clock */
export function requests(now: () => number): () => boolean {
  let requestedAt = Number.NEGATIVE_INFINITY;
  return () => {
    const at = now();
    if (at - requestedAt < echoMs) return false;
    requestedAt = at;
    return true;
  };
}

/** Dispatches the signals and the exit of the real process. */
export class Ending {
  readonly #isRequest: () => boolean;
  readonly #listeners = new Map<Signal, Set<(signal: Signal) => void>>();
  #leaving = false;
  #onForeignExit: (code: number) => number;

  /** @param onForeignExit called for an exit that no command requested; returns the exit code */
  constructor(now: () => number, onForeignExit: (code: number) => number) {
    this.#isRequest = requests(now);
    this.#onForeignExit = onForeignExit;
    process.on('exit', (code) => {
      if (!this.#leaving) process.exitCode = this.#onForeignExit(code);
    });
  }

  /** Adds a listener. Returns a function that removes it. */
  on(signal: Signal, fn: (signal: Signal) => void): () => void {
    const listeners = this.#listeners.get(signal) ?? new Set();
    this.#listeners.set(signal, listeners.add(fn));
    if (listeners.size === 1) process.on(signal, this.#onSignal);
    return () => {
      if (listeners.delete(fn) && listeners.size === 0) process.off(signal, this.#onSignal);
    };
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    if (!this.#isRequest()) return;
    for (const listener of [...(this.#listeners.get(signal as Signal) ?? [])]) listener(signal as Signal);
  };

  onForeignExit(fn: (code: number) => number): void {
    this.#onForeignExit = fn;
  }

  leave(code: number): never {
    this.#leaving = true;
    process.exit(code);
  }
}

/** @param die called with an uncaught error if no command handles it */
export function realProcess(ending: Ending, die: (fault: unknown) => void): Process {
  let onFault: (fault: unknown, kind: 'rejection' | 'exception') => void = die;
  process.on('uncaughtException', (fault) => onFault(fault, 'exception'));
  process.on('unhandledRejection', (fault) => onFault(fault, 'rejection'));
  return {
    onSignal(fn) {
      for (const signal of signals) ending.on(signal, fn);
    },
    onFault(fn) {
      onFault = fn;
    },
    onForeignExit: (fn) => ending.onForeignExit(fn),
    onOutputClosed(fn) {
      process.stdout.once('error', fn);
    },
    memory: () => process.memoryUsage.rss(),
    leave: (code) => ending.leave(code),
    fork: (argv, postgres) =>
      childOf(
        fork(process.argv[1] as string, argv, {
          execArgv: process.execArgv,
          stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
          ...(postgres !== undefined && { env: { ...process.env, [postgresVariable]: postgres } }),
        }),
      ),
    parent: process.send ? parentOf() : undefined,
  };
}

function childOf(child: ChildProcess): Child {
  // Sending to a child that is exiting may fail; its exit is handled separately.
  child.on('error', () => {});
  return {
    pid: child.pid,
    send: (order) => {
      if (child.connected) child.send(order, () => {});
    },
    kill: () => child.kill('SIGKILL'),
    onReport: (fn) => child.on('message', (message) => fn(message as Report)),
    onExit: (fn) => child.on('exit', fn),
  };
}

function parentOf(): Parent {
  const { [postgresVariable]: postgres } = process.env;
  // Must not be visible to the processes that tasks start.
  delete process.env[postgresVariable];
  return {
    postgres,
    send: (report) => {
      if (process.connected) process.send?.(report, undefined, undefined, () => {});
    },
    onOrder: (fn) => process.on('message', (message) => fn(message as Order)),
    onGone: (fn) => process.once('disconnect', fn),
  };
}
