/** `escapement schedules backfill`: enqueues jobs for past occurrences without one, after reporting what it would enqueue. */
import type { Command } from 'commander';
import { createTasks, isEscapementError, memory, type ScheduleInfo, type Tasks } from 'escapement';
import { given, instant, whole } from '../../arguments.ts';
import { clean, count, plural } from '../../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../../io.ts';
import { pages } from '../../jobs.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { findSchedule, utcText, zoneOf } from '../../schedules.ts';
import { instantText, localIso } from '../../time.ts';

interface Options {
  readonly from: number;
  readonly to?: number;
  readonly limit: number;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const maxListed = 20;

export function addBackfill(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(parent, 'backfill', {
    summary: 'enqueue jobs for past occurrences',
    description:
      'Enqueues a job for every occurrence of a schedule in a period (including both ends) that has no job yet, oldest first. ' +
      'Occurrences whose jobs have been pruned run again.',
    examples: [
      'tasks.ts digest.daily --from 2026-03-20T00:00:00+01:00 --dry-run',
      'tasks.ts digest.daily --from 2026-03-20T00:00:00Z --to 2026-03-24T00:00:00Z --yes',
    ],
    more: '\nExit codes:\n  0  done, or nothing was missing\n  1  no such schedule\n  2  wrong usage, more than one job without --yes, or the module or its store cannot be used',
  })
    .argument('<name>', "the schedule's name")
    .requiredOption('--from <instant>', "the first instant, such as '2026-03-20T00:00:00Z'", instant)
    .option('--to <instant>', 'the last instant (default: now)', instant)
    .option('--limit <n>', 'do nothing if there are more occurrences than this', whole(1, 100_000), 1_000)
    .option('--dry-run', 'only print what would be enqueued')
    .option('--yes', 'required for more than one job')
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string, options: Options) => {
      done(await operate(module, options, io, (operation) => backfill(operation, name, options)));
    });
}

async function backfill(operation: Operation, name: string, options: Options): Promise<ExitCode> {
  const { tasks, print, io } = operation;
  const { from, dryRun = false, yes } = options;
  if (options.to !== undefined && options.to > io.now())
    throw new CommandError('--to is in the future; future occurrences enqueue their jobs automatically');
  if (from > (options.to ?? io.now())) throw new CommandError(`--from is ${options.to === undefined ? 'in the future' : 'after --to'}`);
  const schedule = await findSchedule(tasks, name);
  const occurrences = await occurrencesOf(schedule, options);
  const taken = occurrences.length === 0 ? new Set() : await takenOf(tasks, name);
  const open = occurrences.filter((at) => !taken.has(at));
  if (!dryRun && !yes && open.length > 1) {
    const [first, last] = [instantOf(open[0] as number, schedule), instantOf(open.at(-1) as number, schedule)];
    throw new CommandError(
      `${plural(open.length, 'job')} would be enqueued, for occurrences from ${first} to ${last}; add --yes to enqueue them, or --dry-run to list them`,
    );
  }
  const [first, last] = [open[0], open.at(-1)];
  const jobs =
    dryRun || first === undefined || last === undefined
      ? []
      : // Only up to the last occurrence counted: another one may have passed in the meantime.
        await tasks.schedules.backfill(name, { from: new Date(first), to: new Date(last), limit: options.limit });
  print(
    () => ({
      schedule: name,
      dryRun,
      occurrences: open.map((at) => ({ at: new Date(at), local: localIso(at, zoneOf(schedule)) })),
      present: occurrences.length - open.length,
      jobs: jobs.map(({ id, status, scheduledAt }) => ({ id, status, scheduledAt })),
    }),
    () => [
      summary(schedule, dryRun ? open.length : jobs.length, occurrences.length - open.length, dryRun),
      ...(dryRun ? occurrenceLines(open, schedule, operation) : []),
    ],
  );
  return exitCodes.ok;
}

function summary({ name, task }: ScheduleInfo, made: number, present: number, dryRun: boolean): string {
  const others = `${plural(present, 'occurrence')} already ${present === 1 ? 'has a job' : 'have jobs'}`;
  if (made === 0) return present === 0 ? `${clean(name)} had no occurrences in this period` : `nothing is missing: ${others}`;
  const what = `${plural(made, 'job')} of ${clean(task)}`;
  return `${dryRun ? `${what} would be enqueued` : `enqueued ${what}`}${present === 0 ? '' : `; ${others}`}`;
}

function occurrenceLines(open: readonly number[], schedule: ScheduleInfo, { paint }: Operation): string[] {
  const lines = open.slice(0, maxListed).map((at) => `  ${instantOf(at, schedule)}  ${utcText(new Date(at))}`);
  return open.length > maxListed ? [...lines, paint('dim', `  and ${count(open.length - maxListed)} more`)] : lines;
}

function instantOf(at: number, schedule: ScheduleInfo): string {
  return instantText(at, zoneOf(schedule));
}

/** The occurrences that have a job in the store. */
async function takenOf(tasks: Tasks, schedule: string): Promise<Set<number>> {
  const taken = new Set<number>();
  for await (const page of pages(tasks, { schedule }, Number.POSITIVE_INFINITY)) {
    for (const { scheduledAt } of page) if (scheduledAt) taken.add(scheduledAt.getTime());
  }
  return taken;
}

/**
 * The occurrences in a period, in order: a rehearsal of the backfill in a separate, temporary application. As in a real backfill, an
 * occurrence that several triggers produce counts once.
 */
async function occurrencesOf(schedule: ScheduleInfo, { from, to, limit }: Options): Promise<number[]> {
  const { name, trigger, startAt, endAt } = schedule;
  const rehearsal = createTasks({ backend: memory() });
  const task = rehearsal.define('rehearsal', () => {});
  const found: number[] = [];
  try {
    for (const one of trigger.kind === 'any' ? trigger.of : [trigger]) {
      // An interval has no occurrences before its anchor.
      const firstAt = one.kind === 'every' ? new Date(one.anchorAt) : startAt;
      if (firstAt && endAt && firstAt > endAt) continue;
      await rehearsal.schedules.save(name, { task, ...optionsOf(one), ...(firstAt && { startAt: firstAt }), ...(endAt && { endAt }) });
      const period = { from: new Date(from), limit, ...given({ to: to === undefined ? undefined : new Date(to) }) };
      for (const { scheduledAt } of await rehearsal.schedules.backfill(name, period)) if (scheduledAt) found.push(scheduledAt.getTime());
    }
  } catch (error) {
    if (!isEscapementError(error) || error.code !== 'ESCAPEMENT_INPUT') throw error;
    throw tooMany(limit, name, error);
  } finally {
    await rehearsal.close();
  }
  if (found.length > limit) throw tooMany(limit, name);
  return found.sort((a, b) => a - b);
}

function tooMany(limit: number, name: string, cause?: unknown): CommandError {
  const message = `${clean(name)} has more than ${plural(limit, 'occurrence')} in this period; give a shorter period or a higher --limit`;
  return new CommandError(message, { cause });
}

type SingleTrigger = Exclude<ScheduleInfo['trigger'], { kind: 'any' }>;

function optionsOf(trigger: SingleTrigger) {
  switch (trigger.kind) {
    case 'cron':
      return { cron: trigger.expression, timezone: trigger.timezone };
    case 'every':
      return { every: trigger.everyMs };
    case 'at':
      return { at: new Date(trigger.at) };
    case 'sun': {
      const { event, latitude, longitude } = trigger;
      return { sun: { event, latitude, longitude } };
    }
  }
}
