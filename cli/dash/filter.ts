/** Parses filters as users type them: `status:failed queue:mail timeout`. Words without a name are text to find. */
import type { JobSelection, Status, TaskResult } from 'escapement';
import { given } from '../arguments.ts';
import { statuses } from '../jobs.ts';
import { emptyFilter, type Filter } from './state.ts';

const names = ['status', 'queue', 'task', 'tag', 'schedule'] as const;

/** Parses a filter. Never fails: an unknown status is treated as text. */
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

/** Formats a filter as it would be typed. */
export function filterText(filter: Filter): string {
  const words = names.flatMap((name) => (filter[name] === null ? [] : [`${name}:${filter[name]}`]));
  return [...words, ...(filter.text === '' ? [] : [filter.text])].join(' ');
}

/** The part of a filter that the public API supports. */
export function selectionOf({ text: _, ...rest }: Filter): JobSelection {
  return given(Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, value ?? undefined]))) as JobSelection;
}

/** True if the job's fields contain every word of the text. */
export function holdsText(job: TaskResult, text: string): boolean {
  if (text === '') return true;
  const last = job.errors.at(-1);
  const texts = [job.id, job.task, job.queue, job.tags.join(' '), job.reason ?? '', last ? `${last.name}: ${last.message}` : ''];
  try {
    texts.push(JSON.stringify(job.input) ?? '');
  } catch {
    // An unreadable value does not match.
  }
  const all = texts.join('\n').toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}
