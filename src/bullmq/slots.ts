/** The slots of a worker. Each of its BullMQ queues fetches jobs independently; the slots limit how many of them run at a time. */
export class Slots {
  #freeSlots: number;
  readonly #waiting: ((isFree: boolean) => void)[] = [];
  #closed = false;

  constructor(count: number) {
    this.#freeSlots = count;
  }

  /** Takes a slot once one is free and resolves to true; resolves to false once the worker stops. */
  take(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (this.#freeSlots > 0) {
      this.#freeSlots -= 1;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next) next(true);
    else this.#freeSlots += 1;
  }

  /** Hands out no more slots. */
  close(): void {
    this.#closed = true;
    for (const resolve of this.#waiting.splice(0)) resolve(false);
  }
}
