/**
 * Too many attempts at one instant: a task that snoozes for no time, or that enqueues itself, would go on for ever without time moving. In
 * production that is a loop at full speed; here it is an error that names the task.
 */
import { SimulationRunawayError } from '../core/errors.ts';
import type { Scope } from '../ports/clock.ts';

/** More attempts than this, of one job, at one instant. */
const maxPerJob = 1_000;
/** More attempts than this at one instant; a drain of that many jobs is possible, but no test. */
const most = 500_000;
/** Until there are so many, nobody counts job by job. */
const unsuspicious = 10_000;

export class Crowd {
  #at = Number.NaN;
  #count = 0;
  readonly #byJob = new Map<string, number>();
  #found: Scope | undefined;

  add(scope: Scope, now: number): void {
    if (now !== this.#at) {
      this.#at = now;
      this.#count = 0;
      if (this.#byJob.size > 0) this.#byJob.clear();
    }
    this.#count += 1;
    if (this.#count <= unsuspicious) return;
    const count = (this.#byJob.get(scope.id) ?? 0) + 1;
    this.#byJob.set(scope.id, count);
    if (count > maxPerJob || this.#count > most) this.#found = scope;
  }

  /** @throws SimulationRunawayError */
  check(): void {
    const { task } = this.#found ?? {};
    if (task === undefined) return;
    this.#found = undefined;
    const count = this.#count;
    this.#count = 0;
    this.#byJob.clear();
    throw new SimulationRunawayError(
      `${count} attempts have run at ${new Date(this.#at).toISOString()} without time moving, the last ones of ${task}. ` +
        'A task that snoozes, retries or enqueues itself without any delay runs for ever, in production as fast as it can: give it a delay.',
    );
  }
}
