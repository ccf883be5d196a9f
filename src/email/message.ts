/**
 * A message as Nodemailer accepts it. The types are defined here so that applications need neither Nodemailer's types nor Node's. The
 * fields are documented at https://nodemailer.com/message.
 */

/** One address: `'ada@example.com'`, `'Ada <ada@example.com>'`, or its parts. */
export type MailAddress = string | { name?: string | undefined; address: string };
/** Addresses: one, several in an array, or several in one string, separated by commas. */
export type MailAddresses = MailAddress | MailAddress[];

/** A stream of bytes, such as Node's `Readable`. */
export interface MailStream extends AsyncIterable<unknown> {
  pipe(...args: never): unknown;
}

type Bytes = string | Uint8Array | MailStream;

/** The source of content: inline, a file, or a URL. */
export interface MailContent {
  content?: Bytes | undefined;
  path?: string | { readonly href: string } | undefined;
  href?: string | undefined;
  encoding?: string | undefined;
  contentType?: string | undefined;
}

export interface MailAttachment extends MailContent {
  filename?: string | false | undefined;
  cid?: string | undefined;
  contentTransferEncoding?: '7bit' | 'base64' | 'quoted-printable' | false | undefined;
  contentDisposition?: 'attachment' | 'inline' | undefined;
  headers?: MailHeaders | undefined;
  raw?: Bytes | MailContent | undefined;
}

export type MailHeaders = { [name: string]: string | string[] | { prepared: boolean; value: string } } | { key: string; value: string }[];

type ListHeader = string | { url: string; comment: string };

/** What a mailable builds and `sendMail` accepts. */
export interface MailMessage {
  from?: MailAddresses | undefined;
  sender?: MailAddress | undefined;
  to?: MailAddresses | undefined;
  cc?: MailAddresses | undefined;
  bcc?: MailAddresses | undefined;
  replyTo?: MailAddresses | undefined;
  inReplyTo?: MailAddress | undefined;
  references?: string | string[] | undefined;
  subject?: string | undefined;
  text?: Bytes | MailContent | undefined;
  html?: Bytes | MailContent | undefined;
  watchHtml?: Bytes | MailContent | undefined;
  amp?: Bytes | MailContent | undefined;
  icalEvent?: Bytes | (MailContent & { method?: string | undefined; filename?: string | false | undefined }) | undefined;
  headers?: MailHeaders | undefined;
  list?: { [name: string]: ListHeader | ListHeader[] | ListHeader[][] } | undefined;
  attachments?: MailAttachment[] | undefined;
  alternatives?: MailAttachment[] | undefined;
  /** The addresses given to the server, if they differ from those in the headers. */
  envelope?:
    | { from?: string | undefined; to?: string | string[] | undefined; cc?: string | undefined; bcc?: string | undefined }
    | undefined;
  /** @default derived from the job's id, the same on every attempt */
  messageId?: string | undefined;
  /** @default the instant of the first attempt */
  date?: Date | string | undefined;
  encoding?: string | undefined;
  raw?: Bytes | MailContent | undefined;
  textEncoding?: 'quoted-printable' | 'base64' | undefined;
  disableUrlAccess?: boolean | undefined;
  disableFileAccess?: boolean | undefined;
  dkim?: object | undefined;
  priority?: 'high' | 'normal' | 'low' | undefined;
  attachDataUrls?: boolean | undefined;
  xMailer?: false | string | undefined;
}

/**
 * The domain of an address in lower case, to limit mails by receiving domain. Ignores the display name and angle brackets.
 * @example domainOf('Ada <ada@Example.org>') // 'example.org'
 */
export function domainOf(address: string): string {
  return /@([^@<>\s]*)>?\s*$/.exec(address)?.[1]?.toLowerCase() ?? '';
}

/** True if a server could accept the address: one @, something on both sides, and no white space or control characters. */
export function isAddress(address: string): boolean {
  return /^[^\s@\p{Cc}<>]+@[^\s@\p{Cc}<>]+$/u.test(address) || /^"[^"\p{Cc}]+"@[^\s@\p{Cc}<>]+$/u.test(address);
}
