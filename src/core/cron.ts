/**
 * Cron expressions. croner parses them; this file converts the result to bit fields and walks them over local days in a zone's spans.
 *
 * **Syntax.** Five fields, six with leading seconds, or seven with a `*` for the year (Quartz): lists, ranges, steps (`10-30/5`, or after a
 * star), names (`MON` or `Monday`, `JAN` or `January`, in any case), 7 for Sunday; `L` (last day), `L-3` (three days before the last),
 * `15W` (nearest weekday within the month), `LW`; `MON#2`, `FRIL` or `FRI#L`; `?` in a day field means `*`. `5/15` means `5-59/15`, from 5
 * to the end of the field. A range whose end is below its start wraps, and its steps continue across the wrap: `22-2/2` is 22, 0, 2;
 * `FRI-MON` is Friday to Monday. Nicknames: `@yearly @annually @monthly @weekly @daily @midnight @hourly`. If day-of-month and day-of-week
 * are both restricted, a day matches if either does (Vixie cron). Only a bare `*` is unrestricted; a stepped star is restricted (as in
 * croner, unlike Vixie cron). `+FRI` in day-of-week requires both (OCPS 1.4). Refused, although croner or others accept them: years, `?` in
 * other fields (AWS orders the fields differently), `@reboot`, `@every`, `H`, `R`, `TZ=`, `SUN-SUN` and other ranges that wrap to the whole
 * field, `L` alone in day-of-week.
 *
 * **Clock changes.** An expression without `*` in second, minute and hour, including lists, ranges and stepped ranges, is an *appointment*:
 * a local time that falls into a gap runs once, at the first instant after the gap, and all times in one gap make one run; a repeated time
 * runs the first time only. In short, an appointment runs when the clocks first show its time or a later one. Its day fields are matched on
 * the local date that was skipped. With `*` in any of the three fields the expression is an *interval*: it runs whenever the clocks show a
 * matching time; times in a gap do not exist, and repeated times run twice. (Vixie cron and cronie, extended to lists.) Ranges that wrap
 * and `5/15` contain no star: `0 0/2 * * *` is an appointment, like `0 0-23/2 * * *`; with a stepped star in the hour field it is an
 * interval. Only the three time-of-day fields count: a star in day, month, weekday or year does not make an interval.
 *
 * **Horizon.** The Gregorian calendar repeats after 400 years, so an expression that matches any day matches one within that time. Whether
 * it does is determined at parse time. An interval that matches only times that a zone always skips gives null after 400 years.
 */
import { CronPattern } from 'croner';
import { latestInstant, show } from './duration.ts';
import type { ConfigFault } from './errors.ts';
import { fieldsOf } from './words.ts';
import { firstShown, isTimezone, spanAt, timezoneExpected, unseenLocal, type Zone, zoneOf } from './zone.ts';

export { describeCron } from './words.ts';
export { isTimezone, timezoneExpected } from './zone.ts';

const dayMs = 86_400_000;
const horizonMs = 146_097 * dayMs;
const horizonMonths = 4_800;
const longestExpression = 1_000;
/** Number of parsed expressions to cache; each takes about a kilobyte. */
const maxCached = 1_000;

/** For each value of a field, the next and the previous matching value, itself included; -1 if there is none. */
interface Dial {
  readonly next: Int8Array;
  readonly previous: Int8Array;
}

/** An expression as bit fields. */
interface Pattern {
  readonly appointment: boolean;
  readonly second: Dial;
  readonly minute: Dial;
  readonly hour: Dial;
  /** Bit 0 is January. */
  readonly months: number;
  /** The matching days of a month as bits for each {@link monthKind}; bit 0 is the 1st. */
  readonly days: Int32Array;
  /** False if no month has a matching day, as for the 30th of February. */
  readonly fires: boolean;
  /** The first and the last matching second of a day. */
  readonly firstSecond: number;
  readonly lastSecond: number;
}

const patterns = new Map<string, Pattern>();

/**
 * The first instant after `afterAt` at which the expression fires in the zone, in epoch milliseconds, always a whole second; null if there
 * is none within 400 years.
 * @throws TypeError or RangeError for an expression or a zone that {@link checkCron} refuses
 */
export function nextCron(expression: string, timezone: string, afterAt: number): number | null {
  const pattern = patternOf(expression);
  const zone = zoneOf(timezone);
  if (!pattern.fires) return null;
  const at = pattern.appointment
    ? firstShown(zone, nextLocal(pattern, unseenLocal(zone, afterAt)))
    : nextShown(pattern, zone, Math.floor(afterAt / 1_000) * 1_000 + 1_000);
  return at <= latestInstant ? at : null;
}

/**
 * The latest instant after `afterAt`, up to and including `untilAt`, at which the expression fires in the zone, or null if there is none.
 * Walks back from `untilAt`, so its cost does not depend on the number of occurrences in between.
 * @throws TypeError or RangeError for an expression or a zone that {@link checkCron} refuses
 */
export function latestCron(expression: string, timezone: string, afterAt: number, untilAt: number): number | null {
  const pattern = patternOf(expression);
  const zone = zoneOf(timezone);
  if (!pattern.fires || untilAt <= afterAt) return null;
  const at = pattern.appointment
    ? firstShown(zone, previousLocal(pattern, unseenLocal(zone, untilAt) - 1_000))
    : previousShown(pattern, zone, afterAt, Math.floor(untilAt / 1_000) * 1_000);
  return at > afterAt ? at : null;
}

/** Appends the faults of an expression and its zone to `faults`, one per invalid field. */
export function checkCron(expression: unknown, timezone: unknown, nowAt: number, faults: ConfigFault[]): void {
  const before = faults.length;
  const zoned = isTimezone(timezone);
  if (!zoned) faults.push({ path: 'timezone', expected: timezoneExpected, got: show(timezone) });
  if (typeof expression !== 'string' || expression.trim() === '') faults.push({ path: 'cron', expected: forms, got: show(expression) });
  else if (expression.length > longestExpression) {
    faults.push({ path: 'cron', expected: `at most ${longestExpression} characters`, got: `${expression.length}` });
  } else checkFields(expression, faults);
  if (faults.length > before || typeof expression !== 'string' || !zoned) return;
  if (nextCron(expression, timezone, nowAt) === null) {
    faults.push({ path: 'cron', expected: 'an expression that fires', got: `${show(expression)}, which never does` });
  }
}

const forms = "a cron expression of 5 fields, or 6 with leading seconds, such as '0 9 * * MON-FRI'";
const nicknames = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly'];
const fieldRules = [
  ['second', '0-59'],
  ['minute', '0-59'],
  ['hour', '0-23'],
  ['day-of-month', '1-31, L, L-3, LW or 15W'],
  ['month', '1-12 or JAN-DEC'],
  ['day-of-week', '0-7 or SUN-SAT, also as MON#2 or FRIL'],
] as const;

/** Forms that other tools accept, and what to write instead. */
const elsewhere: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/^@reboot\b/i, 'for @reboot, enqueue the task where your program starts'],
  [/^@every\b/i, "for @every, use `every: '5m'` instead of `cron`"],
  [/^(?:CRON_)?TZ=/i, "for TZ=, set the schedule's `timezone`"],
  [/^cron\(/i, 'for cron(…), give only the fields'],
  [/^rate\(/i, "for rate(…), use `every: '5m'` instead of `cron`"],
];

function checkFields(expression: string, faults: ConfigFault[]): void {
  const fields = fieldsOf(expression);
  const instead = elsewhere.find(([pattern]) => pattern.test(expression.trim()))?.[1];
  const isMacro = fields[0]?.startsWith('@') === true;
  let got = show(expression);
  if (isMacro ? fields.length > 1 || !nicknames.includes((fields[0] as string).toLowerCase()) : instead !== undefined) {
    const expected = isMacro ? `one of ${nicknames.join(', ')}` : forms;
    faults.push({ path: 'cron', expected: instead === undefined ? expected : `${expected}; ${instead}`, got });
    return;
  }
  if (isMacro) return;
  if (fields.length !== 5 && fields.length !== 6) {
    got += ` with ${fields.length} field${fields.length === 1 ? '' : 's'}`;
    const years = fields.length === 7 ? '; a seventh field, for years, can only be *: use `startAt` and `endAt`' : '';
    faults.push({ path: 'cron', expected: `${forms}${years}`, got });
    return;
  }
  const offset = fieldRules.length - fields.length;
  for (const [i, field] of fields.entries()) {
    const [name, range] = fieldRules[i + offset] as (typeof fieldRules)[number];
    const fault = misplaced(field, i + offset, offset === 0) ?? fieldFault(field, i + offset);
    if (fault !== undefined) faults.push({ path: 'cron', expected: `${name} to be ${range}`, got: `${show(field).slice(1, -1)}${fault}` });
  }
}

/** Characters with another meaning in other tools, and what to write instead. */
function misplaced(field: string, index: number, seconds: boolean): string | undefined {
  if (/^[hr](?:\(.*\))?(?:\/\d+)?$/i.test(field))
    return ` (write a value instead of ${field[0]}, and spread the load by the schedule's \`jitter\`)`;
  if (!field.includes('?') || index === 3 || index === 5) return undefined;
  const order = seconds ? "; six fields begin with the second and have no year: for AWS's `0 12 * * ? *` write `0 12 * * *`" : '';
  return ` (? stands for day-of-month or day-of-week${order})`;
}

/**
 * Describes the fault in one field. croner parses an expression in which only this field is restricted. Its reason is included if it says
 * more than "not in range", because croner counts days and months from 0, which would mislead.
 */
function fieldFault(field: string, index: number): string | undefined {
  const fields = ['*', '*', '*', '*', '*', '*'];
  fields[index] = field;
  try {
    parse(fields.join(' '));
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^CronPattern: (Syntax error, )?/, '') : '';
    return reason === '' || /Invalid value|not a number|illegal characters/.test(reason) ? '' : ` (${reason})`;
  }
}

/** The result of croner, and the days before the last, which croner does not know. */
interface Parsed extends CronPattern {
  readonly beforeLast: readonly number[];
}

/** @throws TypeError or RangeError, as croner does */
function parse(expression: string): Parsed {
  const fields = fieldsOf(expression);
  if (fields[0]?.startsWith('@'))
    return Object.assign(new CronPattern(expression.trim(), undefined, { mode: '5-or-6-parts' }), { beforeLast: [] });
  const offset = fieldRules.length - fields.length;
  const beforeLast: number[] = [];
  const plain = fields.map((field, i) => plainField(field, i + offset, beforeLast));
  const isEmpty = plain[3 - offset] === '';
  // croner requires a day.
  if (isEmpty) plain[3 - offset] = '1';
  const parsed = new CronPattern(plain.join(' '), undefined, { mode: '5-or-6-parts' });
  if (isEmpty) parsed.day.fill(0);
  return Object.assign(parsed, { beforeLast });
}

const weekdayNames = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
const monthNames = ['', 'JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
/** The first and the last value of each field. */
const bounds = [
  [0, 59],
  [0, 59],
  [0, 23],
  [1, 31],
  [1, 12],
  [0, 6],
] as const;

/** Rewrites one field in the forms that croner accepts. Fields that use none of our extensions are passed to croner unchanged. */
function plainField(field: string, index: number, beforeLast: number[]): string {
  const [, sign = '', list = ''] = /^(\+?)(.*)$/.exec(field) ?? [];
  const parts = list.split(',').flatMap((part) => {
    const before = index === 3 ? /^L-(\d{1,2})$/i.exec(part) : null;
    if (!before) return [plainPart(part, index)];
    const days = Number(before[1]);
    if (days < 1 || days > 30) throw new TypeError('CronPattern: L-1 to L-30 are days before the last');
    beforeLast.push(days);
    return [];
  });
  return sign + parts.join(',');
}

function plainPart(part: string, index: number): string {
  const [, fromText, toText, stepText] = /^([a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?(?:\/(\d{1,2}))?$/i.exec(part) ?? [];
  const [first, last] = bounds[index] as (typeof bounds)[number];
  const given = numberOf(fromText, index);
  if (given === undefined || (toText === undefined && stepText === undefined)) return part;
  const isSeventh = index === 5 && given === 7;
  if (toText === undefined) return isSeventh ? '7' : `${given}-${last}/${stepText}`;
  const to = numberOf(toText, index);
  const from = isSeventh && to !== 7 ? 0 : given;
  if (to === undefined || to < first || from < first || to > last || from > last || to > from)
    return isSeventh ? part.replace('7', String(from)) : part;
  // Monday to Sunday is a common way to write a week. Any other range over the whole field is more likely a mistake.
  if (to === from ? index === 5 && from === 0 : to === from - 1 && !(index === 5 && to === 0))
    throw new TypeError('CronPattern: the range covers the whole field; write *');
  if (to === from) return part;
  const [size, step] = [last - first + 1, Number(stepText ?? 1)];
  if (step < 1 || step > size) throw new TypeError(`CronPattern: a step is from 1 to ${size}`);
  const values: number[] = [];
  for (let value = from; value <= to + size; value += step) values.push(first + ((value - first) % size));
  return values.join(',');
}

function numberOf(text: string | undefined, index: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d/.test(text)) return Number(text);
  const names = index === 4 ? monthNames : index === 5 ? weekdayNames : [];
  const value = names.indexOf(text.toUpperCase());
  return value < 0 ? undefined : value;
}

function patternOf(expression: string): Pattern {
  let pattern = patterns.get(expression);
  if (!pattern) {
    pattern = compile(parse(expression));
    if (patterns.size >= maxCached) patterns.clear();
    patterns.set(expression, pattern);
  }
  return pattern;
}

function compile(parsed: Parsed): Pattern {
  const fields = parsed.pattern.trim().split(/\s+/);
  const second = dial(parsed.second);
  const minute = dial(parsed.minute);
  const hour = dial(parsed.hour);
  const months = parsed.month.reduce((bits, set, i) => (set ? bits | (1 << i) : bits), 0);
  const days = new Int32Array(28);
  for (let kind = 0; kind < 28; kind++) days[kind] = daysOf(parsed, 28 + Math.floor(kind / 7), kind % 7);
  return {
    appointment: !fields.slice(0, fields.length - 3).some((field) => /[*?]/.test(field)),
    second,
    minute,
    hour,
    months,
    days,
    fires: parsed.month.some((set, i) => set && [...days].some((bits, kind) => bits !== 0 && hasLength(i, 28 + Math.floor(kind / 7)))),
    firstSecond: ((hour.next[0] as number) * 60 + (minute.next[0] as number)) * 60 + (second.next[0] as number),
    lastSecond: ((hour.previous[23] as number) * 60 + (minute.previous[59] as number)) * 60 + (second.previous[59] as number),
  };
}

/** One more value than the field has, so that a lookup past its end returns -1. */
function dial(set: readonly number[]): Dial {
  const next = new Int8Array(set.length + 1).fill(-1);
  const previous = new Int8Array(set.length + 1).fill(-1);
  for (let i = set.length - 1; i >= 0; i--) next[i] = set[i] ? i : (next[i + 1] as number);
  for (let i = 0; i < set.length; i++) previous[i] = set[i] ? i : i === 0 ? -1 : (previous[i - 1] as number);
  return { next, previous };
}

/** The matching days, as bits, of a month with this many days that starts on this weekday (0 is Sunday). */
function daysOf(parsed: Parsed, length: number, firstWeekday: number): number {
  const weekdayOf = (day: number) => (firstWeekday + day - 1) % 7;
  const lastWeekday = [length, length - 1, length - 2].find((day) => weekdayOf(day) % 6 !== 0);
  let bits = 0;
  for (let day = 1; day <= length; day++) {
    const byDay =
      Boolean(parsed.day[day - 1]) ||
      (parsed.lastDayOfMonth && day === length) ||
      (parsed.lastWeekday && day === lastWeekday) ||
      parsed.beforeLast.includes(length - day) ||
      parsed.nearestWeekdays.some((set, i) => set && i < length && nearestWeekday(i + 1, length, weekdayOf(i + 1)) === day);
    // croner's bits: 1 to 16 for the first to the fifth of that weekday, 32 for the last, all of them for any.
    const nth = parsed.dayOfWeek[weekdayOf(day)] as number;
    const byWeekday = (nth & (1 << Math.floor((day - 1) / 7))) !== 0 || ((nth & 32) !== 0 && day + 7 > length);
    const either = !parsed.starDOM && !parsed.starDOW && !parsed.useAndLogic;
    if (either ? byDay || byWeekday : byDay && (parsed.starDOW || byWeekday)) bits |= 1 << (day - 1);
  }
  return bits;
}

/** The weekday nearest to a day, in the same month (Quartz, OCPS 1.3). */
function nearestWeekday(day: number, length: number, weekday: number): number {
  if (weekday === 6) return day === 1 ? 3 : day - 1;
  if (weekday === 0) return day === length ? day - 2 : day + 1;
  return day;
}

function hasLength(month: number, length: number): boolean {
  return length === monthLength(1, month) || (month === 1 && length === 29);
}

function monthLength(year: number, month: number): number {
  if (month === 1) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 3 || month === 5 || month === 8 || month === 10 ? 30 : 31;
}

/** The first instant at or after `at` at which the clocks show a matching time; Infinity if there is none. */
function nextShown(pattern: Pattern, zone: Zone, at: number): number {
  const horizonAt = at + horizonMs;
  let span = spanAt(zone, at);
  let from = at + span.offset;
  let local = nextLocal(pattern, from);
  // `local` is the first match at or after `from`. It also applies to the next span, unless that span's clocks start before `from` or after `local`.
  while (local >= span.endAt + span.offset) {
    span = spanAt(zone, span.endAt);
    if (span.startAt > horizonAt) return Number.POSITIVE_INFINITY;
    const startLocal = span.startAt + span.offset;
    if (startLocal < from || startLocal > local) {
      from = startLocal;
      local = nextLocal(pattern, from);
    }
  }
  return local - span.offset;
}

/** The last instant after `afterAt` and up to `at` at which the clocks show a matching time; -Infinity if there is none. */
function previousShown(pattern: Pattern, zone: Zone, afterAt: number, at: number): number {
  const horizonAt = Math.max(afterAt, at - horizonMs);
  let span = spanAt(zone, at);
  let until = at + span.offset;
  let local = previousLocal(pattern, until);
  while (local < span.startAt + span.offset) {
    if (span.startAt <= horizonAt) return Number.NEGATIVE_INFINITY;
    span = spanAt(zone, span.startAt - 1);
    const lastLocal = span.endAt - 1_000 + span.offset;
    if (lastLocal > until || lastLocal < local) {
      until = lastLocal;
      local = previousLocal(pattern, until);
    }
  }
  return local - span.offset;
}

/** The first matching local time at or after `from`, both in milliseconds as if local time were UTC. */
function nextLocal(pattern: Pattern, from: number): number {
  const today = Math.floor(from / dayMs);
  const date = dateOf(today);
  let year = (date >> 9) | 0;
  let month = (date >> 5) & 15;
  const day = date & 31;
  let monthStart = today - day + 1;
  let bits = daysIn(pattern, year, month, monthStart) >>> (day - 1);
  if ((bits & 1) !== 0) {
    const second = nextSecond(pattern, (from - today * dayMs) / 1_000);
    if (second >= 0) return today * dayMs + second * 1_000;
  }
  bits = (bits & ~1) << (day - 1);
  for (let i = 0; i <= horizonMonths; i++) {
    if (bits !== 0) return (monthStart + 31 - Math.clz32(bits & -bits)) * dayMs + pattern.firstSecond * 1_000;
    monthStart += monthLength(year, month);
    month = month === 11 ? 0 : month + 1;
    if (month === 0) year += 1;
    bits = daysIn(pattern, year, month, monthStart);
  }
  return Number.POSITIVE_INFINITY;
}

/** The last matching local time up to and including `until`. */
function previousLocal(pattern: Pattern, until: number): number {
  const today = Math.floor(until / dayMs);
  const date = dateOf(today);
  let year = (date >> 9) | 0;
  let month = (date >> 5) & 15;
  const day = date & 31;
  let monthStart = today - day + 1;
  let bits = daysIn(pattern, year, month, monthStart) & ((1 << (day - 1)) * 2 - 1);
  if ((bits & (1 << (day - 1))) !== 0) {
    const second = previousSecond(pattern, (until - today * dayMs) / 1_000);
    if (second >= 0) return today * dayMs + second * 1_000;
    bits &= ~(1 << (day - 1));
  }
  for (let i = 0; i <= horizonMonths; i++) {
    if (bits !== 0) return (monthStart + 31 - Math.clz32(bits)) * dayMs + pattern.lastSecond * 1_000;
    month = month === 0 ? 11 : month - 1;
    if (month === 11) year -= 1;
    monthStart -= monthLength(year, month);
    bits = daysIn(pattern, year, month, monthStart);
  }
  return Number.NEGATIVE_INFINITY;
}

/** The matching days of a month as bits. `monthStart` is its first day, in days since 1970-01-01, a Thursday. */
function daysIn(pattern: Pattern, year: number, month: number, monthStart: number): number {
  if ((pattern.months & (1 << month)) === 0) return 0;
  const weekday = (((monthStart + 4) % 7) + 7) % 7;
  return pattern.days[(monthLength(year, month) - 28) * 7 + weekday] as number;
}

/**
 * Year, month (from 0) and day for a number of days since 1970-01-01, packed into one number to avoid allocation. After Howard Hinnant,
 * `civil_from_days`.
 */
function dateOf(days: number): number {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1_460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 2 : monthFromMarch - 10;
  return ((era * 400 + yearOfEra + (month < 2 ? 1 : 0)) << 9) | (month << 5) | day;
}

/** The first matching second of the day at or after `from`, or -1. */
function nextSecond({ hour, minute, second, firstSecond }: Pattern, from: number): number {
  const h = Math.floor(from / 3_600);
  const m = Math.floor(from / 60) - h * 60;
  const firstOfHour = firstSecond % 3_600;
  if (hour.next[h] === h) {
    if (minute.next[m] === m) {
      const s = second.next[from % 60] as number;
      if (s >= 0) return h * 3_600 + m * 60 + s;
    }
    const laterMinute = minute.next[m + 1] as number;
    if (laterMinute >= 0) return h * 3_600 + laterMinute * 60 + (firstOfHour % 60);
  }
  const laterHour = hour.next[h + 1] as number;
  return laterHour >= 0 ? laterHour * 3_600 + firstOfHour : -1;
}

/** The last matching second of the day up to and including `until`, or -1. */
function previousSecond({ hour, minute, second, lastSecond }: Pattern, until: number): number {
  const h = Math.floor(until / 3_600);
  const m = Math.floor(until / 60) - h * 60;
  const lastOfHour = lastSecond % 3_600;
  if (hour.next[h] === h) {
    if (minute.next[m] === m) {
      const s = second.previous[until % 60] as number;
      if (s >= 0) return h * 3_600 + m * 60 + s;
    }
    const earlierMinute = m === 0 ? -1 : (minute.previous[m - 1] as number);
    if (earlierMinute >= 0) return h * 3_600 + earlierMinute * 60 + (lastOfHour % 60);
  }
  const earlierHour = h === 0 ? -1 : (hour.previous[h - 1] as number);
  return earlierHour >= 0 ? earlierHour * 3_600 + lastOfHour : -1;
}
