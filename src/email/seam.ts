/**
 * What mail leaves on an application for others to find: its mailables, and where a simulation or `escapement dev` puts an outlet, to which
 * mails go instead of the transport. It imports nothing, so that looking for mail loads none of it.
 */

/** A mail as it leaves: who gets it, and what is in it. */
export interface SentMail {
  /** The instant at which the server answered. */
  readonly at: Date;
  readonly from: string;
  /** The addresses of the headers. */
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

/** What a server says to a mail. Errors that it throws look as Nodemailer's do. */
export interface OutletAnswer {
  readonly accepted: readonly string[];
  readonly rejected: readonly string[];
  readonly rejectedErrors?: readonly unknown[];
  readonly response: string;
}

/** Where mails go instead of the transport. */
export interface MailOutlet {
  /** `held`: mails are kept in the outbox, and nothing is sent. `simulated`: a server of the simulation takes them. */
  readonly kind: 'held' | 'simulated';
  /** Why mails are held, for people. */
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

/** What became of a mail, as far as it has come. */
export type MailState = 'queued' | 'sending' | 'deferred' | 'held' | 'sent' | 'refused' | 'dropped';

/** A mail of the outbox. */
export interface OutboxEntry {
  readonly job: string;
  readonly task: string;
  readonly state: MailState;
  /** When it was sent, held or refused; when it is tried next, if it waits. */
  readonly at: Date;
  /** Empty until the mail has been built. */
  readonly to: readonly string[];
  readonly subject: string;
  readonly messageId: string | null;
  readonly attempts: number;
  readonly accepted: readonly string[];
  /** Addresses that got nothing, and what the server said, or why they were left out. */
  readonly refused: readonly { readonly address: string; readonly response: string }[];
  /** The last error, or why the mail is held. */
  readonly note: string | null;
}

/** A mail of the outbox with its content, as far as that is kept. */
export interface OutboxMail extends OutboxEntry {
  readonly from: string;
  readonly headers: string | null;
  readonly text: string | null;
  readonly html: string | null;
  readonly attachments: SentMail['attachments'];
}

/** The mails of an application. */
export interface Outbox {
  /** The newest first. @param options.limit 1 … 1,000. Default 100 */
  list(options?: { limit?: number }): Promise<OutboxEntry[]>;
  /** @throws ResultNotFoundError */
  get(job: string): Promise<OutboxMail>;
  /** Sends it now: one that waits is tried now, and one that is held leaves by the transport, with the same Message-ID. */
  send(job: string): Promise<void>;
  /** Cancels a mail that waits; deletes one that is over. */
  drop(job: string): Promise<void>;
}

/** What belongs to mail on one application. */
export interface MailSeam {
  outlet: MailOutlet | undefined;
  readonly mailables: Map<string, Previewed>;
  /** The names of the tasks that send mail: others may have the tag too. */
  readonly tasks: Set<string>;
  outbox: Outbox | undefined;
}

const key = Symbol.for('escapement.mail');

/** The seam of an application; made on first use. */
export function seamOf(tasks: object): MailSeam {
  const there = (tasks as { [key]?: MailSeam })[key];
  if (there) return there;
  const seam: MailSeam = { outlet: undefined, mailables: new Map(), tasks: new Set(), outbox: undefined };
  Object.defineProperty(tasks, key, { value: seam });
  return seam;
}
