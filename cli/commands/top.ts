/** `escapement top`: what a running system is doing, from outside. */
import type { Command } from 'commander';
import type { ExitCode, Io } from '../io.ts';
import { addLooks, type Looks } from './looks.ts';

interface Options extends Looks {
  readonly sqlite?: string;
  readonly write?: boolean;
}

const more = `
Examples:
  $ escapement top tasks.ts
  $ escapement top --sqlite tasks.db
  $ escapement top tasks.ts --write

Press ? for the keys and for what every number means. Without --write nothing is changed.
Where stdout is no terminal, or CI is set, it prints one look as plain lines and ends.

Exit codes:
  0  left, or printed
  2  wrong usage, or the module or its store cannot be used`;

export function addTop(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = program
    .command('top')
    .summary('watch queues, jobs, retries and schedules, live')
    .description('Shows what a running system is doing: its queues, jobs, retries, schedules, workers and events.')
    .argument('[module]', 'the module that calls createTasks(); .ts runs as it is')
    .option('--sqlite <file>', 'in place of a module: the file that sqlite({ file }) names')
    .option('--write', 'allow changes: retry, cancel, delete, priority, enqueue, pause, run');
  addLooks(command, "this machine's")
    .addHelpText('after', more)
    .action(async (module: string | undefined, { sqlite, write = false, zone, theme }: Options) => {
      // Here, and not at the top: nobody else is to carry a dashboard with them.
      const { watchSystem } = await import('../dash/watch.ts');
      done(await watchSystem({ module, sqlite, write, zone, theme }, io));
    });
}
