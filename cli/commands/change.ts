/** `escapement retry`, `cancel`, `prioritize` and `delete`: one command with different verbs. Jobs are selected by id or by filters. */
import type { Command } from 'commander';
import type { JobSelection, Jobs, Status, TaskResult } from 'escapement';
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
  /** The statuses that the verb applies to, and the ones it selects if none is given. */
  readonly allowed: readonly Status[];
  readonly meant: readonly Status[];
  one(job: TaskResult, options: Options): Promise<unknown>;
  /** The job's state after the change, as printed. */
  after(job: TaskResult): string;
  all(jobs: Jobs, selection: JobSelection, options: Options): Promise<number>;
}

const unfinished: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying', 'running'];

const retry: Verb = {
  infinitive: 'retry',
  past: 'retried',
  allowed: ['failed', 'cancelled'],
  // Cancelled jobs were cancelled on purpose.
  meant: ['failed'],
  one: (job) => job.retry(),
  after: ({ status }) => `now ${status}`,
  all: (jobs, selection) => jobs.retry(selection),
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
  after: ({ status }) => `now ${status}`,
  all: (jobs, selection, { reason }) => jobs.cancel(selection, reason),
};

const waiting: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying'];

const prioritize: Verb = {
  infinitive: 'prioritize',
  past: 'prioritized',
  allowed: waiting,
  meant: waiting,
  one: (job, { priority }) => job.prioritize(priority ?? 0),
  after: ({ priority }) => `now ${priority}`,
  all: (jobs, selection, { priority }) => jobs.prioritize(selection, priority ?? 0),
};

const finished: readonly Status[] = ['successful', 'failed', 'cancelled'];

const remove: Verb = {
  infinitive: 'delete',
  past: 'deleted',
  allowed: [...waiting, ...finished],
  // Unfinished jobs are deleted only if the user names their status.
  meant: finished,
  one: (job) => job.delete(),
  after: ({ status }) => `was ${status}`,
  all: (jobs, selection) => jobs.delete(selection),
};

/** Without --yes, matching jobs are counted up to this number. */
const countedJobs = 10_000;

const exits = `
Exit codes:
  0  done
  1  an id matches no job, or the job's status does not allow this; the others were changed
  2  wrong usage, more than one job without --yes, or the module or its store cannot be used`;

export function addRetry(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'retry', {
    summary: 'run failed or cancelled jobs again',
    description:
      'Runs jobs again, with one more attempt than they have used: the jobs with the given ids (a job that waits for a retry runs now), ' +
      'or all that match the filters. Without --status, filters select failed jobs.',
    examples: ['tasks.ts 1c42f7', 'tasks.ts --task mail.welcome --yes', 'tasks.ts --status cancelled --tag signup --yes'],
    more: exits,
  });
  addOptions(command, retry, io, done);
}

export function addCancel(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'cancel', {
    summary: 'cancel unfinished jobs',
    description:
      'Cancels the jobs with the given ids, or all that match the filters. A running job is cancelled when its worker next renews ' +
      'its lease, within 10 s.',
    examples: ['tasks.ts 1c42f7 --reason "wrong customer"', 'tasks.ts --queue mail --status ready,scheduled --yes'],
    more: exits,
  });
  addOptions(command.option('--reason <text>', 'reason to store with the jobs (default: cancelled)'), cancel, io, done);
}

export function addPrioritize(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'prioritize', {
    summary: 'change the priority of waiting jobs',
    description:
      'Changes the priority of the jobs with the given ids, or of all that match the filters. Among due jobs, those with the ' +
      'highest priority start first. Running and finished jobs are not changed.',
    examples: ['tasks.ts 1c42f7 --priority 50', 'tasks.ts --task mail.welcome --tag signup --priority -10 --yes'],
    more: exits,
  });
  addOptions(command.requiredOption('--priority <n>', '-100 to 100, highest first', whole(-100, 100)), prioritize, io, done);
}

export function addDelete(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'delete', {
    summary: 'delete jobs that are not running',
    description:
      'Deletes the jobs with the given ids, or all that match the filters, with their history. Running jobs cannot be deleted: ' +
      'cancel them first. Without --status, filters select finished jobs. escapement prune deletes by age.',
    examples: ['tasks.ts 1c42f7', 'tasks.ts --status failed --task mail.welcome --yes', 'tasks.ts --status scheduled --tag trial --yes'],
    more: exits,
  });
  addOptions(command, remove, io, done);
}

function addOptions(command: Command, verb: Verb, io: Io, done: (code: ExitCode) => void): void {
  addFilters(command.argument('[id...]', 'ids, or the start or end of the ids of the 5,000 newest jobs'), verb.allowed)
    .option('--yes', 'required if filters match more than one job')
    .option('--json', 'print one JSON document')
    .action(async (module: string, ids: readonly string[], options: Options) => {
      done(
        await operate(module, options, io, (operation) =>
          ids.length > 0 ? changeNamed(operation, verb, ids, options) : changeMatching(operation, verb, options),
        ),
      );
    });
}

async function changeNamed(operation: Operation, verb: Verb, ids: readonly string[], options: Options): Promise<ExitCode> {
  const { io, print } = operation;
  if (Object.keys(selectionOf(options)).length > 0) throw new CommandError('give ids or filters, not both');
  const refused: { id: string; why: string }[] = [];
  const changed: TaskResult[] = [];
  for (const id of ids) {
    try {
      const job = await findJob(operation, id);
      await verb.one(job, options);
      changed.push(job);
    } catch (error) {
      // Other errors, such as those of the store, concern all jobs.
      const code = isEscapementError(error) ? error.code : '';
      if (!(error instanceof CommandError) && code !== 'ESCAPEMENT_INPUT' && code !== 'ESCAPEMENT_RESULT_NOT_FOUND') throw error;
      refused.push({ id, why: (error as Error).message });
    }
  }
  print(
    () => ({ [verb.past]: changed.length, jobs: changed.map(({ id, task, status }) => ({ id, task, status })), refused }),
    () => changed.map((job) => `${verb.past} ${job.id}  ${clean(job.task)}, ${verb.after(job)}`),
  );
  for (const { why } of refused) io.stderr.write(`escapement: ${clean(why)}\n`);
  return refused.length > 0 ? exitCodes.refused : exitCodes.ok;
}

async function changeMatching({ store, print }: Operation, verb: Verb, options: Options): Promise<ExitCode> {
  const chosen = selectionOf(options);
  if (Object.keys(chosen).length === 0) {
    throw new CommandError(`which jobs? give ids, or filters such as --status ${verb.meant[0]} or --task NAME`);
  }
  const selection = { ...chosen, status: options.status ?? verb.meant };
  if (!options.yes) {
    // Two jobs would be enough for the error, but its message says how many there are.
    const found = await countJobs(store, selection, countedJobs);
    const many = found >= countedJobs ? `${count(countedJobs)} or more jobs` : plural(found, 'job');
    if (found > 1) throw new CommandError(`${many} would be ${verb.past}; add --yes to do it`);
  }
  const changed = await verb.all(store.jobs, selection, options);
  print(
    () => ({ [verb.past]: changed }),
    () => [changed === 0 ? `no matching job can be ${verb.past}` : `${verb.past} ${plural(changed, 'job')}`],
  );
  return exitCodes.ok;
}
