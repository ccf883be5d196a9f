/**
 * A worker's third duty: turning due occurrences of schedules into jobs. All workers do this. The first to advance a schedule's row also
 * inserts its jobs, in one step, so an occurrence never creates two jobs. Saving code-defined schedules in the store is the registry's
 * duty.
 */
import { dependentEvents } from '../core/changes.ts';
import { recordError } from '../core/failure.ts';
import { newJob } from '../core/job.ts';
import { decode } from '../core/json.ts';
import { type CodeSchedule, type Firing, fire, pausedRow, recounted, waitsForRetry } from '../core/schedule.ts';
import type { Amendment, Job, ScheduleRow } from '../core/types.ts';
import { yieldToEventLoop } from '../ports/clock.ts';
import type { Advance, DueSchedule, JobStore, ReadStore, ScheduleStore, Store } from '../ports/store.ts';
import { duplicatesEvent, type Host } from './host.ts';
import { type Keys, keysOf } from './keys.ts';
import type { Step } from './loop.ts';
import { cancelSome } from './operator.ts';

const batch = 100;
/** After this many schedules or jobs the scheduler yields to the event loop, so that many at one instant do not block it. */
const schedulesAtOnce = 25;
const jobsAtOnce = 100;

/** What to do for a due schedule in this step. */
interface Plan {
  readonly row: ScheduleRow;
  readonly firing: Firing;
  readonly advance: Advance;
  /** The errors thrown while computing the inputs of occurrences. */
  readonly failures: readonly unknown[];
  /** True: a job of the schedule that was not running was cancelled for this one, and no event will report its end. */
  readonly isFree: boolean;
}

type DutyStore = ScheduleStore & JobStore & ReadStore & Pick<Store, 'pollMs'>;

export interface Scheduler {
  readonly step: Step;
  /** Returns when to check again after a job has finished: now, if an occurrence may be waiting for it. */
  finished(): number;
}

/** @param schedules the schedules that code defines; a new array after some are added */
export function createScheduler(host: Host, store: DutyStore, schedules: () => readonly CodeSchedule[]): Scheduler {
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
      const returned = store.dueSchedules({ now, limit: batch, computes });
      const answer = returned instanceof Promise ? await returned : returned;
      holding = answer.holding;
      let nextAt = answer.nextAt ?? Number.POSITIVE_INFINITY;
      let checkAgain = false;
      let advanced = 0;
      for (let from = 0; from < answer.due.length; ) {
        if (from > 0) await yieldToEventLoop();
        const plans: Plan[] = [];
        let jobs = 0;
        for (; from < answer.due.length && jobs < jobsAtOnce && plans.length < schedulesAtOnce; from++) {
          const plan = await planned(answer.due[from] as DueSchedule, now);
          if (plan === 'again') checkAgain = true;
          else if (plan) plans.push(plan);
          if (plan && plan !== 'again') jobs += plan.advance.jobs.length;
        }
        if (plans.length === 0) continue;
        advanced += plans.length;
        const advances = plans.map(({ advance }) => advance);
        const returned = store.advanceSchedules(advances, { now });
        const made = returned instanceof Promise ? await returned : returned;
        for (const [i, plan] of plans.entries()) report(host, plan, made[i] ?? null, now);
        for (const { times } of advances) {
          nextAt = Math.min(nextAt, times.nextAt ?? nextAt);
          holding ||= times.heldAt !== null;
        }
        checkAgain ||= plans.some(({ isFree }) => isFree);
      }
      const isMoreDue = answer.due.length === batch && advanced > 0;
      if (!checkAgain && !isMoreDue) return Math.min(nextAt, now + store.pollMs);
      await yieldToEventLoop();
    }
  };

  /** What one schedule does now. `again`: check it again. Undefined: nothing. */
  const planned = async ({ row, open }: DueSchedule, now: number): Promise<Plan | 'again' | undefined> => {
    const own = computing.get(row.name);
    // The schedule may have been removed from the code or renamed. If it is declared again, its rule for missed occurrences applies.
    if (row.undeclaredAt !== null) return undefined;
    // The input of another version is computed by workers with that version.
    if (row.computed && own?.hash !== row.hash) return undefined;
    const waiting = open.filter((job) => waitsForRetry(job, now));
    let plan: Plan;
    try {
      plan = planOf(host, row, open.length - waiting.length, own?.compute, now);
    } catch (error) {
      await setAside(host, store, row, error);
      return undefined;
    }
    // If one of them has started in the meantime, it does run.
    if (plan.firing.occurrences.length > 0 && !(await supersede(host, store, waiting, now))) return 'again';
    if (!plan.firing.cancels) return plan;
    await cancelSome(host, store, open, `schedule ${row.name} fired again`);
    return { ...plan, isFree: open.some(({ status }) => status !== 'running') };
  };
  return { step, finished: () => (holding ? clock.now() : Number.POSITIVE_INFINITY) };
}

/** The row itself is invalid and would fail at every step. Pause it so that other schedules do not wait for it. */
async function setAside(host: Host, store: ScheduleStore, row: ScheduleRow, error: unknown): Promise<void> {
  const { name, message } = recordError(error);
  const because = `computing its occurrences failed: ${name}: ${message}`;
  host.logger.error({ schedule: row.name }, `schedule ${row.name} is paused: ${because}`);
  await store.saveSchedule(pausedRow(row, because), { expect: row.revision });
}

/**
 * Cancels jobs that wait for a retry, because an occurrence replaces them; otherwise both would run. Returns false if some of them no
 * longer wait.
 */
async function supersede(host: Host, store: JobStore, waiting: readonly Job[], now: number): Promise<boolean> {
  if (waiting.length === 0) return true;
  const amendments: Amendment[] = waiting.map(({ id, claim }) => ({
    id,
    expect: { status: 'queued', claim },
    set: { status: 'cancelled', reason: 'superseded', finishedAt: now },
  }));
  const { amended: rows, dependents } = await store.amend(amendments, { now });
  for (const event of dependentEvents(dependents, now)) host.events.emit(event);
  for (const job of rows) if (job) host.events.emit({ type: 'cancelled', at: now, job, worker: null, attempt: job.attempt });
  return rows.every((job) => job !== null);
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
  return { row, firing, failures, advance: { name: row.name, revision: row.revision, times, jobs }, isFree: false };
}

/** The job for an occurrence. */
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
    ...scheduledKeys(host, row, input, now),
  };
  return newJob(request, host.newId(now), now);
}

/**
 * The keys of an occurrence's job. If they cannot be computed, the job is created without them, because there is no caller to handle the
 * error.
 */
function scheduledKeys(host: Host, row: ScheduleRow, input: string | null, now: number): Keys | undefined {
  const definition = host.definitions.get(row.task);
  if (!definition?.unique && !definition?.concurrency && !definition?.rate) return undefined;
  try {
    return keysOf(definition, definition.unique, input, input === null ? undefined : decode(input), now);
  } catch (error) {
    host.logger.warn({ schedule: row.name, task: row.task }, `the job has no keys: ${recordError(error).message}`);
    return undefined;
  }
}

/** @param made null if another scheduler was faster and reports instead */
function report(host: Host, { row, firing, failures }: Plan, made: readonly Job[] | null, now: number): void {
  if (made === null) return;
  const { events, logger } = host;
  if (events.hasListeners('scheduled') || events.hasListeners('enqueued')) {
    for (const job of made) {
      events.emit({ type: 'scheduled', at: now, job });
      events.emit({ type: 'enqueued', at: now, job });
    }
  }
  if (firing.skipped.length === 0 && failures.length === 0) return;
  const common = { type: 'skipped', at: now, schedule: row.name, task: row.task } as const;
  for (const { reason, count } of firing.skipped) {
    events.emit({ ...common, reason, count, error: null });
    if (reason !== 'missed') continue;
    const many = count >= maxCounted ? `${maxCounted} occurrences or more` : count === 1 ? '1 occurrence' : `${count} occurrences`;
    logger.warn(
      duplicatesEvent({ schedule: row.name, count }),
      `${many} passed while no scheduler was running and ${count === 1 ? 'was' : 'were'} skipped`,
    );
  }
  for (const thrown of failures) {
    const error = recordError(thrown);
    events.emit({ ...common, reason: 'failed', count: 1, error });
    logger.error(
      duplicatesEvent({ schedule: row.name, error: `${error.name}: ${error.message}` }),
      'computing the input of an occurrence failed; it creates no job',
    );
  }
}

const maxCounted = 1_000;
