/**
 * The files of a database, as an open connection has them. When something else in the process opens and closes the same file by another copy of
 * SQLite, the process loses its locks, and the next process that closes the file deletes the write-ahead log beneath the connection: what is
 * committed after that is lost. A file that is replaced, by a backup for example, is the same case. Both show in device and inode.
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
  /** Unknown until the log is there. */
  #log: string | undefined;
  #logSeenAt = Number.NEGATIVE_INFINITY;
  #fileSeenAt = Number.NEGATIVE_INFINITY;

  /** @param path of the database, without links */
  constructor(path: string) {
    this.#path = path;
    this.#file = identityOf(path);
    this.#log = identityOf(`${path}-wal`);
  }

  /**
   * What is no longer as the connection opened it; undefined: nothing. Before each read and write: the log if that was not just done, after the
   * last commit; the file itself once a second, for it is not deleted by SQLite but by people.
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

  /** After each commit: what went into a deleted log is not acknowledged. */
  logChange(): Change | undefined {
    const log = identityOf(`${this.#path}-wal`);
    if (this.#log === undefined) this.#log = log;
    const isSame = log === this.#log;
    // What is not the same is looked at again at the next use, however soon that is.
    this.#logSeenAt = isSame ? systemClock.monotonic() : Number.NEGATIVE_INFINITY;
    return isSame ? undefined : 'log replaced';
  }

  /** True while some connection of this process uses a deleted log: SQLite would share its index with a new connection. Unknown counts as true. */
  get isOldLogInUse(): boolean {
    const deleted = [`${this.#path}-wal (deleted)`, `${this.#path}-shm (deleted)`];
    try {
      return readdirSync('/proc/self/fd').some((fd) => deleted.includes(linkOf(`/proc/self/fd/${fd}`)));
    } catch {
      return true;
    }
  }

  /** Closes a connection to a file that is no longer there, without its deleting the log of the one that is. */
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
    // It was closed meanwhile.
    return '';
  }
}

function identityOf(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}
