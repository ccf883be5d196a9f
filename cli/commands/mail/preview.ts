/** `escapement mail preview`: builds one mail and shows it. Nothing is enqueued and nothing is sent. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { listed } from '../../arguments.ts';
import { clean, cleanLines } from '../../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../../io.ts';
import { mailOf, saveHtml, textLines } from '../../mail.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { readInput } from '../enqueue.ts';

interface Options {
  readonly example?: string;
  readonly input?: string;
  readonly out?: string;
  readonly open?: boolean;
  readonly json?: boolean;
}

type Mailable = ReturnType<ReturnType<typeof mailOf>['mailables']['get']> & object;

export function addPreview(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(parent, 'preview', {
    summary: 'build an email and show it',
    description:
      'Builds an email from an example or an input, prints its headers and text, and writes its HTML to a file. Nothing is enqueued or sent. Without a name, lists the emails and their examples.',
    examples: ['tasks.ts', 'tasks.ts welcome', 'tasks.ts welcome --example ada --open', `tasks.ts welcome --input '{"userId":"u1"}'`],
    more: '\nThe build function runs in this process, and reads the same data as in a worker.\n\nExit codes:\n  0  shown\n  1  the email cannot be built\n  2  wrong usage or input, or the module cannot be used',
  })
    .argument('[name]', 'the name given to mail.define()')
    .option('--example <name>', 'one of its examples (default: the first)')
    .option('--input <json>', 'an input instead of an example; - reads it from stdin')
    .option('--out <file>', 'file for the HTML (default: a file in the temporary folder)')
    .option('--open', 'open the HTML in a browser')
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string | undefined, options: Options) => {
      done(
        await operate(module, { ...options, anyBackend: true }, io, (operation) =>
          name === undefined ? listMails(operation) : preview(operation, name, options),
        ),
      );
    });
}

async function listMails({ tasks, label, print }: Operation): Promise<ExitCode> {
  const mails = [...mailOf(tasks).mailables.values()].map(({ name, examples }) => ({ name, examples: Object.keys(examples) }));
  print(
    () => ({ mails }),
    () =>
      mails.length === 0
        ? [`${label} defines no emails; see createMail() in 'escapement/email'`]
        : mails.map(({ name, examples }) => `${clean(name)}${examples.length > 0 ? `  examples: ${examples.map(clean).join(', ')}` : ''}`),
  );
  return exitCodes.ok;
}

async function preview({ tasks, label, io, print, paint }: Operation, name: string, options: Options): Promise<ExitCode> {
  const { mailables } = mailOf(tasks);
  const mailable = mailables.get(name) ?? [...mailables.values()].find((one) => name.endsWith(`.${one.name}`));
  if (!mailable) {
    const names = [...mailables.keys()].map(clean);
    throw new CommandError(
      `${label} defines no email ${clean(name)}${names.length > 0 ? `; its emails are ${listed(names, 'and')}` : "; see createMail() in 'escapement/email'"}`,
    );
  }
  const input = await inputFor(mailable, options, io);
  const { mail } = await mailable.preview(input).catch((error: unknown) => {
    throw new CommandError(`${clean(name)} cannot be built: ${error instanceof Error ? error.message : String(error)}`, {
      exitCode: exitCodes.refused,
      cause: error,
    });
  });
  const file = saveHtml(
    `${name}-${options.example ?? 'preview'}`,
    mail,
    options.out === undefined ? undefined : resolve(io.cwd, options.out),
  );
  if (options.open) open(file);
  const attached = mail.attachments.map(({ filename, size }) => `${clean(filename)} (${size} bytes)`);
  print(
    () => ({ ...mail, file }),
    () => [
      ...cleanLines(mail.headers).map((line) => paint('dim', line)),
      '',
      ...(mail.text === null ? [paint('dim', '(no text part)')] : textLines(mail.text)),
      '',
      ...(attached.length > 0 ? [`attachments: ${attached.join(', ')}`] : []),
      `${mail.html === null ? 'text' : 'HTML'} written to ${file}`,
    ],
  );
  return exitCodes.ok;
}

async function inputFor({ name, examples }: Mailable, { example, input }: Options, io: Io): Promise<unknown> {
  if (input !== undefined) {
    if (example !== undefined) throw new CommandError('give --example or --input, not both');
    return readInput(input, io);
  }
  const names = Object.keys(examples);
  if (example === undefined) return names[0] === undefined ? undefined : examples[names[0]];
  if (Object.hasOwn(examples, example)) return examples[example];
  throw new CommandError(
    `${clean(name)} has no example ${clean(example)}${names.length > 0 ? `; its examples are ${listed(names.map(clean), 'and')}` : '; give --input'}`,
  );
}

/** Without a browser, the printed path has to do. */
function open(file: string): void {
  const [command, ...args] =
    process.platform === 'darwin' ? ['open', file] : process.platform === 'win32' ? ['cmd', '/c', 'start', '', file] : ['xdg-open', file];
  const child = spawn(command, args, { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
}
