/** For those who watch from outside and hear no events: what the newest jobs tell of what has happened to them. */
import type { TaskResult } from 'escapement';
import { clean } from '../format.ts';
import type { EventItem } from './state.ts';

/** Newest first. What a row no longer tells, such as earlier starts, is not among them. */
export function eventsOfJobs(jobs: readonly TaskResult[]): EventItem[] {
  const events: Omit<EventItem, 'seq'>[] = [];
  for (const job of jobs) {
    const own: Omit<EventItem, 'seq'>[] = [];
    const add = (at: Date | null, type: string, text = '') => {
      if (at) own.push({ at: at.getTime(), type, task: clean(job.task), job: job.id, worker: '', text: clean(text) });
    };
    add(job.enqueuedAt, 'enqueued', job.schedule ?? '');
    if (job.status === 'running') add(job.lastAttemptedAt, 'started', job.attempts > 1 ? `attempt ${job.attempts}` : '');
    const failedForGood = job.status === 'failed';
    job.errors.forEach(({ name, message, at }, i) => {
      add(at, failedForGood && i === job.errors.length - 1 ? 'failed' : 'retrying', `${name}: ${message}`);
    });
    if (job.status === 'successful' || job.status === 'cancelled') add(job.finishedAt, job.status, job.reason ?? '');
    if (failedForGood && job.errors.length === 0) add(job.finishedAt, 'failed', job.reason ?? '');
    // Of one instant, what came last is first.
    events.push(...own.reverse());
  }
  events.sort((a, b) => b.at - a.at);
  return events.map((event, i) => ({ ...event, seq: events.length - i }));
}
