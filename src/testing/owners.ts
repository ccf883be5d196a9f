/** The owners of timers: simulated processes, which pause and crash as a whole, and the attempts in flight. */
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';
import { Crowd } from './crowd.ts';
import { realWork } from './real-work.ts';
import { isUserCode } from './sites.ts';

/** A simulated process. It can be paused or killed as a whole. */
export class Process {
  readonly name: string;
  /** The name of its slot, which stays the same after a restart. */
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
  /** Its rank in the order in which attempts started; a nested attempt has the rank of the outer one. */
  rank = 0;
  /** Number of timers that it waits for. */
  waits = 0;
  /** Number of timers that it has set and unreferenced (unref), mostly housekeeping of libraries. */
  background = 0;
  /** Number of times it is waiting for its turn. */
  turns = 0;
  externals: readonly string[] = none;
  /** An external call of it has exceeded the budget, so time advances anyway. */
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

/** The attempts in flight: those that are running, and those that wait on another part of the program and may be helped by the passing of time. */
export class Owners {
  readonly #owners = new Map<Scope, Owner>();
  /** Attempts that hold the instant: they wait neither on time nor for their turn. */
  readonly #working = new Set<Owner>();
  /** Attempts that wait on another part of the program: neither on time nor on anything real. */
  readonly #idle = new Set<Owner>();
  readonly #dead = new WeakSet<Scope>();
  readonly crowd = new Crowd();
  #entered = 0;

  enter(scope: Scope, owner: Owner): void {
    // Its process crashed while it started others, as the call of one of these.
    if (owner.process?.dead) {
      this.#dead.add(scope);
      return;
    }
    this.crowd.add(scope, owner.since);
    owner.rank = this.ownerOf(scope.parent)?.rank ?? this.#entered++;
    this.#owners.set(scope, owner);
    this.#working.add(owner);
  }

  /** @returns the attempt's own real work that is still in progress, if any */
  leave(scope: Scope, returned: boolean): string | undefined {
    const owner = this.#owners.get(scope);
    if (!owner) return undefined;
    owner.left = true;
    owner.returned = returned;
    this.#forget(scope, owner);
    const own = realWork.of(scope).filter(({ type, site }) => type !== 'Immediate' && isUserCode(site));
    return own.length > 0 ? realWork.kinds(own) : undefined;
  }

  kill(process: Process): void {
    for (const [scope, owner] of this.#owners) {
      if (owner.process !== process) continue;
      this.#dead.add(scope);
      this.#forget(scope, owner);
    }
  }

  /** True for an attempt whose worker was killed: its code may still run, but has no effect. */
  readonly isDead = (scope: Scope): boolean => this.#dead.has(scope);

  /** The attempt in flight to which the calling code belongs; a nested attempt of another application belongs to the outer one. */
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

  /** The attempt waits on something that it has marked as external, until the returned function is called. */
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

  /** The attempt has set a timer. */
  waits(owner: Owner): void {
    owner.waits += 1;
    this.#atWork(owner);
  }

  /** A timer of the attempt has fired or was cleared. */
  waited(owner: Owner, background: boolean): void {
    if (background) owner.background -= 1;
    else owner.waits -= 1;
    this.#atWork(owner);
  }

  /** Changes whether the attempt waits for one of its timers (unref and ref). */
  disown(owner: Owner, background: boolean): void {
    owner.waits += background ? -1 : 1;
    owner.background += background ? 1 : -1;
    this.#atWork(owner);
  }

  /** The attempt starts to wait for its turn, or has had it. */
  turn(owner: Owner, waits: boolean): void {
    owner.turns += waits ? 1 : -1;
    this.#atWork(owner);
  }

  /** The attempt in flight that started first, if it waits only for its turn: nothing can come before its next effect. */
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

  /** True if a call marked as external has exceeded the budget. */
  get anyExcused(): boolean {
    for (const { excused, externals } of this.#owners.values()) if (excused && externals.length > 0) return true;
    return false;
  }

  /** True if some attempt in flight is not waiting for its turn. */
  get anyElsewhere(): boolean {
    for (const { turns } of this.#owners.values()) if (turns === 0) return true;
    return false;
  }

  /** True if some attempt has a deadline. */
  get anyEnds(): boolean {
    for (const { endsAt } of this.#owners.values()) if (endsAt < Number.POSITIVE_INFINITY) return true;
    return false;
  }

  /** True if all running attempts can be helped by the passing of time. They then count as waiting on another part of the program. */
  mayPass(othersMayHelp: boolean): boolean {
    for (const owner of this.#working) if (!this.#canBeHelped(owner, othersMayHelp)) return false;
    for (const owner of this.#working) this.#idle.add(owner);
    this.#working.clear();
    return true;
  }

  /** Attempts that can no longer be helped by the passing of time hold the instant again. */
  recheckIdle(othersMayHelp: boolean): void {
    for (const owner of [...this.#idle]) {
      if (this.#canBeHelped(owner, othersMayHelp)) continue;
      this.#idle.delete(owner);
      this.#working.add(owner);
    }
  }

  /**
   * Calls marked as external have exceeded the budget.
   * @returns the attempts that make them
   */
  excuse(): Owner[] {
    const waiting = [...this.#working].filter(({ externals, excused }) => externals.length > 0 && !excused);
    for (const owner of waiting) {
      owner.excused = true;
      this.#atWork(owner);
    }
    return waiting;
  }

  /** Describes what each attempt in flight waits on, unless it is time. */
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
    if (outside.length > 0) lines.push(`outside the attempts in flight: ${realWork.describe(outside).join('; ')}`);
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

  /** It has a deadline, or code that waits on time may release it. */
  #canBeHelped(owner: Owner, othersMayHelp: boolean): boolean {
    if (owner.externals.length > 0 && !owner.excused) return false;
    if (owner.endsAt < Number.POSITIVE_INFINITY || owner.background > 0 || othersMayHelp) return true;
    for (const other of this.#owners.values()) if (other.waits > 0) return true;
    return false;
  }
}
