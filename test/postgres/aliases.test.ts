/** Queues over two servers by aliases, with SQLite beside them. */
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { sqlite } from 'escapement/sqlite';
import { expect, test } from 'vitest';
import { startPostgres } from '../setup/postgres.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

test('jobs of each alias run on its server', async () => {
  const other = await startPostgres();
  const schema = `aliases_${process.pid}`;
  const tasks = createTasks({
    backends: {
      default: postgres({ connectionString: await postgresUrl(), schema }),
      bulk: postgres({ connectionString: other.url, schema }),
      local: sqlite({ file: ':memory:' }),
    },
  });
  try {
    const here = tasks.define('here', async () => 'here');
    const there = tasks.define('there', { backend: 'bulk', run: async () => 'there' });
    const beside = tasks.define('beside', { backend: 'local', run: async () => 'beside' });
    const worker = tasks.worker();
    const bulkWorker = tasks.worker({ backend: 'bulk' });
    const localWorker = tasks.worker({ backend: 'local' });
    for (const one of [worker, bulkWorker, localWorker]) await one.start();
    const results = [await here.enqueue(), await there.enqueue(), await beside.enqueue()];
    for (const result of results) await result.wait({ timeout: '30s' });
    expect(results.map(({ returnValue, backend }) => [returnValue, backend])).toEqual([
      ['here', 'default'],
      ['there', 'bulk'],
      ['beside', 'local'],
    ]);
  } finally {
    await tasks.close();
    await other.stop();
  }
});
