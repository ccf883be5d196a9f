/**
 * Keeps what the views show of this process: the latest events, the log lines of jobs, and the number of jobs that finished per queue and
 * minute. Its size is bounded.
 */
import type { Event } from 'escapement';
import { clean } from '../format.ts';
import { shortDuration } from '../time.ts';
import type { EventItem } from './state.ts';

const maxEvents = 1_000;
const maxJobs = 2_000;
const maxEventsPerJob = 1_000;
const minuteMs = 60_000;
export const minutesKept = 30;

export interface LogLine {
  readonly at: number;
  readonly level: string;
  readonly text: string;
}

type Logged = Extract<Event, { type: 'logged' }>;

/** Console output of the module is kept as events. */
interface Printed {
  readonly type: 'printed';
  readonly at: number;
  readonly text: string;
}

/** Receives every event of workers that may run tens of thousands of jobs per second. Events are only stored here, and formatted when they are displayed. */
export class Feed {
  /** A ring buffer: event n is at n modulo its length. */
  readonly #events: (Event | Printed)[] = [];
  readonly #logs = new Map<string, Logged[]>();
  readonly #ids: string[] = [];
  #jobs = 0;
  readonly #minutes = new Map<string, Map<number, number>>();
  readonly #seconds = new Map<string, Map<number, number>>();
  /** The number of events so far. */
  seq = 0;
  /** The number of failed attempts so far. Compare two values to detect a failure. */
  failures = 0;

  readonly add = (event: Event): void => {
    const { type } = event;
    if (type === 'retrying' || type === 'failed' || type === 'orphaned') this.failures += 1;
    if (type === 'progressed') return;
    this.#push(event);
    if (type === 'successful' || type === 'failed' || type === 'cancelled') this.ended(event.job.queue, event.at, 1);
    if (type !== 'logged') return;
    const { job } = event;
    const known = this.#logs.get(job.id);
    if (known) {
      if (known.length < maxEventsPerJob) known.push(event);
      return;
    }
    this.#logs.set(job.id, [event]);
    // Another ring buffer: finding the oldest key of a Map is slow after many deletions.
    const at = this.#jobs % maxJobs;
    const oldest = this.#ids[at];
    if (oldest !== undefined) this.#logs.delete(oldest);
    this.#ids[at] = job.id;
    this.#jobs += 1;
  };

  /** Removes everything, when time restarts. */
  clear(): void {
    this.#events.length = 0;
    this.#logs.clear();
    this.#ids.length = 0;
    this.#jobs = 0;
    this.#minutes.clear();
    this.#seconds.clear();
    this.seq = 0;
    this.failures = 0;
  }

  /** Adds a line that the module wrote to the console. */
  print(at: number, text: string): void {
    this.#push({ type: 'printed', at, text });
  }

  #push(event: Event | Printed): void {
    this.#events[this.seq % maxEvents] = event;
    this.seq += 1;
  }

  /** The latest events, newest first. */
  get events(): readonly EventItem[] {
    const items: EventItem[] = [];
    for (let seq = this.seq; seq > Math.max(0, this.seq - maxEvents); seq--) {
      items.push(itemOf(seq, this.#events[(seq - 1) % maxEvents] as Event | Printed));
    }
    return items;
  }

  /** The log lines of a job that this process received. */
  log(id: string): LogLine[] {
    return (this.#logs.get(id) ?? []).map((event) => ({ at: event.at, level: event.level, text: loggedText(event) }));
  }

  /** The number of jobs of a queue that finished in each of the last minutes, the current minute last. */
  minutes(queue: string, now: number): number[] {
    const last = Math.floor(now / minuteMs);
    const counts = this.#minutes.get(queue);
    return Array.from({ length: minutesKept }, (_, i) => counts?.get(last - minutesKept + 1 + i) ?? 0);
  }

  /** The number of jobs of a queue that finished in the last 60 s. */
  perMinute(queue: string, now: number): number {
    const last = Math.floor(now / 1_000);
    let sum = 0;
    for (const [second, count] of this.#seconds.get(queue) ?? []) if (second > last - 60 && second <= last) sum += count;
    return sum;
  }

  /** Also called for jobs without events here, because another process ran them. */
  ended(queue: string, at: number, count: number): void {
    if (count <= 0) return;
    add(this.#minutes, queue, Math.floor(at / minuteMs), count, minutesKept);
    add(this.#seconds, queue, Math.floor(at / 1_000), count, 60);
  }
}

/** Adds to the count of a queue and a time span, and removes counts that are too old. */
function add(counts: Map<string, Map<number, number>>, queue: string, span: number, count: number, kept: number): void {
  let own = counts.get(queue);
  if (!own) {
    own = new Map();
    counts.set(queue, own);
  }
  const before = own.get(span);
  own.set(span, (before ?? 0) + count);
  if (before === undefined) for (const old of own.keys()) if (old < span - kept) own.delete(old);
}

function itemOf(seq: number, event: Event | Printed): EventItem {
  const { at, type } = event;
  if (type === 'printed') return { seq, at, type, task: '', job: '', worker: '', text: clean(event.text) };
  const job = 'job' in event ? event.job : undefined;
  const worker = 'worker' in event ? (event.worker ?? '') : '';
  const task = job?.task ?? ('task' in event ? event.task : '');
  return { seq, at, type, task: clean(task), job: job?.id ?? '', worker: clean(worker), text: textOf(event) };
}

/** A line of a task's log as text. */
export function loggedText({
  message,
  fields,
}: {
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>> | null;
}): string {
  return clean(fields && Object.keys(fields).length > 0 ? `${message}  ${shown(fields)}` : message);
}

function shown(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return '(cannot be displayed)';
  }
}

function textOf(event: Event): string {
  switch (event.type) {
    case 'retrying':
      return clean(`${event.error.name}: ${event.error.message} → in ${shortDuration(Math.max(0, event.dueAt - event.at))}`);
    case 'failed':
      return clean(event.error ? `${event.error.name}: ${event.error.message}` : (event.job.reason ?? ''));
    case 'orphaned':
    case 'storeFailing':
      return clean(`${event.error.name}: ${event.error.message}`);
    case 'snoozed':
      return `in ${shortDuration(Math.max(0, event.dueAt - event.at))}`;
    case 'cancelled':
      return clean(event.job.reason ?? '');
    case 'prioritized':
      return `to ${event.job.priority}`;
    case 'started':
      return event.attempt > 1 ? `attempt ${event.attempt}` : '';
    case 'logged':
      return loggedText(event);
    case 'skipped':
      return clean(`${event.count} of ${event.schedule}: ${event.reason}${event.error ? `, ${event.error.message}` : ''}`);
    case 'discarded':
      return clean(event.outcome);
    case 'scheduled':
    case 'enqueued':
      return clean(event.job.schedule ?? '');
    default:
      return '';
  }
}
