/**
 * The globals that task code sees. When this module is loaded, it replaces timers, dates, `Math.random` and other sources of time with
 * permanent functions. On each call they check whether a simulation is running: if so they use its virtual clock, otherwise the original.
 * References that modules have captured (`const { setTimeout } = globalThis`) therefore follow too, and the end of a simulation leaves
 * nothing behind.
 *
 * There is one exception: a `setTimeout` captured from `globalThis` before the simulation is real if neither an attempt nor a test calls
 * it, for example in a server of the test that needs real latency. Virtual time stands still in the meantime.
 *
 * Streams and HTTP clients need the real `nextTick`, `queueMicrotask` and `setImmediate`, which are never replaced.
 */
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers';
import timersPromises from 'node:timers/promises';
import { promisify } from 'node:util';
import { SimulationError } from '../core/errors.ts';
import { RealDate, real, realClearInterval, realClearTimeout, realKey, realSetInterval, realSetTimeout } from '../ports/real.ts';
import { adoptTimers, clearShadow, installRefresh, installSocketTimeout, knows } from './node-timers.ts';
import { virtualTimersPromises } from './timers-promises.ts';

export type AnyFunction = (...args: never[]) => unknown;

/** What a running simulation provides to the globals. */
export interface VirtualGlobals {
  /** Epoch milliseconds. */
  now(): number;
  random(): number;
  /** False: a captured timer requested here is real. */
  readonly rulesHere: boolean;
  /** Sets a real timer that virtual time has to wait for. */
  real<T>(arm: () => T): T;
  /** Like setTimeout or setInterval. */
  arm(fn: AnyFunction, delay: unknown, args: unknown[], repeat: boolean): NodeJS.Timeout;
  /** Like setTimeout, for the housekeeping of a library. */
  keep(fn: AnyFunction, delay: number, args: unknown[]): NodeJS.Timeout;
  /** Returns false if the timer does not belong to this simulation. */
  clear(handle: unknown): boolean;
  abortAfter(delay: number): AbortSignal;
  hrtime(previous?: [number, number]): [number, number];
  hrtimeBigint(): bigint;
  /** Milliseconds since the simulation started. */
  elapsed(): number;
  readonly temporal: Record<string, AnyFunction> | undefined;
  /** Ends this simulation's time. */
  end(): void;
  /** Runs `fetch` and tracks it. */
  fetching<T>(url: string, fn: () => Promise<T>): Promise<T>;
}

/** One per process, even if this module is loaded twice. */
interface Registry {
  current: VirtualGlobals | undefined;
  readonly Date: DateConstructor;
  /** The timer functions outside and during a simulation. */
  readonly timers: { readonly captured: Timers; readonly virtual: Timers };
}

type Timers = Pick<typeof globalThis, 'setTimeout' | 'setInterval'>;
const timerNames = ['setTimeout', 'setInterval'] as const;

const registryKey = Symbol.for('escapement.globals');
const home = globalThis as { [registryKey]?: Registry };
const registry: Registry = home[registryKey] ?? install();
home[registryKey] = registry;

/** Switches the globals to virtual time; returns a function that switches them back. */
export function rule(virtual: VirtualGlobals): () => void {
  registry.current = virtual;
  swap(registry.timers.captured, registry.timers.virtual);
  adoptTimers(virtual.keep);
  return () => {
    virtual.end();
    if (registry.current === virtual) registry.current = undefined;
    swap(registry.timers.virtual, registry.timers.captured);
  };
}

/** Functions that other code has installed are left in place. */
function swap(from: Timers, to: Timers): void {
  for (const name of timerNames) if (globalThis[name] === from[name]) globalThis[name] = to[name] as never;
}

/** @throws SimulationError if timers or dates are already faked, or have been since: two clocks would disagree */
export function refuseOtherFakes(when: 'already' | 'since'): void {
  const { Date: date, setTimeout: timeout } = globalThis;
  if (date === registry.Date && (timeout === registry.timers.virtual.setTimeout || timeout === registry.timers.captured.setTimeout)) return;
  if (!isFakeDate(date) && !isFakeTimer(timeout)) return;
  const turned = when === 'already' ? 'fake timers are already enabled' : 'fake timers were enabled during a simulation';
  throw new SimulationError(`${turned} ${otherFakes}; a simulation has its own virtual clock. ${instead}`);
}

const otherFakes = '(vi.useFakeTimers(), vi.setSystemTime(), mock.timers or @sinonjs/fake-timers)';
const instead =
  'Disable them first, for example with vi.useRealTimers() or mock.timers.reset(), or pass globals: false to leave the globals unchanged.';

function isFakeDate(date: object): boolean {
  // Other fakes may extend ours.
  return date !== registry.Date && (Object.hasOwn(date, 'isFake') || Object.hasOwn(date, 'isMock'));
}

/** Timers of fake-timers have a clock, and those of node:test are bound methods. A spy has neither property. */
function isFakeTimer(timer: typeof setTimeout): boolean {
  return 'clock' in timer || /^bound /.test(timer.name);
}

/** Makes a replacement look like the original. */
function standIn<T extends object>(original: T, replacement: object): T {
  for (const key of Reflect.ownKeys(original)) {
    const descriptor = Object.getOwnPropertyDescriptor(original, key) as PropertyDescriptor;
    if (key === 'prototype' || key === promisify.custom || key === realKey) continue;
    const own = Object.getOwnPropertyDescriptor(replacement, key);
    if (!own || own.configurable) Object.defineProperty(replacement, key, descriptor);
  }
  Object.defineProperty(replacement, realKey, { value: original });
  return replacement as T;
}

function install(): Registry {
  const timersOf = (isCaptured: boolean): Timers => {
    const make = <T extends AnyFunction>(original: T, repeat: boolean): T =>
      standIn(original, (fn: AnyFunction, delay?: number, ...args: unknown[]) => {
        const virtual = current();
        const really = () => (original as unknown as (...all: unknown[]) => unknown)(fn, delay, ...args);
        if (!virtual) return knows(really());
        return isCaptured && !virtual.rulesHere ? virtual.real(really) : virtual.arm(fn, delay, args, repeat);
      });
    return { setTimeout: make(realSetTimeout, false), setInterval: make(realSetInterval, true) } as Timers;
  };
  const clearing = (original: (handle: NodeJS.Timeout | undefined) => void) =>
    standIn(original, (handle?: unknown) => {
      if (current()?.clear(handle) || clearOne(handle)) return;
      clearShadow(handle);
      original(handle as NodeJS.Timeout);
    });
  const [captured, virtual] = [timersOf(true), timersOf(false)];
  const installed: Registry = { current: undefined, Date: installDate(current), timers: { captured, virtual } };
  function current(): VirtualGlobals | undefined {
    return installed.current;
  }

  const promises = installPromises(current);
  for (const { setTimeout } of [captured, virtual])
    Object.defineProperty(setTimeout, promisify.custom, { configurable: true, value: promises.setTimeout });
  const clears = { clearTimeout: clearing(realClearTimeout), clearInterval: clearing(realClearInterval) };
  Object.assign(globalThis, captured, clears);
  Object.assign(timers, virtual, clears);

  const { random } = Math;
  Math.random = standIn(random, () => current()?.random() ?? random());
  const { timeout } = AbortSignal;
  replace(AbortSignal, 'timeout', () => (delay: number) => current()?.abortAfter(delay) ?? timeout.call(AbortSignal, delay));
  replace(
    Object.getPrototypeOf(performance),
    'now',
    (original) =>
      function (this: unknown) {
        return current()?.elapsed() ?? original.call(this as never);
      },
  );
  const hrtime = real(process.hrtime);
  const ourHrtime = standIn(hrtime, (previous?: [number, number]) => current()?.hrtime(previous) ?? hrtime(previous));
  ourHrtime.bigint = standIn(hrtime.bigint, () => current()?.hrtimeBigint() ?? hrtime.bigint());
  process.hrtime = ourHrtime;
  const arm = (fn: AnyFunction, delay: number, args: unknown[]) => current()?.keep(fn, delay, args);
  const probe = realSetTimeout(() => {}, 0);
  realClearTimeout(probe);
  installRefresh(probe, arm);
  installSocketTimeout(arm);
  installIntl(current);
  installTemporal(current);
  if (typeof fetch === 'function') {
    const realFetch = fetch;
    globalThis.fetch = standIn(realFetch, (...args: Parameters<typeof fetch>) => {
      const virtual = current();
      return virtual ? virtual.fetching(urlOf(args[0]), () => realFetch(...args)) : realFetch(...args);
    });
  }
  // Named imports of node:timers, node:timers/promises and node:process must be updated explicitly.
  syncBuiltinESMExports();
  return installed;
}

/** A timer of a simulation that has ended is cleared like any other. */
function clearOne(handle: unknown): boolean {
  const close = (handle as { readonly [virtualTimer]?: () => void } | null | undefined)?.[virtualTimer];
  close?.call(handle);
  return close !== undefined;
}

/** The key of a virtual timer's own clear function. */
export const virtualTimer: unique symbol = Symbol.for('escapement.timer') as never;

function installDate(current: () => VirtualGlobals | undefined): DateConstructor {
  const now = standIn(RealDate.now, () => current()?.now() ?? RealDate.now());
  function OurDate(...args: unknown[]): unknown {
    const virtual = args.length === 0 || !new.target ? current() : undefined;
    const given = virtual ? [virtual.now()] : args;
    return new.target ? Reflect.construct(RealDate, given, new.target) : Reflect.construct(RealDate, virtual ? given : []).toString();
  }
  OurDate.prototype = RealDate.prototype;
  const date = standIn(RealDate, OurDate);
  Object.defineProperty(date, 'now', { configurable: true, writable: true, value: now });
  // Only code that is about to install another clock reads this.
  Object.defineProperty(date, 'isFake', {
    configurable: true,
    get() {
      if (current())
        throw new SimulationError(`fake timers ${otherFakes} cannot be enabled during a simulation, which has its own virtual clock.`);
      return undefined;
    },
    // Its own dates are classes that extend this one.
    set(value) {
      Object.defineProperty(this, 'isFake', { configurable: true, writable: true, value });
    },
  });
  Object.defineProperty(RealDate.prototype, 'constructor', { configurable: true, writable: true, value: date });
  globalThis.Date = date;
  return date;
}

function installPromises(current: () => VirtualGlobals | undefined): typeof timersPromises {
  const { scheduler } = timersPromises;
  const [promised, iterated, wait] = [real(timersPromises.setTimeout), real(timersPromises.setInterval), real(scheduler.wait)];
  const virtual = virtualTimersPromises((fn, delay, repeat) => (current() as VirtualGlobals).arm(fn, delay, [], repeat));
  timersPromises.setTimeout = standIn(promised, (...args: Parameters<typeof promised>) =>
    current() ? virtual.setTimeout(...args) : promised(...args),
  ) as typeof promised;
  timersPromises.setInterval = standIn(iterated, (...args: Parameters<typeof iterated>) =>
    current() ? virtual.setInterval(...args) : iterated(...args),
  ) as typeof iterated;
  replace(
    scheduler,
    'wait',
    () => (delay: number, options?: object) =>
      current() ? virtual.setTimeout(delay, undefined, options) : wait.call(scheduler, delay, options),
  );
  return timersPromises;
}

/** Replaces the formatting of "now" in formatters called without a date. Patched on the prototypes, so formatters created earlier follow too. */
function installIntl(current: () => VirtualGlobals | undefined): void {
  const proto = Intl.DateTimeFormat.prototype;
  const format = Object.getOwnPropertyDescriptor(proto, 'format') as { get(): (date?: unknown) => string } & PropertyDescriptor;
  const bound = new WeakMap<object, (date?: unknown) => string>();
  Object.defineProperty(proto, 'format', {
    ...format,
    get(this: object) {
      const plain = format.get.call(this);
      const known = bound.get(this);
      if (known) return known;
      const ours = standIn(plain, (date?: unknown) => plain(date === undefined ? current()?.now() : date));
      bound.set(this, ours);
      return ours;
    },
  });
  replace(
    proto,
    'formatToParts',
    (original) =>
      function (this: unknown, date?: unknown) {
        return original.call(this as never, (date === undefined ? current()?.now() : date) as never);
      },
  );
}

function installTemporal(current: () => VirtualGlobals | undefined): void {
  const now = (globalThis as { Temporal?: { Now?: Record<string, AnyFunction> } }).Temporal?.Now;
  if (!now) return;
  for (const name of Object.getOwnPropertyNames(now)) {
    if (typeof now[name] !== 'function' || name === 'timeZoneId') continue;
    replace(now, name, (original) => (...args: never[]) => {
      const virtual = current()?.temporal?.[name];
      return virtual ? virtual(...args) : original.apply(now, args);
    });
  }
}

/** Replaces a method, keeping its property attributes. */
function replace<T extends object, K extends keyof T>(target: T, key: K, make: (original: T[K] & AnyFunction) => AnyFunction): void {
  const descriptor = Object.getOwnPropertyDescriptor(target, key);
  const original = real(target[key]) as T[K] & AnyFunction;
  if (typeof original !== 'function') return;
  Object.defineProperty(target, key, {
    configurable: true,
    writable: true,
    enumerable: false,
    ...descriptor,
    value: standIn(original, make(original)),
  });
}

function urlOf(input: unknown): string {
  if (typeof input === 'string') return input;
  return input instanceof URL ? input.href : String((input as { url?: unknown } | null)?.url ?? 'something');
}
