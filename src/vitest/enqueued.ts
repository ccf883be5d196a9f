/** `toHaveEnqueued`: looks among the jobs of a simulation, or those that a job has enqueued; if none matches, reports the closest one and its differences. */
import type { TaskResult } from 'escapement';
import type { MatcherState } from './matching.ts';
import { checkOptions, checkTimes, closeness, count, difference, indent, line, matches } from './matching.ts';
import { enqueuerOf, isSimulation, labelOf, taskOf } from './received.ts';
import type { EnqueuedOptions } from './register.ts';
import { durationOf, exact } from './time.ts';

const name = 'toHaveEnqueued';
const keys = ['in', 'queue', 'priority', 'tags', 'status', 'times'];

/** One condition on a job, from an option. */
interface Condition {
  readonly option: string;
  readonly expected: string;
  holds(job: TaskResult): boolean;
  actual(job: TaskResult): string;
}

interface Candidate {
  readonly job: TaskResult;
  /** The label used in the timeline. */
  readonly label: string;
  readonly inputMatches: boolean;
  readonly unmet: readonly Condition[];
  readonly closeness: number;
}

export function toHaveEnqueued(this: MatcherState, received: unknown, task: unknown, input?: unknown, options?: EnqueuedOptions) {
  const by = enqueuerOf(this, name, received);
  const { name: taskName } = taskOf(this, name, task, isSimulation(by) ? by : undefined);
  checkOptions(name, options, keys);
  checkTimes(name, options?.times);
  const conditions = conditionsOf(options ?? {});
  const judge = (jobs: readonly TaskResult[], label: (job: TaskResult, i: number) => string) => {
    const candidates = jobs.map((job, i) => candidateOf(this, job, label(job, i), input, conditions));
    const found = candidates.filter((candidate) => candidate.inputMatches && candidate.unmet.length === 0);
    const times = options?.times;
    return {
      pass: times === undefined ? found.length > 0 : found.length === times,
      message: () => {
        const received = isSimulation(by) ? 'sim' : 'result';
        const hint = this.utils.matcherHint(name, received, taskName, {
          isNot: this.isNot,
          ...(input === undefined ? {} : { secondArgument: 'input' }),
        });
        const enqueuer = isSimulation(by) ? 'the simulation' : labelOf(by);
        return `${hint}\n\n${explain(this, enqueuer, taskName, input, conditions, candidates, found, times)}`;
      },
    };
  };
  if (isSimulation(by)) return judge(by.jobs({ task: taskName }), (_, i) => `${taskName}#${i + 1}`);
  return by.children().then((children) =>
    judge(
      children.filter((job) => job.task === taskName),
      labelOf,
    ),
  );
}

function conditionsOf(options: EnqueuedOptions): Condition[] {
  const conditions: Condition[] = [];
  const add = (option: string, expected: string, holds: Condition['holds'], actual: Condition['actual']) =>
    conditions.push({ option, expected, holds, actual });
  if (options.in !== undefined) {
    const ms = durationOf(options.in, `${name}().in`);
    add(
      'in',
      exact(ms),
      (job) => delayMs(job) === ms,
      (job) => exact(delayMs(job)),
    );
  }
  const { queue, priority, tags, status } = options;
  if (queue !== undefined)
    add(
      'queue',
      queue,
      (job) => job.queue === queue,
      (job) => job.queue,
    );
  if (priority !== undefined)
    add(
      'priority',
      String(priority),
      (job) => job.priority === priority,
      (job) => String(job.priority),
    );
  if (tags !== undefined) {
    add(
      'tags',
      words(tags),
      (job) => tags.every((tag) => job.tags.includes(tag)),
      (job) => words(job.tags),
    );
  }
  if (status !== undefined) {
    const statuses: readonly string[] = typeof status === 'string' ? [status] : status;
    add(
      'status',
      statuses.join(' or '),
      (job) => statuses.includes(job.status),
      (job) => job.status,
    );
  }
  return conditions;
}

/** The value that `in` is compared with. A job without `runAfter` was due immediately. */
function delayMs(job: TaskResult): number {
  return Math.max(0, (job.runAfter ?? job.enqueuedAt).getTime() - job.enqueuedAt.getTime());
}

function candidateOf(state: MatcherState, job: TaskResult, label: string, input: unknown, conditions: readonly Condition[]): Candidate {
  const unmet = conditions.filter((condition) => !condition.holds(job));
  const near = input === undefined ? 1 : closeness(state, job.input, input);
  // The input identifies a job better than its options do.
  const met = conditions.length === 0 ? 1 : 1 - unmet.length / conditions.length;
  const inputMatches = input === undefined || matches(state, job.input, input);
  return { job, label, inputMatches, unmet, closeness: near * 2 + met };
}

function explain(
  state: MatcherState,
  enqueuer: string,
  taskName: string,
  input: unknown,
  conditions: readonly Condition[],
  candidates: readonly Candidate[],
  found: readonly Candidate[],
  times: number | undefined,
): string {
  const hasDetails = input !== undefined || conditions.length > 0;
  const subject = hasDetails ? `a job of ${taskName} like this` : `a job of ${taskName}`;
  const wanted = hasDetails ? `\n\n${describe(state, input, conditions)}` : '';
  if (state.isNot) {
    const expected =
      times === undefined ? `not to have enqueued ${subject}` : `to have enqueued ${subject} any number of times except ${times}`;
    return `Expected ${enqueuer} ${expected}.${wanted}\n\nIt has enqueued:\n\n${list(state, found)}`;
  }
  if (times !== undefined && found.length > 0) {
    const rest = candidates.filter((candidate) => !found.includes(candidate));
    const others = rest.length === 0 ? '' : `\n\nThese are different:\n\n${list(state, rest)}`;
    return `Expected ${enqueuer} to have enqueued ${subject} ${count(times, 'time')}; it has ${count(found.length, 'time')}.${wanted}\n\nIt has enqueued:\n\n${list(state, found)}${others}`;
  }
  const head = `Expected ${enqueuer} to have enqueued ${subject}${times === undefined ? '' : ` ${count(times, 'time')}`}.${wanted}`;
  if (candidates.length === 0) return `${head}\n\nIt has enqueued no job of ${taskName}.`;
  return `${head}\n\n${nearest(state, input, candidates)}`;
}

function nearest(state: MatcherState, input: unknown, candidates: readonly Candidate[]): string {
  const best = candidates.reduce((a, b) => (b.closeness > a.closeness ? b : a));
  const head =
    candidates.length === 1
      ? `The only one is ${best.label}, which differs:`
      : `The closest of ${candidates.length} is ${best.label}, which differs:`;
  const differences = best.unmet.map(
    (condition) =>
      `  ${condition.option}: expected ${state.utils.EXPECTED_COLOR(condition.expected)}, got ${state.utils.RECEIVED_COLOR(condition.actual(best.job))}`,
  );
  if (!best.inputMatches)
    differences.unshift(`  input:\n${indent(difference(state, best.job.input, input), '    ')}${differences.length > 0 ? '\n' : ''}`);
  return `${head}\n\n${differences.join('\n')}`;
}

function describe(state: MatcherState, input: unknown, conditions: readonly Condition[]): string {
  const lines = conditions.map(({ option, expected }) => `  ${option}: ${state.utils.EXPECTED_COLOR(expected)}`);
  if (input !== undefined) lines.unshift(`  input: ${state.utils.EXPECTED_COLOR(line(state, input))}`);
  return lines.join('\n');
}

const maxListed = 10;

function list(state: MatcherState, candidates: readonly Candidate[]): string {
  if (candidates.length === 0) return '  none';
  const lines = candidates.slice(0, maxListed).map(({ job, label }) => `  ${label} ${state.utils.RECEIVED_COLOR(line(state, job.input))}`);
  if (candidates.length > maxListed) lines.push(`  and ${candidates.length - maxListed} more`);
  return lines.join('\n');
}

function words(tags: readonly string[]): string {
  return tags.length === 0 ? 'none' : tags.join(', ');
}
