/** Faults of a real server: every acknowledged job finishes, and work resumes soon after the server is back. */
import type { Tasks } from 'escapement';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startPostgres, type TestServer } from '../setup/postgres.ts';
import { Applications, asAdmin, enqueuesDuring, expectAllDone, pause } from './under-fault.ts';

const long = Boolean(process.env.ESCAPEMENT_SOAK);
let server: TestServer;
let open: Applications[] = [];

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());
afterEach(async () => {
  for (const one of open) await one.close();
  open = [];
});

function applications(count: number, options: { max?: number } = {}): Applications {
  const made = new Applications(server.url, count, options);
  open.push(made);
  return made;
}

test('restarting the server several times loses no job and leaves none stuck', async () => {
  const { apps, ran } = applications(2);
  const [first] = apps as [Tasks, Tasks];
  for (const tasks of apps) await tasks.worker({ concurrency: 5 }).start();
  const ids = await enqueuesDuring(first, async () => {
    for (let i = 0; i < (long ? 12 : 4); i++) {
      await pause(300);
      await server.halt();
      await pause((i % 3) * 700);
      await server.resume();
    }
    await pause(300);
  });
  await expectAllDone(first, ids);
  expect(ran.size).toBeGreaterThanOrEqual(ids.length);
});

test('terminating all connections repeatedly loses no job', async () => {
  const { apps } = applications(2, { max: 2 });
  const [first] = apps as [Tasks, Tasks];
  for (const tasks of apps) await tasks.worker({ concurrency: 5 }).start();
  const ids = await enqueuesDuring(first, async () => {
    for (let i = 0; i < (long ? 30 : 6); i++) {
      await pause(long ? 2_000 : 400);
      await asAdmin(
        server.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
      );
    }
  });
  await expectAllDone(first, ids);
});

test('a server that is read-only for a while, as after a failover, loses no job', async () => {
  const { apps } = applications(1);
  const [tasks] = apps as [Tasks];
  const states: string[] = [];
  tasks.on('storeFailing', ({ error }) => states.push(`failing: ${error.message}`));
  tasks.on('storeRecovered', () => states.push('recovered'));
  await tasks.worker({ concurrency: 5 }).start();
  const ids = await enqueuesDuring(tasks, async () => {
    await pause(300);
    await asAdmin(server.url, 'ALTER SYSTEM SET default_transaction_read_only = on');
    await asAdmin(server.url, 'SELECT pg_reload_conf()');
    await expect.poll(() => states.length).toBeGreaterThan(0);
    await asAdmin(server.url, 'BEGIN READ WRITE; SET LOCAL default_transaction_read_only = off; SELECT 1; COMMIT');
    await asAdmin(server.url, 'ALTER SYSTEM RESET default_transaction_read_only');
    await asAdmin(server.url, 'SELECT pg_reload_conf()');
    await pause(300);
  });
  await expectAllDone(tasks, ids);
  expect(states[0]).toMatch(/failing: StoreError|failing: .*read-only/);
  await expect.poll(() => states.at(-1)).toBe('recovered');
});

test('whatever a task throws or returns, its outcome is recorded', async () => {
  const { apps } = applications(1);
  const [tasks] = apps as [Tasks];
  const odd = 'nul \0, half a pair \ud800, and the other half \udc00';
  const throws = tasks.define('throws', {
    retry: { maxAttempts: 1 },
    run: async () => {
      throw Object.assign(new Error(odd), { code: odd, [odd]: odd });
    },
  });
  const returns = tasks.define('returns', async () => ({ [odd]: odd }));
  const cancels = tasks.define('cancels', { run: async () => {}, unique: { key: () => odd }, concurrency: { limit: 1, key: () => odd } });
  await tasks.worker().start();
  const failed = await (await throws.enqueue()).wait({ timeout: '30s' });
  expect(failed.status).toBe('failed');
  expect(failed.errors.at(-1)?.message).toMatch(/^nul ., half a pair .+, and the other half ./);
  const returned = await (await returns.enqueue()).wait({ timeout: '30s' });
  expect(returned.returnValue).toEqual({ [odd]: odd });
  const held = await cancels.using({ runAfter: '1h', tags: [odd] }).enqueue();
  expect((await cancels.using({ runAfter: '1h' }).enqueue()).id).toBe(held.id);
  await held.cancel(odd);
  await held.refresh();
  expect(held.status).toBe('cancelled');
  expect(held.reason).toMatch(/^nul ., half a pair ./);
  expect((await tasks.jobs.list({ tag: odd })).items.map(({ id }) => id)).toEqual([held.id]);
});

test('a listening connection that was terminated is replaced', async () => {
  const { apps, schema } = applications(2);
  const [first, second] = apps as [Tasks, Tasks];
  await first.open();
  await second.worker({ concurrency: 1 }).start();
  const listeners = async () => {
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    const { rows } = await client.query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN escapement%'");
    await client.end();
    return rows.map(({ pid }) => pid as number);
  };
  await expect.poll(async () => (await listeners()).length).toBe(1);
  const [old] = await listeners();
  await asAdmin(server.url, `SELECT pg_terminate_backend(${old})`);
  await expect.poll(async () => (await listeners()).filter((pid) => pid !== old).length).toBe(1);
  expect(schema).toMatch(/^faults_/);
  const task = first.get('step');
  const result = await (task as NonNullable<typeof task>).enqueue({ n: 'told' });
  await result.wait({ timeout: '30s' });
  expect(result.status).toBe('successful');
});
