/**
 * Faults drawn in an exploration: at every store call of a worker or its attempts, and at every start of a task. Each is one decision of
 * the run and has a code listed in `docs/simulator.md`.
 */

import type { Definition } from '../core/definition.ts';
import { StoreError } from '../core/errors.ts';
import type { Choices, Decision } from './choices.ts';
import { after, messages, never, nothingDue, type StoreCall } from './faults.ts';
import type { MailFault } from './mail.ts';
import type { Process } from './owners.ts';

/** The kinds of faults that an exploration draws; each seed uses some of them. */
export const faultFamilies = ['crash', 'store', 'slow', 'pause', 'stale', 'clock', 'handler', 'scheduler'] as const;
export type FaultFamily = (typeof faultFamilies)[number];

/** Faults of a call, in the order of the picks. */
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
  ['store', 'unreachable for 40 s'],
] as const satisfies readonly (readonly [FaultFamily, string])[];
type CallFault = (typeof callFaults)[number][1];
/** The picks of a crash around a call. */
export const crashBefore = 1;
export const crashAfter = 2;

/** Faults of an attempt, in the order of the picks. */
const handlerFaults = [
  ['handler', 'throws immediately'],
  ['handler', 'throws at its end'],
  ['handler', 'blocks the process for 12 s'],
  ['crash', 'crash at its first wait'],
  ['crash', 'crash after 1 s'],
  ['crash', 'crash after 10 s'],
  ['handler', 'never ends and ignores its signal'],
  ['handler', 'throws a value that is not an error'],
] as const satisfies readonly (readonly [FaultFamily, string])[];

/** The mail faults, in the order of the picks. */
const mailFaults: readonly MailFault[] = ['mail server down', 'mail deferred', 'answer of the mail server lost'];

/** A worker fences itself 5 s before its lease ends, so two clocks must differ by less than that. */
const maxSkewMs = 2_000;
/** The possible clock skews when a worker's process starts. */
const skewsMs = [-maxSkewMs, -1_000, -100, 100, 1_000, maxSkewMs] as const;

/** Reads that may return a slightly outdated answer. */
const staleCalls: readonly StoreCall[] = ['overdue', 'dueSchedules', 'listSchedules', 'get'];
const pausesMs: Partial<Record<CallFault, number>> = { 'paused for 12 s': 12_000, 'paused for 40 s': 40_000, 'paused for 90 s': 90_000 };
const schedulerDownMs = 600_000;
/** Longer than a lease. */
const cutMs = 40_000;

/** Calls for which crashes, failures and delays matter most: what a worker does to jobs, and what its attempts enqueue. */
const keyCalls: readonly StoreCall[] = ['claim', 'settle', 'renew', 'advanceSchedules', 'insert'];

/** The probability of each family at a call that matters; 0: only if planned; omitted: never. */
export type FaultRates = Readonly<Partial<Record<FaultFamily, number>>>;

/** What this file needs from the simulation. */
export interface World {
  readonly choices: Choices;
  now(): number;
  crash(process: Process): void;
  pause(process: Process, ms: number): void;
  /** Resolves after this delay; false if the process has died. */
  lag(process: Process, ms: number): Promise<void>;
  later(process: Process, ms: number, fn: () => void): void;
  note(process: Process, text: string): void;
  /** Something went wrong with this process. */
  markTroubled(process: Process): void;
}

/** The drawn faults of one run. */
export class DrawnFaults {
  readonly #world: World;
  readonly #rates: FaultRates;
  readonly #weights = new Map<StoreCall, readonly number[]>();
  readonly #before = new Map<string, unknown>();
  readonly #down = new Map<Process, number>();
  /** Until when the store is unreachable for a process. */
  readonly #cut = new Map<Process, number>();
  healed = false;
  /** The decisions that caused each fault, by its code. */
  readonly fired = new Map<string, Decision[]>();

  constructor(world: World, rates: FaultRates) {
    this.#world = world;
    this.#rates = rates;
  }

  /** The clock skew of a process that starts. */
  skewOf(process: Process): number {
    if (this.healed) return 0;
    const rate = (this.#rates.clock ?? 0) * 20;
    const pick = this.#world.choices.rare(
      `${process.place}.skew`,
      skewsMs.map(() => rate / skewsMs.length),
    );
    const skew = pick === 0 || this.#rates.clock === undefined ? 0 : (skewsMs[pick - 1] as number);
    if (skew !== 0) this.#happened('F21', process, `its clock is off by ${skew} ms`);
    return skew;
  }

  call(name: StoreCall, process: Process, perform: () => unknown): unknown {
    if (this.healed) return perform();
    if ((this.#cut.get(process) ?? 0) > this.#world.now()) {
      this.#world.markTroubled(process);
      throw unreachable(name);
    }
    const pick = this.#world.choices.rare(`${process.place}.${name}`, this.#weightsAt(name));
    const until = this.#down.get(process);
    if (name === 'dueSchedules' && until !== undefined && until > this.#world.now()) return nothingDue;
    if (pick === 0) return this.#kept(name, process, perform());
    const [family, kind] = callFaults[pick - 1] as (typeof callFaults)[number];
    if (this.#rates[family] === undefined || !applies(name, kind)) return this.#kept(name, process, perform());
    const { code, text } = named(name, kind);
    this.#happened(code, process, text);
    return this.#inject(kind, name, process, perform);
  }

  #weightsAt(name: StoreCall): readonly number[] {
    let weights = this.#weights.get(name);
    if (!weights) {
      const scale = keyCalls.includes(name) ? 1 : 0.2;
      weights = callFaults.map(([family, kind]) => (applies(name, kind) ? ((this.#rates[family] ?? 0) / countIn(family)) * scale : 0));
      this.#weights.set(name, weights);
    }
    return weights;
  }

  #inject(kind: CallFault, name: StoreCall, process: Process, perform: () => unknown): unknown {
    const world = this.#world;
    switch (kind) {
      case 'crash before':
        world.crash(process);
        return never();
      case 'crash after':
        return after(perform(), () => {
          world.crash(process);
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
      case 'unreachable for 40 s':
        this.#cut.set(process, world.now() + cutMs);
        throw unreachable(name);
      case 'late by 3 s':
        return world.lag(process, 3_000).then(perform);
      case 'answered 3 s later':
      case 'answered 20 s later':
        return after(perform(), (answer) => world.lag(process, kind === 'answered 3 s later' ? 3_000 : 20_000).then(() => answer));
      case 'stale':
        return this.#before.has(`${process.name} ${name}`)
          ? this.#before.get(`${process.name} ${name}`)
          : this.#kept(name, process, perform());
      case 'clock steps 2 s forward':
        process.skewMs = Math.min(maxSkewMs, process.skewMs + 2_000);
        return perform();
      case 'clock steps 2 s back':
        process.skewMs = Math.max(-maxSkewMs, process.skewMs - 2_000);
        return perform();
      case 'scheduler down for 10 m':
        this.#down.set(process, world.now() + schedulerDownMs);
        return nothingDue;
      default:
        return after(perform(), (answer) => {
          world.pause(process, pausesMs[kind] ?? 0);
          return answer;
        });
    }
  }

  /** Remembers the answer, in case its process later reads it as a stale one. */
  #kept(name: StoreCall, process: Process, answer: unknown): unknown {
    if (!this.#rates.stale || !staleCalls.includes(name)) return answer;
    return after(answer, (value) => {
      this.#before.set(`${process.name} ${name}`, value);
      return value;
    });
  }

  /** A task's function with the faults drawn for it. */
  handler({ run, timeoutMs }: Definition, processOf: (ctx: unknown) => Process | undefined): Definition['run'] {
    return (input, ctx) => {
      const process = processOf(ctx);
      if (!process || this.healed) return run(input, ctx);
      const weights = handlerFaults.map(([family]) => ((this.#rates[family] ?? 0) / (family === 'handler' ? 5 : 6)) * 2);
      const pick = this.#world.choices.rare(`${process.place}.run`, weights);
      if (pick === 0) return run(input, ctx);
      const [family, kind] = handlerFaults[pick - 1] as (typeof handlerFaults)[number];
      if (this.#rates[family] === undefined) return run(input, ctx);
      // Without a timeout, nothing would ever end it.
      if (kind === 'never ends and ignores its signal' && timeoutMs === null) return run(input, ctx);
      this.#happened(family === 'crash' ? 'F3' : 'F18', process, `an attempt: ${kind}`);
      switch (kind) {
        case 'throws immediately':
          throw new Error('a fault of the simulation: the task throws immediately');
        case 'throws a value that is not an error':
          throw undefined;
        case 'throws at its end':
          return Promise.resolve(run(input, ctx)).then(() => {
            throw new Error('a fault of the simulation: the task throws at its end');
          });
        case 'never ends and ignores its signal':
          return new Promise(() => {});
        case 'blocks the process for 12 s':
          this.#world.pause(process, 12_000);
          break;
        default:
          this.#world.later(process, kind === 'crash at its first wait' ? 0 : kind === 'crash after 1 s' ? 1_000 : 10_000, () => {
            if (!this.healed) this.#world.crash(process);
          });
      }
      return run(input, ctx);
    };
  }

  /** The fault drawn for a mail that an attempt sends. */
  mail(process: Process | undefined): MailFault | undefined {
    if (!process || this.healed || this.#rates.handler === undefined) return undefined;
    const rate = this.#rates.handler * 2;
    const pick = this.#world.choices.rare(
      `${process.place}.smtp`,
      mailFaults.map(() => rate / mailFaults.length),
    );
    const fault = mailFaults[pick - 1];
    if (fault) this.#happened('F28', process, fault);
    return fault;
  }

  /** An attempt starts to wait. */
  wait(process: Process): void {
    if (this.healed || this.#rates.crash === undefined) return;
    if (this.#world.choices.rare(`${process.place}.wait`, [this.#rates.crash / 4]) === 0) return;
    this.#happened('F3', process, 'an attempt: crash at a wait');
    this.#world.later(process, 0, () => {
      if (!this.healed) this.#world.crash(process);
    });
  }

  #happened(code: string, process: Process, text: string): void {
    const decision = this.#world.choices.decisions.at(-1);
    if (decision) this.fired.set(code, [...(this.fired.get(code) ?? []), decision]);
    this.#world.markTroubled(process);
    this.#world.note(process, `${code} ${text}`);
  }
}

/** The possible picks at a point, if faults of these families happen there. */
export function picksAt(point: string, families: ReadonlySet<FaultFamily>): readonly number[] {
  const [, call] = /^w\d+\.(\w+)$/.exec(point) ?? [];
  if (call === undefined) return [];
  if (call === 'wait') return families.has('crash') ? [1] : [];
  if (call === 'smtp') return families.has('handler') ? mailFaults.map((_, i) => i + 1) : [];
  if (call === 'skew') return families.has('clock') ? skewsMs.map((_, i) => i + 1) : [];
  const faults: readonly (readonly [FaultFamily, string])[] =
    call === 'run' ? handlerFaults : callFaults.filter(([, kind]) => applies(call as StoreCall, kind));
  const all: readonly (readonly [FaultFamily, string])[] = call === 'run' ? handlerFaults : callFaults;
  return faults.filter(([family]) => families.has(family)).map((fault) => all.indexOf(fault) + 1);
}

function unreachable(name: StoreCall): StoreError {
  return new StoreError(`the store is unreachable (a fault of the simulation, on ${name})`, { kind: 'failing', transient: true });
}

function countIn(family: FaultFamily): number {
  return callFaults.filter(([of]) => of === family).length;
}

function applies(name: StoreCall, kind: CallFault): boolean {
  if (kind === 'stale') return staleCalls.includes(name);
  if (kind === 'scheduler down for 10 m') return name === 'dueSchedules';
  if (kind.startsWith('clock') || kind.startsWith('paused') || kind.startsWith('unreachable')) return keyCalls.includes(name);
  return true;
}

/** The code of a fault and its name in the timeline. */
function named(name: StoreCall, kind: CallFault): { code: string; text: string } {
  const text = `${kind} ${name}`;
  const enqueues = name === 'insert' && !/^(paused|clock|unreachable)/.test(kind);
  if (enqueues) return { code: 'F7', text: `${text} (an attempt enqueues)` };
  if (kind === 'crash before') return { code: name === 'settle' ? 'F4' : 'F1', text };
  if (kind === 'crash after') return { code: name === 'claim' ? 'F2' : 'F5', text };
  if (kind === 'answer lost') return { code: 'F5', text };
  if (kind === 'stale') return { code: 'F16', text };
  if (kind.startsWith('clock')) return { code: 'F22', text: kind };
  if (kind.startsWith('paused')) return { code: 'F8', text: `${kind} after ${name}` };
  if (kind.startsWith('unreachable')) return { code: 'F13', text: `the store is ${kind}` };
  if (kind.startsWith('scheduler')) return { code: 'F25', text: kind };
  if (kind.startsWith('late') || kind.startsWith('answered')) return { code: name === 'renew' ? 'F9' : 'F14', text: `${name} ${kind}` };
  return { code: 'F13', text: `${name} is ${kind}` };
}
