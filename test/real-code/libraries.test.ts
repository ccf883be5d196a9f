/** docs/libraries.md matches the cases. `ESCAPEMENT_TABLE=1 npm run test:real-code -- test/real-code/libraries.test.ts` rewrites it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { allCases, librariesDocument } from './libraries.ts';

const file = new URL('../../docs/libraries.md', import.meta.url);

test('docs/libraries.md is up to date', () => {
  if (process.env.ESCAPEMENT_TABLE) writeFileSync(file, librariesDocument());
  expect(readFileSync(file, 'utf8')).toBe(librariesDocument());
});

test('no case is listed twice', () => {
  const names = allCases.map(({ library, name }) => `${library}: ${name}`);
  expect(names).toEqual([...new Set(names)]);
});
