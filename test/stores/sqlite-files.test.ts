import { execFileSync } from 'node:child_process';
import fs, { copyFileSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createTasks, StoreError } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

let folder: string;
const warnings: string[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'escapement-files-'));
});
beforeEach(() => {
  warnings.splice(0);
  vi.spyOn(process, 'emitWarning').mockImplementation(((_: string, options: { code?: string }) =>
    warnings.push(options?.code ?? '')) as never);
});
afterEach(() => void vi.restoreAllMocks());
afterAll(() => rmSync(folder, { recursive: true }));

const driver = createRequire(import.meta.url).resolve('better-sqlite3');
/** The number of jobs seen by another process, which opens and closes the file. */
function seenByOthers(file: string): number {
  const script = `const db = new (require(${JSON.stringify(driver)}))(${JSON.stringify(file)});
    console.log(db.prepare('SELECT count(*) AS n FROM escapement_jobs').get().n); db.close();`;
  return Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }));
}

/** Opens and closes the file with another copy of SQLite, which releases the locks of this process. */
function dropLocks(file: string): void {
  const db = new DatabaseSync(file, { readOnly: true });
  db.prepare('SELECT 1 FROM escapement_jobs').get();
  db.close();
}

function application(name: string) {
  const file = join(folder, `${name}.db`);
  const tasks = createTasks({ backend: sqlite({ file }) });
  return { file, tasks, task: tasks.define('task', (_: void) => 1) };
}

describe('a write-ahead log that was deleted while the database is open', () => {
  test('is noticed before the next write, which uses the new log, and causes a warning', async () => {
    const { file, tasks, task } = application('log');
    await task.enqueue();
    for (let jobs = 1; jobs <= 3; jobs++) {
      dropLocks(file);
      expect(seenByOthers(file)).toBe(jobs);
      await task.enqueue();
    }
    expect(seenByOthers(file)).toBe(4);
    expect((await tasks.jobs.list()).items).toHaveLength(4);
    await tasks.close();
    expect(seenByOthers(file)).toBe(4);
    expect(warnings).toContain('ESCAPEMENT_FILE_REPLACED');
  });

  test('is noticed before the next read', async () => {
    const { file, tasks, task } = application('read');
    await task.enqueue();
    dropLocks(file);
    seenByOthers(file);
    const other = createTasks({ backend: sqlite({ file: join(folder, 'elsewhere.db') }) });
    await other.open();
    await other.close();
    expect((await tasks.jobs.list()).items).toHaveLength(1);
    expect(warnings).toContain('ESCAPEMENT_FILE_REPLACED');
    await tasks.close();
  });

  test('is not replaced while another connection in the process uses it: writes fail, and the error says what to do', async () => {
    const { file, tasks, task } = application('held');
    await task.enqueue();
    const Database = createRequire(import.meta.url)('better-sqlite3');
    const own = new Database(file);
    own.prepare('SELECT 1 FROM escapement_jobs').get();
    dropLocks(file);
    seenByOthers(file);
    const refused = await task.enqueue().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(StoreError);
    expect(refused).toMatchObject({ kind: 'replaced', transient: true });
    own.close();
    await task.enqueue();
    expect(seenByOthers(file)).toBe(2);
    await tasks.close();
  });

  test('is noticed by a worker, which continues', async () => {
    const { file, tasks, task } = application('worker');
    await tasks.worker().start();
    await (await task.enqueue()).wait({ timeout: '30s' });
    dropLocks(file);
    seenByOthers(file);
    const result = await (await task.enqueue()).wait({ timeout: '30s' });
    expect(result.status).toBe('successful');
    expect(seenByOthers(file)).toBe(2);
    await tasks.close();
  });
});

test('a replaced file is opened again, and its log stays', async () => {
  const { file, tasks, task } = application('file');
  await task.enqueue();
  const next = application('next');
  await next.task.enqueueMany([undefined, undefined]);
  await next.tasks.close();
  for (const end of ['-wal', '-shm']) rmSync(`${file}${end}`);
  copyFileSync(next.file, `${file}.new`);
  renameSync(`${file}.new`, file);
  await task.enqueue();
  expect((await tasks.jobs.list()).items).toHaveLength(3);
  expect(seenByOthers(file)).toBe(3);
  expect(warnings).toContain('ESCAPEMENT_FILE_REPLACED');
  await tasks.close();
  expect(fs.readdirSync(folder).filter((name) => name.endsWith('kept'))).toEqual([]);
});

test('a deleted file accepts no more jobs', async () => {
  const { file, tasks, task } = application('deleted');
  await task.enqueue();
  for (const end of ['', '-wal', '-shm']) rmSync(`${file}${end}`);
  // Right after a commit the next enqueue notices; later ones notice before they write.
  await expect(task.enqueue()).rejects.toThrow(/was deleted/);
  await expect(task.enqueue()).rejects.toThrow(/the database file was deleted; restart the process/);
  expect(fs.existsSync(file)).toBe(false);
  await tasks.close();
});

describe('file systems', () => {
  const { statfsSync, readFileSync } = fs;
  afterEach(() => {
    Object.assign(fs, { statfsSync, readFileSync });
    syncBuiltinESMExports();
  });

  /** Makes every folder appear to be on a file system of this type. */
  function pretend(type: number, mounted: string): void {
    fs.statfsSync = ((path: string) => ({ ...statfsSync(path), type })) as typeof fs.statfsSync;
    fs.readFileSync = ((path: string, options: never) =>
      path === '/proc/self/mountinfo'
        ? `36 35 98:0 / / rw,noatime - ${mounted} source rw\n`
        : readFileSync(path, options)) as typeof readFileSync;
    syncBuiltinESMExports();
  }
  const opened = (options: { allowFuse?: boolean } = {}) =>
    createTasks({ backend: sqlite({ file: join(folder, 'fs.db'), ...options }) })
      .open()
      .then(
        () => 'opened',
        (error: Error) => error.message,
      );

  const fuse = 0x65735546;
  test.each([
    ['virtiofs', fuse, /FUSE file system \(virtiofs\)/],
    ['fuse.sshfs', fuse, /FUSE file system \(fuse\.sshfs\)/],
    ['fuse.s3fs', fuse, /use a volume instead of a bind mount/],
    ['vboxsf', 0x786f4256, /VirtualBox/],
    ['vmhgfs', 0xbacbacbc, /VMware/],
    ['lustre', 0x0bd00bd0, /Lustre/],
    ['nfs4', 0x6969, /NFS/],
    ['cifs', 0xff534d42, /CIFS/],
  ])('%s is rejected, even if FUSE is allowed', async (mounted, type, message) => {
    pretend(type, mounted);
    expect(await opened()).toMatch(message);
    expect(await opened({ allowFuse: true })).toMatch(message);
  });

  test.each(['fuseblk', 'fuse.ntfs-3g', 'fuse.mergerfs'])('%s on a local disk is accepted if FUSE is allowed', async (mounted) => {
    pretend(fuse, mounted);
    expect(await opened()).toMatch(/sqlite\(\{ allowFuse: true \}\)/);
    expect(await opened({ allowFuse: true })).toBe('opened');
  });

  test('a local file system is accepted', async () => {
    pretend(0xef53, 'ext4');
    expect(await opened()).toBe('opened');
  });
});
