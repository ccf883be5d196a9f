import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exponential, fixed } from '../../src/core/backoff.ts';
import { decide, type Outcome } from '../../src/core/decide.ts';
import { latestInstant } from '../../src/core/duration.ts';
import { RetryAfterError } from '../../src/core/errors.ts';
import { claimed, newJob, settled } from '../../src/core/job.ts';
import type { Job } from '../../src/core/types.ts';

const error = { name: 'Error', message: 'no', stack: '' };
const now = 1_000_000;

function running(overrides: Partial<Job> = {}): Job {
  const request = {
    task: 'mail',
    queue: 'default',
    priority: 0,
    input: 'null',
    runAfter: null,
    expiresAt: null,
    maxAttempts: 5,
    tags: [],
    metadata: {},
    schedule: null,
    scheduledAt: null,
    overrides: null,
  };
  return { ...claimed(newJob(request, 'id', 0), 'w', 500, 30_500), ...overrides };
}

const failed = (permanent = false): Outcome => ({ kind: 'failed', error, thrown: null, permanent });
const asking = (delay: string | number): Outcome => ({
  kind: 'failed',
  error,
  thrown: new RetryAfterError('later', { after: delay }),
  permanent: false,
});
const lost: Outcome = { kind: 'lost', error };

describe('the next state of a job', () => {
  test.each<[string, Partial<Job>, Outcome, object]>([
    ['done', {}, { kind: 'done', value: '1' }, { status: 'successful', outcome: 'successful', returnValue: '1', attempt: 1 }],
    ['failed with attempts left', {}, failed(), { status: 'queued', outcome: 'failed', attempt: 1, dueAt: now + 7_000 }],
    ['failed on the last attempt', { attempt: 5 }, failed(), { status: 'failed', attempt: 5, reason: null }],
    ['failed permanently', {}, failed(true), { status: 'failed', reason: 'permanent' }],
    ['snoozed', { attempt: 3 }, { kind: 'snoozed', delayMs: 60_000 }, { status: 'queued', attempt: 2, dueAt: now + 60_000, claim: 1 }],
    ['cancelled', {}, { kind: 'cancelled', reason: 'why' }, { status: 'cancelled', reason: 'why' }],
    ['released', { attempt: 3, losses: 1 }, { kind: 'released' }, { status: 'queued', attempt: 2, losses: 1 }],
    ['failed, with a longer requested delay', {}, asking('5m'), { status: 'queued', dueAt: now + 300_000 }],
    ['failed, with a shorter requested delay', {}, asking(10), { status: 'queued', dueAt: now + 7_000 }],
    ['failed, with an invalid requested delay', {}, asking('soon'), { status: 'queued', dueAt: now + 7_000 }],
    ['lost once', {}, lost, { status: 'queued', attempt: 1, losses: 1, dueAt: now }],
    ['lost the third time in a row', { losses: 2 }, lost, { status: 'failed', reason: 'poisoned', losses: 3 }],
    ['lost on its last attempt', { attempt: 5 }, lost, { status: 'failed', reason: 'lease lost' }],
    ['failed after two losses', { losses: 2 }, failed(), { status: 'queued', losses: 0 }],
  ])('%s', (_, job, outcome, expected) => {
    expect(decide(running(job), fixed('7s'), outcome, now, 0)).toMatchObject(expected);
  });

  test('an endless snooze stays within the range of Date', () => {
    expect(decide(running(), fixed(0), { kind: 'snoozed', delayMs: latestInstant }, now, 0).dueAt).toBe(latestInstant);
  });
});

test('every next state is valid', () => {
  const outcome: fc.Arbitrary<Outcome> = fc.oneof(
    fc.record({ kind: fc.constant('done' as const), value: fc.constantFrom(null, '1') }),
    fc.record({ kind: fc.constant('snoozed' as const), delayMs: fc.nat({ max: latestInstant }) }),
    fc.record({ kind: fc.constant('cancelled' as const), reason: fc.string() }),
    fc.record({ kind: fc.constant('failed' as const), error: fc.constant(error), thrown: fc.anything(), permanent: fc.boolean() }),
    fc.constant(lost),
    fc.constant<Outcome>({ kind: 'released' }),
  );
  const job = fc.record({
    attempt: fc.integer({ min: 1, max: 10_000 }),
    maxAttempts: fc.integer({ min: 1, max: 10_000 }),
    losses: fc.integer({ min: 0, max: 2 }),
    claim: fc.integer({ min: 1 }),
    cancelRequested: fc.constantFrom(null, 'stop'),
  });
  fc.assert(
    fc.property(
      job,
      outcome,
      fc.nat({ max: latestInstant }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (fields, what, at, fraction) => {
        const before = running(fields);
        const settlement = decide(before, exponential(), what, at, fraction);
        const after = settled(before, settlement);
        expect(after.claim).toBe(before.claim);
        expect(after.attempt).toBeLessThanOrEqual(before.attempt);
        expect(after.attempt).toBeGreaterThanOrEqual(before.attempt - 1);
        expect(Number.isSafeInteger(after.dueAt)).toBe(true);
        expect(after.worker).toBeNull();
        expect(after.leaseUntil).toBeNull();
        // Only a job with attempts left is queued after using one up.
        if (after.status === 'queued' && (what.kind === 'failed' || what.kind === 'lost'))
          expect(after.attempt).toBeLessThan(after.maxAttempts);
        if (after.status === 'queued') expect(before.cancelRequested).toBeNull();
        expect(after.finishedAt === null).toBe(after.status === 'queued');
      },
    ),
    { numRuns: 2_000 },
  );
});
