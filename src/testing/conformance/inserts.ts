/** Laws 10 and 11: data is stored unchanged, and only the caller's clock is used. */
import assert from 'node:assert/strict';
import { latestInstant } from '../../core/duration.ts';
import type { Job } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import {
  advanceOf,
  amend,
  type ConformanceCase,
  cases,
  claim,
  done,
  failed,
  gaveUp,
  idOf,
  idsOf,
  insert,
  jobMaker,
  leavesAsIs,
  lost,
  many,
  refuses,
  rowOf,
  schedule,
  t0,
  wanted,
  withStore,
} from './kit.ts';

const inserts = cases(11, {
  'an inserted job exists and has no attempts': async (store, job) => {
    const row = job();
    await insert(store, row);
    assert.deepEqual(await store.get([row.id]), [{ job: row, attempts: [] }]);
  },
  'once: a job with an existing id is skipped, and the existing job is returned': async (store, job) => {
    const first = job({ id: 'order:1/a' });
    await insert(store, first, job({ id: 'order:2', dueAt: t0 + 5 }));
    await claim(store, t0);
    const stored = await store.get([first.id]);
    const other = job({ id: 'order:3' });
    const answer = await store.insert([{ ...first, input: '"other"', queue: 'slow' }, other], { now: t0, once: true });
    assert.deepEqual(answer, [stored[0], null]);
    assert.deepEqual(await store.get([first.id, other.id]), [stored[0], { job: other, attempts: [] }]);
    assert.deepEqual(await store.insert([job()], { now: t0, once: true }), [null]);
  },
  'once: of fifty concurrent inserts, one succeeds': async (store, job) => {
    const jobs = many(50, job, { id: 'order:1' }).map((row, i) => ({ ...row, input: String(i) }));
    const answers = await Promise.all(jobs.map(async (row) => store.insert([row], { now: t0, once: true })));
    const inserted = jobs.filter((_, i) => answers[i]?.[0] === null);
    assert.equal(inserted.length, 1);
    assert.deepEqual(await rowOf(store, 'order:1'), inserted[0]);
    for (const answer of answers) assert.deepEqual(answer?.[0]?.job ?? inserted[0], inserted[0]);
    const counted = (await store.stats({ now: t0 })).map(({ counts }) => counts.ready);
    assert.deepEqual(counted, [1]);
  },
  'ids other than UUIDs: pages contain each job once, and the last changed job comes first': async (store, job) => {
    const ids = ['Zoo', 'a.b:c/d-e_f', '0', '019b', 'order-10', 'order-9'];
    const own = ids.map((id, i) => job({ id, enqueuedAt: t0 + 2 * i, dueAt: t0 + 100 }));
    const usual = many(3, job, { enqueuedAt: t0 + 3, dueAt: t0 + 100 });
    for (const row of [...own, ...usual]) await store.insert([row], { now: row.enqueuedAt });
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.list({}, { now: t0, limit: 2, cursor });
      found.push(...page.items.map((item) => item.job.id));
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    assert.deepEqual(found, [...ids, ...idsOf(usual)].sort().reverse());
    const latest = await store.list({}, { now: t0, limit: 4, order: 'changed' });
    assert.deepEqual(
      latest.items.map((item) => item.job.id),
      ['order-9', 'order-10', '019b', '0'],
    );
    const all = await store.list({}, { now: t0, limit: 9, order: 'changed' });
    assert.deepEqual(
      all.items.map((item) => item.job.enqueuedAt - t0),
      [10, 8, 6, 4, 3, 3, 3, 2, 0],
    );
  },
  'inserting an empty array is allowed': async (store) => {
    await store.insert([], { now: t0 });
    assert.deepEqual((await store.list({}, { now: t0, limit: 10 })).items, []);
  },
  'every field is kept': async (store, job) => {
    const row = job({
      task: 'mail.welcome:v2/eu',
      queue: 'mail-eu_1',
      priority: -100,
      dueAt: t0 + 1,
      enqueuedAt: t0 + 2,
      runAfter: t0 + 3,
      expiresAt: t0 + 4,
      maxAttempts: 1_000,
      progress: { fraction: 0.1 + 0.2, message: 'début', at: t0 + 5 },
      tags: ['b', 'a', 'b c'],
      metadata: { trace: { id: 'x', parts: [1, null, true, -0.5] } },
      schedule: 'nightly',
      scheduledAt: t0 - 1,
      overrides: { timeoutMs: 5_000, backoff: { kind: 'list', delaysMs: [1, 2], jitter: 0.25 } },
      unique: { key: 'mail ü', while: ['queued', 'failed'], untilAt: t0 + 6, onConflict: 'replace', maxWaitMs: 7 },
      concurrencyKey: 'c d',
      rateKey: "r'e",
      enqueuedBy: idOf(77),
      awaits: 'packed: 42',
    });
    await insert(store, row);
    assert.deepEqual(await rowOf(store, row.id), row);
  },
  'nulls stay null, and empty values stay empty': async (store, job) => {
    const row = job({ input: 'null', tags: [], metadata: {}, reason: '', progress: { fraction: 0, message: '', at: 0 } });
    await insert(store, row);
    assert.deepEqual(await rowOf(store, row.id), row);
  },
  'text in any script is kept, including text that looks like SQL': async (store, job) => {
    const odd = `Zoë 日本語 🦉 e\u0301 \u2028 it's "x" \\ %_ ${'$1'} ?1 :a; DROP TABLE jobs; --`;
    const row = job({ input: JSON.stringify(odd), tags: [odd, ''], metadata: { [odd]: odd }, reason: odd });
    await insert(store, row);
    assert.deepEqual(await rowOf(store, row.id), row);
  },
  'NUL and lone surrogates, escaped in JSON, are kept': async (store, job) => {
    const row = job({ input: '{"a":"\\u0000","b":"\\ud800"}', metadata: { nul: 'a\0b' } });
    await insert(store, row);
    assert.deepEqual(await rowOf(store, row.id), row);
  },
  'the input is returned character by character, not re-encoded as JSON': async (store, job) => {
    const row = job({ input: '{"b":1.0, "a":1e2,"a":12345678901234567890}' });
    await insert(store, row);
    assert.equal((await rowOf(store, row.id)).input, row.input);
  },
  'keys with a meaning in JavaScript are ordinary keys': async (store, job) => {
    const metadata: Record<string, unknown> = JSON.parse('{"__proto__":{"admin":true},"constructor":1,"toString":"x"}');
    const row = job({ input: '{"__proto__":{"admin":true}}', metadata, task: 'constructor', queue: 'toString', tags: ['__proto__'] });
    await insert(store, row);
    const kept = await rowOf(store, row.id);
    assert.deepEqual(kept, row);
    assert.deepEqual(Object.keys(kept.metadata), ['__proto__', 'constructor', 'toString']);
    assert.equal('admin' in kept.metadata, false);
    assert.deepEqual(idsOf(await claim(store, t0, { tasks: ['constructor'] })), [row.id]);
    assert.equal((await store.stats({ now: t0 })).find(({ name }) => name === 'toString')?.counts.running, 1);
  },
  'all instants in the range of a Date are kept': async (store, job) => {
    const row = job({ dueAt: latestInstant, runAfter: latestInstant, expiresAt: latestInstant, enqueuedAt: 0 });
    await insert(store, row);
    assert.deepEqual(await rowOf(store, row.id), row);
    assert.equal((await store.nextDueAt({ now: t0, tasks: ['mail'] })).jobAt, latestInstant);
  },
  'an input of one MiB is kept': async (store, job) => {
    const row = job({ input: JSON.stringify('x'.repeat(1_048_574)) });
    await insert(store, row);
    assert.equal((await rowOf(store, row.id)).input, row.input);
  },
  'an existing id is refused as a conflict, with the whole batch, and the old row stays': async (store, job) => {
    const [old, a, b] = [job(), job(), job()];
    await insert(store, old);
    await leavesAsIs(store, idsOf([old, a, b]), () =>
      refuses('conflict', () => store.insert([a, { ...old, input: '"other"' }, b], { now: t0 })),
    );
    assert.deepEqual(idsOf(await claim(store, t0)), [old.id]);
  },
  'an existing id is refused even if its job has finished': async (store, job) => {
    const old = job();
    await insert(store, old);
    const [row] = await claim(store, t0);
    assert.ok(row);
    await store.settle([done(row, t0)], { now: t0 });
    await leavesAsIs(store, [old.id], () => refuses('conflict', () => store.insert([old], { now: t0 })));
  },
  'a duplicate id in a batch is refused as a conflict, with the whole batch': async (store, job) => {
    const [a, b] = [job(), job()];
    await refuses('conflict', () => store.insert([a, b, { ...a }], { now: t0 }));
    assert.deepEqual(await store.get(idsOf([a, b])), [null, null]);
    assert.deepEqual(await store.stats({ now: t0 }), []);
  },
  'after a refused batch, its valid jobs can be inserted': async (store, job) => {
    const [old, fresh] = [job(), job()];
    await insert(store, old);
    await refuses('conflict', () => store.insert([fresh, old], { now: t0 }));
    await insert(store, fresh);
    assert.deepEqual(idsOf(await claim(store, t0)), idsOf([old, fresh]));
  },
  'a thousand jobs can be inserted in one call': async (store, job) => {
    const jobs = many(1_000, job, { tags: ['bulk'] });
    await insert(store, ...jobs);
    assert.deepEqual(
      await store.get(idsOf(jobs)),
      jobs.map((row) => ({ job: row, attempts: [] })),
    );
  },
  'concurrent inserts are all kept': async (store, job) => {
    const batches = Array.from({ length: 20 }, () => many(5, job));
    await Promise.all(batches.map((batch) => store.insert(batch, { now: t0 })));
    assert.equal((await claim(store, t0, { limit: 1_000 })).length, 100);
  },
  'migrating again loses nothing': async (store, job) => {
    const row = job();
    await insert(store, row);
    await store.migrate();
    await store.migrate();
    assert.deepEqual(idsOf(await claim(store, t0)), [row.id]);
  },
  'a store without transactions refuses one and changes nothing': async (store, job) => {
    if (store.supports.transactions) return;
    const [row, other] = [job(), job()];
    await refuses('unsupported', () => store.insert([row], { now: t0, transaction: {} }));
    assert.deepEqual(await store.get([row.id]), [null]);
    await insert(store, other);
    const [held] = await claim(store, t0);
    assert.ok(held);
    await leavesAsIs(store, [other.id], () => refuses('unsupported', () => store.settle([done(held, t0)], { now: t0, transaction: {} })));
  },
});

/** Performs a mix of operations, starting at an instant; returns the answers in order. */
async function play(store: Store, baseAt: number): Promise<readonly unknown[]> {
  const job = jobMaker(baseAt);
  const at = (ms: number) => baseAt + ms;
  const answers: unknown[] = [];
  const ask = <T>(answer: T): T => {
    answers.push(structuredClone(answer));
    return answer;
  };
  const jobs = [
    job(),
    job({ dueAt: at(50), priority: 3 }),
    job({ expiresAt: at(70), queue: 'slow' }),
    job({ runAfter: at(90), dueAt: at(90) }),
    job(),
  ];
  await store.insert(jobs, { now: at(0) });
  const trigger = { kind: 'every', everyMs: 60, anchorAt: at(0) } as const;
  await store.saveSchedule(schedule({ nextAt: at(60), occurrenceAt: at(60), seen: {}, trigger }), { expect: null });
  ask(await store.nextDueAt({ now: at(10), tasks: ['mail'] }));
  const [a, b] = ask(await store.claim({ ...wanted(at(10), { limit: 2 }), now: at(10) }));
  assert.ok(a && b);
  ask(await store.renew([a, b], { now: at(20), leaseUntil: at(500) }));
  ask(await store.overdue({ now: at(69), limit: 10 }));
  ask(await store.overdue({ now: at(70), limit: 10 }));
  ask(await store.settle([failed(a, at(30), 100), done(b, at(40))], { now: at(50), claim: wanted(at(50), { limit: 1 }) }));
  ask(await store.nextDueAt({ now: at(55), tasks: ['mail'], queues: ['default'] }));
  ask(await store.dueSchedules({ now: at(60), limit: 10, computes: [] }));
  const fired = job({ id: idOf(50), task: 'report', dueAt: at(60), schedule: 'nightly', scheduledAt: at(60) });
  ask(
    await store.advanceSchedules([advanceOf({ jobs: [fired] }, { lastAt: at(60), nextAt: at(120), occurrenceAt: at(120) })], {
      now: at(61),
    }),
  );
  ask(await store.stats({ now: at(80) }));
  ask(await amend(store, jobs[3] as Job, { dueAt: at(85) }, at(80)));
  const rest = ask(await store.claim({ ...wanted(at(140)), now: at(140) }));
  ask(
    await store.settle(
      rest.map((row, i) => (i % 2 ? lost(row, at(150)) : gaveUp(row, at(150)))),
      { now: at(150) },
    ),
  );
  ask(await store.prune({ status: 'successful', finishedBefore: at(41), limit: 10 }));
  ask(await store.get(Array.from({ length: 10 }, (_, i) => idOf(i + 1))));
  ask((await store.list({ status: ['failed', 'ready', 'running'] }, { now: at(200), limit: 10 })).items);
  ask(await store.stats({ now: at(200) }));
  return answers;
}

const instant = /At$|^(at|leaseUntil|runAfter)$/;

/** The value with every instant in it shifted. */
function moved(value: unknown, byMs: number): unknown {
  if (Array.isArray(value)) return value.map((item) => moved(item, byMs));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, part]) => [
    key,
    typeof part === 'number' && instant.test(key) ? part + byMs : moved(part, byMs),
  ]);
  return Object.fromEntries(entries);
}

/** The stores are opened one after another, because two that are open at the same time may be the same store. */
function playedAt(otherAt: number): ConformanceCase['run'] {
  return async (open) => {
    const here = await withStore(open, (store) => play(store, t0));
    const stored = await withStore(open, (store) => play(store, otherAt));
    assert.deepEqual(moved(stored, t0 - otherAt), here);
  };
}

const noClock: readonly ConformanceCase[] = [
  { law: 10, name: 'operations in 1970 give the same answers, shifted in time', run: playedAt(1_000) },
  { law: 10, name: 'operations in 2286 give the same answers, shifted in time', run: playedAt(10_000_000_000_000) },
  ...cases(10, {
    'if time stands still for the caller, it stands still for the store': async (store, job) => {
      await insert(store, job({ dueAt: 1_001, enqueuedAt: 0 }));
      for (let i = 0; i < 50; i++) assert.deepEqual(await claim(store, 1_000), []);
      assert.equal((await claim(store, 1_001, { leaseUntil: 1_010 })).length, 1);
      assert.deepEqual(await store.overdue({ now: 1_009, limit: 10 }), []);
    },
    'the instant of a settlement is kept, however late it arrives': async (store, job) => {
      await insert(store, job());
      const [row] = await claim(store, t0);
      assert.ok(row);
      await store.settle([done(row, t0 + 5)], { now: t0 + 5_000 });
      const [record] = await store.get([row.id]);
      assert.deepEqual([record?.job.finishedAt, record?.attempts[0]?.endedAt], [t0 + 5, t0 + 5]);
    },
  }),
];

export const keeping = [...inserts, ...noClock];
