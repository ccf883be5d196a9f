/**
 * A store as one process of the simulation sees it: it fails when told to, and it is cut off when the process dies. What it stands before
 * is the real store; nothing in the engine knows of it.
 */
import { StoreError } from '../core/errors.ts';
import type { Hint, Store } from '../ports/store.ts';
import type { Life } from './owners.ts';

/** `busy`: locked by someone else for the moment. `failing`: the disk or the connection. `full`: no space. All may pass. */
export type StoreFault = 'busy' | 'failing' | 'full';

/** The calls of the store port that can be made to fail. */
export type StoreCall = Exclude<keyof Store, 'name' | 'supports' | 'pollMs' | 'listen' | 'migrate' | 'close'>;

export interface FaultOptions {
  /** Which call. @default every call */
  readonly on?: StoreCall;
  /** How many calls in a row fail. @default 1 */
  readonly times?: number;
}

const messages: Record<StoreFault, string> = {
  busy: 'the store is busy: another process holds its lock',
  failing: 'the store failed: input/output error',
  full: 'the store is full: no space is left',
};

/** The faults that are still to happen. */
export class Faults {
  #pending: { fault: StoreFault; on: StoreCall | undefined; left: number }[] = [];

  add(fault: StoreFault, options: FaultOptions = {}): void {
    this.#pending.push({ fault, on: options.on, left: options.times ?? 1 });
  }

  readonly #wake = new Set<() => void>();
  schedulingStopped = false;

  stopScheduling(): void {
    this.schedulingStopped = true;
  }

  startScheduling(): void {
    this.schedulingStopped = false;
    for (const wake of this.#wake) wake();
  }

  /** @param wake called when schedulers are to look again; returns the function that ends this */
  onScheduling(wake: () => void): () => void {
    this.#wake.add(wake);
    return () => this.#wake.delete(wake);
  }

  /** Throws if this call is to fail. */
  check(call: StoreCall): void {
    if (this.#pending.length === 0) return;
    const due = this.#pending.find(({ on }) => on === undefined || on === call);
    if (!due) return;
    due.left -= 1;
    if (due.left <= 0) this.#pending = this.#pending.filter((other) => other !== due);
    throw new StoreError(`${messages[due.fault]} (a fault of the simulation, on ${call})`, { kind: due.fault, transient: true });
  }
}

const calls: readonly StoreCall[] = [
  'insert',
  'claim',
  'renew',
  'settle',
  'overdue',
  'nextDueAt',
  'amend',
  'prune',
  'saveWorker',
  'listWorkers',
  'saveQueue',
  'saveSchedule',
  'dropSchedule',
  'listSchedules',
  'dueSchedules',
  'advanceSchedules',
  'get',
  'list',
  'stats',
];
const never = new Promise<never>(() => {});
const nothingDue = { due: [], nextAt: null, holding: false };

/** The store for one process. `life` is undefined for the test's own calls, which no fault but the store's own reaches. */
export function storeFor(store: Store, faults: Faults, life: Life | undefined): Store {
  const view: Record<string, unknown> = {
    name: store.name,
    supports: store.supports,
    // The store is the simulation's own: what others might do to it need not be looked for.
    pollMs: store.listen ? Number.POSITIVE_INFINITY : store.pollMs,
  };
  for (const call of calls) {
    const real = (store[call] as (a: unknown, b: unknown) => unknown).bind(store);
    view[call] = (a: unknown, b: unknown) => {
      // The process is gone: nobody is there to hear an answer.
      if (life?.dead) return never;
      faults.check(call);
      if (call === 'dueSchedules' && faults.schedulingStopped && life) return nothingDue;
      const answer = real(a, b);
      return answer instanceof Promise ? answer.then((value) => (life?.dead ? never : value)) : answer;
    };
  }
  view.migrate = () => store.migrate();
  // The simulation closes the store itself, once, at its end.
  view.close = () => {};
  if (store.listen) {
    const listen = store.listen.bind(store);
    view.listen = (notify: (hint: Hint) => void) => {
      const ends = [
        listen((hint) => {
          if (!life?.dead) notify(hint);
        }),
        faults.onScheduling(() => {
          if (!life?.dead) notify({ scheduleAt: 0 });
        }),
      ];
      return () => {
        for (const end of ends) end();
      };
    };
  }
  return view as unknown as Store;
}
