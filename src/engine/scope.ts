/**
 * Which attempt the running code belongs to: known anywhere below a task's function, through every await. A simulation reads it to tell
 * whose timers are whose; a worker reads it to give a stray rejection to its job.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Scope } from '../ports/clock.ts';

export const scope = new AsyncLocalStorage<Scope>();
