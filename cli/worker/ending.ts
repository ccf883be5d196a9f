/**
 * Why a worker process ends, and with which exit code: the first reason that comes counts. Listens to all that may end it from outside:
 * signals, a supervisor, a reader of stdout who has gone, faults that nobody caught, and a task that ends the process. Whoever asks a second
 * time is obeyed at once.
 */

import { failCurrentAttempt } from 'escapement';
import { clean } from '../format.ts';
import { type ExitCode, exitCodes, type Life, type Parent, type Signal } from '../io.ts';
import { recordedText } from './fault.ts';
import type { Log } from './log.ts';

export interface Ending {
  readonly why: 'asked' | 'drained' | 'max jobs' | 'max memory' | 'output closed' | 'fault';
  readonly code: ExitCode;
}

const codes: Record<Signal, ExitCode> = { SIGHUP: exitCodes.hungUp, SIGINT: exitCodes.interrupted, SIGTERM: exitCodes.terminated };

export class Ends {
  readonly asked: Promise<Ending>;
  #resolve!: (ending: Ending) => void;
  #ending: Ending | undefined;
  #faulty = false;

  constructor() {
    this.asked = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Already ending: for what reason. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** A fault makes the process end badly, also one that comes while it ends. */
  get code(): ExitCode {
    return this.#faulty ? exitCodes.refused : (this.#ending?.code ?? exitCodes.ok);
  }

  ask(why: Ending['why'], code: ExitCode = exitCodes.ok): void {
    if (this.#ending) return;
    this.#ending = { why, code };
    this.#resolve(this.#ending);
  }

  /** @param parent given: this is a supervised child, whose terminal's signals are its supervisor's to pass on */
  listen(life: Life, log: Log, parent: Parent | undefined): void {
    let signalled = false;
    life.onSignal((signal) => {
      if (parent && signal !== 'SIGTERM') return;
      if (signalled) return life.leave(codes[signal]);
      signalled = true;
      log.write('info', { signal }, `${signal}: stopping; another one, a second or more later, leaves at once`);
      this.ask('asked');
    });
    parent?.onOrder((order) => {
      if (order === 'leave') life.leave(exitCodes.terminated);
      else this.ask('asked');
    });
    parent?.onGone(() => {
      log.write('warn', {}, 'the supervisor has gone: stopping');
      this.ask('asked');
    });
    life.onOutputClosed(() => this.ask('output closed'));
    life.onForeignExit((code) => {
      const culprit = currentAttempt(code);
      // Who was asked to end, and is ended by the module's own handler of the signal, has ended as asked.
      const asked = this.#ending !== undefined && !culprit;
      log.write(asked ? 'warn' : 'error', { code, ...culprit }, `${foreignExit(code, culprit)}; its jobs are found when their leases pass`);
      return asked ? code : code || exitCodes.refused;
    });
    life.onFault((fault, kind) => {
      this.#faulty = true;
      // The job whose code this was has failed, also if its function is about to return.
      const culprit = failCurrentAttempt(fault);
      const what = kind === 'rejection' ? 'a promise was rejected and nobody caught it' : 'an error was thrown and nobody caught it';
      log.write(
        'error',
        { error: recordedText(fault), ...(culprit ? { task: culprit.task, job: culprit.id, attempt: culprit.attempt } : {}) },
        `${what}: ${recordedText(fault).message}; the worker lets its attempts end and leaves`,
      );
      this.ask('fault', exitCodes.refused);
    });
  }
}

type Culprit = Readonly<Record<'task' | 'job', string> & { readonly attempt: number }>;

/** The attempt whose function ends the process. */
function currentAttempt(code: number): Culprit | undefined {
  const attempt = failCurrentAttempt(new Error(`process.exit(${code}) was called`));
  return attempt && { task: attempt.task, job: attempt.id, attempt: attempt.attempt };
}

/** What is said of a process that ends although no command ended it. Asked for in the context of whoever ends it. */
export function foreignExit(code: number, culprit = currentAttempt(code)): string {
  if (!culprit) return `the process ends with code ${code} before its work is done: the module or a library called process.exit()`;
  return `task ${clean(culprit.task)} called process.exit(${code}), which ends the whole process; throw an error instead`;
}
