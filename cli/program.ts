/** The command line: which commands there are, and how an error ends the program. `run` is all of it but the process. */
import { Command, CommanderError } from 'commander';
import { addSimulate } from './commands/simulate.ts';
import { cleanLines } from './format.ts';
import { type ExitCode, exitCodes, faultText, type Io } from './io.ts';

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
    return exitCodes.usage;
  }
}

function program(io: Io, done: (code: ExitCode) => void): Command {
  const command = new Command('escapement')
    .description('Background tasks that can be tested in virtual time.')
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
  addSimulate(command, io, done);
  return command;
}
