/**
 * Time zones as a sequence of spans, each with one offset from UTC. The rules come from `Intl`, sampled about a year at a time and cached;
 * the rest is arithmetic. Cron, the simulation and the command line all use this file for daylight saving time.
 */
import { latestInstant } from './duration.ts';

/** A stretch of time with a constant offset. Adjacent spans may have the same offset, because sampling also splits spans. */
export interface Span {
  /** Epoch milliseconds, inclusive. */
  readonly startAt: number;
  /** Epoch milliseconds, exclusive. */
  readonly endAt: number;
  /** Local time minus UTC, in milliseconds: 3,600,000 in Berlin's winter. */
  readonly offset: number;
}

/** A change of a zone's offset: a gap if it grows, an overlap if it shrinks. Offsets are in milliseconds east of UTC. */
export interface OffsetChange {
  /** The first instant with the new offset, in epoch milliseconds. */
  readonly at: number;
  readonly offsetBefore: number;
  readonly offsetAfter: number;
}

/** What is known about a zone so far. Made by {@link zoneOf}; opaque to other files. */
export interface Zone {
  readonly timezone: string;
  readonly blocks: Map<number, readonly Span[]>;
  recent: Span;
}

/** Captured at load time: a simulation replaces `Intl`, and formatters made from the replacement would stay in the cache after it ends. */
const { DateTimeFormat } = Intl;

const hourMs = 3_600_000;
/**
 * The sampling interval. A change that is reverted within one interval would be missed; the shortest time between two changes in the tz
 * database (2026c, years 1800 to 2100) is 167 hours: Brazil in 2000, Gaza in 2040.
 */
const stepMs = 48 * hourMs;
/** Spans are computed one block at a time. A whole number of steps. */
const blockMs = 183 * stepMs;
/** No zone was ever further from UTC: Manila was at -15:56 until 1844, Metlakatla at +15:14 until 1867. */
const farthestMs = 16 * hourMs;
/** Cache limits: a few hundred kilobytes of spans, and the formatters, which are large. */
const maxBlocks = 4_096;
const maxZones = 1_000;
const maxFormats = 16;

const zones = new Map<string, Zone>();
const formats = new Map<string, Intl.DateTimeFormat>();
let blocksKept = 0;

/** The expected time zone, for error messages. */
export const timezoneExpected = "an IANA time zone such as 'Europe/London' or 'UTC'; abbreviations such as BST are ambiguous";

/**
 * The names in the time zone database that have no slash (tz 2026c, including `backward`). `Intl` accepts more: BST, IST, CST and similar
 * abbreviations are ambiguous, and ICU often resolves them to an unexpected zone.
 */
const shortNames = new Set(
  (
    'CET CST6CDT Cuba EET EST EST5EDT Egypt Eire Factory GB GB-Eire GMT GMT+0 GMT-0 GMT0 Greenwich HST Hongkong Iceland Iran Israel Jamaica Japan ' +
    'Kwajalein Libya MET MST MST7MDT NZ NZ-CHAT Navajo PRC PST8PDT Poland Portugal ROC ROK Singapore Turkey UCT UTC Universal W-SU WET Zulu'
  )
    .toLowerCase()
    .split(' '),
);

/**
 * True for names in the time zone database, in any case. Offsets such as `+02:00` are refused because they have no daylight saving time,
 * and abbreviations are refused too.
 */
export function isTimezone(value: unknown): value is string {
  if (typeof value !== 'string' || !/^[A-Za-z][A-Za-z0-9_+\-/]*$/.test(value)) return false;
  if (value.includes('/') ? /^systemv\//i.test(value) : !shortNames.has(value.toLowerCase())) return false;
  if (zones.has(value)) return true;
  try {
    formatOf(value);
    return true;
  } catch {
    return false;
  }
}

/**
 * How far local time is ahead of UTC at an instant, in milliseconds.
 * @throws RangeError if the zone does not exist
 */
export function offsetAt(timezone: string, at: number): number {
  return spanAt(zoneOf(timezone), at).offset;
}

/**
 * All changes of a zone's offset at or after `fromAt` and before `toAt`, in order. For all clock changes of a year: `changes(timezone,
 * Date.UTC(year, 0, 1), Date.UTC(year + 1, 0, 1))`.
 * @throws RangeError if the zone does not exist
 */
export function changes(timezone: string, fromAt: number, toAt: number): OffsetChange[] {
  const zone = zoneOf(timezone);
  const found: OffsetChange[] = [];
  let before = spanAt(zone, fromAt - 1);
  while (before.endAt < toAt) {
    const span = spanAt(zone, before.endAt);
    if (span.offset !== before.offset) found.push({ at: span.startAt, offsetBefore: before.offset, offsetAfter: span.offset });
    before = span;
  }
  return found;
}

/**
 * Returns the cached zone.
 * @throws RangeError if the zone does not exist
 */
export function zoneOf(timezone: string): Zone {
  let zone = zones.get(timezone);
  if (!zone) {
    const name = formatOf(timezone).resolvedOptions().timeZone;
    const fixed = name === 'UTC' || name.startsWith('Etc/');
    const recent = fixed
      ? { startAt: Number.NEGATIVE_INFINITY, endAt: Number.POSITIVE_INFINITY, offset: readOffset(formatOf(timezone), 0) }
      : { startAt: 0, endAt: 0, offset: 0 };
    zone = { timezone, blocks: new Map(), recent };
    if (zones.size >= maxZones) forget(zone);
    else zones.set(timezone, zone);
  }
  return zone;
}

/** The span that contains an instant. */
export function spanAt(zone: Zone, at: number): Span {
  const { recent } = zone;
  if (at >= recent.startAt && at < recent.endAt) return recent;
  const index = Math.floor(at / blockMs);
  let block = zone.blocks.get(index);
  if (!block) {
    if (blocksKept >= maxBlocks) forget(zone);
    block = readBlock(formatOf(zone.timezone), index * blockMs);
    zone.blocks.set(index, block);
    blocksKept += 1;
  }
  let i = 0;
  while ((block[i] as Span).endAt <= at) i += 1;
  zone.recent = block[i] as Span;
  return zone.recent;
}

/** The first whole second of local time that the zone's clocks have not shown up to and including the instant. */
export function unseenLocal(zone: Zone, at: number): number {
  let span = spanAt(zone, at);
  let unseen = Math.floor(at / 1_000) * 1_000 + 1_000 + span.offset;
  // Before being set back, a clock had shown later times. Offsets are bounded, so only spans less than twice the largest offset ago matter.
  while (at - span.startAt < 2 * farthestMs) {
    span = spanAt(zone, span.startAt - 1);
    unseen = Math.max(unseen, span.endAt + span.offset);
  }
  return unseen;
}

/**
 * The first instant at which the zone's clocks show this local time or a later one: the first pass of a repeated time, the end of the gap
 * for a skipped one.
 */
export function firstShown(zone: Zone, local: number): number {
  const guess = spanAt(zone, local - zone.recent.offset);
  const at = local - guess.offset;
  if (at < guess.endAt && at - guess.startAt >= 2 * farthestMs) return at;
  let span = spanAt(zone, local - farthestMs);
  while (span.endAt + span.offset <= local) span = spanAt(zone, span.endAt);
  return Math.max(span.startAt, local - span.offset);
}

/** Drops the cached spans of all zones and keeps the zone that is being read. They are computed again when needed. */
function forget(keep: Zone): void {
  zones.clear();
  zones.set(keep.timezone, keep);
  keep.blocks.clear();
  blocksKept = 0;
}

function readBlock(format: Intl.DateTimeFormat, startAt: number): Span[] {
  const spans: Span[] = [];
  let spanStartAt = startAt;
  let offset = readOffset(format, startAt);
  for (let at = startAt; at < startAt + blockMs; at += stepMs) {
    const nextAt = at + stepMs;
    const nextOffset = readOffset(format, nextAt);
    // Usually none or one. Two changes within one step are both found, unless they cancel each other out.
    while (offset !== nextOffset) {
      const changeAt = changeBetween(format, Math.max(at, spanStartAt), nextAt, offset);
      if (changeAt === startAt + blockMs) break;
      spans.push({ startAt: spanStartAt, endAt: changeAt, offset });
      spanStartAt = changeAt;
      offset = readOffset(format, changeAt);
    }
  }
  spans.push({ startAt: spanStartAt, endAt: startAt + blockMs, offset });
  return spans;
}

/** The second at which the offset changes from `offset`, given that it applies at `fromAt` and not at `toAt`. */
function changeBetween(format: Intl.DateTimeFormat, fromAt: number, toAt: number, offset: number): number {
  let low = fromAt / 1_000;
  let high = toAt / 1_000;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (readOffset(format, middle * 1_000) === offset) low = middle;
    else high = middle;
  }
  return high * 1_000;
}

/** The offset, from calendar fields. Comparing the day of the month and the time of day is enough, because a zone is never a whole day from UTC. */
function readOffset(format: Intl.DateTimeFormat, at: number): number {
  const instant = Math.max(-latestInstant, Math.min(latestInstant, at));
  const [day = 0, hour = 0, minute = 0, second = 0] = (format.format(instant).match(/\d+/g) ?? []).map(Number);
  const utcDay = new Date(instant).getUTCDate();
  const days = day === utcDay ? 0 : day === utcDay + 1 || (day === 1 && utcDay >= 28) ? 1 : -1;
  const secondOfUtcDay = ((instant / 1_000) % 86_400) + (instant < 0 ? 86_400 : 0);
  return (days * 86_400 + hour * 3_600 + minute * 60 + second - (secondOfUtcDay % 86_400)) * 1_000;
}

function formatOf(timezone: string): Intl.DateTimeFormat {
  let format = formats.get(timezone);
  if (!format) {
    const parts = { day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' } as const;
    format = new DateTimeFormat('en-US', {
      timeZone: timezone,
      calendar: 'gregory',
      numberingSystem: 'latn',
      hourCycle: 'h23',
      ...parts,
    });
    if (formats.size >= maxFormats) formats.clear();
    formats.set(timezone, format);
  }
  return format;
}
