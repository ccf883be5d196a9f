/** Libraries that limit, queue, retry or time out work: their timers are virtual, the work is real. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Effect, Schedule } from 'effect';
import pLimit from 'p-limit';
import PQueue from 'p-queue';
import pRetry from 'p-retry';
import pTimeout from 'p-timeout';
import { defer, delay, firstValueFrom, from, interval, lastValueFrom, of, retry, take, timeout, toArray } from 'rxjs';
import type { Case } from '../case.ts';
import { fetchText } from '../outside.ts';

/** Fails twice for each job, then succeeds. */
async function flaky(key: string): Promise<string> {
  const text = await fetchText(`/flaky?key=${key}&times=2`);
  if (text === 'busy') throw new Error(text);
  return text;
}

export const queueAndTimeoutCases: Case[] = [
  {
    library: 'p-timeout',
    name: 'around a request',
    run: () => pTimeout(fetchText('/slow-body'), { milliseconds: 5_000 }),
    expect: 'slow body',
  },
  {
    library: 'p-timeout',
    name: 'around a longer sleep',
    run: () => {
      const controller = new AbortController();
      const work = sleep(3_000, undefined, { signal: controller.signal });
      return pTimeout(work, { milliseconds: 2_000 })
        .catch(({ name }: Error) => name)
        .finally(() => controller.abort());
    },
    expect: 'TimeoutError',
    at: 2_000,
  },
  {
    library: 'p-timeout',
    name: 'a signal, and a server that never answers',
    run: () => {
      const controller = new AbortController();
      return pTimeout(fetchText('/never', { signal: controller.signal }), { milliseconds: 3_000 }).finally(() => controller.abort());
    },
    never: true,
    fails: 'TimeoutError',
    at: 3_000,
  },
  {
    library: 'p-retry',
    name: 'two retries of a request, after 1 s and 2 s',
    run: (_, ctx) => pRetry(() => flaky(`p-retry-${ctx.id}`), { retries: 3 }),
    expect: 'at last',
    at: 3_000,
  },
  {
    library: 'p-queue',
    name: 'a module-level queue of requests',
    setup: () => {
      const queue = new PQueue({ concurrency: 2 });
      return { run: () => Promise.all(['/slow-head', '/quick', '/slow-body'].map((path) => queue.add(() => fetchText(path)))) };
    },
    expect: ['slow head', 'quick', 'slow body'],
  },
  {
    library: 'p-queue',
    name: 'a timeout per request',
    run: () => new PQueue({ timeout: 5_000 }).add(() => fetchText('/slow-body')),
    expect: 'slow body',
  },
  {
    library: 'p-queue',
    name: 'one request per second',
    run: () => {
      const queue = new PQueue({ intervalCap: 1, interval: 1_000 });
      return Promise.all(Array.from({ length: 3 }, () => queue.add(() => fetchText('/random'))));
    },
    expect: ['random', 'random', 'random'],
    at: 2_000,
  },
  {
    library: 'p-limit',
    name: 'a module-level limit',
    setup: () => {
      const limit = pLimit(2);
      return { run: () => Promise.all(['/slow-head', '/quick', '/slow-body'].map((path) => limit(() => fetchText(path)))) };
    },
    expect: ['slow head', 'quick', 'slow body'],
  },
  {
    library: 'effect',
    name: 'Effect.timeout around a request',
    run: () => Effect.runPromise(Effect.tryPromise(() => fetchText('/slow-body')).pipe(Effect.timeout('5 seconds'))),
    expect: 'slow body',
  },
  {
    library: 'effect',
    name: 'Effect.sleep',
    run: () => Effect.runPromise(Effect.as(Effect.sleep('2 seconds'), 'rested')),
    expect: 'rested',
    at: 2_000,
  },
  {
    library: 'effect',
    name: 'Effect.timeout, and a server that never answers',
    run: () => {
      const request = Effect.tryPromise((signal) => fetchText('/never', { signal }));
      return Effect.runPromise(request.pipe(Effect.timeout('3 seconds')));
    },
    never: true,
    fails: 'TimeoutError',
    at: 3_000,
  },
  {
    library: 'effect',
    name: 'two retries of a request, 1 s apart',
    run: (_, ctx) =>
      Effect.runPromise(
        Effect.tryPromise(() => flaky(`effect-${ctx.id}`)).pipe(Effect.retry({ schedule: Schedule.spaced('1 second'), times: 3 })),
      ),
    expect: 'at last',
    at: 2_000,
  },
  {
    library: 'effect',
    name: 'concurrent requests',
    run: () =>
      Effect.runPromise(
        Effect.forEach(['/slow-head', '/quick', '/slow-body'], (path) => Effect.tryPromise(() => fetchText(path)), { concurrency: 2 }),
      ),
    expect: ['slow head', 'quick', 'slow body'],
  },
  {
    library: 'rxjs',
    name: 'timeout around a request',
    run: () => firstValueFrom(from(fetchText('/slow-body')).pipe(timeout(5_000))),
    expect: 'slow body',
  },
  { library: 'rxjs', name: 'delay', run: () => firstValueFrom(of('later').pipe(delay(2_000))), expect: 'later', at: 2_000 },
  { library: 'rxjs', name: 'interval', run: () => lastValueFrom(interval(500).pipe(take(4), toArray())), expect: [0, 1, 2, 3], at: 2_000 },
  {
    library: 'rxjs',
    name: 'two retries of a request, 1 s apart',
    run: (_, ctx) => firstValueFrom(defer(() => flaky(`rxjs-${ctx.id}`)).pipe(retry({ count: 3, delay: 1_000 }))),
    expect: 'at last',
    at: 2_000,
  },
];
