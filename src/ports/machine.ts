/** Who runs this process, for the registry of workers, and what the runtime does for it. */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';

export interface Machine {
  readonly host: string;
  readonly pid: number;
  /** Of this package. */
  readonly version: string;
}

/** The version of this package; a test compares it with package.json. */
export const version = '0.1.0';

export const thisMachine: Machine = { host: hostname(), pid: process.pid, version };

/** A text of 64 characters that stands for a longer one. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
