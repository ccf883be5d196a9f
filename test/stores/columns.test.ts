/** Every field of a job has its column: a field that is added and forgotten somewhere fails here. */
import { expect, test } from 'vitest';
import type { Job } from '../../src/core/types.ts';
import { insertValues, plainValues } from '../../src/stores/sql/rows.ts';
import { jobMaker } from '../../src/testing/conformance/kit.ts';

/** Another value for each field. */
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
/** The worker of a running job is that of its last attempt. */
const elsewhere = new Set<keyof Job>(['worker']);
const always = new Set<keyof Job>(['id', 'task', 'queue', 'priority', 'input', 'dueAt', 'enqueuedAt', 'maxAttempts', 'worker']);

test.each(Object.keys(others) as (keyof Job)[])('an insert writes %s', (field) => {
  const job = jobMaker()();
  const changed: Job = { ...job, [field]: others[field] };
  expect(changed[field]).not.toEqual(job[field]);
  const values = (one: Job) => insertValues(one, { state: stateOf(one), uniqueKey: null });
  if (!elsewhere.has(field)) expect(values(changed)).not.toEqual(values(job));
  // The short insert has few columns: a job with any other value must not take it.
  expect(plainValues(job, 'ready')).toBeDefined();
  if (always.has(field)) expect(plainValues(changed, 'ready')).toBeDefined();
  else expect(plainValues(changed, 'ready')).toBeUndefined();
});
