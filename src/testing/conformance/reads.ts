/** Law 9 and the methods that only read: `stats`, `list`, `get`. */
import assert from 'node:assert/strict';
import { withoutOldStacks } from '../../core/job.ts';
import type { Job, JobRecord, Status } from '../../core/types.ts';
import type { JobFilter, QueueStats, Store } from '../../ports/store.ts';
import {
  amend,
  cancelled,
  cases,
  claim,
  claimOne,
  done,
  failed,
  gaveUp,
  idOf,
  idsOf,
  insert,
  leaseMs,
  lost,
  type MakeJob,
  many,
  recordOf,
  settle,
  snoozed,
  t0,
} from './kit.ts';

const statuses: readonly Status[] = ['waiting', 'scheduled', 'ready', 'retrying', 'running', 'successful', 'failed', 'cancelled'];

/** The expected result of `stats`, computed by listing every status. A queue that has no jobs is known by whether it is paused. */
async function counted(store: Store, now: number, paused: ReadonlyMap<string, boolean>): Promise<readonly QueueStats[]> {
  const listed = await Promise.all(statuses.map((status) => store.list({ status: [status] }, { now, limit: 10_000 })));
  const jobs = listed.map(({ items }) => items.map(({ job }) => job));
  const names = new Set([...paused.keys(), ...jobs.flat().map(({ queue }) => queue)]);
  return [...names].map((name) => {
    const own = jobs.map((all) => all.filter(({ queue }) => queue === name));
    const counts = Object.fromEntries(statuses.map((status, i) => [status, own[i]?.length])) as Record<Status, number>;
    const ready = own[statuses.indexOf('ready')]?.map(({ dueAt }) => dueAt) ?? [];
    return { name, paused: paused.get(name) ?? false, counts, oldestReadyAt: ready.length === 0 ? null : Math.min(...ready) };
  });
}

const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);

/** Integers from 0 up to, but not including, `below`; the same seed gives the same numbers (mulberry32). */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

/** Makes a random change to the store at an instant. */
async function step(store: Store, job: MakeJob, roll: (below: number) => number, now: number): Promise<void> {
  const queue = 'abc'.charAt(roll(3));
  switch (roll(4)) {
    case 0: {
      const status = roll(8) === 0 ? 'waiting' : 'queued';
      const expiresAt = roll(4) === 0 ? now + roll(3_000) : null;
      await store.insert(many(1 + roll(4), job, { queue, status, dueAt: now - 500 + roll(2_000), expiresAt, maxAttempts: 1 + roll(3) }), {
        now,
      });
      break;
    }
    case 1: {
      const rows = await store.claim({
        worker: 'w1',
        tasks: ['mail'],
        queues: [queue],
        limit: 1 + roll(4),
        leaseUntil: now + leaseMs,
        now,
      });
      const outcomes = [done, gaveUp, lost, (row: Job) => failed(row, now, roll(900)), (row: Job) => snoozed(row, now, roll(900))];
      const ends = rows.map((row) => (outcomes[roll(outcomes.length)] ?? done)(row, now));
      await store.settle(ends.slice(roll(3)), { now });
      break;
    }
    case 2: {
      const { items } = await store.list({ queue, status: ['scheduled', 'ready', 'retrying'] }, { now, limit: 2 });
      for (const { job: row } of items) await amend(store, row, { status: 'cancelled', finishedAt: now, reason: 'stop' }, now);
      break;
    }
    default: {
      const { items } = await store.list({ queue, status: ['failed', 'cancelled'] }, { now, limit: 2 });
      for (const { job: row } of items)
        await amend(store, row, { status: 'queued', dueAt: now + roll(800), finishedAt: null, reason: null }, now);
      await store.prune({ status: 'successful', finishedBefore: now - 400, limit: 1 });
    }
  }
}

const mixtures = Object.fromEntries(
  [1, 2, 3].map((seed) => [
    `stats equal counting list, along random history ${seed}`,
    async (store: Store, job: MakeJob) => {
      const roll = dice(seed);
      const paused = new Map<string, boolean>();
      for (let i = 0; i < 60; i++) {
        const now = t0 + i * 100;
        if (roll(10) === 0) {
          const row = { name: 'abcd'.charAt(roll(4)), paused: roll(2) === 0 };
          paused.set(row.name, row.paused);
          await store.saveQueue(row, { now });
        } else await step(store, job, roll, now);
        if (i % 3 < 2) continue;
        const expected = await counted(store, now, paused);
        assert.deepEqual([...(await store.stats({ now }))].sort(byName), [...expected].sort(byName));
      }
    },
  ]),
);

const none = Object.fromEntries(statuses.map((status) => [status, 0]));

const stats = cases(9, {
  'an empty store has no queues': async (store) => {
    assert.deepEqual(await store.stats({ now: t0 }), []);
  },
  'a queue that was paused or resumed is listed even without jobs': async (store) => {
    await store.saveQueue({ name: 'a', paused: true }, { now: t0 });
    await store.saveQueue({ name: 'b', paused: false }, { now: t0 });
    assert.deepEqual([...(await store.stats({ now: t0 }))].sort(byName), [
      { name: 'a', paused: true, counts: none, oldestReadyAt: null },
      { name: 'b', paused: false, counts: none, oldestReadyAt: null },
    ]);
  },
  'a queue reports whether it is paused': async (store, job) => {
    await insert(store, job());
    const paused = async () => (await store.stats({ now: t0 })).map((queue) => queue.paused);
    assert.deepEqual(await paused(), [false]);
    await store.saveQueue({ name: 'default', paused: true }, { now: t0 });
    assert.deepEqual(await paused(), [true]);
    await store.saveQueue({ name: 'default', paused: false }, { now: t0 });
    assert.deepEqual(await paused(), [false]);
  },
  "a queued job is scheduled, ready or retrying at the caller's time": async (store, job) => {
    await insert(store, job(), job({ dueAt: t0 + 100 }), job({ priority: 9 }));
    await settle(store, failed(await claimOne(store, t0, { limit: 1 }), t0, 50));
    const at = async (now: number) => (await store.stats({ now }))[0]?.counts;
    assert.deepEqual(await at(t0 + 49), { ...none, ready: 1, scheduled: 1, retrying: 1 });
    assert.deepEqual(await at(t0 + 50), { ...none, ready: 2, scheduled: 1 });
    assert.deepEqual(await at(t0 + 100), { ...none, ready: 3 });
    assert.deepEqual(await at(t0 - 1), { ...none, scheduled: 2, retrying: 1 });
  },
  'the oldest ready job is reported by its due time, ignoring running and scheduled ones': async (store, job) => {
    await insert(
      store,
      job({ dueAt: t0 - 50, priority: 9 }),
      job({ dueAt: t0 - 20 }),
      job({ dueAt: t0 - 10, priority: 5 }),
      job({ dueAt: t0 + 10 }),
    );
    const oldest = async (now: number) => (await store.stats({ now }))[0]?.oldestReadyAt;
    assert.equal(await oldest(t0), t0 - 50);
    await claimOne(store, t0, { limit: 1 });
    assert.equal(await oldest(t0), t0 - 20);
    await claim(store, t0);
    assert.equal(await oldest(t0), null);
    assert.equal(await oldest(t0 + 10), t0 + 10);
  },
  ...mixtures,
});

/** One job of each visible status at `t0 + 100`. */
async function oneOfEach(store: Store, job: MakeJob): Promise<Readonly<Record<Status, string>>> {
  const rows = { successful: job(), failed: job(), cancelled: job(), retrying: job(), running: job() };
  await insert(store, ...Object.values(rows));
  const held = new Map((await claim(store, t0)).map((row) => [row.id, row]));
  const of = (row: Job) => held.get(row.id) as Job;
  const ends = [done(of(rows.successful), t0), gaveUp(of(rows.failed), t0), cancelled(of(rows.cancelled), t0, 'stop')];
  await settle(store, ...ends, failed(of(rows.retrying), t0, 1_000));
  const late = { waiting: job({ status: 'waiting' }), scheduled: job({ dueAt: t0 + 101 }), ready: job({ dueAt: t0 + 100 }) };
  await insert(store, ...Object.values(late));
  return Object.fromEntries(Object.entries({ ...rows, ...late }).map(([status, row]) => [status, row.id])) as Record<Status, string>;
}

const idsIn = (records: readonly JobRecord[]) => records.map((record) => record.job.id);

async function listed(store: Store, filter: JobFilter, now = t0 + 100): Promise<readonly string[]> {
  return idsIn((await store.list(filter, { now, limit: 100 })).items);
}

const lists = cases('list', {
  'lists by each visible status': async (store, job) => {
    const ids = await oneOfEach(store, job);
    for (const status of statuses) assert.deepEqual(await listed(store, { status: [status] }), [ids[status]], status);
  },
  'lists by several statuses, all of them, or none': async (store, job) => {
    const ids = await oneOfEach(store, job);
    assert.deepEqual(
      await listed(store, { status: ['ready', 'failed', 'retrying'] }),
      [ids.ready, ids.failed, ids.retrying].sort().reverse(),
    );
    assert.equal((await listed(store, { status: statuses })).length, statuses.length);
    assert.deepEqual(await listed(store, { status: [] }), []);
  },
  'lists by task, queue, schedule and tag, and by combinations of them': async (store, job) => {
    const a = job({ task: 'report', tags: ['x', 'y'] });
    const b = job({ queue: 'slow', schedule: 'nightly', scheduledAt: t0, tags: ['y'] });
    const c = job({ task: 'report', queue: 'slow', tags: ['xy'] });
    await insert(store, a, b, c);
    assert.deepEqual(await listed(store, { task: 'report' }), idsOf([c, a]));
    assert.deepEqual(await listed(store, { queue: 'slow' }), idsOf([c, b]));
    assert.deepEqual(await listed(store, { schedule: 'nightly' }), [b.id]);
    assert.deepEqual(await listed(store, { tag: 'y' }), idsOf([b, a]));
    assert.deepEqual(await listed(store, { tag: 'x' }), [a.id]);
    assert.deepEqual(await listed(store, { task: 'report', queue: 'slow' }), [c.id]);
    assert.deepEqual(await listed(store, { task: 'report', tag: 'y', status: ['ready'], ids: idsOf([a, b]) }), [a.id]);
    assert.deepEqual(await listed(store, { task: 'report', schedule: 'nightly' }), []);
    assert.deepEqual(await listed(store, { queue: 'never' }), []);
  },
  'a tag is compared as a whole and as text': async (store, job) => {
    const row = job({ tags: [`it's 50%_ "off"`, '🦉'] });
    await insert(store, row, job({ tags: ['50'] }), job({ tags: ['it_s 50%_ "off"'] }));
    assert.deepEqual(await listed(store, { tag: `it's 50%_ "off"` }), [row.id]);
    assert.deepEqual(await listed(store, { tag: '🦉' }), [row.id]);
    assert.deepEqual(await listed(store, { tag: '%' }), []);
  },
  'lists by ids, omitting those that do not exist': async (store, job) => {
    const [a, b, c] = [job(), job(), job()];
    await insert(store, a, b, c);
    assert.deepEqual(await listed(store, { ids: [a.id, idOf(999), c.id, a.id] }), idsOf([c, a]));
    assert.deepEqual(await listed(store, { ids: [] }), []);
  },
  'newest first, whatever the order of insertion, and with attempts': async (store, job) => {
    const jobs = many(5, job);
    await insert(store, ...[3, 0, 4, 1, 2].map((i) => jobs[i] as Job));
    await settle(store, failed(await claimOne(store, t0, { limit: 1 }), t0 + 1, 5));
    const { items } = await store.list({}, { now: t0 + 1, limit: 100 });
    assert.deepEqual(idsIn(items), idsOf(jobs).reverse());
    assert.deepEqual(items, await store.get(idsIn(items)));
    assert.equal(items[4]?.attempts.length, 1);
  },
  'in lists, errors of earlier attempts are complete except for their stacks': async (store, job) => {
    const row = job();
    await insert(store, row);
    for (const at of [1, 2, 3]) await settle(store, failed(await claimOne(store, t0 + at), t0 + at));
    const [listed] = (await store.list({}, { now: t0 + 3, limit: 1 })).items;
    const { attempts } = await recordOf(store, row.id);
    assert.deepEqual(
      attempts.map(({ error }) => error?.stack === ''),
      [false, false, false],
    );
    assert.deepEqual(listed?.attempts, withoutOldStacks(attempts));
  },
  'pages cover everything exactly once, in order': async (store, job) => {
    const jobs = many(23, job);
    await insert(store, ...jobs);
    for (const limit of [1, 5, 23, 50]) assert.deepEqual((await pages(store, {}, limit)).flat(), idsOf(jobs).reverse());
  },
  'no page has more than the limit, and the last cursor is null': async (store, job) => {
    await insert(store, ...many(7, job));
    assert.deepEqual(
      (await pages(store, {}, 3)).filter((page) => page.length > 0).map((page) => page.length),
      [3, 3, 1],
    );
    assert.equal((await store.list({}, { now: t0, limit: 8 })).cursor, null);
  },
  'by change: the most recently changed jobs come first, whatever their number and priority': async (store, job) => {
    const [urgent, calm] = [many(30, job, { priority: 9 }), many(30, job)];
    await insert(store, ...urgent, ...calm);
    const held = await claim(store, t0 + 10, { limit: 5 });
    const [first, second, third, fourth, fifth] = held as [Job, Job, Job, Job, Job];
    await settle(store, done(first, t0 + 20));
    await settle(store, failed(second, t0 + 40, 10_000), snoozed(third, t0 + 50, 10_000), gaveUp(fourth, t0 + 30));
    await amend(store, calm[3] as Job, { status: 'cancelled', finishedAt: t0 + 25, reason: 'stop' }, t0 + 25);
    const changed = async (filter: JobFilter, limit: number) => {
      const { items, cursor } = await store.list(filter, { now: t0 + 60, limit, order: 'changed' });
      assert.equal(cursor, null);
      return idsIn(items);
    };
    const latest = [third, second, fourth, calm[3] as Job, first, fifth];
    assert.deepEqual(await changed({}, 6), idsOf(latest));
    assert.deepEqual((await changed({}, 100)).slice(6), idsOf([...urgent.slice(5), ...calm.toSpliced(3, 1)]).reverse());
    assert.deepEqual(await changed({ status: ['failed', 'successful'] }, 6), idsOf([fourth, first]));
    assert.deepEqual(await changed({ status: ['retrying'] }, 6), idsOf([second]));
    await claim(store, t0 + 20_000, { limit: 1 });
    assert.deepEqual(await changed({}, 1), idsOf([urgent[5] as Job]));
    assert.deepEqual(idsIn((await store.list({}, { now: t0, limit: 1, order: 'enqueued' })).items), [(calm.at(-1) as Job).id]);
  },
  'pages of a filtered list skip nothing': async (store, job) => {
    const jobs = Array.from({ length: 30 }, (_, i) => job({ tags: i % 3 ? [] : ['third'] }));
    await insert(store, ...jobs);
    assert.deepEqual((await pages(store, { tag: 'third' }, 2)).flat(), idsOf(jobs.filter((_, i) => i % 3 === 0)).reverse());
  },
  'pages cover everything exactly once, even if newer jobs arrive and others change in between': async (store, job) => {
    const jobs = many(12, job);
    await insert(store, ...jobs);
    const seen = await pages(store, {}, 5, async () => {
      await insert(store, ...many(3, job));
      await claim(store, t0, { limit: 2 });
    });
    assert.deepEqual(seen.flat(), idsOf(jobs).reverse());
  },
});

/** The ids on each page, up to the last one. */
async function pages(store: Store, filter: JobFilter, limit: number, between?: () => Promise<void>): Promise<readonly string[][]> {
  const found: string[][] = [];
  let cursor: string | null | undefined;
  while (cursor !== null) {
    const page = await store.list(filter, { now: t0, limit, cursor });
    found.push(idsIn(page.items));
    assert.ok(found.length < 100, 'the cursor never ends');
    await between?.();
    cursor = page.cursor;
  }
  return found;
}

const gets = cases('get', {
  'answers are in the order of the ids, with null for missing jobs, and repeated for repeated ids': async (store, job) => {
    const [a, b] = [job(), job()];
    await insert(store, a, b);
    const answers = await store.get([b.id, idOf(999), a.id, b.id, 'no id at all']);
    assert.deepEqual(
      answers.map((record) => record?.job.id ?? null),
      [b.id, null, a.id, b.id, null],
    );
    assert.deepEqual(await store.get([]), []);
  },
  'any number of ids can be requested': async (store, job) => {
    const jobs = many(3, job);
    await insert(store, ...jobs);
    const questions = Array.from({ length: 40_000 }, (_, i) => idOf(i + 1));
    const answers = await store.get(questions);
    assert.deepEqual([answers.length, answers.filter((record) => record !== null).length], [40_000, 3]);
    assert.deepEqual(await listed(store, { ids: questions }), idsOf(jobs).reverse());
  },
  'rows that were returned are not changed by later operations': async (store, job) => {
    await insert(store, job(), job());
    const kept: unknown[] = [];
    const copies: unknown[] = [];
    const keep = <T>(value: T): T => {
      kept.push(value);
      copies.push(structuredClone(value));
      return value;
    };
    const ids = [idOf(1), idOf(2)];
    keep(await store.get(ids));
    keep(await store.list({}, { now: t0, limit: 10 }));
    keep(await store.stats({ now: t0 }));
    const rows = keep(await claim(store, t0));
    keep(await store.get(ids));
    keep(await store.overdue({ now: t0 + leaseMs, limit: 10 }));
    await store.renew(rows, { now: t0 + 1, leaseUntil: t0 + 99 * leaseMs });
    keep(await amend(store, rows[0] as Job, { cancelRequested: 'stop', progress: { fraction: 1, message: null, at: t0 } }));
    await settle(store, ...rows.map((row) => failed(row, t0 + 2, 10)));
    keep(await store.list({}, { now: t0 + 2, limit: 10 }));
    await claim(store, t0 + 20, { worker: 'w2' });
    assert.deepEqual(kept, copies);
  },
  'reading changes nothing': async (store, job) => {
    const ids = Object.values(await oneOfEach(store, job));
    const before = await store.get(ids);
    for (const now of [t0 - 1, t0 + 1_000_000, t0]) {
      await store.stats({ now });
      await store.list({}, { now, limit: 3 });
      await store.overdue({ now, limit: 10 });
      await store.nextDueAt({ now, tasks: ['mail'] });
    }
    assert.deepEqual(await store.get(ids), before);
  },
});

export const reads = [...stats, ...lists, ...gets];
