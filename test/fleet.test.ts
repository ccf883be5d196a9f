/** Events of other processes, reconstructed from rows, as an application without workers receives them. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTasks, type Event, fixed, memory, snooze } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fleetEvents } from '../src/core/fleet.ts';
import type { Attempt, Job } from '../src/core/types.ts';
import { jobMaker, t0 } from '../src/testing/conformance/kit.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

describe('fleet events derived from a row', () => {
  const error = { name: 'Error', message: 'no', stack: '' };
  const attempt = (n: number, outcome: Attempt['outcome'], more: Partial<Attempt> = {}): Attempt => ({
    attempt: n,
    claim: n,
    worker: `w${n}`,
    startedAt: t0 + n * 10,
    endedAt: outcome && t0 + n * 10 + 5,
    outcome,
    error: outcome === 'failed' ? error : null,
    ...more,
  });
  const told = (row: Partial<Job>, ...attempts: Attempt[]) =>
    fleetEvents({ job: jobMaker()({ enqueuedAt: t0, dueAt: t0 + 99, ...row }), attempts }).map(({ event }) => {
      const { type, at } = event;
      const more = 'worker' in event ? [event.worker] : [];
      return [type, at - t0, ...more, ...('dueAt' in event ? [event.dueAt - t0] : [])];
    });

  test.each<[string, Partial<Job>, Attempt[], unknown[][]]>([
    ['that waits', {}, [], []],
    ['that runs', { status: 'running' }, [attempt(1, null)], [['started', 10, 'w1']]],
    [
      'that succeeds after a failure',
      { status: 'successful', finishedAt: t0 + 25 },
      [attempt(1, 'failed'), attempt(2, 'successful')],
      [
        ['started', 10, 'w1'],
        ['retrying', 15, 'w1', 20],
        ['started', 20, 'w2'],
        ['successful', 25, 'w2'],
      ],
    ],
    [
      'that fails permanently',
      { status: 'failed', finishedAt: t0 + 15 },
      [attempt(1, 'failed')],
      [
        ['started', 10, 'w1'],
        ['failed', 15, 'w1'],
      ],
    ],
    [
      'that waits for a retry',
      {},
      [attempt(1, 'failed')],
      [
        ['started', 10, 'w1'],
        ['retrying', 15, 'w1', 99],
      ],
    ],
    [
      'that was snoozed, released and lost',
      {},
      [attempt(1, 'snoozed'), attempt(2, 'released'), attempt(3, 'lost')],
      [
        ['started', 10, 'w1'],
        ['snoozed', 15, 'w1', 20],
        ['started', 20, 'w2'],
        ['released', 25, 'w2'],
        ['started', 30, 'w3'],
        ['orphaned', 35, 'w3'],
      ],
    ],
    ['that is cancelled before it starts', { status: 'cancelled', finishedAt: t0 + 7 }, [], [['cancelled', 7, null]]],
    [
      'that is poisoned',
      { status: 'failed', finishedAt: t0 + 15, reason: 'poisoned' },
      [attempt(1, 'lost')],
      [
        ['started', 10, 'w1'],
        ['orphaned', 15, 'w1'],
        ['failed', 15, null],
      ],
    ],
    [
      'that is cancelled while it runs',
      { status: 'cancelled', finishedAt: t0 + 15 },
      [attempt(1, 'cancelled')],
      [
        ['started', 10, 'w1'],
        ['cancelled', 15, 'w1'],
      ],
    ],
  ])('%s', (_, row, attempts, expected) => {
    expect(told(row, ...attempts)).toEqual([['enqueued', 0], ...expected]);
  });
});

test('an application without workers receives all events of the others, once', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'escapement-fleet-')), 'jobs.db');
  const application = () => {
    const tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }), logger: quiet });
    onTestFinished(() => tasks.close());
    const job = tasks.define('job', {
      retry: { maxAttempts: 2, backoff: fixed(1) },
      run: (what: string, ctx) => {
        if (what === 'fails' || (what === 'recovers' && ctx.attempt === 1)) throw new Error('no');
        return what === 'later' ? snooze('1h') : what;
      },
    });
    return { tasks, job };
  };
  const [watching, working] = [application(), application()];
  await working.tasks.worker().start();
  const before = await working.job.enqueue('before');
  await before.wait({ timeout: '60s' });

  const heard: Event[] = [];
  const successes: string[] = [];
  watching.tasks.on('*', (event) => heard.push(event), { fleet: true });
  watching.tasks.on('successful', ({ job }) => successes.push(job.id), { fleet: true });
  await watching.tasks.open();
  const jobs = await working.job.enqueueMany(['fine', 'fails', 'recovers', 'later']);
  const of = (i: number) => heard.filter((event) => 'job' in event && event.job.id === jobs[i]?.id).map(({ type }) => type);
  await expect
    .poll(() => [0, 1, 2, 3].map(of))
    .toEqual([
      ['enqueued', 'started', 'successful'],
      ['enqueued', 'started', 'retrying', 'started', 'failed'],
      ['enqueued', 'started', 'retrying', 'started', 'successful'],
      ['enqueued', 'started', 'snoozed'],
    ]);
  const own = await watching.job.enqueue('own');
  await expect.poll(() => successes).toContain(own.id);
  expect(successes.toSorted()).toEqual([jobs[0]?.id, jobs[2]?.id, own.id].toSorted());
  expect(heard.filter((event) => 'job' in event && event.job.id === own.id).map(({ type }) => type)).toEqual([
    'enqueued',
    'started',
    'successful',
  ]);
  expect(heard.some((event) => 'job' in event && event.job.id === before.id)).toBe(false);
});

test("in a simulation, and on stores of a single process, the application's own events are used", async () => {
  const tasks = createTasks({ backend: sqlite({ file: '/nowhere/jobs.db' }), logger: quiet });
  const alone = createTasks({ backend: memory(), logger: quiet });
  const heard: string[] = [];
  for (const app of [tasks, alone]) {
    app.on('*', ({ type }) => heard.push(type), { fleet: true });
    const job = app.define('job', (_: void, ctx) => ctx.log.info('not told'));
    if (app === tasks) {
      const sim = await simulate(app);
      await job.enqueue();
      await sim.runUntilIdle();
      await sim.end();
    } else {
      await app.worker().start();
      await (await job.enqueue()).wait({ timeout: '60s' });
      await app.close();
    }
  }
  expect(heard).toEqual(['enqueued', 'started', 'successful', 'enqueued', 'started', 'successful']);
});

test('events that rows do not record are rejected', () => {
  const tasks = createTasks();
  expect(() => tasks.on('logged' as 'failed', () => {}, { fleet: true })).toThrow(
    /with \{ fleet: true \}: event: expected '\*' or one of enqueued/,
  );
  expect(() => tasks.on('failed', () => {}, { fleets: true } as never)).toThrow(/fleets/);
});
