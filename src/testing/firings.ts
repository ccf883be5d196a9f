/** The invariant checker's model of schedules: the jobs they made and when they fire next. No schedule may fire twice, early, or too often. */
import { fire } from '../core/schedule.ts';
import type { Job, ScheduleRow } from '../core/types.ts';
import type { Advance, DueSchedule } from '../ports/store.ts';

/** What this file needs from the rest of the invariant checker. */
export interface Desk {
  label(id: string): string;
  /** Number of unfinished jobs of a schedule. */
  openOf(schedule: string): number;
  problem(text: string): void;
}

/** An occurrence held by one worker may be fired by another one whose clock is behind. */
const clocksDifferMs = 5_000;

export class Firings {
  readonly #desk: Desk;
  readonly #rows = new Map<string, ScheduleRow>();
  readonly #occurrences = new Set<string>();
  /** Number of jobs that each schedule has created. */
  readonly #made = new Map<string, number>();

  constructor(desk: Desk) {
    this.#desk = desk;
  }

  /** True if any schedule has created a job: others may follow. */
  get any(): boolean {
    return this.#occurrences.size > 0;
  }

  saved(row: ScheduleRow): void {
    this.#rows.set(row.name, row);
  }

  dropped(name: string): void {
    this.#rows.delete(name);
    this.#made.delete(name);
  }

  /** Schedules that should have fired before an instant and have not. */
  lateFor(instant: number): readonly ScheduleRow[] {
    const isLate = ({ nextAt, paused, enabled, heldAt, undeclaredAt }: ScheduleRow) =>
      nextAt !== null && nextAt < instant && !paused && enabled && heldAt === null && undeclaredAt === null;
    return [...this.#rows.values()].filter(isLate);
  }

  due(due: readonly DueSchedule[], now: number): void {
    for (const { row } of due) {
      if (row.paused) this.#desk.problem(`I10: schedule ${row.name} is due although it is paused`);
      if ((row.nextAt ?? Number.POSITIVE_INFINITY) > now && row.heldAt === null)
        this.#desk.problem(`I10: schedule ${row.name} is due before its time`);
    }
  }

  /** Records that a schedule was advanced and created these jobs. */
  advanced({ name, revision, times }: Advance, jobs: readonly Job[], now: number): void {
    const row = this.#rows.get(name);
    if (!row) return;
    if (row.revision !== revision)
      this.#desk.problem(`I10: schedule ${name} was advanced from revision ${revision}, but is at ${row.revision}`);
    else if (row.nextAt !== times.nextAt && row.heldAt === null && row.overlap === 'allow') {
      const expected = fire(row, now, 0).times;
      if (expected.nextAt !== times.nextAt || expected.lastAt !== times.lastAt)
        this.#desk.problem(`I10: schedule ${name} advances to ${times.nextAt} instead of ${expected.nextAt}`);
    }
    this.#fired(row, jobs, now);
    this.#rows.set(name, { ...row, ...times, revision: row.revision + 1 });
  }

  /** Its job was deleted, so another one may be created. */
  freed({ schedule, scheduledAt }: Job): void {
    this.#occurrences.delete(`${schedule} ${scheduledAt}`);
  }

  /** An occurrence has at most one job. */
  occurrence({ schedule, scheduledAt, id }: Job): void {
    if (schedule === null || scheduledAt === null) return;
    const key = `${schedule} ${scheduledAt}`;
    if (this.#occurrences.has(key))
      this.#desk.problem(
        `I10: schedule ${schedule} has created two jobs for ${new Date(scheduledAt).toISOString()}: ${this.#desk.label(id)}`,
      );
    this.#occurrences.add(key);
  }

  /** Checks that a schedule creates no more jobs than allowed, and only for instants at which it fires. */
  #fired({ name, maxRuns, overlap, trigger }: ScheduleRow, jobs: readonly Job[], now: number): void {
    const made = (this.#made.get(name) ?? 0) + jobs.length;
    this.#made.set(name, made);
    if (maxRuns !== null && made > maxRuns) this.#desk.problem(`I10: schedule ${name} has created ${made} jobs, more than ${maxRuns}`);
    const open = jobs.length > 0 ? this.#desk.openOf(name) : 0;
    if ((overlap === 'skip' || overlap === 'queue-one') && open + jobs.length > 1)
      this.#desk.problem(`I10: schedule ${name} has ${open + jobs.length} jobs at once, with overlap ${overlap}`);
    for (const { scheduledAt } of jobs) {
      const at = scheduledAt ?? Number.NaN;
      const fits =
        (trigger.kind !== 'every' || (at - trigger.anchorAt) % trigger.everyMs === 0) &&
        (trigger.kind !== 'at' || at === trigger.at) &&
        (trigger.kind !== 'cron' || at % 1_000 === 0);
      if (!fits || at > now + clocksDifferMs) this.#desk.problem(`I10: schedule ${name} does not fire at ${new Date(at).toISOString()}`);
    }
  }
}
