/** Mocked HTTP in tasks, and other fake clocks beside a simulation. */
import { createTasks, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import { expect, test, vi } from 'vitest';
import { onRealWorker } from './case.ts';
import { mockCases } from './cases/mocks.ts';
import { matrix } from './matrix.ts';

matrix(mockCases);

test.skipIf(onRealWorker)(
  'a spy on setTimeout that is restored after the simulation leaves a working timer',
  { timeout: 3_000 },
  async () => {
    const sim = await simulate(createTasks({ backend: memory() }));
    vi.spyOn(globalThis, 'setTimeout');
    await sim.end();
    vi.restoreAllMocks();
    await new Promise((resolve) => setTimeout(resolve, 1));
  },
);

test.skipIf(onRealWorker)('a simulation refuses to start when the system time is mocked', async () => {
  vi.setSystemTime(new Date('2030-01-01T00:00:00Z'));
  try {
    await expect(simulate(createTasks({ backend: memory() }))).rejects.toThrow(/fake/);
  } finally {
    vi.useRealTimers();
  }
});
