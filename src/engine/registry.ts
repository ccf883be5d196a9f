/**
 * A worker's fourth duty: keeping its entry in the registry, with what it serves, how busy it is, its last heartbeat, and the schedules its
 * code defines. It saves these schedules in the store, and pauses code-defined schedules that no live worker declares any more.
 */
import { type CodeSchedule, pauseUndeclaredAfterMs, synchronised, undeclared, undeclaredRow } from '../core/schedule.ts';
import type { WorkerRow } from '../core/types.ts';
import type { RegistryStore, ScheduleStore, Store } from '../ports/store.ts';
import type { Host } from './host.ts';
import type { Step } from './loop.ts';

/** How often a worker sends a heartbeat, in stores shared between processes. */
const registerEveryMs = 10_000;
/** How often it does so in stores that are not shared. */
const registerPrivatelyEveryMs = 3_600_000;
/** A worker is considered dead after missing this many heartbeats. */
const missedHeartbeats = 3;
/** Workers without a heartbeat for this long are removed. */
export const forgetAfterMs = 86_400_000;
/** How often to check for undeclared schedules, in stores shared between processes. */
export const checkEveryMs = 30_000;

function heartbeatMs({ pollMs }: Pick<Store, 'pollMs'>): number {
  return pollMs === Number.POSITIVE_INFINITY ? registerPrivatelyEveryMs : Math.max(registerEveryMs, pollMs);
}

/** Workers with a heartbeat after this instant are alive. */
export function aliveAfter(store: Pick<Store, 'pollMs'>, now: number): number {
  return now - missedHeartbeats * heartbeatMs(store);
}

type DutyStore = RegistryStore & ScheduleStore & Pick<Store, 'pollMs'>;

export interface Registry {
  readonly step: Step;
}

/**
 * @param describe the worker's current entry
 * @param schedules the schedules that its code defines; a new array after some are added
 */
export function createRegistry(
  host: Host,
  store: DutyStore,
  describe: () => Omit<WorkerRow, 'tasks' | 'schedules' | 'heartbeatAt' | 'host' | 'pid' | 'version'>,
  schedules: () => readonly CodeSchedule[],
): Registry {
  let code: readonly CodeSchedule[] = [];
  let hashes: WorkerRow['schedules'] = {};
  let checkAt = Number.NEGATIVE_INFINITY;
  let pauseAt = Number.POSITIVE_INFINITY;
  let foreign = false;

  const step = async () => {
    const now = host.clock.now();
    const isPrivate = store.pollMs === Number.POSITIVE_INFINITY;
    const everyMs = heartbeatMs(store);
    if (schedules() !== code) {
      code = schedules();
      hashes = Object.fromEntries(code.map(({ definition, hash }) => [definition.name, hash]));
    }
    const row = { ...host.machine, ...describe(), tasks: host.names(), schedules: hashes, heartbeatAt: now };
    await store.saveWorker(row, { forgetBefore: now - forgetAfterMs });
    if (row.state === 'running') {
      const live = (): Promise<readonly WorkerRow[]> => liveWorkers(store, aliveAfter(store, now));
      if (code.length > 0) await synchronise(store, code, live, now);
      if (isPrivate || now >= Math.min(checkAt, pauseAt)) {
        checkAt = now + checkEveryMs;
        const found = await findUndeclared(host, store, hashes, live, now);
        foreign = found.foreign;
        pauseAt = found.pauseAt;
      }
    }
    // In a store that is not shared and has no schedules, only changes are saved.
    return Math.min(pauseAt, isPrivate && code.length === 0 && !foreign ? Number.POSITIVE_INFINITY : now + everyMs);
  };
  return { step };
}

async function liveWorkers(store: RegistryStore, aliveSince: number): Promise<readonly WorkerRow[]> {
  return (await store.listWorkers()).filter(({ state, heartbeatAt }) => state !== 'stopped' && heartbeatAt > aliveSince);
}

async function synchronise(
  store: DutyStore,
  code: readonly CodeSchedule[],
  live: () => Promise<readonly WorkerRow[]>,
  now: number,
): Promise<void> {
  const names = code.map(({ definition }) => definition.name);
  const stored = new Map((await store.listSchedules({ names })).map((row) => [row.name, row]));
  // The other workers only matter if definitions differ.
  const differ = code.some(({ definition, hash }) => (stored.get(definition.name)?.hash ?? hash) !== hash);
  const others = differ ? await live() : [];
  for (const schedule of code) {
    const before = stored.get(schedule.definition.name);
    const row = synchronised(schedule, before, others, now);
    // False: another worker was faster. The next check shows whether its definition should apply.
    if (row) await store.saveSchedule(row, { expect: before?.revision ?? null });
  }
}

/**
 * Whether there are code-defined schedules that this worker's code does not define, and when one of them must be paused. Those that no live
 * worker defines are marked first and paused a minute later.
 */
async function findUndeclared(
  host: Host,
  store: DutyStore,
  own: WorkerRow['schedules'],
  live: () => Promise<readonly WorkerRow[]>,
  now: number,
): Promise<{ readonly foreign: boolean; readonly pauseAt: number }> {
  const foreign = (await store.listSchedules({ source: 'code' })).filter(({ name }) => own[name] === undefined);
  let pauseAt = Number.POSITIVE_INFINITY;
  if (foreign.length === 0) return { foreign: false, pauseAt };
  const declared = new Set((await live()).flatMap(({ schedules }) => Object.keys(schedules)));
  for (const row of foreign) {
    if (declared.has(row.name)) continue;
    const changed = undeclaredRow(row, now);
    const saved = changed && (await store.saveSchedule(changed, { expect: row.revision }));
    if (saved && changed.paused) {
      host.logger.warn({ schedule: row.name }, `schedule ${row.name} is paused: ${undeclared}; remove it, or declare it again`);
    }
    const undeclaredAt = changed?.undeclaredAt ?? row.undeclaredAt;
    if (undeclaredAt !== null && !(changed ?? row).paused) pauseAt = Math.min(pauseAt, undeclaredAt + pauseUndeclaredAfterMs);
  }
  return { foreign: true, pauseAt };
}
