/**
 * Notices what other connections commit: the folder of the write-ahead log is watched, and SQLite asked whether its data has changed, which
 * costs a few microseconds and is false for our own commits. A hint only: workers poll beneath it.
 */
import { watch as watchFolder } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Database } from 'better-sqlite3';

/** Calls `changed` after another connection's commit. Returns the function that ends this. */
export function watch(file: string, db: Database, changed: () => void): () => void {
  const path = resolve(file);
  const wal = `${basename(path)}-wal`;
  const version = db.prepare<[], { data_version: number }>('PRAGMA data_version');
  let seen = version.get()?.data_version;
  const look = () => {
    if (!db.open || db.inTransaction) return;
    const found = version.get()?.data_version;
    if (found === seen) return;
    seen = found;
    changed();
  };
  try {
    const watcher = watchFolder(dirname(path), { persistent: false }, (_, name) => {
      if (name === null || name === wal) look();
    });
    // Where watching fails, the poll remains.
    watcher.on('error', () => watcher.close());
    return () => watcher.close();
  } catch {
    return () => {};
  }
}
