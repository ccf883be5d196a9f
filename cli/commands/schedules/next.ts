/** `escapement schedules next`: the next occurrences of one schedule, or of all schedules in order of time. */
import type { Command } from 'commander';
import type { ScheduleInfo } from 'escapement';
import { whole } from '../../arguments.ts';
import { clean, plural } from '../../format.ts';
import { type ExitCode, exitCodes, type Io } from '../../io.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { type Coming, comingLines, comingOf, findSchedule, scheduleState, whyPaused } from '../../schedules.ts';
import { exactDuration } from '../../time.ts';

interface Options {
  readonly count: number;
  readonly json?: boolean;
}

export function addNext(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(parent, 'next', {
    summary: 'show the next occurrences, in local time and UTC',
    description:
      "Prints the next occurrences of a schedule, in its time zone and in UTC, with clock changes and local times that don't exist on those days. " +
      'Without a name, it prints those of all schedules that are not paused, in order of time.',
    examples: ['tasks.ts', 'tasks.ts digest.daily --count 10', "tasks.ts digest.daily --json | jq -r '.occurrences[].at'"],
    more: '\nWith --json: occurrences[] of { schedule, task, at, timezone, local, inMs, clocks, skipped }.\n\nExit codes:\n  0  printed\n  1  no such schedule\n  2  wrong usage, or the module or its store cannot be used',
  })
    .argument('[name]', "the schedule's name (default: all schedules)")
    .option('--count <n>', 'number of occurrences', whole(1, 1_000), 5)
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string | undefined, options: Options) => {
      done(
        await operate(module, options, io, async (operation) => {
          const { tasks } = operation;
          await (name === undefined ? nextOfAll(operation, options) : nextOfOne(operation, await findSchedule(tasks, name), options));
          return exitCodes.ok;
        }),
      );
    });
}

async function nextOfOne(operation: Operation, schedule: ScheduleInfo, { count }: Options): Promise<void> {
  const { print, paint } = operation;
  const coming = await comingOf(operation, schedule, count);
  print(
    () => ({ occurrences: coming }),
    () => [
      ...(coming.length > 0 ? comingLines(coming, operation, true) : []),
      ...(coming.length < count ? [paint('dim', coming.length > 0 ? 'no more after that' : noneText(schedule))] : []),
      ...(coming.length > 0 ? notes(schedule, operation).map((note) => paint('yellow', note)) : []),
    ],
  );
}

function noneText(schedule: ScheduleInfo): string {
  const why = { paused: 'paused', disabled: 'defined with enabled: false', held: 'without an occurrence after the held one' } as const;
  const state = scheduleState(schedule);
  return `${clean(schedule.name)} has no next occurrence${state in why ? `: it is ${why[state as keyof typeof why]}` : ''}`;
}

function notes(schedule: ScheduleInfo, { module }: Operation): string[] {
  const { name, paused, jitter } = schedule;
  return [
    ...(jitter > 0 ? [`each fires up to ${exactDuration(jitter)} later because of jitter`] : []),
    ...whyPaused(schedule).map((why) => `paused: ${why}`),
    ...(paused ? [`paused; to resume it: escapement schedules resume ${module} ${clean(name)}`] : []),
  ];
}

async function nextOfAll(operation: Operation, { count }: Options): Promise<void> {
  const { tasks, print, paint } = operation;
  const schedules = await tasks.schedules.list();
  // An occurrence fires at most the jitter later, so schedules whose next firing minus the jitter is late enough are skipped.
  const earliest = ({ nextAt, jitter }: ScheduleInfo) => (nextAt ? nextAt.getTime() - jitter : Number.POSITIVE_INFINITY);
  const waiting = schedules.filter(({ nextAt }) => nextAt !== null).sort((a, b) => earliest(a) - earliest(b));
  let coming: Coming[] = [];
  for (const schedule of waiting) {
    const last = coming[count - 1];
    if (last && earliest(schedule) > last.at.getTime()) break;
    coming = [...coming, ...(await comingOf(operation, schedule, count))].sort((a, b) => a.at.getTime() - b.at.getTime()).slice(0, count);
  }
  const paused = schedules.filter((schedule) => schedule.paused).length;
  print(
    () => ({ occurrences: coming }),
    () => [
      ...(coming.length > 0 ? comingLines(coming, operation, true) : ['no schedule has a next occurrence']),
      ...(paused > 0 ? [paint('yellow', `${plural(paused, 'schedule')} ${paused === 1 ? 'is' : 'are'} paused`)] : []),
    ],
  );
}
