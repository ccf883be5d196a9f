/** `escapement schedules`: the commands for schedules. Without a subcommand, it lists them. */
import type { Command } from 'commander';
import { listed } from '../../arguments.ts';
import { clean } from '../../format.ts';
import { CommandError, type ExitCode, type Io } from '../../io.ts';
import { addCommand } from '../../operate.ts';
import { addBackfill } from './backfill.ts';
import { addPause, addRemove, addResume, addRun } from './change.ts';
import { addList } from './list.ts';
import { addNext } from './next.ts';
import { addShow } from './show.ts';

const groups = {
  'Look:': [addList, addNext, addShow],
  'Change:': [addPause, addResume, addRun, addBackfill, addRemove],
};

export function addSchedules(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const texts = {
    summary: 'list schedules and when they fire next, or change one',
    description:
      'Lists the schedules in the store, and those in the module that no worker has stored yet. Subcommands show or change one schedule.',
    examples: ['tasks.ts', 'next tasks.ts digest.daily', 'pause tasks.ts digest.daily --reason "until the new template is ready"'],
    more: '\nEach command prints one JSON document with --json. escapement schedules <command> --help shows examples.',
  };
  const command = addCommand(program, 'schedules', texts, { isGroup: true })
    .usage('[command] <module> [name] [options]')
    .helpCommand(false);
  for (const [heading, adders] of Object.entries(groups)) {
    command.commandsGroup(heading);
    for (const add of adders) add(command, io, done);
  }
  // Commander takes an unknown subcommand for the module of `list`, and would complain about too many arguments.
  command.hook('preSubcommand', ({ args, commands }) => {
    // A word after an option may be its value.
    const end = args.findIndex((arg) => arg.startsWith('-'));
    const [word = '', ...rest] = end === -1 ? args : args.slice(0, end);
    const names = commands.map((one) => one.name());
    if (names.includes(word) || rest.length === 0 || /[./\\]/.test(word)) return;
    throw new CommandError(`unknown command schedules ${clean(word)}; the commands are ${listed(names, 'and')}`);
  });
}
