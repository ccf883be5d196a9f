/** The baseline: a binary heap filled with events, each popped and its empty async handler awaited. No engine can be faster than this. */

/** The real clock, captured before a simulation replaces it. */
export const realNow = performance.now.bind(performance);

interface BareEvent {
  readonly at: number;
  readonly run: () => Promise<void>;
}

/** Returns the milliseconds for `count` events. */
export async function bareLoop(count: number): Promise<number> {
  const heap: BareEvent[] = [];
  const run = async () => {};
  const startedAt = realNow();
  for (let i = 0; i < count; i++) push(heap, { at: i * 60_000, run });
  for (let event = pop(heap); event; event = pop(heap)) await event.run();
  return realNow() - startedAt;
}

function push(heap: BareEvent[], event: BareEvent): void {
  let at = heap.length;
  heap.push(event);
  while (at > 0) {
    const parentAt = (at - 1) >> 1;
    const parent = heap[parentAt] as BareEvent;
    if (parent.at <= event.at) break;
    heap[at] = parent;
    at = parentAt;
  }
  heap[at] = event;
}

function pop(heap: BareEvent[]): BareEvent | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (!first || !last || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let childAt = 2 * at + 1;
    const left = heap[childAt];
    if (!left) break;
    const right = heap[childAt + 1];
    if (right && right.at < left.at) childAt += 1;
    const child = heap[childAt] as BareEvent;
    if (child.at >= last.at) break;
    heap[at] = child;
    at = childAt;
  }
  heap[at] = last;
  return first;
}
