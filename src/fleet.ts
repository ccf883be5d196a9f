/**
 * Events of other processes, for listeners that request them: once a second the most recently changed jobs are read, and an event is
 * emitted for each change. If no other process can see the jobs, and in a simulation, only the application's own events are emitted.
 */
import type { App } from './app.ts';
import type { Emitter, Event, EventName } from './core/events.ts';
import { type FleetEvent, type FleetEventName, fleetEventNames, fleetEvents } from './core/fleet.ts';
import { changedAt } from './core/job.ts';
import type { JobRecord } from './core/types.ts';
import type { Backend } from './ports/backend.ts';
import { type Timer, whileAlive } from './ports/clock.ts';

const everyMs = 1_000;
/** Commits become visible after the instants in their rows, and clocks differ between machines. */
const overlapMs = 5_000;
/** How long emitted events are remembered. */
const knownMs = 60_000;
const firstLimit = 50;
const maxRead = 12_800;

export class Fleet {
  readonly #app: App;
  readonly #emitter: Emitter;
  readonly #watches = new Map<Backend, Watch>();
  #listeners = 0;

  constructor(app: App, emitter: Emitter) {
    this.#app = app;
    this.#emitter = emitter;
  }

  on(name: FleetEventName | '*', listener: (event: Event) => void): () => void {
    const app = this.#app;
    const isOfFleet = (type: EventName) => (fleetEventNames as readonly EventName[]).includes(type);
    const off = this.#emitter.on(name, listener);
    const offLocal = app.events.on(name, (event) => {
      if (isOfFleet(event.type) && !this.#isWatched()) listener(event);
    });
    this.#listeners += 1;
    return () => {
      off();
      offLocal();
      this.#listeners -= 1;
      if (this.#listeners === 0) this.stop();
    };
  }

  /** Called when a backend is used, so that its store may be read. */
  used(backend: Backend): void {
    if (this.#listeners === 0 || this.#watches.has(backend) || !backend.supports.shared || this.#app.binding !== this.#app.ownBinding)
      return;
    this.#watches.set(backend, new Watch(backend, this.#app, (event) => this.#emitter.emit(event)));
  }

  stop(): void {
    for (const watch of this.#watches.values()) watch.stop();
    this.#watches.clear();
  }

  /** The rows include the application's own jobs. */
  #isWatched(): boolean {
    const { binding, ownBinding } = this.#app;
    return binding === ownBinding && [...binding.backends.values()].some(({ supports }) => supports.shared);
  }
}

class Watch {
  readonly #backend: Backend;
  readonly #app: App;
  readonly #emit: (event: Event) => void;
  readonly #startedAt: number;
  readonly #emitted = new Map<string, number>();
  #caughtUpTo: number;
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(backend: Backend, app: App, emit: (event: Event) => void) {
    this.#backend = backend;
    this.#app = app;
    this.#emit = emit;
    this.#startedAt = app.binding.host.clock.now();
    this.#caughtUpTo = this.#startedAt;
    this.#schedulePoll();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #schedulePoll(): void {
    if (!this.#isStopped) this.#timer = whileAlive(everyMs, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    try {
      const now = this.#app.binding.host.clock.now();
      const records = await this.#changed(now);
      if (this.#isStopped) return;
      this.#emitNew(records, now);
      this.#caughtUpTo = now;
    } catch {
      // Other uses of the store report the error. The events of this period are emitted later.
    }
    this.#schedulePoll();
  }

  /** The jobs that changed since the last read, and some that changed before. */
  async #changed(now: number): Promise<readonly JobRecord[]> {
    const store = await this.#backend.open();
    const since = this.#caughtUpTo - overlapMs;
    for (let limit = firstLimit; ; limit *= 4) {
      const { items } = await store.list({}, { now, limit, order: 'changed' });
      const oldest = items.at(-1);
      if (items.length < limit || !oldest || changedAt(oldest) < since) return items;
      if (limit < maxRead) continue;
      this.#app.logger.warn({ jobs: limit }, 'too many jobs changed in a second; some events of other processes were dropped');
      return items;
    }
  }

  #emitNew(records: readonly JobRecord[], now: number): void {
    const fresh: FleetEvent[] = [];
    for (const record of records) {
      for (const one of fleetEvents(record)) {
        const { at } = one.event;
        if (at < this.#startedAt || at < now - knownMs || this.#emitted.has(one.key)) continue;
        this.#emitted.set(one.key, at);
        fresh.push(one);
      }
    }
    // The sort is stable, and the events of one job are already in order.
    for (const { event } of fresh.sort((a, b) => a.event.at - b.event.at)) this.#emit(event);
    for (const [key, at] of this.#emitted) if (at < now - 2 * knownMs) this.#emitted.delete(key);
  }
}
