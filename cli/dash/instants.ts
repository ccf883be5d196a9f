/** Parses instants as users type them next to a clock with a time zone: a full instant, a date, or a time of day. */
import { parseInstant } from '../../src/core/duration.ts';
import { dayMs, wallTime } from '../time.ts';

/**
 * Parses text with an offset as that instant, a date and time without one in the clock's zone, and a time of day as the nearest one before
 * or after the present. Undefined for any other text.
 */
export function instantNear(
  text: string,
  { now, zone }: { readonly now: number; readonly zone: string },
  side: 'after' | 'before',
): number | undefined {
  const given = parseInstant(text);
  if (given !== undefined) return given;
  const [, date, time] = /^(\d{4}-\d\d-\d\d)(?:[T ](\d{1,2}:\d\d(?::\d\d)?))?$/.exec(text) ?? [];
  if (date !== undefined) return onWall(date, time ?? '00:00', zone);
  if (!/^\d{1,2}:\d\d(:\d\d)?$/.test(text)) return undefined;
  const days = side === 'after' ? [0, 1, 2] : [0, -1, -2];
  const candidates = days.map((day) => onWall(wallTime(now + day * dayMs, zone).date, text, zone));
  return candidates.find((at) => at !== undefined && (side === 'after' ? at > now : at < now));
}

/** The instant of a local time in a zone. A local time that the clocks skip is moved forward by the length of the gap. */
function onWall(date: string, time: string, zone: string): number | undefined {
  const asUtc = parseInstant(`${date}T${time.padStart(time.length > 5 ? 8 : 5, '0')}Z`);
  if (asUtc === undefined) return undefined;
  const first = asUtc - offsetMs(asUtc, zone);
  return asUtc - offsetMs(first, zone);
}

function offsetMs(at: number, zone: string): number {
  const [, sign, hours, minutes] = /^([+-])(\d\d):(\d\d)/.exec(wallTime(at, zone).offset) ?? [];
  const ms = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60_000;
  return sign === '-' ? -ms : ms;
}
