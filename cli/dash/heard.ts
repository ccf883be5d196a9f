/** For those who watch from outside and hear no events: what the newest jobs tell of what has happened to them. */
import type { AttemptInfo, TaskResult } from 'escapement';
import { clean } from '../format.ts';
import type { EventItem } from './state.ts';

type AttemptOutcome = NonNullable<AttemptInfo['outcome']>;

const names: Readonly<Record<AttemptOutcome, string>> = {
  successful: 'successful',
  failed: 'retrying',
  snoozed: 'snoozed',
  cancelled: 'cancelled',
  lost: 'orphaned',
  released: 'released',
};

/** Newest first. */
export function eventsOfJobs(jobs: readonly TaskResult[]): EventItem[] {
  const events: Omit<EventItem, 'seq'>[] = [];
  for (const job of jobs) {
    const own: Omit<EventItem, 'seq'>[] = [];
    const add = (at: Date, type: string, text: string, worker = '') => {
      own.push({ at: at.getTime(), type, task: clean(job.task), job: job.id, worker: clean(worker), text: clean(text) });
    };
    add(job.enqueuedAt, 'enqueued', job.schedule ?? '');
    const { history, status } = job;
    history.forEach(({ attempt, worker, startedAt, endedAt, outcome, error }, i) => {
      add(startedAt, 'started', attempt > 1 ? `attempt ${attempt}` : '', worker);
      if (!endedAt || !outcome) return;
      const type = status === 'failed' && outcome === 'failed' && i === history.length - 1 ? 'failed' : names[outcome];
      add(endedAt, type, error ? `${error.name}: ${error.message}` : outcome === 'cancelled' ? (job.reason ?? '') : '', worker);
    });
    // Not by its last attempt: before it began, after a failure that would have been tried again, or with its lease.
    const last = history.at(-1)?.outcome;
    if (job.finishedAt && ((status === 'cancelled' && last !== 'cancelled') || (status === 'failed' && last !== 'failed')))
      add(job.finishedAt, status, job.reason ?? '');
    // Of one instant, what came last is first.
    events.push(...own.reverse());
  }
  events.sort((a, b) => b.at - a.at);
  return events.map((event, i) => ({ ...event, seq: events.length - i }));
}
