import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { selectCounts } from '../../src/stores/sqlite/counts.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** What happens in one of two processes that share a file. */
const operation = fc.record({
  process: fc.nat(1),
  what: fc.constantFrom('enqueue', 'enqueue', 'many', 'at once', 'later', 'unique', 'transaction', 'delete', 'run', 'cancel', 'prune'),
  count: fc.integer({ min: 1, max: 150 }),
  commits: fc.boolean(),
});

test('jobs are counted once, by whichever process, also if keys of deleted jobs are given to others', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
      const folder = mkdtempSync(join(tmpdir(), 'escapement-counts-'));
      const file = join(folder, 'app.db');
      const own = new Database(file);
      const processes = await Promise.all(
        ['one', 'two'].map(async (name) => {
          const tasks = createTasks({
            name,
            backend: sqlite({ file, synchronous: 'NORMAL' }),
            logger: quiet,
            retention: { successful: 0 },
          });
          const job = tasks.define('job', (_: number) => {});
          const unique = tasks.define('unique', { unique: { key: (n) => `${n % 3}`, onConflict: 'replace' }, run: (_: number) => {} });
          await tasks.open();
          return { tasks, job, unique };
        }),
      );
      const newest = own.prepare<[], { id: string }>('SELECT id FROM escapement_jobs ORDER BY n DESC LIMIT 1');
      const counted = own.prepare(`SELECT queue, state, sum(count) AS count FROM (${selectCounts}) GROUP BY 1, 2 HAVING sum(count) <> 0`);
      const actual = own.prepare('SELECT queue, state, count(*) AS count FROM escapement_jobs GROUP BY 1, 2');
      for (const { process, what, count, commits } of operations) {
        const { tasks, job, unique } = processes[process] as (typeof processes)[0];
        const inputs = Array.from({ length: count }, (_, n) => n);
        const last = newest.get()?.id;
        if (what === 'enqueue') await job.enqueue(1);
        else if (what === 'many') await job.enqueueMany(inputs);
        else if (what === 'at once') await Promise.all(inputs.map((n) => job.enqueue(n)));
        else if (what === 'later') await job.using({ runAfter: '1h', queue: 'later' }).enqueue(1);
        else if (what === 'unique') {
          // A replaced job is due at another time.
          const dueLater = (n: number) => unique.using({ runAfter: n % 2 ? '1h' : '0s' });
          if (commits) await Promise.all(inputs.slice(0, 8).map((n) => dueLater(n).enqueue(n)));
          else for (const n of inputs.slice(0, 8)) await dueLater(n).enqueueMany([n, n + 1, n + 3]);
        } else if (what === 'transaction') {
          own.exec('BEGIN IMMEDIATE');
          await job.enqueue(1, { transaction: own });
          await job.enqueueMany(inputs, { transaction: own });
          await unique.enqueue(2, { transaction: own });
          own.exec(commits ? 'COMMIT' : 'ROLLBACK');
        } else if (what === 'delete' && last) await tasks.jobs.delete({ ids: [last] });
        else if (what === 'cancel' && last) await tasks.jobs.cancel({ ids: [last] });
        else if (what === 'prune') await tasks.jobs.prune({ olderThan: 0 });
        else if (what === 'run') {
          const worker = tasks.worker({ concurrency: 20 });
          await worker.start();
          await worker.stop();
        }
        expect(counted.all()).toEqual(actual.all());
      }
      for (const { tasks } of processes) await tasks.close();
      own.close();
      rmSync(folder, { recursive: true });
    }),
    { numRuns: 40 },
  );
});
