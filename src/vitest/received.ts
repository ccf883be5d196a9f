/** Checks what was passed to `expect()`, and explains what a matcher accepts. */
import type { Task, TaskResult } from 'escapement';
import { currentSimulation, type Simulation } from 'escapement/testing';
import type { MatcherState } from './matching.ts';
import { offset } from './time.ts';

type AnyTask = Pick<Task<never, unknown>, 'name'>;

/** @throws TypeError */
export function simulationOf(state: MatcherState, matcher: string, received: unknown): Simulation {
  if (isSimulation(received)) return received;
  throw misuse(state, matcher, 'a simulation, from simulate() or the fixture of testTasks(): expect(sim)', received);
}

/**
 * The source of enqueued jobs: a simulation, or one job.
 * @throws TypeError
 */
export function enqueuerOf(state: MatcherState, matcher: string, received: unknown): Simulation | TaskResult {
  if (isSimulation(received) || isResult(received)) return received;
  const expected = 'a simulation, from simulate() or the fixture of testTasks(), or a TaskResult, as returned by await task.enqueue()';
  throw misuse(state, matcher, expected, received);
}

/** @throws TypeError */
export function resultOf(state: MatcherState, matcher: string, received: unknown): TaskResult {
  if (isResult(received)) return received;
  throw misuse(state, matcher, 'a TaskResult, as returned by await task.enqueue()', received);
}

/**
 * A task of this simulation's application.
 * @throws TypeError
 */
export function taskOf(state: MatcherState, matcher: string, received: unknown, sim = currentSimulation()): AnyTask {
  if (!isTask(received)) throw misuse(state, matcher, 'a task, as returned by tasks.define()', received);
  const names = sim && namesOf(sim);
  if (!names || names.includes(received.name)) return received;
  throw new TypeError(
    `${matcher}: ${received.name} is not a task of the simulated application, whose tasks are ${names.join(', ') || 'none'}. ` +
      'Simulate the application that defines it, or register a portable task with tasks.register().',
  );
}

/**
 * The simulation that an expectation about a task is checked against.
 * @throws TypeError if no simulation is running
 */
export function runningSimulation(matcher: string): Simulation {
  const sim = currentSimulation();
  if (sim) return sim;
  throw new TypeError(`${matcher} needs a running simulation; use the test of testTasks(tasks), or simulate(tasks).`);
}

export function isSimulation(value: unknown): value is Simulation {
  return has(value, 'timeline', 'attempts', 'runUntilIdle');
}

export function isTask(value: unknown): value is AnyTask {
  return has(value, 'enqueue', 'getResult') && typeof (value as { name?: unknown }).name === 'string';
}

/** `mail.welcome#2`, as in the timeline, or the task's name if no simulation knows the job. */
export function labelOf(result: TaskResult): string {
  const index = currentSimulation()
    ?.jobs({ task: result.task })
    .findIndex(({ id }) => id === result.id);
  return index === undefined || index < 0 ? `job ${result.id} of ${result.task}` : `${result.task}#${index + 1}`;
}

/** An instant, as an offset if a simulation is running. */
export function when(at: Date): string {
  const sim = currentSimulation();
  return sim ? offset(at.getTime(), sim.startedAt.getTime()) : at.toISOString();
}

function namesOf(sim: Simulation): readonly string[] | undefined {
  const current = currentSimulation();
  return current === sim ? current?.tasks.names : undefined;
}

function isResult(value: unknown): value is TaskResult {
  return has(value, 'refresh', 'wait', 'retry') && typeof (value as { task?: unknown }).task === 'string';
}

function has(value: unknown, ...methods: string[]): boolean {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  return isObject && methods.every((name) => typeof (value as unknown as Record<string, unknown>)[name] === 'function');
}

function misuse(state: MatcherState, matcher: string, expected: string, got: unknown): TypeError {
  const hint = got instanceof Promise ? 'a promise; await it first' : state.utils.stringify(got, 1);
  return new TypeError(`${matcher} expects ${expected}; got ${hint}`);
}
