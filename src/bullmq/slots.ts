/** The slots of a worker. Its queues of BullMQ each fetch jobs by themselves; the slots limit how many of these run at a time. */
export class Slots {
  #free: number;
  readonly #waiting: ((isFree: boolean) => void)[] = [];
  #closed = false;

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves to true once there is a free place, which the caller then has; false once the worker stops. */
  take(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next) next(true);
    else this.#free += 1;
  }

  /** No more places are given. */
  close(): void {
    this.#closed = true;
    for (const resolve of this.#waiting.splice(0)) resolve(false);
  }
}
