/**
 * I17 and I18: the invariant checker's model of steps and signals. A step that was stored is kept and does not run again; a signal is kept
 * until it is taken.
 */
import { failedStep, stepsRunAgain } from '../core/steps.ts';
import type { Job, Signal, Step } from '../core/types.ts';
import type { Model } from './model.ts';

interface Around {
  readonly model: Model;
  report(job: Job, what: string): void;
}

export class Remembered {
  readonly #around: Around;
  readonly #steps = new Map<string, Map<string, Step>>();
  readonly #signals = new Map<string, number>();

  constructor(around: Around) {
    this.#around = around;
  }

  saved(id: string, steps: readonly Step[]): void {
    const kept = this.#steps.get(id) ?? new Map<string, Step>();
    this.#steps.set(id, kept);
    for (const step of steps) {
      // Two workers may find out at the same time that the job has failed. The same row is sent again if the answer was lost.
      if (step.kind === 'step' && step.name !== failedStep && kept.has(step.name) && kept.get(step.name) !== step)
        this.#report(id, `I17: its step ${step.name} ran again after it was stored`);
      kept.set(step.name, step);
    }
  }

  read(ids: readonly string[], answers: readonly (readonly Step[])[], isAtOnce: boolean): void {
    for (const [i, id] of ids.entries()) {
      const names = new Set(answers[i]?.map(({ name }) => name));
      for (const name of this.#steps.get(id)?.keys() ?? [])
        if (isAtOnce && !names.has(name)) this.#report(id, `I17: its step ${name} was stored but is missing`);
    }
  }

  sent({ name }: Signal): void {
    this.#signals.set(name, (this.#signals.get(name) ?? 0) + 1);
  }

  taken(id: string, name: string, step: Omit<Step, 'value'>, answer: Signal | null | false, isAtOnce: boolean): void {
    if (answer === false) return;
    const count = this.#signals.get(name) ?? 0;
    if (answer === null) {
      if (isAtOnce && count > 0) this.#report(id, `I18: the signal ${name} was sent but is missing`);
      return;
    }
    if (isAtOnce && count === 0) this.#report(id, `I18: it was given the signal ${name}, which was not sent or has been taken`);
    this.#signals.set(name, Math.max(0, count - 1));
    this.#steps.set(id, (this.#steps.get(id) ?? new Map<string, Step>()).set(step.name, { ...step, value: null }));
  }

  /** The job had ended and is queued again. */
  runAgain({ id, status }: Pick<Job, 'id' | 'status'>): void {
    const steps = stepsRunAgain([...(this.#steps.get(id)?.values() ?? [])], status === 'successful');
    if (steps) this.#steps.set(id, new Map(steps.map((step) => [step.name, step])));
  }

  /** True if the job's steps are being undone, for which it has additional attempts. */
  isUndone(id: string): boolean {
    return this.#steps.get(id)?.has(failedStep) === true;
  }

  /** True if a signal with this name has been sent and not taken. */
  has(name: string): boolean {
    return (this.#signals.get(name) ?? 0) > 0;
  }

  /** The job was deleted or pruned. */
  forget(id: string): void {
    this.#steps.delete(id);
  }

  #report(id: string, what: string): void {
    const job = this.#around.model.get(id);
    if (job) this.#around.report(job, what);
  }
}
