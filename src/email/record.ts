/**
 * The record of a mail stored with its job: the recipients and the outcome for each address, so that an attempt after a crash knows who
 * already has it. The body is stored separately, and only if someone may want to see it.
 */
import type { Refusal } from './classify.ts';
import type { SentMail } from './seam.ts';

/** The blob `mail` of a job. */
export interface MailRecord {
  readonly state: 'sending' | 'deferred' | 'held' | 'sent' | 'refused';
  readonly from: string;
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly subject: string;
  readonly messageId: string;
  /** The Date header: the instant of the first attempt. */
  readonly date: number;
  /** When the state was reached. */
  readonly at: number;
  readonly accepted: readonly string[];
  readonly refused: readonly Refusal[];
  readonly deferred: readonly Refusal[];
  /** Why it is held. */
  readonly note: string | null;
}

/** The blob `mail.body` of a job. */
export interface MailBody {
  readonly headers: string;
  readonly text: string | null;
  readonly html: string | null;
  readonly attachments: SentMail['attachments'];
}

export const recordBlob = 'mail';
export const bodyBlob = 'mail.body';

export function encodeBlob(value: MailRecord | MailBody): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** Null if there is none, or if it cannot be read. */
export function decodeBlob<T extends MailRecord | MailBody>(bytes: Uint8Array | null): T | null {
  if (!bytes) return null;
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString());
    return typeof value === 'object' && value !== null ? (value as T) : null;
  } catch {
    return null;
  }
}
