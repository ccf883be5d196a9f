/** When a schedule fires next, and which of its occurrences are due. Pure: computed from scheduled times, never from now, so nothing drifts. */
import { nextCron } from './cron.ts';
import type { ScheduleRow, Trigger } from './types.ts';

/** A schedule as code defines it: its row, but for what only the store knows. An `every` without `startAt` counts from when it is first saved. */
export type ScheduleDefinition = Omit<ScheduleRow, 'trigger' | 'nextAt' | 'lastAt' | 'revision' | 'paused'> & {
  readonly trigger: TriggerDefinition;
};
export type TriggerDefinition = Exclude<Trigger, { kind: 'every' }> | Omit<Extract<Trigger, { kind: 'every' }>, 'anchorAt'>;

/**
 * The row to save for a definition, or null when the stored one says the same already. What is unchanged keeps its next instant, so a
 * monthly schedule fires even if every process restarts daily.
 */
export function scheduleRow(definition: ScheduleDefinition, stored: ScheduleRow | undefined, now: number): ScheduleRow | null {
  if (stored?.hash === definition.hash) return null;
  const { trigger } = definition;
  const anchored: Trigger = trigger.kind === 'every' ? { ...trigger, anchorAt: trigger.startAt ?? now } : trigger;
  return {
    ...definition,
    trigger: anchored,
    nextAt: nextOccurrence(anchored, now),
    lastAt: stored?.lastAt ?? null,
    revision: (stored?.revision ?? 0) + 1,
    paused: stored?.paused ?? false,
  };
}

/** The first occurrence after `afterAt` (exclusive), or null if none is left. */
export function nextOccurrence(trigger: Trigger, afterAt: number): number | null {
  const from = trigger.startAt === null ? afterAt : Math.max(afterAt, trigger.startAt - 1);
  const at =
    trigger.kind === 'cron'
      ? nextCron(trigger.expression, trigger.timezone, from)
      : trigger.anchorAt + Math.max(0, Math.floor((from - trigger.anchorAt) / trigger.everyMs) + 1) * trigger.everyMs;
  return at === null || (trigger.endAt !== null && at > trigger.endAt) ? null : at;
}

/** An occurrence missed by more than this is not caught up. */
export const missedGraceMs = 3_600_000;

/** What a due schedule does now: the one occurrence to enqueue, if one is recent enough, and the next instant. */
export interface Firing {
  readonly occurrenceAt: number | null;
  readonly nextAt: number | null;
}

/**
 * The firing of a schedule that is due. Of several missed occurrences the latest runs, if it is at most an hour late; the others are skipped.
 * @param now epoch milliseconds, not before `row.nextAt`
 */
export function fire(row: ScheduleRow, now: number): Firing {
  let latest = row.nextAt;
  if (latest === null) return { occurrenceAt: null, nextAt: null };
  let next = nextOccurrence(row.trigger, latest);
  if (next !== null && next <= now) {
    // Missed occurrences are not walked through one by one: a scheduler that was down for a month has a month of minutes behind it.
    const recent = nextOccurrence(row.trigger, Math.max(latest, now - missedGraceMs - 1));
    if (recent === null || recent > now) next = recent;
    else {
      latest = recent;
      for (next = nextOccurrence(row.trigger, latest); next !== null && next <= now; next = nextOccurrence(row.trigger, latest))
        latest = next;
    }
  }
  return { occurrenceAt: now - latest <= missedGraceMs ? latest : null, nextAt: next };
}
