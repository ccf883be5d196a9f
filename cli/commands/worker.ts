/** `escapement worker`: runs jobs until stopped. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { bytes, duration, given, oneOf, whole, words } from '../arguments.ts';
import { CommandError, type ExitCode, type Io } from '../io.ts';
import { addCommand } from '../operate.ts';
import type { Place } from '../stores.ts';
import type { LogLevel } from '../worker/log.ts';

interface Options extends Place {
  readonly queues?: ReadonlyMap<string, number | undefined>;
  readonly exclude?: readonly string[];
  readonly concurrency: number;
  readonly processes?: number;
  readonly drain?: boolean;
  readonly maxJobs?: number;
  readonly maxMemory?: number;
  readonly scheduler: boolean;
  readonly id?: string;
  readonly backend?: string;
  /** @default 25 s */
  readonly timeout?: number;
  /** @default 5 min */
  readonly blockLimit?: number;
  readonly logLevel: LogLevel;
  readonly logInput?: boolean;
  readonly supervised?: boolean;
}

const more = `
On SIGTERM, SIGINT (Ctrl-C) or SIGHUP, the worker claims no more jobs. Running attempts have
--timeout to finish; then their signals abort. Attempts that have not ended 4 s later are returned
to the queue without using up an attempt. After its signal, a task's return value still counts, and
an error returns the job to the queue. Signals within one second count as one. A later signal stops
the process immediately; other workers recover its jobs when their leases expire, after 30 s.
The same graceful stop follows when the reader of stdout closes it, and after an uncaught error or
rejection, so that other jobs of the process can finish. A task that calls process.exit() ends the
whole process; the log names the task, and the exit code is not 0.

The log goes to stdout: one JSON object per line { level, time, worker, event, task, job, attempt,
duration (ms), error, message }, or aligned lines on a terminal. The module's own output goes to
stderr. --log-input logs the input of jobs when they start; values of keys such as password, token,
secret or authorization are redacted.

With --processes, child processes are named ID-0, ID-1 …; --concurrency and the limits apply to
each. A child that exits is restarted, with a delay that grows while it keeps failing; a child that
reaches --max-jobs or --max-memory is restarted immediately. Without --processes, a process manager
must restart the worker.

Child processes receive the URL of --postgres in their environment, so that other users of the
machine do not see its password. To keep it out of this command too, leave it out of the URL and set
PGPASSWORD.

--drain does not wait for jobs that are due later, in paused queues, or of tasks that the module
does not define; it works with the default backend only. --max-jobs counts attempts as they start;
jobs claimed together with the last one still run.

Exit codes:
  0    stopped by a signal, drained, or --max-jobs or --max-memory reached
  1    an uncaught error or a call to process.exit(), see the log; or a child process of --processes
       failed
  2    wrong usage, or the module or its store cannot be used
  129, 130, 143  stopped immediately by a second SIGHUP, SIGINT or SIGTERM`;

const logLevels = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];

export function addWorker(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'worker', {
    summary: 'run jobs until stopped',
    description: "Claims jobs from the module's store and runs them until stopped.",
    examples: [
      'tasks.ts',
      'tasks.ts --queues mail,default --concurrency 20',
      'tasks.ts --processes 4 --max-memory 512mb',
      'tasks.ts --postgres postgres://user@host/database',
      'tasks.ts --drain',
    ],
    more,
  })
    .option('--queues <names>', 'serve only these queues: mail,default; with weights: mail=3,bulk=1', weighted)
    .option('--exclude <names>', 'serve all queues except these', words)
    .option('--concurrency <n>', 'maximum number of attempts at the same time', whole(1, 10_000), 10)
    .option('--processes <n>', 'run N worker processes and restart any that exit', whole(1, 256))
    .option('--drain', 'stop when nothing is ready or running')
    .option('--max-jobs <n>', 'stop after N attempts', whole(1, Number.MAX_SAFE_INTEGER))
    .option('--max-memory <size>', "stop when the process uses more memory: '512mb'", bytes)
    .option('--no-scheduler', 'do not run the scheduler in this worker')
    .option('--id <id>', 'name in logs and stats (default: host, process id and four random digits)', workerId)
    .option('--backend <alias>', 'backend to claim jobs from (default: default)')
    .option('--timeout <duration>', 'how long attempts may take to finish when the worker stops (default: 25s)', duration)
    .option(
      '--block-limit <duration>',
      'how long a task may block the event loop before other workers take its jobs (default: 5m)',
      duration,
    )
    .option('--log-level <level>', `minimum level to log: ${logLevels.join(', ')}`, oneOf(logLevels), 'info')
    .option('--log-input', 'log the input of jobs, without secrets')
    .addOption(new Option('--supervised').hideHelp())
    .action(async (module: string, options: Options) => done(await workerCommand(module, options, io)));
}

async function workerCommand(module: string, options: Options, io: Io): Promise<ExitCode> {
  if (options.queues && options.exclude) throw new CommandError('give --queues or --exclude, not both');
  if (options.drain && options.backend !== undefined && options.backend !== 'default') {
    // Remaining jobs are counted in the default backend only, so the worker would stop at the wrong moment.
    throw new CommandError('--drain works with the default backend only; with --backend, omit it and stop the worker with SIGTERM');
  }
  const id = options.id ?? defaultId();
  const { processes, timeout = 25_000, logLevel, logInput = false } = options;
  // Loaded here, so that other commands start faster.
  const { lateMs, work } = await import('../worker/work.ts');
  if (processes !== undefined) {
    const { createLog } = await import('../worker/log.ts');
    const { supervise } = await import('../worker/supervise.ts');
    const log = createLog(io, { worker: id, level: logLevel, logInput });
    const argv = (childId: string) => childArgv(module, { ...options, timeout }, childId);
    return supervise({ id, processes, argv, postgres: options.postgres, log, patienceMs: timeout + lateMs + 1_000 }, io);
  }
  const {
    drain = false,
    supervised = false,
    maxJobs,
    maxMemory,
    queues,
    exclude,
    backend,
    concurrency,
    scheduler,
    blockLimit,
    postgres = supervised ? io.process.parent?.postgres : undefined,
    schema,
  } = options;
  const settings = { id, concurrency, drain, scheduler, timeoutMs: timeout, logLevel, logInput, supervised };
  return work(
    module,
    {
      ...settings,
      ...(maxJobs && { maxJobs }),
      ...(maxMemory && { maxMemory }),
      ...(queues && { queues: [...queues.keys()], weights: weightsOf(queues) }),
      ...(blockLimit !== undefined && { blockLimit }),
      ...(exclude && { exclude }),
      ...(backend && { backend }),
      ...given({ postgres, schema }),
    },
    io,
  );
}

function childArgv(module: string, options: Options & { readonly timeout: number }, id: string): string[] {
  const argv = ['worker', module, '--supervised', '--id', id, '--concurrency', String(options.concurrency)];
  argv.push('--timeout', `${options.timeout}ms`, '--log-level', options.logLevel);
  if (options.queues) argv.push('--queues', writtenWeights(options.queues));
  if (options.blockLimit !== undefined) argv.push('--block-limit', `${options.blockLimit}ms`);
  if (options.exclude) argv.push('--exclude', options.exclude.join(','));
  if (options.drain) argv.push('--drain');
  if (options.maxJobs !== undefined) argv.push('--max-jobs', String(options.maxJobs));
  if (options.maxMemory !== undefined) argv.push('--max-memory', String(options.maxMemory));
  if (!options.scheduler) argv.push('--no-scheduler');
  if (options.backend !== undefined) argv.push('--backend', options.backend);
  if (options.schema !== undefined) argv.push('--schema', options.schema);
  if (options.logInput) argv.push('--log-input');
  return argv;
}

/** `mail=3,bulk=1`, or names alone. */
function weighted(text: string, before?: ReadonlyMap<string, number | undefined>): ReadonlyMap<string, number | undefined> {
  const queues = new Map(before);
  for (const word of words(text)) {
    const [name = '', weight, ...more] = word.split('=');
    if (more.length > 0 || (weight !== undefined && !(Number(weight) > 0))) {
      throw new InvalidArgumentError(`Give names, or names with weights greater than 0: mail=3,bulk=1. Got ${word}.`);
    }
    queues.set(name, weight === undefined ? undefined : Number(weight));
  }
  return queues;
}

/** If any queue has a weight, queues without one have weight 1; undefined if none has a weight. */
function weightsOf(queues: ReadonlyMap<string, number | undefined>): Record<string, number> | undefined {
  if ([...queues.values()].every((weight) => weight === undefined)) return undefined;
  return Object.fromEntries([...queues].map(([name, weight]) => [name, weight ?? 1]));
}

function writtenWeights(queues: ReadonlyMap<string, number | undefined>): string {
  return [...queues].map(([name, weight]) => (weight === undefined ? name : `${name}=${weight}`)).join(',');
}

function defaultId(): string {
  const host = hostname()
    .replace(/[^A-Za-z0-9_.-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 64);
  // In containers, process ids repeat, and so can host names.
  return `${host || 'host'}-${process.pid}-${randomBytes(2).toString('hex')}`;
}

function workerId(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$/.test(text)) return text;
  throw new InvalidArgumentError('Give 1 to 120 letters, digits and _ . : / -, starting with a letter or digit.');
}
