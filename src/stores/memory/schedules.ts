/**
 * The memory store's schedules, ordered by next fire time. Each entry keeps its unfinished jobs and the occurrences that already have a
 * job.
 */
import { Heap } from '../../core/heap.ts';
import type { Job, ScheduleRow } from '../../core/types.ts';
import type { DueSchedule, Store } from '../../ports/store.ts';

interface Entry {
  row: ScheduleRow;
  place: number;
}

const maxOpen = 1_000;

export class MemorySchedules {
  readonly #entries = new Map<string, Entry>();
  /** Schedules that will fire: not paused and not ended. */
  readonly #coming = new Heap<'place', Entry>('place', (a, b) => {
    const [at, bt] = [a.row.nextAt as number, b.row.nextAt as number];
    return at === bt ? a.row.name < b.row.name : at < bt;
  });
  readonly #holding = new Set<Entry>();
  readonly #open = new Map<string, Set<string>>();
  readonly #taken = new Map<string, Instants>();
  readonly #job: (id: string) => Job;

  /** @param job looks up the row of a job by id */
  constructor(job: (id: string) => Job) {
    this.#job = job;
  }

  get(name: string): ScheduleRow | undefined {
    return this.#entries.get(name)?.row;
  }

  put(row: ScheduleRow): void {
    let entry = this.#entries.get(row.name);
    if (entry) this.#coming.remove(entry);
    else {
      entry = { row, place: -1 };
      this.#entries.set(row.name, entry);
    }
    entry.row = row;
    if (!row.paused && row.nextAt !== null) this.#coming.push(entry);
    if (!row.paused && row.heldAt !== null) this.#holding.add(entry);
    else this.#holding.delete(entry);
  }

  drop(name: string): boolean {
    const entry = this.#entries.get(name);
    if (!entry) return false;
    this.#coming.remove(entry);
    this.#holding.delete(entry);
    return this.#entries.delete(name);
  }

  list(options: { names?: readonly string[] | undefined; source?: string | undefined } = {}): ScheduleRow[] {
    const rows = options.names ? options.names.flatMap((name) => this.get(name) ?? []) : [...this.#entries.values()].map(({ row }) => row);
    return [...new Set(rows)]
      .filter(({ source }) => options.source === undefined || source === options.source)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  due({ now, limit, computes }: Parameters<Store['dueSchedules']>[0]): { due: DueSchedule[]; nextAt: number | null; holding: boolean } {
    const isOwn = ({ row }: Entry) => !row.computed || computes.includes(row.name);
    const due: Entry[] = this.#holding.size === 0 ? [] : this.#released(now, isOwn).slice(0, limit);
    // Removed and added back, because a heap is ordered only at its top.
    const out: Entry[] = [];
    let first = this.#coming.peek();
    for (; first && ((first.row.nextAt as number) > now ? !isOwn(first) : due.length < limit); first = this.#coming.peek()) {
      this.#coming.remove(first);
      out.push(first);
      if (isOwn(first)) due.push(first);
    }
    const nextAt = first && due.length < limit && (first.row.nextAt as number) > now ? first.row.nextAt : null;
    for (const entry of out) this.#coming.push(entry);
    const holding = this.#holding.size > 0;
    return { due: due.map(({ row }) => ({ row, open: row.overlap === 'allow' ? [] : this.#openOf(row.name) })), nextAt, holding };
  }

  /** Tracks whether a job of a schedule is unfinished. */
  opened(job: Job): void {
    const name = job.schedule as string;
    const open = this.#open.get(name);
    if (open) open.add(job.id);
    else this.#open.set(name, new Set([job.id]));
  }
  closed(job: Job): void {
    this.#open.get(job.schedule as string)?.delete(job.id);
  }

  isTaken({ schedule, scheduledAt }: Job): boolean {
    return schedule !== null && scheduledAt !== null && (this.#taken.get(schedule)?.has(scheduledAt) ?? false);
  }

  /** Takes the job's occurrence. Returns false if it already has a job. */
  take({ schedule, scheduledAt }: Job): boolean {
    if (schedule === null || scheduledAt === null) return true;
    let taken = this.#taken.get(schedule);
    if (!taken) {
      taken = new Instants();
      this.#taken.set(schedule, taken);
    }
    return taken.add(scheduledAt);
  }

  free({ schedule, scheduledAt }: Job): void {
    if (schedule === null || scheduledAt === null) return;
    const taken = this.#taken.get(schedule);
    taken?.delete(scheduledAt);
    if (taken?.size === 0) this.#taken.delete(schedule);
  }

  /** Schedules that hold an occurrence, have no unfinished job, and are not otherwise due. */
  #released(now: number, isOwn: (entry: Entry) => boolean): Entry[] {
    const free = [...this.#holding].filter((entry) => isOwn(entry) && (this.#open.get(entry.row.name)?.size ?? 0) === 0);
    return free.filter(({ row }) => (row.nextAt ?? now + 1) > now).sort((a, b) => (a.row.name < b.row.name ? -1 : 1));
  }

  #openOf(name: string): Job[] {
    const jobs = [...(this.#open.get(name) ?? [])].sort().slice(0, maxOpen);
    return jobs.map(this.#job);
  }
}

/** A set of instants that are mostly added and removed in order: an array and the index of its first element. */
class Instants {
  #times: number[] = [];
  #from = 0;

  get size(): number {
    return this.#times.length - this.#from;
  }

  has(at: number): boolean {
    return this.#times[this.#place(at)] === at;
  }

  /** Returns false if it is already in the set. */
  add(at: number): boolean {
    const times = this.#times;
    const place = this.#place(at);
    if (times[place] === at) return false;
    if (place === times.length) times.push(at);
    else times.splice(place, 0, at);
    return true;
  }

  delete(at: number): void {
    const place = this.#place(at);
    if (this.#times[place] !== at) return;
    if (place > this.#from) this.#times.splice(place, 1);
    else if (++this.#from > 1_000 && this.#from > this.#times.length / 2) {
      this.#times = this.#times.slice(this.#from);
      this.#from = 0;
    }
  }

  /** The index of an instant, or where it would be inserted. */
  #place(at: number): number {
    const times = this.#times;
    let high = times.length;
    if (high === this.#from || (times[high - 1] as number) < at) return high;
    let low = this.#from;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((times[middle] as number) < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
