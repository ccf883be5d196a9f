import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Backoff, backoffMs, exponential, fixed, linear, list, parseBackoff } from '../../src/core/backoff.ts';
import { longestDurationMs } from '../../src/core/duration.ts';
import { ConfigError, type ConfigFault } from '../../src/core/errors.ts';

const delays = (policy: Backoff, count: number, fraction = 0) =>
  Array.from({ length: count }, (_, i) => backoffMs(policy, i + 1, fraction, null));

describe('delays', () => {
  test.each([
    ['the default: 1 s × 2', exponential(), [1_000, 2_000, 4_000, 8_000, 16_000]],
    ['exponential with a cap', exponential({ initial: '10s', factor: 3, max: '1m', jitter: 0 }), [10_000, 30_000, 60_000, 60_000, 60_000]],
    ['exponential from zero stays zero', exponential({ initial: 0, max: '1m' }), [0, 0, 0, 0, 0]],
    ['exponential with factor 1 is fixed', exponential({ initial: '5s', factor: 1 }), [5_000, 5_000, 5_000, 5_000, 5_000]],
    ['exponential that starts above its cap', exponential({ initial: '1h', max: '1m' }), [60_000, 60_000, 60_000, 60_000, 60_000]],
    ['linear', linear({ initial: '1s', step: '2s', max: '6s' }), [1_000, 3_000, 5_000, 6_000, 6_000]],
    ['linear without a step grows by its initial delay', linear({ initial: '3s' }), [3_000, 6_000, 9_000, 12_000, 15_000]],
    ['fixed', fixed('7s'), [7_000, 7_000, 7_000, 7_000, 7_000]],
    ['a list, whose last delay repeats', list(['1s', '5s', '25s']), [1_000, 5_000, 25_000, 25_000, 25_000]],
  ])('%s', (_, policy, expected) => {
    expect(delays(policy, 5)).toEqual(expected);
  });

  test('jitter is added after the cap, up to its fraction', () => {
    const policy = exponential({ initial: '1m', max: '1m', jitter: 0.2 });
    expect(backoffMs(policy, 9, 0, null)).toBe(60_000);
    expect(backoffMs(policy, 9, 0.999999, null)).toBe(72_000);
  });

  test('a custom policy receives the attempt and the error, and may return a duration string', () => {
    const own = parseBackoff((attempt: number, error: unknown) => (error === 'slow' ? '1h' : attempt * 100), 'retry.backoff', []);
    expect(backoffMs(own, 3, 0, null)).toBe(300);
    expect(backoffMs(own, 3, 0, 'slow')).toBe(3_600_000);
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
    ['returns NaN', () => Number.NaN],
    ['returns a negative number', () => -5],
    ['returns nothing', () => undefined],
  ])('the default replaces a custom policy that %s', (_, delay) => {
    expect(backoffMs({ kind: 'own', delay: delay as never }, 2, 0, null)).toBe(2_000);
  });
});

test('delays of all policies are integers, finite and in range for attempts 1 to 10,000', () => {
  const duration = fc.integer({ min: 0, max: longestDurationMs });
  const jitter = fc.double({ min: 0, max: 1, noNaN: true });
  const policy = fc.oneof(
    fc
      .record({ initial: duration, factor: fc.double({ min: 1, max: 1e6, noNaN: true }), max: duration, jitter })
      .map((options) => ({ policy: exponential(options), max: options.max })),
    fc
      .record({ initial: duration, step: duration, max: duration, jitter })
      .map((options) => ({ policy: linear(options), max: options.max })),
    fc.array(duration, { minLength: 1 }).map((all) => ({ policy: list(all), max: Math.max(...all) })),
  );
  fc.assert(
    fc.property(
      policy,
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (made, attempt, fraction) => {
        const ms = backoffMs(made.policy, attempt, fraction, null);
        expect(Number.isSafeInteger(ms)).toBe(true);
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThanOrEqual(Math.min(longestDurationMs, Math.ceil(made.max * 2)));
      },
    ),
    { numRuns: 2_000 },
  );
});

test('without jitter, delays never decrease', () => {
  const policy = exponential({ initial: '1s', factor: 1.7, max: '24h', jitter: 0 });
  const all = delays(policy, 10_000);
  for (let i = 1; i < all.length; i++) expect(all[i]).toBeGreaterThanOrEqual(all[i - 1] as number);
  expect(all.at(-1)).toBe(86_400_000);
});

test.each([
  ['a factor below 1', () => exponential({ factor: 0.5 }), 'exponential().factor'],
  ['a jitter above 1', () => exponential({ jitter: 1.5 }), 'exponential().jitter'],
  ['a negative jitter', () => linear({ jitter: -0.1 }), 'linear().jitter'],
  ['an invalid duration', () => exponential({ initial: 'soon' as never }), 'exponential().initial'],
  ['an empty list', () => list([]), 'list()'],
  ['a list with an invalid entry', () => list(['1s', 'x' as never]), 'list()[1]'],
])('%s is rejected, and the error names its path', (_, make, path) => {
  expect(make).toThrow(ConfigError);
  expect(make).toThrow(path);
});

test('retry.backoff accepts a duration, a list, a policy or a function; anything else is an error', () => {
  const faults: ConfigFault[] = [];
  expect(delays(parseBackoff(100, 'b', faults), 2)).toEqual([100, 100]);
  expect(delays(parseBackoff('2s', 'b', faults), 2)).toEqual([2_000, 2_000]);
  expect(delays(parseBackoff(['1s', '2s'], 'b', faults), 3)).toEqual([1_000, 2_000, 2_000]);
  expect(faults).toEqual([]);
  parseBackoff('often', 'b', faults);
  parseBackoff(['1s', 'x'], 'b', faults);
  parseBackoff([], 'b', faults);
  expect(faults.map(({ path }) => path)).toEqual(['b', 'b[1]', 'b']);
});
