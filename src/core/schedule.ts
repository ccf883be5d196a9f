/**
 * Computes when a schedule fires next, which of its occurrences run, and which of its definitions applies. Pure. Occurrences are computed
 * from scheduled times, never from the current time, so they do not drift. The next occurrence stored in the row decides, so machines with
 * different time zone data do not fire twice.
 */
import { latestCron, nextCron } from './cron.ts';
import { nextSun } from './sun.ts';
import type { Job, ScheduleRow, SingleTrigger, Trigger, WorkerRow } from './types.ts';

/** A schedule as defined by code or a caller: a row without the fields that only the store knows. */
export type ScheduleDefinition = Omit<
  ScheduleRow,
  | 'trigger'
  | 'nextAt'
  | 'occurrenceAt'
  | 'lastAt'
  | 'heldAt'
  | 'runs'
  | 'paused'
  | 'pausedBecause'
  | 'revision'
  | 'hash'
  | 'seen'
  | 'undeclaredAt'
> & { readonly trigger: TriggerDefinition };
/** An `every` with a null anchor counts from when it is first saved. */
export type TriggerDefinition = SingleDefinition | { readonly kind: 'any'; readonly of: readonly SingleDefinition[] };
export type SingleDefinition =
  | Exclude<SingleTrigger, { kind: 'every' }>
  | { readonly kind: 'every'; readonly everyMs: number; readonly anchorAt: number | null };

/** A definition from code, with its hash and, if it has one, the function that computes the input of an occurrence. */
export interface CodeSchedule {
  readonly definition: ScheduleDefinition;
  readonly hash: string;
  /** Returns the encoded input of an occurrence. */
  readonly compute: ((occurrenceAt: number) => string | null) | undefined;
}

const maxSeen = 8;

/**
 * The row to save for a new or changed definition. If the timing is unchanged, the next occurrence is kept: a monthly schedule fires even
 * if every process restarts daily, and a new input does not change when it fires.
 */
export function scheduleRow(definition: ScheduleDefinition, hash: string, stored: ScheduleRow | undefined, now: number): ScheduleRow {
  const trigger = anchored(definition.trigger, definition.startAt, stored?.trigger, now);
  const seen = Object.entries({ ...stored?.seen, [hash]: stored?.seen[hash] ?? now }).sort(([, a], [, b]) => b - a);
  const row: ScheduleRow = {
    ...definition,
    trigger,
    nextAt: null,
    occurrenceAt: null,
    lastAt: stored?.lastAt ?? null,
    heldAt: null,
    runs: stored?.runs ?? 0,
    paused: stored?.paused ?? false,
    pausedBecause: stored?.pausedBecause ?? null,
    revision: (stored?.revision ?? 0) + 1,
    hash,
    seen: Object.fromEntries(seen.slice(0, maxSeen)),
    undeclaredAt: null,
  };
  if (stored === undefined || timing(stored) !== timing(row)) return restarted(row, now, true);
  const kept = { ...row, heldAt: row.enabled ? stored.heldAt : null };
  // The schedule had ended or was disabled, so occurrences since then were not missed.
  return stored.occurrenceAt === null ? restarted(kept, now) : { ...kept, ...coming(kept, stored.occurrenceAt) };
}

/** The row with the first occurrence after now, for a schedule that is new, was paused, or has new timing. */
export function restarted(row: ScheduleRow, now: number, isNew = false): ScheduleRow {
  // If the instant has just passed when the schedule is saved, it counts as late, as if no scheduler had been running.
  const late = isNew && row.trigger.kind === 'at' ? graceOf(row) + 1 : 0;
  // Setting the clock back does not repeat occurrences.
  return { ...row, ...coming(row, nextOccurrence(row, Math.max(now - late, row.lastAt ?? Number.NEGATIVE_INFINITY))) };
}

/** The paused row with its reason; and the resumed row, which continues with the next occurrence. */
export function pausedRow(row: ScheduleRow, because: string): ScheduleRow {
  return { ...row, paused: true, pausedBecause: because, revision: row.revision + 1 };
}
export function resumedRow(row: ScheduleRow, now: number): ScheduleRow {
  return restarted({ ...row, paused: false, pausedBecause: null, undeclaredAt: null, revision: row.revision + 1 }, now);
}

function timing({ trigger, startAt }: ScheduleRow): string {
  return JSON.stringify([trigger, startAt]);
}

function anchored(trigger: TriggerDefinition, startAt: number | null, stored: Trigger | undefined, now: number): Trigger {
  const singles = (of: Trigger | undefined) => (of?.kind === 'any' ? of.of : of ? [of] : []);
  const before = singles(stored);
  const single = (one: SingleDefinition): SingleTrigger => {
    if (one.kind !== 'every' || one.anchorAt !== null) return one as SingleTrigger;
    const same = before.find((other) => other.kind === 'every' && other.everyMs === one.everyMs);
    const kept = startAt === null && same?.kind === 'every' ? same.anchorAt : undefined;
    return { ...one, anchorAt: startAt ?? kept ?? now };
  };
  return trigger.kind === 'any' ? { kind: 'any', of: trigger.of.map(single) } : single(trigger);
}

type Times = Pick<ScheduleRow, 'trigger' | 'startAt' | 'endAt'>;

/** The first occurrence after `afterAt` (exclusive), or null if none is left. */
export function nextOccurrence({ trigger, startAt, endAt }: Times, afterAt: number): number | null {
  const from = startAt === null ? afterAt : Math.max(afterAt, startAt - 1);
  const at = nextOf(trigger, from);
  return at === null || (endAt !== null && at > endAt) ? null : at;
}

/** The last occurrence after `afterAt` and up to `untilAt`, or null. Does not walk through the earlier ones. */
export function latestOccurrence({ trigger, startAt, endAt }: Times, afterAt: number, untilAt: number): number | null {
  const from = startAt === null ? afterAt : Math.max(afterAt, startAt - 1);
  const until = endAt === null ? untilAt : Math.min(untilAt, endAt);
  return until > from ? latestOf(trigger, from, until) : null;
}

function nextOf(trigger: Trigger, afterAt: number): number | null {
  switch (trigger.kind) {
    case 'cron':
      return nextCron(trigger.expression, trigger.timezone, afterAt);
    case 'every':
      return trigger.anchorAt + Math.max(0, Math.floor((afterAt - trigger.anchorAt) / trigger.everyMs) + 1) * trigger.everyMs;
    case 'at':
      return trigger.at > afterAt ? trigger.at : null;
    case 'sun':
      return nextSun(trigger, afterAt);
    case 'any':
      return trigger.of.reduce<number | null>((first, one) => {
        const at = nextOf(one, afterAt);
        return first === null || (at !== null && at < first) ? at : first;
      }, null);
  }
}

function latestOf(trigger: Trigger, afterAt: number, untilAt: number): number | null {
  switch (trigger.kind) {
    case 'cron':
      return latestCron(trigger.expression, trigger.timezone, afterAt, untilAt);
    case 'any':
      return trigger.of.reduce<number | null>((last, one) => {
        const at = latestOf(one, last ?? afterAt, untilAt);
        return at ?? last;
      }, null);
    case 'every': {
      const at = trigger.anchorAt + Math.floor((untilAt - trigger.anchorAt) / trigger.everyMs) * trigger.everyMs;
      return at > afterAt && at >= trigger.anchorAt ? at : null;
    }
    default: {
      // At most one per day.
      let last: number | null = null;
      for (let at = nextOf(trigger, afterAt); at !== null && at <= untilAt; at = nextOf(trigger, at)) last = at;
      return last;
    }
  }
}

/** When a row with this next occurrence fires, jitter included; null if the schedule is disabled, past its end, or has reached `maxRuns`. */
function coming(row: ScheduleRow, occurrenceAt: number | null): Pick<ScheduleRow, 'nextAt' | 'occurrenceAt'> {
  const ended =
    occurrenceAt === null || !row.enabled || (row.endAt !== null && occurrenceAt > row.endAt) || runsLeft(row, row.runs, row.heldAt) === 0;
  return ended ? { nextAt: null, occurrenceAt: null } : { nextAt: fireAt(row, occurrenceAt), occurrenceAt };
}

export function runsLeft({ maxRuns }: ScheduleRow, runs: number, heldAt: number | null): number {
  return maxRuns === null ? Number.POSITIVE_INFINITY : Math.max(0, maxRuns - runs - (heldAt === null ? 0 : 1));
}

/**
 * The occurrence plus its jitter. The jitter is derived from the schedule's name and the occurrence, so it is the same on every machine. It
 * never reaches the next occurrence, so the order is kept.
 */
export function fireAt(row: Times & Pick<ScheduleRow, 'name' | 'jitterMs'>, occurrenceAt: number): number {
  if (row.jitterMs === 0) return occurrenceAt;
  const next = nextOccurrence(row, occurrenceAt);
  const bound = next === null ? row.jitterMs : Math.min(row.jitterMs, next - occurrenceAt - 1);
  return occurrenceAt + Math.floor((Number.parseInt(textHash(`${row.name} ${occurrenceAt}`), 16) / 2 ** 52) * (bound + 1));
}

/** A 52-bit hash of a text as 13 hexadecimal digits; the same on every machine (cyrb53, without its top bit). */
export function textHash(text: string): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 2_654_435_761);
    b = Math.imul(b ^ unit, 1_597_334_677);
  }
  a = Math.imul(a ^ (a >>> 16), 2_246_822_507) ^ Math.imul(b ^ (b >>> 13), 3_266_489_909);
  b = Math.imul(b ^ (b >>> 16), 2_246_822_507) ^ Math.imul(a ^ (a >>> 13), 3_266_489_909);
  return ((b & 0xfffff) * 2 ** 32 + (a >>> 0)).toString(16).padStart(13, '0');
}

/** For schedules that do not catch up, an occurrence counts as missed when it is later than this. */
const onTimeMs = 60_000;
/** Missed occurrences are counted up to this number. */
const maxCounted = 1_000;

/** Why an occurrence created no job. */
export type Skipped = 'missed' | 'overlap';

/** The effects of a due schedule. */
export interface Firing {
  /** Occurrences that create a job, oldest first. */
  readonly occurrences: readonly number[];
  /** True if the schedule's unfinished jobs are to be cancelled. */
  readonly cancels: boolean;
  /** Number of occurrences that create no job, up to 1,000 of each kind. */
  readonly skipped: readonly { readonly reason: Skipped; readonly count: number }[];
  /** The row's new times. */
  readonly times: Pick<ScheduleRow, 'nextAt' | 'occurrenceAt' | 'lastAt' | 'heldAt' | 'runs'>;
}

/**
 * Computes the firing of a schedule that is due, or whose held occurrence no longer has to wait.
 * @param now epoch milliseconds
 * @param open number of jobs of the schedule that are running or about to run; only used if the schedule does not allow overlap
 */
export function fire(row: ScheduleRow, now: number, open: number): Firing {
  let { heldAt, runs } = row;
  const occurrences: number[] = [];
  const isDue = row.nextAt !== null && row.occurrenceAt !== null && row.nextAt <= now;
  // With `cancel-running`, a due occurrence replaces the held one.
  if (heldAt !== null && (open === 0 || row.overlap === 'allow') && !(isDue && row.overlap === 'cancel-running')) {
    occurrences.push(heldAt);
    heldAt = null;
    runs += 1;
  }
  if (row.nextAt === null || row.occurrenceAt === null || row.nextAt > now) {
    const { nextAt, occurrenceAt, lastAt } = row;
    return { occurrences, cancels: false, skipped: [], times: { nextAt, occurrenceAt, lastAt, heldAt, runs } };
  }
  const first = row.occurrenceAt;
  let last = first;
  let next = nextOccurrence(row, first);
  if (next !== null && next <= now) {
    last = latestDue(row, first, now);
    next = nextOccurrence(row, last);
  }
  let due = caught(row, first, last, now);
  const passed = last === first ? 1 : countOf(row, first, last);
  const missed = passed > maxCounted ? maxCounted : passed - due.length;
  if (row.maxRuns !== null) due = due.slice(0, runsLeft(row, runs, heldAt));
  const after = overlapped(row.overlap, due, open + occurrences.length, heldAt);
  occurrences.push(...after.run);
  runs += after.run.length;
  if (!row.enabled || runsLeft(row, runs, after.heldAt) === 0) next = null;
  const nextAt = next === null ? null : fireAt(row, next);
  const skipped: { reason: Skipped; count: number }[] = [];
  if (missed > 0) skipped.push({ reason: 'missed', count: missed });
  if (after.skipped > 0) skipped.push({ reason: 'overlap', count: after.skipped });
  return { occurrences, cancels: after.cancels, skipped, times: { nextAt, occurrenceAt: next, lastAt: last, heldAt: after.heldAt, runs } };
}

/** Corrects the times of a firing after some of its occurrences failed to create a job: they do not count as runs. */
export function recounted(row: ScheduleRow, times: Firing['times'], failures: number): Firing['times'] {
  if (failures === 0) return times;
  const after = { ...row, ...times, runs: times.runs - failures };
  const next = times.occurrenceAt ?? (times.lastAt === null ? null : nextOccurrence(row, times.lastAt));
  return { ...times, ...coming(after, next), runs: after.runs };
}

/** True if the schedule has an occurrence at this instant. */
export function isOccurrence(row: ScheduleRow, at: number): boolean {
  return row.occurrenceAt === at || row.heldAt === at || nextOccurrence(row, at - 1) === at;
}

/** The last occurrence that is due including its jitter. */
function latestDue(row: ScheduleRow, first: number, now: number): number {
  const latest = latestOccurrence(row, first, now) ?? first;
  if (latest === first || fireAt(row, latest) <= now) return latest;
  return latestOccurrence(row, first, latest - 1) ?? first;
}

function graceOf({ missed: { graceMs, catchUp } }: ScheduleRow): number {
  const grace = graceMs ?? Number.POSITIVE_INFINITY;
  return catchUp === 'none' ? Math.min(grace, onTimeMs) : grace;
}

function caught(row: ScheduleRow, first: number, last: number, now: number): number[] {
  const { catchUp, limit } = row.missed;
  const grace = graceOf(row);
  if (first === last) return now - fireAt(row, first) <= grace ? [first] : [];
  const found: number[] = [];
  const maxFound = catchUp === 'all' ? limit : 1;
  for (let at: number | null = last; at !== null && found.length < maxFound && now - fireAt(row, at) <= grace; ) {
    found.unshift(at);
    at = at === first ? null : (latestOccurrence(row, first, at - 1) ?? first);
  }
  return found;
}

function countOf(row: ScheduleRow, first: number, last: number): number {
  let count = 1;
  for (let at: number | null = first; at !== last && count <= maxCounted; count++) {
    at = nextOccurrence(row, at);
    if (at === null || at > last) break;
  }
  return count;
}

function overlapped(
  overlap: ScheduleRow['overlap'],
  due: readonly number[],
  open: number,
  heldAt: number | null,
): { readonly run: readonly number[]; readonly heldAt: number | null; readonly cancels: boolean; readonly skipped: number } {
  if (overlap === 'allow' || due.length === 0) return { run: due, heldAt, cancels: false, skipped: 0 };
  const idle = open === 0 && heldAt === null;
  const of = (run: readonly number[], held: number | null, cancels = false) => {
    const kept = run.length + (held !== null && held !== heldAt ? 1 : 0);
    // An occurrence that was held and has been replaced will not run either.
    const dropped = heldAt !== null && held !== heldAt ? 1 : 0;
    return { run, heldAt: held, cancels, skipped: due.length - kept + dropped };
  };
  if (overlap === 'cancel-running' && open === 0) return of([due.at(-1) as number], null);
  if (overlap === 'skip') return of(idle ? due.slice(0, 1) : [], heldAt);
  if (overlap === 'queue-one') return idle ? of(due.slice(0, 1), due[1] ?? null) : of([], heldAt ?? (due[0] as number));
  const newest = due.at(-1) as number;
  return of([], newest, true);
}

/** What a worker does with a schedule that its code defines. Null: the stored row is kept unchanged. */
export function synchronised(
  { definition, hash }: CodeSchedule,
  stored: ScheduleRow | undefined,
  live: readonly WorkerRow[],
  now: number,
): ScheduleRow | null {
  if (!stored) return scheduleRow(definition, hash, undefined, now);
  if (stored.source === 'code' && stored.hash === hash) {
    if (stored.undeclaredAt === null) return null;
    const declared = { ...stored, undeclaredAt: null, revision: stored.revision + 1 };
    return isUndeclared(stored) ? redeclared(declared, stored, now) : declared;
  }
  const seenAt = stored.seen[hash];
  const later = (other: string) => {
    const at = stored.seen[other];
    // Two versions first seen at the same instant must not alternate.
    return seenAt !== undefined && at !== undefined && (at > seenAt || (at === seenAt && other > hash));
  };
  if (stored.source === 'code' && live.some(({ schedules }) => later(schedules[definition.name] ?? hash))) return null;
  const row = scheduleRow(definition, hash, stored, now);
  return isUndeclared(stored) ? redeclared(row, stored, now) : row;
}

function isUndeclared({ paused, pausedBecause }: ScheduleRow): boolean {
  return paused && pausedBecause === undeclared;
}

/**
 * After a short gap, such as a deployment, occurrences in the gap were missed, and the schedule's rule for missed occurrences applies.
 * After a long gap the schedule restarts.
 */
function redeclared(row: ScheduleRow, { undeclaredAt }: ScheduleRow, now: number): ScheduleRow {
  const resumed = { ...row, paused: false, pausedBecause: null };
  return now - (undeclaredAt ?? 0) < longGapMs && resumed.occurrenceAt !== null ? resumed : restarted(resumed, now);
}

/** True if a worker has started or stopped, or declares different schedules: another version may apply now. */
export function changesVersions(before: WorkerRow | undefined, after: WorkerRow): boolean {
  return before?.state !== after.state || JSON.stringify(before.schedules) !== JSON.stringify(after.schedules);
}

/** A code-defined schedule is paused when no live worker has declared it for this long. */
export const pauseUndeclaredAfterMs = 60_000;
/** A schedule that is declared again after a longer gap was removed from the code and added back. */
const longGapMs = 86_400_000;
export const undeclared = 'no live worker declares it';

/** What to do with a code-defined schedule that no live worker declares. Null: nothing. */
export function undeclaredRow(stored: ScheduleRow, now: number): ScheduleRow | null {
  if (stored.source !== 'code' || stored.paused) return null;
  if (stored.undeclaredAt === null) return { ...stored, undeclaredAt: now, revision: stored.revision + 1 };
  return now - stored.undeclaredAt < pauseUndeclaredAfterMs ? null : pausedRow(stored, undeclared);
}

/** True for a job that waits for a retry: it is not running and may wait for hours. */
export function waitsForRetry({ status, attempt, dueAt }: Job, now: number): boolean {
  return status === 'queued' && attempt > 0 && dueAt > now;
}
