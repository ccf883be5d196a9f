/** Child processes, worker threads and thread pools. */
import { type ChildProcess, exec, execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { MessageChannel, Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { Case } from '../case.ts';

const path = (fixture: string) => fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url));
const run = promisify(execFile);

const startChild = () => fork(path('child.ts'), { execArgv: [] });
const startThread = () => new Worker(path('thread.ts'), { execArgv: [] });

let lastId = 0;

/** Sends a value to a child or a thread, and waits for the reply to it. */
function ask(peer: ChildProcess | Worker, value: number): Promise<number> {
  const id = ++lastId;
  return new Promise((resolve) => {
    const listen = (reply: { id: number; value: number }) => {
      if (reply.id !== id) return;
      peer.off('message', listen);
      resolve(reply.value);
    };
    peer.on('message', listen);
    if (peer instanceof Worker) peer.postMessage({ id, value });
    else peer.send({ id, value });
  });
}

export const processAndThreadCases: Case[] = [
  {
    library: 'node:child_process',
    name: 'execFile',
    run: async () => (await run('sh', ['-c', 'sleep 0.03; echo done'])).stdout,
    expect: 'done\n',
  },
  {
    library: 'node:child_process',
    name: 'exec',
    run: async () => (await promisify(exec)('sleep 0.03; echo done')).stdout,
    expect: 'done\n',
  },
  {
    library: 'node:child_process',
    name: 'spawn, and its output as a stream',
    run: async () => {
      const child = spawn('sh', ['-c', 'echo one; sleep 0.03; echo two']);
      const [output] = await Promise.all([text(child.stdout), once(child, 'close')]);
      return output;
    },
    expect: 'one\ntwo\n',
  },
  {
    library: 'node:child_process',
    name: 'data piped through a child',
    run: async () => {
      const child = spawn('sort', { stdio: ['pipe', 'pipe', 'inherit'] });
      child.stdin.end('b\na\n');
      return text(child.stdout);
    },
    expect: 'a\nb\n',
  },
  {
    library: 'node:child_process',
    name: 'a race against a guard timer',
    run: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error('late')), 5_000);
      });
      try {
        return await Promise.race([run('sleep', ['0.03']).then(() => 'done'), late]);
      } finally {
        clearTimeout(timer);
      }
    },
    expect: 'done',
  },
  {
    library: 'node:child_process',
    name: 'a heartbeat beside a child',
    run: async () => {
      let beats = 0;
      const timer = setInterval(() => beats++, 1_000);
      await run('sleep', ['0.03']);
      clearInterval(timer);
      return beats;
    },
    expect: 0,
  },
  { library: 'node:child_process', name: 'a program that does not exist', run: () => run('no-such-program'), fails: 'Error' },
  {
    library: 'node:child_process',
    name: 'ctx.signal, and a child that runs for longer than the timeout',
    run: (_, ctx) => run('sleep', ['60'], { signal: ctx.signal }),
    timeout: '4s',
    never: true,
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'node:child_process',
    name: 'the timeout option of execFile, when the child ends in time',
    run: async () => (await run('sh', ['-c', 'sleep 0.03; echo done'], { timeout: 5_000 })).stdout,
    expect: 'done\n',
    advice: 'The `timeout` option uses real time: pass `ctx.signal` to end a child process',
  },
  {
    library: 'node:child_process',
    name: 'fork, and a reply',
    run: async () => {
      const child = startChild();
      const reply = await ask(child, 21);
      child.disconnect();
      await once(child, 'exit');
      return reply;
    },
    expect: 42,
  },
  {
    library: 'node:child_process',
    name: 'a module-level child, and a reply',
    setup: async () => {
      const child = startChild();
      await ask(child, 1);
      return { run: () => ask(child, 21), close: () => child.disconnect() };
    },
    expect: 42,
  },
  {
    library: 'node:child_process',
    name: 'a module-level child that is idle, beside a sleep',
    setup: async () => {
      const child = startChild();
      await ask(child, 1);
      return { run: (_, ctx) => ctx.sleep('2s').then(() => 'rested'), close: () => child.disconnect() };
    },
    expect: 'rested',
    at: 2_000,
  },
  {
    library: 'node:worker_threads',
    name: 'a thread created in the task',
    run: async () => {
      const thread = startThread();
      const reply = await ask(thread, 21);
      await thread.terminate();
      return reply;
    },
    expect: 42,
  },
  {
    library: 'node:worker_threads',
    name: 'a thread that ends',
    run: async () => {
      const thread = new Worker('setTimeout(() => {}, 30)', { eval: true, execArgv: [] });
      return (await once(thread, 'exit'))[0];
    },
    expect: 0,
  },
  {
    library: 'node:worker_threads',
    name: 'a module-level thread, and three concurrent requests',
    setup: async () => {
      const thread = startThread();
      await ask(thread, 1);
      return { run: () => Promise.all([1, 2, 3].map((value) => ask(thread, value))), close: () => thread.terminate() };
    },
    expect: [2, 4, 6],
  },
  {
    library: 'node:worker_threads',
    name: 'several threads, with a guard timer',
    run: async () => {
      const timer = setTimeout(() => {
        throw new Error('late');
      }, 5_000);
      const threads = [startThread(), startThread()];
      const replies = await Promise.all(threads.map((thread, i) => ask(thread, i + 1)));
      clearTimeout(timer);
      await Promise.all(threads.map((thread) => thread.terminate()));
      return replies;
    },
    expect: [2, 4],
  },
  {
    library: 'node:worker_threads',
    name: 'a module-level thread that is idle, beside a sleep',
    setup: async () => {
      const thread = startThread();
      await ask(thread, 1);
      return { run: (_, ctx) => ctx.sleep('2s').then(() => 'rested'), close: () => thread.terminate() };
    },
    expect: 'rested',
    at: 2_000,
  },
  {
    library: 'node:worker_threads',
    name: 'a MessageChannel within the process',
    run: async () => {
      const { port1, port2 } = new MessageChannel();
      port2.on('message', (value: number) => port2.postMessage(value * 2));
      port1.postMessage(21);
      const [reply] = await once(port1, 'message');
      port1.close();
      return reply;
    },
    expect: 42,
  },
  {
    library: 'node:worker_threads',
    name: 'Atomics.waitAsync',
    run: async () => {
      const cell = new Int32Array(new SharedArrayBuffer(4));
      const code =
        "setTimeout(() => { const { workerData: cell } = require('node:worker_threads'); Atomics.store(cell, 0, 1); Atomics.notify(cell, 0); }, 30)";
      const thread = new Worker(code, { eval: true, execArgv: [], workerData: cell });
      // The thread may end before the wait does.
      const ended = once(thread, 'exit');
      const result = await Atomics.waitAsync(cell, 0, 0).value;
      await ended;
      return result;
    },
    expect: 'ok',
  },
  {
    library: 'piscina',
    name: 'a module-level pool',
    setup: async () => {
      const pool = new Piscina<number, number>({ filename: path('pool-thread.ts'), minThreads: 2, maxThreads: 2, execArgv: [] });
      await pool.run(1, { name: 'double' });
      return { run: () => pool.run(21, { name: 'double' }), close: () => pool.destroy() };
    },
    expect: 42,
  },
  {
    library: 'piscina',
    name: 'more tasks than threads, with ctx.signal',
    setup: () => {
      const pool = new Piscina<number, number>({ filename: path('pool-thread.ts'), maxThreads: 2, execArgv: [] });
      return {
        run: (_, ctx) => Promise.all([1, 2, 3].map((value) => pool.run(value, { name: 'double', signal: ctx.signal }))),
        close: () => pool.destroy(),
      };
    },
    expect: [2, 4, 6],
  },
];
