/**
 * The mail server of a simulation. It receives every mail of the application instead of the transport; the accepted mails are the
 * simulation's outbox. It fails on a test's request or as drawn by an exploration, with the errors that Nodemailer would throw.
 */
import { type Duration, durationMs, show } from '../core/duration.ts';
import { SimulationError } from '../core/errors.ts';
import type { MailOutlet, OutletAnswer, SentMail } from '../email/seam.ts';

/** Controls the faults of the simulated mail server: `sim.smtp`. */
export interface SimulatedSmtp {
  /**
   * Refuses recipients: permanently with a code of 500 or more, temporarily with a code from 400 to 499.
   * @param recipients a pattern of addresses, or one address
   * @param code Default 550
   * @param options.times number of consecutive recipients. Default: no limit
   * @param options.text the server's text after the code
   * @example sim.smtp.reject(/@full\.example/, 452)
   */
  reject(recipients: RegExp | string, code?: number, options?: { times?: number; text?: string }): void;
  /** Refuses connections for this long, starting now. */
  down(duration: Duration): void;
  /** Accepts mails but loses its answers, the fault that makes a mail arrive twice. @param options.times number of answers. Default 1 */
  loseAnswers(options?: { times?: number }): void;
  /** Delays the answer to each mail by this long, from now on. */
  slow(duration: Duration): void;
}

/** A mail fault drawn by an exploration: the server is down, defers the mail, or loses its answer. */
export type MailFault = 'mail server down' | 'mail deferred' | 'answer of the mail server lost';

interface Rule {
  readonly matches: (address: string) => boolean;
  readonly code: number;
  readonly text: string;
  left: number;
}

/** What the server needs from the simulation. */
export interface MailWorld {
  now(): number;
  /** When an attempt may send, if not immediately: concurrent attempts have an order. */
  turn(): Promise<void> | undefined;
  /** The fault that an exploration draws for this mail. */
  fault(): MailFault | undefined;
  note(text: string): void;
}

const texts: Readonly<Record<number, string>> = {
  421: 'service not available',
  450: 'mailbox busy',
  451: 'greylisted, try again later',
  452: 'insufficient system storage',
  550: 'no such user',
  552: 'mailbox full',
};

export class SimulatedMailServer implements MailOutlet, SimulatedSmtp {
  readonly kind = 'simulated';
  readonly outbox: SentMail[] = [];
  readonly #world: MailWorld;
  #rules: Rule[] = [];
  #downUntil = Number.NEGATIVE_INFINITY;
  #answersToLose = 0;
  #slowMs = 0;

  constructor(world: MailWorld) {
    this.#world = world;
  }

  reject(
    recipients: RegExp | string,
    code = 550,
    { times = Number.POSITIVE_INFINITY, text }: { times?: number; text?: string } = {},
  ): void {
    if (!(recipients instanceof RegExp) && typeof recipients !== 'string')
      throw new SimulationError(`smtp.reject() takes a pattern of addresses; got ${show(recipients)}`);
    if (!Number.isInteger(code) || code < 400 || code > 599)
      throw new SimulationError(`smtp.reject() takes a code from 400 to 599; got ${show(code)}`);
    // A pattern with the flag g keeps state between calls.
    const pattern = recipients instanceof RegExp ? new RegExp(recipients.source, recipients.flags.replace(/[gy]/g, '')) : undefined;
    this.#rules.push({
      matches: (address) => (pattern ? pattern.test(address) : address === recipients),
      code,
      text: text ?? texts[code] ?? (code < 500 ? 'try again later' : 'refused'),
      left: timesOf('smtp.reject()', times),
    });
  }

  down(duration: Duration): void {
    this.#downUntil = Math.max(this.#downUntil, this.#world.now() + durationMs(duration, 'smtp.down()'));
  }

  loseAnswers({ times = 1 }: { times?: number } = {}): void {
    this.#answersToLose += timesOf('smtp.loseAnswers()', times);
  }

  slow(duration: Duration): void {
    this.#slowMs = durationMs(duration, 'smtp.slow()');
  }

  /** Ends temporary faults. Addresses that do not exist still do not exist. */
  heal(): void {
    this.#rules = this.#rules.filter(({ code }) => code >= 500);
    this.#downUntil = Number.NEGATIVE_INFINITY;
    this.#answersToLose = 0;
    this.#slowMs = 0;
  }

  async send(mail: SentMail, sleep: (ms: number) => Promise<void>): Promise<OutletAnswer> {
    const turn = this.#world.turn();
    if (turn !== undefined) await turn;
    const to = mail.recipients.join(', ');
    const fault = this.#world.fault();
    if (this.#slowMs > 0) await sleep(this.#slowMs);
    if (fault === 'mail server down' || this.#downUntil > this.#world.now()) {
      this.#world.note(`mail to ${to}: the mail server is down`);
      throw Object.assign(new Error('connect ECONNREFUSED (the mail server of the simulation is down)'), {
        code: 'ESOCKET',
        command: 'CONN',
      });
    }
    if (fault === 'mail deferred') {
      this.#world.note(`mail to ${to}: 451 deferred`);
      throw failure('MAIL FROM', 451, 'deferred by a fault of the simulation');
    }
    const rejectedErrors = mail.recipients.flatMap((address) => {
      const rule = this.#ruleFor(address);
      return rule ? [Object.assign(failure('RCPT TO', rule.code, rule.text), { recipient: address })] : [];
    });
    const rejected = rejectedErrors.map(({ recipient }) => recipient);
    const accepted = mail.recipients.filter((address) => !rejected.includes(address));
    for (const { recipient, response } of rejectedErrors) this.#world.note(`mail to ${recipient}: ${response}`);
    if (accepted.length === 0) {
      const [first] = rejectedErrors;
      const { response = '550 refused', responseCode = 550 } = first ?? {};
      throw Object.assign(new Error(`Can't send mail - all recipients were rejected: ${response}`), {
        code: 'EENVELOPE',
        command: 'RCPT TO',
        response,
        responseCode,
        rejected,
        rejectedErrors,
      });
    }
    this.outbox.push({ ...mail, at: new Date(this.#world.now()), recipients: accepted });
    if (fault || this.#answersToLose > 0) {
      if (!fault) this.#answersToLose -= 1;
      this.#world.note(`mail to ${accepted.join(', ')}: accepted, and the answer was lost`);
      throw Object.assign(new Error('Connection closed unexpectedly (the simulation lost the answer)'), {
        code: 'ECONNECTION',
        command: 'DATA',
      });
    }
    this.#world.note(`mail to ${accepted.join(', ')}: accepted`);
    return { accepted, rejected, ...(rejectedErrors.length > 0 ? { rejectedErrors } : {}), response: '250 accepted by the simulation' };
  }

  #ruleFor(address: string): Rule | undefined {
    const rule = this.#rules.find(({ left, matches }) => left > 0 && matches(address));
    if (rule) rule.left -= 1;
    return rule;
  }
}

/** An error like Nodemailer's. */
function failure(command: string, responseCode: number, text: string) {
  const response = `${responseCode} ${text}`;
  return Object.assign(new Error(`${command} failed: ${response}`), { code: 'EENVELOPE', command, response, responseCode });
}

function timesOf(call: string, times: number): number {
  if (times === Number.POSITIVE_INFINITY || (Number.isSafeInteger(times) && times >= 1)) return times;
  throw new SimulationError(`${call} takes { times }, a positive integer; got ${show(times)}`);
}
