/** How job ids and priorities are mapped to BullMQ. */
import { describe, expect, test } from 'vitest';
import { foreignId, foreignIds, foreignPriority, ownId, recordOf, type Source } from '../../src/bullmq/rows.ts';

describe('ids', () => {
  test.each([
    ['order:4711', 'order~4711'],
    ['a/b.c-d_e', 'a/b.c-d_e'],
    ['a:b:c', 'a~b~c'],
    ['4711', '!4711'],
    ['4711a', '4711a'],
  ])('%s is %s in BullMQ', (own, foreign) => {
    expect(foreignId(own)).toBe(foreign);
    expect(ownId(foreign)).toBe(own);
  });

  test('a numeric id may belong to a job that another program added', () => {
    expect(foreignIds('17')).toEqual(['!17', '17']);
    expect(ownId('17')).toBe('17');
  });
});

test('priorities are inverted, and none is 0, which would come first', () => {
  expect([100, 1, 0, -100].map(foreignPriority)).toEqual([1, 100, 101, 201]);
});

describe('a row', () => {
  const source: Source = {
    id: 'a',
    queue: 'default',
    name: 'task',
    data: { input: 1, escapement: { maxAttempts: 3 } },
    timestamp: 1_000,
    priority: 101,
    attempts: 3,
    started: 0,
    begun: null,
    processedOn: null,
    processedBy: null,
    finishedOn: null,
    returned: null,
    failedReason: null,
    progress: 0,
    isLocked: false,
    cancel: null,
    isCancelled: false,
  };
  const row = (changes: Partial<Source>, now = 5_000) => recordOf({ ...source, ...changes }, now);
  const kept = (escapement: object) => ({ data: { input: 1, escapement: { maxAttempts: 3, ...escapement } } });
  const cancelled = { reason: 'why', at: 3_000 };

  const begun = (runs: number, claim = runs) => ({ runs, claim, worker: 'w', at: 2_000 });

  test.each<[string, Partial<Source>, object]>([
    ['waits', {}, { status: 'queued', attempt: 0, claim: 0, startedAt: null, priority: 0, input: '1', dueAt: 1_000 }],
    ['runs', { started: 1, isLocked: true, begun: begun(1) }, { status: 'running', attempt: 1, losses: 0, startedAt: 2_000, worker: 'w' }],
    [
      'is claimed but not started',
      { started: 1, isLocked: true, processedBy: 'v' },
      { status: 'running', attempt: 0, startedAt: null, worker: 'v' },
    ],
    ['was held, and never begun', { started: 3 }, { status: 'queued', attempt: 0, losses: 0, claim: 3 }],
    ['lost its worker', { started: 1, begun: begun(1) }, { status: 'queued', attempt: 1, losses: 1 }],
    ['runs again', { started: 2, isLocked: true, begun: begun(2) }, { status: 'running', attempt: 2, losses: 1 }],
    ['was released', { started: 1, begun: begun(1), ...kept({ givenBack: 1, settledRuns: 1 }) }, { attempt: 0, losses: 0 }],
    ['retries', { started: 1, begun: begun(1), ...kept({ settledRuns: 1, dueAt: 9_000 }) }, { attempt: 1, losses: 0, dueAt: 9_000 }],
    [
      'is done',
      { started: 2, begun: begun(1, 2), finishedOn: 3_000, returned: '2' },
      { status: 'successful', returnValue: '2', attempt: 1, losses: 0 },
    ],
    ['returned nothing', { started: 1, finishedOn: 3_000, returned: 'null' }, { returnValue: null }],
    ['returned null', { started: 1, finishedOn: 3_000, returned: 'null', ...kept({ returnsNull: true }) }, { returnValue: 'null' }],
    ['failed elsewhere', { started: 1, finishedOn: 3_000, failedReason: 'no' }, { status: 'failed', reason: 'no' }],
    ['was cancelled', { cancel: cancelled, isCancelled: true }, { status: 'cancelled', reason: 'why', finishedAt: 3_000 }],
    ['is taken out', { cancel: cancelled, isCancelled: true, started: 1, isLocked: true }, { status: 'cancelled', attempt: 0 }],
    [
      'is being cancelled',
      { cancel: cancelled, started: 1, isLocked: true, begun: begun(1) },
      { status: 'running', cancelRequested: 'why' },
    ],
    ['has expired', kept({ expiresAt: 4_000 }), { status: 'cancelled', reason: 'expired', finishedAt: 4_000 }],
    ['has begun before it expired', { started: 1, begun: begun(1), ...kept({ expiresAt: 4_000 }) }, { status: 'queued' }],
    ['is of another program', { data: { a: 1 }, priority: 0, attempts: 0 }, { input: '{"a":1}', priority: 100, maxAttempts: 1 }],
  ])('of a job that %s', (_, changes, expected) => {
    expect(row(changes).job).toMatchObject(expected);
  });
});
