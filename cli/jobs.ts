/** Selects and prints jobs for the commands: filters, abbreviated ids, and the common JSON document and table. */
import type { Command } from 'commander';
import { type ErrorDetails, isEscapementError, type JobSelection, type Status, type TaskResult } from 'escapement';
import { given, someOf } from './arguments.ts';
import { type Cell, clean, cleanLines, count, type Mark, shorten, table } from './format.ts';
import { CommandError, exitCodes } from './io.ts';
import { addBackend, type Operation } from './operate.ts';
import { shortDuration } from './time.ts';

export const statuses: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying', 'running', 'successful', 'failed', 'cancelled'];

export interface Filters {
  readonly status?: readonly Status[];
  readonly task?: string;
  readonly queue?: string;
  readonly schedule?: string;
  readonly tag?: string;
  readonly workflow?: string;
  readonly backend?: string;
}

/** Adds the options that select jobs. @param allowed the statuses that the command applies to */
export function addFilters(command: Command, allowed: readonly Status[] = statuses): Command {
  return addBackend(command)
    .option('--status <status>', `${allowed.join(', ')}; several with commas`, someOf(allowed))
    .option('--task <name>', 'of this task')
    .option('--queue <name>', 'in this queue')
    .option('--schedule <name>', 'created by this schedule')
    .option('--tag <tag>', 'with this tag')
    .option('--workflow <id>', 'parts of this workflow');
}

export function selectionOf({ status, task, queue, schedule, tag, workflow }: Filters): JobSelection {
  return given({ status, task, queue, schedule, tag, workflow });
}

/** The filters as command-line options. */
export function filterText({ status, task, queue, schedule, tag, workflow, backend }: Filters): string {
  const options = Object.entries({ status: status?.join(','), task, queue, schedule, tag, workflow, backend }).filter(
    ([, value]) => value !== undefined,
  );
  return options.map(([name, value]) => ` --${name} ${quoted(value as string)}`).join('');
}

function quoted(value: string): string {
  const text = clean(value);
  return /^[\w./:,@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

type Jobs = Pick<Operation['store'], 'jobs'>;

const pageSize = 1_000;
/** The number of newest jobs in which an abbreviated id is searched. */
const recentJobs = 5_000;

/** Counts the matching jobs, up to a limit. */
export async function countJobs(store: Jobs, selection: JobSelection, max: number): Promise<number> {
  let found = 0;
  for await (const page of pages(store, selection, max)) found += page.length;
  return found;
}

/** Reads pages of matching jobs, newest first, until there are at least `max`. */
export async function* pages(store: Jobs, selection: JobSelection, max: number): AsyncGenerator<TaskResult[]> {
  let after: string | undefined;
  let found = 0;
  do {
    const page = await store.jobs.list({ ...selection, limit: pageSize, ...given({ after }) });
    yield page.items;
    found += page.items.length;
    after = page.cursor;
  } while (after !== undefined && found < max);
}

/**
 * The job with this id, or the only recent job whose id begins or ends with it.
 * @throws CommandError if there are none or several
 */
export async function findJob({ tasks, store }: Pick<Operation, 'tasks' | 'store'>, id: string): Promise<TaskResult> {
  try {
    return await tasks.getResult(id);
  } catch (error) {
    if (!isEscapementError(error) || error.code !== 'ESCAPEMENT_RESULT_NOT_FOUND') throw error;
  }
  const refused = (message: string) => new CommandError(message, { exitCode: exitCodes.refused });
  if (id.length < 4 || id.length >= 36) throw refused(`no job has the id ${clean(id)}; finished jobs are deleted after their retention`);
  const part = id.toLowerCase();
  const found: TaskResult[] = [];
  for await (const page of pages(store, {}, recentJobs)) {
    found.push(...page.filter(({ id: whole }) => whole.toLowerCase().startsWith(part) || whole.toLowerCase().endsWith(part)));
  }
  const [first, ...others] = found;
  if (!first) throw refused(`no id of the ${count(recentJobs)} newest jobs begins or ends with ${clean(id)}; give the whole id`);
  if (others.length > 0) {
    const some = found.slice(0, 5).map((job) => `\n${job.id}  ${clean(job.task)}`);
    throw refused(`${found.length} jobs have ids that begin or end with ${clean(id)}; give more of it:${some.join('')}`);
  }
  return first;
}

/** A job in the JSON document of a list. */
export function jobRow(job: TaskResult) {
  const last = job.errors.at(-1);
  return {
    id: job.id,
    task: job.task,
    status: job.status,
    queue: job.queue,
    priority: job.priority,
    attempts: job.attempts,
    maxAttempts: job.maxAttempts,
    tags: job.tags,
    schedule: job.schedule,
    enqueuedAt: job.enqueuedAt,
    runAfter: job.runAfter,
    dueAt: job.dueAt,
    startedAt: job.startedAt,
    finishedAt: job.finishedAt,
    reason: job.reason,
    error: last ? { name: last.name, message: last.message } : null,
  };
}

const marks: Partial<Record<Status, Mark>> = {
  successful: 'green',
  failed: 'red',
  retrying: 'yellow',
  cancelled: 'yellow',
  running: 'bold',
};

export function statusCell(status: Status): Cell {
  return { text: status, mark: marks[status] };
}

/** One line for each job: its task, status and last error. */
export function jobTable(jobs: readonly TaskResult[], { io, paint }: Pick<Operation, 'io' | 'paint'>): string[] {
  const columns = [
    { title: 'id' },
    { title: 'status' },
    { title: 'task' },
    { title: 'queue' },
    { title: 'tries' },
    { title: 'enqueued', align: 'right' as const },
    { title: '' },
  ];
  const rows = jobs.map((job) => [
    job.id,
    statusCell(job.status),
    shorten(clean(job.task), 24, 'middle'),
    shorten(clean(job.queue), 16, 'middle'),
    `${job.attempts}/${job.maxAttempts}`,
    ago(job.enqueuedAt, io.now()),
    shorten(note(job, io.now()), 60),
  ]);
  return table(columns, rows, paint);
}

function note(job: TaskResult, now: number): string {
  if (job.status === 'scheduled' || job.status === 'retrying') return `due in ${shortDuration(Math.max(0, job.dueAt.getTime() - now))}`;
  if (job.reason !== null && job.status === 'cancelled') return clean(job.reason);
  const last = job.errors.at(-1);
  if (job.status === 'failed' && last) return clean(`${last.name}: ${last.message}`);
  if (job.status === 'running' && job.progress) return clean(`${Math.round(job.progress.fraction * 100)} % ${job.progress.message ?? ''}`);
  return clean(job.reason ?? '');
}

/** `3m02s ago`; future instants are `now`, because the clocks of machines differ. */
export function ago(at: Date, now: number): string {
  const ms = now - at.getTime();
  return ms < 1_000 ? 'now' : `${shortDuration(ms)} ago`;
}

/** The code, status and other properties of an error on one line, unless its name or message already contains them; empty if there are none. */
export function propertyLines({ message, code, status, properties }: ErrorDetails): string[] {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const all = Object.entries({ code, status, ...properties }).filter(([, value]) => value !== undefined && !message.includes(text(value)));
  const texts = all.filter(([, value]) => !text(value).startsWith('ESCAPEMENT_')).map(([key, value]) => `${key}=${text(value)}`);
  return texts.length > 0 ? [clean(texts.join('  '))] : [];
}

/** The frames of a stack and the messages of causes and members. The leading lines are dropped: they repeat the error's own message. */
export function placesOf(stack: string): string[] {
  return cleanLines(stack)
    .map((text) => text.trim())
    .filter((text) => /^(?:at |caused by: |error(?: \d+ of \d+)?: |suppressed: )/.test(text));
}
