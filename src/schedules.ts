/** Recurring jobs: how code defines them, and the operations on them at run time. */
import type { App } from './app.ts';
import { describeCron } from './core/cron.ts';
import { formatDuration, type Instant, instantMs, show } from './core/duration.ts';
import { DuplicateTaskError, InputError, StoreError } from './core/errors.ts';
import { encode, frozen } from './core/json.ts';
import { isOccurrence, nextOccurrence, pausedRow, resumedRow, runsLeft, scheduleRow } from './core/schedule.ts';
import type { Missed, Overlap, ScheduleRow, Trigger } from './core/types.ts';
import { parseInput } from './engine/input.ts';
import { scheduledJob } from './engine/scheduler.ts';
import { nearest } from './options/names.ts';
import { OptionReader } from './options/reader.ts';
import { readSchedule, type SavedScheduleOptions } from './options/schedule.ts';
import { resultOf, type TaskResult } from './result.ts';

/** A schedule as stored. */
export interface ScheduleInfo {
  readonly name: string;
  readonly task: string;
  readonly queue: string;
  /** `code`: defined by `tasks.schedule`. `store`: saved at run time. */
  readonly source: 'code' | 'store';
  /** Whether this application's code defines it; the store may have it from another version. */
  readonly declared: boolean;
  readonly trigger: Trigger;
  /** A description of its trigger in English. */
  readonly words: string;
  /** The expression, if the only trigger is `cron`. */
  readonly cron: string | null;
  /** Milliseconds, if the only trigger is `every`. */
  readonly every: number | null;
  /** The time zone of the first cron expression. */
  readonly timezone: string | null;
  readonly startAt: Date | null;
  readonly endAt: Date | null;
  readonly maxRuns: number | null;
  /** Number of occurrences that have created a job. */
  readonly runs: number;
  /** Milliseconds. */
  readonly jitter: number;
  readonly missed: Missed;
  readonly overlap: Overlap;
  readonly enabled: boolean;
  readonly paused: boolean;
  readonly pausedBecause: string | null;
  /** When it fires next, jitter included; null: never, disabled, or paused. */
  readonly nextAt: Date | null;
  /** The last occurrence, whether or not it created a job. */
  readonly lastAt: Date | null;
  /** An occurrence that waits for earlier jobs to finish. */
  readonly heldAt: Date | null;
}

/** Operations on schedules at run time: `tasks.schedules`. They use the store of the default backend. */
export interface Schedules {
  /** Ordered by name: schedules in the store, and code-defined ones that no worker has saved yet. */
  list(): Promise<ScheduleInfo[]>;
  /** @throws InputError if no schedule has this name */
  get(name: string): Promise<ScheduleInfo>;
  /**
   * The next occurrences, without jitter. For a paused schedule, those that would follow if it were resumed.
   * @param count Default 5, maximum 10,000
   * @param options.from the first instant to consider; a pause and the number of runs are then ignored. Default: the schedule's next
   * occurrence
   */
  next(name: string, count?: number, options?: { from?: Instant }): Promise<Date[]>;
  /**
   * Creates a schedule, or replaces one that was saved under this name. It stays in the store until it is removed.
   * @throws ConfigError with all faults; InputError if code defines a schedule with this name
   */
  save<Input>(name: string, options: SavedScheduleOptions<Input>): Promise<ScheduleInfo>;
  /** Stops the schedule from firing until it is resumed; occurrences in between are skipped. A restart does not resume it. */
  pause(name: string, reason?: string): Promise<void>;
  resume(name: string): Promise<void>;
  /**
   * Enqueues a job of the schedule now, even if it is paused or other jobs are running. Its next occurrence does not change.
   * @param options.input replaces the schedule's own input
   */
  runNow(name: string, options?: { input?: unknown }): Promise<TaskResult>;
  /**
   * Enqueues a job for every occurrence between two instants, inclusive, that has none yet, oldest first.
   * @param options.to Default and maximum: now
   * @param options.limit fails if there are more: 1 … 100,000. Default 1,000
   */
  backfill(name: string, options: { from: Instant; to?: Instant; limit?: number }): Promise<TaskResult[]>;
  /** Removes a schedule that was saved at run time, or that code no longer defines; its jobs are kept. Resolves to false if it did not exist. */
  remove(name: string): Promise<boolean>;
}

export function addSchedule(app: App, name: unknown, options: unknown): void {
  const schedule = readSchedule(app, name, options, 'code');
  if (app.schedules.some(({ definition }) => definition.name === schedule.definition.name))
    throw new DuplicateTaskError(`a schedule named ${schedule.definition.name} is already defined`);
  app.addSchedule(schedule);
}

const backfillBatch = 100;
const maxTries = 1_000;

export function schedulesOf(app: App): Schedules {
  const open = () => app.backend('default').open();
  const now = () => app.binding.host.clock.now();
  /** @throws InputError if no worker would ever fire a schedule */
  const openForJobs = () => {
    const backend = app.backend('default');
    if (backend.supports.workers && backend.supports.engine) return open();
    throw new InputError(
      `schedules need a default backend with a store and workers, such as sqlite({ file }); this application uses ${backend.name}()`,
    );
  };
  const codeOf = (name: string) => app.schedules.find(({ definition }) => definition.name === name);
  /** The stored row, whichever version of the code asks; otherwise the row as it will be once a worker with this code starts. */
  const rowOf = (name: string, stored: ScheduleRow | undefined): ScheduleRow | undefined => {
    const code = codeOf(name);
    return stored ?? (code && scheduleRow(code.definition, code.hash, undefined, now()));
  };
  const rows = async (): Promise<ScheduleRow[]> => {
    const stored = new Map((await (await open()).listSchedules()).map((row) => [row.name, row]));
    const names = new Set([...stored.keys(), ...app.schedules.map(({ definition }) => definition.name)]);
    return [...names].sort().map((name) => rowOf(name, stored.get(name)) as ScheduleRow);
  };
  const find = async (name: string): Promise<{ row: ScheduleRow; stored: ScheduleRow | undefined }> => {
    const [stored] = await (await open()).listSchedules({ names: [String(name)] });
    const row = rowOf(name, stored);
    if (row) return { row, stored };
    const near = nearest(
      String(name),
      (await rows()).map((other) => other.name),
    );
    throw new InputError(`no schedule has the name ${show(name)}${near ? `; did you mean ${near}?` : ''}`);
  };
  /** Reads, decides, and writes if the row has not changed in the meantime; otherwise starts over. */
  const change = async (name: string, decide: (row: ScheduleRow) => ScheduleRow): Promise<ScheduleRow> => {
    for (let tries = 0; tries < maxTries; tries++) {
      const { row, stored } = await find(name);
      const changed = decide(row);
      if (await (await open()).saveSchedule(changed, { expect: stored?.revision ?? null })) return changed;
    }
    throw contended(name);
  };
  /** Inserts the jobs of occurrences, except those that have one. */
  const insert = async (name: string, inputOf: (row: ScheduleRow, at: number) => string | null, at: readonly number[]) => {
    for (let tries = 0; tries < maxTries; tries++) {
      const { row, stored } = await find(name);
      const store = await openForJobs();
      if (!stored && !(await store.saveSchedule(row, { expect: null }))) continue;
      const { host } = app.binding;
      const jobs = at.map((scheduledAt) => scheduledJob(host, row, inputOf(row, scheduledAt), scheduledAt, now()));
      const advance = { name, revision: row.revision, times: row, jobs };
      const [made] = await store.advanceSchedules([advance], { now: now() });
      if (!made) continue;
      for (const job of made) {
        host.events.emit({ type: 'scheduled', at: now(), job });
        host.events.emit({ type: 'enqueued', at: now(), job });
      }
      return made.map((job) => resultOf(app, 'default', { job, attempts: [] }));
    }
    throw contended(name);
  };
  const infoOf = (row: ScheduleRow) => scheduleInfo(row, codeOf(row.name) !== undefined);
  const ownInput = (row: ScheduleRow, at: number): string | null => {
    if (!row.computed) return row.input;
    const code = codeOf(row.name);
    if (code?.compute && code.hash === row.hash) return code.compute(at);
    throw new InputError(`the input of schedule ${row.name} is computed by a different version of the code; pass { input }`);
  };
  return {
    list: async () => (await rows()).map(infoOf),
    get: async (name) => infoOf((await find(name)).row),
    async next(name, count = 5, options = {}) {
      const read = new OptionReader('Invalid options for schedules.next()');
      const max = read.integer(count, 'count', 1, 10_000) ?? 5;
      const from = read.instant(read.object(options, '', ['from']).from, 'from');
      read.done();
      const { row } = await find(name);
      const coming: Date[] = [];
      const first = from === undefined ? (row.paused ? resumedRow(row, now()) : row).occurrenceAt : nextOccurrence(row, from - 1);
      const left = from !== undefined ? max : Math.min(max, runsLeft(row, row.runs, row.heldAt));
      for (let at = first; at !== null && coming.length < left; at = nextOccurrence(row, at)) coming.push(new Date(at));
      return coming;
    },
    async save(name, options) {
      const { definition, hash } = readSchedule(app, name, options, 'store');
      if (codeOf(definition.name))
        throw new InputError(`schedule ${definition.name} is defined in code; change it there, or choose another name`);
      for (let tries = 0; tries < maxTries; tries++) {
        const store = await openForJobs();
        const [stored] = await store.listSchedules({ names: [definition.name] });
        if (stored?.source === 'code')
          throw new InputError(
            `schedule ${definition.name} was defined in code, by this or another version; remove it first, or choose another name`,
          );
        if (stored?.hash === hash) return infoOf(stored);
        const row = scheduleRow(definition, hash, stored, now());
        if (await store.saveSchedule(row, { expect: stored?.revision ?? null })) return infoOf(row);
      }
      throw contended(definition.name);
    },
    async pause(name, reason = 'paused') {
      await change(name, (row) => pausedRow(row, String(reason)));
    },
    async resume(name) {
      await change(name, (row) => (row.paused ? resumedRow(row, now()) : row));
    },
    async runNow(name, options = {}) {
      const read = new OptionReader('Invalid options for schedules.runNow()');
      const given = read.object(options, '', ['input']);
      read.done();
      const { row } = await find(name);
      const definition = app.definitions.get(row.task);
      const encoded = given.input === undefined ? undefined : encode(given.input, `input of schedule ${name}`);
      if (encoded !== undefined && definition?.schema) await parseInput(definition.schema, given.input, `input of schedule ${name}`);
      // Not an occurrence of the schedule, but distinct from all of them.
      for (let at = now(); ; at++) {
        if (isOccurrence(row, at)) continue;
        const [result] = await insert(name, (found) => (encoded === undefined ? ownInput(found, at) : encoded), [at]);
        if (result) return result;
      }
    },
    async backfill(name, options) {
      const read = new OptionReader('Invalid options for schedules.backfill()');
      const given = read.object(options, '', ['from', 'to', 'limit']);
      if (given.from === undefined) read.fault('from', 'an instant', given.from);
      const limit = read.integer(given.limit, 'limit', 1, 100_000) ?? 1_000;
      read.done();
      const from = instantMs(options.from, 'schedules.backfill().from');
      const to = options.to === undefined ? now() : instantMs(options.to, 'schedules.backfill().to');
      if (to > now()) throw new InputError('schedules.backfill().to is in the future; future occurrences create their jobs when they fire');
      const { row } = await find(name);
      const occurrences: number[] = [];
      for (let at = nextOccurrence(row, from - 1); at !== null && at <= to; at = nextOccurrence(row, at)) {
        occurrences.push(at);
        if (occurrences.length > limit)
          throw new InputError(`there are more than ${limit} occurrences of ${name} in this period; shorten it, or raise { limit }`);
      }
      const results: TaskResult[] = [];
      for (let i = 0; i < occurrences.length; i += backfillBatch)
        results.push(...(await insert(name, ownInput, occurrences.slice(i, i + backfillBatch))));
      return results;
    },
    async remove(name) {
      if (codeOf(name)) throw new InputError(`schedule ${name} is defined in code; remove it there, or pause it`);
      return (await open()).dropSchedule(String(name));
    },
  };
}

function contended(name: string): StoreError {
  return new StoreError(`schedule ${name} keeps being changed by others; try again`, { kind: 'busy', transient: true });
}

function scheduleInfo(row: ScheduleRow, declared: boolean): ScheduleInfo {
  const date = (at: number | null) => (at === null ? null : new Date(at));
  const { name, task, queue, source, trigger, maxRuns, runs, missed, overlap, enabled, paused, pausedBecause } = row;
  const crons = trigger.kind === 'any' ? trigger.of : [trigger];
  return {
    name,
    task,
    queue,
    source,
    declared,
    trigger: frozen(trigger),
    words: wordsOf(trigger),
    cron: trigger.kind === 'cron' ? trigger.expression : null,
    every: trigger.kind === 'every' ? trigger.everyMs : null,
    timezone: crons.find((one) => one.kind === 'cron')?.timezone ?? null,
    startAt: date(row.startAt),
    endAt: date(row.endAt),
    maxRuns,
    runs,
    jitter: row.jitterMs,
    missed: frozen(missed),
    overlap,
    enabled,
    paused,
    pausedBecause,
    nextAt: paused ? null : date(row.nextAt),
    lastAt: date(row.lastAt),
    heldAt: date(row.heldAt),
  };
}

function wordsOf(trigger: Trigger): string {
  switch (trigger.kind) {
    case 'cron':
      return `${describeCron(trigger.expression)} (${trigger.timezone})`;
    case 'every':
      return `Every ${formatDuration(trigger.everyMs)}`;
    case 'at':
      return `Once, at ${new Date(trigger.at).toISOString()}`;
    case 'sun':
      return `At ${trigger.event}, at ${trigger.latitude}, ${trigger.longitude}`;
    case 'any':
      return trigger.of.map(wordsOf).join('; ');
  }
}
