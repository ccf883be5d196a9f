/** `escapement check`: checks that the jobs of a module can run. */
import type { Command } from 'commander';
import type { QueueStats, ScheduleInfo, WorkerInfo } from 'escapement';
import { unusedIn } from '../../src/core/steps.ts';
import { listed } from '../arguments.ts';
import { declaredBy, isLive, serves, stateOf, unknownTasks } from '../fleet.ts';
import { clean, cleanLines, type Mark, padEnd, plural } from '../format.ts';
import { type ExitCode, exitCodes, type Io } from '../io.ts';
import { ago } from '../jobs.ts';
import { addCommand, type Operation, operate } from '../operate.ts';
import { whyPaused } from '../schedules.ts';
import { queuesOf } from './queues.ts';
import { unknownLine } from './stats.ts';

/** The result of one check. `wrong` makes the command fail; a `note` is informational. */
interface Finding {
  readonly outcome: 'ok' | 'note' | 'wrong';
  readonly about: string;
  readonly message: string;
}

export function addCheck(program: Command, io: Io, done: (code: ExitCode) => void): void {
  addCommand(program, 'check', {
    summary: 'check the health of the system, for deployments and monitoring',
    description:
      'Checks that the stores open and respond, that each schedule has a next occurrence, a defined task and a live worker that ' +
      'declares it, that live workers serve the queues with ready jobs, and that they know the tasks of these jobs.',
    examples: ['tasks.ts', 'tasks.ts --json'],
    more: '\nExit codes:\n  0  no problems found\n  1  problems found; they are listed\n  2  wrong usage, or the module cannot be loaded',
  })
    .option('--json', 'print one JSON document')
    .action(async (module: string, options: { json?: boolean }) => {
      done(
        await operate(module, { ...options, anyBackend: true }, io, async (operation) => {
          const findings = await collectFindings(operation);
          const ok = findings.every(({ outcome }) => outcome !== 'wrong');
          operation.print(
            () => ({ ok, findings }),
            () => findings.map((finding) => findingLine(finding, operation)),
          );
          return ok ? exitCodes.ok : exitCodes.refused;
        }),
      );
    });
}

async function collectFindings(operation: Operation): Promise<Finding[]> {
  const { tasks } = operation;
  const stores = await backends(operation);
  // If a store does not open, the other checks cannot run.
  if (stores.some(({ outcome }) => outcome === 'wrong')) return stores;
  const shared = tasks.backends.find(({ alias }) => alias === 'default');
  if (!shared?.supports.shared) return [...stores, ...(await schedules(operation, []))];
  const queues = await queuesOf(operation);
  const workers = await tasks.workers.list();
  return [
    ...stores,
    ...(await schedules(operation, workers)),
    ...staffing(operation, queues, workers),
    ...(await unknown(operation, queues, workers)),
    ...(await unusedSteps(operation)),
  ];
}

/** How many of the latest jobs are checked for recorded steps that their code no longer has. */
const maxJobsChecked = 200;

async function unusedSteps({ tasks }: Operation): Promise<Finding[]> {
  const { items } = await tasks.jobs.list({ order: 'changed', status: 'successful', limit: maxJobsChecked });
  const found = new Map<string, { jobs: number; steps: string }>();
  for (const job of items) {
    for (const { message } of await job.logs()) {
      const steps = unusedIn(message);
      if (steps !== undefined) found.set(job.task, { steps, jobs: (found.get(job.task)?.jobs ?? 0) + 1 });
    }
  }
  return [...found].map(([task, { jobs, steps }]) => ({
    outcome: 'note',
    about: 'steps',
    message: `${clean(task)}: ${plural(jobs, 'recent job')} had recorded steps that no longer occur in the code: ${clean(steps)}`,
  }));
}

async function backends({ tasks, label }: Operation): Promise<Finding[]> {
  const findings: Finding[] = [];
  const add = (outcome: Finding['outcome'], message: string) => findings.push({ outcome, about: 'store', message });
  try {
    await tasks.open();
    await tasks.jobs.list({ limit: 1 });
    for (const { alias, name } of tasks.backends) {
      const what = `${clean(alias)} (${clean(name)})`;
      if (name === 'immediate') add('note', `${what}: jobs run where they are enqueued, without workers or retries`);
      else if (name === 'dummy') add('note', `${what}: jobs are recorded but not run`);
      else if (name === 'memory') add('note', `${what}: jobs exist in one process and are lost when it ends; sqlite({ file }) keeps them`);
      else add('ok', `${what} opens and responds`);
    }
  } catch (error) {
    add('wrong', `the store of ${label} cannot be used: ${text(error)}`);
  }
  return findings;
}

async function schedules({ tasks, io, module }: Operation, workers: readonly WorkerInfo[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  const add = (outcome: Finding['outcome'], message: string) => findings.push({ outcome, about: 'schedule', message });
  const all = await tasks.schedules.list();
  const live = workers.filter((worker) => isLive(worker, io.now())).map(declaredBy);
  const ended: string[] = [];
  for (const schedule of all) {
    const name = clean(schedule.name);
    const unknown = tasks.names.includes(schedule.task) ? '' : `enqueues jobs of ${clean(schedule.task)}, which the module does not define`;
    const removal = `remove it: escapement schedules remove ${module} ${name} --yes`;
    if (schedule.paused) {
      const why = whyPaused(schedule).map((text) => `: ${text}`);
      add('note', `${name} is paused${why.join('')}${unknown && `; it ${unknown}: ${removal}`}`);
    } else if (unknown) add('wrong', `${name} ${unknown}; define it, or ${removal}`);
    else if (!schedule.enabled) add('note', `${name} is disabled: it is defined with enabled: false`);
    else {
      if (isUndeclared(schedule, live))
        add('note', `no live worker declares ${name}; if no code defines it, it is paused automatically, or ${removal}`);
      try {
        const [next] = await tasks.schedules.next(schedule.name, 1);
        if (!next && !schedule.heldAt) ended.push(name);
      } catch (error) {
        add('wrong', `${name} has no next occurrence: ${text(error)}`);
      }
    }
  }
  // One-time schedules stay after they have fired, so there may be many.
  if (ended.length > 0)
    add(
      'note',
      `${ended.length > maxNamed ? plural(ended.length, 'schedule') : listed(ended, 'and')} ${ended.length === 1 ? 'has' : 'have'} no occurrence left`,
    );
  if (all.length > 0 && findings.length === 0) add('ok', `${plural(all.length, 'schedule')}, each with a next occurrence`);
  return findings;
}

const maxNamed = 5;

/** A schedule from code that no live worker declares. False if there are no live workers, or one does not report its schedules. */
function isUndeclared({ name, source }: ScheduleInfo, live: readonly (ReadonlySet<string> | undefined)[]): boolean {
  return source === 'code' && live.length > 0 && live.every((declared) => declared !== undefined && !declared.has(name));
}

function staffing({ io, module }: Operation, queues: readonly QueueStats[], workers: readonly WorkerInfo[]): Finding[] {
  const now = io.now();
  const live = workers.filter((worker) => isLive(worker, now));
  const findings: Finding[] = [];
  const add = (outcome: Finding['outcome'], about: string, message: string) => findings.push({ outcome, about, message });
  for (const { name, paused, counts, oldestReadyAt } of queues) {
    if (counts.ready === 0) continue;
    const jobs = `${plural(counts.ready, 'job')} ${counts.ready === 1 ? 'is' : 'are'} ready in ${clean(name)}`;
    const since = oldestReadyAt === null ? '' : `, the oldest since ${ago(new Date(oldestReadyAt), now)}`;
    const start = `start one: escapement worker ${module} --queues ${clean(name)}`;
    if (paused) add('note', 'queue', `${jobs}${since}; the queue is paused`);
    else if (!live.some((worker) => serves(worker, name))) add('wrong', 'queue', `${jobs}${since}; no worker serves the queue; ${start}`);
  }
  for (const worker of workers) {
    if (stateOf(worker, now) === 'silent')
      add('note', 'worker', `${clean(worker.id)} on ${clean(worker.host)} sent its last heartbeat ${ago(worker.heartbeatAt, now)}`);
  }
  const summary =
    live.length === 0
      ? 'no workers running, and no jobs ready'
      : `${listed(
          live.map(({ id }) => clean(id)),
          'and',
        )} running`;
  if (findings.every(({ outcome }) => outcome !== 'wrong')) add(live.length === 0 ? 'note' : 'ok', 'worker', summary);
  return findings;
}

async function unknown({ tasks, io }: Operation, queues: readonly QueueStats[], workers: readonly WorkerInfo[]): Promise<Finding[]> {
  const now = io.now();
  const found = await unknownTasks(tasks, queues, workers, now);
  return found.map((task) => ({ outcome: 'wrong', about: 'task', message: unknownLine(task, now) }));
}

const marks: Record<Finding['outcome'], Mark> = { ok: 'green', note: 'dim', wrong: 'red' };

function findingLine({ outcome, about, message }: Finding, { paint }: Operation): string {
  return `${paint(marks[outcome], padEnd(outcome, 5))}  ${padEnd(about, 8)}  ${message}`;
}

function text(error: unknown): string {
  return cleanLines(error instanceof Error ? error.message : String(error)).join(' ');
}
