/** What writes, done: through what the package offers to everyone. Each says what it did, in a sentence. */
import type { JobSelection, Tasks } from 'escapement';
import { given } from '../arguments.ts';
import { clean, plural } from '../format.ts';
import { pages } from '../jobs.ts';
import { typedInput } from './definitions.ts';
import type { Filter, Write } from './state.ts';

/** @throws what the package throws; a sentence for people */
export async function carryOut(tasks: Tasks, write: Write): Promise<string> {
  switch (write.kind) {
    case 'retry':
    case 'cancel':
      return changeJobs(tasks, write.kind, write.ids);
    case 'retryAll':
    case 'cancelAll':
      return changeMatching(tasks, write.kind === 'retryAll' ? 'retry' : 'cancel', write.filter);
    case 'enqueue': {
      const job = await tasks.get(write.task).enqueue(typedInput(write.input));
      return `enqueued ${clean(write.task)} as …${job.id.slice(-6)}`;
    }
    case 'pauseQueue':
      await tasks.queues.pause(write.name);
      return `paused queue ${clean(write.name)}; what runs in it goes on`;
    case 'resumeQueue':
      await tasks.queues.resume(write.name);
      return `resumed queue ${clean(write.name)}`;
    case 'runSchedule': {
      const job = await tasks.schedules.runNow(write.name);
      return `enqueued a job of ${clean(write.name)} as …${job.id.slice(-6)}`;
    }
    case 'pauseSchedule':
      await tasks.schedules.pause(write.name, 'paused in the dashboard');
      return `paused ${clean(write.name)}; what passes meanwhile is left out`;
    case 'resumeSchedule':
      await tasks.schedules.resume(write.name);
      return `resumed ${clean(write.name)}`;
  }
}

const past = { retry: 'will try', cancel: 'cancelled' } as const;

async function changeJobs(tasks: Tasks, verb: 'retry' | 'cancel', ids: readonly string[]): Promise<string> {
  const refused: string[] = [];
  let done = 0;
  for (const id of ids) {
    try {
      const job = await tasks.getResult(id);
      if (verb === 'cancel' && job.isFinished) throw new Error(`job …${id.slice(-6)} is ${job.status} already`);
      await (verb === 'retry' ? job.retry() : job.cancel('cancelled in the dashboard'));
      done += 1;
      if (ids.length > 1) continue;
      if (verb === 'retry') return `${clean(job.task)} …${id.slice(-6)} is ${job.status}, and runs as soon as a worker is free`;
      return job.status === 'cancelled'
        ? `cancelled ${clean(job.task)} …${id.slice(-6)}`
        : `${clean(job.task)} …${id.slice(-6)} runs; its worker is told to end it`;
    } catch (error) {
      refused.push(clean((error as Error).message));
    }
  }
  if (done === 0) throw new Error(refused[0] ?? 'nothing was done');
  return `${past[verb]} ${plural(done, 'job')}${refused.length > 0 ? `; ${plural(refused.length, 'job')} could not be: ${refused[0]}` : ''}`;
}

/** Text is looked for here, one page after another; the rest of a filter is the package's. */
async function changeMatching(tasks: Tasks, verb: 'retry' | 'cancel', { text, ...rest }: Filter): Promise<string> {
  const selection = given(Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, value ?? undefined]))) as JobSelection;
  const change = (chosen: JobSelection) =>
    verb === 'retry' ? tasks.jobs.retry(chosen) : tasks.jobs.cancel(chosen, 'cancelled in the dashboard');
  if (text === '') return `${past[verb]} ${plural(await change(selection), 'job')}`;
  const words = text.toLowerCase().split(/\s+/);
  const ids: string[] = [];
  for await (const page of pages(tasks, selection, Number.POSITIVE_INFINITY)) {
    for (const job of page) {
      const last = job.errors.at(-1);
      const all =
        `${job.id} ${job.task} ${job.queue} ${job.tags.join(' ')} ${job.reason ?? ''} ${last ? `${last.name}: ${last.message}` : ''} ${inputText(job)}`.toLowerCase();
      if (words.every((word) => all.includes(word))) ids.push(job.id);
    }
  }
  let done = 0;
  for (let i = 0; i < ids.length; i += 500) done += await change({ ids: ids.slice(i, i + 500) });
  return `${past[verb]} ${plural(done, 'job')}`;
}

function inputText(job: { readonly input: unknown }): string {
  try {
    return JSON.stringify(job.input) ?? '';
  } catch {
    return '';
  }
}
