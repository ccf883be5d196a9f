/** Runs one worker in this process, from loading the module to the exit code. */
import { hostname } from 'node:os';
import type { Tasks, TaskWorker } from 'escapement';
import { given } from '../arguments.ts';
import { loadApplication, withoutTasks } from '../config.ts';
import { captureConsole, captureLogger } from '../console.ts';
import { plural } from '../format.ts';
import { type ExitCode, type Io, orStuck } from '../io.ts';
import { requireShared } from '../operate.ts';
import { type Place, putOn } from '../stores.ts';
import { Ends } from './ending.ts';
import { createLog, type Log, type LogLevel } from './log.ts';

export interface WorkOptions extends Place {
  readonly id: string;
  readonly queues?: readonly string[];
  readonly weights?: Readonly<Record<string, number>> | undefined;
  readonly exclude?: readonly string[];
  readonly blockLimit?: number;
  readonly concurrency: number;
  readonly drain: boolean;
  readonly maxJobs?: number;
  readonly maxMemory?: number;
  readonly scheduler: boolean;
  readonly backend?: string;
  readonly timeoutMs: number;
  readonly logLevel: LogLevel;
  readonly logInput: boolean;
  /** True if a supervisor forked this process. */
  readonly supervised: boolean;
}

/** The maximum wait for a store that does not answer, after the grace time and the 4 s that attempts have after their abort signal. */
export const lateMs = 4_000 + 10_000;

export async function work(module: string, options: WorkOptions, io: Io): Promise<ExitCode> {
  const ownProcess = io.process;
  const log = createLog(io, { worker: options.id, level: options.logLevel, logInput: options.logInput });
  const parent = options.supervised ? ownProcess.parent : undefined;
  const ends = new Ends();
  // Listen before starting: a process that is asked to stop during startup must not start working.
  ends.listen(ownProcess, log, parent);
  captureConsole(io.stderr, () => {});
  captureLogger(log.write);

  // Loading a module may be slow or never finish. A request to stop does not wait for it.
  const stopped = ends.requested.then(() => undefined);
  const application = await Promise.race([loadApplication(module, io), stopped]);
  if (!application) return ends.code;
  const { tasks, label } = application;
  await putOn(application, options);
  requireShared(application, options.backend);
  const opened = orStuck(io, tasks.open(), `the store of ${label} does not answer`).then(() => true);
  if (!(await Promise.race([opened, stopped]))) return ends.code;
  const { id, queues, weights, exclude, scheduler, backend, blockLimit } = options;
  // With --max-jobs below the concurrency, a full batch would be too many.
  const concurrency = Math.min(options.concurrency, options.maxJobs ?? options.concurrency);
  const worker = tasks.worker(given({ id, queues: weights ?? queues, exclude, scheduler, backend, concurrency, blockLimit }));
  tasks.on('*', log.event);
  if (options.backend === undefined) await warnOfTwin(tasks, id, io, log);
  if (!ends.ending) {
    if (options.maxJobs !== undefined) stopAfterJobs(tasks, options.maxJobs, ends, log);
    await worker.start();
    log.write(
      'info',
      { event: 'workerStarted', pid: process.pid, concurrency },
      `working ${servedText(options)} of ${label} on ${plural(tasks.names.length, 'task')}`,
    );
    const warning = withoutTasks(application);
    if (warning !== undefined) log.write('warn', {}, warning);
    parent?.send({ kind: 'ready' });
    const watches = [
      ...(options.maxMemory === undefined ? [] : [stopAtMemory(options.maxMemory, io, ends, log)]),
      ...(options.drain ? [stopWhenDrained(tasks, options, ends, log)] : []),
    ];
    await ends.requested;
    for (const end of watches) end();
  }
  const { why } = await ends.requested;
  parent?.send({ kind: 'ending', why });
  await stop(worker, tasks, options, log);
  return ends.code;
}

const freshMs = 25_000;

/** Warns about another worker with the same id: the two would overwrite each other in the registry. */
async function warnOfTwin(tasks: Tasks, id: string, io: Io, log: Log): Promise<void> {
  const twin = (await tasks.workers.list()).find((other) => other.id === id);
  if (!twin || twin.state === 'stopped' || io.now() - twin.heartbeatAt.getTime() > freshMs) return;
  // It may be the predecessor of this worker, killed a moment ago. In a container it has the same process id.
  if (twin.host === hostname() && (twin.pid === process.pid || !isRunning(twin.pid))) return;
  log.write(
    'warn',
    { pid: twin.pid },
    `another worker with this id was active a moment ago (process ${twin.pid} on ${twin.host}); give each worker a unique --id, or omit it`,
  );
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function stop(worker: TaskWorker, tasks: Tasks, { timeoutMs }: WorkOptions, log: Log): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), timeoutMs + lateMs);
  });
  const stopped = worker.stop({ timeout: timeoutMs }).then(() => tasks.close());
  if ((await Promise.race([stopped, late])) === 'late')
    log.write('error', {}, 'the store does not answer: exiting; other workers recover the running jobs when their leases expire');
  clearTimeout(timer);
}

function servedText({ queues, exclude }: WorkOptions): string {
  if (queues) return `${queues.length === 1 ? 'queue' : 'queues'} ${queues.join(', ')}`;
  return exclude ? `all queues except ${exclude.join(', ')}` : 'all queues';
}

function stopAfterJobs(tasks: Tasks, max: number, ends: Ends, log: Log): void {
  let attempts = 0;
  tasks.on('started', () => {
    attempts += 1;
    if (attempts !== max) return;
    log.write('info', { attempts }, `${plural(attempts, 'attempt')} started, --max-jobs reached: stopping`);
    ends.request('max jobs');
  });
}

const checkMemoryEveryMs = 1_000;

function stopAtMemory(max: number, io: Io, ends: Ends, log: Log): () => void {
  const timer = setInterval(() => {
    const memory = io.process.memory();
    if (memory <= max) return;
    const mb = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`;
    log.write('warn', { memory }, `using ${mb(memory)} of memory, --max-memory is ${mb(max)}: stopping`);
    ends.request('max memory');
  }, checkMemoryEveryMs);
  return () => clearInterval(timer);
}

const checkQueuesEveryMs = 250;

/** Waits until nothing is ready or running in the served queues. Jobs of unknown tasks and jobs in paused queues do not count. */
function stopWhenDrained(tasks: Tasks, options: WorkOptions, ends: Ends, log: Log): () => void {
  let ended = false;
  let timer: NodeJS.Timeout;
  const checkLater = () => {
    timer = setTimeout(() => void check(), checkQueuesEveryMs);
  };
  const check = async () => {
    try {
      const left = await leftBehind(tasks, options);
      if (ended) return;
      if (left !== undefined) {
        if (left > 0)
          log.write(
            'warn',
            { left },
            `${plural(left, 'ready job')} left behind: ${left === 1 ? 'its task is' : 'their tasks are'} not defined here`,
          );
        log.write('info', {}, 'drained: nothing is ready or running');
        ends.request('drained');
        return;
      }
    } catch {
      // The worker itself reports that the store is failing.
    }
    if (!ended) checkLater();
  };
  checkLater();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** The number of ready jobs of tasks that this worker does not define; undefined while there is work to do. */
async function leftBehind(tasks: Tasks, { queues, exclude }: WorkOptions): Promise<number | undefined> {
  const served = (await tasks.queues.list()).filter(({ name, paused }) => !paused && (queues?.includes(name) ?? !exclude?.includes(name)));
  if (served.some(({ counts }) => counts.running > 0)) return undefined;
  let left = 0;
  for (const { name: queue, counts } of served) {
    if (counts.ready === 0) continue;
    for (const task of tasks.names) {
      const { items } = await tasks.jobs.list({ status: 'ready', queue, task, limit: 1 });
      if (items.length > 0) return undefined;
    }
    left += counts.ready;
  }
  return left;
}
