/** `escapement schedules show`: everything about one schedule, with its next occurrences and its latest jobs. */
import type { Command } from 'commander';
import type { ScheduleInfo, TaskResult } from 'escapement';
import { clean, plural, table } from '../../format.ts';
import { type ExitCode, exitCodes, type Io } from '../../io.ts';
import { ago, jobRow, statusCell } from '../../jobs.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import {
  type Coming,
  comingLines,
  comingOf,
  findSchedule,
  scheduleRow,
  scheduleState,
  stateMarks,
  titledLines,
  whyPaused,
  zoneOf,
} from '../../schedules.ts';
import { exactDuration, instantText, wallTime } from '../../time.ts';

const shownOccurrences = 5;
const shownJobs = 10;

export function addShow(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(parent, 'show', {
    summary: 'show everything about one schedule',
    description: 'Shows a schedule: its rules, its next five occurrences, and its last ten jobs.',
    examples: ['tasks.ts digest.daily', 'tasks.ts digest.daily --json'],
    more: '\nExit codes:\n  0  shown\n  1  no such schedule\n  2  wrong usage, or the module or its store cannot be used',
  })
    .argument('<name>', "the schedule's name")
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string, options: { json?: boolean }) => {
      done(
        await operate(module, options, io, async (operation) => {
          const { tasks, print } = operation;
          const schedule = await findSchedule(tasks, name);
          const coming = await computed(() => comingOf(operation, schedule, shownOccurrences));
          const { items: jobs } = await tasks.jobs.list({ schedule: schedule.name, limit: shownJobs });
          print(
            () => ({
              ...scheduleRow(schedule),
              occurrences: coming.value,
              fault: coming.fault,
              jobs: jobs.map((job) => ({ ...jobRow(job), scheduledAt: job.scheduledAt })),
            }),
            () => scheduleLines(schedule, coming, jobs, operation),
          );
          return exitCodes.ok;
        }),
      );
    });
}

interface Computed {
  readonly value: readonly Coming[];
  /** Why they cannot be computed: the stored schedule may have been changed outside Escapement, or its zone may be unknown on this machine. */
  readonly fault: string | null;
}

/** Computes the next occurrences. On failure, the rest of the schedule is still shown. */
async function computed(compute: () => Promise<readonly Coming[]>): Promise<Computed> {
  try {
    return { value: await compute(), fault: null };
  } catch (error) {
    return { value: [], fault: error instanceof Error ? error.message : String(error) };
  }
}

function scheduleLines(schedule: ScheduleInfo, coming: Computed, jobs: readonly TaskResult[], operation: Operation): string[] {
  const { io, paint } = operation;
  const { name, task, queue, words, trigger, startAt, endAt, maxRuns, runs, jitter, heldAt, lastAt } = schedule;
  const now = io.now();
  const zone = zoneOf(schedule);
  const state = scheduleState(schedule);
  const at = (instant: Date) => instantText(instant.getTime(), zone);
  const line = (title: string, ...texts: readonly (string | null)[]) =>
    titledLines(
      title,
      texts.filter((text) => text !== null),
      operation,
    );
  return [
    `${paint('bold', clean(name))}  ${paint(stateMarks[state], state)}`,
    ...line('paused', ...whyPaused(schedule).map((why) => paint('yellow', why))),
    ...line('held', heldAt && `the occurrence of ${at(heldAt)}, until earlier jobs have finished`),
    ...line('words', clean(words)),
    ...line('trigger', ...(trigger.kind === 'any' ? trigger.of : [trigger]).map(triggerText)),
    ...line('starts', startAt && at(startAt)),
    ...line('ends', endAt && at(endAt)),
    ...line('task', `${clean(task)}, in queue ${clean(queue)}`),
    ...line('runs', maxRuns === null ? plural(runs, 'occurrence') : `${runs} of at most ${plural(maxRuns, 'occurrence')}`),
    ...line('jitter', jitter > 0 ? `up to ${exactDuration(jitter)} later` : null),
    ...line('missed', missedText(schedule)),
    ...line('overlap', overlapTexts[schedule.overlap]),
    ...line('source', sourceTexts[schedule.source]),
    ...line('last', lastAt && `${at(lastAt)}  ${ago(lastAt, now)}`),
    ...line('next', ...nextLines(coming, operation)),
    ...(jobs.length > 0 ? line('jobs', ...jobLines(jobs, zone, operation)) : line('jobs', 'none')),
  ];
}

function nextLines({ value, fault }: Computed, operation: Operation): string[] {
  if (fault !== null) return [operation.paint('red', `cannot be computed: ${clean(fault)}`)];
  return value.length > 0 ? comingLines(value, operation, false) : ['none'];
}

type SingleTrigger = Exclude<ScheduleInfo['trigger'], { kind: 'any' }>;

function triggerText(trigger: SingleTrigger): string {
  switch (trigger.kind) {
    case 'cron':
      return `cron  ${clean(trigger.expression)}  ${clean(trigger.timezone)}`;
    case 'every':
      return `every ${exactDuration(trigger.everyMs)}, counted from ${instantText(trigger.anchorAt)}`;
    case 'at':
      return `at    ${instantText(trigger.at)}`;
    case 'sun':
      return `sun   ${trigger.event} at latitude ${trigger.latitude}, longitude ${trigger.longitude}`;
  }
}

function missedText({ missed: { graceMs, catchUp, limit } }: ScheduleInfo): string {
  const late = graceMs === null ? 'however late' : `up to ${exactDuration(graceMs)} late`;
  switch (catchUp) {
    case 'latest':
      return `the latest one runs, ${late}`;
    case 'all':
      return `all run, ${late}, at most the latest ${limit}`;
    case 'none':
      return 'skipped';
  }
}

const overlapTexts: Record<ScheduleInfo['overlap'], string> = {
  allow: 'allow: jobs may overlap',
  skip: 'skip: occurrences are skipped while a job is unfinished',
  'queue-one': 'queue-one: while a job is unfinished, one occurrence waits for it',
  'cancel-running': 'cancel-running: an unfinished job is cancelled first',
};

const sourceTexts: Record<ScheduleInfo['source'], string> = {
  code: 'code: defined by tasks.schedule()',
  store: 'store: saved at run time by tasks.schedules.save()',
};

/** An occurrence and its job. */
function jobLines(jobs: readonly TaskResult[], zone: string, { io, paint }: Operation): string[] {
  const rows = jobs.map((job) => [
    occurrenceText(job, zone),
    statusCell(job.status),
    job.id,
    { text: ago(job.enqueuedAt, io.now()), mark: 'dim' as const },
  ]);
  return table([{ title: '' }, { title: '' }, { title: '' }, { title: '', align: 'right' }], rows, paint);
}

/** The instant of the occurrence; for jobs of `schedules run`, the instant of the call. */
function occurrenceText({ scheduledAt, enqueuedAt }: TaskResult, zone: string): string {
  const { date, time } = wallTime((scheduledAt ?? enqueuedAt).getTime(), zone);
  return `${date} ${time}`;
}
