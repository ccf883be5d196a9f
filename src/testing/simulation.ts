/**
 * A simulation runs an application's tasks with the production engine, on a clock that stands still until it is moved. The test drives it;
 * nothing happens between its calls. When it ends, the application's previous binding is restored.
 */
import type { Duration, Instant } from '../core/duration.ts';
import { SimulationError } from '../core/errors.ts';
import type { Status } from '../core/types.ts';
import type { SentMail } from '../email/seam.ts';
import type { Store } from '../ports/store.ts';
import type { TaskResult } from '../result.ts';
import { appOf, type Tasks } from '../tasks.ts';
import type { Choices } from './choices.ts';
import type { FaultRates } from './drawn-faults.ts';
import type { CrashPoint, FaultOptions, StoreFault } from './faults.ts';
import { refuseOtherFakes } from './globals.ts';
import type { SimulatedSmtp } from './mail.ts';
import type { SimulatedAttempt } from './record.ts';
import { watchTimers } from './refuse.ts';
import { readSettings, type SimulationOptions } from './settings.ts';
import { Simulated } from './simulated.ts';

/** Selects the jobs that `sim.jobs` returns. */
export interface SimulatedJobFilter {
  task?: { readonly name: string } | string;
  status?: Status | readonly Status[];
}

/** The events of a simulation as text; the same seed gives the same text. */
export interface Timeline {
  toString(): string;
  readonly lines: readonly string[];
}

/** A worker of the simulation. */
export interface SimulatedWorker {
  /**
   * Kills the worker's process: there is no signal, and its timers and calls never settle. Its jobs are found when their leases end.
   * @param options.restart start a new worker in its place after 1 s. Default true
   */
  crash(options?: { restart?: boolean }): void;
  /** Suspends the worker's process for a while, like a debugger or closing a laptop's lid. */
  pauseFor(duration: Duration): void;
  /** Sets how far the worker's clock is ahead of the simulation's, in milliseconds; negative for behind. It is kept when the worker is restarted. */
  skew(ms: number): void;
  /** Stops the worker gracefully; drive the simulation to let it finish. */
  stop(options?: { timeout?: Duration }): Promise<void>;
  /** False after a crash, until it is restarted. */
  readonly alive: boolean;
}

/** A running simulation. */
export interface Simulation extends AsyncDisposable {
  /** The simulated application. */
  readonly tasks: Tasks;
  /** The current virtual time. */
  readonly now: Date;
  /** The start of virtual time. */
  readonly startedAt: Date;
  readonly seed: number | undefined;
  /** Runs everything that is due now; attempts that wait on time keep waiting. */
  drain(): Promise<void>;
  /** Advances time through every event on the way, in order. */
  advance(duration: Duration): Promise<void>;
  /**
   * Advances time to an instant.
   * @throws SimulationError if it has passed
   */
  advanceTo(instant: Instant): Promise<void>;
  /**
   * Advances time to the next instant at which something happens and returns it; undefined, without advancing, if nothing ever will.
   * @param options.max the maximum to advance; if nothing happens within it, time advances by this much and the result is undefined.
   * Default: no limit
   */
  next(options?: { max?: Duration }): Promise<Date | undefined>;
  /**
   * Advances time until no unfinished jobs are left, except those of recurring schedules.
   * @param options.max the maximum to advance. Default `'366d'`
   * @throws SimulationRunawayError past `max`; SimulationDeadlockError if nothing will ever start the remaining jobs
   */
  runUntilIdle(options?: { max?: Duration }): Promise<void>;
  /**
   * The jobs so far, in the order in which they were enqueued, with their current state. They are snapshots, as in production.
   * @throws SimulationError for an unknown task
   */
  jobs(filter?: SimulatedJobFilter): TaskResult[];
  /** The attempts so far, in the order in which they started. */
  attempts(task?: { readonly name: string } | string): SimulatedAttempt[];
  /** The events so far, one per line. */
  timeline(): Timeline;
  /** A tree of the jobs so far: jobs below the jobs that enqueued them, the parts of each workflow together, and the status of each job. */
  tree(): Timeline;
  worker(index: number): SimulatedWorker;
  /**
   * Chooses one of `count` possibilities. Drawn like every other choice of the simulation: from its seed, or 0 without one. `point` names
   * the choice.
   * @example if (sim.choose('customer cancels', 2) === 1) await result.cancel();
   */
  choose(point: string, count: number): number;
  readonly store: {
    /**
     * Makes the next calls to the store fail.
     * @example sim.store.fail('busy', { on: 'settle', times: 2 })
     */
    fail(fault: StoreFault, options?: FaultOptions): void;
    /**
     * Inserts a job whose input cannot be read, like one from a damaged file or from a version with another encoding.
     * @param input the stored text. Default: truncated JSON
     */
    poison(task: { readonly name: string } | string, input?: string): Promise<TaskResult>;
  };
  /**
   * Crashes a worker at a point of its work; it restarts after 1 s.
   * @param options.at `in run`: when the task's function has started and waits
   * @param options.task only if this task is concerned
   * @param options.nth crash when a worker gets there for the nth time. Default 1
   */
  crash(options: { at: CrashPoint; task?: { readonly name: string } | string; nth?: number }): void;
  /**
   * Deploys another application on the same stores: starts its workers, and stops the running ones gracefully, as in a deployment.
   * Schedules and jobs are kept; jobs that the new application does not know wait for a worker that does.
   * @param options.workers number of workers. Default: as at the start of the simulation
   * @param options.beside true: the running workers continue alongside the new ones
   */
  deploy(tasks: Tasks, options?: { workers?: number; beside?: boolean }): void;
  /** The past at an instant: the jobs as they were then, and the events up to then. */
  at(instant: Instant): { jobs(filter?: SimulatedJobFilter): TaskResult[]; timeline(): Timeline };
  /** The mails that the simulated mail server has accepted, in order. Nothing leaves the process. */
  readonly outbox: readonly SentMail[];
  /** Controls the faults of the simulated mail server. */
  readonly smtp: SimulatedSmtp;
  readonly scheduler: {
    /** No worker fires schedules until `start`, as if no scheduler were running. */
    stop(): void;
    start(): void;
  };
  /**
   * The occurrences of a schedule that have created a job so far, and the instants at which it was run by hand, in order.
   * @throws SimulationError if no schedule with this name ever existed
   */
  fires(schedule: string): Date[];
  /**
   * Ends the simulation and restores the application.
   * @throws SimulationError if finished attempts left timers behind
   */
  end(): Promise<void>;
}

let running: Simulated | undefined;

/** The simulation running in this process, if any; used by matchers on tasks. */
export function currentSimulation(): Simulation | undefined {
  return running;
}

/**
 * Binds the application to virtual time until the simulation ends.
 * @throws SimulationError when another simulation, fake timers or a worker is running
 * @example
 * await using sim = await simulate(tasks, { now: '2026-03-28T00:00:00Z' });
 * await sendWelcome.enqueue({ userId: 'u1' });
 * await sim.runUntilIdle();
 */
export async function simulate(tasks: Tasks, options: SimulationOptions = {}): Promise<Simulation> {
  const sim = await begin(tasks, options, {});
  // Elsewhere, for example in a dashboard, time may stand still for as long as the user wants.
  if ('__vitest_worker__' in globalThis) sim[watchTimers]();
  return sim;
}

/** Settings of an exploration beyond the options of `simulate`. */
export interface Course {
  /** The choices of the run; by default its seed draws them. */
  readonly choices?: Choices;
  /** The rates of drawn faults. */
  readonly rates?: FaultRates;
  /** Adds an invariant checker. */
  readonly watched?: boolean;
  /** Wraps the store of each worker. Tests of the invariant checker plant bugs with it. */
  readonly between?: ((store: Store, worker: string) => Store) | undefined;
}

/** Starts a simulation with these settings. */
export async function begin(tasks: Tasks, options: SimulationOptions, course: Course): Promise<Simulated> {
  const app = appOf(tasks);
  const settings = readSettings(options, app);
  if (running) {
    throw new SimulationError(
      'another simulation is running in this process; end it first (await sim.end()). Tests with simulations cannot run concurrently in one file.',
    );
  }
  if (app.workers.size > 0)
    throw new SimulationError('a worker of this application is running; stop it before simulating (await worker.stop())');
  if (app.closed) throw new SimulationError('the application was closed by tasks.close(); create a new one with createTasks()');
  if (settings.globals) refuseOtherFakes('already');
  const sim = new Simulated(tasks, settings, course, () => {
    running = undefined;
  });
  running = sim;
  try {
    await sim.begin();
  } catch (error) {
    await sim.end().catch(() => {});
    throw error;
  }
  return sim;
}
