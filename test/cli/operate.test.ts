/** Operator commands, in this process, on a SQLite file. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { expect, test } from 'vitest';
import { placesOf, propertyLines } from '../../cli/jobs.ts';
import { cli, root } from './cli.ts';
import { sharedStore } from './shared.ts';

const id = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/;
const ids = new RegExp(id, 'g');
const anonymous = (text: string) => text.replace(ids, 'ID'.padEnd(36)).replace(/due in \S+/g, 'due in …');
/** Fixes the clock, because ages are printed to the minute. */
const anHourLater = { now: () => Date.now() + 3_600_000 };
/** Characters that control a terminal or reorder its text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const unsafe = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

test('a job is enqueued, listed, shown, cancelled and retried', async () => {
  const store = sharedStore();
  const enqueued = await store.run('enqueue', ['mail.greet', '--input', '{"name":"Ada"}', '--tag', 'a', '--tag', 'b', '--priority', '-5']);
  expect(enqueued).toMatchObject({ code: 0, stderr: '' });
  expect(anonymous(enqueued.stdout)).toBe(`enqueued ${'ID'.padEnd(36)}  mail.greet, ready in queue default\n`);
  const job = id.exec(enqueued.stdout)?.[0] as string;

  const listed = await store.run('list', [], anHourLater);
  expect(anonymous(listed.stdout)).toMatchInlineSnapshot(`
    "id                                    status  task        queue    tries   enqueued
    ID                                    ready   mail.greet  default  0/20   1h00m ago
    "
  `);

  const cancelled = await store.run('cancel', [job.slice(-6), '--reason', 'wrong name']);
  expect(cancelled.stdout).toBe(`cancelled ${job}  mail.greet, now cancelled\n`);
  const twice = await store.run('cancel', [job]);
  expect(twice).toEqual({ code: 1, stdout: '', stderr: `escapement: job ${job} is cancelled; only unfinished jobs can be cancelled\n` });

  const retried = await store.run('retry', [job.slice(-8), 'no-such-job']);
  expect(retried).toEqual({
    code: 1,
    stdout: `retried ${job}  mail.greet, now ready\n`,
    stderr: 'escapement: no id of the 5,000 newest jobs begins or ends with no-such-job; give the whole id\n',
  });
  await store.work();
  const shown = await store.document('show', job);
  expect(shown).toMatchObject({
    id: job,
    status: 'successful',
    input: { name: 'Ada' },
    returnValue: 'Hello, Ada',
    tags: ['a', 'b'],
    priority: -5,
    unreadable: [],
  });
  const again = await store.run('retry', [job]);
  expect(again).toMatchObject({ code: 1, stdout: '' });
  expect(again.stderr).toMatch(/was successful; enqueue a new job/);
});

test('jobs are reprioritized and deleted', async () => {
  const store = sharedStore();
  await store.use(async ({ greet, wide }) => {
    await greet.using({ runAfter: '1h' }).enqueueMany([{ name: 'a' }, { name: 'b' }]);
    await (await wide.enqueue()).cancel();
  });
  const [over, b, a] = (await store.document('list')).jobs;
  expect(await store.run('prioritize', [a?.id ?? '', '--priority', '-7'])).toMatchObject({
    code: 0,
    stdout: `prioritized ${a?.id}  mail.greet, now -7\n`,
  });
  expect(await store.run('prioritize', [over?.id ?? '', '--priority', '1'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/is cancelled; only the priority of a queued job/),
  });
  expect((await store.run('prioritize', [a?.id ?? ''])).stderr).toMatch(/required option '--priority <n>'/);
  expect((await store.run('prioritize', [a?.id ?? '', '--priority', '101'])).stderr).toMatch(/-100 to 100/);
  expect(await store.document('prioritize', '--task', 'mail.greet', '--priority', '50', '--yes')).toEqual({ prioritized: 2 });
  expect(await store.document('show', a?.id ?? '')).toMatchObject({ priority: 50 });

  // Without a status, unfinished jobs are not deleted.
  expect((await store.run('delete', ['--task', 'mail.greet', '--yes'])).stdout).toBe('no matching job can be deleted\n');
  expect((await store.run('delete', [over?.id ?? ''])).stdout).toMatch(/^deleted .* was cancelled\n$/);
  expect((await store.run('delete', [over?.id ?? ''])).code).toBe(1);
  expect(await store.run('delete', ['--status', 'scheduled'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/2 jobs would be deleted/),
  });
  expect(await store.document('delete', '--status', 'scheduled', '--yes')).toEqual({ deleted: 2 });
  expect(await store.document('list')).toEqual({ jobs: [], cursor: null });
  expect((await store.run('delete', [b?.id ?? ''])).code).toBe(1);
});

test('filters change many jobs only with confirmation, and only matching jobs', async () => {
  const store = sharedStore();
  await store.use(async ({ greet, wide }) => {
    await greet.using({ runAfter: '1h' }).enqueueMany([{ name: 'a' }, { name: 'b' }, { name: 'c' }]);
    await wide.enqueue();
  });
  expect(await store.run('cancel', ['--task', 'mail.greet'])).toEqual({
    code: 2,
    stdout: '',
    stderr: 'escapement: 3 jobs would be cancelled; add --yes to do it\n',
  });
  expect(await store.run('cancel', ['--queue', 'slow'])).toMatchObject({ code: 0, stdout: 'cancelled 1 job\n' });
  expect(await store.document('cancel', '--tag', 'mail', '--status', 'scheduled,running', '--yes')).toEqual({ cancelled: 3 });
  expect((await store.run('retry', ['--task', 'mail.greet', '--yes'])).stdout).toBe('no matching job can be retried\n');
  expect(await store.document('retry', '--status', 'cancelled', '--task', 'mail.greet', '--yes')).toEqual({ retried: 3 });
  expect(await store.run('retry')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^escapement: which jobs\? give ids, or filters/),
  });
  expect(await store.run('cancel', ['abcd', '--queue', 'x'])).toMatchObject({
    code: 2,
    stderr: 'escapement: give ids or filters, not both\n',
  });
});

test('lists are paginated and print how to continue', async () => {
  const store = sharedStore();
  await store.use(({ greet }) => greet.enqueueMany(Array.from({ length: 5 }, (_, i) => ({ name: String(i) }))));
  const first = await store.run('list', ['--limit', '2', '--task', 'mail.greet']);
  const [, args] = /^more: escapement list \S+ (.*)$/m.exec(first.stdout) ?? [];
  const second = await store.run('list', (args as string).split(' '));
  const third = await store.document('list', '--limit', '5', '--status', 'ready,failed');
  const seen = [...first.stdout.matchAll(ids), ...second.stdout.matchAll(ids)].map(([found]) => found);
  expect(seen.filter((found, i) => seen.indexOf(found) === i).slice(0, 4)).toEqual(third.jobs.slice(0, 4).map((job) => job.id));
  expect(third.cursor).toBeNull();
  expect((await store.run('list', ['--status', 'failed'])).stdout).toBe('no matching jobs\n');
  const ambiguous = await store.run('show', [seen[0]?.slice(0, 4) as string]);
  expect(ambiguous).toMatchObject({ code: 1, stderr: expect.stringMatching(/^escapement: 5 jobs have ids that begin or end with/) });
});

test('errors show the properties missing from their messages, and the messages of causes and members', () => {
  expect(
    propertyLines({ name: 'A', message: '402 declined', code: 'E_CARD', status: 402, properties: { detail: { pan: '\u001b[1m' } } }),
  ).toEqual(['code=E_CARD  detail={"pan":"\\u001b[1m"}']);
  expect(propertyLines({ name: 'TimeoutError', message: 'late', code: 'ESCAPEMENT_TIMEOUT' })).toEqual([]);
  expect(placesOf('Error: a\n    at x (y.ts:1:1)\ncaused by: Error: b\n  lines of b\nerror 1 of 2: c')).toEqual([
    'at x (y.ts:1:1)',
    'caused by: Error: b',
    'error 1 of 2: c',
  ]);
});

test('errors show their stacks without terminal control characters', async () => {
  const store = sharedStore();
  await store.use(async ({ broken, wide, flaky }) => {
    await broken.enqueue();
    await wide.enqueue();
    await flaky.enqueue();
  });
  await store.work();
  const list = await store.run('list', [], { ...anHourLater, tty: true, env: { NO_COLOR: '1' } });
  expect(anonymous(list.stdout)).toMatchInlineSnapshot(`
    "id                                    status     task    queue    tries   enqueued
    ID                                    retrying   flaky   default  1/3    1h00m ago  due in …
    ID                                    cancelled  wide    slow     1/20   1h00m ago  no such 山田
    ID                                    failed     broken  default  1/20   1h00m ago  PermanentError: boom 山田 again
    "
  `);
  const failed = await store.document('list', '--status', 'failed');
  const [job] = failed.jobs;
  const shown = await store.run('show', [job?.id as string], anHourLater);
  expect(shown.stdout).toMatch(/^broken {2}failed, 1 of 20 attempts used\n/);
  expect(shown.stdout).toMatch(
    /\n {2}attempt 1 {3}PermanentError: boom 山田 again\n {14}\d{4}-\S+Z {2}on \S+, took \d+ms\n {14}at .*shared\.ts/,
  );
  for (const text of [list.stdout, shown.stdout, (await store.run('show', [job?.id as string, '--json'])).stdout])
    expect(text).not.toMatch(unsafe);
});

test('queues are paused and resumed, and stats and check show their workers', async () => {
  const store = sharedStore();
  await store.use(async ({ greet, wide }) => {
    await greet.enqueueMany([{ name: 'a' }, { name: 'b' }]);
    await wide.enqueue();
  });
  expect((await store.run('pause', ['slow'])).stdout).toBe('paused slow, with 1 job ready\n');
  expect((await store.run('pause', ['slow'])).stdout).toBe('slow was already paused\n');
  expect((await store.run('queues', [], anHourLater)).stdout).toMatchInlineSnapshot(`
    "queue            waiting  scheduled  ready  retrying  running  successful  failed  cancelled  oldest ready
    default                ·          ·      2         ·        ·           ·       ·          ·     1h00m ago
    slow     paused        ·          ·      1         ·        ·           ·       ·          ·     1h00m ago
    "
  `);
  const unstaffed = await store.run('check', [], anHourLater);
  expect(unstaffed).toMatchObject({ code: 1, stderr: '' });
  expect(unstaffed.stdout).toMatch(
    /^ok {5}store {5}default \(sqlite\) opens and responds\nwrong {2}queue {5}2 jobs are ready in default, the oldest since 1h00m ago; no worker serves the queue; start one: escapement worker \S+ --queues default\nnote {3}queue {5}1 job is ready in slow.*paused\n$/,
  );
  expect((await store.run('resume', ['slow'])).stdout).toBe('resumed slow, with 1 job ready\n');
  expect(await store.document('pause', 'default')).toEqual({ queue: 'default', paused: true });

  await store.use(async ({ tasks, greet }) => {
    tasks.define('elsewhere', () => {});
    await greet.using({ queue: 'other' }).enqueue({ name: 'c' });
    const worker = tasks.worker({ id: 'w', queues: ['slow'], concurrency: 3 });
    await worker.start();
    const stats = await store.run('stats');
    expect(stats.stdout.replace(/ {2,}/g, '  ')).toMatch(/\nw {2}running {2}\d\/3 {2}slow {2}\S+ {2}\d+ {2}\d+\.\d+\.\d+ {2}now {2}now\n$/);
    const silent = await store.run('stats', ['--json'], anHourLater);
    expect(JSON.parse(silent.stdout)).toMatchObject({ workers: [{ id: 'w', state: 'silent' }], unknownTasks: [] });
    const check = await store.document('check').catch((error: Error) => error);
    expect(String(check)).toMatch(/exit code 1/);
    await worker.stop();
  });
});

test('ready jobs and schedules of unknown tasks are reported', async () => {
  const store = sharedStore();
  await store.use(async ({ tasks }) => {
    const gone = tasks.define('gone', () => {});
    tasks.schedule('old', { task: gone, every: '1h' });
    const scheduler = tasks.worker({ queues: ['none'] });
    await scheduler.start();
    // The other application sees the schedule once it is stored.
    await store.use(async (other) => {
      while ((await other.tasks.schedules.list()).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    });
    await scheduler.stop();
    const anHourAgo = new Date(Date.now() - 3_600_000);
    await gone.using({ runAfter: anHourAgo }).enqueueMany([undefined, undefined]);
  });
  await store.use(async ({ tasks }) => {
    const worker = tasks.worker({ id: 'w', scheduler: false });
    await worker.start();
    while ((await tasks.workers.list()).every(({ id }) => id !== 'w')) await new Promise((resolve) => setTimeout(resolve, 5));
    const checked = await store.run('check');
    expect(checked.stdout).toMatch(
      /^wrong {2}schedule {2}old enqueues jobs of gone, which the module does not define; define it, or remove it: escapement schedules remove \S+ old --yes$/m,
    );
    const unknown = /no live worker knows the task gone: 2 jobs are ready, the oldest since 1h00m ago$/m;
    expect(checked.stdout).toMatch(unknown);
    expect(checked.code).toBe(1);
    expect((await store.run('stats')).stdout).toMatch(unknown);
    expect(await store.document('stats')).toMatchObject({ unknownTasks: [{ task: 'gone', jobs: 2 }] });
    await worker.stop();
  });
});

test('prune deletes jobs past the given age, and migrate opens the store', async () => {
  const store = sharedStore();
  expect((await store.run('migrate')).stdout).toBe('default (sqlite) is up to date\n');
  await store.run('enqueue', ['mail.greet', '--input', '{"name":"x"}', '--run-after', '2h']);
  const { jobs } = await store.document('list');
  const due = new Date(jobs[0]?.dueAt ?? '').getTime() - Date.now();
  expect(due).toBeGreaterThan(7_100_000);
  await store.run('cancel', ['--task', 'mail.greet']);
  expect((await store.run('prune', ['--older-than', '1h'])).stdout).toBe('deleted 0 finished jobs older than 1h\n');
  await new Promise((resolve) => setTimeout(resolve, 3));
  expect((await store.run('prune', ['--older-than', '0ms', '--status', 'successful'])).stdout).toBe(
    'deleted 0 successful jobs older than 0s\n',
  );
  const dry = ['--older-than', '1ms', '--dry-run'];
  expect(await store.document('prune', ...dry)).toEqual({ deleted: 0, wouldDelete: 1 });
  expect((await store.run('prune', [...dry, '--queue', 'none'])).stdout).toBe(
    'would delete 0 finished jobs of queue none older than 1ms\n',
  );
  expect(await store.document('prune', '--older-than', '1ms')).toEqual({ deleted: 1 });
});

test('usage errors are one line that says what to do', async () => {
  const store = sharedStore();
  const faults: [command: string, args: string[], line: RegExp][] = [
    [
      'enqueue',
      ['mail.greet', '--input', '{name:1}'],
      /^escapement: --input is not valid JSON \(\{name:1\}\); quote it for the shell: --input '.*'\n$/,
    ],
    ['enqueue', ['mail.great'], /^escapement: tasks\.ts has no task mail\.great; its tasks are mail\.greet, wide, .* and careless\n$/],
    [
      'enqueue',
      ['mail.greet', '--run-after', 'soon'],
      /^escapement: option '--run-after <when>' argument 'soon' is invalid\. Give a duration/,
    ],
    ['enqueue', ['mail.greet', '--backend', 'bulk'], /^escapement: tasks\.ts has no backend bulk; its backends are: default\n$/],
    [
      'list',
      ['--status', 'done'],
      /^escapement: option '--status <status>' argument 'done' is invalid\. Give waiting, .* or cancelled\.\n$/,
    ],
    ['list', ['--limit', '0'], /invalid\. Give a whole number from 1 to 1000\.\n$/],
    ['prune', [], /^escapement: required option '--older-than <duration>' not specified\n$/],
    ['worker', ['--queues', 'a', '--exclude', 'b'], /^escapement: give --queues or --exclude, not both\n$/],
    ['worker', ['--max-memory', 'much'], /invalid\. Give a size such as '512mb' or '2gb'\.\n$/],
    ['pause', ['no queue!'], /^escapement: Invalid queue: name: expected a name/],
    ['show', ['zz'], /^escapement: no job has the id zz; finished jobs are deleted/],
  ];
  for (const [command, args, line] of faults) {
    const { code, stdout, stderr } = await store.run(command, args);
    expect(stderr, command).toMatch(line);
    expect(stderr.split('\n'), command).toHaveLength(2);
    expect([code, stdout], command).toEqual([command === 'show' ? 1 : 2, '']);
  }
  // Tasks need not be exported.
  const hidden = store.module("tasks.define('not.exported', () => {});");
  expect(await cli(['enqueue', hidden, 'not.exported'])).toMatchObject({ code: 0, stderr: '' });
  const piped = await store.run('enqueue', ['mail.greet', '--input', '-'], { stdin: '{"name":"Grace"}' });
  expect(piped.code).toBe(0);
});

test('commands use the store of --backend', async () => {
  const { file } = sharedStore();
  const src = (path: string) => JSON.stringify(join(root, 'src', path));
  const source = `import { createTasks } from ${src('index.ts')};
import { sqlite } from ${src('stores/sqlite/index.ts')};
export const tasks = createTasks({ backends: { default: sqlite({ file: ${JSON.stringify(file)} }), bulk: sqlite({ file: ${JSON.stringify(`${file}.bulk`)} }) } });
export const add = tasks.define('add', (n: number) => n + 1);
`;
  // Each command closes the application.
  let count = 0;
  const run = (command: string, ...args: string[]) => {
    const module = join(dirname(file), `two${count++}.ts`);
    writeFileSync(module, source);
    return cli([command, module, ...args]);
  };
  const bulk = ['--backend', 'bulk'];
  for (const n of [1, 2, 3]) expect(await run('enqueue', 'add', '--input', `${n}`, ...bulk)).toMatchObject({ code: 0, stderr: '' });
  const job = id.exec((await run('list', ...bulk, '--limit', '1')).stdout)?.[0] as string;
  expect((await run('list')).stdout).toBe('no matching jobs\n');
  expect((await run('list', ...bulk, '--limit', '1')).stdout).toMatch(/escapement list \S+ --backend bulk --limit 1 --after/);
  expect((await run('show', job.slice(-8), ...bulk)).stdout).toContain('add');
  expect((await run('show', job.slice(-8))).code).toBe(1);
  expect((await run('cancel', job.slice(-8), ...bulk)).stdout).toContain('now cancelled');
  expect((await run('retry', '--status', 'cancelled', ...bulk)).stdout).toBe('retried 1 job\n');
  expect((await run('prioritize', '--task', 'add', '--priority', '5', '--yes', ...bulk)).stdout).toBe('prioritized 3 jobs\n');
  expect((await run('pause', 'default', ...bulk)).stdout).toContain('with 3 jobs ready');
  expect((await run('queues', ...bulk)).stdout).toMatch(/default +paused/);
  expect((await run('queues')).stdout).toBe('no queues with jobs\n');
  expect((await run('resume', 'default', ...bulk)).stdout).toContain('resumed default');
  expect((await run('stats', ...bulk, '--json')).stdout).toContain('"ready": 3');
  expect((await run('top', ...bulk)).stdout).toMatch(/^ escapement +two\d+\.ts \(bulk\)[\s\S]*default\s+3/);
  expect((await run('top')).stdout).not.toMatch(/default\s+3/);
  expect((await run('top', '--backend', 'other')).stderr).toContain('its backends are: default, bulk');
  expect((await run('delete', '--status', 'ready', '--yes', ...bulk)).stdout).toBe('deleted 3 jobs\n');
  expect((await run('prune', '--older-than', '1s', ...bulk)).stdout).toContain('deleted 0 finished jobs');
  expect(await run('list', '--backend', 'other')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('its backends are: default, bulk'),
  });
});

test('a module whose jobs live in its own process cannot be operated from another', async () => {
  const { writeFileSync, mkdtempSync, rmSync } = await import('node:fs');
  const folder = mkdtempSync('/tmp/escapement-cli-');
  let modules = 0;
  const on = (backend: string) => {
    modules += 1;
    const path = `${folder}/m${modules}.ts`;
    const source = `import { createTasks, ${backend} } from 'escapement';\nexport const tasks = createTasks({ backend: ${backend}() });\nexport const add = tasks.define('add', (n: number) => { if (n < 0) throw new Error('negative'); return n + 1; });\n`;
    writeFileSync(path, source.replace("'escapement'", JSON.stringify(new URL('../../src/index.ts', import.meta.url).pathname)));
    return path;
  };
  try {
    const commands = [
      ['list'],
      ['show', 'abcd'],
      ['retry', 'abcd'],
      ['cancel', 'abcd'],
      ['delete', 'abcd'],
      ['queues'],
      ['pause', 'q'],
      ['resume', 'q'],
    ];
    for (const [command = '', ...args] of [
      ...commands,
      ['stats'],
      ['schedules'],
      ['prune', '--older-than', '1d'],
      ['migrate'],
      ['enqueue', 'add'],
    ]) {
      const { code, stderr } = await cli([command, on('memory'), ...args]);
      expect(stderr, command).toMatch(
        /^escapement: m\d+\.ts runs on memory\(\), whose jobs live in one process .* sqlite\(\{ file: 'tasks\.db' \}\) \}\), from 'escapement\/sqlite'\n$/,
      );
      expect(code, command).toBe(2);
    }
    expect((await cli(['enqueue', on('dummy'), 'add'])).stderr).toMatch(/runs on dummy\(\)/);
    const ran = await cli(['enqueue', on('immediate'), 'add', '--input', '2']);
    expect(anonymous(ran.stdout)).toBe(`ran ${'ID'.padEnd(36)}  add, successful: 3\n`);
    const failed = await cli(['enqueue', on('immediate'), 'add', '--input', '-1']);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(/add, failed: Error: negative\n$/);
    expect(await cli(['check', on('memory')])).toMatchObject({
      code: 0,
      stdout: 'note   store     default (memory): jobs exist in one process and are lost when it ends; sqlite({ file }) keeps them\n',
    });
    expect((await cli(['list', on('immediate')], { env: { ESCAPEMENT_DEBUG: '1' } })).stderr).toMatch(/\n\s+at /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('every command has help with examples, and the program prints its version', async () => {
  const top = await cli(['--help']);
  const names = [...top.stdout.matchAll(/^ {2}([a-z]+) .*<module>/gm)].map(([, name]) => name as string);
  expect(names).toEqual(
    'worker dev simulate enqueue list show retry cancel prioritize delete queues pause resume stats schedules check prune migrate'.split(
      ' ',
    ),
  );
  for (const name of names) {
    const { code, stdout } = await cli([name, '--help']);
    expect(code, name).toBe(0);
    if (name !== 'simulate') expect(stdout, name).toMatch(new RegExp(`Examples:\n  \\$ escapement ${name} tasks\\.ts`));
    if (name !== 'worker' && name !== 'dev') expect(stdout, name).toMatch(/--json/);
  }
  const { version } = (await import('../../package.json', { with: { type: 'json' } })).default;
  expect(await cli(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
});

test('commands find the module through package.json, tasks.ts or src/tasks.ts', async () => {
  const store = sharedStore();
  const cwd = dirname(store.file);
  const put = (name: string, text: string) => {
    mkdirSync(dirname(join(cwd, name)), { recursive: true });
    writeFileSync(join(cwd, name), text);
  };
  const source = readFileSync(store.module(), 'utf8');
  const run = (...argv: string[]) => cli(argv, { cwd });
  const none = await run('list');
  expect(none).toMatchObject({ code: 2, stderr: expect.stringMatching(/^escapement: no module given, and no tasks\.ts/) });
  expect((await run('enqueue', 'mail.greet')).code).toBe(2);
  put('src/tasks.ts', source);
  expect(await run('enqueue', 'mail.greet', '--input', '{"name":"Ada"}', '--tag', 'a')).toMatchObject({ code: 0, stderr: '' });
  put('tasks.ts', source);
  const { stdout } = await run('list', '--json');
  const { jobs } = JSON.parse(stdout);
  expect(jobs).toHaveLength(1);
  expect(jobs[0]).toMatchObject({ task: 'mail.greet', tags: ['a'] });
  put('package.json', '{ "escapement": "app/jobs.ts" }');
  expect((await run('queues')).stderr).toMatch(/there is no file app\/jobs\.ts/);
  let modules = 0;
  // A command closes the application that it loads.
  const again = (...argv: string[]) => {
    modules += 1;
    put(`app/jobs-${modules}.ts`, source);
    put('package.json', JSON.stringify({ escapement: `app/jobs-${modules}.ts` }));
    return run(...argv);
  };
  expect((await again('cancel', jobs[0].id.slice(-8))).stdout).toMatch(/^cancelled /);
  expect((await again('schedules')).code).toBe(0);
  expect((await again('schedules', 'next', '--json')).code).toBe(0);
  expect((await again('schedules', 'lsit')).stderr).toMatch(/lsit/);
  expect((await run('list', 'other.ts')).stderr).toMatch(/there is no file other\.ts/);
  put('package.json', '{ "escapement": 7 }');
  expect((await run('list')).stderr).toMatch(/package\.json: escapement must be the path of a module/);
});

test('an unexpected or missing input is reported', async () => {
  const store = sharedStore();
  expect((await store.run('enqueue', ['mail.greet', '{"name":"Ada"}'])).stderr).toBe(
    `escapement: pass the input as an option: --input '{"name":"Ada"}'\n`,
  );
  expect((await store.run('enqueue', ['mail.greet', 'Ada'])).stderr).toMatch(
    /unexpected argument Ada after the module and the task; pass the input as an option: --input/,
  );
  const missing = await store.run('enqueue', ['mail.greet']);
  expect(missing).toMatchObject({
    code: 0,
    stderr: "escapement: the function of mail.greet takes an input, and this job has none; give one with --input '{…}'\n",
  });
  expect((await store.run('enqueue', ['mail.greet', '--input', 'null'])).stderr).toBe('');
  expect((await store.run('enqueue', ['broken'])).stderr).toBe('');
});

test('every command reports a module that starts its own worker', async () => {
  const store = sharedStore();
  const own = 'await tasks.worker({ logger: { debug() {}, info() {}, warn() {}, error() {} } }).start();';
  expect((await cli(['list', store.module(own)])).stderr).toMatch(/^escapement: tasks\.ts starts a worker when it is loaded/);
  expect((await store.run('list')).stderr).toBe('');
});

test('commands that run tasks reject an application without tasks', async () => {
  const store = sharedStore();
  const folder = join(dirname(store.file), 'empty');
  mkdirSync(folder);
  const module = join(folder, 'app.ts');
  writeFileSync(
    module,
    `import { createTasks, memory } from ${JSON.stringify(join(root, 'src/index.ts'))};\nexport const tasks = createTasks({ backend: memory() });\n`,
  );
  expect((await cli(['simulate', module])).stderr).toMatch(
    /^escapement: app\.ts defines no tasks: call tasks\.define\('name', …\) in it, or import/,
  );
});

test("show prints a job's records, unique key and dependencies", async () => {
  const store = sharedStore();
  const id = await store.use(async ({ delivery }) => (await delivery.enqueue(7)).id);
  await store.work();
  const { code, stdout } = await store.run('show', [id]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/unique by +one at a time/);
  expect(stdout).toMatch(/waits for +the signal packed:7/);
  expect(stdout).toMatch(/steps\n +charge +\{"order":7,"note":"paid .*red"\}/);
  expect(stdout).not.toContain('\u001b');
  expect(await store.document('show', id)).toMatchObject({
    uniqueKey: 'one at a time',
    awaits: 'packed:7',
    enqueuedBy: null,
    steps: [
      { name: 'charge', kind: 'step' },
      { name: 'signal packed:7', kind: 'signal' },
    ],
  });
});

test("show prints a job's log as text and as JSON", async () => {
  const store = sharedStore();
  const id = await store.use(async ({ tasks }) => {
    const tells = tasks.define('tells', (_: void, ctx) => {
      ctx.log.info('begun');
      ctx.log.warn('ev\u001b[31mil', { step: 1 });
    });
    await tasks.worker().start();
    return (await (await tells.enqueue()).wait({ timeout: '30s' })).id;
  });
  const { stdout } = await store.run('show', [id]);
  expect(stdout).toMatch(/\n {2}log\n {4}\S+Z {2}info {3}begun\n {4}\S+Z {2}warn {3}ev.*il {2}\{"step":1\}\n/);
  expect(stdout).not.toContain('\u001b');
  expect((await store.document('show', id)).logs).toEqual([
    { at: expect.any(String), level: 'info', message: 'begun', fields: null, attempt: 1 },
    { at: expect.any(String), level: 'warn', message: 'ev\u001b[31mil', fields: { step: 1 }, attempt: 1 },
  ]);
});

test('show --tree draws which job enqueued which, and list filters by workflow', async () => {
  const store = sharedStore();
  const { id, workflow } = await store.use(async ({ tasks, greet, wide }) => {
    const made = await tasks
      .group([greet.with({ name: 'ada' })])
      .then(wide)
      .enqueue();
    return { id: made.part('mail.greet').id, workflow: made.id };
  });
  const before = await store.run('show', [id, '--tree']);
  expect(before.stdout).toBe(
    `workflow chain, 0 of 2 ended\n├─ mail.greet  ready  ${id}\n└─ wide  waiting  ${(await store.document('list', '--task', 'wide')).jobs[0]?.id}\n`,
  );
  expect((await store.run('show', [workflow, '--tree'])).stdout).toBe(before.stdout);
  expect((await store.document('list', '--workflow', workflow)).jobs).toHaveLength(2);
  await store.work();
  expect(await store.document('show', id, '--tree')).toMatchObject({
    jobs: [
      { task: 'mail.greet', status: 'successful', workflow, part: 'mail.greet' },
      { task: 'wide', status: 'cancelled', workflow, part: 'wide' },
    ],
    isCut: false,
  });
});

test('check names recorded steps that no longer exist in the code', async () => {
  const store = sharedStore();
  const id = await store.use(async ({ tasks, delivery }) => {
    const { id: job } = await delivery.enqueue(8);
    const worker = tasks.worker();
    await worker.start();
    await expect.poll(async () => (await (await tasks.getResult(job)).steps()).length).toBe(2);
    await worker.stop();
    await tasks.signal('packed:8');
    return job;
  });
  const changed = createTasks({ name: 'changed', backend: sqlite({ file: store.file, synchronous: 'NORMAL' }) });
  changed.define('delivery', { unique: { key: 'one at a time' }, run: (_: number, ctx) => ctx.waitFor('packed:8') });
  const worker = changed.worker();
  await changed.open();
  await worker.start();
  await (await changed.getResult(id)).wait({ timeout: '30s' });
  await changed.close();
  const { stdout } = await store.run('check');
  expect(stdout).toMatch(/note +steps +delivery: 1 recent job had recorded steps that no longer occur in the code: charge/);
});
