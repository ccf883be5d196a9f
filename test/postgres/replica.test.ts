/** A read replica: reading commands work there, and changing commands explain why they do not. */
import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { spawned } from '../cli/cli.ts';
import { freePort, serverFolder, startPostgres } from '../setup/postgres.ts';

const module = 'test/postgres/fixtures/tasks.ts';
const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A copy of the server's data, taken while it runs. Uses the primary's server program. */
async function startReplica(primary: string, from: string): Promise<string> {
  const folder = serverFolder();
  cleanups.push(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  const data = join(folder, 'data');
  const client = new pg.Client({ connectionString: primary });
  await client.connect();
  await client.query("SELECT pg_backup_start('replica', true)");
  execFileSync('cp', ['-a', from, data]);
  const { rows } = await client.query('SELECT labelfile FROM pg_backup_stop(false)');
  await client.end();
  const { hostname, port, username, password } = new URL(primary);
  writeFileSync(join(data, 'backup_label'), rows[0].labelfile);
  writeFileSync(join(data, 'standby.signal'), '');
  appendFileSync(
    join(data, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=${hostname} port=${port} user=${username} password=${password}'\n`,
  );
  rmSync(join(data, 'postmaster.pid'));
  const { uid, gid } = statSync(from);
  execFileSync('chown', ['-R', `${uid}:${gid}`, data]);
  const pid = readFileSync(join(from, 'postmaster.pid'), 'utf8').split('\n')[0];
  const url = new URL(primary);
  url.port = String(await freePort());
  const settings = ['fsync=off', 'unix_socket_directories=', 'max_connections=200'].flatMap((setting) => ['-c', setting]);
  const server = spawn(readlinkSync(`/proc/${pid}/exe`), ['-D', data, '-p', url.port, ...settings], { uid, gid, stdio: 'ignore' });
  cleanups.push(
    () =>
      new Promise((resolve) => {
        server.once('exit', resolve);
        server.kill('SIGINT');
      }),
  );
  return url.href;
}

test('top, list and stats read from a replica; changes are rejected', async ({ skip }) => {
  if (process.platform !== 'linux') skip('needs /proc to find the server program');
  const folder = serverFolder();
  const server = await startPostgres(['wal_level=replica'], { folder });
  cleanups.push(() => server.stop());
  const data = join(folder, 'data');
  appendFileSync(join(data, 'pg_hba.conf'), 'host replication all 127.0.0.1/32 trust\n');
  const place = (url: string) => ['--postgres', url];
  await spawned(['enqueue', module, 'greet', '--input', '"Ada"', ...place(server.url)]);
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  await admin.query('SELECT pg_reload_conf()');
  await admin.end();
  const replica = await startReplica(server.url, data);
  const overview = () => spawned(['top', ...place(replica)]);
  await expect.poll(async () => (await overview()).stdout).toMatch(/^ *default +1 /m);

  await spawned(['enqueue', module, 'greet', '--input', '"Bob"', ...place(server.url)]);
  await expect.poll(async () => (await overview()).stdout).toMatch(/^ *default +2 /m);
  const { jobs } = JSON.parse((await spawned(['list', module, '--json', ...place(replica)])).stdout) as { jobs: { status: string }[] };
  expect(jobs.map(({ status }) => status)).toEqual(['ready', 'ready']);
  expect(await spawned(['stats', module, ...place(replica)])).toMatchObject({ code: 0, stderr: '' });
  const refused = await spawned(['cancel', module, '--task', 'greet', '--yes', ...place(replica)]);
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/^escapement: the database is read-only/)]);
});
