/**
 * Exchanges hints with other processes through LISTEN and NOTIFY. Hints are optional: they are sent after the commit, in a separate
 * statement, so that they neither fail nor delay the change that they announce, and workers also poll. A half-open connection, or one
 * behind a pooler, stays silent, so the listening connection is tested with a message from time to time.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { Hint } from '../../core/types.ts';
import { systemClock, type Timer } from '../../ports/clock.ts';
import type { Connection, PgListener } from './connection.ts';
import type { Line } from './lines.ts';
import { quoteText } from './session.ts';

/** If more lines are affected, none are listed: a payload is limited to 8,000 bytes. */
const maxLines = 16;
const probeEveryMs = 8_000;
const answerWithinMs = 5_000;
/** Delay before a failed notification is sent again, and the maximum number of failures. */
const resendAfterMs = 1_000;
const maxFailures = 10;
const firstRetryMs = 100;
const longestRetryMs = 3_000;

export class Wakeups {
  readonly #connection: Connection;
  readonly #onHint: (hint: Hint, lines: readonly Line[] | undefined) => void;
  readonly #origin = randomUUID();
  readonly #ownChannel = `escapement_${this.#origin.replaceAll('-', '')}`;
  readonly channel: string;
  #listening = false;
  #isAlive = false;
  /** Closes the listening connection. */
  #cut: (() => void) | undefined;
  #pending: Hint | undefined;
  /** The jobs to announce; undefined: any job may be affected. */
  #jobs: readonly Line[] | undefined = [];
  #sending = false;

  /** @param onHint called with hints of other processes and the lines of jobs that became due; undefined: any line */
  constructor(connection: Connection, onHint: (hint: Hint, lines: readonly Line[] | undefined) => void) {
    this.#connection = connection;
    this.#onHint = onHint;
    this.channel = `escapement_${createHash('sha256').update(connection.place.schema).digest('hex').slice(0, 20)}`;
  }

  /** True while other processes' hints arrive. */
  get isAlive(): boolean {
    return this.#isAlive;
  }

  /**
   * The statement that announces a hint when the transaction commits. It sends nothing while the server's notification queue is half full.
   */
  announceSql(hint: Hint, jobs: readonly Line[] | undefined): string {
    const payload = quoteText(JSON.stringify({ ...hint, lines: jobs && linesOf(jobs) }));
    return `SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('${this.channel}', ${payload})::text END AS sent`;
  }

  /** Announces a hint to other processes soon. @param jobs the jobs that it is about; undefined: any job may be affected */
  announce(hint: Hint, jobs: readonly Line[] | undefined): void {
    this.#jobs = this.#jobs && jobs && [...this.#jobs, ...jobs];
    this.#pending = this.#pending ? merged(this.#pending, hint) : hint;
    if (!this.#sending) void this.#sendPending();
  }

  async #sendPending(): Promise<void> {
    this.#sending = true;
    for (let failures = 0; this.#pending && !this.#connection.isClosed; ) {
      const payload = JSON.stringify({ ...this.#pending, lines: this.#jobs && linesOf(this.#jobs), origin: this.#origin });
      this.#pending = undefined;
      this.#jobs = [];
      try {
        await this.#connection.query('SELECT pg_notify($1, $2)::text AS sent', [this.channel, payload]);
        failures = 0;
      } catch {
        failures += 1;
        // Workers find the changes when they next read all lines.
        if (failures === maxFailures) break;
        // Announce that anything may have changed; this covers the failed hint and those added since.
        this.#pending = {};
        this.#jobs = undefined;
        await pause(resendAfterMs);
      }
    }
    this.#sending = false;
  }

  start(): void {
    if (this.#listening) return;
    this.#listening = true;
    void this.#listen();
  }

  stop(): void {
    this.#listening = false;
    this.#cut?.();
  }

  async #listen(): Promise<void> {
    for (let failures = 0; this.#listening; failures++) {
      const client = this.#connection.listener();
      if (!client) return;
      const startedListening = await this.#attend(client);
      if (startedListening) failures = 0;
      if (this.#listening) await pause(Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(failures, 10)));
    }
  }

  /** Listens until the connection ends or stops responding. Returns true if it was listening. */
  async #attend(client: PgListener): Promise<boolean> {
    let timer: Timer | undefined;
    let hasListened = false;
    const ended = Promise.withResolvers<void>();
    this.#cut = ended.resolve;
    client.on('error', () => ended.resolve());
    client.on('end', () => ended.resolve());
    let onEcho: () => void = () => {};
    client.on('notification', ({ channel, payload }) => {
      if (channel === this.#ownChannel) onEcho();
      else this.#receive(payload ?? '');
    });
    /** Resolves when the connection receives a message that was sent on another connection. */
    const probe = async () => {
      const answer = new Promise<void>((resolve) => {
        onEcho = resolve;
      });
      await this.#connection.query("SELECT pg_notify($1, '')::text AS sent", [this.#ownChannel]);
      await answer;
    };
    const within = async (work: Promise<unknown>) => {
      timer = systemClock.after(answerWithinMs, () => ended.resolve());
      await Promise.race([work, ended.promise]);
      timer.cancel();
    };
    let isOver = false;
    const probeLater = () => {
      if (isOver) return;
      timer = systemClock.after(probeEveryMs, () => {
        within(probe()).then(probeLater, () => ended.resolve());
      });
    };
    try {
      await within(client.connect().then(() => client.query({ text: `LISTEN ${this.channel}; LISTEN ${this.#ownChannel}` })));
      let isReceiving = false;
      await within(
        probe().then(() => {
          isReceiving = true;
        }),
      );
      if (this.#listening && isReceiving) {
        hasListened = true;
        this.#isAlive = true;
        // Earlier announcements may have been missed.
        this.#onHint({}, undefined);
        probeLater();
        await ended.promise;
      }
    } catch {
      // The caller retries.
    }
    isOver = true;
    this.#isAlive = false;
    timer?.cancel();
    this.#cut = undefined;
    client.end().catch(() => {});
    return hasListened;
  }

  #receive(payload: string): void {
    let received: Hint & { readonly origin?: string; readonly lines?: readonly (readonly [string, number])[] };
    try {
      received = JSON.parse(payload) as Hint;
    } catch {
      received = {};
    }
    const { origin, lines, ...hint } = received;
    if (origin === this.#origin) return;
    this.#onHint(
      hint,
      lines?.map(([queue, priority]) => ({ queue, priority })),
    );
  }
}

/** The distinct lines of jobs; undefined if there are too many to send. */
function linesOf(jobs: readonly Line[]): (readonly [string, number])[] | undefined {
  const lines = new Map<string, readonly [string, number]>();
  for (const { queue, priority } of jobs) {
    lines.set(`${queue} ${priority}`, [queue, priority]);
    if (lines.size > maxLines) return undefined;
  }
  return [...lines.values()];
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(ms, resolve));
}

/** Combines two hints. */
function merged(a: Hint, b: Hint): Hint {
  if (Object.keys(a).length === 0 || Object.keys(b).length === 0) return {};
  const instants: Record<string, number> = {};
  for (const key of ['dueAt', 'overdueAt', 'scheduleAt', 'pruneAt'] as const) {
    const at = Math.min(a[key] ?? Number.POSITIVE_INFINITY, b[key] ?? Number.POSITIVE_INFINITY);
    if (at < Number.POSITIVE_INFINITY) instants[key] = at;
  }
  return { ...a, ...b, ...instants };
}
