/** Divides what is written into statements: neither V8 nor the server takes a text of any length. */
import type { Job } from '../../core/types.ts';

/** How many characters one statement is given, unless a single job has more. */
export const mostText: number = 16 * 1024 * 1024;
/** About what a job has beside its input. */
const besideInput = 300;

/** @param most how many items a chunk has at most */
export function chunks<Item>(items: readonly Item[], most: number, size: (item: Item) => number): Item[][] {
  const found: Item[][] = [];
  let last: Item[] = [];
  let total = 0;
  for (const item of items) {
    const more = size(item);
    if (last.length === 0 || last.length === most || total + more > mostText) {
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
