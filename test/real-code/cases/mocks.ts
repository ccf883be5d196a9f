/** Mocks have virtual latency. Other fake clocks are rejected. */
import { mock } from 'node:test';
import { delay, HttpResponse, http as mocked } from 'msw';
import { setupServer } from 'msw/node';
import { vi } from 'vitest';
import type { Case, Run } from '../case.ts';
import { mockClients as clients, mockedUrl as url } from './mocked.ts';

/** Responds to each request with msw. */
const withMsw = (answer: () => Promise<Response> | Response, run: Run) => () => {
  const server = setupServer(mocked.get(url, answer));
  server.listen();
  return { run, close: () => server.close() };
};

async function later(): Promise<Response> {
  await delay(2_000);
  return HttpResponse.text('mocked');
}

const fakeTimers = /fake timers/;

export const mockCases: Case[] = [
  {
    library: 'msw',
    name: 'an immediate response',
    setup: withMsw(() => HttpResponse.text('mocked'), clients.fetch as Run),
    expect: 'mocked',
  },
  ...Object.entries(clients).map(([name, run]) => ({
    library: 'msw',
    name: `delay(2_000), with ${name}`,
    setup: withMsw(later, run),
    expect: 'mocked',
    at: 2_000,
  })),
  {
    library: 'msw',
    name: "delay('infinite'), and the task's timeout",
    setup: withMsw(async () => {
      await delay('infinite');
      return HttpResponse.text('never');
    }, clients.fetch as Run),
    timeout: '4s',
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'vitest',
    name: 'a spy on fetch that answers after 2 s',
    setup: () => {
      const spy = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => {
        await new Promise((resolve) => setTimeout(resolve, 2_000));
        return new Response('mocked');
      });
      return { run: clients.fetch as Run, close: () => spy.mockRestore() };
    },
    expect: 'mocked',
    at: 2_000,
  },
  {
    library: 'fake timers',
    name: 'vi.useFakeTimers during a simulation',
    setup: () => ({
      run: async (_, ctx) => {
        vi.useFakeTimers();
        await ctx.sleep('1m');
      },
      close: () => vi.useRealTimers(),
    }),
    refused: fakeTimers,
    advice: 'Do not use other fake timers: a simulation has its own clock',
  },
  {
    library: 'fake timers',
    name: 'vi.useFakeTimers between two calls of the simulation',
    setup: () => ({ run: (_, ctx) => ctx.sleep('1m'), close: () => vi.useRealTimers() }),
    driver: async (drive) => {
      vi.useFakeTimers();
      await drive();
    },
    refused: fakeTimers,
  },
  {
    library: 'fake timers',
    name: 'mock.timers during a simulation',
    setup: () => ({
      run: async (_, ctx) => {
        mock.timers.enable({ apis: ['Date'] });
        await ctx.sleep('1m');
      },
      close: () => mock.timers.reset(),
    }),
    refused: fakeTimers,
  },
  {
    library: 'fake timers',
    name: 'mock.timers between two calls of the simulation',
    setup: () => ({ run: (_, ctx) => ctx.sleep('1m'), close: () => mock.timers.reset() }),
    driver: async (drive) => {
      mock.timers.enable({ apis: ['setTimeout', 'Date'] });
      await drive();
    },
    refused: fakeTimers,
  },
];
