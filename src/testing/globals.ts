/**
 * The globals that tasks' code sees while a simulation lasts: dates, timers, performance and Math.random, all on virtual time. fake-timers
 * puts them in place and takes them out again; its timers are ours, so that they stand in one order with the engine's. Streams and fetch
 * need the real nextTick, queueMicrotask and setImmediate, which are never faked.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Clock as FakeClock, type FakeMethod, install, timers } from '@sinonjs/fake-timers';
import { SimulationError } from '../core/errors.ts';
import type { VirtualClock } from './virtual-clock.ts';

const longestDelayMs = 2_147_483_647;
const wanted: readonly FakeMethod[] = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'Date',
  'hrtime',
  'performance',
  'Intl',
  'Temporal',
];

/** @throws SimulationError when timers or dates are faked already: two clocks would disagree */
export function refuseOtherFakes(): void {
  const date = globalThis.Date as { isFake?: boolean; isMock?: boolean };
  const faked = date.isFake || date.isMock || 'clock' in globalThis.setTimeout;
  if (!faked) return;
  throw new SimulationError(
    'fake timers are on already (vi.useFakeTimers(), mock.timers or @sinonjs/fake-timers); a simulation has its own virtual clock. ' +
      'Turn them off first, with vi.useRealTimers(), or pass globals: false to leave the globals alone.',
  );
}

/** Puts the globals in place; returns the function that restores them. */
export function installGlobals(clock: VirtualClock, random: () => number): () => void {
  const fake = install({ now: clock.now(), toFake: wanted.filter((name) => name in timers) });
  const theirs = replaceTimers(fake, clock);
  // One now for all: fake-timers reads this property wherever it tells the time.
  Object.defineProperty(fake, 'now', { configurable: true, get: clock.nowHere, set() {} });

  const { random: realRandom } = Math;
  const { fetch: realFetch } = globalThis;
  const { timeout: realAbortTimeout } = AbortSignal;
  const { wait: realWait } = timersPromises.scheduler;
  Math.random = random;
  if (realFetch) globalThis.fetch = (...args) => clock.external(`fetch ${urlOf(args[0])}`, () => realFetch(...args));
  AbortSignal.timeout = (delay) => {
    const controller = new AbortController();
    const abort = () => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
    // Nobody waits for it: it neither keeps a real process alive nor is it work that a task leaves behind.
    clock.arm(clock.now() + checkedDelay(delay), abort, undefined).setBackground(true);
    return controller.signal;
  };
  timersPromises.scheduler.wait = (delay, options) => timersPromises.setTimeout(delay, undefined, options);
  // Named imports of node:timers and node:timers/promises follow only when told to.
  syncBuiltinESMExports();

  return () => {
    Math.random = realRandom;
    if (realFetch) globalThis.fetch = realFetch;
    AbortSignal.timeout = realAbortTimeout;
    timersPromises.scheduler.wait = realWait;
    Object.assign(fake, theirs);
    fake.uninstall();
    syncBuiltinESMExports();
  };
}

type TimerFunctions = Pick<FakeClock, 'setTimeout' | 'setInterval' | 'clearTimeout' | 'clearInterval'>;

/** Gives the installed fakes our timers; returns theirs. */
function replaceTimers(fake: FakeClock, clock: VirtualClock): TimerFunctions {
  const { setTimeout, setInterval, clearTimeout, clearInterval } = fake;
  const live = new Map<number, FakeTimeout>();
  const make = (fn: (...args: unknown[]) => void, delay: unknown, args: unknown[], repeat: boolean) => {
    if (typeof fn !== 'function') throw new TypeError(`The "callback" argument must be of type function. Received ${typeof fn}`);
    return new FakeTimeout(clock, live, fn, delayOf(delay), args, repeat);
  };
  const clear = (handle: unknown) => {
    if (handle instanceof FakeTimeout) handle.close();
    else if (typeof handle === 'number' || typeof handle === 'string') live.get(Number(handle))?.close();
    // A real timer, armed before the simulation began.
    else if (typeof handle === 'object' && handle !== null) realClear(handle as NodeJS.Timeout);
  };
  const ours = {
    setTimeout: (fn: () => void, delay?: unknown, ...args: unknown[]) => make(fn, delay, args, false),
    setInterval: (fn: () => void, delay?: unknown, ...args: unknown[]) => make(fn, delay, args, true),
    clearTimeout: clear,
    clearInterval: clear,
  };
  Object.assign(fake, ours);
  // util.promisify(setTimeout) looks for this on the function itself.
  Object.defineProperty(globalThis.setTimeout, promisify.custom, {
    configurable: true,
    value: (delay: number, value: unknown) => timersPromises.setTimeout(delay, value),
  });
  return { setTimeout, setInterval, clearTimeout, clearInterval } as TimerFunctions;
}

const realClear = clearTimeout;
let lastId = 0;

/** What setTimeout and setInterval return under simulation; has what Node's Timeout has. */
class FakeTimeout {
  readonly #clock: VirtualClock;
  readonly #live: Map<number, FakeTimeout>;
  readonly #inContext: ReturnType<typeof AsyncLocalStorage.snapshot>;
  readonly #fn: () => void;
  readonly #delay: number;
  readonly #repeat: boolean;
  readonly #id = ++lastId;
  #timer: ReturnType<VirtualClock['arm']> | undefined;
  #ref = true;

  constructor(
    clock: VirtualClock,
    live: Map<number, FakeTimeout>,
    fn: (...args: unknown[]) => void,
    delay: number,
    args: unknown[],
    repeat: boolean,
  ) {
    this.#clock = clock;
    this.#live = live;
    this.#delay = delay;
    this.#repeat = repeat;
    // Like Node's, the callback runs in the async context in which it was set.
    this.#inContext = AsyncLocalStorage.snapshot();
    this.#fn = () => this.#inContext(fn, ...args);
    live.set(this.#id, this);
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
    this.#timer?.cancel();
    this.#live.set(this.#id, this);
    this.#arm();
    return this;
  }
  close(): this {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#live.delete(this.#id);
    return this;
  }
  [Symbol.toPrimitive](): number {
    return this.#id;
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #arm(): void {
    const fire = () => {
      if (this.#repeat) this.refresh();
      else this.close();
      this.#fn();
    };
    this.#timer = this.#inContext(() => this.#clock.arm(this.#clock.now() + this.#delay, fire, undefined));
    if (!this.#ref) this.#timer.setBackground(true);
  }
}

/** As Node reads a delay: whole milliseconds, at least one; what is too long fires at once. */
function delayOf(value: unknown): number {
  const delay = Math.trunc(Number(value));
  return delay >= 1 && delay <= longestDelayMs ? delay : 1;
}

function checkedDelay(delay: number): number {
  if (Number.isInteger(delay) && delay >= 0) return delay;
  throw new RangeError(`The value of "delay" is out of range. It must be an integer of at least 0. Received ${String(delay)}`);
}

function urlOf(input: unknown): string {
  if (typeof input === 'string') return input;
  return input instanceof URL ? input.href : String((input as { url?: unknown } | null)?.url ?? 'something');
}
