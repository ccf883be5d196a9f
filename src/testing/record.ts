/**
 * The record of a simulation. It is built from the engine's events only, so pruning, a slow store or later changes to a row do not affect
 * it. Jobs, attempts and the timeline are derived from it.
 */
import type { Event } from '../core/events.ts';
import type { RecordedError } from '../core/failure.ts';
import { isFinished, visibleStatus } from '../core/job.ts';
import { isUsualPart, treeLines } from '../core/tree.ts';
import type { Attempt, AttemptOutcome, Job, JobRecord } from '../core/types.ts';
import type { AttemptInfo } from '../result.ts';

/** One attempt as returned by `sim.attempts()`; workers are named `w0`, `w1` … */
export interface SimulatedAttempt extends AttemptInfo {
  /** The job's id. */
  readonly job: string;
  readonly task: string;
}

interface Row {
  /** A label such as `mail.welcome#3`: the third job of its task. */
  readonly label: string;
  job: Job;
  readonly attempts: Attempt[];
}

/** An action of the simulation itself. */
export interface Note {
  readonly type: 'note';
  readonly at: number;
  readonly worker: string;
  readonly text: string;
}

export class SimulationRecord {
  readonly #rows = new Map<string, Row>();
  /** Attempts in the order in which they started. */
  readonly #starts: { readonly row: Row; readonly at: number }[] = [];
  /** Aliases of jobs that were enqueued to a backend other than their task's. */
  readonly aliases = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #lines: (Event | Note)[] = [];
  /** Unfinished jobs that were not created by a recurring schedule. */
  readonly #open = new Set<string>();
  /** Number of recorded events. */
  length = 0;

  readonly add = (event: Event | Note): void => {
    this.length += 1;
    this.#lines.push(event);
    if (!('job' in event)) return;
    const { job } = event;
    let row = this.#rows.get(job.id);
    if (!row) {
      const count = (this.#counts.get(job.task) ?? 0) + 1;
      this.#counts.set(job.task, count);
      row = { label: `${job.task}#${count}`, job, attempts: [] };
      this.#rows.set(job.id, row);
    }
    this.#attempt(row, event);
    // Events about an attempt only, such as a refused outcome, say nothing about the row, which may belong to another worker by now.
    if (event.type === 'discarded' || event.type === 'logged') return;
    if (event.type === 'progressed' && (row.job.status !== 'running' || row.job.claim !== job.claim)) return;
    row.job = job;
    if (job.schedule === null) {
      if (isFinished(job)) this.#open.delete(job.id);
      else this.#open.add(job.id);
    }
  };

  /** A job ended, but the process that ended it died before it could report that. */
  correct({ job, attempts }: JobRecord): void {
    const row = this.#rows.get(job.id);
    if (!row) return;
    row.job = job;
    const last = attempts.at(-1);
    if (last && row.attempts.length > 0) row.attempts[row.attempts.length - 1] = last;
    if (isFinished(job)) this.#open.delete(job.id);
    this.length += 1;
  }

  /** A job was deleted, and a worker that had been suspended started it afterwards. */
  gone(id: string): void {
    this.#open.delete(id);
    this.length += 1;
  }

  /** The record up to an instant. */
  upTo(at: number): SimulationRecord {
    const past = new SimulationRecord();
    for (const event of this.#lines) if (event.at <= at) past.add(event);
    return past;
  }

  /** Jobs in the order in which they were enqueued. */
  get jobs(): readonly JobRecord[] {
    return [...this.#rows.values()];
  }

  get attempts(): readonly SimulatedAttempt[] {
    return this.#starts.map(({ row: { job, attempts }, at }) => {
      const { attempt, worker, startedAt, endedAt, outcome, error } = attempts[at] as Attempt;
      const ended = endedAt === null ? null : new Date(endedAt);
      return {
        job: job.id,
        task: job.task,
        attempt,
        worker: workerLabel(worker),
        startedAt: new Date(startedAt),
        endedAt: ended,
        outcome,
        error,
      };
    });
  }

  get unfinished(): readonly Job[] {
    return [...this.#open].map((id) => (this.#rows.get(id) as Row).job);
  }
  get unfinishedCount(): number {
    return this.#open.size;
  }

  job(id: string): Job | undefined {
    return this.#rows.get(id)?.job;
  }

  label(id: string): string {
    return this.#rows.get(id)?.label ?? id;
  }

  /** Jobs below the jobs that enqueued them, with their statuses at an instant. */
  tree(now: number): string[] {
    const items = [...this.#rows.values()].map(({ job, label }) => {
      const { id, enqueuedBy, workflow, part, task } = job;
      const key = part && !isUsualPart(part.key, task) ? ` (${clean(part.key)})` : '';
      return { id, enqueuedBy, workflow, text: `${label}${key}  ${visibleStatus(job, now)}`, job };
    });
    const title = (parts: readonly (typeof items)[number][]) => `workflow ${clean(parts[0]?.job.part?.of ?? '')}`;
    return treeLines(items, title).map(({ lead, text }) => lead + text);
  }

  /** The timeline as aligned lines of text: when, on which worker, what. */
  lines(startedAt: number, last?: number): string[] {
    const events = last === undefined ? this.#lines : this.#lines.slice(-last);
    const cells: [string, string, string, string][] = [];
    for (const event of events) {
      const cell = this.#cells(event);
      if (cell) cells.push([offset(event.at - startedAt), ...cell]);
    }
    const width = (column: 0 | 1 | 2) => cells.reduce((widest, cell) => Math.max(widest, cell[column].length), 0);
    const [when, who, what] = [width(0), width(1), width(2)];
    return cells.map(([a, b, c, d]) => `${a.padEnd(when)}  ${b.padEnd(who)}  ${c.padEnd(what)}  ${d}`.trimEnd());
  }

  #attempt(row: Row, event: Event): void {
    switch (event.type) {
      case 'started':
        this.#starts.push({ row, at: row.attempts.length });
        row.attempts.push({
          attempt: event.attempt,
          claim: event.job.claim,
          worker: event.worker,
          startedAt: event.at,
          endedAt: null,
          outcome: null,
          error: null,
        });
        break;
      case 'successful':
      case 'snoozed':
      case 'released':
        this.#end(row, event.at, event.type, null);
        break;
      case 'retrying':
        this.#end(row, event.at, 'failed', event.error);
        break;
      case 'orphaned':
        this.#end(row, event.at, 'lost', event.error);
        break;
      case 'failed':
        this.#end(row, event.at, 'failed', event.error);
        break;
      case 'cancelled':
        if (event.worker !== null) this.#end(row, event.at, 'cancelled', null);
        break;
      default:
    }
  }

  /** A second end of the same attempt, such as failed after orphaned, changes nothing. */
  #end(row: Row, endedAt: number, outcome: AttemptOutcome, error: RecordedError | null): void {
    const last = row.attempts.at(-1);
    if (last && last.outcome === null) row.attempts[row.attempts.length - 1] = { ...last, endedAt, outcome, error };
  }

  #cells(event: Event | Note): [string, string, string] | undefined {
    if (event.type === 'note') return [workerLabel(event.worker), 'note', clean(event.text)];
    if (event.type === 'skipped') {
      const { schedule, reason, count, error } = event;
      const many = count === 1 ? '1 occurrence' : `${count} occurrences`;
      return ['', 'skipped', `${many} of schedule ${schedule}: ${reason}${error ? `: ${clean(error.message)}` : ''}`];
    }
    if (!('job' in event)) {
      const text = {
        workerStarted: 'started',
        workerStopping: 'stopping',
        workerStopped: 'stopped',
        storeFailing: 'store failing',
        storeRecovered: 'store recovered',
      };
      return [workerLabel(event.worker), text[event.type], event.type === 'storeFailing' ? clean(event.error.message) : ''];
    }
    const { job } = event;
    const worker = 'worker' in event && event.worker !== null ? workerLabel(event.worker) : '';
    const name = this.label(job.id);
    const attempt = 'attempt' in event ? ` attempt ${event.attempt}` : '';
    switch (event.type) {
      case 'scheduled':
        return undefined;
      case 'enqueued': {
        const due = job.dueAt > event.at ? ` due in ${exact(job.dueAt - event.at)}` : '';
        return ['', 'enqueued', `${name}${job.schedule === null ? '' : ` by schedule ${job.schedule}`}${due}`];
      }
      case 'requeued':
      case 'unblocked':
      case 'deleted':
      case 'edited':
        return ['', event.type, name];
      case 'prioritized':
        return ['', 'prioritized', `${name} to ${job.priority}`];
      case 'started':
      case 'successful':
      case 'released':
        return [worker, event.type, name + attempt];
      case 'retrying':
        return [worker, 'retrying', `${name}${attempt}: ${problem(event.error)}; again in ${exact(event.dueAt - event.at)}`];
      case 'snoozed':
        return [worker, 'snoozed', `${name}${attempt}, again in ${exact(event.dueAt - event.at)}`];
      case 'orphaned':
        return [worker, 'orphaned', `${name}${attempt}: its lease expired`];
      case 'failed':
        return [
          worker,
          'failed',
          `${name}${attempt}: ${event.error ? problem(event.error) : 'failed'}${job.reason ? ` (${job.reason})` : ''}`,
        ];
      case 'cancelled':
        return [worker, 'cancelled', `${name}: ${clean(job.reason ?? 'cancelled')}`];
      case 'discarded':
        return [worker, 'discarded', `${name}${attempt}: ${event.outcome} arrived too late; the worker no longer held the job`];
      case 'stepped':
        return [worker, event.kind, `${name} ${clean(event.step)}`];
      case 'progressed':
        return [
          worker,
          'progress',
          `${name} ${Math.round(event.progress.fraction * 100)} %${event.progress.message === null ? '' : ` ${clean(event.progress.message)}`}`,
        ];
      case 'logged':
        return [
          worker,
          event.level,
          `${name} ${clean(event.message)}${event.fields ? ` ${clean(JSON.stringify(event.fields) ?? '')}` : ''}`,
        ];
    }
  }
}

/** The ids of workers in a simulation are `w0`, and after a crash `w0.1`; the timeline shows both as the same worker. */
export function workerLabel(worker: string): string {
  return worker.replace(/\..*$/, '');
}

/** An offset from the start: `+0s`, `+1h 5m`, exact to the millisecond. */
export function offset(ms: number): string {
  return ms < 0 ? exact(ms) : `+${exact(ms)}`;
}

const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
] as const;

/** A duration without loss of precision: `1d 2h 3m 4.005s`. */
export function exact(ms: number): string {
  if (ms < 0) return `-${exact(-ms)}`;
  let rest = ms;
  const parts: string[] = [];
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  if (rest > 0 || parts.length === 0) parts.push(rest > 0 && rest < 1_000 ? `${rest}ms` : `${rest / 1_000}s`);
  return parts.join(' ');
}

function problem(error: RecordedError): string {
  return clean(`${error.name}: ${error.message.split('\n', 1)[0] ?? ''}`);
}

/** Removes control characters from a line, so that it is safe for a terminal. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, ' ');
}
