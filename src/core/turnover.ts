/**
 * A map whose entries are soon deleted again, for jobs in flight. V8 replaces the table of a map after some deletions, and the old table
 * refers to the new one. Once one table has become old, none of the later ones, nor the values in them, is freed before a full garbage
 * collection: with a plain map, a quarter of what a job allocates. This map copies itself to a new one instead.
 */

/** The map copies itself after this number of deletions, and as many as it has entries. */
const minDeletions = 32;

export class TurnoverMap<K, V> implements ReadonlyMap<K, V> {
  #map = new Map<K, V>();
  #deletions = 0;

  get size(): number {
    return this.#map.size;
  }

  get(key: K): V | undefined {
    return this.#map.get(key);
  }

  has(key: K): boolean {
    return this.#map.has(key);
  }

  set(key: K, value: V): this {
    // Not on deletion, because entries may be deleted while others iterate over the map.
    if (this.#deletions >= this.#map.size + minDeletions) {
      this.#map = new Map(this.#map);
      this.#deletions = 0;
    }
    this.#map.set(key, value);
    return this;
  }

  delete(key: K): boolean {
    const isDeleted = this.#map.delete(key);
    if (isDeleted) this.#deletions += 1;
    return isDeleted;
  }

  clear(): void {
    this.#map = new Map();
    this.#deletions = 0;
  }

  forEach(fn: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this) fn(value, key, this);
  }

  entries(): MapIterator<[K, V]> {
    return this.#map.entries();
  }

  keys(): MapIterator<K> {
    return this.#map.keys();
  }

  values(): MapIterator<V> {
    return this.#map.values();
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#map.entries();
  }
}
