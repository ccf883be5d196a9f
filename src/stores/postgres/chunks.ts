/** Splits writes into several statements, because both V8 and the server limit the length of a text. */
import type { Job } from '../../core/types.ts';

/** The maximum number of characters in a statement, unless a single job has more. */
export const maxTextLength: number = 16 * 1024 * 1024;
/** The approximate size of a job without its input. */
const besideInput = 300;

/** @param maxItems maximum number of items per chunk */
export function chunks<Item>(items: readonly Item[], maxItems: number, size: (item: Item) => number): Item[][] {
  const found: Item[][] = [];
  let last: Item[] = [];
  let total = 0;
  for (const item of items) {
    const more = size(item);
    if (last.length === 0 || last.length === maxItems || total + more > maxTextLength) {
      last = [];
      total = 0;
      found.push(last);
    }
    last.push(item);
    total += more;
  }
  return found;
}

export function sizeOf(job: Job): number {
  return besideInput + (job.input?.length ?? 0);
}
