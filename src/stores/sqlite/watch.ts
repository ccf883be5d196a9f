/**
 * Notices commits of other connections: watches the folder of the write-ahead log and asks SQLite whether its data has changed, which takes
 * a few microseconds and ignores our own commits. This gives hints only; workers also poll.
 */
import { watch as watchFolder } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Database } from 'better-sqlite3';
import { systemClock, type Timer } from '../../ports/clock.ts';

/** The log is written, then flushed, and only then is the commit visible. After an event, it is checked after each of these delays. */
const checkAfterMs = [0, 1, 1, 2, 4, 8, 16, 32, 64] as const;

/** Calls `changed` after another connection's commit. Returns a function that stops watching. */
export function watch(file: string, db: Database, changed: () => void): () => void {
  const path = resolve(file);
  const wal = `${basename(path)}-wal`;
  const version = db.prepare<[], { data_version: number }>('PRAGMA data_version');
  let seen = version.get()?.data_version;
  let timer: Timer | undefined;

  const check = (step: number) => {
    timer = undefined;
    if (!db.open) return;
    const found = db.inTransaction ? seen : version.get()?.data_version;
    if (found !== seen) {
      seen = found;
      changed();
    }
    // In either case another commit may follow.
    const later = checkAfterMs[step + 1];
    if (later !== undefined) timer = systemClock.at(systemClock.now() + later, () => check(step + 1));
  };
  try {
    const watcher = watchFolder(dirname(path), { persistent: false }, (event, name) => {
      // The database or its log was deleted or replaced: the next use opens them again.
      if (event === 'rename' && (name === wal || name === basename(path))) changed();
      if (name !== null && name !== wal) return;
      timer?.cancel();
      check(0);
    });
    // If watching fails, polling remains.
    watcher.on('error', () => watcher.close());
    return () => {
      timer?.cancel();
      watcher.close();
    };
  } catch {
    return () => {};
  }
}
