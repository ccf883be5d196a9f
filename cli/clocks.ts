/**
 * Clock changes of a time zone: the days on which they happen, and the local times that they skip. Derived from `Intl` through `wallTime`,
 * for display only; `core` decides when a schedule fires.
 */
import type { ScheduleInfo } from 'escapement';
import { dayMs, exactDuration, wallTime } from './time.ts';

/** A clock change of a zone: forward if the offset grows. */
export interface ClockChange {
  readonly zone: string;
  /** The first instant with the new offset. */
  readonly at: number;
  /** Local time minus UTC, in milliseconds. */
  readonly offsetBefore: number;
  readonly offsetAfter: number;
}

/** Longer than any local day. No zone changes its clocks twice within three times this period. */
const reachMs = 2 * dayMs;

/** The clock change on the local day of an instant: the day whose local times are skipped or repeated. */
export function clockChange(at: number, zone: string): ClockChange | undefined {
  const change = changeNear(at, zone);
  if (!change) return undefined;
  const day = dayOf(at + offsetAt(at, zone));
  const [first, end] = [change.at + change.offsetBefore, change.at + change.offsetAfter].sort((a, b) => a - b) as [number, number];
  return day >= dayOf(first) && day <= dayOf(end - 1) ? change : undefined;
}

/** `clocks go forward at 02:00, +1h`. A change at the end of a day is at 24:00. */
export function changeText({ at, offsetBefore, offsetAfter }: ClockChange): string {
  const forward = offsetAfter > offsetBefore;
  const time = timeText(at + offsetBefore);
  const size = exactDuration(Math.abs(offsetAfter - offsetBefore));
  return forward ? `clocks go forward at ${time}, +${size}` : `clocks go back at ${time === '00:00' ? '24:00' : time}, -${size}`;
}

/** A nonexistent local time: its date `2026-03-29` and its time `02:30`. */
export interface SkippedTime {
  readonly date: string;
  readonly time: string;
}

/**
 * The skipped local time that an occurrence at this instant, right after the gap, replaces; the first one of several. Only expressions
 * without `*` in their time of day are moved after a gap.
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
      // At midnight the days differ, and the first time of the new day may itself match the expression.
      .filter((local) => dayOf(local) === dayOf(to) || !times.includes(to - dayOf(to) * dayMs))
      .sort((a, b) => a - b)[0];
    if (skipped !== undefined) return { date: new Date(skipped).toISOString().slice(0, 10), time: timeText(skipped) };
  }
  return undefined;
}

const atMidnight = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight'];

/** The times of day in a cron expression, in milliseconds; undefined if it has `*` there. */
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

/** The clock change in the days before or after an instant. */
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

/** Represents local time as the instant at which UTC shows the same time. */
function dayOf(local: number): number {
  return Math.floor(local / dayMs);
}

function timeText(local: number): string {
  return wallTime(local).time;
}
