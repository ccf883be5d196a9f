/** The names that each entry point exports. Adding a name is a feature; removing one is a breaking change. */
import { expect, test } from 'vitest';

test.each([
  'escapement',
  'escapement/sqlite',
  'escapement/postgres',
  'escapement/bullmq',
  'escapement/email',
  'escapement/testing',
  'escapement/vitest',
])('%s exports these names', async (entry) => {
  const names = Object.keys(await import(entry)).sort();
  expect(names).toMatchSnapshot();
});
