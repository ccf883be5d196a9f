/** Finds and prints schedules for the commands: by name, with a one-word state and the next occurrences. */
import { isEscapementError, type ScheduleInfo, type Tasks } from 'escapement';
import { changeText, clockChange, type SkippedTime, skippedTime } from './clocks.ts';
import { type Cell, clean, type Mark, padEnd, table } from './format.ts';
import { CommandError, exitCodes } from './io.ts';
import type { Operation } from './operate.ts';
import { instantText, localIso, untilText, wallTime } from './time.ts';

/** `held`: an occurrence waits for earlier jobs to finish. `ended`: no occurrences are left. */
export type ScheduleState = 'active' | 'paused' | 'disabled' | 'held' | 'ended';

export function scheduleState({ paused, enabled, heldAt, nextAt }: ScheduleInfo): ScheduleState {
  if (paused) return 'paused';
  if (!enabled) return 'disabled';
  if (heldAt) return 'held';
  return nextAt ? 'active' : 'ended';
}

export const stateMarks: Partial<Record<ScheduleState, Mark>> = { active: 'green', paused: 'yellow', disabled: 'dim', held: 'yellow' };

/** The reason for the pause, if one was given. The default reason `paused` is omitted. */
export function whyPaused({ paused, pausedBecause }: ScheduleInfo): [] | [string] {
  return paused && pausedBecause !== null && pausedBecause !== 'paused' ? [clean(pausedBecause)] : [];
}

/** The time zone in which times are shown: UTC for a schedule without a zone or with one that is unknown on this machine. */
export function zoneOf({ timezone }: Pick<ScheduleInfo, 'timezone'>): string {
  try {
    wallTime(0, timezone ?? 'UTC');
    return timezone ?? 'UTC';
  } catch {
    return 'UTC';
  }
}

/** A schedule as JSON. */
export function scheduleRow(schedule: ScheduleInfo): ScheduleInfo & { readonly state: ScheduleState } {
  return { ...schedule, state: scheduleState(schedule) };
}

/** @throws CommandError if there is no schedule with this name */
export async function findSchedule(tasks: Tasks, name: string): Promise<ScheduleInfo> {
  try {
    return await tasks.schedules.get(name);
  } catch (error) {
    if (!isEscapementError(error) || error.code !== 'ESCAPEMENT_INPUT') throw error;
    throw new CommandError(error.message, { exitCode: exitCodes.refused, cause: error });
  }
}

/** A future occurrence, as JSON. */
export interface Coming {
  readonly schedule: string;
  readonly task: string;
  readonly at: Date;
  /** The zone of its local time; null for schedules without a zone. */
  readonly timezone: string | null;
  /** ISO 8601, with the offset. */
  readonly local: string;
  /** Milliseconds from now; negative if it is due but has not fired. */
  readonly inMs: number;
  /** The clock change on its day. */
  readonly clocks: { readonly at: Date; readonly shiftMs: number } | null;
  /** The nonexistent local time that it replaces. */
  readonly skipped: SkippedTime | null;
}

const maxOccurrences = 10_000;

/** The next occurrences of a schedule, without those that will be skipped because it is paused. */
export async function comingOf({ tasks, io }: Pick<Operation, 'tasks' | 'io'>, schedule: ScheduleInfo, count: number): Promise<Coming[]> {
  const { name, task, paused, timezone, trigger } = schedule;
  const now = io.now();
  let instants = await tasks.schedules.next(name, count);
  if (paused && instants[0] && instants[0].getTime() <= now) {
    const occurrences = await tasks.schedules.next(name, maxOccurrences);
    instants = occurrences.filter((at) => at.getTime() > now).slice(0, count);
  }
  return instants.map((instant) => {
    const at = instant.getTime();
    const change = timezone === null ? undefined : clockChange(at, timezone);
    return {
      schedule: name,
      task,
      at: instant,
      timezone,
      local: localIso(at, zoneOf(schedule)),
      inMs: at - now,
      clocks: change ? { at: new Date(change.at), shiftMs: change.offsetAfter - change.offsetBefore } : null,
      skipped: skippedTime(trigger, at) ?? null,
    };
  });
}

/**
 * A line for each occurrence: its local time, UTC unless that is the same, and the time until then. Another line follows the first occurrence
 * on a day of a clock change, and one that replaces a nonexistent local time.
 * @param titles false to omit the line of titles
 */
export function comingLines(coming: readonly Coming[], { io, paint }: Pick<Operation, 'io' | 'paint'>, titles: boolean): string[] {
  const now = io.now();
  const zones = new Set(coming.map(zoneOf));
  const several = new Set(coming.map(({ schedule }) => schedule)).size > 1;
  const utcAlone = zones.size === 1 && zones.has('UTC');
  const [onlyZone = ''] = zones.size === 1 ? zones : [];
  const columns = [
    { title: titles ? localTitle(utcAlone, onlyZone) : '' },
    ...(utcAlone ? [] : [{ title: titles ? 'UTC' : '' }]),
    { title: '', align: 'right' as const },
    ...(several ? [{ title: titles ? 'schedule' : '' }] : []),
  ];
  const rows = coming.map((one): Cell[] => [
    instantText(one.at.getTime(), zoneOf(one)),
    ...(utcAlone ? [] : [utcText(one.at)]),
    untilText(one.at.getTime(), now),
    ...(several ? [clean(one.schedule)] : []),
  ]);
  const lines = table(columns, rows, paint);
  const titled = lines.length - rows.length;
  const noted = new Set<string>();
  return lines.flatMap((line, i) => {
    const one = coming[i - titled];
    const marks = one ? marksOf(one, several, noted) : [];
    return marks.length === 0 ? [line] : [line, paint('yellow', `  ${marks.join('; ')}`)];
  });
}

function localTitle(utcAlone: boolean, zone: string): string {
  if (utcAlone) return 'UTC';
  return zone === '' ? 'local' : `in ${clean(zone)}`;
}

/** @param noted the days whose clock change has been noted; extended by this function */
function marksOf({ at, timezone, skipped, local }: Coming, several: boolean, noted: Set<string>): string[] {
  const marks: string[] = [];
  const change = timezone === null ? undefined : clockChange(at.getTime(), timezone);
  const day = `${timezone} ${local.slice(0, 10)}`;
  if (change && !noted.has(day)) {
    noted.add(day);
    marks.push(several ? `${clean(change.zone)}: ${changeText(change)}` : changeText(change));
  }
  if (skipped) marks.push(`${skipped.time} does not exist on ${skipped.date === local.slice(0, 10) ? 'this day' : skipped.date}`);
  return marks;
}

/** `2026-03-29 07:00Z` */
export function utcText(at: Date): string {
  const { date, time } = wallTime(at.getTime());
  return `${date} ${time}Z`;
}

/** A titled block of `show`. */
export function titledLines(title: string, lines: readonly string[], { paint }: Pick<Operation, 'paint'>): string[] {
  return lines.map((line, i) => `  ${paint('dim', padEnd(i === 0 ? title : '', 9))}  ${line}`);
}
