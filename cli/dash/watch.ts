/** `escapement top`: the dashboard for a system that other processes run. It is read-only without --write. */
import { statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { createTasks } from 'escapement';
import { given } from '../arguments.ts';
import { type Application, loadApplication } from '../config.ts';
import { clean } from '../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io, orStuck } from '../io.ts';
import { requireShared, storeOf } from '../operate.ts';
import { type Place, placed, requireTables } from '../stores.ts';
import type { Session } from './dashboard.ts';
import { Feed } from './feed.ts';
import { endBySignal, openDashboard } from './open.ts';
import { localZone, overviewLines } from './plain.ts';
import type { Theme } from './theme.ts';

export interface WatchOptions {
  readonly module: string | undefined;
  readonly sqlite: string | undefined;
  readonly postgres: string | undefined;
  readonly schema: string | undefined;
  /** The alias of the backend whose jobs are shown. */
  readonly backend: string | undefined;
  readonly write: boolean;
  readonly zone: string | undefined;
  readonly theme: Theme['name'] | undefined;
}

export async function watchSystem(options: WatchOptions, io: Io): Promise<ExitCode> {
  const { module, sqlite, postgres, schema, backend = 'default', write, theme, zone = localZone() } = options;
  if ([module, sqlite, postgres].filter((one) => one !== undefined).length !== 1)
    throw new CommandError('give either a module, --sqlite <file> or --postgres <url>');
  if (options.backend !== undefined && module === undefined) throw new CommandError('--backend needs a module, which names its backends');
  const ofBackend = (name: string) => (options.backend === undefined ? name : `${name} (${clean(options.backend)})`);
  const feed = new Feed();
  const { dashboard, restoreConsole } = await openDashboard(
    { label: ofBackend(module ?? sqlite ?? labelOf(postgres)), write, zone, theme, feed, alone: true },
    io.now,
    io,
  );
  try {
    const { tasks, label } =
      module !== undefined
        ? await loadApplication(module, io)
        : sqlite !== undefined
          ? await ofFile(sqlite, io)
          : await ofDatabase(given({ postgres, schema }));
    try {
      if (module !== undefined) requireShared({ tasks, label, simulation: {}, exported: {} }, backend);
      const kept = sqlite === undefined ? tasks.backends.find(({ alias }) => alias === backend)?.file : resolve(io.cwd, sqlite);
      // Opening the store would create the file and its tables.
      if (module !== undefined && kept !== undefined && !write) await requireJobs(kept);
      await orStuck(io, tasks.open(), `the store of ${label} does not answer`);
      const session: Session = {
        tasks,
        store: storeOf(tasks, backend),
        run: undefined,
        hasEvents: false,
        shared: true,
        ...(kept === undefined ? {} : { requirePresent: presence(kept) }),
      };
      if (!dashboard) {
        const lines = await overviewLines(session, feed, { label: ofBackend(label), zone, now: io.now, cwd: io.cwd });
        io.stdout.write(lines.map((line) => `${line}\n`).join(''));
        return exitCodes.ok;
      }
      endBySignal(dashboard, io);
      io.process.onFault((fault) => dashboard.notify('error', fault instanceof Error ? fault.message : String(fault)));
      await dashboard.exchange(async () => session);
      await dashboard.start();
      return exitCodes.ok;
    } finally {
      await tasks.close();
    }
  } finally {
    restoreConsole();
  }
}

/** Opens the jobs of a file without the module that defines their tasks. */
async function ofFile(file: string, io: Io): Promise<Pick<Application, 'tasks' | 'label'>> {
  const path = resolve(io.cwd, file);
  if (!statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new CommandError(`there is no file ${file}; give the path passed to sqlite({ file })`);
  await requireJobs(path);
  const { sqlite } = await import('escapement/sqlite');
  return { tasks: createTasks({ backend: sqlite({ file: path }) }), label: file };
}

/** Opens the jobs of a database without the module that defines their tasks. */
async function ofDatabase(place: Place): Promise<Pick<Application, 'tasks' | 'label'>> {
  const source = await placed(place);
  if (!source) throw new CommandError('give either a module, --sqlite <file> or --postgres <url>');
  await requireTables(place);
  return { tasks: createTasks({ backend: source }), label: labelOf(place.postgres) };
}

/** The host and database of a URL, without its user and password. */
function labelOf(url = ''): string {
  const { host, pathname } = URL.canParse(url) ? new URL(url) : { host: '', pathname: '' };
  return clean(`${host}${pathname}`);
}

/** Detects a deleted or replaced file. Processes that have a deleted file open can still read and write it, but no other process sees it. */
function presence(path: string): () => void {
  const { ino } = statSync(path);
  return () => {
    const found = statSync(path, { throwIfNoEntry: false });
    if (!found) throw new Error(`the file ${basename(path)} was deleted`);
    if (found.ino !== ino) throw new Error(`the file ${basename(path)} was replaced; restart this command`);
  };
}

/** @throws CommandError if the file does not exist or is not a store of Escapement */
async function requireJobs(path: string): Promise<void> {
  const name = clean(basename(path));
  if (!statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new CommandError(`there is no file ${name} yet; start a worker or run escapement migrate to create it`);
  if (await isForeign(path))
    throw new CommandError(`${name} has no Escapement tables; start a worker or run escapement migrate to create them`);
}

/** True for a database without the store's tables. The store would create them in a file that may belong to another application. */
async function isForeign(path: string): Promise<boolean> {
  const { default: Database } = await import('better-sqlite3');
  try {
    const db = new Database(path, { readonly: true });
    try {
      return db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'escapement_jobs'").get() === undefined;
    } finally {
      db.close();
    }
  } catch {
    // The store reports what is wrong with the file.
    return false;
  }
}
