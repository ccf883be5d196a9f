/** nock, which replaces fetch and node:http on import. */
import nock from 'nock';
import type { Case, Run } from '../case.ts';
import { mockClients as clients } from './mocked.ts';

/** Responds to each request with nock. */
const withNock = (prepare: (interceptor: nock.Interceptor) => nock.Interceptor, run: Run) => () => {
  prepare(nock('http://shop.test').persist().get('/')).reply(200, 'mocked');
  return {
    run,
    close: () => {
      nock.cleanAll();
      nock.restore();
      nock.activate();
    },
  };
};

export const nockCases: Case[] = [
  { library: 'nock', name: 'an immediate response', setup: withNock((interceptor) => interceptor, clients.fetch as Run), expect: 'mocked' },
  ...Object.entries(clients).map(([name, run]) => ({
    library: 'nock',
    name: `delay(2_000), with ${name}`,
    setup: withNock((interceptor) => interceptor.delay(2_000), run),
    expect: 'mocked',
    at: 2_000,
  })),
];
