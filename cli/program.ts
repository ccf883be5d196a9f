/** The command line: its commands, and how an error ends the program. `run` does everything except touch the process. */

import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { addCancel, addDelete, addPrioritize, addRetry } from './commands/change.ts';
import { addCheck } from './commands/check.ts';
import { addDev } from './commands/dev.ts';
import { addEnqueue } from './commands/enqueue.ts';
import { addInit } from './commands/init.ts';
import { addList, addShow } from './commands/list.ts';
import { addMail } from './commands/mail/index.ts';
import { addPause, addQueues, addResume } from './commands/queues.ts';
import { addSchedules } from './commands/schedules/index.ts';
import { addSimulate } from './commands/simulate.ts';
import { addStats } from './commands/stats.ts';
import { addTop } from './commands/top.ts';
import { addMigrate, addPrune } from './commands/upkeep.ts';
import { addWorker } from './commands/worker.ts';
import { defaultModule } from './config.ts';
import { cleanLines } from './format.ts';
import { CommandError, type ExitCode, exitCodes, faultText, type Io } from './io.ts';

/**
 * Runs one command.
 * @param argv the arguments after `escapement`
 * @returns the exit code
 */
export async function run(argv: readonly string[], io: Io): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  try {
    await program(io, (result) => {
      code = result;
    }).parseAsync(withModule(argv, io), { from: 'user' });
    return code;
  } catch (error) {
    // Commander has already printed the help, the version, or the error in the arguments.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    io.stderr.write(faultText(error, io.env));
    return error instanceof CommandError ? error.exitCode : exitCodes.usage;
  }
}

/** Adds the default module to arguments that name none. */
function withModule(argv: readonly string[], io: Io): string[] {
  if (argv.some((word) => word === '-h' || word === '--help')) return [...argv];
  // Only parsing can tell arguments from option values. Errors are reported by the real parse later.
  const silent = { write: () => {}, isTTY: false, columns: 80 };
  let command = program({ ...io, stdout: silent, stderr: silent }, () => {});
  let from = 0;
  for (let sub = subcommand(command, argv[0]); sub; sub = subcommand(sub, argv[from])) {
    command = sub;
    from += 1;
  }
  // `escapement schedules` means `escapement schedules list`; a word after it may be a mistyped command.
  const isGroup = from > 0 && command.commands.length > 0;
  if (isGroup && argv[from]?.startsWith('-') === false) return [...argv];
  if (isGroup) command = subcommand(command, 'list') ?? command;
  const takes = command.registeredArguments;
  if (from === 0 || takes[0]?.name() !== 'module' || (!takes[0].required && defaultModule(io.cwd) === undefined)) return [...argv];
  const given = argumentsOf(command, argv.slice(from));
  // `top --sqlite` and `top --postgres` take a store instead of a module.
  const { sqlite, postgres } = command.opts<{ sqlite?: string; postgres?: string }>();
  if (!given || (!takes[0].required && (sqlite ?? postgres) !== undefined)) return [...argv];
  const [first] = given;
  const few = given.length < Math.max(1, takes.filter(({ required }) => required).length);
  const named = first !== undefined && (isPath.test(first) || statSync(resolve(io.cwd, first), { throwIfNoEntry: false }) !== undefined);
  if (named || !(few || first !== undefined)) return [...argv];
  const module = defaultModule(io.cwd);
  if (module !== undefined) return [...argv.slice(0, from), module, ...argv.slice(from)];
  if (first !== undefined) return [...argv];
  throw new CommandError(
    'no module given, and no tasks.ts or src/tasks.ts found: give the module that calls createTasks(), or set "escapement" in package.json to its path',
  );
}

const isPath = /\.[cm]?[jt]sx?$/;

function subcommand(command: Command, name: string | undefined): Command | undefined {
  return command.commands.find((sub) => sub.name() === name || (name !== undefined && sub.aliases().includes(name)));
}

/** Undefined if they cannot be parsed. */
function argumentsOf(command: Command, argv: readonly string[]): readonly string[] | undefined {
  try {
    return command.parseOptions([...argv]).operands;
  } catch {
    return undefined;
  }
}

function program(io: Io, done: (code: ExitCode) => void): Command {
  const command = new Command('escapement')
    .description('Background tasks that can be tested in virtual time.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help; after a command, its own help')
    .helpCommand(false)
    .addHelpText(
      'after',
      '\nCommands take a module: the file that calls createTasks(). The default is the path in "escapement"\nin package.json, or else tasks.ts or src/tasks.ts. escapement <command> --help shows examples.',
    )
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text, write) => write(`${cleanLines(text.replace(/^error: /, 'escapement: ')).join(' ')}\n`),
    });
  for (const [heading, adders] of Object.entries(commands)) {
    command.commandsGroup(heading);
    for (const add of adders) add(command, io, done);
  }
  return command;
}

const commands = {
  'Get started:': [addInit],
  'Run:': [addWorker, addDev, addTop, addSimulate],
  'Jobs:': [addEnqueue, addList, addShow, addRetry, addCancel, addPrioritize, addDelete],
  'Queues, workers and schedules:': [addQueues, addPause, addResume, addStats, addSchedules],
  'Mail:': [addMail],
  'Maintenance:': [addCheck, addPrune, addMigrate],
};

function version(): string {
  return (createRequire(import.meta.url)('escapement/package.json') as { version: string }).version;
}
