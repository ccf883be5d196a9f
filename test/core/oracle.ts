/**
 * Evaluates a cron expression the slow way: reads the local time from `Intl` at every step of real time, and compares it with the fields.
 * Independent of `src` and croner: it has its own parser, and does not use offsets.
 */

/** A local date and time, month from 1. */
interface Wall {
  readonly month: number;
  readonly day: number;
  readonly weekday: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  /** The number of days in its month. */
  readonly length: number;
}

interface Rule {
  readonly appointment: boolean;
  matches(wall: Wall): boolean;
}

/** The local times of a zone in a window of real time, one reading per step. Local times are milliseconds as if they were UTC. */
export interface Clocks {
  readonly timezone: string;
  readonly fromAt: number;
  readonly toAt: number;
  readonly stepMs: number;
  /** How long before the window readings start, so that the preceding local times are known. */
  readonly leadMs: number;
  readonly walls: Float64Array;
}

/** Reads the local time of a zone at every step from `leadMs` before `fromAt` to `toAt`. */
export function readClocks(timezone: string, fromAt: number, toAt: number, stepMs: number, leadMs = 30 * 3_600_000): Clocks {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: timezone,
    hourCycle: 'h23',
    era: 'short',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  const startAt = fromAt - leadMs;
  const walls = new Float64Array(Math.ceil((toAt - startAt) / stepMs));
  for (let i = 0; i < walls.length; i++) {
    const shown = /^(\d+)\/(\d+)\/(\d+) A\D*, (\d+):(\d+):(\d+)$/.exec(format.format(startAt + i * stepMs));
    if (!shown) throw new Error(`cannot read ${format.format(startAt + i * stepMs)}`);
    const [, month, day, year, hour, minute, second] = shown.map(Number) as [number, number, number, number, number, number, number];
    walls[i] = Date.UTC(year, month - 1, day, hour, minute, second);
  }
  return { timezone, fromAt, toAt, stepMs, leadMs, walls };
}

/** Every instant in the window, whose end is exclusive, at which the expression fires. The step must divide all its times. */
export function fires(expression: string, clocks: Clocks): number[] {
  const rule = readRule(expression);
  const { walls, stepMs, leadMs, fromAt } = clocks;
  const startAt = fromAt - leadMs;
  const matches = (wall: number) => rule.matches(wallOf(wall));
  const found: number[] = [];
  const shown = new Set<number>();
  for (let i = 0; i < walls.length; i++) {
    const at = startAt + i * stepMs;
    const wall = walls[i] as number;
    const previous = i === 0 ? wall - stepMs : (walls[i - 1] as number);
    let runs = matches(wall) && !(rule.appointment && shown.has(wall));
    // A gap: the clocks skipped these times.
    if (rule.appointment) for (let skipped = previous + stepMs; skipped < wall && !runs; skipped += stepMs) runs = matches(skipped);
    shown.add(wall);
    if (runs && at >= fromAt) found.push(at);
  }
  return found;
}

function wallOf(wall: number): Wall {
  const date = new Date(wall);
  return {
    month: date.getUTCMonth() + 1,
    day: date.getUTCDate(),
    weekday: date.getUTCDay(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    length: new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate(),
  };
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const weekdays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

const rules = new Map<string, Rule>();

function readRule(expression: string): Rule {
  const known = rules.get(expression);
  if (known) return known;
  const fields = expression.split(' ');
  const [second, minute, hour, day, month, weekday] = (fields.length === 5 ? ['0', ...fields] : fields).map((f) =>
    f.replaceAll('?', '*').toUpperCase(),
  ) as [string, string, string, string, string, string];
  const seconds = numbers(second, 0, 59);
  const minutes = numbers(minute, 0, 59);
  const hours = numbers(hour, 0, 23);
  const inMonths = numbers(named(month, months, 1), 1, 12);
  const both = weekday.startsWith('+') || day === '*' || weekday.replace('+', '') === '*';
  const byDay = dayRule(day);
  const byWeekday = weekdayRule(named(weekday.replace('+', '').replaceAll('-SUN', '-7'), weekdays, 0));
  const rule: Rule = {
    appointment: ![second, minute, hour].join('').includes('*'),
    matches: (wall) =>
      minutes.has(wall.minute) &&
      hours.has(wall.hour) &&
      seconds.has(wall.second) &&
      inMonths.has(wall.month) &&
      (both ? byDay(wall) && byWeekday(wall) : byDay(wall) || byWeekday(wall)),
  };
  rules.set(expression, rule);
  return rule;
}

function named(field: string, names: readonly string[], first: number): string {
  return names.reduce((text, name, i) => text.replaceAll(name, String(i + first)), field);
}

/** The numbers in a field with lists, ranges and steps. */
function numbers(field: string, first: number, last: number): Set<number> {
  const found = new Set<number>();
  for (const part of field.split(',')) {
    const [range = '', step = '1'] = part.split('/');
    const [from, to = from] = range === '*' ? [first, last] : range.split('-').map(Number);
    if (from === undefined || to === undefined || !(from >= first && to <= last)) throw new Error(`cannot read ${field}`);
    for (let value = from; value <= to; value += Number(step)) found.add(value);
  }
  return found;
}

function dayRule(field: string): (wall: Wall) => boolean {
  const parts = field.split(',').map((part): ((wall: Wall) => boolean) => {
    if (part === 'L') return (wall) => wall.day === wall.length;
    // The last weekday: no later day of the month is one.
    if (part === 'LW') return (wall) => isWorkday(wall.weekday) && laterDays(wall).every((weekday) => !isWorkday(weekday));
    if (part.endsWith('W')) return nearest(Number(part.slice(0, -1)));
    const days = numbers(part, 1, 31);
    return (wall) => days.has(wall.day);
  });
  return (wall) => parts.some((part) => part(wall));
}

const isWorkday = (weekday: number) => weekday >= 1 && weekday <= 5;
const laterDays = (wall: Wall) => Array.from({ length: wall.length - wall.day }, (_, i) => (wall.weekday + i + 1) % 7);

/** Whether this is the weekday nearest to a day of the same month: tries the day itself, then its neighbours. */
function nearest(day: number): (wall: Wall) => boolean {
  return (wall) => {
    if (day > wall.length) return false;
    const candidates = [0, -1, 1, -2, 2].map((away) => day + away).filter((candidate) => candidate >= 1 && candidate <= wall.length);
    const weekdayOf = (candidate: number) => (((wall.weekday + candidate - wall.day) % 7) + 7) % 7;
    return candidates.find((candidate) => isWorkday(weekdayOf(candidate))) === wall.day;
  };
}

function weekdayRule(field: string): (wall: Wall) => boolean {
  const parts = field.split(',').map((part): ((wall: Wall) => boolean) => {
    const last = /^(.*?)#?L$/.exec(part);
    const [range = '', nth] = (last?.[1] ?? part).split('#');
    const days = numbers(range, 0, 7);
    if (range === '*' || days.has(7)) days.add(0);
    return (wall) => {
      if (!days.has(wall.weekday)) return false;
      if (last) return wall.day + 7 > wall.length;
      return nth === undefined || Math.ceil(wall.day / 7) === Number(nth);
    };
  });
  return (wall) => parts.some((part) => part(wall));
}
