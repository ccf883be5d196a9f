/** The data read for each view, its texts, and the effects of actions. */
import { createTasks, memory, PermanentError } from 'escapement';
import { type Simulation, simulate } from 'escapement/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { Feed } from '../../cli/dash/feed.ts';
import { checkInput } from '../../cli/dash/inputs.ts';
import { framesOf, jsonLines, waitsAfter } from '../../cli/dash/items.ts';
import { eventsOfJobs } from '../../cli/dash/job-events.ts';
import { shownEvents } from '../../cli/dash/select.ts';
import { requestOf, Source } from '../../cli/dash/source.ts';
import { emptyData, emptyFilter, type Filter, type JobDetail, type JobVerb, type State } from '../../cli/dash/state.ts';
import { carryOut, countMatching } from '../../cli/dash/writes.ts';
import { sample } from './sample.ts';

const evil = '\u001b]0;pwned\u0007\u202eevil\u009b31m';

function application() {
  const tasks = createTasks({ backend: memory() });
  tasks.define('mail.send', {
    queue: 'mail',
    input: z.object({ to: z.string() }),
    retry: { maxAttempts: 4, backoff: ['10s', '1m'] },
    run: ({ to }) => {
      if (to === 'x') throw new Error(evil);
      return { to };
    },
  });
  tasks.define('fails', {
    run: () => {
      throw new PermanentError('gone');
    },
  });
  tasks.define('logs', async (_: null, ctx) => {
    ctx.log.info(evil, { text: evil });
    ctx.progress(0.5, evil);
    await ctx.sleep('1h');
  });
  tasks.schedule('hourly', { task: tasks.get('fails'), input: null, cron: '0 * * * *' });
  return tasks;
}

let tasks: ReturnType<typeof application>;
let sim: Simulation;
let feed: Feed;
let source: Source;

beforeEach(async () => {
  tasks = application();
  feed = new Feed();
  tasks.on('*', feed.add);
  sim = await simulate(tasks, { now: '2026-03-28T00:30:00Z', seed: 1 });
  source = new Source(tasks, {
    now: () => sim.now.getTime(),
    feed,
    hasEvents: true,
    shared: false,
    cwd: process.cwd(),
  });
});
afterEach(() => sim.end());

async function readJob(jobId: string): Promise<JobDetail> {
  const { job } = await source.read(asked({ view: 'job', jobId }));
  if (!job || job === 'gone') throw new Error('it is not there');
  return job;
}

const asked = (change: Partial<State>) => requestOf({ ...sample(), ...change });

describe('reads', () => {
  test('the overview shows counts, upcoming jobs, failures, and finished jobs per minute', async () => {
    await tasks.get('mail.send').enqueue({ to: 'x' });
    await tasks.get('fails').enqueue(null);
    await sim.drain();
    const { queues, coming, failures } = await source.read(asked({ view: 'overview' }));
    expect(queues?.map(({ name, slots, minutes }) => [name, slots, minutes.at(-1)])).toEqual([
      ['default', 10, 1],
      ['mail', 10, 0],
    ]);
    expect(coming?.map(({ name, note }) => [name, note])).toEqual([
      ['mail.send', 'attempt 2'],
      ['hourly', 'schedule'],
    ]);
    expect(failures?.map(({ task, status }) => [task, status]).sort()).toEqual([
      ['fails', 'failed'],
      ['mail.send', 'retrying'],
    ]);
  });

  test('identical failures are grouped, with their latest job and count', async () => {
    for (let i = 0; i < 3; i++) await tasks.get('fails').enqueue(null);
    await tasks.get('mail.send').enqueueMany([{ to: 'x' }, { to: 'x' }]);
    await sim.drain();
    await sim.advance('1s');
    const { id } = await tasks.get('fails').enqueue(null);
    await sim.drain();
    const { failures } = await source.read(asked({ view: 'overview' }));
    expect(failures?.map(({ task, times }) => [task, times])).toEqual([
      ['fails', 4],
      ['mail.send', 2],
    ]);
    expect(failures?.[0]?.id).toBe(id);
  });

  test('a confirmation counts the matching jobs', async () => {
    await tasks
      .get('mail.send')
      .using({ runAfter: '1h' })
      .enqueueMany([{ to: 'a' }, { to: 'b' }, { to: 'b' }]);
    await tasks.get('fails').enqueue(null);
    await sim.drain();
    const count = (verb: JobVerb, filter: Partial<Filter>) =>
      countMatching(tasks, { kind: 'jobs', verb, which: { ...emptyFilter, ...filter } });
    expect(await count('cancel', {})).toEqual({ jobs: 3, more: false });
    expect(await count('delete', {})).toEqual({ jobs: 4, more: false });
    expect(await count('retry', { queue: 'mail' })).toEqual({ jobs: 0, more: false });
    expect(await count('cancel', { text: '"to":"b"' })).toEqual({ jobs: 2, more: false });
    expect(await count('cancel', { task: 'mail.send', status: 'failed' })).toEqual({ jobs: 0, more: false });
  });

  test('jobs are filtered, searched, sorted and paged', async () => {
    for (let i = 0; i < 5; i++)
      await tasks
        .get('mail.send')
        .using({ priority: i, runAfter: `${5 - i}h`, tags: [`t${i}`] })
        .enqueue({ to: `user-${i}` });
    const read = async (change: Partial<State>) => (await source.read(asked({ view: 'jobs', ...change }))).jobs;
    expect((await read({ filter: { ...emptyFilter, text: 'user-3' } }))?.items.map(({ priority }) => priority)).toEqual([3]);
    expect((await read({ filter: { ...emptyFilter, tag: 't2' } }))?.items.map(({ priority }) => priority)).toEqual([2]);
    expect((await read({ sort: 'priority' }))?.items.map(({ priority }) => priority)).toEqual([4, 3, 2, 1, 0]);
    expect((await read({ sort: 'due' }))?.items.map(({ priority }) => priority)).toEqual([4, 3, 2, 1, 0]);
    const first = await read({ rows: 10 });
    expect(first?.items.map(({ priority }) => priority)).toEqual([4, 3]);
    expect((await read({ rows: 10, pages: [null, first?.cursor ?? null] }))?.items.map(({ priority }) => priority)).toEqual([2, 1]);
  });

  test('search results are paged, and each page continues the search', async () => {
    const enqueue = (to: string, count: number) =>
      tasks
        .get('mail.send')
        .using({ runAfter: '1d' })
        .enqueueMany(Array.from({ length: count }, (_, i) => ({ to: `${to}-${i}` })));
    await enqueue('old', 5);
    for (let i = 0; i < 6; i++) await enqueue('other', 1_000);
    await enqueue('new', 5);
    const read = async (change: Partial<State>) => (await source.read(asked({ view: 'jobs', rows: 12, ...change }))).jobs;
    const filter = { ...emptyFilter, text: 'new-' };
    const first = await read({ filter });
    expect(first).toMatchObject({ items: { length: 4 }, note: null });
    const second = await read({ filter, pages: [null, first?.cursor ?? null] });
    expect(second).toMatchObject({ items: { length: 1 }, note: '5,000 jobs searched' });
    expect(await read({ filter, pages: [null, second?.cursor ?? null] })).toEqual({ items: [], cursor: null, note: null });
    const far = await read({ filter: { ...emptyFilter, text: 'old-' } });
    expect(far).toMatchObject({ items: [], note: '5,000 jobs searched' });
    const farther = await read({ filter: { ...emptyFilter, text: 'old-' }, pages: [null, far?.cursor ?? null] });
    expect(farther).toMatchObject({ items: { length: 4 }, note: null });
    expect(await read({ sort: 'due' })).toMatchObject({
      items: { length: 1_000 },
      cursor: null,
      note: 'of the 1,000 newest matching jobs',
    });
  });

  test('a job shows its attempts, log and upcoming delays, without control characters', async () => {
    const { id } = await tasks.get('mail.send').enqueue({ to: 'x' });
    await sim.advance('15s');
    const job = await readJob(id);
    expect(job?.history.map(({ attempt, outcome }) => [attempt, outcome])).toEqual([
      [1, 'failed'],
      [2, 'failed'],
    ]);
    expect(job?.waits).toEqual([60_000]);
    expect(job?.history.at(-1)?.frames[0]).toMatch(/^at .*test\/dash\/source\.test\.ts/);
    const other = await tasks.get('logs').enqueue(null);
    await sim.drain();
    const running = await readJob(other.id);
    expect(running?.log).toHaveLength(1);
    // JSON writes control characters like this; a preceding backslash belongs to the text.
    expect(JSON.stringify([job, running])).not.toMatch(/(?<!\\)\\u00|[\u0080-\u009f\u202e]/);
    expect((await source.read(asked({ view: 'job', jobId: '0198c3f0-0000-7000-8000-000000000000' }))).job).toBe('gone');
  });

  test('a job read from the store shows each attempt with worker, time, error and stack', async () => {
    const { id } = await tasks.get('mail.send').enqueue({ to: 'x' });
    await sim.advance('15s');
    const outside = new Source(tasks, {
      now: () => sim.now.getTime(),
      feed: new Feed(),
      hasEvents: false,
      shared: true,
      cwd: process.cwd(),
    });
    const { job } = await outside.read(asked({ view: 'job', jobId: id }));
    if (!job || job === 'gone') return expect.unreachable();
    expect(job.history.map(({ attempt, worker, outcome }) => [attempt, worker, outcome])).toEqual([
      [1, 'w0', 'failed'],
      [2, 'w0', 'failed'],
    ]);
    expect((job.history[1]?.startedAt ?? 0) - (job.history[0]?.endedAt ?? 0)).toBe(10_000);
    for (const { error, frames } of job.history) {
      expect(error).toMatch(/^Error: .*evil/);
      expect(frames[0]).toMatch(/^at .*test\/dash\/source\.test\.ts/);
    }
    // Its log is in the store.
    const talking = await tasks.get('logs').enqueue(null);
    await sim.advance('15s');
    const { job: logging } = await outside.read(asked({ view: 'job', jobId: talking.id }));
    if (!logging || logging === 'gone') return expect.unreachable();
    const { job: heard } = await source.read(asked({ view: 'job', jobId: talking.id }));
    expect(logging.log.length).toBeGreaterThan(0);
    expect(logging.log).toEqual(heard !== 'gone' && heard?.log);
    const { events } = await outside.read(asked({ view: 'events' }));
    expect(
      events?.filter(({ job: of }) => of === id).map(({ type, worker, text }) => [type, worker, text.replace(/Error.*/, 'Error')]),
    ).toEqual([
      ['retrying', 'w0', 'Error'],
      ['started', 'w0', 'attempt 2'],
      ['retrying', 'w0', 'Error'],
      ['started', 'w0', ''],
      ['enqueued', '', ''],
    ]);
  });

  test('events read from the store are ordered by time, even with a backlog', async () => {
    const failing = await tasks.get('fails').enqueue(null);
    await sim.advance('1m');
    await tasks.get('mail.send').enqueueMany(Array.from({ length: 2_000 }, (_, i) => ({ to: `user-${i}` })));
    await sim.drain();
    await sim.advance('1m');
    await tasks.get('mail.send').enqueueMany(Array.from({ length: 300 }, () => ({ to: 'x' })));
    await sim.advance('1s');
    const now = sim.now.getTime();
    await tasks
      .get('mail.send')
      .using({ runAfter: '1d' })
      .enqueueMany(Array.from({ length: 2_000 }, () => ({ to: 'later' })));
    const outside = new Source(tasks, { now: () => now, feed: new Feed(), hasEvents: false, shared: true, cwd: process.cwd() });
    const read = async (eventText: string) => {
      const { events = [] } = await outside.read(asked({ view: 'events', eventText }));
      expect(events.map(({ at }) => at)).toEqual(events.map(({ at }) => at).toSorted((a, b) => b - a));
      expect(new Set(events.map(({ key }) => key)).size).toBe(events.length);
      return shownEvents({ data: { ...emptyData, events }, eventText });
    };
    expect(new Set((await read('')).map(({ type }) => type))).toEqual(new Set(['enqueued']));
    expect((await read('failed')).map(({ job }) => job)).toEqual([failing.id]);
    expect((await read('successful')).length).toBeGreaterThan(199);
    await sim.advance('10s');
    const types = (await read('')).slice(0, 400).map(({ type }) => type);
    expect(new Set(types)).toEqual(new Set(['retrying', 'started']));
    expect(await read('no such word')).toEqual([]);
  });

  test('schedules show their day hour by hour', async () => {
    await sim.advance('2h');
    const { schedules } = await source.read(asked({ view: 'schedules' }));
    expect(schedules?.[0]?.hours.slice(0, 5)).toEqual([null, 'failed', 'failed', 'coming', 'coming']);
    expect(schedules?.[0]).toMatchObject({ name: 'hourly', state: 'active', last: { status: 'failed' } });
  });

  test('workers show their running jobs; those of this process have no heartbeat', async () => {
    await tasks.get('logs').enqueue(null);
    await sim.advance('10m');
    const { workers } = await source.read(asked({ view: 'workers' }));
    expect(workers).toMatchObject([{ id: 'w0', state: 'running', heartbeatAt: null, running: 1, jobs: [{ task: 'logs' }] }]);
  });

  test('events come from the engine, or are derived from jobs', async () => {
    await tasks.get('fails').enqueue(null);
    await sim.drain();
    const { events } = await source.read(asked({ view: 'events' }));
    expect(events?.slice(0, 3).map(({ type }) => type)).toEqual(['failed', 'started', 'enqueued']);
    expect(eventsOfJobs((await tasks.jobs.list()).items).map(({ type }) => type)).toEqual(['failed', 'started', 'enqueued']);
  });
});

describe('actions', () => {
  test('report what they did', async () => {
    expect(await carryOut(tasks, { kind: 'enqueue', task: 'mail.send', input: '{"to":"x"}' })).toMatch(/^enqueued mail\.send as …\w{6}$/);
    await sim.drain();
    const [job] = (await tasks.jobs.list()).items;
    const id = job?.id ?? '';
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'retry', which: [id] })).toMatch(
      /^mail\.send …\w{6} is ready and runs as soon as a worker is free$/,
    );
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'cancel', which: [id] })).toMatch(/^cancelled mail\.send …\w{6}$/);
    await expect(carryOut(tasks, { kind: 'jobs', verb: 'cancel', which: [id] })).rejects.toThrow(/is already cancelled/);
    const later = await tasks.get('mail.send').using({ runAfter: '1h' }).enqueue({ to: 'y' });
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'prioritize', which: [later.id], priority: 7 })).toMatch(
      /^mail\.send …\w{6} has priority 7$/,
    );
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'delete', which: [id, later.id] })).toBe('deleted 2 jobs');
    await expect(carryOut(tasks, { kind: 'jobs', verb: 'delete', which: [id] })).rejects.toThrow(/no job has the id/);
    const running = await tasks.get('logs').enqueue(null);
    await sim.drain();
    await expect(carryOut(tasks, { kind: 'jobs', verb: 'delete', which: [running.id] })).rejects.toThrow(/is running; cancel it first/);
    await expect(carryOut(tasks, { kind: 'jobs', verb: 'prioritize', which: [running.id], priority: 1 })).rejects.toThrow(
      /is running; only/,
    );
    expect(await carryOut(tasks, { kind: 'pauseQueue', name: 'mail' })).toBe('paused queue mail; running jobs continue');
    expect(await carryOut(tasks, { kind: 'resumeQueue', name: 'mail' })).toBe('resumed queue mail');
    expect(await carryOut(tasks, { kind: 'runSchedule', name: 'hourly' })).toMatch(/^enqueued a job of hourly as …/);
    expect(await carryOut(tasks, { kind: 'pauseSchedule', name: 'hourly' })).toMatch(/^paused hourly/);
    expect(await carryOut(tasks, { kind: 'resumeSchedule', name: 'hourly' })).toBe('resumed hourly');
  });

  test('with a text filter change only the matching jobs', async () => {
    for (const to of ['a', 'b', 'b']) await tasks.get('mail.send').using({ runAfter: '1h' }).enqueue({ to });
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'cancel', which: { ...emptyFilter, text: '"to":"b"' } })).toBe('cancelled 2 jobs');
    expect(sim.jobs({ status: 'scheduled' })).toHaveLength(1);
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'retry', which: { ...emptyFilter, queue: 'mail' } })).toBe('retrying 2 jobs');
    const which = { ...emptyFilter, text: '"to":"b"' };
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'prioritize', which, priority: 3 })).toBe('priority 3 for 2 jobs');
    expect(await carryOut(tasks, { kind: 'jobs', verb: 'delete', which })).toBe('deleted 2 jobs');
    expect((await tasks.jobs.list()).items).toHaveLength(1);
  });
});

test('an input is validated by its schema', async () => {
  expect(await checkInput(tasks, 'mail.send', '{"to":')).toMatchObject({ ok: false });
  expect(await checkInput(tasks, 'mail.send', '{"to":1}')).toEqual({
    ok: false,
    text: 'to: Invalid input: expected string, received number',
  });
  expect(await checkInput(tasks, 'mail.send', '{"to":"x"}')).toEqual({ ok: true, text: 'the schema accepts it' });
  expect(await checkInput(tasks, 'fails', '')).toEqual({ ok: true, text: 'no input' });
});

test.each([
  [[5_000], 1, 4, [5_000, 5_000, 5_000]],
  [[1_000, 60_000], 1, 4, [1_000, 60_000, 60_000]],
  [[1_000, 2_000, 4_000], 2, 4, [2_000, 4_000]],
  [[1_000], 5, 5, []],
  [[1_000], 6, 5, []],
  [[1_000], 1, 10_000, Array.from({ length: 100 }, () => 1_000)],
])('delays of %j after attempt %i of %i', (waitsMs, attempt, maxAttempts, waits) => {
  expect(waitsAfter(waitsMs, attempt, maxAttempts)).toEqual(waits);
});

test("a stack shows the user's own frames first, relative to the working directory", () => {
  const stack =
    'Error: x\n    at run (file:///app/tasks.ts?escapement=3:4:5)\n    at go (/app/node_modules/a/b.js:1:1)\n    at node:internal/x:1:1';
  expect(framesOf(stack, '/app')).toEqual(['at run (tasks.ts:4:5)', '▸ 2 more frames']);
});

test('causes of an error are shown with their messages', () => {
  const stack =
    'Error: x\n  of two lines\n    at run (/app/a.ts:1:1)\n    at node:internal/x:1:1\ncaused by: TypeError: y\n    at load (/app/b.ts:2:2)\ncaused by: just text';
  expect(framesOf(stack, '/app')).toEqual([
    'at run (a.ts:1:1)',
    '▸ 1 more frame',
    'caused by: TypeError: y',
    'at load (b.ts:2:2)',
    'caused by: just text',
  ]);
  expect(framesOf('\ncaused by: no stack at all', '/app')).toEqual(['caused by: no stack at all']);
});

test('jobs per minute count the last 60 s', () => {
  const counts = new Feed();
  const minute = Date.parse('2026-03-28T00:01:00Z');
  counts.ended('mail', minute - 70_000, 5);
  counts.ended('mail', minute - 30_000, 7);
  counts.ended('mail', minute + 2_000, 11);
  expect(counts.perMinute('mail', minute + 2_500)).toBe(18);
  expect(counts.perMinute('mail', minute + 40_000)).toBe(11);
  expect(counts.perMinute('mail', minute + 90_000)).toBe(0);
  expect(counts.minutes('mail', minute + 2_500).slice(-3)).toEqual([5, 7, 11]);
});

test('unreadable data is reported as such', () => {
  expect(
    jsonLines(() => {
      throw new Error('damaged');
    }),
  ).toEqual(['cannot be read: damaged']);
  expect(jsonLines(() => ({ a: 1, b: 'x' }))).toEqual(['{"a": 1, "b": "x"}']);
});
