/**
 * Helpers for writing conformance cases: a job builder, store calls with common arguments, and the settlements that the engine would send,
 * made with `core/decide`. All instants derive from one constant, so a case gives the same answers on any day.
 */
import assert from 'node:assert/strict';
import { endedAsCancelled } from '../../core/changes.ts';
import { decide } from '../../core/decide.ts';
import { isEscapementError, type StoreError } from '../../core/errors.ts';
import type { RecordedError } from '../../core/failure.ts';
import type { Amendment, Job, JobRecord, ScheduleRow, Settlement, WorkerRow } from '../../core/types.ts';
import type { Advance, Awaitable, ClaimOptions, Settled, Store } from '../../ports/store.ts';

/** One behaviour required of a store. */
export interface ConformanceCase {
  /** The number of the law of the port, or the method's name for behaviour without a law. */
  readonly law: number | string;
  /** A sentence that describes the behaviour. */
  readonly name: string;
  /** Passes or rejects with an AssertionError. `open` returns a fresh, empty, migrated store; the case closes it. */
  run(open: () => Awaitable<Store>): Promise<void>;
}

/** Makes a job: queued, due at `t0`, with the next id of its case, plus the given fields. */
export type MakeJob = (overrides?: Partial<Job>) => Job;
type Body = (store: Store, job: MakeJob) => Promise<void>;

/** The instant at which most cases start: 2026-01-01, midnight UTC. */
export const t0 = 1_767_225_600_000;
export const leaseMs = 30_000;
/** The tasks that the workers of the cases know. */
export const tasks: readonly string[] = ['mail', 'report'];
export const broken: RecordedError = {
  name: 'TypeError',
  message: 'x is not a function',
  stack: 'TypeError: x is not a function\n    at mail.ts:3:7',
};

/** The cases of one law: a sentence and its test. */
export function cases(law: number | string, bodies: Readonly<Record<string, Body>>): readonly ConformanceCase[] {
  return Object.entries(bodies).map(([name, body]) => ({ law, name, run: (open) => withStore(open, (store) => body(store, jobMaker())) }));
}

/** Opens a store and closes it in any case. */
export async function withStore<T>(open: () => Awaitable<Store>, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await open();
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** The n-th id. Ids sort like their numbers and are UUIDv7. */
export function idOf(n: number): string {
  return `019b7600-0000-7000-8000-${n.toString(16).padStart(12, '0')}`;
}

export function jobMaker(baseAt: number = t0): MakeJob {
  let count = 0;
  return (overrides = {}) => {
    count += 1;
    return {
      id: idOf(count),
      task: 'mail',
      queue: 'default',
      status: 'queued',
      priority: 0,
      input: '{"to":"ada"}',
      dueAt: baseAt,
      enqueuedAt: baseAt,
      runAfter: null,
      expiresAt: null,
      attempt: 0,
      maxAttempts: 3,
      claim: 0,
      worker: null,
      leaseUntil: null,
      losses: 0,
      startedAt: null,
      lastAttemptedAt: null,
      finishedAt: null,
      cancelRequested: null,
      returnValue: null,
      reason: null,
      progress: null,
      tags: [],
      metadata: {},
      schedule: null,
      scheduledAt: null,
      overrides: null,
      unique: null,
      concurrencyKey: null,
      rateKey: null,
      enqueuedBy: null,
      awaits: null,
      workflow: null,
      part: null,
      ...overrides,
    };
  };
}

/** `count` jobs that differ only in their ids. */
export function many(count: number, job: MakeJob, overrides: Partial<Job> = {}): readonly Job[] {
  return Array.from({ length: count }, () => job(overrides));
}

export async function insert(store: Store, ...jobs: readonly Job[]): Promise<void> {
  await store.insert(jobs, { now: t0 });
}

/** What worker `w1` requests at an instant: all tasks it knows, for half a minute. */
export function wanted(now: number, overrides: Partial<ClaimOptions> = {}): ClaimOptions {
  return { worker: 'w1', limit: 100, leaseUntil: now + leaseMs, tasks, ...overrides };
}

export async function claim(store: Store, now: number, overrides: Partial<ClaimOptions> = {}): Promise<readonly Job[]> {
  return store.claim({ ...wanted(now, overrides), now });
}

/** Claims the only job that can be claimed. */
export async function claimOne(store: Store, now: number, overrides: Partial<ClaimOptions> = {}): Promise<Job> {
  const jobs = await claim(store, now, overrides);
  const job = jobs[0];
  assert.ok(job !== undefined && jobs.length === 1, `expected one job to claim, got ${jobs.length}`);
  return job;
}

/** The kind of answer to a settlement. `cancelled`: it would have queued the job again, but cancellation had been requested. */
export type SettleAnswer = 'settled' | 'cancelled' | 'stale';

export function answersOf(settlements: readonly Settlement[], { settled }: Settled): readonly SettleAnswer[] {
  return settlements.map((settlement, i) => {
    const job = settled[i];
    if (!job) return 'stale';
    return endedAsCancelled(job, settlement) ? 'cancelled' : 'settled';
  });
}

/** Settles at the instant at which the outcome was decided. */
export async function settle(store: Store, ...settlements: readonly Settlement[]): Promise<readonly SettleAnswer[]> {
  return answersOf(settlements, await store.settle(settlements, { now: settlements.at(-1)?.settledAt ?? t0 }));
}

export async function amend(store: Store, job: Job, set: Amendment['set'], now: number = t0): Promise<Job | null | undefined> {
  const { amended } = await store.amend([{ id: job.id, expect: { status: job.status, claim: job.claim }, set }], { now });
  return amended[0];
}

const noDelay = { kind: 'list', delaysMs: [0], jitter: 0 } as const;

export const done = (job: Job, at: number, value: string | null = null): Settlement => decide(job, noDelay, { kind: 'done', value }, at, 0);
export const snoozed = (job: Job, at: number, delayMs: number): Settlement => decide(job, noDelay, { kind: 'snoozed', delayMs }, at, 0);
export const released = (job: Job, at: number): Settlement => decide(job, noDelay, { kind: 'released' }, at, 0);
export const lost = (job: Job, at: number): Settlement => decide(job, noDelay, { kind: 'lost', error: broken }, at, 0);
export const cancelled = (job: Job, at: number, reason: string): Settlement => decide(job, noDelay, { kind: 'cancelled', reason }, at, 0);
/** Failed, to be retried after a delay while attempts are left. */
export const failed = (job: Job, at: number, delayMs = 0): Settlement =>
  decide(
    job,
    { kind: 'list', delaysMs: [delayMs], jitter: 0 },
    { kind: 'failed', error: broken, thrown: undefined, permanent: false },
    at,
    0,
  );
/** Failed for good. */
export const gaveUp = (job: Job, at: number): Settlement =>
  decide(job, noDelay, { kind: 'failed', error: broken, thrown: undefined, permanent: true }, at, 0);

export function schedule(overrides: Partial<ScheduleRow> = {}): ScheduleRow {
  return {
    name: 'nightly',
    source: 'code',
    task: 'report',
    queue: 'default',
    priority: 0,
    maxAttempts: 3,
    expiresMs: null,
    tags: [],
    metadata: {},
    overrides: null,
    input: 'null',
    computed: false,
    trigger: { kind: 'every', everyMs: 60_000, anchorAt: t0 },
    startAt: null,
    endAt: null,
    maxRuns: null,
    jitterMs: 0,
    missed: { graceMs: 3_600_000, catchUp: 'latest', limit: 100 },
    overlap: 'allow',
    enabled: true,
    nextAt: t0,
    occurrenceAt: t0,
    lastAt: null,
    heldAt: null,
    runs: 0,
    paused: false,
    pausedBecause: null,
    revision: 1,
    hash: 'a1',
    seen: { a1: t0 },
    undeclaredAt: null,
    ...overrides,
  };
}

/** A worker's entry in the registry. */
export function worker(overrides: Partial<WorkerRow> = {}): WorkerRow {
  return {
    id: 'w1',
    host: 'h',
    pid: 1,
    version: '1.0.0',
    queues: null,
    excludeQueues: null,
    tasks: ['mail'],
    schedules: {},
    concurrency: 10,
    running: 0,
    state: 'running',
    startedAt: t0,
    heartbeatAt: t0,
    ...overrides,
  };
}

/** Advances from a revision to the next instant, with the jobs of an occurrence. */
export function advanceOf(overrides: Partial<Omit<Advance, 'times'>> = {}, times: Partial<Advance['times']> = {}): Advance {
  const moved = { nextAt: t0 + 60_000, occurrenceAt: t0 + 60_000, lastAt: t0, heldAt: null, runs: 1, ...times };
  return { name: 'nightly', revision: 1, jobs: [], ...overrides, times: moved };
}

export async function recordOf(store: Store, id: string): Promise<JobRecord> {
  const [record] = await store.get([id]);
  assert.ok(record, `expected the job ${id} to exist`);
  return record;
}

export async function rowOf(store: Store, id: string): Promise<Job> {
  return (await recordOf(store, id)).job;
}

export const idsOf = (jobs: readonly { readonly id: string }[]): string[] => jobs.map((job) => job.id);

/** Runs `action` and checks that no row and no attempt has changed. */
export async function leavesAsIs<T>(store: Store, ids: readonly string[], action: () => Promise<T>): Promise<T> {
  const before = structuredClone(await store.get(ids));
  const result = await action();
  assert.deepEqual(await store.get(ids), before);
  return result;
}

/** Checks that a call fails with a StoreError of this kind, whether it throws or rejects. */
export async function refuses(kind: string, call: () => Awaitable<unknown>): Promise<void> {
  await assert.rejects(
    async () => call(),
    (error) => {
      // The store may come from another copy of this package.
      assert.ok(isEscapementError(error) && error.code === 'ESCAPEMENT_STORE', `expected a StoreError, got ${String(error)}`);
      assert.equal((error as StoreError).kind, kind);
      return true;
    },
  );
}
