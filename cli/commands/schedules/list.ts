/** `escapement schedules list`: two lines for each schedule, with its next occurrence and its description. */
import type { Command } from 'commander';
import type { ScheduleInfo } from 'escapement';
import { type Cell, clean, lineWidth, shorten, table, width } from '../../format.ts';
import { type ExitCode, exitCodes, type Io } from '../../io.ts';
import { ago } from '../../jobs.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { scheduleRow, scheduleState, stateMarks, whyPaused, zoneOf } from '../../schedules.ts';
import { instantText, untilText } from '../../time.ts';

interface Options {
  readonly task?: string;
  readonly paused?: boolean;
  readonly json?: boolean;
}

export function addList(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  const texts = {
    summary: 'list the schedules; the default command',
    description:
      'Lists the schedules: when each fires next and fired last, its rule in words, and whether it is paused, disabled, held or ended.',
    examples: ['tasks.ts', 'tasks.ts --paused', 'tasks.ts --task mail.digest --json'],
    more: '\nHeld: an occurrence waits for earlier jobs to finish. Ended: no occurrences are left.',
  };
  addCommand(parent, 'list', texts, { isDefault: true })
    .option('--task <name>', 'only schedules of this task')
    .option('--paused', 'only paused schedules')
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: Options) => {
      done(await operate(module, options, io, (operation) => list(operation, options)));
    });
}

async function list(operation: Operation, { task, paused }: Options): Promise<ExitCode> {
  const { tasks, print } = operation;
  const all = await tasks.schedules.list();
  const schedules = all.filter((one) => (task === undefined || one.task === task) && (!paused || one.paused));
  print(
    () => ({ schedules: schedules.map(scheduleRow) }),
    () => {
      if (all.length === 0) return ['no schedules are defined; tasks.schedule(name, { task, cron }) defines one'];
      return schedules.length === 0 ? ['no matching schedules'] : scheduleTable(schedules, operation);
    },
  );
  return exitCodes.ok;
}

function scheduleTable(schedules: readonly ScheduleInfo[], { io, paint }: Operation): string[] {
  const now = io.now();
  const columns = [{ title: 'schedule' }, { title: 'next' }, { title: 'last' }, { title: 'state' }];
  const rows = schedules.map((schedule): Cell[] => {
    const { name, nextAt, lastAt } = schedule;
    const state = scheduleState(schedule);
    const at = nextAt?.getTime();
    return [
      shorten(clean(name), 32, 'middle'),
      at === undefined ? '' : `${instantText(at, zoneOf(schedule))} (${untilText(at, now)})`,
      lastAt ? ago(lastAt, now) : '',
      { text: state, mark: stateMarks[state] },
    ];
  });
  const [title = '', ...lines] = table(columns, rows, paint);
  const below = schedules.map((schedule) => [
    paint('dim', planText(schedule)),
    ...whyPaused(schedule).map((why) => paint('yellow', shorten(`  paused: ${why}`, lineWidth))),
  ]);
  return [title, ...lines.flatMap((line, i) => [line, ...(below[i] ?? [])])];
}

/** The description is cut to make room for the task's name, which is shown if it differs from the schedule's. */
function planText({ name, task, words }: ScheduleInfo): string {
  const ofTask = task === name ? '' : ` → ${shorten(clean(task), 32, 'middle')}`;
  return `  ${shorten(clean(words), lineWidth - 2 - width(ofTask))}${ofTask}`;
}
