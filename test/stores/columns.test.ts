/** Every field of a job has a column: a missing new field fails here. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sqlite } from 'escapement/sqlite';
import { expect, test } from 'vitest';
import type { Job } from '../../src/core/types.ts';
import { insertValues, plainValues } from '../../src/stores/sql/rows.ts';
import { amend, claim, done, insert, jobMaker, leaseMs, lost, recordOf, settle, t0 } from '../../src/testing/conformance/kit.ts';

/** A different value for each field. */
const others: { readonly [Field in keyof Job]: Job[Field] } = {
  id: 'other',
  task: 'other',
  queue: 'other',
  status: 'waiting',
  priority: 7,
  input: '1',
  dueAt: 1,
  enqueuedAt: 1,
  runAfter: 1,
  expiresAt: 1,
  attempt: 1,
  maxAttempts: 7,
  claim: 1,
  worker: 'w1',
  leaseUntil: 1,
  losses: 1,
  startedAt: 1,
  lastAttemptedAt: 1,
  finishedAt: 1,
  cancelRequested: 'a user',
  returnValue: '1',
  reason: 'expired',
  progress: { fraction: 0.5, message: null, at: 1 } as Job['progress'],
  tags: ['a'],
  metadata: { a: 1 },
  schedule: 'hourly',
  scheduledAt: 1,
  overrides: { timeoutMs: 1 },
  unique: { key: 'a', while: ['ready'], untilMs: null, onConflict: 'skip' } as unknown as Job['unique'],
  concurrencyKey: 'a',
  rateKey: 'a',
  enqueuedBy: 'a',
  awaits: 'a',
  workflow: 'a',
  part: { key: 'a', fill: 'input' } as unknown as Job['part'],
};
const stateOf = ({ status }: Job) => status;
/** The worker of a running job is the one of its last attempt. */
const elsewhere = new Set<keyof Job>(['worker']);
const always = new Set<keyof Job>(['id', 'task', 'queue', 'priority', 'input', 'dueAt', 'enqueuedAt', 'maxAttempts', 'worker']);

test.each(Object.keys(others) as (keyof Job)[])('an insert writes %s', (field) => {
  const job = jobMaker()();
  const changed: Job = { ...job, [field]: others[field] };
  expect(changed[field]).not.toEqual(job[field]);
  const values = (one: Job) => insertValues(one, { state: stateOf(one), uniqueKey: null });
  if (!elsewhere.has(field)) expect(values(changed)).not.toEqual(values(job));
  // The short insert has few columns: a job with other values must not use it.
  expect(plainValues(job, 'ready')).toBeDefined();
  if (always.has(field)) expect(plainValues(changed, 'ready')).toBeDefined();
  else expect(plainValues(changed, 'ready')).toBeUndefined();
});

test('on SQLite, a job changed by another process while it runs is settled and counted by its current state', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'app.db');
  const [mine, theirs] = [await sqlite({ file }).open(), await sqlite({ file }).open()];
  try {
    for (const store of [mine, theirs]) await store.migrate();
    const job = jobMaker();
    await insert(mine, job(), job());
    const [first, second] = (await claim(mine, t0)) as [Job, Job];
    // Another queue, in which it is counted from now on.
    expect(await amend(theirs, first, { queue: 'other' }, t0)).toMatchObject({ status: 'running', queue: 'other' });
    // Another worker has taken over.
    await settle(theirs, lost(second, t0 + leaseMs));
    expect(await settle(mine, done(first, t0), done(second, t0))).toEqual(['settled', 'stale']);
    expect((await recordOf(theirs, first.id)).job).toMatchObject({ status: 'successful', queue: 'other' });
    const counts = Object.fromEntries((await mine.stats({ now: t0 + leaseMs })).map((queue) => [queue.name, queue.counts]));
    expect(counts).toMatchObject({ default: { running: 0, successful: 0 }, other: { running: 0, successful: 1 } });
  } finally {
    for (const store of [mine, theirs]) await store.close();
  }
});
