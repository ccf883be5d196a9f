/**
 * `npm run test:real-code`: starts PostgreSQL and Redis on free ports with empty data directories, runs the tests in this directory against
 * them, and stops them. Arguments are passed to Vitest, and may name other files. As root, it installs missing servers with apt-get.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const isRoot = process.getuid?.() === 0;
const startupMs = 30_000;

/** The path of a program, in PATH or where Debian keeps PostgreSQL. */
function find(program: string): string | undefined {
  const debian = globSync('/usr/lib/postgresql/*/bin').sort().reverse();
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...debian];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

function need(program: string, debianPackage: string): string {
  const found = find(program);
  if (found) return found;
  if (isRoot) {
    console.error(`installing ${debianPackage}`);
    execFileSync('sh', ['-c', `apt-get update && apt-get install --yes --no-install-recommends ${debianPackage}`], { stdio: 'ignore' });
  }
  const installed = find(program);
  if (!installed) throw new Error(`${program} is not installed (Debian package ${debianPackage})`);
  return installed;
}

/** PostgreSQL refuses to run as root. */
function postgresUser(): { uid?: number; gid?: number } {
  if (!isRoot) return {};
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(name: string, child: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + startupMs;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`${name} ended with exit code ${child.exitCode}`);
    const socket = connect(port, '127.0.0.1');
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (connected) return;
    await sleep(50);
  }
  throw new Error(`${name} does not respond on port ${port}`);
}

const directory = mkdtempSync(join(tmpdir(), 'escapement-servers-'));
const servers: ChildProcess[] = [];

/** Starts a server in a separate process group, so that Ctrl-C reaches only this script. */
function start(program: string, args: readonly string[], user: { uid?: number; gid?: number } = {}): ChildProcess {
  const child = spawn(program, args, { ...user, cwd: directory, detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  servers.push(child);
  return child;
}

async function startPostgres(): Promise<number> {
  const postgres = need('postgres', 'postgresql');
  const user = postgresUser();
  const data = join(directory, 'postgres');
  mkdirSync(data, { mode: 0o700 });
  if (user.uid !== undefined && user.gid !== undefined) {
    for (const folder of [directory, data]) chownSync(folder, user.uid, user.gid);
  }
  const options = ['--pgdata', data, '--username', 'postgres', '--auth', 'trust', '--no-sync'];
  execFileSync(need('initdb', 'postgresql'), options, { ...user, cwd: directory, stdio: ['ignore', 'ignore', 'inherit'] });
  const port = await freePort();
  const settings = ['listen_addresses=127.0.0.1', `unix_socket_directories=${data}`, 'fsync=off', 'log_min_messages=panic'];
  await answers('PostgreSQL', start(postgres, ['-D', data, '-p', String(port), ...settings.flatMap((one) => ['-c', one])], user), port);
  return port;
}

async function startRedis(): Promise<number> {
  const redis = need('redis-server', 'redis-server');
  const port = await freePort();
  await answers('Redis', start(redis, ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory]), port);
  return port;
}

let vitest: ChildProcess | undefined;

async function stop(): Promise<void> {
  for (const child of servers) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    // A fast shutdown of PostgreSQL.
    child.kill('SIGINT');
    await once(child, 'exit');
  }
  rmSync(directory, { recursive: true, force: true });
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    process.exitCode = 1;
    // Vitest exits, and then this script; before Vitest has started, nothing else would end it.
    if (vitest) vitest.kill(signal);
    else void stop().then(() => process.exit(1));
  });
}

try {
  const ports = { ESCAPEMENT_TEST_POSTGRES: String(await startPostgres()), ESCAPEMENT_TEST_REDIS: String(await startRedis()) };
  const args = process.argv.slice(2);
  const files = args.some((arg) => !arg.startsWith('-')) ? [] : ['test/real-code'];
  vitest = spawn(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...files, ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...ports, ESCAPEMENT_TEST_SERVERS: '1' },
  });
  const [code] = await once(vitest, 'exit');
  process.exitCode ||= code ?? 1;
} finally {
  await stop();
}
