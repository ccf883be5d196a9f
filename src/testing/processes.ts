/**
 * The processes of a simulation: each has a life, a clock that may be off, and a worker for every store; they start, are stopped for a while,
 * die, come back, and are replaced by those of another version of the application.
 */
import type { App } from '../app.ts';
import { type Duration, durationMs } from '../core/duration.ts';
import { SimulationError } from '../core/errors.ts';
import type { Host } from '../engine/host.ts';
import { scope } from '../engine/scope.ts';
import { Worker } from '../engine/worker.ts';
import type { Store, StoreSource } from '../ports/store.ts';
import type { Choices } from './choices.ts';
import { DrawnFaults, type FaultRates } from './drawn-faults.ts';
import { type Caller, type Faults, storeFor } from './faults.ts';
import type { Handlers } from './handlers.ts';
import { Life } from './owners.ts';
import { exact, type SimulationRecord } from './record.ts';
import type { Settings } from './settings.ts';
import type { SimulatedWorker } from './simulation.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** An application that is deployed, and its part in the simulation. */
export interface Version {
  readonly app: App;
  readonly host: Host;
}

/** What the processes stand on. */
export interface Ground {
  readonly clock: VirtualClock;
  readonly record: SimulationRecord;
  readonly settings: Settings;
  readonly faults: Faults;
  readonly stores: ReadonlyMap<StoreSource, Store>;
  /** What stands between a worker and its store. */
  readonly between: ((store: Store, worker: string) => Store) | undefined;
  /** Throws when the simulation can be used no more. */
  use(): void;
  /** A process died: what it did to a store just before may have been told to nobody. */
  untold(): void;
}

const none: readonly never[] = [];
const restartAfterMs = 1_000;
/** What workers are given to end when another version takes their place. */
const graceMs = 25_000;

class Place {
  readonly index: number;
  readonly version: Version;
  life: Life;
  /** Another version has taken its place: it is not started again. */
  retired = false;
  /** The test has stopped it. */
  stopped = false;
  /** One for each store; all of them one process. */
  workers: Worker[] = [];
  starts = 0;
  skewMs = 0;
  constructor(index: number, life: Life, version: Version) {
    this.index = index;
    this.life = life;
    this.version = version;
  }
}

export class Processes {
  readonly #ground: Ground;
  readonly #places: Place[] = [];
  /** When something last went wrong with each worker's process. */
  readonly #troubles = new Map<string, number>();
  /** Who looks at the functions of tasks, if someone does. */
  handlers: Handlers | undefined;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** Draws faults from here on. */
  draw(choices: Choices, rates: FaultRates): DrawnFaults {
    const { clock } = this.#ground;
    const drawn = new DrawnFaults(
      {
        choices,
        now: clock.now,
        crash: (life) => this.#crash(this.#placeOf(life), true),
        trouble: (life) => this.#trouble(life, 0),
        pause: (life, ms) => this.#stop(life, ms),
        lag: (life, ms) => clock.lag(life, ms),
        // Not a wait of the attempt that asks.
        later: (life, ms, fn) => void scope.exit(() => clock.arm(clock.now() + ms, fn, life)),
        note: (life, text) => this.#note(life, text),
      },
      rates,
    );
    clock.onWait = (life) => drawn.wait(life);
    return drawn;
  }

  /** Starts so many processes of a version. */
  start(version: Version, count: number): void {
    for (let i = 0; i < count; i++) this.#start(this.#places.length, version);
  }

  /** Those that run are stopped gracefully, and not started again, unless they are to stay beside the new ones. */
  replace(version: Version, count: number, beside: boolean): void {
    const old = beside ? [] : this.#places.filter(({ retired }) => !retired);
    this.start(version, count);
    for (const place of old) {
      place.retired = true;
      if (!place.life.dead) for (const worker of place.workers) void worker.stop(graceMs);
    }
  }

  /** Every worker is there, and its clock is right; one that stands still goes on in its time. */
  heal(): void {
    for (const place of this.#places) {
      place.life.skewMs = 0;
      if ((place.life.dead || place.stopped) && !place.retired) this.#start(place.index, place.version);
    }
  }

  /** The process in which the code that asks runs; undefined: the test's own. */
  readonly here = (): Life | undefined => {
    for (let at = scope.getStore(); at; at = at.parent) {
      const { worker } = at;
      const place = this.#places.find(({ life }) => life.name === worker);
      if (place) return place.life;
    }
    return undefined;
  };

  /** The store as code of tasks, and the test, have it. */
  clientOf(store: Store): Store {
    return storeFor(store, this.#ground.faults, { ...this.#caller(this.here), turn: () => this.#ground.clock.turn() });
  }

  get alive(): readonly Life[] {
    const now = this.#ground.clock.now();
    const isAwake = ({ life, stopped, retired }: Place) => !life.dead && !stopped && !retired && life.pausedUntil < now;
    return this.#places.filter(isAwake).map(({ life }) => life);
  }

  get count(): number {
    return this.#places.length;
  }

  declare(): void {
    for (const { workers } of this.#places) for (const worker of workers) worker.declare();
  }

  /** When something last went wrong with a worker's process, its start included. */
  troubledAt(worker: string): number {
    return this.#troubles.get(worker) ?? Number.POSITIVE_INFINITY;
  }

  /** What happens to a store may have happened to each of them. */
  troubled(): void {
    for (const { life } of this.#places) this.#trouble(life, 0);
  }

  crash(worker: string): void {
    const place = this.#places.find(({ life }) => life.name === worker);
    if (place) this.#crash(place, true);
  }

  kill(): void {
    for (const { life } of this.#places) this.#ground.clock.kill(life);
  }

  /** Why nobody does anything, if that is how it is. */
  get idleBecause(): string | undefined {
    if (this.#places.every(({ life }) => life.dead)) return 'no worker is alive';
    const { concurrency } = this.#ground.settings;
    const busy = (worker: Worker) => worker.attempts.size >= concurrency;
    if (this.#places.every(({ life, workers }) => life.dead || workers.every(busy)))
      return `every worker is busy (concurrency ${concurrency}), with attempts that may be waiting for it`;
    return undefined;
  }

  /** What a test can do to a worker. */
  worker(index: number): SimulatedWorker {
    const place = this.#places[index];
    if (!place)
      throw new SimulationError(`there is no worker ${index}; this simulation has ${this.#places.length} (simulate(tasks, { workers }))`);
    const { use } = this.#ground;
    return {
      crash: (options) => {
        use();
        this.#crash(place, options?.restart ?? true);
      },
      skew: (ms) => {
        use();
        if (!Number.isSafeInteger(ms)) throw new SimulationError(`skew() takes whole milliseconds, negative ones too; got ${ms}`);
        place.skewMs = ms;
        place.life.skewMs = ms;
        this.#trouble(place.life, 0);
        this.#note(place.life, `its clock is ${ms} ms off`);
      },
      pauseFor: (duration) => {
        use();
        const ms = durationMs(duration, 'pauseFor()');
        this.#stop(place.life, ms);
        this.#note(place.life, `paused for ${exact(ms)}`);
      },
      stop: (options) => this.#end(place, options?.timeout ?? '25s'),
      get alive() {
        return !place.life.dead;
      },
    };
  }

  async #end(place: Place, timeout: Duration): Promise<void> {
    const timeoutMs = durationMs(timeout, 'stop().timeout');
    const { life } = place;
    // A process that is gone has nothing to stop, and one that is killed while it stops never answers.
    if (life.dead) return;
    place.stopped = true;
    const killed = new Promise<void>((resolve) => life.whenDead.push(resolve));
    await Promise.race([Promise.all(place.workers.map((worker) => worker.stop(timeoutMs))), killed]);
  }

  #start(index: number, version: Version): void {
    const place = this.#places[index] ?? new Place(index, new Life(`w${index}`), version);
    this.#places[index] = place;
    const id = place.starts === 0 ? `w${index}` : `w${index}.${place.starts}`;
    place.starts += 1;
    place.stopped = false;
    const life = new Life(id);
    place.life = life;
    this.#trouble(life, 0);
    const { clock, settings, stores, faults, between } = this.#ground;
    const { drawn } = faults;
    life.skewMs = drawn ? drawn.skewOf(life) : place.skewMs;
    const { app } = version;
    const host = {
      ...version.host,
      clock: clock.forLife(life),
      running: new Set<never>(),
      ...(drawn || this.handlers ? { definitions: seenBy(app, life, drawn, this.handlers) } : {}),
    };
    const main = settings.stores.get('default');
    const { concurrency } = settings;
    place.workers = [...stores].map(([source, store]) => {
      const view = storeFor(
        between?.(store, id) ?? store,
        faults,
        this.#caller(() => life),
      );
      const options = {
        id,
        concurrency,
        queues: undefined,
        excludeQueues: undefined,
        weights: undefined,
        scheduler: source === main,
        blockLimitMs: 0,
      };
      return new Worker(host, view, source === main ? () => app.schedules : () => none, options);
    });
    for (const worker of place.workers) worker.start();
  }

  #caller(life: () => Life | undefined): Caller {
    return {
      life,
      crash: (dying) => this.#crash(this.#placeOf(dying), true),
      taskOf: (job) => this.#ground.record.job(job)?.task,
    };
  }

  #placeOf(life: Life): Place {
    return this.#places.find((place) => place.life === life) as Place;
  }

  #crash(place: Place, restart: boolean): void {
    const { life } = place;
    if (life.dead) return;
    const { clock } = this.#ground;
    clock.kill(life);
    this.#trouble(life, 0);
    this.#note(life, 'crashed');
    this.#ground.untold();
    if (!restart || place.retired) return;
    // Whoever dies may be the one that asks: what comes after belongs to nobody that is gone.
    scope.exit(() => clock.arm(clock.now() + restartAfterMs, () => this.#start(place.index, place.version), undefined));
  }

  #stop(life: Life, ms: number): void {
    this.#trouble(life, ms);
    life.pausedUntil = Math.max(life.pausedUntil, this.#ground.clock.now() + ms);
  }

  #trouble(life: Life, ms: number): void {
    this.#troubles.set(life.name, Math.max(this.#troubles.get(life.name) ?? 0, this.#ground.clock.now() + ms));
  }

  #note(life: Life, text: string): void {
    this.#ground.record.add({ type: 'note', at: this.#ground.clock.now(), worker: life.name, text });
  }
}

/** The application's tasks as they run on one process, where something may befall them, and someone may look. */
function seenBy({ definitions }: App, life: Life, drawn: DrawnFaults | undefined, handlers: Handlers | undefined): Host['definitions'] {
  const get = (name: string) => {
    const definition = definitions.get(name);
    if (!definition) return undefined;
    const befallen = drawn ? { ...definition, run: drawn.handler(definition, () => life) } : definition;
    return handlers ? { ...befallen, run: handlers.watched(befallen, life) } : befallen;
  };
  return new Proxy(definitions, { get: (target, key) => (key === 'get' ? get : bound(target, key)) });
}

function bound(target: object, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
