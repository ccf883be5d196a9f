/** Commands with `--postgres` use that database instead of the module's. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { spawned, start } from '../cli/cli.ts';
import { postgresUrl } from '../stores/postgres-server.ts';

const module = 'test/postgres/fixtures/tasks.ts';
const schema = `commands_${process.pid}`;

/** The tests' shared database under another name. */
async function otherDatabase(): Promise<string> {
  const url = new URL(await postgresUrl());
  url.pathname = '/nowhere';
  return url.href;
}

test('worker, list and top use the given database', async () => {
  const place = ['--postgres', await postgresUrl(), '--schema', schema];
  const enqueued = await spawned(['enqueue', module, 'greet', '--input', '"Ada"', ...place]);
  expect(enqueued).toMatchObject({ code: 0, stdout: expect.stringContaining('greet, ready in queue default') });
  expect(await spawned(['worker', module, '--drain', ...place])).toMatchObject({ code: 0, stderr: '' });
  const { jobs } = JSON.parse((await spawned(['list', module, '--json', ...place])).stdout) as { jobs: { status: string }[] };
  expect(jobs.map(({ status }) => status)).toEqual(['successful']);
  // Worker processes receive the database from their supervisor.
  await spawned(['enqueue', module, 'greet', '--input', '"Bob"', ...place]);
  expect(await spawned(['worker', module, '--drain', '--processes', '2', ...place])).toMatchObject({ code: 0, stderr: '' });
  const watched = await spawned(['top', ...place]);
  expect(watched).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/^ *default(?: +·){5} +2 /m) });
  expect(watched.stdout).not.toContain('postgres:');
});

test('schedules are listed and changed in the given database', async () => {
  const place = ['--postgres', await postgresUrl(), '--schema', `${schema}_schedules`];
  const each = 'test/postgres/fixtures/schedule.ts';
  await spawned(['migrate', each, ...place]);
  expect(await spawned(['schedules', 'run', each, 'each', ...place])).toMatchObject({ code: 0 });
  const { jobs } = JSON.parse((await spawned(['list', each, '--json', ...place])).stdout) as { jobs: { task: string }[] };
  expect(jobs.map(({ task }) => task)).toEqual(['tick']);
  expect(await spawned(['schedules', 'pause', each, 'each', ...place])).toMatchObject({ code: 0 });
  expect((await spawned(['schedules', each, ...place])).stdout).toMatch(/each .* paused/);
  // Options before the module, whose values are not commands.
  expect((await spawned(['schedules', ...place, each])).stdout).toMatch(/each .* paused/);
  const nowhere = await otherDatabase();
  expect(await spawned(['schedules', 'pause', each, 'each', '--postgres', nowhere])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('nowhere'),
  });
});

test('passwords are not in the arguments of worker processes', async ({ skip }) => {
  if (!existsSync('/proc/self/cmdline')) skip('no /proc');
  const url = await postgresUrl();
  const program = start(['worker', module, '--processes', '2', '--log-level', 'debug', '--postgres', url, '--schema', schema]);
  const pids = await Promise.all(
    ['0', '1'].map(async (n) => (await program.line(({ child, pid }) => String(child).endsWith(`-${n}`) && typeof pid === 'number')).pid),
  );
  // They use the database nevertheless.
  await program.line(({ event, worker }) => event === 'workerStarted' && String(worker).endsWith('-1'));
  for (const pid of pids) {
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    expect(argv).toContain('--supervised');
    expect(argv.join(' ')).not.toContain('postgres:');
  }
  program.child.kill('SIGTERM');
  expect(await program.ended).toMatchObject({ code: 0, stderr: '' });
});

test('a password is read from the environment', async ({ skip }) => {
  const url = new URL(await postgresUrl());
  const { password } = url;
  if (password === '') skip('the server requires no password');
  url.password = '';
  const argv = ['list', module, '--json', '--postgres', url.href, '--schema', schema];
  expect(await spawned(argv, 'pipe', { PGPASSWORD: password })).toMatchObject({ code: 0, stderr: '' });
  const { code, stderr } = await spawned(argv, 'pipe', { PGPASSWORD: 'wrong' });
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(/^escapement: the database refused the connection: password authentication failed/),
  ]);
});

test('a missing database or schema is reported', async () => {
  const url = await otherDatabase();
  const missing = 'escapement: database "nowhere" does not exist; create it: createdb nowhere, or CREATE DATABASE in psql\n';
  expect(await spawned(['list', module, '--postgres', url])).toEqual({ code: 2, stdout: '', stderr: missing });
  expect(await spawned(['top', '--postgres', url])).toEqual({ code: 2, stdout: '', stderr: missing });
  const { code, stderr } = await spawned(['top', '--postgres', await postgresUrl(), '--schema', 'nowhere']);
  expect([code, stderr]).toEqual([2, expect.stringMatching(/^escapement: the schema nowhere of this database has no Escapement tables/)]);
});

test.each([
  [['list', module, '--postgres', 'mysql://localhost/app'], /PostgreSQL or SQLite; mysql is not supported/],
  [['list', module, '--postgres', 'app'], /Give a URL such as postgres:\/\/user@host\/database\./],
  [['list', module, '--schema', 'jobs'], /--schema needs --postgres <url>/],
  [['top', module, '--postgres', 'postgres://localhost/app'], /give either a module, --sqlite <file> or --postgres <url>/],
] as const)('%j is rejected with one line', async (argv, sentence) => {
  const { code, stderr } = await spawned(argv);
  expect([code, stderr]).toEqual([2, expect.stringMatching(sentence)]);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});
