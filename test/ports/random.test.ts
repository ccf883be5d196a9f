import fc from 'fast-check';
import { v7 } from 'uuid';
import { expect, test } from 'vitest';
import { createIds, createWorkerId, type Random } from '../../src/ports/random.ts';

/** Fills the array with a byte, its successor, and so on. */
const from = (first: number): Random => ({
  fraction: () => 0,
  fill: (bytes) => bytes.set(bytes.map((_, i) => first + i)),
});

test('ids match those of the uuid package, for any instant, counter and random bytes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), fc.nat(255), fc.nat(2_000), (now, first, count) => {
      const newId = createIds(from(first));
      let id = '';
      for (let i = 0; i <= count; i++) id = newId(now);
      const random = new Uint8Array(16);
      from(first).fill(random.subarray(10));
      expect(id).toBe(v7({ msecs: now, seq: count, random }));
    }),
    { numRuns: 50 },
  );
});

test('ids sort in creation order, even when the clock steps back', () => {
  const newId = createIds(from(7));
  const ids = [1_000, 1_000, 1_001, 900, 1_001, 2_000].map(newId);
  expect(ids).toEqual([...ids].sort());
  expect(new Set(ids).size).toBe(ids.length);
});

test('the ids of workers are short and sort by time; those of one millisecond differ by their random part', () => {
  const at = Date.parse('2026-01-01T00:00:00Z');
  const ids = [0, 1, 40, 86_400_000].map((ms) => createWorkerId(from(1), at + ms));
  expect(ids[0]).toBe('mjuohs0012345');
  expect(ids.every((id) => /^[0-9a-z]{13}$/.test(id))).toBe(true);
  expect(ids).toEqual(ids.toSorted());
  expect(createWorkerId(from(2), at)).not.toBe(ids[0]);
  expect(createWorkerId(from(250), 0)).toMatch(/^0{8}[0-9a-z]{5}$/);
});
