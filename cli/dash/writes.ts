/** Performs the changes of the dashboard through the public API. Each returns a sentence that describes the result. */
import type { JobSelection, TaskResult, Tasks } from 'escapement';
import { clean, plural } from '../format.ts';
import { pages } from '../jobs.ts';
import { mailOf } from '../mail.ts';
import type { StoreOperations } from '../operate.ts';
import { type Count, concerned, isIds } from './effects.ts';
import { holdsText, selectionOf } from './filter.ts';
import { typedInput } from './inputs.ts';
import type { Filter, Write } from './state.ts';

type JobsWrite = Extract<Write, { kind: 'jobs' }>;

/** @param store the store of the jobs and queues @returns a sentence for the user @throws the errors of the public API */
export async function carryOut(tasks: Tasks, write: Write, store: StoreOperations = tasks): Promise<string> {
  switch (write.kind) {
    case 'jobs':
      return isIds(write.which) ? changeJobs(tasks, write, write.which) : changeMatching(store, write, write.which);
    case 'enqueue': {
      const job = await tasks.get(write.task).enqueue(typedInput(write.input));
      return `enqueued ${clean(write.task)} as …${job.id.slice(-6)}`;
    }
    case 'pauseQueue':
      await store.queues.pause(write.name);
      return `paused queue ${clean(write.name)}; running jobs continue`;
    case 'resumeQueue':
      await store.queues.resume(write.name);
      return `resumed queue ${clean(write.name)}`;
    case 'sendMail':
      await outboxOf(tasks).send(write.job);
      return `the email …${write.job.slice(-6)} is sent as soon as a worker is free`;
    case 'dropMail':
      await outboxOf(tasks).drop(write.job);
      return `dropped the email …${write.job.slice(-6)}`;
    case 'runSchedule': {
      const job = await tasks.schedules.runNow(write.name);
      return `enqueued a job of ${clean(write.name)} as …${job.id.slice(-6)}`;
    }
    case 'pauseSchedule':
      await tasks.schedules.pause(write.name, 'paused in the dashboard');
      return `paused ${clean(write.name)}; its occurrences are skipped until it is resumed`;
    case 'resumeSchedule':
      await tasks.schedules.resume(write.name);
      return `resumed ${clean(write.name)}`;
  }
}

function outboxOf(tasks: Tasks) {
  const { outbox } = mailOf(tasks);
  if (!outbox) throw new Error('the application defines no emails');
  return outbox;
}

/** A change of jobs: for one job, for a selection, and the messages about it. */
interface Change {
  one(job: TaskResult): Promise<unknown>;
  all(store: StoreOperations, selection: JobSelection): Promise<number>;
  /** The message about one job after the change. */
  describe(job: TaskResult, name: string): string;
  /** The message about several jobs. */
  past(jobs: string): string;
}

const byHand = 'cancelled in the dashboard';

function changeOf({ verb, priority = 0 }: JobsWrite): Change {
  switch (verb) {
    case 'retry':
      return {
        one: (job) => job.retry(),
        all: (store, selection) => store.jobs.retry(selection),
        describe: (job, name) => `${name} is ${job.status} and runs as soon as a worker is free`,
        past: (jobs) => `retrying ${jobs}`,
      };
    case 'cancel':
      return {
        one: (job) => {
          if (job.isFinished) throw new Error(`job …${job.id.slice(-6)} is already ${job.status}`);
          return job.cancel(byHand);
        },
        all: (store, selection) => store.jobs.cancel(selection, byHand),
        describe: (job, name) => (job.status === 'cancelled' ? `cancelled ${name}` : `${name} is running; its worker was asked to stop it`),
        past: (jobs) => `cancelled ${jobs}`,
      };
    case 'delete':
      return {
        one: (job) => job.delete(),
        all: (store, selection) => store.jobs.delete(selection),
        describe: (job, name) => `deleted ${name}, which was ${job.status}`,
        past: (jobs) => `deleted ${jobs}`,
      };
    case 'prioritize':
      return {
        one: (job) => job.prioritize(priority),
        all: (store, selection) => store.jobs.prioritize(selection, priority),
        describe: (job, name) => `${name} has priority ${job.priority}`,
        past: (jobs) => `priority ${priority} for ${jobs}`,
      };
  }
}

async function changeJobs(tasks: Tasks, write: JobsWrite, ids: readonly string[]): Promise<string> {
  const change = changeOf(write);
  const refused: string[] = [];
  let done = 0;
  for (const id of ids) {
    try {
      const job = await tasks.getResult(id);
      await change.one(job);
      done += 1;
      if (ids.length === 1) return change.describe(job, `${clean(job.task)} …${id.slice(-6)}`);
    } catch (error) {
      refused.push(clean((error as Error).message));
    }
  }
  if (done === 0) throw new Error(refused[0] ?? 'nothing was changed');
  return `${change.past(plural(done, 'job'))}${refused.length > 0 ? `; ${plural(refused.length, 'job')} could not be changed: ${refused[0]}` : ''}`;
}

const maxCounted = 100_000;

/** Counts the jobs that a change of all matching jobs applies to. Scans at most 100,000 jobs. */
export async function countMatching(store: StoreOperations, write: Write): Promise<Count> {
  if (write.kind !== 'jobs' || isIds(write.which)) return { jobs: 1, more: false };
  const { which: filter, verb } = write;
  const statuses = concerned[verb].filter((status) => filter.status === null || filter.status === status);
  const { queue, task, tag, schedule, text } = filter;
  if (task === null && tag === null && schedule === null && text === '') {
    const queues = (await store.queues.list()).filter(({ name }) => queue === null || name === queue);
    return { jobs: queues.reduce((sum, { counts }) => sum + statuses.reduce((own, status) => own + counts[status], 0), 0), more: false };
  }
  if (statuses.length === 0) return { jobs: 0, more: false };
  const found = { jobs: 0, examined: 0 };
  for await (const page of pages(store, { ...selectionOf(filter), status: statuses }, maxCounted)) {
    found.examined += page.length;
    found.jobs += page.filter((job) => holdsText(job, text)).length;
  }
  return { jobs: found.jobs, more: found.examined >= maxCounted };
}

/** Text is searched here, page by page; the public API handles the rest of the filter. */
async function changeMatching(store: StoreOperations, write: JobsWrite, filter: Filter): Promise<string> {
  const change = changeOf(write);
  const selection = selectionOf(filter);
  if (filter.text === '') return change.past(plural(await change.all(store, selection), 'job'));
  const ids: string[] = [];
  for await (const page of pages(store, selection, Number.POSITIVE_INFINITY)) {
    for (const job of page) if (holdsText(job, filter.text)) ids.push(job.id);
  }
  let done = 0;
  for (let i = 0; i < ids.length; i += 500) done += await change.all(store, { ids: ids.slice(i, i + 500) });
  return change.past(plural(done, 'job'));
}
