/** Seeds, interleavings and faults in virtual time on a real server. */
import type { StoreSource } from 'escapement';
import { explore } from 'escapement/testing';
import { expect, test } from 'vitest';
import { explored } from '../../fixtures/explored.ts';
import { emptyPostgres } from '../stores/postgres-server.ts';

const soak = Boolean(process.env.ESCAPEMENT_SOAK);

test('engine invariants hold under every fault', { timeout: 900_000 }, async () => {
  const { tasks, scenario } = soak ? explored(20, 5) : explored(8, 3);
  const seeds = soak ? 200 : 6;
  const store: StoreSource = emptyPostgres();
  expect((await explore(tasks, { seeds, store }, scenario)).seeds).toBe(seeds);
});
