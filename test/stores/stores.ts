/** The stores on which the suites run. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memory, type Store, type StoreSource } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { emptyPostgres } from './postgres-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
let files = 0;

export interface NamedSource extends StoreSource {
  readonly label: string;
}

/** The memory store with network latency: each call resolves a few turns of the event loop later. */
function later(store: Store): Store {
  const yieldToEventLoop = () => new Promise((resolve) => setImmediate(resolve));
  return new Proxy(store, {
    get(target, key) {
      const value = Reflect.get(target, key, target) as unknown;
      if (typeof value !== 'function' || key === 'listen') return typeof value === 'function' ? value.bind(target) : value;
      return async (...args: unknown[]) => {
        await yieldToEventLoop();
        const answer = (value as (...all: unknown[]) => unknown).apply(target, args);
        await yieldToEventLoop();
        return answer;
      };
    },
  });
}

const local: readonly NamedSource[] = [
  { ...memory(), label: 'memory' },
  { ...memory(), label: 'memory, answering later', open: async () => later(await memory().open()) },
  { ...sqlite({ file: ':memory:' }), label: 'sqlite in memory' },
  {
    ...sqlite({ file: 'placeholder' }),
    label: 'sqlite on a file',
    open: () => sqlite({ file: join(folder, `${++files}.db`), synchronous: 'NORMAL' }).open(),
  },
];

const server: NamedSource = { ...emptyPostgres(), label: 'postgres' };
const isPostgresAlone = Boolean(process.env.ESCAPEMENT_POSTGRES);

/** Every store of this package; with `npm run test:postgres`, only PostgreSQL. */
export const allStores: readonly NamedSource[] = isPostgresAlone ? [server] : [...local, server];

/** The stores for laws and scenarios: one of each kind; with `npm run test:long`, all. */
export const storesOfKinds: readonly NamedSource[] =
  isPostgresAlone || process.env.ESCAPEMENT_LONG ? allStores : allStores.filter(({ label }) => !/later|sqlite in memory/.test(label));

/** The stores for the larger suites: PostgreSQL only with `npm run test:postgres`. */
export const stores: readonly NamedSource[] = isPostgresAlone ? [server] : local;
