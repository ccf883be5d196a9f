/**
 * What happens in this process, kept as far as the views show it: the latest events, the attempts and log lines of jobs, and how many jobs
 * of each queue ended in which minute. Bounded, whatever happens.
 */
import type { Event, Job } from 'escapement';
import { clean } from '../format.ts';
import { shortDuration } from '../time.ts';
import type { EventItem, Try } from './state.ts';

const mostEvents = 1_000;
const mostJobs = 2_000;
const mostTries = 200;
const mostLogLines = 500;
const minuteMs = 60_000;
export const minutesKept = 30;

export interface LogLine {
  readonly at: number;
  readonly level: string;
  readonly text: string;
}

/** What events told of one job. */
export interface History {
  readonly tries: Try[];
  readonly log: LogLine[];
}

const ends: Readonly<Record<string, string>> = {
  successful: 'successful',
  retrying: 'failed',
  failed: 'failed',
  snoozed: 'snoozed',
  cancelled: 'cancelled',
  orphaned: 'lost',
  released: 'released',
};

export class Feed {
  readonly #events: EventItem[] = [];
  readonly #histories = new Map<string, History>();
  readonly #minutes = new Map<string, Map<number, number>>();
  #seq = 0;
  /** How many attempts have failed so far; whoever waits for the next one compares. */
  failures = 0;
  /** How many events there were. */
  get seq(): number {
    return this.#seq;
  }

  /** Newest first. */
  get events(): readonly EventItem[] {
    return this.#events.toReversed();
  }

  readonly add = (event: Event): void => {
    const job = 'job' in event ? event.job : undefined;
    if (event.type === 'retrying' || event.type === 'failed' || event.type === 'orphaned') this.failures += 1;
    if (job) this.#remember(event, job);
    if (event.type === 'progressed') return;
    const worker = 'worker' in event ? (event.worker ?? '') : '';
    const task = job?.task ?? ('task' in event ? event.task : '');
    this.#push({ at: event.at, type: event.type, task: clean(task), job: job?.id ?? '', worker: clean(worker), text: textOf(event) });
  };

  /** A line that the module wrote to the console. */
  print(at: number, text: string): void {
    this.#push({ at, type: 'printed', task: '', job: '', worker: '', text: clean(text) });
  }

  #push(event: Omit<EventItem, 'seq'>): void {
    this.#seq += 1;
    this.#events.push({ seq: this.#seq, ...event });
    if (this.#events.length > mostEvents + 200) this.#events.splice(0, this.#events.length - mostEvents);
  }

  history(id: string): History | undefined {
    return this.#histories.get(id);
  }

  /** How many jobs of a queue ended in each of the last minutes, the present one last. */
  minutes(queue: string, now: number): number[] {
    const last = Math.floor(now / minuteMs);
    const counts = this.#minutes.get(queue);
    return Array.from({ length: minutesKept }, (_, i) => counts?.get(last - minutesKept + 1 + i) ?? 0);
  }

  /** Jobs ended that no event told of: another process ran them. */
  ended(queue: string, at: number, count: number): void {
    if (count <= 0) return;
    let counts = this.#minutes.get(queue);
    if (!counts) {
      counts = new Map();
      this.#minutes.set(queue, counts);
    }
    const minute = Math.floor(at / minuteMs);
    counts.set(minute, (counts.get(minute) ?? 0) + count);
    for (const old of counts.keys()) if (old < minute - minutesKept) counts.delete(old);
  }

  #remember(event: Event, job: Job): void {
    if (event.type === 'enqueued' || event.type === 'scheduled') return;
    if (event.type === 'successful' || event.type === 'failed' || event.type === 'cancelled') this.ended(job.queue, event.at, 1);
    const history = this.#histories.get(job.id) ?? { tries: [], log: [] };
    // The job that was heard of last is last.
    this.#histories.delete(job.id);
    this.#histories.set(job.id, history);
    if (this.#histories.size > mostJobs) this.#histories.delete(this.#histories.keys().next().value as string);
    if (event.type === 'logged') {
      if (history.log.length < mostLogLines) history.log.push({ at: event.at, level: event.level, text: loggedText(event) });
    } else if (event.type === 'started') {
      const begun = {
        attempt: event.attempt,
        worker: clean(event.worker),
        startedAt: event.at,
        endedAt: null,
        outcome: 'running',
        error: null,
        frames: [],
      };
      if (history.tries.length < mostTries) history.tries.push(begun);
    } else if (ends[event.type] !== undefined && 'attempt' in event) {
      const open = history.tries.findLastIndex(({ attempt, endedAt }) => endedAt === null && attempt === event.attempt);
      const before = history.tries[open];
      if (!before) return;
      const error = 'error' in event && event.error ? clean(`${event.error.name}: ${event.error.message}`) : null;
      history.tries[open] = { ...before, endedAt: event.at, outcome: ends[event.type] ?? event.type, error };
    }
  }
}

function loggedText({ message, fields }: { readonly message: string; readonly fields: Readonly<Record<string, unknown>> | null }): string {
  return clean(fields && Object.keys(fields).length > 0 ? `${message}  ${shown(fields)}` : message);
}

function shown(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return 'something that cannot be shown';
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
