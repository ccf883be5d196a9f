/**
 * Where claims begin. A line is a priority of a queue. What was claimed leaves dead entries in the index of queued jobs, which stay as long as any
 * transaction of the server could still see them; so a claim begins where the last one ended. Whatever makes a job due before that lowers the
 * line: changes of this process, and hints of others. In case one is missed, all lines are read again every few seconds.
 *
 * Claims pass over rows that others have locked, and these may stay queued: another claim that dies, a janitor that comes second, a transaction of
 * the application that is rolled back. So when a claim has found too little, a plain read looks from where the last one ended.
 */
import type { Job } from '../../core/types.ts';
import type { ClaimOptions } from '../../ports/store.ts';
import type { Value } from './session.ts';

export interface Line {
  readonly queue: string;
  readonly priority: number;
}

interface KnownLine extends Line {
  /** No claimable job is due before this instant, nor at it with this id or one before it. */
  dueAt: number;
  after: string;
  /** No job is due before this instant, not even one that is locked: a plain read has said so. */
  clearTo: number;
  /** How often it was lowered, and to what the last times: a claim that was under way does not raise it beyond. */
  lowered: number;
  readonly to: number[];
}

/** The first arguments of the functions that look for jobs: the tasks, and the lines with the instants at which they begin. */
export type LineValues = readonly [tasks: Value, queues: Value, priorities: Value, dues: Value];

/** The same for lines of which nothing is known. */
export function wholeLines({ tasks, queues, excludeQueues }: Served, lines: readonly Line[]): LineValues {
  const served = lines.filter(({ queue }) => (queues?.includes(queue) ?? true) && !excludeQueues?.includes(queue));
  return [tasks, served.map(({ queue }) => queue), served.map(({ priority }) => priority), served.map(() => beginning)];
}

/** A claim, or a look, that begins at these lines. */
export interface Start {
  /** The lines begin at their beginnings. */
  readonly isWhole: boolean;
  readonly values: LineValues;
  /** Of what is due at the instant at which a line begins, only jobs with ids after this one are left. */
  readonly after: Value;
  /** The same from where the last plain read ended. */
  readonly unread: LineValues;
  /**
   * Called after that read. @param isDue whether it found a job that is due: the next claim begins there
   * @param upTo otherwise: no job is due up to this instant
   */
  looked(isDue: boolean, upTo: number): void;
  /** Called with the jobs that were claimed. @param upTo nothing else is due up to this instant */
  claimed(jobs: readonly Pick<Job, 'queue' | 'priority' | 'dueAt' | 'id'>[], upTo?: number): void;
}

/** With more lines than this, every claim reads them. */
const mostLines = 200;
/** More than the number of combinations of tasks and queues in use at a time. */
const mostViews = 50;
/** How many changes while a claim is under way are remembered one by one. */
const mostLowered = 64;
const beginning = -8_640_000_000_000_000;
/** The instant before which no lease ends. */
export class FirstLease {
  #from = beginning;
  #readAt = Number.NaN;

  /** Where to begin at this instant. */
  from(now: number, everyMs: number): number {
    if (!(now - this.#readAt < everyMs && now >= this.#readAt)) {
      this.#from = beginning;
      this.#readAt = now;
    }
    return this.#from;
  }

  /** The first lease that was found, from there on. */
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

/** The lines of callers that serve the same tasks and queues: what one of them skips, another could claim. */
class View {
  readonly served: Served;
  readonly lines = new Map<string, KnownLine>();
  readAt = Number.NaN;
  /** The latest instant at which a caller looked. For one whose clock is behind, what had expired then has not. */
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
   * @param everyMs how often they are read in any case
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
      looked: (isDue, upTo) => {
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

  /** A job of this line is queued, and due at this instant. */
  lower(line: Line, dueAt: number): void {
    for (const view of this.#views.values()) {
      const known = view.lines.get(keyOf(line));
      if (known) {
        if (dueAt <= known.dueAt) Object.assign(known, { dueAt, after: '' });
        known.clearTo = Math.min(known.clearTo, dueAt);
        known.to[known.lowered % mostLowered] = dueAt;
        known.lowered += 1;
      } else if (view.serves(line.queue)) view.lines.set(keyOf(line), fresh(line));
    }
  }

  /** Anything may have changed. */
  forget(): void {
    for (const view of this.#views.values()) view.readAt = Number.NaN;
  }

  #last: View | undefined;

  #view(served: Served): View {
    const last = this.#last?.served;
    // Callers pass the same arrays again and again.
    if (last && last.tasks === served.tasks && last.queues === served.queues && last.excludeQueues === served.excludeQueues)
      return this.#last as View;
    const key = JSON.stringify([served.tasks, served.queues ?? null, served.excludeQueues ?? []]);
    let view = this.#views.get(key);
    if (!view) {
      if (this.#views.size >= mostViews) this.#views.clear();
      const { tasks, queues, excludeQueues } = served;
      view = new View({ tasks, queues, excludeQueues });
      this.#views.set(key, view);
    }
    this.#last = view;
    return view;
  }

  async #read(view: View, now: number, read: () => Promise<readonly Line[]>): Promise<void> {
    // What is lowered while it reads is kept.
    view.lines.clear();
    for (const line of await read()) {
      if (view.serves(line.queue) && !view.lines.has(keyOf(line))) view.lines.set(keyOf(line), fresh(line));
    }
    view.readAt = view.lines.size > mostLines ? Number.NaN : now;
  }
}

function fresh({ queue, priority }: Line): KnownLine {
  return { queue, priority, dueAt: beginning, after: '', clearTo: beginning, lowered: 0, to: [] };
}

/** Up to where a line has been claimed. */
type Place = Pick<KnownLine, 'dueAt' | 'after'>;

/** Ids of other characters have another order here than on the server. */
const placeOf = ({ dueAt, id }: Pick<Job, 'dueAt' | 'id'>): Place => ({ dueAt, after: /^[\x20-\x7e]*$/.test(id) ? id : '' });

function later(a: Place, b: Place | undefined): Place {
  return b && (b.dueAt > a.dueAt || (b.dueAt === a.dueAt && b.after > a.after)) ? b : a;
}

/** Up to where a line can be raised that has been lowered meanwhile; undefined: nowhere. @param before how often it had been lowered before */
function lowest(line: KnownLine, upTo: Place, before: number): Place | undefined {
  const count = line.lowered - before;
  if (count > mostLowered) return undefined;
  let to = upTo;
  for (let i = 0; i < count; i++) {
    const dueAt = line.to[(before + i) % mostLowered] as number;
    if (dueAt <= to.dueAt) to = { dueAt, after: '' };
  }
  return to;
}

/** @param before how often it had been lowered when the claim began */
function raise(line: KnownLine, upTo: Place, before: number): void {
  const { dueAt, after } = later(line, lowest(line, upTo, before));
  line.dueAt = dueAt;
  line.after = after;
}
