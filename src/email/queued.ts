/**
 * A Nodemailer transport for code that calls `sendMail` itself. The message is stored with a job, and a worker sends it through the real
 * transport. The result reports only what is true at that point: the message is pending, and no server has accepted it.
 */
import { type Cancel, InputError, PermanentError, type RateOptions, type TaskResult, type Tasks, type UsingOptions } from 'escapement';
import { ownMessageId } from './compile.ts';
import { inline, inlineNow } from './content.ts';
import { deliver, idOf, type MailOutcome } from './deliver.ts';
import { deliveryOf, mailRetry } from './mail.ts';
import { domainOf, type MailMessage } from './message.ts';
import { jobOptions, type MailOptions, readOptions, withTag } from './options.ts';
import { decodeMessage, encodeMessage, type StoredInput } from './stored.ts';

/** What `sendMail` resolves to. */
export interface QueuedInfo {
  messageId: string;
  /** The job that sends the message: `tasks.getResult(jobId)`. */
  jobId: string;
  queued: true;
  /** Always empty. */
  accepted: string[];
  rejected: string[];
  /** The recipients of the message. */
  pending: string[];
  envelope: { from: string; to: string[] };
  response: string;
}

/** The part of the message that is used, as Nodemailer passes it to a transport. */
interface NodemailerMail {
  readonly data: object;
  readonly message: {
    getEnvelope(): { from: string | false; to: string[] };
  };
}

/** Options for enqueueing a message. */
export interface QueuedOptions extends UsingOptions {
  /**
   * The caller's own open transaction: the message is sent if and only if it commits. Errors are then thrown synchronously by `sendMail`,
   * and streams are refused, because they cannot be read synchronously.
   */
  transaction?: unknown;
}

/** The options of `queued`. */
export interface QueuedMailOptions extends MailOptions {
  /** How many messages may be sent to one domain per period. A message belongs to the domain of its first recipient. @default no limit */
  ratePerDomain?: Omit<RateOptions, 'key'>;
}

/** A Nodemailer transport that enqueues. */
export interface QueuedTransport {
  readonly name: string;
  readonly version: string;
  send(mail: NodemailerMail, callback: (error: Error | null, info: QueuedInfo) => void): void;
  verify(callback?: (error: Error | null, success: true) => void): Promise<true>;
  /**
   * The same transport with other options for the messages sent through it.
   * @example createTransport(outgoing.using({ runAfter: '3d', transaction: db })).sendMail(message)
   */
  using(options: QueuedOptions): QueuedTransport;
}

/**
 * A Nodemailer transport that enqueues each message. A worker of the application sends it.
 * @param options.transport sends the messages
 * @throws ConfigError with all faults of the options
 * @example const mailer = nodemailer.createTransport(queued(tasks, { transport: process.env.SMTP_URL }));
 */
export function queued(tasks: Tasks, options: QueuedMailOptions): QueuedTransport {
  const { ratePerDomain, ...given } = options ?? {};
  const settings = readOptions('queued', given);
  const delivery = deliveryOf(tasks, settings);
  const own = jobOptions(settings, {}, mailRetry);
  const rate = ratePerDomain && { ...ratePerDomain, key: ({ to }: StoredInput) => domainOf(to[0] ?? '') };
  const task = tasks.define<StoredInput, Promise<MailOutcome | Cancel>>(`${settings.name}.message`, {
    ...own,
    ...(rate ? { rate } : {}),
    async run({ parts }: StoredInput, ctx): Promise<MailOutcome | Cancel> {
      const load = async (): Promise<MailMessage> => {
        const message = await decodeMessage(ctx, parts);
        if (!message) throw new PermanentError(`job ${ctx.id} has no message; it was enqueued without its transport`);
        return message;
      };
      return deliver<never>(delivery, ctx, load, (built): built is MailMessage => built !== undefined);
    },
  });

  delivery.seam.tasks.add(task.name);

  const enqueue = (mail: NodemailerMail, { transaction, ...using }: QueuedOptions): QueuedInfo | Promise<QueuedInfo> => {
    const { from, to } = mail.message.getEnvelope();
    if (to.length === 0) throw new InputError('the message has no recipient: set to, cc, bcc or envelope', { path: 'to' });
    const given: MailMessage = { ...settings.defaults, ...mail.data };
    const own = ownMessageId(given);
    const chosen = task.using(using.tags ? { ...using, tags: withTag(using.tags) } : using);
    const store = (message: MailMessage) => {
      const { blobs, parts } = encodeMessage(message);
      return { input: { from: from || '', to: [...to], subject: message.subject ?? '', parts }, blobs };
    };
    const sender = from || addressIn(settings.defaults.from);
    const answer = (result: TaskResult): QueuedInfo => ({
      messageId: own ?? `<${idOf(result)}@${sender.split('@').pop() || 'localhost'}>`,
      jobId: result.id,
      queued: true,
      accepted: [],
      rejected: [],
      pending: [...to],
      envelope: { from: sender, to: [...to] },
      response: `queued as ${result.id}`,
    });
    if (transaction !== undefined) {
      const { input, blobs } = store(inlineNow(given, { limit: settings.limit, stored: true }));
      const result: TaskResult | Promise<TaskResult> = chosen.enqueue(input, { transaction: transaction as never, blobs });
      return result instanceof Promise ? result.then(answer) : answer(result);
    }
    return (async () => {
      const { input, blobs } = store(await inline(given, { limit: settings.limit, stored: true }));
      return answer(await chosen.enqueue(input, { blobs }));
    })();
  };

  const transportOf = (using: QueuedOptions): QueuedTransport => ({
    name: 'escapement',
    version: '1',
    send(mail, callback) {
      const failed = (error: unknown) => callback(error as Error, undefined as never);
      // In the caller's transaction errors are thrown, so that the transaction fails too.
      if (using.transaction !== undefined) {
        const info = enqueue(mail, using);
        if (info instanceof Promise) info.then((value) => callback(null, value), failed);
        else callback(null, info);
        return;
      }
      Promise.resolve()
        .then(() => enqueue(mail, using))
        .then((info) => callback(null, info), failed);
    },
    async verify(callback) {
      callback?.(null, true);
      return true;
    },
    using: (more) => transportOf({ ...using, ...more }),
  });
  return transportOf({});
}

function addressIn(from: MailOptions['from']): string {
  const first = Array.isArray(from) ? from[0] : from;
  if (first === undefined) return '';
  const text = typeof first === 'string' ? first : first.address;
  return /<([^<>]+)>/.exec(text)?.[1] ?? text.trim();
}
