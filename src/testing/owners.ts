/** Whose time it is: the processes of workers, which pause and die as a whole, and the attempts in flight, which hold the instant while they work. */
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';
import { Crowd } from './crowd.ts';
import { ResourceWatch } from './resources.ts';

/** What a clock serves: one worker's process, which can be paused or killed as a whole. */
export class Life {
  readonly name: string;
  /** Its worker's name, the same for every process that takes its place. */
  readonly place: string;
  /** How far its clock is ahead of the simulation's. */
  skewMs = 0;
  dead = false;
  pausedUntil = Number.NEGATIVE_INFINITY;
  /** Steps of the engine that have not ended. */
  steps = 0;
  /** Steps that wait for a store that takes its time: they hold nothing. */
  lags = 0;
  /** Told when it is killed. */
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
  readonly life: Life | undefined;
  readonly endsAt: number;
  readonly since: number;
  /** Timers that it waits for. */
  waits = 0;
  /** Timers that it has armed and disowned (unref): a library's housekeeping, mostly. */
  background = 0;
  externals: readonly string[] = none;
  left = false;
  returned = false;
  constructor(scope: Scope, life: Life | undefined, endsAt: number, since: number) {
    this.scope = scope;
    this.life = life;
    this.endsAt = endsAt;
    this.since = since;
  }
}

/** The attempts in flight: which of them hold the instant, and which wait on another part of the program, so that time may help. */
export class Owners {
  readonly #owners = new Map<Scope, Owner>();
  /** Those that hold the instant. */
  readonly #working = new Set<Owner>();
  /** Those that wait on another part of the program: neither on time nor on anything real. */
  readonly #idle = new Set<Owner>();
  readonly #dead = new WeakSet<Scope>();
  readonly #resources = new ResourceWatch();
  readonly crowd = new Crowd();

  enter(scope: Scope, owner: Owner): void {
    this.crowd.add(scope, owner.since);
    this.#owners.set(scope, owner);
    this.#working.add(owner);
  }

  /** Says what it waits on, if that is something real. */
  leave(scope: Scope, returned: boolean): string | undefined {
    const owner = this.#owners.get(scope);
    if (!owner) return undefined;
    owner.left = true;
    owner.returned = returned;
    this.#forget(scope, owner);
    return this.#resources.busy(scope) ? this.#resources.describe(scope) : undefined;
  }

  kill(life: Life): void {
    for (const [scope, owner] of this.#owners) {
      if (owner.life !== life) continue;
      this.#dead.add(scope);
      this.#forget(scope, owner);
    }
  }

  /** True for an attempt whose worker was killed: whatever its code still does, nobody is there to do it. */
  isDead(scope: Scope): boolean {
    return this.#dead.has(scope);
  }

  /** The attempt in flight that the code which asks belongs to; one of another application, inside of it, is a part of it. */
  get here(): Owner | undefined {
    for (let at = currentScope.getStore(); at; at = at.parent) {
      const owner = this.#owners.get(at);
      if (owner) return owner;
    }
    return undefined;
  }

  /** It waits on something that it says is outside of this clock, until the function that this returns is called. */
  external(owner: Owner, label: string): () => void {
    owner.externals = [...owner.externals, label];
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
    this.#idle.delete(owner);
    if (owner.externals.length === 0) this.#working.delete(owner);
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

  get working(): number {
    return this.#working.size;
  }
  get idle(): number {
    return this.#idle.size;
  }

  /** True if some attempt has a deadline. */
  get anyEnds(): boolean {
    for (const { endsAt } of this.#owners.values()) if (endsAt < Number.POSITIVE_INFINITY) return true;
    return false;
  }

  /** True if all attempts at work started nothing real, and time can help each of them. They then count as waiting on the program. */
  mayPass(): boolean {
    for (const owner of this.#working) if (!this.#canBeHelped(owner)) return false;
    for (const owner of this.#working) this.#idle.add(owner);
    this.#working.clear();
    return true;
  }

  /** Those that time can help no longer hold the instant again. */
  recheckIdle(): void {
    for (const owner of [...this.#idle]) {
      if (this.#canBeHelped(owner)) continue;
      this.#idle.delete(owner);
      this.#working.add(owner);
    }
  }

  /** What each of those at work waits on. */
  describe(): readonly string[] {
    return [...this.#working].map((owner) => {
      const { task, attempt, worker } = owner.scope;
      const on =
        owner.externals.length > 0
          ? `ctx.external(${owner.externals.map((label) => JSON.stringify(label)).join(', ')})`
          : this.#resources.describe(owner.scope);
      return `${task} attempt ${attempt} on ${worker} waits on ${on}`;
    });
  }

  close(): void {
    this.#resources.close();
  }

  #forget(scope: Scope, owner: Owner): void {
    this.#owners.delete(scope);
    this.#working.delete(owner);
    this.#idle.delete(owner);
  }

  #atWork(owner: Owner): void {
    if (owner.left || owner.life?.dead) return;
    if (owner.externals.length > 0 || owner.waits === 0) this.#working.add(owner);
    else this.#working.delete(owner);
  }

  /** It has a deadline, or another attempt that waits on time may release it. */
  #canBeHelped(owner: Owner): boolean {
    if (owner.externals.length > 0 || this.#resources.live(owner.scope) > 0) return false;
    if (owner.endsAt < Number.POSITIVE_INFINITY || owner.background > 0) return true;
    for (const other of this.#owners.values()) if (other.waits > 0) return true;
    return false;
  }
}
