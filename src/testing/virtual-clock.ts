/**
 * Time that moves only when it is told to. The engine's timers, its wake-ups and the faked timers of tasks' code stand in one order, by
 * instant and then by who came first; a driver runs them one by one, and before each waits until all that the one before set going either
 * has ended or waits on time again. So what fires at an instant sees exactly that instant, and nothing happens outside a driver's call.
 *
 * Three things can hold an instant: a step of the engine that has not ended, an attempt at work (one that is in flight and holds no timer),
 * and a call marked as external. Attempts at work mostly need microtasks alone; one that waits on something real is waited for in real
 * time, up to a budget. An attempt that started nothing real waits on another part of the program: it may let time pass, if time can help.
 */

import { SimulationStalledError } from '../core/errors.ts';
import { Heap } from '../core/heap.ts';
import { scope as currentScope } from '../engine/scope.ts';
import type { Clock, Scope, Timer } from '../ports/clock.ts';
import type { Choices } from './choices.ts';
import { type Callback, Entry } from './entry.ts';
import { type Life, Owner, Owners } from './owners.ts';
import { siteOf } from './resources.ts';

const realNow = performance.now.bind(performance);
const realImmediate = setImmediate;
const realTimeout = setTimeout;
const turn = () => new Promise<void>((resolve) => realImmediate(resolve));
const pause = (ms: number) => new Promise<void>((resolve) => realTimeout(resolve, ms));

/** Microtask hops before a real turn of the event loop is taken: chains of awaits in tasks are mostly shorter. */
const hops = 64;
/** Turns of the event loop after which an attempt that started nothing real counts as waiting on another part of the program. */
const quietTurns = 3;

export interface VirtualClockOptions {
  readonly now: number;
  readonly choices: Choices;
  /** How long to wait, in real milliseconds, for something real. */
  readonly realBudgetMs: number;
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
  readonly #lives = new Set<Life>();
  /** The steps that have not ended wait for steps that wait for their store: only time can help. */
  #excused = false;
  /** An attempt armed a timer at this instant: another branch of it may still be on its way to arm one. */
  #branching = false;
  #errors: unknown[] = [];
  /** Called for every attempt that was ended by its deadline, or beaten by a timer, while it waited on something real. */
  onImpure: (scope: Scope, what: string) => void = () => {};

  /** Called when an attempt begins to wait on time. */
  onWait: (life: Life) => void = () => {};

  constructor(options: VirtualClockOptions) {
    this.#now = options.now;
    this.#choices = options.choices;
    this.#budgetMs = options.realBudgetMs;
  }

  readonly now = (): number => this.#now;

  /** What the clock of the process shows whose code asks: a worker's may be off. */
  readonly nowHere = (): number => {
    return this.#now + (this.#owners.here?.life?.skewMs ?? 0);
  };

  at(instant: number, fn: Callback): Timer {
    return this.arm(instant, fn, undefined);
  }

  soon(fn: Callback): void {
    this.#ready.push(new Entry(this, this.#now, this.#order++, fn, undefined, undefined));
  }

  enter(scope: Scope, endsAt: number): void {
    this.#owners.enter(scope, new Owner(scope, undefined, endsAt, this.#now));
  }

  leave(scope: Scope, returned: boolean): void {
    const what = this.#owners.leave(scope, returned);
    if (what !== undefined) this.onImpure(scope, what);
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
  forLife(life: Life): Clock {
    return {
      now: () => this.#now + life.skewMs,
      at: (instant, fn) => this.arm(instant - life.skewMs, fn, life),
      soon: (fn) => {
        if (!life.dead) this.#ready.push(new Entry(this, this.#now, this.#order++, fn, life, undefined));
      },
      enter: (scope, endsAt) => this.#owners.enter(scope, new Owner(scope, life, endsAt - life.skewMs, this.#now)),
      leave: (scope, returned) => this.leave(scope, returned),
      external: (label, fn) => this.external(label, fn),
    };
  }

  /** Something that a step waits for takes its time; meanwhile other things happen, attempts of the same process among them. */
  lag(life: Life, ms: number): Promise<void> {
    const holds = life.steps > 0 && !this.#owners.here ? 1 : 0;
    this.#steps -= holds;
    life.steps -= holds;
    life.lags += 1;
    this.#lives.add(life);
    return new Promise((resolve) => {
      this.arm(
        this.#now + ms,
        () => {
          life.lags -= 1;
          this.#steps += holds;
          life.steps += holds;
          resolve();
        },
        life,
      );
    });
  }

  /** Arms a timer. One that is armed below a task's function belongs to its attempt, which then waits on time. */
  arm(instant: number, fn: Callback, life: Life | undefined): Entry {
    const scope = currentScope.getStore();
    const owner = this.#owners.here;
    // Clocks tell whole milliseconds.
    const entry = new Entry(this, Math.max(Math.ceil(instant), this.#now), this.#order++, fn, owner?.life ?? life, owner);
    if (entry.life?.dead || (scope && !owner && this.isDead(scope))) {
      entry.over = true;
      return entry;
    }
    if (owner) {
      entry.site = siteOf('armed here');
      this.#owners.waits(owner);
      this.#branching = true;
      if (owner.life) this.onWait(owner.life);
    }
    // Nothing ever fires at infinity: it only says that someone waits.
    if (instant < Number.POSITIVE_INFINITY) {
      if (entry.at <= this.#now) this.#ready.push(entry);
      else this.#heap.push(entry);
    }
    return entry;
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
  kill(life: Life): void {
    if (life.dead) return;
    life.dead = true;
    this.#steps -= life.steps;
    life.steps = 0;
    for (const entry of [...this.#heap.items]) if (entry.life === life) this.#heap.remove(entry);
    this.#owners.kill(life);
    for (const tell of life.whenDead) tell();
  }

  /** True for an attempt whose worker was killed: whatever its code still does, nobody is there to do it. */
  isDead(scope: Scope): boolean {
    return this.#owners.isDead(scope);
  }

  /** True if only workers' duties are left on the clock: every attempt in flight waits for something that no timer brings. */
  get onlyDuties(): boolean {
    for (const { owner, life } of this.#heap.items) if (owner || !life || life.pausedUntil > this.#now) return false;
    return !this.#owners.anyEnds;
  }

  /** The next instant for which something is armed, or undefined. */
  get nextAt(): number | undefined {
    return this.#heap.peek()?.at;
  }

  /** Timers of attempts whose function has ended: work that was left behind. */
  leaks(): readonly { readonly scope: Scope; readonly site: Error | undefined }[] {
    return this.#heap.items
      .filter(({ owner, background }) => owner?.returned && !background && !owner.life?.dead)
      .map(({ owner, site }) => ({ scope: (owner as Owner).scope, site }));
  }

  /** Runs all that is due, and waits for all that it sets going; time does not move. */
  async settle(): Promise<void> {
    let ran = true;
    for (;;) {
      const entry = this.#take();
      if (entry) {
        ran = true;
        this.#run(entry);
        this.#owners.crowd.check();
      }
      // Most of what is set going needs a few microtasks.
      for (let i = 0; i < hops && ((this.#steps > 0 && !this.#excused) || this.#owners.working > 0); i++) await null;
      if (this.#held || this.#branching) await this.#rest();
      else if (!entry) {
        if (this.#owners.idle === 0 || !ran) break;
        ran = false;
        await turn();
        this.#owners.recheckIdle();
      }
    }
    this.#raise();
  }

  /** Moves time to an instant, which nothing that is armed lies before. */
  moveTo(instant: number): void {
    this.#now = Math.max(this.#now, instant);
    for (let entry = this.#heap.peek(); entry && entry.at <= this.#now; entry = this.#heap.peek()) {
      this.#heap.remove(entry);
      this.#ready.push(entry);
    }
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

  close(): void {
    this.#owners.close();
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
      const at = this.#readyFrom + this.#choices.choose('tie', waiting);
      const entry = this.#ready[at] as Entry;
      this.#ready[at] = this.#ready[this.#readyFrom] as Entry;
      this.#readyFrom += 1;
      if (entry.over || entry.life?.dead) continue;
      if (entry.life && entry.life.pausedUntil > this.#now) {
        // The process is stopped: this happens when it goes on, behind what was to happen before.
        entry.at = entry.life.pausedUntil;
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
    const { life } = entry;
    this.#excused = false;
    // Counted from before it begins: what it asks of its store may take time, or kill it, at once.
    this.#steps += 1;
    if (life) life.steps += 1;
    let done: void | Promise<void>;
    try {
      done = entry.fn();
    } catch (error) {
      this.#stepEnded(life);
      this.#errors.push(error);
      return;
    }
    if (!(done instanceof Promise)) {
      this.#stepEnded(life);
      return;
    }
    done.then(
      () => this.#stepEnded(life),
      (error) => {
        this.#stepEnded(life);
        this.#errors.push(error);
      },
    );
  }

  #stepEnded(life: Life | undefined): void {
    if (life?.dead) return;
    this.#steps -= 1;
    if (life) life.steps -= 1;
  }

  #waited({ owner, background }: Entry): void {
    if (owner) this.#owners.waited(owner, background);
  }

  /** Waits, by turns of the event loop, until nothing holds the instant any more. */
  async #rest(): Promise<void> {
    if (this.#branching) {
      this.#branching = false;
      await turn();
    }
    if (!this.#held) return;
    const startedAt = realNow();
    for (let turns = 0; this.#held; turns++) {
      const before = this.#order;
      if (turns < 100) await turn();
      else await pause(1);
      if (this.#order !== before) {
        // Something was armed or woken: the program moves, so the count of quiet turns begins anew.
        turns = 0;
        if (this.#ready.length > this.#readyFrom && this.#steps === 0) return;
      }
      if (turns >= quietTurns && this.#steps > 0 && this.#lagging()) this.#excused = true;
      if (turns >= quietTurns && (this.#steps === 0 || this.#excused) && this.#owners.mayPass()) return;
      if (realNow() - startedAt > this.#budgetMs) throw this.#stalled();
    }
  }

  /** Something is at work that this instant must not end without. */
  get #held(): boolean {
    return (this.#steps > 0 && !this.#excused) || this.#owners.working > 0;
  }

  /** True if whatever step has not ended belongs to a process that waits for its store. */
  #lagging(): boolean {
    let steps = 0;
    for (const life of this.#lives) if (!life.dead && life.lags > 0) steps += life.steps;
    return steps >= this.#steps;
  }

  #stalled(): SimulationStalledError {
    const lines = this.#owners.describe();
    const who = lines.length > 0 ? lines.join('\n  ') : 'the engine waits for its store';
    return new SimulationStalledError(
      `virtual time has stood still for ${this.#budgetMs} ms of real time, because something outside of it has not ended:\n  ${who}\n` +
        'Replace it by a fake in tests, wrap it in ctx.external(label, fn) and raise realBudget, or wait with ctx.sleep or setTimeout.',
    );
  }

  #raise(): void {
    if (this.#errors.length === 0) return;
    const [first] = this.#errors.splice(0);
    throw first;
  }
}
