/** The conformance suite in the ways in which an application may connect. */
import { describe, test } from 'vitest';
import { conformance } from '../../src/testing/conformance.ts';
import { emptyPostgres } from '../stores/postgres-server.ts';

const variants = {
  'postgres, beside other processes': emptyPostgres({ alone: false }),
  'postgres, with a pool of one and without prepared statements': emptyPostgres({ alone: false, max: 1, prepare: false, listen: false }),
};

for (const [label, source] of Object.entries(variants)) conformance(label, () => source.open(), { describe, test });
