/** The clients that are tested with each HTTP mocking library. */
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import axios from 'axios';
import got from 'got';
import type { Run } from '../case.ts';

export const mockedUrl = 'http://shop.test/';

export const mockClients: Record<string, Run> = {
  fetch: async (_, ctx) => (await fetch(mockedUrl, { signal: ctx.signal })).text(),
  axios: async () => (await axios.get(mockedUrl, { timeout: 5_000 })).data,
  got: () => got(mockedUrl, { timeout: { request: 5_000 } }).text(),
  'node:http': async () => text((await once(http.get(mockedUrl), 'response'))[0] as IncomingMessage),
};
