/** Every store of this package keeps the laws of the store port. */
import { describe, test } from 'vitest';
import { conformance } from '../../src/testing/conformance.ts';
import { storesOfKinds } from './stores.ts';

for (const source of storesOfKinds) {
  const open = async () => {
    const store = await source.open();
    await store.migrate();
    return store;
  };
  conformance(source.label, open, { describe, test });
}
