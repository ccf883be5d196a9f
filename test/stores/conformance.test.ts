/** Every store of this package keeps the laws of the port. */
import { describe, test } from 'vitest';
import { MemoryStore } from '../../src/stores/memory.ts';
import { conformance } from '../../src/testing/conformance.ts';

conformance('memory', () => new MemoryStore(), { describe, test });
