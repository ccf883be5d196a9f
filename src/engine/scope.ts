/**
 * Tracks which attempt the running code belongs to, across every await below a task's function. A simulation uses it to find the owner of a
 * timer; a worker uses it to attribute an unhandled rejection to its job.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Scope } from '../ports/clock.ts';

// Shared by all copies of this package in the process: the worker of one copy may look up an attempt of another.
const key = Symbol.for('escapement.scope');
const home = globalThis as { [key]?: AsyncLocalStorage<Scope> };
home[key] ??= new AsyncLocalStorage<Scope>();
export const scope: AsyncLocalStorage<Scope> = home[key];

/** Calls a function outside any attempt, passing the attempt from which it was called. */
export function outside(call: (attempt: Scope | undefined) => void): void {
  const attempt = scope.getStore();
  if (attempt === undefined) call(undefined);
  else scope.exit(call, attempt);
}

/** The id of the job whose attempt the running code belongs to; null outside any. Code run by `call` belongs to no job. */
export function enqueuing(): string | null {
  let current = scope.getStore();
  while (current?.worker === 'call') current = current.parent;
  return current?.id ?? null;
}
