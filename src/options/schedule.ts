/** The options of schedules: their types, their defaults, and the only code that reads them. */
import type { App } from '../app.ts';
import { checkCron, isTimezone, timezoneExpected } from '../core/cron.ts';
import {
  answersAtOnce,
  type Duration,
  type Instant,
  ignoreRejection,
  isThenable,
  parseDuration,
  parseInstant,
  show,
} from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import { encode } from '../core/json.ts';
import { type CodeSchedule, type ScheduleDefinition, type SingleDefinition, type TriggerDefinition, textHash } from '../core/schedule.ts';
import { checkSun, type SunTrigger } from '../core/sun.ts';
import type { Missed, Overlap } from '../core/types.ts';
import { parseInput } from '../engine/input.ts';
import type { Task } from '../task.ts';
import { nearest } from './names.ts';
import { OptionReader } from './reader.ts';
import type { UsingOptions } from './types.ts';
import { overridesOf, readUsing, usingNothing } from './using.ts';

/** When a schedule fires: one of `cron`, `every`, `at`, `sun`, or `any` of several. */
export type TriggerOptions = (SingleTriggerOptions | { any: readonly SingleTriggerOptions[]; timezone?: string }) & {
  /** No occurrence before this. @default none */
  startAt?: Instant;
  /** No occurrence after this. @default none */
  endAt?: Instant;
};
export type SingleTriggerOptions = CronOptions | EveryOptions | AtOptions | SunOptions;

export interface CronOptions {
  /**
   * Five fields, six with leading seconds, or seven with `*` as the last: lists, ranges that may wrap (`22-2`, `FRI-MON`), steps (`5/15` is
   * `5-59/15`), full or three-letter names, `L`, `L-3`, `W`, `#`; or `@daily` and similar nicknames. Without `*` in second, minute and hour
   * the expression is an appointment: a local time that the clocks skip runs once, right after the gap, and one that they repeat runs once.
   * With `*` or a stepped `*` there it follows real time: skipped times do not run, and repeated times run twice. `0 0/2 * * *` and `0 22-2
   * * * *` are appointments.
   */
  cron: string;
  /**
   * An IANA time zone, not an offset.
   * @default 'UTC', whatever the host's zone is
   */
  timezone?: string;
}

export interface EveryOptions {
  /** An interval of at least a second, counted from `startAt`, or otherwise from when the schedule is first saved. It never drifts. */
  every: Duration;
}

export interface AtOptions {
  /** Once, at this instant. */
  at: Instant;
}

export interface SunOptions {
  /** Daily, by the sun at a location; days without the event are skipped. `noon` is when the sun is highest. */
  sun: SunTrigger;
}

/** The options of `tasks.schedule` apart from the task, its input and those of `using`. */
export type TimingOptions = TriggerOptions & {
  /**
   * Maximum number of occurrences that create a job.
   * @default no limit
   */
  maxRuns?: number;
  /**
   * Delays each firing by up to this much. The delay is the same wherever an occurrence is computed, and never reaches the next occurrence.
   * @default 0
   */
  jitter?: Duration;
  /**
   * False: the schedule is stored but never fires.
   * @default true
   */
  enabled?: boolean;
  /** How to handle occurrences that passed while no scheduler was running. */
  missed?: {
    /**
     * Occurrences later than this are not caught up.
     * @default '1h'; no limit with `all`
     */
    grace?: Duration;
    /**
     * Run the latest of them, all of them oldest first, or none that is more than a minute late.
     * @default 'latest'
     */
    catchUp?: Missed['catchUp'];
    /**
     * Maximum number of occurrences with `all`; the latest are kept: 1 … 10,000.
     * @default 100
     */
    limit?: number;
  };
  /**
   * What to do if a job of the schedule is running, snoozing or ready to run at the next occurrence: start another one alongside it; skip
   * the occurrence; keep the first such occurrence until the job has finished; or cancel the existing jobs and keep the newest occurrence
   * until they have ended. A job that waits for a retry does not overlap: except with `allow`, the occurrence replaces it, and the job is
   * cancelled as `superseded`.
   * @default 'allow'
   */
  overlap?: Overlap;
};

/** The instant of an occurrence. */
export interface Occurrence {
  readonly scheduledAt: Date;
}

type Options<Input> = TimingOptions & Omit<UsingOptions, 'runAfter' | 'backend'> & { task: Task<Input, unknown> };

/**
 * The options of `tasks.schedule`: one trigger, the task, its input if it takes one (or a function of the occurrence), and the options of
 * `using`.
 */
export type ScheduleOptions<Input = unknown> = Options<Input> & ScheduledInput<Input, Input | ((occurrence: Occurrence) => Input)>;

/** The options of `tasks.schedules.save`: those of `tasks.schedule`, but only plain data, because the store cannot keep functions. */
export type SavedScheduleOptions<Input = unknown> = Options<Input> & ScheduledInput<Input, Input>;

type ScheduledInput<Input, Given> = [Input] extends [void]
  ? { input?: undefined }
  : undefined extends Input
    ? { input?: Given }
    : { input: Given };

const using = ['queue', 'priority', 'retry', 'timeout', 'expires', 'tags', 'retention', 'metadata'];
const triggers = ['cron', 'every', 'at', 'sun', 'any'] as const;
const timing = [...triggers, 'timezone', 'startAt', 'endAt', 'maxRuns', 'jitter', 'enabled', 'missed', 'overlap'];
const overlaps: readonly Overlap[] = ['allow', 'skip', 'queue-one', 'cancel-running'];
const catchUps: readonly Missed['catchUp'][] = ['latest', 'none', 'all'];
const maxTriggers = 20;

/**
 * Parses a schedule's definition.
 * @throws ConfigError with all its faults
 */
export function readSchedule(app: App, name: unknown, options: unknown, source: ScheduleDefinition['source']): CodeSchedule {
  const read = new OptionReader(`Invalid definition of schedule ${show(name)}`);
  const given = read.object(options, '', ['task', 'input', ...timing, ...using]);
  const scheduleName = read.name(name, 'name');
  const taskName = (given.task as Partial<Task> | undefined)?.name;
  if (typeof taskName !== 'string') read.fault('task', 'a task, as returned by tasks.define()', given.task);
  else if (!app.definitions.has(taskName)) read.fault('task', 'a task of this application', taskName, nearest(taskName, app.names()));
  const times = readTiming(read, given, app.binding.host.clock.now());
  const compute = typeof given.input === 'function' ? (given.input as (occurrence: Occurrence) => unknown) : undefined;
  if (compute && source === 'store')
    read.fault('input', 'plain data; the store cannot keep functions, use tasks.schedule() instead', given.input);
  else if (compute && !answersAtOnce(compute)) read.fault('input', 'plain data, or a synchronous function that returns it', compute);
  read.done();

  const task = app.definition(taskName as string);
  const usingGiven = Object.fromEntries(using.filter((key) => given[key] !== undefined).map((key) => [key, given[key]]));
  const chosen = readUsing(usingGiven, usingNothing, app.known, `Invalid definition of schedule ${show(name)}`);
  if (task.schema && !compute) {
    const parsed = parseInput(task.schema, given.input, `input of schedule ${scheduleName}`);
    // An asynchronous schema cannot be awaited here; the input is validated when the job runs.
    if (parsed instanceof Promise) parsed.catch(() => {});
  }
  if (task.backend !== 'default') {
    read.fault('task', 'a task of the default backend, which keeps the schedules', `${task.name}, which uses ${task.backend}`);
    read.done();
  }
  const expires = chosen.expires ?? task.expires;
  const definition: ScheduleDefinition = {
    name: scheduleName,
    source,
    task: task.name,
    queue: chosen.queue ?? task.queue,
    priority: chosen.priority ?? task.priority,
    maxAttempts: chosen.maxAttempts ?? task.maxAttempts,
    expiresMs: expires === null ? null : (parseDuration(expires) ?? null),
    tags: chosen.tags ?? task.tags,
    metadata: chosen.metadata,
    overrides: overridesOf(task, chosen, chosen.unique ?? task.unique, app.retention),
    input: given.input === undefined || compute ? null : encode(given.input, `input of schedule ${scheduleName}`),
    computed: compute !== undefined,
    ...times,
  };
  return {
    definition,
    hash: textHash(JSON.stringify([definition, compute ? String(compute) : ''])),
    compute:
      compute &&
      ((at) => {
        const value = compute({ scheduledAt: new Date(at) });
        if (isThenable(value)) {
          ignoreRejection(value);
          throw new InputError(`the input function of schedule ${scheduleName} is asynchronous; it must return the input synchronously`);
        }
        return encode(value, `input of schedule ${scheduleName}`);
      }),
  };
}

function readTiming(
  read: OptionReader,
  given: Record<string, unknown>,
  now: number,
): Pick<ScheduleDefinition, 'trigger' | 'startAt' | 'endAt' | 'maxRuns' | 'jitterMs' | 'missed' | 'overlap' | 'enabled'> {
  const startAt = read.instant(given.startAt, 'startAt') ?? null;
  const endAt = read.instant(given.endAt, 'endAt') ?? null;
  if (startAt !== null && endAt !== null && endAt < startAt) read.fault('endAt', 'an instant not before `startAt`', given.endAt);
  if (given.any !== undefined && given.timezone !== undefined && !isTimezone(given.timezone))
    read.fault('timezone', timezoneExpected, given.timezone);
  const at = given.at === undefined ? undefined : parseInstant(given.at);
  if (at !== undefined && ((startAt !== null && at < startAt) || (endAt !== null && at > endAt)))
    read.fault('at', 'an instant between `startAt` and `endAt`; this schedule never fires', given.at);
  const missed = read.object(given.missed, 'missed', ['grace', 'catchUp', 'limit']);
  const catchUp = oneOf(read, missed.catchUp, 'missed.catchUp', catchUps) ?? 'latest';
  if (missed.limit !== undefined && catchUp !== 'all') read.fault('missed.limit', "no limit, except with catchUp: 'all'", missed.limit);
  if (given.enabled !== undefined && typeof given.enabled !== 'boolean') read.fault('enabled', 'true or false', given.enabled);
  return {
    trigger: readTrigger(read, given, now),
    startAt,
    endAt,
    maxRuns: read.integer(given.maxRuns, 'maxRuns', 1, 1_000_000_000) ?? null,
    jitterMs: read.duration(given.jitter, 'jitter') ?? 0,
    enabled: given.enabled !== false,
    missed: {
      graceMs: read.duration(missed.grace, 'missed.grace') ?? (catchUp === 'all' ? null : 3_600_000),
      catchUp,
      limit: read.integer(missed.limit, 'missed.limit', 1, 10_000) ?? 100,
    },
    overlap: oneOf(read, given.overlap, 'overlap', overlaps) ?? 'allow',
  };
}

function oneOf<T extends string>(read: OptionReader, value: unknown, path: string, words: readonly T[]): T | undefined {
  if (value === undefined || words.includes(value as T)) return value as T | undefined;
  return read.fault(path, `one of ${words.join(', ')}`, value, typeof value === 'string' ? nearest(value, words) : undefined);
}

const placeholder: SingleDefinition = { kind: 'at', at: 0 };

function readTrigger(read: OptionReader, given: Record<string, unknown>, now: number): TriggerDefinition {
  const kinds = triggers.filter((kind) => given[kind] !== undefined);
  if (kinds.length !== 1) {
    read.fault(triggers.join(', '), 'exactly one of them', kinds.length === 0 ? undefined : kinds);
    return placeholder;
  }
  if (kinds[0] !== 'any') return readSingle(read, given, '', undefined, now);
  const { any } = given;
  if (!Array.isArray(any) || any.length === 0 || any.length > maxTriggers) {
    read.fault('any', `an array of 1 to ${maxTriggers} triggers, such as [{ cron: '0 9 * * *' }, { at: '2026-12-24T12:00:00Z' }]`, any);
    return placeholder;
  }
  const of = any.map((one, i) => {
    const path = `any[${i}]`;
    const single = read.object(one, path, ['cron', 'every', 'at', 'sun', 'timezone']);
    const own = triggers.filter((kind) => single[kind] !== undefined);
    if (own.length === 1) return readSingle(read, single, `${path}.`, given.timezone, now);
    read.fault(path, `exactly one of ${triggers.slice(0, -1).join(', ')}`, one);
    return placeholder;
  });
  return { kind: 'any', of };
}

function readSingle(read: OptionReader, given: Record<string, unknown>, path: string, zone: unknown, now: number): SingleDefinition {
  if (given.cron !== undefined) {
    const timezone = given.timezone ?? zone ?? 'UTC';
    const before = read.faults.length;
    checkCron(given.cron, timezone, now, read.faults);
    if (read.faults.length === before) return { kind: 'cron', expression: String(given.cron).trim(), timezone: String(timezone) };
    read.faults.push(...read.faults.splice(before).map((fault) => ({ ...fault, path: `${path}${fault.path}` })));
    return placeholder;
  }
  if (given.timezone !== undefined)
    read.fault(`${path}timezone`, 'no time zone, except with `cron`; other triggers are absolute instants', given.timezone);
  if (given.every !== undefined) {
    const everyMs = read.duration(given.every, `${path}every`);
    if (everyMs === undefined) return placeholder;
    if (everyMs < 1_000) read.fault(`${path}every`, 'an interval of at least a second', given.every);
    return { kind: 'every', everyMs, anchorAt: null };
  }
  if (given.at !== undefined) {
    return { kind: 'at', at: parseInstant(given.at) ?? read.instant(given.at, `${path}at`) ?? 0 };
  }
  const before = read.faults.length;
  checkSun(given.sun, `${path}sun`, read.faults);
  if (read.faults.length > before) return placeholder;
  const { event, latitude, longitude } = given.sun as SunOptions['sun'];
  return { kind: 'sun', event, latitude, longitude };
}
