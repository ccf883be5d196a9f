/**
 * One attempt to send a mail: compose it, drop the recipients who already have it or must not get it, record what is about to happen, send,
 * record the result, and report to the engine. The records survive a crash, so that the next attempt sends only to the remaining
 * recipients. Only a crash between the server's answer and the record sends a mail twice, and then with the same Message-ID.
 */
import { type Cancel, cancel, isEscapementError, PermanentError, RetryAfterError, type TaskContext, type TaskResult } from 'escapement';
import { isPermanent, type Refusal, type Verdict, verdictOfError, verdictOfInfo } from './classify.ts';
import { type Composed, compose } from './compile.ts';
import { inline } from './content.ts';
import { domainOf, isAddress, type MailMessage } from './message.ts';
import type { Settings } from './options.ts';
import { bodyBlob, decodeBlob, encodeBlob, type MailBody, type MailRecord, recordBlob } from './record.ts';
import type { MailSeam, SentMail } from './seam.ts';
import type { Sender } from './sender.ts';

/** The return value of a mail's job. */
export interface MailOutcome {
  /** `held`: it is in the outbox, and no recipient got it. */
  state: 'sent' | 'held';
  messageId: string;
  accepted: string[];
  /** Addresses that did not get the mail, with the server's answer or the reason. */
  refused: { address: string; response: string }[];
}

type Context = TaskContext<TaskResult>;

/** What an attempt works with. */
export interface Delivery {
  readonly settings: Settings;
  readonly seam: MailSeam;
  readonly sender: Sender;
}

/** What an outbox adds to a job's metadata when a user sends a held mail. */
export interface SendNow {
  readonly deliver: true;
  readonly messageId: string;
}

export function isSendNow(value: unknown): value is SendNow {
  return typeof value === 'object' && value !== null && (value as Partial<SendNow>).deliver === true;
}

/**
 * Builds and sends a mail.
 * @param build returns the message; a Cancel, a Snooze or nothing ends the attempt without a mail
 * @throws PermanentError if every address is refused permanently; RetryAfterError or the transport's error if some are to be retried
 */
export async function deliver<Other>(
  delivery: Delivery,
  ctx: Context,
  build: () => MailMessage | Other | Promise<MailMessage | Other>,
  isMessage: (built: MailMessage | Other) => built is MailMessage,
): Promise<MailOutcome | Other | Cancel> {
  const before = decodeBlob<MailRecord>(await ctx.blob(recordBlob));
  // The mail was sent, but the worker died before the job was settled.
  if (before && (before.state === 'sent' || before.state === 'held')) return outcomeOf(before);
  const built = await build();
  if (!isMessage(built)) return built;
  return send(delivery, ctx, built, before);
}

async function send(
  { settings, seam, sender }: Delivery,
  ctx: Context,
  built: MailMessage,
  before: MailRecord | null,
): Promise<MailOutcome | Cancel> {
  const now = ctx.result.metadata.mail;
  const sendNow = isSendNow(now) ? now : undefined;
  const date = before?.date ?? ctx.now().getTime();
  const given: MailMessage = {
    ...settings.defaults,
    ...built,
    date: built.date ?? new Date(date),
    ...(sendNow ? { messageId: sendNow.messageId } : {}),
  };
  const message = await inline(intercepted(given, settings.intercept), { limit: settings.limit, stored: false });
  const composed = await compose(message, idOf(ctx.result)).catch(unusable);
  const { from, to } = composed.envelope;
  const recipients = settings.intercept === undefined ? to : [settings.intercept];
  if (recipients.length === 0) throw new PermanentError('the message has no recipient: set to, cc, bcc or envelope');
  if (from === '' && !built.envelope)
    throw new PermanentError('the message has no sender: set from in the message, or in the options of createMail()');

  // A refused mail was retried by hand, so the server that refused it is asked again.
  const refused: Refusal[] = before?.state === 'refused' ? [] : [...(before?.refused ?? [])];
  const accepted = [...(before?.accepted ?? [])];
  let rest = recipients.filter((address) => !accepted.includes(address) && !refused.some((refusal) => refusal.address === address));
  const leaveOut = (why: (address: string) => string | undefined) => {
    const left = rest.map((address) => ({ address, response: why(address) })).filter((one): one is Refusal => one.response !== undefined);
    refused.push(...left);
    rest = rest.filter((address) => !left.some((refusal) => refusal.address === address));
    return left.length;
  };
  leaveOut((address) => (isAddress(address) ? undefined : 'not a valid address'));

  const subject = message.subject ?? '';
  const record = (state: MailRecord['state'], deferred: readonly Refusal[] = [], note: string | null = null): MailRecord => ({
    state,
    from,
    to: composed.to.length > 0 ? composed.to : to,
    cc: composed.cc,
    bcc: composed.bcc,
    subject,
    messageId: composed.messageId,
    date,
    at: ctx.now().getTime(),
    accepted,
    refused,
    deferred,
    note,
  });
  const body = bodyOf(message, composed);
  const hold = async (note: string) => {
    const held = record('held', [], note);
    await ctx.saveBlob(bodyBlob, encodeBlob(body));
    await ctx.saveBlob(recordBlob, encodeBlob(held));
    ctx.log.info('mail held in the outbox', { messageId: held.messageId, because: note });
    return outcomeOf(held);
  };
  const { outlet } = seam;
  if (outlet?.kind === 'held' && !sendNow) return hold(outlet.because ?? 'mail is not delivered here');
  const { allow } = settings;
  // Addresses that the application itself leaves out do not count as failures.
  let leftOut = 0;
  if (allow && settings.intercept === undefined) {
    const stranger = rest.length > 0 && rest.every((address) => !allow.includes(domainOf(address)));
    if (stranger && accepted.length === 0) return hold(`no recipient is in an allowed domain (${allow.join(', ')})`);
    leftOut += leaveOut((address) => (allow.includes(domainOf(address)) ? undefined : 'not in an allowed domain'));
  }
  if (settings.suppress) {
    const reasons = new Map<string, string>();
    for (const address of rest) {
      const answer = await settings.suppress(address, { task: ctx.task, subject });
      if (answer) reasons.set(address, typeof answer === 'string' ? answer : 'suppressed');
    }
    leftOut += leaveOut((address) => reasons.get(address));
  }
  if (rest.length === 0 && accepted.length === 0 && leftOut === refused.length) {
    await ctx.saveBlob(recordBlob, encodeBlob(record('refused')));
    return cancel([...new Set(refused.map(({ response }) => response))].join('; '));
  }
  if (rest.length === 0) return finish(ctx, record, accepted, refused, composed.messageId);

  if (settings.keepBodies || outlet) await ctx.saveBlob(bodyBlob, encodeBlob(body));
  await ctx.saveBlob(recordBlob, encodeBlob(record('sending')));
  const mail: Omit<SentMail, 'at' | 'recipients'> = {
    from,
    to: composed.to,
    cc: composed.cc,
    bcc: composed.bcc,
    subject,
    ...body,
    messageId: composed.messageId,
    task: ctx.task,
    job: ctx.id,
    attempt: ctx.attempt,
  };
  const { verdict, error } = await attempt(rest, () =>
    outlet?.send && outlet.kind === 'simulated'
      ? outlet.send({ ...mail, at: ctx.now(), recipients: rest }, (ms) => ctx.sleep(ms))
      : sender.send({ ...message, messageId: composed.messageId, envelope: { from, to: [...rest] } }, ctx.signal),
  );
  accepted.push(...verdict.accepted);
  refused.push(...verdict.refused);
  if (verdict.deferred.length === 0) return finish(ctx, record, accepted, refused, composed.messageId, error);
  // The recipients who have the mail must be recorded before it is retried.
  if (verdict.accepted.length > 0 || verdict.refused.length > 0) await keep(ctx, record('deferred', verdict.deferred));
  else await keep(ctx, record('deferred', verdict.deferred)).catch(() => {});
  throw deferral(verdict, accepted, error);
}

async function attempt(rest: readonly string[], fn: () => Promise<unknown>): Promise<{ verdict: Verdict; error?: unknown }> {
  try {
    return { verdict: verdictOfInfo((await fn()) as never, rest) };
  } catch (error) {
    // The engine's own errors end the attempt. They are not answers of a server.
    if (isEscapementError(error)) throw error;
    return { verdict: verdictOfError(error, rest), error };
  }
}

/** Called when no address is left to try. */
async function finish(
  ctx: Context,
  record: (state: MailRecord['state']) => MailRecord,
  accepted: readonly string[],
  refused: readonly Refusal[],
  messageId: string,
  error?: unknown,
): Promise<MailOutcome> {
  const isSent = accepted.length > 0;
  const end = record(isSent ? 'sent' : 'refused');
  // The mail has been sent, so an error at this point must not cause a retry.
  await keep(ctx, end).catch(() => {});
  if (isSent) {
    ctx.log.info('mail sent', { messageId, accepted: accepted.length, refused: refused.length });
    return outcomeOf(end);
  }
  const reasons = [...new Set(refused.map(({ response }) => response))].join('; ');
  const recipientsText = refused.length === 1 ? '' : ` for ${countOf(refused.length)}`;
  throw new PermanentError(`refused${recipientsText}: ${reasons}`, error === undefined ? {} : { cause: error });
}

function deferral({ deferred, afterMs }: Verdict, accepted: readonly string[], error: unknown): unknown {
  const [first] = deferred;
  if (afterMs === undefined && error !== undefined && accepted.length === 0) return ofRecipient(error, first?.address) ?? error;
  const some = accepted.length > 0 ? `${countOf(accepted.length)} accepted, ` : '';
  const message = `${some}${countOf(deferred.length)} will be retried: ${first?.response ?? 'deferred'}`;
  return new RetryAfterError(message, { after: afterMs ?? 0, ...(error === undefined ? {} : { cause: error }) });
}

/** A server's answer for one recipient is more specific than the error that all were rejected. */
function ofRecipient(error: unknown, address: string | undefined): unknown {
  const { rejectedErrors } = error as { rejectedErrors?: unknown };
  if (!Array.isArray(rejectedErrors)) return undefined;
  return rejectedErrors.find((one: { recipient?: unknown } | null) => one?.recipient === address);
}

function countOf(addresses: number): string {
  return `${addresses} ${addresses === 1 ? 'recipient' : 'recipients'}`;
}

const maxSaveAttempts = 4;

/** Saves the record, with retries while the store fails briefly. */
async function keep(ctx: Context, record: MailRecord): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await ctx.saveBlob(recordBlob, encodeBlob(record));
      return;
    } catch (error) {
      const isTransient = (error as { transient?: unknown }).transient === true;
      if (!isTransient || tries === maxSaveAttempts) throw error;
      await ctx.sleep(500);
    }
  }
}

function outcomeOf({ state, messageId, accepted, refused }: MailRecord): MailOutcome {
  return { state: state === 'held' ? 'held' : 'sent', messageId, accepted: [...accepted], refused: refused.map((one) => ({ ...one })) };
}

/** The message addressed to one address, with a header that names the original recipients. */
function intercepted(message: MailMessage, to: string | undefined): MailMessage {
  if (to === undefined) return message;
  const meant = [message.to, message.cc, message.bcc].flatMap((part) => (part === undefined ? [] : [part].flat()));
  const named = meant.map((one) => (typeof one === 'string' ? one : one.address)).join(', ');
  const { cc: _cc, bcc: _bcc, ...rest } = message;
  const own = rest.headers ?? {};
  const header = { key: 'X-Intercepted-To', value: named };
  const headers = Array.isArray(own) ? [...own, header] : { ...own, [header.key]: header.value };
  const { from } = message.envelope ?? {};
  return { ...rest, to, headers, ...(message.envelope ? { envelope: from === undefined ? { to } : { from, to } } : {}) };
}

/**
 * The Message-ID before the @, derived from the job: the same on every attempt. Includes the enqueue time, because an id chosen by the
 * application may be reused once its job is deleted.
 */
export function idOf({ id, enqueuedAt }: Pick<TaskResult, 'id' | 'enqueuedAt'>): string {
  const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id);
  return isUuid ? id : `${encodeURIComponent(id)}.${enqueuedAt.getTime().toString(36)}`;
}

/** A message that cannot be composed will not compose on the next attempt either. */
function unusable(error: unknown): never {
  if (isPermanent(error)) throw new PermanentError(`the message cannot be composed: ${(error as Error).message}`, { cause: error });
  throw error;
}

export function bodyOf(message: MailMessage, { headers }: Composed): MailBody {
  return {
    headers: headers.replace(/\r\n/g, '\n'),
    text: textOf(message.text),
    html: textOf(message.html),
    attachments: (message.attachments ?? []).map(({ filename, contentType, content, href, path }, i) => ({
      filename: filename || String(href ?? path ?? `attachment-${i + 1}`),
      contentType: contentType ?? '',
      size: typeof content === 'string' ? Buffer.byteLength(content) : Buffer.isBuffer(content) ? content.length : 0,
    })),
  };
}

function textOf(value: MailMessage['text']): string | null {
  const content = typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
  if (Buffer.isBuffer(content)) return content.toString();
  return typeof content === 'string' ? content : null;
}

/** Return this from `build` if there are no recipients. */
export function nothingToSend(): Cancel {
  return cancel('nothing to send');
}
