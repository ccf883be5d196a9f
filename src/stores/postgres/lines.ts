/**
 * Tracks where claims start. A line is one priority of one queue. Claimed jobs leave dead entries in the index of queued jobs until no
 * transaction on the server can see them, so a claim starts where the previous one ended. A job that becomes due earlier than that lowers
 * the start of its line, whether this process changed it or another one announced it. Because announcements can be lost, all lines are
 * reread from the beginning every few seconds.
 *
 * Claims skip rows that others have locked, and those jobs may stay queued: the other claim may die, a second janitor may find nothing to
 * do, a transaction of the application may roll back. When a claim has found too few jobs, a plain read therefore checks from where the
 * previous plain read ended.
 */
import type { Job } from '../../core/types.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { Value } from './session.ts';

export interface Line {
  readonly queue: string;
  readonly priority: number;
}

interface KnownLine extends Line {
  /** No claimable job is due before this instant, or at this instant with an id up to `after`. */
  dueAt: number;
  after: string;
  /** A plain read has found no job that is due before this instant, locked or not. */
  clearTo: number;
  /** How often the line was lowered, and the most recent targets. A claim that was in progress does not raise the line past them. */
  lowered: number;
  readonly to: number[];
}

/** The first arguments of the functions that find jobs: the tasks, then the lines and the instants where they start. */
export type LineValues = readonly [tasks: Value, queues: Value, priorities: Value, dues: Value];

/** The same for lines whose start is unknown. */
export function wholeLines({ tasks, queues, excludeQueues }: Served, lines: readonly Line[]): LineValues {
  const served = lines.filter(({ queue }) => (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue));
  return [tasks, served.map(({ queue }) => queue), served.map(({ priority }) => priority), served.map(() => beginning)];
}

/** The starting point of a claim or a plain read. */
export interface Start {
  /** True if every line is read from its beginning. */
  readonly isWhole: boolean;
  readonly values: LineValues;
  /** For each line: jobs that are due exactly at its start are considered only if their ids follow this one. */
  readonly after: Value;
  /** Like `values`, but starting where the last plain read ended. */
  readonly unread: LineValues;
  /**
   * Called after a plain read.
   * @param isDue whether it found a due job; the next claim then starts where that read started
   * @param upTo if it found none: no job is due up to this instant
   */
  scanned(isDue: boolean, upTo: number): void;
  /** Called with the claimed jobs. @param upTo no other job is due up to this instant */
  claimed(jobs: readonly Pick<Job, 'queue' | 'priority' | 'dueAt' | 'id'>[], upTo?: number): void;
}

/** With more lines than this, they are reread for every claim. */
const maxLines = 200;
/** Larger than the number of task and queue combinations in use at a time. */
const maxViews = 50;
/** How many changes during a claim are tracked individually. */
const maxLowered = 64;
const beginning = -8_640_000_000_000_000;
/** Tracks an instant before which no lease ends. */
export class FirstLease {
  #from = beginning;
  #readAt = Number.NaN;

  /** Where to start reading leases. */
  from(now: number, everyMs: number): number {
    if (!(now - this.#readAt < everyMs && now >= this.#readAt)) {
      this.#from = beginning;
      this.#readAt = now;
    }
    return this.#from;
  }

  /** Records the earliest lease end found by a read that started at `from`. */
  found(leaseUntil: number | null, from: number): void {
    if (leaseUntil !== null && this.#from === from) this.#from = leaseUntil;
  }

  lower(leaseUntil: number): void {
    this.#from = Math.min(this.#from, leaseUntil);
  }

  forget(): void {
    this.#readAt = Number.NaN;
  }
}

const keyOf = ({ queue, priority }: Line) => `${queue} ${priority}`;

type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues'>;

/** The lines for callers that serve the same tasks and queues. Callers that serve others may claim jobs that these skip. */
class View {
  readonly served: Served;
  readonly lines = new Map<string, KnownLine>();
  readAt = Number.NaN;
  /** The latest instant passed by a caller. For a caller whose clock is behind it, jobs that have expired are not expired yet. */
  latestAt = Number.NEGATIVE_INFINITY;

  constructor(served: Served) {
    this.served = served;
  }

  serves(queue: string): boolean {
    return (this.served.queues?.includes(queue) ?? true) && !this.served.excludeQueues?.includes(queue);
  }
}

export class Lines {
  readonly #views = new Map<string, View>();

  /**
   * @param read reads all lines of queued jobs
   * @param everyMs maximum interval between reads
   */
  async start(served: Served, now: number, everyMs: number, read: () => Promise<readonly Line[]>): Promise<Start> {
    const view = this.#view(served);
    const isKnown = now - view.readAt < everyMs && now >= view.latestAt;
    if (!isKnown) await this.#read(view, now, read);
    view.latestAt = isKnown ? now : Math.max(now, view.readAt);
    const lines = [...view.lines.values()];
    const before = lines.map(({ lowered }) => lowered);
    const [queues, priorities] = [lines.map(({ queue }) => queue), lines.map(({ priority }) => priority)];
    return {
      isWhole: !isKnown,
      after: lines.map(({ after }) => after),
      values: [served.tasks, queues, priorities, lines.map(({ dueAt }) => dueAt)],
      unread: [served.tasks, queues, priorities, lines.map(({ clearTo }) => clearTo)],
      scanned: (isDue, upTo) => {
        for (const [i, line] of lines.entries()) {
          if (!isDue)
            line.clearTo = Math.max(line.clearTo, lowest(line, { dueAt: upTo, after: '' }, before[i] as number)?.dueAt ?? beginning);
          else if (line.clearTo <= line.dueAt) Object.assign(line, { dueAt: line.clearTo, after: '' });
        }
      },
      claimed: (jobs, upTo = beginning) => {
        const latest = new Map<string, Place>();
        for (const job of jobs) latest.set(keyOf(job), later(placeOf(job), latest.get(keyOf(job))));
        for (const [i, line] of lines.entries())
          raise(line, later({ dueAt: upTo, after: '' }, latest.get(keyOf(line))), before[i] as number);
      },
    };
  }

  /** Records that a job of this line is queued and due at this instant. */
  lower(line: Line, dueAt: number): void {
    for (const view of this.#views.values()) {
      const known = view.lines.get(keyOf(line));
      if (known) {
        if (dueAt <= known.dueAt) Object.assign(known, { dueAt, after: '' });
        known.clearTo = Math.min(known.clearTo, dueAt);
        known.to[known.lowered % maxLowered] = dueAt;
        known.lowered += 1;
      } else if (view.serves(line.queue)) view.lines.set(keyOf(line), fresh(line));
    }
  }

  /** Called when any line may have changed. */
  forget(): void {
    for (const view of this.#views.values()) view.readAt = Number.NaN;
  }

  #last: View | undefined;

  #view(served: Served): View {
    const last = this.#last?.served;
    // Callers keep passing the same arrays.
    if (last && last.tasks === served.tasks && last.queues === served.queues && last.excludeQueues === served.excludeQueues)
      return this.#last as View;
    const key = JSON.stringify([served.tasks, served.queues ?? null, served.excludeQueues ?? []]);
    let view = this.#views.get(key);
    if (!view) {
      if (this.#views.size >= maxViews) this.#views.clear();
      const { tasks, queues, excludeQueues } = served;
      view = new View({ tasks, queues, excludeQueues });
      this.#views.set(key, view);
    }
    this.#last = view;
    return view;
  }

  async #read(view: View, now: number, read: () => Promise<readonly Line[]>): Promise<void> {
    // Lines that are lowered during the read are kept.
    view.lines.clear();
    for (const line of await read()) {
      if (view.serves(line.queue) && !view.lines.has(keyOf(line))) view.lines.set(keyOf(line), fresh(line));
    }
    view.readAt = view.lines.size > maxLines ? Number.NaN : now;
  }
}

function fresh({ queue, priority }: Line): KnownLine {
  return { queue, priority, dueAt: beginning, after: '', clearTo: beginning, lowered: 0, to: [] };
}

/** How far a line has been claimed. */
type Place = Pick<KnownLine, 'dueAt' | 'after'>;

/** Ids with other characters sort differently here and on the server. */
const placeOf = ({ dueAt, id }: Pick<Job, 'dueAt' | 'id'>): Place => ({ dueAt, after: /^[\x20-\x7e]*$/.test(id) ? id : '' });

function later(a: Place, b: Place | undefined): Place {
  return b && (b.dueAt > a.dueAt || (b.dueAt === a.dueAt && b.after > a.after)) ? b : a;
}

/**
 * How far a line that has been lowered in the meantime can be raised; undefined if it cannot be raised.
 * @param before its `lowered` count at the start
 */
function lowest(line: KnownLine, upTo: Place, before: number): Place | undefined {
  const count = line.lowered - before;
  if (count > maxLowered) return undefined;
  let to = upTo;
  for (let i = 0; i < count; i++) {
    const dueAt = line.to[(before + i) % maxLowered] as number;
    if (dueAt <= to.dueAt) to = { dueAt, after: '' };
  }
  return to;
}

/** @param before its `lowered` count when the claim started */
function raise(line: KnownLine, upTo: Place, before: number): void {
  const { dueAt, after } = later(line, lowest(line, upTo, before));
  line.dueAt = dueAt;
  line.after = after;
}
