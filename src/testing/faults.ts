/** Faults that a test requests, and each process's view of the store, where they are injected. */

import { StoreError } from '../core/errors.ts';
import type { Job } from '../core/types.ts';
import { scope } from '../engine/scope.ts';
import type { Hint, Store } from '../ports/store.ts';
import { aroundStore, type StoreCall } from './around-store.ts';
import type { DrawnFaults } from './drawn-faults.ts';
import type { Process } from './owners.ts';
import { realWork } from './real-work.ts';

export type { StoreCall } from './around-store.ts';

/** How a store can fail. All are temporary: retrying may help. */
export type StoreFault = 'busy' | 'failing' | 'full';

export interface FaultOptions {
  /**
   * The call.
   * @default every call
   */
  readonly on?: StoreCall;
  /**
   * Number of consecutive calls that fail.
   * @default 1
   */
  readonly times?: number;
}

export const messages: Record<StoreFault, string> = {
  busy: 'the store is busy: another process holds its lock',
  failing: 'the store failed: input/output error',
  full: 'the store is full: no space left on the device',
};

/** Where a test can crash a worker; `enqueue`: when an attempt enqueues. */
export const crashPoints = [
  'before claim',
  'after claim',
  'in run',
  'before enqueue',
  'after enqueue',
  'before settle',
  'after settle',
] as const;
export type CrashPoint = (typeof crashPoints)[number];

/** The faults that the test has requested and that have not happened yet. */
export class Faults {
  #pending: { fault: StoreFault; on: StoreCall | undefined; left: number }[] = [];
  readonly #wake = new Set<() => void>();
  schedulingStopped = false;
  /** The names of all schedules that were ever in a store. */
  readonly schedules = new Set<string>();
  drawn: DrawnFaults | undefined;

  add(fault: StoreFault, options: FaultOptions = {}): void {
    this.#pending.push({ fault, on: options.on, left: options.times ?? 1 });
  }

  stopScheduling(): void {
    this.schedulingStopped = true;
  }

  startScheduling(): void {
    this.schedulingStopped = false;
    for (const wake of this.#wake) wake();
  }

  #crashes: { readonly at: CrashPoint; readonly task: string | undefined; left: number }[] = [];

  /** @param point where; `nth` only counts events that concern the task, if one is given */
  crashAt(at: CrashPoint, task: string | undefined, nth: number): void {
    this.#crashes.push({ at, task, left: nth });
  }

  /**
   * True if the process must crash here.
   * @param concerns whether this event concerns a task
   */
  crashes(at: CrashPoint, concerns: (task: string) => boolean): boolean {
    const due = this.#crashes.find((crash) => crash.at === at && (crash.task === undefined || concerns(crash.task)) && --crash.left === 0);
    if (due) this.#crashes = this.#crashes.filter((other) => other !== due);
    return due !== undefined;
  }

  get awaitsCrash(): boolean {
    return this.#crashes.length > 0;
  }

  /** Stops all faults. */
  heal(): void {
    this.#pending = [];
    this.#crashes = [];
    if (this.drawn) this.drawn.healed = true;
    this.startScheduling();
  }

  /**
   * @param wake called when schedulers should check again
   * @returns a function that removes the listener
   */
  onScheduling(wake: () => void): () => void {
    this.#wake.add(wake);
    return () => this.#wake.delete(wake);
  }

  /** Throws if this call must fail. */
  check(call: StoreCall): void {
    if (this.#pending.length === 0) return;
    const due = this.#pending.find(({ on }) => on === undefined || on === call);
    if (!due) return;
    due.left -= 1;
    if (due.left <= 0) this.#pending = this.#pending.filter((other) => other !== due);
    throw new StoreError(`${messages[due.fault]} (a fault of the simulation, on ${call})`, { kind: due.fault, transient: true });
  }
}

/** A new promise each time: reactions to a shared one would be kept forever. */
export const never = (): Promise<never> => new Promise<never>(() => {});
export const nothingDue = { due: [], nextAt: null, holding: false };

/** The caller of a store. */
export interface Caller {
  /** The calling process. Undefined: the test itself, which only sees faults of the store. */
  process(): Process | undefined;
  crash(process: Process): void;
  taskOf(id: string): string | undefined;
  /** When an attempt may make a call, if not immediately: concurrent attempts have an order. */
  turn?(): Promise<void> | undefined;
}

/** A process's view of the store. */
export function storeFor(store: Store, faults: Faults, caller: Caller): Store {
  const view = aroundStore(store, (call, [a, b], really) => {
    const perform = () => {
      const answer = really();
      if (answer instanceof Promise) realWork.storeCall(answer, scope.getStore() !== undefined || caller.process() === undefined);
      const isJoined = (b as { readonly transaction?: unknown } | undefined)?.transaction !== undefined;
      if (isJoined && answer instanceof Promise && store.transactionsEnded) {
        const ended = store.transactionsEnded.bind(store);
        realWork.storeCall(
          answer.then(ended, () => {}),
          true,
        );
      }
      return answer;
    };
    const ask = () => {
      const process = caller.process();
      // The process has died, so nothing receives the answer.
      if (process?.dead) return never();
      if (call === 'saveSchedule') faults.schedules.add((a as { readonly name: string }).name);
      faults.check(call);
      if (!process) return perform();
      if (call === 'dueSchedules' && faults.schedulingStopped) return nothingDue;
      const invoke = () => (faults.awaitsCrash ? around(call, a, perform, faults, caller, process) : perform());
      const answer = faults.drawn ? faults.drawn.call(call, process, invoke) : invoke();
      return answer instanceof Promise ? answer.then((value) => (process.dead ? never() : value)) : answer;
    };
    // The caller's own transaction waits for nothing.
    const turn = (b as { readonly transaction?: unknown } | undefined)?.transaction === undefined ? caller.turn?.() : undefined;
    return turn === undefined ? ask() : turn.then(ask);
  }) as { -readonly [Key in keyof Store]: Store[Key] };
  Object.defineProperty(view, 'pollMs', {
    enumerable: true,
    // The store belongs to the simulation, so there are no changes by others to poll for, unless a scheduler may be told that nothing is due.
    get() {
      if (!store.listen) return Math.min(store.pollMs, drawnPollMs);
      return !faults.drawn || faults.drawn.healed ? Number.POSITIVE_INFINITY : drawnPollMs;
    },
  });
  // Other threads run in real time.
  delete view.keeper;
  // The simulation has opened the store, and closes it itself, once, at its end.
  view.migrate = () => {};
  view.close = () => {};
  if (store.listen) {
    const listen = store.listen.bind(store);
    view.listen = (notify: (hint: Hint) => void) => {
      const process = caller.process();
      const ends = [
        listen((hint) => {
          if (!process?.dead) notify(hint);
        }),
        faults.onScheduling(() => {
          if (!process?.dead) notify({ scheduleAt: 0 });
        }),
      ];
      return () => {
        for (const end of ends) end();
      };
    };
  }
  return view;
}

/** A call to the store for which the test has requested a crash. A settle that also claims counts as both. */
function around(call: StoreCall, given: unknown, perform: () => unknown, faults: Faults, caller: Caller, process: Process): unknown {
  const die = () => {
    caller.crash(process);
    return never();
  };
  const some = (names: readonly (string | undefined)[]) => (task: string) => names.includes(task);
  const settling = call === 'settle' ? (given as readonly { id: string }[]).map(({ id }) => caller.taskOf(id)) : [];
  const enqueuing = call === 'insert' ? (given as readonly Job[]).map(({ task }) => task) : [];
  if (call === 'claim' && faults.crashes('before claim', () => true)) return die();
  if (call === 'settle' && faults.crashes('before settle', some(settling))) return die();
  if (call === 'insert' && faults.crashes('before enqueue', some(enqueuing))) return die();
  return after(perform(), (answer) => {
    if (call === 'insert' && faults.crashes('after enqueue', some(enqueuing))) return die();
    if (call === 'settle' && faults.crashes('after settle', some(settling))) return die();
    const claimed =
      call === 'claim' ? (answer as readonly Job[]) : call === 'settle' ? (answer as { claimed: readonly Job[] }).claimed : [];
    if (claimed.length > 0 && faults.crashes('after claim', some(claimed.map(({ task }) => task)))) return die();
    return answer;
  });
}

/** A scheduler that was told that nothing is due checks again after this time, as in stores shared with other processes. */
const drawnPollMs = 60_000;

export function after(answer: unknown, then: (value: unknown) => unknown): unknown {
  return answer instanceof Promise ? answer.then(then) : then(answer);
}
