/**
 * PgBouncer in transaction mode: every statement may run on a different server connection. Skipped if pgbouncer is not installed;
 * `.ci/run` installs it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTasks } from 'escapement';
import { postgres } from 'escapement/postgres';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { conformance } from '../../src/testing/conformance.ts';
import { emptyPostgres, postgresUrl } from '../stores/postgres-server.ts';

const program = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path));
let bouncer: ChildProcess | undefined;
let folder: string;
let url = '';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.unref();
  });

beforeAll(async () => {
  if (!program) return;
  folder = mkdtempSync(join(tmpdir(), 'escapement-pgbouncer-'));
  const { hostname, port, username, password } = new URL(await postgresUrl());
  const listenPort = await freePort();
  writeFileSync(join(folder, 'users.txt'), `"${username}" "${password}"\n`);
  writeFileSync(
    join(folder, 'pgbouncer.ini'),
    [
      '[databases]',
      `postgres = host=${hostname} port=${port} user=${username}${password ? ` password=${password}` : ''}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${listenPort}`,
      'unix_socket_dir =',
      'auth_type = any',
      'pool_mode = transaction',
      'default_pool_size = 3',
      'logfile = /dev/null',
    ].join('\n'),
  );
  const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  chmodSync(folder, 0o755);
  bouncer = spawn(program, [join(folder, 'pgbouncer.ini')], { stdio: 'ignore', ...user });
  url = `postgres://${username}@127.0.0.1:${listenPort}/postgres`;
  await vi.waitFor(async () => expect(await answers(listenPort)).toBe(true), 30_000);
});

afterAll(() => {
  bouncer?.kill('SIGKILL');
  if (folder) rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(!program)('through pgbouncer', () => {
  const source = emptyPostgres({ alone: false, prepare: false, listen: false, url: () => url });
  conformance('postgres', () => source.open(), { describe, test });

  test('jobs enqueued by one process run in another', async () => {
    const options = { connectionString: url, schema: `bounced_${process.pid}`, prepare: false, pollMs: 100 };
    const [here, there] = [createTasks({ backend: postgres(options) }), createTasks({ backend: postgres(options) })];
    const task = here.define('double', async (n: number) => n);
    there.define('double', async (n: number) => n * 2);
    await here.open();
    const worker = there.worker();
    await worker.start();
    const results = await task.enqueueMany([1, 2, 3]);
    for (const result of results) await result.wait({ timeout: '30s' });
    expect(results.map(({ returnValue }) => returnValue)).toEqual([2, 4, 6]);
    await there.close();
    await here.close();
  });
});
