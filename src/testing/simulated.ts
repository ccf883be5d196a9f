/** The simulation itself: the clock, the stores, the processes, the record, and the operations for tests. */
import type { App, Binding } from '../app.ts';
import { EngineBackend } from '../backends/engine.ts';
import { silentLogger } from '../console.ts';
import { type Duration, durationMs, formatDuration, type Instant, instantMs, show } from '../core/duration.ts';
import { SimulationError } from '../core/errors.ts';
import type { Event } from '../core/events.ts';
import { maxAttemptsKept, newJob } from '../core/job.ts';
import type { Job, JobRecord } from '../core/types.ts';
import { type SentMail, seamOf } from '../email/seam.ts';
import type { RunningAttempt } from '../engine/attempt.ts';
import type { Host } from '../engine/host.ts';
import { scope } from '../engine/scope.ts';
import { nearest } from '../options/names.ts';
import type { Backend } from '../ports/backend.ts';
import type { Scope } from '../ports/clock.ts';
import { outside } from '../ports/clock.ts';
import { thisMachine } from '../ports/machine.ts';
import { realSetTimeout } from '../ports/real.ts';
import type { Store, StoreSource } from '../ports/store.ts';
import { resultOf, TaskResult } from '../result.ts';
import { appOf, hostOf, rebind, type Tasks } from '../tasks.ts';
import { Choices, type Decision, randomOf } from './choices.ts';
import { crashPoints, type FaultOptions, Faults, type StoreFault } from './faults.ts';
import { refuseOtherFakes, rule } from './globals.ts';
import { InvariantChecker } from './invariants.ts';
import { leaksAmong, type Suspect, suspectsAmong } from './leaks.ts';
import { SimulatedMailServer, type SimulatedSmtp } from './mail.ts';
import { Processes, type Version } from './processes.ts';
import { realWork } from './real-work.ts';
import { type SimulatedAttempt, SimulationRecord } from './record.ts';
import { watchTimers } from './refuse.ts';
import type { Settings } from './settings.ts';
import type { Course, SimulatedJobFilter, SimulatedWorker, Simulation, Timeline } from './simulation.ts';
import { where } from './sites.ts';
import { Idler } from './until-idle.ts';
import { VirtualClock } from './virtual-clock.ts';
import { type TestTimer, virtualGlobals } from './virtual-globals.ts';

/** How often a test that drives nothing is checked, and after how many checks its wait is refused: before Vitest's timeout of 5 s. */
const timerCheckMs = 250;
const maxTimerChecks = 8;

export class Simulated implements Simulation {
  readonly tasks: Tasks;
  readonly record = new SimulationRecord();
  readonly #app: App;
  readonly #settings: Settings;
  readonly #choices: Choices;
  readonly #clock: VirtualClock;
  readonly #host: Host;
  readonly #versions: Version[] = [];
  readonly #faults = new Faults();
  readonly #stores = new Map<StoreSource, Store>();
  readonly #processes: Processes;
  readonly #idler: Idler;
  readonly #whenEnded: () => void;
  readonly #undo: (() => void)[] = [];
  #driving: string | undefined;
  #ended = false;
  readonly store = {
    fail: (fault: StoreFault, options?: FaultOptions) => {
      this.#processes.troubled();
      this.#faults.add(fault, options);
    },
    poison: (task: { readonly name: string } | string, input = '{"cut": "of') =>
      this.#poison(typeof task === 'string' ? task : task.name, input),
  };

  get outbox(): readonly SentMail[] {
    return this.#mail.outbox.slice();
  }
  get smtp(): SimulatedSmtp {
    this.#use();
    return this.#mail;
  }
  readonly #mail: SimulatedMailServer;

  /** Receives the mails of the application until the simulation ends. */
  #takeMail(tasks: Tasks): void {
    const seam = seamOf(tasks);
    const before = seam.outlet;
    seam.outlet = this.#mail;
    this.#undo.push(() => {
      seam.outlet = before;
    });
  }

  readonly scheduler = { stop: () => this.#faults.stopScheduling(), start: () => this.#faults.startScheduling() };

  constructor(tasks: Tasks, settings: Settings, { choices, rates, watched, between }: Course, whenEnded: () => void) {
    const app = appOf(tasks);
    this.tasks = tasks;
    this.#app = app;
    this.#settings = settings;
    this.#whenEnded = whenEnded;
    this.#choices = choices ?? new Choices(settings.seed);
    const clock = new VirtualClock({ now: settings.now, choices: this.#choices, realBudgetMs: settings.realBudgetMs });
    this.#clock = clock;
    this.#host = this.#hostFor(app);
    this.#versions.push({ app, host: this.#host });
    const { record } = this;
    const faults = this.#faults;
    this.#processes = new Processes({
      clock,
      record,
      settings,
      faults,
      stores: this.#stores,
      between,
      use: () => this.#use(),
      mayHaveUnreported: () => this.#idler.mayHaveUnreported(),
    });
    if (watched) {
      this.#checker = new InvariantChecker({
        definition: (name) => this.#versions.findLast((version) => version.app.definitions.has(name))?.app.definitions.get(name),
        troubledAt: (worker) => this.#processes.troubledAt(worker),
        label: (id) => record.label(id),
        now: clock.now,
        alive: () => this.#processes.alive,
        concurrency: settings.concurrency,
        // A broken application may run forever, so the run ends immediately.
        found: (problem) => clock.fail(new SimulationError(problem)),
      });
    }
    this.#processes.handlers = this.#checker?.handlers;
    const checker = this.#checker;
    const [stores, versions, processes] = [this.#stores, this.#versions, this.#processes];
    this.#idler = new Idler({ clock, record, settings, stores, versions, processes, checker });
    if (rates) faults.drawn = this.#processes.draw(this.#choices, rates);
    const processOf = () => this.#processes.processOf(scope.getStore()?.worker ?? '');
    this.#mail = new SimulatedMailServer({
      now: clock.now,
      turn: () => clock.turn(),
      fault: () => faults.drawn?.mail(processOf()),
      note: (text) => clock.onNote(scope.getStore(), text),
    });
  }

  #hostFor(app: App): Host {
    const { retention } = this.#settings;
    const host = hostOf(app, this.#clock, this.#choices, {
      logger: silentLogger,
      retention,
      machine: { ...thisMachine, host: 'simulation', pid: 0 },
      running: new Set(),
    });
    const aliasOf = ({ id, task }: Job) => this.record.aliases.get(id) ?? app.definitions.get(task)?.backend ?? 'default';
    return { ...host, resultOf: (job) => resultOf(app, aliasOf(job), { job, attempts: [] }) };
  }

  #checker: InvariantChecker | undefined;

  /** The decisions that caused each drawn fault, by its code. */
  get fired(): ReadonlyMap<string, readonly Decision[]> {
    return this.#faults.drawn?.fired ?? new Map();
  }

  choose(point: string, count: number): number {
    return this.#choices.choose(`op.${point.replace(/[^\w.-]+/g, '-')}`, count);
  }

  /** Stops all faults, starts every worker and corrects its clock. */
  async heal(): Promise<void> {
    this.#use();
    this.#faults.heal();
    this.#mail.heal();
    this.#checker?.healed();
    this.#processes.heal();
    await this.drain();
  }

  /**
   * The findings of the invariant checker.
   * @param options.whole whether the run is over, so that no work may be left
   */
  async verify({ whole }: { whole: boolean }): Promise<readonly string[]> {
    if (!this.#checker) return [];
    if (!whole) return this.#checker.problems;
    const starts = Map.groupBy(this.record.attempts, ({ job }) => job);
    await this.#checker.final(this.#stores.values(), this.#clock.now(), (id) => starts.get(id)?.length ?? 0);
    return this.#checker.problems;
  }

  /** All work has finished, so there should be few store calls. */
  async calm(ms: number): Promise<void> {
    const before = { calls: this.#checker?.calls ?? 0, events: this.record.length };
    await this.advance(ms);
    // Work created by schedules continues.
    if (this.record.length === before.events)
      this.#checker?.calm(this.#checker.calls - before.calls, this.#processes.count * this.#stores.size, ms);
  }

  get now(): Date {
    return new Date(this.#clock.now());
  }
  get startedAt(): Date {
    return new Date(this.#settings.now);
  }
  get seed(): number | undefined {
    return this.#settings.seed;
  }

  async begin(): Promise<void> {
    const { globals, workers, stores, seed, record } = this.#settings;
    for (const source of new Set(stores.values())) {
      const store = await source.open({ alone: true });
      await store.migrate();
      for (const { name } of await store.listSchedules()) this.#faults.schedules.add(name);
      if (this.#checker && (await store.list({}, { now: this.#clock.now(), limit: 1 })).items.length > 0) {
        throw new SimulationError(
          `the store ${source.name} already has jobs, but every run of an exploration starts with an empty store; use memory(), sqlite({ file: ':memory:' }), or a function that creates a new store`,
        );
      }
      this.#stores.set(source, this.#checker?.watch(store) ?? store);
    }
    if (record) this.#undo.push(this.#app.events.on('*', this.#recorded));
    if (this.#settings.replay) this.#replayIn(this.#app);
    this.#takeMail(this.tasks);
    this.#undo.push(rebind(this.#app, this.#binding(this.#host)));
    this.#undo.push(
      realWork.attend({
        longestMs: this.#settings.realBudgetMs,
        isInFlight: (attempt) => this.#clock.isInFlight(attempt),
        captured: (site) => this.#captured(site),
      }),
    );
    if (globals) {
      const random = randomOf(seed ?? 0, () => this.#clock.isOrdered);
      this.#undo.push(rule(virtualGlobals(this.#clock, random, () => this.#driving !== undefined, this.#armedByTest)));
      this.#clock.check = () => refuseOtherFakes('since');
    }
    this.#clock.onNote = (attempt, text) => {
      const of = attempt ? `${attempt.task} attempt ${attempt.attempt} ` : '';
      this.record.add({ type: 'note', at: this.#clock.now(), worker: attempt?.worker ?? '', text: of + text });
    };
    await outside(async () => {
      this.#processes.start(this.#versions[0] as Version, workers);
      await this.#clock.settle();
    });
  }

  drain(): Promise<void> {
    return this.#drive('drain', () => this.#clock.settle());
  }

  advance(duration: Duration): Promise<void> {
    return this.#drive('advance', () => this.#clock.advanceTo(this.#clock.now() + durationMs(duration, 'sim.advance()')));
  }

  advanceTo(instant: Instant): Promise<void> {
    return this.#drive('advanceTo', () => {
      const target = instantMs(instant, 'sim.advanceTo()');
      if (target < this.#clock.now()) {
        throw new SimulationError(
          `advanceTo(${new Date(target).toISOString()}): virtual time is already at ${this.now.toISOString()} and cannot go back`,
        );
      }
      return this.#clock.advanceTo(target);
    });
  }

  next(options: { max?: Duration } = {}): Promise<Date | undefined> {
    return this.#drive('next', async () => {
      this.#needRecord('next');
      const until = options.max === undefined ? Number.POSITIVE_INFINITY : this.#clock.now() + durationMs(options.max, 'sim.next().max');
      await this.#clock.settle();
      const before = this.record.length;
      const target = this.#clock.nextAt === undefined ? Number.POSITIVE_INFINITY : until;
      await this.#clock.advanceTo(target, () => this.record.length > before);
      return this.record.length > before ? this.now : undefined;
    });
  }

  /** @param options.instants maximum number of instants with events */
  runUntilIdle(options: { max?: Duration; instants?: number } = {}): Promise<void> {
    return this.#drive('runUntilIdle', () => {
      this.#needRecord('runUntilIdle');
      const maxMs = durationMs(options.max ?? '366d', 'sim.runUntilIdle().max');
      return this.#idler.run(maxMs, options.instants ?? Number.POSITIVE_INFINITY);
    });
  }

  jobs(filter: SimulatedJobFilter = {}): TaskResult[] {
    return this.#jobsOf(this.record, filter);
  }

  deploy(tasks: Tasks, options: { workers?: number; beside?: boolean } = {}): void {
    this.#use();
    const app = appOf(tasks);
    const unknown = app.known.backends.find((alias) => !this.#settings.stores.has(alias));
    if (unknown !== undefined)
      throw new SimulationError(`the deployed application has a backend ${unknown}, which the first application does not have`);
    const { workers = this.#settings.workers, beside = false } = options;
    if (!Number.isSafeInteger(workers) || workers < 1 || workers > 64)
      throw new SimulationError(`deploy() takes { workers }, 1 to 64; got ${workers}`);
    let version = this.#versions.find((other) => other.app === app);
    if (!version) {
      version = { app, host: { ...this.#hostFor(app), newId: this.#host.newId } };
      this.#versions.push(version);
      if (this.#settings.record) this.#undo.push(app.events.on('*', this.#recorded));
      if (this.#settings.replay) this.#replayIn(app);
      this.#takeMail(tasks);
      this.#undo.push(rebind(app, this.#binding(version.host)));
      if (this.#crashing) this.#crashIn(app);
    }
    this.#processes.replace(version, workers, beside);
  }

  async #poison(task: string, input: string): Promise<TaskResult> {
    this.#use();
    const definition = this.#app.definitions.get(task);
    if (!definition) throw new SimulationError(`poison() takes a task of this application; no task has the name ${task}`);
    const { queue, priority, maxAttempts, tags, backend } = definition;
    const none = { runAfter: null, expiresAt: null, metadata: {}, schedule: null, scheduledAt: null, overrides: null };
    const now = this.#clock.now();
    const job = newJob({ task, queue, priority, input, maxAttempts, tags, ...none }, this.#host.newId(now), now);
    const target = this.#bound.backends.get(backend) as Backend;
    const [record] = await target.enqueue([job], { now });
    return new TaskResult(this.#bound, backend, target, record as JobRecord);
  }

  crash({ at, task, nth = 1 }: Parameters<Simulation['crash']>[0]): void {
    this.#use();
    if (!crashPoints.includes(at)) throw new SimulationError(`crash() takes { at }, one of ${crashPoints.join(', ')}; got ${String(at)}`);
    if (!Number.isSafeInteger(nth) || nth < 1) throw new SimulationError(`crash() takes { nth }, a whole number of at least 1; got ${nth}`);
    this.#faults.crashAt(at, this.#checkTask('crash()', task), nth);
    if (at !== 'in run' || this.#crashing) return;
    this.#crashing = true;
    for (const { app } of this.#versions) this.#crashIn(app);
  }

  /** Returns an attempt to the queue after each step that it records. */
  #replayIn(app: App): void {
    this.#undo.push(
      app.events.on('stepped', (event, attempt) => {
        if (event.type !== 'stepped' || event.kind !== 'step') return;
        (attempt as RunningAttempt | undefined)?.suspend(0, undefined, `runs again from the top after its step ${event.step}`);
      }),
    );
  }

  #crashIn(app: App): void {
    this.#undo.push(
      app.events.on('started', (event) => {
        if (event.type !== 'started' || !this.#faults.crashes('in run', (name) => name === event.job.task)) return;
        const { worker } = event;
        this.#clock.arm(this.#clock.now(), () => this.#processes.crash(worker), undefined);
      }),
    );
  }
  #crashing = false;

  at(instant: Instant): { jobs(filter?: SimulatedJobFilter): TaskResult[]; timeline(): Timeline } {
    this.#needRecord('at');
    const at = instantMs(instant, 'sim.at()');
    if (at > this.#clock.now())
      throw new SimulationError(`at(${new Date(at).toISOString()}) is in the future: virtual time is at ${this.now.toISOString()}`);
    const past = this.record.upTo(at);
    const lines = past.lines(this.#settings.now);
    return { jobs: (filter = {}) => this.#jobsOf(past, filter), timeline: () => ({ lines, toString: () => lines.join('\n') }) };
  }

  /**
   * An unknown name is a mistake, not a task without jobs.
   * @returns the task's name
   */
  #checkTask(call: string, task: { readonly name: string } | string | undefined): string | undefined {
    if (task === undefined) return undefined;
    const name = typeof task === 'string' ? task : task?.name;
    const names = this.#versions.flatMap(({ app }) => app.names());
    if (typeof name !== 'string') throw new SimulationError(`${call} takes a task or its name; got ${show(task)}`);
    if (names.includes(name) || this.record.jobs.some(({ job }) => job.task === name)) return name;
    const near = nearest(name, names);
    throw new SimulationError(`${call}: no task is defined with the name ${show(name)}${near ? `; did you mean ${near}?` : ''}`);
  }

  #checkSchedule(name: string): void {
    const names = [
      ...this.#versions.flatMap(({ app }) => app.schedules.map(({ definition }) => definition.name)),
      ...this.#faults.schedules,
    ];
    if (names.includes(name) || this.record.jobs.some(({ job }) => job.schedule === name)) return;
    const near = typeof name === 'string' ? nearest(name, names) : undefined;
    throw new SimulationError(`sim.fires(): no schedule has the name ${show(name)}${near ? `; did you mean ${near}?` : ''}`);
  }

  #jobsOf(past: SimulationRecord, filter: SimulatedJobFilter): TaskResult[] {
    for (const key of ['task', 'status'] as const) {
      if (Object.hasOwn(filter, key) && filter[key] === undefined)
        throw new SimulationError(`jobs().${key} is undefined; omit it to leave this condition out`);
    }
    const name = this.#checkTask('jobs()', filter.task);
    const statuses = filter.status === undefined ? undefined : typeof filter.status === 'string' ? [filter.status] : filter.status;
    const results: TaskResult[] = [];
    for (const { job, attempts } of past.jobs) {
      if (name !== undefined && job.task !== name) continue;
      const alias = this.record.aliases.get(job.id) ?? 'default';
      const result = new TaskResult(this.#bound, alias, this.#bound.backends.get(alias) as Backend, {
        job,
        attempts: attempts.slice(-maxAttemptsKept),
      });
      if (!statuses || statuses.includes(result.status)) results.push(result);
    }
    return results;
  }

  attempts(task?: { readonly name: string } | string): SimulatedAttempt[] {
    const name = this.#checkTask('attempts()', task);
    return this.record.attempts.filter((attempt) => name === undefined || attempt.task === name);
  }

  fires(schedule: string): Date[] {
    this.#needRecord('fires');
    this.#checkSchedule(schedule);
    const instants = this.record.jobs.flatMap(({ job }) => (job.schedule === schedule ? (job.scheduledAt ?? []) : []));
    return instants.sort((a, b) => a - b).map((at) => new Date(at));
  }

  timeline(): Timeline {
    const lines = this.record.lines(this.#settings.now);
    return { lines, toString: () => lines.join('\n') };
  }

  tree(): Timeline {
    const lines = this.record.tree(this.#clock.now());
    return { lines, toString: () => lines.join('\n') };
  }

  worker(index: number): SimulatedWorker {
    return this.#processes.worker(index);
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const driving = this.#checker ? undefined : this.#driving;
    // It is not awaited anywhere, and its error is reported here.
    this.#underWay?.catch(() => {});
    const suspects = this.#suspects();
    for (const undo of this.#undo.splice(0).reverse()) undo();
    this.#processes.kill();
    this.#whenEnded();
    for (const store of this.#stores.values()) await store.close();
    if (driving !== undefined && !this.#isMisuseReported) throw this.#notAwaited(driving);
    const leaks = await leaksAmong(suspects);
    if (leaks.length === 0) return;
    const lines = leaks.map(({ scope: { id, attempt }, at }) => `${this.record.label(id)} attempt ${attempt}: a timer set at ${at}`);
    throw new SimulationError(
      `attempts have ended but left work behind, which would continue in production with nothing waiting for it:\n  ${[...new Set(lines)].join('\n  ')}\n` +
        'Await it in the task, or clear the timer when the task ends.',
    );
  }

  /**
   * An attempt uses a real timer.
   * @param site where it was set
   */
  #captured(site: Error): void {
    if (this.#warnedCaptured || !this.#settings.globals) return;
    this.#warnedCaptured = true;
    const text =
      `a real timer was set at ${where(site)}: setTimeout was captured before escapement/testing was loaded, so it does not follow virtual time. ` +
      "Import escapement/testing first, or add 'escapement/vitest/setup' to setupFiles in vitest.config.ts";
    const attempt = scope.getStore();
    this.#clock.onNote(attempt, 'sets a real timer with a function that was captured before escapement/testing was loaded');
    process.emitWarning(text, { code: 'ESCAPEMENT_CAPTURED' });
  }
  #warnedCaptured = false;

  /** A separate function, so that no reference to the timers remains after it returns. */
  #suspects(): readonly Suspect[] {
    return suspectsAmong(this.#clock.leftovers());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  /** Only one driver at a time, and never from inside a task. */
  #drive<T>(call: string, fn: () => Promise<T>): Promise<T> {
    const driven = this.#driven(call, fn);
    // A refused call does not affect the pending one.
    if (this.#driving === call) this.#underWay = driven;
    return driven;
  }
  #underWay: Promise<unknown> | undefined;

  async #driven<T>(call: string, fn: () => Promise<T>): Promise<T> {
    this.#use();
    if (scope.getStore())
      throw new SimulationError(
        `sim.${call}() was called inside a task; only the test can advance time. In a task, wait with ctx.sleep().`,
      );
    if (this.#driving) {
      this.#isMisuseReported = true;
      throw new SimulationError(
        `sim.${call}() was called before sim.${this.#driving}() had finished; write: await sim.${this.#driving}(…)`,
      );
    }
    this.#driving = call;
    this.#drives += 1;
    try {
      // Tasks must not see the asynchronous context of the test that drives them; in production there is none.
      return await outside(fn);
    } catch (error) {
      // Errors found after the end are meaningless.
      throw this.#ended ? this.#notAwaited(call) : error;
    } finally {
      this.#driving = undefined;
    }
  }
  #drives = 0;
  /** The test was already told that it does not await a call; the end must not repeat it and hide the first message. */
  #isMisuseReported = false;

  #notAwaited(call: string): SimulationError {
    return new SimulationError(`sim.${call}() was not awaited: the simulation ended before it had finished. Write: await sim.${call}(…)`);
  }

  /** From now on, a test that waits for a timer it has set and drives nothing fails immediately, instead of by its runner's timeout. */
  [watchTimers](): void {
    this.#watchesTimers = true;
  }
  #watchesTimers = false;

  readonly #armedByTest = (timer: TestTimer): void => {
    if (!this.#watchesTimers) return;
    this.#testTimers.add(timer);
    if (this.#testTimers.size > 1) return;
    let quiet = 0;
    let drives = this.#drives;
    const check = () => {
      for (const one of this.#testTimers) if (!one.timer.isPending) this.#testTimers.delete(one);
      if (this.#ended || this.#testTimers.size === 0) {
        this.#testTimers.clear();
        return;
      }
      // Counts checks instead of time, because checks come later on a slow machine.
      quiet = this.#driving !== undefined || drives !== this.#drives || this.#clock.isBusy ? 0 : quiet + 1;
      drives = this.#drives;
      if (quiet < maxTimerChecks) realSetTimeout(check, timerCheckMs).unref();
      else this.#refuseTestTimers();
    };
    realSetTimeout(check, timerCheckMs).unref();
  };
  readonly #testTimers = new Set<TestTimer>();

  #refuseTestTimers(): void {
    for (const { timer, reject } of this.#testTimers) {
      const text =
        `the test waits for a timer of ${formatDuration(timer.delay)}${timer.site ? `, set at ${where(timer.site)}` : ''}, but virtual time stands still; ` +
        `drive it with await sim.advance(${timer.delay}) while the timer is pending`;
      if (!reject) {
        process.emitWarning(text, { code: 'ESCAPEMENT_UNDRIVEN' });
        continue;
      }
      timer.close();
      reject(new SimulationError(text));
    }
    this.#testTimers.clear();
  }

  /** Events that attempts report after real work are recorded in the attempts' order. */
  readonly #recorded = (event: Event, by: unknown): void => {
    const of = by as Scope | undefined;
    if (of) this.#clock.inTurn(of, () => this.record.add(event));
    else this.record.add(event);
  };

  #use(): void {
    const attempt = scope.getStore();
    // Code of a killed process that was woken from outside.
    if (attempt && this.#clock.isDead(attempt))
      throw new SimulationError(`worker ${attempt.worker} has crashed; its code has no effect any more`);
    if (this.#ended) throw new SimulationError('this simulation has ended; its objects can no longer be used');
  }

  #needRecord(call: string): void {
    if (!this.#settings.record) throw new SimulationError(`sim.${call}() needs the record, but simulate() was called with record: false`);
  }

  #bound!: Binding;

  #binding(host: Host): Binding {
    const backends = new Map<string, Backend>();
    for (const [alias, source] of this.#settings.stores) {
      const store = this.#processes.clientOf(this.#stores.get(source) as Store);
      const backend = new EngineBackend(host, { kind: 'store', name: source.name, open: () => store });
      const enqueue = backend.enqueue.bind(backend);
      // Rows do not contain their alias.
      if (alias !== 'default' && this.#settings.record) {
        backend.enqueue = (jobs, options) => {
          for (const { id } of jobs) this.record.aliases.set(id, alias);
          return enqueue(jobs, options);
        };
      }
      backends.set(alias, backend);
    }
    const binding: Binding = {
      host,
      backends,
      beforeUse: () => this.#use(),
      turn: () => this.#clock.turn(),
      declare: () => this.#processes.declare(),
      beforeStart: () => {
        throw new SimulationError(
          'a simulation has its own workers: simulate(tasks, { workers: 2 }). Start other workers after it has ended.',
        );
      },
      beforeWait: () => {
        if (this.#driving) {
          this.#isMisuseReported = true;
          throw new SimulationError(
            `result.wait() was called before sim.${this.#driving}() had finished; write: await sim.${this.#driving}(…)`,
          );
        }
        throw new SimulationError(
          'result.wait() in a test would wait forever, because virtual time stands still. Use await sim.runUntilIdle() or sim.advance(), then refresh().',
        );
      },
    };
    this.#bound ??= binding;
    return binding;
  }
}
