/**
 * Random operations on a simulated application: three workers, tasks of every kind, crashes, pauses, a failing store, cancels and retries.
 * Invariants are checked on each event, and again after all faults have ended.
 */
import { cancel, createTasks, type Event, memory, PermanentError, snooze, type TaskContext, type TaskResult } from 'escapement';
import { type Simulation, type StoreCall, simulate } from 'escapement/testing';
import { leaseMs } from '../../src/engine/heartbeat.ts';
import { prng } from '../../src/testing/choices.ts';

const queues = ['default', 'mail', 'slow'] as const;
const tempers = ['quick', 'sleepy', 'failing', 'permanent', 'snoozing', 'cancelling', 'deaf', 'parent', 'branching', 'odd'] as const;
type Temper = (typeof tempers)[number];

/** A seed's random numbers: integers below a bound. */
export type Draw = (below: number) => number;

function drawOf(seed: number): Draw {
  const next = prng(seed);
  return (below) => Math.floor((next() / 4_294_967_296) * below);
}

function pick<T>(draw: Draw, from: readonly T[]): T {
  return from[draw(from.length)] as T;
}

function makeTasks() {
  const tasks = createTasks({ backend: memory(), retention: { successful: 'forever', failed: 'forever', cancelled: 'forever' } });
  const leaf = tasks.define('leaf', { retry: { maxAttempts: 4, backoff: '2s' }, run: (n: number) => n + 1 });
  const work = tasks.define('work', {
    retry: { maxAttempts: 5, backoff: [0, '3s', '20s'] },
    run: ({ temper, ms }: { temper: Temper; ms: number }, ctx) => behave(temper, ms, ctx, (n) => leaf.enqueue(n)),
  });
  return { tasks, leaf, work };
}

async function behave(temper: Temper, ms: number, ctx: TaskContext, child: (n: number) => Promise<unknown>): Promise<unknown> {
  switch (temper) {
    case 'quick':
      return ms;
    case 'sleepy':
      await ctx.sleep(ms);
      ctx.progress(0.5, 'half');
      await ctx.sleep(ms);
      return new Date().toISOString();
    case 'failing':
      await new Promise((resolve) => setTimeout(resolve, ms % 5_000));
      if (ctx.attempt < 3) throw new Error(`attempt ${ctx.attempt}`);
      return null;
    case 'permanent':
      throw new PermanentError('never');
    case 'snoozing':
      return Math.random() < 0.6 ? snooze(ms % 10_000) : 'awake';
    case 'cancelling':
      return cancel('by itself');
    case 'deaf':
      // Ignores its signal: only its timeout ends it.
      return new Promise(() => {});
    case 'parent':
      await child(ms);
      await ctx.sleep(ms);
      return child(ms + 1).then(() => null);
    case 'branching':
      return (await Promise.all([ctx.sleep(ms), ctx.sleep(ms * 2), child(1)])).length;
    case 'odd':
      return ms % 2 === 0 ? { big: 1n } : Promise.reject(null);
  }
}

/** Observes events and reports violations. */
class Witness {
  readonly problems: string[] = [];
  readonly paused = new Set<string>();
  readonly #running = new Map<string, { attempt: number; at: number }>();
  readonly #over = new Set<string>();
  #lost: string | undefined;

  readonly see = (event: Event): void => {
    if (!('job' in event)) return;
    // A worker that was cut off does not know yet, and continues.
    if (event.type === 'discarded' || event.type === 'progressed' || event.type === 'logged') return;
    const { job, type, at } = event;
    if (type === 'requeued') this.#over.delete(job.id);
    // `orphaned` is followed by the resulting event of the job.
    else if (this.#lost !== job.id) this.#check(!this.#over.has(job.id), 'an event of a finished job', event);
    this.#lost = type === 'orphaned' ? job.id : undefined;
    this.#check(job.attempt <= job.maxAttempts, 'more attempts than allowed', event);
    switch (type) {
      case 'started':
        this.#check(!this.#running.has(job.id), 'two attempts at once', event);
        this.#check(job.dueAt <= at, 'started before it was due', event);
        this.#check(job.expiresAt === null || job.startedAt !== at || job.expiresAt > at, 'started although expired', event);
        this.#check(!this.paused.has(job.queue), 'started in a paused queue', event);
        this.#running.set(job.id, { attempt: event.attempt, at });
        break;
      case 'orphaned': {
        const since = this.#running.get(job.id);
        this.#check(since === undefined || at - since.at >= leaseMs, 'an orphan before its lease has expired', event);
        this.#running.delete(job.id);
        break;
      }
      case 'successful':
      case 'retrying':
      case 'snoozed':
      case 'released':
        this.#check(this.#running.get(job.id)?.attempt === event.attempt, 'ended, but did not run', event);
        this.#running.delete(job.id);
        break;
      case 'failed':
      case 'cancelled':
        this.#running.delete(job.id);
        break;
      default:
    }
    if (job.finishedAt !== null) this.#over.add(job.id);
  };

  #check(holds: boolean, what: string, event: Event): void {
    if (!holds)
      this.problems.push(`${what}: ${event.type} at ${event.at} ${'job' in event ? `${event.job.id} attempt ${event.job.attempt}` : ''}`);
  }
}

const failable: readonly (StoreCall | undefined)[] = [
  'claim',
  'settle',
  'renew',
  'overdue',
  'nextDueAt',
  'dueSchedules',
  'saveWorker',
  undefined,
];

/** An action of a caller, an operator or a fault. */
async function step(draw: Draw, sim: Simulation, { tasks, work }: ReturnType<typeof makeTasks>, witness: Witness, results: TaskResult[]) {
  const index = draw(3);
  const worker = sim.worker(index);
  const some = results.length > 0 ? pick(draw, results) : undefined;
  switch (draw(16)) {
    case 0:
      // One of them always comes back.
      worker.crash({ restart: index === 0 || draw(4) > 0 });
      break;
    case 1:
      worker.pauseFor(draw(90_000));
      break;
    case 2:
      sim.store.fail(pick(draw, ['busy', 'failing', 'full']), { on: pick(draw, failable) as StoreCall, times: 1 + draw(8) });
      break;
    case 3: {
      const queue = pick(draw, queues);
      if (await done(tasks.queues.pause(queue))) witness.paused.add(queue);
      break;
    }
    case 4:
      for (const queue of queues) if (await done(tasks.queues.resume(queue))) witness.paused.delete(queue);
      break;
    case 5:
    case 6:
      if (some) await done(some.cancel('by hand'));
      break;
    case 7:
      if (some) await done(some.retry());
      break;
    case 8:
      await sim.drain();
      break;
    case 9:
    case 10:
      await sim.advance(draw(40_000));
      break;
    case 11:
      await sim.next();
      break;
    default: {
      const options = {
        queue: pick(draw, queues),
        priority: draw(5) - 2,
        timeout: 1_000 + draw(60_000),
        ...(draw(2) ? { runAfter: draw(30_000) } : {}),
        ...(draw(4) ? {} : { expires: draw(20_000) }),
        ...(draw(5) ? {} : { retry: { maxAttempts: 1 + draw(3) } }),
      };
      const inputs = Array.from({ length: 1 + draw(3) }, () => ({ temper: pick(draw, tempers), ms: draw(45_000) }));
      const enqueued = await work
        .using(options)
        .enqueueMany(inputs)
        .catch(() => []);
      results.push(...enqueued);
    }
  }
}

/** True if it was done; a failing store, or a job in the wrong state, rejects it. */
async function done(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  );
}

/** Plays a seed. Resolves to its trace and all violations. */
export async function play(seed: number, steps = 40): Promise<{ trace: string; problems: readonly string[] }> {
  const app = makeTasks();
  const witness = new Witness();
  const forget = app.tasks.on('*', witness.see);
  const draw = drawOf(seed);
  const sim = await simulate(app.tasks, { seed, workers: 3, concurrency: 1 + (seed % 3) });
  try {
    const results: TaskResult[] = [];
    for (let i = 0; i < steps; i++) await step(draw, sim, app, witness, results);
    await heal(sim, app.tasks, witness);
    await compare(sim, app.tasks, witness.problems);
    return { trace: String(sim.timeline()), problems: witness.problems };
  } finally {
    forget();
    await sim.end();
  }
}

/** Ends all faults: processes and queues resume, and every job must finish. */
async function heal(sim: Simulation, tasks: ReturnType<typeof makeTasks>['tasks'], witness: Witness): Promise<void> {
  for (const queue of queues) while (!(await done(tasks.queues.resume(queue))));
  witness.paused.clear();
  await sim.advance('2m');
  await sim.runUntilIdle({ max: '10d' });
}

/** Events, stored rows and counts must agree. */
async function compare(sim: Simulation, tasks: ReturnType<typeof makeTasks>['tasks'], problems: string[]): Promise<void> {
  const told = sim.jobs();
  const stored = (await tasks.jobs.list({ limit: 1_000 })).items;
  if (told.length !== stored.length) problems.push(`${told.length} jobs had events, ${stored.length} are stored`);
  const byId = new Map(stored.map((result) => [result.id, result]));
  const counts = new Map<string, number>();
  for (const { id, status, attempts, reason } of told) {
    const row = byId.get(id);
    const [a, b] = [`${status} ${attempts} ${reason}`, `${row?.status} ${row?.attempts} ${row?.reason}`];
    if (a !== b) problems.push(`job ${id} was reported as ${a}, but is ${b}`);
    if (!row?.isFinished) problems.push(`job ${id} did not end: ${row?.status}`);
    const key = `${row?.queue} ${row?.status}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const queue of await tasks.queues.list()) {
    for (const [status, count] of Object.entries(queue.counts)) {
      if (count !== (counts.get(`${queue.name} ${status}`) ?? 0)) problems.push(`stats of ${queue.name}: ${count} ${status}`);
    }
  }
  for (const { job, attempt, outcome } of sim.attempts()) if (outcome === null) problems.push(`attempt ${attempt} of ${job} did not end`);
}
