/** `escapement schedules`, and what `check` reports about schedules, in this process, on a SQLite file. */
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import type { ScheduleInfo } from 'escapement';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { width } from '../../cli/format.ts';
import { cli, type Ran } from './cli.ts';
import { sharedStore } from './shared.ts';

/** The current time. It must be set before the engine is loaded, which captures `Date.now`. Undefined: the real time. */
const clock = vi.hoisted(() => {
  const real = Date.now;
  const set: { at: string | undefined } = { at: undefined };
  Date.now = () => (set.at === undefined ? real() : Date.parse(set.at));
  return set;
});
// The day before Berlin changes to summer time.
beforeEach(() => {
  clock.at = '2026-03-28T06:00:00Z';
});

/** Characters that control a terminal or reorder its text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const unsafe = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
const id = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g;

interface Options {
  /** Lines appended to the module, which define its schedules. */
  readonly code?: string;
}

/** A store, and `escapement schedules` on it. */
function schedulesOn({ code = '' }: Options = {}) {
  const store = sharedStore();
  const run = (...args: string[]): Promise<Ran> => {
    const [command = '', ...rest] = args;
    return cli(['schedules', command, store.module(code), ...rest]);
  };
  /** Replaces the module's path, which differs between runs. */
  const printed = async (...args: string[]) => {
    const { code: exitCode, stdout, stderr } = await run(...args);
    expect([exitCode, stderr]).toEqual([0, '']);
    return stdout.replace(/\S+tasks\.ts/g, 'tasks.ts').replace(id, 'ID'.padEnd(36));
  };
  const document = async (...args: string[]) => {
    const { code: exitCode, stdout, stderr } = await run(...args, '--json');
    expect([exitCode, stderr]).toEqual([0, '']);
    return JSON.parse(stdout);
  };
  const save = (name: string, options: object) =>
    store.use(({ tasks, later }) => tasks.schedules.save(name, { task: later, ...options } as never));
  return { store, run, printed, document, save };
}

const digest = "tasks.schedule('digest', { task: later, cron: '0 9 * * *', timezone: 'Europe/Berlin' });";

describe('list', () => {
  test('describes when each schedule fires and its state, also without the subcommand', async () => {
    const { store, printed, save } = schedulesOn({ code: digest });
    await save('later', { every: '90m', startAt: '2026-03-28T05:45:00Z' });
    await save('off', { every: '1d', enabled: false });
    await save('gone', { every: '1h', startAt: '2026-03-28T04:00:00Z', endAt: '2026-03-28T05:00:00Z' });
    await save('late', { at: '2026-03-28T05:59:00Z' });
    await save('van', { cron: '*/5 * * * *' });
    await store.use(({ tasks }) => tasks.schedules.pause('van', 'in the garage'));
    clock.at = '2026-03-28T06:00:30Z';
    const expected = await printed('list');
    expect(expected).toMatchInlineSnapshot(`
      "schedule  next                                    last  state
      digest    Sat 2026-03-28 09:00 +01:00 (in 1h59m)        active
        At 09:00 (Europe/Berlin) → later
      gone                                                    ended
        Every 1h → later
      late      Sat 2026-03-28 05:59 UTC (due)                active
        Once, at 2026-03-28T05:59:00.000Z → later
      later     Sat 2026-03-28 07:15 UTC (in 1h14m)           active
        Every 1h 30m
      off                                                     disabled
        Every 1d → later
      van                                                     paused
        Every 5 minutes (UTC) → later
        paused: in the garage
      "
    `);
    const bare = await cli(['schedules', store.module(digest)]);
    expect(bare).toEqual({ code: 0, stdout: expected, stderr: '' });
    expect(await printed('list', '--paused')).toMatch(/^schedule .*\nvan .*paused\n.*\n {2}paused: in the garage\n$/);
    expect(await printed('list', '--task', 'nap')).toBe('no matching schedules\n');
    const first = await cli(['schedules', '--json', store.module(digest)]);
    const { schedules } = JSON.parse(first.stdout) as { schedules: (ScheduleInfo & { state: string })[] };
    expect(schedules.map(({ name, state }) => [name, state])).toEqual([
      ['digest', 'active'],
      ['gone', 'ended'],
      ['late', 'active'],
      ['later', 'active'],
      ['off', 'disabled'],
      ['van', 'paused'],
    ]);
  });

  test('explains how to define a schedule if there are none', async () => {
    const { printed, document } = schedulesOn();
    expect(await printed('list')).toBe('no schedules are defined; tasks.schedule(name, { task, cron }) defines one\n');
    expect(await printed('next')).toBe('no schedule has a next occurrence\n');
    expect(await document('list')).toEqual({ schedules: [] });
    expect(await document('next')).toEqual({ occurrences: [] });
  });

  test('fits in 100 columns and keeps the task name, however long the description', async () => {
    const { printed, save } = schedulesOn();
    const any = [{ cron: '0 9 * * 1-5' }, { every: '90m' }, { sun: { event: 'sunset', latitude: 52.52001, longitude: 13.40495 } }];
    await save(`a${'b'.repeat(100)}c`, { any, timezone: 'Europe/Berlin' });
    const lines = (await printed('list')).split('\n');
    expect(lines[1]).toMatch(/^ab+…b+c {2}Sat 2026-03-28 08:30 \+01:00/);
    expect(lines[2]).toMatch(/^ {2}At 09:00, Monday through Friday \(Europe\/Berlin\); Every 1h 30m; At sunset.*… → later$/);
    expect(Math.max(...lines.map(width))).toBeLessThanOrEqual(100);
  });
});

describe('next', () => {
  test('shows local time, UTC and the clock changes of Berlin', async () => {
    const { printed, document, save } = schedulesOn();
    await save('night', { cron: '30 2 * * *', timezone: 'Europe/Berlin' });
    expect(await printed('next', 'night', '--count', '3')).toMatchInlineSnapshot(`
      "in Europe/Berlin             UTC
      Sun 2026-03-29 03:00 +02:00  2026-03-29 01:00Z  in 19h00m
        clocks go forward at 02:00, +1h; 02:30 does not exist on this day
      Mon 2026-03-30 02:30 +02:00  2026-03-30 00:30Z   in 1d18h
      Tue 2026-03-31 02:30 +02:00  2026-03-31 00:30Z   in 2d18h
      "
    `);
    expect(await document('next', 'night', '--count', '1')).toEqual({
      occurrences: [
        {
          schedule: 'night',
          task: 'later',
          at: '2026-03-29T01:00:00.000Z',
          timezone: 'Europe/Berlin',
          local: '2026-03-29T03:00:00+02:00',
          inMs: 68_400_000,
          clocks: { at: '2026-03-29T01:00:00.000Z', shiftMs: 3_600_000 },
          skipped: { date: '2026-03-29', time: '02:30' },
        },
      ],
    });
  });

  test('reports a half-hour clock change once, on its day', async () => {
    const { printed, save } = schedulesOn();
    clock.at = '2026-04-04T14:00:00Z';
    await save('howe', { cron: '0 1-2 * * *', timezone: 'Australia/Lord_Howe', maxRuns: 3 });
    expect(await printed('next', 'howe')).toMatchInlineSnapshot(`
      "in Australia/Lord_Howe       UTC
      Sun 2026-04-05 02:00 +10:30  2026-04-04 15:30Z  in 1h30m
        clocks go back at 02:00, -30m
      Mon 2026-04-06 01:00 +10:30  2026-04-05 14:30Z  in 1d00h
      Mon 2026-04-06 02:00 +10:30  2026-04-05 15:30Z  in 1d01h
      no more after that
      "
    `);
    clock.at = '2026-10-03T14:00:00Z';
    await save('quarter', { cron: '15 2 * * *', timezone: 'Australia/Lord_Howe', jitter: '30s' });
    expect(await printed('next', 'quarter', '--count', '1')).toMatchInlineSnapshot(`
      "in Australia/Lord_Howe       UTC
      Sun 2026-10-04 02:30 +11:00  2026-10-03 15:30Z  in 1h30m
        clocks go forward at 02:00, +30m; 02:15 does not exist on this day
      each fires up to 30s later because of jitter
      "
    `);
  });

  test('without a name merges all active schedules in time order', async () => {
    const { store, printed, document, save } = schedulesOn({ code: digest });
    await save('often', { every: '6h', startAt: '2026-03-28T00:30:00Z', jitter: '5h' });
    await save('night', { cron: '30 2 * * *', timezone: 'Europe/Berlin' });
    await save('van', { every: '1m' });
    await store.use(({ tasks }) => tasks.schedules.pause('van'));
    expect(await printed('next')).toMatchInlineSnapshot(`
      "local                        UTC                           schedule
      Sat 2026-03-28 06:30 UTC     2026-03-28 06:30Z  in 30m00s  often
      Sat 2026-03-28 09:00 +01:00  2026-03-28 08:00Z   in 2h00m  digest
      Sat 2026-03-28 12:30 UTC     2026-03-28 12:30Z   in 6h30m  often
      Sat 2026-03-28 18:30 UTC     2026-03-28 18:30Z  in 12h30m  often
      Sun 2026-03-29 00:30 UTC     2026-03-29 00:30Z  in 18h30m  often
      1 schedule is paused
      "
    `);
    const { occurrences } = await document('next', '--count', '7');
    expect(occurrences.slice(5).map(({ schedule, at }: { schedule: string; at: string }) => [schedule, at])).toEqual([
      ['night', '2026-03-29T01:00:00.000Z'],
      ['often', '2026-03-29T06:30:00.000Z'],
    ]);
    expect(await printed('next', '--count', '6')).toMatch(
      /night\n {2}Europe\/Berlin: clocks go forward at 02:00, \+1h; 02:30 does not exist on this day\n/,
    );
  });

  test('omits past occurrences of a paused schedule, and reports the pause', async () => {
    const { store, printed, save } = schedulesOn();
    await save('van', { cron: '*/5 * * * *' });
    await store.use(({ tasks }) => tasks.schedules.pause('van', 'in the garage'));
    clock.at = '2026-03-29T06:01:00Z';
    expect(await printed('next', 'van', '--count', '2')).toMatchInlineSnapshot(`
      "UTC
      Sun 2026-03-29 06:05 UTC  in 4m00s
      Sun 2026-03-29 06:10 UTC  in 9m00s
      paused: in the garage
      paused; to resume it: escapement schedules resume tasks.ts van
      "
    `);
    await save('off', { every: '1d', enabled: false });
    expect(await printed('next', 'off')).toBe('off has no next occurrence: it is defined with enabled: false\n');
  });
});

test('show prints everything about a schedule, with its next occurrences and latest jobs', async () => {
  const { store, printed, document, save } = schedulesOn();
  const any = [{ cron: '30 2 * * *' }, { every: '90d' }, { at: '2026-12-24T12:00:00Z' }];
  const more = { startAt: '2026-03-27T00:00:00Z', endAt: '2027-01-01T00:00:00Z', maxRuns: 400, jitter: '30s', overlap: 'queue-one' };
  await save('night', { any, timezone: 'Europe/Berlin', ...more, missed: { catchUp: 'all', limit: 3 } });
  await store.use(async ({ tasks }) => {
    await tasks.schedules.backfill('night', { from: '2026-03-28T00:00:00Z' });
    await tasks.schedules.pause('night', 'until Monday');
  });
  expect(await printed('show', 'night')).toMatchInlineSnapshot(`
    "night  paused
      paused     until Monday
      words      At 02:30 (Europe/Berlin); Every 90d; Once, at 2026-12-24T12:00:00.000Z
      trigger    cron  30 2 * * *  Europe/Berlin
                 every 90d, counted from Fri 2026-03-27 00:00 UTC
                 at    Thu 2026-12-24 12:00 UTC
      starts     Fri 2026-03-27 01:00 +01:00
      ends       Fri 2027-01-01 01:00 +01:00
      task       later, in queue default
      runs       0 of at most 400 occurrences
      jitter     up to 30s later
      missed     all run, however late, at most the latest 3
      overlap    queue-one: while a job is unfinished, one occurrence waits for it
      source     store: saved at run time by tasks.schedules.save()
      next       Sun 2026-03-29 03:00 +02:00  2026-03-29 01:00Z  in 19h00m
                   clocks go forward at 02:00, +1h; 02:30 does not exist on this day
                 Mon 2026-03-30 02:30 +02:00  2026-03-30 00:30Z   in 1d18h
                 Tue 2026-03-31 02:30 +02:00  2026-03-31 00:30Z   in 2d18h
                 Wed 2026-04-01 02:30 +02:00  2026-04-01 00:30Z   in 3d18h
                 Thu 2026-04-02 02:30 +02:00  2026-04-02 00:30Z   in 4d18h
      jobs       2026-03-28 02:30  ready  ID                                    now
    "
  `);
  expect(await document('show', 'night')).toMatchObject({
    name: 'night',
    state: 'paused',
    occurrences: [{ at: '2026-03-29T01:00:00.000Z' }, {}, {}, {}, {}],
    jobs: [{ task: 'later', schedule: 'night', scheduledAt: '2026-03-28T01:30:00.000Z' }],
  });
});

test('a held occurrence is reported', async () => {
  const { store, printed, save } = schedulesOn();
  await save('slow', { every: '1h', startAt: '2026-03-28T05:00:00Z', overlap: 'queue-one' });
  edit(store.file, "UPDATE escapement_schedules SET held_at = unixepoch('2026-03-28T05:00:00Z') * 1000");
  expect(await printed('list')).toMatch(/ held\n/);
  expect(await printed('show', 'slow')).toMatch(
    /\n {2}held {7}the occurrence of Sat 2026-03-28 05:00 UTC, until earlier jobs have finished\n/,
  );
});

test('a schedule that this machine cannot compute is shown partially and does not hide the others', async () => {
  const { store, run, printed, document, save } = schedulesOn();
  await save('abroad', { cron: '0 9 * * *', timezone: 'Europe/Berlin' });
  await save('here', { every: '1h' });
  edit(store.file, "UPDATE escapement_schedules SET row = replace(row, 'Europe/Berlin', 'Europe/Atlantis')");
  expect(await printed('list')).toMatch(/^abroad {4}Sat 2026-03-28 08:00 UTC .*\n.*Atlantis.*\nhere /m);
  expect(await printed('show', 'abroad')).toMatch(/\n {2}next {7}cannot be computed: .*Atlantis\n {2}jobs {7}none\n$/);
  expect(await document('show', 'abroad')).toMatchObject({ occurrences: [], fault: expect.stringMatching(/Atlantis/) });
  expect(await run('next', 'abroad')).toMatchObject({ code: 2, stderr: expect.stringMatching(/^escapement: .*Atlantis\n$/) });
  const checked = await cli(['check', store.module()]);
  expect(checked.stdout).toMatch(/^wrong {2}schedule {2}abroad has no next occurrence: .*Atlantis$/m);
});

test('a schedule is paused with a reason and resumed', async () => {
  const { printed, document } = schedulesOn({ code: digest });
  expect(await printed('pause', 'digest', '--reason', 'holiday')).toBe(
    'paused digest: holiday; its occurrences are skipped until it is resumed\n',
  );
  expect(await printed('pause', 'digest')).toBe('digest was already paused: holiday\n');
  expect(await printed('pause', 'digest', '--reason', 'longer')).toBe('digest stays paused: longer\n');
  expect(await printed('resume', 'digest')).toBe('resumed digest, next at Sat 2026-03-28 09:00 +01:00 (in 2h00m)\n');
  expect(await printed('resume', 'digest')).toBe('digest was not paused, next at Sat 2026-03-28 09:00 +01:00 (in 2h00m)\n');
  expect(await printed('pause', 'digest')).toBe('paused digest; its occurrences are skipped until it is resumed\n');
  expect(await document('pause', 'digest')).toMatchObject({ name: 'digest', state: 'paused', pausedBecause: 'paused', nextAt: null });
  expect(await document('resume', 'digest')).toMatchObject({ name: 'digest', state: 'active', nextAt: '2026-03-28T08:00:00.000Z' });
});

test('run enqueues a job immediately with the given input', async () => {
  const { store, run, printed, document } = schedulesOn({
    code: "tasks.schedule('hello', { task: greet, input: { name: 'Ada' }, every: '1d' });",
  });
  expect(await printed('run', 'hello')).toBe(
    `enqueued ${'ID'.padEnd(36)}  mail.greet, ready in queue default\nto follow it: escapement show tasks.ts ${'ID'.padEnd(36)}\n`,
  );
  const job = await document('run', 'hello', '--input', '{"name":"Grace"}');
  expect(job).toMatchObject({ task: 'mail.greet', status: 'ready', schedule: 'hello', scheduledAt: expect.any(String) });
  const shown = await store.document('show', job.id);
  expect(shown).toMatchObject({ input: { name: 'Grace' } });
  expect(await run('run', 'hello', '--input', '{name')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--input is not valid JSON/),
  });
});

describe('backfill', () => {
  const march = ['--from', '2026-03-25T00:00:00+01:00', '--to', '2026-03-28T00:00:00+01:00'];

  test('reports what it would enqueue, and requires --yes for more than one job', async () => {
    const { run, printed, document } = schedulesOn({ code: digest });
    expect(await run('backfill', 'digest', ...march)).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'escapement: 3 jobs would be enqueued, for occurrences from Wed 2026-03-25 09:00 +01:00 to Fri 2026-03-27 09:00 +01:00; add --yes to enqueue them, or --dry-run to list them\n',
    });
    expect(await printed('backfill', 'digest', ...march, '--dry-run')).toMatchInlineSnapshot(`
      "3 jobs of later would be enqueued
        Wed 2026-03-25 09:00 +01:00  2026-03-25 08:00Z
        Thu 2026-03-26 09:00 +01:00  2026-03-26 08:00Z
        Fri 2026-03-27 09:00 +01:00  2026-03-27 08:00Z
      "
    `);
    const one = ['--from', '2026-03-26T08:00:00Z', '--to', '2026-03-26T08:00:00Z'];
    expect(await printed('backfill', 'digest', ...one)).toBe('enqueued 1 job of later\n');
    expect(await document('backfill', 'digest', ...march, '--dry-run')).toEqual({
      schedule: 'digest',
      dryRun: true,
      occurrences: [
        { at: '2026-03-25T08:00:00.000Z', local: '2026-03-25T09:00:00+01:00' },
        { at: '2026-03-27T08:00:00.000Z', local: '2026-03-27T09:00:00+01:00' },
      ],
      present: 1,
      jobs: [],
    });
    expect(await printed('backfill', 'digest', ...march, '--yes')).toBe('enqueued 2 jobs of later; 1 occurrence already has a job\n');
    expect(await printed('backfill', 'digest', ...march)).toBe('nothing is missing: 3 occurrences already have jobs\n');
    expect(await printed('backfill', 'digest', ...one.with(1, '2026-03-26T07:00:00Z').with(3, '2026-03-26T07:30:00Z'))).toBe(
      'digest had no occurrences in this period\n',
    );
  });

  test('reports the number of jobs it creates, for any trigger', async () => {
    const { document, save } = schedulesOn();
    clock.at = '2026-03-20T00:00:00Z';
    await save('several', {
      any: [
        { cron: '0 */4 * * *' },
        { every: '90m' },
        { every: '36h' },
        { at: '2026-03-21T00:01:00Z' },
        { sun: { event: 'sunset', latitude: 52.52, longitude: 13.4 } },
      ],
      timezone: 'Europe/Berlin',
      endAt: '2026-03-27T00:00:00Z',
    });
    clock.at = '2026-03-30T12:00:00Z';
    const told = await document('backfill', 'several', '--from', '2026-03-19T00:00:00Z', '--dry-run');
    const made = await document('backfill', 'several', '--from', '2026-03-19T00:00:00Z', '--yes');
    expect(told.occurrences.length).toBeGreaterThan(150);
    expect(made.jobs.map(({ scheduledAt }: { scheduledAt: string }) => scheduledAt)).toEqual(
      told.occurrences.map(({ at }: { at: string }) => at),
    );
  });

  test('is limited in number and to the past', async () => {
    const { run, printed, save } = schedulesOn({ code: digest });
    await save('minute', { cron: '* * * * *' });
    const refusals: [args: string[], line: string][] = [
      [
        ['--from', '2026-03-27T00:00:00Z', '--limit', '100'],
        'minute has more than 100 occurrences in this period; give a shorter period or a higher --limit',
      ],
      [['--from', '2026-03-29T00:00:00Z'], '--from is in the future'],
      [['--from', '2026-03-27T00:00:00Z', '--to', '2026-03-26T00:00:00Z'], '--from is after --to'],
      [
        ['--from', '2026-03-27T00:00:00Z', '--to', '2026-04-26T00:00:00Z'],
        '--to is in the future; future occurrences enqueue their jobs automatically',
      ],
    ];
    for (const [args, line] of refusals)
      expect(await run('backfill', 'minute', ...args)).toEqual({ code: 2, stdout: '', stderr: `escapement: ${line}\n` });
    expect(await run('backfill', 'minute')).toMatchObject({ code: 2, stderr: expect.stringMatching(/required option '--from/) });
    const long = await printed('backfill', 'minute', '--from', '2026-03-28T05:00:00Z', '--dry-run');
    expect(long).toMatch(/^61 jobs of later would be enqueued\n(.*\n){20} {2}and 41 more\n$/);
  });
});

test('remove requires --yes and does not remove schedules defined in code', async () => {
  const { run, document, save } = schedulesOn({ code: digest });
  await save('once', { at: '2026-04-01T00:00:00Z' });
  expect(await run('remove', 'once')).toEqual({
    code: 2,
    stdout: '',
    stderr:
      'escapement: once (Once, at 2026-04-01T00:00:00.000Z; 0 runs so far) would be removed and cannot be restored; add --yes to remove it\n',
  });
  expect(await document('remove', 'once', '--yes')).toEqual({ schedule: 'once', removed: true });
  expect(await run('remove', 'once', '--yes')).toMatchObject({ code: 1, stderr: 'escapement: no schedule has the name "once"\n' });
  expect(await run('remove', 'digest', '--yes')).toMatchObject({
    code: 2,
    stderr: 'escapement: schedule digest is defined in code; remove it there, or pause it\n',
  });
});

test('an unknown name or command suggests the closest match', async () => {
  const { run, store } = schedulesOn({ code: digest });
  const from = ['--from', '2026-03-27T00:00:00Z'];
  for (const [command = '', ...args] of [['next'], ['show'], ['pause'], ['resume'], ['run'], ['backfill', ...from], ['remove', '--yes']]) {
    expect(await run(command, 'digets', ...args), command).toEqual({
      code: 1,
      stdout: '',
      stderr: 'escapement: no schedule has the name "digets"; did you mean digest?\n',
    });
  }
  expect(await cli(['schedules', 'shwo', store.module(), 'digest'])).toEqual({
    code: 2,
    stdout: '',
    stderr: 'escapement: unknown command schedules shwo; the commands are list, next, show, pause, resume, run, backfill and remove\n',
  });
  expect(await cli(['schedules'], { cwd: dirname(store.file) })).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^escapement: no module given/),
  });
});

test('names, reasons and triggers print no terminal control characters', async () => {
  const { store, run, save } = schedulesOn();
  await save('evil', { cron: '0 9 * * *' });
  await store.use(({ tasks }) => tasks.schedules.pause('evil', 'see \u001b]52;c;AAAA\u0007 \u202ethis\u0085'));
  const name = 'ev\u001b[31mil\u202e';
  edit(store.file, 'UPDATE escapement_schedules SET name = ?', name);
  const from = ['--from', '2026-03-27T00:00:00Z'];
  const commands = [
    ['list'],
    ['next'],
    ['next', name],
    ['show', name],
    ['pause', name],
    ['backfill', name, ...from, '--dry-run'],
    ['backfill', name, ...from],
    ['remove', name],
    ['resume', name],
    ['pause', `${name}x`],
  ];
  for (const [command = '', ...args] of commands) {
    for (const json of [[], ['--json']]) {
      const { stdout, stderr } = await run(command, ...args, ...json);
      expect(stdout + stderr, command).not.toMatch(unsafe);
      expect(stdout + stderr, command).not.toBe('');
    }
  }
  expect((await cli(['check', store.module()])).stdout).not.toMatch(unsafe);
});

describe('check', () => {
  const lines = async (store: ReturnType<typeof sharedStore>, code = '') =>
    (await cli(['check', store.module(code)])).stdout.split('\n').filter((line) => line.includes('  schedule  '));

  test('reports paused, disabled and ended schedules', async () => {
    const { store, save } = schedulesOn();
    await save('van', { every: '1m' });
    await save('off', { every: '1m', enabled: false });
    await save('last', { every: '1h', startAt: '2026-03-28T05:00:00Z', endAt: '2026-03-28T05:00:00Z' });
    await store.use(({ tasks }) => tasks.schedules.pause('van', 'in the garage'));
    expect(await lines(store)).toEqual([
      'note   schedule  off is disabled: it is defined with enabled: false',
      'note   schedule  van is paused: in the garage',
      'note   schedule  last has no occurrence left',
    ]);
    for (let i = 0; i < 5; i++) await save(`last:${i}`, { every: '1h', startAt: '2026-03-28T05:00:00Z', endAt: '2026-03-28T05:00:00Z' });
    expect((await lines(store)).at(-1)).toBe('note   schedule  6 schedules have no occurrence left');
  });

  test('reports schedules in code that no live worker declares, and those with unknown tasks', async () => {
    const { store } = schedulesOn();
    clock.at = undefined;
    await store.use(async ({ tasks, later }) => {
      tasks.schedule('old', { task: later, every: '1h' });
      tasks.schedule('older', { task: tasks.define('gone', () => {}), every: '1h' });
      const worker = tasks.worker({ queues: ['none'] });
      await worker.start();
      await expect.poll(() => store.use(async (other) => other.tasks.schedules.list())).toHaveLength(2);
      expect(await lines(store)).toEqual([
        expect.stringMatching(
          /^wrong {2}schedule {2}older enqueues jobs of gone, which the module does not define; define it, or remove it: /,
        ),
      ]);
      await worker.stop();
    });
    await store.use(async ({ tasks }) => {
      const worker = tasks.worker({ queues: ['none'] });
      await worker.start();
      await expect.poll(async () => (await tasks.workers.list()).map(({ state }) => state)).toContain('running');
      const undeclared = /^note {3}schedule {2}no live worker declares old; .* escapement schedules remove \S+ old --yes$/;
      expect(await lines(store)).toEqual([expect.stringMatching(undeclared), expect.stringMatching(/^wrong {2}schedule {2}older /)]);
      await tasks.schedules.pause('older');
      expect((await lines(store))[1]).toMatch(
        /^note {3}schedule {2}older is paused; it enqueues jobs of gone, which the module does not define: remove it/,
      );
      await worker.stop();
    });
  });
});

test('every schedules command has help with examples', async () => {
  const { stdout } = await cli(['schedules', '--help']);
  const names = [...stdout.matchAll(/^ {2}([a-z]+) .*<module>/gm)].map(([, name]) => name as string);
  expect(names).toEqual('list next show pause resume run backfill remove'.split(' '));
  for (const name of names) {
    const help = await cli(['schedules', name, '--help']);
    expect(help, name).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout, name).toMatch(new RegExp(`Examples:\n  \\$ escapement schedules ${name} tasks\\.ts`));
    expect(help.stdout, name).toMatch(/--json/);
  }
});

/** Changes the store directly, bypassing the API. */
function edit(file: string, sql: string, ...values: string[]): void {
  const db = new Database(file);
  db.prepare(sql).run(...values);
  db.close();
}
