/**
 * Limits: how many jobs of a queue, a task or a key may run at a time, and how many may start per period. Pure. A store counts running jobs
 * in its rows, whichever worker claimed them, so a crash cannot leak a permit.
 *
 * A queue, or a task whose limits have no key, is closed as a whole while it is full or its rate is used up: its jobs stay in place, and
 * workers sleep until it opens. If a limit has a key, a job that cannot start yet is moved out of the way: it is blocked until a job with
 * its key ends, or deferred until the rate of its key allows it. A thousand jobs of a full key therefore delay no other job.
 */
import type { Definition } from './definition.ts';
import { latestInstant } from './duration.ts';
import type { Job } from './types.ts';

/**
 * At most `limit` starts per `perMs`, evenly spaced. After a quiet period, up to `burst` may start at once (the generic cell rate
 * algorithm).
 */
export interface Rate {
  readonly limit: number;
  readonly perMs: number;
  readonly burst: number;
}

/** The limits of a queue or a task. */
export interface Limit {
  /** The maximum number of running jobs, across all workers. */
  readonly concurrency?: number;
  readonly rate?: Rate;
  /** True if the jobs of each key are counted separately. */
  readonly concurrencyByKey?: boolean;
  readonly rateByKey?: boolean;
  /** The weight of each key, if the keys of a task share the slots of its workers. */
  readonly shareOf?: (key: string) => number;
  /** A job of the queue that has been due for this long comes before all jobs that have not, regardless of priority. */
  readonly agingMs?: number;
}

/** What a gate needs to know about waiting jobs if keys share. */
export interface Waiting {
  /** The maximum number of jobs that the caller starts. */
  readonly slots: number;
  /** The keys of a task with due jobs that the caller may claim, blocked or not. */
  keys(task: string): Iterable<string>;
}
const nothingWaits: Waiting = { slots: 1, keys: () => [] };

/** The tasks whose keys share. */
export function sharedTasks({ tasks }: Limits): readonly string[] {
  return Object.keys(tasks).filter((task) => tasks[task]?.shareOf);
}

/** The queues that have aging, each with how long a job must have been due to come first. */
export function agingOf({ queues }: Limits): readonly (readonly [queue: string, agingMs: number])[] {
  return Object.entries(queues).flatMap(([queue, { agingMs }]) => (agingMs === undefined ? [] : [[queue, agingMs] as const]));
}

/** The limits of an application: those of its queues and of its tasks, by name. */
export interface Limits {
  readonly queues: Readonly<Record<string, Limit>>;
  readonly tasks: Readonly<Record<string, Limit>>;
}

/** No limits: jobs blocked by others may run. */
export const noLimits: Limits = { queues: {}, tasks: {} };

/** The limits of these queues and tasks; null if there are none. */
export function limitsOf(queues: Limits['queues'], definitions: Iterable<Definition>): Limits | null {
  const tasks: Record<string, Limit> = Object.create(null);
  for (const { name, concurrency, rate } of definitions) {
    if (!concurrency && !rate) continue;
    tasks[name] = {
      ...(concurrency?.limit == null ? {} : { concurrency: concurrency.limit }),
      ...(concurrency ? { concurrencyByKey: concurrency.key !== null } : {}),
      ...(concurrency?.shareOf ? { shareOf: concurrency.shareOf } : {}),
      ...(rate ? { rate: { limit: rate.limit, perMs: rate.perMs, burst: rate.burst }, rateByKey: rate.key !== null } : {}),
    };
  }
  const limited = Object.entries(queues).filter(
    ([, limit]) => limit.concurrency !== undefined || limit.rate !== undefined || limit.agingMs !== undefined,
  );
  if (limited.length === 0 && Object.keys(tasks).length === 0) return null;
  return { queues: Object.assign(Object.create(null), Object.fromEntries(limited)), tasks };
}

/** What a job is counted under: its queue, its task, and its keys. */
export type Counted = Pick<Job, 'queue' | 'task' | 'concurrencyKey' | 'rateKey'>;

/** The number of running jobs of a queue, a task and a key. */
export interface RunningCount extends Pick<Job, 'queue' | 'task' | 'concurrencyKey'> {
  readonly count: number;
}

/** A name for a task and key, under which blocked jobs are found. Task names contain no spaces. */
export function gateOf({ task, concurrencyKey }: Pick<Job, 'task' | 'concurrencyKey'>): string {
  return `${task} ${concurrencyKey ?? ''}`;
}

/**
 * True for a job whose removal may free a place in its gate: due and not running.
 * @param isBlocked whether it is waiting for such a place itself
 */
export function takesPlace({ status, dueAt }: Pick<Job, 'status' | 'dueAt'>, isBlocked: boolean, now: number): boolean {
  return status === 'queued' && dueAt <= now && !isBlocked;
}

/** The task of a gate. */
export function taskOfGate(gate: string): string {
  return gate.slice(0, gate.indexOf(' '));
}

/** The decision for a due job: it starts; its queue or task is closed; it is blocked; or it is deferred until its rate allows it. */
export type Admission = 'start' | 'closed' | 'blocked' | { readonly dueAt: number };

const queueRate = (queue: string) => `queue ${queue}`;
const taskRate = (task: string, key: string | null = null) => (key === null ? `task ${task}` : `task ${task} ${key}`);

/** The names of the rates that apply to all jobs of a queue or a task, or, with jobs, of the rates that apply to their keys. */
export function rateNames({ queues, tasks }: Limits, jobs?: readonly Pick<Job, 'task' | 'rateKey'>[]): string[] {
  if (!jobs) {
    const rated = (limits: Limits['queues']) => Object.keys(limits).filter((name) => limits[name]?.rate);
    return [...rated(queues).map(queueRate), ...rated(tasks).map((task) => taskRate(task))];
  }
  const keyed = jobs.filter(({ task, rateKey }) => rateKey !== null && tasks[task]?.rateByKey);
  return [...new Set(keyed.map(({ task, rateKey }) => taskRate(task, rateKey)))];
}

/** The maximum number of jobs that one claim blocks or defers, which takes a store a few milliseconds. The next claim continues. */
export const maxPassedOver = 1_000;

/**
 * Admits due jobs one by one in claim order, based on the running jobs and earlier starts.
 *
 * Each rate has one stored instant: the theoretical arrival time of its next start if all starts were evenly spaced (GCRA, ITU-T I.371).
 * The burst allows a start before that time.
 */
export class Gate {
  readonly #limits: Limits;
  readonly #now: number;
  readonly #running = new Map<string, number>();
  /** The theoretical arrival times by rate name, as stored and as changed here. */
  readonly #arrivals = new Map<string, number>();
  readonly #read: (name: string) => number | undefined;
  readonly changed = new Map<string, number>();
  /** The same, but also counting the jobs refused here, so that each is due at a different instant. */
  readonly #promised = new Map<string, number>();

  readonly #waiting: Waiting;
  /** How many jobs of each gate may run if keys share. */
  readonly #shares = new Map<string, ReadonlyMap<string, number>>();

  /** @param read returns the stored arrival time of a rate */
  constructor(
    limits: Limits,
    running: Iterable<RunningCount>,
    now: number,
    read: (name: string) => number | undefined,
    waiting: Waiting = nothingWaits,
  ) {
    this.#limits = limits;
    this.#waiting = waiting;
    this.#now = now;
    this.#read = read;
    for (const { count, ...of } of running) this.#count(of, count);
  }

  /** When a queue's rate allows its next start; Infinity: when one of its jobs ends; null: it is open. */
  queueClosedUntil(queue: string): number | null {
    return this.#closedUntil(this.#limits.queues[queue], `q ${queue}`, queueRate(queue));
  }

  /** The same for a task; null also if its limits have a key. */
  taskClosedUntil(task: string): number | null {
    const limit = this.#limits.tasks[task];
    if (!limit) return null;
    const { concurrency, rate, concurrencyByKey, rateByKey } = limit;
    const whole = {
      ...(concurrency === undefined || concurrencyByKey ? {} : { concurrency }),
      ...(rate === undefined || rateByKey ? {} : { rate }),
    };
    return this.#closedUntil(whole, `t ${task}`, taskRate(task));
  }

  /** How many more jobs of a gate may run. */
  freeAt(gate: string): number {
    const limit = this.#limits.tasks[taskOfGate(gate)];
    if (!limit?.concurrencyByKey) return Number.POSITIVE_INFINITY;
    const slots = Math.min(
      limit.concurrency ?? Number.POSITIVE_INFINITY,
      limit.shareOf ? this.#shareOf(gate, limit.shareOf) : Number.POSITIVE_INFINITY,
    );
    return slots - (this.#running.get(`g ${gate}`) ?? 0);
  }

  /**
   * How many jobs of a key may run if keys share. Each key may match the waiting key that is served least relative to its weight, plus its
   * share of the free slots. An idle key leaves its slots to the others.
   */
  #shareOf(gate: string, weightOf: (key: string) => number): number {
    const task = taskOfGate(gate);
    let shares = this.#shares.get(task);
    if (!shares) {
      const keys = [...new Set(this.#waiting.keys(task))].map((key) => ({
        gate: gateOf({ task, concurrencyKey: key }),
        weight: weightOf(key),
      }));
      const least = Math.min(...keys.map((key) => (this.#running.get(`g ${key.gate}`) ?? 0) / key.weight));
      const all = keys.reduce((sum, { weight }) => sum + weight, 0);
      shares = new Map(
        keys.map((key) => [
          key.gate,
          Math.floor(least * key.weight + 1e-9) + Math.max(1, Math.ceil((this.#waiting.slots * key.weight) / all)),
        ]),
      );
      this.#shares.set(task, shares);
    }
    return shares.get(gate) ?? Number.POSITIVE_INFINITY;
  }

  admit(job: Counted): Admission {
    if (this.queueClosedUntil(job.queue) !== null || this.taskClosedUntil(job.task) !== null) return 'closed';
    if (this.freeAt(gateOf(job)) <= 0) return 'blocked';
    const ofQueue = this.#limits.queues[job.queue]?.rate;
    const { rate: ofTask, rateByKey } = this.#limits.tasks[job.task] ?? {};
    const name = taskRate(job.task, rateByKey ? job.rateKey : null);
    if (ofTask && rateByKey && this.#fitsAt(this.#arrivals, name, ofTask) > this.#now) return { dueAt: this.#promise(name, ofTask) };
    if (ofTask) this.#started(name, ofTask);
    if (ofQueue) this.#started(queueRate(job.queue), ofQueue);
    this.#count(job, 1);
    return 'start';
  }

  #count({ queue, task, concurrencyKey }: Pick<Job, 'queue' | 'task' | 'concurrencyKey'>, count: number): void {
    for (const name of [`q ${queue}`, `t ${task}`, `g ${gateOf({ task, concurrencyKey })}`])
      this.#running.set(name, (this.#running.get(name) ?? 0) + count);
  }

  #closedUntil(limit: Limit | undefined, counted: string, name: string): number | null {
    if (!limit) return null;
    if ((this.#running.get(counted) ?? 0) >= (limit.concurrency ?? Number.POSITIVE_INFINITY)) return Number.POSITIVE_INFINITY;
    if (!limit.rate) return null;
    const fitsAt = this.#fitsAt(this.#arrivals, name, limit.rate);
    return fitsAt > this.#now ? fitsAt : null;
  }

  #arrivalOf(name: string): number {
    let arrivalAt = this.#arrivals.get(name);
    if (arrivalAt === undefined) {
      arrivalAt = this.#read(name) ?? 0;
      this.#arrivals.set(name, arrivalAt);
    }
    return arrivalAt;
  }

  #fitsAt(arrivals: ReadonlyMap<string, number>, name: string, { limit, perMs, burst }: Rate): number {
    const arrivalAt = arrivals.get(name) ?? this.#arrivalOf(name);
    // If the clock was set back, a rate must not stay closed for longer than starts alone could close it.
    const step = perMs / limit;
    return Math.ceil(Math.min(arrivalAt, this.#now + burst * step + perMs) - (burst - 1) * step);
  }

  #started(name: string, { limit, perMs }: Rate): void {
    const arrivalAt = Math.max(this.#arrivalOf(name), this.#now) + perMs / limit;
    this.#arrivals.set(name, arrivalAt);
    this.changed.set(name, arrivalAt);
  }

  /** When a refused job may start, after the jobs refused before it. */
  #promise(name: string, rate: Rate): number {
    const step = rate.perMs / rate.limit;
    const arrivalAt = this.#promised.get(name) ?? this.#arrivalOf(name);
    this.#promised.set(name, arrivalAt + step);
    return Math.min(Math.max(Math.ceil(arrivalAt - (rate.burst - 1) * step), this.#now + 1), latestInstant);
  }
}
