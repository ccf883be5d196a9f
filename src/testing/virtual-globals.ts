/**
 * The implementation of the globals during a simulation: timers on the virtual clock, in one order with the engine's; dates,
 * `performance.now`, `process.hrtime` and `Temporal.Now` from fake-timers, whose clock is made to follow ours.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Clock as FakeClock, withGlobal } from '@sinonjs/fake-timers';
import { scope } from '../engine/scope.ts';
import { RealDate, realClearTimeout, realSetTimeout } from '../ports/real.ts';
import { type AnyFunction, type VirtualGlobals, virtualTimer } from './globals.ts';
import { realWork } from './real-work.ts';
import { refuse } from './refuse.ts';
import { framesOfTimers, isUserCode, siteOf } from './sites.ts';
import type { VirtualClock } from './virtual-clock.ts';

const longestDelayMs = 2_147_483_647;
// Its dates are not used, so it should create as few as possible.
const fakes = withGlobal({ ...globals(), Date: RealDate } as never);

function globals(): object {
  const { setTimeout, clearTimeout, setInterval, clearInterval, performance, process, Temporal } = globalThis as Record<string, unknown>;
  return { setTimeout, clearTimeout, setInterval, clearInterval, performance, process, ...(Temporal ? { Temporal } : {}) };
}

/**
 * @param draw Math.random for the calling code
 * @param isDriven true while a call of the test to the simulation is pending
 * @param armedByTest called with timers that were set outside any attempt while nothing was driving
 */
export function virtualGlobals(
  clock: VirtualClock,
  draw: () => number,
  isDriven: () => boolean,
  armedByTest: (timer: TestTimer) => void,
): VirtualGlobals {
  const startedAt = clock.now();
  const own: Ruled = { clock, live: new Map() };
  ruled = own;
  for (const timer of [...carried]) timer.join();
  let made: FakeClock | undefined;
  const fake = (): FakeClock => {
    if (!made) {
      made = fakes.createClock(startedAt);
      // Fake-timers reads this property whenever it needs the time.
      Object.defineProperty(made, 'now', { configurable: true, get: clock.nowHere, set() {} });
    }
    return made;
  };
  return {
    now: clock.nowHere,
    random: draw,
    get rulesHere() {
      return scope.getStore() !== undefined || !isDriven();
    },
    real: (arm) => realWork.timer(arm),
    arm(fn, delay, args, repeat) {
      if (typeof fn !== 'function') {
        const error = new TypeError(`The "callback" argument must be of type function. Received ${typeof fn}`);
        throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
      }
      const timer = new VirtualTimeout(own, fn, delayOf(delay), args, repeat);
      if (!repeat && !isDriven() && scope.getStore() === undefined) armedByTest({ timer, reject: rejecting(fn) });
      return timer as unknown as NodeJS.Timeout;
    },
    keep: (fn, delay, args) => new VirtualTimeout(own, fn, delayOf(delay), args, false, true) as unknown as NodeJS.Timeout,
    clear(handle) {
      if (typeof handle !== 'number' && typeof handle !== 'string') return false;
      const timer = own.live.get(Number(handle));
      timer?.close();
      return timer !== undefined;
    },
    abortAfter(delay) {
      const controller = new AbortController();
      const abort = () => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
      // Nothing waits for it: it neither keeps a real process alive nor counts as work that a task leaves behind.
      clock.arm(clock.now() + checkedDelay(delay), abort, undefined).setBackground(true);
      return controller.signal;
    },
    hrtime: (previous) => fake().hrtime(previous) as [number, number],
    hrtimeBigint: () => (fake().hrtime as unknown as NodeJS.HRTime).bigint(),
    elapsed: () => clock.nowHere() - startedAt,
    get temporal() {
      return (fake() as { Temporal?: { Now: Record<string, AnyFunction> } }).Temporal?.Now;
    },
    end() {
      if (ruled === own) ruled = undefined;
      for (const timer of own.live.values()) timer.outlive();
      own.live.clear();
    },
    fetching: (url, fn) => clock.calling(`fetch ${url}`, fn),
  };
}

/** A timer set in the body of a test. */
export interface TestTimer {
  readonly timer: Pick<VirtualTimeout, 'isPending' | 'site' | 'delay' | 'close'>;
  /** Rejects the promise that the timer would resolve; undefined if the callback is anything else. */
  readonly reject: ((error: unknown) => void) | undefined;
}

/** `new Promise((resolve) => setTimeout(resolve, 1_000))`: calling a promise's resolve function with a rejected promise rejects it. */
function rejecting(fn: AnyFunction & { [refuse]?: (error: unknown) => void }): TestTimer['reject'] {
  if (fn[refuse]) return fn[refuse];
  const resolves = fn.name === '' && fn.length === 1 && Function.prototype.toString.call(fn) === 'function () { [native code] }';
  return resolves ? (error) => void (fn as (value: unknown) => unknown)(Promise.reject(error)) : undefined;
}

/** The running simulation as its timers see it. */
interface Ruled {
  readonly clock: VirtualClock;
  /** Its timers by number. */
  readonly live: Map<number, VirtualTimeout>;
}

let ruled: Ruled | undefined;
/** Timers of libraries that have outlived the simulation in which they were set. */
const carried = new Set<VirtualTimeout>();
let lastId = 0;

/**
 * The return value of setTimeout and setInterval in a simulation; has the members of Node's Timeout. Timers of libraries outlive the
 * simulation, because a client that relies on one would otherwise wait forever. They are real until the next simulation starts, and then
 * use its time.
 */
class VirtualTimeout {
  #home: Ruled | undefined;
  readonly #inContext: ReturnType<typeof AsyncLocalStorage.snapshot>;
  readonly #fn: () => void;
  readonly #delay: number;
  readonly #repeat: boolean;
  /** It belongs to a library, whatever frames are below. */
  readonly #isKept: boolean;
  readonly #id = ++lastId;
  #timer: ReturnType<VirtualClock['arm']> | undefined;
  #real: NodeJS.Timeout | undefined;
  #ref = true;
  #site: Error | undefined;
  /** The rest of its delay, while it is real. */
  #leftMs = 0;

  constructor(home: Ruled, fn: AnyFunction, delay: number, args: readonly unknown[], repeat: boolean, isKept = false) {
    this.#home = home;
    this.#isKept = isKept;
    this.#delay = delay;
    this.#repeat = repeat;
    // As in Node.js, the callback runs in the async context in which it was set.
    this.#inContext = AsyncLocalStorage.snapshot();
    this.#fn = () => this.#inContext(fn as () => void, ...(args as []));
    this.#arm();
  }

  ref(): this {
    this.#ref = true;
    this.#timer?.setBackground(false);
    return this;
  }
  unref(): this {
    this.#ref = false;
    this.#timer?.setBackground(true);
    return this;
  }
  hasRef(): boolean {
    return this.#ref;
  }
  refresh(): this {
    this.#cancel();
    this.#arm();
    return this;
  }
  close(): this {
    this.#cancel();
    this.#home?.live.delete(this.#id);
    return this;
  }
  [virtualTimer](): void {
    this.close();
  }
  [Symbol.toPrimitive](): number {
    return this.#id;
  }
  [Symbol.dispose](): void {
    this.close();
  }

  get isPending(): boolean {
    return this.#timer !== undefined;
  }
  get site(): Error | undefined {
    return this.#site;
  }
  get delay(): number {
    return this.#delay;
  }

  /** Its simulation ends. */
  outlive(): void {
    const [home, timer] = [this.#home, this.#timer];
    this.#cancel();
    if (!home || !timer || (!this.#isKept && isUserCode(this.#site))) return;
    this.#home = undefined;
    this.#armReal(Math.max(1, timer.at - home.clock.now()));
  }

  /** A simulation starts. */
  join(): void {
    this.#cancel();
    this.#arm(this.#leftMs);
  }

  #cancel(): void {
    carried.delete(this);
    this.#timer?.cancel();
    this.#timer = undefined;
    realClearTimeout(this.#real);
    this.#real = undefined;
  }

  readonly #fire = (): void => {
    if (this.#repeat) this.refresh();
    else this.close();
    this.#fn();
  };

  #arm(delay = this.#delay): void {
    this.#home = ruled;
    if (!ruled) {
      this.#armReal(delay);
      return;
    }
    const { clock, live } = ruled;
    live.set(this.#id, this);
    const timer = this.#inContext(() => clock.arm(clock.now() + delay, this.#fire, undefined));
    this.#site ??= timer.site ?? siteOf('set here', framesOfTimers);
    timer.site = this.#site;
    timer.handle = this;
    timer.repeats = this.#repeat;
    this.#timer = timer;
    if (!this.#ref) timer.setBackground(true);
  }

  /** The timer does not keep the process alive on its own. */
  #armReal(delay: number): void {
    this.#leftMs = delay;
    this.#real = realSetTimeout(this.#fire, delay).unref();
    carried.add(this);
  }
}

/** Parses a delay as Node.js does: whole milliseconds, at least one; a delay that is too long fires immediately. */
function delayOf(value: unknown): number {
  const delay = Math.trunc(Number(value));
  return delay >= 1 && delay <= longestDelayMs ? delay : 1;
}

function checkedDelay(delay: number): number {
  if (Number.isInteger(delay) && delay >= 0) return delay;
  throw new RangeError(`The value of "delay" is out of range. It must be an integer of at least 0. Received ${String(delay)}`);
}
