/** The worker command in the test's process: what it runs, and its log. worker.test.ts covers the start and end of its process. */
import { expect, test } from 'vitest';
import { type Inside, inside, type Line } from './cli.ts';
import { type Shared, sharedStore } from './shared.ts';

function worker(store: Shared, ...args: string[]): Inside {
  return inside(['worker', store.module(), '--id', 'w', ...args]);
}
const event =
  (name: string, task?: string) =>
  (line: Line): boolean =>
    line.event === name && (task === undefined || line.task === task);
const says =
  (text: RegExp) =>
  ({ message }: Line): boolean =>
    text.test(message);
const statuses = (store: Shared) =>
  store.use(async ({ tasks }) =>
    (await tasks.jobs.list({ limit: 1_000 })).items.map(({ task, status, attempts }) => `${task} ${status} ${attempts}`).sort(),
  );
test('SIGTERM aborts and releases attempts after the grace period', async () => {
  const store = sharedStore();
  await store.use(({ nap }) => nap.enqueue(60_000));
  const program = worker(store, '--timeout', '100ms', '--log-level', 'debug');
  await program.line(event('started'));
  program.signal('SIGTERM');
  await program.line(event('released'));
  expect((await program.ended).code).toBe(0);
  expect(await statuses(store)).toEqual(['nap ready 0']);
});

test('engine warnings are log lines, and events are one line each', async () => {
  const store = sharedStore();
  const module = store.module(`
    tasks.define('brief', { timeout: 30, run() {} });
    const odd = tasks.define('odd', (_, ctx) => {
      ctx.progress(50);
      ctx.log.warn('its own line');
    });
    const other = await nap.using({ queue: 'nowhere' }).enqueue(1);
    other.wait().catch(() => {});
    await odd.enqueue();
    await broken.enqueue();
    await flaky.enqueue();`);
  const program = inside(['worker', module, '--id', 'w', '--queues', 'default,unused', '--log-level', 'debug']);
  await program.line(says(/^no live worker serves queue nowhere, /));
  await program.line(event('failed'));
  await program.line(event('retrying'));
  program.signal('SIGTERM');
  const { code, stderr } = await program.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const lines = program.lines().filter(({ level }) => level === 'warn' || level === 'error');
  const count = (text: RegExp) => lines.filter(says(text)).length;
  expect(lines.find(says(/^ctx\.progress\(50\): the fraction is a number from 0 to 1/))).toMatchObject({
    ...{ level: 'warn', worker: 'w', task: 'odd', attempt: 1 },
  });
  const once = [
    /timeout: 30 is 30 ms/,
    /ctx\.progress/,
    /its own line/,
    /no live worker/,
    /serves queue unused/,
    /failed permanently/,
    /retrying/,
  ];
  expect(once.map(count)).toEqual(once.map(() => 1));
  expect(lines).toHaveLength(once.length);
});

test('--drain exits when no known job is ready or running, and leaves unknown tasks', async () => {
  const store = sharedStore();
  await store.use(async ({ tasks, greet, nap, broken, later }) => {
    await greet.enqueueMany(Array.from({ length: 50 }, (_, i) => ({ name: String(i) })));
    await nap.enqueue(300);
    await broken.enqueue();
    await later.enqueue();
    await tasks.define('elsewhere', () => {}).enqueue();
    await greet.using({ queue: 'held' }).enqueue({ name: 'held' });
    await tasks.queues.pause('held');
  });
  const program = worker(store, '--drain', '--log-input');
  expect((await program.ended).code).toBe(0);
  const counts: Record<string, number> = {};
  for (const text of await statuses(store)) counts[text] = (counts[text] ?? 0) + 1;
  expect(counts).toEqual({
    'mail.greet successful 1': 50,
    'mail.greet ready 0': 1,
    'nap successful 1': 1,
    'broken failed 1': 1,
    'later scheduled 0': 1,
    'elsewhere ready 0': 1,
  });
  expect(program.lines().find(event('started', 'mail.greet'))?.input).toEqual({ name: expect.any(String) });
  expect(
    program
      .lines()
      .filter(says(/drained|left behind/))
      .map(({ message }) => message),
  ).toEqual(['1 ready job left behind: its task is not defined here', 'drained: nothing is ready or running']);
});

test('--max-jobs and --max-memory stop a worker that reaches them', async () => {
  const store = sharedStore();
  await store.use(({ greet }) => greet.enqueueMany(Array.from({ length: 5 }, (_, i) => ({ name: String(i) }))));
  const few = worker(store, '--max-jobs', '2');
  expect((await few.ended).code).toBe(0);
  expect(await statuses(store)).toEqual([
    'mail.greet ready 0',
    'mail.greet ready 0',
    'mail.greet ready 0',
    'mail.greet successful 1',
    'mail.greet successful 1',
  ]);
  const large = worker(store, '--max-memory', '1mb', '--queues', 'none');
  expect((await large.ended).code).toBe(0);
  expect(large.lines().some(says(/^using \d+ MB of memory, --max-memory is 1 MB: stopping$/))).toBe(true);
});

test('task logs are written once, without secrets', async () => {
  const store = sharedStore();
  const own = 'tasks.define("tells", (_: void, ctx) => ctx.log.info("signing in", { user: "u1", password: "hunter2" }));\n';
  const module = store.module(own);
  await store.use(({ tasks }) => tasks.define('tells', () => {}).enqueue());
  const { code, stderr, stdout } = await inside(['worker', module, '--drain']).ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.match(/signing in/g)).toHaveLength(1);
  expect(stdout).toContain('"password":"[redacted]"');
  expect(stdout).not.toContain('hunter2');
});

test('queue weights are accepted, and other suffixes are rejected', async () => {
  const store = sharedStore();
  await store.use(({ greet }) => greet.using({ queue: 'mail' }).enqueue({ name: 'ada' }));
  const alone = await worker(store, '--queues', 'mail=3,bulk', '--queues', 'other=0.5', '--block-limit', '1m', '--drain').ended;
  expect(alone).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('working queues mail, bulk, other') });
  const refused = await worker(store, '--queues', 'mail=much').ended;
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('names with weights greater than 0: mail=3,bulk=1') });
  expect(await statuses(store)).toEqual(['mail.greet successful 1']);
});

test('a worker that cannot start reports the reason once and exits with 2', async () => {
  const store = sharedStore();
  const broken = () => store.module("throw new Error('no database password');");
  const alone = await inside(['worker', broken()]).ended;
  expect(alone).toMatchObject({ code: 2, stderr: 'escapement: tasks.ts threw while it was loaded: Error: no database password\n' });
  const memory = await inside(['worker', 'fixtures/shop/tasks.ts']).ended;
  expect(memory).toMatchObject({ code: 2, stderr: expect.stringMatching(/^escapement: fixtures\/shop\/tasks\.ts runs on memory\(\)/) });
  const drain = await inside(['worker', broken(), '--drain', '--backend', 'bulk']).ended;
  expect(drain).toMatchObject({ code: 2, stderr: expect.stringMatching(/^escapement: --drain works with the default backend only/) });
});
