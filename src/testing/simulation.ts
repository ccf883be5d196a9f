/**
 * A simulation: an application's own tasks, run by the engine that runs them in production, on a clock that stands still until it is told
 * to move. The test drives; between its calls nothing happens. It ends by restoring the application to what it was bound to before.
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

/** Which jobs `sim.jobs` returns. */
export interface SimulatedJobFilter {
  task?: { readonly name: string } | string;
  status?: Status | readonly Status[];
}

/** What happened, as text that is the same for the same seed. */
export interface Timeline {
  toString(): string;
  readonly lines: readonly string[];
}

/** A worker of the simulation. */
export interface SimulatedWorker {
  /**
   * Kills the worker's process: no signal, its timers and calls never settle. Its jobs are found when their leases pass.
   * @param options.restart start a new worker in its place after 1 s. Default true
   */
  crash(options?: { restart?: boolean }): void;
  /** Stops the worker's process for a while, as a debugger or a laptop's lid does; then it goes on as if nothing had been. */
  pauseFor(duration: Duration): void;
  /** Sets how far the worker's clock is ahead of the simulation's: milliseconds, negative for behind; it stays so when the worker is restarted. */
  skew(ms: number): void;
  /** Stops the worker gracefully; drive the simulation for it to end. */
  stop(options?: { timeout?: Duration }): Promise<void>;
  /** False after a crash, until it is restarted. */
  readonly alive: boolean;
}

/** A running simulation. */
export interface Simulation extends AsyncDisposable {
  /** The application that is simulated. */
  readonly tasks: Tasks;
  /** Virtual now. */
  readonly now: Date;
  /** Where virtual time began. */
  readonly startedAt: Date;
  readonly seed: number | undefined;
  /** Runs all that is due now; attempts that wait on time stay where they are. */
  drain(): Promise<void>;
  /** Moves time on, through every event on the way, in order. */
  advance(duration: Duration): Promise<void>;
  /** Moves time to an instant. @throws SimulationError when it has passed */
  advanceTo(instant: Instant): Promise<void>;
  /**
   * Moves time to the next instant at which something happens, and returns it; undefined, and time stays, when nothing ever will.
   * @param options.max how far at most; undefined, and time is there, when nothing happens before. Default: as far as it takes
   */
  next(options?: { max?: Duration }): Promise<Date | undefined>;
  /**
   * Moves time on until no unfinished job is left but those of recurring schedules.
   * @param options.max how far. Default `'366d'`
   * @throws SimulationRunawayError past `max`; SimulationDeadlockError when nothing will ever start the jobs that are left
   */
  runUntilIdle(options?: { max?: Duration }): Promise<void>;
  /** The jobs so far, in the order in which they were enqueued, as they are now: snapshots, as in production. @throws SimulationError for an unknown task */
  jobs(filter?: SimulatedJobFilter): TaskResult[];
  /** The attempts so far, in the order in which they started. */
  attempts(task?: { readonly name: string } | string): SimulatedAttempt[];
  /** What happened, line by line. */
  timeline(): Timeline;
  worker(index: number): SimulatedWorker;
  /**
   * One of `count` possibilities, drawn as every other choice of the simulation is: by its seed, or 0 without one. `point` names the choice.
   * @example if (sim.choose('customer cancels', 2) === 1) await result.cancel();
   */
  choose(point: string, count: number): number;
  readonly store: {
    /**
     * Makes the store's next calls fail.
     * @example sim.store.fail('busy', { on: 'settle', times: 2 })
     */
    fail(fault: StoreFault, options?: FaultOptions): void;
    /**
     * Puts a job into the store whose input cannot be read, as a damaged file leaves it, or a version that wrote inputs otherwise.
     * @param input the stored text. Default: JSON that is cut off
     */
    poison(task: { readonly name: string } | string, input?: string): Promise<TaskResult>;
  };
  /**
   * Crashes a worker at a point of its work; it is back after 1 s.
   * @param options.at `in run`: when the task's function has begun, and waits
   * @param options.task only where this task is concerned
   * @param options.nth the first, the second … time that a worker comes there. Default 1
   */
  crash(options: { at: CrashPoint; task?: { readonly name: string } | string; nth?: number }): void;
  /**
   * Deploys another application on the same stores: starts workers of it, and stops those that run gracefully, as a deploy does. Schedules and
   * jobs stay; what the new one does not know waits for one that does.
   * @param options.workers how many. Default: as many as the simulation began with
   * @param options.beside true: the workers that run go on, beside the new ones
   */
  deploy(tasks: Tasks, options?: { workers?: number; beside?: boolean }): void;
  /** What was, at an instant that has passed: the jobs as they were then, and what had happened. */
  at(instant: Instant): { jobs(filter?: SimulatedJobFilter): TaskResult[]; timeline(): Timeline };
  /** The mails that the simulated mail server has accepted, in order. Nothing leaves the process. */
  readonly outbox: readonly SentMail[];
  /** How the simulated mail server misbehaves. */
  readonly smtp: SimulatedSmtp;
  readonly scheduler: {
    /** No worker turns occurrences into jobs until `start`: as if no scheduler ran. */
    stop(): void;
    start(): void;
  };
  /**
   * The occurrences of a schedule that have made a job so far, and the instants at which it was run by hand, in order.
   * @throws SimulationError when there never was a schedule of this name
   */
  fires(schedule: string): Date[];
  /** Ends the simulation and restores the application. @throws SimulationError when finished attempts left timers behind */
  end(): Promise<void>;
}

let running: Simulated | undefined;

/** The simulation that is running in this process, if one is: what matchers on tasks read. */
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
  // Elsewhere, as in a dashboard, time may stand still for as long as a person thinks.
  if ('__vitest_worker__' in globalThis) sim[watchTimers]();
  return sim;
}

/** What an exploration sets beyond the options of `simulate`. */
export interface Course {
  /** The choices of the run; else its seed draws them. */
  readonly choices?: Choices;
  /** Faults are drawn at these rates. */
  readonly rates?: FaultRates;
  /** Adds an invariant checker. */
  readonly watched?: boolean;
  /** Wraps the store of each worker. Tests of the invariant checker plant faults with it. */
  readonly between?: ((store: Store, worker: string) => Store) | undefined;
}

/** A simulation on a given course. */
export async function begin(tasks: Tasks, options: SimulationOptions, course: Course): Promise<Simulated> {
  const app = appOf(tasks);
  const settings = readSettings(options, app);
  if (running) {
    throw new SimulationError(
      'another simulation is running in this process; end it first (await sim.end()). Tests with simulations cannot be concurrent in one file.',
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
