/** Rejects options that a backend without the engine does not support (`BackendSupports.engine`). */
import type { ConfigFault } from './core/errors.ts';
import type { Limit } from './core/gate.ts';
import type { Backend } from './ports/backend.ts';

/** The fault of an option that needs the engine. */
export function beyond(path: string, what: string, alias: string, { name }: Pick<Backend, 'name'>): ConfigFault {
  const expected = 'it to be omitted, or a backend that runs the engine, such as postgres() or sqlite()';
  return { path, expected, got: `backend ${alias}, which is ${name}() and does not support ${what}` };
}

export function isLimited(limit: Limit | undefined): boolean {
  return Object.values(limit ?? {}).some((value) => value !== undefined);
}
