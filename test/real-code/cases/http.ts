/** HTTP clients, against servers outside of the process and in it. */
import type { Case } from '../case.ts';
import { outside } from '../outside.ts';

const text = async (path: string, init?: RequestInit) => (await fetch(outside.http(path), init)).text();

/** A connection that an earlier request left open, as in any process that has run for a while. */
const warm = (run: Case['run']) => async () => {
  await text('/quick');
  return { run: run as NonNullable<Case['run']> };
};

export const fetchCases: Case[] = [
  { library: 'fetch', name: 'a quick answer', run: () => text('/quick'), expect: 'quick' },
  { library: 'fetch', name: 'a slow answer', setup: warm(() => text('/slow-head')), expect: 'slow head' },
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
  {
    library: 'fetch',
    name: 'five requests at once',
    run: async () => (await Promise.all(Array.from({ length: 5 }, () => text('/random')))).length,
    expect: 5,
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
    name: 'ctx.signal, and a server that never answers',
    run: (_, ctx) => text('/never', { signal: ctx.signal }),
    timeout: '10s',
    never: true,
    fails: 'TimeoutError',
    at: 10_000,
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
    name: 'a promise that never settles, beside an idle connection',
    setup: warm(async () => {
      await text('/quick');
      await new Promise(() => {});
    }),
    timeout: '10s',
    fails: 'TimeoutError',
    at: 10_000,
  },
];
