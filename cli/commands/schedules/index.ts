/** `escapement schedules`: what recurs, and when next. Without another word behind it, it lists. */
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
  const command = addCommand(program, 'schedules', {
    summary: 'list schedules and when they fire next, or change one',
    description: 'Lists the schedules of the store, and those of the module that no worker has brought there yet; with a command, more.',
    examples: ['tasks.ts', 'next tasks.ts digest.daily', 'pause tasks.ts digest.daily --reason "until the new template is there"'],
    more: '\nEach of them prints one JSON document with --json; escapement schedules <command> --help has examples.',
  })
    .usage('[command] <module> [name] [options]')
    .helpCommand(false);
  for (const [heading, adders] of Object.entries(groups)) {
    command.commandsGroup(heading);
    for (const add of adders) add(command, io, done);
  }
  // What is no command is taken for the module of `list`, which then has arguments too many: say what was meant.
  command.hook('preSubcommand', ({ args, commands }) => {
    const [word = '', ...rest] = args.filter((arg) => !arg.startsWith('-'));
    const names = commands.map((one) => one.name());
    if (names.includes(word) || rest.length === 0 || /[./\\]/.test(word)) return;
    throw new CommandError(`there is no command schedules ${clean(word)}; there are ${listed(names, 'and')}`);
  });
}
