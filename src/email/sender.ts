/**
 * The transporter of one mail application. It is created when the first mail is sent, and closed when the application's last worker in this
 * process has stopped.
 */
import type { Tasks } from 'escapement';
import { type MailTransport, type Transporter, transporterOf } from './compile.ts';
import type { MailMessage } from './message.ts';

export class Sender {
  readonly #transport: MailTransport;
  readonly #isOwn: boolean;
  #transporter: Transporter | undefined;

  /** The workers of the application in this process. */
  readonly #workers = new Set<string>();

  /** @param isSimulated whether the workers belong to a simulation: they send nothing and may end without an event */
  constructor(tasks: Tasks, transport: MailTransport, isSimulated: () => boolean) {
    this.#transport = transport;
    // A transporter created by the application is closed by the application.
    this.#isOwn = typeof (transport as Partial<Transporter>).sendMail !== 'function';
    tasks.on('workerStarted', ({ worker }) => {
      if (!isSimulated()) this.#workers.add(worker);
    });
    tasks.on('workerStopped', ({ worker }) => {
      if (this.#workers.delete(worker) && this.#workers.size === 0) this.close();
    });
  }

  /** Rejects with the signal's reason when it aborts. A worker that stops lets the server answer. */
  async send(message: MailMessage, signal: AbortSignal): Promise<unknown> {
    this.#transporter ??= transporterOf(this.#transport);
    const sending = new AbortController();
    const abort = () => {
      if ((signal.reason as { code?: unknown } | undefined)?.code !== 'ESCAPEMENT_SHUTDOWN') sending.abort(signal.reason);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    try {
      return await this.#transporter.sendMail({ ...message, signal: sending.signal } as never);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  close(): void {
    if (!this.#isOwn) return;
    this.#transporter?.close?.();
    this.#transporter = undefined;
  }
}
