/** Schedules through the engine, in virtual time, on every store. */
import { createTasks, InputError, memory, type StoreSource, snooze, type Tasks } from 'escapement';
import { clockChanges, dailyRuns, localTime, minutelyRuns, runsOverClockChanges, simulate } from 'escapement/testing';
import 'escapement/vitest';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { currentSimulation } from '../../src/testing/simulation.ts';
import { stores } from '../stores/stores.ts';

afterEach(() =>
  currentSimulation()
    ?.end()
    .catch(() => {}),
);

const now = '2026-01-01T00:00:00Z';
const start = Date.parse(now);
const minutes = (dates: readonly Date[]) => dates.map((date) => (date.getTime() - start) / 60_000);
const sourceOf = (open: () => ReturnType<StoreSource['open']>): StoreSource => ({ kind: 'store', name: 'test', open });

describe.each(stores)('on $label', ({ open }) => {
  const begin = (options: object = {}) => {
    const store = sourceOf(open);
    const tasks = createTasks({ backend: memory() });
    return { tasks, simulate: () => simulate(tasks, { now, store, ...options }) };
  };

  test('each occurrence enqueues one job with any number of workers, and passes the occurrence to the task', async () => {
    const { tasks, simulate } = begin({ workers: 3 });
    const seen: unknown[] = [];
    const tick = tasks.define('tick', (input: { n: number }, ctx) => {
      seen.push([input.n, ctx.schedule, ctx.scheduledAt?.toISOString()]);
    });
    tasks.schedule('ticks', {
      task: tick,
      input: ({ scheduledAt }) => ({ n: scheduledAt.getUTCMinutes() }),
      cron: '*/10 * * * *',
      tags: ['t'],
    });
    const sim = await simulate();
    await sim.advance('30m');
    expect(seen).toEqual([10, 20, 30].map((n) => [n, 'ticks', `2026-01-01T00:${n}:00.000Z`]));
    expect(minutes(sim.fires('ticks'))).toEqual([10, 20, 30]);
    expect(sim.jobs()[0]?.tags).toEqual(['t']);
    expect(sim.timeline().toString()).toContain('tick#1 by schedule ticks');
    expect(tick).toHaveRunAt(['+10m', '+20m', '+30m']);
    expect(await tasks.schedules.get('ticks')).toMatchObject({ runs: 3, nextAt: new Date(start + 40 * 60_000) });
  });

  test('schedules fire once, daily by the sun, by any of several triggers, and between a start and an end', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    tasks.schedule('once', { task: job, at: '2026-01-01T00:05:00Z' });
    tasks.schedule('noon', { task: job, sun: { event: 'noon', latitude: 0, longitude: 0 } });
    tasks.schedule('several', { task: job, any: [{ cron: '0 6 * * *' }, { every: '12h' }, { at: '2026-01-01T06:00:00Z' }] });
    tasks.schedule('few', { task: job, every: '1h', startAt: '2026-01-01T02:00:00Z', endAt: '2026-01-01T04:30:00Z' });
    tasks.schedule('thrice', { task: job, every: '1h', maxRuns: 3 });
    tasks.schedule('never', { task: job, every: '1h', enabled: false });
    const sim = await simulate();
    await sim.advance('1d');
    expect(minutes(sim.fires('once'))).toEqual([5]);
    const [noon] = minutes(sim.fires('noon'));
    expect(noon).toBeGreaterThan(12 * 60);
    expect(noon).toBeLessThan(12 * 60 + 10);
    expect(minutes(sim.fires('several'))).toEqual([6, 12, 24].map((hours) => hours * 60));
    expect(minutes(sim.fires('few'))).toEqual([120, 180, 240]);
    expect(minutes(sim.fires('thrice'))).toEqual([60, 120, 180]);
    expect(sim.fires('never')).toEqual([]);
    expect((await tasks.schedules.get('thrice')).nextAt).toBeNull();
  });

  test('missed occurrences are caught up according to the schedule', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    tasks.schedule('latest', { task: job, cron: '0 * * * *' });
    tasks.schedule('none', { task: job, cron: '0 * * * *', missed: { catchUp: 'none' } });
    tasks.schedule('all', { task: job, cron: '0 * * * *', missed: { catchUp: 'all', limit: 3 } });
    tasks.schedule('strict', { task: job, cron: '0 * * * *', missed: { grace: '5m' } });
    const skipped: string[] = [];
    tasks.on('skipped', ({ schedule, reason, count }) => skipped.push(`${schedule} ${reason} ${count}`));
    const sim = await simulate();
    sim.scheduler.stop();
    await sim.advance('5h');
    await sim.advance('20m');
    expect(sim.jobs()).toEqual([]);
    sim.scheduler.start();
    await sim.drain();
    expect(minutes(sim.fires('latest'))).toEqual([300]);
    expect(minutes(sim.fires('all'))).toEqual([180, 240, 300]);
    expect([sim.fires('none'), sim.fires('strict')]).toEqual([[], []]);
    expect(skipped.sort()).toEqual(['all missed 2', 'latest missed 4', 'none missed 5', 'strict missed 5']);
    await sim.advance('40m');
    for (const name of ['latest', 'none', 'all', 'strict']) expect(minutes(sim.fires(name)).at(-1)).toBe(360);
  });

  test('overlaps are allowed, skipped, queued, or cancel the running job', async () => {
    const { tasks, simulate } = begin({ workers: 2 });
    const slow = tasks.define('slow', async (_: void, ctx) => {
      await ctx.sleep('25m');
    });
    for (const overlap of ['allow', 'skip', 'queue-one', 'cancel-running'] as const)
      tasks.schedule(overlap, { task: slow, cron: '*/10 * * * *', overlap });
    const sim = await simulate();
    await sim.advance('61m');
    const starts = (name: string) =>
      sim
        .jobs()
        .filter(({ schedule }) => schedule === name)
        .map(({ startedAt }) => ((startedAt?.getTime() ?? 0) - start) / 60_000);
    expect(starts('allow')).toEqual([10, 20, 30, 40, 50, 60]);
    expect(starts('skip')).toEqual([10, 40]);
    // The held occurrence starts when the previous one ends, as a separate occurrence.
    expect(starts('queue-one')).toEqual([10, 35, 60]);
    expect(minutes(sim.fires('queue-one'))).toEqual([10, 20, 40]);
    expect(minutes(sim.fires('cancel-running'))).toEqual([10, 20, 30, 40, 50, 60]);
    const cancelled = sim.jobs({ status: 'cancelled' });
    expect(cancelled.map(({ schedule, reason }) => [schedule, reason])).toEqual(
      Array(5).fill(['cancel-running', 'schedule cancel-running fired again']),
    );
    // Never two at once.
    for (const [i, job] of cancelled.entries()) {
      const next = sim.jobs().filter(({ schedule }) => schedule === 'cancel-running')[i + 1];
      expect(next?.startedAt?.getTime()).toBeGreaterThanOrEqual(job.finishedAt?.getTime() ?? Number.POSITIVE_INFINITY);
    }
  });

  test('a queued occurrence survives a crash of all workers', async () => {
    const { tasks, simulate } = begin();
    const slow = tasks.define('slow', { retry: { backoff: 1_000 }, run: async (_: void, ctx) => ctx.sleep('15m') });
    tasks.schedule('waits', { task: slow, cron: '*/10 * * * *', overlap: 'queue-one' });
    const sim = await simulate();
    await sim.advance('21m');
    expect((await tasks.schedules.get('waits')).heldAt).toEqual(new Date(start + 20 * 60_000));
    sim.worker(0).crash();
    await sim.advance('20m');
    expect(minutes(sim.fires('waits'))).toEqual([10, 20]);
    expect(sim.jobs().map(({ status }) => status)).toEqual(['successful', 'running']);
  });

  test('jitter delays the start within its limit, but not the occurrence', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    tasks.schedule('jittered', { task: job, cron: '0 * * * *', jitter: '10m' });
    const sim = await simulate();
    await sim.advance('5h');
    await sim.advance('11m');
    expect(minutes(sim.fires('jittered'))).toEqual([60, 120, 180, 240, 300]);
    const delays = sim.jobs().map(({ startedAt, scheduledAt }) => Number(startedAt) - Number(scheduledAt));
    expect(new Set(delays).size).toBe(5);
    for (const delay of delays) expect(delay).toSatisfy((ms: number) => ms >= 0 && ms <= 600_000);
  });

  test('an input function that throws skips its occurrence, is reported, and stops nothing else', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', (_: number) => {});
    tasks.schedule('broken', {
      task: job,
      every: '1m',
      input: ({ scheduledAt }) => {
        if (scheduledAt.getUTCMinutes() === 2) throw new Error('no such day');
        return scheduledAt.getUTCMinutes() === 3 ? (new Map() as never) : 1;
      },
    });
    const skipped: unknown[] = [];
    tasks.on('skipped', ({ reason, error }) => skipped.push([reason, error?.message]));
    const sim = await simulate();
    await sim.advance('4m');
    expect(minutes(sim.fires('broken'))).toEqual([1, 4]);
    expect(skipped).toEqual([
      ['failed', 'no such day'],
      ['failed', expect.stringContaining('input of schedule broken')],
    ]);
  });

  test('a manual run consumes no occurrence, and inputs that throw consume no run', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', (_: number) => {});
    let calls = 0;
    const input = () => {
      if (++calls <= 2) throw new Error('not yet');
      return 1;
    };
    tasks.schedule('hourly', { task: job, cron: '0 * * * *', input: 0 });
    tasks.schedule('thrice', { task: job, every: '10m', maxRuns: 3, input });
    const sim = await simulate();
    await sim.advanceTo(start + 3_599_999);
    for (let i = 0; i < 3; i++) await tasks.schedules.runNow('hourly');
    await sim.advance('1h');
    expect(minutes(sim.fires('hourly')).filter((at) => at % 60 === 0)).toEqual([60]);
    expect(sim.fires('hourly')).toHaveLength(4);
    expect(minutes(sim.fires('thrice'))).toEqual([30, 40, 50]);
    expect(await tasks.schedules.get('thrice')).toMatchObject({ runs: 3, nextAt: null });
  });

  test('a schedule that is defined while workers run fires', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    const sim = await simulate();
    await sim.advance('1h');
    tasks.schedule('late', { task: job, every: '10m' });
    await sim.advance('30m');
    expect(minutes(sim.fires('late'))).toEqual([70, 80, 90]);
  });

  test('schedules are saved, changed, paused, run and removed at run time', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', (_: { n: number }) => {});
    tasks.schedule('of-code', { task: job, input: { n: 0 }, cron: '0 0 1 * *' });
    const sim = await simulate();
    const { schedules } = tasks;
    await schedules.save('trial:u1', { task: job, input: { n: 1 }, cron: '*/10 * * * *', maxRuns: 9 });
    await sim.advance('20m');
    expect(await schedules.get('trial:u1')).toMatchObject({ source: 'store', runs: 2, words: 'Every 10 minutes (UTC)' });
    expect(minutes(await schedules.next('trial:u1', 2))).toEqual([30, 40]);
    await schedules.save('trial:u1', { task: job, input: { n: 2 }, cron: '*/15 * * * *', priority: 5 });
    await sim.advance('10m');
    const [last] = sim.jobs().slice(-1);
    expect([last?.input, last?.priority, last?.scheduledAt]).toEqual([{ n: 2 }, 5, new Date(start + 30 * 60_000)]);
    await schedules.pause('trial:u1', 'on holiday');
    expect(await schedules.get('trial:u1')).toMatchObject({ paused: true, pausedBecause: 'on holiday', nextAt: null });
    await sim.advance('1h');
    // Occurrences after a resume, and from a given instant.
    expect(minutes(await schedules.next('trial:u1', 2))).toEqual([105, 120]);
    expect(minutes(await schedules.next('trial:u1', 2, { from: start + 3_600_000 }))).toEqual([60, 75]);
    await schedules.resume('trial:u1');
    await sim.advance('15m');
    expect(minutes(sim.fires('trial:u1'))).toEqual([10, 20, 30, 105]);

    const byHand = await schedules.runNow('trial:u1', { input: { n: 7 } });
    const another = await schedules.runNow('of-code');
    await sim.drain();
    await expect(byHand).toHaveSucceeded();
    await expect(another).toHaveSucceeded();
    expect([byHand.input, byHand.schedule, another.input]).toEqual([{ n: 7 }, 'trial:u1', { n: 0 }]);
    expect((await schedules.list()).map(({ name, runs }) => [name, runs])).toEqual([
      ['of-code', 0],
      ['trial:u1', 4],
    ]);

    expect(await schedules.remove('trial:u1')).toBe(true);
    expect(await schedules.remove('trial:u1')).toBe(false);
    await sim.advance('1h');
    expect(sim.jobs({ task: job }).filter(({ schedule }) => schedule === 'trial:u1')).toHaveLength(5);
    await expect(schedules.get('trial:u1')).rejects.toThrow(InputError);
    await expect(schedules.pause('of-cod')).rejects.toThrow(/did you mean of-code/);
    await expect(schedules.remove('of-code')).rejects.toThrow(/defined in code/);
    await expect(schedules.save('of-code', { task: job, input: { n: 1 }, every: '1m' })).rejects.toThrow(/defined in code/);
    await expect(schedules.save('x', { task: job, input: (() => ({ n: 1 })) as never, every: '1m' })).rejects.toThrow(
      /cannot keep functions/,
    );
  });

  test('a backfill enqueues only the missing jobs, oldest first', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    tasks.schedule('hourly', { task: job, cron: '0 * * * *' });
    const sim = await simulate();
    await sim.advance('2h');
    sim.scheduler.stop();
    await sim.advance('4h');
    const made = await tasks.schedules.backfill('hourly', { from: start - 3_600_000 });
    expect(minutes(made.map(({ scheduledAt }) => scheduledAt as Date))).toEqual([-60, 0, 180, 240, 300, 360]);
    expect(await tasks.schedules.backfill('hourly', { from: now })).toEqual([]);
    sim.scheduler.start();
    await sim.drain();
    // The occurrence that is due now has its job already.
    expect(minutes(sim.fires('hourly')).filter((at) => at === 360)).toHaveLength(1);
    await expect(tasks.schedules.backfill('hourly', { from: '2020-01-01T00:00:00Z' })).rejects.toThrow(/more than 1000/);
    await expect(tasks.schedules.backfill('hourly', { from: now, to: '2027-01-01T00:00:00Z' })).rejects.toThrow(/future/);
    await expect(tasks.schedules.backfill('hourly', {} as never)).rejects.toThrow(/from/);
  });

  test('a pause survives restarts, and a schedule in code can be paused before a worker has registered it', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    const sim = await simulate();
    tasks.schedule('minutely', { task: job, every: '1m' });
    await tasks.schedules.pause('minutely');
    await sim.advance('5m');
    sim.worker(0).crash();
    await sim.advance('5m');
    expect(sim.fires('minutely')).toEqual([]);
    await tasks.schedules.resume('minutely');
    await sim.advance('1m');
    expect(sim.fires('minutely')).toHaveLength(1);
  });

  test('rows with unreadable triggers are paused with the reason, and the others continue', async () => {
    const { tasks, simulate } = begin();
    const job = tasks.define('job', () => {});
    tasks.schedule('fine', { task: job, every: '1m' });
    const sim = await simulate();
    await tasks.schedules.save('broken', { task: job, every: '1m' });
    const store = await open0(tasks);
    const [row] = await store.listSchedules({ names: ['broken'] });
    if (!row) throw new Error('it was saved');
    await store.saveSchedule(
      { ...row, revision: row.revision + 1, trigger: { kind: 'cron', expression: 'nonsense', timezone: 'UTC' } },
      { expect: row.revision },
    );
    await sim.advance('5m');
    expect(sim.fires('fine')).toHaveLength(5);
    expect(await tasks.schedules.get('broken')).toMatchObject({
      paused: true,
      pausedBecause: expect.stringContaining('computing its occurrences failed'),
    });
  });
});

async function open0(tasks: unknown) {
  const { appOf } = await import('../../src/tasks.ts');
  return appOf(tasks).backend('default').open();
}

describe('across clock changes', () => {
  const zones = [
    'Europe/Berlin',
    'America/New_York',
    'Australia/Lord_Howe',
    'Pacific/Chatham',
    'Antarctica/Troll',
    'Africa/Cairo',
    'America/Havana',
    'Europe/Dublin',
    'Asia/Beirut',
    'America/Santiago',
  ];

  test.each(zones)('%s', async (timezone) => {
    const tasks = createTasks({ backend: memory() });
    const job = tasks.define('job', () => {});
    tasks.schedule('half-past-two', { task: job, cron: '30 2 * * *', timezone });
    tasks.schedule('midnight', { task: job, cron: '0 0 * * *', timezone });
    tasks.schedule('quarters', { task: job, cron: '*/15 * * * *', timezone });
    expect(clockChanges(timezone, 2026)).toHaveLength(2);
    expect(await runsOverClockChanges(tasks, 'half-past-two', 2026)).toEqual(dailyRuns('02:30', timezone, 2026));
    expect(await runsOverClockChanges(tasks, 'midnight', 2026)).toEqual(dailyRuns('00:00', timezone, 2026));
    expect(await runsOverClockChanges(tasks, 'quarters', 2026)).toEqual(minutelyRuns(15, timezone, 2026));
  });

  test('the lists match the local clock', () => {
    expect(dailyRuns('02:30', 'Europe/Berlin', 2026)).toEqual([
      '2026-03-28T02:30:00+01:00',
      '2026-03-29T03:00:00+02:00',
      '2026-03-30T02:30:00+02:00',
      '2026-10-24T02:30:00+02:00',
      '2026-10-25T02:30:00+02:00',
      '2026-10-26T02:30:00+01:00',
    ]);
    expect(minutelyRuns(30, 'Europe/Berlin', 2026).filter((run) => run.startsWith('2026-10-25T02'))).toEqual([
      '2026-10-25T02:00:00+02:00',
      '2026-10-25T02:30:00+02:00',
      '2026-10-25T02:00:00+01:00',
      '2026-10-25T02:30:00+01:00',
    ]);
    expect(clockChanges('UTC', 2026)).toEqual([]);
    expect(() => dailyRuns('2:30', 'UTC', 2026)).toThrow(InputError);
    expect(() => clockChanges('Europe/Atlantis', 2026)).toThrow(/unknown time zone/);
  });

  test('instants can be written as local times', async () => {
    expect(localTime('2026-03-29T03:00[Europe/Berlin]').toISOString()).toBe('2026-03-29T01:00:00.000Z');
    expect(localTime('2026-10-25T02:30+01:00[Europe/Berlin]').toISOString()).toBe('2026-10-25T01:30:00.000Z');
    expect(() => localTime('2026-10-25T02:30[Europe/Berlin]')).toThrow(/twice.*02:30:00\+02:00\[Europe\/Berlin\] or /);
    expect(() => localTime('2026-03-29T02:30[Europe/Berlin]')).toThrow(/never show/);
    expect(() => localTime('2026-03-29T02:30[Berlin]')).toThrow(/unknown time zone/);
    expect(() => localTime('yesterday')).toThrow(/expected a local time/);
    const own = createTasks({ backend: memory() });
    const digest = own.define('digest', () => {});
    own.schedule('digest', { task: digest, cron: '30 2 * * *', timezone: 'Europe/Berlin' });
    const sim = await simulate(own, { now: '2026-03-28T12:00:00Z' });
    await sim.advance('2d');
    expect(digest).toHaveRunAt(['2026-03-29T03:00[Europe/Berlin]', '2026-03-30T02:30[Europe/Berlin]']);
  });
});

describe("a schedule's job that waits for a retry", () => {
  test.each(['skip', 'queue-one', 'cancel-running'] as const)(
    'is not an overlap: with %s the next occurrence replaces it',
    async (overlap) => {
      const tasks = createTasks({ backend: memory() });
      let isDown = true;
      let running = 0;
      const sync = tasks.define('sync', async (_: void, ctx) => {
        expect(++running).toBe(1);
        await ctx.sleep('1m').finally(() => {
          running -= 1;
        });
        if (isDown) throw new Error('503');
      });
      tasks.schedule('sync', { task: sync, every: '15m', overlap });
      const sim = await simulate(tasks, { now, workers: 3 });
      await sim.advance('6h');
      isDown = false;
      await sim.advance('16m');
      const [latest] = (await tasks.jobs.list({ status: 'successful' })).items;
      expect(latest?.finishedAt?.getTime()).toBeLessThanOrEqual(sim.now.getTime());
      expect(latest).toBeDefined();
      const { items } = await tasks.jobs.list({ status: ['retrying', 'scheduled'] });
      expect(items).toEqual([]);
      const reasons = new Set((await tasks.jobs.list({ status: 'cancelled', limit: 500 })).items.map(({ reason }) => reason));
      expect([...reasons]).toEqual(['superseded']);
    },
  );

  test('counts as running while it snoozes', async () => {
    const tasks = createTasks({ backend: memory() });
    let snoozes = 0;
    const poll = tasks.define('poll', () => (++snoozes <= 3 ? snooze('20m') : undefined));
    tasks.schedule('poll', { task: poll, every: '15m', overlap: 'skip' });
    const sim = await simulate(tasks, { now });
    await sim.advance('80m');
    expect((await tasks.jobs.list()).items).toHaveLength(1);
  });
});

test('with cancel-running, an occurrence starts immediately if the previous job was only waiting', async () => {
  const tasks = createTasks({ backend: memory() });
  const poll = tasks.define('poll', () => snooze('1h'));
  tasks.schedule('poll', { task: poll, every: '10m', overlap: 'cancel-running' });
  const sim = await simulate(tasks, { now });
  await sim.advance('61m');
  const { items } = await tasks.jobs.list();
  expect(items.map(({ startedAt }) => startedAt && minutes([startedAt])[0]).reverse()).toEqual([10, 20, 30, 40, 50, 60]);
});

describe('several versions of an application on one store', () => {
  const version = (source: StoreSource, minute: number) => {
    const tasks = createTasks({ backend: source });
    const job = tasks.define('job', () => {});
    if (minute > 0) tasks.schedule('report', { task: job, cron: `${minute} * * * *` });
    return tasks;
  };
  const kept = (): StoreSource => {
    const store = new MemoryStore();
    return sourceOf(() => store);
  };

  test('the version that registered last wins while one of its workers lives', async () => {
    const source = kept();
    const [first, second] = [version(source, 1), version(source, 2)];
    const cron = async () => (await version(source, 0).schedules.get('report')).cron;
    const worker = async (tasks: Tasks) => {
      const started = tasks.worker();
      await started.start();
      return started;
    };
    const old = await worker(first);
    await expect.poll(cron).toBe('1 * * * *');
    const young = await worker(second);
    await expect.poll(cron).toBe('2 * * * *');
    // Restarting an old version beside the new one changes nothing.
    const again = await worker(first);
    await expect.poll(async () => (await first.workers.list()).length).toBe(3);
    expect(await cron()).toBe('2 * * * *');
    await young.stop();
    const back = await worker(first);
    await expect.poll(cron).toBe('1 * * * *');
    for (const one of [old, again, back]) await one.stop();
    for (const tasks of [first, second]) await tasks.close();
  });

  test('a schedule removed from the code stops within two minutes, and resumes when it is declared again', async () => {
    const source = kept();
    const [before, after] = [version(source, 5), version(source, 0)];
    const sim = await simulate(before, { now, store: source });
    await sim.advance('1h');
    sim.deploy(after);
    const runs = (await before.schedules.get('report')).runs;
    await sim.advance('2m');
    expect(await after.schedules.get('report')).toMatchObject({ paused: true, pausedBecause: 'no live worker declares it' });
    await sim.advance('10m');
    const again = version(source, 5);
    sim.deploy(again);
    await sim.advance('1m');
    // Within the grace: the occurrence missed during the gap is caught up.
    expect(await again.schedules.get('report')).toMatchObject({ paused: false, pausedBecause: null, runs: runs + 1 });
  });

  test('a renamed schedule does not run twice', async () => {
    const source = kept();
    const ran: Date[] = [];
    const named = (name: string) => {
      const tasks = createTasks({ backend: source });
      const job = tasks.define('job', (_: void, ctx) => void ran.push(ctx.now()));
      tasks.schedule(name, { task: job, cron: '0 9 * * *' });
      return tasks;
    };
    const sim = await simulate(named('report'), { now, store: source });
    await sim.advance('1d');
    sim.deploy(named('daily-report'));
    await sim.advance('3d');
    expect(ran.map((at) => at.getUTCDate())).toEqual([1, 2, 3, 4]);
  });

  test('a schedule that is renamed right before it fires does not run twice, and runs if it is declared again', async () => {
    const source = kept();
    const ran: string[] = [];
    const named = (name: string) => {
      const tasks = createTasks({ backend: source });
      const job = tasks.define('job', (_: void, ctx) => void ran.push(`${ctx.schedule} ${ctx.now().toISOString()}`));
      if (name !== '') tasks.schedule(name, { task: job, cron: '0 9 * * *', missed: { catchUp: 'none' } });
      return tasks;
    };
    const sim = await simulate(named('report'), { now: '2026-01-01T08:59:00Z', store: source });
    await sim.advance('50s');
    sim.deploy(named('daily-report'));
    await sim.advance('1d');
    expect(ran).toEqual(['daily-report 2026-01-01T09:00:00.000Z']);
    sim.deploy(named(''));
    await sim.advance('30s');
    sim.deploy(named('daily-report'));
    await sim.advance('1m');
    expect(ran.slice(1)).toEqual(['daily-report 2026-01-02T09:00:20.000Z']);
  });

  test('occurrences are computed by one version only, and a pause does not overwrite its definition', async () => {
    const source = kept();
    const computing = (name: string) => {
      const tasks = createTasks({ backend: source });
      const ran: string[] = [];
      const job = tasks.define(name, (input: string) => void ran.push(`${name} ${input}`));
      tasks.schedule('report', { task: job, every: name === 'a' ? '1m' : '2m', input: () => `by ${name}` });
      return { tasks, ran };
    };
    const [a, b] = [computing('a'), computing('b')];
    const sim = await simulate(a.tasks, { now, store: source });
    await sim.advance('1m');
    sim.deploy(b.tasks, { beside: true });
    await sim.advance('10m');
    expect(a.ran).toEqual(['a by a']);
    expect(new Set(b.ran)).toEqual(new Set(['b by b']));
    await a.tasks.schedules.pause('report');
    await a.tasks.schedules.resume('report');
    expect(await b.tasks.schedules.get('report')).toMatchObject({ task: 'b', every: 120_000 });
    await expect(a.tasks.schedules.runNow('report')).rejects.toThrow(/a different version/);
  });

  test('schedules saved at run time are not changed', async () => {
    const source = kept();
    const tasks = version(source, 0);
    const job = tasks.define('other', () => {});
    const sim = await simulate(tasks, { now, store: source });
    await tasks.schedules.save('kept', { task: job, every: '12h' });
    await sim.advance('5d');
    expect(await tasks.schedules.get('kept')).toMatchObject({ paused: false, runs: 10 });
  });
});

test('schedules are rejected if no worker could ever fire them', async () => {
  const tasks = createTasks();
  const job = tasks.define('job', () => {});
  await expect(tasks.schedules.save('x', { task: job, every: '1m' })).rejects.toThrow(/need a default backend with a store and workers/);
  const several = createTasks({ backends: { default: memory(), other: memory() } });
  const elsewhere = several.define('elsewhere', { backend: 'other', run: () => {} });
  const late = several.define('late', () => {});
  expect(() => several.schedule('x', { task: elsewhere, every: '1m' })).toThrow(/a task of the default backend/);
  expect(() => several.schedule('y', { task: late, at: '2026-01-01T00:00:00Z', endAt: '2025-01-01T00:00:00Z' })).toThrow(/never fires/);
});
