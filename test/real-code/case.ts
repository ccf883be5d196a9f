/**
 * A case of the real-code matrix: a common use of a library inside a task, and the result expected in virtual time. `matrix.ts` runs the
 * cases, and `libraries.ts` generates the table in docs/libraries.md from them.
 */
import type { Duration, TaskContext } from 'escapement';

export type Run = (input: number, ctx: TaskContext) => unknown;

/** What a case needs before and after the simulation, such as a module-level client. */
export interface Prepared {
  readonly run: Run;
  close?(): unknown;
}

export interface Case {
  /** The package, or the module of Node.js. */
  readonly library: string;
  /** What the case tries, in words for the table. */
  readonly name: string;
  /** A server that must be running; see `npm run test:real-code`. */
  readonly needs?: 'postgres' | 'redis';
  /** The task, if nothing has to exist outside it. */
  readonly run?: Run;
  /** Prepares a task; called once per test, before the first simulation, with real time. */
  setup?(): Promise<Prepared> | Prepared;
  /** What the task returns. */
  readonly expect?: unknown;
  /** The name of the error that the task fails with, instead of `expect`. */
  readonly fails?: string;
  /** The simulation rejects with a SimulationError that matches. */
  readonly refused?: RegExp;
  /** Virtual milliseconds from the start to the end of the job. @default 0 */
  readonly at?: number;
  /** Instead of `at`, if the library does not promise an exact time: from … to. */
  readonly between?: readonly [number, number];
  /** Wraps the call that drives the simulation. */
  readonly driver?: (drive: () => Promise<void>) => Promise<void>;
  /** The task's timeout. @default none; '30s' in the variant with a timeout */
  readonly timeout?: Duration;
  /** Waits for something that does not happen, so the simulation may use up its real budget and add a note. */
  readonly never?: boolean;
  /** Variants that do not apply to this case. */
  readonly without?: readonly Variant[];
  /** False: cannot run on a real worker. */
  readonly real?: boolean;
  /** What users have to do, for the table. @default nothing */
  readonly advice?: string;
}

/** How a case runs: alone, with a task timeout, beside a job that sleeps for an hour, or as three jobs on three workers with a seed. */
export const variants = ['plain', 'timeout', 'sleeper', 'seeded'] as const;
export type Variant = (typeof variants)[number];

/** True if the cases run on a real worker instead of in virtual time. */
export const onRealWorker = process.env.ESCAPEMENT_REAL === '1';

/** Elapsed milliseconds: exact in virtual time, to the nearest half second on a real worker. */
export const elapsed = (ms: number): number => (onRealWorker ? Math.round(ms / 500) * 500 : ms);
