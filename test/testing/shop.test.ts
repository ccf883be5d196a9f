/**
 * Explores the shop. Its gateway charges each key once. With a planted bug, a common mistake, the key differs between attempts, and a crash
 * between the charge and its record charges the customer twice.
 */
import { explore, type Scenario } from 'escapement/testing';
import { afterEach, expect, test, vi } from 'vitest';
import type { Capture } from '../../fixtures/shop/gateway.ts';
import { orders } from '../../fixtures/shop/orders.ts';
import { reserveStock, tasks } from '../../fixtures/shop/tasks.ts';
import { world } from '../../fixtures/shop/world.ts';

let keyOf = ({ key }: Capture): string => key;
vi.mock('../../fixtures/shop/gateway.ts', async (load) => {
  const real = await load<typeof import('../../fixtures/shop/gateway.ts')>();
  const capture: typeof real.capture = (request, options) => real.capture({ ...request, key: keyOf(request) }, options);
  return { ...real, capture };
});
afterEach(() => {
  keyOf = ({ key }) => key;
});

const customers = orders.filter(({ card, abandoned }) => card === 'tok_visa' && !abandoned).slice(0, 1);
const scenario: Scenario = async (sim) => {
  world.reset(sim.now);
  for (const { id } of customers) {
    world.statuses.set(id, 'placed');
    await reserveStock.enqueue({ order: id });
  }
  return () => {
    // A job that crashes three times in a row fails, so not every customer is charged. But no one is charged twice.
    for (const { id } of customers) {
      const charges = world.charges.filter(({ order }) => order === id);
      expect(charges.length, `charges of order ${id}`).toBeLessThan(2);
    }
  };
};

test('no customer is charged twice, whatever fails', async () => {
  await explore(tasks, { seeds: 30 }, scenario);
});

test('an idempotency key that differs between attempts charges twice, and one fault reveals it', async () => {
  let attempts = 0;
  keyOf = ({ key }) => `${key}/${++attempts}`;
  const found = await explore(tasks, { seeds: 500 }, scenario).then(
    () => 'nothing was found',
    (error: Error) => error.message,
  );
  if (process.env.ESCAPEMENT_TABLE) console.log(found);
  expect(found).toMatch(/^AssertionError: charges of order \d+: expected 2 to be less than 2/);
  expect(found).toMatch(/shrunk from \d+ to 1 decision:\n {2}w0\.(insert|settle|run) #\d+: \d+\n/);
});
