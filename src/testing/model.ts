/**
 * The invariant checker's model of the jobs in a store: the expected row after each answer of the store. It deliberately does not use `core/job`,
 * which all stores share, so that it also detects bugs there.
 */
import type { Amendment, Attempt, Job, Settlement } from '../core/types.ts';
import type { Held } from '../ports/store.ts';

const keptAttempts = 200;

export class Model {
  readonly #jobs = new Map<string, Job>();
  readonly #attempts = new Map<string, Attempt[]>();
  /** Unfinished jobs. */
  readonly #open = new Set<string>();

  get(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  get jobs(): Iterable<Job> {
    return this.#jobs.values();
  }

  get open(): readonly Job[] {
    return [...this.#open].map((id) => this.#jobs.get(id) as Job);
  }

  attemptsOf(id: string): readonly Attempt[] {
    return this.#attempts.get(id) ?? [];
  }

  inserted(job: Job): void {
    this.#attempts.set(job.id, []);
    this.#set(job);
  }

  replaced(job: Job): void {
    this.#set(job);
  }

  claimed(job: Job, worker: string, now: number, leaseUntil: number): Job {
    const after: Job = {
      ...job,
      status: 'running',
      worker,
      leaseUntil,
      claim: job.claim + 1,
      attempt: job.attempt + 1,
      lastAttemptedAt: now,
      startedAt: job.startedAt === null ? now : job.startedAt,
      awaits: null,
    };
    const { attempt, claim } = after;
    const attempts = this.#attempts.get(job.id);
    attempts?.push({ attempt, claim, worker, startedAt: now, endedAt: null, outcome: null, error: null });
    if (attempts && attempts.length > keptAttempts) attempts.shift();
    this.#set(after);
    return after;
  }

  renewed(job: Job, leaseUntil: number, { progress, metadata }: Pick<Held, 'progress' | 'metadata'>): void {
    this.#set({ ...job, leaseUntil, ...(progress ? { progress } : {}), ...(metadata ? { metadata } : {}) });
  }

  /** If cancellation was requested while it ran, the job is cancelled instead of being queued again. */
  settled(
    job: Job,
    { status, outcome, error, settledAt, attempt, losses, dueAt, returnValue, reason, progress, metadata, awaits, undoes }: Settlement,
  ): Job {
    const free: Job = { ...job, worker: null, leaseUntil: null, cancelRequested: null, attempt, losses, dueAt, returnValue, reason };
    const noted = {
      progress: progress === null ? job.progress : progress,
      metadata: metadata === undefined ? job.metadata : metadata,
    };
    const wanted = status === 'queued' ? job.cancelRequested : null;
    // Its next attempt undoes its steps and then cancels it.
    if (wanted !== null && undoes)
      return this.#ended({ ...free, ...noted, status, dueAt: settledAt, cancelRequested: wanted, awaits: null }, settledAt, outcome, error);
    const over = status !== 'queued' || wanted !== null;
    const after: Job = {
      ...free,
      ...noted,
      status: wanted === null ? status : 'cancelled',
      reason: wanted === null ? reason : wanted,
      finishedAt: over ? settledAt : null,
      awaits: over || awaits === undefined ? null : awaits,
    };
    return this.#ended(after, settledAt, outcome, error);
  }

  #ended(after: Job, endedAt: number, outcome: Settlement['outcome'], error: Settlement['error']): Job {
    const attempts = this.#attempts.get(after.id) ?? [];
    const last = attempts.pop();
    if (last) attempts.push({ ...last, endedAt, outcome, error });
    this.#set(after);
    return after;
  }

  /** Undefined if the row is not as expected. */
  amended(job: Job, { expect, set }: Amendment): Job | undefined {
    if (job.claim !== expect.claim || job.status !== expect.status) return undefined;
    if (set === null) {
      this.#jobs.delete(job.id);
      this.#open.delete(job.id);
      return job;
    }
    const after = { ...job, ...set };
    this.#set(after);
    return after;
  }

  #set(job: Job): void {
    this.#jobs.set(job.id, job);
    if (isOver(job)) this.#open.delete(job.id);
    else this.#open.add(job.id);
  }
}

export function isOver(job: Job | null | undefined): boolean {
  return job?.status === 'successful' || job?.status === 'failed' || job?.status === 'cancelled';
}

/** The job did not start before its expiry. */
export function isTooLate({ expiresAt, startedAt }: Job, now: number): boolean {
  return startedAt === null && expiresAt !== null && now >= expiresAt;
}

/** Law 4: by priority, then by due time, then by id. */
export function inOrder(a: Job, b: Job): number {
  return b.priority - a.priority || a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1);
}
