/**
 * Where what attempts do waits until the instant is quiet: their ends, their enqueues, the timers that they set once real time has passed. Then it
 * happens in the order in which the attempts started, whichever of them was faster.
 */

interface Held {
  readonly rank: number;
  readonly fn: () => void;
}

export class Gate {
  #held: Held[] = [];
  /** True as long as no real time has passed: what happens then is in order as it is. */
  isOpen = true;
  /** How much has been held so far. */
  count = 0;

  hold(rank: number, fn: () => void): void {
    this.count += 1;
    this.#held.push({ rank, fn });
  }

  get holds(): boolean {
    return this.#held.length > 0;
  }

  /** The next thing that was held of one attempt happens; the gate stays as it is. */
  releaseOne(rank: number): void {
    const at = this.#held.findIndex((held) => held.rank === rank);
    const [first] = at < 0 ? [] : this.#held.splice(at, 1);
    first?.fn();
  }

  /** Opens; what was held happens. @returns whether anything was */
  release(): boolean {
    this.isOpen = true;
    if (this.#held.length === 0) return false;
    const held = this.#held;
    this.#held = [];
    // The sort is stable: what one attempt does keeps its order.
    for (const { fn } of held.sort((a, b) => a.rank - b.rank)) fn();
    return true;
  }
}
