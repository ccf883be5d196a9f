/** Every store that the suites run over. */
import { memory, type StoreSource } from 'escapement';

export const stores: readonly StoreSource[] = [memory()];
