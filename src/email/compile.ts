/**
 * The uses of Nodemailer: it composes messages, whose envelope, addresses and headers are read here, and creates the transporter that sends
 * them.
 */
import { createTransport, type Transport as NodemailerTransport } from 'nodemailer';
import type { MailMessage } from './message.ts';

/** The part of a Nodemailer transporter that is used. */
export interface Transporter {
  sendMail(message: never): Promise<unknown>;
  close?: (() => void) | undefined;
}

/**
 * A Nodemailer transporter, a transport plugin, options of a transport, a URL such as `smtps://user:pass@smtp.example.com`, or a function
 * that returns one of these, called before the first mail is sent.
 */
export type MailTransport = Transporter | object | string | (() => Transporter | object | string);

/** A composed message. */
export interface Composed {
  readonly envelope: { readonly from: string; readonly to: readonly string[] };
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly messageId: string;
  readonly headers: string;
  /** The whole message, if requested. */
  readonly raw: Uint8Array | null;
}

/** The part of Nodemailer's tree of MIME parts that is used. */
interface Node {
  getEnvelope(): { from: string | false; to: string[] };
  getAddresses(): Readonly<Record<string, readonly { address: string }[] | undefined>>;
  setHeader(name: string, value: string): unknown;
  messageId(): string;
  buildHeaders(): string;
  build(callback: (error: Error | null, bytes: Buffer) => void): void;
}

/**
 * Composes a message whose content is in memory.
 * @param id the part of the Message-ID before the @, if the message has no Message-ID
 * @param options.raw whether to return the whole message, attachments included
 */
export async function compose(message: MailMessage, id: string, { raw = false }: { raw?: boolean } = {}): Promise<Composed> {
  const composer = createTransport<Composed>({
    name: 'escapement',
    version: '1',
    send(mail, callback) {
      const node = mail.message as unknown as Node;
      const { from, to } = node.getEnvelope();
      const own = ownMessageId(message);
      if (!own) node.setHeader('Message-ID', `<${id}@${(from || 'localhost').split('@').pop()}>`);
      const addresses = node.getAddresses();
      const list = (name: string) => (addresses[name] ?? []).map(({ address }) => address);
      const headers = node.buildHeaders();
      const composed: Composed = {
        envelope: { from: from || '', to },
        to: list('to'),
        cc: list('cc'),
        bcc: list('bcc'),
        messageId: own ?? node.messageId(),
        headers,
        raw: null,
      };
      if (raw) node.build((error, bytes) => callback(error, { ...composed, raw: bytes }));
      else callback(null, composed);
    },
  } satisfies NodemailerTransport<Composed>);
  return composer.sendMail(message as never);
}

/** The Message-ID that a message already has, in its field, its headers, or its raw text. */
export function ownMessageId({ messageId, headers, raw }: MailMessage): string | undefined {
  if (messageId) return messageId;
  const pairs = Array.isArray(headers) ? headers.map(({ key, value }) => [key, value] as const) : Object.entries(headers ?? {});
  const given = pairs.find(([key]) => key.toLowerCase() === 'message-id')?.[1];
  if (typeof given === 'string') return given;
  const text = Buffer.isBuffer(raw) ? raw.toString('latin1', 0, 65_536) : typeof raw === 'string' ? raw.slice(0, 65_536) : '';
  const head = text.split(/\r?\n\r?\n/, 1)[0] ?? '';
  return /^message-id:\s*(<[^<>\s]+>)/im.exec(head)?.[1];
}

/** How long a server may take before Nodemailer gives up, unless set by the options. */
const timeouts = { connectionTimeout: 30_000, greetingTimeout: 30_000, socketTimeout: 60_000 };

export function transporterOf(transport: MailTransport): Transporter {
  const given = typeof transport === 'function' ? (transport as () => Transporter | object | string)() : transport;
  if (isTransporter(given)) return given;
  if (typeof given === 'string') return createTransport({ ...timeouts, url: given } as never);
  return createTransport(('send' in given ? given : { ...timeouts, ...given }) as never);
}

function isTransporter(value: unknown): value is Transporter {
  return typeof (value as { sendMail?: unknown } | null)?.sendMail === 'function';
}
