/**
 * Keeps a worker's leases while its thread is blocked: a task that computes for a minute without yielding to the event loop must not run
 * twice. This side sends a beat once a second while attempts are in flight; a helper thread (`keeper-thread.ts`) renews the leases when the
 * beats stop.
 */
import { Worker } from 'node:worker_threads';
import { systemClock, type Timer } from '../../ports/clock.ts';
import type { Keeper, KeeperOptions } from '../../ports/store.ts';
import { active, activity, beats, closed, idle, type KeeperData } from './keeper-thread.ts';

const beatMs = 1_000;
/** How long beats may be missing before the helper thread renews and the blockage is reported. The thread checks at this interval. */
const patienceMs = 5_000;

export class ThreadKeeper implements Keeper {
  readonly #file: string;
  readonly #options: KeeperOptions;
  readonly #patienceMs: number;
  readonly #state = new Int32Array(new SharedArrayBuffer(8));
  #isStarted = false;
  #timer: Timer | undefined;
  #beatAt = 0;
  #closed = false;

  constructor(file: string, options: KeeperOptions, patience = patienceMs) {
    this.#file = file;
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

  /** The thread ends by itself. */
  close(): void {
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
    const data: KeeperData = { file: this.#file, worker, leaseMs, limitMs, patienceMs: this.#patienceMs, state: this.#state };
    const failed = (error: unknown) => {
      process.emitWarning(
        `the helper thread that renews leases while the event loop is blocked failed to start: ${error}. A task that blocks the event loop for more than ${leaseMs / 1_000} s may run twice. If escapement is bundled, mark it as external`,
        { type: 'EscapementWarning', code: 'ESCAPEMENT_NO_HELPER_THREAD' },
      );
    };
    try {
      // A CommonJS bundle has no import.meta.url.
      const name = import.meta.url.endsWith('.ts') ? './keeper-thread.ts' : './keeper-thread.js';
      const thread = new Worker(new URL(name, import.meta.url), { workerData: data, execArgv: [] });
      thread.unref();
      thread.on('error', failed);
    } catch (error) {
      failed(error);
    }
  }
}
