/**
 * Tracks the files of a database as an open connection sees them. If another copy of SQLite in the same process opens and closes the same
 * file, the process loses its locks, and the next process that closes the file deletes the write-ahead log while the connection still uses
 * it; later commits are lost. Replacing the file, for example with a backup, has the same effect. Both are visible in the device and inode
 * numbers.
 */
import { linkSync, readdirSync, readlinkSync, renameSync, rmSync, statSync } from 'node:fs';
import { systemClock } from '../../ports/clock.ts';

/** What happened to the files of a connection. */
export type Change = 'log replaced' | 'file replaced' | 'file deleted';

const justNowMs = 2;
const fileEveryMs = 1_000;

export class Files {
  readonly #path: string;
  readonly #file: string | undefined;
  /** Unknown until the log exists. */
  #log: string | undefined;
  #logSeenAt = Number.NEGATIVE_INFINITY;
  #fileSeenAt = Number.NEGATIVE_INFINITY;

  /** @param path path of the database, with links resolved */
  constructor(path: string) {
    this.#path = path;
    this.#file = identityOf(path);
    this.#log = identityOf(`${path}-wal`);
  }

  /**
   * What has changed since the connection opened the files; undefined if nothing has. Called before each read and write. The log is checked
   * unless the last commit has just done so. The file itself is checked once a second, because it is replaced by people and not by SQLite.
   */
  change(): Change | undefined {
    const now = systemClock.monotonic();
    const log = now - this.#logSeenAt < justNowMs ? undefined : this.logChange();
    if (!log && now - this.#fileSeenAt < fileEveryMs) return undefined;
    this.#fileSeenAt = now;
    const file = identityOf(this.#path);
    if (file !== this.#file) return file === undefined ? 'file deleted' : 'file replaced';
    return log;
  }

  /** Called after each commit: writes to a deleted log must not be acknowledged. */
  logChange(): Change | undefined {
    const log = identityOf(`${this.#path}-wal`);
    if (this.#log === undefined) this.#log = log;
    const isSame = log === this.#log;
    // If it has changed, the next use checks it again, however soon.
    this.#logSeenAt = isSame ? systemClock.monotonic() : Number.NEGATIVE_INFINITY;
    return isSame ? undefined : 'log replaced';
  }

  /** True while some connection of this process uses a deleted log, because SQLite would share its index with a new connection. If unknown, true. */
  get isOldLogInUse(): boolean {
    const deleted = [`${this.#path}-wal (deleted)`, `${this.#path}-shm (deleted)`];
    try {
      return readdirSync('/proc/self/fd').some((fd) => deleted.includes(linkOf(`/proc/self/fd/${fd}`)));
    } catch {
      return true;
    }
  }

  /** Closes a connection to a file that no longer exists without deleting the log of the new file. */
  keepingNew(close: () => void): void {
    const kept = ['-wal', '-shm'].filter((end) => linked(`${this.#path}${end}`));
    close();
    for (const end of kept) renameSync(`${this.#path}${end}${aside}`, `${this.#path}${end}`);
  }
}

const aside = '.escapement-kept';

function linked(path: string): boolean {
  try {
    rmSync(`${path}${aside}`, { force: true });
    linkSync(path, `${path}${aside}`);
    return true;
  } catch {
    return false;
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // The descriptor was closed in the meantime.
    return '';
  }
}

function identityOf(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}
