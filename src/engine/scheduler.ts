/**
 * A worker's third duty: to turn due occurrences of schedules into jobs. Every worker does this; whoever advances a schedule's row first makes
 * its jobs, in the same step, so an occurrence never makes two. Bringing the schedules of code into the store is the registry's duty.
 */
import { recordError } from '../core/failure.ts';
import { newJob } from '../core/job.ts';
import { type CodeSchedule, type Firing, fire, pausedRow, recounted } from '../core/schedule.ts';
import type { Job, ScheduleRow } from '../core/types.ts';
import type { Advance, DueSchedule, Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';
import { cancelSome } from './operator.ts';

const batch = 100;

/** What a due schedule comes to in this step. */
interface Plan {
  readonly row: ScheduleRow;
  readonly firing: Firing;
  readonly advance: Advance;
  /** What was thrown while the input of an occurrence was computed. */
  readonly failures: readonly unknown[];
}

export interface Scheduler {
  readonly step: Step;
  /** When to look again, after some job has finished: now if an occurrence may be waiting for that. */
  finished(): number;
}

/** @param schedules what code defines: another array once some are added */
export function createScheduler(host: Host, store: Store, schedules: () => readonly CodeSchedule[]): Scheduler {
  const { clock } = host;
  let code: readonly CodeSchedule[] = [];
  let computing: ReadonlyMap<string, CodeSchedule> = new Map();
  let computes: readonly string[] = [];
  let holding = false;

  const step = async (): Promise<number> => {
    const now = clock.now();
    if (schedules() !== code) {
      code = schedules();
      computing = new Map(code.filter(({ compute }) => compute).map((one) => [one.definition.name, one]));
      computes = [...computing.keys()];
    }
    for (;;) {
      const asked = store.dueSchedules({ now, limit: batch, computes });
      const answer = asked instanceof Promise ? await asked : asked;
      holding = answer.holding;
      let nextAt = answer.nextAt ?? Number.POSITIVE_INFINITY;
      const plans: Plan[] = [];
      for (const { row, open } of answer.due) {
        const own = computing.get(row.name);
        // Another version's input is that version's to compute.
        if (row.computed && own?.hash !== row.hash) continue;
        try {
          plans.push(planOf(host, row, open.length, own?.compute, now));
        } catch (error) {
          await setAside(host, store, row, error);
        }
      }
      if (plans.length > 0) {
        for (const { row, firing } of plans) if (firing.cancels) await cancelOpen(host, store, row, answer.due);
        const advances = plans.map(({ advance }) => advance);
        const advanced = store.advanceSchedules(advances, { now });
        const made = advanced instanceof Promise ? await advanced : advanced;
        for (const [i, plan] of plans.entries()) tell(host, plan, made[i] ?? null, now);
        for (const { times } of advances) {
          nextAt = Math.min(nextAt, times.nextAt ?? nextAt);
          holding ||= times.heldAt !== null;
        }
        if (answer.due.length === batch) continue;
      }
      return Math.min(nextAt, now + store.pollMs);
    }
  };
  return { step, finished: () => (holding ? clock.now() : Number.POSITIVE_INFINITY) };
}

/** The row itself is at fault, and would be at every step: the others must not wait for it. */
async function setAside(host: Host, store: Store, row: ScheduleRow, error: unknown): Promise<void> {
  const { name, message } = recordError(error);
  const because = `it cannot be fired: ${name}: ${message}`;
  host.logger.error({ schedule: row.name }, `the schedule is paused: ${because}`);
  await store.saveSchedule(pausedRow(row, because), { expect: row.revision });
}

async function cancelOpen(host: Host, store: Store, row: ScheduleRow, due: readonly DueSchedule[]): Promise<void> {
  const open = due.find((one) => one.row === row)?.open ?? [];
  await cancelSome(host, store, open, `schedule ${row.name} fired again`);
}

function planOf(host: Host, row: ScheduleRow, open: number, compute: CodeSchedule['compute'], now: number): Plan {
  const firing = fire(row, now, open);
  const jobs: Job[] = [];
  const failures: unknown[] = [];
  for (const scheduledAt of firing.occurrences) {
    let { input } = row;
    if (row.computed) {
      try {
        input = compute ? compute(scheduledAt) : null;
      } catch (error) {
        failures.push(error);
        continue;
      }
    }
    jobs.push(scheduledJob(host, row, input, scheduledAt, now));
  }
  const times = recounted(row, firing.times, failures.length);
  return { row, firing, failures, advance: { name: row.name, revision: row.revision, times, jobs } };
}

/** The job of an occurrence. */
export function scheduledJob(host: Host, row: ScheduleRow, input: string | null, scheduledAt: number, now: number): Job {
  const request = {
    task: row.task,
    queue: row.queue,
    priority: row.priority,
    input,
    runAfter: null,
    expiresAt: row.expiresMs === null ? null : now + row.expiresMs,
    maxAttempts: row.maxAttempts,
    tags: row.tags,
    metadata: row.metadata,
    overrides: row.overrides,
    schedule: row.name,
    scheduledAt,
  };
  return newJob(request, host.newId(now), now);
}

/** @param made null: another scheduler was faster, and tells */
function tell(host: Host, { row, firing, failures }: Plan, made: readonly Job[] | null, now: number): void {
  if (made === null) return;
  const { events, logger } = host;
  if (events.hears('scheduled') || events.hears('enqueued')) {
    for (const job of made) {
      events.emit({ type: 'scheduled', at: now, job });
      events.emit({ type: 'enqueued', at: now, job });
    }
  }
  if (firing.skipped.length === 0 && failures.length === 0) return;
  const of = { type: 'skipped', at: now, schedule: row.name, task: row.task } as const;
  for (const { reason, count } of firing.skipped) {
    events.emit({ ...of, reason, count, error: null });
    if (reason !== 'missed') continue;
    const many = count >= mostTold ? `${mostTold} occurrences or more` : count === 1 ? '1 occurrence' : `${count} occurrences`;
    logger.warn({ schedule: row.name, count }, `${many} passed while no scheduler ran, and ${count === 1 ? 'is' : 'are'} left out`);
  }
  for (const thrown of failures) {
    const error = recordError(thrown);
    events.emit({ ...of, reason: 'failed', count: 1, error });
    logger.error(
      { schedule: row.name, error: `${error.name}: ${error.message}` },
      'the input of an occurrence cannot be computed: it makes no job',
    );
  }
}

const mostTold = 1_000;
