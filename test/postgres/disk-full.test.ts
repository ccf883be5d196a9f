/**
 * A server's disk is full: enqueues are rejected, outcomes wait, and both resume once space is free. Tested with a trigger on any machine,
 * and, if the tests may mount a small file system, with only the tables on it and with the whole server, whose log fails first.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger, Tasks } from 'escapement';
import { StoreError } from 'escapement';
import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { serverFolder, startPostgres, type TestServer } from '../setup/postgres.ts';
import { Applications, asAdmin, enqueuesDuring, expectAllDone, pause } from './under-fault.ts';

/** Jobs run within 10 s of free space; on a busy machine, a little later. */
const mostLateMs = process.env.ESCAPEMENT_SOAK ? 10_000 : 30_000;

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A small in-memory file system; undefined if the tests may not mount one. */
function smallDisk(megabytes: number): { readonly folder: string; fill(): void; free(): void } | undefined {
  const folder = serverFolder();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=755`, 'tmpfs', folder], { stdio: 'pipe' });
  } catch {
    rmSync(folder, { recursive: true });
    return undefined;
  }
  cleanups.push(() => {
    execFileSync('umount', ['--lazy', folder]);
    rmSync(folder, { recursive: true });
  });
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill() {
      const fd = openSync(ballast, 'w');
      const block = Buffer.alloc(4_096);
      try {
        for (;;) writeSync(fd, block);
      } catch {
        // No space is left.
      } finally {
        closeSync(fd);
      }
    },
    free: () => rmSync(ballast),
  };
}

async function start(...options: Parameters<typeof startPostgres>): Promise<TestServer> {
  const server = await startPostgres(...options);
  cleanups.push(() => server.stop());
  return server;
}

/** Runs two workers under load while the disk is full, and checks what users observe. */
async function expectToEndure(url: string, disk: { fill(schema: string): Promise<void>; free(schema: string): Promise<void> }) {
  const lines: string[] = [];
  const note = (_: unknown, message?: string) => lines.push(message ?? '');
  const logger: Logger = { debug() {}, info: note, warn: note, error: note };
  const applications = new Applications(url, 2, { logger });
  cleanups.push(() => applications.close());
  const { apps, ran, schema } = applications;
  const [first, second] = apps as [Tasks, Tasks];
  const states: string[] = [];
  const lateMs: number[] = [];
  let freeAt = Number.POSITIVE_INFINITY;
  second.on('storeFailing', () => states.push('failing'));
  second.on('storeRecovered', () => {
    states.push('recovered');
    lateMs.push(performance.now() - freeAt);
  });
  // Its value does not fit in the tables' existing pages.
  const release = Promise.withResolvers<void>();
  let [begun, ended] = [0, 0];
  const value = Array.from({ length: 20_000 }, (_, i) => `${i * 7_919}`).join('');
  const large = second.define('large', async () => {
    begun += 1;
    await release.promise;
    ended += 1;
    return value;
  });
  for (const tasks of apps) await tasks.worker({ concurrency: 5 }).start();
  const held = await large.enqueueMany([undefined, undefined]);
  await expect.poll(() => begun).toBe(2);

  const refused: unknown[] = [];
  const ids = await enqueuesDuring(
    first,
    async () => {
      await pause(200);
      await disk.fill(schema);
      await expect.poll(() => refused.length).toBeGreaterThan(0);
      release.resolve();
      await expect.poll(() => states.length).toBeGreaterThan(0);
      await disk.free(schema);
      freeAt = performance.now();
      await expect.poll(() => states.at(-1)).toBe('recovered');
    },
    (error) => refused.push(error),
  );
  for (const error of refused) expect(error).toBeInstanceOf(StoreError);
  await expectAllDone(first, ids);
  for (const result of held) {
    await result.wait({ timeout: '30s' });
    expect([result.status, result.attempts, result.returnValue]).toEqual(['successful', 1, value]);
  }
  // Outcomes waited for space: nothing ran twice.
  expect(ended).toBe(2);
  expect([...ran.values()].filter((count) => count > 1)).toEqual([]);
  expect(states).toEqual(['failing', 'recovered']);
  expect(lateMs.filter((ms) => ms > mostLateMs)).toEqual([]);
  // One line per worker, however many calls failed.
  expect(lines.filter((line) => /the store is failing/.test(line)).length).toBeLessThanOrEqual(2);
  return { refused: refused as StoreError[] };
}

test('tables that cannot grow, simulated by a trigger', async () => {
  const { url } = await start();
  const { refused } = await expectToEndure(url, {
    fill: (schema) =>
      asAdmin(
        url,
        `CREATE FUNCTION ${schema}.no_room() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file: No space left on device'; END$$;
        CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON ${schema}.jobs FOR EACH ROW EXECUTE FUNCTION ${schema}.no_room()`,
      ),
    free: (schema) => asAdmin(url, `DROP TRIGGER no_room ON ${schema}.jobs`),
  });
  expect(refused[0]).toMatchObject({
    kind: 'full',
    transient: true,
    message: expect.stringMatching(/^the disk of the database is full: /),
  });
});

test('tables on a full disk', async (context) => {
  const disk = smallDisk(16);
  if (!disk) return context.skip('the tests may not mount a file system');
  const { url } = await start();
  const place = join(disk.folder, 'tables');
  mkdirSync(place);
  execFileSync('chown', ['postgres', place]);
  await asAdmin(url, `CREATE TABLESPACE small LOCATION '${place}'`);
  await asAdmin(url, 'ALTER DATABASE postgres SET default_tablespace = small');
  const { refused } = await expectToEndure(url, { fill: async () => disk.fill(), free: async () => disk.free() });
  expect(refused[0]).toMatchObject({ kind: 'full', transient: true });
});

test('a server that stops because its whole disk is full', async (context) => {
  const disk = smallDisk(96);
  if (!disk) return context.skip('the tests may not mount a file system');
  const folder = join(disk.folder, 'server');
  mkdirSync(folder);
  // Without synchronous commits, a crashed server loses the latest ones.
  const server = await start(['synchronous_commit=on', 'min_wal_size=2MB', 'max_wal_size=8MB'], {
    folder,
    initdbFlags: ['--wal-segsize=1'],
  });
  await expectToEndure(server.url, {
    async fill() {
      disk.fill();
      // It stops, and is not merely out of space. It may be back, with its disk still full, before an enqueue fails.
      await fillLog(server.url);
    },
    async free() {
      disk.free();
      await comesBack(server);
    },
  });
});

/** Writes to the server's log until the server stops. */
async function fillLog(url: string): Promise<void> {
  const sql = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))";
  await expect
    .poll(() =>
      asAdmin(url, sql).then(
        () => 'written',
        (error: Error & { code?: string }) => (error.code === '53100' ? 'full' : 'down'),
      ),
    )
    .toBe('down');
}

/** A server that cannot write its log closes its connections, and exits if it cannot recover; then it is started again. */
async function comesBack(server: TestServer): Promise<void> {
  await expect
    .poll(async () => {
      const client = new pg.Client({ connectionString: server.url });
      client.on('error', () => {});
      try {
        await client.connect();
        await client.query('SELECT 1');
        await client.end();
        return 'up';
      } catch (error) {
        if ((error as { code?: string }).code === 'ECONNREFUSED') await server.resume().catch(() => {});
        return error;
      }
    })
    .toBe('up');
}
