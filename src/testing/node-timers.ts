/**
 * Timers internal to Node.js and its HTTP clients, which would otherwise stay real in a simulation. The timeout of a client's socket
 * (`socket.setTimeout`, and the `timeout` option of node:http, axios and others) is virtual while a simulation is running. A timer that a
 * library has set earlier and uses to measure its timeouts, as undici does, becomes virtual when the simulation starts or when the timer is
 * refreshed.
 */
import { Socket } from 'node:net';
import { real, realClearTimeout, realKey } from '../ports/real.ts';
import type { AnyFunction } from './globals.ts';

/** Sets a virtual timer; undefined if no simulation applies here. */
type Arm = (fn: AnyFunction, delay: number, args: unknown[]) => NodeJS.Timeout | undefined;

/** The internal structure of Node's timers. */
interface InnerTimeout extends NodeJS.Timeout {
  readonly _onTimeout: (...args: never[]) => void;
  readonly _idleTimeout: number;
  readonly _timerArgs?: unknown[];
  readonly _repeat: number | null;
  readonly _destroyed: boolean;
}

/** Virtual timers that replace real ones. */
const shadows = new WeakMap<object, NodeJS.Timeout>();
/** Real timers set by code other than Node.js itself. */
const known = new WeakSet<object>();
/** The known timers that nothing waits for, such as housekeeping. */
let background: WeakRef<InnerTimeout>[] = [];
let maxBackground = 1_000;

/** Called when a real timer was set outside a simulation. */
export function knows<T>(timer: T): T {
  known.add(timer as object);
  return timer;
}

/** Clears the virtual timer that replaces a real one. */
export function clearShadow(timer: unknown): void {
  shadows.get(timer as object)?.close();
}

/**
 * Called when a simulation starts: the housekeeping of libraries moves to virtual time. Repeating timers stay real, because they would fire
 * constantly.
 */
export function adoptTimers(arm: Arm): void {
  const timers = background.flatMap((ref) => ref.deref() ?? []);
  background = [];
  for (const timer of timers) if (timer._repeat === null) shadow(timer, arm);
}

/** @returns whether a virtual timer now replaces it */
function shadow(timer: InnerTimeout, arm: Arm): boolean {
  const { _onTimeout: fn, _idleTimeout: delay, _timerArgs: args, _destroyed: isOver } = timer;
  if (typeof fn !== 'function' || isOver || !known.has(timer)) return false;
  const made = arm(fn, delay, args ?? []);
  if (!made) return false;
  if (!timer.hasRef()) made.unref();
  realClearTimeout(timer);
  shadows.set(timer, made);
  return true;
}

/** @param timeout any timer of Node.js */
export function installRefresh(timeout: object, arm: Arm): void {
  const proto = Object.getPrototypeOf(timeout) as { refresh(): unknown; unref(): unknown };
  const [refresh, unref] = [real(proto.refresh), real(proto.unref)];
  proto.refresh = function (this: InnerTimeout) {
    const made = shadows.get(this);
    if (made) made.refresh();
    else if (!shadow(this, arm)) refresh.call(this);
    return this;
  };
  proto.unref = function (this: InnerTimeout) {
    if (known.has(this) && !shadows.has(this)) {
      if (background.length >= maxBackground) {
        background = background.filter((ref) => ref.deref()?._destroyed === false);
        maxBackground = Math.max(1_000, 2 * background.length);
      }
      background.push(new WeakRef(this));
    }
    return unref.call(this);
  };
  Object.defineProperty(proto.refresh, realKey, { value: refresh });
  Object.defineProperty(proto.unref, realKey, { value: unref });
}

let timeoutSymbol: symbol | undefined;

export function installSocketTimeout(arm: Arm): void {
  const setTimeout = real(Socket.prototype.setTimeout);
  Socket.prototype.setTimeout = function (this: Socket & { readonly server?: unknown; _onTimeout?(): void }, ms, callback) {
    setTimeout.call(this, ms, callback);
    // The server's end stays on real time, because it waits for a real client.
    if (!(ms > 0) || this.server) return this;
    timeoutSymbol ??= Object.getOwnPropertySymbols(this).find(({ description }) => description === 'timeout');
    if (!timeoutSymbol) return this;
    const inner = this as unknown as Record<symbol, NodeJS.Timeout | null>;
    const key = timeoutSymbol;
    const former = inner[key];
    // If Node.js has cleared it, it no longer belongs to the socket.
    const timer = arm(() => inner[key] === timer && this._onTimeout?.(), ms, []);
    if (!timer || !former) return this;
    realClearTimeout(former);
    inner[key] = timer.unref();
    return this;
  };
  Object.defineProperty(Socket.prototype.setTimeout, realKey, { value: setTimeout });
}
