/**
 * Notices what other connections commit: the folder of the write-ahead log is watched, and SQLite asked whether its data has changed, which
 * costs a few microseconds and is false for our own commits. A hint only: workers poll beneath it.
 */
import { watch as watchFolder } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Database } from 'better-sqlite3';
import { systemClock, type Timer } from '../../ports/clock.ts';

/** The log is written, then flushed, and only then is the commit there to see: after an event, these many milliseconds later it is looked for. */
const lookAfterMs = [0, 1, 1, 2, 4, 8, 16, 32, 64] as const;

/** Calls `changed` after another connection's commit. Returns the function that ends this. */
export function watch(file: string, db: Database, changed: () => void): () => void {
  const path = resolve(file);
  const wal = `${basename(path)}-wal`;
  const version = db.prepare<[], { data_version: number }>('PRAGMA data_version');
  let seen = version.get()?.data_version;
  let timer: Timer | undefined;

  const look = (step: number) => {
    timer = undefined;
    if (!db.open) return;
    const found = db.inTransaction ? seen : version.get()?.data_version;
    if (found !== seen) {
      seen = found;
      changed();
    }
    // Found or not: another commit may be on its way behind this one.
    const later = lookAfterMs[step + 1];
    if (later !== undefined) timer = systemClock.at(systemClock.now() + later, () => look(step + 1));
  };
  try {
    const watcher = watchFolder(dirname(path), { persistent: false }, (event, name) => {
      // The database or its log was deleted or replaced: whoever looks next opens them again.
      if (event === 'rename' && (name === wal || name === basename(path))) changed();
      if (name !== null && name !== wal) return;
      timer?.cancel();
      look(0);
    });
    // Where watching fails, the poll remains.
    watcher.on('error', () => watcher.close());
    return () => {
      timer?.cancel();
      watcher.close();
    };
  } catch {
    return () => {};
  }
}
