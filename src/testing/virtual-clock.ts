/**
 * Time that moves only when it is told to. The engine's timers, its wake-ups and the virtual timers of tasks' code stand in one order, by
 * instant and then by who came first; a driver runs them one by one, and before each waits until all that the one before set going either
 * has ended or waits again. So what fires at an instant sees exactly that instant, and nothing happens outside a driver's call.
 *
 * One rule: while anything real is under way in the process, virtual time stands still, whatever timers are held; when nothing real is, it
 * moves. `real-work` knows what is under way. Three more things hold an instant: a step of the engine that has not ended, an attempt that waits
 * neither on time nor on anything real (it may wait on another part of the program: it lets time pass if time can help), and a call that is
 * marked as external. What takes longer than the budget is passed over, with a note, if a timer or a deadline can end it.
 *
 * What attempts do once real time has passed waits at a gate until the instant is quiet, and then happens in the order in which the attempts
 * started: so that the course of things does not depend on how long real work takes.
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
import { framesOfTimers, isUsers, siteOf, where } from './sites.ts';

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

/** Microtask hops before a real turn of the event loop is taken: chains of awaits in tasks are mostly shorter. */
const hops = 64;
/** Rounds of process.nextTick, by which clients begin their requests, before one is taken. */
const ticks = 8;
/** Turns of the event loop after which an attempt that started nothing real counts as waiting on another part of the program. */
const quietTurns = 3;
/** Turns without anything real after which what was under way is over: the first may have begun in the middle. */
const wholeTurns = 2;
/** Turns that are taken one after the other; then the processor is left to others meanwhile. */
const busyTurns = 50;
const longestPauseMs = 5;

export interface VirtualClockOptions {
  readonly now: number;
  readonly choices: Choices;
  /** How long to wait, in real milliseconds, for something real. */
  readonly realBudgetMs: number;
}

/**
 * A timer that is nobody's at work: a library's, or a server's of the test. It takes no part in the order that is drawn among what is due at one
 * instant, for which of them are there may depend on what was done before the simulation.
 */
function isHousekeeping({ handle, owner, background, site }: Entry): boolean {
  return handle !== undefined && (background || !owner || owner.left || !isUsers(site));
}

function isInFlightAndEnds(entry: Entry): boolean {
  return isInFlight(entry) && !entry.repeats;
}

function isInFlight({ owner }: Entry): boolean {
  return owner !== undefined && !owner.left;
}

/** True for what may set going what waits on it: neither a worker's duty, nor a heartbeat, nor housekeeping. */
function mayRelease(entry: Entry): boolean {
  if (entry.repeats || (!entry.owner && entry.process)) return false;
  return isInFlight(entry) || !entry.background;
}

export class VirtualClock implements Clock {
  readonly #choices: Choices;
  readonly #budgetMs: number;
  readonly #heap = new Heap<'place', Entry>('place', (a, b) => (a.at === b.at ? a.order < b.order : a.at < b.at));
  /** What runs at this instant, in order. */
  #ready: Entry[] = [];
  #readyFrom = 0;
  readonly #owners = new Owners();
  #now: number;
  #order = 0;
  #steps = 0;
  /** Processes some step of which has waited for its store. */
  readonly #processes = new Set<Process>();
  /** The steps that have not ended wait for steps that wait for their store: only time can help. */
  #excused = false;
  /** An attempt armed a timer at this instant: another branch of it may still be on its way to arm one. */
  #branching = false;
  #errors: unknown[] = [];
  readonly #gate = new Gate();
  /** Real work has been under way since the gate was last opened. */
  #tainted = false;
  /** Called for what a reader of the timeline is to know of an attempt and real work; without a scope it is of none. */
  onNote: (scope: Scope | undefined, text: string) => void = () => {};
  /** Throws when somebody else has put other clocks in place. */
  check: () => void = () => {};

  /** Called when an attempt begins to wait on time. */
  onWait: (process: Process) => void = () => {};

  constructor(options: VirtualClockOptions) {
    this.#now = options.now;
    this.#choices = options.choices;
    this.#budgetMs = options.realBudgetMs;
  }

  readonly now = (): number => this.#now;

  /** What the clock of the process shows whose code asks: a worker's may be off. */
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
    if (what !== undefined) this.onNote(scope, `ended while ${what} of its own was under way`);
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

  /** True while no real time has passed that attempts could have made use of. */
  get isOrdered(): boolean {
    return this.#gate.isOpen;
  }

  /** When the code that asks may go on, if it is an attempt's and is to wait until others have come as far. */
  turn(): Promise<void> | undefined {
    const scope = this.#gate.isOpen ? undefined : currentScope.getStore();
    return scope && this.#owners.ownerOf(scope) ? new Promise((resolve) => this.inTurn(scope, resolve)) : undefined;
  }

  /** Runs a call that reports are to name. */
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

  /** The clock as one worker's process sees it: all that is armed through it pauses and dies with the process. */
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

  /** Something that a step waits for takes its time; meanwhile other things happen, attempts of the same process among them. */
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

  /** Arms a timer. One that is armed below a task's function belongs to its attempt, which then waits on time. */
  arm(instant: number, fn: Callback, process: Process | undefined): Entry {
    const scope = currentScope.getStore();
    const owner = this.#owners.here;
    // Clocks tell whole milliseconds.
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
    // Nothing ever fires at infinity: it only says that someone waits.
    if (instant === Number.POSITIVE_INFINITY) return;
    if (entry.at <= this.#now) this.#ready.push(entry);
    else this.#heap.push(entry);
  }

  /** Takes a timer out. */
  forget(entry: Entry): void {
    entry.over = true;
    this.#heap.remove(entry);
    this.#waited(entry);
  }

  /** Makes a timer one that its attempt does not wait for, or again one that it does. */
  disown(entry: Entry, background: boolean): void {
    entry.background = background;
    if (entry.owner) this.#owners.disown(entry.owner, background);
  }

  /** Everything of a worker's process is gone: its timers, steps and attempts. */
  kill(process: Process): void {
    if (process.dead) return;
    process.dead = true;
    this.#steps -= process.steps;
    process.steps = 0;
    for (const entry of [...this.#heap.items]) if (entry.process === process) this.#heap.remove(entry);
    this.#owners.kill(process);
    for (const tell of process.whenDead) tell();
  }

  /** True for an attempt whose worker was killed: whatever its code still does, nobody is there to do it. */
  isDead(scope: Scope): boolean {
    return this.#owners.isDead(scope);
  }

  isInFlight(scope: Scope): boolean {
    return this.#owners.ownerOf(scope) !== undefined;
  }

  /** True if attempts in flight wait on something real that has taken longer than the budget, and time cannot help them. */
  get isStalled(): boolean {
    return this.#owners.size > 0 && !this.#canTimeHelp && (this.#owners.anyExcused || realWork.all(this.#owners.isDead).length > 0);
  }

  /** True if only workers' duties are left on the clock: every attempt in flight waits for something that no timer brings. */
  get onlyDuties(): boolean {
    for (const entry of this.#heap.items) {
      if (isInFlight(entry) || mayRelease(entry) || (entry.process?.pausedUntil ?? 0) > this.#now) return false;
    }
    return !this.#owners.anyEnds && !this.#othersMayHelp;
  }

  /** The next instant for which something is armed, or undefined. */
  get nextAt(): number | undefined {
    return this.#heap.peek()?.at;
  }

  /** Timers of attempts whose function has ended: work that may have been left behind. Takes them out. */
  leftovers(): readonly Entry[] {
    const left = this.#heap.items.filter(({ owner, background }) => owner?.returned && !background && !owner.process?.dead);
    for (const entry of [...this.#heap.items]) this.#heap.remove(entry);
    return left;
  }

  /** Runs all that is due, and waits for all that it sets going; time does not move. */
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
        // What it has woken may go on for a while, though it holds another timer.
        if (entry.owner && entry.owner.waits > 0) this.#branching = true;
        this.#owners.crowd.check();
      }
      // Most of what is set going needs a few microtasks.
      for (let i = 0; i < hops && this.#isAtWork; i++) await null;
      for (let i = 0; i < ticks && this.#isAtWork; i++) await tick();
      if (this.#held || this.#branching || this.#tainted || this.isBusy) await this.#rest();
      if (this.#readyFrom < this.#ready.length) continue;
      // One by one, so that it makes no difference how many have come to their turn meanwhile.
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
    // What attempts do that go on until the driver is called again waits for its turn.
    this.#gate.isOpen = this.#owners.size === 0 || realWork.all(this.#owners.isDead).length === 0;
    this.#raise();
  }

  /** Moves time to an instant, which nothing that is armed lies before. */
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

  /** Moves time forward through every instant on the way, in order. */
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

  /** Whoever drives is told, as soon as nothing is at work at this instant. */
  fail(error: unknown): void {
    this.#errors.push(error);
  }

  /** The next thing to run at this instant: the first one, or with a seed any of them. */
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
        // The process is stopped: this happens when it goes on, behind what was to happen before.
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
    // Counted from before it begins: what it asks of its store may take time, or kill it, at once.
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

  /** Something real is under way that virtual time waits for. */
  get isBusy(): boolean {
    return realWork.busy(this.#owners.isDead);
  }

  #taint(): void {
    this.#tainted = true;
    this.#gate.isOpen = false;
  }

  /** A turn of the event loop. If anything real is under way in it, what attempts do from its beginning on waits for its turn. */
  async #turn(waits = yieldToEventLoop): Promise<void> {
    this.#gate.isOpen = false;
    const { events } = realWork;
    this.#tainted ||= this.isBusy;
    await waits();
    this.#tainted ||= events !== realWork.events || this.isBusy;
    if (!this.#tainted) this.#gate.release();
  }

  /**
   * Waits, by turns of the event loop, until nothing holds the instant any more: no step, no attempt at work, nothing real. What is ready to run
   * meanwhile need not wait for what is real.
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
      const stepping = this.#steps > 0 && !this.#excused;
      if (!stepping && !isReady && this.#tainted && this.#owners.firstAtGate) return;
      const busy = this.isBusy;
      if (!stepping && !busy && !this.#tainted && this.#owners.working === 0) return;
      if (!stepping && isReady) {
        // Whether an attempt still needs a while of its own or waits on something real, the order is the same.
        if (busy || this.#owners.working > 0) this.#taint();
        return;
      }
      if (!stepping && !busy && (!this.#tainted || (quiet >= wholeTurns && !(realWork.unsettled && this.#owners.anyElsewhere)))) {
        if (this.#owners.working === 0 || (quiet >= quietTurns && this.#owners.mayPass(this.#othersMayHelp))) return;
      }
      if (quiet >= quietTurns && this.#steps > 0 && this.#lagging()) this.#excused = true;
      await this.#turn(turns < busyTurns ? yieldToEventLoop : realProgress);
      quiet = events === realWork.events ? quiet + 1 : 0;
      events = realWork.events;
      if (this.#order + this.#gate.count !== entries || steps !== realWork.steps) {
        // Something was armed, woken, begun or ended: the program goes on.
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

  /** What is under way has taken too long: time passes all the same if it can help. */
  #overBudget(): void {
    const isStepping = this.#steps > 0 && !this.#excused;
    if (isStepping || (this.#owners.size > 0 && !this.#canTimeHelp)) throw this.stalled();
    const labels = this.#owners.excuse().flatMap(({ externals }) => externals.map((label) => `ctx.external(${JSON.stringify(label)})`));
    const works = realWork.excuse(this.#owners.isDead);
    if (labels.length + works.length === 0) throw this.stalled();
    // Whose they are depends on which of several attempts opened a connection first.
    const what = [...labels, ...(works.length > 0 ? [realWork.names(works)] : [])].join(', ');
    this.onNote(undefined, `time passes, though this has not ended within realBudget: ${what}`);
  }

  /** A deadline, or a timer that may end what is waited for. A client measures its timeouts by its housekeeping. */
  get #canTimeHelp(): boolean {
    return this.#gate.holds || this.#owners.anyEnds || this.#heap.items.some(isInFlightAndEnds) || this.#othersMayHelp;
  }

  /** True if a timer is armed that belongs to no attempt in flight and no worker: a mock's, a server's of the test, a client's. */
  get #othersMayHelp(): boolean {
    const isConnection = realWork.hasConnections(this.#owners.isDead);
    return this.#heap.items.some(
      (entry) => !isInFlight(entry) && (mayRelease(entry) || (isConnection && entry.background && !entry.process)),
    );
  }

  /** Something that a few microtasks may end. Where real work is under way, what attempts do waits for its turn anyway. */
  get #isAtWork(): boolean {
    return (this.#steps > 0 && !this.#excused) || (!this.#tainted && this.#owners.working > 0);
  }

  /** Something is at work that this instant must not end without. */
  get #held(): boolean {
    return (this.#steps > 0 && !this.#excused) || this.#owners.working > 0;
  }

  /** True if whatever step has not ended belongs to a process that waits for its store. */
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
        lines.push(`a virtual timer outside of the tasks is pending: set at ${where(site)}, due in ${at - this.#now} ms`);
    }
    return new SimulationStalledError(
      `virtual time has stood still for ${this.#budgetMs} ms of real time, and neither a timer nor a deadline can end what it waits for:\n  ${lines.join('\n  ')}\n` +
        'Give the task a timeout, replace the call by a fake, raise realBudget if it needs longer, or wait with ctx.sleep or setTimeout.',
    );
  }

  #raise(): void {
    if (this.#errors.length === 0) return;
    const [first] = this.#errors.splice(0);
    throw first;
  }
}
