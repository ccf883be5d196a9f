/**
 * A binary heap whose items store their own index, so that any item can be removed or moved in O(log n). The memory store uses it for its
 * indexes, and the virtual clock for its timers. An item has one index field for each heap that can contain it.
 */
export class Heap<Place extends string, Item extends { [P in Place]: number }> {
  readonly #items: Item[] = [];
  readonly #place: Place;
  readonly #before: (a: Item, b: Item) => boolean;

  /**
   * @param place the name of the field that holds an item's index in this heap; -1 if the item is not in it
   * @param before a strict total order: true if `a` comes before `b`
   */
  constructor(place: Place, before: (a: Item, b: Item) => boolean) {
    this.#place = place;
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): Item | undefined {
    return this.#items[0];
  }

  /** The items in no particular order, for counting and listing. Do not modify. */
  get items(): readonly Item[] {
    return this.#items;
  }

  push(item: Item): void {
    this.#items.push(item);
    this.#up(item, this.#items.length - 1);
  }

  pop(): Item | undefined {
    const first = this.#items[0];
    if (first) this.remove(first);
    return first;
  }

  remove(item: Item): void {
    const at = item[this.#place];
    if (at < 0) return;
    const last = this.#items.pop() as Item;
    (item as { [P in Place]: number })[this.#place] = -1 as Item[Place];
    if (last !== item) {
      this.#down(last, at);
      this.#up(last, last[this.#place]);
    }
  }

  /** Restores the heap order after an item's key has changed. */
  moved(item: Item): void {
    this.#down(item, item[this.#place]);
    this.#up(item, item[this.#place]);
  }

  #set(item: Item, at: number): void {
    this.#items[at] = item;
    (item as { [P in Place]: number })[this.#place] = at as Item[Place];
  }

  #up(item: Item, from: number): void {
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = this.#items[parentAt] as Item;
      if (!this.#before(item, parent)) break;
      this.#set(parent, at);
      at = parentAt;
    }
    this.#set(item, at);
  }

  #down(item: Item, from: number): void {
    const items = this.#items;
    const length = items.length;
    let at = from;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= length) break;
      let child = items[childAt] as Item;
      const right = items[childAt + 1];
      if (right !== undefined && this.#before(right, child)) {
        child = right;
        childAt += 1;
      }
      if (!this.#before(child, item)) break;
      this.#set(child, at);
      at = childAt;
    }
    this.#set(item, at);
  }
}
