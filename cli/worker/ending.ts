/**
 * Decides why a worker process ends and with which exit code; the first reason counts. Handles everything that may end the process: signals,
 * a supervisor, a closed stdout, uncaught errors, and a task that calls process.exit(). A second request ends the process immediately.
 */

import { failCurrentAttempt } from 'escapement';
import { clean } from '../format.ts';
import { type ExitCode, exitCodes, type Parent, type Process, type Signal } from '../io.ts';
import { recordedText } from './fault.ts';
import type { Log } from './log.ts';

export interface Ending {
  readonly why: 'asked' | 'drained' | 'max jobs' | 'max memory' | 'output closed' | 'fault';
  readonly code: ExitCode;
}

const codes: Record<Signal, ExitCode> = { SIGHUP: exitCodes.hungUp, SIGINT: exitCodes.interrupted, SIGTERM: exitCodes.terminated };

export class Ends {
  readonly requested: Promise<Ending>;
  #resolve!: (ending: Ending) => void;
  #ending: Ending | undefined;
  #faulty = false;

  constructor() {
    this.requested = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** The reason, if the process is already ending. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** An uncaught error leads to a non-zero exit code, even while the process is ending. */
  get code(): ExitCode {
    return this.#faulty ? exitCodes.refused : (this.#ending?.code ?? exitCodes.ok);
  }

  request(why: Ending['why'], code: ExitCode = exitCodes.ok): void {
    if (this.#ending) return;
    this.#ending = { why, code };
    this.#resolve(this.#ending);
  }

  /** @param parent set in a supervised child; its supervisor forwards the terminal's signals */
  listen(ownProcess: Process, log: Log, parent: Parent | undefined): void {
    let signalled = false;
    ownProcess.onSignal((signal) => {
      if (parent && signal !== 'SIGTERM') return;
      if (signalled) return ownProcess.leave(codes[signal]);
      signalled = true;
      log.write('info', { signal }, `${signal}: stopping; another signal, at least 1 s later, ends the process immediately`);
      this.request('asked');
    });
    parent?.onOrder((order) => {
      if (order === 'leave') ownProcess.leave(exitCodes.terminated);
      else this.request('asked');
    });
    parent?.onGone(() => {
      log.write('warn', {}, 'the supervisor has exited: stopping');
      this.request('asked');
    });
    ownProcess.onOutputClosed(() => this.request('output closed'));
    ownProcess.onForeignExit((code) => {
      const culprit = currentAttempt(code);
      // If the module's own signal handler ends a process that was asked to end, it ended as requested.
      const isRequested = this.#ending !== undefined && !culprit;
      log.write(
        isRequested ? 'warn' : 'error',
        { code, ...culprit },
        `${foreignExit(code, culprit)}; its jobs are recovered when their leases expire`,
      );
      return isRequested ? code : code || exitCodes.refused;
    });
    ownProcess.onFault((fault, kind) => {
      this.#faulty = true;
      // Fail the job whose code threw, even if its function is about to return.
      const culprit = failCurrentAttempt(fault);
      const what = kind === 'rejection' ? 'unhandled rejection' : 'uncaught exception';
      log.write(
        'error',
        { error: recordedText(fault), ...(culprit ? { task: culprit.task, job: culprit.id, attempt: culprit.attempt } : {}) },
        `${what}: ${recordedText(fault).message}; the worker stops when its running attempts have finished`,
      );
      this.request('fault', exitCodes.refused);
    });
  }
}

type Culprit = Readonly<Record<'task' | 'job', string> & { readonly attempt: number }>;

/** The attempt whose function called process.exit(). */
function currentAttempt(code: number): Culprit | undefined {
  const attempt = failCurrentAttempt(new Error(`process.exit(${code}) was called`));
  return attempt && { task: attempt.task, job: attempt.id, attempt: attempt.attempt };
}

/** The message for a process exit that no command requested. Call it in the async context of the exit. */
export function foreignExit(code: number, culprit = currentAttempt(code)): string {
  if (!culprit) return `the process exited early with code ${code}: the module or a library called process.exit()`;
  return `task ${clean(culprit.task)} called process.exit(${code}), which ends the whole process; throw an error instead`;
}
