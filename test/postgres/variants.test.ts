/** The conformance suite with each kind of connection, and databases and roles with other settings. */
import pg from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { postgres } from '../../src/stores/postgres/index.ts';
import { claim, done, idsOf, insert, jobMaker, many, t0, wanted } from '../../src/testing/conformance/kit.ts';
import { conformance } from '../../src/testing/conformance.ts';
import { emptyPostgres, postgresUrl } from '../stores/postgres-server.ts';

const variants = {
  'postgres, beside other processes': emptyPostgres({ alone: false }),
  'postgres, with a pool of one and without prepared statements': emptyPostgres({ alone: false, max: 1, prepare: false, listen: false }),
};

for (const [label, source] of Object.entries(variants)) conformance(label, () => source.open(), { describe, test });

async function withDatabase(create: string, fn: (url: string, admin: pg.Client) => Promise<void>): Promise<void> {
  const admin = new pg.Client(await postgresUrl());
  await admin.connect();
  const name = `variant_${process.pid}`;
  const url = new URL(await postgresUrl());
  url.pathname = `/${name}`;
  try {
    await admin.query(`CREATE DATABASE ${name} ${create}`);
    await fn(url.href, admin);
  } finally {
    await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await admin.end();
  }
}

test('bytes are read in either output format of the database', async () => {
  await withDatabase('', async (url, admin) => {
    await admin.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET bytea_output = 'escape'`);
    const pool = new pg.Pool({ connectionString: url, max: 2 });
    const store = await postgres({ pool }).open({ alone: true });
    await store.migrate();
    const row = jobMaker()();
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await store.insert([row], { now: t0, blobs: [{ job: row.id, name: 'a', bytes }] });
    const [found] = await store.getBlobs([row.id], 'a');
    expect([...(found ?? [])]).toEqual([...bytes]);
    await store.close();
    await pool.end();
  });
});

test('a database whose encoding cannot store all text is rejected', async () => {
  await withDatabase("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", async (url) => {
    const store = await postgres({ connectionString: url }).open({ alone: true });
    await expect((async () => store.migrate())()).rejects.toThrow(
      'postgres() needs a database with the encoding UTF8; this one has LATIN1',
    );
    await store.close();
  });
});

test('a role without permission to create schemas uses an existing one', async () => {
  await withDatabase('', async (url, admin) => {
    const role = `variant_role_${process.pid}`;
    await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
    const owner = new pg.Client(url);
    await owner.connect();
    await owner.query(`CREATE SCHEMA given AUTHORIZATION ${role}`);
    await owner.end();
    const own = new URL(url);
    Object.assign(own, { username: role, password: 'x' });
    const store = await postgres({ connectionString: own.href, schema: 'given' }).open({ alone: true });
    await store.migrate();
    await insert(store, jobMaker()());
    await store.close();
    await admin.query(`DROP DATABASE ${new URL(url).pathname.slice(1)} WITH (FORCE)`);
    await admin.query(`DROP ROLE ${role}`);
  });
});

test('an outcome whose value the server rejects is recorded as a failure, and the others are recorded unchanged', async () => {
  const schema = `refusing_${process.pid}`;
  const pool = new pg.Pool({ connectionString: await postgresUrl(), max: 2 });
  const store = await postgres({ pool, schema }).open({ alone: true });
  await store.migrate();
  const warned: string[] = [];
  const warn = ({ message }: Error) => void warned.push(message);
  process.on('warning', warn);
  try {
    await pool.query(`CREATE FUNCTION ${schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.return_value = '"bad"' THEN RAISE EXCEPTION 'no such character' USING ERRCODE = '22P05'; END IF; RETURN NEW; END $$`);
    await pool.query(`CREATE TRIGGER refuse BEFORE UPDATE ON ${schema}.jobs FOR EACH ROW EXECUTE FUNCTION ${schema}.refuse()`);
    const jobs = many(4, jobMaker());
    await insert(store, ...jobs);
    const rows = await claim(store, t0, { limit: 3 });
    const outcomes = rows.map((row, i) => done(row, t0 + 1, i === 1 ? '"bad"' : '"good"'));
    const { settled, claimed } = await store.settle(outcomes, { now: t0 + 1, claim: wanted(t0 + 1) });
    expect(settled.map((job) => job && [job.status, job.returnValue])).toEqual([
      ['successful', '"good"'],
      ['failed', null],
      ['successful', '"good"'],
    ]);
    expect(idsOf(claimed)).toEqual(idsOf(jobs.slice(3)));
    const [record] = await store.get([jobs[1]?.id ?? '']);
    expect(record?.attempts).toMatchObject([{ outcome: 'failed', error: { message: expect.stringContaining('no such character') } }]);
    await vi.waitFor(() => expect(warned).toEqual([expect.stringContaining('cannot be stored')]), { timeout: 30_000 });
  } finally {
    process.off('warning', warn);
    await store.close();
    await pool.query(`DROP SCHEMA ${schema} CASCADE`);
    await pool.end();
  }
});
