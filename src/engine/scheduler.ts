/**
 * A worker's third duty: to bring the schedules defined in code into the store, and to turn due occurrences into jobs. Every worker does
 * this; whoever advances a schedule's row first makes its job, in the same step, so an occurrence never makes two.
 */
import { newJob } from '../core/job.ts';
import { fire, type ScheduleDefinition, scheduleRow } from '../core/schedule.ts';
import type { Job, ScheduleRow } from '../core/types.ts';
import type { Advance, Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';

const batch = 100;
const noTasks: readonly string[] = [];

/** @param definitions the schedules that code defines; asked again at every step, for some may be added while the worker runs */
export function createScheduler(host: Host, store: Store, definitions: () => readonly ScheduleDefinition[]): Step {
  const { clock } = host;
  let synchronised = 0;

  return async () => {
    const now = clock.now();
    const defined = definitions();
    if (defined.length > synchronised) {
      await synchronise(store, defined.slice(synchronised), now);
      synchronised = defined.length;
    }
    for (;;) {
      const answer = store.dueSchedules({ now, limit: batch });
      const due = answer instanceof Promise ? await answer : answer;
      if (due.length === 0) break;
      const advances = due.map((row) => advance(host, row, now));
      const advanced = store.advanceSchedules(advances, { now });
      const won = advanced instanceof Promise ? await advanced : advanced;
      if (host.events.hears('enqueued') || host.events.hears('scheduled')) tell(host, advances, won, now);
      if (due.length < batch) break;
    }
    const next = store.nextDueAt({ now, tasks: noTasks });
    const { scheduleAt } = next instanceof Promise ? await next : next;
    return Math.min(scheduleAt ?? Number.POSITIVE_INFINITY, now + store.pollMs);
  };
}

async function synchronise(store: Store, definitions: readonly ScheduleDefinition[], now: number): Promise<void> {
  const stored = new Map((await store.listSchedules()).map((row) => [row.name, row]));
  for (const definition of definitions) {
    const row = scheduleRow(definition, stored.get(definition.name), now);
    // False: another worker was faster, with the same definitions.
    if (row) await store.saveSchedule(row, { expect: stored.get(row.name)?.revision ?? null });
  }
}

function advance(host: Host, row: ScheduleRow, now: number): Advance {
  const { occurrenceAt, nextAt } = fire(row, now);
  const jobs = occurrenceAt === null ? [] : [scheduledJob(host, row, occurrenceAt, now)];
  return { name: row.name, revision: row.revision, lastAt: occurrenceAt ?? row.lastAt, nextAt, jobs };
}

function scheduledJob(host: Host, row: ScheduleRow, scheduledAt: number, now: number): Job {
  const request = {
    task: row.task,
    queue: row.queue,
    priority: row.priority,
    input: row.input,
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

function tell(host: Host, advances: readonly Advance[], won: readonly boolean[], now: number): void {
  advances.forEach(({ jobs }, i) => {
    if (!won[i]) return;
    for (const job of jobs) {
      host.events.emit({ type: 'scheduled', at: now, job });
      host.events.emit({ type: 'enqueued', at: now, job });
    }
  });
}
