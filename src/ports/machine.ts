/** Identifies this process in the registry of workers, and wraps what the core needs from the runtime. */
import { hostname } from 'node:os';

export interface Machine {
  readonly host: string;
  readonly pid: number;
  /** The version of this package. */
  readonly version: string;
}

/** The version of this package; a test compares it with package.json. */
export const version = '0.1.0';

export const thisMachine: Machine = { host: hostname(), pid: process.pid, version };

/** The SHA-256 digest of a text, in hexadecimal. The module is loaded on first use: most applications never need it. */
export function digest(text: string): string {
  const { createHash } = process.getBuiltinModule('node:crypto');
  return createHash('sha256').update(text).digest('hex');
}
