/**
 * What goes wrong in a simulation. Some faults are asked for by the test; others are drawn, where an exploration allows it: at every call that a
 * worker makes to its store, and at every start of a task. Each is one decision of the run; each has the code that `docs/simulator.md` lists.
 */

import type { Definition } from '../core/definition.ts';
import { StoreError } from '../core/errors.ts';
import type { Job } from '../core/types.ts';
import type { Hint, Store } from '../ports/store.ts';
import type { Choices, Decision } from './choices.ts';
import type { Life } from './owners.ts';

/** How a store can fail. All pass: asking again may help. */
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

/** The kinds of faults that an exploration draws, of which each seed has some. */
export const faultFamilies = ['crash', 'store', 'slow', 'pause', 'stale', 'clock', 'handler', 'scheduler'] as const;
export type FaultFamily = (typeof faultFamilies)[number];

/** What can go wrong with a call, in the order of the picks. */
const callFaults = [
  ['crash', 'crash before'],
  ['crash', 'crash after'],
  ['store', 'busy'],
  ['store', 'failing'],
  ['store', 'full'],
  ['store', 'answer lost'],
  ['slow', 'late by 3 s'],
  ['slow', 'answered 3 s later'],
  ['slow', 'answered 20 s later'],
  ['pause', 'paused for 12 s'],
  ['pause', 'paused for 40 s'],
  ['pause', 'paused for 90 s'],
  ['stale', 'stale'],
  ['clock', 'clock steps 2 s forward'],
  ['clock', 'clock steps 2 s back'],
  ['scheduler', 'scheduler down for 10 m'],
] as const satisfies readonly (readonly [FaultFamily, string])[];
type CallFault = (typeof callFaults)[number][1];
/** The picks of a crash around a call. */
export const crashBefore = 1;
export const crashAfter = 2;

/** What can go wrong with an attempt, in the order of the picks. */
const handlerFaults = [
  ['handler', 'throws at once'],
  ['handler', 'throws at its end'],
  ['handler', 'blocks the process for 12 s'],
  ['crash', 'crash at its first wait'],
  ['crash', 'crash after 1 s'],
  ['crash', 'crash after 10 s'],
  ['handler', 'never ends, and hears no signal'],
] as const satisfies readonly (readonly [FaultFamily, string])[];

/** A worker fences itself 5 s before its lease is over: two clocks may differ by less than that. */
const mostSkewMs = 2_000;
/** Where a worker's clock may stand when its process starts. */
const skewsMs = [-mostSkewMs, -1_000, -100, 100, 1_000, mostSkewMs] as const;

/** Which reads may be answered from a moment ago. */
const staleCalls: readonly StoreCall[] = ['overdue', 'dueSchedules', 'listSchedules', 'get'];
const pausesMs: Partial<Record<CallFault, number>> = { 'paused for 12 s': 12_000, 'paused for 40 s': 40_000, 'paused for 90 s': 90_000 };
const schedulerDownMs = 600_000;

/** Calls whose crash, failure and delay matter most: what a worker does to jobs. */
const keyCalls: readonly StoreCall[] = ['claim', 'settle', 'renew', 'advanceSchedules'];

/** How likely each family is at a call that matters; 0: off. */
export type FaultRates = Readonly<Record<FaultFamily, number>>;

/** What draws faults needs of the simulation. */
export interface World {
  readonly choices: Choices;
  now(): number;
  crash(life: Life): void;
  pause(life: Life, ms: number): void;
  /** Resolves so much later; false when the process has died. */
  lag(life: Life, ms: number): Promise<void>;
  later(life: Life, ms: number, fn: () => void): void;
  note(life: Life, text: string): void;
  /** Something has gone wrong with this process. */
  trouble(life: Life): void;
}

/** The drawn faults of one run. */
export class DrawnFaults {
  readonly #world: World;
  readonly #rates: FaultRates;
  readonly #before = new Map<string, unknown>();
  readonly #down = new Map<Life, number>();
  healed = false;
  /** The decisions by which each fault happened, by its code. */
  readonly fired = new Map<string, Decision[]>();

  constructor(world: World, rates: FaultRates) {
    this.#world = world;
    this.#rates = rates;
  }

  /** The clock of a process that starts. */
  skewOf(life: Life): number {
    if (this.healed) return 0;
    const rate = this.#rates.clock * 20;
    const pick = this.#world.choices.rare(
      `${life.place}.skew`,
      skewsMs.map(() => rate / skewsMs.length),
    );
    const skew = pick === 0 ? 0 : (skewsMs[pick - 1] as number);
    if (skew !== 0) this.#happened('F21', life, `its clock is ${skew} ms off`);
    return skew;
  }

  call(name: StoreCall, life: Life, perform: () => unknown): unknown {
    if (this.healed) return perform();
    const scale = keyCalls.includes(name) ? 1 : 0.2;
    const weights = callFaults.map(([family, kind]) => (applies(name, kind) ? (this.#rates[family] / countIn(family)) * scale : 0));
    const pick = this.#world.choices.rare(`${life.place}.${name}`, weights);
    const until = this.#down.get(life);
    if (name === 'dueSchedules' && until !== undefined && until > this.#world.now()) return nothingDue;
    if (pick === 0) return this.#kept(name, life, perform());
    const kind = callFaults[pick - 1]?.[1] as CallFault;
    if (!applies(name, kind)) return this.#kept(name, life, perform());
    const { code, text } = named(name, kind);
    this.#happened(code, life, text);
    return this.#befall(kind, name, life, perform);
  }

  #befall(kind: CallFault, name: StoreCall, life: Life, perform: () => unknown): unknown {
    const world = this.#world;
    switch (kind) {
      case 'crash before':
        world.crash(life);
        return never();
      case 'crash after':
        return after(perform(), () => {
          world.crash(life);
          return never();
        });
      case 'busy':
      case 'failing':
      case 'full':
        throw new StoreError(`${messages[kind]} (a fault of the simulation, on ${name})`, { kind, transient: true });
      case 'answer lost':
        return after(perform(), () => {
          throw new StoreError(`the answer was lost (a fault of the simulation, on ${name})`, { kind: 'failing', transient: true });
        });
      case 'late by 3 s':
        return world.lag(life, 3_000).then(perform);
      case 'answered 3 s later':
      case 'answered 20 s later':
        return after(perform(), (answer) => world.lag(life, kind === 'answered 3 s later' ? 3_000 : 20_000).then(() => answer));
      case 'stale':
        return this.#before.has(`${life.name} ${name}`) ? this.#before.get(`${life.name} ${name}`) : this.#kept(name, life, perform());
      case 'clock steps 2 s forward':
        life.skewMs = Math.min(mostSkewMs, life.skewMs + 2_000);
        return perform();
      case 'clock steps 2 s back':
        life.skewMs = Math.max(-mostSkewMs, life.skewMs - 2_000);
        return perform();
      case 'scheduler down for 10 m':
        this.#down.set(life, world.now() + schedulerDownMs);
        return nothingDue;
      default:
        return after(perform(), (answer) => {
          world.pause(life, pausesMs[kind] ?? 0);
          return answer;
        });
    }
  }

  /** The answer is remembered, for when its process reads it late. */
  #kept(name: StoreCall, life: Life, answer: unknown): unknown {
    if (this.#rates.stale === 0 || !staleCalls.includes(name)) return answer;
    return after(answer, (value) => {
      this.#before.set(`${life.name} ${name}`, value);
      return value;
    });
  }

  /** A task's function with what may befall it. */
  handler({ run, timeoutMs }: Definition, lifeOf: (ctx: unknown) => Life | undefined): Definition['run'] {
    return (input, ctx) => {
      const life = lifeOf(ctx);
      if (!life || this.healed) return run(input, ctx);
      const weights = handlerFaults.map(([family]) => (this.#rates[family] / (family === 'handler' ? 4 : 6)) * 2);
      const pick = this.#world.choices.rare(`${life.place}.run`, weights);
      if (pick === 0) return run(input, ctx);
      const [family, kind] = handlerFaults[pick - 1] as (typeof handlerFaults)[number];
      // Without a timeout nothing would ever end it.
      if (kind === 'never ends, and hears no signal' && timeoutMs === null) return run(input, ctx);
      this.#happened(family === 'crash' ? 'F3' : 'F18', life, `an attempt ${kind}`);
      switch (kind) {
        case 'throws at once':
          throw new Error('a fault of the simulation: the task throws at once');
        case 'throws at its end':
          return Promise.resolve(run(input, ctx)).then(() => {
            throw new Error('a fault of the simulation: the task throws at its end');
          });
        case 'never ends, and hears no signal':
          return new Promise(() => {});
        case 'blocks the process for 12 s':
          this.#world.pause(life, 12_000);
          break;
        default:
          this.#world.later(life, kind === 'crash at its first wait' ? 0 : kind === 'crash after 1 s' ? 1_000 : 10_000, () => {
            if (!this.healed) this.#world.crash(life);
          });
      }
      return run(input, ctx);
    };
  }

  #happened(code: string, life: Life, text: string): void {
    const decision = this.#world.choices.decisions.at(-1);
    if (decision) this.fired.set(code, [...(this.fired.get(code) ?? []), decision]);
    this.#world.trouble(life);
    this.#world.note(life, `${code} ${text}`);
  }
}

function countIn(family: FaultFamily): number {
  return callFaults.filter(([of]) => of === family).length;
}

function applies(name: StoreCall, kind: CallFault): boolean {
  if (kind === 'stale') return staleCalls.includes(name);
  if (kind === 'scheduler down for 10 m') return name === 'dueSchedules';
  if (kind.startsWith('clock') || kind.startsWith('paused')) return keyCalls.includes(name);
  return true;
}

/** The code of a fault, and what it is called in the timeline. */
function named(name: StoreCall, kind: CallFault): { code: string; text: string } {
  const text = `${kind} ${name}`;
  if (kind === 'crash before') return { code: name === 'settle' ? 'F4' : 'F1', text };
  if (kind === 'crash after') return { code: name === 'claim' ? 'F2' : 'F5', text };
  if (kind === 'answer lost') return { code: 'F5', text };
  if (kind === 'stale') return { code: 'F16', text };
  if (kind.startsWith('clock')) return { code: 'F22', text: kind };
  if (kind.startsWith('paused')) return { code: 'F8', text: `${kind} after ${name}` };
  if (kind.startsWith('scheduler')) return { code: 'F25', text: kind };
  if (kind.startsWith('late') || kind.startsWith('answered')) return { code: name === 'renew' ? 'F9' : 'F14', text: `${name} ${kind}` };
  return { code: 'F13', text: `${name} is ${kind}` };
}

function after(answer: unknown, then: (value: unknown) => unknown): unknown {
  return answer instanceof Promise ? answer.then(then) : then(answer);
}

/** Where a test can have a worker crash. */
export type CrashPoint = 'before claim' | 'after claim' | 'in run' | 'before settle' | 'after settle';

/** The faults that the test has asked for, and that are still to happen. */
export class Faults {
  #pending: { fault: StoreFault; on: StoreCall | undefined; left: number }[] = [];
  readonly #wake = new Set<() => void>();
  schedulingStopped = false;
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

  /** @param point where; `nth` counts only those that concern the task, if one is given */
  crashAt(at: CrashPoint, task: string | undefined, nth: number): void {
    this.#crashes.push({ at, task, left: nth });
  }

  /** True if the process is to crash here. @param concerns whether what happens here concerns a task */
  crashes(at: CrashPoint, concerns: (task: string) => boolean): boolean {
    const due = this.#crashes.find((crash) => crash.at === at && (crash.task === undefined || concerns(crash.task)) && --crash.left === 0);
    if (due) this.#crashes = this.#crashes.filter((other) => other !== due);
    return due !== undefined;
  }

  get awaitsCrash(): boolean {
    return this.#crashes.length > 0;
  }

  /** From here on nothing goes wrong. */
  heal(): void {
    this.#pending = [];
    if (this.drawn) this.drawn.healed = true;
    this.startScheduling();
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
/** Each its own: what waits for one that all share would be kept for ever. */
const never = (): Promise<never> => new Promise<never>(() => {});
const nothingDue = { due: [], nextAt: null, holding: false };

/** The store for one process. `life` is undefined for the test's own calls, which no fault but the store's own reaches. */
export function storeFor(
  store: Store,
  faults: Faults,
  life: Life | undefined,
  crash?: { now(): void; taskOf(id: string): string | undefined },
): Store {
  const view: Record<string, unknown> = {
    name: store.name,
    supports: store.supports,
    // The store is the simulation's own: what others might do to it need not be looked for.
    pollMs: store.listen && !faults.drawn ? Number.POSITIVE_INFINITY : Math.min(store.pollMs, drawnPollMs),
  };
  for (const call of calls) {
    const real = (store[call] as (a: unknown, b: unknown) => unknown).bind(store);
    view[call] = (a: unknown, b: unknown) => {
      // The process is gone: nobody is there to hear an answer.
      if (life?.dead) return never();
      faults.check(call);
      if (call === 'dueSchedules' && faults.schedulingStopped && life) return nothingDue;
      let answer: unknown;
      if (life && crash && faults.awaitsCrash && (call === 'claim' || call === 'settle'))
        return around(call, a, () => real(a, b), faults, crash);
      if (life && faults.drawn) answer = faults.drawn.call(call, life, () => real(a, b));
      else answer = real(a, b);
      return answer instanceof Promise && life ? answer.then((value) => (life.dead ? never() : value)) : answer;
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

/** A claim or a settle, where the test waits for a crash. A settle that claims too is both. */
function around(
  call: 'claim' | 'settle',
  given: unknown,
  perform: () => unknown,
  faults: Faults,
  crash: { now(): void; taskOf(id: string): string | undefined },
): unknown {
  const asked = call === 'settle' ? (given as readonly { id: string }[]).map(({ id }) => crash.taskOf(id)) : [];
  const die = () => {
    crash.now();
    return never();
  };
  if (call === 'claim' && faults.crashes('before claim', () => true)) return die();
  if (call === 'settle' && faults.crashes('before settle', (task) => asked.includes(task))) return die();
  return after(perform(), (answer) => {
    const claimed = call === 'claim' ? (answer as readonly Job[]) : (answer as { claimed: readonly Job[] }).claimed;
    if (call === 'settle' && faults.crashes('after settle', (task) => asked.includes(task))) return die();
    if (claimed.length > 0 && faults.crashes('after claim', (name) => claimed.some(({ task }) => task === name))) return die();
    return answer;
  });
}

/** A scheduler that was told that nothing is due looks again, as it does where others write. */
const drawnPollMs = 60_000;
