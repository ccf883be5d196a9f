/**
 * The ready jobs of one line, in claim order. Most jobs arrive in the order in which they leave. These are kept in an array that is read
 * from the front; the others are kept in a heap. The next job is the better of the two fronts.
 */
import { Heap } from '../../core/heap.ts';

/** The position of an item: in the array at `rowAt`, in the heap at `heapAt`, or in neither (both -1). */
export interface Placed {
  rowAt: number;
  heapAt: number;
}

const compactFrom = 1_024;

export class ReadyLine<Item extends Placed> {
  readonly #before: (a: Item, b: Item) => boolean;
  readonly #heap: Heap<'heapAt', Item>;
  #row: (Item | undefined)[] = [];
  /** The front of the array; items before it have left. */
  #from = 0;
  /** Offset between `rowAt` and the array's indexes, which grows when the front is cut off. */
  #cut = 0;
  #last: Item | undefined;

  constructor(before: (a: Item, b: Item) => boolean) {
    this.#before = before;
    this.#heap = new Heap('heapAt', before);
  }

  push(item: Item): void {
    if (this.#last && this.#before(item, this.#last)) {
      this.#heap.push(item);
      return;
    }
    item.rowAt = this.#row.length + this.#cut;
    this.#row.push(item);
    this.#last = item;
  }

  peek(): Item | undefined {
    let front = this.#row[this.#from];
    while (front === undefined && this.#from < this.#row.length) {
      this.#from += 1;
      front = this.#row[this.#from];
    }
    if (this.#from > 0) this.#compact();
    if (this.#heap.size === 0) return front;
    const other = this.#heap.peek() as Item;
    return front === undefined || this.#before(other, front) ? other : front;
  }

  /** The items, in no particular order. */
  *items(): Iterable<Item> {
    for (let i = this.#from; i < this.#row.length; i++) {
      const item = this.#row[i];
      if (item !== undefined) yield item;
    }
    yield* this.#heap.items;
  }

  remove(item: Item): void {
    if (item.rowAt >= 0) {
      this.#row[item.rowAt - this.#cut] = undefined;
      item.rowAt = -1;
      if (this.#last === item) this.#trim();
    } else this.#heap.remove(item);
  }

  /** Drops removed items from the end, because new items are compared with the last one. */
  #trim(): void {
    while (this.#row.length > this.#from && this.#row.at(-1) === undefined) this.#row.pop();
    this.#last = this.#row.length > this.#from ? this.#row.at(-1) : undefined;
  }

  #compact(): void {
    if (this.#from === this.#row.length) {
      this.#cut += this.#from;
      this.#row = [];
      this.#from = 0;
    } else if (this.#from >= compactFrom && this.#from * 2 > this.#row.length) {
      this.#cut += this.#from;
      this.#row = this.#row.slice(this.#from);
      this.#from = 0;
    }
  }
}
