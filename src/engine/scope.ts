/**
 * Which attempt the running code belongs to: known anywhere below a task's function, through every await. A simulation reads it to tell
 * whose timers are whose; a worker reads it to give a stray rejection to its job.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Scope } from '../ports/clock.ts';

// One for all copies of this package in the process: the worker of one may ask about an attempt of another.
const key = Symbol.for('escapement.scope');
const home = globalThis as { [key]?: AsyncLocalStorage<Scope> };
home[key] ??= new AsyncLocalStorage<Scope>();
export const scope: AsyncLocalStorage<Scope> = home[key];

/** Calls a function outside of any attempt, with the one that it was called in. */
export function outside(call: (attempt: Scope | undefined) => void): void {
  const attempt = scope.getStore();
  if (attempt === undefined) call(undefined);
  else scope.exit(call, attempt);
}

/** The job whose attempt the running code belongs to; null outside of any. What `call` runs is no job. */
export function enqueuing(): string | null {
  let current = scope.getStore();
  while (current?.worker === 'call') current = current.parent;
  return current?.id ?? null;
}
