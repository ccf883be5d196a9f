/**
 * Keeps a worker's leases while its thread is blocked: a task that computes for a minute without yielding to the event loop must not run
 * twice. This side sends a beat once a second while attempts are in flight; a helper thread (`keeping.ts`, `keeper-thread.ts` of each store) renews
 * the leases when the beats stop.
 */
import { Worker } from 'node:worker_threads';
import { systemClock, type Timer } from '../ports/clock.ts';
import type { Keeper, KeeperOptions } from '../ports/store.ts';
import { active, activity, beats, closed, idle, type KeeperData } from './keeping.ts';

const beatMs = 1_000;
/**
 * How long beats may be missing before the helper thread renews the leases and reports the blockage. The thread checks at this interval.
 */
const patienceMs = 5_000;

const started = new Set<Keeper>();

/**
 * Node terminates threads when the process exits, but a thread that is still loading can miss that, and the process would wait for it
 * forever.
 */
function closeAtExit(): void {
  for (const keeper of started) keeper.close();
}

/** The location of a helper thread's module, and of the jobs. */
export interface KeeperThread<Place> {
  /** The URL of a module in the same folder as the thread's. A CommonJS bundle has none. */
  readonly baseUrl: string;
  /** @throws Error if the location cannot be passed to a thread; the worker then continues without one */
  readonly place: () => Place;
}

/** For stores whose jobs no other process can take. */
export const noKeeper: Keeper = { begun() {}, rest() {}, close() {} };

export class ThreadKeeper<Place> implements Keeper {
  readonly #thread: KeeperThread<Place>;
  readonly #options: KeeperOptions;
  readonly #patienceMs: number;
  readonly #state = new Int32Array(new SharedArrayBuffer(8));
  #isStarted = false;
  #timer: Timer | undefined;
  #beatAt = 0;
  #closed = false;

  constructor(thread: KeeperThread<Place>, options: KeeperOptions, patience = patienceMs) {
    this.#thread = thread;
    this.#options = options;
    this.#patienceMs = patience;
  }

  begun(): void {
    if (this.#timer || this.#closed) return;
    if (!this.#isStarted) this.#start();
    this.#isStarted = true;
    this.#arm();
    this.#send(active);
  }

  rest(): void {
    if (!this.#timer) return;
    this.#timer.cancel();
    this.#timer = undefined;
    this.#send(idle);
  }

  /** The thread ends without being terminated. */
  close(): void {
    if (started.delete(this) && started.size === 0) process.off('exit', closeAtExit);
    this.rest();
    this.#closed = true;
    this.#send(closed);
  }

  #send(what: number): void {
    Atomics.store(this.#state, activity, what);
    Atomics.notify(this.#state, activity);
    if (what === closed) Atomics.notify(this.#state, beats);
  }

  #arm(): void {
    this.#beatAt = systemClock.monotonic() + beatMs;
    Atomics.add(this.#state, beats, 1);
    this.#timer = systemClock.after(beatMs, () => {
      const lateMs = systemClock.monotonic() - this.#beatAt;
      if (lateMs >= this.#patienceMs) this.#options.blocked(lateMs);
      this.#arm();
    });
  }

  /** If the file does not exist, as in a bundle, the worker continues without the helper. */
  #start(): void {
    const { worker, leaseMs, limitMs } = this.#options;
    const failed = (error: unknown) => {
      process.emitWarning(
        `the helper thread that renews leases while the event loop is blocked failed to start: ${error}. A task that blocks the event loop for more than ${leaseMs / 1_000} s may run twice. If escapement is bundled, mark it as external`,
        { type: 'EscapementWarning', code: 'ESCAPEMENT_NO_HELPER_THREAD' },
      );
    };
    try {
      const { baseUrl, place } = this.#thread;
      const name = baseUrl.endsWith('.ts') ? './keeper-thread.ts' : './keeper-thread.js';
      const data: KeeperData<Place> = { place: place(), worker, leaseMs, limitMs, patienceMs: this.#patienceMs, state: this.#state };
      const thread = new Worker(new URL(name, baseUrl), { workerData: data, execArgv: [] });
      thread.unref();
      thread.on('error', failed);
      if (started.size === 0) process.on('exit', closeAtExit);
      started.add(this);
    } catch (error) {
      failed(error);
    }
  }
}
