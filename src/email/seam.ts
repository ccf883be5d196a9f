/**
 * What mail registers on an application for other parts to find: its mailables, and an outlet that a simulation or `escapement dev`
 * installs to receive mails instead of the transport. This file imports nothing, so looking for mail does not load any mail code.
 */

/** A mail as sent: its recipients and its content. */
export interface SentMail {
  /** When the server answered. */
  readonly at: Date;
  readonly from: string;
  /** The addresses in the headers. */
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  /** The addresses that the server accepted in this attempt. */
  readonly recipients: readonly string[];
  readonly subject: string;
  readonly text: string | null;
  readonly html: string | null;
  /** The header lines, as sent. */
  readonly headers: string;
  readonly attachments: readonly { readonly filename: string; readonly contentType: string; readonly size: number }[];
  readonly messageId: string;
  readonly task: string;
  readonly job: string;
  readonly attempt: number;
}

/** A server's answer to a mail. Its errors look like Nodemailer's. */
export interface OutletAnswer {
  readonly accepted: readonly string[];
  readonly rejected: readonly string[];
  readonly rejectedErrors?: readonly unknown[];
  readonly response: string;
}

/** Receives mails instead of the transport. */
export interface MailOutlet {
  /** `held`: mails are kept in the outbox, and nothing is sent. `simulated`: a simulated server accepts them. */
  readonly kind: 'held' | 'simulated';
  /** Why mails are held, as shown to users. */
  readonly because?: string;
  send?(mail: SentMail, sleep: (ms: number) => Promise<void>): Promise<OutletAnswer>;
}

/** A mail that was built and not sent. */
export interface MailPreview {
  readonly mail: Omit<SentMail, 'at' | 'job' | 'attempt'>;
  /** The mail as it would be sent. */
  readonly raw: Uint8Array;
}

/** A mailable, as the command line sees it. */
export interface Previewed {
  readonly name: string;
  readonly examples: Readonly<Record<string, unknown>>;
  preview(input: unknown): Promise<MailPreview>;
}

/** The current state of a mail. */
export type MailState = 'queued' | 'sending' | 'deferred' | 'held' | 'sent' | 'refused' | 'dropped';

/** A mail of the outbox. */
export interface OutboxEntry {
  readonly job: string;
  readonly task: string;
  readonly state: MailState;
  /** When it was sent, held or refused; for a waiting mail, when it is tried next. */
  readonly at: Date;
  /** Empty until the mail has been built. */
  readonly to: readonly string[];
  readonly subject: string;
  readonly messageId: string | null;
  readonly attempts: number;
  readonly accepted: readonly string[];
  /** Addresses that did not get the mail, with the server's answer or the reason why they were left out. */
  readonly refused: readonly { readonly address: string; readonly response: string }[];
  /** The last error, or why the mail is held. */
  readonly note: string | null;
}

/** A mail of the outbox with its content, as far as it is stored. */
export interface OutboxMail extends OutboxEntry {
  readonly from: string;
  readonly headers: string | null;
  readonly text: string | null;
  readonly html: string | null;
  readonly attachments: SentMail['attachments'];
}

/** The mails of an application. */
export interface Outbox {
  /** Newest first. @param options.limit 1 … 1,000. Default 100 */
  list(options?: { limit?: number }): Promise<OutboxEntry[]>;
  /** @throws ResultNotFoundError */
  get(job: string): Promise<OutboxMail>;
  /** Sends a mail now. A waiting mail is tried now, and a held mail is sent through the transport, with the same Message-ID. */
  send(job: string): Promise<void>;
  /** Cancels a waiting mail; deletes a finished one. */
  drop(job: string): Promise<void>;
}

/** The mail registrations of one application. */
export interface MailSeam {
  outlet: MailOutlet | undefined;
  readonly mailables: Map<string, Previewed>;
  /** The names of the tasks that send mail. Other tasks may have the tag too. */
  readonly tasks: Set<string>;
  outbox: Outbox | undefined;
}

const key = Symbol.for('escapement.mail');

/** The seam of an application, created on first use. */
export function seamOf(tasks: object): MailSeam {
  const existing = (tasks as { [key]?: MailSeam })[key];
  if (existing) return existing;
  const seam: MailSeam = { outlet: undefined, mailables: new Map(), tasks: new Set(), outbox: undefined };
  Object.defineProperty(tasks, key, { value: seam });
  return seam;
}
