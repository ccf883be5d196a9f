/** `escapement list` and `escapement show`: jobs in a table, or one job in full. */
import type { Command } from 'commander';
import type { AttemptInfo, LogEntry, StepInfo, TaskResult } from 'escapement';
import { given, whole } from '../arguments.ts';
import { clean, cleanLines, padEnd, plural } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { addFilters, type Filters, filterText, findJob, jobRow, jobTable, placesOf, propertyLines, selectionOf } from '../jobs.ts';
import { addBackend, addCommand, type Operation, operate } from '../operate.ts';
import { shortDuration } from '../time.ts';
import { treeLinesOf, treeOf } from '../tree.ts';

interface ListOptions extends Filters {
  readonly limit: number;
  readonly after?: string;
  readonly json?: boolean;
}

export function addList(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'list', {
    summary: 'list jobs, newest first',
    description: 'Lists jobs, newest first, one page at a time.',
    examples: ['tasks.ts', 'tasks.ts --status failed,cancelled --task mail.welcome', "tasks.ts --json | jq -r '.jobs[].id'"],
    more: '\nWith --json: jobs[] without their inputs, and cursor: the value of --after for the next page, or null.',
  });
  addFilters(command)
    .option('--limit <n>', 'maximum number of jobs', whole(1, 1_000), 50)
    .option('--after <cursor>', 'cursor of the previous page')
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: ListOptions) => {
      done(await operate(module, options, io, (operation) => list(operation, options)));
    });
}

async function list(operation: Operation, options: ListOptions): Promise<ExitCode> {
  const { store, print, paint, module } = operation;
  const { limit, after } = options;
  const { items, cursor = null } = await store.jobs.list({ ...selectionOf(options), limit, ...given({ after }) });
  print(
    () => ({ jobs: items.map(jobRow), cursor }),
    () => {
      if (items.length === 0) return [after === undefined ? 'no matching jobs' : 'no more jobs'];
      const limited = limit === 50 ? '' : ` --limit ${limit}`;
      const more =
        cursor === null ? [] : [paint('dim', `more: escapement list ${module}${filterText(options)}${limited} --after ${clean(cursor)}`)];
      return [...jobTable(items, operation), ...more];
    },
  );
  return exitCodes.ok;
}

export function addShow(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'show', {
    summary: 'show everything about one job',
    description:
      'Shows a job: its input, its state, its return value, every attempt with its worker, duration, error and stack, and its log lines.',
    examples: ['tasks.ts 0199ab3c-7f00-7000-8000-3d5e8a1c42f7', 'tasks.ts 1c42f7', 'tasks.ts 1c42f7 --tree', 'tasks.ts 1c42f7 --json'],
    more: '\nExit codes:\n  0  shown\n  1  no such job, or the partial id matches several\n  2  wrong usage, or the module or its store cannot be used',
  });
  addBackend(command)
    .argument('<id>', "the job's id, or the start or end of the id of one of the 5,000 newest jobs")
    .option('--tree', 'print related jobs as a tree: which job enqueued which, and the parts of workflows; <id> may be a workflow id')
    .option('--json', 'print one JSON document')
    .action(async (module: string, id: string, options: { json?: boolean; tree?: boolean; backend?: string }) => {
      done(
        await operate(module, options, io, async (operation) => {
          const part = options.tree ? await firstPart(operation, id) : undefined;
          const job = part ?? (await findJob(operation, id));
          if (options.tree) return printTree(operation, job, part ? id : job.id);
          const [steps, logs] = await Promise.all([job.steps(), job.logs()]);
          operation.print(
            () => ({ ...jobDocument(job), steps, logs }),
            () => [...jobLines(job, operation), ...stepLines(steps, operation), ...logLines(logs, operation)],
          );
          return exitCodes.ok;
        }),
      );
    });
}

/** A part of the workflow with this id, if there is one. */
async function firstPart({ store }: Operation, workflow: string): Promise<TaskResult | undefined> {
  const { items } = workflow.length < 36 ? { items: [] } : await store.jobs.list({ workflow, limit: 1 });
  return items[0];
}

/** @param givenId the id as the user typed it */
async function printTree({ tasks, print, paint }: Operation, job: TaskResult, givenId: string): Promise<ExitCode> {
  const tree = await treeOf(tasks, job);
  print(
    () => ({ jobs: tree.jobs.map((one) => ({ ...jobRow(one), ...placeOf(one) })), isCut: tree.isCut }),
    () => [
      ...treeLinesOf(tree).map(({ lead, text, id, status }) => {
        const shown = id === givenId ? paint('bold', text) : text;
        return `${paint('dim', lead)}${shown}${status === null ? '' : `  ${status}`}${id === null ? '' : `  ${paint('dim', id)}`}`;
      }),
      ...(tree.isCut ? [paint('dim', `… more than ${tree.jobs.length} jobs`)] : []),
    ],
  );
  return exitCodes.ok;
}

/** The job's relations to other jobs. */
function placeOf({ enqueuedBy, workflow, part }: TaskResult) {
  return { enqueuedBy, workflow, part };
}

function jobDocument(job: TaskResult) {
  const { error: _, ...row } = jobRow(job);
  const input = stored(() => job.input);
  const returned = stored(() => (job.status === 'successful' ? (job.returnValue ?? null) : null));
  return {
    ...row,
    scheduledAt: job.scheduledAt,
    lastAttemptedAt: job.lastAttemptedAt,
    workerIds: job.workerIds,
    progress: job.progress,
    metadata: job.metadata,
    uniqueKey: job.uniqueKey,
    limitKeys: job.limitKeys,
    ...placeOf(job),
    awaits: job.awaits,
    input: input.value,
    returnValue: returned.value,
    unreadable: [...(input.fault === null ? [] : ['input']), ...(returned.fault === null ? [] : ['returnValue'])],
    errors: job.errors,
    history: job.history,
  };
}

/** The keys under which its task's limits count it. */
function limitText({ limitKeys: { concurrency, rate } }: TaskResult): string | null {
  return [...new Set([concurrency, rate])].flatMap((key) => (key === null ? [] : [clean(key)])).join(', ') || null;
}

/** The recorded steps, oldest first. */
function stepLines(steps: readonly StepInfo[], { io, paint }: Operation): string[] {
  if (steps.length === 0) return [];
  const now = io.now();
  const lines = steps.map(({ name, kind, value, at }) => {
    const kept = kind === 'step' ? (value === undefined ? '' : `  ${cut(JSON.stringify(value))}`) : '';
    return `    ${clean(name)}${kept}  ${paint('dim', relative(at.getTime(), now))}`;
  });
  return [`  ${paint('dim', 'steps')}`, ...lines];
}

/** The lines logged by its attempts, oldest first. */
function logLines(logs: readonly LogEntry[], { paint }: Operation): string[] {
  if (logs.length === 0) return [];
  const lines = logs.map(({ at, level, message, fields }) => {
    const more = fields && Object.keys(fields).length > 0 ? `  ${paint('dim', clean(JSON.stringify(fields)))}` : '';
    const mark = level === 'error' ? 'red' : level === 'warn' ? 'yellow' : 'dim';
    return `    ${paint('dim', at.toISOString())}  ${paint(mark, level.padEnd(5))}  ${clean(message)}${more}`;
  });
  return [`  ${paint('dim', 'log')}`, ...lines];
}

function cut(text: string): string {
  const shown = clean(text);
  return shown.length > 80 ? `${shown.slice(0, 79)}…` : shown;
}

/** If a value in the row was damaged outside Escapement, the rest of the job is still shown. */
function stored(read: () => unknown): { readonly value: unknown; readonly fault: string | null } {
  try {
    return { value: read(), fault: null };
  } catch (error) {
    return { value: null, fault: `cannot be read: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function jobLines(job: TaskResult, { io, paint }: Operation): string[] {
  const now = io.now();
  const line = (title: string, text: string | null) =>
    text === null || text === '' ? [] : [`  ${paint('dim', padEnd(title, 10))}  ${text}`];
  const at = (instant: Date | null) => instant && `${instant.toISOString()}  ${paint('dim', relative(instant.getTime(), now))}`;
  const took =
    job.startedAt && job.finishedAt ? `, ${shortDuration(job.finishedAt.getTime() - job.startedAt.getTime())} after its start` : '';
  const open = !job.isFinished;
  return [
    `${paint('bold', clean(job.task))}  ${job.status}, ${job.attempts} of ${plural(job.maxAttempts, 'attempt')} used`,
    ...line('id', job.id),
    ...line('queue', `${clean(job.queue)}, priority ${job.priority}`),
    ...line('tags', job.tags.map(clean).join(', ')),
    ...line(
      'schedule',
      job.schedule && `${clean(job.schedule)}${job.scheduledAt ? `, occurrence of ${job.scheduledAt.toISOString()}` : ''}`,
    ),
    ...line('unique by', job.uniqueKey && clean(job.uniqueKey)),
    ...line('limit key', limitText(job)),
    ...line('enqueued', at(job.enqueuedAt)),
    ...line('by job', job.enqueuedBy),
    ...line('workflow', job.workflow && `${clean(job.workflowName ?? '')}, part ${clean(job.part ?? '')}  ${paint('dim', job.workflow)}`),
    ...line('waits for', job.awaits && `the signal ${clean(job.awaits)}`),
    ...line('run after', at(job.runAfter)),
    ...line('due', open && job.status !== 'running' ? at(job.dueAt) : null),
    ...line('started', at(job.startedAt)),
    ...line('last try', job.attempts > 1 ? at(job.lastAttemptedAt) : null),
    ...line('finished', job.finishedAt && `${at(job.finishedAt)}${took}`),
    ...line('reason', job.reason && clean(job.reason)),
    ...line('workers', job.workerIds.map(clean).join(', ')),
    ...line('progress', job.progress && clean(`${Math.round(job.progress.fraction * 100)} %  ${job.progress.message ?? ''}`)),
    ...value('metadata', Object.keys(job.metadata).length > 0 ? stored(() => job.metadata) : null, line),
    ...value(
      'input',
      stored(() => job.input),
      line,
    ),
    ...value('returned', job.status === 'successful' ? stored(() => job.returnValue ?? null) : null, line),
    ...job.history.flatMap((one) => attemptLines(one, paint)),
  ];
}

function attemptLines({ attempt, worker, startedAt, endedAt, outcome, error }: AttemptInfo, paint: Operation['paint']): string[] {
  const took = endedAt ? `, took ${shortDuration(endedAt.getTime() - startedAt.getTime())}` : '';
  const text = error ? clean(`${error.name}: ${error.message}`) : (outcome ?? 'running');
  return [
    `  ${paint('dim', padEnd(`attempt ${attempt}`, 10))}  ${error ? paint('red', text) : text}`,
    `${' '.repeat(14)}${paint('dim', `${startedAt.toISOString()}  on ${clean(worker)}${took}`)}`,
    ...(error ? [...propertyLines(error), ...placesOf(error.stack)] : []).map((frame) => paint('dim', `${' '.repeat(14)}${frame}`)),
  ];
}

function value(
  title: string,
  read: { readonly value: unknown; readonly fault: string | null } | null,
  line: (title: string, text: string) => string[],
): string[] {
  if (!read) return [];
  const [first = '', ...rest] = cleanLines(read.fault ?? JSON.stringify(read.value, null, 2));
  return [...line(title, first), ...rest.map((text) => `${' '.repeat(14)}${text}`)];
}

function relative(at: number, now: number): string {
  if (Math.abs(now - at) < 1_000) return '(now)';
  return at > now ? `(in ${shortDuration(at - now)})` : `(${shortDuration(now - at)} ago)`;
}
