/**
 * The helper thread of `../keeper.ts`. It connects only when the worker's thread is blocked. Leases are instants of the server's clock, so
 * the server computes when they end.
 */
import { isMainThread, workerData } from 'node:worker_threads';
import { systemClock } from '../../ports/clock.ts';
import { type KeeperData, keep, type Renewing } from '../keeping.ts';
import type { KeeperPlace } from './keeper-place.ts';
import { quoteName, quoteText } from './session.ts';

interface Client {
  connect(): Promise<unknown>;
  query(text: string): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'error', listener: () => void): unknown;
}

const answerWithinMs = 5_000;
const endWithinMs = 1_000;

function renewing({ place, worker, leaseMs }: KeeperData<KeeperPlace>): Renewing {
  const sql = renewal(place.schema, worker, leaseMs);
  let client: Client | undefined;
  const end = async () => {
    if (!client) return;
    const ending = client.end().catch(() => {});
    client = undefined;
    // A connection that fails to close must not delay the next renewal.
    await Promise.race([ending, new Promise<void>((resolve) => systemClock.after(endWithinMs, resolve))]);
  };
  return {
    async renew() {
      try {
        client ??= await connect(place.client);
        await client.query(sql);
      } catch (error) {
        await end();
        throw error;
      }
    },
    rest: end,
    close() {},
  };
}

async function connect(options: object): Promise<Client> {
  const { default: pg } = (await import('pg')) as unknown as { default: { Client: new (options: object) => Client } };
  const client = new pg.Client({
    ...options,
    connectionTimeoutMillis: answerWithinMs,
    query_timeout: answerWithinMs,
    fallback_application_name: 'escapement keeper',
  });
  client.on('error', () => {});
  await client.connect();
  return client;
}

/**
 * Does not renew leases that have ended, because another worker may have the job. Skips rows that are locked by a transaction of the
 * application that called `ctx.complete`. A single text leaves no state in the session.
 */
function renewal(schemaName: string, worker: string, leaseMs: number): string {
  const schema = quoteName(schemaName);
  return `BEGIN; SET LOCAL statement_timeout = ${answerWithinMs}; SET LOCAL enable_seqscan = off;
    WITH server AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now),
    mine AS (
      SELECT j.id FROM ${schema}.jobs j WHERE j.state = 'running' AND j.last_worker = ${quoteText(worker)}
        AND j.lease_until BETWEEN (SELECT now FROM server) AND (SELECT now FROM server) + ${leaseMs}
      ORDER BY j.id FOR UPDATE SKIP LOCKED
    ) UPDATE ${schema}.jobs j SET lease_until = (SELECT now FROM server) + ${leaseMs} FROM mine WHERE j.id = mine.id; COMMIT`;
}

const data = workerData as KeeperData<KeeperPlace> | null;
if (!isMainThread && data?.state) void keep(data, renewing(data));
