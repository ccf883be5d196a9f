/** A thread or a process that has loaded a module, as seen by its worker. Messages go in and come out, and it can be killed. */
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Worker } from 'node:worker_threads';
import type { Isolation } from '../core/definition.ts';
import { type FromInside, program, type ToInside } from './messages.ts';

export interface Channel {
  post(message: ToInside): void;
  /** Lets the worker's process exit while this one is still running. */
  idle(): void;
  busy(): void;
  kill(): void;
}

export interface ChannelListener {
  heard(message: FromInside): void;
  /** Called when it has ended. @param error the error that it did not catch, or how it ended */
  gone(error: unknown): void;
}

export function openChannel({ in: where, module }: Isolation, listener: ChannelListener): Channel {
  return where === 'thread' ? openThread(module, listener) : openProcess(module, listener);
}

function openThread(module: string, { heard, gone }: ChannelListener): Channel {
  const threads = process.getBuiltinModule('node:worker_threads');
  const thread: Worker = new threads.Worker(program, { eval: true, workerData: module, name: 'escapement' });
  let fault: { readonly error: unknown } | undefined;
  thread.on('message', heard);
  thread.on('error', (error) => {
    fault ??= { error };
  });
  thread.on('exit', (code) => gone(fault ? fault.error : new Error(`the thread has ended with exit code ${code}`)));
  return {
    post: (message) => thread.postMessage(message),
    idle: () => thread.unref(),
    busy: () => thread.ref(),
    kill: () => void thread.terminate(),
  };
}

function openProcess(module: string, { heard, gone }: ChannelListener): Channel {
  const { spawn } = process.getBuiltinModule('node:child_process');
  const flags = process.execArgv.filter((flag) => !/^--(?:inspect|input-type|eval|print|test|cpu-prof)|^-[ep]/.test(flag));
  const child: ChildProcess = spawn(process.execPath, [...flags, '--input-type=commonjs', '--eval', program, module], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
  const parts = () => [child, child.channel, child.stdout as Socket | null, child.stderr as Socket | null];
  let isGone = false;
  const ended = (error: unknown) => {
    if (!isGone) gone(error);
    isGone = true;
  };
  // Looked up at each write, as for a thread: the application may have replaced process.stdout.
  child.stdout?.on('data', (text: Uint8Array) => process.stdout.write(text));
  child.stderr?.on('data', (text: Uint8Array) => process.stderr.write(text));
  child.on('message', (message) => heard(message as FromInside));
  child.on('error', ended);
  child.on('exit', (code, signal) => {
    ended(new Error(signal ? `the process was killed by ${signal}` : `the process has ended with exit code ${code}`));
  });
  return {
    post: (message) => {
      if (child.connected) child.send(message, () => {});
    },
    idle() {
      for (const part of parts()) part?.unref();
    },
    busy() {
      for (const part of parts()) part?.ref();
    },
    kill: () => void child.kill('SIGKILL'),
  };
}
