/**
 * The messages between a worker and the thread or process that runs a task's function. Both sides send plain data; functions, schemas and
 * transactions stay where they are.
 */
import type { Isolation } from '../core/definition.ts';
import type { LogLevel } from '../core/events.ts';
import type { ErrorDetails, RecordedError } from '../core/failure.ts';
import type { Job } from '../core/types.ts';

/** An error in a message. */
export interface Crossed {
  readonly record: RecordedError;
  /** True if the task's own rules, which see the original error, do not allow a retry. */
  readonly permanent: boolean;
  /** Set for a RetryAfterError. */
  readonly after?: string | number;
}

/** How the function ended. */
export type Ended =
  /** @param value encoded */
  | { readonly kind: 'done'; readonly value: string | null }
  | { readonly kind: 'snoozed'; readonly delayMs: number }
  | { readonly kind: 'cancelled'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: Crossed }
  /** The module does not define the task. */
  | { readonly kind: 'undefined' };

/** The context methods that the worker answers. */
export type Method = 'sleep' | 'step' | 'waitFor' | 'blob' | 'saveBlob';

/** Messages from the worker. */
export type ToInside =
  | { readonly kind: 'run'; readonly job: Job }
  | { readonly kind: 'abort'; readonly name: string; readonly message: string }
  | { readonly kind: 'answer'; readonly call: number; readonly value?: unknown; readonly error?: Crossed }
  /** Runs the function of a step. */
  | { readonly kind: 'try'; readonly call: number; readonly step: { readonly id: string; readonly attempt: number } }
  | { readonly kind: 'abortTry'; readonly call: number; readonly name: string; readonly message: string };

/** Messages to the worker. */
export type FromInside =
  | { readonly kind: 'unloadable'; readonly error: ErrorDetails & { readonly stack?: string } }
  | { readonly kind: 'call'; readonly call: number; readonly method: Method; readonly values: readonly unknown[] }
  | { readonly kind: 'tried'; readonly call: number; readonly value?: unknown; readonly error?: Crossed }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly message: string; readonly fields?: Record<string, unknown> | undefined }
  | { readonly kind: 'metadata'; readonly key: string; readonly value: unknown }
  | { readonly kind: 'progress'; readonly fraction: number; readonly message: string | undefined }
  | { readonly kind: 'ended'; readonly ended: Ended };

/** Starts a run inside, and returns the receiver of the worker's further messages. */
export type Start = (job: Job, post: (message: FromInside) => void) => (message: ToInside) => void;

/** What the program of a thread or process puts on its `globalThis`. Every copy of the package in it adds the tasks that it defines. */
export interface Home {
  readonly in: Isolation['in'];
  readonly tasks: Map<string, Start>;
  /** True while the module is being evaluated. */
  loading: boolean;
}

const key = Symbol.for('escapement.isolated');

/** The home of this code, if it runs in the thread or process of an isolated task. */
export function home(): Home | undefined {
  return (globalThis as { [key]?: Home })[key];
}

/**
 * The program of a thread or process. It loads the module that defines the task, and passes the messages of a run to it. It is text because
 * a bundle has no file for it.
 */
export const program = `
const threads = require('node:worker_threads');
const isThread = !threads.isMainThread;
const port = isThread ? threads.parentPort : process;
const module = isThread ? threads.workerData : process.argv[1];
const post = (message) => isThread ? port.postMessage(message) : process.connected && process.send(message);
const home = { in: isThread ? 'thread' : 'process', tasks: new Map(), loading: true };
globalThis[Symbol.for('escapement.isolated')] = home;
if (!isThread) {
  // The worker decides when a job ends. A terminal signals all processes of its group.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
  process.on('disconnect', () => process.exit());
}
let current;
const receive = (message) => {
  if (message.kind !== 'run') return current?.(message);
  const start = home.tasks.get(message.job.task);
  if (start) current = start(message.job, post);
  else post({ kind: 'ended', ended: { kind: 'undefined' } });
};
import(module).then(
  () => {
    home.loading = false;
    port.on('message', receive);
  },
  (error) => post({ kind: 'unloadable', error: { name: String(error?.name ?? 'Error'), message: String(error?.message ?? error), stack: String(error?.stack ?? '') } }),
);
`;
