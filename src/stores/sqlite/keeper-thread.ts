/** The helper thread of `../keeper.ts`. It opens the file only while the worker's thread is blocked. */
import { isMainThread, workerData } from 'node:worker_threads';
import type { Database } from 'better-sqlite3';
import { systemClock } from '../../ports/clock.ts';
import { type KeeperData, keep, type Renewing } from '../keeping.ts';

const busyMs = 5_000;

function renewing({ place: file, worker, leaseMs }: KeeperData<string>): Renewing {
  let db: Database | undefined;
  return {
    async renew() {
      const { default: Sqlite } = await import('better-sqlite3');
      db ??= new Sqlite(file, { fileMustExist: true, timeout: busyMs });
      renew(db, worker, systemClock.now() + leaseMs);
    },
    rest() {
      db?.close();
      db = undefined;
    },
    close: () => db?.close(),
  };
}

/** Does not renew leases that have ended, because another worker may have the job. */
function renew(db: Database, worker: string, until: number): void {
  db.prepare("UPDATE escapement_jobs SET lease_until = ? WHERE last_worker = ? AND state = 'running' AND lease_until BETWEEN ? AND ?").run(
    until,
    worker,
    systemClock.now(),
    until,
  );
}

const data = workerData as KeeperData<string> | null;
if (!isMainThread && data?.state) void keep(data, renewing(data));
