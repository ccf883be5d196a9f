/**
 * How a worker divides its slots among queues that it weighs. A queue has its share for as long as it has jobs; what others leave free is
 * anybody's. So a long line in one queue never keeps the jobs of another waiting for more than a slot to become free.
 */

/** A queue, and how many slots it may fill before others have their turn. */
export interface Share {
  readonly queue: string;
  readonly slots: number;
}

/**
 * The shares that are not used, those of the queues that use the least of theirs first. Every queue is owed at least one slot.
 * @param weights of each queue, greater than 0
 * @param running how many jobs of each queue run
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
