/**
 * `escapement/email`: mail that is built and sent by workers. There are two ways to use it: mailables (`createMail`), and a Nodemailer
 * transport for code that calls `sendMail` itself (`queued`). Nodemailer is an optional peer dependency.
 */
export type { Refusal } from './classify.ts';
export type { MailTransport, Transporter } from './compile.ts';
export type { MailOutcome } from './deliver.ts';
export type { Mail, Mailable, MailableOptions } from './mail.ts';
export { createMail } from './mail.ts';
export type { MailAddress, MailAddresses, MailAttachment, MailContent, MailHeaders, MailMessage, MailStream } from './message.ts';
export { domainOf } from './message.ts';
export type { MailOptions } from './options.ts';
export type { QueuedInfo, QueuedMailOptions, QueuedOptions, QueuedTransport } from './queued.ts';
export { queued } from './queued.ts';
export type { MailPreview, MailState, Outbox, OutboxEntry, OutboxMail, SentMail } from './seam.ts';
