/** Plays a scenario by hand on a store: every claim, renewal and outcome is a line. The janitor runs before every line. */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { type Backoff, fixed } from '../../src/core/backoff.ts';
import { decide, type Outcome } from '../../src/core/decide.ts';
import { newJob, visibleStatus } from '../../src/core/job.ts';
import type { Job } from '../../src/core/types.ts';
import type { Store } from '../../src/ports/store.ts';
import { type Line, milliseconds, type Scenario } from './read.ts';

const begin = Date.UTC(2026, 0, 1);
const lost = { name: 'LeaseLostError', message: 'lost', stack: '' };

export async function playOnStore(scenario: Scenario, store: Store): Promise<void> {
  const ids = new Map<string, string>();
  const backoffs = new Map<string, Backoff>();
  /** The jobs that each worker believes it holds. */
  const held = new Map<string, Job>();
  let sequence = 0;

  const ms = (line: Line, key: string) =>
    line.options[key] === undefined ? undefined : milliseconds(line.options[key] ?? '', `${line.file}:${line.number}`);
  const number = (line: Line, key: string) => (line.options[key] === undefined ? undefined : Number(line.options[key]));
  const row = async (name: string) => {
    const [record] = await store.get([ids.get(name) ?? '']);
    ok(record, `job ${name} does not exist`);
    return record;
  };

  async function janitor(now: number): Promise<void> {
    for (const job of await store.overdue({ now, limit: 100 })) {
      if (job.status === 'running') await store.settle([decide(job, fixed(0), { kind: 'lost', error: lost }, now, 0)], { now });
      else {
        const set = { status: 'cancelled', reason: 'expired', finishedAt: now } as const;
        await store.amend([{ id: job.id, expect: { status: 'queued', claim: job.claim }, set }], { now });
      }
    }
  }

  async function settle(line: Line, outcome: Outcome, now: number): Promise<void> {
    const [worker, expected] = line.words;
    const job = held.get(worker ?? '');
    ok(job, `${worker} holds nothing`);
    const [row = null] = (await store.settle([decide(job, backoffs.get(job.id) ?? fixed(0), outcome, now, 0)], { now })).settled;
    if (expected === 'stale' || !row) equal(row ? 'settled' : 'stale', expected ?? 'settled');
    else if (expected) equal(visibleStatus((await store.get([job.id]))[0]?.job as Job, now), expected);
  }

  const verbs: Record<string, (line: Line, now: number) => Promise<void>> = {
    async enqueue(line, now) {
      const name = line.options.as ?? line.words[0] ?? '';
      const runAfter = ms(line, 'runAfter');
      const expires = ms(line, 'expires');
      const request = {
        task: line.words[0] ?? '',
        queue: line.options.queue ?? 'default',
        priority: number(line, 'priority') ?? 0,
        input: 'null',
        runAfter: runAfter === undefined ? null : now + runAfter,
        expiresAt: expires === undefined ? null : now + (runAfter ?? 0) + expires,
        maxAttempts: number(line, 'maxAttempts') ?? 20,
        tags: [],
        metadata: {},
        schedule: null,
        scheduledAt: null,
        overrides: null,
      };
      const id = `00000000-0000-7000-8000-${String(++sequence).padStart(12, '0')}`;
      ids.set(name, id);
      backoffs.set(id, fixed(ms(line, 'backoff') ?? 0));
      await store.insert([newJob(request, id, now)], { now });
    },
    async claim(line, now) {
      const [worker = '', ...names] = line.words;
      const tasks = line.options.tasks?.split(',') ?? [
        ...new Set((await store.list({}, { now, limit: 100 })).items.map(({ job }) => job.task)),
      ];
      const claimed = await store.claim({
        worker,
        limit: number(line, 'limit') ?? 1,
        leaseUntil: now + (ms(line, 'lease') ?? 30_000),
        tasks,
        queues: line.options.queues?.split(','),
        now,
      });
      const wanted = names[0] === 'nothing' ? [] : names.map((name) => ids.get(name));
      deepEqual(
        claimed.map(({ id }) => id),
        wanted,
      );
      for (const job of claimed) held.set(worker, job);
      if (line.options.claim) equal(claimed[0]?.claim, number(line, 'claim'));
      if (line.options.attempt) equal(claimed[0]?.attempt, number(line, 'attempt'));
    },
    async renew(line, now) {
      const job = held.get(line.words[0] ?? '') as Job;
      const [answer] = await store.renew([{ id: job.id, claim: job.claim }], { now, leaseUntil: now + 30_000 });
      equal(answer?.kind, line.words[1]);
    },
    done: (line, now) => settle(line, { kind: 'done', value: '"done"' }, now),
    fail: (line, now) =>
      settle(line, { kind: 'failed', error: { name: 'Error', message: 'no', stack: '' }, thrown: null, permanent: false }, now),
    permanent: (line, now) =>
      settle(line, { kind: 'failed', error: { name: 'Error', message: 'no', stack: '' }, thrown: null, permanent: true }, now),
    snooze: (line, now) => settle(line, { kind: 'snoozed', delayMs: ms(line, 'for') ?? 0 }, now),
    release: (line, now) => settle(line, { kind: 'released' }, now),
    async cancel(line, now) {
      const { job } = await row(line.words[0] ?? '');
      const set =
        job.status === 'running'
          ? { cancelRequested: 'cancelled' }
          : ({ status: 'cancelled', reason: 'cancelled', finishedAt: now } as const);
      await store.amend([{ id: job.id, expect: { status: job.status, claim: job.claim }, set }], { now });
    },
    pause: async (line, now) => store.saveQueue({ name: line.words[0] ?? '', paused: true }, { now }),
    resume: async (line, now) => store.saveQueue({ name: line.words[0] ?? '', paused: false }, { now }),
    async prune(line, now) {
      const status = line.words[0] as 'successful';
      equal(await store.prune({ status, finishedBefore: now - (ms(line, 'olderThan') ?? 0), limit: 100 }), number(line, 'deletes'));
    },
    async next(line, now) {
      const { jobAt } = await store.nextDueAt({
        now,
        tasks: [...new Set((await store.list({}, { now, limit: 100 })).items.map(({ job }) => job.task))],
      });
      equal(jobAt === null ? 'never' : jobAt - begin, line.words[0] === 'never' ? 'never' : milliseconds(line.words[0] ?? '', line.file));
    },
    async expect(line, now) {
      const { job, attempts } = await row(line.words[0] ?? '');
      equal(visibleStatus(job, now), line.words[1]);
      if (line.options.claim) equal(job.claim, number(line, 'claim'));
      if (line.options.attempt) equal(job.attempt, number(line, 'attempt'));
      if (line.options.losses) equal(job.losses, number(line, 'losses'));
      if (line.options.due) equal(job.dueAt - begin, ms(line, 'due'));
      if (line.options.reason) equal(job.reason, line.options.reason);
      if (line.options.attempts) equal(attempts.map(({ outcome }) => outcome ?? 'running').join(','), line.options.attempts);
    },
  };

  for (const line of scenario.lines) {
    const now = begin + (line.at ?? 0);
    const verb = verbs[line.verb];
    if (!verb) throw new Error(`${line.file}:${line.number}: no verb ${line.verb}; there are ${Object.keys(verbs).join(', ')}`);
    await janitor(now);
    try {
      await verb(line, now);
    } catch (error) {
      throw new Error(`${line.file}:${line.number}: ${(error as Error).message}`, { cause: error });
    }
  }
}
