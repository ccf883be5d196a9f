/** What writes, in words: the question before it, where one is due. */
import type { Status } from 'escapement';
import { clean, plural } from '../format.ts';
import { filterText } from './filter.ts';
import type { Effect, JobVerb, Write } from './state.ts';

export const emptyEffects: readonly Effect[] = [];

/** What is known of a job where it is shown. */
export interface Known {
  readonly task: string;
  readonly status: Status;
}

/**
 * The question that is asked first; null: none is. Deleting, cancelling what runs and pausing a queue are asked for also where they concern
 * one alone.
 * @param known of a job; undefined: it is not on the screen
 * @param count how many jobs match; undefined: they are being counted
 */
export function describe(write: Write, known: (id: string) => Known | undefined, count?: Count): string | null {
  if (write.kind === 'pauseQueue') return `Pause queue ${clean(write.name)}?`;
  if (write.kind === 'sendMail') return write.state === 'held' ? `Send the mail to ${clean(write.to)} for real?` : null;
  if (write.kind === 'dropMail') return `Drop the mail to ${clean(write.to) || 'nobody yet'}?`;
  if (write.kind !== 'jobs') return null;
  const { verb, which, priority } = write;
  const to = priority === undefined ? '' : ` to ${priority}`;
  if (!isIds(which)) {
    const text = filterText(which);
    if (!count) return `${verbs[verb]} every ${eligible[verb]} job${text === '' ? '' : ` that matches ${clean(text)}`}${to}? Counting …`;
    const jobs = `${count.more ? 'more than ' : ''}${plural(count.jobs, `${eligible[verb]} job`)}`;
    const match = count.jobs === 1 && !count.more ? 'matches' : 'match';
    return `${verbs[verb]} ${jobs}${text === '' ? '' : ` that ${match} ${clean(text)}`}${to}?`;
  }
  if (which.length > 1) return `${verbs[verb]} ${plural(which.length, 'job')}${to}?`;
  const id = which[0] ?? '';
  const job = known(id);
  const name = `${job ? clean(job.task) : 'job'} …${id.slice(-6)}`;
  if (verb === 'delete') return `Delete ${name}?`;
  if (verb !== 'cancel' || (job && job.status !== 'running')) return null;
  return `Cancel ${name}${job ? ', which is running' : ''}?`;
}

/** How many jobs a change would concern; `more`: at least one more than that. */
export interface Count {
  readonly jobs: number;
  readonly more: boolean;
}

export function isIds(which: Extract<Write, { kind: 'jobs' }>['which']): which is readonly string[] {
  return Array.isArray(which);
}

const verbs: Readonly<Record<JobVerb, string>> = { retry: 'Retry', cancel: 'Cancel', delete: 'Delete', prioritize: 'Set the priority of' };
const eligible: Readonly<Record<JobVerb, string>> = {
  retry: 'failed or cancelled',
  cancel: 'unfinished',
  delete: 'finished or waiting',
  prioritize: 'waiting',
};

const waiting: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying'];
const finished: readonly Status[] = ['successful', 'failed', 'cancelled'];

/** The statuses of the jobs that a change concerns where it concerns all that match. */
export const concerned: Readonly<Record<JobVerb, readonly Status[]>> = {
  retry: ['failed', 'cancelled'],
  cancel: [...waiting, 'running'],
  delete: [...waiting, ...finished],
  prioritize: waiting,
};

/** The statuses of a job that one can change by hand. */
export const changeable: Readonly<Record<JobVerb, readonly Status[]>> = {
  ...concerned,
  retry: ['failed', 'cancelled', 'waiting', 'scheduled', 'retrying'],
};

/** Does it lead to work that begins as soon as time moves? */
export function startsWork(write: Write): boolean {
  return (
    write.kind === 'enqueue' ||
    write.kind === 'sendMail' ||
    write.kind === 'runSchedule' ||
    write.kind === 'resumeQueue' ||
    (write.kind === 'jobs' && write.verb === 'retry')
  );
}
