/**
 * The engine's only way to wait: a step runs and returns when it wants to run next, and the loop sleeps until then or until it is woken.
 * The loop owns the waiting, the step owns the work. Steps never overlap. A step that throws is retried after a growing delay; a loop never
 * stops because of an error.
 *
 * A loop is idle (possibly with a timer), queued (its step is about to run) or running. Waking a queued loop does nothing; waking a running
 * loop makes its step run once more.
 */
import type { Clock, Timer } from '../ports/clock.ts';
import { scope } from './scope.ts';

/** Does what is due and returns the next instant at which there may be work; Infinity: only when woken. */
export type Step = () => Promise<number>;

const firstRetryMs = 100;
/** Work resumes within 5 s after the store recovers. */
const longestRetryMs = 3_000;

export class Loop {
  readonly #clock: Clock;
  readonly #step: Step;
  readonly #failing: (error: unknown, first: boolean) => void;
  readonly #recovered: () => void;
  #state: 'stopped' | 'idle' | 'queued' | 'running' = 'stopped';
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #runAgain = false;
  #failures = 0;
  #whenStopped: (() => void)[] = [];

  /**
   * @param failing called with every error of the step, and whether it is the first in a row
   * @param recovered called when a step succeeds after failures
   */
  constructor(clock: Clock, step: Step, failing: (error: unknown, first: boolean) => void, recovered: () => void) {
    this.#clock = clock;
    this.#step = step;
    this.#failing = failing;
    this.#recovered = recovered;
  }

  /** True while its step runs. */
  get isBusy(): boolean {
    return this.#state === 'running';
  }

  start(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'idle';
    this.wake();
  }

  /** Runs the step soon, or once more if it is running. */
  wake(): void {
    if (this.#state === 'idle') this.#queue();
    else if (this.#state === 'running') this.#runAgain = true;
  }

  /** Runs the step no later than this instant. */
  wakeAt(instant: number): void {
    if (this.#state === 'stopped') return;
    const now = this.#clock.now();
    // The clock was set past the timer's instant, so the timer is due although it has not fired.
    if (instant >= this.#timerAt && this.#timerAt >= now) return;
    if (instant <= now || this.#timerAt < now) this.wake();
    // A task that enqueues calls this from within its attempt, but the timer does not belong to the attempt.
    else if (scope.getStore()) scope.exit(() => this.#arm(instant));
    else this.#arm(instant);
  }

  /** Clears the next instant, so that only a wake-up runs the step. */
  rest(): void {
    this.#disarm();
  }

  /** No step starts after this call. Resolves when a running step has ended. */
  async stop(): Promise<void> {
    const running = this.#state === 'running';
    this.#state = 'stopped';
    this.#runAgain = false;
    this.#disarm();
    if (running) await new Promise<void>((resolve) => this.#whenStopped.push(resolve));
  }

  /** Stops, and runs the step once more. Errors are reported, not retried. */
  async last(): Promise<void> {
    await this.stop();
    try {
      await this.#step();
    } catch (error) {
      this.#failing(error, true);
    }
  }

  #queue(): void {
    this.#state = 'queued';
    this.#clock.soon(this.#run);
  }

  readonly #run = async (): Promise<void> => {
    if (this.#state !== 'queued') return;
    this.#state = 'running';
    this.#disarm();
    let nextAt: number;
    try {
      nextAt = await this.#step();
      if (this.#failures > 0) {
        this.#failures = 0;
        this.#recovered();
      }
    } catch (error) {
      this.#failing(error, this.#failures === 0);
      nextAt = this.#clock.now() + Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(this.#failures, 10));
      this.#failures += 1;
      // Wake-ups during the step wait for the retry too, so that a failing store is not flooded with calls.
      this.#runAgain = false;
    }
    // `stop` may have been called while the step ran.
    if ((this.#state as string) === 'stopped') {
      for (const resolve of this.#whenStopped.splice(0)) resolve();
      return;
    }
    this.#state = 'idle';
    if (this.#runAgain || nextAt <= this.#clock.now()) {
      this.#runAgain = false;
      this.#queue();
    } else this.#arm(Math.min(nextAt, this.#timerAt));
  };

  #arm(instant: number): void {
    if (instant === this.#timerAt) return;
    this.#disarm();
    if (instant === Number.POSITIVE_INFINITY) return;
    this.#timerAt = instant;
    this.#timer = this.#clock.at(instant, () => {
      this.#timer = undefined;
      this.#timerAt = Number.POSITIVE_INFINITY;
      if (this.#state !== 'idle') return this.wake();
      this.#state = 'queued';
      return this.#run();
    });
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
  }
}
