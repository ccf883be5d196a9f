/** What writes, in words: the question before it, where one is due. */
import { clean, plural } from '../format.ts';
import { filterText } from './filter.ts';
import type { Effect, Filter, JobVerb, Write } from './state.ts';

export const emptyEffects: readonly Effect[] = [];

/** The question that is asked first; null for what concerns one job, queue or schedule. */
export function describe(write: Write): string | null {
  switch (write.kind) {
    case 'jobs': {
      const { verb, which, priority } = write;
      const to = priority === undefined ? '' : ` to ${priority}`;
      if (!Array.isArray(which)) return `${verbs[verb]} every ${eligible[verb]} job${matching(filterText(which as Filter))}${to}?`;
      return which.length > 1 ? `${verbs[verb]} ${plural(which.length, 'job')}${to}?` : null;
    }
    default:
      return null;
  }
}

const verbs: Readonly<Record<JobVerb, string>> = { retry: 'Retry', cancel: 'Cancel', delete: 'Delete', prioritize: 'Set the priority of' };
const eligible: Readonly<Record<JobVerb, string>> = {
  retry: 'failed or cancelled',
  cancel: 'unfinished',
  delete: 'finished or waiting',
  prioritize: 'waiting',
};

function matching(filter: string): string {
  return filter === '' ? ' there is' : ` that matches ${clean(filter)}`;
}

/** Does it lead to work that begins as soon as time moves? */
export function startsWork(write: Write): boolean {
  return (
    write.kind === 'enqueue' ||
    write.kind === 'runSchedule' ||
    write.kind === 'resumeQueue' ||
    (write.kind === 'jobs' && write.verb === 'retry')
  );
}
