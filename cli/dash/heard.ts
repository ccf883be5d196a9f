/** For those who watch from outside and hear no events: what jobs tell of what has happened to them. */
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

/**
 * Newest first.
 * @param jobs those to which something happened last
 * @param whole they are all there are; else only what happened since the last change of the oldest of them is known of every job
 */
export function eventsOfJobs(jobs: readonly TaskResult[], whole = true): EventItem[] {
  const events: Omit<EventItem, 'seq'>[] = [];
  let knownSince = Number.NEGATIVE_INFINITY;
  for (const job of jobs) {
    const own: Omit<EventItem, 'seq'>[] = [];
    const add = (at: Date, type: string, text: string, worker = '') => {
      const key = `${job.id} ${own.length}`;
      own.push({ key, at: at.getTime(), type, task: clean(job.task), job: job.id, worker: clean(worker), text: clean(text) });
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
    if (!whole) knownSince = Math.max(...own.map(({ at }) => at));
  }
  const known = events.filter(({ at }) => at >= knownSince).sort((a, b) => b.at - a.at);
  return known.map((event, i) => ({ ...event, seq: known.length - i }));
}
