/**
 * Sunrise and its like, by suncalc: no time zone is involved. One event a solar day at most, found by going through the solar days;
 * what suncalc answers is checked, for near the edge of polar day and night its iteration can land days away.
 */
import { getPosition, getTimes } from 'suncalc';
import { latestInstant, show } from './duration.ts';
import type { ConfigFault } from './errors.ts';

/** Sunrise and sunset: the sun's upper edge meets the horizon. Dawn and dusk: civil, 6° below it. Noon: the sun is highest. */
export type SunEvent = 'sunrise' | 'sunset' | 'dawn' | 'dusk' | 'noon';

/** An event of the sun at a place. */
export interface SunTrigger {
  readonly event: SunEvent;
  /** Degrees north, -90 to 90. */
  readonly latitude: number;
  /** Degrees east, -180 to 180. */
  readonly longitude: number;
}

const dayMs = 86_400_000;
/** How far ahead an event is looked for: more than a year, so that a polar night is passed wherever the sun rises at all each year. */
const searchedDays = 400;
/** Where the centre of the sun is at each event, in degrees, and on which side of noon. suncalc's own figures. */
const events = {
  sunrise: { altitude: -0.833, side: -1 },
  sunset: { altitude: -0.833, side: 1 },
  dawn: { altitude: -6, side: -1 },
  dusk: { altitude: -6, side: 1 },
} as const;
const names: readonly unknown[] = [...Object.keys(events), 'noon'];

/**
 * The first occurrence of the event after `afterAt`, in epoch milliseconds, rounded to the nearest second; or null if there is none within
 * 400 days. Days without the event (polar day, polar night) are passed over; at the poles themselves only noon occurs, by the longitude.
 * At the edge of polar day or night an event within minutes of the solar midnight may be left out. Good to about a minute between 1900
 * and 2150, which is as far as refraction lets anyone say.
 */
export function nextSun(sun: SunTrigger, afterAt: number): number | null {
  // A solar day is named by a noon in UTC; its events are at most a day away from that.
  const firstNoon = (Math.floor(afterAt / dayMs) - 2) * dayMs + dayMs / 2;
  for (let i = 0; i < searchedDays + 4; i++) {
    const noon = firstNoon + i * dayMs;
    if (Math.abs(noon) > latestInstant - dayMs) continue;
    const at = eventOf(sun, noon);
    if (at !== null && at > afterAt) return at;
  }
  return null;
}

/** Adds what is wrong with the place or the event to `faults`; `path` is where the value stands, usually `sun`. */
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
  for (const [key, most] of [
    ['latitude', 90],
    ['longitude', 180],
  ] as const) {
    const degrees = given[key];
    if (typeof degrees !== 'number' || !(Math.abs(degrees) <= most))
      faults.push({ path: `${path}.${key}`, expected: `degrees from -${most} to ${most}`, got: show(degrees) });
  }
}

/** The event of the solar day about a noon in UTC, or null if that day has none. Successive days give rising instants. */
function eventOf({ event, latitude, longitude }: SunTrigger, noon: number): number | null {
  const times = getTimes(new Date(noon), latitude, longitude);
  const highestAt = times.solarNoon.getTime();
  if (event === 'noon') return toSecond(highestAt);
  const date = times[event];
  const { altitude, side } = events[event];
  if (!date) return null;
  // Within half a day of noon, on its side: so no two days can give the same event, or one before the other.
  const away = (date.getTime() - highestAt) * side;
  const sound = away > 0 && away <= dayMs / 2 && Math.abs(altitudeAt(date, latitude, longitude) - altitude) < 0.1;
  return sound ? toSecond(date.getTime()) : null;
}

/** The altitude of the sun's centre below the horizon, in degrees, without the refraction that suncalc adds, which there is constant. */
function altitudeAt(date: Date, latitude: number, longitude: number): number {
  return getPosition(date, latitude, longitude).altitude - refraction;
}

/** Refraction at the horizon in degrees, by the formula that suncalc uses (Meeus 16.4). */
const refraction = (0.0002967 / Math.tan(0.00312536 / 0.08901179)) * (180 / Math.PI);

function toSecond(at: number): number {
  return Math.round(at / 1_000) * 1_000;
}
