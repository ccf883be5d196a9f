/** Cron expressions: croner parses and matches; this file says what is accepted, with errors that name the field, and where time zones come from. */
import { Cron } from 'croner';
import { show } from './duration.ts';
import type { ConfigFault } from './errors.ts';

const parsed = new Map<string, Cron>();

/** The first instant after `afterAt` at which the expression fires in the zone, or null if there is none. */
export function nextCron(expression: string, timezone: string, afterAt: number): number | null {
  return cron(expression, timezone).nextRun(new Date(afterAt))?.getTime() ?? null;
}

/** Adds what is wrong with an expression and its zone to `faults`. */
export function checkCron(expression: unknown, timezone: unknown, nowAt: number, faults: ConfigFault[]): void {
  if (!isTimezone(timezone)) {
    faults.push({ path: 'timezone', expected: "an IANA time zone such as 'Europe/Berlin' or 'UTC'", got: show(timezone) });
    return;
  }
  const expected = "a cron expression of 5 fields, or 6 with leading seconds, such as '0 9 * * MON-FRI'";
  if (typeof expression !== 'string' || expression.trim() === '') {
    faults.push({ path: 'cron', expected, got: show(expression) });
    return;
  }
  const fields = expression.trim().split(/\s+/).length;
  if (!expression.startsWith('@') && fields !== 5 && fields !== 6) {
    faults.push({ path: 'cron', expected, got: `${show(expression)} with ${fields} field${fields === 1 ? '' : 's'}` });
    return;
  }
  try {
    if (nextCron(expression, timezone, nowAt) === null) {
      faults.push({ path: 'cron', expected: 'an expression that fires', got: `${show(expression)}, which never does` });
    }
  } catch (error) {
    faults.push({
      path: 'cron',
      expected,
      got: `${show(expression)} (${error instanceof Error ? error.message.replace(/^CronPattern: /, '') : 'invalid'})`,
    });
  }
}

/** True for names of the time zone database; offsets such as `+02:00` are no zones, because they know no daylight saving time. */
export function isTimezone(value: unknown): value is string {
  if (typeof value !== 'string' || !/^[A-Za-z][A-Za-z0-9_+\-/]*$/.test(value)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: value });
    return true;
  } catch {
    return false;
  }
}

function cron(expression: string, timezone: string): Cron {
  const key = `${timezone} ${expression}`;
  let found = parsed.get(key);
  if (!found) {
    found = new Cron(expression, { timezone, paused: true });
    parsed.set(key, found);
  }
  return found;
}
