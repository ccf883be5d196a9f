/** `escapement schedules`: what recurs, and when next. */
import type { Command } from 'commander';
import type { ScheduleInfo } from 'escapement';
import { type Cell, clean, shorten, table } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { ago } from '../jobs.ts';
import { addCommand, operate } from '../operate.ts';
import { cronInWords, exactDuration, instantText, shortDuration } from '../time.ts';

export function addSchedules(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'schedules', {
    summary: 'list the schedules and when they fire next',
    description: 'Lists the schedules of the store, and those of the module that no worker has brought there yet.',
    examples: ['tasks.ts', 'tasks.ts --json'],
  })
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean }) => {
      done(
        await operate(module, options, io, async ({ tasks, print, paint }) => {
          const schedules = await tasks.schedules.list();
          const columns = [{ title: 'schedule' }, { title: 'task' }, { title: 'when' }, { title: 'next' }, { title: 'last' }];
          print(
            () => ({ schedules }),
            () =>
              schedules.length === 0
                ? ['no schedule is defined; tasks.schedule(name, { task, cron }) defines one']
                : table(
                    columns,
                    schedules.map((schedule) => row(schedule, io.now())),
                    paint,
                  ),
          );
          return exitCodes.ok;
        }),
      );
    });
}

function row(schedule: ScheduleInfo, now: number): Cell[] {
  const { name, task, nextAt, lastAt, paused, timezone } = schedule;
  const zone = timezone ?? 'UTC';
  const next = nextAt ? `${instantText(nextAt.getTime(), zone)} (${untilText(nextAt.getTime() - now)})` : 'never again';
  return [
    shorten(clean(name), 32, 'middle'),
    shorten(clean(task), 24, 'middle'),
    clean(whenText(schedule)),
    paused ? { text: 'paused', mark: 'yellow' } : { text: next, mark: nextAt ? undefined : 'dim' },
    lastAt ? ago(lastAt, now) : '',
  ];
}

function untilText(ms: number): string {
  return ms <= 0 ? 'due' : `in ${shortDuration(ms)}`;
}

function whenText({ cron, every, timezone }: ScheduleInfo): string {
  if (cron === null) return every === null ? '' : `every ${exactDuration(every)}`;
  const zone = timezone === null || timezone === 'UTC' ? 'UTC' : timezone;
  const spoken = cronInWords(cron);
  return `${cron} ${zone}${spoken ? ` (${spoken})` : ''}`;
}
