/** A filter as people type it: `status:failed queue:mail timeout`. What has no name in front is text to look for. */
import type { JobSelection, Status, TaskResult } from 'escapement';
import { given } from '../arguments.ts';
import { statuses } from '../jobs.ts';
import { emptyFilter, type Filter } from './state.ts';

const names = ['status', 'queue', 'task', 'tag', 'schedule'] as const;

/** Never fails: a status that there is none of is text. */
export function parseFilter(typed: string): Filter {
  const filter: Record<(typeof names)[number], string | null> = { status: null, queue: null, task: null, tag: null, schedule: null };
  const words: string[] = [];
  for (const word of typed.split(/\s+/)) {
    const [, name, value] = /^(\w+):(.+)$/.exec(word) ?? [];
    const known = names.find((other) => other === name);
    if (known === undefined || value === undefined) words.push(word);
    else if (known !== 'status') filter[known] = value;
    else if ((statuses as readonly string[]).includes(value)) filter.status = value;
    else words.push(word);
  }
  return { ...emptyFilter, ...filter, status: filter.status as Status | null, text: words.join(' ').trim() };
}

/** The same filter, as it would be typed. */
export function filterText(filter: Filter): string {
  const words = names.flatMap((name) => (filter[name] === null ? [] : [`${name}:${filter[name]}`]));
  return [...words, ...(filter.text === '' ? [] : [filter.text])].join(' ');
}

/** What of a filter the package can select by. */
export function selectionOf({ text: _, ...rest }: Filter): JobSelection {
  return given(Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, value ?? undefined]))) as JobSelection;
}

/** Is every word of the text somewhere in what is known of the job? */
export function holdsText(job: TaskResult, text: string): boolean {
  if (text === '') return true;
  const last = job.errors.at(-1);
  const texts = [job.id, job.task, job.queue, job.tags.join(' '), job.reason ?? '', last ? `${last.name}: ${last.message}` : ''];
  try {
    texts.push(JSON.stringify(job.input) ?? '');
  } catch {
    // What cannot be read holds nothing.
  }
  const all = texts.join('\n').toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}
