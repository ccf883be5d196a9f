/**
 * Timers that Node and its HTTP clients keep for themselves, and that would stay real in a simulation. The timeout of a client's socket
 * (`socket.setTimeout`, and the `timeout` option of node:http, axios and others) is virtual while a simulation rules. What a library has set
 * before it and measures its timeouts by, as undici does, becomes virtual when the simulation begins, or when it is refreshed.
 */
import { Socket } from 'node:net';
import { real, realClearTimeout, realKey } from '../ports/real.ts';
import type { AnyFunction } from './globals.ts';

/** Sets a virtual timer; undefined: none rules here. */
type Arm = (fn: AnyFunction, delay: number, args: unknown[]) => NodeJS.Timeout | undefined;

/** As Node's timers are made inside. */
interface InnerTimeout extends NodeJS.Timeout {
  readonly _onTimeout: (...args: never[]) => void;
  readonly _idleTimeout: number;
  readonly _timerArgs?: unknown[];
  readonly _repeat: number | null;
  readonly _destroyed: boolean;
}

/** Virtual timers in the place of real ones. */
const shadows = new WeakMap<object, NodeJS.Timeout>();
/** Real timers that others than Node have set. */
const known = new WeakSet<object>();
/** Those of them that nobody waits for: housekeeping. */
let background: WeakRef<InnerTimeout>[] = [];
let maxBackground = 1_000;

/** A real timer was set outside of a simulation. */
export function knows<T>(timer: T): T {
  known.add(timer as object);
  return timer;
}

/** Clears what stands for a real timer. */
export function clearShadow(timer: unknown): void {
  shadows.get(timer as object)?.close();
}

/** A simulation begins: the housekeeping of libraries is on its time. What repeats for ever stays real: it would fire all the while. */
export function adoptTimers(arm: Arm): void {
  const timers = background.flatMap((ref) => ref.deref() ?? []);
  background = [];
  for (const timer of timers) if (timer._repeat === null) shadow(timer, arm);
}

/** @returns whether a virtual timer now stands for it */
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

/** @param timeout any of Node's timers */
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
    // The server's end keeps real time: it waits for a client that is real.
    if (!(ms > 0) || this.server) return this;
    timeoutSymbol ??= Object.getOwnPropertySymbols(this).find(({ description }) => description === 'timeout');
    if (!timeoutSymbol) return this;
    const inner = this as unknown as Record<symbol, NodeJS.Timeout | null>;
    const key = timeoutSymbol;
    const former = inner[key];
    // Cleared by Node, it is no longer the socket's.
    const timer = arm(() => inner[key] === timer && this._onTimeout?.(), ms, []);
    if (!timer || !former) return this;
    realClearTimeout(former);
    inner[key] = timer.unref();
    return this;
  };
  Object.defineProperty(Socket.prototype.setTimeout, realKey, { value: setTimeout });
}
