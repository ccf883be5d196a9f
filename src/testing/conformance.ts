/**
 * The conformance suite: what every store must do, law by law, for whoever writes one. It needs no test runner of its own, and asks the
 * store nothing but what the port promises; instants are constants, so it gives the same verdict on any day.
 */
import type { Awaitable, Store } from '../ports/store.ts';
import { blobs } from './conformance/blobs.ts';
import { claims } from './conformance/claims.ts';
import { keeping } from './conformance/inserts.ts';
import type { ConformanceCase } from './conformance/kit.ts';
import { leases } from './conformance/leases.ts';
import { limits } from './conformance/limits.ts';
import { operating } from './conformance/operate.ts';
import { reads } from './conformance/reads.ts';
import { schedules } from './conformance/schedules.ts';
import { settling } from './conformance/settle.ts';
import { unique } from './conformance/unique.ts';
import { waking } from './conformance/wake.ts';

export type { ConformanceCase } from './conformance/kit.ts';

/** Every case of every law of the store port. A case passes, or rejects with an `AssertionError`. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...claims,
  ...settling,
  ...leases,
  ...schedules,
  ...reads,
  ...keeping,
  ...blobs,
  ...operating,
  ...unique,
  ...limits,
  ...waking,
];

/** What the suite needs of a test runner: those of vitest, `node:test` and Jest fit. */
export interface ConformanceRunner {
  describe(name: string, fn: () => void): void;
  test(name: string, fn: () => Promise<void>): void;
}

/**
 * Registers every case with a test runner.
 * @param name the store's name, for the report
 * @param open gives a fresh, empty, migrated store; called once or twice for each case, never while an earlier one of the case is open
 * @example conformance('memory', () => new MemoryStore(), { describe, test })
 */
export function conformance(name: string, open: () => Awaitable<Store>, runner: ConformanceRunner): void {
  runner.describe(`the store ${name}`, () => {
    for (const { law, name: sentence, run } of conformanceCases) {
      runner.test(`${typeof law === 'number' ? `law ${law}` : law}: ${sentence}`, () => run(open));
    }
  });
}
