/** PostgreSQL and Redis in tasks. Needs both servers: `npm run test:real-code` starts them, and these tests are skipped without them. */
import 'escapement/testing';
import { test } from 'vitest';
import { databaseCases } from './cases/databases.ts';
import { matrix } from './matrix.ts';

if (process.env.ESCAPEMENT_TEST_SERVERS !== '1') {
  test.skip('PostgreSQL and Redis are not running: use `npm run test:real-code`', () => {});
} else {
  matrix(databaseCases);
}
