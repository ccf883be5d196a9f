/**
 * Notices commits of other connections: watches the folder of the write-ahead log and asks SQLite whether its data has changed, which takes
 * a few microseconds and ignores our own commits. This gives hints only; workers also poll.
 */
import { type FSWatcher, watch as watchFolder } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Database } from 'better-sqlite3';
import { systemClock, type Timer, whileAlive } from '../../ports/clock.ts';

/** The log is written, then flushed, and only then is the commit visible. After an event, it is checked after each of these delays. */
const checkAfterMs = [0, 1, 1, 2, 4, 8, 16, 32, 64] as const;

/** If this connection makes this number of commits … */
const busyCommits = 16;
/** … in less than this time, the folder is not watched until it has made none for as long … */
const busyMs = 50;
/** … and the data is checked at this interval. */
const busyCheckMs = 2;

export class Watch {
  readonly #path: string;
  readonly #db: Database;
  readonly #changed: () => void;
  readonly #version;
  #seen: number | undefined;
  #watcher: FSWatcher | undefined;
  #timer: Timer | undefined;
  /** Our own commits since they were last counted. */
  #commits = 0;
  #isClosed = false;
  /** When the last `busyCommits` of our own commits had been made. */
  #countedAt = Number.NEGATIVE_INFINITY;

  /** @param changed called after another connection's commit, and when the database or its log was deleted or replaced */
  constructor(file: string, db: Database, changed: () => void) {
    this.#path = resolve(file);
    this.#db = db;
    this.#changed = changed;
    this.#version = db.prepare<[], { data_version: number }>('PRAGMA data_version');
    this.#seen = this.#version.get()?.data_version;
    this.#start();
  }

  /**
   * Called after a commit of our own. A commit writes to the log up to fifty times, and each write is an event; a busy worker would spend a
   * tenth of its time on them.
   */
  committed(): void {
    this.#commits += 1;
    if (!this.#watcher || this.#commits < busyCommits) return;
    const now = systemClock.monotonic();
    const isBusy = now - this.#countedAt < busyMs;
    this.#commits = 0;
    this.#countedAt = now;
    if (!isBusy) return;
    this.#stop();
    this.#checkWhileBusy(0);
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #start(): void {
    const name = basename(this.#path);
    try {
      this.#watcher = watchFolder(dirname(this.#path), { persistent: false }, (event, changed) => {
        // The database or its log was deleted or replaced: the next use opens them again.
        if (event === 'rename' && (changed === `${name}-wal` || changed === name)) this.#changed();
        if (changed !== null && changed !== `${name}-wal`) return;
        this.#timer?.cancel();
        this.#checkAfterEvent(0);
      });
      // If watching fails, polling remains.
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      // The same.
    }
  }

  #checkAfterEvent(step: number): void {
    this.#check();
    // Whether or not another connection has committed, it may do so soon.
    const later = checkAfterMs[step + 1];
    if (later !== undefined && this.#isOpen) this.#timer = systemClock.at(systemClock.now() + later, () => this.#checkAfterEvent(step + 1));
  }

  /** @param quietMs how long there has been no commit of our own */
  #checkWhileBusy(quietMs: number): void {
    const commits = this.#commits;
    this.#timer = whileAlive(busyCheckMs, () => {
      if (!this.#isOpen) return;
      if (quietMs >= busyMs) {
        this.#start();
        this.#checkAfterEvent(0);
      } else {
        this.#check();
        // Noticing a commit may have closed it.
        if (this.#isOpen) this.#checkWhileBusy(this.#commits === commits ? quietMs + busyCheckMs : 0);
      }
    });
  }

  get #isOpen(): boolean {
    return !this.#isClosed && this.#db.open;
  }

  #check(): void {
    if (!this.#isOpen || this.#db.inTransaction) return;
    const found = this.#version.get()?.data_version;
    if (found === this.#seen) return;
    this.#seen = found;
    this.#changed();
  }
}
