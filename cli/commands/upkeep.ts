/** `escapement prune` and `escapement migrate`: what a store needs now and then. */
import type { Command } from 'commander';
import { duration, given, oneOf } from '../arguments.ts';
import { clean, plural } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { addCommand, operate } from '../operate.ts';
import { exactDuration } from '../time.ts';

interface PruneOptions {
  readonly olderThan: number;
  readonly status?: 'successful' | 'failed' | 'cancelled';
  readonly queue?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function addPrune(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'prune', {
    summary: 'delete jobs that finished long ago',
    description:
      'Deletes finished jobs, in small batches beside running workers. Workers do so by themselves after the retention of the application.',
    examples: [
      'tasks.ts --older-than 7d',
      'tasks.ts --older-than 1h --status successful',
      'tasks.ts --older-than 1d --queue mail --dry-run',
    ],
  })
    .requiredOption('--older-than <duration>', 'that finished so long ago', duration)
    .option(
      '--status <status>',
      'only those that ended so: successful, failed or cancelled',
      oneOf(['successful', 'failed', 'cancelled'] as const),
    )
    .option('--queue <name>', 'only those of this queue')
    .option('--dry-run', 'delete nothing; print how many would be')
    .option('--json', 'print one JSON document')
    .action(async (module: string, { olderThan, status, queue, dryRun = false, json }: PruneOptions) => {
      done(
        await operate(module, json === undefined ? {} : { json }, io, async ({ tasks, print }) => {
          const found = await tasks.jobs.prune({ olderThan, ...given({ status, queue }), dryRun });
          const what = `${plural(found, `${status ?? 'finished'} job`)}${queue === undefined ? '' : ` of queue ${clean(queue)}`}`;
          print(
            () => (dryRun ? { deleted: 0, wouldDelete: found } : { deleted: found }),
            () => [`${dryRun ? 'would delete' : 'deleted'} ${what} older than ${exactDuration(olderThan)}`],
          );
          return exitCodes.ok;
        }),
      );
    });
}

export function addMigrate(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'migrate', {
    summary: "bring the store's tables up to date",
    description:
      'Creates the tables of the store, or brings them up to date. Workers do so too when they start; once here is enough before a deployment.',
    examples: ['tasks.ts'],
  })
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean }) => {
      done(
        await operate(module, options, io, async ({ tasks, print }) => {
          // `operate` has opened, and so migrated, all of them.
          const stores = tasks.backends.filter(({ supports }) => supports.shared).map(({ alias, name }) => ({ alias, name }));
          print(
            () => ({ stores }),
            () => stores.map(({ alias, name }) => `${clean(alias)} (${clean(name)}) is up to date`),
          );
          return exitCodes.ok;
        }),
      );
    });
}
