/**
 * The one way in which an engine waits: a step runs, says when it wants to run next, and the loop sleeps until then or until it is woken.
 * The loop owns waiting, the step owns work. Steps never overlap. A step that throws is tried again after a growing delay: a loop never dies.
 *
 * A loop is idle (perhaps with a timer armed), queued (its step runs in a moment) or running. A wake-up while it is queued changes nothing;
 * while it runs, it runs once more.
 */
import type { Clock, Timer } from '../ports/clock.ts';
import { scope } from './scope.ts';

/** Does what is due and returns the next instant at which there may be something to do; Infinity: only when woken. */
export type Step = () => Promise<number>;

const firstRetryMs = 100;
/** So that work goes on within 5 s of the store's answering again. */
const longestRetryMs = 3_000;

export class Loop {
  readonly #clock: Clock;
  readonly #step: Step;
  readonly #failing: (error: unknown, first: boolean) => void;
  readonly #recovered: () => void;
  #state: 'stopped' | 'idle' | 'queued' | 'running' = 'stopped';
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #again = false;
  #failures = 0;
  #whenStopped: (() => void)[] = [];

  /**
   * @param failing told of every error of the step, and whether it is the first in a row
   * @param recovered told when a step succeeds after failures
   */
  constructor(clock: Clock, step: Step, failing: (error: unknown, first: boolean) => void, recovered: () => void) {
    this.#clock = clock;
    this.#step = step;
    this.#failing = failing;
    this.#recovered = recovered;
  }

  start(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'idle';
    this.wake();
  }

  /** Runs the step in a moment, or once more if it is running. */
  wake(): void {
    if (this.#state === 'idle') this.#queue();
    else if (this.#state === 'running') this.#again = true;
  }

  /** Runs the step at this instant at the latest. */
  wakeAt(instant: number): void {
    if (this.#state === 'stopped') return;
    const now = this.#clock.now();
    // A timer that the clock was set past is due, though it has not fired.
    if (instant >= this.#timerAt && this.#timerAt >= now) return;
    if (instant <= now || this.#timerAt < now) this.wake();
    // A task that enqueues calls this from within its attempt; the timer is not its own.
    else if (scope.getStore()) scope.exit(() => this.#arm(instant));
    else this.#arm(instant);
  }

  /** Forgets the next instant: nothing but a wake-up runs the step. */
  rest(): void {
    this.#disarm();
  }

  /** No step begins after this; resolves when a running one has ended. */
  async stop(): Promise<void> {
    const running = this.#state === 'running';
    this.#state = 'stopped';
    this.#again = false;
    this.#disarm();
    if (running) await new Promise<void>((resolve) => this.#whenStopped.push(resolve));
  }

  /** Stops, and runs the step once more; what it throws is told, and not tried again. */
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
      // What was asked for meanwhile waits for the retry too: a failing store is not to be hammered.
      this.#again = false;
    }
    // `stop` may have been called while the step ran.
    if ((this.#state as string) === 'stopped') {
      for (const resolve of this.#whenStopped.splice(0)) resolve();
      return;
    }
    this.#state = 'idle';
    if (this.#again || nextAt <= this.#clock.now()) {
      this.#again = false;
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
