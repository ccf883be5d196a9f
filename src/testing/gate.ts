/**
 * Holds the effects of attempts until the instant is quiet: their ends, their enqueues, the timers they set after real time has passed.
 * They then happen in the order in which the attempts started, whichever was faster.
 */

interface Held {
  readonly rank: number;
  readonly fn: () => void;
}

export class Gate {
  #held: Held[] = [];
  /** True while no real time has passed, because effects then happen in a fixed order anyway. */
  isOpen = true;
  /** Number of effects held so far. */
  count = 0;

  hold(rank: number, fn: () => void): void {
    this.count += 1;
    this.#held.push({ rank, fn });
  }

  get holds(): boolean {
    return this.#held.length > 0;
  }

  /** Releases the next held effect of one attempt; the gate stays as it is. */
  releaseOne(rank: number): void {
    const at = this.#held.findIndex((held) => held.rank === rank);
    const [first] = at < 0 ? [] : this.#held.splice(at, 1);
    first?.fn();
  }

  /**
   * Opens the gate and releases all held effects.
   * @returns whether there were any
   */
  release(): boolean {
    this.isOpen = true;
    if (this.#held.length === 0) return false;
    const held = this.#held;
    this.#held = [];
    // The sort is stable, so the effects of one attempt keep their order.
    for (const { fn } of held.sort((a, b) => a.rank - b.rank)) fn();
    return true;
  }
}
