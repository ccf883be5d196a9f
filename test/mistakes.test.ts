/** Common mistakes of new users; each message says what to do. */
import { inspect } from 'node:util';
import { type ConfigError, cancel, createTasks, dummy, exponential, immediate, memory, snooze, type Tasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import { expect, test } from 'vitest';

/** Removes types, as in JavaScript. */
// biome-ignore lint/suspicious/noExplicitAny: the mistakes are those that types would find
type Any = any;

interface Bench {
  readonly tasks: Tasks;
  readonly define: Any;
  /** The lines logged at `warn` or `error`. */
  readonly lines: string[];
  /** Runs the task once with the engine, and resolves to its result. */
  run(task: Any): Promise<Any>;
}

function bench(options: object = {}): Bench {
  const lines: string[] = [];
  const log = (_: object, message: string) => void lines.push(message);
  const tasks = createTasks({ backend: memory(), logger: { debug() {}, info() {}, warn: log, error: log }, ...options });
  const run = async (task: Any) => {
    const worker = tasks.worker();
    await worker.start();
    const result = await task.enqueue();
    await result.wait();
    await tasks.close();
    return result;
  };
  return { tasks, define: tasks.define, lines, run };
}

const soon = Date.UTC(2026, 5, 1);
const noop = () => {};

/** The mistake, and the expected message. A returned result counts too: log lines, or an error on the result. */
const mistakes: readonly [string, (bench: Bench) => unknown, RegExp][] = [
  ['the backend instead of options', () => createTasks(memory() as Any), /expected createTasks\(\{ backend: memory\(…\) \}\)/],
  ['a path instead of options', () => sqlite('tasks.db' as Any), /expected an object: sqlite\(\{ file: "tasks\.db" \}\)/],
  ['a misnamed path option', () => sqlite({ path: 'tasks.db' } as Any), /path: .*did you mean file\?/],
  [
    'an environment variable that is not set',
    () => postgres({ connectionString: undefined } as Any),
    /connectionString: expected a URL such as .*; is its environment variable set\?, got undefined/,
  ],
  ['no options for PostgreSQL', () => postgres({} as Any), /expected connectionString, a URL such as .*, or pool, got {}/],
  ['a URL and a pool', () => postgres({ connectionString: 'postgres://x', pool: {} } as Any), /connectionString or pool, not both/],
  [
    'unique: true',
    ({ define }) => define('once', { unique: true, run: noop }),
    /unique: expected an object such as .*, or {} for the whole input/,
  ],
  [
    'a missing default queue',
    () => createTasks({ backend: memory(), queues: { mail: {} } }).define('any', noop),
    /queue: expected the queue mail, or add default to the queues of createTasks\(\), got "default"/,
  ],
  [
    'a part instead of its output',
    ({ tasks, define }) => {
      const photo: Any = define('photo', (_: number) => 1);
      return tasks.workflow((w: Any) => w.add(photo, { file: w.add(photo, 1) })).enqueue();
    },
    /the input of a part holds another part at file; pass its value instead, as in photo\.output/,
  ],
  ['store instead of backend', () => createTasks({ store: memory() } as Any), /store: .*did you mean backend\?/],
  [
    'calling a task like a function',
    ({ define }) => define('mail', noop)({ to: 'ada' }),
    /mail is a task.*mail\.enqueue\(input\) enqueues a job/,
  ],
  ['a task instead of a function', ({ define }) => define('again', define('mail', noop)), /run: expected the function.*got "the task mail/],
  ['handler instead of run', ({ define }) => define('mail', { handler: noop }), /handler: .*did you mean run\?/],
  ['attempts in define', ({ define }) => define('mail', { attempts: 3, run: noop }), /attempts: .*did you mean retry\.maxAttempts\?/],
  ['retries in defaults', () => createTasks({ defaults: { retries: 3 } } as Any), /retries: .*did you mean retry\.maxAttempts\?/],
  ['delay in using', ({ define }) => define('mail', noop).using({ delay: 5_000 }), /delay: .*did you mean runAfter\?/],
  ['delay in enqueue', ({ define }) => define('mail', noop).enqueue({}, { delay: 5 }), /delay: .*did you mean using\(\{ runAfter \}\)\?/],
  [
    'priority in enqueue',
    ({ define }) => define('mail', noop).enqueue({}, { priority: 5 }),
    /pass options of the job to using\(\{ priority \}\)/,
  ],
  ['jobId in using', ({ define }) => define('mail', noop).using({ jobId: 'a' }), /jobId: .*did you mean id\?/],
  ['repeat in using', ({ define }) => define('mail', noop).using({ repeat: { every: 5 } }), /repeat: .*did you mean tasks\.schedule\(\)\?/],
  [
    'tz in a schedule',
    ({ tasks, define }) => tasks.schedule('daily', { task: define('mail', noop), cron: '0 9 * * *', tz: 'Europe/Berlin' } as Any),
    /tz: .*did you mean timezone\?/,
  ],
  [
    'start in a schedule',
    ({ tasks, define }) => tasks.schedule('daily', { task: define('mail', noop), cron: '0 9 * * *', start: soon } as Any),
    /start: .*did you mean startAt\?/,
  ],
  [
    'an instant as a number',
    ({ define }) => define('mail', noop).using({ runAfter: soon }),
    /at most ten years.*pass a Date: new Date\(1780272000000\)/,
  ],
  ['an instant as an expiry', ({ define }) => define('mail', { expires: soon, run: noop }), /expires: .*pass a Date/],
  ['an instant as a snooze', () => snooze(soon), /at most ten years.*pass a Date/],
  ['an instant as a delay', () => exponential({ max: soon }), /at most ten years.*pass a Date/],
  ['a century', ({ define }) => define('mail', noop).using({ runAfter: '5200w' }), /a duration of at most ten years, got "5200w"/],
  [
    'a spelled-out unit',
    ({ define }) => define('mail', { timeout: '30 seconds', run: noop }),
    /timeout: expected a duration such as '250ms', '30s'/,
  ],
  [
    'seconds as a number',
    ({ define, lines }) => {
      define('mail', { timeout: 30, run: noop }).using({ timeout: 5 });
      return lines;
    },
    /timeout: 30 is 30 ms; for seconds, write '30s'\ntimeout: 5 is 5 ms; for seconds, write '5s'/,
  ],
  [
    'throw snooze()',
    async ({ define, run }) => {
      const result = await run(
        define('poll', {
          retry: { maxAttempts: 1 },
          run: () => {
            throw snooze('10m');
          },
        }),
      );
      return result.errors[0].message;
    },
    /poll threw snooze\(…\) instead of returning it; write: return snooze\(…\)/,
  ],
  [
    'snooze() without return',
    async ({ define, run, lines }) => {
      await run(define('poll', async () => void snooze('10m')));
      return lines;
    },
    /poll called snooze\(\) but did not return its result, so the job is successful; write: return snooze\(…\)/,
  ],
  [
    'cancel() without return',
    async ({ define, run, lines }) => {
      await run(define('poll', async () => void cancel('no use')));
      return lines;
    },
    /poll called cancel\(\) but did not return/,
  ],
  [
    'snooze() in an array',
    async ({ define, run, lines }) => {
      const result = await run(define('poll', async () => [snooze('10m')]));
      return [...lines, result.errors[0].message].join(' ');
    },
    /^(?!.*its job is successful).*\[0\] is what snooze\(\) returns.*return it from the task directly: return snooze\(…\)/,
  ],
  ['a class instead of a function', ({ define }) => define('mail', class Mail {}), /run: expected the function.*got a class \(Mail\)/],
  [
    'an error class instead of a predicate',
    ({ define }) => define('mail', { retry: { unless: TypeError }, run: noop }),
    /retry\.unless: expected a function: \(error\) => error instanceof TypeError/,
  ],
  ['an undefined queue', ({ tasks }) => tasks.worker({ queues: [undefined] } as Any), /queues\[0\]: expected a name .*got undefined/],
  ['excludeQueues', ({ tasks }) => tasks.worker({ excludeQueues: ['mail'] } as Any), /did you mean exclude\?/],
  ['no options in define', ({ define }) => define('mail', 5), /options: expected an object, got 5/],
  ['a unit as a word', ({ define }) => define('mail', { timeout: '1 hour', run: noop }), /timeout: .*; write '1h', got "1 hour"/],
  ['another unit as a word', () => snooze('10min' as Any), /write '10m'/],
  [
    'an interval as words',
    ({ tasks, define }) => tasks.schedule('mail', { task: define('mail', noop), every: '10 minutes' as Any }),
    /^Invalid definition of schedule "mail": every: .*write '10m', got "10 minutes"$/,
  ],
  [
    'a function in a stored schedule',
    ({ tasks, define }) => tasks.schedule('mail', { task: define('mail', noop), every: '1h', retry: { unless: noop } } as Any),
    /^Invalid definition of schedule "mail": retry\.unless/,
  ],
  ['no queues', ({ tasks }) => tasks.worker({ queues: [] }), /queues: expected at least one name; omit the option to serve all queues/],
  ['one queue', ({ tasks }) => tasks.worker({ queues: 'mail' as Any }), /queues: expected an array of queue names, got "mail"/],
  [
    'a queue that no task uses',
    async ({ tasks, define, lines }) => {
      define('welcome', { queue: 'mail', run: noop });
      const worker = tasks.worker({ queues: ['mial'] });
      await worker.start();
      await tasks.close();
      return lines;
    },
    /serves queue mial, which no task of this application uses; did you mean mail\?/,
  ],
  ['a worker on immediate()', () => bench({ backend: immediate() }).tasks.worker().start(), /a backend with a store, such as memory\(\)/],
  ['a worker on dummy()', () => bench({ backend: dummy() }).tasks.worker().start(), /a backend with a store, such as memory\(\)/],
  [
    'later, on immediate()',
    () => bench({ backend: immediate() }).define('mail', noop).using({ runAfter: '1h' }).enqueue(),
    /runAfter: .*memory\(\) or sqlite\(\).*immediate\(\) and does not support deferred jobs/,
  ],
  [
    'an unknown task',
    ({ tasks, define }) => [define('mail', noop), tasks.get('mial')],
    /no task is defined with the name mial; did you mean mail\?/,
  ],
  ['an unknown event', ({ tasks }) => tasks.on('completed' as Any, noop), /event: expected '\*' or one of .*successful/],
  ['an input that JSON cannot represent', ({ define }) => define('mail', noop).enqueue({ at: new Date(0) }), /input of mail.*at/],
  [
    'an unknown schedule name',
    async ({ tasks, define }) => {
      tasks.schedule('daily', { task: define('mail', noop), cron: '0 9 * * *' });
      await using sim = await simulate(tasks);
      return sim.fires('dayly');
    },
    /no schedule has the name "dayly"; did you mean daily\?/,
  ],
  [
    'an unknown task name',
    async ({ tasks, define }) => {
      define('mail', noop);
      await using sim = await simulate(tasks);
      return sim.attempts('mial');
    },
    /attempts\(\): no task is defined with the name "mial"; did you mean mail\?/,
  ],
  [
    'jobs of an unknown task name',
    async ({ tasks, define }) => {
      define('mail', noop);
      await using sim = await simulate(tasks);
      return sim.jobs({ task: 'mails' });
    },
    /jobs\(\): no task is defined with the name "mails"; did you mean mail\?/,
  ],
];

async function said(mistake: () => unknown): Promise<string> {
  try {
    const told = await mistake();
    return Array.isArray(told) ? told.join('\n') : String(told);
  } catch (error) {
    return (error as Error).message;
  }
}

test.each(mistakes)('%s', async (_name, mistake, message) => {
  expect(await said(() => mistake(bench()))).toMatch(message);
});

test('a suggestion is made only for a close match', () => {
  const { define } = bench();
  expect(() => define('mail', { xy: 1, run: noop })).toThrow(/^(?!.*did you mean)/s);
  expect(() => createTasks({ start: true } as Any)).toThrow(/^(?!.*did you mean)/s);
});

test.each<[string, (bench: Bench) => unknown, RegExp]>([
  ['an input that cannot be stored', ({ define }) => define('mail', noop).enqueue(noop), /^InputError: input of mail is a function/],
  ['an undefined task', ({ tasks }) => tasks.get('mail'), /^UnknownTaskError: no task is defined with the name mail\n/],
  ['a duplicate name', ({ define }) => [define('mail', noop), define('mail', noop)], /^DuplicateTaskError: /],
])('%s is printed without frames of this package', async (_, mistake, message) => {
  const error = await Promise.resolve(bench())
    .then(mistake)
    .catch((thrown: unknown) => thrown);
  const printed = inspect(error, { colors: false });
  expect(printed).toMatch(message);
  expect(printed).toMatch(/\n {4}at .*mistakes\.test\.ts/);
  expect(printed).not.toMatch(/ESCAPEMENT|src\/(task|tasks|app|core\/json)\.ts/);
});

test('an uncaught error prints its message and the failing line, and no frames of this package', () => {
  let error: unknown;
  try {
    createTasks({ attempts: 3 } as Any);
  } catch (thrown) {
    error = thrown;
  }
  const printed = inspect(error, { colors: false });
  expect(printed).toMatch(
    /^ConfigError: Invalid options for createTasks\(\): attempts: .*did you mean defaults\.retry\.maxAttempts\?\)\n {4}at .*mistakes\.test\.ts/,
  );
  expect(printed).not.toMatch(/\bfaults|ESCAPEMENT|src\/(tasks|options)\.ts/);
  expect((error as ConfigError).faults).toHaveLength(1);
  expect((error as ConfigError).code).toBe('ESCAPEMENT_CONFIG');
});
