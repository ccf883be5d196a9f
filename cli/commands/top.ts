/** `escapement top`: watches a running system from outside. */
import type { Command } from 'commander';
import { postgresUrl } from '../arguments.ts';
import type { ExitCode, Io } from '../io.ts';
import { addBackend } from '../operate.ts';
import { addLooks, type Looks } from './looks.ts';

interface Options extends Looks {
  readonly sqlite?: string;
  readonly postgres?: string;
  readonly schema?: string;
  readonly backend?: string;
  readonly write?: boolean;
}

const more = `
Examples:
  $ escapement top tasks.ts
  $ escapement top --sqlite tasks.db
  $ escapement top --postgres postgres://user@host/database
  $ escapement top tasks.ts --write
  $ escapement top tasks.ts --backend bulk

Press ? for an explanation of the keys and numbers. Without --write, nothing is changed.
If stdout is not a terminal, or CI is set, the overview is printed once as plain lines.

Exit codes:
  0  quit, or printed
  2  wrong usage, or the module or its store cannot be used`;

export function addTop(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = program
    .command('top')
    .summary('watch queues, jobs, retries and schedules live')
    .description('Shows a running system live: its queues, jobs, retries, schedules, workers and events.')
    .argument('[module]', 'the module that calls createTasks(); .ts runs directly')
    .option('--sqlite <file>', 'database file to watch, instead of a module')
    .option('--postgres <url>', 'PostgreSQL database to watch, instead of a module', postgresUrl)
    .option('--schema <name>', 'its schema (default: escapement)')
    .option('--write', 'allow changes: retry, cancel, delete, priority, enqueue, pause, run');
  addLooks(addBackend(command), "this machine's")
    .addHelpText('after', more)
    .action(async (module: string | undefined, { sqlite, postgres, schema, backend, write = false, zone, theme }: Options) => {
      // Imported here, so that other commands do not load the dashboard.
      const { watchSystem } = await import('../dash/watch.ts');
      done(await watchSystem({ module, sqlite, postgres, schema, backend, write, zone, theme }, io));
    });
}
