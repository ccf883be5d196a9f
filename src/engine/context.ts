/** The context passed to a task's function: a limited view of its attempt. */

import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { StepContext, StepOptions, TaskContext, TaskLog, TaskMetadata, WaitOptions } from '../core/definition.ts';
import { type Duration, durationMs, show } from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import type { RunningAttempt } from './attempt.ts';

export class Context implements TaskContext {
  readonly #attempt: RunningAttempt;
  #log: TaskLog | undefined;
  #workflow: unknown;

  constructor(attempt: RunningAttempt) {
    this.#attempt = attempt;
  }

  get id(): string {
    return this.#attempt.job.id;
  }
  get task(): string {
    return this.#attempt.job.task;
  }
  get attempt(): number {
    return this.#attempt.job.attempt;
  }
  get maxAttempts(): number {
    return this.#attempt.job.maxAttempts;
  }
  get schedule(): string | null {
    return this.#attempt.job.schedule;
  }
  get scheduledAt(): Date | null {
    const at = this.#attempt.job.scheduledAt;
    return at === null ? null : new Date(at);
  }
  get result(): unknown {
    return this.#attempt.host.resultOf(this.#attempt.job);
  }
  get workflow(): unknown {
    const { host, job } = this.#attempt;
    this.#workflow ??= job.workflow === null ? null : host.workflowOf(job, this.result);
    return this.#workflow;
  }
  get signal(): AbortSignal {
    return this.#attempt.signal;
  }
  get log(): TaskLog {
    const attempt = this.#attempt;
    this.#log ??= {
      debug: (message, fields) => attempt.notes.log('debug', message, fields),
      info: (message, fields) => attempt.notes.log('info', message, fields),
      warn: (message, fields) => attempt.notes.log('warn', message, fields),
      error: (message, fields) => attempt.notes.log('error', message, fields),
    };
    return this.#log;
  }

  get metadata(): TaskMetadata {
    const { notes } = this.#attempt;
    return {
      get: (key) => (Object.hasOwn(notes.metadata, key) ? structuredClone(notes.metadata[key]) : undefined),
      set: (key, value) => notes.setMetadata(key, value),
    };
  }

  now(): Date {
    return new Date(this.#attempt.host.clock.now());
  }

  sleep(duration: Duration): Promise<void> {
    const attempt = this.#attempt;
    const ms = durationMs(duration, 'ctx.sleep()');
    const slept = attempt.steps.areUsed ? attempt.steps.sleep(ms) : attempt.pause(ms);
    // A sleep that is not awaited must not end the process when the attempt is aborted.
    slept.catch(() => {});
    return slept;
  }

  step<T>(name: string, fn: (step: StepContext) => T, options?: StepOptions<Awaited<T>>): Promise<Awaited<T>> {
    return this.#attempt.steps.run(name, fn, options);
  }

  waitFor<Schema extends StandardSchemaV1 | undefined = undefined>(name: string, options?: WaitOptions<Schema>): Promise<never> {
    const waited = this.#attempt.steps.waitFor(name, options) as Promise<never>;
    waited.catch(() => {});
    return waited;
  }

  progress(fraction: number, message?: string): void {
    this.#attempt.notes.report(fraction, message);
  }

  complete(value: unknown, options: { readonly transaction: unknown }): void | Promise<void> {
    const unknown = Object.keys(options ?? {}).find((key) => key !== 'transaction');
    if (unknown !== undefined) throw new InputError(`ctx.complete() accepts only { transaction }; got ${show(unknown)}`);
    return this.#attempt.complete(value, options?.transaction);
  }

  blob(name: string): Promise<Uint8Array | null> {
    return this.#attempt.blob(name);
  }

  saveBlob(name: string, bytes: Uint8Array): Promise<void> {
    return this.#attempt.saveBlob(name, bytes);
  }

  external<T>(label: string, fn: () => Promise<T>): Promise<T> {
    return this.#attempt.host.clock.external(label, fn);
  }
}
