/**
 * Sunrise and similar events, computed by suncalc; no time zone is involved. Each solar day has at most one event, so the search walks
 * through solar days. The results of suncalc are checked, because near the edge of polar day and night its iteration can be off by days.
 */
import { getPosition, getTimes } from 'suncalc';
import { latestInstant, show } from './duration.ts';
import type { ConfigFault } from './errors.ts';

/** Sunrise and sunset: the sun's upper edge meets the horizon. Dawn and dusk: civil, 6° below the horizon. Noon: the sun is at its highest. */
export type SunEvent = 'sunrise' | 'sunset' | 'dawn' | 'dusk' | 'noon';

/** An event of the sun at a location. */
export interface SunTrigger {
  readonly event: SunEvent;
  /** Degrees north, -90 to 90. */
  readonly latitude: number;
  /** Degrees east, -180 to 180. */
  readonly longitude: number;
}

const dayMs = 86_400_000;
/** How many days ahead to search: more than a year, which covers any polar night at places where the sun rises at all. */
const searchedDays = 400;
/** The altitude of the sun's centre at each event, in degrees, and the side of noon. Values from suncalc. */
const events = {
  sunrise: { altitude: -0.833, side: -1 },
  sunset: { altitude: -0.833, side: 1 },
  dawn: { altitude: -6, side: -1 },
  dusk: { altitude: -6, side: 1 },
} as const;
const names: readonly unknown[] = [...Object.keys(events), 'noon'];

/**
 * The first occurrence of the event after `afterAt`, in epoch milliseconds rounded to the nearest second; null if there is none within 400
 * days. Days without the event (polar day, polar night) are skipped. At the poles only noon occurs, determined by the longitude. At the
 * edge of polar day or night, an event within minutes of the solar midnight may be skipped. Accurate to about a minute between 1900 and
 * 2150; refraction allows no better.
 */
export function nextSun(sun: SunTrigger, afterAt: number): number | null {
  // A solar day is identified by a noon in UTC; its events are at most a day away from it.
  const firstNoon = (Math.floor(afterAt / dayMs) - 2) * dayMs + dayMs / 2;
  for (let i = 0; i < searchedDays + 4; i++) {
    const noon = firstNoon + i * dayMs;
    if (Math.abs(noon) > latestInstant - dayMs) continue;
    const at = eventOf(sun, noon);
    if (at !== null && at > afterAt) return at;
  }
  return null;
}

/** Appends faults in the location or the event to `faults`. `path` is the location of the value, usually `sun`. */
export function checkSun(value: unknown, path: string, faults: ConfigFault[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    faults.push({ path, expected: "{ event: 'sunset', latitude: 52.52, longitude: 13.405 }", got: show(value) });
    return;
  }
  const given = value as Record<string, unknown>;
  for (const key of Object.keys(given)) {
    if (key !== 'event' && key !== 'latitude' && key !== 'longitude')
      faults.push({ path: `${path}.${key}`, expected: 'one of event, latitude, longitude', got: key });
  }
  if (!names.includes(given.event)) faults.push({ path: `${path}.event`, expected: `one of ${names.join(', ')}`, got: show(given.event) });
  for (const [key, maxDegrees] of [
    ['latitude', 90],
    ['longitude', 180],
  ] as const) {
    const degrees = given[key];
    if (typeof degrees !== 'number' || !(Math.abs(degrees) <= maxDegrees))
      faults.push({ path: `${path}.${key}`, expected: `degrees from -${maxDegrees} to ${maxDegrees}`, got: show(degrees) });
  }
}

/** The event of the solar day around a noon in UTC, or null if that day has none. Successive days give increasing instants. */
function eventOf({ event, latitude, longitude }: SunTrigger, noon: number): number | null {
  const times = getTimes(new Date(noon), latitude, longitude);
  const highestAt = times.solarNoon.getTime();
  if (event === 'noon') return toSecond(highestAt);
  const date = times[event];
  const { altitude, side } = events[event];
  if (!date) return null;
  // Within half a day of noon, on the expected side: no two days can give the same event or events out of order.
  const away = (date.getTime() - highestAt) * side;
  const sound = away > 0 && away <= dayMs / 2 && Math.abs(altitudeAt(date, latitude, longitude) - altitude) < 0.1;
  return sound ? toSecond(date.getTime()) : null;
}

/** The altitude of the sun's centre below the horizon, in degrees, without the refraction that suncalc adds, which is constant there. */
function altitudeAt(date: Date, latitude: number, longitude: number): number {
  return getPosition(date, latitude, longitude).altitude - refraction;
}

/** Refraction at the horizon in degrees, by the formula that suncalc uses (Meeus 16.4). */
const refraction = (0.0002967 / Math.tan(0.00312536 / 0.08901179)) * (180 / Math.PI);

function toSecond(at: number): number {
  return Math.round(at / 1_000) * 1_000;
}
