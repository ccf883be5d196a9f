/** Workflows: chains, groups, graphs, failures, retries, and `ctx.workflow`. */
import { afterEach, describe, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { cancel, createTasks, memory, PermanentError, type WorkflowResult } from '../src/index.ts';
import { sqlite } from '../src/stores/sqlite/index.ts';
import { explore, simulate } from '../src/testing/index.ts';
import { emptyPostgres } from './stores/postgres-server.ts';

const stores = { memory: () => memory(), sqlite: () => sqlite({ file: ':memory:' }), postgres: () => emptyPostgres() };
const played = (['memory', 'sqlite', 'postgres'] as const).filter((store) => store !== 'postgres' || process.env.ESCAPEMENT_POSTGRES);

/** An application and its simulation. */
async function application(store: keyof typeof stores = 'memory') {
  const tasks = createTasks({ backend: memory() });
  const ran: string[] = [];
  const note = <T>(what: string, value: T): T => {
    ran.push(what);
    return value;
  };
  const start = tasks.define('start', (n: number) => note(`start ${n}`, n + 1));
  const double = tasks.define('double', (n: number) => note(`double ${n}`, n * 2));
  const text = tasks.define('text', (n: number) => note(`text ${n}`, `n=${n}`));
  const sum = tasks.define('sum', (all: (number | null)[]) =>
    note(
      `sum ${all}`,
      all.reduce<number>((a, b) => a + (b ?? 0), 0),
    ),
  );
  const alone = tasks.define('alone', () => note('alone', 'done'));
  const isBroken = { now: true };
  const broken = tasks.define('broken', {
    retry: { maxAttempts: 1 },
    run: (n: number) => {
      ran.push(`broken ${n}`);
      if (isBroken.now) throw new PermanentError('no');
      return n;
    },
  });
  const sim = await simulate(tasks, { store: stores[store]() });
  end = () => sim.end();
  return { tasks, sim, ran, start, double, text, sum, alone, broken, isBroken };
}
let end: (() => Promise<void>) | undefined;
afterEach(async () => {
  await end?.();
  end = undefined;
});
const statuses = (workflow: WorkflowResult) => Object.fromEntries(workflow.jobs.map((job) => [job.part, job.status]));

describe.each(played)('on %s', (store) => {
  test('a chain passes each task the output of the previous one', async () => {
    const { tasks, sim, start, double, text } = await application(store);
    const workflow = await tasks.chain([start.with(1), double, text]).enqueue();
    expectTypeOf<(typeof workflow)['returnValue']>().toEqualTypeOf<string>();
    expect(workflow).toMatchObject({ status: 'running', name: 'chain', progress: { finished: 0, total: 3 } });
    expect(statuses(workflow)).toEqual({ start: 'ready', double: 'waiting', text: 'waiting' });
    expect(() => workflow.returnValue).toThrow('is waiting, not successful');
    await sim.runUntilIdle();
    await workflow.refresh();
    expect(workflow.status).toBe('successful');
    expect(workflow.returnValue).toBe('n=4');
    expect(workflow.part('double').input).toBe(2);
    expect(workflow.progress).toEqual({ finished: 3, total: 3, fraction: 1 });
  });

  test('the jobs of a group run in parallel, and the next part receives all values in order', async () => {
    const { tasks, sim, start, sum, double } = await application(store);
    const flow = tasks.group([start.with(1), tasks.chain([start.with(2), double]), start.with(3)]).then(sum);
    const workflow = await flow.enqueue();
    expectTypeOf<(typeof workflow)['returnValue']>().toEqualTypeOf<number>();
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe(2 + 6 + 4);
    const again = await flow.enqueue();
    expect(again.id).not.toBe(workflow.id);
    const group = await tasks.group([start.with(5), tasks.group([start.with(6), start.with(7)])]).enqueue();
    expectTypeOf<(typeof group)['returnValue']>().toEqualTypeOf<[number, [number, number]]>();
    await sim.runUntilIdle();
    expect((await group.refresh()).returnValue).toEqual([6, [7, 8]]);
    expect((await tasks.getWorkflow(group.id)).returnValue).toEqual([6, [7, 8]]);
  });

  test('map and chunks create a job for each input', async () => {
    const { tasks, sim, double, sum } = await application(store);
    const workflow = await tasks.map(double, [1, 2, 3]).then(sum).enqueue();
    const chunks = await tasks.chunks(sum, [1, 2, 3, 4, 5], 2).enqueue();
    expectTypeOf<(typeof chunks)['returnValue']>().toEqualTypeOf<number[]>();
    const none = await tasks.map(double, []).enqueue();
    const empty = await tasks.map(double, []).then(sum).enqueue();
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe(12);
    expect((await chunks.refresh()).returnValue).toEqual([3, 7, 5]);
    expect(none).toMatchObject({ status: 'successful', returnValue: [] });
    expect((await empty.refresh()).returnValue).toBe(0);
  });

  test('a graph passes outputs into inputs, whole or in part, and parts can wait without input', async () => {
    const { tasks, sim, ran, alone, start } = await application(store);
    const measure = tasks.define('measure', (of: { file: string }) => ({ size: { width: of.file.length }, tags: ['a', 'b'] }));
    const publish = tasks.define(
      'publish',
      (page: { title: string; widths: number[]; tag: string }) => `${page.title} ${page.widths} ${page.tag}`,
    );
    const flow = tasks.workflow(
      (w) => {
        const a = w.add(measure, { file: 'abc' }, { key: 'small' });
        const b = w.add(measure, { file: 'abcdef' });
        const last = w.add(publish, { title: 't', widths: [a.output.size.width, b.output.size.width], tag: b.output.tags[1] as string });
        w.add(alone, undefined, { after: [last] });
        w.add(start.with(1), { after: [a] });
        return last;
      },
      { name: 'page' },
    );
    const workflow = await flow.enqueue();
    expectTypeOf<(typeof workflow)['returnValue']>().toEqualTypeOf<string>();
    expect(workflow.name).toBe('page');
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe('t 3,6 b');
    expect(statuses(workflow)).toEqual({
      small: 'successful',
      measure: 'successful',
      publish: 'successful',
      alone: 'successful',
      start: 'successful',
    });
    expect(ran.at(-1)).toBe('alone');
  });

  test('a failure cancels the parts that wait for it, and retrying the failed part resumes them', async () => {
    const { tasks, sim, start, broken, double, sum, isBroken } = await application(store);
    const workflow = await tasks
      .group([tasks.chain([start.with(1), broken, double]), tasks.chain([start.with(5), double])])
      .then(sum)
      .enqueue();
    await sim.runUntilIdle();
    await workflow.refresh();
    expect(workflow.status).toBe('failed');
    expect(statuses(workflow)).toEqual({
      start: 'successful',
      broken: 'failed',
      double: 'cancelled',
      'start#2': 'successful',
      'double#2': 'successful',
      sum: 'cancelled',
    });
    expect(workflow.part('sum').reason).toBe('upstream failed');
    await expect(workflow.part('sum').retry()).rejects.toThrow('retry that job, or the workflow');
    isBroken.now = false;
    await workflow.retry();
    expect(statuses(workflow)).toMatchObject({ broken: 'ready', double: 'waiting', sum: 'waiting' });
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe(2 * 2 + 12);
    expect(sim.attempts(double)).toHaveLength(2);
  });

  test('allowFailure passes null, always runs at the end, and onFailure: workflow cancels everything', async () => {
    const { tasks, sim, ran, start, broken, double, sum, alone } = await application(store);
    const allowed = await tasks
      .group([broken.with(1, { allowFailure: true }), start.with(1)])
      .then(sum)
      .enqueue();
    await sim.runUntilIdle();
    expect((await allowed.refresh()).returnValue).toBe(2);
    expect(allowed.status).toBe('successful');
    ran.length = 0;
    const slow = tasks.define('slow', async (_: number, ctx) => {
      await ctx.sleep('1h');
      return 1;
    });
    const flow = tasks.workflow(
      (w) => {
        const a = w.add(broken, 1);
        const b = w.add(double, a.output);
        const c = w.add(slow, 2);
        const d = w.add(double, c.output);
        w.add(alone, undefined, { after: [b, d], always: true });
      },
      { onFailure: 'workflow' },
    );
    const workflow = await flow.enqueue();
    await sim.runUntilIdle();
    await workflow.refresh();
    expect(statuses(workflow)).toEqual({
      broken: 'failed',
      double: 'cancelled',
      slow: 'cancelled',
      'double#2': 'cancelled',
      alone: 'successful',
    });
    expect(ran).toEqual(['broken 1', 'alone']);
  });

  test('a failure of the whole workflow compensates the steps of parts that wait between steps', async () => {
    const { tasks, sim } = await application(store);
    const world: string[] = [];
    const pay = tasks.define('pay', async (_: void, ctx) => {
      await ctx.step('charge', () => void world.push('charge'), { compensate: () => void world.push('refund') });
      await ctx.sleep('1h');
      world.push('too late');
    });
    const pack = tasks.define('pack', async (_: void, ctx) => {
      await ctx.sleep('1m');
      throw new PermanentError('nothing in stock');
    });
    const workflow = await tasks.group([pay.with(), pack.with()], { onFailure: 'workflow' }).enqueue();
    await sim.advance('10m');
    await workflow.refresh();
    expect(statuses(workflow)).toEqual({ pay: 'cancelled', pack: 'failed' });
    expect(world).toEqual(['charge', 'refund']);
  });

  test('sim.tree() shows which job enqueued which, and workflows', async () => {
    const { tasks, sim, start, double, sum } = await application(store);
    const outer = tasks.define('outer', async (_: void, ctx) => {
      await start.enqueue(1);
      await tasks
        .group([start.with(2), tasks.chain([start.with(3), double.with(undefined, { key: 'twice' })])], { name: 'numbers' })
        .then(sum)
        .enqueue();
      await ctx.sleep('1h');
    });
    await double.enqueue(1);
    await outer.enqueue();
    await sim.advance('1m');
    expect(String(sim.tree())).toMatchInlineSnapshot(`
      "double#1  successful
      outer#1  running
      ├─ start#1  successful
      └─ workflow numbers
         ├─ start#2  successful
         ├─ start#3  successful
         ├─ double#2 (twice)  successful
         └─ sum#1  successful"
    `);
  });

  test('a cancelled workflow is retried as a whole', async () => {
    const { tasks, sim, start, double } = await application(store);
    const workflow = await tasks.chain([start.using({ runAfter: '1h' }).with(1), double.using({ runAfter: '2h' })]).enqueue();
    await workflow.cancel('not now');
    expect(workflow.status).toBe('cancelled');
    expect(workflow.jobs.map(({ reason }) => reason)).toEqual(['not now', 'not now']);
    await workflow.retry();
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe(4);
    const [first] = sim.attempts(start);
    const [second] = sim.attempts(double);
    expect((second?.startedAt.getTime() ?? 0) - (first?.endedAt?.getTime() ?? 0)).toBe(7_200_000);
  });

  test('running jobs can add parts, once, and their dependents wait for these too', async () => {
    const { tasks, sim, start, sum } = await application(store);
    let fails = 1;
    const plan = tasks.define('plan', {
      retry: { backoff: 1_000 },
      run: async (count: number, ctx) => {
        const added = await ctx.workflow?.add(Array.from({ length: count }, (_, i) => start.with(i * 10)));
        expect(added).toHaveLength(count);
        await ctx.workflow?.add(start.with(1_000), { blocking: false });
        if (fails-- > 0) throw new Error('again');
        return 1;
      },
    });
    const workflow = await tasks.chain([tasks.group([plan.with(3)]), sum]).enqueue();
    await sim.runUntilIdle();
    await workflow.refresh();
    expect(workflow.status).toBe('successful');
    expect(workflow.part('sum').input).toEqual([1, 1, 11, 21]);
    expect(workflow.returnValue).toBe(34);
    expect(workflow.jobs).toHaveLength(6);
    const children = await workflow.part('plan').children();
    expect(children.map(({ task }) => task)).toEqual(['start', 'start', 'start', 'start']);
  });

  test('ctx.workflow describes the workflow, and is null outside one', async () => {
    const { tasks, sim, start } = await application(store);
    const seen: unknown[] = [];
    const look = tasks.define('look', async (n: number, ctx) => {
      const parents = await ctx.workflow?.parents();
      seen.push(ctx.workflow && [ctx.workflow.name, ctx.workflow.part, parents?.map(({ task, status }) => `${task} ${status}`)]);
      return n;
    });
    await tasks.chain([start.with(1), look], { name: 'looking' }).enqueue();
    await look.enqueue(1);
    await sim.runUntilIdle();
    expect(seen).toEqual([null, ['looking', 'look', ['start successful']]]);
  });

  test('parts are compensated, latest first, when the workflow fails', async () => {
    const { tasks, sim, broken } = await application(store);
    const world: string[] = [];
    const refund = tasks.define('refund', {
      retry: { backoff: 1_000 },
      run: (charge: { id: string }, ctx) => {
        if (ctx.attempt === 1) throw new Error('not yet');
        world.push(`refund ${charge.id}`);
      },
    });
    const unreserve = tasks.define('unreserve', (stock: string) => void world.push(`unreserve ${stock}`));
    const reserve = tasks.define('reserve', (item: string) => item);
    const charge = tasks.define('charge', (amount: number) => ({ id: `c${amount}` }));
    const flow = tasks.workflow((w) => {
      const stock = w.add(reserve, 'mug', { compensate: unreserve });
      const paid = w.add(charge, 5, { compensate: refund, after: [stock] });
      w.add(broken, 1, { after: [paid] });
    });
    const workflow = await flow.enqueue();
    await sim.runUntilIdle();
    await workflow.refresh();
    expect(world).toEqual(['refund c5', 'unreserve mug']);
    expect(workflow.status).toBe('failed');
    expect(statuses(workflow)).toMatchObject({ compensate: 'successful', 'undo charge': 'successful', 'undo reserve': 'successful' });

    world.length = 0;
    const well = await tasks.chain([reserve.with('cup', { compensate: unreserve }), charge.with(1, { compensate: refund })]).enqueue();
    await sim.runUntilIdle();
    expect((await well.refresh()).status).toBe('successful');
    expect(world).toEqual([]);
  });

  /** An order whose shipping fails until `isBroken.now` is false; its charge and its reservation can be compensated. */
  async function orders() {
    const { tasks, sim, isBroken } = await application(store);
    const world: string[] = [];
    const fails = new Set<string>();
    const does = (what: string) => {
      if (fails.has(what)) throw new PermanentError(`cannot ${what}`);
      world.push(what);
    };
    const refund = tasks.define('refund', ({ id }: { id: string }) => does(`refund ${id}`));
    const unreserve = tasks.define('unreserve', (stock: string) => does(`unreserve ${stock}`));
    const reserve = tasks.define('reserve', (item: string) => {
      does('reserve');
      return item;
    });
    const label = tasks.define('label', (item: string) => does(`label ${item}`));
    const charge = tasks.define('charge', (_: string, ctx) =>
      ctx.step('pay', ({ id }) => {
        does('charge');
        return { id: `${id.slice(ctx.id.length)}` };
      }),
    );
    const ship = tasks.define('ship', ({ id }: { id: string }) => {
      if (isBroken.now) throw new PermanentError('no carrier');
      does(`ship for ${id}`);
    });
    const report = tasks.define('report', () => does('report'));
    const flow = tasks.workflow((w) => {
      const stock = w.add(reserve, 'mug', { compensate: unreserve });
      w.add(label, stock.output);
      const paid = w.add(charge, stock.output, { compensate: refund });
      const sent = w.add(ship, paid.output);
      w.add(report, undefined, { after: [sent], always: true });
    });
    const workflow = await flow.enqueue();
    await sim.runUntilIdle();
    await workflow.refresh();
    const happened = () => world.splice(0).sort();
    return { sim, workflow, isBroken, happened, fails, tasks };
  }

  test.each(['workflow', 'job'])('compensated parts run again when the %s is retried, and are compensated again', async (what) => {
    const { sim, workflow, isBroken, happened } = await orders();
    const retry = async () => {
      await (what === 'workflow' ? workflow.retry() : workflow.part('ship').retry());
      await workflow.refresh();
    };
    expect(happened()).toEqual(['charge', 'label mug', 'refund /pay', 'report', 'reserve', 'unreserve mug']);
    await retry();
    expect(statuses(workflow)).toMatchObject({
      reserve: 'ready',
      label: 'successful',
      charge: 'waiting',
      ship: 'waiting',
      report: 'waiting',
      compensate: 'waiting',
    });
    await sim.runUntilIdle();
    expect(happened()).toEqual(['charge', 'refund /pay/1', 'report', 'reserve', 'unreserve mug']);
    expect((await workflow.refresh()).status).toBe('failed');
    isBroken.now = false;
    await retry();
    await sim.runUntilIdle();
    expect(happened()).toEqual(['charge', 'report', 'reserve', 'ship for /pay/2']);
    expect((await workflow.refresh()).status).toBe('successful');
  });

  test('a part whose compensation failed keeps its value when its workflow is retried', async () => {
    const { sim, workflow, isBroken, happened, fails, tasks } = await orders();
    happened();
    fails.add('refund /pay/1').add('unreserve mug');
    await workflow.retry();
    await sim.runUntilIdle();
    expect(happened()).toEqual(['charge', 'report', 'reserve']);
    expect(await tasks.jobs.retry({ status: 'failed', task: 'refund' })).toBe(0);
    fails.delete('unreserve mug');
    await workflow.retry();
    await sim.runUntilIdle();
    expect(happened()).toEqual(['report', 'unreserve mug']);
    fails.clear();
    const undoing = (await workflow.refresh()).jobs.filter(({ task, status }) => task === 'refund' && status === 'failed');
    await expect(undoing[0]?.retry()).rejects.toThrow('has since been retried');
    isBroken.now = false;
    await workflow.retry();
    await sim.runUntilIdle();
    expect(happened()).toEqual(['report', 'reserve', 'ship for /pay/1']);
    expect((await workflow.refresh()).status).toBe('successful');
  });

  test('a compensating job can be retried until its workflow is', async () => {
    const { sim, workflow, isBroken, happened, fails } = await orders();
    fails.add('refund /pay/1');
    await workflow.retry();
    await sim.runUntilIdle();
    happened();
    fails.clear();
    const undoing = (await workflow.refresh()).jobs.find(({ task, status }) => task === 'refund' && status === 'failed');
    await undoing?.retry();
    await expect(workflow.retry()).rejects.toThrow('while its workflow');
    await sim.runUntilIdle();
    expect(happened()).toEqual(['refund /pay/1']);
    isBroken.now = false;
    await workflow.retry();
    await sim.runUntilIdle();
    expect(happened()).toEqual(['charge', 'report', 'reserve', 'ship for /pay/2']);
  });

  test('a workflow is not retried while it is being compensated, or after compensated parts were deleted', async () => {
    const { sim, workflow, happened, tasks } = await orders();
    const slow = tasks.define('slow', (_: number, ctx) => ctx.sleep('20s'));
    const charge = tasks.define('bill', (n: number) => n);
    const broken = tasks.define('fail', { retry: { maxAttempts: 1 }, run: (_: number) => Promise.reject(new Error('no')) });
    const other = await tasks.chain([charge.with(1, { compensate: slow }), broken]).enqueue();
    await sim.advance('10s');
    await expect(other.retry()).rejects.toThrow(/while its workflow .* is being undone; wait for the workflow to end, then retry it/);
    await expect(other.part('fail').retry()).rejects.toThrow('is being undone');
    await other.cancel();
    expect(await tasks.jobs.retry({ workflow: other.id })).toBe(0);
    await sim.runUntilIdle();
    expect(statuses(await other.refresh())).toMatchObject({ fail: 'failed', 'undo bill': 'successful' });
    await other.retry();

    happened();
    await workflow.part('charge').delete();
    await expect(workflow.retry()).rejects.toThrow('a part of workflow');
    expect(happened()).toEqual([]);
  });

  test('a requeued part waits for its predecessors to run again', async () => {
    const { tasks, sim, ran, isBroken, start, broken } = await application(store);
    const last = tasks.define('last', {
      retry: { maxAttempts: 1 },
      run: (n: number | null) => (isBroken.now ? Promise.reject(new Error('no')) : n),
    });
    const workflow = await tasks.chain([start.with(1), broken.with(7, { allowFailure: true }), last]).enqueue();
    await sim.runUntilIdle();
    expect(statuses(await workflow.refresh())).toMatchObject({ broken: 'failed', last: 'failed' });
    isBroken.now = false;
    expect(statuses(await workflow.retry())).toMatchObject({ broken: 'ready', last: 'waiting' });
    await sim.runUntilIdle();
    expect((await workflow.refresh()).returnValue).toBe(7);
    expect(ran).toEqual(['start 1', 'broken 7', 'broken 7']);
  });
});

test('under faults and retries, a successful order is paid once, and a failed one is refunded', async () => {
  const tasks = createTasks({ backend: memory() });
  const paid = new Set<string>();
  const isPaid = (order: string) => [...paid].filter((key) => key.startsWith(`${order}:`)).length;
  let isOpen = false;
  const refund = tasks.define('refund', {
    retry: { maxAttempts: 30, backoff: '5s' },
    run: async (charge: string, ctx) => {
      await ctx.sleep('10s');
      paid.delete(charge);
    },
  });
  const reserve = tasks.define('reserve', { retry: { maxAttempts: 30, backoff: '5s' }, run: (order: string) => order });
  const charge = tasks.define('charge', {
    retry: { maxAttempts: 30, backoff: '5s' },
    run: (order: string, ctx) =>
      ctx.step('pay', ({ id }) => {
        paid.add(`${order}:${id}`);
        return `${order}:${id}`;
      }),
  });
  const ship = tasks.define('ship', {
    retry: { maxAttempts: 30, backoff: '5s' },
    run: async (payment: string, ctx) => {
      await ctx.sleep('10s');
      if (!isOpen) throw new PermanentError('closed');
      if (!paid.has(payment)) throw new PermanentError(`ships what ${payment} no longer pays for`);
    },
  });
  const sagas: WorkflowResult[] = [];
  await explore(tasks, { seeds: process.env.ESCAPEMENT_LONG ? 40 : 3, workers: 2, faults: 'all', for: '30m' }, async (sim) => {
    isOpen = false;
    paid.clear();
    sagas.length = 0;
    for (let i = 0; i < 3; i++) {
      const parts = [
        reserve.with(`o${i}`, { compensate: refund }),
        charge.with(undefined, { compensate: refund }),
        ship.with(undefined),
      ] as const;
      sagas.push(await tasks.chain([parts[0], parts[1], parts[2]]).enqueue());
      await sim.advance(sim.choose('wait', 8) * 5_000);
      if (sim.choose('retry', 2) === 1) await sagas[sim.choose('which', sagas.length)]?.retry().catch(() => {});
      if (sim.choose('cancel', 4) === 1) await sagas[sim.choose('which', sagas.length)]?.cancel();
    }
    isOpen = sim.choose('opens', 2) === 1;
    await sim.advance('10m');
    await sagas[0]?.retry().catch(() => {});
    return async () => {
      for (const [i, saga] of sagas.entries()) {
        await saga.refresh();
        const isUndone = saga.jobs.every(({ task, status }) => task !== 'refund' || status === 'successful');
        if (isUndone) expect([saga.status, isPaid(`o${i}`)]).toEqual([saga.status, saga.status === 'successful' ? 1 : 0]);
      }
      expect(sim.jobs().filter(({ errors }) => errors.some(({ message }) => message.includes('no longer pays')))).toEqual([]);
    };
  });
});

test('on immediate(), the parts run in order during enqueue', async () => {
  const tasks = createTasks();
  const one = tasks.define('one', (n: number) => n + 1);
  const all = tasks.define('all', (n: number[]) => n.length);
  const workflow = await tasks.map(one, [1, 2, 3]).then(all).enqueue();
  expect((await workflow.refresh()).returnValue).toBe(3);
  expect(await workflow.wait()).toBe(workflow);
});

test('in a better-sqlite3 transaction, all jobs exist if and only if it commits', async () => {
  const { default: Database } = await import('better-sqlite3');
  const db = new Database(':memory:');
  const tasks = createTasks({ backend: sqlite({ database: db }) });
  const one = tasks.define('one', (n: number) => n + 1);
  const two = tasks.define('two', (n: number) => n * 2);
  await tasks.open();
  expect(() =>
    db.transaction(() => {
      tasks.chain([one.with(1), two]).enqueue({ transaction: db });
      throw new Error('rolled back');
    })(),
  ).toThrow('rolled back');
  expect((await tasks.jobs.list()).items).toEqual([]);
  const workflow = db.transaction(() => tasks.chain([one.with(1), two]).enqueue({ transaction: db }))();
  expect((await tasks.jobs.list({ workflow: workflow.id })).items).toHaveLength(2);
  const worker = tasks.worker();
  await worker.start();
  await workflow.wait({ timeout: '30s' });
  expect(workflow.returnValue).toBe(4);
  await tasks.close();
  db.close();
});

describe('mistakes', () => {
  test('a cycle is rejected with its path', async () => {
    const { tasks, alone, start } = await application();
    const flow = tasks.workflow((w) => {
      const a = w.add(alone, undefined, { key: 'a' });
      const b = w.add(alone, undefined, { key: 'b', after: [a] });
      const c = w.add(start, 1, { after: [b] });
      a.after(c);
    });
    await expect(flow.enqueue()).rejects.toThrow('parts of the workflow wait for each other: a → b → start → a');
  });

  test('awaiting a workflow, invalid parts and missing inputs are rejected', async () => {
    const { tasks, start, alone, double } = await application();
    const flow = tasks.chain([start.with(1), double]);
    await expect((async () => flow as unknown as number)()).rejects.toThrow('write: await workflow.enqueue()');
    // @ts-expect-error not a task
    expect(() => tasks.group([() => 1])).toThrow('part 1 is');
    // @ts-expect-error text needs a number
    unrun(() => tasks.chain([alone, double]));
    // @ts-expect-error the first needs an input
    unrun(() => tasks.chain([start, double]));
    const reads = tasks.workflow((w) => {
      const a = w.add(start, 1);
      w.add(double, Number(`${a.output}`));
    });
    await expect(reads.enqueue()).rejects.toThrow('is not available yet');
    // @ts-expect-error a promise
    const late = tasks.workflow(async (w) => void w.add(start, 1));
    await expect(late.enqueue()).rejects.toThrow('add parts without await');
    expect(() => tasks.chain([start.with(1)], { onFailure: 'all' as never })).toThrow("onFailure: expected 'dependents' or 'workflow'");
    // @ts-expect-error no such option
    expect(() => start.with(1, { allowFail: true })).toThrow('allowFail');
    const same = tasks.workflow((w) => {
      w.add(start, 1, { key: 'x' });
      w.add(start, 2, { key: 'x' });
    });
    await expect(same.enqueue()).rejects.toThrow('two parts of the workflow have the key x');
  });

  test('inputs are validated before anything is inserted', async () => {
    const { tasks, start } = await application();
    const strict = tasks.define('strict', { input: z.object({ to: z.email() }), run: ({ to }) => to });
    await expect(tasks.group([start.with(1), strict.with({ to: 'nobody' })]).enqueue()).rejects.toThrow('input of strict');
    expect((await tasks.jobs.list()).items).toEqual([]);
    const once = tasks.define('once', { unique: { key: 'a' }, run: () => 1 });
    await expect(tasks.group([once]).enqueue()).rejects.toThrow('a task without unique');
    const keyed = tasks.define('keyed', { run: (n: number) => n, concurrency: { limit: 1, key: (n) => `${n}` } });
    await expect(tasks.chain([start.with(1), keyed]).enqueue()).rejects.toThrow('a complete input in with() or add()');
  });

  test('a task that cancels itself cancels the parts that wait for it', async () => {
    const { tasks, sim, double } = await application();
    const stop = tasks.define('stop', (n: number) => (n > 0 ? cancel('enough') : n));
    const workflow = await tasks.chain([stop.with(1), double]).enqueue();
    await sim.runUntilIdle();
    expect((await workflow.refresh()).status).toBe('cancelled');
    expect(workflow.jobs.map(({ reason }) => reason)).toEqual(['enough', 'upstream failed']);
  });
});

function unrun(_: () => unknown): void {}
