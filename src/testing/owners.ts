/** Whose time it is: the processes of workers, which pause and die as a whole, and the attempts in flight, which hold the instant while they work. */
import type { Scope } from '../ports/clock.ts';

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
