/** The options of mail. Reading them reports all faults at once. */
import type { JobOptions } from 'escapement';
import { ConfigError } from 'escapement';
import type { MailTransport } from './compile.ts';
import type { MailAddresses, MailMessage } from './message.ts';

/** The options of `createMail` and `queued`. Job options are defaults for every mail. */
export interface MailOptions extends JobOptions {
  /** Sends the mails. Not opened before the first mail is sent. */
  transport: MailTransport;
  /** The sender of messages without one. */
  from?: MailAddresses;
  replyTo?: MailAddresses;
  /**
   * All mails go to this address instead of their recipients, which are listed in the header `X-Intercepted-To`. For staging.
   * @example intercept: process.env.NODE_ENV === 'production' ? undefined : 'team@example.com'
   */
  intercept?: string | undefined;
  /** Only addresses in these domains get mail. A mail without any such address is held in the outbox. */
  allow?: readonly string[] | undefined;
  /**
   * Called for each address just before sending. Return true or a reason to leave the address out. For bounces and unsubscribes.
   * @example suppress: async (address) => (await db.isBounced(address)) && 'bounced'
   */
  suppress?: ((address: string, mail: { readonly task: string; readonly subject: string }) => Suppressed | Promise<Suppressed>) | undefined;
  /** Maximum number of bytes of content per message, attachments included. At most 30,000,000. @default 10_000_000 */
  limit?: number;
  /** Keep the text, HTML and headers of sent mails for the outbox. Those of held mails are always kept. @default false */
  keepBodies?: boolean;
  /** The prefix of its task names: the mailable `welcome` is the task `mail.welcome`. @default 'mail' */
  name?: string;
}

type Suppressed = boolean | string | null | undefined;

/** The options with all defaults filled in. */
export interface Settings {
  readonly transport: MailTransport;
  readonly defaults: Pick<MailMessage, 'from' | 'replyTo'>;
  readonly intercept: string | undefined;
  readonly allow: readonly string[] | undefined;
  readonly suppress: MailOptions['suppress'];
  readonly limit: number;
  readonly keepBodies: boolean;
  readonly name: string;
  readonly job: JobOptions;
}

const mailKeys = ['transport', 'from', 'replyTo', 'intercept', 'allow', 'suppress', 'limit', 'keepBodies', 'name'] as const;
/** The default job options of mail: two days of attempts. */
const jobDefaults = { timeout: '2m', retry: { maxAttempts: 20 } } satisfies JobOptions;
const maxLimit = 30_000_000;

/** @param call the function that was called, for error messages */
export function readOptions(call: string, options: MailOptions): Settings {
  const faults: { path: string; expected: string; got: string }[] = [];
  const fault = (path: string, expected: string, got: unknown) => faults.push({ path, expected, got: printed(got) });
  if (typeof options !== 'object' || options === null) {
    throw new ConfigError(`Invalid options for ${call}()`, [
      { path: 'options', expected: 'an object such as { transport }', got: printed(options) },
    ]);
  }
  const { transport, from, replyTo, intercept, allow, suppress, limit = 10_000_000, keepBodies = false, name = 'mail', ...job } = options;
  if (!['object', 'string', 'function'].includes(typeof transport) || transport === null || transport === '')
    fault('transport', 'a Nodemailer transporter, options for one, or a URL', transport);
  if (intercept !== undefined && !(typeof intercept === 'string' && intercept.includes('@'))) fault('intercept', 'an address', intercept);
  if (allow !== undefined && !(Array.isArray(allow) && allow.every((domain) => typeof domain === 'string' && !domain.includes('@'))))
    fault('allow', "an array of domains such as ['example.com']", allow);
  if (suppress !== undefined && typeof suppress !== 'function') fault('suppress', 'a function of an address', suppress);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > maxLimit) fault('limit', `a whole number of bytes from 1 to ${maxLimit}`, limit);
  if (typeof keepBodies !== 'boolean') fault('keepBodies', 'true or false', keepBodies);
  if (typeof name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,60}$/.test(name)) fault('name', 'a short name such as mail', name);
  if (faults.length > 0) throw new ConfigError(`Invalid options for ${call}()`, faults);
  return {
    transport,
    defaults: { ...(from === undefined ? {} : { from }), ...(replyTo === undefined ? {} : { replyTo }) },
    intercept,
    allow: allow?.map((domain) => domain.toLowerCase()),
    suppress,
    limit,
    keepBodies,
    name,
    job,
  };
}

/** The options of one mail's task: its own, then those of `createMail`, then the defaults; every job has the tag `mail`. */
export function jobOptions(settings: Settings, own: JobOptions, backoff: JobOptions['retry']): JobOptions {
  const merged = { ...jobDefaults, ...settings.job, ...own };
  return {
    ...merged,
    retry: { ...jobDefaults.retry, ...backoff, ...settings.job.retry, ...own.retry },
    tags: withTag([...(settings.job.tags ?? []), ...(own.tags ?? [])]),
  };
}

export const mailTag = 'mail';

export function withTag(tags: readonly string[]): string[] {
  return [...new Set([mailTag, ...tags])];
}

/** True for the name of a mail option; false for that of a job option. */
export function isMailKey(key: string): boolean {
  return (mailKeys as readonly string[]).includes(key);
}

function printed(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return typeof value === 'object' && value !== null ? (Array.isArray(value) ? 'an array' : 'an object') : String(value);
}
