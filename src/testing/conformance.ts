/**
 * The conformance suite: what every store must do, law by law, for authors of stores. It needs no particular test runner and relies only on
 * what the port promises. Instants are constants, so the result is the same on any day.
 */
import type { Awaitable, Store } from '../ports/store.ts';
import { blobs } from './conformance/blobs.ts';
import { claims } from './conformance/claims.ts';
import { keeping } from './conformance/inserts.ts';
import type { ConformanceCase } from './conformance/kit.ts';
import { leases } from './conformance/leases.ts';
import { limits } from './conformance/limits.ts';
import { notes } from './conformance/notes.ts';
import { operating } from './conformance/operate.ts';
import { reads } from './conformance/reads.ts';
import { schedules } from './conformance/schedules.ts';
import { settling } from './conformance/settle.ts';
import { steps } from './conformance/steps.ts';
import { unique } from './conformance/unique.ts';
import { waking } from './conformance/wake.ts';
import { workflows } from './conformance/workflows.ts';

export type { ConformanceCase } from './conformance/kit.ts';

/** All cases of all laws of the store port. A case passes or rejects with an `AssertionError`. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...claims,
  ...settling,
  ...leases,
  ...schedules,
  ...reads,
  ...keeping,
  ...blobs,
  ...notes,
  ...operating,
  ...unique,
  ...limits,
  ...steps,
  ...workflows,
  ...waking,
];

/** What the suite needs from a test runner; Vitest, `node:test` and Jest all provide it. */
export interface ConformanceRunner {
  describe(name: string, fn: () => void): void;
  test(name: string, fn: () => Promise<void>): void;
}

/**
 * Registers every case with a test runner.
 * @param name the store's name, for the report
 * @param open returns a fresh, empty, migrated store; called once or twice per case, never while an earlier store of the case is open
 * @example conformance('memory', () => new MemoryStore(), { describe, test })
 */
export function conformance(name: string, open: () => Awaitable<Store>, runner: ConformanceRunner): void {
  runner.describe(`the store ${name}`, () => {
    for (const { law, name: sentence, run } of conformanceCases) {
      runner.test(`${typeof law === 'number' ? `law ${law}` : law}: ${sentence}`, () => run(open));
    }
  });
}
