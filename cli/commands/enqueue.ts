/** `escapement enqueue`: enqueues one job of a task. */
import type { Command } from 'commander';
import type { Task, TaskResult } from 'escapement';
import { given, listed, repeated, when, whole } from '../arguments.ts';
import type { Application } from '../config.ts';
import { clean, shorten } from '../format.ts';
import { missingInput } from '../inputs.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../io.ts';
import { jobRow } from '../jobs.ts';
import { addCommand, operate, requireShared } from '../operate.ts';

interface Options {
  readonly input?: string;
  readonly runAfter?: string | Date;
  readonly priority?: number;
  readonly queue?: string;
  readonly tag?: readonly string[];
  readonly backend?: string;
  readonly json?: boolean;
}

export function addEnqueue(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'enqueue', {
    summary: 'enqueue a job',
    description: 'Enqueues one job of a task that the module defines. With immediate(), the job runs in this command.',
    examples: [
      `tasks.ts mail.welcome --input '{"userId":"u1"}'`,
      `tasks.ts report.daily --run-after 2h --priority 50 --tag manual`,
      'tasks.ts import.rows --input - < rows.json',
    ],
    more: '\nExit codes:\n  0  enqueued\n  1  the job ran in this command, on immediate(), and failed\n  2  wrong usage or input, or the module or its store cannot be used',
  })
    .argument('<task>', "the task's name")
    .allowExcessArguments()
    .option('--input <json>', "the task's input; - reads it from stdin")
    .option('--run-after <when>', "earliest start: a duration from now such as '2h', or an instant", when)
    .option('--priority <n>', '-100 to 100, highest first', whole(-100, 100))
    .option('--queue <name>', "queue to use instead of the task's")
    .option('--tag <tag>', "tag for the job; repeatable; replaces the task's own tags", repeated)
    .option('--backend <alias>', "backend to use instead of the task's")
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string, options: Options, { args }: Command) => {
      if (args.length > 2) throw new CommandError(surplus(args.slice(2)));
      done(
        await operate(module, { ...options, anyBackend: true }, io, async (operation) => {
          const task = findTask(operation, name);
          const input = await readInput(options.input, io);
          const backend = operation.tasks.backends.find(({ alias }) => alias === (options.backend ?? 'default'));
          if (backend?.name !== 'immediate') requireShared(operation, options.backend);
          const fault = options.input === undefined ? missingInput(operation.tasks, name) : undefined;
          if (fault !== undefined) io.stderr.write(`escapement: ${fault}; give one with --input '{…}'\n`);
          const { runAfter, priority, queue, tag: tags } = options;
          const job = await task.using(given({ runAfter, priority, queue, tags, backend: options.backend })).enqueue(input);
          operation.print(
            () => ({ ...jobRow(job), returnValue: job.status === 'successful' ? (job.returnValue ?? null) : null }),
            () => [line(job)],
          );
          return lost(job, operation) ?? (job.status === 'failed' ? exitCodes.refused : exitCodes.ok);
        }),
      );
    });
}

function findTask({ tasks, label }: Application, name: string): Task {
  if (tasks.names.includes(name)) return tasks.get(name);
  const names = tasks.names.map(clean);
  throw new CommandError(
    `${label} has no task ${clean(name)}${names.length > 0 ? `; its tasks are ${listed(names, 'and')}` : '; it defines none'}`,
  );
}

/** The value of `--input`; `-` reads stdin. @throws CommandError if it is not valid JSON */
export async function readInput(text: string | undefined, io: Io): Promise<unknown> {
  if (text === undefined) return undefined;
  const source = text === '-' ? await io.stdin() : text;
  try {
    return JSON.parse(source);
  } catch (error) {
    const got = shorten(clean(source), 40) || 'nothing';
    throw new CommandError(`--input is not valid JSON (${got}); quote it for the shell: --input '{"userId":"u1"}'`, { cause: error });
  }
}

function surplus(args: readonly string[]): string {
  const [first = ''] = args;
  const text = shorten(clean(first), 40);
  return /^\s*[[{"\d]/.test(first)
    ? `pass the input as an option: --input '${text}'`
    : `unexpected argument ${text} after the module and the task; pass the input as an option: --input '{"userId":"u1"}'`;
}

function line(job: TaskResult): string {
  const what = `${job.id}  ${clean(job.task)}`;
  if (!job.isFinished) {
    const due = job.runAfter ? `, due ${job.dueAt.toISOString()}` : '';
    return `enqueued ${what}, ${job.status} in queue ${clean(job.queue)}${due}`;
  }
  const error = job.errors.at(-1);
  const value = job.status === 'successful' ? `: ${clean(JSON.stringify(job.returnValue ?? null))}` : '';
  return `ran ${what}, ${job.status}${error ? `: ${clean(`${error.name}: ${error.message}`)}` : value}`;
}

/** Only the job tells which backend its task uses. */
function lost(job: TaskResult, { tasks, label }: Application): ExitCode | undefined {
  const backend = tasks.backends.find(({ alias }) => alias === job.backend);
  if (!backend || backend.name === 'immediate' || backend.supports.shared) return undefined;
  throw new CommandError(`the job is lost: ${label} stores jobs of ${clean(job.task)} in ${backend.name}(), which ends with this process`);
}
