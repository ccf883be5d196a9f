/** `escapement stats`: queues, workers, and jobs whose task no worker knows. */
import type { Command } from 'commander';
import type { LimitUse, WorkerInfo } from 'escapement';
import { stateOf, type UnknownTask, unknownTasks } from '../fleet.ts';
import { type Cell, clean, type Mark, plural, shorten, table } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { ago } from '../jobs.ts';
import { addBackend, addCommand, type Operation, operate } from '../operate.ts';
import { exactDuration } from '../time.ts';
import { queueRow, queuesOf, queueTable } from './queues.ts';

export function addStats(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'stats', {
    summary: 'show the state of queues and workers',
    description:
      'Shows the queues, the limits in use, the workers seen in the last 24 hours, and ready jobs whose task no live worker knows.',
    examples: ['tasks.ts', "tasks.ts --json | jq '.queues[] | {name, ready: .counts.ready}'"],
    more: '\nA worker is silent if it sent no heartbeat for 30 s: it has died, is paused, or cannot reach the store.',
  });
  addBackend(command)
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean; backend?: string }) => {
      done(await operate(module, options, io, stats));
    });
}

async function stats(operation: Operation): Promise<ExitCode> {
  const { store, io, print } = operation;
  const now = io.now();
  const [queues, workers] = await Promise.all([queuesOf(operation), store.workers.list()]);
  const unknown = await unknownTasks(store, queues, workers, now);
  const limits = await store.limits();
  print(
    () => ({
      queues: queues.map(queueRow),
      limits,
      workers: workers.map((worker) => workerRow(worker, now)),
      unknownTasks: unknown,
    }),
    () => [
      ...queueTable(queues, operation),
      '',
      ...(limits.length > 0 ? [...limitTable(limits, operation), ''] : []),
      ...workerTable(workers, operation),
      ...(unknown.length > 0 ? ['', ...unknown.map((task) => operation.paint('yellow', unknownLine(task, now)))] : []),
    ],
  );
  return exitCodes.ok;
}

function limitTable(limits: readonly LimitUse[], { paint }: Operation): string[] {
  const columns = [{ title: 'limit' }, { title: 'key' }, { title: 'running', align: 'right' as const }, { title: 'rate' }];
  const rows = limits.map(({ queue, task, key, running, concurrency, rate }): Cell[] => [
    shorten(clean(queue === null ? `task ${task}` : `queue ${queue}`), 36, 'middle'),
    shorten(clean(key ?? ''), 24, 'middle'),
    concurrency === null ? running : { text: `${running}/${concurrency}`, mark: running >= concurrency ? 'yellow' : undefined },
    rate === null ? '' : `${rate.limit} in ${exactDuration(rate.perMs)}${rate.byKey ? ' by key' : ''}`,
  ]);
  return table(columns, rows, paint);
}

/** With a fixed order of keys, independent of the store. */
function workerRow(worker: WorkerInfo, now: number) {
  const { id, host, pid, version, queues, exclude, tasks, concurrency, running, startedAt, heartbeatAt } = worker;
  const heartbeatAgeMs = Math.max(0, now - heartbeatAt.getTime());
  const state = stateOf(worker, now);
  return { id, state, running, concurrency, queues, exclude, host, pid, version, startedAt, heartbeatAt, heartbeatAgeMs, tasks };
}

export function unknownLine({ task, jobs, oldestDueAt }: UnknownTask, now: number): string {
  return `no live worker knows the task ${clean(task)}: ${plural(jobs, 'job')} ${jobs === 1 ? 'is' : 'are'} ready, the oldest since ${ago(oldestDueAt, now)}`;
}

const marks: Partial<Record<ReturnType<typeof stateOf>, Mark>> = { running: 'green', stopped: 'dim', silent: 'red', stopping: 'yellow' };

function workerTable(workers: readonly WorkerInfo[], { io, paint }: Operation): string[] {
  if (workers.length === 0) return ['no workers seen in the last 24 hours'];
  const now = io.now();
  const columns = [
    { title: 'worker' },
    { title: 'state' },
    { title: 'busy', align: 'right' as const },
    { title: 'queues' },
    { title: 'host' },
    { title: 'pid', align: 'right' as const },
    { title: 'version' },
    { title: 'heartbeat', align: 'right' as const },
    { title: 'started', align: 'right' as const },
  ];
  const rows = workers.map((worker): Cell[] => {
    const state = stateOf(worker, now);
    return [
      shorten(clean(worker.id), 36, 'middle'),
      { text: state, mark: marks[state] },
      state === 'running' || state === 'stopping' ? `${worker.running}/${worker.concurrency}` : '',
      shorten(clean(queuesText(worker)), 24),
      shorten(clean(worker.host), 20, 'middle'),
      String(worker.pid),
      clean(worker.version),
      ago(worker.heartbeatAt, now),
      ago(worker.startedAt, now),
    ];
  });
  return table(columns, rows, paint);
}

function queuesText({ queues, exclude }: WorkerInfo): string {
  if (queues) return queues.join(', ');
  return exclude && exclude.length > 0 ? `all except ${exclude.join(', ')}` : 'all';
}
