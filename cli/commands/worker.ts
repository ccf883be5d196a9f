/** `escapement worker`: runs jobs until it is told to stop. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { bytes, duration, oneOf, whole, words } from '../arguments.ts';
import { CommandError, type ExitCode, type Io } from '../io.ts';
import { addCommand } from '../operate.ts';
import type { LogLevel } from '../worker/log.ts';

interface Options {
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
SIGTERM, SIGINT (Ctrl-C) or SIGHUP: nothing more is claimed; attempts have --timeout to end, then
their signal aborts, and what has not ended 4 s later is given back without using up an attempt.
What a task returns after its signal counts; what it throws then gives the job back.
Signals within one second are one. A later one leaves at once: other workers find what ran when its
leases end, after 30 s.
The same gentle stop follows when whoever reads stdout has gone, and when a rejection or an error
is not caught by anybody: other jobs of the process end in peace. A task that calls process.exit()
ends the whole process; the log names it, and the exit code is not 0.

The log goes to stdout: one JSON object a line { level, time, worker, event, task, job, attempt,
duration (ms), error, message }; on a terminal, aligned lines. What the module prints goes to stderr.
--log-input logs what jobs are given when they start; the values of keys such as password, token,
secret or authorization are left out.

With --processes, children are named ID-0, ID-1 …; --concurrency and the limits are those of each.
A child that dies is replaced, after a delay that grows while it keeps dying; one that has reached
--max-jobs or --max-memory at once. Without --processes something else must start it again.

--drain waits neither for jobs that are due later, nor for those in paused queues, nor for those of
tasks that the module does not define; it goes with the default backend only. --max-jobs counts
attempts as they begin; those that were claimed together with the last one still run.

Exit codes:
  0    stopped as asked, drained, or --max-jobs or --max-memory reached
  1    something was not caught, or called process.exit(): it is in the log; or a child of a
       supervisor ended badly
  2    wrong usage, or the module or its store cannot be used
  129, 130, 143  left at once, at a second SIGHUP, SIGINT or SIGTERM`;

const logLevels = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];

export function addWorker(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'worker', {
    summary: 'run jobs until told to stop',
    description: 'Claims jobs from the store of a module and runs them, until it is told to stop.',
    examples: [
      'tasks.ts',
      'tasks.ts --queues mail,default --concurrency 20',
      'tasks.ts --processes 4 --max-memory 512mb',
      'tasks.ts --drain',
    ],
    more,
  })
    .option('--queues <names>', 'only these queues: mail,default; with weights: mail=3,bulk=1', weighted)
    .option('--exclude <names>', 'all queues but these', words)
    .option('--concurrency <n>', 'attempts at a time', whole(1, 10_000), 10)
    .option('--processes <n>', 'fork so many workers, and keep them alive', whole(1, 256))
    .option('--drain', 'stop when nothing is ready or running')
    .option('--max-jobs <n>', 'stop after so many attempts', whole(1, Number.MAX_SAFE_INTEGER))
    .option('--max-memory <size>', "stop when the process holds more: '512mb'", bytes)
    .option('--no-scheduler', 'turn no schedules into jobs: leave that to other workers')
    .option('--id <id>', 'a name for logs and stats (default: host, process and four random digits)', workerId)
    .option('--backend <alias>', 'work this backend (default: default)')
    .option('--timeout <duration>', 'how long attempts may take to end when the worker stops (default: 25s)', duration)
    .option(
      '--block-limit <duration>',
      'how long a task may block the event loop before other workers take its jobs (default: 5m)',
      duration,
    )
    .option('--log-level <level>', `least severe lines to log: ${logLevels.join(', ')}`, oneOf(logLevels), 'info')
    .option('--log-input', 'log what jobs are given, without secrets')
    .addOption(new Option('--supervised').hideHelp())
    .action(async (module: string, options: Options) => done(await workerCommand(module, options, io)));
}

async function workerCommand(module: string, options: Options, io: Io): Promise<ExitCode> {
  if (options.queues && options.exclude) throw new CommandError('give --queues or --exclude, not both');
  if (options.drain && options.backend !== undefined && options.backend !== 'default') {
    // What is left is counted in the default backend alone: it would stop at the wrong moment.
    throw new CommandError('--drain looks at the default backend only; leave it out with --backend, and stop the worker with SIGTERM');
  }
  const id = options.id ?? defaultId();
  const { processes, timeout = 25_000, logLevel, logInput = false } = options;
  // What a worker needs is loaded for a worker alone.
  const { lateMs, work } = await import('../worker/work.ts');
  if (processes !== undefined) {
    const { createLog } = await import('../worker/log.ts');
    const { supervise } = await import('../worker/supervise.ts');
    const log = createLog(io, { worker: id, level: logLevel, logInput });
    return supervise(
      { id, processes, argv: (childId) => childArgv(module, { ...options, timeout }, childId), log, patienceMs: timeout + lateMs + 1_000 },
      io,
    );
  }
  const { drain = false, supervised = false, maxJobs, maxMemory, queues, exclude, backend, concurrency, scheduler, blockLimit } = options;
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

/** A queue without a weight weighs 1 beside those that have one; undefined where none has. */
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
  // Process ids repeat: in a container it is always the same, and a host's name may be that of another container too.
  return `${host || 'host'}-${process.pid}-${randomBytes(2).toString('hex')}`;
}

function workerId(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$/.test(text)) return text;
  throw new InvalidArgumentError('Give 1 to 120 letters, digits and _ . : / -, beginning with a letter or digit.');
}
