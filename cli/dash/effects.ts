/** What writes, in words: the question before it, where one is due. */
import { clean, plural } from '../format.ts';
import { filterText } from './filter.ts';
import type { Effect, Write } from './state.ts';

export const emptyEffects: readonly Effect[] = [];

/** The question that is asked first; null for what concerns one job, queue or schedule. */
export function describe(write: Write): string | null {
  switch (write.kind) {
    case 'retry':
    case 'cancel':
      return write.ids.length > 1 ? `${verbs[write.kind]} ${plural(write.ids.length, 'job')}?` : null;
    case 'retryAll':
      return `Retry every failed or cancelled job${matching(filterText(write.filter))}?`;
    case 'cancelAll':
      return `Cancel every unfinished job${matching(filterText(write.filter))}?`;
    default:
      return null;
  }
}

const verbs = { retry: 'Retry', cancel: 'Cancel' };

function matching(filter: string): string {
  return filter === '' ? ' there is' : ` that matches ${clean(filter)}`;
}
