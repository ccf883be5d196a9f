/** Converts results of the public API into the plain data of the views. All text from outside is cleaned here. */
import type { AttemptInfo, Status, StepInfo, TaskDescription, TaskResult } from 'escapement';
import { unversioned } from '../config.ts';
import { clean, cleanLines, shorten } from '../format.ts';
import { propertyLines } from '../jobs.ts';
import { type OutboxEntry, type OutboxMail, textLines } from '../mail.ts';
import { type JobTree, treeLinesOf } from '../tree.ts';
import type { LogLine } from './feed.ts';
import type { Attempt, JobDetail, JobItem, MailDetail, MailItem } from './state.ts';

type Waits = TaskDescription['waitsMs'];

/** @param waitsMs the delays in its task's definition; null if they are unknown here */
export function jobItem(job: TaskResult, waitsMs: Waits): JobItem {
  const last = job.errors.at(-1);
  return {
    id: job.id,
    task: clean(job.task),
    status: job.status,
    queue: clean(job.queue),
    priority: job.priority,
    attempts: job.attempts,
    maxAttempts: job.maxAttempts,
    tags: job.tags.map(clean),
    schedule: job.schedule === null ? null : clean(job.schedule),
    enqueuedAt: job.enqueuedAt.getTime(),
    dueAt: job.dueAt.getTime(),
    startedAt: job.startedAt?.getTime() ?? null,
    lastAttemptedAt: job.lastAttemptedAt?.getTime() ?? null,
    finishedAt: job.finishedAt?.getTime() ?? null,
    reason: job.reason === null ? null : clean(job.reason),
    error: last ? clean(`${last.name}: ${last.message}`) : null,
    progress: job.progress && clean(`${Math.round(job.progress.fraction * 100)} % ${job.progress.message ?? ''}`),
    worker: job.workerIds.length === 0 ? null : clean(job.workerIds.at(-1) ?? ''),
    waits: waitsMs && !job.isFinished ? waitsAfter(waitsMs, job.attempts + 1, job.maxAttempts) : null,
  };
}

/** What the view of a job shows in addition to its row. */
export interface AboutJob {
  readonly log: readonly LogLine[];
  readonly waitsMs: Waits;
  readonly steps: readonly StepInfo[];
  readonly tree: JobTree;
  readonly cwd: string;
}

export function jobDetail(job: TaskResult, { log, waitsMs, steps, tree, cwd }: AboutJob): JobDetail {
  const last = job.errors.at(-1);
  const facts: (readonly [string, string | null])[] = [
    ['unique by', job.uniqueKey],
    ['limit key', limitText(job.limitKeys)],
    ['waits for', job.awaits && `the signal ${job.awaits}`],
    ['workflow', job.workflow && `${job.workflowName}, part ${job.part}`],
  ];
  return {
    facts: facts.flatMap(([title, text]) => (text ? [[title, clean(text)] as const] : [])),
    steps: steps.map(({ name, kind, value, at }) => ({ at: at.getTime(), name: clean(name), text: stepText(kind, value) })),
    tree:
      tree.jobs.length < 2 ? [] : treeLinesOf(tree).map(({ lead, text, status, id }) => ({ lead, text, status, isThis: id === job.id })),
    ...jobItem(job, waitsMs),
    fault: last ? cleanLines(`${last.name}: ${last.message}`) : [],
    input: jsonLines(() => job.input),
    returned: job.status === 'successful' ? jsonLines(() => job.returnValue ?? null) : null,
    history: job.history.map((one) => attemptOf(one, cwd)),
    log,
  };
}

function limitText({ concurrency, rate }: TaskResult['limitKeys']): string | null {
  if (concurrency === null || rate === null || concurrency === rate) return concurrency ?? rate;
  return `${concurrency} (concurrency), ${rate} (rate)`;
}

function stepText(kind: StepInfo['kind'], value: unknown): string {
  if (kind !== 'step' || value === undefined) return '';
  return shorten(clean(JSON.stringify(value) ?? ''), 200);
}

const shortLine = 60;

/** Formats a value as JSON: on one line if it is short, otherwise indented. Stored values may have been changed outside Escapement. */
export function jsonLines(read: () => unknown): string[] {
  try {
    const value = read();
    const text = JSON.stringify(value);
    if (text === undefined) return ['undefined'];
    return text.length <= shortLine
      ? [clean(text.replace(/,(?=")/g, ', ').replace(/":/g, '": '))]
      : cleanLines(JSON.stringify(value, null, 2));
  } catch (error) {
    return [clean(`cannot be read: ${error instanceof Error ? error.message : String(error)}`)];
  }
}

const maxWaits = 100;

/** The delays after `attempt` and each later attempt except the last. */
export function waitsAfter(waitsMs: readonly number[], attempt: number, maxAttempts: number): number[] {
  const length = Math.min(maxWaits, Math.max(0, maxAttempts - attempt));
  return Array.from({ length }, (_, i) => waitsMs[attempt - 1 + i] ?? waitsMs.at(-1) ?? 0);
}

function attemptOf({ attempt, worker, startedAt, endedAt, outcome, error }: AttemptInfo, cwd: string): Attempt {
  return {
    attempt,
    worker: clean(worker),
    startedAt: startedAt.getTime(),
    endedAt: endedAt?.getTime() ?? null,
    outcome: outcome ?? 'running',
    error: error && clean(`${error.name}: ${error.message}`),
    frames: error ? [...propertyLines(error), ...framesOf(error.stack, cwd)] : [],
  };
}

const maxFrames = 8;
const maxSections = 8;

/** The frames of a stack: those in the user's files, then the number of the others. Causes follow, each with its message. */
export function framesOf(stack: string, cwd: string): string[] {
  const sections: { readonly messages: string[]; readonly places: string[] }[] = [{ messages: [], places: [] }];
  for (const text of cleanLines(stack).map((line) => line.trim())) {
    const here = sections.at(-1) as (typeof sections)[number];
    const begins = here.places.length > 0 || /^(?:caused by|error(?: \d+ of \d+)?|suppressed): /.test(text);
    if (text.startsWith('at ')) here.places.push(unversioned(text).replace('file://', '').replace(`${cwd}/`, ''));
    else if (text !== '' && begins) sections.push({ messages: [text], places: [] });
    else if (text !== '') here.messages.push(text);
  }
  // The message of the error itself is already shown above its stack.
  return sections.slice(0, maxSections).flatMap(({ messages, places }, i) => [...(i === 0 ? [] : messages), ...ownFirst(places)]);
}

function ownFirst(places: readonly string[]): string[] {
  const foreign = (text: string) => /node_modules|node:|\/dist\/src\/|\/escapement\/src\//.test(text);
  const own = places.filter((text) => !foreign(text));
  const shown = (own.length > 0 ? own : places).slice(0, maxFrames);
  const more = places.length - shown.length;
  return more > 0 ? [...shown, `▸ ${more} more ${more === 1 ? 'frame' : 'frames'}`] : shown;
}

export const finishedStatuses: ReadonlySet<Status> = new Set(['successful', 'failed', 'cancelled']);

export function mailItem({ job, task, state, at, to, subject, attempts, note }: OutboxEntry): MailItem {
  return {
    job,
    task: clean(task),
    state,
    at: at.getTime(),
    to: clean(to.join(', ')),
    subject: clean(subject),
    attempts,
    note: clean(note ?? ''),
  };
}

export function mailDetail(mail: OutboxMail): MailDetail {
  return {
    ...mailItem(mail),
    from: clean(mail.from),
    messageId: clean(mail.messageId ?? ''),
    accepted: mail.accepted.map(clean),
    refused: mail.refused.map(({ address, response }) => clean(`${address}: ${response}`)),
    attachments: mail.attachments.map(({ filename, size }) => clean(`${filename} (${size} bytes)`)),
    headers: mail.headers === null ? null : cleanLines(mail.headers),
    text: mail.text === null ? null : textLines(mail.text),
  };
}
