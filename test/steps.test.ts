/** Durable steps, sleeps and signals on memory and SQLite, in virtual time, through failures, crashes and replays. */
import { setTimeout } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { cancel, createTasks, immediate, memory, PermanentError, StoreError, snooze, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { everyCrash, explore, simulate } from 'escapement/testing';
import 'escapement/vitest';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MemoryStore } from '../src/stores/memory/store.ts';
import { emptyPostgres } from './stores/postgres-server.ts';

const stores = [
  ['memory', undefined],
  ['sqlite', sqlite({ file: ':memory:' })],
  ...(process.env.ESCAPEMENT_POSTGRES ? [['postgres', emptyPostgres()] as const] : []),
] as const;

describe.each(stores)('on %s', (_, store) => {
  const simulated = (tasks: Tasks, options: object = {}) =>
    simulate(tasks, { now: '2026-01-01T00:00:00Z', ...(store ? { store } : {}), ...options });

  test('a recorded step does not run again when the attempt fails', async () => {
    const tasks = createTasks({ backend: memory() });
    const ran: string[] = [];
    const checkout = tasks.define('checkout', {
      run: async (order: number, ctx) => {
        const charge = await ctx.step('charge', ({ id, attempt }) => {
          ran.push(`charge ${attempt}`);
          return { id, order };
        });
        const nothing = await ctx.step('note', () => void ran.push('note'));
        if (ctx.attempt < 3) throw new Error('not yet');
        await ctx.step('ship', async () => void ran.push('ship'));
        return [charge, nothing === undefined];
      },
      retry: { backoff: '1m' },
    });
    await using sim = await simulated(tasks);
    const result = await checkout.enqueue(7);
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ attempts: 3, returnValue: [{ id: `${result.id}/charge`, order: 7 }, true] });
    expect(ran).toEqual(['charge 1', 'note', 'ship']);
    await expect(result).toHaveStepped(['charge', 'note', 'ship']);
    await expect(expect(result).toHaveStepped(['charge'])).rejects.toThrow(/steps: expected/);
    expect(await result.steps()).toMatchObject([
      { name: 'charge', kind: 'step', attempt: 1, value: { order: 7 } },
      { name: 'note', value: undefined },
      { name: 'ship', attempt: 3 },
    ]);
    expect(String(sim.timeline())).toMatch(/w0 {2}step +checkout#1 charge/);
  });

  /** An order with three steps, of which the first two can be compensated, and that fails at the end. */
  function order(options: { readonly refundFails?: number; readonly maxAttempts?: number } = {}) {
    const tasks = createTasks({ backend: memory() });
    const world: string[] = [];
    let refundFails = options.refundFails ?? 0;
    const place = tasks.define('place', {
      retry: { maxAttempts: options.maxAttempts ?? 2, backoff: '1m' },
      run: async (how: 'fails' | 'cancels' | 'hangs' | 'stalls', ctx) => {
        await ctx.step('reserve', () => world.push('reserve'), { compensate: () => void world.push('unreserve') });
        const charge = await ctx.step('charge', ({ id }) => world.push('charge') && id, {
          compensate: async (id, { id: undoId }) => {
            await ctx.sleep(0).catch(() => {});
            if (refundFails-- > 0) throw new Error('the bank is closed');
            world.push(`refund ${id === charge} ${undoId.endsWith('/undo charge')}`);
          },
        });
        await ctx.step('note', () => void world.push('note'));
        if (how === 'cancels') return cancel('sold out');
        if (how === 'hangs') await ctx.sleep('1h');
        if (how === 'stalls') await setTimeout(3_600_000, undefined, { signal: ctx.signal });
        await ctx.step('ship', () => {
          world.push('ship fails');
          throw new Error('no parcel');
        });
        return 'shipped';
      },
    });
    return { tasks, world, place };
  }

  test('a job that fails permanently compensates its steps, latest first, and ends with its own error', async () => {
    const { tasks, world, place } = order();
    await using sim = await simulated(tasks);
    const result = await place.enqueue('fails');
    await sim.runUntilIdle();
    await expect(result).toHaveFailed({ error: 'no parcel' });
    expect(world).toEqual(['reserve', 'charge', 'note', 'ship fails', 'ship fails', 'refund true true', 'unreserve']);
    expect([result.attempts, result.reason]).toEqual([2, null]);
  });

  test('a job that cancels itself, is cancelled or times out is compensated too', async () => {
    const { tasks, world, place } = order();
    await using sim = await simulated(tasks);
    const result = await place.enqueue('cancels');
    await sim.runUntilIdle();
    await result.refresh();
    expect([result.status, result.reason]).toEqual(['cancelled', 'sold out']);
    expect(world).toEqual(['reserve', 'charge', 'note', 'refund true true', 'unreserve']);
    world.length = 0;
    const hanging = await place.enqueue('hangs');
    await sim.advance('1s');
    await hanging.cancel('by hand');
    await sim.runUntilIdle();
    expect([(await hanging.refresh()).status, hanging.reason]).toEqual(['cancelled', 'by hand']);
    expect(world).toEqual(['reserve', 'charge', 'note', 'refund true true', 'unreserve']);
    world.length = 0;
    const late = await place.using({ timeout: '10s', retry: { maxAttempts: 1 } }).enqueue('stalls');
    await sim.runUntilIdle();
    await expect(late).toHaveFailed({ error: /timeout/ });
    expect(world).toEqual(['reserve', 'charge', 'note', 'refund true true', 'unreserve']);
  });

  test('a failed compensation is retried; finished ones do not run again, and no step runs meanwhile', async () => {
    const { tasks, world, place } = order({ refundFails: 2, maxAttempts: 1 });
    await using sim = await simulated(tasks);
    const result = await place.enqueue('fails');
    await sim.runUntilIdle();
    await expect(result).toHaveFailed({ error: 'no parcel' });
    expect(world).toEqual(['reserve', 'charge', 'note', 'ship fails', 'refund true true', 'unreserve']);
    expect(result.errors.map(({ message }) => message)).toEqual([
      'undoing the step charge failed: the bank is closed',
      'undoing the step charge failed: the bank is closed',
      'no parcel',
    ]);
  });

  test('a compensated job that is retried by hand repeats only the compensated steps, with new ids', async () => {
    const tasks = createTasks({ backend: memory() });
    const world: string[] = [];
    let fails = true;
    const place = tasks.define('place', {
      retry: { maxAttempts: 1 },
      run: async (_: void, ctx) => {
        await ctx.step('note', () => void world.push('note'));
        await ctx.step('charge', ({ id }) => void world.push(id.slice(37)), {
          compensate: (_, { id }) => void world.push(id.slice(37)),
        });
        const parcel = await ctx.waitFor('parcel');
        await ctx.step('ship', ({ id }) => {
          world.push(id.slice(37));
          if (fails) throw new PermanentError('lost');
        });
        return parcel;
      },
    });
    await using sim = await simulated(tasks);
    const result = await place.enqueue();
    await tasks.signal('parcel', 7);
    for (let round = 0; round < 3; round++) {
      fails = round < 2;
      if (round > 0) await result.retry();
      await sim.runUntilIdle();
    }
    await expect(result).toHaveSucceeded({ returnValue: 7 });
    expect([result.attempts, result.maxAttempts]).toEqual([3, 3]);
    expect(world).toEqual([
      ...['note', 'charge', 'ship', 'undo charge'],
      ...['charge/1', 'ship', 'undo charge/1'],
      ...['charge/2', 'ship'],
    ]);
    await expect(result).toHaveStepped(['note', 'charge', 'ship']);
  });

  test('repeated names are numbered; parallel steps with one name need a key, and the error names both locations', async () => {
    const tasks = createTasks({ backend: memory() });
    const resize = tasks.define('resize', {
      run: async (_: string, ctx) => {
        for (const width of [1, 2, 3]) await ctx.step('resize', () => width);
        await Promise.all(['a', 'b'].map((key) => ctx.step('upload', () => ctx.sleep('1s'), { key })));
        if (ctx.attempt === 1) throw new Error('once');
        return ctx.step('resize', () => 'fourth');
      },
      retry: { backoff: 0 },
    });
    const wrong = tasks.define('wrong', {
      run: (_: string, ctx) => Promise.all([ctx.step('same', () => ctx.sleep('1s')), ctx.step('same', () => 2)]),
      retry: { maxAttempts: 1 },
    });
    await using sim = await simulated(tasks);
    const result = await resize.enqueue('x');
    const failed = await wrong.enqueue('x');
    await sim.runUntilIdle();
    await expect(result).toHaveStepped(['resize', 'resize#2', 'resize#3', 'upload:a', 'upload:b', 'resize#4']);
    await expect(failed).toHaveFailed({
      error: /is already running: it was started at .*steps\.test\.ts:\d+:\d+ and again at .*steps\.test\.ts:\d+/,
    });
  });

  test('a step retries separately, times out, and fails the attempt after its last try', async () => {
    const tasks = createTasks({ backend: memory() });
    const tries: string[] = [];
    const call = tasks.define('call', {
      run: async (_: string, ctx) => {
        const value = await ctx.step(
          'flaky',
          ({ attempt }) => {
            tries.push(`flaky ${attempt} +${(ctx.now().getTime() - start) / 1_000}`);
            if (attempt < 3) throw new Error('flaky');
            return attempt;
          },
          { retry: { maxAttempts: 3, backoff: '5s' } },
        );
        await ctx.step(
          'slow',
          ({ signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
          {
            timeout: '2s',
          },
        );
        return value;
      },
      retry: { maxAttempts: 2, backoff: 0 },
    });
    await using sim = await simulated(tasks);
    const start = sim.now.getTime();
    const result = await call.enqueue('x');
    await sim.runUntilIdle();
    expect(tries).toEqual(['flaky 1 +0', 'flaky 2 +5', 'flaky 3 +10']);
    await expect(result).toHaveFailed({ attempts: 2, error: /TimeoutError: ctx.step\("slow"\) of call exceeded its timeout/ });
    expect((sim.now.getTime() - start) / 1_000).toBe(14);
  });

  test('a long sleep between steps occupies no worker, and ends at the same instant after crashes', async () => {
    const tasks = createTasks({ backend: memory() });
    const seen: string[] = [];
    const trial = tasks.define('trial', {
      run: async (_: string, ctx) => {
        await ctx.step('welcome', () => void seen.push('welcome'));
        await ctx.sleep('3d');
        await ctx.step('remind', () => void seen.push(`remind ${ctx.now().toISOString()}`));
        await ctx.sleep('10s');
        await ctx.sleep('1h');
        await ctx.step('end', () => void seen.push(`end ${ctx.now().toISOString()}`));
      },
    });
    await using sim = await simulated(tasks, { workers: 1, concurrency: 1 });
    const results = await trial.enqueueMany(['a']);
    await sim.drain();
    expect(results[0] && (await results[0].refresh()).status).toBe('scheduled');
    sim.worker(0).crash();
    await sim.runUntilIdle();
    expect(seen).toEqual(['welcome', 'remind 2026-01-04T00:00:00.000Z', 'end 2026-01-04T01:00:10.000Z']);
    await expect(results[0]).toHaveSucceeded({ attempts: 1 });
  });

  test('waiting for a signal occupies no worker; a signal that arrives first is kept; the wait times out', async () => {
    const tasks = createTasks({ backend: memory() });
    const ship = tasks.define('ship', {
      run: async (order: number, ctx) => {
        const packed = await ctx.waitFor(`packed:${order}`, { timeout: '7d', schema: z.object({ parcels: z.number() }) });
        return packed ? packed.parcels : 'gave up';
      },
    });
    await using sim = await simulated(tasks);
    const [late, early, never] = await ship.enqueueMany([1, 2, 3]);
    await tasks.signal('packed:2', { parcels: 5 });
    await sim.advance('1d');
    await expect(early).toHaveSucceeded({ returnValue: 5 });
    const waiting = await late?.refresh();
    expect([waiting?.status, waiting?.awaits]).toEqual(['scheduled', 'packed:1']);
    await tasks.signal('packed:1', { parcels: 2 });
    await sim.drain();
    expect((await late?.refresh())?.returnValue).toBe(2);
    await sim.runUntilIdle();
    await expect(never).toHaveSucceeded({ returnValue: 'gave up' });
    expect((await never?.refresh())?.finishedAt).toEqual(new Date('2026-01-08T00:00:00Z'));
  });

  test('a recorded step that the code no longer runs is reported without failing the job', async () => {
    const tasks = createTasks({ backend: memory() });
    const deploy = tasks.define('deploy', {
      run: async (_: string, ctx) => {
        await ctx.step(ctx.attempt === 1 ? 'old' : 'new', () => 1);
        if (ctx.attempt === 1) throw new Error('redeploy');
      },
      retry: { backoff: 0 },
    });
    await using sim = await simulated(tasks);
    const result = await deploy.enqueue('x');
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded();
    await expect(result).toHaveStepped(['old', 'new']);
    expect(String(sim.timeline())).toMatch(/warn +deploy#1 recorded steps that no longer occur in the code: old/);
  });

  test('a step whose result cannot be stored fails the job permanently, and the error says that the step has run', async () => {
    const tasks = createTasks({ backend: memory() });
    const odd = tasks.define('odd', { run: (_: string, ctx) => ctx.step('date', () => new Date()) as Promise<unknown> as Promise<void> });
    await using sim = await simulated(tasks);
    const result = await odd.enqueue('x');
    await sim.runUntilIdle();
    await expect(result).toHaveFailed({ attempts: 1, reason: 'permanent', error: /its effects have happened, so it is not repeated/ });
  });
});

test('recorded steps are not repeated, whenever a worker crashes', async () => {
  const charges: string[] = [];
  const tasks = createTasks({ backend: memory() });
  const checkout = tasks.define('checkout', {
    run: async (_: number, ctx) => {
      const id = await ctx.step('charge', ({ id: key }) => {
        // The service recognizes the key: the repeated call has one effect.
        if (!charges.includes(key)) charges.push(key);
        return key;
      });
      await ctx.sleep('1m');
      const packed = await ctx.waitFor('packed', { timeout: '1d' });
      return [id, packed];
    },
  });
  await everyCrash(tasks, { workers: 2 }, async (sim) => {
    charges.length = 0;
    const result = await checkout.enqueue(1);
    await tasks.signal('packed', 'yes');
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ returnValue: [`${result.id}/charge`, 'yes'] });
    expect(charges).toHaveLength(1);
  });
});

test('a signal is neither lost nor skipped when taking it fails after the store has taken it', async () => {
  const tasks = createTasks({ backend: memory() });
  const flow = tasks.define('flow', { run: async (_: number, ctx) => [await ctx.waitFor('go'), await ctx.waitFor('go')] });
  let lost = 0;
  const open = () => {
    const store = new MemoryStore();
    const { takeSignal } = store;
    store.takeSignal = (...call) => {
      const answer = takeSignal.apply(store, call);
      if (answer && lost++ % 2 === 0) throw new StoreError('the answer was lost', { kind: 'failing', transient: true });
      return answer;
    };
    return store;
  };
  await using sim = await simulate(tasks, { store: { kind: 'store', name: 'forgetful', open } });
  const result = await flow.enqueue(1);
  for (const n of [1, 2, 3]) await tasks.signal('go', n);
  await sim.runUntilIdle();
  await expect(result).toHaveSucceeded({ returnValue: [1, 2], attempts: 1 });
  expect(lost).toBe(2);
});

// Found by seed 552 of `npm run simulate:long`.
test('a step that is stored twice because the first response was lost counts as one run, also in the checker', async () => {
  const tasks = createTasks({ backend: memory() });
  const flow = tasks.define('flow', {
    run: async (_: number, ctx) => {
      for (let i = 0; i < 20; i++) await ctx.step('part', () => i);
    },
  });
  await explore(tasks, { seeds: 10, faults: ['store'] }, async (sim) => {
    await flow.enqueueMany([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    await sim.advance('10m');
  });
});

test('explorations find no repeated step and no lost signal', async () => {
  const tasks = createTasks({ backend: memory() });
  const calls = new Map<string, number>();
  const flow = tasks.define('flow', {
    run: async (n: number, ctx) => {
      const first = await ctx.step('first', ({ id }) => {
        calls.set(id, (calls.get(id) ?? 0) + 1);
        return n;
      });
      await ctx.sleep('2m');
      const answer = await ctx.waitFor(`go:${n}`);
      await ctx.step('second', () => {});
      return [first, answer];
    },
    retry: { backoff: '1s' },
  });
  await explore(tasks, { seeds: process.env.ESCAPEMENT_LONG ? 40 : 8, workers: 2, faults: 'all', for: '30m' }, async (sim) => {
    calls.clear();
    const results = await flow.enqueueMany([1, 2, 3]);
    await tasks.signal('go:1');
    await sim.advance('3m');
    for (const n of [2, 3]) await tasks.signal(`go:${n}`, { n });
    return async () => {
      for (const [i, result] of results.entries()) {
        await result.refresh();
        if (result.status === 'failed') continue;
        expect(result.returnValue).toEqual([i + 1, i === 0 ? true : { n: i + 1 }]);
      }
    };
  });
});

test("a signal joins the caller's transaction", async () => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const folder = mkdtempSync('/tmp/escapement-steps-');
  try {
    const file = `${folder}/tasks.db`;
    const tasks = createTasks({ backend: sqlite({ file }) });
    const ship = tasks.define('ship', { run: (_: number, ctx) => ctx.waitFor('packed') });
    const result = await ship.enqueue(1);
    const db = new Database(file);
    db.pragma('synchronous = FULL');
    expect(() =>
      db.transaction(() => {
        tasks.signal('packed', 'lost', { transaction: db });
        throw new Error('rolled back');
      })(),
    ).toThrow('rolled back');
    db.transaction(() => tasks.signal('packed', 'kept', { transaction: db }))();
    const worker = tasks.worker();
    await worker.start();
    expect((await result.wait()).returnValue).toBe('kept');
    await worker.stop();
    db.close();
    await tasks.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('steps run without a worker: immediate() records them, call() only runs them', async () => {
  const tasks = createTasks({ backend: immediate() });
  const add = tasks.define('add', {
    run: async (n: number, ctx) => (await ctx.step('one', () => n + 1)) + (await ctx.step('two', () => 1)),
  });
  const result = await add.enqueue(1);
  expect([result.returnValue, (await result.steps()).map(({ name }) => name)]).toEqual([3, ['one', 'two']]);
  expect(await add.call(5)).toBe(7);
  const waits = tasks.define('waits', { run: (_: number, ctx) => ctx.waitFor('x') });
  await expect(waits.call(1)).rejects.toThrow(/call\(\) has no job that can wait/);
});

test('mistakes are reported', async () => {
  const tasks = createTasks({ backend: immediate() });
  const failing = async (
    run: (ctx: Parameters<Parameters<Tasks['define']>[1] & ((input: never, ctx: never) => unknown)>[1]) => unknown,
  ) => {
    const result = await tasks
      .define(`t${Math.trunc(Math.random() * 1e9)}`, { run: (_: string, ctx) => run(ctx as never) as never })
      .enqueue('x');
    return `${result.errors[0]?.message}`;
  };
  const context = (ctx: unknown) => ctx as { step(...args: unknown[]): unknown; waitFor(...args: unknown[]): unknown };
  expect(await failing((ctx) => context(ctx).step('', () => 1))).toMatch(/the name must be a string of 1 to 200 characters/);
  expect(await failing((ctx) => context(ctx).step('a', 5))).toMatch(/the second argument must be the function/);
  expect(await failing((ctx) => context(ctx).step('a', () => 1, { retries: 3 }))).toMatch(/retries: expected one of retry, timeout, key/);
  expect(await failing((ctx) => context(ctx).waitFor('a', { within: '1s' }))).toMatch(/expected \{ timeout, schema \}/);
  expect(await failing((ctx) => context(ctx).step('a', () => context(ctx).step('b', () => 1)))).toMatch(
    /ctx\.step\("b"\) of .* is called inside another step/,
  );
  expect(await failing((ctx) => context(ctx).step('a', () => context(ctx).waitFor('b')))).toMatch(/ctx\.waitFor\("b"\) of .* another step/);
  await expect(tasks.signal('', 1)).rejects.toThrow(/name: expected a string of 1 to 200 characters/);
  await expect(tasks.signal('a', new Date())).rejects.toThrow(/the data of signal a/);
  await expect(tasks.signal('a', 1, { backend: 'bulk' })).rejects.toThrow(/one of the backends default/);
  expect(snooze('1s')).toBeDefined();
});

test.each([4, 1])(
  'every crash of a compensated job with %i attempts: all recorded steps are compensated, even after its last attempt',
  async (maxAttempts) => {
    const tasks = createTasks({ backend: memory() });
    const world: string[] = [];
    const place = tasks.define('place', {
      retry: { maxAttempts, backoff: '1m' },
      run: async (_: void, ctx) => {
        await ctx.step('charge', () => void world.push('charge'), { compensate: () => void world.push('refund') });
        await ctx.sleep('1s');
        throw new PermanentError('no parcel');
      },
    });
    await everyCrash(tasks, { workers: 2 }, async (sim) => {
      world.length = 0;
      const result = await place.enqueue();
      await sim.runUntilIdle();
      return async () => {
        await expect(result).toHaveFailed({ error: maxAttempts === 1 ? /no parcel|lease expired/ : 'no parcel' });
        // A crash between an effect and its record repeats the effect, in either direction; in the last attempt the effect stays unknown.
        if (maxAttempts === 1 && !(await result.steps()).some(({ name }) => name === 'charge')) return;
        expect(world.filter((what) => what === 'refund').length).toBeGreaterThanOrEqual(1);
        expect(world.at(-1)).toBe('refund');
      };
    });
  },
);

test('replay restarts a function from the top after each step, so code between steps runs again', async () => {
  const tasks = createTasks({ backend: memory() });
  const ran: string[] = [];
  const order = tasks.define('order', async (_: void, ctx) => {
    const charge = await ctx.step('charge', () => ran.push('charge') && 'c1');
    ran.push('between');
    await ctx.step('ship', () => void ran.push('ship'));
    return charge;
  });
  await using sim = await simulate(tasks, { replay: 'steps' });
  const result = await order.enqueue();
  await sim.runUntilIdle();
  await expect(result).toHaveSucceeded({ attempts: 1, returnValue: 'c1' });
  await expect(result).toHaveStepped(['charge', 'ship']);
  expect(ran.filter((what) => what === 'charge' || what === 'ship')).toEqual(['charge', 'ship']);
  expect(ran.filter((what) => what === 'between').length).toBeGreaterThan(1);
  await expect(simulate(tasks, { replay: 'all' as never })).rejects.toThrow("replay: expected 'steps'");
});
