/** Plays a scenario with the engine's workers in virtual time. A task's behaviour is a list of words, one per attempt; the last repeats. */
import { equal } from 'node:assert/strict';
import {
  cancel,
  createTasks,
  type Duration,
  memory,
  PermanentError,
  type QueueOptions,
  type StoreSource,
  snooze,
  type Task,
  type TaskContext,
  type TaskResult,
} from 'escapement';
import { type Simulation, type StoreCall, type StoreFault, simulate } from 'escapement/testing';
import { type Line, milliseconds, type Scenario } from './read.ts';

/** What an attempt does in sequence: `step:charge+sleep:1h+fail`. The last word is its outcome. */
async function behaveAll(words: string, context: TaskContext): Promise<unknown> {
  let ended: unknown;
  for (const word of words.split('+')) ended = await behave(word, context);
  return ended;
}

/** `step:name` `undoable:name` `wait:signal:1h` `ok` `fail` `permanent` `snooze:10m` `cancel` `sleep:40s` (obeys its signal) `ignore:1h` (does not) `hang` `string` `null` `bigint` `getter` `cycle` `huge`. */
async function behave(word: string, context: TaskContext): Promise<unknown> {
  const [kind, argument] = word.split(':');
  switch (kind) {
    case 'ok':
      return 'done';
    case 'fail':
      throw new Error(`attempt ${context.attempt} failed`);
    case 'permanent':
      throw new PermanentError('never again');
    case 'snooze':
      return snooze(argument as Duration);
    case 'cancel':
      return cancel(argument);
    case 'sleep':
      await context.sleep(argument as Duration);
      return 'done';
    case 'ignore':
      await new Promise((resolve) => setTimeout(resolve, milliseconds(argument ?? '', word)));
      return 'late';
    case 'step':
      return context.step(argument ?? '', () => 'done');
    case 'undoable':
      return context.step(argument ?? '', () => 'done', { compensate: () => context.log.info(`undone ${argument}`) });
    case 'wait':
      return context.waitFor(argument ?? '', { timeout: word.split(':')[2] as Duration });
    case 'hang':
      return new Promise(() => {});
    case 'string':
      throw 'only a string';
    case 'null':
      throw null;
    case 'bigint':
      return 1n;
    case 'getter':
      throw Object.defineProperty(new Error('x'), 'message', {
        get() {
          throw new Error('a getter that throws');
        },
      });
    case 'cycle': {
      const error: Error & { self?: unknown } = new Error('a cycle');
      error.self = error;
      error.cause = error;
      throw error;
    }
    case 'huge':
      throw Object.assign(new Error('huge'), { stack: `\0${'x'.repeat(10_000_000)}` });
    default:
      throw new PermanentError(`no behaviour ${word}`);
  }
}

export async function playOnEngine(scenario: Scenario, store: StoreSource): Promise<void> {
  const queues: Record<string, QueueOptions> = { default: {} };
  for (const { words, options } of scenario.lines.filter(({ verb }) => verb === 'queue'))
    queues[words[0] ?? ''] = { ...(options.concurrency ? { concurrency: Number(options.concurrency) } : {}) };
  const isLimited = scenario.lines.some(({ verb }) => verb === 'queue');
  const tasks = createTasks({ backend: memory(), ...(isLimited ? { queues } : {}) });
  const defined = new Map<string, Task<void, unknown>>();
  const results = new Map<string, TaskResult<unknown, void>>();
  let workers = 1;
  let concurrency = 10;
  const text = (line: Line, key: string) => line.options[key] as Duration | undefined;

  for (const line of scenario.lines.filter(({ at }) => at === null)) {
    const [name = ''] = line.words;
    const { does = 'ok', maxAttempts, timeout, priority, queue, backoff, expires, unique, wait, rate, burst } = line.options;
    if (line.verb === 'workers') {
      workers = Number(name);
      concurrency = Number(line.options.concurrency ?? concurrency);
    } else if (line.verb === 'task') {
      const words = does.split(',');
      const options = {
        retry: { backoff: (backoff ?? '1s') as Duration, ...(maxAttempts ? { maxAttempts: Number(maxAttempts) } : {}) },
        ...(timeout ? { timeout: timeout as Duration } : {}),
        ...(priority ? { priority: Number(priority) } : {}),
        ...(queue ? { queue } : {}),
        ...(expires ? { expires: expires as Duration } : {}),
        ...(unique ? { unique: { onConflict: unique as 'skip' | 'replace', ...(wait ? { wait: wait as Duration } : {}) } } : {}),
        ...(rate
          ? { rate: { limit: Number(rate.split('/')[0]), per: `1${rate.split('/')[1]}` as Duration, burst: Number(burst ?? 1) } }
          : {}),
      };
      let started = 0;
      const run = (_: void, context: TaskContext) => behaveAll(words[Math.min(started++, words.length - 1)] ?? 'ok', context);
      defined.set(name, tasks.define(name, { ...options, run }) as Task<void, unknown>);
    } else if (line.verb === 'queue') {
      // Read above.
    } else if (line.verb === 'schedule') {
      const task = defined.get(name) as Task<void, unknown>;
      const { every, cron = '', timezone } = line.options;
      if (every) tasks.schedule(name, { task, every: every as Duration });
      else tasks.schedule(name, { task, cron, ...(timezone ? { timezone } : {}) });
    } else throw new Error(`${line.file}:${line.number}: ${line.verb} sets no stage; use workers, task or schedule`);
  }

  const sim = await simulate(tasks, { workers, concurrency, store });
  try {
    for (const line of scenario.lines.filter(({ at }) => at !== null)) {
      await sim.advanceTo(sim.startedAt.getTime() + (line.at ?? 0));
      try {
        await act(sim, line);
      } catch (error) {
        throw new Error(`${line.file}:${line.number}: ${(error as Error).message}\n${sim.timeline()}`, { cause: error });
      }
      await sim.drain();
    }
  } finally {
    await sim.end();
  }

  async function act(simulation: Simulation, line: Line): Promise<void> {
    const [first = '', second = ''] = line.words;
    const worker = () => simulation.worker(Number(first.slice(1)));
    const result = () => {
      const found = results.get(first);
      if (!found) throw new Error(`no job ${first} was enqueued`);
      return found;
    };
    switch (line.verb) {
      case 'enqueue': {
        const { runAfter, expires } = { runAfter: text(line, 'runAfter'), expires: text(line, 'expires') };
        const using = {
          ...(runAfter ? { runAfter } : {}),
          ...(expires ? { expires } : {}),
          ...(line.options.priority ? { priority: Number(line.options.priority) } : {}),
          ...(line.options.queue ? { queue: line.options.queue } : {}),
        };
        results.set(line.options.as ?? first, await (defined.get(first) as Task<void, unknown>).using(using).enqueue());
        return;
      }
      case 'chain':
      case 'group': {
        const [head, ...rest] = line.words.map((name) => defined.get(name) as Task<void, unknown>);
        if (!head) throw new Error(`${line.verb} takes tasks`);
        const then = line.options.then;
        const flow = line.verb === 'chain' ? tasks.chain([head, ...rest]) : tasks.group([head, ...rest]);
        const made = await (then ? flow.then(defined.get(then) as Task<void, unknown>) : flow).enqueue();
        for (const job of made.jobs) results.set(job.part ?? '', job as TaskResult<unknown, void>);
        return;
      }
      case 'signal':
        return tasks.signal(first);
      case 'steps':
        equal(
          (await result().steps())
            .filter(({ kind }) => kind === 'step')
            .map(({ name }) => name)
            .join(','),
          second,
        );
        return;
      case 'crash':
        return worker().crash({ restart: line.options.restart !== 'no' });
      case 'pause':
        return worker().pauseFor(text(line, 'for') as Duration);
      case 'stop':
        void worker().stop({ timeout: text(line, 'timeout') ?? '25s' });
        return;
      case 'cancel':
        await result().cancel(line.options.reason);
        return;
      case 'retry':
        await result().retry();
        return;
      case 'pausequeue':
        return tasks.queues.pause(first);
      case 'resumequeue':
        return tasks.queues.resume(first);
      case 'store':
        return simulation.store.fail(first as StoreFault, { on: second as StoreCall, times: Number(line.options.times ?? 1) });
      case 'expect': {
        const job = await result().refresh();
        equal(job.status, second);
        const { attempts, reason, error, due, worker: on } = line.options;
        if (attempts) equal(job.attempts, Number(attempts));
        if (reason) equal(job.reason, reason);
        if (error && !job.errors.at(-1)?.message.includes(error) && job.errors.at(-1)?.name !== error) {
          throw new Error(
            `expected the last error to be or hold ${error}, got ${job.errors.at(-1)?.name}: ${job.errors.at(-1)?.message.slice(0, 200)}`,
          );
        }
        if (due) equal(job.dueAt.getTime() - simulation.startedAt.getTime(), milliseconds(due, line.file));
        if (on) equal(job.workerIds.at(-1), on);
        return;
      }
      case 'runs': {
        const starts = simulation.attempts(first).map(({ startedAt }) => startedAt.getTime() - simulation.startedAt.getTime());
        const wanted = second === 'never' ? [] : second.split(',').map((at) => milliseconds(at, line.file));
        equal(starts.join(' '), wanted.join(' '), `${first} started at ${starts.join(' ')} ms`);
        return;
      }
      case 'count':
        equal(simulation.jobs({ task: first }).length, Number(second));
        return;
      case 'says':
        if (!String(simulation.timeline()).includes(line.words.join(' ').replaceAll('"', '')))
          throw new Error(`the timeline does not say ${line.words.join(' ')}`);
        return;
      default:
        throw new Error(`no verb ${line.verb}`);
    }
  }
}
