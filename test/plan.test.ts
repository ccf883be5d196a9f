/** The model of `bench/plan`: known values of Erlang's formula, and properties of plans. */
import { expect, test } from 'vitest';
import { type Costs, erlangC, plan, waitMs } from '../bench/plan/model.ts';

const costs: Costs = {
  pickUpMs: 4,
  callMs: 5,
  node: { job: 60, call: 1_900 },
  server: { job: 100, call: 3_500 },
  enqueue: { job: 100, call: 1_200 },
};
const load = { arrivals: 200, serviceMs: 50, variation: 1, p95Ms: 100 };

test.each([
  [1, 0.5, 0.5],
  [2, 1, 1 / 3],
  [10, 8, 0.4092],
  [100, 90, 0.2169],
])('of jobs for %i slots with %d Erlangs, this fraction waits', (slots, erlangs, part) => {
  expect(erlangC(slots, erlangs)).toBeCloseTo(part, 4);
});

test('with one slot, waiting times are exponential', () => {
  const one = { arrivals: 5, serviceMs: 100, variation: 1, p95Ms: 1_000 };
  // P(wait > t) = 0.5 × exp(-t / 200 ms)
  expect(waitMs(0.95, 1, one, 0)).toBeCloseTo(200 * Math.log(10), 6);
  expect(waitMs(0.5, 1, one, 0)).toBe(0);
  expect(waitMs(0.95, 1, { ...one, variation: 0 }, 0)).toBeCloseTo(100 * Math.log(10), 6);
  expect(waitMs(0.95, 1, { ...one, arrivals: 10 }, 0)).toBe(Number.POSITIVE_INFINITY);
});

test('a plan meets the waiting time with the fewest slots, within the utilization limit', () => {
  const { slots, processes, waitMs: waits, utilization } = plan(load, costs, 100);
  expect([slots, processes]).toEqual([15, 1]);
  expect(waits.p95).toBeLessThanOrEqual(100);
  expect(utilization).toBeLessThan(0.85);
  const strict = plan({ ...load, p95Ms: 10 }, costs, 100);
  expect(strict.waitMs.p95).toBeLessThanOrEqual(10);
  expect(costs.pickUpMs + waitMs(0.95, strict.slots - 1, load, 2 * costs.callMs)).toBeGreaterThan(10);
});

test('a plan adds processes if their CPU would be too busy', () => {
  const { slots, processes, node } = plan({ arrivals: 20_000, serviceMs: 1, variation: 1, p95Ms: 50 }, costs, 1_000);
  expect(processes).toBeGreaterThan(Math.ceil(slots / 1_000));
  expect(node.cores / processes).toBeLessThanOrEqual(0.7);
});
