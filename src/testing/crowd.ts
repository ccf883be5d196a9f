/**
 * Detects too many attempts at one instant. A task that snoozes for no time, or that enqueues itself, would run forever without time
 * advancing. In production this is a busy loop; here it is an error that names the task.
 */
import { SimulationRunawayError } from '../core/errors.ts';
import type { Scope } from '../ports/clock.ts';

/** Maximum number of attempts of one job at one instant. */
const maxPerJob = 1_000;
/** Maximum number of attempts at one instant. More is possible by draining that many jobs, but not as a test. */
const maxTotal = 500_000;
/** Below this number, attempts are not counted per job. */
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
    if (count > maxPerJob || this.#count > maxTotal) this.#found = scope;
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
      `${count} attempts have run at ${new Date(this.#at).toISOString()} without time advancing; the latest are of ${task}. ` +
        'A task that snoozes, retries or enqueues itself without a delay runs forever, in production at full speed. Add a delay.',
    );
  }
}
