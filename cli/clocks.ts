/**
 * What the clocks of a zone do: the days on which they change, and the times of day that they skip. Read off `Intl` by way of `wallTime`,
 * for what commands print; when a schedule fires is decided elsewhere.
 */
import type { ScheduleInfo } from 'escapement';
import { dayMs, exactDuration, wallTime } from './time.ts';

/** A change of a zone's clocks: forward where the offset grows. */
export interface ClockChange {
  readonly zone: string;
  /** The first instant with the new offset. */
  readonly at: number;
  /** Local time minus UTC, in milliseconds. */
  readonly offsetBefore: number;
  readonly offsetAfter: number;
}

/** A local day is within this of each of its instants, whatever the clocks do; no zone changes its clocks twice in three times as long. */
const reachMs = 2 * dayMs;

/** The change of the clocks on the local day of an instant: the day that holds times which are skipped or repeated. */
export function clockChange(at: number, zone: string): ClockChange | undefined {
  const change = changeNear(at, zone);
  if (!change) return undefined;
  const day = dayOf(at + offsetAt(at, zone));
  const [first, end] = [change.at + change.offsetBefore, change.at + change.offsetAfter].sort((a, b) => a - b) as [number, number];
  return day >= dayOf(first) && day <= dayOf(end - 1) ? change : undefined;
}

/** `clocks go forward at 02:00, +1h`. A day that ends with the change ends at 24:00. */
export function changeText({ at, offsetBefore, offsetAfter }: ClockChange): string {
  const forward = offsetAfter > offsetBefore;
  const time = timeText(at + offsetBefore);
  const size = exactDuration(Math.abs(offsetAfter - offsetBefore));
  return forward ? `clocks go forward at ${time}, +${size}` : `clocks go back at ${time === '00:00' ? '24:00' : time}, -${size}`;
}

/** A local time that does not exist: its date `2026-03-29` and its time `02:30`. */
export interface SkippedTime {
  readonly date: string;
  readonly time: string;
}

/**
 * The local time in whose place an occurrence runs at this instant, right after a gap that skips it; of several, the first. That is only
 * done for expressions without `*` in their time of day.
 */
export function skippedTime(trigger: ScheduleInfo['trigger'], at: number): SkippedTime | undefined {
  for (const one of trigger.kind === 'any' ? trigger.of : [trigger]) {
    if (one.kind !== 'cron') continue;
    const times = timesOfDay(one.expression);
    const change = times && changeNear(at, one.timezone);
    if (change?.at !== at || change.offsetAfter <= change.offsetBefore) continue;
    const [from, to] = [at + change.offsetBefore, at + change.offsetAfter];
    const skipped = times
      ?.flatMap((time) => [dayOf(from) * dayMs + time, dayOf(to) * dayMs + time])
      .filter((local) => local >= from && local < to)
      // At midnight the days differ, and the first time of the new one may be the expression's own.
      .filter((local) => dayOf(local) === dayOf(to) || !times.includes(to - dayOf(to) * dayMs))
      .sort((a, b) => a - b)[0];
    if (skipped !== undefined) return { date: new Date(skipped).toISOString().slice(0, 10), time: timeText(skipped) };
  }
  return undefined;
}

const atMidnight = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight'];

/** The times of day that a cron expression names, in milliseconds; undefined for one with `*` there, which names none. */
function timesOfDay(expression: string): number[] | undefined {
  if (atMidnight.includes(expression.toLowerCase())) return [0];
  const fields = expression.trim().split(/\s+/);
  const [hours, minutes, seconds = [0]] = fields
    .slice(0, -3)
    .reverse()
    .map((field) => valuesOf(field));
  if (!hours || !minutes || !seconds) return undefined;
  return hours.flatMap((hour) => minutes.flatMap((minute) => seconds.map((second) => ((hour * 60 + minute) * 60 + second) * 1_000)));
}

function valuesOf(field: string): number[] | undefined {
  const values: number[] = [];
  for (const part of field.split(',')) {
    const [, from, to = from, step = '1'] = /^(\d+)(?:-(\d+))?(?:\/(\d+))?$/.exec(part) ?? [];
    if (from === undefined) return undefined;
    for (let value = Number(from); value <= Number(to); value += Math.max(1, Number(step))) values.push(value);
  }
  return values;
}

/** The change of the clocks around an instant, in days before or after it. */
function changeNear(at: number, zone: string): ClockChange | undefined {
  let before = Math.floor((at - reachMs) / 1_000);
  let after = Math.ceil((at + reachMs) / 1_000);
  const [offsetBefore, offsetAfter] = [offsetAt(before * 1_000, zone), offsetAt(after * 1_000, zone)];
  if (offsetBefore === offsetAfter) return undefined;
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (offsetAt(middle * 1_000, zone) === offsetBefore) before = middle;
    else after = middle;
  }
  return { zone, at: after * 1_000, offsetBefore, offsetAfter };
}

function offsetAt(at: number, zone: string): number {
  const { offset } = wallTime(at, zone);
  const [hours = 0, minutes = 0, seconds = 0] = offset.slice(1).split(':').map(Number);
  return (offset.startsWith('-') ? -1 : 1) * ((hours * 60 + minutes) * 60 + seconds) * 1_000;
}

/** Local time is kept as the instant at which UTC's clocks show it. */
function dayOf(local: number): number {
  return Math.floor(local / dayMs);
}

function timeText(local: number): string {
  return wallTime(local).time;
}
