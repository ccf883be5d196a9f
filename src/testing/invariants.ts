/**
 * A watchman beneath every worker of an exploration: he sees each call that reaches the store, in the order in which it takes effect, keeps
 * his own account of every job by the pure functions of the core, and says what must not be. What he finds is a fault of the engine, of the
 * store, or of whoever decides; never of a fault that was drawn, for those happen above him.
 */
import { backoffMs } from '../core/backoff.ts';
import type { Definition } from '../core/definition.ts';
import { amended, claimed, isExpired, isFenced, isFinished, settled, visibleStatus } from '../core/job.ts';
import { fire } from '../core/schedule.ts';
import type { Amendment, Job, ScheduleRow, Settlement } from '../core/types.ts';
import type { Advance, ClaimOptions, DueSchedule, Held, RenewAnswer, SettleAnswer, Store } from '../ports/store.ts';

type At = { readonly now: number };

/** What the watchman asks of the simulation. */
export interface Surroundings {
  /** The definition of a task, in the version of the application that was deployed last. */
  definition(name: string): Definition | undefined;
  /** When something last went wrong with this worker's process, its start included. */
  troubledAt(worker: string): number;
  label(id: string): string;
  /** Told of the first thing that must not be. */
  found(problem: string): void;
}

/** A worker without trouble for so long has renewed its leases. */
const troubleLastsMs = 75_000;
const onItsWayMs = 60_000;
/** What a worker asks that has nothing to do: far less than this. */
const mostCallsASecond = 5;

export class Watchman {
  /** What must not be, each once. */
  readonly problems: string[] = [];
  /** How often a store was called. */
  calls = 0;
  readonly #around: Surroundings;
  readonly #jobs = new Map<string, Job>();
  readonly #settled = new Map<string, Settlement>();
  readonly #schedules = new Map<string, ScheduleRow>();
  readonly #occurrences = new Set<string>();
  readonly #paused = new Set<string>();
  readonly #lost = new Set<string>();
  /** Jobs that were given to a store which has not answered: they may be seen before it does. */
  readonly #coming = new Map<string, Job>();
  readonly #seenEarly = new Set<string>();
  /** Claims whose worker has been told that their job is to be cancelled. */
  readonly #told = new Set<string>();

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** The store with the watchman beside it. */
  watch(store: Store): Store {
    const calls: Partial<Record<keyof Store, (answer: never, ...given: never[]) => void>> = {
      insert: (_: unknown, jobs: readonly Job[]) => this.#insert(jobs),
      claim: (jobs: readonly Job[], options: ClaimOptions & At) => this.#claim(jobs, options),
      renew: (answers: readonly RenewAnswer[], held: readonly Held[], options: { leaseUntil: number }) =>
        this.#renew(answers, held, options.leaseUntil),
      settle: (
        answer: { answers: readonly SettleAnswer[]; claimed: readonly Job[] },
        settlements: readonly Settlement[],
        options: At & { claim?: ClaimOptions },
      ) => {
        settlements.forEach((settlement, i) => void this.#settle(settlement, answer.answers[i]));
        if (options.claim) this.#claim(answer.claimed, { ...options.claim, now: options.now });
      },
      overdue: (jobs: readonly Job[], options: At) => this.#overdue(jobs, options.now),
      amend: (rows: readonly (Job | null)[], amendments: readonly Amendment[]) => this.#amend(rows, amendments),
      saveQueue: (_: unknown, queue: { name: string; paused: boolean }) =>
        void (queue.paused ? this.#paused.add(queue.name) : this.#paused.delete(queue.name)),
      saveSchedule: (saved: boolean, row: ScheduleRow) => void (saved && this.#schedules.set(row.name, row)),
      dropSchedule: (_: unknown, name: string) => void this.#schedules.delete(name),
      dueSchedules: (answer: { due: readonly DueSchedule[] }, options: At) => this.#due(answer.due, options.now),
      advanceSchedules: (made: readonly (readonly Job[] | null)[], advances: readonly Advance[], options: At) =>
        this.#advance(made, advances, options.now),
    };
    return new Proxy(store, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        const see = calls[key as keyof Store] as ((answer: unknown, ...given: unknown[]) => void) | undefined;
        if (!see) return value.bind(target);
        return (...given: unknown[]) => {
          this.calls += 1;
          if (key === 'insert') for (const job of given[0] as readonly Job[]) this.#coming.set(job.id, job);
          const answer = value.apply(target, given) as unknown;
          const seen = (settledAnswer: unknown) => {
            see(settledAnswer, ...given);
            return settledAnswer;
          };
          return answer instanceof Promise ? answer.then(seen) : seen(answer);
        };
      },
    });
  }

  /**
   * When all is over: what the stores have must be what they were told, and nothing may be left.
   * @param startsOf how many attempts of a job have begun
   */
  async final(stores: Iterable<Store>, now: number, startsOf: (id: string) => number): Promise<void> {
    // Something is wrong already; what follows from it says nothing.
    if (this.problems.length > 0) return;
    const rows = new Map<string, Job>();
    for (const store of stores) for (const job of await this.#rows(store, now)) rows.set(job.id, job);
    for (const [id, job] of this.#jobs) {
      const starts = startsOf(id);
      if (starts > job.claim) this.#say(job, `I6: it was started ${starts} times, and claimed ${job.claim} times`);
      if (job.status === 'successful' && starts === 0) this.#say(job, 'I6: it was successful, and never started');
      const row = rows.get(id);
      if (!row) this.#say(job, 'I1: it was acknowledged, and is not there');
      else if (summary(row) !== summary(job))
        this.#say(job, `E1: the store has it as ${summary(row)}, by its own answers it is ${summary(job)}`);
      // What a schedule makes anew all the time, and what that enqueues, may be on its way.
      const onItsWay =
        this.#occurrences.size > 0 && (job.status === 'running' ? (job.leaseUntil ?? 0) > now : job.dueAt > now - onItsWayMs);
      if (
        !isFinished(job) &&
        !onItsWay &&
        !this.#paused.has(job.queue) &&
        this.#around.definition(job.task) &&
        (job.dueAt <= now || job.startedAt !== null)
      )
        this.#say(job, `L1: it never came to its end, and is ${visibleStatus(job, now)}`);
    }
    for (const id of rows.keys()) if (!this.#jobs.has(id)) this.#problem(`I1: job ${id} is in the store, and nobody has enqueued it`);
  }

  /** What a store has; its counts must be those. */
  async #rows(store: Store, now: number): Promise<readonly Job[]> {
    const rows: Job[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.list({}, { now, limit: 500, cursor });
      rows.push(...page.items.map(({ job }) => job));
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    const counts = new Map<string, number>();
    for (const job of rows) {
      const key = `${job.queue} ${visibleStatus(job, now)}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    for (const queue of await store.stats({ now })) {
      for (const [status, count] of Object.entries(queue.counts))
        if (count !== (counts.get(`${queue.name} ${status}`) ?? 0))
          this.#problem(`law 9: stats of ${queue.name} count ${count} ${status}, the list ${counts.get(`${queue.name} ${status}`) ?? 0}`);
    }
    return rows;
  }

  /** Nothing was due for a while: whoever asks all the time waits for nothing. */
  calm(calls: number, workers: number, ms: number): void {
    const most = Math.ceil((ms / 1_000) * workers * mostCallsASecond);
    if (calls > most) this.#problem(`L4: nothing was due for ${ms / 1_000} s, and the store was asked ${calls} times, more than ${most}`);
  }

  /** A job that was told of as enqueued, and that the store does not have. */
  lost(id: string): void {
    if (!this.#lost.has(id)) this.#problem(`${this.#around.label(id)}: I1: it was acknowledged, and is not there`);
    this.#lost.add(id);
  }

  #insert(jobs: readonly Job[]): void {
    for (const job of jobs) {
      if (this.#seenEarly.delete(job.id)) continue;
      this.#coming.delete(job.id);
      if (this.#jobs.has(job.id)) this.#say(job, 'I1: it was inserted twice');
      this.#jobs.set(job.id, job);
      this.#occurrence(job);
    }
  }

  #claim(jobs: readonly Job[], { now, worker, leaseUntil }: ClaimOptions & At): void {
    for (const job of jobs) {
      const coming = this.#coming.get(job.id);
      if (coming) {
        this.#insert([coming]);
        this.#seenEarly.add(job.id);
      }
      const before = this.#jobs.get(job.id);
      if (!before) {
        this.#say(job, 'I1: it was claimed, and nobody has enqueued it');
        continue;
      }
      if (before.status !== 'queued') this.#say(job, `I3: claimed by ${worker} while it was ${before.status}`);
      if (before.dueAt > now) this.#say(job, 'I7: claimed before it was due');
      if (isExpired(before, now)) this.#say(job, 'I7: claimed though it had expired');
      if (this.#paused.has(job.queue)) this.#say(job, 'I7: claimed in a paused queue');
      if (job.claim !== before.claim + 1) this.#say(job, `I3: its claim went from ${before.claim} to ${job.claim}`);
      if (job.attempt !== before.attempt + 1) this.#say(job, `I5: its attempt went from ${before.attempt} to ${job.attempt}`);
      if (job.attempt > job.maxAttempts) this.#say(job, `I5: attempt ${job.attempt} of at most ${job.maxAttempts}`);
      this.#jobs.set(job.id, claimed(before, worker, now, leaseUntil));
    }
  }

  #renew(answers: readonly RenewAnswer[], held: readonly Held[], leaseUntil: number): void {
    held.forEach((lease, i) => {
      const job = this.#jobs.get(lease.id);
      const answer = answers[i];
      const holds = job?.status === 'running' && job.claim === lease.claim;
      if (!job || !answer) return;
      if (!holds) {
        if (answer.kind !== 'lost') this.#say(job, `I4: claim ${lease.claim} was renewed, and holds it no longer`);
        return;
      }
      const wanted = job.cancelRequested === null ? 'held' : 'cancelled';
      if (answer.kind !== wanted) this.#say(job, `I14: a renewal was answered with ${answer.kind}, not ${wanted}`);
      if (answer.kind === 'cancelled') this.#told.add(`${lease.id} ${lease.claim}`);
      if (answer.kind !== 'lost') this.#jobs.set(job.id, { ...job, leaseUntil, progress: lease.progress ?? job.progress });
    });
  }

  #settle(settlement: Settlement, answer: SettleAnswer | undefined): void {
    const job = this.#jobs.get(settlement.id);
    if (!job) return;
    const key = `${settlement.id} ${settlement.claim}`;
    const holds = job.status === 'running' && !isFenced(job, settlement);
    const before = this.#settled.get(key);
    const again = before?.settledAt === settlement.settledAt && before.outcome === settlement.outcome;
    if (!holds) {
      if (answer === 'stale' || again) return;
      if (job.status === 'running' && job.claim === settlement.claim)
        this.#say(job, `I3: taken for an orphan ${(job.leaseUntil ?? 0) - settlement.settledAt} ms before its lease has passed`);
      else this.#say(job, `I4: an outcome of claim ${settlement.claim} was taken, which holds it no longer`);
      return;
    }
    if (settlement.confirm) return;
    if (answer === 'stale') {
      this.#say(job, `I4: the outcome of claim ${settlement.claim} was refused, which holds it`);
      return;
    }
    this.#decided(job, settlement);
    const after = settled(job, settlement);
    if ((answer === 'cancelled') !== (after.status === 'cancelled' && settlement.status === 'queued'))
      this.#say(job, `I14: its end was answered with ${answer}`);
    this.#settled.set(key, settlement);
    this.#jobs.set(job.id, after);
  }

  /** What a settlement may do to a job, by what the task's definition says. */
  #decided(job: Job, { outcome, status, attempt, dueAt, settledAt, losses, reason }: Settlement): void {
    const given = outcome === 'snoozed' || outcome === 'released' ? 1 : 0;
    if (attempt !== job.attempt - given) this.#say(job, `I5: ${outcome}, its attempt went from ${job.attempt} to ${attempt}`);
    if (outcome === 'lost') {
      if (losses !== job.losses + 1) this.#say(job, `I5: a lease was lost, and its losses went from ${job.losses} to ${losses}`);
      const worker = job.worker ?? '';
      // It may be found late, by others who had trouble of their own.
      const since = (job.leaseUntil ?? 0) - this.#around.troubledAt(worker);
      if (since > troubleLastsMs)
        this.#say(job, `L2: ${worker} lost its lease, though nothing has gone wrong with it for ${Math.round(since / 1_000)} s`);
    }
    if (outcome === 'failed' && status === 'failed' && reason !== 'permanent' && attempt < job.maxAttempts)
      this.#say(job, `I5: failed for good at attempt ${attempt} of ${job.maxAttempts}`);
    if (outcome !== 'failed' || status !== 'queued') return;
    const backoff = job.overrides?.backoff ?? this.#around.definition(job.task)?.backoff;
    if (!backoff || backoff.kind === 'own') return;
    const [least, most] = [backoffMs(backoff, job.attempt, 0, undefined), backoffMs(backoff, job.attempt, 1, undefined)];
    const delay = dueAt - settledAt;
    if (delay < least || delay > most) this.#say(job, `I11: attempt ${job.attempt} is retried after ${delay} ms, not ${least} to ${most}`);
  }

  #overdue(jobs: readonly Job[], now: number): void {
    for (const { id } of jobs) {
      const job = this.#jobs.get(id);
      if (!job) continue;
      const orphan = job.status === 'running' && (job.leaseUntil ?? 0) <= now;
      if (!orphan && !(job.status === 'queued' && isExpired(job, now))) this.#say(job, `law 7: found overdue, and is ${job.status}`);
    }
  }

  #amend(rows: readonly (Job | null)[], amendments: readonly Amendment[]): void {
    amendments.forEach((amendment, i) => {
      const job = this.#jobs.get(amendment.id);
      const after = job && amended(job, amendment);
      if (!job) return;
      if ((after === undefined) !== (rows[i] === null)) this.#say(job, `I2: an amendment was ${rows[i] === null ? 'refused' : 'taken'}`);
      if (after && rows[i]) this.#jobs.set(job.id, after);
    });
  }

  #due(due: readonly DueSchedule[], now: number): void {
    for (const { row } of due) {
      if (row.paused) this.#problem(`I10: schedule ${row.name} is due though it is paused`);
      if ((row.nextAt ?? Number.POSITIVE_INFINITY) > now && row.heldAt === null)
        this.#problem(`I10: schedule ${row.name} is due before its time`);
    }
  }

  #advance(made: readonly (readonly Job[] | null)[], advances: readonly Advance[], now: number): void {
    advances.forEach(({ name, revision, times }, i) => {
      const row = this.#schedules.get(name);
      const jobs = made[i];
      if (!row || !jobs) return;
      if (row.revision !== revision)
        this.#problem(`I10: schedule ${name} was advanced from revision ${revision}, and is at ${row.revision}`);
      else if (row.nextAt !== times.nextAt && row.heldAt === null && row.overlap === 'allow') {
        const expected = fire(row, now, 0).times;
        if (expected.nextAt !== times.nextAt || expected.lastAt !== times.lastAt)
          this.#problem(`I10: schedule ${name} goes on to ${times.nextAt}, not to ${expected.nextAt}`);
      }
      this.#schedules.set(name, { ...row, ...times, revision: row.revision + 1 });
      this.#insert(jobs);
    });
  }

  #occurrence({ schedule, scheduledAt, id }: Job): void {
    if (schedule === null || scheduledAt === null) return;
    const key = `${schedule} ${scheduledAt}`;
    if (this.#occurrences.has(key))
      this.#problem(`I10: schedule ${schedule} has made two jobs for ${new Date(scheduledAt).toISOString()}: ${this.#around.label(id)}`);
    this.#occurrences.add(key);
  }

  #say(job: Job, what: string): void {
    this.#problem(`${this.#around.label(job.id)}: ${what}`);
  }

  #problem(text: string): void {
    if (this.problems.length < 20) this.problems.push(text);
    if (this.problems.length === 1) this.#around.found(text);
  }
}

function summary({ status, attempt, claim, dueAt, reason, returnValue, finishedAt, losses }: Job): string {
  return `${status}, attempt ${attempt}, claim ${claim}, due ${dueAt}, losses ${losses}, ${finishedAt}, ${reason}, ${returnValue}`;
}
