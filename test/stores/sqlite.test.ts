/** Behaviour specific to files: joining the application's transactions, sharing, damage, a full disk. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { drizzle } from 'drizzle-orm/better-sqlite3';
import { createTasks, type Store, StoreError, type Tasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';
import { Kysely, SqliteDialect } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Claims } from '../../src/stores/sqlite/claims.ts';
import { selectCounts } from '../../src/stores/sqlite/counts.ts';
import { migrate, migrations } from '../../src/stores/sqlite/schema.ts';
import { Watch } from '../../src/stores/sqlite/watch.ts';
import { Work } from '../../src/stores/sqlite/work.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
let file: string;
let db: Database.Database;
let tasks: Tasks;

beforeEach(() => {
  file = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'app.db');
  db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE users (id TEXT PRIMARY KEY)');
  tasks = createTasks({ backend: sqlite({ database: db }), logger: quiet });
});
afterEach(async () => {
  await tasks.close();
  if (db.open) db.close();
});

describe("enqueue in the caller's transaction", () => {
  const define = () => tasks.define('mail', (input: { user: string }) => `sent to ${input.user}`);
  const insertUser = (id: string) => db.prepare('INSERT INTO users VALUES (?)').run(id);

  test('creates one job if it commits, and none if it rolls back', async () => {
    const mail = define();
    await tasks.open();
    const signUp = db.transaction((id: string, fails: boolean) => {
      insertUser(id);
      const result = mail.enqueue({ user: id }, { transaction: db });
      expect(result.status).toBe('ready');
      if (fails) throw new Error('no');
      return result.id;
    });
    expect(() => signUp.immediate('ada', true)).toThrow('no');
    expect((await tasks.jobs.list()).items).toEqual([]);
    expect((await tasks.queues.list()).length).toBe(0);
    const id = signUp.immediate('ada', false);
    expect((await tasks.getResult(id)).input).toEqual({ user: 'ada' });
    expect(db.prepare('SELECT count(*) AS n FROM users').get()).toEqual({ n: 1 });
    expect((await tasks.queues.list())[0]?.counts.ready).toBe(1);
  });

  test('is seen by a worker on another connection after the commit', async () => {
    const mail = define();
    const worker = tasks.worker();
    await worker.start();
    const result = db.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: db })).immediate();
    await result.wait({ timeout: '60s' });
    expect(result.returnValue).toBe('sent to ada');
  });

  test('accepts many jobs, through Drizzle and Kysely', async () => {
    const mail = define();
    await tasks.open();
    const orm = drizzle({ client: db });
    const ids = orm.transaction(() => mail.enqueueMany([{ user: 'a' }, { user: 'b' }], { transaction: db }).map(({ id }) => id), {
      behavior: 'immediate',
    });
    expect(ids).toHaveLength(2);
    const kysely = new Kysely<{ users: { id: string } }>({ dialect: new SqliteDialect({ database: db }) });
    await kysely.transaction().execute(async (trx) => {
      await trx.insertInto('users').values({ id: 'c' }).execute();
      mail.enqueue({ user: 'c' }, { transaction: db });
    });
    await expect(
      kysely.transaction().execute(async () => {
        mail.enqueue({ user: 'd' }, { transaction: db });
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect((await tasks.jobs.list()).items.map(({ input }) => (input as { user: string }).user).sort()).toEqual(['a', 'b', 'c']);
  });

  test('rejects invalid uses, and says what to do', async () => {
    const mail = define();
    expect(() => db.transaction(() => mail.enqueue({ user: 'a' }, { transaction: db })).immediate()).toThrow(/tasks\.open\(\)/);
    await tasks.open();
    expect(() => mail.enqueue({ user: 'a' }, { transaction: db })).toThrow(/no open transaction/);
    expect(() => mail.enqueue({ user: 1n as never }, { transaction: db })).toThrow(/no open transaction|BigInt/);
    const other = new Database(':memory:');
    expect(() => other.transaction(() => mail.enqueue({ user: 'a' }, { transaction: other }))()).toThrow(/the same file/);
    expect(() => mail.enqueue({ user: 'a' }, { transaction: {} as never })).toThrow(/better-sqlite3 database/);
  });

  test('succeeds as the first statement of a deferred transaction while others write', async () => {
    const mail = define();
    await tasks.open();
    const other = new Database(file);
    const late = new Database(file, { timeout: 0 });
    // Another connection commits before each statement that the store prepares on the handle, up to the one that takes the lock.
    const { prepare } = late;
    let writes = 0;
    let locks = false;
    late.prepare = ((sql: string) => {
      if (!locks) other.prepare('INSERT INTO users VALUES (?)').run(`other-${writes++}`);
      locks ||= sql.startsWith('DELETE');
      return prepare.call(late, sql);
    }) as typeof prepare;
    const result = late.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: late })).deferred();
    expect({ writes, locks }).toEqual({ writes: 2, locks: true });
    expect((await tasks.getResult(result.id)).input).toEqual({ user: 'ada' });
    late.prepare = prepare;
    const refused = (fn: () => unknown) => {
      try {
        return fn();
      } catch (error) {
        return error;
      }
    };
    const readFirst = late.transaction(() => {
      late.prepare('SELECT count(*) FROM users').get();
      insertUser('eve');
      mail.enqueue({ user: 'eve' }, { transaction: late });
    });
    expect(refused(() => readFirst.deferred())).toMatchObject({ kind: 'busy', message: expect.stringMatching(/\.immediate\(\)/) });
    other.exec('BEGIN IMMEDIATE');
    expect(refused(() => late.transaction(() => mail.enqueue({ user: 'x' }, { transaction: late })).deferred())).toMatchObject({
      kind: 'busy',
      message: expect.not.stringMatching(/too long/),
    });
    for (const one of [other, late]) one.close();
  });

  test('recognizes the same file by another name', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
    symlinkSync(file, join(folder, 'link.db'));
    const before = process.cwd();
    try {
      process.chdir(dirname(file));
      const relative = new Database('./app.db');
      const own = createTasks({ backend: sqlite({ file: 'app.db' }), logger: quiet });
      const linked = createTasks({ backend: sqlite({ file: join(folder, 'link.db') }), logger: quiet });
      process.chdir(folder);
      for (const app of [own, linked]) {
        const mail = app.define('mail', (_: { user: string }) => {});
        await app.open();
        for (const handle of [relative, db]) {
          const result = handle.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: handle })).immediate();
          expect((await tasks.getResult(result.id).catch(() => undefined)) ?? (await app.getResult(result.id))).toBeDefined();
        }
        await app.close();
      }
      relative.close();
      expect(readdirSync(folder)).toEqual(['link.db']);
    } finally {
      process.chdir(before);
    }
    define();
    expect((await tasks.jobs.list()).items).toHaveLength(4);
  });

  test('wakes a worker that opened the file through a link', async () => {
    const link = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'link.db');
    symlinkSync(file, link);
    await tasks.open();
    const store = sqlite({ file: link }).open() as Store;
    await store.migrate();
    const hinted = new Promise<unknown>((resolve) => store.listen?.(resolve));
    await define().enqueue({ user: 'ada' });
    expect(await hinted).toEqual({});
    await store.close();
  });

  test('works with a handle that returns BigInts', async () => {
    const mail = define();
    await tasks.open();
    db.defaultSafeIntegers(true);
    const result = db.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: db })).immediate();
    expect((await tasks.getResult(result.id)).status).toBe('ready');
    const memory = new Database(':memory:');
    memory.defaultSafeIntegers(true);
    const own = createTasks({ backend: sqlite({ database: memory }), logger: quiet });
    const job = own.define('job', (n: number) => n + 1);
    await own.worker().start();
    const other = await job.enqueue(1);
    await other.wait({ timeout: '60s' });
    expect(other.returnValue).toBe(2);
    await own.close();
  });

  test('warns once about a handle that is less durable than the store', async () => {
    const mail = define();
    await tasks.open();
    const codes: unknown[] = [];
    const listen = (warning: Error & { code?: string }) => void codes.push(warning.code);
    process.on('warning', listen);
    const durable = new Database(file);
    durable.pragma('synchronous = FULL');
    for (const handle of [durable, db, db]) handle.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: handle })).immediate();
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    durable.close();
    expect(codes).toEqual(['ESCAPEMENT_SYNCHRONOUS']);
  });

  test("works in virtual time, on the application's handle", async () => {
    const memory = new Database(':memory:');
    const mail = define();
    await using sim = await simulate(tasks, { store: sqlite({ database: memory }) });
    const result = memory.transaction(() => mail.enqueue({ user: 'ada' }, { transaction: memory })).immediate();
    await sim.runUntilIdle();
    expect((await result.refresh()).returnValue).toBe('sent to ada');
  });
});

describe("completion in the caller's transaction", () => {
  const charged = () => (db.prepare('SELECT count(*) AS n FROM users').get() as { n: number }).n;

  test('the effect and the outcome commit together', async () => {
    const pay = tasks.define('pay', (id: string, context) => {
      db.transaction(() => {
        db.prepare('INSERT INTO users VALUES (?)').run(id);
        context.complete(`paid ${id}`, { transaction: db });
      }).immediate();
      throw new Error('what comes after counts for nothing');
    });
    const events: string[] = [];
    tasks.on('successful', ({ job }) => events.push(job.task));
    await tasks.worker().start();
    const result = await pay.enqueue('ada');
    await result.wait({ timeout: '60s' });
    expect(result).toMatchObject({ status: 'successful', returnValue: 'paid ada', attempts: 1, errors: [] });
    expect(charged()).toBe(1);
    await expect.poll(() => events).toEqual(['pay']);
  });

  test('neither commits if the transaction fails, and the attempt fails', async () => {
    const pay = tasks.define('pay', {
      retry: { maxAttempts: 1 },
      run: (id: string, context) => {
        try {
          db.transaction(() => {
            db.prepare('INSERT INTO users VALUES (?)').run(id);
            context.complete('paid', { transaction: db });
            throw new Error('no');
          }).immediate();
        } catch {
          return 'never mind';
        }
        return 'paid';
      },
    });
    await tasks.worker().start();
    const result = await pay.enqueue('ada');
    await result.wait({ timeout: '60s' });
    expect(result.status).toBe('failed');
    expect(result.errors[0]?.message).toMatch(/did not commit/);
    expect(charged()).toBe(0);
  });

  test('a worker that was fenced off fails its transaction', async () => {
    const memory = new Database(':memory:');
    memory.exec('CREATE TABLE charges (id TEXT)');
    const pay = tasks.define('pay', async (id: string, context) => {
      await new Promise((resolve) => setTimeout(resolve, 10_000));
      memory
        .transaction(() => {
          memory.prepare('INSERT INTO charges VALUES (?)').run(id);
          context.complete('paid', { transaction: memory });
        })
        .immediate();
    });
    await using sim = await simulate(tasks, { store: sqlite({ database: memory }), workers: 2 });
    const result = await pay.enqueue('ada');
    await sim.advance('1s');
    sim.worker(0).pauseFor('2m');
    await sim.runUntilIdle();
    await sim.advance('5m');
    expect((await result.refresh()).status).toBe('successful');
    expect(memory.prepare('SELECT count(*) AS n FROM charges').get()).toEqual({ n: 1 });
  });
});

describe('opening', () => {
  const openFile = async (path: string) => {
    const own = createTasks({ backend: sqlite({ file: path }), logger: quiet });
    try {
      await own.open();
    } finally {
      await own.close();
    }
  };

  test('happens on first use', () => {
    createTasks({ backend: sqlite({ file: '/nowhere/at/all.db' }) });
  });

  test.each<[string, () => string, RegExp]>([
    ['a missing folder', () => '/nowhere/at/all.db', /folder \/nowhere\/at does not exist/],
    [
      'a file that is not a database',
      () => {
        const path = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'text.db');
        writeFileSync(path, 'only text, and rather more of it than a header has '.repeat(100));
        return path;
      },
      /not a SQLite database/,
    ],
    [
      'a newer schema',
      () => {
        db.exec(
          "CREATE TABLE escapement_migrations (version INTEGER PRIMARY KEY NOT NULL, checksum TEXT NOT NULL) STRICT; INSERT INTO escapement_migrations VALUES (1, 'x'), (2, 'y'), (3, 'w'), (99, 'z')",
        );
        return file;
      },
      /a newer version has opened it/,
    ],
    [
      'a changed migration',
      () => {
        db.exec(
          "CREATE TABLE escapement_migrations (version INTEGER PRIMARY KEY NOT NULL, checksum TEXT NOT NULL) STRICT; INSERT INTO escapement_migrations VALUES (1, 'x')",
        );
        return file;
      },
      /does not match this version/,
    ],
    [
      'a schema with a gap',
      () => {
        db.exec(
          "CREATE TABLE escapement_migrations (version INTEGER PRIMARY KEY NOT NULL, checksum TEXT NOT NULL) STRICT; INSERT INTO escapement_migrations VALUES (2, 'x')",
        );
        return file;
      },
      /migration 1 of the database does not match/,
    ],
    ['a folder', () => dirname(file), /is a folder; specify a file in it/],
  ])('rejects %s, with the reason', async (_, path, message) => {
    const refused = await openFile(path()).catch((error) => error);
    expect(refused).toBeInstanceOf(StoreError);
    expect(refused.message).toMatch(message);
  });

  test.runIf(process.getuid?.() !== 0)('rejects a read-only folder', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
    chmodSync(folder, 0o500);
    await expect(openFile(join(folder, 'a.db'))).rejects.toThrow(/cannot be written/);
  });

  test.runIf(process.getuid?.() !== 0)('rejects a read-only file', async () => {
    chmodSync(file, 0o400);
    const error = await openFile(file).catch((reason) => reason);
    expect(error).toMatchObject({ kind: 'readonly', message: expect.stringMatching(/cannot be written/) });
  });

  test('takes no lock if the tables exist', async () => {
    await openFile(file);
    db.exec('BEGIN IMMEDIATE');
    await openFile(file);
    const reader = createTasks({ backend: sqlite({ file }), logger: quiet });
    expect((await reader.jobs.list()).items).toEqual([]);
    expect(await reader.queues.list()).toEqual([]);
    db.exec('ROLLBACK');
    await reader.close();
  });

  test('names a newer schema that appears at run time', async () => {
    await tasks.open();
    db.exec("ALTER TABLE escapement_jobs RENAME TO escapement_work; INSERT INTO escapement_migrations VALUES (99, 'x')");
    const job = tasks.define('job', (_: number) => {});
    for (const refused of [job.enqueue(1), tasks.jobs.list()]) {
      await expect(refused).rejects.toMatchObject({ kind: 'newer', message: expect.stringMatching(/a newer version/) });
    }
  });

  test('rejects a closed database in the options', () => {
    db.close();
    expect(() => sqlite({ database: db })).toThrow(/an open better-sqlite3 database/);
  });

  test.each<[string, object]>([
    ['neither file nor database', {}],
    ['both', { file: 'a.db', database: {} }],
    ['an unknown option', { file: 'a.db', fiel: 'b' }],
    ['an invalid mode', { file: 'a.db', synchronous: 'OFF' }],
  ])('rejects %s in the options', (_, options) => {
    expect(() => sqlite(options as never)).toThrow(/sqlite\(\)/);
  });
});

test('a full disk fails the enqueue with its code, stores nothing, and is recoverable', async () => {
  // The limit applies to a connection, and an in-memory database shares its only one with the engine.
  const memory = new Database(':memory:');
  const small = createTasks({ backend: sqlite({ database: memory }), logger: quiet });
  const job = small.define('job', (_: string) => {});
  await small.open();
  memory.pragma(`max_page_count = ${(memory.pragma('page_count', { simple: true }) as number) + 5}`);
  await expect(job.enqueueMany(Array.from({ length: 100 }, () => 'x'.repeat(10_000)))).rejects.toMatchObject({
    kind: 'full',
    transient: true,
  });
  expect((await small.jobs.list()).items).toEqual([]);
  expect((await small.queues.list()).length).toBe(0);
  memory.pragma('max_page_count = 100000');
  expect((await job.enqueueMany(['a', 'b'])).length).toBe(2);
  expect((await small.queues.list())[0]?.counts.ready).toBe(2);
  await small.close();
});

/** The number of commits that `fn` causes. */
const commitsOf = async (fn: () => Promise<unknown>) => {
  const statements = Object.getPrototypeOf(db.prepare('SELECT 1')) as Database.Statement;
  const { run } = statements;
  let commits = 0;
  statements.run = function (this: Database.Statement, ...values: unknown[]) {
    if (this.source === 'COMMIT') commits += 1;
    return run.apply(this, values);
  };
  try {
    await fn();
  } finally {
    statements.run = run;
  }
  return commits;
};

describe('enqueues of one tick', () => {
  test('share a transaction', async () => {
    const job = tasks.define('job', (_: number) => {});
    await tasks.open();
    expect(await commitsOf(() => Promise.all(Array.from({ length: 500 }, (_, i) => job.enqueue(i))))).toBe(1);
    expect((await tasks.queues.list())[0]?.counts.ready).toBe(500);
  });

  test('are committed when the application closes without awaiting them', async () => {
    const job = tasks.define('job', (_: number) => {});
    await tasks.open();
    const all: Promise<unknown>[] = [];
    // One of them waits for a turn of the event loop.
    for (let i = 0; i < 40; i++) {
      all.push(job.enqueue(i));
      await null;
    }
    const closed = tasks.close();
    await Promise.all([...all, closed]);
    expect(db.prepare('SELECT count(*) AS n FROM escapement_jobs').get()).toEqual({ n: 40 });
  });

  test('fail separately', async () => {
    const job = tasks.define('job', (n: number) => n);
    await tasks.open();
    db.exec(
      "CREATE TRIGGER refuse BEFORE INSERT ON escapement_jobs WHEN NEW.input IN ('3', '7') BEGIN SELECT raise(ABORT, 'not this one'); END",
    );
    const enqueue = (i: number) => (i === 7 ? job.enqueueMany([70, 7]) : job.enqueue(i));
    let outcomes: PromiseSettledResult<unknown>[] = [];
    const commits = await commitsOf(async () => {
      outcomes = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => enqueue(i)));
    });
    expect(commits).toBe(1);
    expect(outcomes.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))).toEqual([3, 7]);
    expect(outcomes[3]).toMatchObject({
      reason: { code: 'ESCAPEMENT_STORE', kind: 'invalid', message: expect.stringMatching(/not this one/) },
    });
    expect((await tasks.jobs.list()).items.map(({ input }) => input).sort()).toEqual([0, 1, 2, 4, 5, 6, 8, 9]);
    expect((await tasks.queues.list())[0]?.counts.ready).toBe(8);
  });

  test('fail together, in call order, when the lock is held for too long; reads do not wait', async () => {
    const job = tasks.define('job', (_: number) => {});
    await tasks.open();
    db.exec('BEGIN IMMEDIATE');
    const order: string[] = [];
    const failed = (name: string, enqueue: Promise<unknown>) =>
      enqueue.then(
        () => expect.unreachable(),
        (error) => {
          expect(error).toMatchObject({ kind: 'busy', transient: true });
          order.push(name);
        },
      );
    const first = Array.from({ length: 4 }, (_, i) => failed('first', job.enqueue(i)));
    // From another tick.
    for (let turns = 0; turns < 100; turns++) await new Promise(setImmediate);
    const second = failed('second', job.enqueue(5));
    await tasks.queues.list();
    await tasks.jobs.list();
    order.push('read');
    await Promise.all([...first, second]);
    expect(order).toEqual(['read', 'first', 'first', 'first', 'first', 'second']);
    db.exec('ROLLBACK');
    expect((await tasks.jobs.list()).items).toEqual([]);
    await job.enqueue(6);
  });
});

test('a job with damaged input fails with the reason, and the next job runs', async () => {
  const job = tasks.define('job', (input: string) => input);
  await tasks.open();
  const bad = await job.enqueue('bad');
  const good = await job.enqueue('good');
  db.prepare("UPDATE escapement_jobs SET input = '{half' WHERE id = ?").run(bad.id);
  await tasks.worker().start();
  await good.wait({ timeout: '60s' });
  await bad.wait({ timeout: '60s' });
  expect(good.returnValue).toBe('good');
  expect(db.prepare('SELECT state, last_error FROM escapement_jobs WHERE id = ?').get(bad.id)).toMatchObject({
    state: 'failed',
    last_error: expect.stringContaining('not valid JSON'),
  });
});

describe('damaged rows', () => {
  const damage = (column: string, id: string, text = '{half') =>
    db.prepare(`UPDATE escapement_jobs SET ${column} = ? WHERE id = ?`).run(text, id);

  test.each([
    ['tags', '{half'],
    ['tags', '"mail"'],
    ['metadata', '{half'],
    ['metadata', '7'],
    ['overrides', '{half'],
    ['overrides', '{"backoff":{"kind":"list"}}'],
    ['overrides', '{"retention":{"failedMs":"1h"}}'],
    ['progress', '{half'],
    ['progress', '[]'],
  ])('a job whose %s are %s fails with the reason, is listed, and the next one runs', async (column, text) => {
    const job = tasks.define('job', { tags: ['t'], run: (input: string) => input });
    await tasks.open();
    const bad = await job.using({ tags: ['t'], metadata: { a: 1 } }).enqueue('bad');
    const good = await job.enqueue('good');
    damage(column, bad.id, text);
    expect((await tasks.jobs.list()).items).toHaveLength(2);
    expect((await tasks.jobs.list({ tag: 't' })).items.length).toBeGreaterThanOrEqual(1);
    const warned = new Promise<Error & { code?: string }>((resolve) => process.once('warning', resolve));
    await tasks.worker({ concurrency: 1 }).start();
    await good.wait({ timeout: '60s' });
    await bad.wait({ timeout: '60s' });
    expect(good.returnValue).toBe('good');
    expect(bad).toMatchObject({ status: 'failed', attempts: 1 });
    expect(bad.errors.map(({ message }) => message)).toEqual([expect.stringMatching(new RegExp(`job ${bad.id} .* in ${column};`))]);
    expect(await warned).toMatchObject({ code: 'ESCAPEMENT_UNREADABLE_JOB' });
    expect((await tasks.queues.list())[0]?.counts).toMatchObject({ successful: 1, failed: 1, running: 0, ready: 0 });
  });

  test('a job that is damaged while it runs, is overdue or is being cancelled blocks no other job', async () => {
    const job = tasks.define('job', (input: string) => {
      damage('tags', result.id);
      return input;
    });
    await tasks.open();
    const result = await job.enqueue('a');
    const [expired, unwanted] = [await job.using({ expires: 1 }).enqueue('b'), await job.using({ runAfter: '1h' }).enqueue('c')];
    for (const { id } of [expired, unwanted]) damage('metadata', id);
    await tasks.worker().start();
    await result.wait({ timeout: '60s' });
    await expired.wait({ timeout: '60s' });
    expect([result.status, expired.status]).toEqual(['successful', expect.stringMatching(/cancelled|failed/)]);
    expect(await tasks.jobs.cancel({ status: 'scheduled' })).toBe(1);
  });

  test('an unreadable error record is reported as such, and the others are kept', async () => {
    const job = tasks.define('job', {
      retry: { maxAttempts: 3, backoff: 1 },
      run: () => {
        throw new Error('no');
      },
    });
    await tasks.open();
    await tasks.worker().start();
    const result = await job.enqueue();
    await result.wait({ timeout: '60s' });
    damage('last_error', result.id);
    db.prepare("UPDATE escapement_attempts SET error = '5' WHERE claim = 1").run();
    await result.refresh();
    const unreadable = expect.stringMatching(/cannot be read/);
    expect(result.errors.map(({ message }) => message)).toEqual([unreadable, 'no', unreadable]);
    expect(await tasks.jobs.retry()).toBe(1);
    await expect.poll(async () => (await result.refresh()).status).toBe('failed');
  });

  test('an unreadable worker entry is skipped', async () => {
    await tasks.worker().start();
    await expect.poll(async () => (await tasks.workers.list()).length).toBe(1);
    db.exec("INSERT INTO escapement_workers VALUES ('a', 1, 99999999999999, '{half'), ('b', 1, 99999999999999, '{}')");
    expect(await tasks.workers.list()).toHaveLength(1);
  });
});

test('claims read the ready jobs through their index, with and without ANALYZE', async () => {
  await tasks.open();
  const insert = db.prepare(
    `INSERT INTO escapement_jobs (id, task, queue, state, priority, due_at, enqueued_at, attempt, max_attempts, claim, losses)
     VALUES (?, 'job', 'default', ?, 0, ?, 0, 0, 1, 0, 0)`,
  );
  db.transaction(() => {
    for (let i = 0; i < 6_000; i++) insert.run(`future-${i}`, 'scheduled', 1e12 + i);
    for (let i = 0; i < 100; i++) insert.run(`ready-${i}`, 'ready', i);
  }).immediate();
  for (let analysed = 0; analysed < 2; analysed++) {
    const plan = db
      .prepare<[string, number, number, number], { detail: string }>(`EXPLAIN QUERY PLAN ${Claims.sql(['job', 'other'])}`)
      .all('default', 1e11, 1e11, 100);
    expect(plan.map(({ detail }) => detail)).toEqual([
      'SEARCH escapement_jobs USING INDEX escapement_ready (queue=?)',
      'SCALAR SUBQUERY 1',
      'SCAN CONSTANT ROW',
    ]);
    db.exec('ANALYZE');
  }
});

test('no limit is a bound parameter visible to the planner, which would prepare the statement again on every call', () => {
  const folder = join(import.meta.dirname, '../../src/stores/sqlite');
  const limits = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').match(/LIMIT [^\s`')]+/g) ?? []);
  expect(limits.length).toBeGreaterThan(10);
  expect(limits.filter((limit) => /^LIMIT [?:]/.test(limit))).toEqual([]);
});

test('creating all tables at once produces the same schema as the migrations, beside other tables', () => {
  const made = (create: (own: Database.Database) => void) => {
    const own = new Database(':memory:');
    own.exec('CREATE TABLE users (name TEXT)');
    create(own);
    const tables = own.prepare("SELECT name, sql FROM sqlite_schema WHERE name <> 'escapement_migrations' ORDER BY name").all();
    own.close();
    return tables;
  };
  const expected = made((own) => own.exec(migrations.join(';')));
  expect(expected.length).toBeGreaterThan(20);
  for (let i = 0; i < 2; i++) expect(made(migrate)).toEqual(expected);
});

test('pruning uses an index, however many jobs have a longer retention', async () => {
  await tasks.open();
  const insert = db.prepare(
    `INSERT INTO escapement_jobs (id, task, queue, state, priority, due_at, enqueued_at, attempt, max_attempts, claim, losses, finished_at, prune_at)
     VALUES (?, 'job', 'default', 'failed', 0, 0, 0, 0, 1, 1, 0, ?, ?)`,
  );
  db.transaction(() => {
    for (let i = 0; i < 2_000; i++) insert.run(`kept-${i}`, i, 1e15);
    for (let i = 0; i < 2_000; i++) insert.run(`plain-${i}`, i, null);
  }).immediate();
  const { finished } = new Work(db, { readyUntil: 0 }).statements;
  const values = { status: 'failed', before: 100, limit: 10 };
  for (let analysed = 0; analysed < 2; analysed++) {
    const plan = (sql: string) =>
      db
        .prepare<[object], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
        .all(values)
        .flatMap(({ detail }) => (/escapement_jobs|\bj\b|B-TREE/.test(detail) ? [detail] : []));
    // A sort would read all rows that are old enough, not only those that are deleted.
    const byIndex = (index: string, terms: string) => expect.stringMatching(new RegExp(`^SEARCH j USING INDEX ${index} \\(${terms}`));
    const left = byIndex('escapement_finished', String.raw`state=\? AND prune_at=\? AND .*finished_at<\?`);
    expect(plan(finished.left.source)).toEqual([left]);
    expect(plan(finished.only.source)).toEqual([byIndex('escapement_finished', String.raw`state=\? AND prune_at<\?`)]);
    const own = byIndex('escapement_own_retention', String.raw`state=\? AND .*finished_at<\?`);
    expect(plan(finished.both.source)).toEqual(expect.arrayContaining([left, own]));
    db.exec('ANALYZE');
  }
});

test('empty queues do not slow claims down, and are removed with their last jobs', async () => {
  const job = tasks.define('job', (_: number) => {});
  await tasks.open();
  for (let i = 0; i < 500; i++) await job.using({ queue: `tenant-${i}` }).enqueue(i);
  let prepared = 0;
  const { prepare } = Database.prototype;
  Database.prototype.prepare = function (this: Database.Database, sql: string) {
    prepared += 1;
    return prepare.call(this, sql);
  } as typeof prepare;
  const worker = tasks.worker({ concurrency: 100 });
  await worker.start();
  await expect.poll(() => db.prepare("SELECT count(*) AS n FROM escapement_jobs WHERE state = 'successful'").get()).toEqual({ n: 500 });
  await worker.stop();
  Database.prototype.prepare = prepare;
  expect(prepared).toBeLessThan(100);
  const own = sqlite({ file }).open() as Store;
  await own.migrate();
  let run = 0;
  const { get, all } = Object.getPrototypeOf(db.prepare('SELECT 1')) as Record<'get' | 'all', (...values: unknown[]) => unknown>;
  const statements = Object.getPrototypeOf(db.prepare('SELECT 1'));
  const counted = (call: (...values: unknown[]) => unknown) =>
    function (this: unknown, ...values: unknown[]) {
      run += 1;
      return call.apply(this, values);
    };
  Object.assign(statements, { get: counted(get), all: counted(all) });
  await own.claim({ worker: 'w', limit: 10, leaseUntil: Date.now() + 1_000, tasks: ['job'], now: Date.now() });
  Object.assign(statements, { get, all });
  // Not one per queue of the 500; `bench/scale.ts` has the times.
  expect(run).toBeLessThan(20);
  await own.close();
  expect(await tasks.jobs.prune({ olderThan: 0 })).toBe(500);
  expect(db.prepare('SELECT count(*) AS n FROM escapement_counts').get()).toEqual({ n: 0 });
  expect(db.prepare('SELECT count(*) AS n FROM escapement_queues').get()).toEqual({ n: 0 });
});

test('a claim with thousands of queues reads the first job of each', async () => {
  const job = tasks.define('job', (_: number) => {});
  await tasks.open();
  await Promise.all(Array.from({ length: 3_000 }, (_, i) => job.using({ queue: `tenant-${i}` }).enqueue(i)));
  const own = sqlite({ file }).open() as Store;
  await own.migrate();
  const names = ['job'];
  const take = () => own.claim({ worker: 'w', limit: 5, leaseUntil: Date.now() + 30_000, tasks: names, now: Date.now() });
  await take();
  const inputs: (string | null)[] = [];
  for (let i = 0; i < 10; i++) inputs.push(...(await take()).map(({ input }) => input));
  expect(inputs).toEqual(Array.from({ length: 50 }, (_, i) => String(i + 5)));
  await own.close();
});

test('jobs that become due together are made ready in batches', async () => {
  const job = tasks.define('job', (_: number) => {});
  const soon = Date.now() + 3_600_000;
  const later = job.using({ runAfter: new Date(soon) });
  for (let i = 0; i < 5; i++) await later.enqueueMany(Array.from({ length: 1_000 }, (_, n) => n));
  const own = sqlite({ file }).open() as Store;
  await own.migrate();
  const now = soon + 1;
  expect((await own.stats({ now }))[0]).toMatchObject({ counts: { scheduled: 0, ready: 5_000 }, oldestReadyAt: soon });
  const states = () => db.prepare('SELECT state, count(*) AS n FROM escapement_jobs GROUP BY state ORDER BY state').all();
  await own.claim({ worker: 'w', limit: 10, leaseUntil: now + 30_000, tasks: ['job'], now });
  expect(states()).toEqual([
    { state: 'ready', n: 990 },
    { state: 'running', n: 10 },
    { state: 'scheduled', n: 4_000 },
  ]);
  expect((await own.stats({ now }))[0]?.counts).toMatchObject({ scheduled: 0, ready: 4_990, running: 10 });
  await own.close();
});

test('the event loop keeps turning during thousands of awaited enqueues, cancels and prunes', async () => {
  const job = tasks.define('job', (_: number) => {});
  await tasks.open();
  let turns = 0;
  let counting = true;
  const count = () => {
    turns += 1;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const turnsOf = async (fn: () => Promise<unknown>) => {
    const before = turns;
    await fn();
    return turns - before;
  };
  const sequential = async () => {
    for (let i = 0; i < 1_000; i++) await job.enqueue(i);
  };
  expect(await turnsOf(sequential)).toBeGreaterThanOrEqual(30);
  for (let i = 0; i < 4; i++) await job.enqueueMany(Array.from({ length: 1_000 }, (_, n) => n));
  expect(await turnsOf(() => tasks.jobs.cancel())).toBeGreaterThanOrEqual(9);
  expect(await turnsOf(() => tasks.jobs.prune({ olderThan: 0 }))).toBeGreaterThanOrEqual(4);
  counting = false;
});

test('a pruning transaction deletes fewer rows if they are large', async () => {
  const job = tasks.define('job', (input: string) => input);
  const prunes = async (rows: number, size: number) => {
    await job.enqueueMany(Array.from({ length: rows }, () => 'x'.repeat(size)));
    await tasks.jobs.cancel();
    const cancelledAt = Date.now();
    await expect.poll(() => Date.now(), { interval: 1 }).toBeGreaterThan(cancelledAt);
    return commitsOf(async () => expect(await tasks.jobs.prune({ olderThan: 0, status: 'cancelled' })).toBe(rows));
  };
  expect(await prunes(900, 100)).toBe(1);
  expect(await prunes(200, 100_000)).toBeGreaterThanOrEqual(5);
});

test('the commits of another connection are noticed while this one commits continuously, and afterwards', async () => {
  await tasks.open();
  const own = new Database(file);
  let noticed = Promise.withResolvers<void>();
  const watch = new Watch(file, own, () => noticed.resolve());
  let isBusy = true;
  const commitContinuously = () => {
    for (let i = 0; i < 100; i++) watch.committed();
    if (isBusy) setImmediate(commitContinuously);
  };
  commitContinuously();
  const insert = db.prepare('INSERT INTO escapement_queues VALUES (?, 0)');
  for (const name of ['busy', 'still busy', 'quiet', 'still quiet']) {
    isBusy = name.includes('busy');
    noticed = Promise.withResolvers();
    insert.run(name);
    await noticed.promise;
  }
  watch.close();
  own.close();
});

test('a watch that is closed when it notices a commit notices no further ones', async () => {
  await tasks.open();
  const own = new Database(file);
  let count = 0;
  const closed: Watch = new Watch(file, own, () => {
    count += 1;
    closed.close();
  });
  for (let i = 0; i < 100; i++) closed.committed();
  let noticed = Promise.withResolvers<void>();
  const other = new Database(file);
  const watch = new Watch(file, other, () => noticed.resolve());
  const insert = db.prepare('INSERT INTO escapement_queues VALUES (?, 0)');
  for (let i = 0; i < 50 || count === 0; i++) {
    noticed = Promise.withResolvers();
    insert.run(`queue ${i}`);
    await noticed.promise;
    // Timers do not fire while each event leads to the next.
    await new Promise(setImmediate);
  }
  expect(count).toBe(1);
  watch.close();
  own.close();
  other.close();
});

describe('a reader that blocks checkpoints of the write-ahead log', () => {
  /** The warnings emitted while this many megabytes are written beside such a reader. */
  const warningsOf = async (path: string, megabytes: number) => {
    const own = createTasks({ backend: sqlite({ file: path, synchronous: 'NORMAL' }), logger: quiet });
    const job = own.define('job', (_: string) => {});
    await own.open();
    const warnings: string[] = [];
    const listen = (warning: Error & { code?: string }) =>
      void (warning.code === 'ESCAPEMENT_LONG_READER' && warnings.push(warning.message));
    process.on('warning', listen);
    const reader = new Database(path, { readonly: true });
    reader.exec('BEGIN; SELECT count(*) FROM escapement_jobs');
    for (let i = 0; i < 1_100; i++) await job.enqueueMany(Array.from({ length: 8 }, () => 'x'.repeat((megabytes * 1e6) / 8_800)));
    await new Promise((resolve) => setImmediate(resolve));
    reader.exec('COMMIT');
    reader.close();
    process.off('warning', listen);
    await own.close();
    return warnings;
  };

  test('causes one warning', async () => {
    const warnings = await warningsOf(file, 80);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/write-ahead log of .* has grown to \d+ MB/);
  });

  test('is measured in bytes, not in pages', async () => {
    const path = join(dirname(file), 'small-pages.db');
    const small = new Database(path);
    small.exec('PRAGMA page_size = 512; CREATE TABLE t (id)');
    small.close();
    expect(await warningsOf(path, 10)).toEqual([]);
  });
});

test('a backup made while workers are busy is complete', async () => {
  const job = tasks.define('job', (n: number) => n);
  await job.enqueueMany(Array.from({ length: 2_000 }, (_, n) => n));
  await tasks.worker({ concurrency: 50 }).start();
  await expect.poll(async () => (await tasks.queues.list())[0]?.counts.successful).toBeGreaterThan(0);
  const copy = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'backup.db');
  db.prepare('VACUUM INTO ?').run(copy);
  const backup = new Database(copy);
  expect(backup.pragma('integrity_check', { simple: true })).toBe('ok');
  expect(backup.prepare('SELECT count(*) AS n FROM escapement_jobs').get()).toEqual({ n: 2_000 });
  const counted = backup.prepare('SELECT state, count(*) AS count FROM escapement_jobs GROUP BY state').all();
  expect(backup.prepare(`SELECT state, sum(count) AS count FROM (${selectCounts}) GROUP BY state ORDER BY state`).all()).toEqual(counted);
  backup.close();
});

test('several applications on one file claim every job once', async () => {
  const others = Array.from({ length: 3 }, () => createTasks({ backend: sqlite({ file }), logger: quiet }));
  const seen: number[] = [];
  const all = [tasks, ...others];
  const jobs = all.map((app) => app.define('job', (n: number) => void seen.push(n)));
  for (const app of all) await app.open();
  await jobs[0]?.enqueueMany(Array.from({ length: 400 }, (_, i) => i));
  const workers = all.map((app) => app.worker());
  for (const worker of workers) await worker.start();
  const counts = async () => (await tasks.queues.list())[0]?.counts;
  await expect.poll(async () => (await counts())?.successful, { timeout: 120_000 }).toBe(400);
  expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 400 }, (_, i) => i));
  expect((await tasks.workers.list()).length).toBe(4);
  for (const app of others) await app.close();
});
