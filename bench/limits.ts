/**
 * The cost of limits: claims on a SQLite file with 100,000 waiting jobs of 1,000 keys, with limits by key and without, alternately in one
 * run.
 *   npm run --silent build && node bench/limits.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Limits } from '../dist/src/core/gate.js';
import { newJob } from '../dist/src/core/job.js';
import { sqlite } from '../dist/src/stores/sqlite/index.js';

const jobs = 100_000;
const keys = 1_000;
const batch = 20;
const rounds = 150;
const now = 1_767_225_600_000;
const limits: Limits = { queues: {}, tasks: { sync: { concurrency: 2, concurrencyByKey: true } } };
const tasks = ['sync'];

async function open(folder: string, name: string) {
  const store = await sqlite({ file: join(folder, name), synchronous: 'NORMAL' }).open();
  await store.migrate();
  for (let i = 0; i < jobs; i += 1_000) {
    const part = Array.from({ length: 1_000 }, (_, j) => {
      const id = `019b7600-0000-7000-8000-${(i + j).toString(16).padStart(12, '0')}`;
      const request = {
        task: 'sync',
        queue: 'default',
        priority: 0,
        input: '{}',
        runAfter: null,
        expiresAt: null,
        maxAttempts: 3,
        tags: [],
      };
      const rest = { metadata: {}, schedule: null, scheduledAt: null, overrides: null, concurrencyKey: `k${(i + j) % keys}` };
      return newJob({ ...request, ...rest }, id, now);
    });
    await store.insert(part, { now });
  }
  return store;
}

const folder = mkdtempSync(join(tmpdir(), 'escapement-bench-'));
try {
  const stores = [await open(folder, 'plain.db'), await open(folder, 'limited.db')] as const;
  const cpuMs = [0, 0];
  const claimed = [0, 0];
  for (let round = 0; round < rounds; round++) {
    for (const [i, store] of stores.entries()) {
      const before = process.cpuUsage();
      const found = await store.claim({ worker: 'w', limit: batch, leaseUntil: now + 30_000, tasks, now, limits: i === 1 ? limits : null });
      const { user, system } = process.cpuUsage(before);
      cpuMs[i] = (cpuMs[i] ?? 0) + (user + system) / 1_000;
      claimed[i] = (claimed[i] ?? 0) + found.length;
      const settlements = found.map((job) => ({
        id: job.id,
        claim: job.claim,
        outcome: 'successful' as const,
        error: null,
        settledAt: now,
        status: 'successful' as const,
        attempt: job.attempt,
        losses: 0,
        dueAt: job.dueAt,
        returnValue: null,
        reason: null,
        progress: null,
      }));
      await store.settle(settlements, { now });
    }
  }
  const [plain = 0, limited = 0] = cpuMs.map((ms, i) => (ms * 1_000) / (claimed[i] ?? 1));
  console.log(`claim of ${batch}, ${jobs} jobs waiting, ${keys} keys: ${plain.toFixed(1)} µs CPU per job without limits`);
  console.log(
    `                                                ${limited.toFixed(1)} µs CPU per job with limits by key: ${(limited / plain).toFixed(2)} ×`,
  );
  for (const store of stores) await store.close();
} finally {
  rmSync(folder, { recursive: true });
}
