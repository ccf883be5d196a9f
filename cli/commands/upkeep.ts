/** `escapement prune` and `escapement migrate`: maintenance of a store. */
import type { Command } from 'commander';
import { duration, given, oneOf } from '../arguments.ts';
import { clean, plural } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { addBackend, addCommand, operate } from '../operate.ts';
import type { Place } from '../stores.ts';
import { exactDuration } from '../time.ts';

interface PruneOptions extends Place {
  readonly olderThan: number;
  readonly status?: 'successful' | 'failed' | 'cancelled';
  readonly queue?: string;
  readonly dryRun?: boolean;
  readonly backend?: string;
  readonly json?: boolean;
}

export function addPrune(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(program, 'prune', {
    summary: 'delete old finished jobs',
    description:
      'Deletes finished jobs in small batches; workers can keep running. Workers also delete jobs automatically when their retention ends.',
    examples: [
      'tasks.ts --older-than 7d',
      'tasks.ts --older-than 1h --status successful',
      'tasks.ts --older-than 1d --queue mail --dry-run',
    ],
  });
  addBackend(command)
    .requiredOption('--older-than <duration>', 'minimum time since the job finished', duration)
    .option(
      '--status <status>',
      'only jobs with this status: successful, failed or cancelled',
      oneOf(['successful', 'failed', 'cancelled'] as const),
    )
    .option('--queue <name>', 'only jobs in this queue')
    .option('--dry-run', 'delete nothing; print the number of jobs that would be deleted')
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: PruneOptions) => {
      const { olderThan, status, queue, dryRun = false } = options;
      done(
        await operate(module, options, io, async ({ store, print }) => {
          const found = await store.jobs.prune({ olderThan, ...given({ status, queue }), dryRun });
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
    summary: "create or migrate the store's tables",
    description:
      'Creates the tables of the store, or migrates them to the current version. Workers also do this at start; run it once before a deployment.',
    examples: ['tasks.ts'],
  })
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean }) => {
      done(
        await operate(module, options, io, async ({ tasks, print }) => {
          // `operate` has already opened and so migrated every store.
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
