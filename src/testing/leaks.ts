/**
 * Which of the timers that ended attempts have left armed are leaks. A library's housekeeping is none: a pool closes what is idle after a while.
 * So a leak is a timer that the user's own code has set, and that nobody can clear any more: what it was given to clear it by has been dropped.
 * A pool keeps that, to clear the timer at its next use.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Scope } from '../ports/clock.ts';
import { realSetImmediate } from '../ports/real.ts';
import type { Entry } from './entry.ts';
import { isUsers, where } from './sites.ts';

export interface Leak {
  readonly scope: Scope;
  /** Where the timer was set. */
  readonly at: string;
}

/** A timer that may be a leak. */
export interface Suspect extends Leak {
  readonly handle: WeakRef<object> | undefined;
}

/** @param left timers that were taken out of the clock, and that nobody holds but those who are to be found out */
export function suspectsAmong(left: readonly Entry[]): Suspect[] {
  // Stacks are not kept: their frames hold what was called.
  return left
    .filter(({ site }) => isUsers(site))
    .map(({ owner, site, handle }) => ({
      scope: (owner as { readonly scope: Scope }).scope,
      at: where(site),
      handle: handle && new WeakRef(handle),
    }));
}

/** Those that nobody can clear any more. */
export async function leaksAmong(suspects: readonly Suspect[]): Promise<readonly Leak[]> {
  if (!suspects.some(({ handle }) => handle)) return suspects;
  // Twice: a collection that was under way already keeps what it had seen. What was looked at in a turn of the event loop is kept until its end.
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
