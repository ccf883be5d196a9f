/**
 * Sixteen workers in four processes serve overlapping sets of queues, while jobs are enqueued, reprioritized and cancelled. Each job runs
 * once, none is stuck, limits hold, and no caller sees a deadlock. Takes a minute with `ESCAPEMENT_SOAK`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { TaskResult, Tasks } from 'escapement';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startPostgres, type TestServer } from '../setup/postgres.ts';
import { application, type Input, mostOfD, mostOfThree, type Told } from './fixtures/overlapping-tasks.ts';
import { pause } from './under-fault.ts';

type Run = Extract<Told, { what: 'ran' }>;

const forMs = process.env.ESCAPEMENT_SOAK ? 60_000 : 0;
/** Producers wait above this number. */
const mostWaiting = 1_000;
const queues = ['a', 'b', 'c', 'd'] as const;
/** The queue sets of a process's four workers. */
const sets = [
  [['a'], ['a', 'b'], ['b', 'c', 'd'], queues],
  [['b'], ['b', 'c'], ['c', 'd', 'a'], queues],
  [['c'], ['c', 'd'], ['d', 'a', 'b'], queues],
  [['d'], ['d', 'a'], ['a', 'b', 'c'], queues],
];
const fixture = fileURLToPath(new URL('./fixtures/overlapping.ts', import.meta.url));

const any = <T>(items: readonly T[]) => items[Math.floor(Math.random() * items.length)] as T;
const upTo = (most: number) => Math.floor(Math.random() * (most + 1));

/** The maximum number of concurrent runs. */
function mostAtOnce(runs: readonly Run[]): number {
  const changes = runs.flatMap(({ begunAt, endedAt }) => [
    [begunAt, 1],
    [endedAt, -1],
  ]);
  changes.sort(([at = 0, change = 0], [otherAt = 0, other = 0]) => at - otherAt || change - other);
  let [running, most] = [0, 0];
  for (const [, change = 0] of changes) {
    running += change;
    most = Math.max(most, running);
  }
  return most;
}

const unfinished = async (tasks: Tasks) =>
  (await tasks.queues.list()).reduce(
    (sum, { counts: { ready, scheduled, retrying, running } }) => sum + ready + scheduled + retrying + running,
    0,
  );

let server: TestServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

// With limits, claims run one after another.
test.each([
  [false, 5_000],
  [true, 1_000],
])('sixteen workers of overlapping sets of queues, with limits: %j', async (hasLimits, leastJobs) => {
  const warnings: string[] = [];
  const warned = (text: string) => warnings.push(text);
  const { tasks, kinds } = application({ connectionString: server.url, hasLimits, warned });
  const children: ChildProcess[] = [];
  try {
    await tasks.open();
    const runs: Run[] = [];
    let ready = 0;
    for (const those of sets) {
      const child = fork(fixture, [server.url, String(hasLimits), JSON.stringify(those)], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      children.push(child);
      child.on('message', (told: Told) => {
        if (told.what === 'ready') ready += 1;
        else if (told.what === 'warned') warned(told.text);
        else runs.push(told);
      });
    }
    await expect.poll(() => ready).toBe(sets.length);

    const jobs = new Map<string, TaskResult>();
    let doomed = 0;
    const until = performance.now() + forMs;
    const isOver = () => performance.now() > until && jobs.size >= leastJobs;
    const produce = async () => {
      while (!isOver()) {
        const kind = Math.random() < 0.7 ? kinds[0] : any(kinds);
        const inputs = Array.from({ length: 1 + upTo(40) }, () => ({ key: any(['k1', 'k2', 'k3', 'k4', 'k5']), ms: upTo(10) }));
        const tags = Math.random() < 0.1 ? ['doomed'] : [];
        const options = { queue: any(queues), priority: upTo(4) - 2, tags };
        for (const result of await kind.using(options).enqueueMany(inputs)) jobs.set(result.id, result);
        // These may never run.
        if (tags.length > 0) doomed += inputs.length;
        while (!isOver() && jobs.size - doomed - runs.length > mostWaiting) await pause(20);
      }
    };
    const change = async () => {
      while (!isOver()) {
        await tasks.jobs.prioritize({ queue: any(queues) }, upTo(4) - 2);
        await tasks.jobs.cancel({ tag: 'doomed' });
        await pause(50);
      }
    };
    await Promise.all([produce(), produce(), produce(), change()]);
    for (let left = await unfinished(tasks), before = left + 1; left > 0; before = left, left = await unfinished(tasks)) {
      await expect.poll(() => unfinished(tasks), { message: `${left} of ${before} jobs do not end` }).toBeLessThan(left);
    }

    const alive = [...jobs.values()].filter(({ tags }) => !tags.includes('doomed'));
    const ran = () => new Set(runs.map(({ id }) => id));
    const missing = (found = ran()) => alive.filter(({ id }) => !found.has(id)).map(({ id }) => id);
    // Messages from the processes may take a moment to arrive.
    await expect.poll(() => missing()).toEqual([]);
    expect(runs.length).toBe(ran().size);
    expect(warnings).toEqual([]);
    if (!hasLimits) return;
    const runsOf = (wanted: (job: TaskResult) => boolean) => runs.filter(({ id }) => wanted(jobs.get(id) as TaskResult));
    expect(mostAtOnce(runsOf(({ task }) => task === 'three'))).toBeLessThanOrEqual(mostOfThree);
    expect(mostAtOnce(runsOf(({ queue }) => queue === 'd'))).toBeLessThanOrEqual(mostOfD);
    const keyOf = ({ id }: Run) => ((jobs.get(id) as TaskResult).input as Input).key;
    for (const its of Map.groupBy(
      runsOf(({ task }) => task === 'keyed'),
      keyOf,
    ).values())
      expect(mostAtOnce(its)).toBe(1);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await tasks.close();
  }
});
