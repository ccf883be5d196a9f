/** Commands with `--postgres`: the module's jobs in a database that it does not name. */
import { expect, test } from 'vitest';
import { spawned } from '../cli/cli.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

const module = 'test/postgres/fixtures/tasks.ts';
const schema = `commands_${process.pid}`;

/** The database that the tests share, with another name. */
async function otherDatabase(): Promise<string> {
  const url = new URL(await postgresUrl());
  url.pathname = '/nowhere';
  return url.href;
}

test('worker, list and top use the database that they are given', async () => {
  const place = ['--postgres', await postgresUrl(), '--schema', schema];
  const enqueued = await spawned(['enqueue', module, 'greet', '--input', '"Ada"', ...place]);
  expect(enqueued).toMatchObject({ code: 0, stdout: expect.stringContaining('greet, ready in queue default') });
  expect(await spawned(['worker', module, '--drain', ...place])).toMatchObject({ code: 0, stderr: '' });
  const { jobs } = JSON.parse((await spawned(['list', module, '--json', ...place])).stdout) as { jobs: { status: string }[] };
  expect(jobs.map(({ status }) => status)).toEqual(['successful']);
  // Several processes get the place from their supervisor.
  await spawned(['enqueue', module, 'greet', '--input', '"Bob"', ...place]);
  expect(await spawned(['worker', module, '--drain', '--processes', '2', ...place])).toMatchObject({ code: 0, stderr: '' });
  const watched = await spawned(['top', ...place]);
  expect(watched).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/^ *default(?: +·){5} +2 /m) });
  expect(watched.stdout).not.toContain('postgres:');
});

test('a database or a schema that does not exist', async () => {
  const url = await otherDatabase();
  const missing = 'escapement: database "nowhere" does not exist; create it: createdb nowhere, or CREATE DATABASE in psql\n';
  expect(await spawned(['list', module, '--postgres', url])).toEqual({ code: 2, stdout: '', stderr: missing });
  expect(await spawned(['top', '--postgres', url])).toEqual({ code: 2, stdout: '', stderr: missing });
  const { code, stderr } = await spawned(['top', '--postgres', await postgresUrl(), '--schema', 'nowhere']);
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(/^escapement: the schema nowhere of this database has no tables of Escapement/),
  ]);
});

test.each([
  [['list', module, '--postgres', 'mysql://localhost/app'], /PostgreSQL or SQLite; mysql is not supported/],
  [['list', module, '--postgres', 'app'], /Give a URL such as postgres:\/\/user@host\/database\./],
  [['list', module, '--schema', 'jobs'], /--schema needs --postgres <url>/],
  [['top', module, '--postgres', 'postgres://localhost/app'], /give either a module, --sqlite <file> or --postgres <url>/],
] as const)('%j is refused in one line', async (argv, sentence) => {
  const { code, stderr } = await spawned(argv);
  expect([code, stderr]).toEqual([2, expect.stringMatching(sentence)]);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});
