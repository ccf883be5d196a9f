/** `escapement mail outbox`: lists an application's mails by state: waiting, sent, held or refused. */
import type { Command } from 'commander';
import { whole } from '../../arguments.ts';
import { type Cell, clean, cleanLines, type Mark, shorten, table } from '../../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../../io.ts';
import { ago, findJob } from '../../jobs.ts';
import { type MailState, mailOf, type OutboxEntry, type OutboxMail, textLines } from '../../mail.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { shortDuration } from '../../time.ts';

interface Options {
  readonly limit: number;
  readonly send?: boolean;
  readonly drop?: boolean;
  readonly json?: boolean;
}

export function addOutbox(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(parent, 'outbox', {
    summary: 'list emails, or show, send or drop one',
    description:
      'Lists the emails of an application, newest first: queued, sending, deferred, held, sent, refused or dropped. With an id, shows one of them.',
    examples: ['tasks.ts', 'tasks.ts 1c42f7', 'tasks.ts 1c42f7 --send', "tasks.ts --json | jq -r '.mails[].subject'"],
    more: '\nThe text and headers of held emails are kept; those of sent emails are kept only with the option keepBodies.\n\nExit codes:\n  0  done\n  1  no such email\n  2  wrong usage, or the module or its store cannot be used',
  })
    .argument('[id]', "the job's id, or the start or end of the id of one of the 5,000 newest jobs")
    .option('--limit <n>', 'maximum number of emails', whole(1, 1_000), 50)
    .option('--send', 'send this email now, even if it is held')
    .option('--drop', 'cancel this email, or delete it if it is finished')
    .option('--json', 'print one JSON document')
    .action(async (module: string, id: string | undefined, options: Options) => {
      if (options.send && options.drop) throw new CommandError('give --send or --drop, not both');
      if (id === undefined && (options.send || options.drop)) throw new CommandError('--send and --drop need the id of an email');
      done(await operate(module, options, io, (operation) => (id === undefined ? list(operation, options) : one(operation, id, options))));
    });
}

function outboxOf({ tasks, label }: Operation) {
  const { outbox } = mailOf(tasks);
  if (outbox) return outbox;
  throw new CommandError(`${label} has no emails; see createMail() and queued() in 'escapement/email'`);
}

async function list(operation: Operation, { limit }: Options): Promise<ExitCode> {
  const mails = await outboxOf(operation).list({ limit });
  operation.print(
    () => ({ mails }),
    () => (mails.length === 0 ? ['no emails'] : mailTable(mails, operation)),
  );
  return exitCodes.ok;
}

async function one(operation: Operation, part: string, { send, drop }: Options): Promise<ExitCode> {
  const outbox = outboxOf(operation);
  const { id } = await findJob(operation, part);
  if (send) await outbox.send(id);
  if (drop) await outbox.drop(id);
  if (send || drop) {
    const done = send ? 'will be sent by the next free worker' : 'dropped';
    operation.print(
      () => ({ job: id, done }),
      () => [`${id}  ${done}`],
    );
    return exitCodes.ok;
  }
  const mail = await outbox.get(id);
  operation.print(
    () => mail,
    () => mailLines(mail, operation),
  );
  return exitCodes.ok;
}

const marks: Readonly<Record<MailState, Mark | undefined>> = {
  queued: undefined,
  sending: 'bold',
  deferred: 'yellow',
  held: 'yellow',
  sent: 'green',
  refused: 'red',
  dropped: undefined,
};

function mailTable(mails: readonly OutboxEntry[], { io, paint }: Operation): string[] {
  const columns = [
    { title: 'id' },
    { title: 'state' },
    { title: 'when', align: 'right' as const },
    { title: 'to' },
    { title: 'subject' },
    { title: 'tries', align: 'right' as const },
    { title: '' },
  ];
  const rows = mails.map((mail): Cell[] => [
    mail.job.slice(-6),
    { text: mail.state, mark: marks[mail.state] },
    whenText(mail, io.now()),
    shorten(clean(mail.to.join(', ')), 28),
    shorten(clean(mail.subject || `(${mail.task})`), 32),
    String(mail.attempts),
    shorten(clean(mail.note ?? ''), 40),
  ]);
  return table(columns, rows, paint);
}

function whenText({ at, state }: OutboxEntry, now: number): string {
  const ms = at.getTime() - now;
  if (state === 'queued' || state === 'deferred') return ms <= 0 ? 'due' : `in ${shortDuration(ms)}`;
  return ago(at, now);
}

function mailLines(mail: OutboxMail, { paint }: Operation): string[] {
  const line = (title: string, text: string) => (text === '' ? [] : [`${paint('dim', title.padEnd(10))}  ${clean(text)}`]);
  return [
    `${paint('bold', clean(mail.subject || mail.task))}  ${mail.state}`,
    ...line('job', mail.job),
    ...line('task', mail.task),
    ...line('at', mail.at.toISOString()),
    ...line('from', mail.from),
    ...line('to', mail.to.join(', ')),
    ...line('accepted', mail.accepted.join(', ')),
    ...mail.refused.flatMap(({ address, response }) => line('not', `${address}: ${response}`)),
    ...line('note', mail.note ?? ''),
    ...line('attached', mail.attachments.map(({ filename, size }) => `${filename} (${size} bytes)`).join(', ')),
    ...(mail.headers === null
      ? ['', paint('dim', '(the text and headers of this email are not kept)')]
      : ['', ...cleanLines(mail.headers)]),
    ...(mail.text === null ? [] : ['', ...textLines(mail.text)]),
  ];
}
