/** The owners of timers: simulated processes, which pause and crash as a whole, and the attempts in flight. */
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';
import { Crowd } from './crowd.ts';
import { realWork } from './real-work.ts';
import { isUsers } from './sites.ts';

/** A simulated process. It can be paused or killed as a whole. */
export class Process {
  readonly name: string;
  /** The name of its place, which stays the same when it restarts. */
  readonly place: string;
  /** How far its clock is ahead of the simulation's clock. */
  skewMs = 0;
  dead = false;
  pausedUntil = Number.NEGATIVE_INFINITY;
  /** Steps of the engine that have not ended. */
  steps = 0;
  /** Steps that wait for a slow store. They do not hold virtual time. */
  lags = 0;
  /** Called when it is killed. */
  readonly whenDead: (() => void)[] = [];
  constructor(name: string) {
    this.name = name;
    this.place = name.replace(/\..*$/, '');
  }
}

const none: readonly string[] = [];

/** An attempt in flight. */
export class Owner {
  readonly scope: Scope;
  readonly process: Process | undefined;
  readonly endsAt: number;
  readonly since: number;
  /** Its place among the attempts, in the order in which they started; one inside another has the place of that one. */
  rank = 0;
  /** Timers that it waits for. */
  waits = 0;
  /** Timers that it has armed and disowned (unref): a library's housekeeping, mostly. */
  background = 0;
  /** How often it waits for its turn. */
  turns = 0;
  externals: readonly string[] = none;
  /** What it says is outside of this clock has taken longer than the budget: time passes all the same. */
  excused = false;
  left = false;
  returned = false;
  constructor(scope: Scope, process: Process | undefined, endsAt: number, since: number) {
    this.scope = scope;
    this.process = process;
    this.endsAt = endsAt;
    this.since = since;
  }
}

/** The attempts in flight: which of them are at work, and which wait on another part of the program, so that time may help. */
export class Owners {
  readonly #owners = new Map<Scope, Owner>();
  /** Those that hold the instant: they wait neither on time nor for their turn. */
  readonly #working = new Set<Owner>();
  /** Those that wait on another part of the program: neither on time nor on anything real. */
  readonly #idle = new Set<Owner>();
  readonly #dead = new WeakSet<Scope>();
  readonly crowd = new Crowd();
  #entered = 0;

  enter(scope: Scope, owner: Owner): void {
    this.crowd.add(scope, owner.since);
    owner.rank = this.ownerOf(scope.parent)?.rank ?? this.#entered++;
    this.#owners.set(scope, owner);
    this.#working.add(owner);
  }

  /** @returns what of its own is under way and counts as real work, if anything is */
  leave(scope: Scope, returned: boolean): string | undefined {
    const owner = this.#owners.get(scope);
    if (!owner) return undefined;
    owner.left = true;
    owner.returned = returned;
    this.#forget(scope, owner);
    const own = realWork.of(scope).filter(({ type, site }) => type !== 'Immediate' && isUsers(site));
    return own.length > 0 ? realWork.kinds(own) : undefined;
  }

  kill(process: Process): void {
    for (const [scope, owner] of this.#owners) {
      if (owner.process !== process) continue;
      this.#dead.add(scope);
      this.#forget(scope, owner);
    }
  }

  /** True for an attempt whose worker was killed: whatever its code still does, nobody is there to do it. */
  readonly isDead = (scope: Scope): boolean => this.#dead.has(scope);

  /** The attempt in flight that the code which asks belongs to; one of another application, inside of it, is a part of it. */
  get here(): Owner | undefined {
    return this.ownerOf(currentScope.getStore());
  }

  ownerOf(scope: Scope | undefined): Owner | undefined {
    for (let at = scope; at; at = at.parent) {
      const owner = this.#owners.get(at);
      if (owner) return owner;
    }
    return undefined;
  }

  /** It waits on something that it says is outside of this clock, until the function that this returns is called. */
  external(owner: Owner, label: string): () => void {
    owner.externals = [...owner.externals, label];
    owner.excused = false;
    this.#idle.delete(owner);
    this.#working.add(owner);
    return () => {
      owner.externals = owner.externals.toSpliced(owner.externals.indexOf(label), 1);
      this.#atWork(owner);
    };
  }

  /** It has armed a timer. */
  waits(owner: Owner): void {
    owner.waits += 1;
    this.#atWork(owner);
  }

  /** A timer of its is over. */
  waited(owner: Owner, background: boolean): void {
    if (background) owner.background -= 1;
    else owner.waits -= 1;
    this.#atWork(owner);
  }

  /** A timer of its is one that it does not wait for, or again one that it does. */
  disown(owner: Owner, background: boolean): void {
    owner.waits += background ? -1 : 1;
    owner.background += background ? 1 : -1;
    this.#atWork(owner);
  }

  /** It waits for its turn, or has had it. */
  turn(owner: Owner, waits: boolean): void {
    owner.turns += waits ? 1 : -1;
    this.#atWork(owner);
  }

  /** The one that started first of those in flight, if it waits for its turn, and for nothing else: nothing can come before what it does. */
  get firstAtGate(): Owner | undefined {
    const [first] = this.#owners.values();
    return first && first.turns > 0 && realWork.of(first.scope).length === 0 ? first : undefined;
  }

  get working(): number {
    return this.#working.size;
  }
  get idle(): number {
    return this.#idle.size;
  }
  get size(): number {
    return this.#owners.size;
  }

  /** True if a call that is marked as external has taken longer than the budget. */
  get anyExcused(): boolean {
    for (const { excused, externals } of this.#owners.values()) if (excused && externals.length > 0) return true;
    return false;
  }

  /** True if some attempt in flight has not come to its turn. */
  get anyElsewhere(): boolean {
    for (const { turns } of this.#owners.values()) if (turns === 0) return true;
    return false;
  }

  /** True if some attempt has a deadline. */
  get anyEnds(): boolean {
    for (const { endsAt } of this.#owners.values()) if (endsAt < Number.POSITIVE_INFINITY) return true;
    return false;
  }

  /** True if time can help all attempts at work. They then count as waiting on another part of the program. */
  mayPass(othersMayHelp: boolean): boolean {
    for (const owner of this.#working) if (!this.#canBeHelped(owner, othersMayHelp)) return false;
    for (const owner of this.#working) this.#idle.add(owner);
    this.#working.clear();
    return true;
  }

  /** Those that time can help no longer hold the instant again. */
  recheckIdle(othersMayHelp: boolean): void {
    for (const owner of [...this.#idle]) {
      if (this.#canBeHelped(owner, othersMayHelp)) continue;
      this.#idle.delete(owner);
      this.#working.add(owner);
    }
  }

  /** Calls that are marked as external have taken longer than the budget. @returns the attempts that make them */
  excuse(): Owner[] {
    const waiting = [...this.#working].filter(({ externals, excused }) => externals.length > 0 && !excused);
    for (const owner of waiting) {
      owner.excused = true;
      this.#atWork(owner);
    }
    return waiting;
  }

  /** What each of those in flight waits on, if that is not time. */
  describe(): readonly string[] {
    const all = realWork.all(this.isDead);
    const lines: string[] = [];
    for (const owner of this.#owners.values()) {
      const own = all.filter(({ scope }) => scope === owner.scope);
      if (own.length === 0 && owner.externals.length === 0 && owner.waits > 0) continue;
      const { task, attempt, worker } = owner.scope;
      const on =
        owner.externals.length > 0
          ? `ctx.external(${owner.externals.map((label) => JSON.stringify(label)).join(', ')})`
          : realWork.describe(own, owner.scope).join('; ') || 'a promise that nothing in the simulation settles';
      lines.push(`${task} attempt ${attempt} on ${worker} waits on ${on}`);
    }
    const outside = all.filter(({ scope }) => !scope || !this.#owners.has(scope));
    if (outside.length > 0) lines.push(`outside of the attempts in flight: ${realWork.describe(outside).join('; ')}`);
    return lines;
  }

  #forget(scope: Scope, owner: Owner): void {
    this.#owners.delete(scope);
    this.#working.delete(owner);
    this.#idle.delete(owner);
  }

  #atWork(owner: Owner): void {
    if (owner.left || owner.process?.dead) return;
    const holds = (owner.externals.length > 0 && !owner.excused) || (owner.waits === 0 && owner.turns === 0);
    this.#idle.delete(owner);
    if (holds) this.#working.add(owner);
    else this.#working.delete(owner);
  }

  /** It has a deadline, or what waits on time may release it. */
  #canBeHelped(owner: Owner, othersMayHelp: boolean): boolean {
    if (owner.externals.length > 0 && !owner.excused) return false;
    if (owner.endsAt < Number.POSITIVE_INFINITY || owner.background > 0 || othersMayHelp) return true;
    for (const other of this.#owners.values()) if (other.waits > 0) return true;
    return false;
  }
}
