/** The worker as a program: how it starts, and all the ways in which it stops. */
import { expect, test } from 'vitest';
import { requests } from '../../cli/process.ts';
import { type Line, type Program, type Ran, start } from './cli.ts';
import { type Shared, sharedStore } from './shared.ts';

// These tests start about two dozen processes, beside those of other tests.

function worker(store: Shared, ...args: string[]): Program {
  return start(['worker', store.module(), '--id', 'w', ...args]);
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
/** Sends the signal until the program has ended, because signals within a second count as one. */
async function signalled(program: Program, signal: 'SIGINT' | 'SIGTERM'): Promise<Ran> {
  const again = setInterval(() => program.child.kill(signal), 300);
  try {
    return await program.ended;
  } finally {
    clearInterval(again);
  }
}

test.concurrent('SIGTERM stops claiming and lets running attempts finish', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  await store.use(async ({ nap, until }) => {
    await until.enqueue(store.gate.path);
    await nap.enqueue(1);
  });
  const program = worker(store, '--concurrency', '1', '--log-level', 'debug');
  await program.line(event('started', 'until'));
  program.child.kill('SIGTERM');
  await program.line(event('workerStopping'));
  store.gate.open();
  const { code, stderr } = await program.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(await statuses(store)).toEqual(['nap ready 0', 'until successful 1']);
  const lines = program.lines();
  expect(lines.find(event('successful'))).toMatchObject({
    level: 'info',
    worker: 'w',
    task: 'until',
    attempt: 1,
    duration: expect.any(Number),
  });
  const [asked, stopping] = [
    lines.findIndex(says(/^SIGTERM: stopping; another signal, at least 1 s later, ends the process immediately$/)),
    lines.findIndex(event('workerStopping')),
  ];
  expect(asked).toBeGreaterThan(0);
  expect(stopping).toBeGreaterThan(asked);
  expect(lines.at(-1)).toMatchObject({ event: 'workerStopped' });
});

test.concurrent('a second signal ends the process immediately', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  await store.use(({ stubborn }) => stubborn.enqueue(60_000));
  const [first, second] = [worker(store, '--log-level', 'debug'), worker(store, '--queues', 'none')];
  await Promise.all([first.line(event('started')), second.line(event('workerStarted'))]);
  first.child.kill('SIGINT');
  await first.line(event('workerStopping'));
  expect((await signalled(first, 'SIGINT')).code).toBe(130);
  second.child.kill('SIGHUP');
  expect((await second.ended).code).toBe(0);
  expect(await statuses(store)).toEqual(['stubborn running 1']);
});

test.concurrent('signals within one second count as one', async ({ onTestFinished }) => {
  const stores = [sharedStore(onTestFinished), sharedStore(onTestFinished)];
  const programs = stores.map((store) => worker(store, '--log-level', 'debug'));
  await Promise.all(programs.map((program) => program.line(event('workerStarted'))));
  const [first, second] = programs as [Program, Program];
  await Promise.all(stores.map((store) => store.use(({ until }) => until.enqueue(store.gate.path))));
  await Promise.all(programs.map((program) => program.line(event('started', 'until'))));
  // Both signals are sent at once, so that they arrive within a second on any machine.
  first.child.kill('SIGINT');
  first.child.kill('SIGINT');
  second.child.kill('SIGTERM');
  second.child.kill('SIGHUP');
  await Promise.all(programs.map((program) => program.line(event('workerStopping'))));
  for (const store of stores) store.gate.open();
  expect([(await first.ended).code, (await second.ended).code]).toEqual([0, 0]);
  expect(await Promise.all(stores.map(statuses))).toEqual([['until successful 1'], ['until successful 1']]);
});

test('a repeated signal is recognized as the same request', () => {
  let now = 5_000;
  const isRequest = requests(() => now);
  const heard = [0, 5, 999, 1_000, 1_001, 1_999, 2_000].map((at) => {
    now = 5_000 + at;
    return isRequest();
  });
  expect(heard).toEqual([true, false, false, true, false, false, true]);
});

test.concurrent('a task that calls process.exit() is named, and the exit code is 1', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  const own = (code: number) =>
    store.module(`tasks.define("leave", async () => { await new Promise(setImmediate); process.exit(${code}); });\n`);
  const module = own(0);
  await store.use(({ tasks }) => tasks.define('leave', () => {}).enqueue());
  const program = start(['worker', module]);
  expect((await program.ended).code).toBe(1);
  expect(program.lines().at(-1)).toMatchObject({
    level: 'error',
    task: 'leave',
    attempt: 1,
    message: expect.stringMatching(/^task leave called process\.exit\(0\), which ends the whole process; throw an error instead/),
  });
  const atOnce = store.module('tasks.define("early", () => {}); setImmediate(() => process.exit(0));\nawait new Promise(() => {});');
  expect(await start(['worker', atOnce]).ended).toMatchObject({ code: 1, stdout: expect.stringContaining('called process.exit()') });
  expect(await start(['simulate', store.module('process.exit(3);')]).ended).toMatchObject({
    code: 3,
    stderr: 'escapement: the process exited early with code 3: the module or a library called process.exit()\n',
  });
});

test.concurrent('unnamed workers on one store have different ids and do not warn about each other', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  const unnamed = () => start(['worker', store.module(), '--log-level', 'debug']);
  const [one, other] = [unnamed(), unnamed()];
  const ids = await Promise.all([one, other].map(async (program) => (await program.line(event('workerStarted'))).worker));
  expect(ids[0]).toMatch(/-\d+-[0-9a-f]{4}$/);
  expect(ids[0]).not.toBe(ids[1]);
  for (const { child } of [one, other]) child.kill('SIGTERM');
  await Promise.all([one.ended, other.ended]);
});

test.concurrent('the worker stops cleanly when the reader of its log exits', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  await store.use(({ nap }) => nap.enqueue(300));
  const program = worker(store, '--log-level', 'debug');
  await program.line(event('started'));
  program.child.stdout?.destroy();
  // The first job may have finished by now; another line is needed to notice.
  await store.use(({ greet }) => greet.enqueue({ name: 'Ada' }));
  const { code, stderr } = await program.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(await statuses(store)).toContain('nap successful 1');
});

test.concurrent('an unhandled rejection is logged, other attempts finish, and the exit code is 1', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  await store.use(async ({ until, careless }) => {
    await until.using({ priority: 1 }).enqueue(store.gate.path);
    await careless.enqueue();
  });
  const program = worker(store);
  await program.line(says(/unhandled rejection/));
  store.gate.open();
  const { code, stderr } = await program.ended;
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  const line = program.lines().find(says(/unhandled rejection/));
  expect(line).toMatchObject({
    level: 'error',
    error: { message: 'Error: nobody waits for this', stack: expect.stringContaining('shared.ts') },
  });
  const after = await statuses(store);
  expect(after).toContain('until successful 1');
  expect(after).toContain('careless retrying 1');
  expect(line).toMatchObject({ task: 'careless', attempt: 1 });
});

test.concurrent('--processes replaces a killed worker, and stops all of them together', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  const program = worker(store, '--processes', '2', '--log-level', 'debug');
  const born = await Promise.all(['w-0', 'w-1'].map((id) => program.line((line) => line.child === id && line.pid !== undefined)));
  await Promise.all(['w-0', 'w-1'].map((id) => program.line((line) => line.worker === id && line.event === 'workerStarted')));
  process.kill(born[1]?.pid as number, 'SIGKILL');
  await program.line(says(/^w-1 was killed by SIGKILL; replacing it in 250 ms$/));
  await program.line((line) => line.child === 'w-1' && line.pid !== undefined && line.pid !== born[1]?.pid);
  await program.line(
    (line) =>
      line.worker === 'w-1' &&
      line.event === 'workerStarted' &&
      line.time !== program.lines().find((other) => other.worker === 'w-1')?.time,
  );
  await store.use(({ until }) => until.enqueue(store.gate.path));
  await program.line(event('started', 'until'));
  program.child.kill('SIGTERM');
  await program.line(event('workerStopping'));
  store.gate.open();
  const { code, stderr } = await program.ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(await statuses(store)).toEqual(['until successful 1']);
  const stopped = program.lines().filter(event('workerStopped'));
  expect(stopped.map((line) => line.worker).sort()).toEqual(['w-0', 'w-1']);
});

test.concurrent('a supervisor recycles its children, exits when all have drained, and ends immediately on a second signal', async ({
  onTestFinished,
}) => {
  const [store, other] = [sharedStore(onTestFinished), sharedStore(onTestFinished)];
  await store.use(({ greet }) => greet.enqueueMany(Array.from({ length: 6 }, (_, i) => ({ name: String(i) }))));
  await other.use(({ stubborn }) => stubborn.enqueue(60_000));
  const draining = worker(store, '--processes', '2', '--drain', '--max-jobs', '4');
  const stuck = worker(other, '--processes', '1', '--log-level', 'debug');
  await stuck.line(event('started'));
  stuck.child.kill('SIGTERM');
  await stuck.line(event('workerStopping'));
  expect((await signalled(stuck, 'SIGTERM')).code).toBe(143);
  expect((await draining.ended).code).toBe(0);
  expect(new Set(await statuses(store))).toEqual(new Set(['mail.greet successful 1']));
});

test.concurrent('children of a killed supervisor stop', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  const program = worker(store, '--processes', '2');
  await Promise.all(['w-0', 'w-1'].map((id) => program.line((line) => line.worker === id && line.event === 'workerStarted')));
  program.child.kill('SIGKILL');
  // The log ends when all its writers have.
  await program.ended;
  const stopped = program.lines().filter(event('workerStopped'));
  expect(stopped.map((line) => line.worker).sort()).toEqual(['w-0', 'w-1']);
});

test.concurrent('a child that does not stop is killed, and a worker stops while its module loads', async ({ expect, onTestFinished }) => {
  const [store, other] = [sharedStore(onTestFinished), sharedStore(onTestFinished)];
  const spinning = store.module('tasks.define("spin", () => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); });\n');
  await store.use(({ tasks }) => tasks.define('spin', () => {}).enqueue());
  const program = start(['worker', spinning, '--id', 'w', '--processes', '1', '--timeout', '0ms', '--log-level', 'debug']);
  await program.line(event('started', 'spin'));
  program.child.kill('SIGTERM');
  const slow = 'console.log("loading"); await new Promise((resolve) => setTimeout(resolve, 3_600_000));\n';
  const loading = start(['worker', other.module(slow)]);
  let said = '';
  loading.child.stderr?.on('data', (more: string) => {
    said += more;
  });
  await expect.poll(() => said).toContain('loading');
  loading.child.kill('SIGTERM');
  expect((await loading.ended).code).toBe(0);
  expect((await program.ended).code).toBe(1);
  expect(program.lines().some(says(/^w-0 did not stop in time and is killed/))).toBe(true);
});

test.concurrent('a memory limit that is too low is reported, and restarts are delayed', async ({ onTestFinished }) => {
  const program = worker(sharedStore(onTestFinished), '--processes', '1', '--max-memory', '10mb');
  await program.line(says(/^w-0 reached --max-memory within \d+ s of its start: the limit is too low$/));
  await program.line(says(/replacing it in 500 ms/));
  program.child.kill('SIGTERM');
  expect((await program.ended).code).toBe(0);
});

test.concurrent('children use the queue weights; if none can start, the supervisor reports the reason once', async ({ onTestFinished }) => {
  const store = sharedStore(onTestFinished);
  await store.use(({ greet }) => greet.using({ queue: 'mail' }).enqueue({ name: 'ada' }));
  const broken = store.module("throw new Error('no database password');");
  const [children, many] = await Promise.all([
    worker(store, '--queues', 'mail=3,bulk', '--processes', '2', '--drain').ended,
    start(['worker', broken, '--processes', '2']).ended,
  ]);
  expect(children).toMatchObject({ code: 0, stderr: '' });
  expect(await statuses(store)).toEqual(['mail.greet successful 1']);
  expect(many).toMatchObject({ code: 2, stderr: 'escapement: tasks.ts threw while it was loaded: Error: no database password\n' });
});
