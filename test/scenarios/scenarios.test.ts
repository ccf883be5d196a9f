import { expect, test } from 'vitest';
import { storesOfKinds } from '../stores/stores.ts';
import { playOnEngine } from './engine-level.ts';
import { readScenarios } from './read.ts';
import { playOnStore } from './store-level.ts';

const scenarios = readScenarios();

test('there are at least thirty scenarios', () => {
  expect(scenarios.length).toBeGreaterThanOrEqual(30);
});

for (const source of storesOfKinds) {
  for (const scenario of scenarios) {
    test(`${source.label}: ${scenario.name} (${scenario.file})`, async () => {
      if (scenario.level === 'engine') await playOnEngine(scenario, source);
      else {
        const store = await source.open();
        await store.migrate();
        await playOnStore(scenario, store);
        await store.close();
      }
    });
  }
}
