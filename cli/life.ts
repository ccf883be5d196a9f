/** The life of the real process: its signals, faults and memory, the processes it forks and the one that forked it. */
import { type ChildProcess, fork } from 'node:child_process';
import type { Child, Life, Order, Parent, Report, Signal } from './io.ts';

const signals: readonly Signal[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];

/** @param die what becomes of a fault that no command has asked for */
export function processLife(die: (fault: unknown) => void): Life {
  let onFault: (fault: unknown, kind: 'rejection' | 'exception') => void = die;
  process.on('uncaughtException', (fault) => onFault(fault, 'exception'));
  process.on('unhandledRejection', (fault) => onFault(fault, 'rejection'));
  return {
    onSignal(fn) {
      for (const signal of signals) process.on(signal, () => fn(signal));
    },
    onFault(fn) {
      onFault = fn;
    },
    onOutputClosed(fn) {
      process.stdout.once('error', fn);
    },
    memory: () => process.memoryUsage.rss(),
    leave: (code) => process.exit(code),
    fork: (argv) =>
      childOf(fork(process.argv[1] as string, argv, { execArgv: process.execArgv, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })),
    parent: process.send ? parentOf() : undefined,
  };
}

function childOf(child: ChildProcess): Child {
  // What cannot be told to a child that is going is seen by its exit.
  child.on('error', () => {});
  return {
    pid: child.pid,
    tell: (order) => {
      if (child.connected) child.send(order, () => {});
    },
    kill: () => child.kill('SIGKILL'),
    onReport: (fn) => child.on('message', (message) => fn(message as Report)),
    onExit: (fn) => child.on('exit', fn),
  };
}

function parentOf(): Parent {
  return {
    tell: (report) => {
      if (process.connected) process.send?.(report, undefined, undefined, () => {});
    },
    onOrder: (fn) => process.on('message', (message) => fn(message as Order)),
    onGone: (fn) => process.once('disconnect', fn),
  };
}
