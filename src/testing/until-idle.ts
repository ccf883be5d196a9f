/** Advances time until nothing is left to do, or until it is clear that this will never be the case. */
import { SimulationDeadlockError, SimulationRunawayError } from '../core/errors.ts';
import { isFinished } from '../core/job.ts';
import type { Job } from '../core/types.ts';
import type { Store, StoreSource } from '../ports/store.ts';
import type { InvariantChecker } from './invariants.ts';
import type { Processes, Version } from './processes.ts';
import { exact, type SimulationRecord } from './record.ts';
import type { Settings } from './settings.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** After this many instants without an event, check whether there will ever be one. */
const quietSteps = 100;
/** After this many instants without an event, ask the store whether unfinished jobs have ended without being reported. */
const quietInstants = 10;
/** After a crash, do the same after this many instants, twice. */
const instantsAfterCrash = 50;

export class Idler {
  readonly #clock: VirtualClock;
  readonly #record: SimulationRecord;
  readonly #settings: Settings;
  readonly #stores: ReadonlyMap<StoreSource, Store>;
  readonly #versions: readonly Version[];
  readonly #processes: Processes;
  readonly #checker: InvariantChecker | undefined;
  /** How many more times to ask the stores for unreported changes. */
  #checksLeft = 0;
  /** A process has died; only then can a job have ended without being reported. */
  #mayHaveUnreported = false;

  constructor(of: {
    clock: VirtualClock;
    record: SimulationRecord;
    settings: Settings;
    stores: ReadonlyMap<StoreSource, Store>;
    versions: readonly Version[];
    processes: Processes;
    checker: InvariantChecker | undefined;
  }) {
    this.#clock = of.clock;
    this.#record = of.record;
    this.#settings = of.settings;
    this.#stores = of.stores;
    this.#versions = of.versions;
    this.#processes = of.processes;
    this.#checker = of.checker;
  }

  /** Called when a process died. The last changes that it made to a store may not have been reported. */
  mayHaveUnreported(): void {
    this.#checksLeft = 2;
    this.#mayHaveUnreported = true;
  }

  /**
   * @param maxMs the maximum to advance
   * @param maxInstants maximum number of instants with events
   */
  async run(maxMs: number, maxInstants: number): Promise<void> {
    const until = this.#clock.now() + maxMs;
    const idle = () => this.#record.unfinishedCount === 0;
    await this.#clock.settle();
    let before = this.#record.length;
    let instants = 0;
    for (let quiet = 0; !idle(); quiet = this.#record.length === before ? quiet + 1 : 0) {
      before = this.#record.length;
      instants += 1;
      if (instants > maxInstants) {
        throw new SimulationRunawayError(
          `after ${exact(this.#clock.now() - until + maxMs)} of virtual time and ${instants - 1} instants with events, jobs are still unfinished:\n  ${this.#leftOver()}`,
        );
      }
      const isCheckDue =
        (this.#mayHaveUnreported && quiet % quietInstants === quietInstants - 1) ||
        (this.#checksLeft > 0 && instants % instantsAfterCrash === 0);
      if (isCheckDue && (await this.#catchUp())) continue;
      const { nextAt } = this.#clock;
      if (quiet > 0 && quiet % quietSteps === 0 && this.#clock.isStalled) throw this.#clock.stalled();
      if (nextAt === undefined || (quiet > 0 && quiet % quietSteps === 0 && this.#isDeadlock())) {
        if (await this.#catchUp()) continue;
        throw new SimulationDeadlockError(`nothing will ever start the remaining jobs:\n  ${this.#leftOver()}`);
      }
      if (nextAt > until)
        throw new SimulationRunawayError(`after ${exact(maxMs)} of virtual time, jobs are still unfinished:\n  ${this.#leftOver()}`);
      await this.#clock.advanceTo(Math.min(until, nextAt), idle);
    }
  }

  /** Looks for changes that a process made to the store just before it died. True if there were any. */
  async #catchUp(): Promise<boolean> {
    this.#checksLeft = Math.max(0, this.#checksLeft - 1);
    const { stores } = this.#settings;
    const storeOf = ({ id }: Job) => this.#stores.get(stores.get(this.#record.aliases.get(id) ?? 'default') as StoreSource) as Store;
    let corrected = false;
    for (const [store, jobs] of Map.groupBy(this.#record.unfinished, storeOf)) {
      const records = await store.get(jobs.map(({ id }) => id));
      for (const [i, record] of records.entries()) {
        const known = jobs[i] as Job;
        const { id } = known;
        if (!record) this.#checker?.lost(id);
        // It waits for its next attempt. The process that ended the last one died before it could report that.
        const isQueued = record?.job.status === 'queued' && known.status === 'running' && record.job.claim === known.claim;
        if (record && !isFinished(record.job) && !isQueued) continue;
        if (record) this.#record.correct(record);
        else this.#record.gone(id);
        corrected = true;
      }
    }
    return corrected;
  }

  /** Workers keep renewing the leases of attempts that wait for each other; nothing else will happen. */
  #isDeadlock(): boolean {
    return (
      this.#versions.every(({ app }) => app.schedules.length === 0) &&
      this.#clock.onlyDuties &&
      this.#record.unfinished.every((job) => job.dueAt <= this.#clock.now())
    );
  }

  #leftOver(): string {
    const jobs = this.#record.unfinished;
    const lines = jobs.slice(0, 10).map((job) => `${this.#record.label(job.id)} is ${job.status}${this.#reasonFor(job)}`);
    if (jobs.length > 10) lines.push(`and ${jobs.length - 10} more`);
    return lines.join('\n  ');
  }

  #reasonFor(job: Job): string {
    if (job.status === 'running') return `: attempt ${job.attempt} on ${job.worker} has not ended`;
    if (job.dueAt > this.#clock.now()) return `, due in ${exact(job.dueAt - this.#clock.now())}`;
    const because = this.#processes.idleBecause;
    if (because !== undefined) return `: ${because}`;
    return `: no worker claims it; queue ${job.queue} may be paused, or its task unknown`;
  }
}
