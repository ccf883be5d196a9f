/** Clients of PostgreSQL and Redis: pools and connections at module level, and in the task. */
import { once } from 'node:events';
import { sql as raw } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { Redis } from 'ioredis';
import { Kysely, sql as kyselySql, PostgresDialect } from 'kysely';
import pg from 'pg';
import postgres from 'postgres';
import { createClient } from 'redis';
import type { Case, Prepared, Run } from '../case.ts';

const host = '127.0.0.1';
const connection = () => ({ host, port: Number(process.env.ESCAPEMENT_TEST_POSTGRES), user: 'postgres', database: 'postgres' });
const redisOptions = () => ({ host, port: Number(process.env.ESCAPEMENT_TEST_REDIS) });

/** A task with a pool that has an idle connection. */
const withPool =
  (run: (pool: pg.Pool) => Run, options: pg.PoolConfig = {}) =>
  async (): Promise<Prepared> => {
    const pool = new pg.Pool({ ...connection(), ...options });
    await pool.query('SELECT 1');
    return { run: run(pool), close: () => pool.end() };
  };

/** A task with its own connection. */
const withClient =
  (use: (client: pg.Client, ...args: Parameters<Run>) => Promise<unknown>, options: pg.ClientConfig = {}): Run =>
  async (...args) => {
    const client = new pg.Client({ ...connection(), ...options });
    await client.connect();
    try {
      return await use(client, ...args);
    } finally {
      await client.end();
    }
  };

const answer = async (on: pg.Pool | pg.ClientBase, query = 'SELECT 42 AS answer') => (await on.query(query)).rows[0].answer;

const pgCases: Case[] = [
  { library: 'pg', name: 'a query on a module-level pool', setup: withPool((pool) => () => answer(pool)), expect: 42 },
  {
    library: 'pg',
    name: 'a slow query',
    setup: withPool((pool) => () => answer(pool, 'SELECT pg_sleep(0.1), 42 AS answer')),
    expect: 42,
  },
  {
    library: 'pg',
    name: 'more concurrent queries than connections',
    setup: withPool((pool) => async () => (await Promise.all([1, 2, 3, 4].map((n) => answer(pool, `SELECT ${n} AS answer`)))).join(), {
      max: 2,
    }),
    expect: '1,2,3,4',
  },
  { library: 'pg', name: 'a client created in the task', run: withClient((client) => answer(client)), expect: 42 },
  {
    library: 'pg',
    name: 'a transaction',
    setup: withPool((pool) => async () => {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        await client.query('CREATE TEMPORARY TABLE note (text text) ON COMMIT DROP');
        await client.query("INSERT INTO note VALUES ('a note')");
        const text = await answer(client, 'SELECT text AS answer FROM note');
        await client.query('COMMIT');
        return text;
      } finally {
        client.release();
      }
    }),
    expect: 'a note',
  },
  {
    library: 'pg',
    name: 'a new pool with connectionTimeoutMillis and query_timeout',
    setup: () => {
      const pool = new pg.Pool({ ...connection(), connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
      return { run: () => answer(pool, 'SELECT pg_sleep(0.05), 42 AS answer'), close: () => pool.end() };
    },
    expect: 42,
  },
  {
    library: 'pg',
    name: 'statement_timeout of the server',
    setup: withPool((pool) => () => answer(pool, 'SELECT pg_sleep(5), 42 AS answer'), { statement_timeout: 50 }),
    fails: 'error: canceling statement due to statement timeout',
  },
  {
    library: 'pg',
    name: 'query_timeout, and a query that takes too long',
    run: withClient((client) => answer(client, 'SELECT pg_sleep(4), 42 AS answer'), { query_timeout: 2_000 }),
    never: true,
    fails: 'Error: Query read timeout',
    at: 2_000,
  },
  {
    library: 'pg',
    name: "a query that takes too long, ended at the task's timeout",
    run: withClient((client, _, ctx) => {
      ctx.signal.addEventListener('abort', () => void client.end());
      return answer(client, 'SELECT pg_sleep(6), 42 AS answer');
    }),
    timeout: '4s',
    never: true,
    fails: 'TimeoutError',
    at: 4_000,
  },
  {
    library: 'pg',
    name: 'LISTEN and NOTIFY',
    run: withClient(async (client) => {
      await client.query('LISTEN shop');
      const notified = once(client, 'notification');
      await client.query("NOTIFY shop, 'sold'");
      return (await notified)[0].payload;
    }),
    expect: 'sold',
  },
  {
    library: 'pg',
    name: 'queries between sleeps, while idle connections are closed',
    setup: withPool(
      (pool) => async (_, ctx) => {
        const first = await answer(pool);
        await ctx.sleep('2s');
        return [first, await answer(pool)];
      },
      { idleTimeoutMillis: 1_000 },
    ),
    expect: [42, 42],
    at: 2_000,
  },
];

const otherPostgresCases: Case[] = [
  {
    library: 'postgres',
    name: 'queries and a transaction at module level',
    setup: async () => {
      const sql = postgres({ ...connection(), max: 2, idle_timeout: 20, connect_timeout: 5 });
      await sql`SELECT 1`;
      const run = async () => {
        const [first] = await sql`SELECT 42 AS answer`;
        const [second] = await sql.begin((inside) => inside`SELECT pg_sleep(0.05), 43 AS answer`);
        return [first?.answer, second?.answer];
      };
      return { run, close: () => sql.end() };
    },
    expect: [42, 43],
    // It connects after a timer of 0 ms, which fires after 1 ms.
    between: [0, 1],
  },
  {
    library: 'postgres',
    name: 'a client created in the task',
    run: async () => {
      const sql = postgres({ ...connection(), max: 1 });
      const [row] = await sql`SELECT 42 AS answer`;
      await sql.end();
      return row?.answer;
    },
    expect: 42,
    at: 1,
  },
  {
    library: 'postgres',
    name: 'rows read with a cursor',
    setup: async () => {
      const sql = postgres({ ...connection(), max: 3 });
      await sql`SELECT 1`;
      const run = async () => {
        let rows = 0;
        for await (const batch of sql`SELECT * FROM generate_series(1, 25)`.cursor(10)) rows += batch.length;
        return rows;
      };
      return { run, close: () => sql.end() };
    },
    expect: 25,
    between: [0, 1],
  },
  {
    library: 'drizzle-orm',
    name: 'a query and a transaction on pg',
    setup: withPool((client) => async () => {
      const database = drizzle({ client });
      const { rows } = await database.transaction((inside) => inside.execute<{ answer: number }>(raw`SELECT pg_sleep(0.05), 42 AS answer`));
      return rows[0]?.answer;
    }),
    expect: 42,
  },
  {
    library: 'kysely',
    name: 'a query and a transaction on pg',
    setup: () => {
      const database = new Kysely<object>({ dialect: new PostgresDialect({ pool: new pg.Pool(connection()) }) });
      const query = kyselySql<{ answer: number }>`SELECT pg_sleep(0.05), 42 AS answer`;
      const run = () => database.transaction().execute(async (inside) => (await query.execute(inside)).rows[0]?.answer);
      return { run, close: () => database.destroy() };
    },
    expect: 42,
  },
];

/** A task with a connected client. */
const withRedis =
  (run: (redis: Redis) => Run, options: { commandTimeout?: number } = {}) =>
  async (): Promise<Prepared> => {
    const redis = new Redis({ ...redisOptions(), ...options });
    await redis.ping();
    return { run: run(redis), close: () => redis.disconnect() };
  };

const ioredisCases: Case[] = [
  {
    library: 'ioredis',
    name: 'fifty commands on a module-level client',
    setup: withRedis((redis) => async (_, ctx) => {
      for (let i = 0; i < 50; i++) await redis.set(ctx.id, String(i));
      return redis.get(ctx.id);
    }),
    expect: '49',
  },
  {
    library: 'ioredis',
    name: 'a client created in the task',
    run: async () => {
      const redis = new Redis(redisOptions());
      const reply = await redis.ping();
      await redis.quit();
      return reply;
    },
    expect: 'PONG',
  },
  {
    library: 'ioredis',
    name: 'a pipeline and a transaction',
    setup: withRedis((redis) => async (_, ctx) => {
      const piped = await redis.pipeline().set(ctx.id, '1').incr(ctx.id).exec();
      const multi = await redis.multi().incr(ctx.id).get(ctx.id).exec();
      return [...(piped ?? []), ...(multi ?? [])].map(([, value]) => value);
    }),
    expect: ['OK', 2, 3, '3'],
  },
  {
    library: 'ioredis',
    name: 'commandTimeout',
    setup: withRedis((redis) => () => redis.ping(), { commandTimeout: 5_000 }),
    expect: 'PONG',
  },
  {
    library: 'ioredis',
    name: 'commandTimeout, and a command that takes too long',
    run: async () => {
      const redis = new Redis({ ...redisOptions(), commandTimeout: 2_000 });
      try {
        return await redis.call('BLPOP', 'nothing', '4');
      } finally {
        redis.disconnect();
      }
    },
    never: true,
    fails: 'Error: Command timed out',
    at: 2_000,
  },
  {
    library: 'ioredis',
    name: 'BLPOP until its timeout',
    run: async () => {
      const redis = new Redis(redisOptions());
      const popped = await redis.blpop('nothing', 0.2);
      redis.disconnect();
      return popped;
    },
    expect: null,
  },
  {
    library: 'ioredis',
    name: 'publish and subscribe',
    setup: withRedis((redis) => async (_, ctx) => {
      const subscriber = redis.duplicate();
      await subscriber.subscribe(ctx.id);
      const received = once(subscriber, 'message');
      await redis.publish(ctx.id, 'sold');
      const [, message] = await received;
      subscriber.disconnect();
      return message;
    }),
    expect: 'sold',
  },
  {
    library: 'ioredis',
    name: 'a server that is down, and a retry after 1 s',
    run: async () => {
      const redis = new Redis({ host, port: 1, maxRetriesPerRequest: 1, retryStrategy: () => 1_000 });
      redis.on('error', () => {});
      try {
        return await redis.ping();
      } finally {
        redis.disconnect();
      }
    },
    fails: 'MaxRetriesPerRequestError',
    at: 1_000,
  },
];

const nodeRedisCases: Case[] = [
  {
    library: 'redis',
    name: 'fifty commands on a module-level client',
    setup: async () => {
      const redis = await createClient({ socket: redisOptions() }).connect();
      const run: Run = async (_, ctx) => {
        for (let i = 0; i < 50; i++) await redis.set(ctx.id, String(i));
        return redis.get(ctx.id);
      };
      return { run, close: () => redis.destroy() };
    },
    expect: '49',
  },
  {
    library: 'redis',
    name: 'a client created in the task',
    run: async () => {
      const redis = await createClient({ socket: redisOptions() }).connect();
      const reply = await redis.ping();
      await redis.close();
      return reply;
    },
    expect: 'PONG',
  },
  {
    library: 'redis',
    name: 'a transaction, and a blocking command',
    run: async (_, ctx) => {
      const redis = await createClient({ socket: redisOptions() }).connect();
      const multi = await redis.multi().set(ctx.id, '1').incr(ctx.id).exec();
      const popped = await redis.blPop('nothing', 0.1);
      redis.destroy();
      return [...multi, popped];
    },
    expect: ['OK', 2, null],
  },
];

export const databaseCases: Case[] = [
  ...[...pgCases, ...otherPostgresCases].map((one): Case => ({ ...one, needs: 'postgres' })),
  ...[...ioredisCases, ...nodeRedisCases].map((one): Case => ({ ...one, needs: 'redis' })),
];
