/**
 * Groups enqueues that are made in the same tick into a single commit, so that they wait for the disk only once. If one of them is invalid,
 * only that one fails. If the lock, the disk or its free space is the problem, all of them fail.
 */
import { StoreError } from '../../core/errors.ts';
import type { Job } from '../../core/types.ts';
import { systemClock } from '../../ports/clock.ts';
import type { Awaitable, Taken } from '../../ports/store.ts';
import type { InsertOptions, Work } from './work.ts';

/** An enqueue that is waiting for its group. */
interface Pending {
  readonly jobs: readonly Job[];
  readonly now: number;
  readonly more: InsertOptions;
  resolve(taken: Taken | undefined): void;
  reject(error: unknown): void;
}

interface Options {
  /** Runs `fn` in a write transaction, and `after` once it is committed. */
  write<T>(fn: (work: Work) => T, after?: (value: T) => void): Awaitable<T>;
  inserted(jobs: readonly Job[]): void;
  /** Converts an error to an error of the engine. */
  error(error: unknown): unknown;
  /** Whether to yield to the event loop. */
  readonly turns: boolean;
}

/** Yields to the event loop after this many jobs, which takes a few milliseconds … */
const jobsPerTurn = 512;
/** … counting each commit as this many jobs. */
const jobsPerCommit = 16;

export class Enqueues {
  readonly #options: Options;
  #pending: Pending[] = [];
  #sinceTurn = 0;

  constructor(options: Options) {
    this.#options = options;
  }

  add(jobs: readonly Job[], now: number, more: InsertOptions): Promise<Taken | undefined> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ jobs, now, more, resolve, reject });
      this.#sinceTurn += jobsPerCommit + jobs.length;
      if (this.#pending.length > 1) return;
      // A caller that awaits one enqueue after another would otherwise block the event loop.
      if (this.#options.turns && this.#sinceTurn >= jobsPerTurn) {
        this.#sinceTurn = 0;
        systemClock.soon(() => this.flush());
      } else queueMicrotask(() => this.flush());
    });
  }

  /** Commits the waiting enqueues now. */
  flush(): void {
    const group = this.#pending;
    if (group.length === 0) return;
    this.#pending = [];
    const insert = (work: Work) => group.map(({ jobs, now, more }) => work.insert(jobs, now, more));
    try {
      const done = this.#options.write(insert, (taken) => this.#acknowledge(group, taken));
      if (done instanceof Promise) done.catch((error) => this.#failed(group, error));
    } catch (error) {
      this.#failed(group, error);
    }
  }

  #failed(group: readonly Pending[], error: unknown): void {
    if (group.length === 1 || !isCallersError(error)) for (const { reject } of group) reject(error);
    else void this.#insertEach(group);
  }

  async #insertEach(group: readonly Pending[]): Promise<void> {
    try {
      const ends = await this.#options.write((work) =>
        group.map((pending) => {
          let taken: Taken | undefined;
          const fault = work.inSavepoint(() => {
            taken = work.insert(pending.jobs, pending.now, pending.more);
          });
          return { pending, fault, taken };
        }),
      );
      for (const { pending, fault } of ends) if (fault) pending.reject(this.#options.error(fault.error));
      const kept = ends.filter(({ fault }) => !fault);
      this.#acknowledge(
        kept.map(({ pending }) => pending),
        kept.map(({ taken }) => taken),
      );
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }

  #acknowledge(group: readonly Pending[], taken: readonly (Taken | undefined)[]): void {
    const [only] = group;
    if (only) this.#options.inserted(group.length === 1 ? only.jobs : group.flatMap(({ jobs }) => jobs));
    for (const [i, { resolve }] of group.entries()) resolve(taken[i]);
  }
}

/** True for errors caused by one enqueue of a group. Other errors affect the whole group. */
function isCallersError(error: unknown): boolean {
  return !(error instanceof StoreError) || error.kind === 'conflict' || error.kind === 'invalid';
}
