import { expect, test } from 'vitest';
import { play } from './operations.ts';

// ESCAPEMENT_SEEDS=5000 plays more seeds.
const seeds = Number(process.env.ESCAPEMENT_SEEDS ?? (process.env.ESCAPEMENT_LONG ? 50 : 6));
const from = Number(process.env.ESCAPEMENT_SEED ?? 0);

test(`invariants hold under random operations and faults: ${seeds} seeds, each played twice with the same result`, {
  timeout: 3_600_000,
}, async () => {
  for (let seed = from; seed < from + seeds; seed++) {
    const first = await play(seed);
    expect(first.problems, `seed ${seed}\n${first.problems.length ? first.trace : ''}`).toEqual([]);
    expect((await play(seed)).trace, `seed ${seed}, played again`).toBe(first.trace);
  }
});
