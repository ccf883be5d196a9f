/** `escapement queues`, `pause` and `resume`. */
import type { Command } from 'commander';
import type { QueueStats } from 'escapement';
import { type Cell, clean, plural, shorten, table } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { ago } from '../jobs.ts';
import { addBackend, addCommand, type Operation, operate } from '../operate.ts';

export function addQueues(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'queues', {
    summary: 'list the queues and the number of jobs in each',
    description: 'Lists the queues that have jobs or were paused, with the number of jobs in each state.',
    examples: ['tasks.ts', 'tasks.ts --json'],
  });
  addBackend(command)
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean; backend?: string }) => {
      done(
        await operate(module, options, io, async (operation) => {
          const queues = await queuesOf(operation);
          operation.print(
            () => ({ queues: queues.map(queueRow) }),
            () => queueTable(queues, operation),
          );
          return exitCodes.ok;
        }),
      );
    });
}

/** Ordered by name. */
export async function queuesOf({ store }: Pick<Operation, 'store'>): Promise<QueueStats[]> {
  return (await store.queues.list()).sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function queueRow({ name, paused, counts, oldestReadyAt }: QueueStats) {
  return { name, paused, counts, oldestReadyAt: oldestReadyAt === null ? null : new Date(oldestReadyAt) };
}

const columns = ['waiting', 'scheduled', 'ready', 'retrying', 'running', 'successful', 'failed', 'cancelled'] as const;

export function queueTable(queues: readonly QueueStats[], { io, paint }: Pick<Operation, 'io' | 'paint'>): string[] {
  if (queues.length === 0) return ['no queues with jobs'];
  const titles = [
    { title: 'queue' },
    { title: '' },
    ...columns.map((title) => ({ title, align: 'right' as const })),
    { title: 'oldest ready', align: 'right' as const },
  ];
  const rows = queues.map(({ name, paused, counts, oldestReadyAt }): Cell[] => [
    shorten(clean(name), 24, 'middle'),
    { text: paused ? 'paused' : '', mark: 'yellow' },
    ...columns.map((status): Cell => (status === 'failed' ? { text: counts.failed, mark: 'red' } : counts[status])),
    oldestReadyAt === null ? '' : ago(new Date(oldestReadyAt), io.now()),
  ]);
  return table(titles, rows, paint);
}

export function addPause(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'pause', {
    summary: 'pause a queue',
    description: 'Pauses a queue: workers claim no jobs from it until it is resumed. Running jobs continue.',
    examples: ['tasks.ts mail'],
  });
  addSwitch(command, true, io, done);
}

export function addResume(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'resume', {
    summary: 'resume a paused queue',
    description: 'Resumes a paused queue.',
    examples: ['tasks.ts mail'],
  });
  addSwitch(command, false, io, done);
}

function addSwitch(command: Command, paused: boolean, io: Io, done: (code: ExitCode) => void): void {
  addBackend(command)
    .argument('<queue>', "the queue's name")
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string, options: { json?: boolean; backend?: string }) => {
      done(
        await operate(module, options, io, async ({ store, print }) => {
          const before = (await store.queues.list()).find((queue) => queue.name === name);
          await (paused ? store.queues.pause(name) : store.queues.resume(name));
          const { ready = 0, running = 0 } = before?.counts ?? {};
          print(
            () => ({ queue: name, paused }),
            () => {
              const already = (before?.paused ?? false) === paused;
              const ends = running > 0 ? `; ${plural(running, 'job')} still running` : '';
              if (already) return [`${clean(name)} ${paused ? 'was already paused' : 'was not paused'}`];
              return [
                paused
                  ? `paused ${clean(name)}, with ${plural(ready, 'job')} ready${ends}`
                  : `resumed ${clean(name)}, with ${plural(ready, 'job')} ready`,
              ];
            },
          );
          return exitCodes.ok;
        }),
      );
    });
}
