import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TurnoverMap } from '../../src/core/turnover.ts';

test('behaves like a Map', () => {
  const operations = fc.array(fc.tuple(fc.constantFrom('set', 'delete', 'clear'), fc.nat(40), fc.nat()), { maxLength: 600 });
  fc.assert(
    fc.property(operations, (list) => {
      const map = new TurnoverMap<number, number>();
      const model = new Map<number, number>();
      for (const [operation, key, value] of list) {
        // Rarely, so that the map grows.
        if (operation === 'clear' && value % 50 === 0) {
          map.clear();
          model.clear();
        } else if (operation === 'set') {
          map.set(key, value);
          model.set(key, value);
        } else expect(map.delete(key)).toBe(model.delete(key));
        expect([map.size, map.get(key), map.has(key)]).toEqual([model.size, model.get(key), model.has(key)]);
      }
      expect([...map]).toEqual([...model]);
      expect([[...map.keys()], [...map.values()], [...map.entries()]]).toEqual([[...model.keys()], [...model.values()], [...model]]);
    }),
  );
});

test('entries deleted during an iteration are not visited', () => {
  const map = new TurnoverMap<number, string>();
  for (let i = 0; i < 200; i++) map.set(i, `job ${i}`);
  const visited: number[] = [];
  map.forEach((_, key) => {
    visited.push(key);
    for (let other = 1; other < 200; other++) map.delete(other);
  });
  expect(visited).toEqual([0]);
});
