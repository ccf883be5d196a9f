/** Reconstructs events from jobs and their history, for a dashboard in another process, which receives no events. */
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
 * Events, newest first.
 * @param jobs the jobs that changed last
 * @param whole true if these are all jobs; otherwise events are complete only since the last change of the job that changed least recently
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
    // It did not end with its last attempt: it ended before one started, after a retryable failure, or when its lease expired.
    const last = history.at(-1)?.outcome;
    if (job.finishedAt && ((status === 'cancelled' && last !== 'cancelled') || (status === 'failed' && last !== 'failed')))
      add(job.finishedAt, status, job.reason ?? '');
    // At the same instant, the latest event comes first.
    events.push(...own.reverse());
    if (!whole) knownSince = Math.max(...own.map(({ at }) => at));
  }
  const known = events.filter(({ at }) => at >= knownSince).sort((a, b) => b.at - a.at);
  return known.map((event, i) => ({ ...event, seq: known.length - i }));
}
