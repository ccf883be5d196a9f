/** Simulations on PostgreSQL: the application's transactions, and virtual time around them. */
import { createTasks, memory } from 'escapement';
import { simulate } from 'escapement/testing';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { emptyPostgres, postgresUrl } from '../stores/postgres-server.ts';

let client: pg.Client;
const store = emptyPostgres();

beforeAll(async () => {
  client = new pg.Client({ connectionString: await postgresUrl() });
  await client.connect();
});
afterAll(() => client.end());

test('a job runs when due, after the transaction that enqueued it has committed', async () => {
  const tasks = createTasks({ backend: memory() });
  const ran: string[] = [];
  const task = tasks.define('task', async (name: string, ctx) => {
    ran.push(`${name} ${ctx.now().toISOString().slice(11, 19)}`);
  });
  const sim = await simulate(tasks, { store });
  try {
    for (let i = 0; i < 5; i++) {
      await client.query('BEGIN');
      await task.enqueue(`now ${i}`, { transaction: client });
      await task.using({ runAfter: '30m' }).enqueue(`later ${i}`, { transaction: client });
      await client.query('COMMIT');
      await sim.drain();
    }
    expect(ran).toEqual([0, 1, 2, 3, 4].map((i) => `now ${i} 00:00:00`));
    await client.query('BEGIN');
    await task.enqueue('never', { transaction: client });
    await client.query('ROLLBACK');
    await sim.advance('1h');
    expect(ran.slice(5)).toEqual([0, 1, 2, 3, 4].map((i) => `later ${i} 00:30:00`));
  } finally {
    await sim.end();
  }
});

test('an attempt can enqueue and complete in a transaction', async () => {
  const tasks = createTasks({ backend: memory() });
  const second = tasks.define('second', async () => 'second');
  const first = tasks.define('first', async (_: void, ctx) => {
    await ctx.sleep('10m');
    await client.query('BEGIN');
    await second.enqueue(undefined, { transaction: client });
    await ctx.complete('first', { transaction: client });
    await client.query('COMMIT');
  });
  const sim = await simulate(tasks, { store });
  try {
    const result = await first.enqueue();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe('first');
    expect(sim.jobs({ task: second }).map(({ status }) => status)).toEqual(['successful']);
    expect(sim.now.toISOString()).toBe('2026-01-01T00:10:00.000Z');
  } finally {
    await sim.end();
  }
});
