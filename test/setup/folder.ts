/**
 * Keeps temporary files of tests in memory if there is space, because hundreds of databases would wait for the disk, and deletes them after
 * all tests. Node.js's compile cache is kept for the next run.
 */
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const inMemory = '/dev/shm';
const enoughBytes = 2_000_000_000;
let folder: string | undefined;

export function setup(): void {
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'node-compile-cache');
  folder = mkdtempSync(join(hasRoom() ? inMemory : tmpdir(), 'escapement-tests-'));
  // The tests' PostgreSQL runs as another user.
  chmodSync(folder, 0o755);
  process.env.TMPDIR = folder;
}

export function teardown(): void {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
}

function hasRoom(): boolean {
  try {
    accessSync(inMemory, constants.W_OK);
    const { bavail, bsize } = statfsSync(inMemory);
    return bavail * bsize > enoughBytes;
  } catch {
    return false;
  }
}
