/** `escapement mail`: previews mails before they are sent, and lists the outbox. */
import type { Command } from 'commander';
import type { ExitCode, Io } from '../../io.ts';
import { addOutbox } from './outbox.ts';
import { addPreview } from './preview.ts';

export function addMail(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = program
    .command('mail')
    .summary('preview emails, or list sent and held ones')
    .description('Previews the emails that a module defines with createMail(), or lists the outbox.')
    .usage('<command> <module> [options]')
    .helpCommand(false);
  addPreview(command, io, done);
  addOutbox(command, io, done);
}
