/**
 * Divides a worker's slots among weighted queues. A queue keeps its share for as long as it has jobs; unused shares are available to the
 * others. A backlog in one queue therefore delays jobs of another queue by no more than the time until a slot becomes free.
 */

/** A queue, and the number of slots it may fill before other queues are considered. */
export interface Share {
  readonly queue: string;
  readonly slots: number;
}

/**
 * The unused shares; queues that use the least of theirs come first. Every queue gets at least one slot.
 * @param weights of each queue, greater than 0
 * @param running number of running jobs per queue
 */
export function owed(weights: ReadonlyMap<string, number>, concurrency: number, running: ReadonlyMap<string, number>): Share[] {
  const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
  return [...weights]
    .map(([queue, weight]) => {
      const used = running.get(queue) ?? 0;
      return { queue, slots: Math.max(1, Math.floor((concurrency * weight) / total)) - used, load: used / weight, weight };
    })
    .filter(({ slots }) => slots > 0)
    .sort((a, b) => a.load - b.load || b.weight - a.weight)
    .map(({ queue, slots }) => ({ queue, slots }));
}
