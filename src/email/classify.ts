/**
 * Classifies the answer of a mail server for each recipient: accepted, refused permanently, or deferred. Pure. The rule is RFC 5321's: 5yz
 * about the message or a recipient is permanent; 4yz and everything about the connection is not. A failed login is a problem of our
 * configuration and not of the mail, so it is retried.
 */

/** An address that did not get the mail, with the server's answer. */
export interface Refusal {
  readonly address: string;
  readonly response: string;
}

export interface Verdict {
  readonly accepted: readonly string[];
  readonly refused: readonly Refusal[];
  readonly deferred: readonly Refusal[];
  /** How long the server asks to wait, in milliseconds. */
  readonly afterMs: number | undefined;
}

/** The fields that Nodemailer's transports set on their errors. */
interface Failure {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly code?: unknown;
  readonly command?: unknown;
  readonly response?: unknown;
  readonly responseCode?: unknown;
  readonly recipient?: unknown;
  readonly rejectedErrors?: unknown;
  readonly statusCode?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: unknown };
  readonly headers?: unknown;
  readonly retryAfter?: unknown;
}

const longestHintMs = 24 * 3_600_000;
const unit: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** Interprets the result of a transport's `sendMail`. Recipients that it does not name count as accepted. */
export function verdictOfInfo(
  info: { readonly rejected?: unknown; readonly rejectedErrors?: unknown; readonly response?: unknown } | null | undefined,
  recipients: readonly string[],
): Verdict {
  const errors = failuresIn(info?.rejectedErrors);
  const rejected = new Set(Array.isArray(info?.rejected) ? info.rejected.map(addressOf) : []);
  for (const { recipient } of errors) if (recipient !== undefined) rejected.add(String(recipient));
  const refused: Refusal[] = [];
  const deferred: Refusal[] = [];
  for (const address of recipients) {
    if (!rejected.has(address)) continue;
    const error = errors.find(({ recipient }) => recipient === address);
    const entry = { address, response: error ? textOf(error) : 'refused by the server' };
    if (error && !isPermanent(error)) deferred.push(entry);
    else refused.push(entry);
  }
  return { accepted: recipients.filter((address) => !rejected.has(address)), refused, deferred, afterMs: longestHint(errors) };
}

/** Interprets an error of a transport's `sendMail`: no recipient got the mail. */
export function verdictOfError(error: unknown, recipients: readonly string[]): Verdict {
  const failure = (typeof error === 'object' && error !== null ? error : { message: String(error) }) as Failure;
  const errors = failuresIn(failure.rejectedErrors);
  const refused: Refusal[] = [];
  const deferred: Refusal[] = [];
  for (const address of recipients) {
    const own = errors.find(({ recipient }) => recipient === address) ?? failure;
    const isOver = own === failure && errors.length > 0 ? false : isPermanent(own);
    (isOver ? refused : deferred).push({ address, response: textOf(own) });
  }
  return { accepted: [], refused, deferred, afterMs: longestHint([failure, ...errors]) };
}

function failuresIn(value: unknown): Failure[] {
  return Array.isArray(value) ? value.filter((one): one is Failure => typeof one === 'object' && one !== null) : [];
}

/** Nodemailer's codes for errors found without asking a server. */
const permanentCodes: ReadonlySet<unknown> = new Set(['EENVELOPE', 'EMESSAGE', 'EMAXRECIPIENTS', 'EFILEACCESS', 'EURLACCESS']);
/** Answers to these commands concern the connection. */
const connectionCommands = /^(CONN|EHLO|HELO|LHLO|STARTTLS|AUTH|XCLIENT)/i;
/** EX_DATAERR, EX_NOUSER, EX_NOHOST of sysexits.h. */
const permanentExits: ReadonlySet<number> = new Set([65, 67, 68]);
/** Errors of Amazon SES about one message. */
const permanentNames: ReadonlySet<unknown> = new Set([
  'MessageRejected',
  'BadRequestException',
  'InvalidParameterValue',
  'MailFromDomainNotVerifiedException',
]);

export function isPermanent(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { code, command, responseCode, name, message, statusCode, $metadata } = error as Failure;
  if (typeof responseCode === 'number') {
    if (code === 'EAUTH' || (typeof command === 'string' && connectionCommands.test(command))) return false;
    return responseCode >= 500 && responseCode < 600;
  }
  if (typeof name === 'string' && busyNames.test(name)) return false;
  if (permanentCodes.has(code) || permanentNames.has(name)) return true;
  const exit = /exited with code (\d+)/.exec(String(message ?? ''));
  if (exit) return permanentExits.has(Number(exit[1]));
  const status = [statusCode, $metadata?.httpStatusCode, code].find((value) => typeof value === 'number');
  return status === 400 || status === 413 || status === 422;
}

/** What an HTTP API reports about its own load, also with the status 400. */
const busyNames = /throttl|toomanyrequests|limitexceeded|sendingpaused|suspended/i;

/** The server's answer, on one line. */
function textOf({ response, message }: Failure): string {
  const text = typeof response === 'string' && response !== '' ? response : String(message ?? 'failed');
  return text.replace(/\s+/g, ' ').trim().slice(0, 500);
}

function longestHint(errors: readonly Failure[]): number | undefined {
  const hints = errors.map(hintMs).filter((ms) => ms !== undefined);
  return hints.length === 0 ? undefined : Math.min(longestHintMs, Math.max(...hints));
}

/** How long a server asks to wait: `try again in 5 minutes`, `greylisted for 300 seconds`, or a Retry-After in seconds. */
export function hintMs({ response, message, headers, retryAfter, responseCode }: Failure): number | undefined {
  const header = retryAfter ?? (headers as { 'retry-after'?: unknown } | undefined)?.['retry-after'];
  if (header !== undefined && /^\d+$/.test(String(header))) return Number(header) * 1_000;
  if (typeof responseCode === 'number' && responseCode >= 500) return undefined;
  const text = typeof response === 'string' ? response : typeof message === 'string' ? message : '';
  const found = /\b(?:in|after|for|wait|within)\s+(\d{1,6})\s*(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?)\b/i.exec(text);
  const [, amount, word = ''] = found ?? [];
  return amount === undefined ? undefined : Number(amount) * (unit[word.slice(0, 1).toLowerCase()] ?? 1_000);
}

function addressOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? String((value as { address?: unknown }).address) : String(value);
}
