/** Reconstructs events from a job's rows, for listeners that follow other processes. Pure. */
import type { Event, EventName } from './events.ts';
import type { Attempt, Job, JobRecord } from './types.ts';

/** The events that can be derived from rows. */
export const fleetEventNames = [
  'enqueued',
  'started',
  'successful',
  'retrying',
  'snoozed',
  'failed',
  'cancelled',
  'orphaned',
  'released',
] as const satisfies readonly EventName[];
export type FleetEventName = (typeof fleetEventNames)[number];

export interface FleetEvent {
  /** The same every time the row is read. */
  readonly key: string;
  readonly event: Event;
}

/** What has happened to a job, oldest first. Each event has the row as it was when it was read. */
export function fleetEvents({ job, attempts }: JobRecord): FleetEvent[] {
  const found: FleetEvent[] = [{ key: `${job.id} enqueued`, event: { type: 'enqueued', at: job.enqueuedAt, job } }];
  for (const [i, attempt] of attempts.entries()) {
    const { claim, worker, startedAt } = attempt;
    found.push({ key: `${job.id} ${claim} started`, event: { type: 'started', at: startedAt, job, worker, attempt: attempt.attempt } });
    const ended = endOf(job, attempt, attempts[i + 1]);
    if (ended) found.push({ key: `${job.id} ${claim} ended`, event: ended });
  }
  const end = endWithoutAttempt(job, attempts.at(-1));
  if (end) found.push({ key: `${job.id} finished ${job.finishedAt}`, event: end });
  return found;
}

const lostLease = { name: 'LeaseLostError', message: 'the lease ended without an outcome', stack: '' };

function endOf(job: Job, attempt: Attempt, next: Attempt | undefined): Event | undefined {
  const { worker, endedAt: at, outcome, error } = attempt;
  if (at === null || outcome === null) return undefined;
  const common = { at, job, worker, attempt: attempt.attempt };
  const dueAt = next ? next.startedAt : job.dueAt;
  switch (outcome) {
    case 'successful':
      return { type: 'successful', ...common };
    case 'failed':
      if (!next && job.status === 'failed') return { type: 'failed', ...common, error };
      return { type: 'retrying', ...common, error: error ?? lostLease, dueAt };
    case 'snoozed':
      return { type: 'snoozed', ...common, dueAt };
    case 'cancelled':
      return { type: 'cancelled', ...common };
    case 'lost':
      return { type: 'orphaned', ...common, error: error ?? lostLease };
    case 'released':
      return { type: 'released', ...common };
  }
}

/** A job may end before an attempt starts, while it waits for a retry, or when its lease ends. */
function endWithoutAttempt(job: Job, last: Attempt | undefined): Event | undefined {
  const { status, finishedAt: at, attempt } = job;
  if (at === null || (status !== 'cancelled' && status !== 'failed')) return undefined;
  if (last?.outcome === status) return undefined;
  const common = { at, job, worker: null, attempt };
  return status === 'cancelled' ? { type: 'cancelled', ...common } : { type: 'failed', ...common, error: last?.error ?? null };
}
