/** Recurring jobs: how code defines them, and what the store knows of them. */
import type { App } from './app.ts';
import { parseDuration, show } from './core/duration.ts';
import { DuplicateTaskError, InputError } from './core/errors.ts';
import { encode } from './core/json.ts';
import { nextOccurrence, type ScheduleDefinition, scheduleRow } from './core/schedule.ts';
import type { ScheduleRow } from './core/types.ts';
import { parseInput } from './engine/input.ts';
import { nearest, OptionReader, readTrigger, readUsing, type TriggerOptions, type UsingOptions, usingNothing } from './options.ts';
import type { Task } from './task.ts';

/** The options of `tasks.schedule`: one trigger, the task, its input where it takes one, and what `using` takes. */
export type ScheduleOptions<Input = unknown> = TriggerOptions &
  Omit<UsingOptions, 'runAfter' | 'backend' | 'timeout'> & { task: Task<Input, unknown> } & ScheduledInput<Input>;

type ScheduledInput<Input> = [Input] extends [void]
  ? { input?: undefined }
  : undefined extends Input
    ? { input?: Input }
    : { input: Input };

/** A schedule as the store has it. */
export interface ScheduleInfo {
  readonly name: string;
  readonly task: string;
  readonly cron: string | null;
  /** Milliseconds. */
  readonly every: number | null;
  readonly timezone: string | null;
  readonly nextAt: Date | null;
  readonly lastAt: Date | null;
  readonly paused: boolean;
}

/** What the store knows of schedules: `tasks.schedules`. */
export interface Schedules {
  list(): Promise<ScheduleInfo[]>;
  /** The coming instants of a schedule. @param count Default 5 */
  next(name: string, count?: number): Promise<Date[]>;
}

export function addSchedule(app: App, name: unknown, options: unknown): void {
  const read = new OptionReader(`Schedule ${show(name)} cannot be made`);
  const using = ['queue', 'priority', 'retry', 'expires', 'tags', 'metadata'];
  const given = read.object(options, '', ['task', 'input', 'cron', 'every', 'timezone', 'startAt', 'endAt', ...using]);
  const scheduleName = read.name(name, 'name');
  if (app.schedules.some((other) => other.name === scheduleName))
    throw new DuplicateTaskError(`a schedule named ${scheduleName} is defined already`);
  const taskName = (given.task as Partial<Task> | undefined)?.name;
  if (typeof taskName !== 'string') read.fault('task', 'a task, as tasks.define returns it', given.task);
  else if (!app.definitions.has(taskName)) read.fault('task', 'a task of this application', taskName, nearest(taskName, app.names()));
  const trigger = readTrigger(read, given, app.binding.host.clock.now());
  read.done();

  const definition = app.definition(taskName as string);
  const usingGiven = Object.fromEntries(using.filter((key) => given[key] !== undefined).map((key) => [key, given[key]]));
  const chosen = readUsing(usingGiven, usingNothing, app.known);
  if (definition.schema) {
    const parsed = parseInput(definition.schema, given.input, `input of schedule ${scheduleName}`);
    // An asynchronous schema cannot be waited for here; the run will validate.
    if (parsed instanceof Promise) parsed.catch(() => {});
  }
  const expires = chosen.expires ?? definition.expires;
  const body = {
    name: scheduleName,
    task: definition.name,
    queue: chosen.queue ?? definition.queue,
    priority: chosen.priority ?? definition.priority,
    maxAttempts: chosen.maxAttempts ?? definition.maxAttempts,
    expiresMs: expires === null ? null : (parseDuration(expires) ?? null),
    tags: chosen.tags ?? definition.tags,
    metadata: chosen.metadata,
    overrides: chosen.overrides,
    input: given.input === undefined ? null : encode(given.input, `input of schedule ${scheduleName}`),
    trigger,
  };
  app.schedules.push({ ...body, hash: JSON.stringify(body) });
}

export function schedulesOf(app: App): Schedules {
  /** Those of the store, and those of code that no worker has brought there yet. */
  const rows = async (): Promise<ScheduleRow[]> => {
    const stored = new Map((await (await app.backend('default').open()).listSchedules()).map((row) => [row.name, row]));
    const now = app.binding.host.clock.now();
    for (const definition of app.schedules as ScheduleDefinition[]) {
      const row = scheduleRow(definition, stored.get(definition.name), now);
      if (row) stored.set(row.name, row);
    }
    return [...stored.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  };
  return {
    list: async () => (await rows()).map(scheduleInfo),
    async next(name, count = 5) {
      const all = await rows();
      const row = all.find((other) => other.name === name);
      if (!row) {
        const names = all.map((other) => other.name);
        throw new InputError(`no schedule is named ${show(name)}${names.length ? `; there are ${names.join(', ')}` : ''}`);
      }
      const coming: Date[] = [];
      for (let at = row.nextAt; at !== null && coming.length < count; at = nextOccurrence(row.trigger, at)) coming.push(new Date(at));
      return coming;
    },
  };
}

function scheduleInfo({ name, task: taskName, trigger, nextAt, lastAt, paused }: ScheduleRow): ScheduleInfo {
  const cron = trigger.kind === 'cron' ? trigger : null;
  return {
    name,
    task: taskName,
    cron: cron?.expression ?? null,
    every: trigger.kind === 'every' ? trigger.everyMs : null,
    timezone: cron?.timezone ?? null,
    nextAt: nextAt === null ? null : new Date(nextAt),
    lastAt: lastAt === null ? null : new Date(lastAt),
    paused,
  };
}
