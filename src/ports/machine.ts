/** Identifies this process in the registry of workers. */
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
