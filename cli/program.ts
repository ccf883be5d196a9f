/** The command line: which commands there are, and how an error ends the program. `run` is all of it but the process. */

import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { addCancel, addDelete, addPrioritize, addRetry } from './commands/change.ts';
import { addCheck } from './commands/check.ts';
import { addDev } from './commands/dev.ts';
import { addEnqueue } from './commands/enqueue.ts';
import { addList, addShow } from './commands/list.ts';
import { addPause, addQueues, addResume } from './commands/queues.ts';
import { addSchedules } from './commands/schedules/index.ts';
import { addSimulate } from './commands/simulate.ts';
import { addStats } from './commands/stats.ts';
import { addTop } from './commands/top.ts';
import { addMigrate, addPrune } from './commands/upkeep.ts';
import { addWorker } from './commands/worker.ts';
import { cleanLines } from './format.ts';
import { CommandError, type ExitCode, exitCodes, faultText, type Io } from './io.ts';

/**
 * Runs one command.
 * @param argv what the user wrote behind `escapement`
 * @returns the exit code
 */
export async function run(argv: readonly string[], io: Io): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  try {
    await program(io, (result) => {
      code = result;
    }).parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    // Commander has printed its own: help and version, which are no faults, or what is wrong with the arguments.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    io.stderr.write(faultText(error, io.env));
    return error instanceof CommandError ? error.exitCode : exitCodes.usage;
  }
}

function program(io: Io, done: (code: ExitCode) => void): Command {
  const command = new Command('escapement')
    .description('Background tasks that can be tested in virtual time.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help; behind a command, its own')
    .helpCommand(false)
    .addHelpText('after', '\nEach command takes a module: the file that calls createTasks(). escapement <command> --help has examples.')
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
  'Run:': [addWorker, addDev, addTop, addSimulate],
  'Jobs:': [addEnqueue, addList, addShow, addRetry, addCancel, addPrioritize, addDelete],
  'Queues, workers and schedules:': [addQueues, addPause, addResume, addStats, addSchedules],
  'Upkeep:': [addCheck, addPrune, addMigrate],
};

function version(): string {
  return (createRequire(import.meta.url)('escapement/package.json') as { version: string }).version;
}
