/** The memory store is the oracle: the same random history gives the same results and the same rows in every other store. */
import { expect, test } from 'vitest';
import { exponential } from '../../src/core/backoff.ts';
import { decide, type Outcome } from '../../src/core/decide.ts';
import { DuplicateJobError } from '../../src/core/errors.ts';
import type { Limits } from '../../src/core/gate.ts';
import { newJob } from '../../src/core/job.ts';
import type { Job } from '../../src/core/types.ts';
import type { Uniqueness } from '../../src/core/unique.ts';
import type { Edge, Fill, Part } from '../../src/core/workflow.ts';
import type { Store } from '../../src/ports/store.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { prng } from '../../src/testing/choices.ts';
import { schedule } from '../../src/testing/conformance/kit.ts';
import { stores } from './stores.ts';

const tasks = ['mail', 'report', 'sync'];
const queues = ['default', 'bulk', 'slow'];
const error = { name: 'Error', message: 'no', stack: 'at x' };

/** Plays a history of `steps` operations; every result is a line. Ends with a dump of all rows. */
async function play(store: Store, seed: number, steps: number): Promise<string[]> {
  const draw = prng(seed);
  const below = (n: number) => draw() % n;
  const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;
  const lines: string[] = [];
  const say = (what: string, answer: unknown) => lines.push(`${what} ${JSON.stringify(answer)}`);
  const ids: string[] = [];
  const held: Job[] = [];
  let now = 1_000_000;
  let latest = now;

  const uniqueness = (): Uniqueness => ({
    key: `k ${below(4)}`,
    while: pick<Uniqueness['while']>([['queued'], ['queued', 'running'], ['queued', 'running', 'successful', 'failed']]),
    untilAt: pick([null, now + below(20_000)]),
    onConflict: pick<Uniqueness['onConflict']>(['skip', 'replace', 'reject']),
    maxWaitMs: pick([null, 3_000]),
  });
  const make = (): Job => {
    const id = `00000000-0000-7000-8000-${String(below(10) === 0 ? 999_999 - ids.length : ids.length).padStart(12, '0')}`;
    ids.push(id);
    const request = {
      task: pick(tasks),
      queue: pick(queues),
      priority: pick([0, 0, 0, 10, -10]),
      input: pick([null, '1', '{"a":"é"}']),
      runAfter: below(3) === 0 ? now + below(60_000) - 5_000 : null,
      expiresAt: below(5) === 0 ? now + below(60_000) : null,
      maxAttempts: 1 + below(4),
      tags: below(3) === 0 ? ['odd'] : [],
      metadata: below(3) === 0 ? { a: 1 } : {},
      schedule: null,
      scheduledAt: null,
      overrides: pick([
        null,
        null,
        null,
        { timeoutMs: 5 },
        { retention: { successfulMs: below(30_000), failedMs: null, cancelledMs: 9_000 } },
      ]),
      unique: below(3) > 0 ? null : uniqueness(),
      concurrencyKey: pick([null, 'a', 'b']),
      rateKey: pick([null, null, 'a']),
      enqueuedBy: pick([null, 'x']),
    };
    return newJob(request, id, now);
  };
  const outcome = (): Outcome => {
    const kinds: Outcome[] = [
      { kind: 'done', value: '"done"' },
      { kind: 'failed', error, thrown: null, permanent: below(4) === 0 },
      { kind: 'snoozed', delayMs: below(30_000) },
      { kind: 'cancelled', reason: 'own' },
      { kind: 'released' },
      { kind: 'lost', error },
    ];
    return pick(kinds);
  };
  const claimOptions = () => ({
    worker: `w${below(3)}`,
    limit: below(6),
    leaseUntil: now + 30_000,
    tasks: pick([tasks, ['mail'], ['sync', 'report']]),
    queues: pick([undefined, undefined, ['default'], ['bulk', 'slow']]),
    excludeQueues: pick([undefined, undefined, ['slow']]),
    limits: pick([undefined, limits, limits]),
  });
  const limits: Limits = {
    queues: {
      bulk: { concurrency: 1 + below(3) },
      ...pick([{}, { default: { agingMs: 4_000 } }]),
      slow: { rate: { limit: 2, perMs: 10_000, burst: 1 + below(3) } },
    },
    tasks: {
      mail: { concurrency: 1 + below(2), concurrencyByKey: true, rate: { limit: 3, perMs: 20_000, burst: 2 }, rateByKey: true },
      ...pick([{}, { sync: { concurrencyByKey: true, shareOf: (key: string) => key.length } }]),
      report:
        below(2) === 0 ? { concurrency: 2, concurrencyByKey: false } : { rate: { limit: 1, perMs: 5_000, burst: 1 }, rateByKey: false },
    },
  };
  const settlement = () => {
    const job = held.length > 0 && below(8) > 0 ? (held.splice(below(held.length), 1)[0] as Job) : undefined;
    if (!job) return undefined;
    const progress = below(4) === 0 ? { fraction: 0.5, message: 'half', at: now } : null;
    const decided = decide(job, exponential({ jitter: 0 }), outcome(), now, 0, progress);
    return below(4) === 0 ? { ...decided, prune: true as const } : decided;
  };

  const operations: (() => Promise<unknown>)[] = [
    async () => {
      const jobs = Array.from({ length: 1 + below(4) }, make);
      try {
        say('insert', await store.insert(jobs, { now, ...(below(5) === 0 ? { once: true } : {}) }));
      } catch (thrown) {
        say('refused', thrown instanceof DuplicateJobError ? thrown.message : String(thrown));
      }
    },
    async () => {
      // Two parts wait for some of the preceding ones; sometimes one of them is a running job.
      const workflow = `w${below(3)}`;
      const before = held.find((job) => job.workflow !== null && below(2) === 0);
      const count = 2 + below(3);
      const edges: Edge[] = [];
      const jobs: Job[] = [];
      for (let i = 0; i < count; i++) {
        const job = { ...make(), unique: null };
        const parents = [...jobs, ...(before ? [before] : [])].filter(() => below(2) === 0);
        edges.push(...parents.map((parent) => ({ parent: parent.id, child: job.id })));
        const part: Part = {
          key: `k${i}`,
          of: 'w',
          place: 0,
          fill: pick<Fill>(parents.length > 0 ? ['none', 'first', 'all', [{ path: [], from: [0] }]] : ['none']),
          delayMs: pick([null, 2_000]),
          expiresMs: pick([null, 20_000]),
          allowFailure: below(4) === 0,
          always: below(5) === 0,
          compensate: null,
          onFailure: pick<Part['onFailure']>(['dependents', 'dependents', 'workflow']),
        };
        jobs.push({ ...job, workflow, part, status: parents.length > 0 ? 'waiting' : 'queued' });
      }
      try {
        say('workflow', await store.insert(jobs, { now, edges }));
      } catch (thrown) {
        say('refused', String(thrown));
      }
      say('edges', await store.getEdges([pick(ids), pick(ids)]));
    },
    async () => {
      const claimed = await store.claim({ ...claimOptions(), now });
      held.push(...claimed);
      say('claim', claimed);
    },
    async () => {
      const settlements = [settlement(), settlement()].filter((one) => one !== undefined);
      const claim = below(2) === 0 ? claimOptions() : undefined;
      const result = await store.settle(settlements, { now, claim });
      held.push(...result.claimed);
      say('settle', result);
      if (below(4) === 0) say('again', (await store.settle(settlements, { now })).settled);
    },
    async () => {
      const some = held
        .filter(() => below(2) === 0)
        .map(({ id, claim }) => ({ id, claim, progress: below(3) === 0 ? { fraction: 0.1, message: null, at: now } : null }));
      say('renew', await store.renew(some, { now, leaseUntil: now + 30_000 }));
    },
    async () => {
      const found = await store.overdue({ now, limit: 1 + below(5) });
      say('overdue', found);
      const lost = found
        .filter(({ status }) => status === 'running')
        .map((job) => decide(job, exponential(), { kind: 'lost', error }, now, 0));
      say('lost', (await store.settle(lost, { now })).settled);
    },
    async () => {
      const [record] = await store.get([pick(ids.length > 0 ? ids : ['none'])]);
      if (!record) return;
      const { job } = record;
      const set = pick([
        { status: 'cancelled', reason: 'by hand', finishedAt: now } as const,
        { status: 'queued', dueAt: now, expiresAt: null, finishedAt: null, reason: null, losses: 0 } as const,
        { priority: pick([-5, 5]) },
        { cancelRequested: 'please' },
        { queue: pick(queues), input: '2', runAfter: now + 5, dueAt: now + 5 },
        null,
      ]);
      if (job.status === 'running' && (set === null || 'status' in set || 'queue' in set)) return;
      say(
        'amend',
        await store.amend([{ id: job.id, expect: { status: below(6) === 0 ? 'waiting' : job.status, claim: job.claim }, set }], { now }),
      );
    },
    async () => {
      await store.saveQueue({ name: pick(queues), paused: below(2) === 0 }, { now });
    },
    async () =>
      say(
        'prune',
        await store.prune({
          status: pick(['successful', 'failed', 'cancelled']),
          finishedBefore: now - below(60_000),
          own: pick([undefined, 'left', 'only']),
          limit: below(10),
        }),
      ),
    async () => {
      const options = claimOptions();
      // A slow clock may ask too early about finished jobs; stores differ in how early.
      say('next', await store.nextDueAt({ now, ...options, ...(now < latest ? { limits: undefined } : {}) }));
    },
    async () => say('stats', await store.stats({ now })),
    async () => {
      const filter = pick([
        {},
        { status: ['ready', 'retrying'] as const },
        { task: 'mail' },
        { queue: 'bulk' },
        { tag: 'odd' },
        { workflow: 'w1' },
        { enqueuedBy: 'x' },
        { status: ['failed'] as const, task: 'sync' },
      ]);
      // Ids here contain no instants: only a list of all jobs has the same order everywhere.
      const order = below(3) === 0 ? 'changed' : 'enqueued';
      say(
        'list',
        await store.list(filter, {
          now,
          limit: order === 'changed' ? 1_000 : 1 + below(5),
          cursor: below(3) === 0 ? pick(ids.length > 0 ? ids : ['z']) : undefined,
          order,
        }),
      );
    },
    async () => {
      const name = pick(['hourly', 'daily']);
      const found = (await store.listSchedules()).find((row) => row.name === name);
      const nextAt = below(6) === 0 ? null : now + below(5_000);
      const row = schedule({
        ...{ name, task: 'sync', nextAt, occurrenceAt: nextAt, revision: (found?.revision ?? 0) + 1, paused: below(5) === 0 },
        ...{
          overlap: pick(['allow', 'skip']),
          heldAt: below(4) === 0 ? now : null,
          computed: below(4) === 0,
          source: pick(['code', 'store']),
        },
      });
      say('save', await store.saveSchedule(row, { expect: below(6) === 0 ? 99 : (found?.revision ?? null) }));
    },
    async () => {
      const answer = await store.dueSchedules({ now, limit: 1 + below(3), computes: pick([[], ['daily'], ['hourly', 'daily']]) });
      say('due', answer);
      const advances = answer.due.map(({ row }) => {
        const nextAt = below(8) === 0 ? null : now + 60_000;
        return {
          name: row.name,
          revision: below(5) === 0 ? row.revision - 1 : row.revision,
          times: { nextAt, occurrenceAt: nextAt, lastAt: row.occurrenceAt, heldAt: below(3) === 0 ? now : null, runs: row.runs + 1 },
          jobs: [{ ...make(), schedule: row.name, scheduledAt: row.heldAt ?? row.occurrenceAt ?? now }],
        };
      });
      say('advance', await store.advanceSchedules(advances, { now }));
    },
  ];

  for (let step = 0; step < steps; step++) {
    // Mostly forward; occasionally a caller's clock is behind.
    now = Math.max(1_000_000, now + (below(20) === 0 ? -below(20_000) : below(4_000)));
    latest = Math.max(latest, now);
    await pick(operations)();
  }
  say('rows', await store.get([...ids].sort()));
  say('stats', await store.stats({ now }));
  say('schedules', await store.listSchedules());
  say('of code', await store.listSchedules({ source: 'code', names: ['daily', 'x'] }));
  return lines;
}

/** A history that once differed: a call inserted a unique job and replaced it with its next one. */
const kept = [37];
const count = process.env.ESCAPEMENT_SOAK ? 500 : process.env.ESCAPEMENT_LONG ? 40 : 4;
const seeds = [...new Set([...Array.from({ length: count }, (_, i) => i + 1), ...kept])];

for (const source of stores.filter(({ label }) => label !== 'memory')) {
  test.each(seeds)(`${source.label}: history %d has the same results as in memory`, async (seed) => {
    const store = await source.open();
    await store.migrate();
    const steps = 300;
    expect(await play(store, seed, steps)).toEqual(await play(new MemoryStore(), seed, steps));
    await store.close();
  });
}
