/** Sun events compared with an independent formula, and their order and absence in extreme locations. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ConfigFault } from '../../src/core/errors.ts';
import { checkSun, nextSun, type SunEvent, type SunTrigger } from '../../src/core/sun.ts';

const long = Boolean(process.env.ESCAPEMENT_LONG);
const dayMs = 86_400_000;
const at = (iso: string) => Date.parse(iso);
const names: SunEvent[] = ['sunrise', 'sunset', 'dawn', 'dusk', 'noon'];
const berlin = { latitude: 52.52, longitude: 13.405 };

function following(sun: SunTrigger, afterAt: number, count: number): number[] {
  const found: number[] = [];
  for (let next = nextSun(sun, afterAt); next !== null && found.length < count; next = nextSun(sun, next)) found.push(next);
  return found;
}

/** The sun's altitude and hour angle in degrees, by the Astronomical Almanac's low-precision formula: 0.01° between 1950 and 2050. */
function position(instant: number, latitude: number, longitude: number): { altitude: number; hourAngle: number } {
  const rad = Math.PI / 180;
  const n = instant / dayMs + 2_440_587.5 - 2_451_545;
  const g = (357.528 + 0.9856003 * n) * rad;
  const lambda = (280.46 + 0.9856474 * n + 1.915 * Math.sin(g) + 0.02 * Math.sin(2 * g)) * rad;
  const epsilon = (23.439 - 0.0000004 * n) * rad;
  const ascension = Math.atan2(Math.cos(epsilon) * Math.sin(lambda), Math.cos(lambda));
  const declination = Math.asin(Math.sin(epsilon) * Math.sin(lambda));
  const sidereal = (280.46062 + 360.98564737 * n + longitude) * rad;
  const angle = sidereal - ascension;
  const altitude = Math.asin(
    Math.sin(latitude * rad) * Math.sin(declination) + Math.cos(latitude * rad) * Math.cos(declination) * Math.cos(angle),
  );
  return { altitude: altitude / rad, hourAngle: Math.atan2(Math.sin(angle), Math.cos(angle)) / rad };
}

describe('events of the sun', () => {
  test('a midsummer day in Berlin', () => {
    const midnight = at('2026-06-20T22:00:00Z');
    const day = names.map((event) => [event, new Date(nextSun({ event, ...berlin }, midnight) as number).toISOString().slice(11, 16)]);
    expect(Object.fromEntries(day)).toEqual({ dawn: '01:52', sunrise: '02:43', noon: '11:08', sunset: '19:33', dusk: '20:23' });
  });

  const place = { latitude: fc.double({ min: -90, max: 90, noNaN: true }), longitude: fc.double({ min: -180, max: 180, noNaN: true }) };
  const anySun = fc.record({ event: fc.constantFrom(...names), ...place });
  const instant = fc.integer({ min: at('1950-01-01T00:00:00Z'), max: at('2050-01-01T00:00:00Z') });

  test('match the position of the sun, anywhere and at any time', () => {
    fc.assert(
      fc.property(anySun, instant, (sun, afterAt) => {
        const next = nextSun(sun, afterAt);
        if (next === null) return;
        const { altitude, hourAngle } = position(next, sun.latitude, sun.longitude);
        if (sun.event === 'noon') expect(Math.abs(hourAngle)).toBeLessThan(0.05);
        else {
          expect(altitude).toBeCloseTo(sun.event === 'sunrise' || sun.event === 'sunset' ? -0.833 : -6, 0.7);
          expect(hourAngle < 0).toBe(sun.event === 'sunrise' || sun.event === 'dawn');
        }
      }),
      { numRuns: long ? 2_000 : 500, seed: 5 },
    );
  });

  test('occur in order, in whole seconds, once each, from any starting instant', () => {
    fc.assert(
      fc.property(anySun, instant, (sun, afterAt) => {
        const found = following(sun, afterAt, 8);
        expect(found.every((next, i) => next > (found[i - 1] ?? afterAt) && next % 1_000 === 0)).toBe(true);
        found.forEach((next, i) => {
          const before = found[i - 1] ?? afterAt;
          expect(nextSun(sun, next - 1)).toBe(next);
          expect(nextSun(sun, Math.floor((before + next) / 2))).toBe(next);
          if (i > 0) expect(next - before).toBeGreaterThan(dayMs / 2 - 1_000);
        });
      }),
      { numRuns: long ? 400 : 100, seed: 6 },
    );
  });

  test.each(names)('every day of a year has one %s in Quito', (event) => {
    const found = following({ event, latitude: -0.18, longitude: -78.47 }, at('2026-01-01T05:00:00Z'), 365);
    expect(new Set(found.map((next) => new Date(next - 5 * 3_600_000).toISOString().slice(0, 10))).size).toBe(365);
  });

  test.each(names)('%s matches on both sides of the date line', (event) => {
    const sun = { event, latitude: -16.5 };
    const east = following({ ...sun, longitude: 180 }, at('2026-03-01T00:00:00Z'), 400);
    expect(following({ ...sun, longitude: -180 }, at('2026-03-01T00:00:00Z'), 400)).toEqual(east);
    // The sun crosses the date line in less than a second; rounding may add another.
    const near = following({ ...sun, longitude: -179.999 }, at('2026-03-01T00:00:00Z'), 400);
    expect(near.every((next, i) => Math.abs(next - (east[i] as number)) <= 2_000)).toBe(true);
    const gaps = east.slice(1).map((next, i) => next - (east[i] as number));
    expect(Math.min(...gaps)).toBeGreaterThan(dayMs - 120_000);
    expect(Math.max(...gaps)).toBeLessThan(dayMs + 120_000);
  });

  test('skip polar nights and polar days', () => {
    const tromso = { latitude: 69.65, longitude: 18.96 };
    const month = (event: SunEvent, after: string) =>
      new Date(nextSun({ event, ...tromso }, at(after)) as number).toISOString().slice(0, 7);
    expect(month('sunrise', '2026-12-05T00:00:00Z')).toBe('2027-01');
    expect(month('sunset', '2026-06-01T00:00:00Z')).toBe('2026-07');
    expect(month('noon', '2026-12-05T00:00:00Z')).toBe('2026-12');
  });

  test('are only noon at the poles', () => {
    for (const latitude of [-90, 90]) {
      for (const event of names) {
        const next = nextSun({ event, latitude, longitude: 0 }, at('2026-01-01T00:00:00Z'));
        expect(next === null).toBe(event !== 'noon');
      }
    }
  });

  test('exclude wrong results of suncalc in Antarctica', () => {
    // suncalc returns the dusk of 24 October 2026 at 72.09° south on the 17th.
    const found = following({ event: 'dusk', latitude: -72.09, longitude: 25.3 }, at('2026-10-10T00:00:00Z'), 20);
    expect(found.every((next, i) => next > (found[i - 1] ?? 0))).toBe(true);
    for (const next of found) expect(position(next, -72.09, 25.3).altitude).toBeCloseTo(-6, 0.7);
  });

  test('end at the last instant of Date', () => {
    expect(nextSun({ event: 'noon', ...berlin }, 8_640_000_000_000_000)).toBeNull();
  });
});

describe('errors in a location', () => {
  const faultsOf = (value: unknown) => {
    const faults: ConfigFault[] = [];
    checkSun(value, 'sun', faults);
    return faults.map(({ path, expected, got }) => `${path}: ${expected}, ${got}`);
  };

  test.each(names)('are absent for %s in Berlin and at the limits', (event) => {
    expect(faultsOf({ event, ...berlin })).toEqual([]);
    expect(faultsOf({ event, latitude: -90, longitude: 180 })).toEqual([]);
  });

  test('are all reported', () => {
    expect(faultsOf({ event: 'moonrise', latitude: 91, longitude: Number.NaN, height: 2 })).toEqual([
      'sun.height: one of event, latitude, longitude, height',
      'sun.event: one of sunrise, sunset, dawn, dusk, noon, "moonrise"',
      'sun.latitude: degrees from -90 to 90, 91',
      'sun.longitude: degrees from -180 to 180, NaN',
    ]);
    expect(faultsOf({ event: 'sunset', latitude: '52', longitude: -180.01 })).toEqual([
      'sun.latitude: degrees from -90 to 90, "52"',
      'sun.longitude: degrees from -180 to 180, -180.01',
    ]);
  });

  test.each([null, undefined, 'sunset', [], 5])('%j is not a location', (value) => {
    expect(faultsOf(value)).toHaveLength(1);
  });
});
