/** HTTP clients, with servers outside and inside the process. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http, { createServer, type IncomingMessage } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import https from 'node:https';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { text as textOf } from 'node:stream/consumers';
import axios from 'axios';
import got from 'got';
import ky from 'ky';
import { Agent, MockAgent, Pool, request, fetch as undiciFetch } from 'undici';
import WebSocket, { WebSocketServer } from 'ws';
import type { Case, Prepared, Run } from '../case.ts';
import { outside, fetchText as text } from '../outside.ts';

const ca = readFileSync(new URL('../servers/self-signed.pem', import.meta.url));

/** Opens a connection that the task finds idle, as in a long-running process. */
const warm = (run: Run) => async (): Promise<Prepared> => {
  await text('/quick');
  return { run };
};

/** A server in the test's process, which responds after its own timer. */
async function serverHere(delayMs: number) {
  const server = createServer((_, response) => setTimeout(() => response.end('from here'), delayMs)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close };
}

const fetchCases: Case[] = [
  { library: 'fetch', name: 'a quick response', run: () => text('/quick'), expect: 'quick' },
  { library: 'fetch', name: 'a slow response', setup: warm(() => text('/slow-head')), expect: 'slow head' },
  { library: 'fetch', name: 'a slow body', setup: warm(() => text('/slow-body')), expect: 'slow body' },
  {
    library: 'fetch',
    name: 'a body read in chunks',
    run: async () => {
      const { body } = await fetch(outside.http('/chunks'));
      let read = '';
      for await (const chunk of body ?? []) read += Buffer.from(chunk).toString();
      return read;
    },
    expect: 'chunk;chunk;chunk;chunk;',
  },
  {
    library: 'fetch',
    name: 'an upload of 1 MB',
    run: () => text('/upload', { method: 'POST', body: new Uint8Array(1_000_000) }),
    expect: '1000000',
  },
  { library: 'fetch', name: 'a redirect', run: () => text('/redirect'), expect: 'slow head' },
  {
    library: 'fetch',
    name: 'five concurrent requests',
    run: async () => (await Promise.all(Array.from({ length: 5 }, () => text('/random')))).length,
    expect: 5,
  },
  {
    library: 'fetch',
    name: 'requests between sleeps',
    run: async (_, ctx) => {
      const first = await text('/random');
      await ctx.sleep('1s');
      return [first, await text('/random')];
    },
    expect: ['random', 'random'],
    at: 1_000,
  },
  {
    library: 'fetch',
    name: 'a race against a guard timer',
    run: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<string>((_, reject) => {
        timer = setTimeout(() => reject(new Error('late')), 5_000);
      });
      try {
        return await Promise.race([text('/slow-body'), late]);
      } finally {
        clearTimeout(timer);
      }
    },
    expect: 'slow body',
  },
  {
    library: 'fetch',
    name: 'a timer that would abort a slow body',
    run: async () => {
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(), 5_000);
      const body = await text('/slow-body', { signal: controller.signal });
      clearTimeout(timer);
      return body;
    },
    expect: 'slow body',
  },
  { library: 'fetch', name: 'a refused connection', run: () => fetch('http://127.0.0.1:1/'), fails: 'TypeError' },
  {
    library: 'fetch',
    name: 'ctx.signal, and a server that never answers',
    run: (_, ctx) => text('/never', { signal: ctx.signal }),
    timeout: '4s',
    never: true,
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'fetch',
    name: 'AbortSignal.timeout, and a server that never answers',
    run: () => text('/never', { signal: AbortSignal.timeout(5_000) }),
    never: true,
    fails: 'TimeoutError',
    at: 5_000,
  },
  {
    library: 'fetch',
    name: 'AbortSignal.timeout, and a body that never ends',
    run: () => text('/endless', { signal: AbortSignal.timeout(4_000) }),
    never: true,
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'fetch',
    name: 'a promise that never settles, beside an idle connection',
    setup: warm(async () => {
      await text('/quick');
      await new Promise(() => {});
    }),
    timeout: '4s',
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'fetch',
    name: 'a server in the same process that answers after 2 s',
    setup: async () => {
      const { url, close } = await serverHere(2_000);
      return { run: async () => (await fetch(url)).text(), close };
    },
    expect: 'from here',
    at: 2_000,
  },
  {
    library: 'fetch',
    name: 'a timeout of 1 s, and a server in the same process that answers after 2 s',
    setup: async () => {
      const { url, close } = await serverHere(2_000);
      return { run: async () => (await fetch(url, { signal: AbortSignal.timeout(1_000) })).text(), close };
    },
    fails: 'TimeoutError',
    at: 1_000,
  },
];

const undiciCases: Case[] = [
  {
    library: 'undici',
    name: 'request',
    run: async () => (await request(outside.http('/slow-body'))).body.text(),
    expect: 'slow body',
  },
  {
    library: 'undici',
    name: 'a module-level Agent',
    setup: async () => {
      const dispatcher = new Agent({ keepAliveTimeout: 10_000 });
      const get = async (path: string) => (await undiciFetch(outside.http(path), { dispatcher })).text();
      await get('/quick');
      return { run: () => get('/slow-head'), close: () => dispatcher.destroy() };
    },
    expect: 'slow head',
  },
  {
    library: 'undici',
    name: 'a module-level Pool',
    setup: async () => {
      const pool = new Pool(outside.http(''), { connections: 2 });
      const get = async (path: string) => (await pool.request({ path, method: 'GET' })).body.text();
      await get('/quick');
      return {
        run: async () => (await Promise.all([get('/slow-head'), get('/slow-body'), get('/quick')])).join(),
        close: () => pool.destroy(),
      };
    },
    expect: 'slow head,slow body,quick',
  },
  {
    library: 'undici',
    name: 'headersTimeout, and a server that never answers',
    setup: () => {
      const dispatcher = new Agent({ headersTimeout: 3_000 });
      return { run: () => request(outside.http('/never'), { dispatcher }), close: () => dispatcher.destroy() };
    },
    never: true,
    fails: 'HeadersTimeoutError',
    // Its timers are accurate to about a second.
    between: [2_000, 5_000],
  },
  {
    library: 'undici',
    name: 'MockAgent with a delay of 2 s',
    setup: () => {
      const dispatcher = new MockAgent();
      dispatcher.disableNetConnect();
      dispatcher.get('http://shop.test').intercept({ path: '/' }).reply(200, 'mocked').delay(2_000).persist();
      return { run: async () => (await request('http://shop.test/', { dispatcher })).body.text(), close: () => dispatcher.close() };
    },
    expect: 'mocked',
    at: 2_000,
  },
];

const flaky = (key: string, times: number) => outside.http(`/flaky?key=${key}&times=${times}`);

const clientCases: Case[] = [
  {
    library: 'got',
    name: 'a request with a timeout',
    run: () => got(outside.http('/slow-body'), { timeout: { request: 5_000 } }).text(),
    expect: 'slow body',
  },
  { library: 'got', name: 'a JSON response', run: () => got(outside.http('/json')).json(), expect: { stock: 3 } },
  {
    library: 'got',
    name: 'a stream',
    run: () => textOf(got.stream(outside.http('/chunks'))),
    expect: 'chunk;chunk;chunk;chunk;',
  },
  {
    library: 'got',
    name: 'its timeout, and a server that never answers',
    run: () => got(outside.http('/never'), { timeout: { request: 3_000 }, retry: { limit: 0 } }).text(),
    never: true,
    fails: 'TimeoutError',
    at: 3_000,
  },
  {
    library: 'got',
    name: 'two retries, 1 s apart',
    run: (_, ctx) =>
      got(flaky(`got-${ctx.id}`, 2), { retry: { limit: 2, calculateDelay: ({ computedValue }) => (computedValue ? 1_000 : 0) } }).text(),
    expect: 'at last',
    at: 2_000,
  },
  {
    library: 'axios',
    name: 'a request with a timeout',
    run: async () => (await axios.get(outside.http('/slow-body'), { timeout: 5_000 })).data,
    expect: 'slow body',
  },
  {
    library: 'axios',
    name: 'a module-level instance with a keep-alive agent',
    setup: async () => {
      const httpAgent = new http.Agent({ keepAlive: true });
      const client = axios.create({ baseURL: outside.http(''), timeout: 5_000, httpAgent, proxy: false });
      await client.get('/quick');
      return { run: async () => (await client.get('/json')).data, close: () => httpAgent.destroy() };
    },
    expect: { stock: 3 },
  },
  {
    library: 'axios',
    name: 'the fetch adapter',
    run: async () => (await axios.get(outside.http('/slow-body'), { timeout: 5_000, adapter: 'fetch' })).data,
    expect: 'slow body',
  },
  {
    library: 'axios',
    name: 'its timeout, and a server that never answers',
    run: () => axios.get(outside.http('/never'), { timeout: 3_000 }),
    never: true,
    fails: 'AxiosError',
    at: 3_000,
  },
  {
    library: 'axios',
    name: 'its timeout of 1 s, and a server in the same process that answers after 2 s',
    setup: async () => {
      const { url, close } = await serverHere(2_000);
      return { run: () => axios.get(url, { timeout: 1_000 }), close };
    },
    fails: 'AxiosError',
    at: 1_000,
  },
  {
    library: 'ky',
    name: 'a request with a timeout',
    run: () => ky(outside.http('/slow-body'), { timeout: 5_000 }).text(),
    expect: 'slow body',
  },
  {
    library: 'ky',
    name: 'its timeout, and a server that never answers',
    run: () => ky(outside.http('/never'), { timeout: 3_000, retry: 0 }).text(),
    never: true,
    fails: 'TimeoutError',
    at: 3_000,
  },
  {
    library: 'ky',
    name: 'two retries, 1 s apart',
    run: (_, ctx) => ky(flaky(`ky-${ctx.id}`, 2), { retry: { limit: 2, delay: () => 1_000 } }).text(),
    expect: 'at last',
    at: 2_000,
  },
];

/** The body of a request with node:http or node:https. */
const bodyOf = async (sent: http.ClientRequest) => textOf((await once(sent, 'response'))[0] as IncomingMessage);

const nodeCases: Case[] = [
  { library: 'node:http', name: 'a request', run: () => bodyOf(http.get(outside.http('/slow-body'))), expect: 'slow body' },
  {
    library: 'node:http',
    name: 'a module-level keep-alive agent',
    setup: async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const get = (path: string) => bodyOf(http.get(outside.http(path), { agent }));
      await get('/quick');
      return { run: async () => `${await get('/slow-head')}, ${await get('/slow-body')}`, close: () => agent.destroy() };
    },
    expect: 'slow head, slow body',
  },
  {
    library: 'node:http',
    name: 'an upload from a stream',
    run: async () => {
      const sent = http.request(outside.http('/upload'), { method: 'POST' });
      for (let i = 0; i < 10; i++) sent.write(Buffer.alloc(50_000));
      sent.end();
      return bodyOf(sent);
    },
    expect: '500000',
  },
  {
    library: 'node:http',
    name: 'its own timeout option, when the server responds in time',
    run: () => bodyOf(http.get(outside.http('/slow-head'), { timeout: 5_000 })),
    expect: 'slow head',
  },
  {
    library: 'node:http',
    name: 'ctx.signal, and a server that never answers',
    run: (_, ctx) => bodyOf(http.get(outside.http('/never'), { signal: ctx.signal })),
    timeout: '4s',
    never: true,
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'node:http',
    name: 'a server in the same process that answers after 2 s',
    setup: async () => {
      const { url, close } = await serverHere(2_000);
      return { run: () => bodyOf(http.get(url)), close };
    },
    expect: 'from here',
    at: 2_000,
  },
  { library: 'node:https', name: 'a request', run: () => bodyOf(https.get(outside.https('/slow-body'), { ca })), expect: 'slow body' },
  {
    library: 'node:https',
    name: 'a module-level keep-alive agent',
    setup: async () => {
      const agent = new https.Agent({ keepAlive: true, ca });
      const get = (path: string) => bodyOf(https.get(outside.https(path), { agent }));
      await get('/quick');
      return { run: () => get('/slow-head'), close: () => agent.destroy() };
    },
    expect: 'slow head',
  },
  {
    library: 'node:http2',
    name: 'a session created in the task',
    run: async () => {
      const session = connectHttp2(outside.http2(), { ca });
      try {
        return await textOf(session.request({ ':path': '/slow-body' }));
      } finally {
        session.close();
      }
    },
    expect: 'slow body',
  },
  {
    library: 'node:http2',
    name: 'a module-level session',
    setup: async () => {
      const session = connectHttp2(outside.http2(), { ca });
      const get = (path: string) => textOf(session.request({ ':path': path }));
      await get('/quick');
      return { run: () => get('/slow-head'), close: () => session.destroy() };
    },
    expect: 'slow head',
  },
];

/** One message and its reply. */
async function ask(socket: WebSocket, message: string): Promise<string> {
  const reply = once(socket, 'message');
  socket.send(message);
  return String((await reply)[0]);
}

const socketCases: Case[] = [
  {
    library: 'ws',
    name: 'a connection created in the task',
    run: async () => {
      const socket = new WebSocket(outside.ws());
      await once(socket, 'open');
      const reply = await ask(socket, 'hello');
      socket.close();
      await once(socket, 'close');
      return reply;
    },
    expect: 'hello',
  },
  {
    library: 'ws',
    name: 'a module-level connection, and a slow reply',
    setup: async () => {
      const socket = new WebSocket(outside.ws());
      await once(socket, 'open');
      await ask(socket, 'warm up');
      return { run: () => ask(socket, 'in 40'), close: () => socket.terminate() };
    },
    // The first reply answers several jobs.
    without: ['seeded'],
    expect: 'in 40',
  },
  {
    library: 'ws',
    name: 'a server in the same process that replies after 2 s',
    setup: async () => {
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
      await once(server, 'listening');
      server.on('connection', (socket) => socket.on('message', (data) => setTimeout(() => socket.send(String(data)), 2_000)));
      const run = async () => {
        const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
        await once(socket, 'open');
        const reply = await ask(socket, 'hello');
        socket.terminate();
        return reply;
      };
      return { run, close: () => new Promise((resolve) => server.close(resolve)) };
    },
    expect: 'hello',
    at: 2_000,
  },
  {
    library: 'WebSocket',
    name: 'the global client',
    run: async () => {
      const socket = new globalThis.WebSocket(outside.ws());
      await new Promise((resolve) => socket.addEventListener('open', resolve));
      const reply = new Promise((resolve) => socket.addEventListener('message', ({ data }) => resolve(data)));
      socket.send('in 40');
      const data = await reply;
      socket.close();
      await new Promise((resolve) => socket.addEventListener('close', resolve));
      return data;
    },
    expect: 'in 40',
  },
  {
    library: 'node:net',
    name: 'a module-level connection',
    setup: async () => {
      const socket = connectTcp(outside.tcp());
      const query = async (message: string) => {
        socket.write(message);
        return String((await once(socket, 'data'))[0]);
      };
      await query('warm up');
      return { run: () => query('in 40'), close: () => socket.destroy() };
    },
    // The first reply answers several jobs.
    without: ['seeded'],
    expect: 'in 40',
  },
  {
    library: 'node:net',
    name: 'a Unix domain socket',
    run: async () => {
      const socket = connectTcp(outside.socket());
      socket.write('in 40');
      const reply = String((await once(socket, 'data'))[0]);
      socket.end();
      await once(socket, 'close');
      return reply;
    },
    expect: 'in 40',
  },
];

export const httpCases: Case[] = [...fetchCases, ...undiciCases, ...clientCases];
export const protocolCases: Case[] = [...nodeCases, ...socketCases];
