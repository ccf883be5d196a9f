import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/ports/clock.ts';
import { RealDate } from '../../src/ports/real.ts';

afterEach(() => void vi.restoreAllMocks());

const hourMs = 3_600_000;

/** Sets the system clock; the monotonic clock does not change. */
function setClock(byMs: number): void {
  const { now } = RealDate;
  vi.spyOn(RealDate, 'now').mockImplementation(() => now() + byMs);
}

test('a timer fires at the next use of the clock after the clock is set past it', async () => {
  const fired = new Promise<void>((resolve) => void systemClock.at(RealDate.now() + hourMs, resolve));
  setClock(2 * hourMs);
  const other = systemClock.at(RealDate.now() + hourMs, () => {});
  await fired;
  other.cancel();
});

test('setting the clock back does not delay a timer', async () => {
  const fired = new Promise<void>((resolve) => void systemClock.at(RealDate.now() + 20, resolve));
  setClock(-hourMs);
  const other = systemClock.at(RealDate.now() + hourMs, () => {});
  await fired;
  other.cancel();
});

test('elapsed time does not depend on the clock setting', async () => {
  const fired: string[] = [];
  const long = systemClock.after(hourMs, () => void fired.push('long'));
  setClock(2 * hourMs);
  systemClock.at(RealDate.now(), () => void fired.push('at')).cancel();
  await new Promise<void>((resolve) => void systemClock.after(5, resolve));
  expect(fired).toEqual([]);
  long.cancel();
});
