/**
 * The servers used by the cases, in a separate process, so that they are outside every simulation. Run by `child_process.fork`: sends the
 * ports when all servers listen, and exits with its parent.
 */
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createNetServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMTPServer } from 'smtp-server';
import { WebSocketServer } from 'ws';

export interface Ports {
  readonly http: number;
  readonly https: number;
  readonly http2: number;
  readonly tcp: number;
  readonly smtp: number;
  readonly socket: string;
}

const host = '127.0.0.1';
const pem = readFileSync(new URL('self-signed.pem', import.meta.url));
const failures = new Map<string, number>();

const pages: Record<string, (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void> = {
  '/quick': (_, response) => response.end('quick'),
  '/slow-head': (_, response) => setTimeout(() => response.end('slow head'), 30),
  '/slow-body': (_, response) => {
    response.write('slow ');
    setTimeout(() => response.end('body'), 30);
  },
  '/chunks': (_, response) => {
    let left = 4;
    const timer = setInterval(() => {
      response.write('chunk;');
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      response.end();
    }, 10);
  },
  '/random': (_, response) => setTimeout(() => response.end('random'), Math.random() * 20),
  '/json': (_, response) => setTimeout(() => response.writeHead(200, { 'content-type': 'application/json' }).end('{"stock":3}'), 20),
  '/upload': (request, response) => {
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    request.on('end', () => setTimeout(() => response.end(String(size)), 20));
  },
  '/redirect': (_, response) => response.writeHead(302, { location: '/slow-head' }).end(),
  // Fails `times` times for a key, then succeeds and forgets the key.
  '/flaky': (_, response, query) => {
    const key = query.get('key') ?? '';
    const failed = failures.get(key) ?? 0;
    if (failed < Number(query.get('times'))) {
      failures.set(key, failed + 1);
      response.writeHead(503).end('busy');
    } else {
      failures.delete(key);
      response.end('at last');
    }
  },
  '/never': () => {},
  '/endless': (_, response) => response.write('never ends'),
};

const answer: RequestListener = (request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://outside');
  const page = pages[pathname];
  if (page) page(request, response, searchParams);
  else response.writeHead(404).end();
};

const http = createHttpServer(answer);
const https = createHttpsServer({ key: pem, cert: pem }, answer);
const http2 = createSecureServer({ key: pem, cert: pem }, answer as never);
// Echoes each message after 30 ms, or as many milliseconds as it asks for.
const echo = (text: string, reply: (text: string) => void) => setTimeout(() => reply(text), Number(/^in (\d+)/.exec(text)?.[1] ?? 30));
new WebSocketServer({ server: http }).on('connection', (socket) => {
  socket.on('message', (data) => echo(String(data), (text) => socket.send(text)));
});
const tcp = createNetServer((socket) =>
  socket.on('error', () => {}).on('data', (data) => echo(String(data), (text) => socket.write(text))),
);
const unix = createNetServer((socket) =>
  socket.on('error', () => {}).on('data', (data) => echo(String(data), (text) => socket.write(text))),
);
const smtp = new SMTPServer({
  disabledCommands: ['STARTTLS', 'AUTH'],
  onData(stream, _session, done) {
    stream.resume();
    stream.on('end', () => setTimeout(done, 30));
  },
});

const listen = (server: Pick<Server, 'listen'>, at: number | string = 0) =>
  new Promise<number>((resolve) => {
    const listening = () => resolve(typeof at === 'string' ? 0 : ((server as Server).address() as AddressInfo).port);
    if (typeof at === 'string') server.listen(at, listening);
    else server.listen(at, host, listening);
  });

const socket = join(tmpdir(), `escapement-outside-${process.pid}.sock`);
const ports: Ports = {
  http: await listen(http),
  https: await listen(https),
  http2: await listen(http2 as unknown as Server),
  tcp: await listen(tcp),
  smtp: await new Promise((resolve) => {
    const server: Server = smtp.listen(0, host, () => resolve((server.address() as AddressInfo).port));
  }),
  socket,
};
await listen(unix, socket);
process.on('disconnect', () => unix.close(() => process.exit()));
process.send?.(ports);
