/** Steps and signals: a job's records are fenced by its claim and deleted with it; a signal is kept until one job has taken it. */
import assert from 'node:assert/strict';
import { decide } from '../../core/decide.ts';
import type { Job, Signal, Step } from '../../core/types.ts';
import type { Store } from '../../ports/store.ts';
import { amend, cases, claim, claimOne, done, failed, gaveUp, insert, lost, rowOf, settle, snoozed, t0 } from './kit.ts';

const step = (name: string, overrides: Partial<Step> = {}): Step => ({ name, kind: 'step', value: '1', attempt: 1, at: t0, ...overrides });
const signal = (name: string, data: string | null = null, sentAt = t0): Signal => ({ name, data, sentAt });
const stepsOf = async (store: Store, id: string) => (await store.getSteps([id]))[0];
const { value: _, ...taking } = step('parcel', { kind: 'signal' });
const take = (store: Store, job: Job, name: string) => store.takeSignal(job, { name, step: taking });
const waiting = (job: Job, name: string, delayMs: number, at = t0) =>
  decide(job, { kind: 'list', delaysMs: [0], jitter: 0 }, { kind: 'snoozed', delayMs, awaits: name }, at, 0);

export const steps = cases('steps', {
  'steps are kept in the order in which they were first recorded, and replaced by name': async (store, job) => {
    await insert(store, job(), job());
    const [row, other] = await claim(store, t0);
    assert.ok(row && other);
    assert.equal(await store.saveSteps(row, [step('charge'), step('sleep', { kind: 'sleep', value: null })]), true);
    assert.equal(await store.saveSteps(row, [step('ship', { at: t0 + 5 }), step('charge', { value: '{"a":"é"}', attempt: 2 })]), true);
    assert.deepEqual(await store.getSteps([other.id, row.id, 'none']), [
      [],
      [step('charge', { value: '{"a":"é"}', attempt: 2 }), step('sleep', { kind: 'sleep', value: null }), step('ship', { at: t0 + 5 })],
      [],
    ]);
  },
  'only the claim that holds the job records steps and takes signals': async (store, job) => {
    await insert(store, job());
    const stale = await claimOne(store, t0, { leaseUntil: t0 });
    await settle(store, lost(stale, t0));
    const row = await claimOne(store, t0);
    await store.sendSignal(signal('a'), { now: t0 });
    for (const held of [stale, { ...row, claim: row.claim + 1 }, { ...row, id: 'none' }]) {
      assert.equal(await store.saveSteps(held, [step('late')]), false);
      assert.equal(await take(store, held, 'a'), false);
    }
    assert.deepEqual(await stepsOf(store, row.id), []);
    assert.deepEqual(await take(store, row, 'a'), signal('a'));
    await settle(store, done(row, t0));
    assert.equal(await store.saveSteps(row, [step('late')]), false);
  },
  'steps outlive retries and snoozes, and are deleted with the job': async (store, job) => {
    const [a, b] = [job(), job()];
    await insert(store, a, b);
    for (const row of await claim(store, t0)) await store.saveSteps(row, [step('first')]);
    await settle(store, failed({ ...a, claim: 1, attempt: 1 }, t0), snoozed({ ...b, claim: 1, attempt: 1 }, t0, 0));
    for (const row of await claim(store, t0)) await store.saveSteps(row, [step('second')]);
    assert.deepEqual(await stepsOf(store, a.id), [step('first'), step('second')]);
    await settle(store, done({ ...a, claim: 2, attempt: 2 }, t0), done({ ...b, claim: 2, attempt: 1 }, t0));
    await amend(store, await rowOf(store, a.id), null);
    await store.prune({ status: 'successful', finishedBefore: t0 + 1, limit: 9 });
    assert.deepEqual(await store.getSteps([a.id, b.id]), [[], []]);
  },
  'when a finished job is queued again, its undone steps are deleted, and the others are kept': async (store, job) => {
    const [a, b] = [job(), job()];
    await insert(store, a, b);
    const undo = [step('~failed'), step('~undo charge', { value: null })];
    for (const row of await claim(store, t0)) await store.saveSteps(row, [step('note'), step('charge'), ...(row.id === a.id ? undo : [])]);
    for (const { id } of [a, b]) await settle(store, gaveUp(await rowOf(store, id), t0));
    for (const { id } of [a, b])
      await amend(store, await rowOf(store, id), { status: 'queued', dueAt: t0, reason: null, finishedAt: null, maxAttempts: 9 });
    assert.deepEqual(await store.getSteps([a.id, b.id]), [
      [step('note'), step('~undone charge', { value: null })],
      [step('note'), step('charge')],
    ]);
    const row = await claimOne(store, t0, { limit: 1 });
    assert.equal(row.id, a.id);
    await store.saveSteps(row, [step('charge', { attempt: 2 }), step('~failed', { attempt: 2 }), step('~undo charge', { attempt: 2 })]);
    await settle(store, gaveUp(row, t0));
    await amend(store, await rowOf(store, a.id), { status: 'queued', dueAt: t0, reason: null, finishedAt: null, maxAttempts: 9 });
    assert.deepEqual(await stepsOf(store, a.id), [step('note'), step('~undone charge', { attempt: 2 })]);
  },
  'a signal is kept until one job takes it, oldest first, and is recorded with that job': async (store, job) => {
    for (const data of ['{"n":1}', null]) await store.sendSignal(signal('a b', data), { now: t0 });
    await insert(store, job(), job());
    const [one, two] = await claim(store, t0);
    assert.ok(one && two);
    assert.equal(await take(store, one, 'other'), null);
    assert.deepEqual(await take(store, one, 'a b'), signal('a b', '{"n":1}'));
    assert.deepEqual(await stepsOf(store, one.id), [{ ...taking, value: '{"data":{"n":1}}' }]);
    assert.deepEqual(await take(store, two, 'a b'), signal('a b'));
    assert.equal(await take(store, one, 'a b'), null);
  },
  'a signal makes the jobs that wait for it due, and no other jobs': async (store, job) => {
    const [waits, other, snoozes] = [job(), job(), job()];
    await insert(store, waits, other, snoozes);
    const [a, b, c] = await claim(store, t0);
    await settle(store, waiting(a as Job, 'x', 60_000), waiting(b as Job, 'y', 60_000), snoozed(c as Job, t0, 60_000));
    assert.equal((await rowOf(store, waits.id)).awaits, 'x');
    await store.sendSignal(signal('x'), { now: t0 + 5 });
    assert.equal((await rowOf(store, waits.id)).dueAt, t0 + 5);
    const row = await claimOne(store, t0 + 5);
    assert.deepEqual([row.id, row.awaits], [waits.id, null]);
    await settle(store, snoozed(row, t0 + 5, 60_000));
    await store.sendSignal(signal('x'), { now: t0 + 6 });
    assert.equal((await rowOf(store, waits.id)).dueAt, t0 + 60_005);
  },
  'a signal that arrives while the job is still running ends its wait immediately': async (store, job) => {
    await insert(store, job());
    const row = await claimOne(store, t0);
    assert.equal(await take(store, row, 'x'), null);
    await store.sendSignal(signal('x', '7', t0 + 1), { now: t0 + 1 });
    await settle(store, waiting(row, 'x', 60_000, t0 + 2));
    const again = await claimOne(store, t0 + 2);
    assert.deepEqual(await take(store, again, 'x'), signal('x', '7', t0 + 1));
  },
  'if two jobs wait for one signal, one of them takes it': async (store, job) => {
    await insert(store, job(), job());
    for (const row of await claim(store, t0)) await settle(store, waiting(row, 'x', 60_000));
    await store.sendSignal(signal('x'), { now: t0 + 1 });
    const taken: unknown[] = [];
    for (const row of await claim(store, t0 + 1)) taken.push(await take(store, row, 'x'));
    assert.deepEqual(taken, [signal('x'), null]);
  },
});
