/** `escapement retry`, `cancel`, `prioritize` and `delete`: the same command with another verb. Jobs are named one by one, or by what they have in common. */
import type { Command } from 'commander';
import type { JobSelection, Status, TaskResult, Tasks } from 'escapement';
import { isEscapementError } from 'escapement';
import { whole } from '../arguments.ts';
import { clean, count, plural } from '../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../io.ts';
import { addFilters, countJobs, type Filters, findJob, selectionOf } from '../jobs.ts';
import { addCommand, type Operation, operate } from '../operate.ts';

interface Options extends Filters {
  readonly reason?: string;
  readonly priority?: number;
  readonly yes?: boolean;
  readonly json?: boolean;
}

interface Verb {
  readonly infinitive: 'retry' | 'cancel' | 'prioritize' | 'delete';
  readonly past: 'retried' | 'cancelled' | 'prioritized' | 'deleted';
  /** What jobs the verb is for, and those that it means when no status is given. */
  readonly allowed: readonly Status[];
  readonly meant: readonly Status[];
  one(job: TaskResult, options: Options): Promise<unknown>;
  /** What it is said to be afterwards. */
  told(job: TaskResult): string;
  all(tasks: Tasks, selection: JobSelection, options: Options): Promise<number>;
}

const unfinished: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying', 'running'];

const retry: Verb = {
  infinitive: 'retry',
  past: 'retried',
  allowed: ['failed', 'cancelled'],
  // Someone wanted the cancelled ones cancelled.
  meant: ['failed'],
  one: (job) => job.retry(),
  told: ({ status }) => `now ${status}`,
  all: (tasks, selection) => tasks.jobs.retry(selection),
};

const cancel: Verb = {
  infinitive: 'cancel',
  past: 'cancelled',
  allowed: unfinished,
  meant: unfinished,
  one: async (job, { reason }) => {
    if (job.isFinished) throw new CommandError(`job ${job.id} is ${job.status}; only unfinished jobs can be cancelled`);
    await job.cancel(reason);
  },
  told: ({ status }) => `now ${status}`,
  all: (tasks, selection, { reason }) => tasks.jobs.cancel(selection, reason),
};

const waiting: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying'];

const prioritize: Verb = {
  infinitive: 'prioritize',
  past: 'prioritized',
  allowed: waiting,
  meant: waiting,
  one: (job, { priority }) => job.prioritize(priority ?? 0),
  told: ({ priority }) => `now ${priority}`,
  all: (tasks, selection, { priority }) => tasks.jobs.prioritize(selection, priority ?? 0),
};

const finished: readonly Status[] = ['successful', 'failed', 'cancelled'];

const remove: Verb = {
  infinitive: 'delete',
  past: 'deleted',
  allowed: [...waiting, ...finished],
  // What is still to be done is deleted only by those who say so.
  meant: finished,
  one: (job) => job.delete(),
  told: ({ status }) => `was ${status}`,
  all: (tasks, selection) => tasks.jobs.delete(selection),
};

/** More than so many are not counted before the question. */
const countedJobs = 10_000;

const exits = `
Exit codes:
  0  done
  1  an id is none, or its job is not in a state for this; the others were done
  2  wrong usage, more than one job without --yes, or the module or its store cannot be used`;

export function addRetry(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'retry', {
    summary: 'run failed or cancelled jobs again',
    description:
      'Runs jobs again, with one attempt more than they have used: those with the given ids (one that waits for a retry runs now), or ' +
      'all that match the filters. Without --status, filters mean failed jobs.',
    examples: ['tasks.ts 1c42f7', 'tasks.ts --task mail.welcome --yes', 'tasks.ts --status cancelled --tag signup --yes'],
    more: exits,
  });
  addOptions(command, retry, io, done);
}

export function addCancel(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'cancel', {
    summary: 'cancel jobs that are not finished',
    description:
      'Cancels jobs: those with the given ids, or all that match the filters. A job that runs is told by its worker at the next ' +
      'renewal of its lease, within 10 s.',
    examples: ['tasks.ts 1c42f7 --reason "wrong customer"', 'tasks.ts --queue mail --status ready,scheduled --yes'],
    more: exits,
  });
  addOptions(command.option('--reason <text>', 'kept on the jobs (default: cancelled)'), cancel, io, done);
}

export function addPrioritize(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'prioritize', {
    summary: 'change the priority of jobs that wait for their turn',
    description:
      'Gives jobs another priority: those with the given ids, or all that match the filters. Of the jobs that are due, those with ' +
      'the larger priority start first. Jobs that run or are over are left alone.',
    examples: ['tasks.ts 1c42f7 --priority 50', 'tasks.ts --task mail.welcome --tag signup --priority -10 --yes'],
    more: exits,
  });
  addOptions(command.requiredOption('--priority <n>', '-100 to 100, larger first', whole(-100, 100)), prioritize, io, done);
}

export function addDelete(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'delete', {
    summary: 'delete jobs that do not run',
    description:
      'Deletes jobs and all that is known of them: those with the given ids, or all that match the filters. A job that runs is ' +
      'refused: cancel it first. Without --status, filters mean finished jobs. escapement prune deletes by age.',
    examples: ['tasks.ts 1c42f7', 'tasks.ts --status failed --task mail.welcome --yes', 'tasks.ts --status scheduled --tag trial --yes'],
    more: exits,
  });
  addOptions(command, remove, io, done);
}

function addOptions(command: Command, verb: Verb, io: Io, done: (code: ExitCode) => void): void {
  addFilters(command.argument('[id...]', 'ids, or beginnings or ends of those of the 5,000 newest jobs'), verb.allowed)
    .option('--yes', 'needed when filters match more than one job')
    .option('--json', 'print one JSON document')
    .action(async (module: string, ids: readonly string[], options: Options) => {
      done(
        await operate(module, options, io, (operation) =>
          ids.length > 0 ? changeNamed(operation, verb, ids, options) : changeMatching(operation, verb, options),
        ),
      );
    });
}

async function changeNamed({ tasks, io, print }: Operation, verb: Verb, ids: readonly string[], options: Options): Promise<ExitCode> {
  if (Object.keys(selectionOf(options)).length > 0) throw new CommandError('give ids or filters, not both');
  const refused: { id: string; why: string }[] = [];
  const changed: TaskResult[] = [];
  for (const id of ids) {
    try {
      const job = await findJob(tasks, id);
      await verb.one(job, options);
      changed.push(job);
    } catch (error) {
      // The store's faults concern all of them.
      const code = isEscapementError(error) ? error.code : '';
      if (!(error instanceof CommandError) && code !== 'ESCAPEMENT_INPUT' && code !== 'ESCAPEMENT_RESULT_NOT_FOUND') throw error;
      refused.push({ id, why: (error as Error).message });
    }
  }
  print(
    () => ({ [verb.past]: changed.length, jobs: changed.map(({ id, task, status }) => ({ id, task, status })), refused }),
    () => changed.map((job) => `${verb.past} ${job.id}  ${clean(job.task)}, ${verb.told(job)}`),
  );
  for (const { why } of refused) io.stderr.write(`escapement: ${clean(why)}\n`);
  return refused.length > 0 ? exitCodes.refused : exitCodes.ok;
}

async function changeMatching({ tasks, print }: Operation, verb: Verb, options: Options): Promise<ExitCode> {
  const chosen = selectionOf(options);
  if (Object.keys(chosen).length === 0) {
    throw new CommandError(`which jobs? give ids, or filters such as --status ${verb.meant[0]} or --task NAME`);
  }
  const selection = { ...chosen, status: options.status ?? verb.meant };
  if (!options.yes) {
    // Two are enough to ask; people want to know how many.
    const found = await countJobs(tasks, selection, countedJobs);
    const many = found >= countedJobs ? `${count(countedJobs)} or more jobs` : plural(found, 'job');
    if (found > 1) throw new CommandError(`${many} would be ${verb.past}; add --yes to do it`);
  }
  const changed = await verb.all(tasks, selection, options);
  print(
    () => ({ [verb.past]: changed }),
    () => [changed === 0 ? `no job matches that one could ${verb.infinitive}` : `${verb.past} ${plural(changed, 'job')}`],
  );
  return exitCodes.ok;
}
