/**
 * The days on which a zone's clocks change, for tests: how a schedule runs over them, and lists of the expected runs. The lists are made by
 * walking through the minutes of those days on the clock of `Intl`, and share no code with the schedules that they are compared with.
 */
import { InputError } from '../core/errors.ts';
import { nextOccurrence } from '../core/schedule.ts';
import { changes, isTimezone, offsetAt } from '../core/zone.ts';
import type { Tasks } from '../tasks.ts';

const minuteMs = 60_000;
const dayMs = 86_400_000;

/** A change of a zone's clocks. */
export interface ClockChange {
  /** The first instant with the new offset. */
  readonly at: Date;
  readonly kind: 'forward' | 'back';
  /** Milliseconds that the clocks move by. */
  readonly byMs: number;
}

/**
 * The changes of a zone's clocks in a year, in order; empty if there are none.
 * @throws InputError if the zone does not exist
 */
export function clockChanges(timezone: string, year: number): ClockChange[] {
  if (!isTimezone(timezone)) throw new InputError(`unknown time zone ${JSON.stringify(timezone)}`);
  return changes(timezone, Date.UTC(year, 0, 1), Date.UTC(year + 1, 0, 1)).map(({ at, offsetBefore, offsetAfter }) => ({
    at: new Date(at),
    kind: offsetAfter > offsetBefore ? 'forward' : 'back',
    byMs: Math.abs(offsetAfter - offsetBefore),
  }));
}

/**
 * When a schedule runs on the days before, of and after each change of its zone's clocks, as local times with their offset.
 * @param options.timezone Default: the time zone of the schedule's cron expression
 * @example
 * expect(await runsOverClockChanges(tasks, 'daily-digest', 2026)).toEqual(dailyRuns('02:30', 'Europe/Berlin', 2026));
 */
export async function runsOverClockChanges(
  tasks: Tasks,
  name: string,
  year: number,
  options: { timezone?: string } = {},
): Promise<string[]> {
  const { trigger, timezone: own } = await tasks.schedules.get(name);
  const timezone = options.timezone ?? own;
  if (timezone === null) throw new InputError(`schedule ${name} has no time zone; pass { timezone }`);
  const times = { trigger, startAt: null, endAt: null };
  return clockChanges(timezone, year).flatMap((change) => {
    const { fromAt, toAt, contains } = daysAround(change, timezone);
    const runs: string[] = [];
    for (let at = nextOccurrence(times, fromAt); at !== null && at < toAt; at = nextOccurrence(times, at)) {
      const offset = offsetAt(timezone, at);
      if (contains(at + offset)) runs.push(zonedText(at, offset));
    }
    return runs;
  });
}

/** The local days before, of and after a change: a period that contains them, and a test for local times. */
function daysAround({ at }: ClockChange, timezone: string): { fromAt: number; toAt: number; contains(local: number): boolean } {
  const change = at.getTime();
  const day = Math.floor((change - 1 + offsetAt(timezone, change - 1)) / dayMs);
  const contains = (local: number) => Math.abs(Math.floor(local / dayMs) - day) <= 1;
  return { fromAt: change - 3 * dayMs, toAt: change + 3 * dayMs, contains };
}

/**
 * The expected runs of a daily schedule over the clock changes of a zone: once a day, right after the gap if its time is skipped, and the
 * first time only if it is repeated. For `cron: '30 2 * * *'`, use `dailyRuns('02:30', …)`.
 */
export function dailyRuns(time: string, timezone: string, year: number): string[] {
  const match = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(time);
  if (!match) throw new InputError(`dailyRuns(): expected a time such as '02:30', got ${JSON.stringify(time)}`);
  const wanted = (Number(match[1]) * 60 + Number(match[2])) * minuteMs;
  return overMinutes(timezone, year, (local, seenUntil) => {
    // The time on this day or the day before, whichever the clocks have just reached or passed for the first time.
    const due = Math.floor((local - wanted) / dayMs) * dayMs + wanted;
    return due > seenUntil;
  });
}

/**
 * The expected runs over the clock changes of a zone for a schedule that runs every few minutes of the hour, such as `*` or steps of 15: it
 * follows real time.
 */
export function minutelyRuns(every: number, timezone: string, year: number): string[] {
  return overMinutes(timezone, year, (local) => (Math.floor(local / minuteMs) % 60) % every === 0);
}

/** The minutes around each change for which `runs` returns true. `local` is the displayed time, `seenUntil` the latest one displayed so far. */
function overMinutes(timezone: string, year: number, runs: (local: number, seenUntil: number) => boolean): string[] {
  return minutesAround(timezone, year).flatMap((minutes) => {
    const found: string[] = [];
    let seenUntil = Number.NEGATIVE_INFINITY;
    for (const { at, local, counts } of minutes) {
      if (counts && runs(local, seenUntil)) found.push(zonedText(at, local - at));
      seenUntil = Math.max(seenUntil, local);
    }
    return found;
  });
}

interface Minute {
  readonly at: number;
  /** The displayed time, as if it were UTC. */
  readonly local: number;
  /** Whether it belongs to the days before, of and after the change. */
  readonly counts: boolean;
}

/** The latest walk, cached. Walking takes most of the time of a list, and lists for one zone are usually requested in a row. */
let walked: { readonly timezone: string; readonly year: number; readonly changes: readonly (readonly Minute[])[] } | undefined;

/** The minutes around each change of a zone's clocks in a year. */
function minutesAround(timezone: string, year: number): readonly (readonly Minute[])[] {
  if (walked?.timezone === timezone && walked.year === year) return walked.changes;
  const clock = localClock(timezone);
  const walk = (change: ClockChange): readonly Minute[] => {
    const { fromAt, toAt, contains } = daysAround(change, timezone);
    const minutes: Minute[] = [];
    for (let at = fromAt; at < toAt; at += minuteMs) {
      const local = clock(at);
      minutes.push({ at, local, counts: contains(local) });
    }
    return minutes;
  };
  const found = clockChanges(timezone, year).map(walk);
  walked = { timezone, year, changes: found };
  return found;
}

/** The time that the clocks of a zone show at an instant, as if it were UTC. */
function localClock(timezone: string): (at: number) => number {
  const parts = { year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' } as const;
  const format = new Intl.DateTimeFormat('en-US', { timeZone: timezone, hourCycle: 'h23', ...parts });
  return (at) => {
    const [month = 1, day = 1, year = 1970, hour = 0, minute = 0, second = 0] = (format.format(at).match(/\d+/g) ?? []).map(Number);
    return Date.UTC(year, month - 1, day, hour, minute, second);
  };
}

/** `2026-03-29T03:00:00+02:00`: the local time of an instant, with its offset. */
export function zonedText(at: number, offsetMs: number): string {
  const minutes = Math.round(Math.abs(offsetMs) / minuteMs);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${new Date(at + offsetMs).toISOString().slice(0, 19)}${offsetMs < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

const localPattern = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?)([+-]\d{2}:\d{2})?\[([^\]]+)\]$/;

/**
 * The instant of a local time with its zone, in the notation of RFC 9557: `2026-03-29T03:00[Europe/Berlin]`. A time that occurs twice needs
 * its offset: `2026-10-25T02:30+01:00[Europe/Berlin]`.
 * @throws InputError if the clocks never show it, or show it twice
 */
export function localTime(text: string): Date {
  const match = localPattern.exec(text);
  const [, wall = '', offset, timezone = ''] = match ?? [];
  const local = Date.parse(`${wall}Z`);
  if (!match || Number.isNaN(local))
    throw new InputError(`expected a local time such as '2026-03-29T03:00[Europe/Berlin]', got ${JSON.stringify(text)}`);
  if (!isTimezone(timezone)) throw new InputError(`unknown time zone ${JSON.stringify(timezone)} (in ${JSON.stringify(text)})`);
  const offsets = new Set([offsetAt(timezone, local - dayMs), offsetAt(timezone, local), offsetAt(timezone, local + dayMs)]);
  const instants = [...offsets].map((ms) => local - ms).filter((at) => offsetAt(timezone, at) === local - at);
  const wanted = offset === undefined ? instants : instants.filter((at) => zonedText(at, local - at).endsWith(offset));
  const [first, second] = wanted.sort((a, b) => a - b);
  if (first === undefined) throw new InputError(`the clocks of ${timezone} never show ${wall}${offset ?? ''}`);
  if (second !== undefined) {
    const both = [first, second].map((at) => `${zonedText(at, local - at)}[${timezone}]`);
    throw new InputError(`the clocks of ${timezone} show ${wall} twice; specify one of: ${both.join(' or ')}`);
  }
  return new Date(first);
}
