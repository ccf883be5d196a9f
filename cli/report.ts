/**
 * The report of `escapement simulate`, as plain data: the `--json` document and the source of the printed report. Identical for the same
 * seed: it contains no real time and no local paths. Keys and their order are public API.
 */
import type { Tasks } from 'escapement';
import type { SimulatedAttempt, Simulation } from 'escapement/testing';
import type { Plan, Played } from './play.ts';
import { hourMs } from './time.ts';

/** All instants are ISO strings in UTC, all durations milliseconds. */
export interface Report {
  /** Incremented when a key is removed or changes its meaning. */
  readonly version: 1;
  readonly module: string;
  readonly from: string;
  readonly to: string;
  readonly durationMs: number;
  /** Null without a seed: every random choice is the first one. */
  readonly seed: number | null;
  readonly workers: number;
  /** The concurrency of each worker. */
  readonly concurrency: number;
  /** The number of killed workers; null without --crash. */
  readonly crashes: number | null;
  /** True if Ctrl-C ended it; `to` is then the instant it reached. */
  readonly interrupted: boolean;
  /** All tasks together. */
  readonly totals: Counts;
  /** In the order of their definition. */
  readonly tasks: readonly ({ readonly task: string } & Counts)[];
  /** In the order of their names. */
  readonly schedules: readonly ScheduleFacts[];
  /** Every hour of the period, in whole UTC hours. */
  readonly hours: readonly { readonly at: string; readonly attempts: number; readonly failed: number }[];
  /** Failed and lost attempts that were retried, by error; the most frequent first. */
  readonly retried: readonly Group[];
  /** Failed jobs, by their last error. */
  readonly failed: readonly Group[];
  /** Cancelled jobs, by their reason. */
  readonly cancelled: readonly Group[];
  /** All failed jobs, in the order of their enqueueing. */
  readonly failedJobs: readonly FailedJob[];
  /** The outbox, by task: what the simulated mail server accepted. */
  readonly mail: readonly MailFacts[];
  readonly expectation: { readonly outcome: 'holds' | 'fails' | 'none' | 'not asked'; readonly message: string | null };
}

export interface Counts {
  /** The number of jobs enqueued. */
  readonly jobs: number;
  /** The number of attempts started, including failed, snoozed and lost ones. */
  readonly attempts: number;
  readonly successful: number;
  /** The number of attempts after a failed or lost attempt of the same job. */
  readonly retried: number;
  readonly failed: number;
  readonly cancelled: number;
  /** The number of jobs unfinished at the end. */
  readonly unfinished: number;
  /** The delay from the due time of a job to its first attempt, for started jobs; nearest-rank percentiles. */
  readonly waitP50Ms: number | null;
  readonly waitP95Ms: number | null;
  /** The hour in which the most attempts started; the earliest one of several. */
  readonly busiestHour: { readonly at: string; readonly attempts: number } | null;
}

export interface ScheduleFacts {
  readonly schedule: string;
  readonly task: string;
  /** When it fires, as a sentence. */
  readonly words: string;
  readonly cron: string | null;
  readonly everyMs: number | null;
  /** Null for an interval. */
  readonly timezone: string | null;
  /** The number of occurrences that became jobs. */
  readonly fired: number;
  readonly firstAt: string | null;
  readonly lastAt: string | null;
  /** The next occurrence; null if none is left. */
  readonly nextAt: string | null;
}

export interface Group {
  readonly count: number;
  readonly task: string;
  /** An error as `Name: message`, its first line; a reason. */
  readonly what: string;
  readonly firstAt: string;
  readonly lastAt: string;
}

export interface MailFacts {
  readonly task: string;
  /** The number of accepted mails; a mail accepted twice counts twice. */
  readonly sent: number;
  /** The number of mails accepted again with the same Message-ID: the first response was lost, or two jobs sent the mail. */
  readonly repeated: number;
  /** The number of distinct addresses. */
  readonly recipients: number;
  readonly firstAt: string;
  readonly lastAt: string;
  /** The value of the last one. */
  readonly subject: string;
}

export interface FailedJob {
  /** As in the timeline: `mail.welcome#3` is the third job of its task. */
  readonly job: string;
  readonly id: string;
  readonly attempts: number;
  /** The error of the last failed attempt. */
  readonly error: string;
  readonly failedAt: string;
}

type Facts = Omit<Report, 'expectation'>;
type Job = ReturnType<Simulation['jobs']>[number];

/** Builds the report from a simulation at the end of its period. */
export async function factsOf(module: string, tasks: Tasks, sim: Simulation, plan: Plan, played: Played): Promise<Facts> {
  const jobs = sim.jobs();
  const attempts = sim.attempts();
  const followed = followedAttempts(attempts);
  const byTask = Map.groupBy(jobs, (job) => job.task);
  const attemptsByTask = Map.groupBy(attempts, (attempt) => attempt.task);
  const countsOf = (ofJobs: readonly Job[], ofAttempts: readonly SimulatedAttempt[]) => counts(ofJobs, ofAttempts, followed);
  const failedJobs = jobs.filter((job) => job.status === 'failed');
  const cancelledJobs = jobs.filter((job) => job.status === 'cancelled');
  const labels = labelsOf(jobs);
  const to = sim.now.getTime();
  return {
    version: 1,
    module,
    from: iso(plan.from),
    to: iso(to),
    durationMs: to - plan.from,
    seed: plan.seed ?? null,
    workers: plan.workers,
    concurrency: plan.concurrency,
    crashes: plan.crash ? played.crashes : null,
    interrupted: played.interrupted,
    totals: countsOf(jobs, attempts),
    tasks: tasks.names.map((task) => ({ task, ...countsOf(byTask.get(task) ?? [], attemptsByTask.get(task) ?? []) })),
    schedules: await schedulesOf(tasks, jobs),
    hours: hoursOf(attempts, plan.from, to),
    retried: groups([...followed].map((attempt) => ({ task: attempt.task, what: problem(attempt), at: attempt.endedAt ?? sim.now }))),
    failed: groups(failedJobs.map((job) => ({ task: job.task, what: lastError(job), at: job.finishedAt ?? sim.now }))),
    cancelled: groups(cancelledJobs.map((job) => ({ task: job.task, what: job.reason ?? 'cancelled', at: job.finishedAt ?? sim.now }))),
    failedJobs: failedJobs.map((job) => ({
      job: labels.get(job.id) ?? job.id,
      id: job.id,
      attempts: job.attempts,
      error: lastError(job),
      failedAt: iso(job.finishedAt ?? sim.now),
    })),
    mail: mailOf(sim),
  };
}

function mailOf({ outbox }: Simulation): MailFacts[] {
  return [...Map.groupBy(outbox, ({ task }) => task)].map(([task, mails]) => ({
    task,
    sent: mails.length,
    repeated: mails.length - new Set(mails.map(({ messageId }) => messageId)).size,
    recipients: new Set(mails.flatMap(({ recipients }) => recipients)).size,
    firstAt: iso(mails[0]?.at ?? 0),
    lastAt: iso(mails.at(-1)?.at ?? 0),
    subject: mails.at(-1)?.subject ?? '',
  }));
}

function counts(jobs: readonly Job[], attempts: readonly SimulatedAttempt[], followed: ReadonlySet<SimulatedAttempt>): Counts {
  const having = (status: string) => jobs.reduce((sum, job) => sum + (job.status === status ? 1 : 0), 0);
  const waits = waitsOf(jobs);
  const busiest = Map.groupBy(attempts, ({ startedAt }) => Math.floor(startedAt.getTime() / hourMs) * hourMs);
  let peak: Counts['busiestHour'] = null;
  // Attempts are in the order of their starts, so the earliest of equal hours comes first.
  for (const [at, inHour] of busiest) if (inHour.length > (peak?.attempts ?? 0)) peak = { at: iso(at), attempts: inHour.length };
  return {
    jobs: jobs.length,
    attempts: attempts.length,
    successful: having('successful'),
    retried: attempts.reduce((sum, attempt) => sum + (followed.has(attempt) ? 1 : 0), 0),
    failed: having('failed'),
    cancelled: having('cancelled'),
    unfinished: jobs.reduce((sum, job) => sum + (job.isFinished ? 0 : 1), 0),
    waitP50Ms: percentile(waits, 0.5),
    waitP95Ms: percentile(waits, 0.95),
    busiestHour: peak,
  };
}

/** Failed and lost attempts that were retried. */
function followedAttempts(attempts: readonly SimulatedAttempt[]): Set<SimulatedAttempt> {
  const followed = new Set<SimulatedAttempt>();
  const last = new Map<string, SimulatedAttempt>();
  for (const attempt of attempts) {
    const before = last.get(attempt.job);
    if (before && isFailure(before)) followed.add(before);
    last.set(attempt.job, attempt);
  }
  return followed;
}

function isFailure({ outcome }: SimulatedAttempt): boolean {
  return outcome === 'failed' || outcome === 'lost';
}

/** In ascending order. */
function waitsOf(jobs: readonly Job[]): number[] {
  const waits: number[] = [];
  for (const { startedAt, scheduledAt, runAfter, enqueuedAt } of jobs) {
    if (!startedAt) continue;
    const dueAt = scheduledAt?.getTime() ?? Math.max(runAfter?.getTime() ?? 0, enqueuedAt.getTime());
    waits.push(startedAt.getTime() - dueAt);
  }
  return waits.sort((a, b) => a - b);
}

function percentile(sorted: readonly number[], share: number): number | null {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? null;
}

async function schedulesOf(tasks: Tasks, jobs: readonly Job[]): Promise<ScheduleFacts[]> {
  const fired = Map.groupBy(jobs, (job) => job.schedule);
  const schedules: ScheduleFacts[] = [];
  for (const { name, task, words, cron, every, timezone, nextAt } of await tasks.schedules.list()) {
    const instants = (fired.get(name) ?? []).flatMap(({ scheduledAt }) => scheduledAt?.getTime() ?? []).sort((a, b) => a - b);
    schedules.push({
      schedule: name,
      task,
      words,
      cron,
      everyMs: every,
      timezone,
      fired: instants.length,
      firstAt: isoOrNull(instants[0]),
      lastAt: isoOrNull(instants.at(-1)),
      nextAt: isoOrNull(nextAt?.getTime()),
    });
  }
  return schedules;
}

function hoursOf(attempts: readonly SimulatedAttempt[], from: number, to: number): { at: string; attempts: number; failed: number }[] {
  const first = Math.floor(from / hourMs);
  const hours: { at: string; attempts: number; failed: number }[] = [];
  // The instant `to` belongs to the preceding hour, unless the period is empty.
  for (let hour = first; hour * hourMs < to || hour === first; hour++) hours.push({ at: iso(hour * hourMs), attempts: 0, failed: 0 });
  const hourOf = (at: Date) => hours[Math.min(hours.length - 1, Math.floor(at.getTime() / hourMs) - first)] as (typeof hours)[number];
  for (const attempt of attempts) {
    hourOf(attempt.startedAt).attempts += 1;
    if (isFailure(attempt) && attempt.endedAt) hourOf(attempt.endedAt).failed += 1;
  }
  return hours;
}

/** Sorts by frequency, then by task and text, so that the order is deterministic. */
function groups(items: readonly { readonly task: string; readonly what: string; readonly at: Date }[]): Group[] {
  const grouped = Map.groupBy(items, ({ task, what }) => `${task}\n${what}`);
  const all: Group[] = [];
  for (const [first, ...others] of grouped.values()) {
    if (!first) continue;
    const instants = [first, ...others].map(({ at }) => at.getTime());
    const [firstAt, lastAt] = instants.reduce(([low, high], at) => [Math.min(low, at), Math.max(high, at)], [Infinity, -Infinity]);
    all.push({ count: instants.length, task: first.task, what: first.what, firstAt: iso(firstAt), lastAt: iso(lastAt) });
  }
  return all.sort((a, b) => b.count - a.count || compare(a.task, b.task) || compare(a.what, b.what));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function problem(attempt: SimulatedAttempt): string {
  if (attempt.outcome === 'lost') return lostLease;
  return attempt.error ? errorText(attempt.error, attempt) : 'failed';
}

function lastError(job: Job): string {
  const error = job.errors.at(-1);
  if (error?.name === 'LeaseLostError') return `${lostLease}${job.reason === 'poisoned' ? ' (poisoned)' : ''}`;
  return error ? errorText(error, { task: job.task, attempt: error.attempt }) : (job.reason ?? 'failed');
}

/** Replaces errors about lost leases, which name the worker and the attempt, so that they are counted together. */
const lostLease = 'LeaseLostError: its worker was lost';

/** `Name: message` without the attempt number, so that the same error of different attempts is counted together. */
function errorText(
  error: { readonly name: string; readonly message: string },
  of: { readonly task: string; readonly attempt: number },
): string {
  const [first = ''] = error.message.split(/[\r\n]/, 1);
  const text = first.replace(`attempt ${of.attempt} of ${of.task} `, '');
  return text === '' ? error.name : `${error.name}: ${text}`;
}

function labelsOf(jobs: readonly Job[]): Map<string, string> {
  const numbers = new Map<string, number>();
  const labels = new Map<string, string>();
  for (const { id, task } of jobs) {
    const number = (numbers.get(task) ?? 0) + 1;
    numbers.set(task, number);
    labels.set(id, `${task}#${number}`);
  }
  return labels;
}

function iso(at: number | Date): string {
  return new Date(at).toISOString();
}

function isoOrNull(at: number | undefined): string | null {
  return at === undefined ? null : iso(at);
}
