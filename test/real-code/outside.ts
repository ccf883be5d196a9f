/** The addresses of the servers outside the test's process; see servers/outside.ts. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Ports } from './servers/outside.ts';

const host = '127.0.0.1';
let child: ChildProcess | undefined;
let known: Ports | undefined;

/** Starts the servers, once per process. */
export async function startOutside(): Promise<void> {
  if (known) return;
  const file = fileURLToPath(new URL('servers/outside.ts', import.meta.url));
  const started = fork(file, { execArgv: [], env: { PATH: process.env.PATH }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  child = started;
  known = await new Promise<Ports>((resolve, reject) => {
    started.once('message', (message) => resolve(message as Ports));
    started.once('exit', (code) => reject(new Error(`the outside servers ended with exit code ${code}`)));
  });
  started.unref();
  started.channel?.unref();
}

export function stopOutside(): void {
  if (child?.connected) child.disconnect();
  child = undefined;
  known = undefined;
}

function ports(): Ports {
  if (!known) throw new Error('the outside servers are not running');
  return known;
}

/** Addresses, valid while tests run. */
export const outside = {
  http: (path: string) => `http://${host}:${ports().http}${path}`,
  https: (path: string) => `https://${host}:${ports().https}${path}`,
  http2: () => `https://${host}:${ports().http2}`,
  ws: () => `ws://${host}:${ports().http}`,
  tcp: () => ({ host, port: ports().tcp }),
  smtp: () => ({ host, port: ports().smtp }),
  socket: () => ports().socket,
};

/** The response to a GET of a page from the HTTP server. */
export const fetchText = async (path: string, init?: RequestInit): Promise<string> => (await fetch(outside.http(path), init)).text();
