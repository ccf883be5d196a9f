/** A Redis server installed on the machine, started on a free port with an empty folder. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** The path of the program, if installed. */
export const redisServer = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin', '/usr/sbin']
  .map((folder) => join(folder, 'redis-server'))
  .find((path) => existsSync(path));

export interface TestRedis {
  readonly port: number;
  /** Kills it with SIGKILL, and restarts it with the data in its folder. */
  halt(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
}

/** @param settings further arguments, such as `--appendonly yes` */
export async function startRedis(settings: readonly string[] = []): Promise<TestRedis> {
  const program = redisServer;
  if (!program) throw new Error('redis-server is not installed (Debian package redis-server)');
  const folder = mkdtempSync(join(tmpdir(), 'escapement-redis-'));
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder, ...settings];
  let server: ChildProcess;
  const halt = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill('SIGKILL');
    await exited;
  };
  const resume = async () => {
    server = spawn(program, args, { stdio: 'ignore' });
    while (!(await answers(port))) {
      if (server.exitCode !== null) throw new Error(`redis-server ended with exit code ${server.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await resume();
  const stop = async () => {
    await halt();
    rmSync(folder, { recursive: true, force: true });
  };
  return { port, halt, resume, stop };
}

/** True if it is up and has loaded its data. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString().startsWith('+PONG'));
    });
    socket.once('error', () => resolve(false));
  });
}
