/** The confirmation questions of changes, and the job statuses that each change applies to. */
import type { Status } from 'escapement';
import { clean, plural } from '../format.ts';
import { filterText } from './filter.ts';
import type { Effect, JobVerb, Write } from './state.ts';

export const emptyEffects: readonly Effect[] = [];

/** The facts about a displayed job. */
export interface Known {
  readonly task: string;
  readonly status: Status;
}

/**
 * The confirmation question of a change; null if none is needed. Deleting, cancelling a running job and pausing a queue need confirmation
 * even for a single one.
 * @param known looks up a job; undefined if it is not on the screen
 * @param count the number of matching jobs; undefined while they are counted
 */
export function describe(write: Write, known: (id: string) => Known | undefined, count?: Count): string | null {
  if (write.kind === 'pauseQueue') return `Pause queue ${clean(write.name)}?`;
  if (write.kind === 'sendMail') return write.state === 'held' ? `Send the email to ${clean(write.to)} for real?` : null;
  if (write.kind === 'dropMail') return `Drop the email to ${clean(write.to) || 'nobody yet'}?`;
  if (write.kind !== 'jobs') return null;
  const { verb, which, priority } = write;
  const to = priority === undefined ? '' : ` to ${priority}`;
  if (!isIds(which)) {
    const text = filterText(which);
    if (!count) return `${verbs[verb]} every ${eligible[verb]} job${text === '' ? '' : ` matching ${clean(text)}`}${to}? Counting …`;
    const jobs = `${count.more ? 'more than ' : ''}${plural(count.jobs, `${eligible[verb]} job`)}`;
    return `${verbs[verb]} ${jobs}${text === '' ? '' : ` matching ${clean(text)}`}${to}?`;
  }
  if (which.length > 1) return `${verbs[verb]} ${plural(which.length, 'job')}${to}?`;
  const id = which[0] ?? '';
  const job = known(id);
  const name = `${job ? clean(job.task) : 'job'} …${id.slice(-6)}`;
  if (verb === 'delete') return `Delete ${name}?`;
  if (verb !== 'cancel' || (job && job.status !== 'running')) return null;
  return `Cancel ${name}${job ? ', which is running' : ''}?`;
}

/** The number of jobs that a change applies to; `more`: there are more than that. */
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

/** The statuses that a change of all matching jobs applies to. */
export const concerned: Readonly<Record<JobVerb, readonly Status[]>> = {
  retry: ['failed', 'cancelled'],
  cancel: [...waiting, 'running'],
  delete: [...waiting, ...finished],
  prioritize: waiting,
};

/** The statuses that a change of individual jobs applies to. */
export const changeable: Readonly<Record<JobVerb, readonly Status[]>> = {
  ...concerned,
  retry: ['failed', 'cancelled', 'waiting', 'scheduled', 'retrying'],
};

/** True if the change causes work that starts as soon as time advances. */
export function startsWork(write: Write): boolean {
  return (
    write.kind === 'enqueue' ||
    write.kind === 'sendMail' ||
    write.kind === 'runSchedule' ||
    write.kind === 'resumeQueue' ||
    (write.kind === 'jobs' && write.verb === 'retry')
  );
}
