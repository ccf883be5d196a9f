import { expect, test } from 'vitest';
import { playShop } from './determinism.ts';

test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])(
  'seed %d: a day of the shop with crashes, played twice, produces identical bytes',
  async (seed) => {
    const first = await playShop(seed, 24);
    expect(first.split('\n').length).toBeGreaterThan(300);
    expect(await playShop(seed, 24)).toBe(first);
  },
);

test('different seeds produce different days', async () => {
  expect(await playShop(11, 24)).not.toBe(await playShop(12, 24));
});
