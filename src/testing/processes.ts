/**
 * The simulated processes. Each has its own clock, which may be skewed, and one worker per store. Processes start, pause, crash, restart, and are
 * replaced by those of another version of the application.
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
import { Process } from './owners.ts';
import { exact, type SimulationRecord } from './record.ts';
import type { Settings } from './settings.ts';
import type { SimulatedWorker } from './simulation.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** A deployed application and its part in the simulation. */
export interface Version {
  readonly app: App;
  readonly host: Host;
}

/** What the processes need from the simulation. */
export interface ProcessesDeps {
  readonly clock: VirtualClock;
  readonly record: SimulationRecord;
  readonly settings: Settings;
  readonly faults: Faults;
  readonly stores: ReadonlyMap<StoreSource, Store>;
  /** A wrapper between a worker and its store. */
  readonly between: ((store: Store, worker: string) => Store) | undefined;
  /** Throws if the simulation can no longer be used. */
  use(): void;
  /** Called when a process died. The last changes that it made to a store may not have been reported. */
  mayHaveUnreported(): void;
}

const none: readonly never[] = [];
const restartAfterMs = 1_000;
/** How long workers have to finish when another version replaces them. */
const graceMs = 25_000;

class Place {
  readonly index: number;
  readonly version: Version;
  process: Process;
  /** Another version has replaced it, so it is not started again. */
  retired = false;
  /** The test has stopped it. */
  stopped = false;
  /** One worker per store, all in one process. */
  workers: Worker[] = [];
  starts = 0;
  skewMs = 0;
  constructor(index: number, process: Process, version: Version) {
    this.index = index;
    this.process = process;
    this.version = version;
  }
}

export class Processes {
  readonly #deps: ProcessesDeps;
  readonly #places: Place[] = [];
  /** When something last went wrong with each worker's process. */
  readonly #troubledUntil = new Map<string, number>();
  /** The wrapper of task functions for the invariant checker, if there is one. */
  handlers: Handlers | undefined;

  constructor(deps: ProcessesDeps) {
    this.#deps = deps;
  }

  /** Draws faults from here on. */
  draw(choices: Choices, rates: FaultRates): DrawnFaults {
    const { clock } = this.#deps;
    const drawn = new DrawnFaults(
      {
        choices,
        now: clock.now,
        crash: (process) => this.#crash(this.#placeOf(process), true),
        markTroubled: (process) => this.#markTroubled(process, 0),
        pause: (process, ms) => this.#stop(process, ms),
        lag: (process, ms) => clock.lag(process, ms),
        // Not a wait of the calling attempt.
        later: (process, ms, fn) => void scope.exit(() => clock.arm(clock.now() + ms, fn, process)),
        note: (process, text) => this.#note(process, text),
      },
      rates,
    );
    clock.onWait = (process) => drawn.wait(process);
    return drawn;
  }

  /** Starts processes of a version. */
  start(version: Version, count: number): void {
    for (let i = 0; i < count; i++) this.#start(this.#places.length, version);
  }

  /** Starts a new version. Unless `beside` is set, running processes are stopped gracefully and not started again. */
  replace(version: Version, count: number, beside: boolean): void {
    const old = beside ? [] : this.#places.filter(({ retired }) => !retired);
    this.start(version, count);
    for (const place of old) {
      place.retired = true;
      if (!place.process.dead) for (const worker of place.workers) void worker.stop(graceMs);
    }
  }

  /** Restarts missing workers and corrects their clocks; paused ones resume on time. */
  heal(): void {
    for (const place of this.#places) {
      place.process.skewMs = 0;
      if ((place.process.dead || place.stopped) && !place.retired) this.#start(place.index, place.version);
    }
  }

  /** The process in which the calling code runs; undefined: the test itself. */
  readonly here = (): Process | undefined => {
    for (let at = scope.getStore(); at; at = at.parent) {
      const { worker } = at;
      const place = this.#places.find(({ process }) => process.name === worker);
      if (place) return place.process;
    }
    return undefined;
  };

  /** The store as seen by task code and the test. */
  clientOf(store: Store): Store {
    return storeFor(store, this.#deps.faults, { ...this.#caller(this.here), turn: () => this.#deps.clock.turn() });
  }

  get alive(): readonly Process[] {
    const now = this.#deps.clock.now();
    const isAwake = ({ process, stopped, retired }: Place) => !process.dead && !stopped && !retired && process.pausedUntil < now;
    return this.#places.filter(isAwake).map(({ process }) => process);
  }

  get count(): number {
    return this.#places.length;
  }

  declare(): void {
    for (const { workers } of this.#places) for (const worker of workers) worker.declare();
  }

  /** When something last went wrong with a worker's process, including its start. */
  troubledAt(worker: string): number {
    return this.#troubledUntil.get(worker) ?? Number.POSITIVE_INFINITY;
  }

  /** A fault of a store may affect every process. */
  troubled(): void {
    for (const { process } of this.#places) this.#markTroubled(process, 0);
  }

  crash(worker: string): void {
    const place = this.#places.find(({ process }) => process.name === worker);
    if (place) this.#crash(place, true);
  }

  kill(): void {
    for (const { process } of this.#places) this.#deps.clock.kill(process);
  }

  /** The reason why nothing is being run, if there is one. */
  get idleBecause(): string | undefined {
    if (this.#places.every(({ process }) => process.dead)) return 'no worker is alive';
    const { concurrency } = this.#deps.settings;
    const busy = (worker: Worker) => worker.attempts.size >= concurrency;
    if (this.#places.every(({ process, workers }) => process.dead || workers.every(busy)))
      return `every worker is busy (concurrency ${concurrency}), with attempts that may be waiting for the job`;
    return undefined;
  }

  /** The operations of a test on a worker. */
  worker(index: number): SimulatedWorker {
    const place = this.#places[index];
    if (!place)
      throw new SimulationError(
        `worker ${index} does not exist; this simulation has ${this.#places.length} (simulate(tasks, { workers }))`,
      );
    const { use } = this.#deps;
    return {
      crash: (options) => {
        use();
        this.#crash(place, options?.restart ?? true);
      },
      skew: (ms) => {
        use();
        if (!Number.isSafeInteger(ms)) throw new SimulationError(`skew() takes whole milliseconds, positive or negative; got ${ms}`);
        place.skewMs = ms;
        place.process.skewMs = ms;
        this.#markTroubled(place.process, 0);
        this.#note(place.process, `its clock is off by ${ms} ms`);
      },
      pauseFor: (duration) => {
        use();
        const ms = durationMs(duration, 'pauseFor()');
        this.#stop(place.process, ms);
        this.#note(place.process, `paused for ${exact(ms)}`);
      },
      stop: (options) => this.#end(place, options?.timeout ?? '25s'),
      get alive() {
        return !place.process.dead;
      },
    };
  }

  async #end(place: Place, timeout: Duration): Promise<void> {
    const timeoutMs = durationMs(timeout, 'stop().timeout');
    const { process } = place;
    // A dead process has nothing to stop, and one that is killed while stopping never answers.
    if (process.dead) return;
    place.stopped = true;
    const killed = new Promise<void>((resolve) => process.whenDead.push(resolve));
    await Promise.race([Promise.all(place.workers.map((worker) => worker.stop(timeoutMs))), killed]);
  }

  #start(index: number, version: Version): void {
    const place = this.#places[index] ?? new Place(index, new Process(`w${index}`), version);
    this.#places[index] = place;
    const id = place.starts === 0 ? `w${index}` : `w${index}.${place.starts}`;
    place.starts += 1;
    place.stopped = false;
    const process = new Process(id);
    place.process = process;
    this.#markTroubled(process, 0);
    const { clock, settings, stores, faults, between } = this.#deps;
    const { drawn } = faults;
    process.skewMs = drawn ? drawn.skewOf(process) : place.skewMs;
    const { app } = version;
    const host = {
      ...version.host,
      clock: clock.forProcess(process),
      running: new Set<never>(),
      ...(drawn || this.handlers ? { definitions: seenBy(app, process, drawn, this.handlers) } : {}),
    };
    const main = settings.stores.get('default');
    const { concurrency } = settings;
    place.workers = [...stores].map(([source, store]) => {
      const view = storeFor(
        between?.(store, id) ?? store,
        faults,
        this.#caller(() => process),
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

  #caller(process: () => Process | undefined): Caller {
    return {
      process,
      crash: (dying) => this.#crash(this.#placeOf(dying), true),
      taskOf: (job) => this.#deps.record.job(job)?.task,
    };
  }

  /** The process of a worker that runs. */
  processOf(worker: string): Process | undefined {
    return this.#places.find(({ process }) => process.name === worker)?.process;
  }

  #placeOf(process: Process): Place {
    return this.#places.find((place) => place.process === process) as Place;
  }

  #crash(place: Place, restart: boolean): void {
    const { process } = place;
    if (process.dead) return;
    const { clock } = this.#deps;
    clock.kill(process);
    this.#markTroubled(process, 0);
    this.#note(process, 'crashed');
    this.#deps.mayHaveUnreported();
    if (!restart || place.retired) return;
    // The calling code may be in the process that dies, so the restart must not belong to it.
    scope.exit(() => clock.arm(clock.now() + restartAfterMs, () => this.#start(place.index, place.version), undefined));
  }

  #stop(process: Process, ms: number): void {
    this.#markTroubled(process, ms);
    process.pausedUntil = Math.max(process.pausedUntil, this.#deps.clock.now() + ms);
  }

  #markTroubled(process: Process, ms: number): void {
    this.#troubledUntil.set(process.name, Math.max(this.#troubledUntil.get(process.name) ?? 0, this.#deps.clock.now() + ms));
  }

  #note(process: Process, text: string): void {
    this.#deps.record.add({ type: 'note', at: this.#deps.clock.now(), worker: process.name, text });
  }
}

/** The application's tasks as they run in one process, with faults and checks added. */
function seenBy(
  { definitions }: App,
  process: Process,
  drawn: DrawnFaults | undefined,
  handlers: Handlers | undefined,
): Host['definitions'] {
  const get = (name: string) => {
    const definition = definitions.get(name);
    if (!definition) return undefined;
    const faulty = drawn ? { ...definition, run: drawn.handler(definition, () => process) } : definition;
    return handlers ? { ...faulty, run: handlers.watched(faulty, process) } : faulty;
  };
  return new Proxy(definitions, { get: (target, key) => (key === 'get' ? get : bound(target, key)) });
}

function bound(target: object, key: string | symbol): unknown {
  const value: unknown = Reflect.get(target, key, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
