/**
 * How far the server's clock is ahead of this machine's. Workers on several machines compare instants, so all of them follow the server's
 * clock. The difference is measured when the store is opened, and every few seconds while the time is being read.
 */
import { systemClock } from '../../ports/clock.ts';

const measureEveryMs = 10_000;
/** Synchronized clocks differ by less. */
const toleranceMs = 100;
/** If this machine's clock moves by this much relative to the monotonic clock, it was set or the machine was suspended. */
const stepMs = 1_000;

export interface Measurement {
  /** The server's clock at some time during the call. */
  readonly serverAt: number;
  /** How long the call took. */
  readonly tookMs: number;
}

export class ServerClock {
  readonly #measure: () => Promise<Measurement>;
  #aheadMs = 0;
  #measuredAt = Number.NEGATIVE_INFINITY;
  #machineAheadMs = 0;
  #isMeasuring = false;

  /** @param measure asks the server for the time */
  constructor(measure: () => Promise<Measurement>) {
    this.#measure = measure;
  }

  /** The last measured difference, in milliseconds. Starts a new measurement if the last one is old. */
  get aheadMs(): number {
    const monotonic = systemClock.monotonic();
    const hasStepped = Math.abs(systemClock.now() - monotonic - this.#machineAheadMs) >= stepMs;
    if ((hasStepped || monotonic - this.#measuredAt >= measureEveryMs) && !this.#isMeasuring) void this.measure().catch(() => {});
    return this.#aheadMs;
  }

  async measure(): Promise<void> {
    this.#isMeasuring = true;
    try {
      this.#adopt(await this.#measure());
    } finally {
      // A failed measurement is not repeated at once.
      this.#measuredAt = systemClock.monotonic();
      this.#machineAheadMs = systemClock.now() - this.#measuredAt;
      this.#isMeasuring = false;
    }
  }

  /** Ignores a difference that the duration of the call can explain. */
  #adopt({ serverAt, tookMs }: Measurement): void {
    const found = serverAt + tookMs / 2 - systemClock.now();
    if (Math.abs(found - this.#aheadMs) <= toleranceMs + tookMs / 2) return;
    this.#aheadMs = Math.abs(found) <= toleranceMs + tookMs / 2 ? 0 : Math.round(found);
  }
}
