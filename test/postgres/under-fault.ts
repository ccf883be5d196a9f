/** Applications that share a schema, and a load that continues during a fault of their server. */
import { createTasks, type Logger, type Tasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import pg from 'pg';
import { expect } from 'vitest';

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
let schemas = 0;

interface Options {
  /** The size of each application's pool. */
  readonly max?: number;
  readonly logger?: Logger;
}

/** Applications on one schema, each with separate connections. */
export class Applications {
  readonly schema = `faults_${process.pid}_${++schemas}`;
  /** The number of runs of each job. */
  readonly ran = new Map<string, number>();
  readonly apps: Tasks[];

  constructor(connectionString: string, count: number, { logger = silent, ...options }: Options = {}) {
    this.apps = Array.from({ length: count }, () => {
      const tasks = createTasks({ backend: postgres({ connectionString, schema: this.schema, ...options }), logger });
      tasks.define('step', async ({ n }: { n: string }) => {
        await pause(1);
        this.ran.set(n, (this.ran.get(n) ?? 0) + 1);
      });
      return tasks;
    });
  }

  async close(): Promise<void> {
    for (const tasks of this.apps) await tasks.close();
  }
}

export async function asAdmin(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  await client.query(sql);
  await client.end();
}

/** Enqueues continuously during `fault`; returns the acknowledged ids. @param refused called with the error of each rejected enqueue */
export async function enqueuesDuring(tasks: Tasks, fault: () => Promise<void>, refused?: (error: unknown) => void): Promise<string[]> {
  const acknowledged: string[] = [];
  let isOver = false;
  const produce = async () => {
    for (let i = 0; !isOver; i++) {
      const batch = Array.from({ length: 5 }, (_, k) => ({ n: `${i}.${k}` }));
      try {
        const made = await (tasks.get('step') as NonNullable<ReturnType<Tasks['get']>>).enqueueMany(batch);
        acknowledged.push(...made.map(({ id }) => id));
      } catch (error) {
        refused?.(error);
        await pause(50);
      }
      await pause(5);
    }
  };
  const producing = produce();
  try {
    await fault();
  } finally {
    isOver = true;
    await producing;
  }
  return acknowledged;
}

/** The number of these jobs in each status; `lost`: the store does not have them. */
async function statuses(tasks: Tasks, ids: readonly string[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const count = (status: string, by: number) => {
    if (by > 0) counts[status] = (counts[status] ?? 0) + by;
  };
  for (let i = 0; i < ids.length; i += 1_000) {
    const page = ids.slice(i, i + 1_000);
    const { items } = await tasks.jobs.list({ ids: page, limit: 1_000 });
    for (const { status } of items) count(status, 1);
    count('lost', page.length - items.length);
  }
  return counts;
}

export async function expectAllDone(tasks: Tasks, ids: readonly string[]): Promise<void> {
  expect(ids.length).toBeGreaterThan(0);
  await expect.poll(() => statuses(tasks, ids)).toEqual({ successful: ids.length });
}
