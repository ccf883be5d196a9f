/**
 * A clock that advances only on request. The engine's timers, its wake-ups and the virtual timers of task code are in one order, by instant
 * and then by insertion. A driver runs them one at a time, and before each one waits until everything that the previous one started has
 * either ended or waits again. A timer that fires therefore sees exactly its instant, and nothing happens outside a driver's call.
 *
 * There is one rule: while any real work is in progress in the process, virtual time stands still, whatever timers are set; otherwise it
 * advances. `real-work` tracks that work. Three more things hold an instant: a step of the engine that has not ended; an attempt
 * that waits neither on time nor on anything real (it may wait on another part of the program, and lets time pass if time can help); and a
 * call that is marked as external. Whatever exceeds the budget is passed over, with a note, if a timer or a deadline can end it.
 *
 * Once real time has passed, the effects of attempts wait at a gate until the instant is quiet, and then happen in the order in which the
 * attempts started, so that the run does not depend on how long real work takes.
 */

import { SimulationStalledError } from '../core/errors.ts';
import { Heap } from '../core/heap.ts';
import { scope as currentScope } from '../engine/scope.ts';
import { type Clock, type Scope, type Timer, yieldToEventLoop } from '../ports/clock.ts';
import { realClearTimeout, realNow, realSetImmediate, realSetTimeout } from '../ports/real.ts';
import type { Choices } from './choices.ts';
import { type Callback, Entry } from './entry.ts';
import { Gate } from './gate.ts';
import { Owner, Owners, type Process } from './owners.ts';
import { realWork } from './real-work.ts';
import { framesOfTimers, isUserCode, siteOf, where } from './sites.ts';

const tick = () => new Promise<void>((resolve) => process.nextTick(resolve));
/** Waits until real work makes progress, or a few milliseconds have passed. */
const realProgress = () =>
  new Promise<void>((resolve) => {
    const timer = realSetTimeout(resolve, longestPauseMs);
    void realWork.next().then(() => {
      realClearTimeout(timer);
      realSetImmediate(resolve);
    });
  });

/** Number of microtask hops before yielding to the event loop; most chains of awaits in tasks are shorter. */
const hops = 64;
/** Number of rounds of process.nextTick, with which clients start their requests, before yielding to the event loop. */
const ticks = 8;
/** Number of turns of the event loop after which an attempt without real work counts as waiting on another part of the program. */
const quietTurns = 3;
/** Number of turns without real work after which it counts as over; the first turn may have started halfway. */
const wholeTurns = 2;
/** Number of turns in a row, after which other processes get the processor in between. */
const busyTurns = 50;
const longestPauseMs = 5;

export interface VirtualClockOptions {
  readonly now: number;
  readonly choices: Choices;
  /** How long to wait for real work, in real milliseconds. */
  readonly realBudgetMs: number;
}

/**
 * A timer that belongs to no running attempt: one of a library, or of a server in the test. It is not part of the drawn order at an
 * instant, because its presence may depend on what happened before the simulation.
 */
function isHousekeeping({ handle, owner, background, site }: Entry): boolean {
  return handle !== undefined && (background || !owner || owner.left || !isUserCode(site));
}

function isInFlightAndEnds(entry: Entry): boolean {
  return isInFlight(entry) && !entry.repeats;
}

function isInFlight({ owner }: Entry): boolean {
  return owner !== undefined && !owner.left;
}

/** True if it may start something that other code waits on: not a worker's duty, a heartbeat or housekeeping. */
function mayRelease(entry: Entry): boolean {
  if (entry.repeats || (!entry.owner && entry.process)) return false;
  return isInFlight(entry) || !entry.background;
}

export class VirtualClock implements Clock {
  readonly #choices: Choices;
  readonly #budgetMs: number;
  readonly #heap = new Heap<'place', Entry>('place', (a, b) => (a.at === b.at ? a.order < b.order : a.at < b.at));
  /** The entries to run at this instant, in order. */
  #ready: Entry[] = [];
  #readyFrom = 0;
  readonly #owners = new Owners();
  #now: number;
  #order = 0;
  #steps = 0;
  /** Processes with a step that has waited for its store. */
  readonly #processes = new Set<Process>();
  /** The unfinished steps wait for steps that wait for their store, so only time can help. */
  #excused = false;
  /** An attempt set a timer at this instant; another branch of it may still be about to set one. */
  #branching = false;
  #errors: unknown[] = [];
  readonly #gate = new Gate();
  /** Real work has been in progress since the gate was last opened. */
  #tainted = false;
  /** Called with notes for the timeline about an attempt and real work; without a scope, about no particular attempt. */
  onNote: (scope: Scope | undefined, text: string) => void = () => {};
  /** Throws if other code has installed a different clock. */
  check: () => void = () => {};

  /** Called when an attempt starts to wait on time. */
  onWait: (process: Process) => void = () => {};

  constructor(options: VirtualClockOptions) {
    this.#now = options.now;
    this.#choices = options.choices;
    this.#budgetMs = options.realBudgetMs;
  }

  readonly now = (): number => this.#now;

  /** The time that the clock of the calling code's process shows; a worker's clock may be skewed. */
  readonly nowHere = (): number => {
    return this.#now + (this.#owners.here?.process?.skewMs ?? 0);
  };

  readonly monotonic = (): number => this.#now;

  at(instant: number, fn: Callback): Timer {
    return this.arm(instant, fn, undefined);
  }

  after(ms: number, fn: Callback): Timer {
    return this.arm(this.#now + ms, fn, undefined);
  }

  soon(fn: Callback): void {
    this.#ready.push(new Entry(this, this.#now, this.#order++, fn, undefined, undefined));
  }

  enter(scope: Scope, endsAt: number): void {
    this.#owners.enter(scope, new Owner(scope, undefined, endsAt, this.#now));
  }

  leave(scope: Scope, returned: boolean): void {
    const what = this.#owners.leave(scope, returned);
    if (what !== undefined) this.onNote(scope, `ended while ${what} was still in progress`);
  }

  inTurn(scope: Scope | undefined, fn: () => void): void {
    const owner = this.#gate.isOpen ? undefined : this.#owners.ownerOf(scope);
    if (!owner) {
      fn();
      return;
    }
    this.#owners.turn(owner, true);
    this.#gate.hold(owner.rank, () => {
      this.#owners.turn(owner, false);
      if (!owner.process?.dead) fn();
    });
  }

  /** True if no real time has passed that attempts could have used. */
  get isOrdered(): boolean {
    return this.#gate.isOpen;
  }

  /** When the calling code may continue, if it belongs to an attempt that must wait until others have reached the same point. */
  turn(): Promise<void> | undefined {
    const scope = this.#gate.isOpen ? undefined : currentScope.getStore();
    return scope && this.#owners.ownerOf(scope) ? new Promise((resolve) => this.inTurn(scope, resolve)) : undefined;
  }

  /** Runs a call under a name for reports. */
  calling<T>(name: string, fn: () => Promise<T>): Promise<T> {
    return this.#owners.here ? realWork.calling(name, fn) : fn();
  }

  async external<T>(label: string, fn: () => Promise<T>): Promise<T> {
    const owner = this.#owners.here;
    if (!owner) return fn();
    const ended = this.#owners.external(owner, label);
    try {
      return await fn();
    } finally {
      ended();
    }
  }

  /** The clock as seen by one worker's process: everything set through it pauses and dies with the process. */
  forProcess(process: Process): Clock {
    return {
      now: () => this.#now + process.skewMs,
      monotonic: this.monotonic,
      at: (instant, fn) => this.arm(instant - process.skewMs, fn, process),
      after: (ms, fn) => this.arm(this.#now + ms, fn, process),
      soon: (fn) => {
        if (!process.dead) this.#ready.push(new Entry(this, this.#now, this.#order++, fn, process, undefined));
      },
      enter: (scope, endsAt) => this.#owners.enter(scope, new Owner(scope, process, endsAt - process.skewMs, this.#now)),
      leave: (scope, returned) => this.leave(scope, returned),
      inTurn: (scope, fn) => this.inTurn(scope, fn),
      external: (label, fn) => this.external(label, fn),
    };
  }

  /** Delays what a step waits for. Other things happen in the meantime, including attempts of the same process. */
  lag(process: Process, ms: number): Promise<void> {
    const holds = process.steps > 0 && !this.#owners.here ? 1 : 0;
    this.#steps -= holds;
    process.steps -= holds;
    process.lags += 1;
    this.#processes.add(process);
    return new Promise((resolve) => {
      this.arm(
        this.#now + ms,
        () => {
          process.lags -= 1;
          this.#steps += holds;
          process.steps += holds;
          resolve();
        },
        process,
      );
    });
  }

  /** Sets a timer. If it is set below a task's function, it belongs to the attempt, which then waits on time. */
  arm(instant: number, fn: Callback, process: Process | undefined): Entry {
    const scope = currentScope.getStore();
    const owner = this.#owners.here;
    // Clocks use whole milliseconds.
    const entry = new Entry(this, Math.max(Math.ceil(instant), this.#now), this.#order++, fn, owner?.process ?? process, owner);
    if (entry.process?.dead || (scope && !owner && this.isDead(scope))) {
      entry.over = true;
      return entry;
    }
    if (!owner) {
      this.#place(entry, instant);
      return entry;
    }
    entry.site = siteOf('armed here', framesOfTimers);
    this.#owners.waits(owner);
    this.#branching = true;
    if (this.#gate.isOpen) this.#placed(entry, instant, owner);
    else {
      this.#gate.hold(owner.rank, () => {
        if (entry.over || entry.process?.dead) return;
        entry.order = this.#order++;
        this.#placed(entry, instant, owner);
      });
    }
    return entry;
  }

  #placed(entry: Entry, instant: number, owner: Owner): void {
    if (owner.process) this.onWait(owner.process);
    this.#place(entry, instant);
  }

  #place(entry: Entry, instant: number): void {
    // Nothing fires at infinity; it only shows that something waits.
    if (instant === Number.POSITIVE_INFINITY) return;
    if (entry.at <= this.#now) this.#ready.push(entry);
    else this.#heap.push(entry);
  }

  /** Removes a timer. */
  forget(entry: Entry): void {
    entry.over = true;
    this.#heap.remove(entry);
    this.#waited(entry);
  }

  /** Changes whether a timer's attempt waits for it (unref and ref). */
  disown(entry: Entry, background: boolean): void {
    entry.background = background;
    if (entry.owner) this.#owners.disown(entry.owner, background);
  }

  /** Removes everything of a worker's process: its timers, steps and attempts. */
  kill(process: Process): void {
    if (process.dead) return;
    process.dead = true;
    this.#steps -= process.steps;
    process.steps = 0;
    for (const entry of [...this.#heap.items]) if (entry.process === process) this.#heap.remove(entry);
    this.#owners.kill(process);
    for (const callback of process.whenDead) callback();
  }

  /** True for an attempt whose worker was killed: its code may still run, but has no effect. */
  isDead(scope: Scope): boolean {
    return this.#owners.isDead(scope);
  }

  isInFlight(scope: Scope): boolean {
    return this.#owners.ownerOf(scope) !== undefined;
  }

  /** True if attempts in flight wait on something real that has exceeded the budget, and time cannot help them. */
  get isStalled(): boolean {
    return this.#owners.size > 0 && !this.#canTimeHelp && (this.#owners.anyExcused || realWork.all(this.#owners.isDead).length > 0);
  }

  /** True if only workers' duties are left on the clock: every attempt in flight waits for something that no timer triggers. */
  get onlyDuties(): boolean {
    for (const entry of this.#heap.items) {
      if (isInFlight(entry) || mayRelease(entry) || (entry.process?.pausedUntil ?? 0) > this.#now) return false;
    }
    return !this.#owners.anyEnds && !this.#othersMayHelp;
  }

  /** The next instant with a timer, or undefined. */
  get nextAt(): number | undefined {
    return this.#heap.peek()?.at;
  }

  /** Timers of attempts whose function has ended: work that may have been left behind. Removes them. */
  leftovers(): readonly Entry[] {
    const left = this.#heap.items.filter(({ owner, background }) => owner?.returned && !background && !owner.process?.dead);
    for (const entry of [...this.#heap.items]) this.#heap.remove(entry);
    return left;
  }

  /** Runs everything that is due, and waits for everything it starts; time does not advance. */
  async settle(): Promise<void> {
    this.check();
    this.#tainted = this.#gate.holds || this.isBusy;
    this.#gate.isOpen = !this.#tainted;
    let ran = true;
    for (;;) {
      const entry = this.#take();
      if (entry) {
        ran = true;
        this.#run(entry);
        // The woken attempt may continue for a while, although it has another timer.
        if (entry.owner && entry.owner.waits > 0) this.#branching = true;
        this.#owners.crowd.check();
      }
      // Most of it needs only a few microtasks.
      for (let i = 0; i < hops && this.#isAtWork; i++) await null;
      for (let i = 0; i < ticks && this.#isAtWork; i++) await tick();
      if (this.#held || this.#branching || this.#tainted || this.isBusy) await this.#rest();
      if (this.#readyFrom < this.#ready.length) continue;
      // One at a time, so that it makes no difference how many attempts have reached their turn in the meantime.
      const first = this.#tainted ? this.#owners.firstAtGate : undefined;
      if (first) {
        this.#gate.releaseOne(first.rank);
        ran = true;
        continue;
      }
      this.#tainted = false;
      if (this.#gate.release()) {
        ran = true;
        continue;
      }
      if (entry) continue;
      if (this.#owners.idle === 0 || !ran) break;
      ran = false;
      await this.#turn();
      this.#owners.recheckIdle(this.#othersMayHelp);
    }
    // The effects of attempts that continue until the driver is called again wait for their turn.
    this.#gate.isOpen = this.#owners.size === 0 || realWork.all(this.#owners.isDead).length === 0;
    this.#raise();
  }

  /** Advances time to an instant. No timer may be set before it. */
  moveTo(instant: number): void {
    this.#now = Math.max(this.#now, instant);
    realWork.moved();
    const from = this.#ready.length;
    for (let entry = this.#heap.peek(); entry && entry.at <= this.#now; entry = this.#heap.peek()) {
      this.#heap.remove(entry);
      this.#ready.push(entry);
    }
    if (this.#ready.length - from < 2 || !this.#choices.draws) return;
    const due = this.#ready.splice(from);
    this.#ready.push(...due.filter(isHousekeeping), ...due.filter((entry) => !isHousekeeping(entry)));
  }

  /** Advances time through every instant on the way, in order. */
  async advanceTo(target: number, until: () => boolean = () => false): Promise<void> {
    await this.settle();
    for (let at = this.nextAt; at !== undefined && at <= target && !until(); at = this.nextAt) {
      this.moveTo(at);
      await this.settle();
    }
    if (!until() && target < Number.POSITIVE_INFINITY) {
      this.moveTo(target);
      await this.settle();
    }
  }

  /** Reports an error to the driver as soon as nothing is running at this instant. */
  fail(error: unknown): void {
    this.#errors.push(error);
  }

  /** The next entry to run at this instant: the first one, or any of them if there is a seed. */
  #take(): Entry | undefined {
    for (;;) {
      const waiting = this.#ready.length - this.#readyFrom;
      if (waiting === 0) {
        if (this.#readyFrom > 0) {
          this.#ready = [];
          this.#readyFrom = 0;
        }
        return undefined;
      }
      const isFirst = waiting > 1 && this.#choices.draws && isHousekeeping(this.#ready[this.#readyFrom] as Entry);
      const at = this.#readyFrom + (isFirst ? 0 : this.#choices.choose('tie', waiting));
      const entry = this.#ready[at] as Entry;
      this.#ready[at] = this.#ready[this.#readyFrom] as Entry;
      this.#readyFrom += 1;
      if (entry.over || entry.process?.dead) continue;
      if (entry.process && entry.process.pausedUntil > this.#now) {
        // The process is paused: the entry runs when it resumes, after those that were to run before.
        entry.at = entry.process.pausedUntil;
        entry.order = this.#order++;
        this.#heap.push(entry);
        continue;
      }
      return entry;
    }
  }

  #run(entry: Entry): void {
    entry.over = true;
    this.#waited(entry);
    const { process } = entry;
    this.#excused = false;
    // Counted before it starts, because its store calls may take time or kill it immediately.
    this.#steps += 1;
    if (process) process.steps += 1;
    let done: void | Promise<void>;
    try {
      done = entry.fn();
    } catch (error) {
      this.#stepEnded(process);
      this.#errors.push(error);
      return;
    }
    if (!(done instanceof Promise)) {
      this.#stepEnded(process);
      return;
    }
    done.then(
      () => this.#stepEnded(process),
      (error) => {
        this.#stepEnded(process);
        this.#errors.push(error);
      },
    );
  }

  #stepEnded(process: Process | undefined): void {
    if (process?.dead) return;
    this.#steps -= 1;
    if (process) process.steps -= 1;
  }

  #waited({ owner, background }: Entry): void {
    if (owner) this.#owners.waited(owner, background);
  }

  /** True if real work is in progress that virtual time waits for. */
  get isBusy(): boolean {
    return realWork.busy(this.#owners.isDead);
  }

  #taint(): void {
    this.#tainted = true;
    this.#gate.isOpen = false;
  }

  /**
   * Takes a turn of the event loop. If anything real is in progress during it, effects of attempts wait for their turn from its start on.
   */
  async #turn(waits = yieldToEventLoop): Promise<void> {
    this.#gate.isOpen = false;
    const { events } = realWork;
    this.#tainted ||= this.isBusy;
    await waits();
    this.#tainted ||= events !== realWork.events || this.isBusy;
    if (!this.#tainted) this.#gate.release();
  }

  /**
   * Waits, turn by turn, until nothing holds the instant: no step, no running attempt, nothing real. Entries that are ready in the meantime
   * need not wait for real work.
   */
  async #rest(): Promise<void> {
    if (this.#branching) {
      this.#branching = false;
      await this.#turn();
    }
    let since = realNow();
    let { events, steps } = realWork;
    let quiet = 0;
    let entries = this.#order + this.#gate.count;
    for (let turns = 0; ; turns++) {
      const isReady = this.#readyFrom < this.#ready.length;
      const stepping = (this.#steps > 0 && !this.#excused) || realWork.storeCalls > 0;
      if (!stepping && !isReady && this.#tainted && this.#owners.firstAtGate) return;
      const busy = this.isBusy;
      if (!stepping && !busy && !this.#tainted && this.#owners.working === 0) return;
      if (!stepping && isReady) {
        // The order is the same whether an attempt needs more time of its own or waits on something real.
        if (busy || this.#owners.working > 0) this.#taint();
        return;
      }
      if (!stepping && !busy && (!this.#tainted || (quiet >= wholeTurns && !(realWork.unsettled && this.#owners.anyElsewhere)))) {
        if (this.#owners.working === 0 || (quiet >= quietTurns && this.#owners.mayPass(this.#othersMayHelp))) return;
      }
      if (quiet >= quietTurns && this.#steps > 0 && realWork.storeCalls === 0 && this.#lagging()) this.#excused = true;
      await this.#turn(turns < busyTurns ? yieldToEventLoop : realProgress);
      quiet = events === realWork.events ? quiet + 1 : 0;
      events = realWork.events;
      if (this.#order + this.#gate.count !== entries || steps !== realWork.steps) {
        // Something was set, woken, started or ended, so the program is making progress.
        entries = this.#order + this.#gate.count;
        steps = realWork.steps;
        since = realNow();
        quiet = 0;
        turns = Math.min(turns, busyTurns);
      } else if (realNow() - since > this.#budgetMs) {
        this.#overBudget();
        since = realNow();
      }
    }
  }

  /** The work in progress has taken too long: time advances anyway if that can help. */
  #overBudget(): void {
    const isStepping = this.#steps > 0 && !this.#excused;
    if (isStepping || (this.#owners.size > 0 && !this.#canTimeHelp)) throw this.stalled();
    const labels = this.#owners.excuse().flatMap(({ externals }) => externals.map((label) => `ctx.external(${JSON.stringify(label)})`));
    const works = realWork.excuse(this.#owners.isDead);
    if (labels.length + works.length === 0) throw this.stalled();
    // Their owners depend on which of several attempts opened a connection first.
    const what = [...labels, ...(works.length > 0 ? [realWork.names(works)] : [])].join(', ');
    this.onNote(undefined, `time advances although this has not finished within realBudget: ${what}`);
  }

  /** There is a deadline, or a timer that may end the wait. A client measures its timeouts with its housekeeping. */
  get #canTimeHelp(): boolean {
    return this.#gate.holds || this.#owners.anyEnds || this.#heap.items.some(isInFlightAndEnds) || this.#othersMayHelp;
  }

  /** True if there is a timer that belongs to no attempt in flight and no worker: one of a mock, of a server in the test, or of a client. */
  get #othersMayHelp(): boolean {
    const isConnection = realWork.hasConnections(this.#owners.isDead);
    return this.#heap.items.some(
      (entry) => !isInFlight(entry) && (mayRelease(entry) || (isConnection && entry.background && !entry.process)),
    );
  }

  /** True if a few microtasks may finish something. If real work is in progress, effects of attempts wait for their turn anyway. */
  get #isAtWork(): boolean {
    return (this.#steps > 0 && !this.#excused) || (!this.#tainted && this.#owners.working > 0) || realWork.storeCalls > 0;
  }

  /** Something is running that must end within this instant. */
  get #held(): boolean {
    return (this.#steps > 0 && !this.#excused) || this.#owners.working > 0 || realWork.storeCalls > 0;
  }

  /** True if all unfinished steps belong to processes that wait for their store. */
  #lagging(): boolean {
    let steps = 0;
    for (const process of this.#processes) if (!process.dead && process.lags > 0) steps += process.steps;
    return steps >= this.#steps;
  }

  stalled(): SimulationStalledError {
    const lines = [...this.#owners.describe()];
    if (lines.length === 0) lines.push('the engine waits for its store');
    for (const { owner, process, site, at } of this.#heap.items) {
      if (!owner && !process && site)
        lines.push(`a virtual timer outside the tasks is pending: set at ${where(site)}, due in ${at - this.#now} ms`);
    }
    return new SimulationStalledError(
      `virtual time has stood still for ${this.#budgetMs} ms of real time, and neither a timer nor a deadline can end the wait:\n  ${lines.join('\n  ')}\n` +
        'Give the task a timeout, replace the call with a fake, raise realBudget if it needs longer, or wait with ctx.sleep or setTimeout.',
    );
  }

  #raise(): void {
    if (this.#errors.length === 0) return;
    const [first] = this.#errors.splice(0);
    throw first;
  }
}
