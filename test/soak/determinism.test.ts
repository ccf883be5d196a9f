import { expect, test } from 'vitest';
import { playShop } from '../testing/determinism.ts';

const seeds = Array.from({ length: 200 }, (_, i) => 1_000 + i);

test.each(seeds)('seed %d: a week of the shop with crashes, played twice, produces identical bytes', { timeout: 120_000 }, async (seed) => {
  const first = await playShop(seed, 7 * 24);
  expect(await playShop(seed, 7 * 24)).toBe(first);
});
