/** `escapement schedules pause`, `resume`, `run` and `remove`: changes of one schedule. `backfill` is in a separate file. */
import type { Command } from 'commander';
import { clean, plural } from '../../format.ts';
import { CommandError, type ExitCode, exitCodes, type Io } from '../../io.ts';
import { jobRow } from '../../jobs.ts';
import { addCommand, type Operation, operate } from '../../operate.ts';
import { findSchedule, scheduleRow, scheduleState, whyPaused, zoneOf } from '../../schedules.ts';
import { instantText, untilText } from '../../time.ts';
import { readInput } from '../enqueue.ts';

interface Options {
  readonly reason?: string;
  readonly input?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const exits = (done: string) => `
Exit codes:
  0  ${done}
  1  no such schedule
  2  wrong usage, or the module or its store cannot be used`;

export function addPause(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(parent, 'pause', {
    summary: 'pause a schedule until it is resumed',
    description:
      'Pauses a schedule: it does not fire until it is resumed, and occurrences in between are skipped. Existing jobs are not affected. ' +
      'Restarts and deployments do not resume it.',
    examples: ['tasks.ts digest.daily', 'tasks.ts digest.daily --reason "until the new template is ready"'],
    more: exits('paused, or already paused'),
  }).option('--reason <text>', 'stored with the schedule and displayed (default: paused)');
  addAction(command, pause, io, done);
}

export function addResume(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(parent, 'resume', {
    summary: 'resume a paused schedule',
    description: 'Resumes a schedule from its next occurrence. To enqueue jobs for the occurrences in between, use schedules backfill.',
    examples: ['tasks.ts digest.daily'],
    more: exits('resumed, or not paused'),
  });
  addAction(command, resume, io, done);
}

export function addRun(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(parent, 'run', {
    summary: 'enqueue a job of a schedule now',
    description:
      'Enqueues a job of a schedule now, even if the schedule is paused or another job of it is running. Its occurrences do not change.',
    examples: ['tasks.ts digest.daily', `tasks.ts digest.daily --input '{"to":"me@shop.example"}'`],
    more: exits('enqueued'),
  }).option('--input <json>', "the task's input, instead of the schedule's own; - reads it from stdin");
  addAction(command, runNow, io, done);
}

export function addRemove(parent: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = addCommand(parent, 'remove', {
    summary: 'remove a schedule that was saved at run time',
    description: 'Removes a schedule that was saved at run time, or that is no longer defined in code. Its jobs are kept.',
    examples: ['tasks.ts trial-ends:u1 --yes'],
    more: exits('removed'),
  }).option('--yes', 'required: a removed schedule cannot be restored');
  addAction(command, remove, io, done);
}

type Change = (operation: Operation, name: string, options: Options) => Promise<void>;

function addAction(command: Command, change: Change, io: Io, done: (code: ExitCode) => void): void {
  command
    .argument('<name>', "the schedule's name")
    .option('--json', 'print one JSON document')
    .action(async (module: string, name: string, options: Options) => {
      done(
        await operate(module, options, io, async (operation) => {
          await change(operation, name, options);
          return exitCodes.ok;
        }),
      );
    });
}

const pause: Change = async ({ tasks, print }, name, { reason }) => {
  const before = await findSchedule(tasks, name);
  // Without a new reason, show the existing one.
  if (!before.paused || reason !== undefined) await tasks.schedules.pause(name, reason);
  const after = await tasks.schedules.get(name);
  const [why] = whyPaused(after).map((text) => `: ${text}`);
  print(
    () => scheduleRow(after),
    () => [
      before.paused
        ? `${clean(name)} ${reason === undefined ? 'was already paused' : 'stays paused'}${why ?? ''}`
        : `paused ${clean(name)}${why ?? ''}; its occurrences are skipped until it is resumed`,
    ],
  );
};

const resume: Change = async ({ tasks, print, io }, name) => {
  const before = await findSchedule(tasks, name);
  if (before.paused) await tasks.schedules.resume(name);
  const after = await tasks.schedules.get(name);
  const { nextAt } = after;
  const next = nextAt
    ? `, next at ${instantText(nextAt.getTime(), zoneOf(after))} (${untilText(nextAt.getTime(), io.now())})`
    : `, and it is ${scheduleState(after)}`;
  print(
    () => scheduleRow(after),
    () => [`${before.paused ? `resumed ${clean(name)}` : `${clean(name)} was not paused`}${next}`],
  );
};

const runNow: Change = async ({ tasks, print, io, module, paint }, name, options) => {
  await findSchedule(tasks, name);
  const input = await readInput(options.input, io);
  const job = await tasks.schedules.runNow(name, input === undefined ? {} : { input });
  print(
    () => ({ ...jobRow(job), scheduledAt: job.scheduledAt }),
    () => [
      `enqueued ${job.id}  ${clean(job.task)}, ${job.status} in queue ${clean(job.queue)}`,
      paint('dim', `to follow it: escapement show ${module} ${job.id}`),
    ],
  );
};

const remove: Change = async ({ tasks, print }, name, { yes }) => {
  const { words, runs } = await findSchedule(tasks, name);
  if (!yes) {
    const what = `${clean(name)} (${clean(words)}; ${plural(runs, 'run')} so far)`;
    throw new CommandError(`${what} would be removed and cannot be restored; add --yes to remove it`);
  }
  const removed = await tasks.schedules.remove(name);
  print(
    () => ({ schedule: name, removed }),
    () => [removed ? `removed ${clean(name)}; its jobs are kept` : `${clean(name)} no longer exists`],
  );
};
