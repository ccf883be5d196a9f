/**
 * Finds leaks among the timers that ended attempts have left set. The housekeeping of a library is not a leak: a pool closes idle
 * connections after a while. A leak is a timer that the user's own code has set and that nothing can clear any more, because its handle has
 * been dropped. A pool keeps the handle, to clear the timer when it is used again.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Scope } from '../ports/clock.ts';
import { realSetImmediate } from '../ports/real.ts';
import type { Entry } from './entry.ts';
import { isUserCode, where } from './sites.ts';

export interface Leak {
  readonly scope: Scope;
  /** Where the timer was set. */
  readonly at: string;
}

/** A timer that may be a leak. */
export interface Suspect extends Leak {
  readonly handle: WeakRef<object> | undefined;
}

/** @param left timers that were removed from the clock and that are only referenced by the code under suspicion */
export function suspectsAmong(left: readonly Entry[]): Suspect[] {
  // Stacks are not kept, because their frames hold references to what was called.
  return left
    .filter(({ site }) => isUserCode(site))
    .map(({ owner, site, handle }) => ({
      scope: (owner as { readonly scope: Scope }).scope,
      at: where(site),
      handle: handle && new WeakRef(handle),
    }));
}

/** The suspects that nothing can clear any more. */
export async function leaksAmong(suspects: readonly Suspect[]): Promise<readonly Leak[]> {
  if (!suspects.some(({ handle }) => handle)) return suspects;
  // Twice: a collection in progress keeps what it has seen, and objects accessed in a turn of the event loop are kept until its end.
  for (let i = 0; i < 2; i++) {
    await new Promise<void>((resolve) => realSetImmediate(resolve));
    collectGarbage();
  }
  return suspects.filter(({ handle }) => handle?.deref() === undefined);
}

let gc: (() => void) | undefined;

function collectGarbage(): void {
  if (!gc) {
    setFlagsFromString('--expose-gc');
    gc = globalThis.gc ?? (runInNewContext('gc') as () => void);
    setFlagsFromString('--no-expose-gc');
  }
  gc();
}
