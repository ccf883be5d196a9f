/** Law 8: a job that waits for others changes in the transaction in which they end. */
import assert from 'node:assert/strict';
import type { Job, Step } from '../../core/types.ts';
import { compensateTask, type Edge, type Part, upstreamFailed } from '../../core/workflow.ts';
import type { Store } from '../../ports/store.ts';
import {
  amend,
  cancelled,
  cases,
  claim,
  claimOne,
  done,
  failed,
  gaveUp,
  idsOf,
  insert,
  leaseMs,
  lost,
  type MakeJob,
  many,
  refuses,
  rowOf,
  settle,
  snoozed,
  t0,
} from './kit.ts';

const plain: Part = {
  key: 'a',
  of: 'w',
  place: 0,
  fill: 'none',
  delayMs: null,
  expiresMs: null,
  allowFailure: false,
  always: false,
  onFailure: 'dependents',
  compensate: null,
};
const part = (job: MakeJob, overrides: Partial<Part> = {}, row: Partial<Job> = {}): Job =>
  job({ workflow: 'w', part: { ...plain, ...overrides }, ...row });
const waiting = (job: MakeJob, overrides: Partial<Part> = {}, row: Partial<Job> = {}): Job =>
  part(job, overrides, { status: 'waiting', ...row });
const edge = (parent: Job, child: Job): Edge => ({ parent: parent.id, child: child.id });
const insertAll = (store: Store, jobs: readonly Job[], edges: readonly Edge[]) => store.insert(jobs, { now: t0, edges });
const open = async (store: Store, now: number) => idsOf(await claim(store, now));
const brief = ({ id, status, reason }: Job) => [id, status, reason];

export const workflows = cases(8, {
  'a waiting job is not claimed, and is queued in the call that settles its last parent': async (store, job) => {
    const [a, b, child] = [part(job), part(job), waiting(job)];
    await insertAll(store, [a, b, child], [edge(a, child), edge(b, child)]);
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    assert.deepEqual((await store.settle([done(two, t0 + 5, '2')], { now: t0 + 5 })).dependents, []);
    assert.equal((await rowOf(store, child.id)).status, 'waiting');
    const { dependents, claimed } = await store.settle([done(one, t0 + 9, '1')], {
      now: t0 + 9,
      claim: { worker: 'w1', limit: 5, leaseUntil: t0 + leaseMs, tasks: ['mail'] },
    });
    assert.deepEqual(dependents, [{ ...child, status: 'queued', dueAt: t0 + 9 }]);
    assert.deepEqual(idsOf(claimed), [child.id], 'a child can be claimed in the call that settles its last parent');
  },
  'the input of a child consists of the return values of its parents, in the order of the edges': async (store, job) => {
    const [a, b] = [part(job), part(job)];
    const fills = {
      none: waiting(job),
      first: waiting(job, { fill: 'first' }),
      all: waiting(job, { fill: 'all' }),
      parts: waiting(
        job,
        {
          fill: [
            { path: ['b', 0], from: 0 },
            { path: ['c'], from: [1, [0]] },
          ],
        },
        { input: '{"a":"é","b":[null],"c":null}' },
      ),
      whole: waiting(job, { fill: [{ path: [], from: 1 }] }, { input: null }),
    };
    const children = Object.values(fills);
    await insertAll(
      store,
      [a, b, ...children],
      children.flatMap((child) => [edge(b, child), edge(a, child)]),
    );
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    await settle(store, done(one, t0, '{"of":"a"}'));
    await settle(store, done(two, t0));
    const input = async (row: Job) => (await rowOf(store, row.id)).input;
    assert.equal(await input(fills.none), '{"to":"ada"}');
    assert.equal(await input(fills.first), 'null');
    assert.equal(await input(fills.all), '[null,{"of":"a"}]');
    assert.equal(await input(fills.parts), '{"a":"é","b":[null],"c":[{"of":"a"},[null]]}');
    assert.equal(await input(fills.whole), '{"of":"a"}');
  },
  'the return value of a parent is kept when the parent is pruned': async (store, job) => {
    const [a, b, child] = [part(job), part(job), waiting(job, { fill: 'all' })];
    await insertAll(store, [a, b, child], [edge(a, child), edge(b, child)]);
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    await settle(store, done(one, t0, '"kept"'));
    assert.equal(await store.prune({ status: 'successful', finishedBefore: t0 + 1, limit: 9 }), 1);
    await settle(store, done(two, t0, '2'));
    assert.equal((await rowOf(store, child.id)).input, '["kept",2]');
  },
  'the delay and the expiry of a child start when its last parent ends': async (store, job) => {
    const a = part(job);
    const later = waiting(job, { delayMs: 1_000, expiresMs: 500 });
    const fixed = waiting(job, {}, { runAfter: t0 + 3_000, dueAt: t0 + 3_000, expiresAt: t0 + 9_000 });
    const past = waiting(job, { expiresMs: 200 }, { runAfter: t0 + 1, dueAt: t0 + 1 });
    await insertAll(store, [a, later, fixed, past], [edge(a, later), edge(a, fixed), edge(a, past)]);
    await settle(store, done(await claimOne(store, t0), t0 + 10));
    const times = async (row: Job) => {
      const { dueAt, expiresAt } = await rowOf(store, row.id);
      return [dueAt - t0, expiresAt === null ? null : expiresAt - t0];
    };
    assert.deepEqual(await times(later), [1_010, 1_510]);
    assert.deepEqual(await times(fixed), [3_000, 9_000]);
    assert.deepEqual(await times(past), [10, 210]);
    assert.deepEqual(await open(store, t0 + 10), [past.id]);
  },
  'a retry, a snooze and a lost lease release nothing; a repeated settlement releases nothing again': async (store, job) => {
    const [a, child] = [part(job), waiting(job)];
    await insertAll(store, [a, child], [edge(a, child)]);
    let row = await claimOne(store, t0);
    for (const next of [failed(row, t0), snoozed({ ...row, claim: 2, attempt: 2 }, t0, 0)]) {
      assert.deepEqual((await store.settle([next], { now: t0 })).dependents, []);
      row = await claimOne(store, t0);
    }
    assert.deepEqual((await store.settle([lost(row, t0 + leaseMs)], { now: t0 + leaseMs })).dependents, []);
    row = await claimOne(store, t0 + leaseMs);
    const end = done(row, t0 + leaseMs);
    assert.equal((await store.settle([end], { now: t0 + leaseMs })).dependents.length, 1);
    assert.deepEqual((await store.settle([end], { now: t0 + leaseMs })).dependents, []);
  },
  'when a job fails, the jobs that depend on it are cancelled, directly or indirectly': async (store, job) => {
    const [a, b] = [part(job), part(job)];
    const [child, other, grandchild] = [waiting(job), waiting(job), waiting(job)];
    await insertAll(
      store,
      [a, b, child, other, grandchild],
      [edge(a, child), edge(b, other), edge(child, grandchild), edge(other, grandchild)],
    );
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    const { dependents } = await store.settle([gaveUp(one, t0 + 7)], { now: t0 + 7 });
    assert.deepEqual(dependents.map(brief), [
      [child.id, 'cancelled', upstreamFailed],
      [grandchild.id, 'cancelled', upstreamFailed],
    ]);
    assert.equal((await rowOf(store, child.id)).finishedAt, t0 + 7);
    assert.deepEqual((await store.settle([done(two, t0 + 8)], { now: t0 + 8 })).dependents.map(brief), [[other.id, 'queued', null]]);
  },
  'when a job is cancelled, by itself or by hand, or deleted, the jobs that wait for it are cancelled': async (store, job) => {
    const parents = [part(job), part(job), part(job)];
    const children = parents.map(() => waiting(job));
    await insertAll(
      store,
      [...parents, ...children],
      parents.map((parent, i) => edge(parent, children[i] as Job)),
    );
    const [first, second, third] = parents as [Job, Job, Job];
    const row = await claimOne(store, t0, { limit: 1 });
    const answers = [
      await store.settle([cancelled(row, t0, 'own')], { now: t0 }),
      await store.amend(
        [{ id: second.id, expect: { status: 'queued', claim: 0 }, set: { status: 'cancelled', reason: 'by hand', finishedAt: t0 } }],
        { now: t0 },
      ),
      await store.amend([{ id: third.id, expect: { status: 'queued', claim: 0 }, set: null }], { now: t0 }),
    ];
    assert.equal(row.id, first.id);
    assert.deepEqual(
      answers.map(({ dependents }) => dependents.map(brief)),
      children.map(({ id }) => [[id, 'cancelled', upstreamFailed]]),
    );
  },
  'if a job that is allowed to fail fails, the jobs that wait for it continue with null as its value': async (store, job) => {
    const [a, b] = [part(job, { allowFailure: true }), part(job)];
    const child = waiting(job, { fill: 'all' });
    await insertAll(store, [a, b, child], [edge(a, child), edge(b, child)]);
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    await store.settle([gaveUp(one, t0), done(two, t0, '1')], { now: t0 });
    const row = await rowOf(store, child.id);
    assert.deepEqual([row.status, row.input], ['queued', '[null,1]']);
  },
  'a job with always is queued when all its parents have ended, whatever their outcome': async (store, job) => {
    const [a, b] = [part(job, { onFailure: 'workflow' }), part(job)];
    const [child, always] = [waiting(job), waiting(job, { always: true, fill: 'all' })];
    await insertAll(store, [a, b, child, always], [edge(a, child), edge(a, always), edge(child, always), edge(b, always)]);
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    assert.deepEqual((await store.settle([gaveUp(one, t0)], { now: t0 })).dependents.map(brief), [
      [child.id, 'cancelled', upstreamFailed],
      [b.id, 'running', null],
    ]);
    assert.equal((await rowOf(store, always.id)).status, 'waiting');
    const { dependents } = await store.settle([failed(two, t0)], { now: t0 });
    assert.deepEqual(dependents.map(brief), [[always.id, 'queued', null]]);
    assert.equal(dependents[0]?.input, '[null,null,null]');
  },
  'a failure ends the whole workflow if its parts request that': async (store, job) => {
    const [a, b, c] = [part(job, { onFailure: 'workflow' }), part(job), part(job)];
    const [child, stranger] = [waiting(job), job({ workflow: 'other', part: plain })];
    await insertAll(store, [a, b, c, child, stranger], [edge(c, child)]);
    const [one, two] = await claim(store, t0, { limit: 2 });
    assert.ok(one && two);
    const { dependents } = await store.settle([gaveUp(one, t0)], { now: t0 });
    assert.deepEqual(dependents.map(brief), [
      [b.id, 'running', null],
      [c.id, 'cancelled', upstreamFailed],
      [child.id, 'cancelled', upstreamFailed],
    ]);
    assert.equal((await rowOf(store, b.id)).cancelRequested, upstreamFailed);
    assert.equal((await rowOf(store, stranger.id)).status, 'queued');
    assert.equal((await settle(store, failed(two, t0)))[0], 'cancelled');
  },
  'a waiting job with steps to undo is queued to undo them when its workflow ends': async (store, job) => {
    const [a, b, c] = [part(job, { onFailure: 'workflow' }), part(job), part(job)];
    await insertAll(store, [a, b, c], []);
    const [one, two, three] = await claim(store, t0);
    assert.ok(one && two && three);
    const undoable: Step = { name: '~undoable', kind: 'sleep', value: null, attempt: 1, at: t0 };
    await store.saveSteps(two, [undoable]);
    await store.saveSteps(three, [{ ...undoable, name: 'charge' }]);
    await settle(store, snoozed(two, t0, 60_000), snoozed(three, t0, 60_000));
    const { dependents } = await store.settle([gaveUp(one, t0 + 5)], { now: t0 + 5 });
    assert.deepEqual(dependents.map(brief), [
      [b.id, 'queued', null],
      [c.id, 'cancelled', upstreamFailed],
    ]);
    assert.equal(dependents[0]?.cancelRequested, upstreamFailed);
    assert.equal((await claimOne(store, t0 + 5)).id, b.id);
  },
  'when a failed job runs again, the jobs that were cancelled because of it wait again': async (store, job) => {
    const [a, b] = [part(job), part(job)];
    const [child, grandchild, byHand] = [waiting(job), waiting(job), waiting(job)];
    await insertAll(store, [a, b, child, grandchild, byHand], [edge(a, child), edge(b, child), edge(child, grandchild), edge(a, byHand)]);
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    await amend(store, byHand, { status: 'cancelled', reason: 'by hand', finishedAt: t0 });
    await store.settle([gaveUp(one, t0), done(two, t0)], { now: t0 });
    assert.equal((await rowOf(store, grandchild.id)).status, 'cancelled');
    const again = { status: 'queued', dueAt: t0 + 50, reason: null, finishedAt: null, maxAttempts: 9 } as const;
    const { amended, dependents } = await store.amend([{ id: a.id, expect: { status: 'failed', claim: 1 }, set: again }], { now: t0 + 50 });
    assert.equal(amended[0]?.status, 'queued');
    assert.deepEqual(dependents.map(brief), [
      [child.id, 'waiting', null],
      [grandchild.id, 'waiting', null],
    ]);
    assert.equal((await rowOf(store, child.id)).finishedAt, null);
    await settle(store, done(await claimOne(store, t0 + 50), t0 + 60));
    assert.equal((await rowOf(store, child.id)).status, 'queued');
    assert.deepEqual(brief(await rowOf(store, byHand.id)), [byHand.id, 'cancelled', 'by hand']);
  },
  'a job that is queued by hand waits for its unfinished parents': async (store, job) => {
    const [a, child] = [part(job), waiting(job)];
    await insertAll(store, [a, child], [edge(a, child)]);
    const stopped = await amend(store, child, { status: 'cancelled', reason: 'by hand', finishedAt: t0 });
    assert.ok(stopped);
    const row = await amend(store, stopped, { status: 'queued', dueAt: t0, reason: null, finishedAt: null });
    assert.equal(row?.status, 'waiting');
    const moved = await amend(store, await rowOf(store, child.id), { status: 'queued', dueAt: t0 });
    assert.equal(moved?.status, 'waiting');
    await settle(store, done(await claimOne(store, t0), t0));
    assert.equal((await rowOf(store, child.id)).status, 'queued');
  },
  'jobs that are queued again in one call wait for each other; jobs with always wait again': async (store, job) => {
    const [a, b] = [part(job, { allowFailure: true }), waiting(job, { fill: 'first' })];
    const [always, late] = [waiting(job, { always: true }), waiting(job)];
    await insertAll(store, [a, b, always, late], [edge(a, b), edge(b, always), edge(a, late)]);
    await settle(store, gaveUp(await claimOne(store, t0), t0));
    await settle(store, gaveUp(await claimOne(store, t0, { limit: 1 }), t0));
    await settle(store, done(await claimOne(store, t0, { limit: 1 }), t0, '7'));
    const again = { status: 'queued', dueAt: t0 + 5, reason: null, finishedAt: null, maxAttempts: 9 } as const;
    const wanted = await Promise.all([b, a].map(({ id }) => rowOf(store, id)));
    const amendments = wanted.map(({ id, claim: number }) => ({ id, expect: { status: 'failed', claim: number }, set: again }) as const);
    await store.amend(amendments, { now: t0 + 5 });
    const rows = await Promise.all([a, b, always, late].map(({ id }) => rowOf(store, id)));
    const statuses = rows.map(({ status }) => status);
    assert.deepEqual(statuses, ['queued', 'waiting', 'waiting', 'waiting'], 'late has not started, so it also waits for the value');
    for (const row of await claim(store, t0 + 5)) await settle(store, done(row, t0 + 6, '"new"'));
    assert.deepEqual([(await rowOf(store, b.id)).status, (await rowOf(store, b.id)).input], ['queued', '"new"']);
  },
  'when a part runs again, undone parts run again too, but only after their compensation has ended': async (store, job) => {
    const [a, b] = [part(job, { compensate: 'undo' }), waiting(job)];
    const end = waiting(job, { always: true }, { task: compensateTask, input: null });
    const tasks = ['mail', compensateTask];
    const next = () => claimOne(store, t0, { tasks });
    await insertAll(store, [a, b, end], [edge(a, b), edge(a, end), edge(b, end)]);
    const step: Step = { name: 'charge', kind: 'step', value: '1', attempt: 1, at: t0 };
    const taken: Step = { ...step, name: 'packed', kind: 'signal', value: '{"data":1}' };
    const first = await next();
    await store.saveSteps(first, [step, taken, { ...step, name: 'pause', kind: 'sleep' }]);
    await settle(store, done(first, t0, '1'));
    await settle(store, gaveUp(await next(), t0));
    const again = { status: 'queued', dueAt: t0, reason: null, finishedAt: null, maxAttempts: 9 } as const;
    const retry = async (id: string) => {
      const { status, claim: number } = await rowOf(store, id);
      const { amended, dependents } = await store.amend([{ id, expect: { status: status as 'failed', claim: number }, set: again }], {
        now: t0,
      });
      return [amended[0]?.id, ...dependents.map(brief)];
    };
    const undoes = { job: a.id, attempt: 1 };
    const undo = waiting(job, { allowFailure: true, undoes });
    const compensating = await next();
    assert.equal(compensating.id, end.id);
    assert.deepEqual(await retry(b.id), [end.id], 'the workflow is being undone');
    await insertAll(store, [undo], [edge(end, undo)]);
    await settle(store, done(compensating, t0));
    assert.deepEqual(await retry(b.id), [undo.id], 'a part is being undone');
    await settle(store, done(await next(), t0));
    assert.deepEqual(await retry(b.id), [b.id, [end.id, 'waiting', null], [a.id, 'queued', null], [b.id, 'waiting', null]]);
    const { input, maxAttempts, finishedAt } = await rowOf(store, end.id);
    assert.deepEqual([input, maxAttempts, finishedAt], ['2', end.maxAttempts, null]);
    assert.equal((await rowOf(store, a.id)).returnValue, null);
    const [steps] = await store.getSteps([a.id]);
    assert.deepEqual(steps?.map(({ name }) => name).sort(), ['packed', '~undone charge'], 'it starts from the beginning');
    await settle(store, done(await next(), t0, '2'));
    await settle(store, gaveUp(await next(), t0));
    assert.equal((await next()).id, end.id);
    await settle(store, done(await rowOf(store, end.id), t0));
    assert.deepEqual(await retry(b.id), [b.id, [end.id, 'waiting', null]], 'the part that ran again has not been undone since');
    await settle(store, gaveUp(await next(), t0));
    await settle(store, done(await next(), t0));
    const latest = await rowOf(store, a.id);
    await store.amend([{ id: a.id, expect: { status: 'successful', claim: latest.claim }, set: null }], { now: t0 });
    assert.deepEqual(await retry(b.id), [end.id], 'the undone part has been deleted');
  },
  'edges can be added to waiting jobs only': async (store, job) => {
    const [a, child] = [part(job), waiting(job, { fill: 'all' })];
    await insertAll(store, [a, child], [edge(a, child)]);
    const row = await claimOne(store, t0);
    const more = part(job);
    await insertAll(store, [more], [edge(more, child)]);
    assert.deepEqual((await store.settle([done(row, t0, '1')], { now: t0 })).dependents, []);
    const late = part(job);
    const next = waiting(job);
    await refuses('conflict', () => insertAll(store, [next], [edge(a, next)]));
    assert.equal((await store.get([next.id]))[0], null, 'nothing was inserted');
    await settle(store, done(await claimOne(store, t0), t0, '2'));
    assert.equal((await rowOf(store, child.id)).input, '[1,2]');
    await refuses('conflict', () => insertAll(store, [late], [edge(late, child)]));
    await refuses('conflict', () => insertAll(store, [late], [{ parent: late.id, child: 'none' }]));
    assert.deepEqual(await store.getEdges([child.id, a.id, 'none']), [
      { parents: [a.id, more.id], children: [] },
      { parents: [], children: [child.id] },
      { parents: [], children: [] },
    ]);
  },
  'once: an existing job keeps its edges': async (store, job) => {
    const [a, child] = [part(job), waiting(job, { fill: 'all' })];
    for (let i = 0; i < 2; i++) await store.insert([a, child], { now: t0, once: true, edges: [edge(a, child)] });
    const more = part(job);
    await store.insert([a, more], { now: t0, once: true, edges: [edge(a, child), edge(more, child)] });
    assert.deepEqual((await store.getEdges([child.id]))[0]?.parents, [a.id, more.id]);
  },
  'one job can wait for many, and many for one': async (store, job) => {
    const root = part(job);
    const middle = many(300, job, { status: 'waiting', workflow: 'w', part: { ...plain, fill: 'first' } });
    const last = waiting(job, { fill: 'all' });
    await insertAll(store, [root, ...middle, last], [...middle.map((one) => edge(root, one)), ...middle.map((one) => edge(one, last))]);
    const { dependents } = await store.settle([done(await claimOne(store, t0), t0, '7')], { now: t0 });
    assert.deepEqual(idsOf(dependents), idsOf(middle));
    const rows = await claim(store, t0, { limit: 1_000 });
    assert.equal(rows.length, 300);
    const settlements = rows.map((row, i) => done(row, t0, String(i)));
    assert.deepEqual((await store.settle(settlements.slice(1), { now: t0 })).dependents, []);
    const { dependents: end } = await store.settle(settlements.slice(0, 1), { now: t0 });
    assert.equal(end[0]?.input, `[${rows.map((_, i) => i).join(',')}]`);
  },
  'the jobs of a workflow, and those that a job enqueued, are found by filters': async (store, job) => {
    const [a, b, child] = [part(job), job({ enqueuedBy: 'x' }), waiting(job)];
    await insertAll(store, [a, b, child], [edge(a, child)]);
    const found = async (filter: Parameters<Store['list']>[0]) =>
      idsOf((await store.list(filter, { now: t0, limit: 9 })).items.map((r) => r.job));
    assert.deepEqual(await found({ workflow: 'w' }), [child.id, a.id]);
    assert.deepEqual(await found({ enqueuedBy: 'x' }), [b.id]);
    assert.deepEqual(await found({ workflow: 'none' }), []);
  },
  'a job that was inserted without edges is not affected': async (store, job) => {
    const alone = job();
    await insert(store, alone);
    assert.deepEqual((await store.settle([done(await claimOne(store, t0), t0)], { now: t0 })).dependents, []);
  },
});
